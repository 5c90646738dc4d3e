//! What the DNS says of the names of this host.

use std::net::IpAddr;

use super::{list, not_looked_at, without_config};
use crate::certs::dns::Answer;
use crate::certs::preflight::NameFacts;
use crate::control::protocol::Severity;
use crate::doctor::check::Check;
use crate::doctor::evidence::{Evidence, Names};
use crate::doctor::outcome::{Outcome, Problem};
use crate::setup::cloud::Told;
use crate::setup::facts::outside::Opinion;
use crate::sys::net::Family;

/// The names, where there are some and somebody can be asked; otherwise how the check ends.
fn names(evidence: &Evidence) -> Result<&Names, Box<Outcome>> {
    if evidence.good_config().is_none() {
        return Err(Box::new(without_config()));
    }
    let names = evidence.names.as_ref().ok_or_else(|| Box::new(not_looked_at()))?;
    if names.names.is_empty() {
        return Err(Box::new(Outcome::Idle("this host has no names that the DNS would know".to_owned())));
    }
    if !names.has_resolver {
        return Err(Box::new(Outcome::Unknown("no resolver is configured, or nobody was to be asked".to_owned())));
    }
    Ok(names)
}

fn is_empty(answer: &Answer) -> bool {
    answer.addresses.is_empty() && !answer.fails
}

pub(super) fn name(evidence: &Evidence) -> Outcome {
    let names = match names(evidence) {
        Ok(names) => names,
        Err(end) => return *end,
    };
    for facts in &names.names {
        let NameFacts { name, v4, v6, .. } = facts;
        if [v4, v6].into_iter().flatten().any(|answer| answer.fails) {
            return Outcome::Found(
                Problem::of(Check::DnsName, Severity::Error, format!("the name servers of `{name}` fail"))
                    .seen("the resolver answers SERVFAIL, as it does with a broken DNSSEC, too")
                    .fix(format!("look at the delegation and the DNSSEC of `{name}` where it is administered"))
                    .outside(),
            );
        }
        let (Some(v4), Some(v6)) = (v4, v6) else { continue };
        if is_empty(v4) && is_empty(v6) {
            let mine = outside_address(evidence, Family::V4).map(|address| format!(" with the value {address}"));
            return Outcome::Found(
                Problem::of(Check::DnsName, Severity::Error, format!("`{name}` leads nowhere"))
                    .seen(if v4.is_unknown {
                        "the DNS does not know it"
                    } else {
                        "it has neither an A nor an AAAA record"
                    })
                    .fix(format!("add an A record{} where `{name}` is administered", mine.unwrap_or_default()))
                    .outside(),
            );
        }
    }
    if names.names.iter().all(|facts| facts.v4.is_none() && facts.v6.is_none()) {
        return Outcome::Unknown("no resolver answers".to_owned());
    }
    Outcome::Fine(list(names.names.iter().map(|facts| &facts.name)))
}

/// Under which address this host is seen, as configured or as agreed on outside.
fn outside_address(evidence: &Evidence, family: Family) -> Option<IpAddr> {
    let fits = |address: &IpAddr| address.is_ipv4() == (family == Family::V4);
    let seen = evidence.network.as_ref().map(|network| network.outside.opinion(family));
    if let Some(Opinion::Agreed { address, .. }) = seen {
        return Some(address);
    }
    let config = evidence.good_config()?;
    config.turn.public_ips.iter().copied().find(fits)
}

/// Everything that is an address of this host, as far as is known.
fn own_addresses(evidence: &Evidence, family: Family) -> Vec<IpAddr> {
    let mut own: Vec<IpAddr> = outside_address(evidence, family).into_iter().collect();
    if let Some(network) = &evidence.network {
        own.extend(&network.local_addresses);
        if let Told::Addresses(told) = &network.outside.cloud.told {
            own.extend(told);
        }
    }
    if let Some(config) = evidence.good_config() {
        own.extend(&config.turn.public_ips);
    }
    own
}

