//! What commands ask of the guardian, and what it answers: one JSON document each way, one packet each.

use serde::{Deserialize, Serialize};

use crate::supervisor::board::State;

/// Bytes of the longest packet.
pub(super) const MAX_PACKET: usize = 8 * 1024;

/// What a command asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub(super) enum Request {
    Report,
    /// Start the daemon now, whatever it waits for; answered once it is ready or has failed.
    Start,
    /// End the daemon and start it again, with its sockets held meanwhile; answered like `Start`.
    Restart,
    /// End the daemon and the guardian.
    Stop,
}

/// What the guardian answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "lowercase")]
pub(super) enum Answer {
    Report(Report),
    Ready { pid: u32 },
    Failed { cause: String },
    Stopping,
}

/// What the guardian knows of the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The guardian's own process.
    pub pid: u32,
    /// The daemon's process, if there is one.
    pub daemon: Option<u32>,
    pub state: State,
    /// Starts that nobody asked for.
    pub restarts: u64,
    /// Whether restarts are without a bound.
    pub endurance: bool,
    pub last_death: Option<Death>,
    /// Seconds until the daemon is started again, if it waits for that.
    pub next_start_s: Option<f64>,
}

/// Why the daemon ended last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Death {
    /// RFC 3339.
    pub at: String,
    pub cause: String,
}
