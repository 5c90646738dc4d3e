//! Rooms of two over Socket.IO: decided in `rooms`, spoken in `socket`.

mod message;
mod rooms;
mod socket;
mod task;

use std::sync::atomic::AtomicU64;

pub use task::{Control, Signaling, needs_restart};

/// Counted by the Socket.IO adapter, read by anyone; outlives the task's instances.
#[derive(Debug, Default)]
pub struct Counters {
    /// Rooms with somebody in them.
    pub rooms: AtomicU64,
    /// Sockets that are in a room.
    pub peers: AtomicU64,
}
