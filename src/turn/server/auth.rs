//! Who asks: nonces without memory, and the long-term credential mechanism. RFC 8489, section 9.2.

use std::time::{Duration, Instant};

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use stun_types::attribute::{
    AttributeStaticType as _, ErrorCode, MessageIntegrity, MessageIntegritySha256, Nonce, Realm, Username,
};
use stun_types::message::{IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message};

use super::{Client, Server};
use crate::sys::clock::Now;
use crate::turn::credentials::{User, password};

/// How old a nonce may be. RFC 8489, section 9.2, wants less than an hour.
pub(super) const NONCE_LIFETIME: Duration = Duration::from_secs(600);
/// Bytes of the authentication tag: 64 bits, guessed at by datagrams, for ten minutes.
const TAG: usize = 8;
/// Bytes of a SHA-256 integrity that is whole.
const WHOLE_SHA_256: u16 = 32;
/// Bytes of the time, in seconds.
const TIME: usize = 4;

/// Makes and checks nonces that only their own client can use, and remembers none.
pub(super) struct Nonces {
    key: hmac::Key,
    started_at: Instant,
}

impl Nonces {
    pub(super) fn new(key: &[u8; 32], now: Now) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), started_at: now.mono }
    }

    pub(super) fn issue(&self, client: Client, now: Instant) -> String {
        let time = self.seconds(now).to_be_bytes();
        let mut bytes = [0; TIME + TAG];
        bytes[..TIME].copy_from_slice(&time);
        bytes[TIME..].copy_from_slice(&self.tag(time, client));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub(super) fn is_fresh(&self, nonce: &str, client: Client, now: Instant) -> bool {
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(nonce) else { return false };
        let Some((time, tag)) = bytes.split_first_chunk::<TIME>() else { return false };
        let age = u64::from(self.seconds(now)).checked_sub(u32::from_be_bytes(*time).into());
        constant_time::verify_slices_are_equal(&self.tag(*time, client), tag).is_ok()
            && age.is_some_and(|age| age < NONCE_LIFETIME.as_secs())
    }

    fn seconds(&self, now: Instant) -> u32 {
        // Wraps after 136 years.
        u32::try_from(now.saturating_duration_since(self.started_at).as_secs()).unwrap_or(u32::MAX)
    }

    fn tag(&self, time: [u8; TIME], client: Client) -> [u8; TAG] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&time);
        match client.remote.ip() {
            std::net::IpAddr::V4(v4) => context.update(&v4.octets()),
            std::net::IpAddr::V6(v6) => context.update(&v6.octets()),
        }
        context.update(&client.remote.port().to_be_bytes());
        context.update(&[client.transport as u8]);
        context.update(&client.via.to_be_bytes());
        let whole = context.sign();
        let mut tag = [0; TAG];
        tag.copy_from_slice(&whole.as_ref()[..TAG]);
        tag
    }
}

/// The key of a user, for the algorithm by which the user signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) integrity: IntegrityKey,
    pub(super) algorithm: IntegrityAlgorithm,
}

/// A client that has proven to know its password.
pub(super) struct Identity {
    pub(super) username: String,
    pub(super) user_id: String,
    pub(super) key: Key,
    pub(super) is_expired: bool,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: u16,
    /// With realm and a new nonce, so that the client can try again.
    pub(super) challenges: bool,
}

const UNAUTHORIZED: Refusal = Refusal { code: ErrorCode::UNAUTHORIZED, challenges: true };
const STALE: Refusal = Refusal { code: ErrorCode::STALE_NONCE, challenges: true };
const BAD: Refusal = Refusal { code: ErrorCode::BAD_REQUEST, challenges: false };

impl Server {
    /// Checks a request's credentials.
    ///
    /// The nonce is looked at before the integrity, since that is cheap; a client cannot tell the difference.
    pub(super) fn authenticate(&self, client: Client, message: &Message<'_>, now: Now) -> Result<Identity, Refusal> {
        let algorithm = if message.has_attribute(MessageIntegrity::TYPE) {
            IntegrityAlgorithm::Sha1
        } else if let Some(integrity) = message.raw_attribute(MessageIntegritySha256::TYPE) {
            // The codec takes what is truncated; TURN does not. RFC 8489, section 14.6.
            if integrity.header.length() != WHOLE_SHA_256 {
                return Err(UNAUTHORIZED);
            }
            IntegrityAlgorithm::Sha256
        } else {
            return Err(UNAUTHORIZED);
        };
        let username = message.attribute::<Username>().map_err(|_| BAD)?;
        let realm = message.attribute::<Realm>().map_err(|_| BAD)?;
        let nonce = message.attribute::<Nonce>().map_err(|_| BAD)?;
        if !self.nonces.is_fresh(nonce.nonce(), client, now.mono) {
            return Err(STALE);
        }
        if realm.realm() != self.settings.realm {
            return Err(UNAUTHORIZED);
        }
        let name = username.username();
        let user = User::parse(name).ok_or(UNAUTHORIZED)?;
        let integrity = self
            .settings
            .secrets
            .iter()
            .map(|secret| {
                LongTermKeyCredentials::new(name.to_owned(), password(secret, name), self.settings.realm.clone())
                    .make_key(algorithm)
            })
            .find(|key| message.validate_integrity_with_key(key).is_ok())
            .ok_or(UNAUTHORIZED)?;
        Ok(Identity {
            username: name.to_owned(),
            user_id: user.id.to_owned(),
            key: Key { integrity, algorithm },
            is_expired: user.is_expired(now),
        })
    }
}
