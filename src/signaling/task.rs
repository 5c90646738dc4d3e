//! The signaling task: takes requests from the door and has the Socket.IO service answer them.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Body;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, HeaderValue, ORIGIN, VARY,
};
use http::{HeaderMap, Method, Response, StatusCode};
use hyper::body::Incoming;
use socketioxide::SocketIo;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

use super::Counters;
use super::socket::{Client, Hub};
use crate::access::Gate;
use crate::config::{Config, SignalingConfig};
use crate::error::{Failure, Result};
use crate::supervisor::handover::{Door, HttpJob};
use crate::supervisor::service::{Context, Service, TaskName};
use crate::sys::clock;
use crate::turn::ice::LiveIce;

/// How often a client is asked whether it lives, and how long it may take to say so: Socket.IO's own defaults.
const PING_EVERY: Duration = Duration::from_secs(25);
const PONG_WITHIN: Duration = Duration::from_secs(20);
/// How long a connection may take to join a namespace, and an upgrade to be finished.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);
/// Packets that may wait for a client that does not read, unless the configured rate asks for more.
const MAX_WAITING: usize = 256;
/// Seconds of the rate that may wait: the four of a burst, which long polling may bring all at once, and one to spare.
const WAITING_SECONDS: usize = 5;
/// The longest the loop rests: places that are kept end by the second.
const TURN_EVERY: Duration = Duration::from_secs(1);
/// How long sockets may take to hear that the task stops.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);
/// Runtimes of old instances that are kept at a time. It takes a restart a second to come to so many.
const MAX_KEPT: usize = 16;
/// Seconds for which a browser remembers that it may.
const PREFLIGHT_AGE: &str = "600";

/// The bounds of this moment.
pub(super) type LiveConfig = Arc<ArcSwap<SignalingConfig>>;

/// Changes bounds while sockets are connected. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    config: LiveConfig,
}

impl Control {
    /// Goes by other bounds from now on, but for those that [`needs_restart`].
    pub fn apply(&self, config: &SignalingConfig) {
        self.config.store(Arc::new(config.clone()));
    }
}

/// Whether a change takes another instance: the library is told once how long a message and a queue may be.
#[must_use]
pub fn needs_restart(old: &SignalingConfig, new: &SignalingConfig) -> bool {
    (old.max_message, waiting(old)) != (new.max_message, waiting(new))
}

/// Packets that may wait for a client.
fn waiting(config: &SignalingConfig) -> usize {
    let rate = usize::try_from(config.max_rate).unwrap_or(usize::MAX);
    MAX_WAITING.max(rate.saturating_mul(WAITING_SECONDS))
}

/// The signaling server.
pub struct Signaling {
    config: LiveConfig,
    door: Door<HttpJob>,
    ice: LiveIce,
    gate: Gate,
    counters: Arc<Counters>,
}

impl Signaling {
    #[must_use]
    pub fn new(config: &Config, door: Door<HttpJob>, (ice, gate): (LiveIce, Gate), counters: Arc<Counters>) -> Self {
        let config = Arc::new(ArcSwap::from_pointee(config.signaling.clone()));
        Self { config, door, ice, gate, counters }
    }

    /// Changes the bounds of the running instance.
    #[must_use]
    pub fn control(&self) -> Control {
        Control { config: Arc::clone(&self.config) }
    }

