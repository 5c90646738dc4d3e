//! Tells the service manager that the daemon is alive: when the supervisor's loop turns, and only while edge turns, too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::error;

use crate::edge::Pulses;
use crate::sys::notify::Manager;

/// How often it is said at most. The manager waits for several times as long.
const SAID_EVERY: Duration = Duration::from_millis(500);
/// Edge's loops turn every second. One that has not for so long does not come back.
const EDGE_TURNS_WITHIN: Duration = Duration::from_secs(5);

/// What the supervisor's loop calls.
pub(super) struct Heartbeat {
    manager: Arc<Manager>,
    edge: Pulses,
    said_at: Option<Instant>,
    edge_turned_at: Instant,
    is_well: bool,
}

impl Heartbeat {
    pub(super) fn new(manager: Arc<Manager>, edge: Pulses, now: Instant) -> Self {
        Self { manager, edge, said_at: None, edge_turned_at: now, is_well: true }
    }

    /// The supervisor's loop has turned.
    pub(super) fn turn(&mut self, now: Instant) {
        if self.edge.have_all_moved() {
            self.edge_turned_at = now;
        }
        if self.said_at.is_some_and(|said_at| now.saturating_duration_since(said_at) < SAID_EVERY) {
            return;
        }
        self.said_at = Some(now);
        let is_well = now.saturating_duration_since(self.edge_turned_at) <= EDGE_TURNS_WITHIN;
        if self.is_well && !is_well {
            error!("edge does not accept connections any more; the service manager is told nothing until it does");
        }
        self.is_well = is_well;
        self.manager.beat(is_well);
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
        let mut heartbeat = Heartbeat::new(manager, Pulses::default(), start);
        heartbeat.turn(start);
        heartbeat.turn(start + SAID_EVERY / 2);
        assert_eq!(heard(), 1);
        heartbeat.turn(start + SAID_EVERY);
        assert_eq!(heard(), 1);
    }
}
