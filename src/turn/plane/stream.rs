//! The data plane of clients on TCP and TLS: one thread with one shard, beside the UDP workers.
//!
//! `edge` accepts, finds out what a connection is and hands it over ([`TurnStream`]); from then on it belongs to this
//! thread. Peers are reached by UDP as from any worker. Frames for a client are collected during a batch and written at
//! its end, so that a burst of packets is one segment or a few records.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tracing::debug;

use super::clients::Clients;
use super::connection::{Buffers, Connection};
use super::connections::Token;
use super::gather::{Gather, Rest};
use super::hold::Hold;
use super::output::{Exit, Exits, Output, Way};
use super::relays::{FIRST_FREE_TOKEN, Relays};
use super::udp::Common;
use super::waiting;
use crate::error::{Failure, Result};
use crate::supervisor::handover::{Door, Inbox, Latch, TurnStream};
use crate::supervisor::instance::Pulse;
use crate::sys::clock::{self, Now};
use crate::sys::mmsg::Receiver;
use crate::sys::process;
use crate::text;
use crate::turn::control::Follower;
use crate::turn::framer::Framer;
use crate::turn::server::{Action, Forward, RelayId, Server, Shared};
use crate::turn::{Counters, Counts, Dropped};

/// Sockets that one wake-up tells about; the others are told at the next.
const MAX_EVENTS: usize = 256;
/// How often it is looked which connections have outstayed their time.
const SWEPT_EVERY: Duration = Duration::from_secs(1);
/// The lowest byte of ChannelData; below are STUN messages, which may be requests. RFC 8656, section 12.
const FIRST_CHANNEL_BYTE: u8 = 0x40;
const STOP: u64 = FIRST_FREE_TOKEN;
const BELL: u64 = FIRST_FREE_TOKEN + 1;

/// Where one instance of the task takes connections in.
pub(in crate::turn) struct Entrance {
    inbox: Inbox<TurnStream>,
    /// Rung when something is in `inbox`.
    bell: Arc<EventFd>,
}

impl Entrance {
    /// Opens the door for this instance.
    ///
    /// # Errors
    /// If there is no eventfd to be had.
    pub(in crate::turn) fn open(door: &Door<TurnStream>) -> Result<Self> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|error| Failure::operator(text!("cannot make an eventfd for turn")).caused_by(error))?;
        let bell = Arc::new(bell);
        let rung = Arc::clone(&bell);
        // It fails only if it was rung so often that nobody can have missed it.
        let ring = move || {
            let _ = rung.write(1);
        };
        Ok(Self { inbox: door.open_with_bell(ring), bell })
    }

    /// What shuts the door for this instance.
    pub(in crate::turn) fn latch(&self) -> Latch<TurnStream> {
        self.inbox.latch()
    }
}

/// The thread of the stream clients.
pub(in crate::turn) struct StreamWorker<'a> {
    server: Server,
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    live: Follower,
    stop: &'a EventFd,
    one_has_ended: Arc<AtomicBool>,
    entrance: Entrance,
    epoll: Epoll,
    clients: Clients,
    relays: Relays,
    buffers: Buffers,
    receiver: Receiver,
    /// What goes to peers, its payload being in `buffers`.
    output: Output,
    gather: Gather,
    hold: Hold,
    /// Added to the shared counters once a batch.
    counts: Counts,
    /// Read since the worker last waited.
    arrivals: usize,
    swept_at: Instant,
}

