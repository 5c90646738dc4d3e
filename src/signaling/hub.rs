//! What happens on the sockets: turns packets into questions to [`Rooms`], and answers into packets.
//!
//! The engine calls it for one packet of a socket after the other, and nothing here waits: see [`super`] for the
//! order of messages that follows from it.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use serde_json::{Value, json};
use tracing::debug;

use super::counters::{Counters, End, Limit};
use super::ebb::Ebb;
use super::engine::{Handler, Sent, Socket, Version};
use super::limits::{Addresses, Bucket, Passage};
use super::lock;
use super::message::{Auth, room};
use super::packet::{self, Event, Incoming};
use super::rooms::{Joined, Rooms, SocketId, Told};
use super::task::LiveConfig;
use crate::access::{Gate, Refusal, Shown, User};
use crate::supervisor::handover::OwnRequest;
use crate::sys::{clock, memory};
use crate::turn::ice::LiveIce;

/// Rooms that probes may have at a time; they use one, and the one before may not have ended yet.
const MAX_PROBE_ROOMS: usize = 8;
/// How long a connection may take to join the namespace.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);
/// How long a socket that is turned away may take to fetch the reason.
const TOLD_WITHIN: Duration = Duration::from_secs(2);
/// Sockets beyond all bounds that are told why; more are turned away by HTTP.
const MAX_TURNED_AWAY: usize = 256;
/// How often places and deadlines are looked at, at most.
const SWEPT_EVERY: Duration = Duration::from_millis(500);

pub(super) type Peer = Arc<Socket<Caller>>;

/// What is kept for one socket.
pub(super) struct Caller {
    client: IpAddr,
    /// A probe of this process.
    is_probe: bool,
    /// The name that it knows this host by.
    host: Option<String>,
    state: Mutex<Phase>,
}

/// How far a socket has come. `ends_at`: unless it goes on.
enum Phase {
    Arrived {
        ends_at: Instant,
        shown: Shown,
        bucket: Bucket,
    },
    /// `user`: whose relays are counted.
    Connected {
        session: Option<String>,
        user: User,
        bucket: Bucket,
    },
    TurnedAway {
        ends_at: Instant,
    },
}

/// The sockets that are there.
#[derive(Default)]
struct Crowd {
    peers: HashMap<SocketId, Peer>,
    addresses: Addresses,
    /// Those of users.
    count: usize,
    turned_away: usize,
    deadlines: BTreeSet<(Instant, SocketId)>,
    ebb: Ebb,
}

/// Everything that sockets share.
pub(super) struct Hub {
    config: LiveConfig,
    ice: LiveIce,
    gate: Gate,
    counters: Arc<Counters>,
    rooms: Mutex<Rooms>,
    /// Those of this process's own probes: whatever users call theirs, nobody meets a probe and no probe is counted.
    probe_rooms: Mutex<Rooms>,
    crowd: Mutex<Crowd>,
    swept_at: Mutex<Option<Instant>>,
    ends: AtomicBool,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

/// From where a request comes, among its extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct From(pub(super) IpAddr);

impl Hub {
    pub(super) fn new(config: LiveConfig, (ice, gate): (LiveIce, Gate), counters: Arc<Counters>) -> Self {
        let bounds = config.load();
        let rooms = Mutex::new(Rooms::new(bounds.max_rooms, bounds.max_rooms_per_socket));
        let probe_rooms = Mutex::new(Rooms::new(MAX_PROBE_ROOMS, 1));
        let (crowd, swept_at, ends) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        Self { config, ice, gate, counters, rooms, probe_rooms, crowd, swept_at, ends }
    }

    /// Tells every page that the server goes away for a moment, then ends all sockets.
    pub(super) fn close(&self) {
        self.ends.store(true, Relaxed);
        #[expect(clippy::disallowed_methods, reason = "they all hear the same, in no order")]
        let peers: Vec<Peer> = self.crowd().peers.values().cloned().collect();
        for peer in &peers {
            // Old pages do not know this event.
            self.send(peer, packet::event("restarting", None));
            peer.end(End::Closed);
        }
    }

    /// When [`Hub::handle_timeout`] has something to do, unless something comes in between.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let places = [false, true].map(|is_probe| self.rooms(is_probe).poll_timeout());
        let deadline = self.crowd().deadlines.first().map(|(at, _)| *at);
        let due = places.into_iter().chain([deadline]).flatten().min()?;
        Some(lock(&self.swept_at).map_or(due, |swept_at| due.max(swept_at + SWEPT_EVERY)))
    }

