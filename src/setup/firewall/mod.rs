//! The host's own firewall: what filters is looked at, what has to be done is decided and shown as commands, then done.
//!
//! Every layer that filters must let a caller through, so each has a plan of its own: [`firewalld`] and [`ufw`] by their
//! own tools, [`nftables`] and [`iptables`] by a rule in the chain that decides, which `walk` finds. Rules of ours are
//! known by their name ([`Home::tag`]), so that a second run finds nothing to do, a run that was killed is completed by the
//! next, and everything of ours goes by a plan that needs nothing. Nothing is ever flushed, restarted, enabled or
//! forbidden: the only change is that more is let in, or that less of ours is.
//!
//! The clouds' own groups are outside the host; `rtcctl ports` has the commands for them.

mod act;
mod change;
pub mod confirm;
mod detect;
pub mod firewalld;
pub mod iptables;
mod model;
mod needs;
mod nft_json;
pub mod nftables;
mod part;
mod record;
pub mod tools;
pub mod ufw;
mod walk;

use std::collections::BTreeSet;

pub use act::carry_out;
pub use change::Change;
pub use detect::detect;
pub use needs::Needs;
pub use part::{Layer, Part};
pub use record::Record;
pub use tools::Tool;

use crate::error::{Failure, Kind, Result};
use crate::home::Home;
use crate::sys::lock::{Lock, Refused};
use crate::sys::net::Family;
use crate::sys::{exec, fault};
use crate::text;
use crate::words::Text;
use part::Wanted;

/// One for the whole host: two homes must not change its rules at once.
const LOCK_FILE: &str = "/run/rtcctl-firewall.lock";

/// What filters on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detected {
    pub firewalld: Option<firewalld::Facts>,
    pub ufw: Option<ufw::Facts>,
    pub nftables: Option<nftables::Facts>,
    pub iptables: Vec<iptables::Facts>,
    /// Rules of both kinds of iptables filter at once.
    pub mixed: bool,
    pub interfaces: Vec<String>,
    pub record: Record,
    pub notes: Vec<Text>,
}

/// What has to be done, layer by layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Layers that filter, or that have rules of ours.
    pub parts: Vec<Part>,
    /// What rules drop that are left alone: an operator's own ones among those of a manager.
    pub beyond: Needs,
    /// Why nothing is done, though something would have to be.
    pub refusal: Option<Text>,
    /// What has to be written down before the first change.
    pub record: Record,
    pub notes: Vec<Text>,
}

impl Plan {
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.parts.iter().flat_map(|part| &part.changes)
    }

    /// What does not get through now, whether that can be changed here or not.
    #[must_use]
    pub fn closed(&self) -> Needs {
        self.parts.iter().fold(self.beyond.clone(), |all, part| all.or(&part.closed))
    }
}

/// Decides what has to be done so that `needs` get through, and nothing else by rules of ours. With no needs, everything
/// of ours goes.
#[must_use]
pub fn plan(detected: &Detected, needs: &Needs, tag: &str) -> Plan {
    let families = [Family::V4, Family::V6];
    let wanted = Wanted { needs, tag, families: &families, interfaces: &detected.interfaces };
    let mut plan = Plan { notes: detected.notes.clone(), record: detected.record.clone(), ..Plan::default() };
    plan.record.needs = needs.clone();
    if let Some(facts) = &detected.firewalld {
        plan.parts.push(firewalld::plan(facts, &wanted));
        plan.record.firewalld_added = firewalld::added_after(facts, &wanted);
        plan.record.firewalld_made = firewalld::made_files_after(facts, &wanted);
    }
    plan.parts.extend(detected.ufw.as_ref().map(|facts| ufw::plan(facts, &wanted)));
    let active_ufw = detected.ufw.as_ref().filter(|ufw| ufw.is_active);
    let managed = active_ufw.is_some() || is_of_firewalld(detected);
    if let Some(facts) = &detected.nftables {
        plan.parts.push(nftables::plan(facts, &wanted));
    }
    for facts in &detected.iptables {
        let mut part = iptables::plan(facts, &wanted);
        if managed {
            // These rules are the manager's. That an operator's own one among them drops is told, not changed.
            let is_new = |needs: &Needs| plan.parts.iter().all(|part| part.closed.is_empty()) && !needs.is_empty();
            // That ufw drops a whole family is told by itself.
            let is_told = facts.family == Family::V6 && active_ufw.is_some_and(|ufw| !ufw.has_ipv6);
            if is_new(&part.closed) && !is_told {
                plan.notes.push(text!("{} drops {} besides", part.layer.as_str(), part.closed));
                plan.beyond = plan.beyond.or(&part.closed);
            }
            continue;
        }
        part.changes.sort_by_key(|change| matches!(change, Change::Write { .. }));
        plan.parts.push(part);
    }
    if detected.mixed && plan.parts.iter().any(|part| !part.changes.is_empty()) {
        plan.refusal = Some(text!("rules of both iptables-nft and iptables-legacy filter on this host"));
    }
    plan.parts.retain(|part| !part.changes.is_empty() || is_active(part, detected));
    plan
}

