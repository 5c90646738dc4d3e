//! The data plane: the threads that own sockets.
//!
//! Each thread is one shard with a `Server` of its own. [`udp`] serves clients on UDP. Whatever the clients come by,
//! peers are reached the same way: datagrams arrive in a `sys::mmsg::Receiver`, go by the relay sockets of a [`relays`]
//! table, and wait in an [`output`] queue until the batch ends.

mod flows;
mod gather;
mod offload;
pub(super) mod output;
pub(super) mod relays;
pub(super) mod udp;
