//! The one reader of the clock. Everything that decides takes [`Now`] as an argument.

use std::time::{Instant, SystemTime};

/// One moment on both clocks: wait by `mono`, expire by `wall`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For spans and deadlines of this process. Stops while a machine is suspended.
    pub mono: Instant,
    /// For dates that outlive the process: certificates, credentials, log lines.
    pub wall: SystemTime,
}

/// Reads both clocks.
#[expect(clippy::disallowed_methods, reason = "this is the one place that may read the clock")]
#[must_use]
pub fn now() -> Now {
    Now { mono: Instant::now(), wall: SystemTime::now() }
}

impl Now {
    /// Whole seconds since 1970, as credentials and ACME count. Zero before it.
    #[must_use]
    pub fn unix_seconds(&self) -> u64 {
        self.wall.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}
