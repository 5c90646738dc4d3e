//! The data plane of clients on UDP: a thread a worker, each with listeners of its own and one [`Server`].
//!
//! `SO_REUSEPORT` keeps a client on its worker, so workers share nothing on the packet path. A worker sleeps in epoll
//! or naps ([`gather`]), reads a bounded batch from whatever is ready, lets the server decide on each datagram, and
//! sends what came of the batch, sorted by destination.
//!
//! [`gather`]: super::gather

use std::ops::Range;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::EventFd;
use tracing::{debug, warn};

use super::gather::Gather;
use super::output::{Exit, Exits, Output, Way};
use super::relays::{FIRST_FREE_TOKEN, Relays};
use super::waiting;
use crate::error::Result;
use crate::supervisor::instance::Pulse;
use crate::sys::clock::{self, Now};
use crate::sys::mmsg::Receiver;
use crate::sys::mmsg::receive::PIECES;
use crate::sys::{process, udp::Offloads};
use crate::turn::control::{Follower, Live};
use crate::turn::relay_ports::RelayPorts;
use crate::turn::server::{Action, Client, Forward, Frame, RelayId, Server, Shared, Transport};
use crate::turn::sockets::Listener;
use crate::turn::{Counters, Counts, Dropped};

/// Sockets that one wake-up tells about; the others are told at the next.
const MAX_EVENTS: usize = 128;
/// Pieces that there is room for when a socket is read, so that what belongs together is not read apart.
const FEWEST_FREE: usize = 8;
/// How often it is looked whether anybody still uses a port that was moved away from.
const LOOKED_EVERY: Duration = Duration::from_secs(1);
const STOP: u64 = FIRST_FREE_TOKEN;
const FIRST_LISTENER: u64 = FIRST_FREE_TOKEN + 1;

/// One thread of the data plane.
pub(in crate::turn) struct Worker<'a> {
    server: Server,
    shared: Arc<Shared>,
    /// Which of the workers this is.
    number: usize,
    /// By number; allocations know theirs by it.
    listeners: Vec<Option<Listener>>,
    /// When it was last said which listeners nobody uses; `None`: none drains.
    looked_at: Option<Instant>,
    counters: Arc<Counters>,
    live: Follower,
    stop: &'a EventFd,
    one_has_ended: Arc<AtomicBool>,
    epoll: Epoll,
    relays: Relays,
    receiver: Receiver,
    output: Output,
    gather: Gather,
    /// Added to the shared counters once a batch.
    counts: Counts,
    /// Read since the worker last waited.
    arrivals: usize,
    was_gso_on: bool,
}

/// What all workers of an instance have in common.
#[derive(Clone)]
pub(in crate::turn) struct Common {
    pub(in crate::turn) shared: Arc<Shared>,
    pub(in crate::turn) ports: Arc<RelayPorts>,
    pub(in crate::turn) counters: Arc<Counters>,
    pub(in crate::turn) live: Arc<Live>,
    pub(in crate::turn) offloads: Offloads,
    /// A worker has ended.
    pub(in crate::turn) one_has_ended: Arc<AtomicBool>,
}

