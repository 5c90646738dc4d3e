//! Reads the URLs that an `RTCIceServer` may have. RFC 7064 and RFC 7065.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// The port of STUN and TURN, and the one over TLS. RFC 7064, section 3.2.
const PORT: u16 = 3478;
const TLS_PORT: u16 = 5349;

/// What the server is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// The address under which it sees the asking.
    Stun,
    /// A relay.
    Turn,
}

/// What carries the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    Udp,
    Tcp,
    Tls,
}

impl Carrier {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }

    /// The name of the ports it has.
    #[must_use]
    pub fn protocol(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp | Self::Tls => "tcp",
        }
    }
}

/// A `stun:`, `stuns:`, `turn:` or `turns:` URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceUrl {
    text: String,
    pub service: Service,
    pub carrier: Carrier,
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
}

/// As it was written.
impl fmt::Display for IceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is no such URL; completes the sentence "`text` ...".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadUrl(pub String);

impl FromStr for IceUrl {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let bad = |why: &str| Err(BadUrl(why.to_owned()));
        // A blank that was pasted along is invisible, and browsers look the host up with it.
        if let Some(odd) = text.chars().find(|symbol| !symbol.is_ascii_graphic()) {
            return Err(BadUrl(format!("contains the character U+{:04X}", u32::from(odd))));
        }
        let Some((scheme, rest)) = text.split_once(':') else { return bad("has no scheme like `turn:`") };
        let (service, is_secure) = match scheme.to_ascii_lowercase().as_str() {
            "stun" => (Service::Stun, false),
            "stuns" => (Service::Stun, true),
            "turn" => (Service::Turn, false),
            "turns" => (Service::Turn, true),
            _ => return bad("is none of `stun:`, `stuns:`, `turn:` and `turns:`"),
        };
        if rest.starts_with("//") {
            return bad("has slashes after its scheme, which browsers refuse");
        }
        let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
        let carrier = match (service, query, is_secure) {
            (Service::Stun, Some(_), _) => return bad("has a query, which browsers refuse for STUN"),
            (_, None | Some("transport=tcp"), true) => Carrier::Tls,
            (_, Some("transport=udp"), true) => return bad("asks for TLS over UDP, which browsers do not speak"),
            (_, None | Some("transport=udp"), false) => Carrier::Udp,
            (_, Some("transport=tcp"), false) => Carrier::Tcp,
            (_, Some(_), _) => return bad("has another query than `?transport=udp` or `?transport=tcp`"),
        };
        let (host, port) = split_port(place)?;
        let default = if is_secure { TLS_PORT } else { PORT };
        Ok(Self { text: text.to_owned(), service, carrier, host, port: port.unwrap_or(default) })
    }
}

fn split_port(place: &str) -> Result<(String, Option<u16>), BadUrl> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let Some((host, after)) = rest.split_once(']') else {
                return Err(BadUrl("has a bracket that is not closed".to_owned()));
            };
            if host.parse::<Ipv6Addr>().is_err() {
                return Err(BadUrl("has no IPv6 address in its brackets".to_owned()));
            }
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':').unwrap_or("")) })
        }
        None if place.parse::<Ipv6Addr>().is_ok() => {
            return Err(BadUrl("has an IPv6 address without brackets".to_owned()));
        }
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let is_name = |host: &str| {
        host.len() <= 253
            && host.split('.').all(|label| {
                !label.is_empty()
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            })
    };
    if host.parse::<IpAddr>().is_err() && !is_name(host.strip_suffix('.').unwrap_or(host)) {
        return Err(BadUrl("names no host".to_owned()));
    }
    let port = match port {
        None => None,
        Some(digits) => match digits.parse::<u16>() {
            Ok(port) if port != 0 && digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(port),
            _ => return Err(BadUrl("has a port that is no number from 1 to 65535".to_owned())),
        },
    };
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_service_carrier_host_and_port() {
        for (text, service, carrier, host, port) in [
            ("stun:a.example", Service::Stun, Carrier::Udp, "a.example", 3478),
            ("stuns:a.example", Service::Stun, Carrier::Tls, "a.example", 5349),
            ("turn:192.0.2.1:80?transport=tcp", Service::Turn, Carrier::Tcp, "192.0.2.1", 80),
            ("turn:[2001:db8::1]:3478?transport=udp", Service::Turn, Carrier::Udp, "2001:db8::1", 3478),
            ("TURN:a_b.example", Service::Turn, Carrier::Udp, "a_b.example", 3478),
            ("turns:a.example:443?transport=tcp", Service::Turn, Carrier::Tls, "a.example", 443),
            ("turns:[::1]", Service::Turn, Carrier::Tls, "::1", 5349),
        ] {
            let url: IceUrl = text.parse().unwrap();
            assert_eq!(
                (url.service, url.carrier, url.host.as_str(), url.port),
                (service, carrier, host, port),
                "{text}"
            );
            assert_eq!(url.to_string(), text);
        }
    }

    #[test]
    fn what_a_browser_refuses_is_told_with_its_reason() {
        for (text, why) in [
            ("a.example", "has no scheme like `turn:`"),
            ("https:a.example", "is none of `stun:`, `stuns:`, `turn:` and `turns:`"),
            ("turn://a.example", "has slashes after its scheme, which browsers refuse"),
            ("turn:a.example\u{a0}", "contains the character U+00A0"),
            ("turn: a.example", "contains the character U+0020"),
            ("turn:a.example:0", "has a port that is no number from 1 to 65535"),
            ("turn:a.example:+1", "has a port that is no number from 1 to 65535"),
            ("turn:[::1]x", "has a port that is no number from 1 to 65535"),
            ("turn:[::1", "has a bracket that is not closed"),
            ("turn:[a.example]", "has no IPv6 address in its brackets"),
            ("turn:2001:db8::1", "has an IPv6 address without brackets"),
            ("turn:", "names no host"),
            ("turn:user@a.example", "names no host"),
            ("stun:a.example?transport=udp", "has a query, which browsers refuse for STUN"),
            ("turns:a.example?transport=udp", "asks for TLS over UDP, which browsers do not speak"),
            ("turn:a.example?transport=sctp", "has another query than `?transport=udp` or `?transport=tcp`"),
        ] {
            assert_eq!(text.parse::<IceUrl>(), Err(BadUrl(why.to_owned())), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(turns?|stuns?|:|//|\\[|\\]|\\?|transport=|udp|[a-z0-9.@é ])*") {
            let _ = text.parse::<IceUrl>();
        }
    }
}