impl<'a> StreamWorker<'a> {
    /// # Errors
    /// If the kernel has no epoll to give.
    pub(in crate::turn) fn new(common: &Common, entrance: Entrance, stop: &'a EventFd) -> Result<Self> {
        let failed = waiting::cannot_watch;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?;
        epoll.add(stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP)).map_err(failed)?;
        epoll.add(&entrance.bell, EpollEvent::new(EpollFlags::EPOLLIN, BELL)).map_err(failed)?;
        let Common { shared, ports, counters, live, offloads, one_has_ended } = common.clone();
        let now = clock::now();
        let live = Follower::new(live);
        let current = live.current();
        Ok(Self {
            server: Server::new(Arc::clone(&current.settings), Arc::clone(&shared), now, Box::new(rand::random)),
            shared,
            counters,
            live,
            stop,
            one_has_ended,
            entrance,
            epoll,
            clients: Clients::default(),
            relays: Relays::new(ports),
            buffers: Buffers::default(),
            receiver: Receiver::default(),
            output: Output::new(offloads.gso, 0, rand::random()),
            gather: Gather::new(current.may_gather(), now.mono),
            hold: Hold::new(now.mono),
            counts: Counts::default(),
            arrivals: 0,
            swept_at: now.mono,
        })
    }

    /// Serves until `stop` is signalled and the allocations have ended, or their time is over. Each turn of the loop,
    /// at least one a second, beats `pulse`.
    ///
    /// # Errors
    /// If waiting itself fails; nothing that a socket says ends a worker.
    pub(in crate::turn) fn run(mut self, pulse: &Pulse) -> Result<()> {
        if let Err(error) = process::set_timer_slack(waiting::TIMER_SLACK) {
            debug!(%error, "naps take longer than they should");
        }
        let mut events = [EpollEvent::empty(); MAX_EVENTS];
        let mut ends_at: Option<Instant> = None;
        loop {
            pulse.beat();
            let rests_from = clock::now().mono;
            let ready = self.rest(&mut events, ends_at, rests_from)?;
            let now = clock::now();
            self.hold.handle_rest(now.mono.saturating_duration_since(rests_from));
            self.follow_settings(now);
            for event in &events[..ready] {
                match (event.data(), Token::read(event.data())) {
                    (STOP, _) => {
                        // It stays signalled, for the other workers.
                        let _ = self.epoll.delete(self.stop);
                        self.server.drain();
                        ends_at = Some(now.mono + waiting::drain(self.live.current().drain, &self.one_has_ended));
                    }
                    (BELL, _) => self.take_in(now),
                    (_, Some(token)) => self.handle_connection(token, event.events(), now),
                    (token, None) => {
                        if let Some(relay) = Relays::by_token(token) {
                            self.handle_relay(relay, event.events(), now);
                        }
                    }
                }
            }
            self.server.handle_timeout(now);
            self.act(now);
            if now.mono >= self.swept_at + SWEPT_EVERY {
                self.swept_at = now.mono;
                self.sweep(now.mono);
            }
            let has_ended = ends_at.is_some_and(|at| at <= now.mono || self.shared.allocations() == 0);
            if has_ended {
                self.server.shut();
                self.act(now);
                self.clients.connections.numbers().into_iter().for_each(|number| self.clients.end(number));
            }
            self.gather.handle_batch(std::mem::take(&mut self.arrivals), now.mono);
            if has_ended || !self.may_hold(now.mono) {
                self.write(now);
            }
            self.tell();
            if has_ended {
                return Ok(());
            }
        }
    }

    /// Waits until something is to be done. Gives how many events there are.
    fn rest(&mut self, events: &mut [EpollEvent], ends_at: Option<Instant>, now: Instant) -> Result<usize> {
        if self.clients.have_waiting() {
            // They are held: a nap gathers more for the same write.
            let ready = waiting::nap(&self.epoll, events, self.gather.rest())?;
            if ready > 0 {
                return Ok(ready);
            }
            let now = clock::now();
            self.write(now);
            return waiting::wait(&self.epoll, events, Rest::Sleep, self.due(ends_at, now.mono));
        }
        let due = self.due(ends_at, now);
        waiting::wait(&self.epoll, events, self.gather.rest(), due)
    }

    fn due(&self, ends_at: Option<Instant>, now: Instant) -> Duration {
        let end = waiting::while_draining(ends_at, now);
        waiting::until(self.server.poll_timeout().into_iter().chain(end), now)
    }

    /// Whether frames for clients may wait for what is read next.
    fn may_hold(&mut self, now: Instant) -> bool {
        // Where packets are not gathered, nothing else waits either.
        self.gather.rest() != Rest::Sleep && self.clients.have_waiting() && self.hold.may_hold(now)
    }

    fn follow_settings(&mut self, now: Now) {
        if let Some(current) = self.live.poll_change() {
            self.server.set_settings(Arc::clone(&current.settings), now);
            self.gather.set_allowed(current.may_gather());
        }
    }

    /// Takes the connections that `edge` has handed over.
    fn take_in(&mut self, now: Now) {
        // Before the inbox is read, or a ring in between would be missed.
        let _ = self.entrance.bell.read();
        while let Some(stream) = self.entrance.inbox.try_recv() {
            let token = self.clients.connections.insert(|number| Connection::new(stream, number, now.mono));
            let Some(connection) = self.clients.connections.by_token(token) else { continue };
            let event = EpollEvent::new(EpollFlags::EPOLLIN, token.data());
            if let Err(error) = self.epoll.add(&*connection, event) {
                debug!(%error, "cannot watch a connection");
                self.clients.end(token.number);
                continue;
            }
            // A session may have something left to say of its handshake.
            self.clients.mark(token.number);
            self.read(token.number, true, now);
            self.end_batch(now);
        }
    }

    fn handle_connection(&mut self, token: Token, events: EpollFlags, now: Now) {
        let Some(connection) = self.clients.connections.by_token(token) else { return };
        if events.contains(EpollFlags::EPOLLOUT) {
            connection.handle_writable();
            self.clients.mark(token.number);
        }
        if events.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            self.read(token.number, false, now);
        }
        self.end_batch(now);
    }

    /// Reads a connection once and handles the messages that are whole. `is_first`: what was read of it before.
    fn read(&mut self, number: u32, is_first: bool, now: Now) {
        let Some(connection) = self.clients.connections.get_mut(number) else { return };
        let buffers = &mut self.buffers;
        let length = if is_first { connection.read_held(buffers) } else { connection.read(buffers) };
        let client = connection.client;
        self.arrivals += 1;
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
                self.act(now);
                if !is_trusted && self.server.has_allocation(&client) {
                    is_trusted = true;
                    let Some(connection) = self.clients.connections.get_mut(number) else { return };
                    connection.trust();
                    max = connection.max_message();
                }
            }
        }
        let Some(connection) = self.clients.connections.get_mut(number) else { return };
        if framer.taken() > 0 {
            connection.patience.handle_message(now.mono);
        }
        connection.keep(&self.buffers.plain[framer.taken()..length]);
        if connection.is_at_end() {
            self.clients.end(number);
        }
    }

    fn handle_relay(&mut self, relay: RelayId, events: EpollFlags, now: Now) {
        if events.contains(EpollFlags::EPOLLERR) {
            let (server, tells) = (&mut self.server, self.live.current().tells_icmp());
            // What is not told is read all the same, or the socket would never be quiet.
            self.relays.hear(relay, |peer, error| {
                if tells {
                    server.handle_icmp(relay, peer, error, now);
                }
            });
            self.act(now);
        }
        let Some(socket) = self.relays.socket(relay) else { return };
        self.receiver.clear();
        let Ok(slots) = self.receiver.receive(socket) else { return self.end_batch(now) };
        self.arrivals += slots.len();
        for arrival in slots.filter_map(|slot| self.receiver.arrival(slot)) {
            for segment in arrival.segments() {
                let forward = self.server.handle_peer(relay, arrival.from, segment.len(), now);
                if let Some(Forward::ToClient { client, frame, payload }) = forward {
                    let bytes = &self.receiver.memory()[segment][payload];
                    self.clients.send(client, frame, bytes, &mut self.counts);
                }
            }
        }
        self.end_batch(now);
    }

    /// Does what the server wants done.
    fn act(&mut self, now: Now) {
        while let Some(action) = self.server.poll_action() {
            match action {
                Action::Reply { client, message } => self.clients.reply(client, &message, &mut self.counts),
                Action::Open { relay, family, wanted } => {
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

    /// Sends to peers what an event has led to, and forgets the connections that ended by it.
    fn end_batch(&mut self, now: Now) {
        self.flush_output();
        while let Some(connection) = self.clients.poll_ended() {
            self.server.handle_closed(connection.client);
            connection.close();
            self.act(now);
        }
    }

    /// Sends to clients what waits.
    fn write(&mut self, now: Now) {
        loop {
            self.clients.flush(&self.epoll);
            if !self.clients.have_ended() {
                let (frames, writes) = self.clients.take_written();
                return self.hold.handle_written(frames, writes, now.mono);
            }
            // What ended may have led to something for others.
            self.end_batch(now);
        }
    }

    /// Ends the connections that have not earned their place in time.
    fn sweep(&mut self, now: Instant) {
        for number in self.clients.connections.numbers() {
            let Some(connection) = self.clients.connections.get_mut(number) else { continue };
            let client = connection.client;
            if !connection.patience.may_stay(|| self.server.has_allocation(&client), now) {
                self.clients.end(number);
            }
        }
    }

    /// Adds to the counters of all workers.
    fn tell(&mut self) {
        self.counters.allocations.store(self.shared.allocations().into(), Ordering::Relaxed);
        self.counters.add(&std::mem::take(&mut self.counts));
        self.counters.add(&self.server.take_counts());
    }
}
