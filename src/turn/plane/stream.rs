//! The data plane of clients on TCP and TLS: one thread with one shard, beside the UDP workers.
//!
//! `edge` accepts, finds out what a connection is and hands it over ([`TurnStream`]); from then on it belongs to this
//! thread. Peers are reached by UDP as from any worker. Frames for a client are collected during a batch and written at
//! its end, so that a burst of packets is one segment or a few records.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use tokio::sync::mpsc::Receiver as Inbox;
use tracing::debug;

use super::clients::Clients;
use super::connection::{Buffers, Connection};
use super::connections::Token;
use super::output::{Exit, Exits, Output, Way};
use super::relays::{FIRST_FREE_TOKEN, Relays};
use crate::error::{Failure, Result};
use crate::supervisor::handover::TurnStream;
use crate::sys::clock;
use crate::sys::mmsg::Receiver;
use crate::turn::framer::Framer;
use crate::turn::relay_ports::RelayPorts;
use crate::turn::server::{Action, Forward, RelayId, Server, Shared};
use crate::turn::{Counters, Counts, Dropped};

/// Sockets that one wake-up tells about; the others are told at the next.
const MAX_EVENTS: usize = 64;
/// The longest sleep, so that a worker without traffic still shows that it lives.
const MAX_SLEEP: Duration = Duration::from_secs(1);
/// How often it is looked which connections have outstayed their time.
const SWEPT_EVERY: Duration = Duration::from_secs(1);
/// The lowest byte of ChannelData; below are STUN messages, which may be requests. RFC 8656, section 12.
const FIRST_CHANNEL_BYTE: u8 = 0x40;
const STOP: u64 = FIRST_FREE_TOKEN;
const BELL: u64 = FIRST_FREE_TOKEN + 1;

/// The thread of the stream clients.
pub(in crate::turn) struct StreamWorker {
    server: Server,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    inbox: Inbox<TurnStream>,
    /// Rung when something is in `inbox`.
    bell: Arc<EventFd>,
    epoll: Epoll,
    clients: Clients,
    relays: Relays,
    buffers: Buffers,
    receiver: Receiver,
    /// What goes to peers, its payload being in `buffers`.
    output: Output,
    /// Added to the shared counters once a batch.
    counts: Counts,
    swept_at: Instant,
}

