//! How commands reach the daemon: one JSON line each way over a Unix socket.

pub mod protocol;
