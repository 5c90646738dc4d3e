//! How this host looks from outside.

use std::net::IpAddr;

use super::{list, not_looked_at, without_config};
use crate::config::{Config, Reach, is_public};
use crate::control::protocol::Severity;
use crate::doctor::check::Check;
use crate::doctor::evidence::{Evidence, Network};
use crate::doctor::outcome::{Outcome, Problem};
use crate::doctor::vantage::SPEED;
use crate::setup::cloud::{Provider, Told};
use crate::setup::facts::outside::Opinion;
use crate::sys::net::Family;

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The configuration and what is known of the network, where callers come from outside; otherwise how the check ends.
fn outward(evidence: &Evidence) -> Result<(&Config, &Network), Box<Outcome>> {
    let network = evidence.network.as_ref().ok_or_else(|| Box::new(not_looked_at()))?;
    let config = evidence.good_config().ok_or_else(|| Box::new(without_config()))?;
    if config.reach == Reach::Lan {
        return Err(Box::new(Outcome::Idle("callers are in the own network (`reach: lan`)".to_owned())));
    }
    Ok((config, network))
}

fn family_word(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// The filter in front of this host, as its users call it.
fn filter(evidence: &Evidence) -> &'static str {
    let provider = evidence.network.as_ref().and_then(|network| network.outside.cloud.provider);
    provider.map_or("router or security group", Provider::filter)
}

pub(super) fn default_route(evidence: &Evidence) -> Outcome {
    let Some(network) = &evidence.network else { return not_looked_at() };
    let told = |family: Family| {
        let route = network.routes.of(family)?;
        let source = route.source.map_or_else(|| "no address".to_owned(), |source| source.to_string());
        Some(format!("{} by {} from {source}", family_word(family), route.interface))
    };
    let ways: Vec<String> = FAMILIES.into_iter().filter_map(told).collect();
    if !ways.is_empty() {
        return Outcome::Fine(ways.join("; "));
    }
    let severity = match evidence.good_config().map(|config| config.reach) {
        Some(Reach::Lan) | None => Severity::Info,
        Some(Reach::Ip | Reach::Domain) => Severity::Critical,
    };
    Outcome::Found(
        Problem::of(Check::DefaultRoute, severity, "no way leads out of this host")
            .seen("there is no default route, neither for IPv4 nor for IPv6")
            .fix("set the gateway: `ip route` shows what is there"),
    )
}

pub(super) fn cloud(evidence: &Evidence) -> Outcome {
    let Some(network) = &evidence.network else { return not_looked_at() };
    let cloud = &network.outside.cloud;
    let Some(provider) = cloud.provider else { return Outcome::Idle(cloud.how.clone()) };
    match &cloud.told {
        Told::Addresses(addresses) => {
            Outcome::Fine(format!("{} ({}); it says {}", provider.title(), cloud.how, list(addresses)))
        }
        Told::NoAddress => {
            Outcome::Fine(format!("{}; this machine has no public address of its own", provider.title()))
        }
        Told::NotAsked(why) => Outcome::Unknown(why.clone()),
        Told::Fault(why) => Outcome::Unknown(format!("the metadata service of {}: {why}", provider.title())),
    }
}

