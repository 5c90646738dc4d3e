//! How long a connection may stay: until it should have said something, then until it should have an allocation.

use std::time::{Duration, Instant};

/// How long a client may take to its first whole message.
const FIRST_MESSAGE_WITHIN: Duration = Duration::from_secs(10);
/// How long a client may stay without an allocation. It is looked at no more often than that.
const ALLOCATION_WITHIN: Duration = Duration::from_secs(60);

/// The patience with one connection.
#[derive(Debug)]
pub(super) struct Patience {
    due_at: Instant,
    has_spoken: bool,
}

impl Patience {
    pub(super) fn new(now: Instant) -> Self {
        Self { due_at: now + FIRST_MESSAGE_WITHIN, has_spoken: false }
    }

    /// The client has said a whole message.
    pub(super) fn handle_message(&mut self, now: Instant) {
        if !self.has_spoken {
            *self = Self { due_at: now + ALLOCATION_WITHIN, has_spoken: true };
        }
    }

    /// Whether the connection may stay. It is asked for an allocation only when it is due.
    pub(super) fn may_stay(&mut self, has_allocation: impl FnOnce() -> bool, now: Instant) -> bool {
        if now < self.due_at {
            return true;
        }
        self.due_at = now + ALLOCATION_WITHIN;
        has_allocation()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;

    const SECOND: Duration = Duration::from_secs(1);

    /// Row S5.
    /// Case 23.
    #[test]
    fn who_says_nothing_whole_has_ten_seconds() {
        let now = clock::now().mono;
        let mut patience = Patience::new(now);
        assert!(patience.may_stay(|| false, now + 9 * SECOND));
        assert!(!patience.may_stay(|| false, now + 10 * SECOND));
    }

    /// Row S5.
    #[test]
    fn who_has_spoken_has_a_minute_for_an_allocation_and_stays_with_it() {
        let now = clock::now().mono;
        let mut patience = Patience::new(now);
        patience.handle_message(now + 5 * SECOND);
        patience.handle_message(now + 50 * SECOND);
        assert!(patience.may_stay(|| false, now + 64 * SECOND));
        assert!(patience.may_stay(|| true, now + 65 * SECOND));
        assert!(patience.may_stay(|| true, now + 200 * SECOND));
        assert!(patience.may_stay(|| false, now + 259 * SECOND));
        assert!(!patience.may_stay(|| false, now + 260 * SECOND));
    }
}
