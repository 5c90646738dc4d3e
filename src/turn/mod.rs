//! STUN and TURN: the relay without sockets in `server`, its credentials, and the threads that move packets.

mod control;
mod counters;
pub mod credentials;
pub mod framer;
pub mod ice;
pub mod insiders;
mod listening;
pub mod peers;
mod plane;
mod relay_ports;
pub mod server;
mod sockets;
mod task;

pub use control::Control;
pub use counters::{Counters, Counts, Dropped, Outcome, Path};
pub use listening::Moving;
pub use sockets::{TurnSockets, bind, take_or_bind};
pub use task::Turn;