pub(super) fn stun_agreement(evidence: &Evidence) -> Outcome {
    let network = match outward(evidence) {
        Ok((_, network)) => network,
        Err(end) => return *end,
    };
    let mut fine = Vec::new();
    let mut silent = Vec::new();
    for family in FAMILIES.into_iter().filter(|family| network.routes.of(*family).is_some()) {
        match network.outside.opinion(family) {
            Opinion::Split(votes) => {
                let seen = list(votes.iter().map(|(address, by)| format!("{address} by {}", by.join(" and "))));
                return Outcome::Found(
                    Problem::of(
                        Check::StunAgreement,
                        Severity::Warning,
                        format!("it is not clear under which {} address callers reach this host", family_word(family)),
                    )
                    .seen(seen)
                    .fix(format!(
                        "look which is right at your provider, and say it: rtcctl{} init --yes --public-ip IP",
                        evidence.home_flag
                    )),
                );
            }
            Opinion::Agreed { address, by, against } if against.is_empty() => {
                fine.push(format!("{address} by {}", by.join(", ")));
            }
            Opinion::Agreed { address, by, against } => {
                let others = list(against.iter().map(|(server, address)| format!("{server} sees {address}")));
                let found = Problem::of(
                    Check::StunAgreement,
                    Severity::Info,
                    "a STUN server sees another public address",
                )
                .seen(format!("{address} by {}, but {others}", by.join(", ")))
                .fix("nothing, if this host has several ways out; otherwise leave that server out by `--stun-server`");
                return Outcome::Found(found);
            }
            Opinion::Nothing(why) => silent.extend(why),
        }
    }
    if !fine.is_empty() {
        return Outcome::Fine(fine.join("; "));
    }
    if network.is_offline {
        return Outcome::Unknown("nobody outside was to be asked (`--offline`)".to_owned());
    }
    silent.truncate(2);
    Outcome::Unknown(if silent.is_empty() {
        "nobody could be asked".to_owned()
    } else {
        format!("nobody answered: {}", silent.join("; "))
    })
}

/// Where callers come to by one family, as configured: the public address, or the relay's own.
fn told_address(config: &Config, family: Family) -> Option<IpAddr> {
    let fits = |address: &&IpAddr| address.is_ipv4() == (family == Family::V4);
    let own = config.turn.relay_ips.iter().find(fits)?;
    Some(*config.turn.public_ips.iter().find(fits).unwrap_or(own))
}

pub(super) fn public_address(evidence: &Evidence) -> Outcome {
    let (config, network) = match outward(evidence) {
        Ok(both) => both,
        Err(end) => return *end,
    };
    if config.turn.public_ips.is_empty() {
        return Outcome::Idle("none is configured".to_owned());
    }
    let mut fine = Vec::new();
    for address in &config.turn.public_ips {
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        match network.outside.opinion(family) {
            Opinion::Agreed { address: seen, .. } if seen == *address => fine.push(format!("{address} is right")),
            Opinion::Agreed { address: seen, by, .. } => {
                // A machine may be reached by an address that it does not go out by.
                let cloud_has_it =
                    matches!(&network.outside.cloud.told, Told::Addresses(told) if told.contains(address));
                if cloud_has_it {
                    fine.push(format!("{address} is one of this machine's, which goes out by {seen}"));
                    continue;
                }
                return Outcome::Found(
                    Problem::of(
                        Check::PublicAddress,
                        Severity::Error,
                        format!("callers are told {address}, and this host is {seen} outside"),
                    )
                    .seen(format!("`turn.public_ips` says {address}; {} see {seen}", by.join(", ")))
                    .fix(format!("rtcctl{0} init --yes --public-ip {seen} && rtcctl{0} reload", evidence.home_flag)),
                );
            }
            Opinion::Split(_) | Opinion::Nothing(_) => {}
        }
    }
    if fine.is_empty() {
        return Outcome::Unknown("nobody outside says under which address this host is seen".to_owned());
    }
    Outcome::Fine(fine.join("; "))
}

pub(super) fn relay_address(evidence: &Evidence) -> Outcome {
    let (config, network) = match outward(evidence) {
        Ok(both) => both,
        Err(end) => return *end,
    };
    let mut fine = Vec::new();
    for family in FAMILIES {
        let Some(told) = told_address(config, family) else { continue };
        let seen = match network.outside.opinion(family) {
            Opinion::Agreed { address, .. } => Some(address),
            Opinion::Split(_) | Opinion::Nothing(_) => None,
        };
        let is_private = |address: IpAddr| match address {
            // Addresses for documentation are as good as public ones here: they are nobody's private network.
            IpAddr::V4(v4) => !is_public(address) && !v4.is_documentation(),
            IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
        };
        if !is_private(told) {
            fine.push(told.to_string());
            continue;
        }
        // An own network behind a router whose IPv6 goes nowhere need not be reachable by that.
        let has_other = FAMILIES
            .into_iter()
            .filter(|other| *other != family)
            .any(|other| told_address(config, other).is_some_and(|address| !is_private(address)));
        let (severity, fix) = match seen {
            Some(seen) => (
                Severity::Error,
                format!("rtcctl{0} init --yes --public-ip {seen} && rtcctl{0} reload", evidence.home_flag),
            ),
            None if has_other => {
                (Severity::Info, format!("leave the {} address out of `turn.relay_ips`", family_word(family)))
            }
            None => (
                Severity::Error,
                format!("say the public address: rtcctl{} init --yes --public-ip IP", evidence.home_flag),
            ),
        };
        return Outcome::Found(
            Problem::of(
                Check::RelayAddress,
                severity,
                format!("callers are told the relay address {told}, which nobody outside can reach"),
            )
            .seen(match seen {
                Some(seen) => {
                    format!("it is private, and outside this host is {seen}; `turn.public_ips` does not say so")
                }
                None => "it is private, and `turn.public_ips` names no other".to_owned(),
            })
            .fix(fix),
        );
    }
    if fine.is_empty() {
        Outcome::Unknown("the relay has no address".to_owned())
    } else {
        Outcome::Fine(fine.join(", "))
    }
}

