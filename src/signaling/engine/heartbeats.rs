//! Decides when which session is due to be asked, or to have answered.
//!
//! Those that are due within a moment are due together: what a heartbeat costs is mostly waking up for it, and memory
//! that nobody has looked at since the last one. Hundreds at a time cost a third of what each would alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::sys::turns::TURN_EVERY;

/// How far moments are put off at most, to be one with others, and with the turn of a loop that rests.
const MOMENT: Duration = TURN_EVERY;

/// What is due when.
#[derive(Debug)]
pub(super) struct Heartbeats<T> {
    origin: Instant,
    due: BTreeMap<Beat, T>,
    inserted: u64,
}

/// The number of a moment, and a number of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Beat(u32, u64);

impl<T> Heartbeats<T> {
    /// Moments are whole numbers of their length from `origin`; what is due before is due then.
    pub(super) fn new(origin: Instant) -> Self {
        Self { origin, due: BTreeMap::new(), inserted: 0 }
    }

    /// Not before `at`. Gives what it can be removed by.
    pub(super) fn insert(&mut self, at: Instant, what: T) -> Beat {
        let number = at.saturating_duration_since(self.origin).as_nanos().div_ceil(MOMENT.as_nanos());
        // Those of centuries fit.
        let beat = Beat(u32::try_from(number).unwrap_or(u32::MAX), self.inserted);
        self.inserted += 1;
        self.due.insert(beat, what);
        beat
    }

    /// Forgets what has not been due yet.
    pub(super) fn remove(&mut self, beat: Beat) {
        self.due.remove(&beat);
    }

    /// When something is due next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due.first_key_value().map(|(Beat(number, _), _)| self.origin + MOMENT * *number)
    }

    /// What is due at `now` or was before, and since when. To be asked until nothing is.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Instant, T)> {
        let at = self.poll_timeout().filter(|at| *at <= now)?;
        self.due.pop_first().map(|(_, what)| (at, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;

    #[test]
    fn what_is_due_within_a_moment_is_due_together_and_never_early() {
        let start = clock::now().mono;
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut beats = Heartbeats::new(start);
        assert_eq!(beats.poll_timeout(), None);
        beats.insert(at(9500), 'e');
        let gone = beats.insert(at(3000), 'x');
        for (due, what) in [(2001, 'b'), (2000, 'a'), (4000, 'c')] {
            beats.insert(at(due), what);
        }
        beats.remove(gone);
        assert_eq!(beats.poll_timeout(), Some(at(2000)));
        assert_eq!(beats.pop(at(1999)), None);
        assert_eq!(beats.pop(at(2000)), Some((at(2000), 'a')));
        assert_eq!(beats.pop(at(2000)), None);
        let rest: Vec<_> = std::iter::from_fn(|| beats.pop(at(20_000))).collect();
        assert_eq!(rest, [(at(4000), 'b'), (at(4000), 'c'), (at(10_000), 'e')], "and how late it is can be seen");
        assert_eq!(beats.poll_timeout(), None);
    }
}
