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
use crate::text;
use crate::words::Text;

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The configuration and what is known of the network, where callers come from outside; otherwise how the check ends.
fn outward(evidence: &Evidence) -> Result<(&Config, &Network), Box<Outcome>> {
    let network = evidence.network.as_ref().ok_or_else(|| Box::new(not_looked_at()))?;
    let config = evidence.good_config().ok_or_else(|| Box::new(without_config()))?;
    if config.reach == Reach::Lan {
        return Err(Box::new(Outcome::Idle(text!("callers are in the own network (`reach: lan`)"))));
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
fn filter(evidence: &Evidence) -> Text {
    let provider = evidence.network.as_ref().and_then(|network| network.outside.cloud.provider);
    provider.map_or_else(|| text!("router or security group"), Provider::filter)
}

pub(super) fn default_route(evidence: &Evidence) -> Outcome {
    let Some(network) = &evidence.network else { return not_looked_at() };
    let told = |family: Family| {
        let route = network.routes.of(family)?;
        let (family, interface) = (family_word(family), &route.interface);
        Some(match route.source {
            Some(source) => text!("{} by {} from {}", family, interface, source),
            None => text!("{} by {} without an address", family, interface),
        })
    };
    let ways: Vec<Text> = FAMILIES.into_iter().filter_map(told).collect();
    if !ways.is_empty() {
        return Outcome::Fine(Text::clauses(ways));
    }
    let severity = match evidence.good_config().map(|config| config.reach) {
        Some(Reach::Lan) | None => Severity::Info,
        Some(Reach::Ip | Reach::Domain) => Severity::Critical,
    };
    Outcome::Found(
        Problem::of(Check::DefaultRoute, severity, text!("no way leads out of this host"))
            .seen(text!("there is no default route, neither for IPv4 nor for IPv6"))
            .fix(text!("set the gateway: `ip route` shows what is there")),
    )
}

pub(super) fn cloud(evidence: &Evidence) -> Outcome {
    let Some(network) = &evidence.network else { return not_looked_at() };
    let cloud = &network.outside.cloud;
    let Some(provider) = cloud.provider else { return Outcome::Idle(cloud.how.clone()) };
    match &cloud.told {
        Told::Addresses(addresses) => {
            Outcome::Fine(text!("{} ({}); it says {}", provider.title(), cloud.how, list(addresses)))
        }
        Told::NoAddress => Outcome::Fine(text!("{}; this machine has no public address of its own", provider.title())),
        Told::NotAsked(why) => Outcome::Unknown(why.clone()),
        Told::Fault(why) => Outcome::Unknown(text!("the metadata service of {}: {}", provider.title(), why)),
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
                let seen = Text::list(votes.iter().map(|(address, by)| {
                    text!("{} by {}", address, Text::both(by.iter().map(|one| Text::verbatim(one.as_str()))))
                }));
                return Outcome::Found(
                    Problem::of(
                        Check::StunAgreement,
                        Severity::Warning,
                        text!("it is not clear under which {} address callers reach this host", family_word(family)),
                    )
                    .seen(seen)
                    .fix(text!(
                        "look which is right at your provider, and say it: rtcctl{} init --yes --public-ip IP",
                        evidence.home_flag
                    )),
                );
            }
            Opinion::Agreed { address, by, against } if against.is_empty() => {
                fine.push(text!("{} by {}", address, by.join(", ")));
            }
            Opinion::Agreed { address, by, against } => {
                let others = Text::list(against.iter().map(|(server, address)| text!("{} sees {}", server, address)));
                let found = Problem::of(
                    Check::StunAgreement,
                    Severity::Info,
                    text!("a STUN server sees another public address"),
                )
                .seen(text!("{} by {}, but {}", address, by.join(", "), others))
                .fix(text!(
                    "nothing, if this host has several ways out; otherwise leave that server out by `--stun-server`"
                ));
                return Outcome::Found(found);
            }
            Opinion::Nothing(why) => silent.extend(why),
        }
    }
    if !fine.is_empty() {
        return Outcome::Fine(Text::clauses(fine));
    }
    if network.is_offline {
        return Outcome::Unknown(text!("nobody outside was to be asked (`--offline`)"));
    }
    silent.truncate(2);
    Outcome::Unknown(if silent.is_empty() {
        text!("nobody could be asked")
    } else {
        text!("nobody answered: {}", Text::clauses(silent))
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
        return Outcome::Idle(text!("none is configured"));
    }
    let mut fine = Vec::new();
    for address in &config.turn.public_ips {
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        match network.outside.opinion(family) {
            Opinion::Agreed { address: seen, .. } if seen == *address => fine.push(text!("{} is right", address)),
            Opinion::Agreed { address: seen, by, .. } => {
                // A machine may be reached by an address that it does not go out by.
                let cloud_has_it =
                    matches!(&network.outside.cloud.told, Told::Addresses(told) if told.contains(address));
                if cloud_has_it {
                    fine.push(text!("{} is one of this machine's, which goes out by {}", address, seen));
                    continue;
                }
                return Outcome::Found(
                    Problem::of(
                        Check::PublicAddress,
                        Severity::Error,
                        text!("callers are told {}, and this host is {} outside", address, seen),
                    )
                    .seen(text!("`turn.public_ips` says {}; {} see {}", address, by.join(", "), seen))
                    .fix(Text::verbatim(format!(
                        "rtcctl{0} init --yes --public-ip {1} && rtcctl{0} reload",
                        evidence.home_flag, seen
                    ))),
                );
            }
            Opinion::Split(_) | Opinion::Nothing(_) => {}
        }
    }
    if fine.is_empty() {
        return Outcome::Unknown(text!("nobody outside says under which address this host is seen"));
    }
    Outcome::Fine(Text::clauses(fine))
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
                Text::verbatim(format!(
                    "rtcctl{0} init --yes --public-ip {1} && rtcctl{0} reload",
                    evidence.home_flag, seen
                )),
            ),
            None if has_other => {
                (Severity::Info, text!("leave the {} address out of `turn.relay_ips`", family_word(family)))
            }
            None => (
                Severity::Error,
                text!("say the public address: rtcctl{} init --yes --public-ip IP", evidence.home_flag),
            ),
        };
        return Outcome::Found(
            Problem::of(
                Check::RelayAddress,
                severity,
                text!("callers are told the relay address {}, which nobody outside can reach", told),
            )
            .seen(match seen {
                Some(seen) => {
                    text!("it is private, and outside this host is {}; `turn.public_ips` does not say so", seen)
                }
                None => text!("it is private, and `turn.public_ips` names no other"),
            })
            .fix(fix),
        );
    }
    if fine.is_empty() {
        Outcome::Unknown(text!("the relay has no address"))
    } else {
        Outcome::Fine(Text::verbatim(fine.join(", ")))
    }
}