/// Whether a layer is worth a word though nothing has to be done.
fn is_active(part: &Part, detected: &Detected) -> bool {
    match part.layer {
        Layer::Firewalld => true,
        Layer::Ufw => detected.ufw.as_ref().is_some_and(|ufw| ufw.is_active),
        Layer::Nftables => detected.nftables.as_ref().is_some_and(|facts| {
            facts.rules.chains.values().any(|chain| {
                chain.policy.is_some_and(|policy| policy == model::Policy::Drop || !chain.rules.is_empty())
            })
        }),
        Layer::Iptables | Layer::Ip6tables => detected.iptables.iter().any(|facts| {
            let is_this = (facts.family == Family::V4) == (part.layer == Layer::Iptables);
            let filters = |chain: &model::Chain| {
                chain.policy.is_some_and(|policy| policy == model::Policy::Drop || !chain.rules.is_empty())
            };
            is_this && facts.rules.chains.values().any(filters)
        }),
    }
}

/// Whether the rules of iptables are those that firewalld has made.
fn is_of_firewalld(detected: &Detected) -> bool {
    let theirs = |facts: &iptables::Facts| facts.rules.chains.keys().any(|name| name.chain.starts_with("INPUT_ZONES"));
    detected.firewalld.is_some() && detected.iptables.iter().any(theirs)
}

/// Something about the firewall that is not as the configuration needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drift {
    /// These ports are needed, and this layer drops them.
    Closed { layer: Layer, ports: Needs },
    /// These are let in by a rule of ours, and not needed any more.
    Leftover { layer: Layer, ports: Needs },
    /// A restart of the machine loses what is open now.
    NotKept { layer: Layer, why: Text },
}

/// Compares what filters with what is needed.
#[must_use]
pub fn drift(detected: &Detected, needs: &Needs, tag: &str) -> Vec<Drift> {
    let mut found = Vec::new();
    for Part { layer, closed, leftover, not_kept, .. } in plan(detected, needs, tag).parts {
        if !closed.is_empty() {
            found.push(Drift::Closed { layer, ports: closed });
        }
        if !leftover.is_empty() {
            found.push(Drift::Leftover { layer, ports: leftover });
        }
        found.extend(not_kept.map(|why| Drift::NotKept { layer, why }));
    }
    found
}

/// Makes the firewall let `needs` in; nothing: takes out everything of ours. `told` hears of each change before it is
/// made. Gives what was done.
///
/// # Errors
/// `Kind::RolledBack` if a change fails: what was open before is open again, and nothing else.
pub fn settle(home: &Home, needs: &Needs, told: &mut dyn FnMut(&Change)) -> Result<Plan> {
    detect::sweep(&home.tag());
    let plan = plan(&detect(home)?, needs, &home.tag());
    carry(home, needs, plan, told)
}

/// As [`settle`], if that takes these changes and no others.
///
/// # Errors
/// As [`settle`]; if others have changed rules since.
pub fn settle_as_shown(home: &Home, needs: &Needs, shown: &[Change]) -> Result<()> {
    detect::sweep(&home.tag());
    let plan = plan(&detect(home)?, needs, &home.tag());
    if !plan.changes().eq(shown) {
        return Err(Failure::operator(text!("the firewall is not as it was when this plan was made"))
            .because(text!("something else has changed its rules since"))
            .hinted(text!("run `rtcctl init` again")));
    }
    carry(home, needs, plan, &mut |_| {}).map(drop)
}

