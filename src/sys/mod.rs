//! The thin edge to the operating system. Imports nothing of ours but `error`.

pub mod clock;
pub mod fault;
pub mod fs;
pub mod interrupt;
pub mod lock;
pub mod log;
pub mod mmsg;
pub mod net;
pub mod notify;
pub mod ports;
pub mod process;
pub mod tcp;
pub mod udp;
pub mod usage;