impl<'a> Worker<'a> {
    /// # Errors
    /// If the kernel has no epoll to give.
    pub(in crate::turn) fn new(common: &Common, number: usize, stop: &'a EventFd) -> Result<Self> {
        let failed = waiting::cannot_watch;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?;
        epoll.add(stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP)).map_err(failed)?;
        let Common { shared, ports, counters, live, offloads, one_has_ended } = common.clone();
        let now = clock::now();
        let live = Follower::new(live);
        let current = live.current();
        let listeners = current.listeners(number);
        for (token, listener) in (FIRST_LISTENER..).zip(&listeners) {
            if let Some(listener) = listener {
                epoll.add(&*listener.socket, EpollEvent::new(EpollFlags::EPOLLIN, token)).map_err(failed)?;
            }
        }
        Ok(Self {
            server: Server::new(Arc::clone(&current.settings), Arc::clone(&shared), now, Box::new(rand::random)),
            shared,
            number,
            output: Output::new(offloads.gso, listeners.len(), rand::random()),
            listeners,
            looked_at: None,
            counters,
            live,
            stop,
            one_has_ended,
            epoll,
            relays: Relays::new(ports),
            receiver: Receiver::default(),
            gather: Gather::new(current.may_gather(), now.mono),
            counts: Counts::default(),
            arrivals: 0,
            was_gso_on: offloads.gso,
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
            let now = clock::now().mono;
            let end = waiting::while_draining(ends_at, now);
            let due = waiting::until(self.server.poll_timeout().into_iter().chain(end), now);
            let ready = waiting::wait(&self.epoll, &mut events, self.gather.rest(), due)?;
            let now = clock::now();
            self.follow_settings(now);
            self.look_at_draining(now.mono);
            for event in &events[..ready] {
                match event.data() {
                    STOP => {
                        // It stays signalled, for the other workers.
                        let _ = self.epoll.delete(self.stop);
                        self.server.drain();
                        ends_at = Some(now.mono + waiting::drain(self.live.current().drain, &self.one_has_ended));
                    }
                    token if token >= FIRST_LISTENER => self.read_listener(token - FIRST_LISTENER, now),
                    token => {
                        if let Some(relay) = Relays::by_token(token) {
                            self.handle_relay(relay, event.events(), now);
                        }
                    }
                }
            }
            self.server.handle_timeout(now);
            self.act(now);
            let has_ended = ends_at.is_some_and(|at| at <= now.mono || self.shared.allocations() == 0);
            if has_ended {
                self.server.shut();
                self.act(now);
            }
            self.end_batch();
            self.tell();
            self.gather.handle_batch(std::mem::take(&mut self.arrivals), now.mono);
            if has_ended {
                return Ok(());
            }
        }
    }

    fn follow_settings(&mut self, now: Now) {
        if let Some(current) = self.live.poll_change() {
            self.server.set_settings(Arc::clone(&current.settings), now);
            self.gather.set_allowed(current.may_gather());
            self.follow_listeners(current.listeners(self.number));
        }
    }

    /// Watches new listeners, and lets go of those that have drained, with the allocations of whoever stayed too long.
    fn follow_listeners(&mut self, listeners: Vec<Option<Listener>>) {
        let old = std::mem::replace(&mut self.listeners, listeners);
        self.output.set_listeners(self.listeners.len());
        self.looked_at = None;
        for number in 0..old.len().max(self.listeners.len()) {
            let (was, is) =
                (old.get(number).and_then(Option::as_ref), self.listeners.get(number).and_then(Option::as_ref));
            let is_same = was.zip(is).is_some_and(|(was, is)| was.is(is));
            if let Some(was) = was.filter(|_| !is_same) {
                let _ = self.epoll.delete(&*was.socket);
                self.server.handle_unbound(u32::try_from(number).expect("listeners are few"));
            }
            if let Some(is) = is.filter(|_| !is_same) {
                let event = EpollEvent::new(EpollFlags::EPOLLIN, FIRST_LISTENER + number as u64);
                if let Err(error) = self.epoll.add(&*is.socket, event) {
                    warn!(%error, address = %is.address, "cannot watch a listener that was moved to");
                }
            }
        }
    }

    /// Says once a second which of the draining listeners nobody uses.
    fn look_at_draining(&mut self, now: Instant) {
        let is_fresh = self.looked_at.is_some_and(|at| now.saturating_duration_since(at) < LOOKED_EVERY);
        if is_fresh || !self.listeners.iter().flatten().any(|listener| listener.drains) {
            return;
        }
        self.looked_at = Some(now);
        for (via, listener) in (0..).zip(&self.listeners) {
            if let Some(listener) = listener.as_ref().filter(|listener| listener.drains) {
                listener.say_idle(!self.server.is_reached_by(via));
            }
        }
    }

