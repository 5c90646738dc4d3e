//! Who asks: the long-term credential mechanism. RFC 8489, section 9.2.
//!
//! Two generations of clients are served: those that know MD5 keys and MESSAGE-INTEGRITY alone, as browsers do, and
//! those of RFC 8489. The order of checks is that of section 9.2.4 with one exception: the nonce comes first, because
//! only a nonce that is genuine says what was offered with it, and because it costs the least. A request whose nonce is
//! stale and whose integrity is wrong is told so about the nonce, which tells a guesser nothing.

use std::time::{Duration, Instant};

use stun_types::attribute::{AttributeWrite, ErrorCode, Nonce, PasswordAlgorithmValue, PasswordAlgorithms, Realm};
use tracing::debug;

use super::integrity::{Derived, Hash, PasswordHash};
use super::keyring::Keyring;
use super::nonce::{Features, Nonces, WITH_COOKIE, WITHOUT_COOKIE};
use super::presented::Presented;
use super::{Client, Settings};
use crate::sys::clock::Now;
use crate::turn::credentials;
use crate::turn::insiders::Route;

pub(super) use super::integrity::Key;

/// The value of PASSWORD-ALGORITHMS in a challenge: SHA-256, which is preferred, and MD5. RFC 8489, section 14.11.
const OFFERED: [u8; 8] = [0, 2, 0, 0, 0, 1, 0, 0];
/// Values of PASSWORD-ALGORITHM, with parameters of no length. RFC 8489, section 18.5.
const MD5: [u8; 4] = [0, 1, 0, 0];
const SHA_256: [u8; 4] = [0, 2, 0, 0];
/// Bytes of a user name that are looked at. RFC 8489, section 14.3, has 508; RFC 5389 had 763 of text.
const MAX_USERNAME: usize = 763;
/// How often a name in the wrong order is told about.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// A client that has proven to know its password.
pub(super) struct Identity {
    pub(super) username: String,
    pub(super) user_id: String,
    pub(super) key: Key,
    /// Too late for a new allocation.
    pub(super) is_expired: bool,
    /// A probe of this process, and the way its packets go.
    pub(super) probe: Option<Route>,
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

/// What is checked before anything else is done for a client.
pub(super) struct Gate {
    keyring: Keyring,
    nonces: Nonces,
    told_at: Option<Instant>,
}

impl Gate {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { keyring: Keyring::new(settings), nonces: Nonces::new(&settings.nonce_key), told_at: None }
    }

    /// Goes on by other settings. Nonces stay good, and so do live allocations, which have their keys.
    pub(super) fn set_settings(&mut self, settings: &Settings, now: Now) {
        self.keyring = Keyring::new(settings);
        self.nonces.set_key(&settings.nonce_key, now);
    }

    /// Checks a request's credentials.
    ///
    /// `stored` is the name and the key of the client's allocation. It is tried first: it saves deriving the key anew,
    /// and it keeps an allocation alive whose secret is no longer configured.
    pub(super) fn authenticate(
        &mut self,
        client: Client,
        presented: &Presented<'_>,
        stored: Option<(&str, &Key)>,
        now: Now,
    ) -> Result<Identity, Refusal> {
        let mark = presented.mark.ok_or(UNAUTHORIZED)?;
        let (Some(realm), Some(nonce)) = (presented.realm, presented.nonce) else { return Err(BAD) };
        let hash: Option<&[u8; 32]> = match (presented.username, presented.userhash) {
            (Some(_), None) => None,
            (None, Some(hash)) => Some(hash.try_into().map_err(|_| BAD)?),
            (None, None) | (Some(_), Some(_)) => return Err(BAD),
        };
        let features = self.nonces.check(nonce, client, now).ok_or(STALE)?;
        let (password_hash, answers_by) = chosen(presented, features)?;
        let name = match hash {
            Some(hash) => self.keyring.name_of(hash).ok_or(UNAUTHORIZED)?,
            None => presented.username.and_then(read_name).ok_or(UNAUTHORIZED)?,
        };
        if realm != self.keyring.realm().as_bytes() || !mark.is_whole {
            return Err(UNAUTHORIZED);
        }
        let known = self.keyring.known(name, now);
        let fits = |derived: &Derived| Derived::has_signed(derived, mark.hash, presented.message, mark.offset);
        let stored = stored.filter(|(owner, key)| *owner == name && key.derived.hash() == password_hash);
        let derived = stored.map(|(_, key)| key.derived).filter(fits);
        let derived = derived.or_else(|| known.and_then(|_| self.keyring.find(name, password_hash, now, fits)));
        let Some(derived) = derived else {
            let is_reversed = known.is_none() && credentials::is_in_wrong_order(name);
            if is_reversed && is_due(&mut self.told_at, now.mono) {
                debug!(?name, "a user name is `user:expiry`; time-limited ones are `expiry:user`");
            }
            return Err(UNAUTHORIZED);
        };
        Ok(Identity {
            username: name.to_owned(),
            user_id: known.map_or("", |known| known.user_id).to_owned(),
            key: Key { derived, answers_by },
            is_expired: known.is_none_or(|known| known.is_expired),
            probe: known.and_then(|known| known.probe),
        })
    }

