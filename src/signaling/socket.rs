//! Speaks Socket.IO: turns events into questions to [`Rooms`], and answers into events.
//!
//! Everything runs on one thread, and no handler waits for anything: so the messages of one socket keep their order,
//! although the library runs every handler as a task of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use socketioxide::SocketIo;
use socketioxide::extract::{AckSender, SocketRef, TryData};
use socketioxide::handler::ConnectHandler as _;
use socketioxide::socket::{DisconnectReason, Sid};
use tokio::time::timeout;
use tracing::debug;

use super::Counters;
use super::message::{Arguments, Bucket, key, session};
use super::rooms::{Joined, Rooms, Told};
use super::task::LiveConfig;
use crate::access::{Gate, Refusal, Shown, User};
use crate::supervisor::handover::OwnRequest;
use crate::sys::clock;
use crate::turn::ice::LiveIce;

/// Rooms that probes may have at a time; they use one, and the one before may not have ended yet.
const MAX_PROBE_ROOMS: usize = 8;
/// How long the library may take to forget sockets that are closed, and how often it is looked.
const GONE_WITHIN: Duration = Duration::from_millis(500);
const LOOKED_EVERY: Duration = Duration::from_millis(2);

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client(pub(super) SocketAddr);

/// What all handlers share. They hold it weakly: it holds the library's tables, which hold the handlers, and the ring
/// would outlive the instance with everything in it, the runtime included.
pub(super) struct Hub {
    io: SocketIo,
    config: LiveConfig,
    ice: LiveIce,
    gate: Gate,
    counters: Arc<Counters>,
    rooms: Mutex<Rooms>,
    /// Those of this process's own probes: whatever users call theirs, nobody meets a probe and no probe is counted.
    probe_rooms: Mutex<Rooms>,
    sockets: AtomicUsize,
}

/// What is kept for one socket.
struct Caller {
    /// A probe of this process.
    is_probe: bool,
    /// Whose relays are counted.
    user: User,
    session: Option<String>,
    bucket: Mutex<Bucket>,
}

impl Hub {
    pub(super) fn new(io: SocketIo, config: LiveConfig, (ice, gate): (LiveIce, Gate), counters: Arc<Counters>) -> Self {
        let rooms = Mutex::new(Rooms::new(config.load().max_rooms));
        let probe_rooms = Mutex::new(Rooms::new(MAX_PROBE_ROOMS));
        Self { io, config, ice, gate, counters, rooms, probe_rooms, sockets: AtomicUsize::new(0) }
    }

    /// Answers every socket that connects from now on.
    pub(super) fn open(self: &Arc<Self>) {
        let (hub, door) = (Arc::downgrade(self), Arc::downgrade(self));
        let admit = move |socket: SocketRef, TryData(auth): TryData<Value>| {
            let user = door.upgrade().map_or(Err(Refusal::Missing), |hub| hub.let_in(&socket, auth.ok().as_ref()));
            std::future::ready(user.map(|user| socket.extensions.insert(user)).map(drop))
        };
        // Not in a future, which would be run a moment later: what a client says right away would find no handler.
        let connected = move |socket: SocketRef, TryData(auth): TryData<Value>| {
            hub.upgrade().inspect(|hub| hub.connected(&socket, auth.ok()));
            std::future::ready(())
        };
        self.io.ns("/", connected.with(admit));
    }

