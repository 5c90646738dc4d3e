//! Reads what a request shows: a key, cookies, and whether a page of somebody else has made it.

use http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Uri};

/// Bytes of a key that is looked at.
const MAX_KEY: usize = 256;
/// Cookies that are looked at; more than one of ours has no good reason.
const MAX_COOKIES: usize = 64;
/// The scheme of a key in `Authorization`.
const BEARER: &str = "bearer ";

/// What a request shows. Nothing of it is checked yet.
#[derive(Clone, Default)]
pub struct Shown {
    key: Option<Vec<u8>>,
    /// Names and values; empty if they do not count.
    cookies: Vec<(String, String)>,
}

impl Shown {
    #[must_use]
    pub fn of(headers: &HeaderMap, uri: &Uri) -> Self {
        // A page of another origin could have the visitor's browser show a cookie without the visitor's wish.
        let cookies = if is_foreign(headers, uri) { Vec::new() } else { cookies(headers) };
        Self { key: bearer(headers).or_else(|| query_key(uri)), cookies }
    }

    /// With the key that a Socket.IO client has in its `auth`, if it has one.
    #[must_use]
    pub fn with_key(mut self, key: Option<&str>) -> Self {
        self.key = key.and_then(|key| bounded(key.as_bytes())).or(self.key);
        self
    }

    pub(super) fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// The values of the cookies with this name.
    pub(super) fn cookies(&self, name: &str) -> impl Iterator<Item = &str> {
        self.cookies.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

fn bounded(key: &[u8]) -> Option<Vec<u8>> {
    (1..=MAX_KEY).contains(&key.len()).then(|| key.to_vec())
}

fn bearer(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked(BEARER.len())?;
    bounded(key.trim_ascii()).filter(|_| scheme.eq_ignore_ascii_case(BEARER.as_bytes()))
}

/// A key has no characters that would be escaped in a query.
fn query_key(uri: &Uri) -> Option<Vec<u8>> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix("key=")).and_then(|key| bounded(key.as_bytes()))
}

fn cookies(headers: &HeaderMap) -> Vec<(String, String)> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let ours = pairs.filter(|(name, _)| name.starts_with(super::COOKIE));
    ours.take(MAX_COOKIES).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Whether a browser says that a page of another origin makes this request. SameSite alone lets pages on other ports of
/// this host pass, and WebSockets have no other protection.
fn is_foreign(headers: &HeaderMap, uri: &Uri) -> bool {
    let says = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if matches!(says("sec-fetch-site"), Some("cross-site" | "same-site")) {
        return true;
    }
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let asked = headers.get(HOST).and_then(|host| host.to_str().ok()).or(uri.authority().map(Authority::as_str));
    let own = origin.to_str().ok().and_then(|origin| origin.strip_prefix("https://"));
    match (own, asked) {
        (Some(own), Some(asked)) => !bare(own).eq_ignore_ascii_case(bare(asked)),
        _ => true,
    }
}

/// Without the port that everybody leaves out.
fn bare(authority: &str) -> &str {
    authority.strip_suffix(":443").unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn shown(uri: &str, headers: &[(&str, &str)]) -> Shown {
        let pair =
            |(name, value): &(&str, &str)| (HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        Shown::of(&headers.iter().map(pair).collect(), &uri.parse().unwrap())
    }

    fn key(uri: &str, headers: &[(&str, &str)]) -> Option<String> {
        shown(uri, headers).key().map(|key| String::from_utf8_lossy(key).into_owned())
    }

    #[test]
    fn a_key_is_in_the_authorization_or_in_the_query() {
        for value in ["Bearer abc", "bearer abc", "BEARER  abc "] {
            assert_eq!(key("/", &[("authorization", value)]).as_deref(), Some("abc"), "{value}");
        }
        assert_eq!(key("/api/ice?a=1&key=abc&b=2", &[]).as_deref(), Some("abc"));
        assert_eq!(key("/?key=query", &[("authorization", "Bearer head")]).as_deref(), Some("head"));
        let long = format!("Bearer {}", "x".repeat(257));
        for value in ["", "Bearer", "Bearer ", "Basic abc", "abc", &long] {
            assert_eq!(key("/", &[("authorization", value)]), None, "{value}");
        }
        for uri in ["/", "/?", "/?key", "/?key=", "/?monkey=abc", "/#key=abc"] {
            assert_eq!(key(uri, &[]), None, "{uri}");
        }
    }

    #[test]
    fn cookies_of_ours_are_found_among_others() {
        let name = "__Host-rtcctl-443";
        let line = format!("a=b; {name}=one;x ; {name}=two; {name}1=three; =; ;");
        let found: Vec<String> = shown("/", &[("cookie", &line)]).cookies(name).map(str::to_owned).collect();
        assert_eq!(found, ["one", "two"]);
        let flood = format!("{name}=x; ").repeat(500);
        assert_eq!(shown("/", &[("cookie", &flood)]).cookies(name).count(), MAX_COOKIES);
    }

    #[test]
    fn the_cookie_of_a_visitor_is_of_no_use_to_pages_of_others() {
        let counts = |uri: &str, headers: &[(&str, &str)]| {
            let cookie = ("cookie", "__Host-rtcctl-443=one");
            let headers: Vec<(&str, &str)> = headers.iter().copied().chain([cookie]).collect();
            shown(uri, &headers).cookies("__Host-rtcctl-443").count() == 1
        };
        let host = ("host", "call.example:8443");
        assert!(counts("/", &[host]), "typed, or asked by the page itself");
        assert!(counts("/", &[host, ("origin", "https://CALL.example:8443")]));
        assert!(counts("/", &[host, ("sec-fetch-site", "same-origin")]));
        assert!(counts("/", &[host, ("sec-fetch-site", "none")]));
        assert!(counts("https://call.example/", &[("origin", "https://call.example")]), "HTTP/2 has no Host");
        assert!(counts("/", &[("host", "call.example:443"), ("origin", "https://call.example")]));
        for origin in [
            "https://call.example",
            "https://call.example:9443",
            "https://evil.example",
            "https://call.example:8443.evil.example",
            "http://call.example:8443",
            "null",
            "",
        ] {
            assert!(!counts("/", &[host, ("origin", origin)]), "{origin}");
        }
        assert!(!counts("/", &[host, ("sec-fetch-site", "same-site")]), "another port of this host");
        assert!(!counts("/", &[host, ("sec-fetch-site", "cross-site")]));
        assert!(!counts("/", &[("origin", "https://call.example")]), "which is it?");
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_is_shown_makes_it_panic(value in "[ -~]{0,80}", uri in "/[a-z?&=%]{0,30}") {
            for name in ["authorization", "cookie", "origin", "host", "sec-fetch-site"] {
                let _ = shown(&uri, &[(name, &value)]).with_key(Some(&value)).key();
            }
        }
    }
}
