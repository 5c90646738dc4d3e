//! Decides whether the local CA's leaf can go on being served: facts about the pair, wanted names, `now`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use crate::config::Host;
use crate::text;
use crate::words::Text;

/// How long a leaf is valid. Apple's systems refuse more than 398 days, even below a CA that the user trusts.
pub const LEAF_LIFETIME: Duration = Duration::from_secs(397 * 24 * 3600);

/// A host with hundreds of container bridges does not get a certificate that no handshake can carry.
const MAX_LOCAL_ADDRESSES: usize = 64;

/// What is known about `leaf.pem` and `leaf.key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pair {
    /// Neither file is there.
    Absent,
    /// One is missing, unreadable as what it should be, or does not belong to the other or to the CA.
    Damaged(Text),
    /// A whole pair, issued by the CA that is there.
    Whole(LeafFacts),
}

/// What a leaf says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafFacts {
    /// DNS names and IP addresses, as text.
    pub names: BTreeSet<String>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

/// What to do with the leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Keep,
    Renew(Reason),
}

/// Why a leaf is made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    Absent,
    Damaged(Text),
    Expired,
    /// Two thirds of its life are over.
    Aged,
    /// The clock says it is not valid yet.
    NotYetValid,
    MissingNames(Vec<String>),
    /// The operator wants a new one.
    Wished,
}

impl Reason {
    /// As people are told of it.
    #[must_use]
    pub fn told(&self) -> Text {
        match self {
            Self::Absent => text!("there is none yet"),
            Self::Damaged(why) => why.clone(),
            Self::Expired => text!("the old one has expired"),
            Self::Aged => text!("two thirds of its life are over"),
            Self::NotYetValid => text!("the old one is not valid yet by this host's clock"),
            Self::Wished => text!("the operator wants a new one"),
            Self::MissingNames(names) => text!("the old one lacks {}", names.join(", ")),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.told().english())
    }
}

/// The names a leaf must have: all configured hosts, this host's own addresses, and loopback for health checks.
#[must_use]
pub fn wanted_names(hosts: &[Host], local: &[IpAddr]) -> BTreeSet<String> {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let configured = hosts.iter().map(|host| match host {
        Host::Address(address) => address.to_string(),
        Host::Name(name) => name.clone(),
    });
    configured
        .chain(["localhost".to_owned()])
        .chain(loopback.iter().chain(local.iter().take(MAX_LOCAL_ADDRESSES)).map(ToString::to_string))
        .collect()
}

/// Decides whether to keep the leaf. Names it has beyond the wanted ones do no harm.
#[must_use]
pub fn next_step(pair: &Pair, wanted: &BTreeSet<String>, now: SystemTime) -> Step {
    let leaf = match pair {
        Pair::Absent => return Step::Renew(Reason::Absent),
        Pair::Damaged(why) => return Step::Renew(Reason::Damaged(why.clone())),
        Pair::Whole(leaf) => leaf,
    };
    if now >= leaf.not_after {
        return Step::Renew(Reason::Expired);
    }
    let Ok(age) = now.duration_since(leaf.not_before) else { return Step::Renew(Reason::NotYetValid) };
    let missing: Vec<String> = wanted.difference(&leaf.names).cloned().collect();
    if !missing.is_empty() {
        return Step::Renew(Reason::MissingNames(missing));
    }
    let life = leaf.not_after.duration_since(leaf.not_before).unwrap_or_default();
    if age >= life / 3 * 2 { Step::Renew(Reason::Aged) } else { Step::Keep }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + 20_000 * DAY
    }

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    fn whole(list: &[&str]) -> Pair {
        Pair::Whole(LeafFacts { names: names(list), not_before: start(), not_after: start() + 300 * DAY })
    }

    #[test]
    fn a_young_leaf_with_all_names_is_kept() {
        assert_eq!(next_step(&whole(&["a", "b"]), &names(&["a"]), start() + 199 * DAY), Step::Keep);
    }

    #[test]
    fn a_leaf_is_renewed_at_two_thirds_of_its_life_and_when_expired() {
        let pair = whole(&["a"]);
        assert_eq!(next_step(&pair, &names(&["a"]), start() + 200 * DAY), Step::Renew(Reason::Aged));
        assert_eq!(next_step(&pair, &names(&["a"]), start() + 300 * DAY), Step::Renew(Reason::Expired));
        assert_eq!(next_step(&pair, &names(&["a"]), start() - DAY), Step::Renew(Reason::NotYetValid));
    }

    #[test]
    fn a_new_name_makes_a_new_leaf_and_says_which() {
        let step = next_step(&whole(&["a"]), &names(&["a", "b", "c"]), start());
        assert_eq!(step, Step::Renew(Reason::MissingNames(vec!["b".to_owned(), "c".to_owned()])));
    }

    #[test]
    fn wanted_names_hold_hosts_local_addresses_and_loopback_without_brackets() {
        let hosts = [Host::Name("call.example".to_owned()), Host::Address("2001:db8::1".parse().unwrap())];
        let wanted = wanted_names(&hosts, &["10.0.0.7".parse().unwrap()]);
        assert_eq!(wanted, names(&["call.example", "2001:db8::1", "localhost", "127.0.0.1", "::1", "10.0.0.7"]));
    }
}
