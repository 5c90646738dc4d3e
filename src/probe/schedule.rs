//! Decides which probe is due: each by its own period, spread in time, and never quite at the same distance.

use std::time::{Duration, Instant};

use rand::{Rng, RngExt as _};

/// By how much of its period a probe may come earlier or later: what happens at the same distance always meets, or
/// always misses, what else happens regularly.
const JITTER: f64 = 0.1;

/// Within what time all of them have been made once.
const FIRST_WITHIN: Duration = Duration::from_secs(10);

/// When each of the probes is due, by its number.
#[derive(Debug)]
pub struct Schedule {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    period: Duration,
    due: Instant,
}

impl Schedule {
    /// The first time comes soon, since nothing is known yet, one after the other: together they would be a burst.
    #[must_use]
    pub fn new(periods: &[Duration], now: Instant) -> Self {
        let count = u32::try_from(periods.len().max(1)).unwrap_or(u32::MAX);
        let spread = |period: Duration| period.min(FIRST_WITHIN);
        let entry =
            |(place, period): (u32, &Duration)| Entry { period: *period, due: now + spread(*period) * place / count };
        Self { entries: (1..).zip(periods).map(entry).collect() }
    }

    /// The number of a probe to be made now, which is due again a period later.
    pub fn poll_due(&mut self, now: Instant, rng: &mut impl Rng) -> Option<usize> {
        let due = |(_, entry): &(usize, &Entry)| entry.due <= now;
        let (number, _) = self.entries.iter().enumerate().filter(due).min_by_key(|(_, entry)| entry.due)?;
        let entry = &mut self.entries[number];
        entry.due = now + entry.period.mul_f64(rng.random_range(1.0 - JITTER..=1.0 + JITTER));
        Some(number)
    }

    /// Has a probe made again soon: what failed may be chance.
    pub fn hasten(&mut self, number: usize, due: Instant) {
        if let Some(entry) = self.entries.get_mut(number) {
            entry.due = entry.due.min(due);
        }
    }

    /// When [`Schedule::poll_due`] has something.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.entries.iter().map(|entry| entry.due).min()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;
    use crate::sys::clock;

    #[test]
    fn each_probe_comes_once_a_period_and_no_two_at_once() {
        let start = clock::now().mono;
        let mut rng = StdRng::seed_from_u64(3);
        let periods = [15, 15, 60, 60, 60].map(Duration::from_secs);
        let mut schedule = Schedule::new(&periods, start);
        let mut times = vec![Vec::new(); periods.len()];
        let mut now = start;
        while now < start + Duration::from_secs(3600) {
            now = schedule.poll_timeout().unwrap();
            let number = schedule.poll_due(now, &mut rng).unwrap();
            assert_eq!(schedule.poll_due(now, &mut rng), None, "two at once");
            times[number].push(now);
        }
        for (times, period) in times.iter().zip(periods) {
            assert!(times[0] <= start + FIRST_WITHIN.min(period));
            let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(gaps.iter().all(|gap| *gap >= period.mul_f64(0.9) && *gap <= period.mul_f64(1.1)));
            assert!(gaps.windows(2).any(|pair| pair[0] != pair[1]), "no jitter");
        }
    }

    #[test]
    fn a_late_loop_makes_up_for_nothing() {
        let start = clock::now().mono;
        let mut rng = StdRng::seed_from_u64(3);
        let mut schedule = Schedule::new(&[Duration::from_secs(15)], start);
        let late = start + Duration::from_secs(600);
        assert_eq!(schedule.poll_due(late, &mut rng), Some(0));
        assert_eq!(schedule.poll_due(late, &mut rng), None);
        assert_eq!(Schedule::new(&[], start).poll_timeout(), None);
    }
}
