//! Rooms of two over Socket.IO: decided in `rooms`, spoken in `hub`, bounded in `limits`.
//!
//! | part | subject |
//! |---|---|
//! | `task` | the service: takes requests from the door, has Engine.IO answer them |
//! | `hub` | what happens on a socket, and what is told because of it |
//! | `packet`, `message` | Socket.IO packets and what they say, read without recursion |
//! | `rooms`, `limits` | who is where; who may have how much |
//! | `outbox`, `counters` | bytes that wait for a receiver; what was counted |
//! | `ebb` | when memory goes back to the system |
//!
//! # Order
//! What one socket sends to a room arrives in the order in which it was sent, whatever the transport: Engine.IO (the
//! library) hands packets over one by one as it reads them, `hub` puts each into the queues of its receivers before
//! it returns, and nothing overtakes in a queue. A message that cannot be queued ends its receiver, so there is never
//! a gap in what is heard. Messages of different senders have no order among each other.
//!
//! Socket.IO is spoken here and not by a library on top of the same Engine.IO: socketioxide runs each handler as a
//! task of its own, so that messages overtake each other, and bounds the queue to a slow receiver by packets, not bytes.

mod counters;
mod ebb;
mod hub;
mod limits;
mod message;
mod outbox;
mod packet;
mod rooms;
mod task;

pub use counters::{Counters, End, Limit};
pub use task::{Control, Signaling, needs_restart};
