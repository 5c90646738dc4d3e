//! The UDP data plane: a thread a worker, each with listeners of its own and one [`Server`].
//!
//! `SO_REUSEPORT` keeps a client on its worker, so workers share nothing on the packet path. A worker sleeps in epoll,
//! reads a bounded batch from whatever is ready, lets the server decide, and sends.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use tracing::debug;

use super::Counters;
use super::relay_ports::RelayPorts;
use super::server::{Action, Client, Forward, Frame, RelayId, Server, Shared, Transport};
use super::sockets::Listener;
use crate::error::{Failure, Result};
use crate::sys::clock;
use crate::sys::mmsg::{Packet, Receiver, Sender};

/// Sockets that one wake-up tells about; the others are told at the next.
const MAX_EVENTS: usize = 64;
/// The longest sleep, so that a worker without traffic still shows that it lives.
const MAX_SLEEP: Duration = Duration::from_secs(1);
/// Padding of a Data indication is at most three bytes.
const PADDING: [u8; 3] = [0; 3];
/// What an epoll event is about, besides relay sockets: those have their number.
const STOP: u64 = u64::MAX;
const FIRST_LISTENER: u64 = 1 << 32;

/// One thread of the data plane.
pub(super) struct Worker<'a> {
    server: Server,
    shared: Arc<Shared>,
    listeners: &'a [Listener],
    ports: Arc<RelayPorts>,
    counters: Arc<Counters>,
    relays: Vec<Option<UdpSocket>>,
    epoll: Epoll,
    output: Output,
}

/// What waits to be sent, all of it by one socket.
#[derive(Default)]
struct Output {
    sender: Sender,
    by: Option<Exit>,
}

/// A socket of the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Listener(u32),
    Relay(RelayId),
}

