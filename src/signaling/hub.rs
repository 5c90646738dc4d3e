//! What happens on the sockets: turns packets into questions to [`Rooms`], and answers into packets.
//!
//! The library calls it for one packet of a socket after the other, and nothing here waits: see [`super`] for the
//! order of messages that follows from it.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use engineioxide::handler::EngineIoHandler;
use engineioxide::{DisconnectReason, ProtocolVersion, Socket, Str};
use http::header::HOST;
use http::uri::Authority;
use serde_json::{Value, json};
use tokio::time::timeout;
use tracing::debug;

use super::counters::{Counters, End, Limit};
use super::ebb::Ebb;
use super::limits::{Addresses, Bucket, Passage};
use super::message::{Auth, room};
use super::outbox::Outbox;
use super::packet::{self, Event, Incoming};
use super::rooms::{Joined, Rooms, SocketId, Told};
use super::task::LiveConfig;
use crate::access::{Gate, Refusal, Shown, User};
use crate::supervisor::handover::{Hangup, OwnRequest};
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
/// How often it is looked whether all sockets are gone.
const LOOKED_EVERY: Duration = Duration::from_millis(2);

pub(super) type Peer = Arc<Socket<Slot>>;

/// What the library keeps for one socket: filled as soon as there is one.
#[derive(Debug, Default)]
pub(super) struct Slot(OnceLock<Caller>);

/// What is kept for one socket.
#[derive(Debug)]
struct Caller {
    id: SocketId,
    client: IpAddr,
    /// A probe of this process.
    is_probe: bool,
    outbox: Outbox,
    state: Mutex<Phase>,
    /// Ends the WebSocket's connection, if there is one.
    hangup: Mutex<Option<Hangup>>,
}

/// How far a socket has come. `ends_at`: unless it goes on.
#[derive(Debug)]
enum Phase {
    Arrived {
        ends_at: Instant,
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
    /// What it has sent and nobody has read yet is nobody's business any more.
    Ended,
}

/// The sockets that are there.
#[derive(Debug, Default)]
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

    /// Whether so many sockets wait to hear that they are too many that no more should be made for that.
    pub(super) fn is_overrun(&self) -> bool {
        let is_overrun = self.crowd().turned_away >= MAX_TURNED_AWAY;
        if is_overrun {
            self.counters.count(Limit::Sockets);
        }
        is_overrun
    }

    /// A session that began by polling has got a WebSocket.
    pub(super) fn upgraded(&self, id: &str, hangup: Hangup) {
        let peer = self.crowd().peers.get(id).cloned();
        if let Some(caller) = peer.as_ref().and_then(|peer| caller(peer)) {
            *lock(&caller.hangup) = Some(hangup);
        }
    }

    /// Tells every page that the server goes away for a moment, then closes all sockets, which have so long to hear it.
    pub(super) async fn close(&self, within: Duration) {
        self.ends.store(true, Relaxed);
        #[expect(clippy::disallowed_methods, reason = "they all hear the same, in no order")]
        let peers: Vec<Peer> = self.crowd().peers.values().cloned().collect();
        for peer in &peers {
            // Old pages do not know this event.
            self.send(peer, packet::event("restarting", None));
            peer.close(DisconnectReason::ClosingServer);
        }
        drop(peers);
        let gone = async {
            while !self.crowd().peers.is_empty() {
                tokio::time::sleep(LOOKED_EVERY).await;
            }
        };
        // Whoever does not hear it notices that the connection is gone.
        let _ = timeout(within, gone).await;
    }