    /// Frees places that were kept in vain, and ends sockets that have not come far enough in time.
    pub(super) fn handle_timeout(&self, now: Instant) {
        {
            let mut swept_at = lock(&self.swept_at);
            if swept_at.is_some_and(|at| now.saturating_duration_since(at) < SWEPT_EVERY) {
                return;
            }
            *swept_at = Some(now);
        }
        for is_probe in [false, true] {
            let told = self.rooms(is_probe).handle_timeout(now);
            self.tell(&told);
        }
        let due: Vec<Peer> = {
            let mut crowd = self.crowd();
            crowd.addresses.tidy(now);
            let count = crowd.count;
            if crowd.ebb.is_due(count) {
                crowd.peers.shrink_to_fit();
                self.rooms(false).shrink();
                // It looks through all that is free, which takes a while.
                tokio::task::spawn_blocking(memory::give_back);
            }
            let later = crowd.deadlines.split_off(&(now, SocketId::new()));
            let due = std::mem::replace(&mut crowd.deadlines, later);
            due.iter().filter_map(|(_, id)| crowd.peers.get(id).cloned()).collect()
        };
        for peer in due {
            let caller = &peer.caller;
            let is_silent = match *lock(&caller.state) {
                Phase::Arrived { ends_at, .. } => ends_at <= now,
                Phase::TurnedAway { .. } => false,
                Phase::Connected { .. } => continue,
            };
            if is_silent && !caller.is_probe {
                self.counters.count(Limit::Silent);
            }
            peer.end(End::Closed);
        }
    }

    /// Why a new socket cannot stay, if it cannot.
    fn refusal(&self, caller: &Caller) -> Option<(Limit, &'static str)> {
        if caller.is_probe {
            return None;
        }
        let config = self.config.load();
        let mut crowd = self.crowd();
        crowd.count += 1;
        let fits_address = crowd.addresses.enter(caller.client, config.max_sockets_per_address);
        self.counters.sockets.store(crowd.count as u64, Relaxed);
        if crowd.count - crowd.turned_away > config.max_sockets {
            Some((Limit::Sockets, "the server is full, try again later"))
        } else if !fits_address {
            Some((Limit::SocketsOfAddress, "too many connections come from your address, try again later"))
        } else {
            None
        }
    }

    /// It wants to be in the namespace, and is unless it may not be; then it is told why, and may ask again.
    fn connected(&self, peer: &Peer, auth: &str) {
        let shown = match &*lock(&peer.caller.state) {
            Phase::Arrived { shown, .. } => shown.clone(),
            Phase::Connected { .. } | Phase::TurnedAway { .. } => return,
        };
        let auth = Auth::read(auth);
        let user = match self.let_in(&peer.caller, shown, &auth) {
            Ok(user) => user,
            Err(refusal) => {
                return self.send(peer, packet::connect_error("/", &refusal.to_string(), is_old(peer)));
            }
        };
        {
            let mut state = lock(&peer.caller.state);
            let Phase::Arrived { bucket, .. } = &*state else { return };
            *state = Phase::Connected { session: auth.session, user, bucket: bucket.clone() };
        }
        self.send(peer, packet::connected((!is_old(peer)).then_some(&peer.id)));
    }

    /// Who connects, if they may.
    fn let_in(&self, caller: &Caller, shown: Shown, auth: &Auth) -> Result<User, Refusal> {
        if caller.is_probe {
            return Ok(self.gate.user_from(caller.client));
        }
        let shown = shown.with_key(auth.key.as_deref());
        self.gate.admit(&shown, caller.client, clock::now()).or_else(|refusal| {
            // Who was let in stays in: an interruption is no reason to ask somebody in a call for the new key.
            let has_place = auth.session.as_ref().is_some_and(|session| self.rooms(false).knows(session));
            if has_place { Ok(self.gate.user_from(caller.client)) } else { Err(refusal) }
        })
    }

    fn packet(&self, peer: &Peer, text: &str) {
        if !self.admit(peer) {
            return;
        }
        let most = self.config.load().max_message;
        if text.len() > most {
            self.counters.count(Limit::MessageSize);
            return self.complain(peer, &format!("a message may have at most {most} bytes"));
        }
        let Ok(packet) = packet::read(text) else {
            self.counters.count(Limit::Unreadable);
            return peer.end(End::Packet);
        };
        match packet {
            Incoming::Connect { namespace: "/", auth } => self.connected(peer, auth),
            Incoming::Connect { namespace, .. } => {
                self.send(peer, packet::connect_error(namespace, "Invalid namespace", is_old(peer)));
            }
            Incoming::Disconnect { namespace: "/" } => {
                self.lost(peer, true);
                peer.end(End::Closed);
            }
            Incoming::Disconnect { .. } | Incoming::Ignored => {}
            Incoming::Unreadable(why) => {
                self.counters.count(Limit::Unreadable);
                self.complain(peer, why);
            }
            Incoming::Event { ack, event } => {
                // Before that it is not in the namespace.
                if !matches!(*lock(&peer.caller.state), Phase::Connected { .. }) {
                    return;
                }
                match event.name.as_str() {
                    "message" => self.message(peer, &event),
                    "join" => self.join(peer, &event, ack),
                    "leave" => self.leave(peer, &event),
                    _ => {}
                }
            }
        }
    }