pub(super) fn addresses(check: Check, evidence: &Evidence) -> Outcome {
    let names = match names(evidence) {
        Ok(names) => names,
        Err(end) => return *end,
    };
    let (family, record) = if check == Check::DnsV6 { (Family::V6, "AAAA") } else { (Family::V4, "A") };
    let own = own_addresses(evidence, family);
    let mut fine = Vec::new();
    for facts in &names.names {
        let Some(answer) = (if family == Family::V4 { &facts.v4 } else { &facts.v6 }) else { continue };
        let strangers: Vec<&IpAddr> = answer.addresses.iter().filter(|address| !own.contains(address)).collect();
        let name = &facts.name;
        if strangers.is_empty() {
            if answer.addresses.is_empty() {
                continue;
            }
            fine.push(format!("{name}: {}", list(&answer.addresses)));
            continue;
        }
        let mine = outside_address(evidence, family);
        let has_way = evidence.network.as_ref().is_some_and(|network| network.routes.of(family).is_some());
        let problem = Problem::of(
            check,
            Severity::Error,
            format!("the {record} record of `{name}` leads to {}, which is not this host", list(&strangers)),
        );
        return match (mine, has_way) {
            (Some(mine), _) => Outcome::Found(
                problem
                    .seen(format!("this host is {mine} outside"))
                    .fix(format!("set the {record} record of `{name}` to {mine} where it is administered"))
                    .outside(),
            ),
            // Callers try it first, and wait.
            (None, false) => Outcome::Found(
                problem
                    .seen(format!("this host has no way out by {}", if family == Family::V4 { "IPv4" } else { "IPv6" }))
                    .fix(format!("remove the {record} record of `{name}` where it is administered"))
                    .outside(),
            ),
            // Behind a NAT that nobody has looked through, this may well be right.
            (None, true) => Outcome::Unknown(format!(
                "the {record} record of `{name}` is {}; nobody says whether that is this host",
                list(&strangers)
            )),
        };
    }
    if fine.is_empty() { Outcome::Idle(format!("there is no {record} record")) } else { Outcome::Fine(fine.join("; ")) }
}

pub(super) fn hosts_file(evidence: &Evidence) -> Outcome {
    let names = match names(evidence) {
        Ok(names) => names,
        Err(end) => return *end,
    };
    for facts in &names.names {
        let resolved: Vec<&IpAddr> =
            [&facts.v4, &facts.v6].into_iter().flatten().flat_map(|answer| &answer.addresses).collect();
        let differs = !facts.here.is_empty() && !facts.here.iter().any(|here| resolved.contains(&here));
        if differs && !resolved.is_empty() {
            return Outcome::Found(
                Problem::of(
                    Check::DnsHosts,
                    Severity::Info,
                    format!("this host takes its own name `{}` for something else than the DNS does", facts.name),
                )
                .seen(format!("{} here, {} in the DNS", list(&facts.here), list(resolved)))
                .fix(format!("see `grep {} /etc/hosts`; it is fine if that is on purpose", facts.name)),
            );
        }
    }
    Outcome::Fine("the same as the DNS".to_owned())
}

pub(super) fn caa(evidence: &Evidence) -> Outcome {
    let names = match names(evidence) {
        Ok(names) => names,
        Err(end) => return *end,
    };
    let Some(issuer) = &names.issuer else { return Outcome::Idle("no public authority is asked".to_owned()) };
    for facts in &names.names {
        let Some(caa) = &facts.caa else { continue };
        let name = &facts.name;
        if caa.fails || (!caa.issuers.is_empty() && !caa.issuers.contains(issuer)) {
            let seen = if caa.fails {
                "the resolver answers SERVFAIL".to_owned()
            } else {
                format!("they allow {}", list(&caa.issuers))
            };
            return Outcome::Found(
                Problem::of(Check::DnsCaa, Severity::Error, format!("CAA records keep the authority from `{name}`"))
                    .seen(seen)
                    .fix(format!("add `{name}. CAA 0 issue \"{issuer}\"` where it is administered"))
                    .outside(),
            );
        }
    }
    Outcome::Fine(format!("{issuer} may issue"))
}
