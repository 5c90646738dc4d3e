//! Sessions that nobody keeps: when one ends and what it is called, signed by what follows from the access key.

use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::config::Secret;

/// How long a browser comes in without its link: long enough that people who call each other every week do not ask for
/// it again.
pub(super) const SESSION_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// What is signed besides keys of other kinds.
const LABEL: &[u8] = b"rtcctl session 1";
/// Bytes of a signature that are used.
const TAG: usize = 16;
/// Characters of the longest word that is looked at.
const MAX_TOKEN: usize = 128;

/// Signs sessions, and knows them again. Another key makes another signer, and all sessions worthless.
pub(super) struct Signer(hmac::Key);

impl Signer {
    pub(super) fn new(key: &Secret) -> Self {
        let own = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.expose()), LABEL);
        Self(hmac::Key::new(hmac::HMAC_SHA256, own.as_ref()))
    }

    /// A word that is good until [`SESSION_FOR`] from `now`, in seconds since 1970.
    pub(super) fn issue(&self, id: u64, now: u64) -> String {
        let stem = format!("{}.{id:016x}", now.saturating_add(SESSION_FOR.as_secs()));
        format!("{stem}.{}", self.tag(&stem))
    }

    /// The id of a session that was issued here and has not ended.
    pub(super) fn read(&self, token: &str, now: u64) -> Option<String> {
        let (stem, tag) = token.rsplit_once('.').filter(|_| token.len() <= MAX_TOKEN)?;
        verify_slices_are_equal(self.tag(stem).as_bytes(), tag.as_bytes()).ok()?;
        let (ends_at, id) = stem.split_once('.')?;
        let ends_at: u64 = ends_at.parse().ok()?;
        (now < ends_at).then(|| id.to_owned())
    }

    fn tag(&self, stem: &str) -> String {
        URL_SAFE_NO_PAD.encode(&hmac::sign(&self.0, stem.as_bytes()).as_ref()[..TAG])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(byte: u8) -> Signer {
        Signer::new(&Secret::new(vec![byte; 26]))
    }

    #[test]
    fn a_session_is_known_until_it_ends_and_not_by_another_key() {
        let token = signer(1).issue(7, 1000);
        let ends_at = 1000 + SESSION_FOR.as_secs();
        assert_eq!(signer(1).read(&token, ends_at - 1).as_deref(), Some("0000000000000007"));
        assert_eq!(signer(1).read(&token, ends_at), None);
        assert_eq!(signer(2).read(&token, 1000), None);
    }

    #[test]
    fn no_part_of_a_session_can_be_changed() {
        let token = signer(1).issue(7, 1000);
        let later = format!("9{token}");
        let other = token.replacen(".0000000000000007.", ".0000000000000008.", 1);
        let long = format!("{}{token}", "0".repeat(200));
        for forged in [&later, &other, &token[..token.len() - 1].to_owned(), &format!("{token}A"), &long] {
            assert_ne!(*forged, token);
            assert_eq!(signer(1).read(forged, 1000), None, "{forged}");
        }
        for odd in ["", ".", "..", "1.2", "é.é.é"] {
            assert_eq!(signer(1).read(odd, 1000), None, "{odd}");
        }
    }
}