    /// Whether a socket may send one more packet.
    fn admit(&self, peer: &Peer) -> bool {
        let passage = match &mut *lock(&peer.caller.state) {
            Phase::Arrived { bucket, .. } | Phase::Connected { bucket, .. } => bucket.take(clock::now().mono),
            Phase::TurnedAway { .. } => return false,
        };
        match passage {
            Passage::Passes => return true,
            Passage::RefusedFirst => {
                let rate = self.config.load().max_rate;
                self.complain(peer, &format!("messages were dropped: at most {rate} a second are taken"));
            }
            Passage::Refused => {}
            Passage::Flood => {
                self.counters.count(Limit::Flood);
                debug!("a socket floods and is cut");
                peer.cut();
                return false;
            }
        }
        self.counters.count(Limit::MessageRate);
        false
    }

    fn join(&self, peer: &Peer, event: &Event<'_>, ack: Option<&str>) {
        let answer = |answer: &Value| {
            // A client that asked for no acknowledgement gets none.
            if let Some(ack) = ack {
                self.send(peer, packet::acknowledgement(ack, answer));
            }
        };
        let refuse = |limit: Option<Limit>, why: &str| {
            if let Some(limit) = limit {
                self.counters.count(limit);
            }
            answer(&json!({ "ok": false, "error": why }));
            self.complain(peer, why);
        };
        let room = match room(event.first) {
            Ok(room) => room,
            Err(why) => return refuse(None, why),
        };
        let Caller { client, is_probe, host, state } = &peer.caller;
        let (session, user) = match &*lock(state) {
            Phase::Connected { session, user, .. } => (session.clone(), user.clone()),
            Phase::Arrived { .. } | Phase::TurnedAway { .. } => return,
        };
        let config = self.config.load();
        let now = clock::now();
        if !is_probe && !self.crowd().addresses.join(*client, config.max_joins_per_address, now.mono) {
            return refuse(Some(Limit::JoinsOfAddress), "too many joins come from your address, try again in a moment");
        }
        let (joined, told) = {
            let mut rooms = self.rooms(*is_probe);
            if !is_probe {
                rooms.set_bounds(config.max_rooms, config.max_rooms_per_socket);
            }
            rooms.join(&peer.id, session.as_deref(), &room)
        };
        self.tell(&told);
        match joined {
            Joined::In { others } => {
                if ack.is_some() {
                    let ice = self.ice.current().configuration(user.as_str(), host.as_deref(), now);
                    let (id, servers, ttl) = (&peer.id, ice.ice_servers, ice.ttl);
                    answer(&json!({ "ok": true, "id": id, "peers": others, "iceServers": servers, "ttl": ttl }));
                }
            }
            Joined::Full => answer(&json!({ "ok": false, "id": peer.id, "error": "full" })),
            Joined::TooManyRooms => refuse(Some(Limit::Rooms), "too many rooms"),
            Joined::TooManyOfSocket => refuse(Some(Limit::RoomsOfSocket), "you are in too many rooms"),
        }
    }

    fn message(&self, peer: &Peer, event: &Event<'_>) {
        let room = match room(event.first) {
            Ok(room) => room,
            Err(why) => return self.complain(peer, why),
        };
        // Who is not in the room is not heard there.
        let is_probe = peer.caller.is_probe;
        let others = self.rooms(is_probe).others(&peer.id, &room);
        let (Some(others), Some(name)) = (others, event.first) else { return };
        for other in others {
            let other = self.crowd().peers.get(&other).cloned();
            if let Some(other) = other {
                self.send(&other, packet::message(name, event.second));
            }
            if !is_probe {
                self.counters.messages.fetch_add(1, Relaxed);
            }
        }
    }

    fn leave(&self, peer: &Peer, event: &Event<'_>) {
        match room(event.first) {
            Ok(room) => {
                let told = self.rooms(peer.caller.is_probe).leave(&peer.id, &room);
                self.tell(&told);
            }
            Err(why) => self.complain(peer, why),
        }
    }

    fn lost(&self, peer: &Peer, is_clean: bool) {
        let told = self.rooms(peer.caller.is_probe).lose(&peer.id, is_clean, clock::now().mono);
        self.tell(&told);
    }

