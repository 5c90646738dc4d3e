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
use crate::text;
use crate::words::Text;

/// The names, where there are some and somebody can be asked; otherwise how the check ends.
fn names(evidence: &Evidence) -> Result<&Names, Box<Outcome>> {
    if evidence.good_config().is_none() {
        return Err(Box::new(without_config()));
    }
    let names = evidence.names.as_ref().ok_or_else(|| Box::new(not_looked_at()))?;
    if names.names.is_empty() {
        return Err(Box::new(Outcome::Idle(text!("this host has no names that the DNS would know"))));
    }
    if !names.has_resolver {
        return Err(Box::new(Outcome::Unknown(text!("no resolver is configured, or nobody was to be asked"))));
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
                Problem::of(Check::DnsName, Severity::Error, text!("the name servers of `{}` fail", name))
                    .seen(text!("the resolver answers SERVFAIL, as it does with a broken DNSSEC, too"))
                    .fix(text!("look at the delegation and the DNSSEC of `{}` where it is administered", name))
                    .outside(),
            );
        }
        let (Some(v4), Some(v6)) = (v4, v6) else { continue };
        if is_empty(v4) && is_empty(v6) {
            let fix = match outside_address(evidence, Family::V4) {
                Some(mine) => text!("add an A record with the value {} where `{}` is administered", mine, name),
                None => text!("add an A record where `{}` is administered", name),
            };
            return Outcome::Found(
                Problem::of(Check::DnsName, Severity::Error, text!("`{}` leads nowhere", name))
                    .seen(if v4.is_unknown {
                        text!("the DNS does not know it")
                    } else {
                        text!("it has neither an A nor an AAAA record")
                    })
                    .fix(fix)
                    .outside(),
            );
        }
    }
    if names.names.iter().all(|facts| facts.v4.is_none() && facts.v6.is_none()) {
        return Outcome::Unknown(text!("no resolver answers"));
    }
    Outcome::Fine(Text::verbatim(list(names.names.iter().map(|facts| &facts.name))))
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
            fine.push(text!("{}: {}", name, list(&answer.addresses)));
            continue;
        }
        let mine = outside_address(evidence, family);
        let has_way = evidence.network.as_ref().is_some_and(|network| network.routes.of(family).is_some());
        let problem = Problem::of(
            check,
            Severity::Error,
            text!("the {} record of `{}` leads to {}, which is not this host", record, name, list(&strangers)),
        );
        return match (mine, has_way) {
            (Some(mine), _) => Outcome::Found(
                problem
                    .seen(text!("this host is {} outside", mine))
                    .fix(text!("set the {} record of `{}` to {} where it is administered", record, name, mine))
                    .outside(),
            ),
            // Callers try it first, and wait.
            (None, false) => Outcome::Found(
                problem
                    .seen(text!("this host has no way out by {}", if family == Family::V4 { "IPv4" } else { "IPv6" }))
                    .fix(text!("remove the {} record of `{}` where it is administered", record, name))
                    .outside(),
            ),
            // Behind a NAT that nobody has looked through, this may well be right.
            (None, true) => Outcome::Unknown(text!(
                "the {} record of `{}` is {}; nobody says whether that is this host",
                record,
                name,
                list(&strangers)
            )),
        };
    }
    if fine.is_empty() {
        Outcome::Idle(text!("there is no {} record", record))
    } else {
        Outcome::Fine(Text::clauses(fine))
    }
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
                    text!("this host takes its own name `{}` for something else than the DNS does", facts.name),
                )
                .seen(text!("{} here, {} in the DNS", list(&facts.here), list(resolved)))
                .fix(text!("see `grep {} /etc/hosts`; it is fine if that is on purpose", facts.name)),
            );
        }
    }
    Outcome::Fine(text!("the same as the DNS"))
}

pub(super) fn caa(evidence: &Evidence) -> Outcome {
    let names = match names(evidence) {
        Ok(names) => names,
        Err(end) => return *end,
    };
    let Some(issuer) = &names.issuer else { return Outcome::Idle(text!("no public authority is asked")) };
    for facts in &names.names {
        let Some(caa) = &facts.caa else { continue };
        let name = &facts.name;
        if caa.fails || (!caa.issuers.is_empty() && !caa.issuers.contains(issuer)) {
            let seen = if caa.fails {
                text!("the resolver answers SERVFAIL")
            } else {
                text!("they allow {}", list(&caa.issuers))
            };
            return Outcome::Found(
                Problem::of(Check::DnsCaa, Severity::Error, text!("CAA records keep the authority from `{}`", name))
                    .seen(seen)
                    .fix(text!("add `{}. CAA 0 issue \"{}\"` where it is administered", name, issuer))
                    .outside(),
            );
        }
    }
    Outcome::Fine(text!("{} may issue", issuer))
}
