//! The thin edge to the operating system. Imports nothing of ours but `error`.

pub mod clock;
pub mod fs;
pub mod interrupt;
pub mod mmsg;
pub mod net;
pub mod ports;
pub mod udp;
