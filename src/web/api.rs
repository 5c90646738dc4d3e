//! What programs ask: ICE servers, health, the local CA's certificate.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::json;

use super::task::{Shared as Facts, words};
use crate::supervisor::board::State;
use crate::sys::clock;

/// Quotas count allocations by user; callers of the page are not told apart by names.
const WEB_USER: &str = "web";

/// An RTCConfiguration with fresh credentials, for the host by which the client came.
pub(super) async fn ice(Shared(facts): Shared<Arc<Facts>>, uri: Uri, headers: HeaderMap) -> Response {
    let via = host(&uri, &headers);
    let user = format!("{WEB_USER}-{:08x}", rand::random::<u32>());
    let configuration = facts.ice.current().configuration(&user, via.as_deref(), clock::now());
    ([(CACHE_CONTROL, "no-store")], Json(configuration)).into_response()
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
fn host(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let header = headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    header.or_else(|| uri.authority().cloned()).map(|authority| authority.host().to_owned())
}
