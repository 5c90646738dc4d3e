//! What programs ask: ICE servers, a session for a key, health, the local CA's certificate.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, State as Shared};
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, HOST, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE};
use http::uri::Authority;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::json;

use super::task::{Shared as Facts, words};
use crate::access::{Refusal, Shown};
use crate::supervisor::board::State;
use crate::sys::clock;

/// An RTCConfiguration with fresh credentials, for the host by which the client came.
pub(super) async fn ice(
    Shared(facts): Shared<Arc<Facts>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let now = clock::now();
    let user = match facts.gate.admit_to_ask(&Shown::of(&headers, &uri), client.ip(), now) {
        Ok(user) => user,
        Err(refusal) => return refuse(refusal),
    };
    let via = host(&uri, &headers);
    let configuration = facts.ice.current().configuration(user.as_str(), via.as_deref(), now);
    ([(CACHE_CONTROL, "no-store")], Json(configuration)).into_response()
}

/// Exchanges the key of an invite link for a cookie; without a body, and where none is needed without a cookie.
pub(super) async fn session(
    Shared(facts): Shared<Arc<Facts>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    match facts.gate.open_session(&Shown::of(&headers, &uri), client.ip(), clock::now()) {
        Ok(cookie) => {
            let mut response = (StatusCode::NO_CONTENT, [(CACHE_CONTROL, "no-store")]).into_response();
            if let Some(cookie) = cookie.and_then(|cookie| cookie.parse().ok()) {
                response.headers_mut().insert(SET_COOKIE, cookie);
            }
            response
        }
        Err(refusal) => refuse(refusal),
    }
}

/// Why somebody is not let in, for programs and for people.
fn refuse(refusal: Refusal) -> Response {
    let told = Json(json!({ "error": refusal.code(), "message": refusal.to_string() }));
    let told = ([(CACHE_CONTROL, "no-store")], told);
    match refusal {
        Refusal::Missing | Refusal::Ended | Refusal::Wrong => {
            (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], told).into_response()
        }
        Refusal::Limited { wait } => {
            // A whole second at least, and none too early.
            let seconds = wait.as_secs() + 1;
            (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, seconds.to_string())], told).into_response()
        }
    }
}

/// 200 as long as the service serves. No secrets and no addresses: anyone may ask.
pub(super) async fn health(Shared(facts): Shared<Arc<Facts>>) -> Response {
    let state = facts.board.overall();
    let status = match state {
        State::Ready | State::Degraded => StatusCode::OK,
        State::Stopped | State::Starting | State::Draining | State::Backoff | State::Held => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    (status, [(CACHE_CONTROL, "no-store")], Json(json!({ "state": state }))).into_response()
}

/// The certificate of the local CA, in the form that phones install.
pub(super) async fn ca(Shared(facts): Shared<Arc<Facts>>) -> Response {
    match tokio::fs::read(&facts.ca_file).await {
        Ok(pem) => {
            let headers = [
                (CONTENT_TYPE, "application/x-x509-ca-cert"),
                (CONTENT_DISPOSITION, "attachment; filename=\"rtcctl-ca.crt\""),
                (CACHE_CONTROL, "no-cache"),
            ];
            (headers, pem).into_response()
        }
        Err(_) => words(StatusCode::NOT_FOUND, "this service has no certificate authority of its own\n"),
    }
}

/// The host part of what the client asked for, without the port.
pub(super) fn host(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let header = headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    header.or_else(|| uri.authority().cloned()).map(|authority| authority.host().to_owned())
}
