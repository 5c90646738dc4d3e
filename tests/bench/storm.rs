//! Thousands of clients that want allocations, and a hundred thousand that only knock.
//!
//! Every client has an address of its own within a network that is local to the generator, so that two sockets play
//! them all.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::dialogue::{belongs_to, transaction};
use crate::measure::{Clock, nanos};
use crate::sock;
use crate::stun::{self, Credentials, Message, Session};

/// Requests on their way at a time.
const WINDOW: usize = 64;
/// After how long a request is sent again, and how often.
const REPEAT: Duration = Duration::from_millis(500);
const ATTEMPTS: u32 = 10;
/// Hosts of a source network that are used; the first ones belong to clients and peers of other works.
const FIRST_HOST: u32 = 256;
const HOSTS: u32 = 60_000;

/// What each client does, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Ask,
    Allocate,
    Permit,
    Bind,
    Done,
}

struct Client {
    step: Step,
    session: Option<Session>,
    relayed: Option<SocketAddrV4>,
    attempts: u32,
    sent_at: u64,
}

/// A crowd of clients on one socket.
pub(crate) struct Crowd<'a> {
    socket: UdpSocket,
    server: SocketAddrV4,
    credentials: &'a Credentials,
    network: Ipv4Addr,
    clients: Vec<Client>,
    buffer: Vec<u8>,
    pub(crate) repeats: u64,
}

impl<'a> Crowd<'a> {
    /// A crowd in the /16 network of `network`.
    pub(crate) fn new(
        size: u32,
        network: Ipv4Addr,
        server: SocketAddrV4,
        credentials: &'a Credentials,
    ) -> io::Result<Self> {
        let client = || Client { step: Step::Ask, session: None, relayed: None, attempts: 0, sent_at: 0 };
        Ok(Self {
            socket: sock::udp(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), true)?,
            server,
            credentials,
            network,
            clients: (0..size).map(|_| client()).collect(),
            buffer: vec![0; 2048],
            repeats: 0,
        })
    }

    /// Everybody makes an allocation: two requests, the refused one and the good one.
    pub(crate) fn allocate(&mut self) -> io::Result<()> {
        self.go_to(Step::Permit, None)
    }

    /// Everybody permits a peer and binds a channel to it.
    pub(crate) fn bind_channels(&mut self, peer: SocketAddrV4) -> io::Result<()> {
        self.go_to(Step::Done, Some(peer))
    }

    fn go_to(&mut self, last: Step, peer: Option<SocketAddrV4>) -> io::Result<()> {
        let clock = Clock::new();
        let mut waiting: VecDeque<u32> = (0..self.clients.len() as u32).collect();
        let mut busy: VecDeque<u32> = VecDeque::new();
        while !(waiting.is_empty() && busy.is_empty()) {
            let now = clock.now();
            while busy.len() < WINDOW {
                let Some(index) = waiting.pop_front() else { break };
                self.request(index, peer, now)?;
                busy.push_back(index);
            }
            self.wait(Duration::from_millis(20))?;
            while let Ok(received) = sock::receive(self.socket.as_fd(), &mut self.buffer) {
                let bytes = self.buffer[..received.len].to_vec();
                let Some(message) = Message::parse(&bytes) else { continue };
                if let Some(index) = self.handle(&message)? {
                    if self.clients[index as usize].step == last {
                        busy.retain(|other| *other != index);
                    } else {
                        self.request(index, peer, clock.now())?;
                    }
                }
            }
            let now = clock.now();
            let is_late = |client: &Client| client.sent_at + nanos(REPEAT) < now;
            let late: Vec<u32> = busy.iter().copied().filter(|it| is_late(&self.clients[*it as usize])).collect();
            for index in late {
                self.repeats += 1;
                self.request(index, peer, now)?;
            }
        }
        Ok(())
    }

    fn request(&mut self, index: u32, peer: Option<SocketAddrV4>, now: u64) -> io::Result<()> {
        let from = self.address(index);
        let client = &mut self.clients[index as usize];
        client.attempts += 1;
        client.sent_at = now;
        if client.attempts > ATTEMPTS {
            let text = format!("client {index} got no answer to {:?} in {ATTEMPTS} attempts", client.step);
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        let number = transaction(index, client.step as u32);
        let session = client.session.as_ref();
        let peer = peer.unwrap_or(self.server);
        let bytes = match client.step {
            Step::Ask => stun::allocate(number, None),
            Step::Allocate => stun::allocate(number, session),
            Step::Permit => stun::create_permission(number, session, peer),
            Step::Bind | Step::Done => stun::channel_bind(number, session, peer),
        };
        sock::send(self.socket.as_fd(), &[IoSlice::new(&bytes)], bytes.len(), Some(self.server), Some(from))
    }

    /// Takes a response; gives the client that may take its next step.
    fn handle(&mut self, message: &Message<'_>) -> io::Result<Option<u32>> {
        let (index, number) = belongs_to(&message.transaction);
        let Some(client) = self.clients.get_mut(index as usize) else { return Ok(None) };
        if number != client.step as u32 {
            return Ok(None);
        }
        let refused = || Err(io::Error::other(format!("client {index} was refused with {:?}", message.error())));
        client.step = match client.step {
            Step::Ask => match Session::new(self.credentials, message) {
                Some(session) => {
                    client.session = Some(session);
                    Step::Allocate
                }
                // A server without authentication.
                None if message.is_success(stun::ALLOCATE) => Step::Permit,
                None => return refused(),
            },
            Step::Allocate if message.is_success(stun::ALLOCATE) => {
                client.relayed = message.address(stun::XOR_RELAYED_ADDRESS);
                Step::Permit
            }
            Step::Permit if message.is_success(stun::CREATE_PERMISSION) => Step::Bind,
            Step::Bind if message.is_success(stun::CHANNEL_BIND) => Step::Done,
            Step::Allocate | Step::Permit | Step::Bind => return refused(),
            Step::Done => return Ok(None),
        };
        client.attempts = 0;
        Ok(Some(index))
    }

    fn wait(&self, timeout: Duration) -> io::Result<()> {
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::ZERO);
        poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout)?;
        Ok(())
    }

    fn address(&self, index: u32) -> Ipv4Addr {
        host(self.network, index)
    }
}

