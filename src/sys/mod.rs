//! The thin edge to the operating system. Imports nothing of ours but `error`.

pub mod clock;
pub mod exec;
pub mod fault;
pub mod fdstore;
pub mod fork;
pub mod fs;
pub mod interrupt;
pub mod lock;
pub mod log;
pub mod mmsg;
pub mod net;
pub mod notices;
pub mod notify;
pub mod ports;
pub mod process;
pub mod tail;
pub mod tcp;
pub mod threads;
pub mod udp;
pub mod unix;
pub mod usage;
