//! Walks a packet with many ports at once through a ruleset, and says where which of them are dropped.

use std::collections::BTreeMap;

use super::model::{Answer, Chain, ChainName, Packet, Place, Policy, Ruleset, Verdict};
use super::needs::Needs;
use crate::setup::ports::PortSet;
use crate::sys::net::Family;
use crate::sys::ports::Transport;

/// Chains that jump deeper than this are none that a kernel takes.
const MAX_DEPTH: usize = 32;

/// Where a rule has to be for a port to pass.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    pub chain: ChainName,
    /// Before this rule; `None`: at the chain's end, whose policy drops.
    pub before: Option<Place>,
}

/// What becomes of callers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Passage {
    /// What is dropped, by the point that decides.
    pub blocked: BTreeMap<Point, Needs>,
    /// Rules that may drop some callers, for reasons that cannot be told here.
    pub doubts: Vec<String>,
}

impl Passage {
    /// Everything that is dropped anywhere.
    #[must_use]
    pub(super) fn closed(&self) -> Needs {
        self.blocked.values().fold(Needs::default(), |all, needs| all.or(needs))
    }
}

/// Walks each needed port, of each family, through every chain that packets to this host come through.
///
/// `interfaces` are those that callers come in by; none: unknown.
#[must_use]
pub(super) fn walk(rules: &Ruleset, needs: &Needs, families: &[Family], interfaces: &[String]) -> Passage {
    let mut passage = Passage::default();
    let interfaces: Vec<Option<String>> =
        if interfaces.is_empty() { vec![None] } else { interfaces.iter().cloned().map(Some).collect() };
    for (name, chain) in &rules.chains {
        let Some(policy) = chain.policy else { continue };
        for family in families.iter().filter(|family| chain.families.contains(family)) {
            for (transport, ports) in needs.each() {
                for interface in &interfaces {
                    let packet = Packet { family: *family, transport, interface: interface.clone() };
                    let mut walker = Walker { rules, packet, passage: &mut passage };
                    let left = walker.go(name, ports.clone(), true, 0);
                    if policy == Policy::Drop && !left.is_empty() {
                        walker.block(name, None, &left);
                    }
                }
            }
        }
    }
    passage
}

struct Walker<'a> {
    rules: &'a Ruleset,
    packet: Packet,
    passage: &'a mut Passage,
}

impl Walker<'_> {
    /// Walks `ports` through a chain and gives those that nothing in it decided about. Unless it is `certain` that they
    /// get there, drops are doubts.
    fn go(&mut self, name: &ChainName, mut ports: PortSet, certain: bool, depth: usize) -> PortSet {
        let rules = self.rules;
        let Some(chain) = rules.chains.get(name).filter(|_| depth < MAX_DEPTH) else { return ports };
        let mut through = PortSet::default();
        for rule in &chain.rules {
            let (hit, sure) = match rule.test.on(&self.packet) {
                Answer::No => continue,
                Answer::Maybe(hit) => (hit.and(&ports), false),
                Answer::Yes(hit) => (hit.and(&ports), true),
            };
            if hit.is_empty() {
                continue;
            }
            let target = |chain: &String| ChainName { table: name.table.clone(), chain: chain.clone() };
            match &rule.verdict {
                Verdict::Continue => {}
                Verdict::Accept if sure => ports = ports.without(&hit),
                Verdict::Drop if sure && certain => {
                    self.block(name, Some(rule.place), &hit);
                    ports = ports.without(&hit);
                }
                Verdict::Drop => {
                    let doubt = format!("{name}: {}", rule.text);
                    if !self.passage.doubts.contains(&doubt) {
                        self.passage.doubts.push(doubt);
                    }
                    // What surely falls here was told; it goes no further.
                    ports = if sure { ports.without(&hit) } else { ports };
                }
                Verdict::Return if sure => {
                    through = through.or(&self.back(name, chain, rule.place, hit.clone(), depth));
                    ports = ports.without(&hit);
                }
                Verdict::Jump(chain) if sure => {
                    let rest = self.go(&target(chain), hit.clone(), certain, depth + 1);
                    ports = ports.without(&hit).or(&rest);
                }
                Verdict::Goto(to) if sure => {
                    let rest = self.go(&target(to), hit.clone(), certain, depth + 1);
                    through = through.or(&self.back(name, chain, rule.place, rest, depth));
                    ports = ports.without(&hit);
                }
                Verdict::Jump(chain) | Verdict::Goto(chain) => {
                    // What is decided there is decided for some callers only.
                    self.go(&target(chain), hit, false, depth + 1);
                }
                // Some callers are let in or sent back; the others go on, and so must the ports.
                Verdict::Accept | Verdict::Return => {}
            }
        }
        through.or(&ports)
    }

    /// What goes back to the chain that this one was called by, from the rule at `place`. In one that nobody called, the
    /// policy decides then, and a rule at the end of the chain would never be asked.
    fn back(&mut self, name: &ChainName, chain: &Chain, place: Place, ports: PortSet, depth: usize) -> PortSet {
        if depth > 0 || chain.policy != Some(Policy::Drop) || ports.is_empty() {
            return ports;
        }
        self.block(name, Some(place), &ports);
        PortSet::default()
    }

    fn block(&mut self, chain: &ChainName, before: Option<Place>, ports: &PortSet) {
        let point = Point { chain: chain.clone(), before };
        let needs = self.passage.blocked.entry(point).or_default();
        let known = needs.ports_mut(self.packet.transport);
        *known = known.or(ports);
    }
}

/// Whether a transport's ports are among those that a rule of ours should let in.
pub(super) fn is_needed(needs: &Needs, transports: Option<&Vec<Transport>>, ports: Option<&PortSet>) -> bool {
    match (transports.map(Vec::as_slice), ports) {
        (Some([transport]), Some(ports)) => ports.is_within(needs.ports(*transport)),
        _ => false,
    }
}
