//! Sessions of Engine.IO, versions 3 and 4: what Socket.IO's packets travel in.
//!
//! | part | subject |
//! |---|---|
//! | `request` | what a request wants |
//! | `socket` | one session, whatever carries it, and what comes to carry it |
//! | `polling`, `payload` | requests that fetch and bring packets, and what is in them |
//! | `websocket` | the connection of a WebSocket, and how it takes over from polling |
//! | `outbox` | what waits for a client, counted by bytes |
//! | `heartbeats` | when which client is asked whether it lives |
//!
//! A session is one task, or none while a client that polls is away: who reads a connection writes it, too, and all
//! heartbeats are one list. Thousands of clients that say nothing cost what their heartbeats cost, and what is built
//! around that serves those who talk as well.

mod heartbeats;
mod outbox;
mod payload;
mod polling;
mod request;
mod socket;
mod websocket;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use self::heartbeats::Heartbeats;
use self::outbox::Outbox;
use self::request::{Refusal, Wish};
pub(super) use self::socket::{Ended, Sent, Socket};
use super::{Counters, End, lock};
use crate::supervisor::handover::Hangup;
use crate::sys::{clock, turns};

/// Bytes of the number that a session has.
const SID: usize = 15;
/// By so much later than planned, this process has slept, and its clients cannot be blamed: what they have said
/// meanwhile may not be read yet.
const SLEPT: Duration = Duration::from_secs(1);

/// The version of the protocol that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// Clients 2.x: they ask whether the server lives.
    V3,
    /// Clients 3.x and 4.x: the server asks.
    V4,
}

/// How sessions are held.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) ping_every: Duration,
    pub(super) pong_within: Duration,
    pub(super) upgraded_within: Duration,
    /// Bytes of a message. A request may bring some of them.
    pub(super) max_message: usize,
}

/// Who is told what happens on the sockets, one thing of a socket after the other.
pub(super) trait Handler: Send + Sync + 'static {
    /// What is kept for a socket.
    type Caller: Send + Sync + 'static;

    /// Whether there are so many sockets that not even one is to be made to say so.
    fn is_overrun(&self) -> bool;
    /// What to keep for one that comes with such a request.
    fn greet(&self, head: &Parts) -> Self::Caller;
    fn arrived(&self, socket: &Arc<Socket<Self::Caller>>);
    fn heard(&self, socket: &Arc<Socket<Self::Caller>>, message: &str);
    /// It has sent something that says nothing.
    fn noticed(&self, socket: &Arc<Socket<Self::Caller>>);
    fn gone(&self, socket: &Arc<Socket<Self::Caller>>, end: End);
}

/// All sessions.
pub(super) struct Engine<H: Handler> {
    handler: Arc<H>,
    settings: Settings,
    counters: Arc<Counters>,
    ends: mpsc::UnboundedSender<Ended<H::Caller>>,
    /// The sessions that requests may belong to.
    polling: Mutex<BTreeMap<String, Arc<Socket<H::Caller>>>>,
    heartbeats: Mutex<Heartbeats<Arc<Socket<H::Caller>>>>,
    /// When heartbeats were looked at.
    looked_at: Mutex<Instant>,
    /// Those who still have something to tell a client.
    speaking: TaskTracker,
}

impl<H: Handler> Engine<H> {
    /// Also gives the sockets that have ended, which are to be [buried](Self::bury).
    pub(super) fn new(
        handler: Arc<H>,
        settings: Settings,
        counters: Arc<Counters>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Ended<H::Caller>>) {
        let (ends, ended) = mpsc::unbounded_channel();
        let now = clock::now().mono;
        let heartbeats = Mutex::new(Heartbeats::new(now + turns::until_next(now)));
        let (polling, looked_at) = (Mutex::default(), Mutex::new(now));
        let speaking = TaskTracker::new();
        (Arc::new(Self { handler, settings, counters, ends, polling, heartbeats, looked_at, speaking }), ended)
    }

