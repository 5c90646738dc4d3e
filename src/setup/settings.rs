//! The answers as the plan shows them: each value with where it comes from and why.

use super::answers::{Answers, Key, Origin};
use super::boot;
use super::opening::FirewallChoice;
use crate::config::{Access, CertSource, Host, PeerMode, Reach};
use crate::word;

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
    let about_firewall = match answers.firewall {
        FirewallChoice::Apply => word!("callers are let in, by the commands below"),
        FirewallChoice::Show | FirewallChoice::Skip => word!("the host's firewall is not changed"),
    };
    let about_trust = if answers.trust {
        word!("programs of this host trust the local CA")
    } else {
        word!("nobody's list of trusted authorities is changed")
    };
    for (key, value, why) in [
        (Key::Trust, if answers.trust { "yes" } else { "no" }, about_trust),
        (Key::Firewall, answers.firewall.as_str(), about_firewall),
        (Key::Boot, answers.boot.as_str(), boot::reason(answers.boot)),
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
            word!("this host has private addresses only")
        }
        Key::Reach if origin == Origin::Detected => word!("this host has a public address"),
        Key::Host if origin == Origin::Detected && wanted.reach == Reach::Domain => {
            word!("what this host calls itself")
        }
        Key::Host if origin == Origin::Detected && matches!(wanted.hosts.first(), Some(Host::Name(_))) => {
            word!("no network was found")
        }
        Key::Host if origin == Origin::Detected => word!("this host's address"),
        Key::PublicIp if origin == Origin::Detected => word!("no interface has it, so it is translated (1:1 NAT)"),
        Key::RelayIp if wanted.relay_ips.is_empty() => word!("the default route's, looked up at each start"),
        Key::Cert => match wanted.certificate.source {
            CertSource::SelfSigned => word!("by a local authority; a device may trust it once"),
            CertSource::Acme => word!("every device trusts it; the authority's terms of service are accepted by this"),
            CertSource::Files => word!("your own, taken again whenever they change"),
        },
        Key::AcmeChallenge => word!("how the authority is shown that the names are ours"),
        Key::AcmeDnsCommand if !wanted.certificate.dns_command.is_empty() => {
            word!("adds records to the DNS and removes them")
        }
        Key::AcmeCaRoot if wanted.certificate.ca_root.is_none() => word!("the roots that this system trusts"),
        Key::Access => match wanted.access {
            Access::Open => word!("whoever reaches the page may call"),
            Access::Key => word!("who has an invite link may call"),
        },
        Key::WebPort if origin == Origin::Default && wanted.web_port != 443 => word!("ports below 1024 need root"),
        Key::HttpPort if wanted.http_port.is_some() => word!("redirects to HTTPS"),
        Key::Peers => match (wanted.peers, wanted.reach) {
            (PeerMode::Lan, Reach::Lan) => word!("callers on a LAN have private addresses, the relay must reach them"),
            (PeerMode::Lan, _) => word!("the relay reaches private networks, too"),
            (PeerMode::Public, _) => word!("the relay must not be a way into private networks"),
            (PeerMode::Itself, _) => word!("the relay joins its own clients only"),
            (PeerMode::Custom, _) => word!("the allowed networks and nothing else"),
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
        | Key::Trust
        | Key::Firewall
        | Key::Boot => "",
    }
}
