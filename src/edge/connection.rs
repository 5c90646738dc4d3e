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
use tracing::debug;

use super::Doors;
use super::counters::Counters;
use super::cut::Cutter;
use super::ending::{Begun, Ending, Visit};
use super::held::{Held, Rewound};
use super::live::Live;
use super::redirect::Way;
use super::tls::Tls;
use crate::certs::challenge::Challenges;
use crate::supervisor::handover::{Hangup, HttpJob, OwnRequest};
use crate::sys::marks::Marks;

/// How long a client may take to send the head of a request, the first by whichever version of HTTP; an idle connection
/// of HTTP/1.1 is closed after it, too.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// How long a request waits for a task that is being restarted.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
/// How long a task may take to answer: a long poll lasts as long as Socket.IO's ping interval.
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
    pub(super) live: Arc<Live>,
    pub(super) challenges: Challenges,
    pub(super) counters: Arc<Counters>,
    /// Connections of this process to itself.
    pub(super) marks: Marks,
    pub(super) ending: Ending,
}

impl Connections {
    /// Serves HTTP inside TLS. `is_own`: to a probe of this process.
    pub(super) async fn serve_https<S>(
        self: Arc<Self>,
        stream: S,
        client: SocketAddr,
        visit: Visit,
        is_own: bool,
        cutter: Cutter,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = Arc::clone(&self);
        let line = cutter.clone();
        let hangup = Hangup::new(move || line.cut());
        let answer = move |mut request: Request<Incoming>, begun| {
            request.extensions_mut().insert(hangup.clone());
            if is_own {
                request.extensions_mut().insert(OwnRequest);
            }
            let (service, cutter) = (Arc::clone(&service), cutter.clone());
            async move { Ok::<_, Infallible>(service.answer(request, client, begun, Some(cutter)).await) }
        };
        serve_requests(stream, client, visit, HEAD_WITHIN, answer).await;
    }

    /// Serves a connection without TLS: everything is sent to HTTPS.
    pub(super) async fn serve_http(self: Arc<Self>, stream: Rewound<Held>, client: SocketAddr, visit: Visit) {
        let Ok(local) = stream.stream().stream.get().and_then(|stream| stream.local_addr()) else { return };
        let service = Arc::clone(&self);
        let answer = move |request, begun| {
            let service = Arc::clone(&service);
            async move { Ok::<_, Infallible>(service.redirect(request, client, begun, local.ip()).await) }
        };
        serve_requests(stream, client, visit, HEAD_WITHIN, answer).await;
    }

    /// Has a request answered by its task. A connection that becomes the task's own is cut if the task is given up.
    async fn answer(
        &self,
        request: Request<Incoming>,
        client: SocketAddr,
        begun: Begun,
        cutter: Option<Cutter>,
    ) -> Response<Body> {
        let path = request.uri().path();
        let is_script = path == "/socket.io/socket.io.js";
        let is_signaling = path.strip_prefix(SIGNALING).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let door = if is_signaling && !is_script { &self.doors.signaling } else { &self.doors.web };
        let (reply, answer) = oneshot::channel();
        let job = HttpJob { request, client, reply };
        let Ok(mut handed) = door.hand(job, TAKEN_WITHIN).await else { return unavailable() };
        let answer = tokio::select! {
            biased;
            answer = timeout(ANSWERED_WITHIN, begun.soon(answer)) => answer,
            () = handed.fenced() => return unavailable(),
        };
        // The task ended with the request in its hands, or does not come to an end with it.
        let Ok(Ok(response)) = answer else { return unavailable() };
        if let Some(cutter) = cutter.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS) {
            tokio::spawn(cutter.cut_when_fenced(handed));
        }
        response
    }

    async fn redirect(
        &self,
        request: Request<Incoming>,
        client: SocketAddr,
        begun: Begun,
        local: IpAddr,
    ) -> Response<Body> {
        let authority = request.uri().authority().map(ToString::to_string);
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
        let host = host.or(authority);
        let mut response = match self.live.names().way(request.uri().path_and_query(), host.as_deref(), local) {
            Way::Web => return self.answer(request, client, begun, None).await,
            Way::Challenge(token) => match self.challenges.http(&token) {
                Some(answer) => {
                    let mut response = Response::new(Body::from(answer));
                    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
                    response
                }
                None => plain(StatusCode::NOT_FOUND, "not found\n"),
            },
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

/// Serves requests until the client leaves or the service ends. It is dropped if it does not come to its first
/// request in time: no timer of HTTP's own covers finding out its version, nor the first frames of HTTP/2.
async fn serve_requests<S, F, A>(stream: S, client: SocketAddr, visit: Visit, first_within: Duration, answer: F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>, Begun) -> A + Send + Sync + 'static,
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
    let visit = Arc::new(visit);
    let asking = Arc::clone(&visit);
    let service = service_fn(move |request| answer(request, asking.asks()));
    let overdue = async {
        if timeout(first_within, visit.asked()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = overdue => {
            debug!(%client, "a connection came to no request in time");
            return;
        }
        () = visit.over() => {
            connection.as_mut().graceful_shutdown();
            // By HTTP/2, a client may ask until it has heard of it.
            visit.leaves(connection).await
        }
    };
    if let Err(error) = ended {
        debug!(%client, %error, "a connection ended badly");
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Notify;

    use super::*;

    const SOON: Duration = Duration::from_millis(100);
    const LATE: Duration = Duration::from_secs(10);
    const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4711);

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn a_client_that_comes_to_no_request_loses_its_place() {
        let beginnings: [&[u8]; 5] = [
            b"",
            b"PRI * HT",
            b"GET / HTTP/1.1\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            // Settings, as every client of HTTP/2 sends them, and a request that does not follow.
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ];
        for beginning in beginnings {
            block_on(async {
                let (mut client, server) = tokio::io::duplex(4096);
                client.write_all(beginning).await.unwrap();
                let answer = |_, _| async { Ok(unavailable()) };
                let serving = serve_requests(server, CLIENT, Ending::default().visit(), SOON, answer);
                let text = String::from_utf8_lossy(beginning);
                assert!(timeout(LATE, serving).await.is_ok(), "{text:?} holds its place");
            });
        }
    }

    #[test]
    fn a_request_that_came_in_time_may_take_long_to_be_answered() {
        block_on(async {
            let (mut client, server) = tokio::io::duplex(4096);
            client.write_all(b"GET / HTTP/1.1\r\nHost: a.b\r\nConnection: close\r\n\r\n").await.unwrap();
            let answered = Arc::new(Notify::new());
            let waits = Arc::clone(&answered);
            let answer = move |_, _| {
                let waits = Arc::clone(&waits);
                async move {
                    waits.notified().await;
                    Ok(unavailable())
                }
            };
            let serving = serve_requests(server, CLIENT, Ending::default().visit(), SOON, answer);
            tokio::pin!(serving);
            assert!(timeout(3 * SOON, serving.as_mut()).await.is_err());
            answered.notify_one();
            serving.await;
            let mut heard = String::new();
            client.read_to_string(&mut heard).await.unwrap();
            assert!(heard.starts_with("HTTP/1.1 503 "), "{heard}");
        });
    }
}
