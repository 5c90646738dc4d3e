//! Tells the service manager that the daemon is alive: whenever the supervisor's loop turns.
//!
//! Loops that stand still are the watchdog's business, which has the supervisor end the process if nothing else helps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sys::notify::Manager;

/// How often it is said at most. The manager waits for several times as long.
const SAID_EVERY: Duration = Duration::from_millis(500);

/// What the supervisor's loop calls.
pub(super) struct Heartbeat {
    manager: Arc<Manager>,
    said_at: Option<Instant>,
}

impl Heartbeat {
    pub(super) fn new(manager: Arc<Manager>) -> Self {
        Self { manager, said_at: None }
    }

    /// The supervisor's loop has turned.
    pub(super) fn turn(&mut self, now: Instant) {
        if self.said_at.is_some_and(|said_at| now.saturating_duration_since(said_at) < SAID_EVERY) {
            return;
        }
        self.said_at = Some(now);
        self.manager.beat();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::sys::clock;

    #[test]
    fn a_beat_is_sent_for_a_turn_but_not_for_each_of_many() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let heard = || std::iter::from_fn(|| listener.recv(&mut [0; 32]).ok()).count();
        let manager = Arc::new(Manager::at(path.as_os_str(), Some(Duration::from_secs(10))));
        let start = clock::now().mono;
        let mut heartbeat = Heartbeat::new(manager);
        heartbeat.turn(start);
        heartbeat.turn(start + SAID_EVERY / 2);
        assert_eq!(heard(), 1);
        heartbeat.turn(start + SAID_EVERY);
        assert_eq!(heard(), 1);
    }
}
