//! Sessions that are carried by requests: one that waits for packets, others that bring some.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::time::{sleep, timeout};

use super::payload::{self, Part};
use super::request::Refusal;
use super::socket::{Misplaced, Socket};
use super::{Engine, Handler, Version};
use crate::signaling::End;

/// How long a client may take to send the body of a request.
const BROUGHT_WITHIN: Duration = Duration::from_secs(30);

/// How often a client is told that nothing comes by this way, while it is about to change to a WebSocket.
const OUT_OF_THE_WAY_EVERY: Duration = Duration::from_millis(100);
/// How many of the longest messages may come at once: clients 2.x and 3.x put all into one request that they have.
const MESSAGES_AT_ONCE: usize = 4;

/// Begins a session.
pub(super) fn open<H: Handler>(engine: &Engine<H>, version: Version, head: &Parts) -> Response<Body> {
    let socket = engine.begin(version, head);
    engine.polling().insert(socket.sid.clone(), Arc::clone(&socket));
    let mut body = String::new();
    payload::push(&mut body, version, &engine.hello(&socket, &["websocket"]));
    engine.handler.arrived(&socket);
    text(StatusCode::OK, body)
}

/// Gives the packets that wait for a client, as soon as there are some.
pub(super) async fn fetch<H: Handler>(
    engine: &Engine<H>,
    socket: &Arc<Socket<H::Caller>>,
) -> Result<Response<Body>, Refusal> {
    let mut fetch = socket.fetch().map_err(|why| misplaced(socket, why))?;
    let _speaks = engine.speaking.token();
    if fetch.is_in_the_way() {
        sleep(OUT_OF_THE_WAY_EVERY).await;
    }
    Ok(text(StatusCode::OK, poll_fn(|cx| fetch.poll_body(cx)).await))
}

/// Takes the packets that a client brings.
pub(super) async fn post<H: Handler>(
    engine: &Engine<H>,
    socket: &Arc<Socket<H::Caller>>,
    head: &Parts,
    body: Incoming,
) -> Result<Response<Body>, Refusal> {
    let _post = socket.post().map_err(|why| misplaced(socket, why))?;
    let kind = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_binary = kind.starts_with(b"application/octet-stream");
    let body = Limited::new(body, MESSAGES_AT_ONCE * engine.settings.max_message);
    let body = match timeout(BROUGHT_WITHIN, body.collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            socket.end(End::Packet);
            return Ok(text(StatusCode::PAYLOAD_TOO_LARGE, String::new()));
        }
        Ok(Err(_)) => return Err(Refusal::BadRequest),
        Err(_) => return Ok(text(StatusCode::REQUEST_TIMEOUT, String::new())),
    };
    let Ok(parts) = payload::split(&body, socket.version, is_binary) else {
        socket.end(End::Packet);
        return Err(Refusal::BadRequest);
    };
    for part in parts {
        let end = match part {
            _ if socket.has_ended() => break,
            Part::Text(packet) => engine.hear(socket, packet),
            Part::Binary => {
                engine.handler.noticed(socket);
                None
            }
        };
        if let Some(end) = end {
            socket.end(end);
            if end == End::Packet {
                return Err(Refusal::BadRequest);
            }
        }
    }
    Ok(text(StatusCode::OK, "ok".to_owned()))
}

/// Two requests for the same packets are two clients with one name: neither is right.
fn misplaced<C>(socket: &Arc<Socket<C>>, why: Misplaced) -> Refusal {
    if why == Misplaced::Twice {
        socket.end(End::Packet);
    }
    Refusal::BadRequest
}

fn text(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
    response
}
