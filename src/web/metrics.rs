//! `/metrics`: who may read the counters. What they are is the daemon's part.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{ConnectInfo, State};
use axum::response::{IntoResponse as _, Response};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};

use super::task::{Shared, words};
use crate::config::Secret;

/// What a proxy adds to requests of others.
const FORWARDED: [&str; 3] = ["forwarded", "x-forwarded-for", "via"];

/// The counters as text, and the token by which they are read from elsewhere. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    render: Arc<dyn Fn() -> String + Send + Sync>,
    token: Arc<ArcSwapOption<Secret>>,
}

impl Metrics {
    #[must_use]
    pub fn new(render: impl Fn() -> String + Send + Sync + 'static, token: Option<Secret>) -> Self {
        Self { render: Arc::new(render), token: Arc::new(ArcSwapOption::new(token.map(Arc::new))) }
    }

    /// From now on this token is the one that is asked for.
    pub(super) fn set_token(&self, token: Option<Secret>) {
        self.token.store(token.map(Arc::new));
    }

    /// Programs on this host may read, and whoever has the token. A proxy on this host is not who asks.
    fn may_read(&self, client: SocketAddr, headers: &HeaderMap) -> bool {
        let is_forwarded = FORWARDED.iter().any(|name| headers.contains_key(*name));
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        let has_token = self
            .token
            .load()
            .as_ref()
            .zip(bearer)
            .is_some_and(|(token, shown)| verify_slices_are_equal(token.expose(), shown).is_ok());
        has_token || (client.ip().to_canonical().is_loopback() && !is_forwarded)
    }
}

pub(super) async fn metrics(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let metrics = &shared.metrics;
    if metrics.may_read(client, &headers) {
        let told = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"), (CACHE_CONTROL, "no-store")];
        return (told, (metrics.render)()).into_response();
    }
    let refusal = words(StatusCode::UNAUTHORIZED, "programs on this host, and others by a token\n");
    ([(WWW_AUTHENTICATE, "Bearer")], refusal).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_reads_and_whoever_has_the_token() {
        let metrics =
            |token: Option<&str>| Metrics::new(String::new, token.map(|token| Secret::new(token.as_bytes().to_vec())));
        let may = |metrics: Metrics, client: &str, headers: &[(&'static str, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            metrics.may_read(client.parse().unwrap(), &headers)
        };
        for here in ["127.0.0.1:5", "[::1]:5", "[::ffff:127.0.0.1]:5"] {
            assert!(may(metrics(None), here, &[]));
            assert!(!may(metrics(None), here, &[("x-forwarded-for", "192.0.2.1")]), "a proxy");
        }
        let elsewhere = "192.0.2.1:5";
        assert!(!may(metrics(None), elsewhere, &[]));
        assert!(!may(metrics(None), elsewhere, &[("authorization", "Bearer ")]));
        assert!(!may(metrics(Some("token")), elsewhere, &[]));
        assert!(!may(metrics(Some("token")), elsewhere, &[("authorization", "Bearer toke")]));
        assert!(!may(metrics(Some("token")), elsewhere, &[("authorization", "Basic token")]));
        assert!(may(metrics(Some("token")), elsewhere, &[("authorization", "Bearer token")]));
    }
}
