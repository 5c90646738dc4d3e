//! The data plane: the threads that own sockets.

pub(super) mod udp;
