//! What can only be told from one moment to the next: a clock that was set, and how much was counted lately.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use crate::sys::clock::Now;

/// A clock that is kept by the network is moved by less.
const JUMP: Duration = Duration::from_secs(10);
/// How long a jump is told.
const TOLD_FOR: Duration = Duration::from_secs(600);
/// Samples of a count that are kept.
const MAX_SAMPLES: usize = 256;

/// Compares how far both clocks get.
#[derive(Debug, Default)]
pub struct ClockWatch {
    last: Option<Now>,
    jump: Option<(i64, Instant)>,
}

impl ClockWatch {
    /// Takes note of a moment; gives the seconds of the last jump, for a while.
    pub fn handle(&mut self, now: Now) -> Option<i64> {
        if let Some(last) = self.last.replace(now) {
            let expected = last.wall + now.mono.saturating_duration_since(last.mono);
            let seconds = difference(expected, now.wall);
            if seconds.unsigned_abs() >= JUMP.as_secs() {
                self.jump = Some((seconds, now.mono));
            }
        }
        self.jump = self.jump.filter(|(_, at)| now.mono.saturating_duration_since(*at) < TOLD_FOR);
        self.jump.map(|(seconds, _)| seconds)
    }
}

fn difference(expected: SystemTime, seen: SystemTime) -> i64 {
    let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    match seen.duration_since(expected) {
        Ok(ahead) => seconds(ahead),
        Err(behind) => -seconds(behind.duration()),
    }
}

/// How much a count grew within a window.
#[derive(Debug)]
pub struct Lately {
    window: Duration,
    samples: VecDeque<(Instant, u64)>,
}

impl Lately {
    #[must_use]
    pub fn within(window: Duration) -> Self {
        Self { window, samples: VecDeque::new() }
    }

    /// Takes note of the count; gives its growth. What was before the first note is no growth.
    pub fn handle(&mut self, count: u64, now: Instant) -> u64 {
        // The one at the window's begin stays, to count from.
        while self.samples.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= self.window) {
            self.samples.pop_front();
        }
        if self.samples.back().is_none_or(|(_, last)| *last != count) {
            if self.samples.len() == MAX_SAMPLES {
                self.samples.pop_front();
            }
            self.samples.push_back((now, count));
        }
        let before = self.samples.front().map_or(count, |(_, before)| *before);
        if self.samples.len() == 1 { 0 } else { count.saturating_sub(before) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;

    const STEP: Duration = Duration::from_secs(5);

    #[test]
    fn a_clock_that_is_set_is_told_for_ten_minutes_and_a_drift_is_not() {
        let mut watch = ClockWatch::default();
        let mut now = clock::now();
        for _ in 0..10 {
            now = Now { mono: now.mono + STEP, wall: now.wall + STEP + Duration::from_millis(200) };
            assert_eq!(watch.handle(now), None);
        }
        now = Now { mono: now.mono + STEP, wall: now.wall - Duration::from_secs(3600) };
        assert_eq!(watch.handle(now), Some(-3605));
        now = Now { mono: now.mono + STEP, wall: now.wall + STEP + Duration::from_secs(3600) };
        assert_eq!(watch.handle(now), Some(3600), "and set right again");
        now = Now { mono: now.mono + TOLD_FOR, wall: now.wall + TOLD_FOR };
        assert_eq!(watch.handle(now), None);
    }

    #[test]
    fn growth_counts_for_as_long_as_the_window() {
        let mut lately = Lately::within(Duration::from_secs(60));
        let start = clock::now().mono;
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(lately.handle(100, at(0)), 0, "from before");
        assert_eq!(lately.handle(103, at(10)), 3);
        assert_eq!(lately.handle(104, at(20)), 4);
        assert_eq!(lately.handle(104, at(69)), 4);
        assert_eq!(lately.handle(104, at(71)), 1);
        assert_eq!(lately.handle(104, at(200)), 0);
        assert_eq!(lately.handle(2, at(210)), 0, "a count that began anew");
    }

    #[test]
    fn its_memory_is_bounded() {
        let mut lately = Lately::within(Duration::from_secs(3600));
        let start = clock::now().mono;
        for step in 0..10_000_u64 {
            lately.handle(step, start + Duration::from_millis(step));
        }
        assert!(lately.samples.len() <= MAX_SAMPLES);
    }
}
