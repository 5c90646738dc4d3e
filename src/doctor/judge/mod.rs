//! Judges each check by the evidence. Nothing is looked at here.

mod certificate;
mod dns;
mod firewall;
mod home;
mod host;
mod network;
mod ports;
mod service;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

use super::check::Check;
use super::evidence::{Asked, Evidence, Purpose};
use super::outcome::Outcome;
use crate::text;

/// How each of these checks ends; one of them may find several things.
#[must_use]
pub fn judge(checks: &[Check], evidence: &Evidence, now: SystemTime) -> Vec<(Check, Outcome)> {
    checks.iter().flat_map(|check| one(*check, evidence, now).into_iter().map(|outcome| (*check, outcome))).collect()
}

fn one(check: Check, evidence: &Evidence, now: SystemTime) -> Vec<Outcome> {
    vec![match check {
        Check::Config => home::config(evidence),
        Check::Secrets => home::secrets(evidence),
        Check::HomePermissions => home::permissions(evidence),
        Check::HomeWritable => home::writable(evidence),
        Check::Disk => home::disk(evidence),
        Check::StaleSocket => home::stale_socket(evidence),
        Check::Clock => host::clock(evidence),
        Check::OpenFiles => host::open_files(evidence),
        Check::UdpBuffers => host::udp_buffers(evidence),
        Check::Conntrack => host::conntrack(evidence),
        Check::Memory => host::memory(evidence),
        Check::Container => host::container(evidence),
        Check::Bandwidth => host::bandwidth(evidence),
        Check::DefaultRoute => network::default_route(evidence),
        Check::Cloud => network::cloud(evidence),
        Check::StunAgreement => network::stun_agreement(evidence),
        Check::PublicAddress => network::public_address(evidence),
        Check::RelayAddress => network::relay_address(evidence),
        Check::Hairpin => network::hairpin(evidence),
        Check::OutsideView => network::outside_view(evidence),
        Check::PortPrivilege => ports::privilege(evidence),
        Check::PortTaken => ports::taken(evidence),
        Check::RelayRange => ports::relay_range(evidence),
        Check::CertificateFiles => certificate::files(evidence),
        Check::CertificateDates => certificate::dates(evidence, now),
        Check::CertificateNames => certificate::names(evidence),
        Check::CertificateServed => certificate::served(evidence),
        Check::CertificateTrusted => certificate::trusted(evidence),
        Check::CertificateRenewal => certificate::renewal(evidence),
        Check::Running => service::running(evidence),
        Check::Version => service::version(evidence),
        Check::Tasks => service::tasks(evidence),
        Check::WebAnswers => service::answers(check, Asked::Web, evidence),
        Check::HttpAnswers => service::answers(check, Asked::Http, evidence),
        Check::SignalingAnswers => service::answers(check, Asked::Signaling, evidence),
        Check::StunAnswers => service::answers(check, Asked::Stun, evidence),
        Check::TurnAnswers => service::answers(check, Asked::TurnTcp, evidence),
        Check::RelayWorks => service::relay_works(evidence),
        Check::RelayRefuses => service::relay_refuses(evidence),
        Check::DnsName => dns::name(evidence),
        Check::DnsV4 | Check::DnsV6 => dns::addresses(check, evidence),
        Check::DnsHosts => dns::hosts_file(evidence),
        Check::DnsCaa => dns::caa(evidence),
        Check::FirewallDrift => firewall::drift(evidence),
        Check::FirewallRange => firewall::range(evidence),
        Check::FirewallWeb => firewall::passage(check, Purpose::Web, evidence),
        Check::FirewallHttp => firewall::passage(check, Purpose::Http, evidence),
        Check::FirewallTurnUdp => firewall::passage(check, Purpose::TurnUdp, evidence),
        Check::FirewallTurnTcp => firewall::passage(check, Purpose::TurnTcp, evidence),
        Check::FirewallRelay => firewall::passage(check, Purpose::Relay, evidence),
        Check::Findings => return service::findings(evidence),
    }]
}

/// Ends a check that needs a configuration where there is none that means something.
fn without_config() -> Outcome {
    Outcome::Unknown(text!("the configuration does not say; see `config`"))
}

/// Ends a check whose evidence was not gathered.
fn not_looked_at() -> Outcome {
    Outcome::Unknown(text!("it was not looked at"))
}

/// The words of a list.
fn list<T: ToString>(words: impl IntoIterator<Item = T>) -> String {
    words.into_iter().map(|word| word.to_string()).collect::<Vec<_>>().join(", ")
}