pub(super) fn hairpin(evidence: &Evidence) -> Outcome {
    if let Err(end) = outward(evidence) {
        return *end;
    }
    let Some(tried) = &evidence.hairpin else { return not_looked_at() };
    if tried.is_empty() {
        return Outcome::Idle(text!("every address of this service is on this host itself"));
    }
    let failing: Vec<_> = tried.iter().filter(|one| one.stun.is_err() || one.web.is_err()).collect();
    let Some(first) = failing.first() else {
        return Outcome::Fine(text!("{} answers", list(tried.iter().map(|one| one.address))));
    };
    let seen = match (&first.stun, &first.web) {
        (Err(stun), Err(_)) => text!("neither STUN nor the page: {}", stun),
        (Err(stun), Ok(())) => text!("the page answers, STUN does not: {}", stun),
        (Ok(()), Err(web)) => text!("STUN answers, the page does not: {}", web),
        (Ok(()), Ok(())) => Text::default(),
    };
    // It works from outside on many such hosts, so that this alone proves nothing.
    Outcome::Found(
        Problem::of(
            Check::Hairpin,
            Severity::Info,
            text!("this host does not reach itself by its public address {}", first.address),
        )
        .seen(text!(
            "{}; either there is no hairpin NAT, and then who is behind the same NAT cannot call by that address, \
             or the {} lets nobody in",
            seen,
            filter(evidence)
        ))
        .fix(text!("look from outside which it is: `rtcctl{} probe --invite`", evidence.home_flag)),
    )
}

pub(super) fn outside_view(evidence: &Evidence) -> Outcome {
    let Some(view) = &evidence.outside_view else {
        return Outcome::Unknown(text!(
            "nobody has looked from another machine yet: `rtcctl{} probe --invite`",
            evidence.home_flag
        ));
    };
    const OLD: u64 = 7 * 24 * 3600;
    let days = view.age.as_secs() / (24 * 3600);
    let when = if days == 0 { text!("within the last day") } else { text!("{} days ago", days) };
    if view.age.as_secs() > OLD {
        return Outcome::Unknown(text!("the last look from another machine is {} days old", days));
    }
    let failing: Vec<(&String, &String)> =
        view.steps.iter().filter(|(_, (works, _))| !works).map(|(step, (_, told))| (step, told)).collect();
    if failing.is_empty() {
        let speeds: Vec<&String> =
            view.steps.iter().filter(|(step, _)| step.starts_with(SPEED)).map(|(_, (_, told))| told).collect();
        let reached = text!("{} reached everything {}", view.from, when);
        return Outcome::Fine(match speeds.is_empty() {
            true => reached,
            false => text!("{}; through the relay {}", reached, list(speeds)),
        });
    }
    let seen = Text::list(failing.iter().map(|(step, told)| text!("{}: {}", step, told)));
    Outcome::Found(
        Problem::of(Check::OutsideView, Severity::Error, text!("another machine could not reach everything"))
            .seen(text!("{} {}: {}", view.from, when, seen))
            .fix(text!("open the ports in the {0}: `rtcctl{1} ports` lists them; then look again by `rtcctl{1} probe --invite`", filter(evidence), evidence.home_flag))
            .outside(),
    )
}
