//! `/metrics`: who may read the counters. What they are is the daemon's part.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{ConnectInfo, State};
use axum::response::{IntoResponse as _, Response};
use http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};

use super::task::{Shared, words};
use crate::config::Secret;

/// How the counters are written for whoever says nothing, and for whoever asks for OpenMetrics.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
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

/// Whether whoever asks prefers OpenMetrics, as Prometheus does since 2.5. A list without weights is in order.
fn wants_open_metrics(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let weight = |entry: &str| {
        let weight = entry.split(';').find_map(|part| part.trim().strip_prefix("q="));
        weight.map_or(Some(1.0), |text| text.parse::<f32>().ok()).unwrap_or(0.0)
    };
    let mut best = (0.0, false);
    for entry in accepted.flat_map(|value| value.split(',')) {
        let kind = entry.split(';').next().unwrap_or_default().trim();
        let is_ours = kind.eq_ignore_ascii_case("application/openmetrics-text");
        if (is_ours || kind.eq_ignore_ascii_case("text/plain")) && weight(entry) > best.0 {
            best = (weight(entry), is_ours);
        }
    }
    best.1
}

/// The same page as OpenMetrics has it: a family of counters is called as its samples are, without `_total`, and the
/// page says where it ends.
fn open_metrics(page: &str) -> String {
    let mut counters: BTreeSet<&str> = BTreeSet::new();
    for line in page.lines() {
        if let Some(name) = line.strip_prefix("# TYPE ").and_then(|rest| rest.strip_suffix(" counter")) {
            counters.insert(name);
        }
    }
    let mut out = String::with_capacity(page.len() + 8);
    for line in page.lines() {
        let named = line.strip_prefix("# ").and_then(|rest| rest.split_once(' '));
        let counter = named.and_then(|(word, rest)| {
            let (name, rest) = rest.split_once(' ')?;
            let family = name.strip_suffix("_total").filter(|_| counters.contains(name))?;
            Some(format!("# {word} {family} {rest}"))
        });
        out.push_str(&counter.unwrap_or_else(|| line.to_owned()));
        out.push('\n');
    }
    out.push_str("# EOF\n");
    out
}

pub(super) async fn metrics(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let metrics = &shared.metrics;
    if metrics.may_read(client, &headers) {
        let page = (metrics.render)();
        let (kind, page) =
            if wants_open_metrics(&headers) { (OPEN_METRICS, open_metrics(&page)) } else { (TEXT, page) };
        return ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")], page).into_response();
    }
    let refusal = words(StatusCode::UNAUTHORIZED, "programs on this host, and others by a token\n");
    ([(WWW_AUTHENTICATE, "Bearer")], refusal).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_are_given_to_who_prefers_them() {
        let wants = |accept: &str| wants_open_metrics(&[(ACCEPT, accept.parse().unwrap())].into_iter().collect());
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert!(wants(prometheus) && wants("application/openmetrics-text"));
        for other in
            ["text/plain", "*/*", "text/plain, application/openmetrics-text; q=0.5", "application/openmetrics-text;q=0"]
        {
            assert!(!wants(other), "{other}");
        }
        let page = "# HELP a_total Of a.\n# TYPE a_total counter\na_total{b=\"c_total\"} 1\n# HELP d_total D.\n# TYPE d_total gauge\nd_total 2\n";
        let wanted = "# HELP a Of a.\n# TYPE a counter\na_total{b=\"c_total\"} 1\n# HELP d_total D.\n# TYPE d_total gauge\nd_total 2\n# EOF\n";
        assert_eq!(open_metrics(page), wanted);
    }

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
