//! The signaling task: takes requests from the door and has the Socket.IO service answer them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Body;
use engineioxide::config::EngineIoConfig;
use engineioxide::service::EngineIoService;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, CONTENT_TYPE, HeaderValue, ORIGIN, RETRY_AFTER, VARY,
};
use http::{HeaderMap, Method, Response, StatusCode};
use hyper::body::Incoming;
use tower::ServiceExt as _;
use tracing::debug;

use super::Counters;
use super::hub::{From, Hub};
use crate::access::Gate;
use crate::config::{Config, SignalingConfig};
use crate::error::{Failure, Result};
use crate::supervisor::handover::{Door, Hangup, HttpJob};
use crate::supervisor::service::{Context, Service, TaskName};
use crate::sys::{clock, process, turns};
use crate::text;
use crate::turn::ice::LiveIce;

/// How often a client is asked whether it lives, and how long it may take to say so. Socket.IO's own 25 and 20 s find one
/// that has gone five seconds earlier, and wake phones up half as often again. Proxies cut what is silent for a minute.
const PING_EVERY: Duration = Duration::from_secs(40);
const PONG_WITHIN: Duration = Duration::from_secs(10);
/// How long an upgrade from polling to a WebSocket may take.
const UPGRADED_WITHIN: Duration = Duration::from_secs(10);
/// Bytes beyond `max_message` up to which a message is refused in words; with more, its sender is cut off.
const WORDS_UP_TO: usize = 16 * 1024;
/// Packets that may wait for a client. What may wait is bounded by bytes; no number of packets has so few.
const MAX_WAITING: usize = 1 << 20;
/// Bytes of a WebSocket that are read at a time. Most messages are shorter.
const READ_AT_A_TIME: usize = 1024;
/// Heartbeats of many clients go off together. Nothing here is timed more finely, and what arrives is never late.
const TIMERS_MAY_BE_LATE_BY: Duration = Duration::from_millis(100);
/// How long sockets may take to hear that the task stops.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);
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

/// Whether a change takes another instance: the library is told once how long a message may be.
#[must_use]
pub fn needs_restart(old: &SignalingConfig, new: &SignalingConfig) -> bool {
    old.max_message != new.max_message
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

    async fn serve(&self, context: &Context) {
        let most = self.config.load().max_message + WORDS_UP_TO;
        let hub = Arc::new(Hub::new(
            Arc::clone(&self.config),
            (self.ice.clone(), self.gate.clone()),
            Arc::clone(&self.counters),
        ));
        let config = EngineIoConfig::builder()
            .req_path("/socket.io")
            .ping_interval(PING_EVERY)
            .ping_timeout(PONG_WITHIN)
            .upgrade_timeout(UPGRADED_WITHIN)
            .max_buffer_size(MAX_WAITING)
            .max_payload(most as u64)
            .ws_read_buffer_size(READ_AT_A_TIME)
            .ws_max_message_size(most)
            .ws_max_frame_size(most)
            .build();
        let service = EngineIoService::with_config(Arc::clone(&hub), config);
        let mut jobs = self.door.open();
        context.ready();
        loop {
            context.progress();
            hub.handle_timeout();
            let now = clock::now().mono;
            let due_in = hub.poll_timeout().map_or(Duration::MAX, |due| due.saturating_duration_since(now));
            let job = tokio::select! {
                job = jobs.recv() => job,
                () = context.stopping().cancelled() => break,
                () = tokio::time::sleep(turns::until_next(now).min(due_in)) => continue,
            };
            // The door was opened for another instance: this one is cut off.
            let Some(job) = job else { break };
            tokio::spawn(answer(service.clone(), Arc::clone(&hub), job));
        }
        jobs.latch().shut();
        // Those who leave are not to wait.
        let _ = process::set_timer_slack(Duration::ZERO);
        hub.close(CLOSED_WITHIN).await;
    }
}

impl Service for Signaling {
    fn name(&self) -> TaskName {
        TaskName::Signaling
    }

    fn run(&self, context: Context) -> Result<()> {
        // What it does is short, and TLS is done elsewhere.
        if let Err(error) = process::set_timer_slack(TIMERS_MAY_BE_LATE_BY) {
            debug!(%error, "every client's heartbeat wakes the thread by itself");
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_start(context.adopter())
            .build()
            .map_err(|error| Failure::operator(text!("cannot start a runtime for signaling")).caused_by(error))?;
        runtime.block_on(self.serve(&context));
        self.counters.clear();
        Ok(())
    }

    fn fence(&self) {
        self.door.fence();
        // Its clients are on their way to the next instance.
        self.counters.clear();
    }
}

/// The session that a request belongs to; `None`: it begins one.
fn session_of(request: &http::Request<Incoming>) -> Option<String> {
    let pairs = request.uri().query()?.split('&');
    pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == "sid").map(|(_, id)| id.to_owned())
}

async fn answer(service: EngineIoService<Hub>, hub: Arc<Hub>, job: HttpJob) {
    let HttpJob { mut request, client, reply } = job;
    let origin = request.headers().get(ORIGIN).cloned();
    let session = session_of(&request);
    let hangup = request.extensions().get::<Hangup>().cloned();
    request.extensions_mut().insert(From(client.ip()));
    detach(&mut request);
    let response = if request.method() == Method::OPTIONS {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    } else if session.is_none() && hub.is_overrun() {
        full()
    } else {
        match service.oneshot(request).await {
            Ok(response) => response.map(Body::new),
            Err(never) => {
                let never: Infallible = never;
                match never {}
            }
        }
    };
    if let (Some(id), Some(hangup), StatusCode::SWITCHING_PROTOCOLS) = (session, hangup, response.status()) {
        hub.upgraded(&id, hangup);
    }
    // The client may have gone in the meantime.
    let _ = reply.send(allow(response, origin));
}

/// Copies what the head of a request says. The library keeps it as long as a socket lives, and as it comes it is a part
/// of the buffer that the connection was read into: sixteen kilobytes for each socket.
fn detach(request: &mut http::Request<Incoming>) {
    for value in request.headers_mut().values_mut() {
        if let Ok(copy) = HeaderValue::from_bytes(value.as_bytes()) {
            *value = copy;
        }
    }
    if let Ok(copy) = request.uri().to_string().parse() {
        *request.uri_mut() = copy;
    }
}

/// Turns a client away for which not even a session is made. The words are in the form of Engine.IO's own errors.
fn full() -> Response<Body> {
    let mut response = Response::new(Body::from("{\"code\":4,\"message\":\"the server is full, try again later\"}"));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
    response
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
