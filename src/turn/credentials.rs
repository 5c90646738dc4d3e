//! Decides what a time-limited TURN user may do: issues `expiry:user` with its password, and reads such names.
//!
//! The scheme is the one that coturn calls `use-auth-secret`: the password is the HMAC-SHA1 of the user name under a
//! shared secret, so issuer and verifier need nothing else in common. Checking a message's integrity with that
//! password is the server's part.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::Secret;
use crate::sys::clock::Now;

/// Bytes of a user id that are kept; a STUN user name may have 508, see RFC 8489, section 14.3.
const MAX_USER_ID: usize = 128;

/// Seconds that the clocks of an issuer and a relay may differ by.
const TOLERANCE: u64 = 60;
/// Digits of a date since 2001; fewer are a number of some other kind.
const MIN_EXPIRY: usize = 9;

/// What a client needs to use the relay.
#[derive(Clone, PartialEq, Eq, serde::Serialize)]
pub struct Credentials {
    pub username: String,
    pub credential: String,
    /// Seconds from the time of issue.
    pub ttl: u64,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

/// Issues credentials for `user` that are valid for `ttl` seconds.
#[must_use]
pub fn issue(secret: &Secret, user: &str, ttl: u64, now: Now) -> Credentials {
    let username = format!("{}:{}", now.unix_seconds().saturating_add(ttl), user_id(user));
    let credential = password(secret, &username);
    Credentials { username, credential, ttl }
}

/// The password that belongs to a user name.
#[must_use]
pub fn password(secret: &Secret, username: &str) -> String {
    Issuer::new(secret).password(username)
}

/// One shared secret, made ready to compute passwords.
pub struct Issuer(hmac::Key);

impl Issuer {
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.expose()))
    }

    /// The password that belongs to a user name.
    #[must_use]
    pub fn password(&self, username: &str) -> String {
        STANDARD.encode(hmac::sign(&self.0, username.as_bytes()))
    }
}

/// A user name taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User<'a> {
    /// Seconds since 1970 at which the name is no longer good for a new allocation.
    pub expires_at: u64,
    /// Who it is, whatever the date: what quotas count by.
    pub id: &'a str,
}

impl<'a> User<'a> {
    /// Reads `expiry:user`. Digits only: a sign, a space or another script's digits make a different name.
    #[must_use]
    pub fn parse(username: &'a str) -> Option<Self> {
        let (expiry, id) = username.split_once(':').unwrap_or((username, ""));
        let is_number = !expiry.is_empty() && expiry.bytes().all(|byte| byte.is_ascii_digit());
        let expires_at = expiry.parse().ok().filter(|_| is_number)?;
        Some(Self { expires_at, id })
    }

    /// Whether it is too late for a new allocation, by a clock that need not agree with the issuer's to the second.
    #[must_use]
    pub fn is_expired(&self, now: Now) -> bool {
        self.expires_at.saturating_add(TOLERANCE) <= now.unix_seconds()
    }
}

/// Whether a name that is nobody's would be somebody's if it were `expiry:user` rather than `user:expiry`.
#[must_use]
pub fn is_in_wrong_order(username: &str) -> bool {
    username.rsplit_once(':').is_some_and(|(_, expiry)| {
        expiry.len() >= MIN_EXPIRY && expiry.parse::<u64>().is_ok() && expiry.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// A user id that survives in a user name: visible characters without colons, of a bounded length.
fn user_id(user: &str) -> String {
    let mut id = String::new();
    for symbol in user.chars().map(|symbol| if is_plain(symbol) { symbol } else { '_' }) {
        if id.len() + symbol.len_utf8() > MAX_USER_ID {
            break;
        }
        id.push(symbol);
    }
    if id.is_empty() { "anyone".to_owned() } else { id }
}

fn is_plain(symbol: char) -> bool {
    symbol != ':' && (symbol.is_alphanumeric() || symbol.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::sys::clock;

    fn at(seconds: u64) -> Now {
        Now { wall: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds), ..clock::now() }
    }

    #[test]
    fn a_password_is_what_coturn_computes_for_the_same_secret() {
        // By `printf 1700003600:alice | openssl dgst -sha1 -hmac 0123456789abcdef0123456789abcdef -binary | base64`.
        let secret = Secret::new(b"0123456789abcdef0123456789abcdef".to_vec());
        let issued = issue(&secret, "alice", 3600, at(1_700_000_000));
        assert_eq!(issued.username, "1700003600:alice");
        assert_eq!(issued.credential, "HUgaepYTXVnvj1Vo97U6+hBbmH4=");
    }

    #[test]
    fn a_name_expires_a_minute_after_its_second() {
        let user = User::parse("1700003600:alice").unwrap();
        assert_eq!(user, User { expires_at: 1_700_003_600, id: "alice" });
        assert!(!user.is_expired(at(1_700_003_659)));
        assert!(user.is_expired(at(1_700_003_660)));
        assert!(!User::parse(&format!("{}:alice", u64::MAX)).unwrap().is_expired(at(1_700_003_600)));
    }

    #[test]
    fn a_name_in_the_wrong_order_is_recognised() {
        for (name, is_reversed) in [
            ("alice:1700003600", true),
            ("a:b:1700003600", true),
            ("alice", false),
            ("alice:+700003600", false),
            ("alice:99", false),
            ("alice:99999999999999999999999", false),
        ] {
            assert_eq!(is_in_wrong_order(name), is_reversed, "{name}");
        }
    }

    /// Case 38.
    #[test]
    fn names_that_are_no_numbers_are_nobody() {
        for name in
            ["", ":u", "-1:u", "1e9:u", " 1:u", "+1:u", "999999999999999999999999999999:u", "１２:u", "u:1700003600"]
        {
            assert_eq!(User::parse(name), None, "{name:?}");
        }
        assert_eq!(User::parse("1700003600").map(|user| user.id), Some(""));
    }

    #[test]
    fn a_user_id_cannot_forge_an_expiry_or_grow() {
        let secret = Secret::new(b"0123456789abcdef0123456789abcdef".to_vec());
        let name = |user: &str| issue(&secret, user, 60, at(0)).username;
        assert_eq!(name("9999999999:root"), "60:9999999999_root");
        assert_eq!(name("a b\n\u{202e}"), "60:a_b__");
        assert_eq!(name(""), "60:anyone");
        assert_eq!(name(&"聊".repeat(200)).len(), "60:".len() + MAX_USER_ID / 3 * 3);
    }

    #[test]
    fn credentials_do_not_show_their_password() {
        let issued = issue(&Secret::new(vec![7; 32]), "alice", 60, at(0));
        assert!(!format!("{issued:?}").contains(&issued.credential));
    }
}
