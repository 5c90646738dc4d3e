//! Decides from when on a finding is shown and until when.
//!
//! What is wrong has to be so for a while before it is shown, and right for a while before it is gone: chance is no
//! news, and what comes and goes is one finding. While one of its causes is wrong, a finding is hidden: an operator
//! reads what to do something about. Drive it by [`Ledger::handle`] with everything that is wrong at this moment, as
//! often as that is known, and drain [`Ledger::poll_transition`].

use std::collections::{BTreeMap, VecDeque};
use std::time::{Instant, SystemTime};

use super::{Key, Raised};
use crate::control::protocol::Severity;
use crate::sys::clock::Now;

/// Transitions that may wait to be drained; more means that nobody drains.
const MAX_TRANSITIONS: usize = 256;

/// A finding that is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub raised: Raised,
    /// Since when it is wrong.
    pub since: SystemTime,
    /// What it hides, which follows from it.
    pub hides: Vec<Key>,
}

/// What changed for whoever reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// It is shown from now on, or by another severity than before.
    Raised(Shown),
    /// It is gone, or only follows from something else now.
    Cleared(Shown),
}

#[derive(Debug)]
struct Entry {
    raised: Raised,
    since: SystemTime,
    began_at: Instant,
    is_due: bool,
    /// Right again, but not for long.
    over_since: Option<Instant>,
}

/// All that is wrong, and what is shown of it.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<Key, Entry>,
    shown: BTreeMap<Key, Shown>,
    transitions: VecDeque<Transition>,
}

impl Ledger {
    /// Takes note of everything that is wrong now; of two with the same key, the worse counts.
    pub fn handle(&mut self, raised: Vec<Raised>, now: Now) {
        let mut current: BTreeMap<Key, Raised> = BTreeMap::new();
        for one in raised {
            let worse = current.get(&one.key).is_none_or(|other| rank(one.severity) > rank(other.severity));
            if worse {
                current.insert(one.key.clone(), one);
            }
        }
        self.entries.retain(|key, entry| {
            if current.contains_key(key) {
                return true;
            }
            // What was not shown yet is forgotten at once: it did not hold.
            let over_since = *entry.over_since.get_or_insert(now.mono);
            entry.is_due && now.mono.saturating_duration_since(over_since) < key.code.gone_after()
        });
        for (key, one) in current {
            let entry = self.entries.entry(key.clone()).or_insert_with(|| Entry {
                raised: one.clone(),
                since: now.wall,
                began_at: now.mono,
                is_due: false,
                over_since: None,
            });
            entry.raised = one;
            entry.over_since = None;
            entry.is_due |= now.mono.saturating_duration_since(entry.began_at) >= key.code.shown_after();
        }
        self.show();
    }

    /// What an operator reads, the worst first.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        let mut shown: Vec<Shown> = self.shown.values().cloned().collect();
        shown.sort_by_key(|one| std::cmp::Reverse(rank(one.raised.severity)));
        shown
    }

    /// The next change, in order.
    pub fn poll_transition(&mut self) -> Option<Transition> {
        self.transitions.pop_front()
    }

    /// Whether a finding is wrong, or was so a moment ago.
    #[cfg(test)]
    pub(super) fn keeps(&self, key: &Key) -> bool {
        self.entries.contains_key(key)
    }

    fn show(&mut self) {
        let mut shown = BTreeMap::new();
        for (key, entry) in self.entries.iter().filter(|(key, entry)| entry.is_due && self.cause_of(key).is_none()) {
            let hides = self.entries.keys().filter(|other| self.cause_of(other) == Some(key)).cloned().collect();
            shown.insert(key.clone(), Shown { raised: entry.raised.clone(), since: entry.since, hides });
        }
        let before = std::mem::replace(&mut self.shown, shown);
        for (key, old) in &before {
            if !self.shown.contains_key(key) {
                self.transitions.push_back(Transition::Cleared(old.clone()));
            }
        }
        for (key, new) in &self.shown {
            let is_news = before.get(key).is_none_or(|old| old.raised.severity != new.raised.severity);
            if is_news {
                self.transitions.push_back(Transition::Raised(new.clone()));
            }
        }
        while self.transitions.len() > MAX_TRANSITIONS {
            self.transitions.pop_front();
        }
    }

    /// What a finding follows from. A cause that is not shown yet hides already: it will be, or both will be gone.
    pub(super) fn cause_of(&self, key: &Key) -> Option<&Key> {
        let causes = &self.entries.get(key)?.raised.causes;
        causes.iter().find_map(|cause| self.entries.keys().find(|other| *other != key && cause.is(other)))
    }
}

fn rank(severity: Severity) -> u8 {
    match severity {
        Severity::Info => 0,
        Severity::Warning => 1,
        Severity::Error => 2,
        Severity::Critical => 3,
    }
}