    /// Whether a request comes from a probe of this process, which may be about to be refused.
    pub(super) fn is_probe(&self, presented: &Presented<'_>) -> bool {
        presented.username.and_then(read_name).is_some_and(|name| self.keyring.is_probe(name))
    }

    /// What is added to a refusal so that the client can try again, at most `room` bytes. `None` if nothing fits.
    ///
    /// What is offered shrinks with the room: first PASSWORD-ALGORITHMS goes, then the cookie that names features. The
    /// shortest challenge with a realm of 32 bytes is three times as long as the shortest Allocate that a client sends.
    /// Names can be hashed only if static users are configured, since others are not known beforehand; and a client
    /// that has sent a hash which leads nowhere is asked for its name.
    pub(super) fn challenge(
        &self,
        client: Client,
        userhash: Option<&[u8]>,
        room: usize,
        now: Now,
    ) -> Option<Vec<Box<dyn AttributeWrite>>> {
        let length = |value: usize| 4 + value.next_multiple_of(4);
        let realm = length(self.keyring.realm().len());
        let mut features = Features::NONE;
        let leads_nowhere = |hash: &[u8]| hash.try_into().is_ok_and(|hash| self.keyring.name_of(hash).is_none());
        if self.keyring.knows_hashes() && !userhash.is_some_and(leads_nowhere) {
            features = features.and(Features::USERNAME_ANONYMITY);
        }
        let has_algorithms = realm + length(WITH_COOKIE) + length(OFFERED.len()) <= room;
        let features = if has_algorithms {
            Some(features.and(Features::PASSWORD_ALGORITHMS))
        } else if realm + length(WITH_COOKIE) <= room {
            Some(features)
        } else if realm + length(WITHOUT_COOKIE) <= room {
            None
        } else {
            return None;
        };
        let nonce = self.nonces.issue(client, features, now);
        let realm = Realm::new(self.keyring.realm()).expect("the configuration bounds the realm");
        let nonce = Nonce::new(&nonce).expect("nonces of ours are short");
        let mut attributes: Vec<Box<dyn AttributeWrite>> = vec![Box::new(realm), Box::new(nonce)];
        if has_algorithms {
            let offered = [PasswordAlgorithmValue::SHA256, PasswordAlgorithmValue::MD5];
            attributes.push(Box::new(PasswordAlgorithms::new(&offered)));
        }
        Some(attributes)
    }
}

/// By which hash the password of a request becomes its key, and by which one its answer is signed.
///
/// RFC 8489, section 9.2.4: whoever chose from the list is answered by SHA-256, also if MD5 was the choice. Comparing
/// the list as bytes with ours needs no look at lengths inside of it. A choice nobody was offered is refused.
fn chosen(presented: &Presented<'_>, features: Features) -> Result<(PasswordHash, Hash), Refusal> {
    match (presented.password_algorithm, presented.password_algorithms) {
        (None, None) => Ok((PasswordHash::Md5, Hash::Sha1)),
        (Some(choice), Some(list)) if list == OFFERED && features.has(Features::PASSWORD_ALGORITHMS) => {
            if choice == SHA_256 {
                Ok((PasswordHash::Sha256, Hash::Sha256))
            } else if choice == MD5 {
                Ok((PasswordHash::Md5, Hash::Sha256))
            } else {
                Err(BAD)
            }
        }
        (None | Some(_), None | Some(_)) => Err(BAD),
    }
}

fn read_name(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|name| name.len() <= MAX_USERNAME)
}

/// Whether an operator is told again that an application builds its names in the wrong order, a common mistake.
fn is_due(told_at: &mut Option<Instant>, now: Instant) -> bool {
    let is_due = told_at.is_none_or(|told_at| now.saturating_duration_since(told_at) >= TOLD_EVERY);
    if is_due {
        *told_at = Some(now);
    }
    is_due
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;

    #[test]
    fn a_mistake_is_told_once_a_minute() {
        let (mut told_at, now) = (None, clock::now().mono);
        let told = [0, 1, 59, 60, 61, 120].map(|seconds| is_due(&mut told_at, now + Duration::from_secs(seconds)));
        assert_eq!(told, [true, false, false, true, false, true]);
    }
}
