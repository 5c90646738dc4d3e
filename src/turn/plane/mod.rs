//! The data plane: the threads that own sockets.
//!
//! Each thread is one shard with a `Server` of its own. [`udp`] serves clients on UDP, [`stream`] those on TCP and TLS.
//! Whatever the clients come by, peers are reached the same way: datagrams arrive in a `sys::mmsg::Receiver`, go by the
//! relay sockets of a [`relays`] table, and wait in an [`output`] queue until the batch ends.

mod clients;
mod connection;
mod connections;
mod flows;
mod gather;
mod hold;
mod offload;
pub(super) mod output;
mod patience;
pub(super) mod relays;
pub(super) mod stream;
pub(super) mod udp;
mod waiting;

use crate::error::Result;
use crate::supervisor::instance::Pulse;

/// A thread of the data plane.
pub(super) enum Worker<'a> {
    Udp(Box<udp::Worker<'a>>),
    Stream(Box<stream::StreamWorker<'a>>),
}

impl Worker<'_> {
    /// Serves until it is told to stop. Each turn of its loop, at least one a second, beats `pulse`.
    ///
    /// # Errors
    /// If waiting itself fails; nothing that a socket says ends a worker.
    pub(super) fn run(self, pulse: &Pulse) -> Result<()> {
        match self {
            Self::Udp(worker) => worker.run(pulse),
            Self::Stream(worker) => worker.run(pulse),
        }
    }
}