    /// When [`Hub::handle_timeout`] has something to do, unless something comes in between.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let places = [false, true].map(|is_probe| self.rooms(is_probe).poll_timeout());
        let deadline = self.crowd().deadlines.first().map(|(at, _)| *at);
        let due = places.into_iter().chain([deadline]).flatten().min()?;
        Some(lock(&self.swept_at).map_or(due, |swept_at| due.max(swept_at + SWEPT_EVERY)))
    }

    /// Frees places that were kept in vain, and ends sockets that have not come far enough in time.
    pub(super) fn handle_timeout(&self) {
        let now = clock::now().mono;
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
            let Some(caller) = caller(&peer) else { continue };
            let is_silent = match *lock(&caller.state) {
                Phase::Arrived { ends_at, .. } => ends_at <= now,
                Phase::TurnedAway { .. } => false,
                Phase::Connected { .. } | Phase::Ended => continue,
            };
            if is_silent && !caller.is_probe {
                self.counters.count(Limit::Silent);
            }
            self.end(&peer, caller, DisconnectReason::TransportClose);
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

    fn arrived(&self, peer: &Peer) {
        let extensions = &peer.req_parts.extensions;
        let now = clock::now().mono;
        let caller = Caller {
            id: peer.id.to_string(),
            client: extensions.get().map_or(Ipv4Addr::UNSPECIFIED.into(), |From(client)| *client),
            is_probe: extensions.get::<OwnRequest>().is_some(),
            outbox: Outbox::default(),
            state: Mutex::new(Phase::Arrived {
                ends_at: now + CONNECTED_WITHIN,
                bucket: Bucket::new(self.config.load().max_rate, now),
            }),
            hangup: Mutex::new(extensions.get::<Hangup>().cloned()),
        };
        let caller = peer.data.0.get_or_init(|| caller);
        let refusal = self.refusal(caller);
        let ends_at = if refusal.is_some() { now + TOLD_WITHIN } else { now + CONNECTED_WITHIN };
        {
            let mut crowd = self.crowd();
            crowd.peers.insert(caller.id.clone(), Arc::clone(peer));
            crowd.deadlines.insert((ends_at, caller.id.clone()));
            crowd.turned_away += usize::from(refusal.is_some());
        }
        if self.ends.load(Relaxed) {
            return peer.close(DisconnectReason::ClosingServer);
        }
        if let Some((limit, why)) = refusal {
            self.counters.count(limit);
            debug!(limit = limit.as_str(), "a socket is turned away");
            *lock(&caller.state) = Phase::TurnedAway { ends_at };
            self.send(peer, packet::connect_error("/", why, is_old(peer)));
        } else if is_old(peer) {
            // These are in the main namespace without asking.
            self.connected(peer, caller, "");
        }
    }

    /// It wants to be in the namespace, and is unless it may not be; then it is told why, and may ask again.
    fn connected(&self, peer: &Peer, caller: &Caller, auth: &str) {
        if !matches!(*lock(&caller.state), Phase::Arrived { .. }) {
            return;
        }
        let auth = Auth::read(auth);
        let user = match self.let_in(peer, caller, &auth) {
            Ok(user) => user,
            Err(refusal) => {
                return self.send(peer, packet::connect_error("/", &refusal.to_string(), is_old(peer)));
            }
        };
        {
            let mut state = lock(&caller.state);
            let Phase::Arrived { bucket, .. } = &*state else { return };
            *state = Phase::Connected { session: auth.session, user, bucket: bucket.clone() };
        }
        self.send(peer, packet::connected((!is_old(peer)).then_some(&caller.id)));
    }

    /// Who connects, if they may.
    fn let_in(&self, peer: &Peer, caller: &Caller, auth: &Auth) -> Result<User, Refusal> {
        if caller.is_probe {
            return Ok(self.gate.user_from(caller.client));
        }
        let parts = &peer.req_parts;
        let shown = Shown::of(&parts.headers, &parts.uri).with_key(auth.key.as_deref());
        self.gate.admit(&shown, caller.client, clock::now()).or_else(|refusal| {
            // Who was let in stays in: an interruption is no reason to ask somebody in a call for the new key.
            let has_place = auth.session.as_ref().is_some_and(|session| self.rooms(false).knows(session));
            if has_place { Ok(self.gate.user_from(caller.client)) } else { Err(refusal) }
        })
    }

    fn heard(&self, peer: &Peer, text: &str) {
        let Some(caller) = caller(peer) else { return };
        if !self.admit(peer, caller) {
            return;
        }
        let most = self.config.load().max_message;
        if text.len() > most {
            self.counters.count(Limit::MessageSize);
            return self.complain(peer, &format!("a message may have at most {most} bytes"));
        }
        let Ok(packet) = packet::read(text) else {
            self.counters.count(Limit::Unreadable);
            return self.end(peer, caller, DisconnectReason::PacketParsingError);
        };
        match packet {
            Incoming::Connect { namespace: "/", auth } => self.connected(peer, caller, auth),
            Incoming::Connect { namespace, .. } => {
                self.send(peer, packet::connect_error(namespace, "Invalid namespace", is_old(peer)));
            }
            Incoming::Disconnect { namespace: "/" } => {
                self.lost(caller, true);
                self.end(peer, caller, DisconnectReason::TransportClose);
            }
            Incoming::Disconnect { .. } | Incoming::Ignored => {}
            Incoming::Unreadable(why) => {
                self.counters.count(Limit::Unreadable);
                self.complain(peer, why);
            }
            Incoming::Event { ack, event } => {
                // Before that it is not in the namespace.
                if !matches!(*lock(&caller.state), Phase::Connected { .. }) {
                    return;
                }
                match event.name.as_str() {
                    "message" => self.message(peer, caller, &event),
                    "join" => self.join(peer, caller, &event, ack),
                    "leave" => self.leave(peer, caller, &event),
                    _ => {}
                }
            }
        }
    }

    /// Whether a socket may send one more packet.
    fn admit(&self, peer: &Peer, caller: &Caller) -> bool {
        let passage = match &mut *lock(&caller.state) {
            Phase::Arrived { bucket, .. } | Phase::Connected { bucket, .. } => bucket.take(clock::now().mono),
            Phase::TurnedAway { .. } | Phase::Ended => return false,
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
                self.cut(peer, caller);
                return false;
            }
        }
        self.counters.count(Limit::MessageRate);
        false
    }

    fn join(&self, peer: &Peer, caller: &Caller, event: &Event<'_>, ack: Option<&str>) {
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
        let (session, user) = match &*lock(&caller.state) {
            Phase::Connected { session, user, .. } => (session.clone(), user.clone()),
            Phase::Arrived { .. } | Phase::TurnedAway { .. } | Phase::Ended => return,
        };
        let config = self.config.load();
        let now = clock::now();
        if !caller.is_probe && !self.crowd().addresses.join(caller.client, config.max_joins_per_address, now.mono) {
            return refuse(Some(Limit::JoinsOfAddress), "too many joins come from your address, try again in a moment");
        }
        let (joined, told) = {
            let mut rooms = self.rooms(caller.is_probe);
            if !caller.is_probe {
                rooms.set_bounds(config.max_rooms, config.max_rooms_per_socket);
            }
            rooms.join(&caller.id, session.as_deref(), &room)
        };
        self.tell(&told);
        match joined {
            Joined::In { others } => {
                let host = peer.req_parts.headers.get(HOST);
                let authority = host.and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
                let via = authority.as_ref().map(Authority::host);
                let id = &caller.id;
                if ack.is_some() {
                    let ice = self.ice.current().configuration(user.as_str(), via, now);
                    answer(
                        &json!({ "ok": true, "id": id, "peers": others, "iceServers": ice.ice_servers, "ttl": ice.ttl }),
                    );
                }
            }
            Joined::Full => answer(&json!({ "ok": false, "id": caller.id, "error": "full" })),
            Joined::TooManyRooms => refuse(Some(Limit::Rooms), "too many rooms"),
            Joined::TooManyOfSocket => refuse(Some(Limit::RoomsOfSocket), "you are in too many rooms"),
        }
    }

    fn message(&self, peer: &Peer, caller: &Caller, event: &Event<'_>) {
        let room = match room(event.first) {
            Ok(room) => room,
            Err(why) => return self.complain(peer, why),
        };
        // Who is not in the room is not heard there.
        let others = self.rooms(caller.is_probe).others(&caller.id, &room);
        let (Some(others), Some(name)) = (others, event.first) else { return };
        for other in others {
            let other = self.crowd().peers.get(&other).cloned();
            if let Some(other) = other {
                self.send(&other, packet::message(name, event.second));
            }
            if !caller.is_probe {
                self.counters.messages.fetch_add(1, Relaxed);
            }
        }
    }

    fn leave(&self, peer: &Peer, caller: &Caller, event: &Event<'_>) {
        match room(event.first) {
            Ok(room) => {
                let told = self.rooms(caller.is_probe).leave(&caller.id, &room);
                self.tell(&told);
            }
            Err(why) => self.complain(peer, why),
        }
    }

    fn lost(&self, caller: &Caller, is_clean: bool) {
        let told = self.rooms(caller.is_probe).lose(&caller.id, is_clean, clock::now().mono);
        self.tell(&told);
    }

    fn gone(&self, peer: &Peer, reason: &DisconnectReason) {
        let Some(caller) = caller(peer) else { return };
        {
            let mut crowd = self.crowd();
            crowd.peers.remove(&caller.id);
            let state = lock(&caller.state);
            if let Phase::Arrived { ends_at, .. } | Phase::TurnedAway { ends_at } = *state {
                crowd.deadlines.remove(&(ends_at, caller.id.clone()));
            }
            if !caller.is_probe {
                crowd.turned_away -= usize::from(matches!(*state, Phase::TurnedAway { .. }));
                crowd.count -= 1;
                crowd.addresses.leave(caller.client);
                self.counters.sockets.store(crowd.count as u64, Relaxed);
                self.counters.count_end(End::of(reason));
            }
        }
        let is_clean = match reason {
            DisconnectReason::TransportClose
            | DisconnectReason::PacketParsingError
            | DisconnectReason::MultipleHttpPollingError
            | DisconnectReason::ClosingServer => true,
            DisconnectReason::TransportError | DisconnectReason::HeartbeatTimeout => false,
        };
        self.lost(caller, is_clean);
    }

    fn tell(&self, told: &[Told]) {
        if told.is_empty() {
            return;
        }
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
        let Some(caller) = caller(peer) else { return };
        if matches!(*lock(&caller.state), Phase::Ended) {
            return;
        }
        let config = self.config.load();
        let most = config.max_queue.max(2 * config.max_message);
        let packed = caller.outbox.pack(packet, most, &self.counters);
        let is_full = packed.is_none();
        let is_queued = packed.is_some_and(|packet| peer.emit(packet).is_ok());
        if !is_queued && !peer.is_closed() {
            if is_full && !caller.is_probe {
                self.counters.count(Limit::Queue);
            }
            debug!("a socket does not read what it is sent, and is cut");
            self.cut(peer, caller);
        }
    }

    /// Closes a socket. Whatever it says from now on is not heard.
    fn end(&self, peer: &Peer, caller: &Caller, reason: DisconnectReason) {
        {
            let mut state = lock(&caller.state);
            // Those that are turned away are counted as such until they are gone.
            if !matches!(*state, Phase::TurnedAway { .. }) {
                *state = Phase::Ended;
            }
        }
        peer.close(reason);
    }

    /// Ends a socket without waiting for its client.
    fn cut(&self, peer: &Peer, caller: &Caller) {
        self.end(peer, caller, DisconnectReason::TransportError);
        if let Some(hangup) = lock(&caller.hangup).take() {
            hangup.hang_up();
        }
    }

    fn rooms(&self, is_probe: bool) -> MutexGuard<'_, Rooms> {
        lock(if is_probe { &self.probe_rooms } else { &self.rooms })
    }

    fn crowd(&self) -> MutexGuard<'_, Crowd> {
        lock(&self.crowd)
    }
}

impl EngineIoHandler for Hub {
    type Data = Slot;

    fn on_connect(self: Arc<Self>, socket: Peer) {
        self.arrived(&socket);
    }

    fn on_disconnect(&self, socket: Peer, reason: DisconnectReason) {
        self.gone(&socket, &reason);
    }

    fn on_message(self: &Arc<Self>, message: Str, socket: Peer) {
        self.heard(&socket, message.as_str());
    }

    fn on_binary(self: &Arc<Self>, _: Bytes, socket: Peer) {
        // Its packet was complained of already; all the same it counts.
        if let Some(caller) = caller(&socket) {
            self.admit(&socket, caller);
        }
    }
}

fn caller(peer: &Peer) -> Option<&Caller> {
    peer.data.0.get()
}

/// Whether a client speaks protocol 4 of Socket.IO.
fn is_old(peer: &Peer) -> bool {
    peer.protocol == ProtocolVersion::V3
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds this lock")
}
