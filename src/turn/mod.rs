//! STUN and TURN: the relay without sockets in `server`, its credentials, and the threads that move packets.

pub mod credentials;
pub mod ice;
pub mod peers;
mod relay_ports;
pub mod server;
mod sockets;
mod task;
mod workers;

use std::sync::atomic::{AtomicU64, Ordering};

pub use sockets::{TurnSockets, bind};
pub use task::Turn;

/// Counted by the data plane, read by anyone; outlives the task's instances.
#[derive(Debug, Default)]
pub struct Counters {
    /// Live allocations.
    pub allocations: AtomicU64,
    /// Payload bytes relayed, both directions.
    pub relayed_bytes: AtomicU64,
    /// Datagrams relayed, both directions.
    pub relayed_packets: AtomicU64,
}

impl Counters {
    /// Reads one counter; exactness between counters is not promised.
    #[must_use]
    pub fn read(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
