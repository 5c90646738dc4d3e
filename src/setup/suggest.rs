//! Decides what to suggest, from an existing configuration and from what the host is.

use std::net::IpAddr;

use super::answers::{Draft, Origin};
use super::boot::BootChoice;
use super::wanted::Wanted;
use crate::config::{Host, Reach, is_public};

/// What this host is, as far as defaults depend on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    pub is_root: bool,
    /// The addresses of the default routes, at most one a family.
    pub sources: Vec<IpAddr>,
    pub local_addresses: Vec<IpAddr>,
    /// What the host calls itself.
    pub host_name: Option<String>,
    /// Under which addresses the internet sees it, as far as that was asked and agreed on; at most one a family.
    pub seen: Vec<IpAddr>,
    /// Whether a service suits it that starts with the machine.
    pub boot: BootChoice,
    /// A browser of this very machine does not trust the local CA yet.
    pub has_own_browser: bool,
    /// Nobody outside of it is to be asked.
    pub is_offline: bool,
}

/// What would be wanted on this host with these two answers and nothing else.
#[must_use]
pub fn defaults(reach: Reach, hosts: &[Host], surroundings: &Surroundings) -> Option<Wanted> {
    let draft = Draft { reach: Some(reach), hosts: Some(hosts.to_vec()), ..Draft::default() };
    draft.settle(None, surroundings).ok().map(|answers| answers.wanted)
}

/// Where callers seem to come from.
#[must_use]
pub fn suggest_reach(existing: Option<&Wanted>, surroundings: &Surroundings) -> (Reach, Origin) {
    if let Some(existing) = existing {
        return (existing.reach, Origin::Config);
    }
    let is_outward = surroundings.sources.iter().any(|address| is_public(*address)) || !surroundings.seen.is_empty();
    let reach = if is_outward { Reach::Ip } else { Reach::Lan };
    (reach, Origin::Detected)
}

/// Under which names and addresses callers may know this host; `None` where nothing tells.
#[must_use]
pub fn suggest_host(
    reach: Reach,
    existing: Option<&Wanted>,
    surroundings: &Surroundings,
) -> Option<(Vec<Host>, Origin)> {
    if let Some(existing) = existing.filter(|existing| existing.reach == reach) {
        return Some((existing.hosts.clone(), Origin::Config));
    }
    let source = |fits: fn(IpAddr) -> bool| {
        let address = surroundings.sources.iter().find(|address| fits(**address))?;
        Some((vec![Host::Address(*address)], Origin::Detected))
    };
    match reach {
        // A network without a router is a network, too; and without any there is still this machine.
        Reach::Lan => source(|_| true)
            .or_else(|| Some((vec![Host::Address(*surroundings.local_addresses.first()?)], Origin::Detected)))
            .or_else(|| Some((vec![Host::Name("localhost".to_owned())], Origin::Detected))),
        Reach::Ip => {
            source(is_public).or_else(|| Some((vec![Host::Address(*surroundings.seen.first()?)], Origin::Detected)))
        }
        Reach::Domain => {
            let name =
                surroundings.host_name.as_ref().filter(|name| name.contains('.') && !name.ends_with(".local"))?;
            Some((vec![name.parse().ok()?], Origin::Detected))
        }
    }
}

/// The port of the page: the usual one where this user may have it.
#[must_use]
pub fn suggest_web_port(existing: Option<&Wanted>, surroundings: &Surroundings) -> (u16, Origin) {
    match existing {
        Some(existing) => (existing.web_port, Origin::Config),
        None if surroundings.is_root => (443, Origin::Default),
        None => (8443, Origin::Default),
    }
}

/// The outside addresses of a host that does not have them itself: what callers type is not on any interface.
#[must_use]
pub fn suggest_public_ips(
    reach: Reach,
    hosts: &[Host],
    existing: Option<&Wanted>,
    surroundings: &Surroundings,
) -> (Vec<IpAddr>, Origin) {
    if let Some(existing) = existing {
        return (existing.public_ips.clone(), Origin::Config);
    }
    if reach == Reach::Lan {
        return (Vec::new(), Origin::Default);
    }
    let mut found: Vec<IpAddr> = Vec::new();
    let typed = hosts.iter().filter_map(|host| match host {
        Host::Address(address) => Some(address),
        Host::Name(_) => None,
    });
    for address in typed.chain(&surroundings.seen) {
        let is_second = found.iter().any(|other| other.is_ipv4() == address.is_ipv4());
        if !address.is_loopback() && !surroundings.local_addresses.contains(address) && !is_second {
            found.push(*address);
        }
    }
    let origin = if found.is_empty() { Origin::Default } else { Origin::Detected };
    (found, origin)
}