fn carry(home: &Home, needs: &Needs, plan: Plan, told: &mut dyn FnMut(&Change)) -> Result<Plan> {
    let before = Record::load(home);
    if let Some(refusal) = &plan.refusal {
        return Err(Failure::operator(refusal)
            .because(text!("a rule in one of them may open nothing, and both are never touched"))
            .hinted(text!("move to one of them, or run the commands that `rtcctl firewall plan` shows by hand")));
    }
    if plan.changes().next().is_none() {
        // Nothing is written down where nothing was done; but what a run that was killed wrote down is corrected.
        if needs.is_empty() || before != Record::default() {
            finish(home, needs, &plan.record)?;
        }
        return Ok(plan);
    }
    // Before the first change, so that a run that is killed is known to have begun.
    plan.record.save(home)?;
    fault::moment("firewall");
    let done = plan
        .changes()
        .try_for_each(|change| {
            told(change);
            carry_out(change)?;
            fault::moment("firewall");
            Ok(())
        })
        .and_then(|()| verify(home, needs));
    if let Err(failure) = done {
        return Err(take_back(home, &before.needs, failure));
    }
    finish(home, needs, &plan.record).map(|()| plan)
}

fn finish(home: &Home, needs: &Needs, record: &Record) -> Result<()> {
    if needs.is_empty() { Record::forget(home) } else { record.save(home) }
}

/// Looks again: what was done must leave nothing to do.
fn verify(home: &Home, needs: &Needs) -> Result<()> {
    let again = plan(&detect(home)?, needs, &home.tag());
    match again.changes().next() {
        None => Ok(()),
        Some(change) => Err(Failure::operator(text!("the firewall does not hold what was set"))
            .because(text!("`{}` would still have to be done", change))
            .hinted(text!("something else changes its rules at the same time; try again"))),
    }
}

fn take_back(home: &Home, before: &Needs, failure: Failure) -> Failure {
    let undone = detect(home).and_then(|detected| {
        let back = plan(&detected, before, &home.tag());
        let made: Vec<Failure> = back.changes().filter_map(|change| carry_out(change).err()).collect();
        match made.into_iter().next() {
            Some(failure) => Err(failure),
            None => finish(home, before, &back.record),
        }
    });
    let told = failure.told();
    let mut hints = failure.hints().to_vec();
    hints.extend(undone.as_ref().err().into_iter().flat_map(|worse| worse.hints().to_vec()));
    let whole = match undone {
        Ok(()) => {
            Failure::new(Kind::RolledBack, text!("the firewall could not be changed; it is as it was")).because(told)
        }
        Err(worse) => {
            Failure::operator(text!("the firewall could not be changed, and not all of it could be taken back"))
                .because(told)
                .because(worse.told())
                .hinted(text!("see `rtcctl firewall status`, then run `rtcctl firewall close`"))
        }
    };
    hints.into_iter().fold(whole, Failure::hinted)
}

/// Keeps every other run of this host from changing rules.
///
/// # Errors
/// `Kind::Locked` if another one is at it, `Kind::NeedsRoot` if this is not root.
pub fn lock(home: &Home, command: &str) -> Result<Lock> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new(Kind::NeedsRoot, text!("`rtcctl firewall {}` needs root", command))
            .hinted(text!("run `sudo rtcctl{} firewall {}`", home.flag(), command))
            .hinted(text!("see what can be told without: `rtcctl{} firewall plan`", home.flag())));
    }
    Lock::take(std::path::Path::new(LOCK_FILE)).map_err(|refused| match refused {
        Refused::Held(pid) => {
            let who = pid.map_or_else(Text::default, |pid| text!(" (pid {})", pid));
            Failure::new(Kind::Locked, text!("another run of rtcctl changes the firewall{}", who))
                .hinted(text!("wait for its end, then try again"))
        }
        Refused::Io(error) => Failure::operator(text!("cannot lock `{}`", LOCK_FILE)).caused_by(error),
    })
}

/// Tools that are on this host, whether they filter or not.
#[must_use]
pub fn installed() -> BTreeSet<Tool> {
    Tool::ALL.into_iter().filter(|tool| exec::is_there(tool.program())).collect()
}