    /// Who connects, if they may. The client is told by `connect_error` why not.
    fn let_in(&self, socket: &SocketRef, auth: Option<&Value>) -> Result<User, Refusal> {
        let parts = socket.req_parts();
        let client = parts.extensions.get::<Client>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |client| client.0.ip());
        if parts.extensions.get::<OwnRequest>().is_some() {
            return Ok(self.gate.user_from(client));
        }
        let shown = Shown::of(&parts.headers, &parts.uri).with_key(key(auth));
        self.gate.admit(&shown, client, clock::now()).or_else(|refusal| {
            // Who was let in stays in: an interruption is no reason to ask somebody in a call for the new key.
            let has_place = session(auth).is_some_and(|session| self.rooms(false).knows(&session));
            if has_place { Ok(self.gate.user_from(client)) } else { Err(refusal) }
        })
    }

    /// Tells every page that the server goes away for a moment, then closes all sockets, which have so long to hear it.
    pub(super) async fn close(&self, within: Duration) {
        let sockets = self.io.sockets();
        // Old pages do not know this event.
        let _ = self.io.emit("restarting", &()).await;
        // Whoever does not hear it notices that the connection is gone.
        let _ = timeout(within, self.io.close()).await;
        // The library has let go of the namespaces by now. Their sockets and they hold each other, with the runtime,
        // until each is told by hand; the transports are closed, so that no client hears of that.
        for socket in sockets {
            let _ = socket.disconnect();
        }
        let gone = async {
            while self.sockets.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(LOOKED_EVERY).await;
            }
        };
        let _ = timeout(GONE_WITHIN, gone).await;
    }

    /// Frees places that were kept in vain.
    pub(super) fn handle_timeout(&self) {
        let now = clock::now().mono;
        for is_probe in [false, true] {
            if self.rooms(is_probe).poll_timeout().is_some_and(|due| due <= now) {
                let told = self.rooms(is_probe).handle_timeout(now);
                self.tell(&told);
            }
        }
    }

    fn connected(self: &Arc<Self>, socket: &SocketRef, auth: Option<Value>) {
        let is_probe = socket.req_parts().extensions.get::<OwnRequest>().is_some();
        let count = if is_probe { 0 } else { self.sockets.fetch_add(1, Ordering::Relaxed) };
        let config = self.config.load();
        let bucket = Mutex::new(Bucket::new(config.max_rate, clock::now().mono));
        let user = socket.extensions.get::<User>().expect("nobody is connected who was not let in");
        let caller = Arc::new(Caller { is_probe, user, session: session(auth.as_ref()), bucket });
        let hub = Arc::downgrade(self);
        socket.on_disconnect(async move |socket: SocketRef, reason: DisconnectReason| {
            hub.upgrade().inspect(|hub| hub.lost(&socket, is_probe, reason));
        });
        if count >= config.max_sockets {
            debug!("turned away: too many sockets");
            // It is on its way out whether or not it hears why.
            let _ = socket.emit("error", "the server is full");
            let _ = socket.clone().disconnect();
            return;
        }
        let (hub, own) = (Arc::downgrade(self), Arc::clone(&caller));
        socket.on("join", async move |socket: SocketRef, TryData(data): TryData<Arguments>, ack: AckSender| {
            hub.upgrade().inspect(|hub| hub.join(&socket, &own, data.ok(), ack));
        });
        let (hub, own) = (Arc::downgrade(self), Arc::clone(&caller));
        socket.on("message", async move |socket: SocketRef, TryData(data): TryData<Arguments>| {
            hub.upgrade().inspect(|hub| hub.message(&socket, &own, data.ok()));
        });
        let hub = Arc::downgrade(self);
        socket.on("leave", async move |socket: SocketRef, TryData(data): TryData<Arguments>| {
            hub.upgrade().inspect(|hub| hub.leave(&socket, &caller, data.ok()));
        });
    }

    fn join(&self, socket: &SocketRef, caller: &Caller, arguments: Option<Arguments>, ack: AckSender) {
        let id = socket.id.to_string();
        let Some(arguments) = self.admit(socket, caller, arguments) else { return };
        let room = match arguments.room() {
            Ok(room) => room,
            Err(why) => {
                let _ = ack.send(&json!({ "ok": false, "error": why }));
                return complain(socket, why);
            }
        };
        let (joined, told) = {
            let mut rooms = self.rooms(caller.is_probe);
            if !caller.is_probe {
                rooms.set_max_rooms(self.config.load().max_rooms);
            }
            rooms.join(&id, caller.session.as_deref(), room)
        };
        self.tell(&told);
        let answer = match joined {
            Joined::In { others } => {
                let host = socket.req_parts().headers.get(http::header::HOST);
                let authority = host.and_then(|host| host.to_str().ok()?.parse::<http::uri::Authority>().ok());
                let via = authority.as_ref().map(http::uri::Authority::host);
                let ice = self.ice.current().configuration(caller.user.as_str(), via, clock::now());
                json!({ "ok": true, "id": id, "peers": others, "iceServers": ice.ice_servers, "ttl": ice.ttl })
            }
            Joined::Full => json!({ "ok": false, "id": id, "error": "full" }),
            Joined::Refused => {
                complain(socket, "there are too many rooms");
                json!({ "ok": false, "id": id, "error": "too many rooms" })
            }
        };
        // A client that asked for no acknowledgement gets none.
        let _ = ack.send(&answer);
    }

    fn message(&self, socket: &SocketRef, caller: &Caller, arguments: Option<Arguments>) {
        let Some(arguments) = self.admit(socket, caller, arguments) else { return };
        let room = match arguments.room() {
            Ok(room) => room,
            Err(why) => return complain(socket, why),
        };
        // Who is not in the room is not heard there.
        let Some(others) = self.rooms(caller.is_probe).others(&socket.id.to_string(), room) else { return };
        for other in others {
            match arguments.data() {
                Some(data) => self.emit(&other, "message", &(room, data)),
                None => self.emit(&other, "message", &(room,)),
            }
        }
    }

    fn leave(&self, socket: &SocketRef, caller: &Caller, arguments: Option<Arguments>) {
        let Some(arguments) = self.admit(socket, caller, arguments) else { return };
        match arguments.room() {
            Ok(room) => {
                let told = self.rooms(caller.is_probe).leave(&socket.id.to_string(), room);
                self.tell(&told);
            }
            Err(why) => complain(socket, why),
        }
    }

    fn lost(&self, socket: &SocketRef, is_probe: bool, reason: DisconnectReason) {
        if !is_probe {
            self.sockets.fetch_sub(1, Ordering::Relaxed);
        }
        let is_clean = match reason {
            DisconnectReason::ClientNSDisconnect
            | DisconnectReason::TransportClose
            | DisconnectReason::ServerNSDisconnect
            | DisconnectReason::PacketParsingError
            | DisconnectReason::MultipleHttpPollingError
            | DisconnectReason::ClosingServer => true,
            DisconnectReason::TransportError | DisconnectReason::HeartbeatTimeout => false,
        };
        let told = self.rooms(is_probe).lose(&socket.id.to_string(), is_clean, clock::now().mono);
        self.tell(&told);
    }

    /// Lets an event pass if its arguments could be read and its sender does not flood.
    fn admit(&self, socket: &SocketRef, caller: &Caller, arguments: Option<Arguments>) -> Option<Arguments> {
        let mut bucket = caller.bucket.lock().expect("nothing panics while it holds this lock");
        if !bucket.take(clock::now().mono) {
            debug!("a socket sends more events than it may");
            return None;
        }
        if arguments.is_none() {
            complain(socket, "these arguments cannot be read: JSON of at most 128 levels is possible, binary is not");
        }
        arguments
    }

    fn tell(&self, told: &[Told]) {
        for Told { to, event, room, about } in told {
            self.emit(to, event, &(room, about));
        }
        let (rooms, peers) = {
            let state = self.rooms(false);
            (state.rooms(), state.peers())
        };
        self.counters.rooms.store(rooms as u64, Ordering::Relaxed);
        self.counters.peers.store(peers as u64, Ordering::Relaxed);
    }

    fn emit(&self, to: &str, event: &str, data: &impl serde::Serialize) {
        // While the instance ends, a socket that is lost may have something to tell when the namespace is gone already.
        let socket = Sid::from_str(to).ok().and_then(|id| self.io.of("/")?.get_socket(id));
        let Some(socket) = socket else { return };
        if let Err(error) = socket.emit(event, data) {
            // What one message is missing from is no conversation any more.
            debug!(%error, "a socket does not read what it is sent");
            let _ = socket.disconnect();
        }
    }

    fn rooms(&self, is_probe: bool) -> MutexGuard<'_, Rooms> {
        let rooms = if is_probe { &self.probe_rooms } else { &self.rooms };
        rooms.lock().expect("nothing panics while it holds this lock")
    }
}

/// An event that old pages ignore, for who writes a new one.
fn complain(socket: &SocketRef, why: &str) {
    // A socket that does not listen has other worries.
    let _ = socket.emit("error", why);
}
