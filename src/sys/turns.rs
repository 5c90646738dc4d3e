//! When loops that have nothing to do turn: all at the same moment. What wakes one has the processor awake and the
//! caches warm for the others, and a host with no call on it sleeps in between.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The longest that a loop rests, so that one with nothing to do still shows that it lives.
pub const TURN_EVERY: Duration = Duration::from_secs(2);

/// How long a loop may rest that has nothing to do at `now`.
#[must_use]
pub fn until_next(now: Instant) -> Duration {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    left(now.saturating_duration_since(*ORIGIN.get_or_init(|| now)))
}

/// What is left of a period that began a multiple of it ago.
fn left(since: Duration) -> Duration {
    let period = TURN_EVERY.as_nanos();
    let into_it = u64::try_from(since.as_nanos() % period).expect("less than a period");
    TURN_EVERY - Duration::from_nanos(into_it)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;

    #[test]
    fn loops_that_come_to_rest_at_different_times_turn_at_the_same() {
        let start = clock::now().mono;
        // Another test may have asked before.
        let first = start + until_next(start);
        for millis in [1, 700, 1999] {
            let at = first + Duration::from_millis(millis);
            assert_eq!(at + until_next(at), first + TURN_EVERY);
        }
        assert_eq!(until_next(first), TURN_EVERY, "a loop that has just turned rests for a whole period");
    }
}
