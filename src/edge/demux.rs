//! Decides by the first bytes what a TCP client speaks.
//!
//! TURN clients in the field send no ALPN, so that cannot tell them apart. A TLS record, a STUN message and an HTTP
//! request differ in their first byte already. RFC 7983 does the same for UDP.

/// A TLS handshake record: RFC 8446, section 5.1.
const TLS_HANDSHAKE: u8 = 22;
/// Every STUN message has this at its fifth byte: RFC 8489, section 5.
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speech {
    Tls,
    /// STUN or TURN without TLS.
    Stun,
    /// HTTP without TLS.
    Http,
    Unknown,
}

/// Reads the first bytes of a connection, as many as there are.
pub(super) fn speech(bytes: &[u8]) -> Speech {
    match bytes.first() {
        Some(&TLS_HANDSHAKE) => Speech::Tls,
        // A client's first message is a request: types of two zero bits, methods below 256.
        Some(0 | 1) if MAGIC_COOKIE.starts_with(bytes.get(4..bytes.len().min(8)).unwrap_or_default()) => Speech::Stun,
        // A method. ChannelData starts with 0x40 to 0x4f, too, but is never the first.
        Some(b'A'..=b'Z') => Speech::Http,
        Some(_) | None => Speech::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_of_what_clients_send() {
        assert_eq!(speech(&[22, 3, 1, 2, 0, 1, 0, 1]), Speech::Tls);
        assert_eq!(speech(b"GET / HTTP/1.1\r\n"), Speech::Http);
        assert_eq!(speech(b"PRI * HTTP/2.0\r\n"), Speech::Http);
        assert_eq!(speech(&[0, 3, 0, 8, 0x21, 0x12, 0xa4, 0x42, 9]), Speech::Stun);
        assert_eq!(speech(&[0, 1]), Speech::Stun, "as far as can be told");
        assert_eq!(speech(&[0, 1, 0, 0, 0x21, 0x13]), Speech::Unknown);
        assert_eq!(speech(b"SSH-2.0-x"), Speech::Http, "and HTTP refuses it");
        assert_eq!(speech(&[0x80, 0x2e, 1, 0, 2]), Speech::Unknown, "SSL 2");
        assert_eq!(speech(&[]), Speech::Unknown);
    }

    proptest::proptest! {
        #[test]
        fn more_bytes_never_turn_one_protocol_into_another(bytes in proptest::collection::vec(proptest::num::u8::ANY, 1..12)) {
            let whole = speech(&bytes);
            for end in 1..bytes.len() {
                let early = speech(&bytes[..end]);
                proptest::prop_assert!(early == whole || (early == Speech::Stun && whole == Speech::Unknown));
            }
        }
    }
}
