//! The answers as the plan shows them: each value with where it comes from and why.

use super::answers::{Answers, Key, Origin};
use crate::config::{Access, CertSource, Host, PeerMode, Reach};

/// One value with its origin and, where it is not obvious, its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub key: Key,
    pub value: String,
    pub origin: Origin,
    pub why: &'static str,
}

/// Every answer, in the order of the questions.
pub(super) fn settings(answers: &Answers) -> Vec<Setting> {
    let mut settings: Vec<Setting> = answers
        .wanted
        .values()
        .into_iter()
        .filter(|(key, _)| answers.wanted.certificate.asks_for(*key))
        .map(|(key, value)| {
            let origin = answers.origins.get(&key).copied().unwrap_or(Origin::Default);
            Setting { key, value: plain(&value), origin, why: reason(key, answers, origin) }
        })
        .collect();
    let firewall = if answers.show_firewall { "show" } else { "skip" };
    for (key, value, why) in [
        (Key::Firewall, firewall, "the host's firewall is not changed"),
        (Key::Boot, "none", "start it by `rtcctl start`"),
    ] {
        let origin = answers.origins.get(&key).copied().unwrap_or(Origin::Default);
        settings.push(Setting { key, value: value.to_owned(), origin, why });
    }
    settings
}

/// A value without the signs YAML needs.
fn plain(value: &str) -> String {
    let bare = value.trim_start_matches('[').trim_end_matches(']').replace('"', "");
    if bare.is_empty() { "-".to_owned() } else { bare }
}

fn reason(key: Key, answers: &Answers, origin: Origin) -> &'static str {
    let wanted = &answers.wanted;
    match key {
        Key::Reach if origin == Origin::Detected && wanted.reach == Reach::Lan => {
            "this host has private addresses only"
        }
        Key::Reach if origin == Origin::Detected => "this host has a public address",
        Key::Host if origin == Origin::Detected && wanted.reach == Reach::Domain => "what this host calls itself",
        Key::Host if origin == Origin::Detected && matches!(wanted.hosts.first(), Some(Host::Name(_))) => {
            "no network was found"
        }
        Key::Host if origin == Origin::Detected => "this host's address",
        Key::PublicIp if origin == Origin::Detected => "no interface has it, so it is translated (1:1 NAT)",
        Key::RelayIp if wanted.relay_ips.is_empty() => "the default route's, looked up at each start",
        Key::Cert => match wanted.certificate.source {
            CertSource::SelfSigned => "by a local authority; a device may trust it once",
            CertSource::Acme => "every device trusts it; the authority's terms of service are accepted by this",
            CertSource::Files => "your own, taken again whenever they change",
        },
        Key::AcmeChallenge => "how the authority is shown that the names are ours",
        Key::AcmeDnsCommand if !wanted.certificate.dns_command.is_empty() => "adds records to the DNS and removes them",
        Key::AcmeCaRoot if wanted.certificate.ca_root.is_none() => "the roots that this system trusts",
        Key::Access => match wanted.access {
            Access::Open => "whoever reaches the page may call",
            Access::Key => "who has an invite link may call",
        },
        Key::WebPort if origin == Origin::Default && wanted.web_port != 443 => "ports below 1024 need root",
        Key::HttpPort if wanted.http_port.is_some() => "redirects to HTTPS",
        Key::Peers => match (wanted.peers, wanted.reach) {
            (PeerMode::Lan, Reach::Lan) => "callers on a LAN have private addresses, the relay must reach them",
            (PeerMode::Lan, _) => "the relay reaches private networks, too",
            (PeerMode::Public, _) => "the relay must not be a way into private networks",
            (PeerMode::Itself, _) => "the relay joins its own clients only",
            (PeerMode::Custom, _) => "the allowed networks and nothing else",
        },
        Key::Reach
        | Key::Host
        | Key::PublicIp
        | Key::AcmeDirectory
        | Key::AcmeCaRoot
        | Key::AcmeDnsCommand
        | Key::AcmeName
        | Key::CertFile
        | Key::KeyFile
        | Key::WebPort
        | Key::HttpPort
        | Key::WebRoot
        | Key::TurnPort
        | Key::RelayPorts
        | Key::RelayIp
        | Key::AllowPeer
        | Key::Firewall
        | Key::Boot => "",
    }
}