pub(super) fn hairpin(evidence: &Evidence) -> Outcome {
    if let Err(end) = outward(evidence) {
        return *end;
    }
    let Some(tried) = &evidence.hairpin else { return not_looked_at() };
    if tried.is_empty() {
        return Outcome::Idle("every address of this service is on this host itself".to_owned());
    }
    let failing: Vec<_> = tried.iter().filter(|one| one.stun.is_err() || one.web.is_err()).collect();
    let Some(first) = failing.first() else {
        return Outcome::Fine(format!("{} answers", list(tried.iter().map(|one| one.address))));
    };
    let seen = match (&first.stun, &first.web) {
        (Err(stun), Err(_)) => format!("neither STUN nor the page: {stun}"),
        (Err(stun), Ok(())) => format!("the page answers, STUN does not: {stun}"),
        (Ok(()), Err(web)) => format!("STUN answers, the page does not: {web}"),
        (Ok(()), Ok(())) => String::new(),
    };
    // It works from outside on many such hosts, so that this alone proves nothing.
    Outcome::Found(
        Problem::of(
            Check::Hairpin,
            Severity::Info,
            format!("this host does not reach itself by its public address {}", first.address),
        )
        .seen(format!(
            "{seen}; either there is no hairpin NAT, and then who is behind the same NAT cannot call by that address, \
             or the {} lets nobody in",
            filter(evidence)
        ))
        .fix(format!("look from outside which it is: `rtcctl{} probe --invite`", evidence.home_flag)),
    )
}

pub(super) fn outside_view(evidence: &Evidence) -> Outcome {
    let Some(view) = &evidence.outside_view else {
        return Outcome::Unknown(format!(
            "nobody has looked from another machine yet: `rtcctl{} probe --invite`",
            evidence.home_flag
        ));
    };
    const OLD: u64 = 7 * 24 * 3600;
    let days = view.age.as_secs() / (24 * 3600);
    let when = if days == 0 { "within the last day".to_owned() } else { format!("{days} days ago") };
    if view.age.as_secs() > OLD {
        return Outcome::Unknown(format!("the last look from another machine is {days} days old"));
    }
    let failing: Vec<(&String, &String)> =
        view.steps.iter().filter(|(_, (works, _))| !works).map(|(step, (_, told))| (step, told)).collect();
    if failing.is_empty() {
        let speeds: Vec<&String> =
            view.steps.iter().filter(|(step, _)| step.starts_with(SPEED)).map(|(_, (_, told))| told).collect();
        let by = if speeds.is_empty() { String::new() } else { format!("; through the relay {}", list(speeds)) };
        return Outcome::Fine(format!("{} reached everything {when}{by}", view.from));
    }
    let seen = list(failing.iter().map(|(step, told)| format!("{step}: {told}")));
    Outcome::Found(
        Problem::of(Check::OutsideView, Severity::Error, "another machine could not reach everything")
            .seen(format!("{} {when}: {seen}", view.from))
            .fix(format!(
                "open the ports in the {}: `rtcctl{} ports` lists them; then look again by `rtcctl{1} probe --invite`",
                filter(evidence),
                evidence.home_flag
            ))
            .outside(),
    )
}
