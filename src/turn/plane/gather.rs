//! When a worker naps before it looks for packets again.
//!
//! At a few ten thousand packets a second most of the cost is being woken for each of them. A worker that naps for a
//! moment instead finds several packets at once, at the price of that moment. It naps only while packets come fast
//! enough to gather, and not while it has more to do than it gets done, where naps would cost throughput.

use std::time::{Duration, Instant};

/// How long a nap is. Packets wait for up to as long, so a round trip takes about twice as much longer.
const NAP: Duration = Duration::from_micros(100);
/// Over how long the rate is taken.
const WINDOW: Duration = Duration::from_millis(10);
/// Arrivals a second from which on it naps: more than one in each nap.
const FAST: u64 = 14_000;
/// Arrivals a second under which it does so no more. Lower, so that it does not go to and fro.
const SLOW: u64 = 9_000;

/// How to wait for what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Until something comes.
    Sleep,
    /// For this long, then see what has come.
    Nap(Duration),
    /// Not at all if something is there, else as in [`Rest::Nap`].
    LookThenNap(Duration),
}

/// Decides by how many packets come how fast.
#[derive(Debug, Clone)]
pub(super) struct Gather {
    is_allowed: bool,
    is_on: bool,
    began_at: Instant,
    /// Since `began_at`.
    arrivals: u64,
    last_batch: u64,
    /// How many arrive during a nap, going by the last window.
    in_a_nap: u64,
}

impl Gather {
    pub(super) fn new(is_allowed: bool, now: Instant) -> Self {
        Self { is_allowed, is_on: false, began_at: now, arrivals: 0, last_batch: 0, in_a_nap: 0 }
    }

    pub(super) fn set_allowed(&mut self, is_allowed: bool) {
        self.is_allowed = is_allowed;
        self.is_on &= is_allowed;
    }

    /// A batch was read; `arrivals` counts what came in one piece as one, since it costs one wake-up at most.
    pub(super) fn handle_batch(&mut self, arrivals: usize, now: Instant) {
        self.last_batch = arrivals as u64;
        self.arrivals += self.last_batch;
        let elapsed = now.saturating_duration_since(self.began_at);
        if elapsed < WINDOW {
            return;
        }
        let nanoseconds = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX).max(1);
        let rate = self.arrivals.saturating_mul(1_000_000_000) / nanoseconds;
        self.is_on = self.is_allowed && rate >= if self.is_on { SLOW } else { FAST };
        self.in_a_nap = rate * NAP.as_micros() as u64 / 1_000_000;
        self.began_at = now;
        self.arrivals = 0;
    }

    /// How to wait now.
    pub(super) fn rest(&self) -> Rest {
        if !self.is_on {
            Rest::Sleep
        } else if self.last_batch <= 2 * self.in_a_nap {
            // As much as came during a nap and while it was dealt with.
            Rest::Nap(NAP)
        } else {
            // More than the rate explains: there may be a queue.
            Rest::LookThenNap(NAP)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;

    /// Gives `a_second` packets in batches of `batch` for a tenth of a second.
    fn feed(gather: &mut Gather, now: &mut Instant, a_second: u32, batch: u32) {
        for _ in 0..a_second / batch / 10 {
            *now += Duration::from_secs(1) * batch / a_second;
            gather.handle_batch(batch as usize, *now);
        }
    }

    fn start() -> (Gather, Instant) {
        let now = clock::now().mono;
        (Gather::new(true, now), now)
    }

    #[test]
    fn packets_that_come_fast_one_by_one_are_gathered() {
        let (mut gather, mut now) = start();
        assert_eq!(gather.rest(), Rest::Sleep);
        feed(&mut gather, &mut now, 40_000, 1);
        assert_eq!(gather.rest(), Rest::Nap(NAP));
        // What came during a nap, and while that was dealt with, is no queue.
        feed(&mut gather, &mut now, 40_000, 8);
        assert_eq!(gather.rest(), Rest::Nap(NAP));
    }

    #[test]
    fn nothing_is_gathered_at_a_low_rate_or_when_idle() {
        let (mut gather, mut now) = start();
        feed(&mut gather, &mut now, 5_000, 1);
        assert_eq!(gather.rest(), Rest::Sleep);
        feed(&mut gather, &mut now, 40_000, 4);
        now += Duration::from_secs(1);
        gather.handle_batch(1, now);
        assert_eq!(gather.rest(), Rest::Sleep);
    }

    #[test]
    fn it_begins_at_a_higher_rate_than_it_ends() {
        let (mut gather, mut now) = start();
        feed(&mut gather, &mut now, 12_000, 1);
        assert_eq!(gather.rest(), Rest::Sleep);
        feed(&mut gather, &mut now, 15_000, 1);
        assert_ne!(gather.rest(), Rest::Sleep);
        feed(&mut gather, &mut now, 12_000, 1);
        assert_ne!(gather.rest(), Rest::Sleep);
        feed(&mut gather, &mut now, 8_000, 1);
        assert_eq!(gather.rest(), Rest::Sleep);
    }

    #[test]
    fn a_worker_with_a_queue_looks_before_it_naps() {
        let (mut gather, mut now) = start();
        feed(&mut gather, &mut now, 200_000, 64);
        assert_eq!(gather.rest(), Rest::LookThenNap(NAP));
    }

    #[test]
    fn low_latency_never_naps() {
        let (mut gather, mut now) = start();
        gather.set_allowed(false);
        feed(&mut gather, &mut now, 40_000, 1);
        assert_eq!(gather.rest(), Rest::Sleep);
        gather.set_allowed(true);
        feed(&mut gather, &mut now, 40_000, 1);
        assert_ne!(gather.rest(), Rest::Sleep);
        gather.set_allowed(false);
        assert_eq!(gather.rest(), Rest::Sleep);
    }
}