    /// Answers a request. To be given up if its client goes.
    pub(super) async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        self.fulfil(request).await.unwrap_or_else(refused)
    }

    async fn fulfil(self: &Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let (head, body) = request.into_parts();
        match request::read(&head)? {
            Wish::Open(_) | Wish::WebSocket { sid: None, .. } if self.handler.is_overrun() => Err(Refusal::Full),
            Wish::Open(version) => Ok(polling::open(self, version, &head)),
            Wish::Fetch(sid) => polling::fetch(self, &self.find(&sid)?).await,
            Wish::Post(sid) => polling::post(self, &self.find(&sid)?, &head, body).await,
            Wish::WebSocket { version, sid: None, key } => websocket::open(self, (version, &key), head),
            Wish::WebSocket { sid: Some(sid), key, .. } => websocket::take_over(self, self.find(&sid)?, &key, head),
        }
    }

    fn find(&self, sid: &str) -> Result<Arc<Socket<H::Caller>>, Refusal> {
        self.polling().get(sid).cloned().ok_or(Refusal::UnknownSession)
    }

    /// When [`Engine::handle_timeout`] has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.heartbeats().poll_timeout()
    }

    /// Asks the clients that are due whether they live, and ends those that do not. To be called at every turn.
    pub(super) fn handle_timeout(&self, now: Instant) {
        let before = std::mem::replace(&mut *lock(&self.looked_at), now);
        let is_late = now.saturating_duration_since(before) > turns::TURN_EVERY + SLEPT;
        loop {
            let Some((due, socket)) = self.heartbeats().pop(now) else { return };
            // As if it were that moment: what follows from it is due together again.
            self.look_after(&socket, if is_late { now } else { due }, is_late);
        }
    }

    fn look_after(&self, socket: &Arc<Socket<H::Caller>>, now: Instant, is_late: bool) {
        if let Some(next) = socket.beat(now, is_late, &self.settings) {
            let beat = self.heartbeats().insert(next, Arc::clone(socket));
            socket.set_beat(beat);
        }
    }

    /// Draws the consequences for one that has ended.
    pub(super) fn bury(&self, (socket, end): &Ended<H::Caller>) {
        self.polling().remove(&socket.sid);
        if let Some(beat) = socket.take_beat() {
            self.heartbeats().remove(beat);
        }
        self.handler.gone(socket, *end);
    }

    /// Waits until all that has ended was told to its clients, at most for so long.
    pub(super) async fn spoken(&self, within: Duration) {
        self.speaking.close();
        // Whoever does not hear it notices that the connection is gone.
        let _ = timeout(within, self.speaking.wait()).await;
    }

    /// A new session, which its client is still to hear of.
    fn begin(&self, version: Version, head: &Parts) -> Arc<Socket<H::Caller>> {
        let sid = name();
        let id = match version {
            // These take the number of the session for their own name.
            Version::V3 => sid.clone(),
            Version::V4 => name(),
        };
        let caller = self.handler.greet(head);
        let now = clock::now().mono;
        let outbox = Outbox::new(Arc::clone(&self.counters));
        // Those that come together after an interruption are not asked together for ever.
        let ask_at = now + self.settings.ping_every.mul_f64(rand::random());
        let socket = Socket::new((version, sid), (id, caller), outbox, self.ends.clone(), (now, ask_at));
        let socket = Arc::new(socket);
        self.look_after(&socket, now, false);
        socket
    }

    /// The packet that a session begins with.
    fn hello(&self, socket: &Socket<H::Caller>, upgrades: &[&str]) -> String {
        let Settings { ping_every, pong_within, max_message, .. } = self.settings;
        let hello = json!({
            "sid": socket.sid,
            "upgrades": upgrades,
            "pingInterval": ping_every.as_millis() as u64,
            "pingTimeout": pong_within.as_millis() as u64,
            "maxPayload": max_message,
        });
        format!("0{hello}")
    }

    /// Takes a packet from a client. Gives how it ends the session, if it does.
    fn hear(&self, socket: &Arc<Socket<H::Caller>>, packet: &str) -> Option<End> {
        if !socket.heard(clock::now().mono) {
            return None;
        }
        let kind = packet.as_bytes().first();
        match (kind, socket.version) {
            (Some(b'4'), _) => self.handler.heard(socket, packet.get(1..).unwrap_or_default()),
            (Some(b'1'), _) => return Some(End::Closed),
            (Some(b'2'), Version::V3) => {
                socket.pong();
                self.handler.noticed(socket);
            }
            // `b`: binary, by polling.
            (Some(b'2' | b'3' | b'6' | b'b'), _) => self.handler.noticed(socket),
            (_, _) => return Some(End::Packet),
        }
        None
    }

    fn polling(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Socket<H::Caller>>>> {
        lock(&self.polling)
    }

    fn heartbeats(&self) -> MutexGuard<'_, Heartbeats<Arc<Socket<H::Caller>>>> {
        lock(&self.heartbeats)
    }
}

/// A name that nobody guesses.
fn name() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; SID]>())
}

/// What ends the connection that a request came by.
fn hangup(head: &Parts) -> Option<Hangup> {
    head.extensions.get::<Hangup>().cloned()
}

fn refused(refusal: Refusal) -> Response<Body> {
    let mut response = Response::new(Body::from(refusal.json()));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    if refusal == Refusal::Full {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Handler for Nobody {
        type Caller = ();

        fn is_overrun(&self) -> bool {
            false
        }

        fn greet(&self, _: &Parts) {}

        fn arrived(&self, _: &Arc<Socket<()>>) {}

        fn heard(&self, _: &Arc<Socket<()>>, _: &str) {}

        fn noticed(&self, _: &Arc<Socket<()>>) {}

        fn gone(&self, _: &Arc<Socket<()>>, _: End) {}
    }

    #[test]
    fn silence_is_blamed_on_clients_only_while_this_process_is_awake() {
        let settings = Settings {
            ping_every: Duration::from_secs(40),
            pong_within: Duration::from_secs(10),
            upgraded_within: Duration::from_secs(10),
            max_message: 1000,
        };
        let (engine, mut ended) = Engine::new(Arc::new(Nobody), settings, Arc::default());
        let start = clock::now().mono;
        let mut turn = |second: u64| {
            engine.handle_timeout(start + Duration::from_secs(second));
            let ended = ended.try_recv().ok()?;
            engine.bury(&ended);
            Some((second, ended.1))
        };
        let head = Request::new(()).into_parts().0;
        let begin = |version| {
            let socket = engine.begin(version, &head);
            socket.carry_by(None);
        };
        begin(Version::V3);
        // Due within the last moment before it wakes up, which is no less asleep.
        assert_eq!(turn(51), None);
        assert_eq!((52..70).step_by(2).find_map(&mut turn), Some((62, End::Ping)));
        begin(Version::V4);
        assert_eq!((70..160).step_by(2).find_map(&mut turn).map(|(_, end)| end), Some(End::Ping));
        assert_eq!(engine.poll_timeout(), None, "nothing is left of them");
    }
}
