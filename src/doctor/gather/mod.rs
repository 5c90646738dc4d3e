//! Looks at what the checks are judged by. Nothing of the host is changed but for a moment: a cable to a namespace, and
//! sockets on ports of the service that nobody has.

mod certificate;
mod clock;
mod home;
mod host;
mod passage;
mod ports;
mod rules;
mod service;

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

pub use clock::TIME_SERVERS;

use super::check::{Check, Sight};
use super::evidence::{Evidence, Hairpin, Names, Network};
use crate::certs::dns::resolvers;
use crate::certs::preflight::ask_about;
use crate::config::{CertSource, Config, Host, Reach, is_public_host};
use crate::home::Home;
use crate::probe;
use crate::setup::facts::network::routes;
use crate::setup::facts::outside::{Sources, look_outside};
use crate::sys::clock as moment;
use crate::sys::net::local_addresses;

/// How long this host tries to reach itself by its public address.
const HAIRPIN_WITHIN: Duration = Duration::from_secs(2);

/// What is looked at, and whom it is asked.
#[derive(Debug, Clone)]
pub struct Options {
    pub sources: Sources,
    /// Each `host:port`.
    pub time_servers: Vec<String>,
}

/// Gathers what these checks need.
#[must_use]
pub fn gather(home: &Home, checks: &[Check], options: &Options) -> Evidence {
    let needs = |sight: Sight| checks.iter().any(|check| check.sight() == sight);
    let mut evidence = Evidence {
        home_flag: home.flag(),
        is_root: nix::unistd::geteuid().is_root(),
        config: Some(home::config_file(home)),
        ..Evidence::default()
    };
    if needs(Sight::Home) {
        evidence.home = Some(home::look(home));
        evidence.outside_view = super::vantage::last_view(home, moment::now().wall);
    }
    if needs(Sight::Host) {
        evidence.host = Some(host::look());
    }
    let config = evidence.good_config().cloned();
    let is_offline = options.sources.offline;
    // What waits for others waits at the same time.
    thread::scope(|scope| {
        let network = scope.spawn(|| {
            let needed = [Sight::Outside, Sight::Dns, Sight::Hairpin].into_iter().any(needs);
            needed.then(|| look_at_network(config.as_ref(), &options.sources))
        });
        let clock = scope.spawn(|| needs(Sight::Clock).then(|| clock::look(&options.time_servers, is_offline)));
        let names = scope.spawn(|| needs(Sight::Dns).then(|| look_at_names(config.as_ref()?, is_offline)).flatten());
        let needs_service =
            [Sight::Service, Sight::Ports, Sight::Firewall, Sight::Hairpin, Sight::Certificate, Sight::Host];
        if needs_service.into_iter().any(needs) {
            evidence.service = Some(service::look(home));
        }
        if let Some(config) = &config {
            let status = evidence.status().cloned();
            if needs(Sight::Ports) {
                evidence.ports = ports::look(config, evidence.service.as_ref());
                evidence.relay_range = Some(ports::relay_range(config, status.as_ref()));
            }
            if needs(Sight::Certificate) || needs(Sight::Service) {
                evidence.certificate = Some(certificate::look(home, config));
            }
            if status.is_some() && (needs(Sight::Service) || needs(Sight::Certificate)) {
                evidence.answers = service::answers(config);
            }
            if status.is_some() && needs(Sight::Service) {
                evidence.relay = Some(service::relay(home, config));
            }
            if let Some(status) = status.as_ref().filter(|_| checks.contains(&Check::Bandwidth)) {
                evidence.speed = Some(service::speed(home, config, status));
            }
            if needs(Sight::Certificate) && status.is_some() {
                evidence.trust = certificate::trust(config);
            }
            if needs(Sight::Firewall) {
                let rules = rules::look(home, config);
                // Where they say that something is dropped, a packet is to show it.
                let doubtful = rules.iter().flat_map(|rules| rules.relay_closed.ranges()).map(|range| *range.start());
                let doubtful: Vec<u16> = doubtful.collect();
                evidence.passages = Some(passage::look(config, status.is_some(), &doubtful));
                evidence.rules = Some(rules);
            }
            if needs(Sight::Hairpin) && status.is_some() && !is_offline {
                evidence.hairpin = Some(look_at_hairpin(config));
            }
        }
        // A thread of ours that panics is our bug, and says so by itself.
        evidence.network = network.join().unwrap_or_default();
        evidence.clock = clock.join().unwrap_or_default();
        evidence.names = names.join().unwrap_or_default();
    });
    evidence
}

fn look_at_network(config: Option<&Config>, sources: &Sources) -> Network {
    let routes = routes();
    // Whether callers in the own network reach this host is no business of anybody outside.
    let is_inward = config.is_none_or(|config| config.reach == Reach::Lan);
    let stun = if is_inward { Vec::new() } else { sources.stun.clone() };
    let metadata = sources.metadata && !is_inward;
    let outside = look_outside(&Sources { stun, metadata, ..sources.clone() }, &routes);
    Network { routes, local_addresses: local_addresses(), outside, is_offline: sources.offline }
}

fn look_at_names(config: &Config, is_offline: bool) -> Option<Names> {
    let names = config.hosts.iter().filter_map(|host| match host {
        Host::Name(name) if config.reach == Reach::Domain || is_public_host(host) => Some(name.as_str()),
        Host::Name(_) | Host::Address(_) => None,
    });
    // A star stands for many names, of which none need be there.
    let names = names.filter(|name| !name.starts_with("*."));
    let resolvers = if is_offline { Vec::new() } else { resolvers() };
    let asks_authority = config.certificate.source == CertSource::Acme;
    Some(Names {
        names: names.map(|name| ask_about(name, &resolvers)).collect(),
        has_resolver: !resolvers.is_empty(),
        issuer: config.certificate.acme.directory.caa.filter(|_| asks_authority).map(str::to_owned),
    })
}

/// Reaches for every address that callers are told and that is not on this host.
fn look_at_hairpin(config: &Config) -> Vec<Hairpin> {
    let local = local_addresses();
    let hosts = config.hosts.iter().filter_map(|host| match host {
        Host::Address(address) => Some(*address),
        Host::Name(_) => None,
    });
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in config.turn.public_ips.iter().copied().chain(hosts) {
        if !local.contains(&address) && !address.is_loopback() && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let until = moment::now().mono + HAIRPIN_WITHIN;
    addresses
        .into_iter()
        .map(|address| {
            let stun = probe::mapped((address, config.turn.port).into(), until);
            let web = probe::presented_leaf(
                (address, config.web.port).into(),
                None,
                until.max(moment::now().mono + HAIRPIN_WITHIN / 2),
            );
            Hairpin {
                address,
                stun: stun.map(drop).map_err(|fault| fault.told()),
                web: web.map(drop).map_err(|fault| fault.told()),
            }
        })
        .collect()
}
