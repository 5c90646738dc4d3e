//! When frames for stream clients wait for others to the same client.
//!
//! Writing to a stream costs more than anything else in its shard, however little is written. While the thread has
//! time to spare that is no matter, and a frame that waited would be late for nothing. Once it works most of the time,
//! packets queue anyway, and those that come meanwhile may as well go by the same write: if there are such.

use std::time::{Duration, Instant};

/// The longest that a frame waits.
const HELD_FOR: Duration = Duration::from_millis(2);
/// Over how long it is judged.
const WINDOW: Duration = Duration::from_millis(10);
/// Per cent of its time that the thread works, from which on frames are held.
const BUSY: u128 = 60;
/// And under which they are no more. Lower, since holding itself makes less work.
const AT_EASE: u128 = 30;
/// Frames in ten writes that make it worth while.
const WORTH: u64 = 14;
/// When it is tried again after it was not.
const TRIED_AGAIN: Duration = Duration::from_secs(1);

/// Decides by how much of its time the thread works, and by what holding has brought.
#[derive(Debug)]
pub(super) struct Hold {
    is_on: bool,
    tried_from: Instant,
    held_since: Option<Instant>,
    began_at: Instant,
    /// These count since `began_at`.
    rested: Duration,
    frames: u64,
    writes: u64,
}

impl Hold {
    pub(super) fn new(now: Instant) -> Self {
        let (rested, frames, writes) = (Duration::ZERO, 0, 0);
        Self { is_on: false, tried_from: now, held_since: None, began_at: now, rested, frames, writes }
    }

    /// The thread waited, for so long.
    pub(super) fn handle_rest(&mut self, rested: Duration) {
        self.rested += rested;
    }

    /// All that waited was written: so many frames by so many writes.
    pub(super) fn handle_written(&mut self, frames: u64, writes: u64, now: Instant) {
        self.held_since = None;
        self.frames += frames;
        self.writes += writes;
        let elapsed = now.saturating_duration_since(self.began_at);
        if elapsed < WINDOW {
            return;
        }
        let busy = 100 - self.rested.min(elapsed).as_micros() * 100 / elapsed.as_micros();
        if !self.is_on {
            self.is_on = busy >= BUSY && now >= self.tried_from;
        } else if busy < AT_EASE {
            self.is_on = false;
        } else if self.frames * 10 < self.writes * WORTH {
            self.is_on = false;
            self.tried_from = now + TRIED_AGAIN;
        }
        (self.began_at, self.rested, self.frames, self.writes) = (now, Duration::ZERO, 0, 0);
    }

    /// Whether what waits may wait for what is read next.
    pub(super) fn may_hold(&mut self, now: Instant) -> bool {
        self.is_on && now < *self.held_since.get_or_insert(now) + HELD_FOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;

    struct Sim {
        hold: Hold,
        now: Instant,
    }

    impl Sim {
        fn new() -> Self {
            let now = clock::now().mono;
            Self { hold: Hold::new(now), now }
        }

        /// A millisecond, of which the thread works `busy` hundredths; then `frames` are written in `writes`, unless
        /// they wait. Gives whether they do.
        fn step(&mut self, busy: u32, frames: u64, writes: u64) -> bool {
            let step = Duration::from_millis(1);
            self.now += step;
            self.hold.handle_rest(step * (100 - busy) / 100);
            let waits = self.hold.may_hold(self.now);
            if !waits {
                self.hold.handle_written(frames, writes, self.now);
            }
            waits
        }

        fn held_of_a_hundred(&mut self, busy: u32, frames: u64, writes: u64) -> usize {
            (0..100).filter(|_| self.step(busy, frames, writes)).count()
        }
    }

    #[test]
    fn a_thread_with_time_to_spare_writes_at_once() {
        assert_eq!(Sim::new().held_of_a_hundred(50, 20, 10), 0);
    }

    #[test]
    fn a_busy_thread_holds_frames_for_two_milliseconds() {
        let mut sim = Sim::new();
        assert!(sim.held_of_a_hundred(80, 20, 10) > 50);
        let mut longest = 0;
        for _ in 0..20 {
            let run = (0..10).take_while(|_| sim.step(80, 20, 10)).count();
            longest = longest.max(run);
        }
        assert_eq!(longest, 2);
    }

    #[test]
    fn holding_what_nothing_joins_is_tried_once_a_second() {
        let mut sim = Sim::new();
        let held: usize = (0..30).map(|_| sim.held_of_a_hundred(90, 12, 10)).sum();
        assert!((3..=40).contains(&held), "{held} of 3000");
    }

    #[test]
    fn it_ends_at_a_lower_load_than_it_begins() {
        let mut sim = Sim::new();
        sim.held_of_a_hundred(70, 20, 10);
        assert!(sim.held_of_a_hundred(40, 20, 10) > 50);
        sim.held_of_a_hundred(20, 20, 10);
        assert_eq!(sim.held_of_a_hundred(40, 20, 10), 0);
    }
}
