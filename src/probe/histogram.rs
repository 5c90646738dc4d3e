//! How long probes took: counted in buckets for collectors, and the last ones for people. Bounded.

use std::collections::VecDeque;
use std::time::Duration;

/// The upper bounds of the buckets.
pub const BOUNDS: [Duration; 12] = {
    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }
    [ms(1), ms(2), ms(5), ms(10), ms(25), ms(50), ms(100), ms(250), ms(500), ms(1000), ms(2500), ms(5000)]
};
/// Probes whose latency is kept, for an hour of one a minute.
const KEPT: usize = 60;

/// The latencies of one kind of probe. Cheap to copy about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Not more than each bound; what is more is in `count` alone.
    within: [u64; BOUNDS.len()],
    count: u64,
    failures: u64,
    sum: Duration,
    recent: VecDeque<Duration>,
}

/// What people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantiles {
    pub p50: Duration,
    pub p90: Duration,
    pub max: Duration,
}

impl Histogram {
    /// Counts one probe. One that failed took long for another reason, so its time says nothing.
    pub fn add(&mut self, took: Duration, is_fine: bool) {
        if !is_fine {
            self.failures += 1;
            return;
        }
        self.count += 1;
        self.sum += took;
        for (within, bound) in self.within.iter_mut().zip(BOUNDS) {
            *within += u64::from(took <= bound);
        }
        if self.recent.len() == KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back(took);
    }

    /// Each bound with how many took no longer.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        BOUNDS.into_iter().zip(self.within)
    }

    /// Probes that succeeded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures
    }

    #[must_use]
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// Of the last ones that succeeded; `None`: there was none.
    #[must_use]
    pub fn quantiles(&self) -> Option<Quantiles> {
        let mut sorted: Vec<Duration> = self.recent.iter().copied().collect();
        sorted.sort_unstable();
        let rank = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Quantiles { p50: rank(50)?, p90: rank(90)?, max: rank(100)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up_and_failures_are_apart() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantiles(), None);
        for ms in [1, 2, 3, 40, 7000] {
            histogram.add(Duration::from_millis(ms), true);
        }
        histogram.add(Duration::from_secs(3), false);
        let counts: Vec<u64> = histogram.buckets().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 2, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4]);
        assert_eq!((histogram.count(), histogram.failures()), (5, 1));
        let ms = Duration::from_millis;
        assert_eq!(histogram.sum(), ms(7046));
        assert_eq!(histogram.quantiles(), Some(Quantiles { p50: ms(3), p90: ms(7000), max: ms(7000) }));
    }

    #[test]
    fn only_the_last_hour_is_kept() {
        let mut histogram = Histogram::default();
        histogram.add(Duration::from_secs(9), true);
        for _ in 0..KEPT {
            histogram.add(Duration::from_millis(1), true);
        }
        assert_eq!(histogram.recent.len(), KEPT);
        assert_eq!(histogram.quantiles().unwrap().max, Duration::from_millis(1));
        assert_eq!(histogram.count(), KEPT as u64 + 1);
    }
}
