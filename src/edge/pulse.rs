//! Tells whether the loops that accept connections still turn.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The pulses of all accepting loops. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Pulses {
    loops: Arc<Mutex<Vec<Watched>>>,
}

#[derive(Debug)]
struct Watched {
    pulse: Weak<AtomicU64>,
    seen: u64,
}

/// One loop's own pulse, for as long as the loop lives.
#[derive(Debug)]
pub(super) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// To be called by the loop itself, each time it turns.
    pub(super) fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Pulses {
    /// A pulse for a new loop.
    pub(super) fn begin(&self) -> Pulse {
        let pulse = Arc::new(AtomicU64::new(0));
        let watched = Watched { pulse: Arc::downgrade(&pulse), seen: u64::MAX };
        self.loops.lock().unwrap_or_else(PoisonError::into_inner).push(watched);
        Pulse(pulse)
    }

    /// Whether every loop has turned since this was last true: one that hangs must not hide behind the others.
    ///
    /// For one caller, who remembers when that was.
    #[must_use]
    pub fn have_all_moved(&self) -> bool {
        let mut loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        let mut turns = Vec::new();
        loops.retain(|watched| {
            let turn = watched.pulse.upgrade().map(|pulse| pulse.load(Ordering::Relaxed));
            turns.extend(turn);
            turn.is_some()
        });
        let have_moved = loops.iter().zip(&turns).all(|(watched, turn)| watched.seen != *turn);
        if have_moved {
            for (watched, turn) in loops.iter_mut().zip(turns) {
                watched.seen = turn;
            }
        }
        have_moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_loop_that_hangs_is_seen_among_others_and_one_that_has_ended_is_not_missed() {
        let pulses = Pulses::default();
        assert!(pulses.have_all_moved(), "nothing is to be seen yet");
        let (one, other) = (pulses.begin(), pulses.begin());
        assert!(pulses.have_all_moved(), "both have just begun");
        assert!(!pulses.have_all_moved());
        one.beat();
        assert!(!pulses.have_all_moved());
        other.beat();
        assert!(pulses.have_all_moved());
        one.beat();
        drop(other);
        assert!(pulses.have_all_moved());
    }
}