    /// Tells what has changed in the rooms, and counts them: they change as well where there is nobody to tell.
    fn tell(&self, told: &[Told]) {
        for Told { to, event, room, about } in told {
            let peer = self.crowd().peers.get(to).cloned();
            if let Some(peer) = peer {
                self.send(&peer, packet::told(event, room, about));
            }
        }
        let (rooms, peers) = {
            let rooms = self.rooms(false);
            (rooms.rooms(), rooms.peers())
        };
        self.counters.rooms.store(rooms as u64, Relaxed);
        self.counters.peers.store(peers as u64, Relaxed);
    }

    /// An event that old pages ignore, for who writes a new one.
    fn complain(&self, peer: &Peer, why: &str) {
        self.send(peer, packet::event("error", Some(why)));
    }

    /// Queues a packet. What one message is missing from is no conversation any more: a receiver that does not read
    /// is cut.
    fn send(&self, peer: &Peer, packet: String) {
        let config = self.config.load();
        let most = config.max_queue.max(2 * config.max_message);
        if peer.send(packet, most) == Sent::Full {
            if !peer.caller.is_probe {
                self.counters.count(Limit::Queue);
            }
            debug!("a socket does not read what it is sent, and is cut");
            peer.cut();
        }
    }

    fn rooms(&self, is_probe: bool) -> MutexGuard<'_, Rooms> {
        lock(if is_probe { &self.probe_rooms } else { &self.rooms })
    }

    fn crowd(&self) -> MutexGuard<'_, Crowd> {
        lock(&self.crowd)
    }
}

impl Handler for Hub {
    type Caller = Caller;

    fn greet(&self, head: &Parts) -> Caller {
        let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
        let now = clock::now().mono;
        Caller {
            client: head.extensions.get().map_or(Ipv4Addr::UNSPECIFIED.into(), |From(client)| *client),
            is_probe: head.extensions.get::<OwnRequest>().is_some(),
            host: host.map(|host| host.host().to_owned()),
            state: Mutex::new(Phase::Arrived {
                ends_at: now + CONNECTED_WITHIN,
                shown: Shown::of(&head.headers, &head.uri),
                bucket: Bucket::new(self.config.load().max_rate, now),
            }),
        }
    }

    fn is_overrun(&self) -> bool {
        let is_overrun = self.crowd().turned_away >= MAX_TURNED_AWAY;
        if is_overrun {
            self.counters.count(Limit::Sockets);
        }
        is_overrun
    }

    fn arrived(&self, peer: &Peer) {
        let refusal = self.refusal(&peer.caller);
        let ends_at = {
            let mut state = lock(&peer.caller.state);
            if refusal.is_some() {
                *state = Phase::TurnedAway { ends_at: clock::now().mono + TOLD_WITHIN };
            }
            state.ends_at()
        };
        {
            let mut crowd = self.crowd();
            crowd.peers.insert(peer.id.clone(), Arc::clone(peer));
            crowd.deadlines.extend(ends_at.map(|ends_at| (ends_at, peer.id.clone())));
            crowd.turned_away += usize::from(refusal.is_some());
        }
        if self.ends.load(Relaxed) {
            return peer.end(End::Closed);
        }
        if let Some((limit, why)) = refusal {
            self.counters.count(limit);
            debug!(limit = limit.as_str(), "a socket is turned away");
            self.send(peer, packet::connect_error("/", why, is_old(peer)));
        } else if is_old(peer) {
            // These are in the main namespace without asking.
            self.connected(peer, "");
        }
    }

    fn heard(&self, peer: &Peer, message: &str) {
        self.packet(peer, message);
    }

    fn noticed(&self, peer: &Peer) {
        self.admit(peer);
    }

    fn gone(&self, peer: &Peer, end: End) {
        {
            let mut crowd = self.crowd();
            crowd.peers.remove(&peer.id);
            let state = lock(&peer.caller.state);
            if let Some(ends_at) = state.ends_at() {
                crowd.deadlines.remove(&(ends_at, peer.id.clone()));
            }
            if !peer.caller.is_probe {
                crowd.turned_away -= usize::from(matches!(*state, Phase::TurnedAway { .. }));
                crowd.count -= 1;
                crowd.addresses.leave(peer.caller.client);
                self.counters.sockets.store(crowd.count as u64, Relaxed);
                self.counters.count_end(end);
            }
        }
        self.lost(peer, end.is_clean());
    }
}

impl Phase {
    /// When the socket is to have come further.
    fn ends_at(&self) -> Option<Instant> {
        match self {
            Self::Arrived { ends_at, .. } | Self::TurnedAway { ends_at } => Some(*ends_at),
            Self::Connected { .. } => None,
        }
    }
}

/// Whether a client speaks protocol 4 of Socket.IO.
fn is_old(peer: &Peer) -> bool {
    peer.version == Version::V3
}
