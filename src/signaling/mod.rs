//! Rooms of two over Socket.IO: decided in `rooms`, spoken in `hub`, bounded in `limits`.
//!
//! | part | subject |
//! |---|---|
//! | `task` | the service: takes requests from the door, has `engine` answer them |
//! | `engine` | sessions of Engine.IO: what carries packets, and whether clients live |
//! | `hub` | what happens on a socket, and what is told because of it |
//! | `packet`, `message` | Socket.IO packets and what they say, read without recursion |
//! | `rooms`, `limits` | who is where; who may have how much |
//! | `counters` | what was counted |
//! | `ebb` | when memory goes back to the system |
//!
//! # Order
//! What one socket sends to a room arrives in the order in which it was sent, whatever the transport: `engine` hands
//! packets over one by one as it reads them, `hub` puts each into the queues of its receivers before it returns, and
//! nothing overtakes in a queue. A message that cannot be queued ends its receiver, so there is never a gap in what is
//! heard. Messages of different senders have no order among each other.
//!
//! Both protocols are spoken here and not by a library: socketioxide runs each handler as a task of its own, so that
//! messages overtake each other, and bounds the queue to a slow receiver by packets, not bytes; the Engine.IO below it
//! has three tasks and twice the memory for each client, and wakes up for each heartbeat. WebSocket itself is a library's.

mod counters;
mod ebb;
mod engine;
mod hub;
mod limits;
mod message;
mod packet;
mod rooms;
mod task;

use std::sync::{Mutex, MutexGuard};

pub use counters::{Counters, End, Limit};
pub use task::{Control, Signaling, needs_restart};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds this lock")
}
