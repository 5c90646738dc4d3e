//! Nonces without memory: each says when and for whom it was made and what was offered with it.

use std::net::IpAddr;

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::{Client, Transport};
use crate::sys::clock::Now;

/// How many seconds a nonce may be old. RFC 8489, section 9.2, wants less than an hour.
pub(super) const NONCE_LIFETIME: u64 = 600;
/// How many seconds a nonce may be made in the future: the wall clock is set back a little now and then.
const TOLERANCE: u64 = 60;
/// By what a nonce tells that it names features. RFC 8489, section 9.2.
const COOKIE: &[u8] = b"obMatJos2";
/// Characters of 24 bits.
const FEATURES: usize = 4;
/// Bytes of the time, in seconds since 1970. They wrap in 2106.
const TIME: usize = 4;
/// Bytes of the authentication tag: 64 bits, guessed at by datagrams, for ten minutes.
const TAG: usize = 8;
/// Characters of time and tag.
const BODY: usize = 16;
/// Characters of a nonce with its cookie, and of one without.
pub(super) const WITH_COOKIE: usize = COOKIE.len() + FEATURES + BODY;
pub(super) const WITHOUT_COOKIE: usize = BODY;

/// Security features that a challenge offers, as bits of its nonce. RFC 8489, section 18.1.
///
/// Bit 0 is the most significant of the 24, as the example of RFC 8656, section 20, has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Features(u32);

impl Features {
    pub(super) const NONE: Self = Self(0);
    pub(super) const PASSWORD_ALGORITHMS: Self = Self(0x80_0000);
    pub(super) const USERNAME_ANONYMITY: Self = Self(0x40_0000);

    pub(super) fn and(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    pub(super) fn has(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    fn bytes(self) -> [u8; 3] {
        let [_, first, second, third] = self.0.to_be_bytes();
        [first, second, third]
    }
}

/// Makes and checks nonces that only their own client can use.
pub(super) struct Nonces {
    key: hmac::Key,
    bytes: [u8; 32],
    /// The key before, and until when it is good.
    previous: Option<(hmac::Key, u64)>,
}

impl Nonces {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), bytes: *key, previous: None }
    }

    /// Makes nonces by another key from now on. Those of the one before are good until they are too old.
    pub(super) fn set_key(&mut self, key: &[u8; 32], now: Now) {
        if self.bytes != *key {
            let before = std::mem::replace(self, Self::new(key));
            self.previous = Some((before.key, now.unix_seconds() + NONCE_LIFETIME));
        }
    }

    /// A nonce for this client. Without features it has no cookie and is as short as can be.
    pub(super) fn issue(&self, client: Client, features: Option<Features>, now: Now) -> String {
        let time = seconds(now).to_be_bytes();
        let mut body = [0; TIME + TAG];
        body[..TIME].copy_from_slice(&time);
        body[TIME..].copy_from_slice(&tag(&self.key, time, features, client));
        let mut nonce = String::with_capacity(WITH_COOKIE);
        if let Some(features) = features {
            nonce.push_str(std::str::from_utf8(COOKIE).expect("the cookie is text"));
            STANDARD_NO_PAD.encode_string(features.bytes(), &mut nonce);
        }
        STANDARD_NO_PAD.encode_string(body, &mut nonce);
        nonce
    }

    /// What was offered with this nonce, if it was made for this client and is fresh.
    ///
    /// Nobody can change what was offered: the tag covers it. RFC 8489, section 9.2.1.
    pub(super) fn check(&self, nonce: &[u8], client: Client, now: Now) -> Option<Features> {
        let (features, body) = match nonce.strip_prefix(COOKIE) {
            Some(rest) if nonce.len() == WITH_COOKIE => {
                let (features, body) = rest.split_at_checked(FEATURES)?;
                let [first, second, third] = STANDARD_NO_PAD.decode(features).ok()?.try_into().ok()?;
                (Some(Features(u32::from_be_bytes([0, first, second, third]))), body)
            }
            None if nonce.len() == WITHOUT_COOKIE => (None, nonce),
            Some(_) | None => return None,
        };
        let mut bytes = [0; TIME + TAG];
        let length = STANDARD_NO_PAD.decode_slice(body, &mut bytes).ok()?;
        let (time, given) = bytes[..length].split_first_chunk::<TIME>()?;
        // A difference that wraps makes what is from the future very old.
        let age = seconds(now).wrapping_add(TOLERANCE as u32).wrapping_sub(u32::from_be_bytes(*time));
        if u64::from(age) >= NONCE_LIFETIME + TOLERANCE {
            return None;
        }
        let previous = self.previous.as_ref().filter(|(_, until)| now.unix_seconds() < *until).map(|(key, _)| key);
        let is_ours = |key| constant_time::verify_slices_are_equal(&tag(key, *time, features, client), given).is_ok();
        let is_genuine = is_ours(&self.key) || previous.is_some_and(is_ours);
        is_genuine.then_some(features.unwrap_or(Features::NONE))
    }
}