impl StreamWorker {
    /// # Errors
    /// If the kernel has no epoll to give.
    pub(in crate::turn) fn new(
        server: Server,
        shared: Arc<Shared>,
        ports: Arc<RelayPorts>,
        counters: Arc<Counters>,
        (inbox, bell): (Inbox<TurnStream>, Arc<EventFd>),
        stop: &EventFd,
    ) -> Result<Self> {
        let failed = |error: nix::Error| Failure::operator("cannot watch the sockets of turn").caused_by(error);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?;
        epoll.add(stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP)).map_err(failed)?;
        epoll.add(&bell, EpollEvent::new(EpollFlags::EPOLLIN, BELL)).map_err(failed)?;
        Ok(Self {
            server,
            shared,
            counters,
            inbox,
            bell,
            epoll,
            clients: Clients::default(),
            relays: Relays::new(ports),
            buffers: Buffers::default(),
            receiver: Receiver::default(),
            output: Output::new(true, 0, rand::random()),
            counts: Counts::default(),
            swept_at: clock::now().mono,
        })
    }

    /// Serves until `stop` is signalled. Each turn of the loop, at least one a second, raises `pulse`.
    ///
    /// # Errors
    /// If waiting itself fails; nothing that a socket says ends a worker.
    pub(in crate::turn) fn run(mut self, pulse: &AtomicU64) -> Result<()> {
        let mut events = [EpollEvent::empty(); MAX_EVENTS];
        loop {
            pulse.fetch_add(1, Ordering::Relaxed);
            let ready = match self.epoll.wait(&mut events, self.sleep()) {
                Ok(ready) => ready,
                Err(nix::Error::EINTR) => 0,
                Err(error) => return Err(Failure::operator("cannot wait for the sockets of turn").caused_by(error)),
            };
            for event in &events[..ready] {
                match (event.data(), Token::read(event.data())) {
                    (STOP, _) => {
                        self.shut();
                        return Ok(());
                    }
                    (BELL, _) => self.take_in(),
                    (_, Some(token)) => self.handle_connection(token, event.events()),
                    (token, None) => {
                        if let Some(relay) = Relays::by_token(token) {
                            self.handle_relay(relay, event.events());
                        }
                    }
                }
            }
            let now = clock::now();
            self.server.handle_timeout(now);
            self.act();
            if now.mono >= self.swept_at + SWEPT_EVERY {
                self.swept_at = now.mono;
                self.sweep(now.mono);
            }
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

    /// Takes the connections that `edge` has handed over.
    fn take_in(&mut self) {
        // Before the inbox is read, or a ring in between would be missed.
        let _ = self.bell.read();
        while let Ok(stream) = self.inbox.try_recv() {
            let now = clock::now().mono;
            let token = self.clients.connections.insert(|number| Connection::new(stream, number, now));
            let Some(connection) = self.clients.connections.by_token(token) else { continue };
            let event = EpollEvent::new(EpollFlags::EPOLLIN, token.data());
            if let Err(error) = self.epoll.add(&*connection, event) {
                debug!(%error, "cannot watch a connection");
                self.clients.end(token.number);
                continue;
            }
            // A session may have something left to say of its handshake.
            self.clients.mark(token.number);
            self.read(token.number, true);
            self.end_batch();
        }
    }

    fn handle_connection(&mut self, token: Token, events: EpollFlags) {
        let Some(connection) = self.clients.connections.by_token(token) else { return };
        if events.contains(EpollFlags::EPOLLOUT) {
            connection.handle_writable();
            self.clients.mark(token.number);
        }
        if events.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            self.read(token.number, false);
        }
        self.end_batch();
    }

    /// Reads a connection once and handles the messages that are whole. `is_first`: what was read of it before.
    fn read(&mut self, number: u32, is_first: bool) {
        let now = clock::now();
        let Some(connection) = self.clients.connections.get_mut(number) else { return };
        let buffers = &mut self.buffers;
        let length = if is_first { connection.read_held(buffers) } else { connection.read(buffers) };
        let client = connection.client;
        let (mut max, mut is_trusted) = (connection.max_message(), connection.is_trusted());
        let mut framer = Framer::default();
        loop {
            let message = match framer.next(&self.buffers.plain[..length], max) {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(_) => {
                    self.counts.drop(Dropped::Malformed);
                    return self.clients.end(number);
                }
            };
            let bytes = &self.buffers.plain[message.clone()];
            let may_ask = bytes[0] < FIRST_CHANNEL_BYTE;
            match self.server.handle_client(client, bytes, now) {
                Some(Forward::ToPeer { relay, peer, payload, dont_fragment }) => {
                    if self.output.is_full() {
                        self.flush_output();
                    }
                    let way = Way { exit: Exit::Relay(relay), to: peer, from: None, dont_fragment };
                    let payload = message.start + payload.start..message.start + payload.end;
                    self.output.push_received(way, &[], payload, 0);
                }
                Some(Forward::ToClient { client, frame, payload }) => {
                    self.clients.send(client, frame, &bytes[payload], &mut self.counts);
                }
                None => {}
            }
            if may_ask {
                self.act();
                if !is_trusted && self.server.has_allocation(client) {
                    is_trusted = true;
                    let Some(connection) = self.clients.connections.get_mut(number) else { return };
                    connection.trust();
                    max = connection.max_message();
                }
            }
        }
        let Some(connection) = self.clients.connections.get_mut(number) else { return };
        if framer.taken() > 0 {
            connection.handle_message(now.mono);
        }
        connection.keep(&self.buffers.plain[framer.taken()..length]);
        if connection.is_at_end() {
            self.clients.end(number);
        }
    }

    fn handle_relay(&mut self, relay: RelayId, events: EpollFlags) {
        let now = clock::now();
        if events.contains(EpollFlags::EPOLLERR) {
            while let Some((peer, error)) = self.relays.poll_error(relay) {
                self.server.handle_icmp(relay, peer, error, now);
            }
            self.act();
        }
        let Some(socket) = self.relays.socket(relay) else { return };
        self.receiver.clear();
        let Ok(slots) = self.receiver.receive(socket) else { return self.end_batch() };
        for arrival in slots.filter_map(|slot| self.receiver.arrival(slot)) {
            for segment in arrival.segments() {
                let forward = self.server.handle_peer(relay, arrival.from, segment.len(), now);
                if let Some(Forward::ToClient { client, frame, payload }) = forward {
                    let bytes = &self.receiver.memory()[segment][payload];
                    self.clients.send(client, frame, bytes, &mut self.counts);
                }
            }
        }
        self.end_batch();
    }

    /// Does what the server wants done.
    fn act(&mut self) {
        while let Some(action) = self.server.poll_action() {
            match action {
                Action::Reply { client, message } => self.clients.reply(client, &message, &mut self.counts),
                Action::Open { relay, family, wanted } => {
                    let now = clock::now();
                    let address = self.relays.open(relay, family, wanted, &self.epoll, now.mono);
                    self.server.handle_opened(relay, address, now);
                }
                Action::Close { relay } => {
                    self.flush_output();
                    self.relays.close(relay);
                }
            }
        }
    }

    fn flush_output(&mut self) {
        let mut exits = Exits { listeners: &[], relays: &mut self.relays };
        self.output.flush(&self.buffers.plain, &mut exits, &mut self.counts);
    }

    /// Sends what the events so far led to, and forgets the connections that ended by it.
    fn end_batch(&mut self) {
        self.flush_output();
        loop {
            self.clients.flush(&self.epoll);
            let Some(connection) = self.clients.poll_ended() else { return };
            self.server.handle_closed(connection.client);
            connection.close();
            self.act();
        }
    }

    /// Ends the connections that have not earned their place in time.
    fn sweep(&mut self, now: Instant) {
        for number in self.clients.connections.numbers() {
            let Some(connection) = self.clients.connections.get_mut(number) else { continue };
            if connection.due_at <= now {
                let has_allocation = self.server.has_allocation(connection.client);
                if !connection.may_stay(has_allocation, now) {
                    self.clients.end(number);
                }
            }
        }
    }

    fn shut(&mut self) {
        self.server.shut();
        self.act();
        for number in self.clients.connections.numbers() {
            self.clients.end(number);
        }
        self.finish_batch();
    }

    fn finish_batch(&mut self) {
        self.end_batch();
        self.counters.allocations.store(self.shared.allocations().into(), Ordering::Relaxed);
        self.counters.add(&std::mem::take(&mut self.counts));
        self.counters.add(&self.server.take_counts());
    }
}
