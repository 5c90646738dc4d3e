//! The limit: forwards as a TURN server does, by the cheapest means of each kind, and does nothing else.
//!
//! No authentication, no timers, no permissions, no bounds: never to be run but by the benchmark.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::sock;
use crate::stun::{self, CHANNEL, CHANNEL_HEADER, Message};

const LISTENER: u64 = u64::MAX;

/// How it forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Means {
    /// `recvfrom` and `sendto` for each packet.
    Plain,
    /// The same, after a nap in which packets gather.
    Naps,
    /// Trains of datagrams as the kernel hands them over, by UDP_GRO and UDP_SEGMENT.
    Trains,
}

/// Long enough to gather, too short to be heard.
const NAP: Duration = Duration::from_micros(250);

struct Flow {
    client: SocketAddrV4,
    relay: UdpSocket,
    peer: Option<SocketAddrV4>,
}

struct Forwarder {
    means: Means,
    address: SocketAddrV4,
    listener: UdpSocket,
    epoll: Epoll,
    flows: Vec<Flow>,
    flows_by_client: BTreeMap<SocketAddrV4, usize>,
    buffer: Vec<u8>,
}

/// Forwards until it is ended from outside.
pub(crate) fn run(address: SocketAddrV4, means: Means) -> io::Result<()> {
    let listener = sock::udp(address, false)?;
    let mut forwarder = Forwarder {
        means,
        address,
        listener,
        epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
        flows: Vec::new(),
        flows_by_client: BTreeMap::new(),
        buffer: vec![0; sock::TRAIN],
    };
    forwarder.watch(&forwarder.listener, LISTENER)?;
    sock::wake_on_time();
    let mut events = [EpollEvent::empty(); 128];
    loop {
        let count = forwarder.epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..count] {
            if event.data() == LISTENER {
                forwarder.serve_clients()?
            } else {
                forwarder.serve_peer(event.data() as usize)
            }
        }
        if means == Means::Naps {
            std::thread::sleep(NAP);
        }
    }
}

impl Forwarder {
    fn watch(&self, socket: &UdpSocket, token: u64) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        if self.means == Means::Trains {
            sock::accept_trains(socket)?;
        }
        Ok(self.epoll.add(socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, token))?)
    }

    fn serve_clients(&mut self) -> io::Result<()> {
        while let Some((length, segment, client)) = receive(self.means, &self.listener, &mut self.buffer) {
            let bytes = &self.buffer[..length];
            if !bytes.starts_with(&CHANNEL.to_be_bytes()) {
                self.answer(length, client)?;
                continue;
            }
            let Some(flow) = self.flows_by_client.get(&client).map(|number| &self.flows[*number]) else { continue };
            let Some(peer) = flow.peer else { continue };
            if self.means == Means::Trains {
                let parts: Vec<IoSlice<'_>> =
                    bytes.chunks(segment).map(|packet| IoSlice::new(&packet[CHANNEL_HEADER..])).collect();
                let _ = sock::send(flow.relay.as_fd(), &parts, segment - CHANNEL_HEADER, Some(peer), None);
            } else {
                let _ = flow.relay.send_to(&bytes[CHANNEL_HEADER..], peer);
            }
        }
        Ok(())
    }

    fn serve_peer(&mut self, number: usize) {
        let flow = &self.flows[number];
        let header = |length: usize| {
            let ([a, b], [c, d]) = (CHANNEL.to_be_bytes(), (length as u16).to_be_bytes());
            [a, b, c, d]
        };
        while let Some((length, segment, _)) = receive(self.means, &flow.relay, &mut self.buffer[CHANNEL_HEADER..]) {
            let end = CHANNEL_HEADER + length;
            if self.means != Means::Trains {
                self.buffer[..CHANNEL_HEADER].copy_from_slice(&header(length));
                let _ = self.listener.send_to(&self.buffer[..end], flow.client);
                continue;
            }
            let (whole, last) = (header(segment), header(length - (length - 1) / segment * segment));
            let packets = self.buffer[CHANNEL_HEADER..end].chunks(segment);
            let parts: Vec<IoSlice<'_>> = packets
                .flat_map(|packet| {
                    let header = if packet.len() == segment { &whole } else { &last };
                    [IoSlice::new(header), IoSlice::new(packet)]
                })
                .collect();
            let _ = sock::send(self.listener.as_fd(), &parts, segment + CHANNEL_HEADER, Some(flow.client), None);
        }
    }

    /// Grants what is asked for.
    fn answer(&mut self, length: usize, client: SocketAddrV4) -> io::Result<()> {
        let Some(message) = Message::parse(&self.buffer[..length]) else { return Ok(()) };
        let flow = self.flows_by_client.get(&client).copied();
        let mut answer = message.success();
        if message.kind == stun::ALLOCATE && flow.is_none() {
            let relay = sock::udp(SocketAddrV4::new(*self.address.ip(), 0), false)?;
            if let SocketAddr::V4(relayed) = relay.local_addr()? {
                answer = answer.address(stun::XOR_RELAYED_ADDRESS, relayed);
            }
            self.watch(&relay, self.flows.len() as u64)?;
            self.flows_by_client.insert(client, self.flows.len());
            self.flows.push(Flow { client, relay, peer: None });
        } else if let (stun::CHANNEL_BIND, Some(flow)) = (message.kind, flow) {
            self.flows[flow].peer = message.address(stun::XOR_PEER_ADDRESS);
        }
        let _ = self.listener.send_to(&answer.finish(), client);
        Ok(())
    }
}

/// What a socket has: bytes, the length of each datagram among them, and who sent them.
fn receive(means: Means, socket: &UdpSocket, buffer: &mut [u8]) -> Option<(usize, usize, SocketAddrV4)> {
    if means == Means::Trains {
        let received = sock::receive(socket.as_fd(), buffer).ok()?;
        return Some((received.len, received.segment.max(1), received.from));
    }
    match socket.recv_from(buffer).ok()? {
        (length, SocketAddr::V4(from)) => Some((length, length.max(1), from)),
        (_, SocketAddr::V6(_)) => None,
    }
}
