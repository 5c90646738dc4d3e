//! The signaling task: takes requests from the door and has the engine answer them.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Body;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, HeaderValue, ORIGIN, VARY,
};
use http::{HeaderMap, Method, Response, StatusCode};

use super::Counters;
use super::engine::{Engine, Settings};
use super::hub::{From, Hub};
use crate::access::Gate;
use crate::config::{Config, SignalingConfig};
use crate::error::{Failure, Result};
use crate::supervisor::handover::{Door, HttpJob};
use crate::supervisor::service::{Context, Service, TaskName};
use crate::sys::{clock, turns};
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
/// How long sockets may take to hear that the task stops.
const SPOKEN_WITHIN: Duration = Duration::from_secs(2);
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

/// Whether a change takes another instance: the engine is told once how long a message may be.
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
        let hub = Arc::new(Hub::new(
            Arc::clone(&self.config),
            (self.ice.clone(), self.gate.clone()),
            Arc::clone(&self.counters),
        ));
        let settings = Settings {
            ping_every: PING_EVERY,
            pong_within: PONG_WITHIN,
            upgraded_within: UPGRADED_WITHIN,
            max_message: self.config.load().max_message + WORDS_UP_TO,
        };
        let (engine, mut ended) = Engine::new(Arc::clone(&hub), settings, Arc::clone(&self.counters));
        let mut jobs = self.door.open();
        context.ready();
        loop {
            context.progress();
            let now = clock::now().mono;
            engine.handle_timeout(now);
            hub.handle_timeout(now);
            let due = [engine.poll_timeout(), hub.poll_timeout()].into_iter().flatten().min();
            let due_in = due.map_or(Duration::MAX, |due| due.saturating_duration_since(now));
            let job = tokio::select! {
                job = jobs.recv() => job,
                () = context.stopping().cancelled() => break,
                Some(socket) = ended.recv() => {
                    engine.bury(&socket);
                    continue;
                }
                () = tokio::time::sleep(turns::until_next(now).min(due_in)) => continue,
            };
            // The door was opened for another instance: this one is cut off.
            let Some(job) = job else { break };
            tokio::spawn(answer(Arc::clone(&engine), job));
        }
        jobs.latch().shut();
        hub.close();
        while let Ok(socket) = ended.try_recv() {
            engine.bury(&socket);
        }
        engine.spoken(SPOKEN_WITHIN).await;
    }
}

impl Service for Signaling {
    fn name(&self) -> TaskName {
        TaskName::Signaling
    }

    fn run(&self, context: Context) -> Result<()> {
        // What it does is short, and TLS is done elsewhere.
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

async fn answer(engine: Arc<Engine<Hub>>, job: HttpJob) {
    let HttpJob { mut request, client, mut reply } = job;
    let origin = request.headers().get(ORIGIN).cloned();
    request.extensions_mut().insert(From(client.ip()));
    let response = if request.method() == Method::OPTIONS {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    } else {
        tokio::select! {
            // Even if the client has gone meanwhile: the session is to hear of it.
            biased;
            response = engine.answer(request) => response,
            () = reply.closed() => return,
        }
    };
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