impl<'a> Worker<'a> {
    /// # Errors
    /// If the kernel has no epoll to give.
    pub(super) fn new(
        server: Server,
        shared: Arc<Shared>,
        listeners: &'a [Listener],
        ports: Arc<RelayPorts>,
        counters: Arc<Counters>,
        stop: &EventFd,
    ) -> Result<Self> {
        let failed = |error: nix::Error| Failure::operator("cannot watch the sockets of turn").caused_by(error);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?;
        epoll.add(stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP)).map_err(failed)?;
        for (token, listener) in (FIRST_LISTENER..).zip(listeners) {
            epoll.add(&listener.socket, EpollEvent::new(EpollFlags::EPOLLIN, token)).map_err(failed)?;
        }
        Ok(Self { server, shared, listeners, ports, counters, relays: Vec::new(), epoll, output: Output::default() })
    }

    /// Serves until `stop` is signalled. Each turn of the loop, at least one a second, raises `pulse`.
    ///
    /// # Errors
    /// If waiting itself fails; nothing that a socket says ends a worker.
    pub(super) fn run(mut self, pulse: &AtomicU64) -> Result<()> {
        let mut receiver = Receiver::default();
        let mut events = [EpollEvent::empty(); MAX_EVENTS];
        loop {
            pulse.fetch_add(1, Ordering::Relaxed);
            let ready = match self.epoll.wait(&mut events, self.sleep()) {
                Ok(ready) => ready,
                Err(nix::Error::EINTR) => 0,
                Err(error) => return Err(Failure::operator("cannot wait for the sockets of turn").caused_by(error)),
            };
            for event in &events[..ready] {
                match event.data() {
                    STOP => {
                        self.server.shut();
                        self.act();
                        self.finish_batch();
                        return Ok(());
                    }
                    token if token >= FIRST_LISTENER => self.read_listener(token - FIRST_LISTENER, &mut receiver),
                    token => self.read_relay(token, &mut receiver),
                }
            }
            self.server.handle_timeout(clock::now());
            self.act();
            self.finish_batch();
        }
    }

    fn sleep(&self) -> EpollTimeout {
        let now = clock::now().mono;
        let due = self.server.poll_timeout().map_or(MAX_SLEEP, |at| at.saturating_duration_since(now));
        // One more millisecond, since epoll rounds down and would wake up in vain.
        let milliseconds = u16::try_from(due.min(MAX_SLEEP).as_millis()).unwrap_or(u16::MAX).saturating_add(1);
        EpollTimeout::from(milliseconds)
    }

    fn read_listener(&mut self, index: u64, receiver: &mut Receiver) {
        let Ok(number) = u8::try_from(index) else { return };
        let Some(listener) = self.listeners.get(usize::from(number)) else { return };
        let Ok(count) = receiver.receive(listener.socket.as_fd()) else { return };
        let now = clock::now();
        for packet in (0..count).filter_map(|index| receiver.packet(index)) {
            let local = packet.local.unwrap_or(listener.address.ip());
            let client = Client { remote: packet.from, local, transport: Transport::Udp, via: number.into() };
            if let Some(forward) = self.server.handle_client(client, packet.bytes, now) {
                self.forward(&forward, packet);
            }
            self.act();
        }
        self.finish_batch();
    }

    fn read_relay(&mut self, token: u64, receiver: &mut Receiver) {
        let Ok(number) = u32::try_from(token) else { return };
        let Some(Some(socket)) = self.relays.get(number as usize) else { return };
        // What an earlier datagram of ours met on its way (refused, unreachable) concerns the peer, not this socket.
        let Ok(count) = receiver.receive(socket.as_fd()) else { return };
        let now = clock::now();
        for packet in (0..count).filter_map(|index| receiver.packet(index)) {
            if let Some(forward) = self.server.handle_peer(RelayId(number), packet.from, packet.bytes.len(), now) {
                self.forward(&forward, packet);
            }
        }
        self.finish_batch();
    }

    fn forward(&mut self, forward: &Forward, packet: Packet<'_>) {
        match forward {
            Forward::ToClient { client, frame, payload } => {
                let payload = &packet.bytes[payload.clone()];
                let mut header = [0; Frame::MAX_HEADER];
                let Some((length, padding)) = frame.write_header(client.transport, payload.len(), &mut header) else {
                    return;
                };
                let parts = [&header[..length], payload, &PADDING[..padding]];
                self.push(Exit::Listener(client.via), client.remote, Some(client.local), &parts);
            }
            Forward::ToPeer { relay, peer, payload, dont_fragment: _ } => {
                let payload = &packet.bytes[payload.clone()];
                self.push(Exit::Relay(*relay), *peer, None, &[payload]);
            }
        }
    }

    /// Does what the server wants done.
    fn act(&mut self) {
        while let Some(action) = self.server.poll_action() {
            match action {
                Action::Reply { client, message } => {
                    self.push(Exit::Listener(client.via), client.remote, Some(client.local), &[&message]);
                }
                Action::Open { relay, family, wanted } => {
                    let socket = self.ports.open(family, wanted, clock::now().mono);
                    let address = socket.and_then(|socket| self.keep(relay, socket));
                    if address.is_none() {
                        debug!(?family, ?wanted, "no relay port left");
                    }
                    self.server.handle_opened(relay, address, clock::now());
                }
                Action::Close { relay } => {
                    if self.output.by == Some(Exit::Relay(relay)) {
                        self.flush();
                    }
                    if let Some(place) = self.relays.get_mut(relay.0 as usize) {
                        // Closing takes it out of epoll, too.
                        *place = None;
                    }
                }
            }
        }
    }

    fn keep(&mut self, relay: RelayId, socket: UdpSocket) -> Option<SocketAddr> {
        let address = socket.local_addr().ok()?;
        self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, relay.0.into())).ok()?;
        let index = relay.0 as usize;
        if self.relays.len() <= index {
            self.relays.resize_with(index + 1, || None);
        }
        self.relays[index] = Some(socket);
        Some(address)
    }

    fn push(&mut self, by: Exit, to: SocketAddr, from: Option<IpAddr>, parts: &[&[u8]]) {
        if self.output.by != Some(by) || self.output.sender.is_full() {
            self.flush();
            self.output.by = Some(by);
        }
        self.output.sender.push(to, from, parts);
    }

    fn flush(&mut self) {
        let Some(by) = self.output.by.take() else { return };
        let socket = match by {
            Exit::Listener(number) => self.listeners.get(number as usize).map(|listener| &listener.socket),
            Exit::Relay(relay) => self.relays.get(relay.0 as usize).and_then(Option::as_ref),
        };
        if let Some(socket) = socket {
            self.output.sender.flush(socket.as_fd());
        }
    }

    fn finish_batch(&mut self) {
        self.flush();
        self.counters.allocations.store(self.shared.allocations().into(), Ordering::Relaxed);
        self.counters.add(&self.server.take_counts());
    }
}
