//! Decides by the first bytes, and by what a ClientHello offers, what a TCP client speaks.
//!
//! TURN clients in the field send no ALPN, so that alone cannot tell them apart. A TLS record, a STUN message and an
//! HTTP request differ in their first byte already. RFC 7983 does the same for UDP.

/// A TLS handshake record and its major version: RFC 8446, section 5.1.
const TLS_HANDSHAKE: [u8; 2] = [22, 3];
/// Every STUN message has this at its fifth byte: RFC 8489, section 5.
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// What a proxy says of whom it speaks for. No proxy is trusted, so nobody may say that. Its second version starts
/// with a byte that nothing else starts with.
const PROXY: &[u8] = b"PROXY ";
/// Bytes that are always enough to decide.
pub const ENOUGH: usize = 8;

/// What is served without TLS in between, by ALPN. RFC 7443, section 2.
pub const TURN_PROTOCOLS: [&[u8]; 2] = [b"stun.turn", b"stun.nat-discovery"];
pub const WEB_PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

pub const ACME_PROTOCOL: &[u8] = b"acme-tls/1";

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    Tls,
    /// STUN or TURN.
    Stun,
    Http,
    Unknown,
}

/// What a TLS client says it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    Turn,
    Web,
    /// An authority looks whether this host is the one that it is asked to certify. RFC 8737.
    Acme,
    /// Its first decrypted bytes will tell.
    Nothing,
}

/// Reads the first bytes of a connection. `None`: there are too few of them to tell.
pub fn speech(bytes: &[u8]) -> Option<Speech> {
    let is_or_becomes = |whole: &[u8]| whole.starts_with(bytes) || bytes.starts_with(whole);
    match *bytes.first()? {
        22 if is_or_becomes(&TLS_HANDSHAKE) => (bytes.len() >= TLS_HANDSHAKE.len()).then_some(Speech::Tls),
        // A client's first message is a request: types of two zero bits, methods below 256.
        0 | 1 => match bytes.get(4..) {
            Some(cookie) if cookie.starts_with(&MAGIC_COOKIE) => Some(Speech::Stun),
            Some(cookie) if !MAGIC_COOKIE.starts_with(cookie) => Some(Speech::Unknown),
            Some(_) | None => None,
        },
        b'P' if is_or_becomes(PROXY) => (bytes.len() >= PROXY.len()).then_some(Speech::Unknown),
        // A method. ChannelData starts with 0x40 to 0x4f, too, but is never the first.
        b'A'..=b'Z' => Some(Speech::Http),
        _ => Some(Speech::Unknown),
    }
}

/// Reads the ALPN extension of a ClientHello. TURN goes first: nothing that offers it could want the page.
pub fn offer<'a>(protocols: impl Iterator<Item = &'a [u8]>) -> Offer {
    let mut offered = Offer::Nothing;
    let mut protocols = protocols.peekable();
    // An authority offers this and nothing else. RFC 8737, section 3.
    if protocols.next_if_eq(&ACME_PROTOCOL).is_some() && protocols.peek().is_none() {
        return Offer::Acme;
    }
    for protocol in protocols {
        if TURN_PROTOCOLS.contains(&protocol) {
            return Offer::Turn;
        }
        if WEB_PROTOCOLS.contains(&protocol) {
            offered = Offer::Web;
        }
    }
    offered
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Case 26.
    #[test]
    fn the_first_bytes_of_what_clients_send() {
        assert_eq!(speech(&[22, 3, 1, 2, 0, 1, 0, 1]), Some(Speech::Tls));
        assert_eq!(speech(b"GET / HTTP/1.1\r\n"), Some(Speech::Http));
        assert_eq!(speech(b"PRI * HTTP/2.0\r\n"), Some(Speech::Http));
        assert_eq!(speech(b"PR"), None);
        assert_eq!(speech(&[0, 3, 0, 8, 0x21, 0x12, 0xa4, 0x42, 9]), Some(Speech::Stun));
        assert_eq!(speech(&[0, 1, 0, 0, 0x21, 0x12, 0xa4]), None);
        assert_eq!(speech(&[0, 1, 0, 0, 0x21, 0x13]), Some(Speech::Unknown));
        assert_eq!(speech(b"SSH-2.0-x"), Some(Speech::Http), "and HTTP refuses it");
        assert_eq!(speech(&[22, 2]), Some(Speech::Unknown));
        assert_eq!(speech(&[0x80, 0x2e, 1, 0, 2]), Some(Speech::Unknown), "SSL 2");
        assert_eq!(speech(&[0x40, 0, 0, 4]), Some(Speech::Unknown), "ChannelData");
        assert_eq!(speech(&[]), None);
    }

    /// Case 30.
    #[test]
    fn who_claims_to_be_a_proxy_is_not_believed() {
        assert_eq!(speech(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"), Some(Speech::Unknown));
        assert_eq!(speech(b"PROXY UNKNOWN\r\n"), Some(Speech::Unknown));
        assert_eq!(speech(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"), Some(Speech::Unknown));
        assert_eq!(speech(b"PROPFIND / HTTP/1.1"), Some(Speech::Http));
    }

    /// Row C17.
    /// Case 28.
    #[test]
    fn what_a_client_hello_offers() {
        let offered = |protocols: &[&'static [u8]]| offer(protocols.iter().copied());
        assert_eq!(offered(&[b"h2", b"http/1.1"]), Offer::Web);
        assert_eq!(offered(&[b"stun.turn"]), Offer::Turn);
        assert_eq!(offered(&[b"x", b"stun.nat-discovery", b"h2"]), Offer::Turn);
        assert_eq!(offered(&[b"http/1.0", b"acme-tls/1"]), Offer::Nothing);
        assert_eq!(offered(&[b"acme-tls/1"]), Offer::Acme);
        assert_eq!(offered(&[b"acme-tls/1", b"h2"]), Offer::Web);
        assert_eq!(offered(&[]), Offer::Nothing);
    }

    proptest::proptest! {
        #[test]
        fn what_was_decided_stays_and_enough_is_enough(bytes in proptest::collection::vec(proptest::num::u8::ANY, ENOUGH..12)) {
            let whole = speech(&bytes);
            proptest::prop_assert!(speech(&bytes[..ENOUGH]).is_some());
            for end in 0..bytes.len() {
                let early = speech(&bytes[..end]);
                proptest::prop_assert!(early.is_none() || early == whole);
            }
        }

        #[test]
        fn stun_is_stun_at_its_eighth_byte(kind in 0_u8..2, method: u8, length: [u8; 2], rest in proptest::collection::vec(proptest::num::u8::ANY, 0..4)) {
            let bytes = [&[kind, method][..], &length, &MAGIC_COOKIE, &rest].concat();
            proptest::prop_assert_eq!(speech(&bytes[..7]), None);
            proptest::prop_assert_eq!(speech(&bytes), Some(Speech::Stun));
        }
    }
}