fn seconds(now: Now) -> u32 {
    // The lower half: what counts is differences.
    now.unix_seconds() as u32
}

fn tag(key: &hmac::Key, time: [u8; TIME], features: Option<Features>, client: Client) -> [u8; TAG] {
    let mut bound = [0; 32];
    bound[..TIME].copy_from_slice(&time);
    bound[4] = u8::from(features.is_some());
    bound[5..8].copy_from_slice(&features.unwrap_or(Features::NONE).bytes());
    let ip = match client.remote.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    bound[8..24].copy_from_slice(&ip.octets());
    bound[24..26].copy_from_slice(&client.remote.port().to_be_bytes());
    bound[26] = client.transport as u8;
    // A stream's connection ends when its client goes; of datagrams each listener takes only its own.
    let listener = if client.transport == Transport::Udp { client.via } else { 0 };
    bound[28..].copy_from_slice(&listener.to_be_bytes());
    let whole = hmac::sign(key, &bound);
    let mut tag = [0; TAG];
    tag.copy_from_slice(&whole.as_ref()[..TAG]);
    tag
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sys::clock;

    fn client() -> Client {
        let remote = "203.0.113.7:40000".parse().unwrap();
        Client { remote, local: "192.0.2.1".parse().unwrap(), transport: Transport::Udp, via: 0 }
    }

    fn later(now: Now, seconds: u64) -> Now {
        let span = Duration::from_secs(seconds);
        Now { mono: now.mono + span, wall: now.wall + span }
    }

    /// Row S19.
    #[test]
    fn features_are_told_in_the_order_of_the_example_in_rfc_8656() {
        let (nonces, now) = (Nonces::new(&[7; 32]), clock::now());
        let (algorithms, anonymity) = (Features::PASSWORD_ALGORITHMS, Features::USERNAME_ANONYMITY);
        for (features, text) in
            [(Features::NONE, "AAAA"), (algorithms, "gAAA"), (anonymity, "QAAA"), (algorithms.and(anonymity), "wAAA")]
        {
            let nonce = nonces.issue(client(), Some(features), now);
            assert!(nonce.starts_with(&format!("obMatJos2{text}")) && nonce.len() == WITH_COOKIE, "{nonce}");
            assert_eq!(nonces.check(nonce.as_bytes(), client(), now), Some(features));
        }
        let bare = nonces.issue(client(), None, now);
        assert_eq!((bare.len(), nonces.check(bare.as_bytes(), client(), now)), (WITHOUT_COOKIE, Some(Features::NONE)));
    }

    /// Row S20.
    /// Case 43.
    #[test]
    fn nobody_can_change_what_was_offered() {
        let (nonces, now) = (Nonces::new(&[7; 32]), clock::now());
        let nonce = nonces.issue(client(), Some(Features::PASSWORD_ALGORITHMS), now);
        let body = nonce.strip_prefix("obMatJos2gAAA").unwrap();
        for changed in [body.to_owned(), format!("obMatJos2AAAA{body}"), format!("obMatJos2wAAA{body}")] {
            assert_eq!(nonces.check(changed.as_bytes(), client(), now), None, "{changed}");
        }
    }

    #[test]
    fn a_nonce_of_the_key_before_is_good_until_it_is_too_old() {
        let (mut nonces, now) = (Nonces::new(&[7; 32]), clock::now());
        let nonce = nonces.issue(client(), None, now);
        nonces.set_key(&[8; 32], later(now, 1));
        nonces.set_key(&[8; 32], later(now, 2));
        let is_good = |nonces: &Nonces, nonce: &str, now| nonces.check(nonce.as_bytes(), client(), now).is_some();
        assert!(is_good(&nonces, &nonce, later(now, NONCE_LIFETIME - 1)));
        assert!(!is_good(&nonces, &nonce, later(now, NONCE_LIFETIME)));
        nonces.set_key(&[9; 32], later(now, 3));
        assert!(!is_good(&nonces, &nonce, later(now, 3)), "two keys back is none of ours");
    }

    #[test]
    fn a_clock_that_is_set_back_a_little_makes_no_nonce_stale() {
        let (nonces, now) = (Nonces::new(&[7; 32]), clock::now());
        let nonce = nonces.issue(client(), None, later(now, 60));
        assert!(nonces.check(nonce.as_bytes(), client(), now).is_some());
        let nonce = nonces.issue(client(), None, later(now, 61));
        assert!(nonces.check(nonce.as_bytes(), client(), now).is_none());
    }
}
