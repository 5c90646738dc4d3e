//! Decides what a request wants, and how one is turned away that wants what there is not.

use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Method};

use super::Version;

/// What a request wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// A session that begins by polling.
    Open(Version),
    /// The packets that wait for this session.
    Fetch(String),
    /// To hand over packets of this session.
    Post(String),
    /// A WebSocket: for a session that is there, or for a new one.
    WebSocket { version: Version, sid: Option<String>, key: String },
}

/// Why a request is turned away. The numbers and the words are those of Engine.IO, which old clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    UnknownTransport,
    UnknownSession,
    BadMethod,
    BadRequest,
    Full,
    UnknownVersion,
}

impl Refusal {
    pub(super) fn json(self) -> String {
        let (code, message) = match self {
            Self::UnknownTransport => (0, "Transport unknown"),
            Self::UnknownSession => (1, "Session ID unknown"),
            Self::BadMethod => (2, "Bad handshake method"),
            Self::BadRequest => (3, "Bad request"),
            Self::Full => (4, "the server is full, try again later"),
            Self::UnknownVersion => (5, "Unsupported protocol version"),
        };
        format!("{{\"code\":{code},\"message\":\"{message}\"}}")
    }
}

/// Reads the head of a request.
pub(super) fn read(head: &Parts) -> Result<Wish, Refusal> {
    let query = head.uri.query().unwrap_or_default();
    let find = |name: &str| query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
    let value = |name: &str| find(name).map(|(_, value)| value);
    let version = match value("EIO") {
        Some("3") => Version::V3,
        Some("4") => Version::V4,
        _ => return Err(Refusal::UnknownVersion),
    };
    // One that is empty is no wish for a new session.
    let sid = value("sid").map(str::to_owned);
    match (value("transport"), &head.method, sid) {
        (Some("polling"), &Method::GET, None) => Ok(Wish::Open(version)),
        (Some("polling"), &Method::GET, Some(sid)) => Ok(Wish::Fetch(sid)),
        (Some("polling"), &Method::POST, Some(sid)) => Ok(Wish::Post(sid)),
        (Some("websocket"), &Method::GET, sid) => {
            let key = websocket_key(&head.headers).ok_or(Refusal::BadRequest)?.to_owned();
            Ok(Wish::WebSocket { version, sid, key })
        }
        (Some("polling" | "websocket"), _, None) => Err(Refusal::BadMethod),
        (Some("polling" | "websocket"), _, Some(_)) => Err(Refusal::BadRequest),
        (_, _, _) => Err(Refusal::UnknownTransport),
    }
}

/// The key of a request that is fit to become a WebSocket. RFC 6455, section 4.2.1.
fn websocket_key(headers: &HeaderMap) -> Option<&str> {
    let says = |name, word: &str| {
        let mut words = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
        words.any(|found| found.trim().eq_ignore_ascii_case(word))
    };
    let is_fit = says(CONNECTION, "upgrade") && says(UPGRADE, "websocket") && says(SEC_WEBSOCKET_VERSION, "13");
    headers.get(SEC_WEBSOCKET_KEY).filter(|_| is_fit)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn asked(method: &str, query: &str, headers: &[(&str, &str)]) -> Result<Wish, Refusal> {
        let mut request = Request::builder().method(method).uri(format!("/socket.io/?{query}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn wishes_are_told_apart() {
        assert_eq!(asked("GET", "EIO=4&transport=polling&t=1", &[]), Ok(Wish::Open(Version::V4)));
        assert_eq!(asked("GET", "EIO=3&transport=polling&b64=1", &[]), Ok(Wish::Open(Version::V3)));
        assert_eq!(asked("GET", "sid=x&EIO=4&transport=polling", &[]), Ok(Wish::Fetch("x".to_owned())));
        assert_eq!(asked("GET", "sid=&EIO=4&transport=polling", &[]), Ok(Wish::Fetch(String::new())));
        assert_eq!(asked("POST", "EIO=4&transport=polling&sid=x", &[]), Ok(Wish::Post("x".to_owned())));
        let fit = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "k"),
        ];
        let wish = Wish::WebSocket { version: Version::V4, sid: None, key: "k".to_owned() };
        assert_eq!(asked("GET", "EIO=4&transport=websocket", &fit), Ok(wish));
        for lacks in 0..fit.len() {
            let headers: Vec<_> =
                fit.iter().enumerate().filter(|(at, _)| *at != lacks).map(|(_, pair)| *pair).collect();
            assert_eq!(asked("GET", "EIO=4&transport=websocket", &headers), Err(Refusal::BadRequest), "{lacks}");
        }
    }

    #[test]
    fn what_there_is_not_is_refused_as_by_any_server() {
        for (method, query, refusal) in [
            ("GET", "", Refusal::UnknownVersion),
            ("GET", "EIO=2&transport=polling", Refusal::UnknownVersion),
            ("GET", "EIO=4", Refusal::UnknownTransport),
            ("GET", "EIO=4&transport=webtransport", Refusal::UnknownTransport),
            ("POST", "EIO=4&transport=polling", Refusal::BadMethod),
            ("PUT", "EIO=4&transport=polling&sid=x", Refusal::BadRequest),
            ("POST", "EIO=4&transport=websocket&sid=x", Refusal::BadRequest),
        ] {
            assert_eq!(asked(method, query, &[]), Err(refusal), "{method} {query}");
        }
        assert_eq!(Refusal::UnknownSession.json(), "{\"code\":1,\"message\":\"Session ID unknown\"}");
    }
}
