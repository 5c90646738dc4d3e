//! The web task: takes requests from the door and has the router answer them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::routing::{get, post};
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Body as HttpBody;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use super::files::Files;
use super::metrics::{Metrics, metrics};
use super::{api, page, phone, trust};
use crate::access::{Gate, Shown};
use crate::config::{Config, Secret, WebConfig};
use crate::error::{self, Failure};
use crate::home::Home;
use crate::phone::Phones;
use crate::supervisor::board::Board;
use crate::supervisor::handover::{Door, HttpJob};
use crate::supervisor::service::{Context, Service, TaskName};
use crate::sys::{clock, turns};
use crate::text;
use crate::turn::ice::LiveIce;

/// Bytes of a request's body; a phone's report is the only one.
const MAX_BODY: usize = 16 * 1024;
/// Bytes of a longer one that are read all the same: a client that is cut off while it sends hears no reason.
const MAX_HEARD_OUT: usize = 1024 * 1024;
/// How long a body may take to come.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// How long requests in flight may take when the task stops.
const DRAINED_WITHIN: Duration = Duration::from_millis(500);

/// What the handlers work with.
pub(super) struct Shared {
    pub(super) ice: LiveIce,
    pub(super) gate: Gate,
    pub(super) board: Board,
    /// The local CA's certificate, for devices that do not trust it yet.
    pub(super) ca_file: PathBuf,
    pub(super) metrics: Metrics,
    /// Proofs by phones, which outlive an instance.
    pub(super) phones: Phones,
    /// The operator's own files, in place of the built-in page.
    files: ArcSwapOption<Files>,
}

/// Changes what is served while it is served. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    shared: Arc<Shared>,
    root: Arc<ArcSwapOption<PathBuf>>,
}

/// A folder that was found fit to be served, or none.
pub struct Root(Option<(PathBuf, Files)>);

impl Control {
    /// Looks at the folder that `config` wants served.
    ///
    /// # Errors
    /// If it is not there or not readable.
    pub fn look_at(&self, config: &WebConfig) -> error::Result<Root> {
        let root = config.root.as_ref().map(|root| Ok((root.clone(), Files::new(root)?)));
        root.transpose().map(Root)
    }

    /// Serves this folder from the next request on, and lets this token read the counters.
    pub fn apply(&self, root: Root, metrics_token: Option<Secret>) {
        let (root, files) = root.0.unzip();
        self.root.store(root.map(Arc::new));
        self.shared.files.store(files.map(Arc::new));
        self.shared.metrics.set_token(metrics_token);
    }
}

/// The page, the API and the operator's own files.
pub struct Web {
    door: Door<HttpJob>,
    shared: Arc<Shared>,
    root: Arc<ArcSwapOption<PathBuf>>,
}

impl Web {
    #[must_use]
    pub fn new(
        config: &Config,
        home: &Home,
        door: Door<HttpJob>,
        (ice, gate): (LiveIce, Gate),
        board: Board,
        metrics: Metrics,
    ) -> Self {
        let ca_file = home.certs_dir().join("ca.pem");
        let phones = Phones::default();
        let shared = Arc::new(Shared { ice, gate, board, ca_file, metrics, phones, files: ArcSwapOption::empty() });
        let root = config.web.root.clone().map(Arc::new);
        Self { door, shared, root: Arc::new(ArcSwapOption::new(root)) }
    }

    /// Changes what the running instance serves.
    #[must_use]
    pub fn control(&self) -> Control {
        Control { shared: Arc::clone(&self.shared), root: Arc::clone(&self.root) }
    }

    /// The proofs that the page's API takes reports for.
    #[must_use]
    pub fn phones(&self) -> Phones {
        self.shared.phones.clone()
    }

