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
pub mod marks;
pub mod memory;
pub mod mmsg;
pub mod net;
pub mod notices;
pub mod notify;
pub mod ports;
pub mod process;
pub mod room;
pub mod roots;
pub mod tail;
pub mod tcp;
pub mod threads;
pub mod timed;
pub mod udp;
pub mod unix;
pub mod usage;