    /// Gives how long sessions may be left over that the library forgets by a time-out only.
    async fn serve(&self, context: &Context) -> Duration {
        let config = self.config.load_full();
        let limit = config.max_message;
        let (service, io) = SocketIo::builder()
            .ping_interval(PING_EVERY)
            .ping_timeout(PONG_WITHIN)
            .connect_timeout(CONNECTED_WITHIN)
            .upgrade_timeout(CONNECTED_WITHIN)
            .max_buffer_size(waiting(&config))
            .max_payload(limit as u64)
            .ws_max_message_size(limit)
            .ws_max_frame_size(limit)
            .build_svc();
        let hub = Arc::new(Hub::new(
            io,
            Arc::clone(&self.config),
            (self.ice.clone(), self.gate.clone()),
            Arc::clone(&self.counters),
        ));
        hub.open();
        let mut jobs = self.door.open();
        let mut began_at = None;
        context.ready();
        loop {
            context.progress();
            hub.handle_timeout();
            let job = tokio::select! {
                job = jobs.recv() => job,
                () = context.stopping().cancelled() => break,
                () = tokio::time::sleep(TURN_EVERY) => continue,
            };
            // The door was opened for another instance: this one is cut off.
            let Some(job) = job else { break };
            if begins_session(&job) {
                began_at = Some(clock::now().mono);
            }
            tokio::spawn(answer(service.clone(), job));
        }
        jobs.latch().shut();
        hub.close(CLOSED_WITHIN).await;
        let forgotten_at = began_at.map(|at| at + CONNECTED_WITHIN + CLOSED_WITHIN);
        forgotten_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(clock::now().mono))
    }
}

impl Service for Signaling {
    fn name(&self) -> TaskName {
        TaskName::Signaling
    }

    fn run(&self, context: Context) -> Result<()> {
        // One thread: the order of a socket's messages depends on it.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_start(context.adopter())
            .build()
            .map_err(|error| Failure::operator("cannot start a runtime for signaling").caused_by(error))?;
        let left_over = runtime.block_on(self.serve(&context));
        let_forget(runtime, left_over);
        self.counters.rooms.store(0, Ordering::Relaxed);
        self.counters.peers.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn fence(&self) {
        self.door.fence();
        // Its clients are on their way to the next instance.
        self.counters.rooms.store(0, Ordering::Relaxed);
        self.counters.peers.store(0, Ordering::Relaxed);
    }
}

/// Whether this request begins a session: those that go on name theirs.
fn begins_session(job: &HttpJob) -> bool {
    !job.request.uri().query().is_some_and(|query| query.contains("sid="))
}

/// Keeps the runtime until the library has forgotten the sessions that never came to a namespace. They and its tables
/// hold each other, and the runtime's descriptors with them, so without that none of it would ever be freed.
fn let_forget(runtime: Runtime, left_over: Duration) {
    static KEPT: AtomicUsize = AtomicUsize::new(0);
    if left_over.is_zero() || KEPT.load(Ordering::Relaxed) >= MAX_KEPT {
        return;
    }
    KEPT.fetch_add(1, Ordering::Relaxed);
    let forget = move || {
        runtime.block_on(async { tokio::time::sleep(left_over).await });
        drop(runtime);
        KEPT.fetch_sub(1, Ordering::Relaxed);
    };
    if thread::Builder::new().name("signaling-rest".to_owned()).spawn(forget).is_err() {
        KEPT.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn answer<S, B>(mut service: S, job: HttpJob)
where
    S: tower::Service<http::Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    let HttpJob { mut request, client, reply } = job;
    request.extensions_mut().insert(Client(client));
    let origin = request.headers().get(ORIGIN).cloned();
    let response = if request.method() == Method::OPTIONS {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    } else {
        let answered = match service.ready().await {
            Ok(service) => service.call(request).await,
            Err(never) => match never {},
        };
        match answered {
            Ok(response) => response.map(Body::new),
            Err(never) => match never {},
        }
    };
    // The client may have gone in the meantime.
    let _ = reply.send(allow(response, origin));
}

/// Lets pages of any origin use the service, as the servers do that it replaces. There is nothing to steal by it: the
/// cookie of a session counts for pages of this origin alone, see [`crate::access`].
fn allow(mut response: Response<Body>, origin: Option<HeaderValue>) -> Response<Body> {
    if let Some(origin) = origin {
        let headers: &mut HeaderMap = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("content-type, authorization"));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_AGE));
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    response
}
