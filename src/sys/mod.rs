//! The thin edge to the operating system. Imports nothing of ours but `error`.

pub mod clock;
pub mod fs;
pub mod interrupt;
pub mod net;
pub mod ports;
