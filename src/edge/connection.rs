//! One connection of HTTP/1.1 or HTTP/2: a request after the other to the task that answers it.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Doors;
use super::counters::Counters;
use super::held::{Held, Rewound};
use super::redirect::{OwnNames, Way};
use super::tls::Tls;
use crate::supervisor::handover::HttpJob;

/// How long a client may take to send the head of a request; an idle connection is closed after it, too.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// How long a request waits for a task that is being restarted.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
/// How long a task may take to answer: a long poll lasts as long as Socket.IO's ping interval of 25 s.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);
/// Bytes that the head of a request may have.
const MAX_HEAD: usize = 32 * 1024;
/// Header lines that a request may have.
const MAX_HEADERS: usize = 64;
/// HTTP/2 requests at a time on one connection.
const MAX_STREAMS: u32 = 64;
/// How often an idle HTTP/2 connection is asked whether it lives, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(30);
const PONG_WITHIN: Duration = Duration::from_secs(10);
/// The prefix of what signaling answers.
const SIGNALING: &str = "/socket.io";

/// What all connections share.
pub(super) struct Connections {
    pub(super) tls: Tls,
    pub(super) doors: Doors,
    pub(super) names: OwnNames,
    pub(super) counters: Arc<Counters>,
    pub(super) closing: CancellationToken,
}

impl Connections {
    /// Serves HTTP inside TLS.
    pub(super) async fn serve_https<S>(self: Arc<Self>, stream: S, client: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = Arc::clone(&self);
        let answer = move |request| {
            let service = Arc::clone(&service);
            async move { Ok::<_, Infallible>(service.answer(request, client).await) }
        };
        self.serve_requests(stream, client, answer).await;
    }

    /// Serves a connection without TLS: everything is sent to HTTPS.
    pub(super) async fn serve_http(self: Arc<Self>, stream: Rewound<Held>, client: SocketAddr) {
        let Ok(local) = stream.stream().stream.local_addr() else { return };
        let service = Arc::clone(&self);
        let answer = move |request| {
            let service = Arc::clone(&service);
            async move { Ok::<_, Infallible>(service.redirect(request, client, local.ip()).await) }
        };
        self.serve_requests(stream, client, answer).await;
    }

    async fn serve_requests<S, F, A>(&self, stream: S, client: SocketAddr, answer: F)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
    {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(MAX_HEAD).expect("a head is short"))
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PONG_WITHIN);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service_fn(answer));
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.closing.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(%client, %error, "a connection ended badly");
        }
    }

    /// Has a request answered by its task.
    async fn answer(&self, request: Request<Incoming>, client: SocketAddr) -> Response<Body> {
        let path = request.uri().path();
        let is_script = path == "/socket.io/socket.io.js";
        let is_signaling = path.strip_prefix(SIGNALING).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let door = if is_signaling && !is_script { &self.doors.signaling } else { &self.doors.web };
        let (reply, answer) = oneshot::channel();
        let job = HttpJob { request, client, reply };
        if door.hand(job, TAKEN_WITHIN).await.is_err() {
            return unavailable();
        }
        match timeout(ANSWERED_WITHIN, answer).await {
            Ok(Ok(response)) => response,
            // The task ended with the request in its hands, or does not come to an end with it.
            Ok(Err(_)) | Err(_) => unavailable(),
        }
    }

    async fn redirect(&self, request: Request<Incoming>, client: SocketAddr, local: IpAddr) -> Response<Body> {
        let authority = request.uri().authority().map(ToString::to_string);
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
        let host = host.or(authority);
        let mut response = match self.names.way(request.uri().path_and_query(), host.as_deref(), local) {
            Way::Web => return self.answer(request, client).await,
            Way::Nothing => plain(StatusCode::NOT_FOUND, "not found\n"),
            Way::Https(target) => {
                let mut response = plain(StatusCode::PERMANENT_REDIRECT, "this page is served by HTTPS\n");
                if let Ok(target) = HeaderValue::from_str(&target) {
                    response.headers_mut().insert(LOCATION, target);
                }
                response
            }
        };
        // Nothing more is to be had here.
        if request.version() < http::Version::HTTP_2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

fn unavailable() -> Response<Body> {
    let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, "restarting, try again in a moment\n");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("2"));
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
