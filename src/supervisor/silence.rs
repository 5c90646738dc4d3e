//! Decides when a loop that says nothing stands still.

use std::time::Duration;

use super::policy::HANG_LIMIT;

/// How often loops are looked at.
pub(super) const LOOKED_EVERY: Duration = Duration::from_secs(1);
/// So long without a turn is a hang. With the look before and the look after, it is noticed within [`HANG_LIMIT`].
const TOO_LONG: Duration = HANG_LIMIT.saturating_sub(Duration::from_secs(2));

/// One loop, as it was seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Silence {
    count: u64,
    lasted: Duration,
}

impl Silence {
    /// A loop that has turned `count` times so far.
    #[must_use]
    pub(super) fn new(count: u64) -> Self {
        Self { count, lasted: Duration::ZERO }
    }

    /// Looks again, so long after the last look. Gives how long it has stood still, if that is too long: once for each
    /// time that it is.
    ///
    /// Time in which nobody looked hardly counts: the whole process may have been stopped, and the loops with it.
    pub(super) fn look(&mut self, count: u64, since_last: Duration) -> Option<Duration> {
        if count != self.count {
            *self = Self::new(count);
            return None;
        }
        self.lasted += since_last.min(LOOKED_EVERY * 2);
        (self.lasted >= TOO_LONG).then(|| std::mem::take(&mut self.lasted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks that pass until it is told.
    fn looks_until_told(silence: &mut Silence, count: u64) -> u32 {
        (1..).find(|_| silence.look(count, LOOKED_EVERY).is_some()).unwrap()
    }

    #[test]
    fn a_loop_that_stands_still_is_told_within_the_limit_and_again_after_it() {
        let mut silence = Silence::new(7);
        // It may have stopped right after a look, and be looked at late.
        let within = LOOKED_EVERY * (looks_until_told(&mut silence, 7) + 2);
        assert!(within <= HANG_LIMIT, "{within:?}");
        assert_eq!(looks_until_told(&mut silence, 7), looks_until_told(&mut silence, 7));
    }

    #[test]
    fn a_loop_that_turns_as_often_as_it_must_is_fine_for_ever() {
        let mut silence = Silence::new(0);
        assert!((0..100_000).all(|look| silence.look(look / 2, LOOKED_EVERY).is_none()));
    }

    #[test]
    fn a_process_that_was_stopped_for_an_hour_is_not_told_from_one_that_was_not() {
        let mut silence = Silence::new(0);
        assert_eq!(silence.look(0, Duration::from_secs(3600)), None);
        assert_eq!(silence.look(1, LOOKED_EVERY), None);
    }
}