    fn read_listener(&mut self, index: u64, now: Now) {
        let Ok(number) = u8::try_from(index) else { return };
        let Some(listener) = self.listeners.get(usize::from(number)).cloned().flatten() else { return };
        // As long as there is more: packets of one client meet again only within a batch.
        loop {
            self.make_room();
            let Ok(slots) = self.receiver.receive(listener.socket.as_fd()) else { return };
            let is_last = slots.len() < PIECES || self.receiver.free() < FEWEST_FREE;
            self.arrivals += slots.len();
            for slot in slots {
                let Some(arrival) = self.receiver.arrival(slot) else { continue };
                let local = arrival.local.unwrap_or(listener.address.ip());
                let client = Client { remote: arrival.from, local, transport: Transport::Udp, via: number.into() };
                for segment in arrival.segments() {
                    match self.server.handle_client(client, &self.receiver.memory()[segment.clone()], now) {
                        Some(forward) => {
                            let headroom = arrival.headroom(&segment);
                            self.forward(forward, segment, headroom);
                        }
                        // Most likely it was a message, which may have led to anything.
                        None => self.act(now),
                    }
                }
            }
            if is_last {
                return;
            }
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
        self.make_room();
        let Some(socket) = self.relays.socket(relay) else { return };
        let Ok(slots) = self.receiver.receive(socket) else { return };
        self.arrivals += slots.len();
        for slot in slots {
            let Some(arrival) = self.receiver.arrival(slot) else { continue };
            for segment in arrival.segments() {
                if let Some(forward) = self.server.handle_peer(relay, arrival.from, segment.len(), now) {
                    let headroom = arrival.headroom(&segment);
                    self.forward(forward, segment, headroom);
                }
            }
        }
    }

    /// Hands over what came in at `segment`, before which `headroom` bytes may be written over.
    fn forward(&mut self, forward: Forward, segment: Range<usize>, headroom: usize) {
        if self.output.is_full() {
            self.send();
        }
        match forward {
            Forward::ToClient { client, frame, payload } => {
                let way = self.way_to(&client);
                let place = segment.start + payload.start..segment.start + payload.end;
                let mut header = [0; Frame::MAX_HEADER];
                let Some((length, padding)) = frame.write_header(client.transport, payload.len(), &mut header) else {
                    return self.counts.drop(Dropped::TooLong);
                };
                let header = &header[..length];
                // What came before the payload has been read.
                if length <= headroom + payload.start {
                    let start = place.start - length;
                    self.receiver.memory_mut()[start..place.start].copy_from_slice(header);
                    self.output.push_received(way, &[], start..place.end, padding);
                } else {
                    self.output.push_received(way, header, place, padding);
                }
            }
            Forward::ToPeer { relay, peer, payload, dont_fragment } => {
                let way = Way { exit: Exit::Relay(relay), to: peer, from: None, dont_fragment };
                let payload = segment.start + payload.start..segment.start + payload.end;
                self.output.push_received(way, &[], payload, 0);
            }
        }
    }

    /// Out by the listener that the client sends to; its client may be another worker's.
    fn way_to(&self, client: &Client) -> Way {
        let listener = self.listeners.get(client.via as usize).and_then(Option::as_ref);
        // One that is bound to an address sends from that anyway.
        let from = listener.filter(|listener| listener.address.ip().is_unspecified()).map(|_| client.local);
        Way { exit: Exit::Listener(client.via), to: client.remote, from, dont_fragment: false }
    }

    /// Does what the server wants done.
    fn act(&mut self, now: Now) {
        while let Some(action) = self.server.poll_action() {
            match action {
                Action::Reply { client, message } => {
                    if self.output.is_full() {
                        self.send();
                    }
                    self.output.push_copied(self.way_to(&client), &[&message]);
                }
                Action::Open { relay, family, wanted } => {
                    let address = self.relays.open(relay, family, wanted, &self.epoll, now.mono);
                    self.server.handle_opened(relay, address, now);
                }
                Action::Close { relay } => {
                    self.send();
                    self.relays.close(relay);
                }
            }
        }
    }

    fn make_room(&mut self) {
        if self.receiver.free() < FEWEST_FREE {
            self.end_batch();
        }
    }

    /// Sends what waits; what was received stays.
    fn send(&mut self) {
        let mut exits = Exits { listeners: &self.listeners, relays: &mut self.relays };
        self.output.flush(self.receiver.memory(), &mut exits, &mut self.counts);
    }

    fn end_batch(&mut self) {
        self.send();
        self.receiver.clear();
    }

    /// Adds to the counters of all workers.
    fn tell(&mut self) {
        let is_gso_on = self.output.is_gso_on();
        if is_gso_on != self.was_gso_on {
            self.was_gso_on = is_gso_on;
            self.counters.path.gso.store(is_gso_on, Ordering::Relaxed);
        }
        self.counters.allocations.store(self.shared.allocations().into(), Ordering::Relaxed);
        self.counters.add(&std::mem::take(&mut self.counts));
        self.counters.add(&self.server.take_counts());
    }
}
