//! How much may be relayed: one number a meter, and no timer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const NANOSECONDS: u64 = 1_000_000_000;
/// How far ahead of its rate a flow may be: key frames come in bursts.
const BURST: Duration = Duration::from_millis(500);

/// When everything relayed so far would have passed at the agreed rate, in nanoseconds since the relay began.
///
/// The generic cell rate algorithm: what comes when that moment is too far ahead is too much. A meter may be shared.
#[derive(Debug, Default)]
pub(super) struct Meter(AtomicU64);

impl Meter {
    /// Whether `bytes` may pass at `now` by a `rate` in bytes a second; counts them if so.
    ///
    /// Whatever its size, a packet passes a meter that has been idle.
    pub(super) fn admits(&self, bytes: usize, rate: u64, now: Duration) -> bool {
        let nanoseconds = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let cost = (bytes as u64).saturating_mul(NANOSECONDS) / rate.max(1);
        let now = nanoseconds(now);
        let latest = now.saturating_add(nanoseconds(BURST));
        let pass = |until: u64| (until <= latest).then(|| until.max(now).saturating_add(cost));
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pass).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_gets_its_rate_and_half_a_second_ahead() {
        let meter = Meter::default();
        let mut passed = 0;
        for millisecond in 0..10_000 {
            for _ in 0..4 {
                passed += if meter.admits(1000, 1_000_000, Duration::from_millis(millisecond)) { 1000 } else { 0 };
            }
        }
        let wanted = 10_500_000;
        assert!((wanted - 2000..=wanted + 2000).contains(&passed), "{passed}");
    }

    #[test]
    fn a_flow_below_its_rate_loses_nothing_and_a_large_packet_passes_an_idle_meter() {
        let meter = Meter::default();
        assert!((0..10_000).all(|at| meter.admits(999, 1_000_000, Duration::from_millis(at))));
        assert!(meter.admits(65_000, 1, Duration::from_secs(3600)));
        assert!(!meter.admits(1, 1, Duration::from_secs(3601)));
        assert!(!Meter::default().admits(1, 0, Duration::ZERO) || !meter.admits(1, 0, Duration::ZERO));
    }
}
