//! Keys of users, and what they prove of a message: MESSAGE-INTEGRITY and MESSAGE-INTEGRITY-SHA256.
//!
//! RFC 8489 joins either key with either integrity, which the codec's keys cannot; and these take no memory of their own.

use aws_lc_rs::{constant_time, digest, hmac};
use md5::{Digest as _, Md5};
use stun_types::attribute::{AttributeStaticType as _, Fingerprint, MessageIntegrity, MessageIntegritySha256};
use stun_types::message::{MessageWrite as _, MessageWriteVec};

/// Bytes of a STUN header. RFC 8489, section 5.
const HEADER: usize = 20;
/// Bytes of an attribute's type and length. RFC 8489, section 14.
const ATTRIBUTE_HEADER: usize = 4;
/// Bytes of a fingerprint attribute. RFC 8489, section 14.7.
const FINGERPRINT: usize = 8;
/// What a fingerprint is mixed with, so that it differs from other checksums inside. RFC 8489, section 14.7.
const FINGERPRINT_MASK: [u8; 4] = *b"STUN";

/// By which hash a message is signed. RFC 8489, sections 14.5 and 14.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha1,
    Sha256,
}

impl Hash {
    fn algorithm(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
        }
    }

    /// The attribute that carries the signature.
    pub(super) fn kind(self) -> u16 {
        match self {
            Self::Sha1 => MessageIntegrity::TYPE.value(),
            Self::Sha256 => MessageIntegritySha256::TYPE.value(),
        }
    }

    /// Bytes of a whole signature. TURN has no shorter ones: RFC 8489, section 14.6.
    pub(super) fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

/// By which hash a password becomes a key. RFC 8489, section 18.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PasswordHash {
    Md5,
    Sha256,
}

/// What a user's password has become. It never shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Derived {
    Md5([u8; 16]),
    Sha256([u8; 32]),
}

impl Derived {
    /// RFC 8489, sections 18.5.1.1 and 18.5.1.2.
    ///
    /// Names and passwords are taken as they are: the configuration has only such as OpaqueString leaves alone.
    pub(super) fn derive(hash: PasswordHash, username: &str, realm: &str, password: &[u8]) -> Self {
        let parts = [username.as_bytes(), b":", realm.as_bytes(), b":", password];
        match hash {
            PasswordHash::Md5 => {
                let mut whole = Md5::new();
                parts.iter().for_each(|part| whole.update(part));
                Self::Md5(whole.finalize().into())
            }
            PasswordHash::Sha256 => {
                let mut whole = digest::Context::new(&digest::SHA256);
                parts.iter().for_each(|part| whole.update(part));
                Self::Sha256(whole.finish().as_ref().try_into().expect("SHA-256 gives 32 bytes"))
            }
        }
    }

    pub(super) fn hash(&self) -> PasswordHash {
        match self {
            Self::Md5(_) => PasswordHash::Md5,
            Self::Sha256(_) => PasswordHash::Sha256,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Md5(bytes) => bytes,
            Self::Sha256(bytes) => bytes,
        }
    }

    /// The signature of the message whose integrity attribute begins at `offset`, as if it ended with that.
    fn sign(&self, hash: Hash, message: &[u8], offset: usize) -> Option<hmac::Tag> {
        let length = u16::try_from(offset + ATTRIBUTE_HEADER + hash.length() - HEADER).ok()?;
        let mut context = hmac::Context::with_key(&hmac::Key::new(hash.algorithm(), self.bytes()));
        context.update(message.get(..2)?);
        context.update(&length.to_be_bytes());
        context.update(message.get(4..offset)?);
        Some(context.sign())
    }

    /// Whether this has signed the message, the integrity attribute of which begins at `offset`.
    pub(super) fn has_signed(&self, hash: Hash, message: &[u8], offset: usize) -> bool {
        let start = offset + ATTRIBUTE_HEADER;
        let given = message.get(start..start + hash.length());
        given
            .zip(self.sign(hash, message, offset))
            .is_some_and(|(given, right)| constant_time::verify_slices_are_equal(given, right.as_ref()).is_ok())
    }
}

impl std::fmt::Debug for Derived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}(..)", self.hash())
    }
}

/// The key of a user who has signed a request, and by what the answer is signed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) derived: Derived,
    pub(super) answers_by: Hash,
}

impl Key {
    /// Whether two keys of one user name are of different passwords. Keys by different hashes cannot be compared.
    pub(super) fn contradicts(&self, other: &Self) -> bool {
        self.derived.hash() == other.derived.hash() && self.derived != other.derived
    }
}

/// The bytes of a reply, signed if there is a key.
pub(super) fn seal(reply: MessageWriteVec, key: Option<&Key>, has_fingerprint: bool) -> Vec<u8> {
    let mut bytes = reply.finish();
    if let Some(Key { derived, answers_by }) = key {
        let signature = derived.sign(*answers_by, &bytes, bytes.len()).expect("replies of ours are short");
        append(&mut bytes, answers_by.kind(), signature.as_ref());
    }
    if has_fingerprint {
        let fingerprint = fingerprint(&bytes, bytes.len()).expect("replies of ours are short");
        append(&mut bytes, Fingerprint::TYPE.value(), &fingerprint);
    }
    bytes
}

/// The fingerprint of the message, if its fingerprint attribute begins at `offset`, as if it ended with that.
pub(super) fn fingerprint(message: &[u8], offset: usize) -> Option<[u8; 4]> {
    let length = u16::try_from(offset + FINGERPRINT - HEADER).ok()?.to_be_bytes();
    let mut sum = Fingerprint::compute(&[message.get(..2)?, &length, message.get(4..offset)?]);
    for (byte, mask) in sum.iter_mut().zip(FINGERPRINT_MASK) {
        *byte ^= mask;
    }
    Some(sum)
}

fn append(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(kind.to_be_bytes());
    message.extend(u16::try_from(value.len()).expect("signatures are short").to_be_bytes());
    message.extend(value);
    let length = u16::try_from(message.len() - HEADER).expect("replies of ours are short");
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_does_not_show() {
        let derived = Derived::Md5([0xab; 16]);
        let key = Key { derived, answers_by: Hash::Sha1 };
        assert_eq!(format!("{key:?}"), "Key { derived: Md5(..), answers_by: Sha1 }");
    }

    #[test]
    fn only_keys_by_the_same_hash_contradict_each_other() {
        let key = |derived| Key { derived, answers_by: Hash::Sha1 };
        let one = key(Derived::Md5([1; 16]));
        assert!(one.contradicts(&key(Derived::Md5([2; 16]))));
        assert!(!one.contradicts(&one));
        assert!(!one.contradicts(&key(Derived::Sha256([2; 32]))));
    }
}
