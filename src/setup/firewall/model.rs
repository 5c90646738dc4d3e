//! Rules of a packet filter, as far as they decide about a new caller's first packet. nftables and iptables are both
//! read into this.

use std::collections::BTreeMap;

use crate::setup::ports::PortSet;
use crate::sys::net::Family;
use crate::sys::ports::Transport;

/// The chains of one table, or of several whose names say which.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    pub chains: BTreeMap<ChainName, Chain>,
}

/// A chain by its table and its own name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChainName {
    /// `inet filter`; for iptables the program.
    pub table: String,
    pub chain: String,
}

impl std::fmt::Display for ChainName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.table, self.chain)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// `Some` if packets to this host come through it by themselves: what becomes of those at its end.
    pub policy: Option<Policy>,
    pub families: Vec<Family>,
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    Accept,
    Drop,
}

/// One rule. A verdict map is several with one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub place: Place,
    pub test: Test,
    pub verdict: Verdict,
    pub comment: Option<String>,
    /// As it is shown to people.
    pub text: String,
}

/// Where a rule is: its handle with nftables, its number from 1 with iptables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub u64);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The next rule decides.
    Continue,
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

/// Which packets a rule is for: all of it must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Test {
    /// `None`: both.
    pub families: Option<Vec<Family>>,
    /// `None`: any.
    pub transports: Option<Vec<Transport>>,
    /// Destination ports; `None`: any.
    pub ports: Option<PortSet>,
    pub interface: Vec<InterfaceTest>,
    /// It holds for no first packet of a caller from elsewhere.
    pub never: bool,
    /// Something that cannot be told here: an address, a rate, a set.
    pub unsure: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceTest {
    pub names: Vec<String>,
    pub negated: bool,
}

/// The first packet of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub family: Family,
    pub transport: Transport,
    /// Where it comes in; `None`: nobody knows, but not loopback.
    pub interface: Option<String>,
}

/// Whether a rule is for a packet, and with which ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    No,
    Maybe(PortSet),
    Yes(PortSet),
}

impl Test {
    /// A test that nothing passes.
    pub(super) fn never() -> Self {
        Self { never: true, ..Self::default() }
    }

    pub(super) fn on(&self, packet: &Packet) -> Answer {
        let families = self.families.as_ref().is_none_or(|families| families.contains(&packet.family));
        let transports = self.transports.as_ref().is_none_or(|transports| transports.contains(&packet.transport));
        if self.never || !families || !transports {
            return Answer::No;
        }
        let mut unsure = self.unsure;
        for test in &self.interface {
            match test.holds(packet.interface.as_deref()) {
                Some(true) => {}
                Some(false) => return Answer::No,
                None => unsure = true,
            }
        }
        let ports = self.ports.clone().unwrap_or_else(PortSet::all);
        match (ports.is_empty(), unsure) {
            (true, _) => Answer::No,
            (false, true) => Answer::Maybe(ports),
            (false, false) => Answer::Yes(ports),
        }
    }

    /// Both must hold.
    pub(super) fn and(mut self, other: Self) -> Self {
        fn common<T: PartialEq>(one: Option<Vec<T>>, other: Option<Vec<T>>) -> Option<Vec<T>> {
            match (one, other) {
                (Some(one), Some(other)) => Some(one.into_iter().filter(|member| other.contains(member)).collect()),
                (one, other) => one.or(other),
            }
        }
        self.families = common(self.families, other.families);
        self.transports = common(self.transports, other.transports);
        self.ports = match (self.ports, other.ports) {
            (Some(one), Some(two)) => Some(one.and(&two)),
            (one, two) => one.or(two),
        };
        self.interface.extend(other.interface);
        self.never |= other.never;
        self.unsure |= other.unsure;
        self
    }
}

impl InterfaceTest {
    fn holds(&self, interface: Option<&str>) -> Option<bool> {
        let is_in = match interface {
            Some(interface) => self.names.iter().any(|name| fits(name, interface)),
            None if self.names.iter().all(|name| name == "lo") => false,
            None => return None,
        };
        Some(is_in != self.negated)
    }
}

/// `eth*` and iptables' `eth+` are every name that begins so.
fn fits(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix(['*', '+']).map_or(pattern == name, |start| name.starts_with(start))
}
