//! How busy the machine is: bounds are meant for one that has a processor to spare.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::now;

/// How often it is measured.
const EVERY: Duration = Duration::from_millis(250);
/// Beyond that, nothing is said about the service any more.
const MOST: f64 = 20.0;

/// Measures how long a piece of work takes that is always the same. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine {
    taken: Arc<Mutex<Vec<(Instant, Duration)>>>,
}

impl Machine {
    /// Measures as long as the process lives.
    pub(crate) fn watch() -> Self {
        let machine = Self::default();
        let own = machine.clone();
        thread::spawn(move || {
            loop {
                let taken = piece_of_work();
                own.taken.lock().unwrap_or_else(PoisonError::into_inner).push((now(), taken));
                thread::park_timeout(EVERY);
            }
        });
        machine
    }

    /// How many times slower than at its best it was between two moments, on the whole.
    pub(crate) fn slowness(&self, from: Instant, to: Instant) -> f64 {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        slowness(&taken, from, to)
    }
}

fn slowness(taken: &[(Instant, Duration)], from: Instant, to: Instant) -> f64 {
    let Some(best) = taken.iter().map(|(_, span)| *span).min() else { return 1.0 };
    let within: Vec<f64> =
        taken.iter().filter(|(at, _)| *at >= from && *at <= to).map(|(_, span)| span.as_secs_f64()).collect();
    if within.is_empty() {
        return 1.0;
    }
    let mean = within.iter().sum::<f64>() / within.len() as f64;
    (mean / best.as_secs_f64().max(1e-6)).clamp(1.0, MOST)
}

/// Some milliseconds of it, so that it has to wait for a processor like anybody else.
fn piece_of_work() -> Duration {
    let begin = now();
    let mut number = 1_u64;
    for _ in 0..200_000 {
        number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
    now() - begin
}

#[test]
fn slowness_is_the_mean_of_a_time_by_the_best_of_all() {
    let zero = now();
    let at = |second: u64, milliseconds: u64| (zero + Duration::from_secs(second), Duration::from_millis(milliseconds));
    let taken = [at(1, 2), at(2, 4), at(3, 8), at(4, 1000)];
    let between = |from, to| slowness(&taken, zero + Duration::from_secs(from), zero + Duration::from_secs(to));
    assert!((between(2, 3) - 3.0).abs() < 1e-9);
    assert!((between(4, 4) - MOST).abs() < 1e-9);
    assert!((between(9, 9) - 1.0).abs() < 1e-9, "nothing is known");
}
