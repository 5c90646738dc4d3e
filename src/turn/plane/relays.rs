//! The relay sockets of one shard, by their number.
//!
//! A socket is watched by the shard's epoll from the moment it is opened, its number being the token, so that a worker
//! numbers whatever else it watches from [`FIRST_FREE_TOKEN`] on. `EPOLLIN` means datagrams of peers: receive them from
//! [`Relays::socket`]. `EPOLLERR` means that the network answered: call [`Relays::hear`].

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use tracing::debug;

use super::offload::Offload;
use crate::sys::mmsg::{Fragments, NetworkError, read_error, set_fragments};
use crate::sys::net::Family;
use crate::turn::relay_ports::RelayPorts;
use crate::turn::server::{IcmpError, RelayId, Wanted};

/// Answers of the network that are read from one socket at a time; others want to be served, too.
const MAX_ERRORS: usize = 16;
/// Tokens from here on are not those of relay sockets.
pub(in crate::turn) const FIRST_FREE_TOKEN: u64 = 1 << 32;

/// All relay sockets of a shard.
pub(in crate::turn) struct Relays {
    places: Vec<Option<Relay>>,
    ports: Arc<RelayPorts>,
}

/// Eight bytes, since there may be tens of thousands.
struct Relay {
    socket: OwnedFd,
    port: u16,
    is_ipv4: bool,
    offload: Offload,
}

impl Relays {
    pub(in crate::turn) fn new(ports: Arc<RelayPorts>) -> Self {
        Self { places: Vec::new(), ports }
    }

    /// The number that an epoll token means; `None` if it is not that of a relay socket.
    pub(in crate::turn) fn by_token(token: u64) -> Option<RelayId> {
        u32::try_from(token).ok().map(RelayId)
    }

    /// Does [`crate::turn::server::Action::Open`]. `None`: no port, no descriptor or no memory is left.
    pub(in crate::turn) fn open(
        &mut self,
        relay: RelayId,
        family: Family,
        wanted: Wanted,
        epoll: &Epoll,
        now: Instant,
    ) -> Option<SocketAddr> {
        let Some((socket, address)) = self.ports.open(family, wanted, now) else {
            debug!(?family, ?wanted, "no relay port left");
            return None;
        };
        if let Err(error) = epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, relay.0.into())) {
            debug!(%error, "cannot watch a relay socket");
            drop(socket);
            self.ports.release(address);
            return None;
        }
        let index = relay.0 as usize;
        if self.places.len() <= index {
            self.places.resize_with(index + 1, || None);
        }
        self.close(relay);
        self.places[index] = Some(Relay {
            socket: socket.into(),
            port: address.port(),
            is_ipv4: address.is_ipv4(),
            offload: Offload::default(),
        });
        Some(address)
    }

    /// Does [`crate::turn::server::Action::Close`]. What waits to be sent by it must have been flushed.
    pub(in crate::turn) fn close(&mut self, relay: RelayId) {
        let Some(relay) = self.places.get_mut(relay.0 as usize).and_then(Option::take) else { return };
        // Closing takes it out of epoll, too. The port is free for the next one only after that.
        drop(relay.socket);
        self.ports.release_port(relay.is_ipv4, relay.port);
    }

    pub(in crate::turn) fn socket(&self, relay: RelayId) -> Option<BorrowedFd<'_>> {
        Some(self.places.get(relay.0 as usize)?.as_ref()?.socket.as_fd())
    }

    /// Tells what the network answered to datagrams of this socket, and where those were sent to.
    pub(in crate::turn) fn hear(&self, relay: RelayId, mut tell: impl FnMut(SocketAddr, IcmpError)) {
        let Some(socket) = self.socket(relay) else { return };
        let mut last = None;
        for _ in 0..MAX_ERRORS {
            let Ok(error) = read_error(socket) else { return };
            // A datagram that the kernel refuses is tried twice, and complained of twice.
            if let Some(NetworkError { to, family, kind, code, mtu }) = error.filter(|_| error != last) {
                tell(to, IcmpError { family, kind, code, data: mtu });
            }
            last = error;
        }
    }

    pub(super) fn offload(&mut self, relay: RelayId) -> Option<&mut Offload> {
        Some(&mut self.places.get_mut(relay.0 as usize)?.as_mut()?.offload)
    }

    /// Whether routers may cut up what the socket sends from now on.
    pub(super) fn set_fragments(&self, relay: RelayId, fragments: Fragments) {
        let Some(Some(relay)) = self.places.get(relay.0 as usize) else { return };
        if let Err(error) = set_fragments(relay.socket.as_fd(), relay.is_ipv4, fragments) {
            debug!(%error, "cannot set how a relay socket's datagrams are fragmented");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_takes_eight_bytes() {
        assert_eq!(size_of::<Option<Relay>>(), 8);
    }
}