    fn router(&self) -> error::Result<Router> {
        // The folder may have come and gone since the last instance.
        let files = self.root.load_full().map(|root| Files::new(&root)).transpose()?;
        self.shared.files.store(files.map(Arc::new));
        let shared = Arc::clone(&self.shared);
        let router = Router::new()
            .route("/api/ice", get(api::ice))
            .route("/api/session", post(api::session))
            .route("/healthz", get(api::health))
            .route("/ca.crt", get(api::ca))
            .route("/trust", get(page::trust))
            .route("/trust/qr.svg", get(trust::qr))
            .route("/trust/fingerprint.txt", get(trust::fingerprint))
            .route("/metrics", get(metrics))
            .route("/socket.io/socket.io.js", get(client_script))
            .route("/ice-test", get(page::ice_test))
            .route("/phone", get(page::phone))
            .route("/api/phone", post(phone::claim))
            .route("/api/phone/report", post(phone::report))
            .route("/rtcctl/{*path}", get(page::asset))
            .with_state(Arc::clone(&self.shared))
            // Assets of the ICE test stay reachable below `/rtcctl/`, whatever the operator serves.
            .fallback(move |request| fallback(Arc::clone(&shared), request));
        let always = |name: HeaderName, value: &'static str| {
            SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
        };
        Ok(router
            .layer(always(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .layer(always(header::REFERRER_POLICY, "no-referrer"))
            .layer(CatchPanicLayer::new()))
    }
}

impl Service for Web {
    fn name(&self) -> TaskName {
        TaskName::Web
    }

    fn run(&self, context: Context) -> error::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            // Files are read on threads of their own.
            .thread_name(TaskName::Web.as_str())
            .enable_all()
            .on_thread_start(context.adopter())
            .build()
            .map_err(|error| Failure::operator(text!("cannot start a runtime for web")).caused_by(error))?;
        let router = self.router()?;
        runtime.block_on(self.serve(&router, &context));
        Ok(())
    }

    fn fence(&self) {
        self.door.fence();
    }
}

impl Web {
    async fn serve(&self, router: &Router, context: &Context) {
        let tracker = TaskTracker::new();
        let mut jobs = self.door.open();
        context.ready();
        loop {
            context.progress();
            let job = tokio::select! {
                job = jobs.recv() => job,
                () = context.stopping().cancelled() => break,
                () = tokio::time::sleep(turns::until_next(clock::now().mono)) => continue,
            };
            // The door was opened for another instance: this one is cut off.
            let Some(job) = job else { break };
            tracker.spawn(answer(router.clone(), job));
        }
        jobs.latch().shut();
        tracker.close();
        // Whoever takes longer gets another answer from edge.
        let _ = tokio::time::timeout(DRAINED_WITHIN, tracker.wait()).await;
    }
}

async fn answer(router: Router, job: HttpJob) {
    let HttpJob { request, client, reply } = job;
    let (parts, body) = request.into_parts();
    let response = match tokio::time::timeout(BODY_WITHIN, whole(body)).await {
        Ok(Ok(body)) => {
            let mut request = Request::from_parts(parts, Body::from(body));
            request.extensions_mut().insert(ConnectInfo::<SocketAddr>(client));
            match router.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
        Ok(Err(refusal)) => refusal,
        Err(_) => words(StatusCode::REQUEST_TIMEOUT, "the body of the request did not come in time\n"),
    };
    // The client may have gone in the meantime.
    let _ = reply.send(response);
}

/// A request's body, or why it is not taken.
async fn whole(mut body: impl HttpBody<Data = Bytes> + Unpin) -> Result<Bytes, Response<Body>> {
    let (mut kept, mut size) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| words(StatusCode::BAD_REQUEST, "the body of the request is malformed\n"))?;
        let Ok(data) = frame.into_data() else { continue };
        size += data.len();
        if size > MAX_HEARD_OUT {
            break;
        }
        if size <= MAX_BODY {
            kept.extend_from_slice(&data);
        }
    }
    if size > MAX_BODY {
        return Err(words(StatusCode::PAYLOAD_TOO_LARGE, "a request may bring 16 KiB at most\n"));
    }
    Ok(kept.freeze())
}

/// The script that defines `io()`: a copy of the operator's own, or ours.
async fn client_script(State(shared): State<Arc<Shared>>, request: Request<Body>) -> Response<Body> {
    if let Some(files) = shared.files.load_full()
        && files.has(request.uri().path()).await
    {
        return Files::clone(&files).answer(request).await;
    }
    page::client_script(request.headers())
}

async fn fallback(shared: Arc<Shared>, request: Request<Body>) -> Response<Body> {
    match shared.files.load_full() {
        // A page of others knows nothing of keys: who has none yet gets one that does, and comes back.
        Some(_)
            if page::is_for_reading(&request)
                && !shared.gate.knows(&Shown::of(request.headers(), request.uri()), clock::now()) =>
        {
            page::asks_for_key(request.headers())
        }
        Some(files) => Files::clone(&files).answer(request).await,
        None => page::fallback(request).await,
    }
}

/// A short answer in words.
pub(super) fn words(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
