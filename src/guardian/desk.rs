//! Where commands come to the guardian: packets over a Unix socket, answered without ever waiting for anyone.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind, getsockopt, listen, recv, send,
    socket, sockopt,
};
use nix::unistd::{Uid, geteuid};

use super::protocol::{Answer, MAX_PACKET, Request};
use crate::sys::unix::{ShortPath, Spot};

/// Commands served at a time; one that comes on top waits in the socket.
const MAX_CLIENTS: usize = 8;
/// How long a command may take to say what it wants, and how long it is kept waiting for an answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// The guardian's end.
#[derive(Debug)]
pub(super) struct Desk {
    spot: Spot,
    listener: OwnedFd,
    clients: Vec<Client>,
}

#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    until: Instant,
    /// It waits for the outcome of a start that it asked for when the daemon had died so often.
    waits_since: Option<u64>,
}

impl Desk {
    /// Binds `path` for this user alone, in the place of what is left there.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        let (listener, spot) = listener(path)?;
        Ok(Self { spot, listener, clients: Vec::new() })
    }

    /// Whether the path still leads here.
    pub(super) fn is_reachable(&self) -> bool {
        self.spot.is_kept()
    }

    /// Binds the path anew. Who is served already goes on to be.
    pub(super) fn renew(&mut self) -> io::Result<()> {
        (self.listener, self.spot) = listener(self.spot.path())?;
        Ok(())
    }

    /// What to wait for.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let has_room = self.clients.len() < MAX_CLIENTS;
        let clients = self.clients.iter().map(|client| client.socket.as_fd());
        clients.chain(has_room.then(|| self.listener.as_fd()))
    }

    /// Takes new clients in and hears what is asked. `answer` gives the answer at once, or `None` for one who asked for
    /// a start and waits.
    pub(super) fn serve(&mut self, now: Instant, deaths: u64, mut answer: impl FnMut(Request) -> Option<Answer>) {
        while self.clients.len() < MAX_CLIENTS {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let Ok(number) = accept4(self.listener.as_raw_fd(), flags) else { break };
            let socket = own(number);
            // The file's mode keeps others out; this holds even where somebody has loosened it.
            let peer = getsockopt(&socket, sockopt::PeerCredentials).map(|peer| Uid::from_raw(peer.uid()));
            if peer.is_ok_and(|peer| peer.is_root() || peer == geteuid()) {
                self.clients.push(Client { socket, until: now + PATIENCE, waits_since: None });
            }
        }
        self.clients.retain_mut(|client| {
            let mut packet = [0; MAX_PACKET];
            match recv(client.socket.as_raw_fd(), &mut packet, MsgFlags::MSG_DONTWAIT) {
                Err(nix::errno::Errno::EAGAIN) => client.until > now,
                Ok(0) | Err(_) => false,
                Ok(length) => {
                    let Ok(request) = serde_json::from_slice(&packet[..length]) else { return false };
                    match answer(request) {
                        Some(answer) => {
                            reply(client, &answer);
                            false
                        }
                        None => {
                            client.waits_since = Some(deaths);
                            true
                        }
                    }
                }
            }
        });
    }

    /// Answers those who wait for a start; `outcome` gives what became of it since so many deaths, once that is known.
    pub(super) fn settle(&mut self, outcome: impl Fn(u64) -> Option<Answer>) {
        self.clients.retain(|client| match client.waits_since.and_then(&outcome) {
            Some(answer) => {
                reply(client, &answer);
                false
            }
            None => true,
        });
    }
}

/// A listener at `path`, in the place of what is there.
fn listener(path: &Path) -> io::Result<(OwnedFd, Spot)> {
    let short = ShortPath::to(path)?;
    short.clear()?;
    let listener = packets()?;
    bind(listener.as_raw_fd(), &UnixAddr::new(&short.path)?)?;
    short.close_to_others()?;
    listen(&listener, Backlog::new(16)?)?;
    Ok((listener, Spot::of(path)))
}

fn reply(client: &Client, answer: &Answer) {
    let packet = serde_json::to_vec(answer).expect("an answer has string keys only");
    // One that has gone away does not want it any more.
    let _ = send(client.socket.as_raw_fd(), &packet, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
}

/// A socket whose packets are whole or not there.
pub(super) fn packets() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
}

#[expect(unsafe_code, reason = "nix gives an accepted socket as a number")]
fn own(number: std::os::fd::RawFd) -> OwnedFd {
    use std::os::fd::FromRawFd as _;
    // SAFETY: it was made by the call before this one, and nobody else has heard of it.
    unsafe { OwnedFd::from_raw_fd(number) }
}
