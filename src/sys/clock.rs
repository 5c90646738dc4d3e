//! The one reader of the clock. Everything that decides takes [`Now`] as an argument.

use std::time::{Duration, Instant, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// One moment on both clocks: wait by `mono`, expire by `wall`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For spans and deadlines of this process. Stops while a machine is suspended.
    pub mono: Instant,
    /// For dates that outlive the process: certificates, credentials, log lines.
    pub wall: SystemTime,
}

/// The span from 1970 to then.
const YEAR_9000: Duration = Duration::from_secs(221_845_392_000);

/// Reads both clocks. A wall clock before 1970 or after the year 9000 is taken for that.
#[expect(clippy::disallowed_methods, reason = "this is the one place that may read the clock")]
#[must_use]
pub fn now() -> Now {
    // No certificate and no text has a place for years beyond 9999, and spans are added to moments.
    let last = SystemTime::UNIX_EPOCH + YEAR_9000;
    Now { mono: Instant::now(), wall: shifted(SystemTime::now()).clamp(SystemTime::UNIX_EPOCH, last) }
}

/// By how many seconds the wall clock is wrong on purpose; at the start by as many as `RTCCTL_CLOCK_SHIFT` says.
#[cfg(feature = "faults")]
static SHIFT: std::sync::LazyLock<std::sync::atomic::AtomicI64> = std::sync::LazyLock::new(|| {
    let given = std::env::var("RTCCTL_CLOCK_SHIFT").ok().and_then(|seconds| seconds.parse().ok());
    given.unwrap_or(0).into()
});

/// Lets the wall clock of this process jump by so many seconds, forwards or backwards.
#[cfg(feature = "faults")]
pub fn jump(seconds: i64) {
    SHIFT.fetch_add(seconds, std::sync::atomic::Ordering::Relaxed);
}

#[cfg(feature = "faults")]
fn shifted(at: SystemTime) -> SystemTime {
    let seconds = SHIFT.load(std::sync::atomic::Ordering::Relaxed);
    let span = Duration::from_secs(seconds.unsigned_abs());
    let moved = if seconds < 0 { at.checked_sub(span) } else { at.checked_add(span) };
    moved.unwrap_or(at)
}

#[cfg(not(feature = "faults"))]
fn shifted(at: SystemTime) -> SystemTime {
    at
}

impl Now {
    /// Whole seconds since 1970, as credentials and ACME count. Zero before it.
    #[must_use]
    pub fn unix_seconds(&self) -> u64 {
        self.wall.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

/// A moment as RFC 3339 writes it, in UTC and milliseconds, all of them, so that columns and the order of texts are
/// right. Empty for a year that it cannot write.
#[must_use]
pub fn rfc3339(at: SystemTime) -> String {
    let milliseconds = OffsetDateTime::from(at).millisecond();
    rfc3339_seconds(at).strip_suffix('Z').map(|seconds| format!("{seconds}.{milliseconds:03}Z")).unwrap_or_default()
}

/// As [`rfc3339`], in whole seconds.
#[must_use]
pub fn rfc3339_seconds(at: SystemTime) -> String {
    let seconds = OffsetDateTime::from(at).replace_nanosecond(0);
    seconds.ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_to_the_millisecond() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
        assert_eq!(rfc3339(at), "2023-11-14T22:13:20.123Z");
        assert_eq!(rfc3339_seconds(at), "2023-11-14T22:13:20Z");
        let before = SystemTime::UNIX_EPOCH - Duration::from_millis(1);
        assert_eq!(
            [rfc3339(before), rfc3339(SystemTime::UNIX_EPOCH)],
            ["1969-12-31T23:59:59.999Z", "1970-01-01T00:00:00.000Z"]
        );
    }
}
