//! `/phone` and its API: exchanges a code for a key, and takes what the page says by it.
//!
//! Code and key come in the `Authorization` header: no log has them, and no page of another origin may send one.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State as Shared};
use axum::response::{IntoResponse as _, Response};
use http::header::{AUTHORIZATION, CACHE_CONTROL, USER_AGENT, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode, Uri};
use serde_json::json;

use super::api::host;
use super::task::{Shared as Facts, words};
use crate::phone::desk::Refusal;
use crate::phone::report::Report;
use crate::sys::clock;

/// Bytes of a report; those of our page have a few hundred.
const MAX_REPORT: usize = 2048;
/// Who is counted by the relay's quota: a page has some ten allocations at a time.
const PHONE_USER: &str = "phone";

/// Gives the browser that shows a terminal's code a key, and servers to try.
pub(super) async fn claim(
    Shared(facts): Shared<Arc<Facts>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let Some(code) = bearer(&headers) else { return refused(Refusal::Unknown) };
    let agent = headers.get(USER_AGENT).map(|agent| String::from_utf8_lossy(agent.as_bytes())).unwrap_or_default();
    match facts.phones.claim(code, &agent, &client.ip().to_canonical().to_string()) {
        Ok((key, seconds)) => {
            let user = format!("{PHONE_USER}-{:08x}", rand::random::<u32>());
            let via = host(&uri, &headers);
            let ice = facts.ice.current().configuration(&user, via.as_deref(), clock::now());
            let told = json!({ "key": key, "seconds": seconds, "iceServers": ice.ice_servers });
            ([(CACHE_CONTROL, "no-store")], Json(told)).into_response()
        }
        Err(refusal) => refused(refusal),
    }
}

/// Takes what the page says of one step; answers with the verdict once there is one.
pub(super) async fn report(Shared(facts): Shared<Arc<Facts>>, headers: HeaderMap, body: Bytes) -> Response {
    let Some(key) = bearer(&headers) else { return refused(Refusal::Unknown) };
    if body.len() > MAX_REPORT {
        return words(StatusCode::PAYLOAD_TOO_LARGE, "a report has 2048 bytes at most\n").into_response();
    }
    let Ok(report) = serde_json::from_slice::<Report>(&body) else {
        return words(StatusCode::BAD_REQUEST, "this is no report of a step\n").into_response();
    };
    match facts.phones.report(key, report) {
        Ok(verdict) => ([(CACHE_CONTROL, "no-store")], Json(json!({ "verdict": verdict }))).into_response(),
        Err(refusal) => refused(refusal),
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn refused(refusal: Refusal) -> Response {
    let (status, text) = match refusal {
        Refusal::Unknown => (StatusCode::UNAUTHORIZED, "this code is not known, or its time is over\n"),
        Refusal::Used => (StatusCode::CONFLICT, "this code was used by another browser\n"),
        Refusal::TooMuch => (StatusCode::TOO_MANY_REQUESTS, "this phone has said more than a proof needs\n"),
    };
    let mut response = words(status, text).into_response();
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer"));
    }
    response
}