fn host(network: Ipv4Addr, index: u32) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(network) & 0xffff_0000) | (FIRST_HOST + index % HOSTS))
}

/// What came of knocking.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Knocked {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
}

/// Sends one Allocate without credentials from each of `sources` addresses and ports, and takes what comes back.
pub(crate) fn knock(sources: u32, network: Ipv4Addr, server: SocketAddrV4) -> io::Result<Knocked> {
    let sockets: Vec<UdpSocket> = (0..sources.div_ceil(HOSTS))
        .map(|_| sock::udp(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), true))
        .collect::<io::Result<_>>()?;
    let mut knocked = Knocked::default();
    let mut buffer = vec![0; 2048];
    for index in 0..sources {
        let socket = &sockets[(index / HOSTS) as usize];
        let bytes = stun::allocate(transaction(index, 0), None);
        sock::send(socket.as_fd(), &[IoSlice::new(&bytes)], bytes.len(), Some(server), Some(host(network, index)))?;
        knocked.sent += 1;
        // No faster than the server reads, so that it sees every one of them; it need not answer them all.
        let is_last = index + 1 == sources;
        if index % 32 == 31 || is_last {
            let patience = PollTimeout::from(if is_last { 200_u8 } else { 2 });
            while knocked.answered < knocked.sent
                && poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], patience)? > 0
            {
                while sock::receive(socket.as_fd(), &mut buffer).is_ok() {
                    knocked.answered += 1;
                }
            }
        }
    }
    Ok(knocked)
}
