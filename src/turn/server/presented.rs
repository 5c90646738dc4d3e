//! What a request shows of its sender, read off its bytes in one pass: nothing here is believed yet.
//!
//! The codec looks for one attribute at a time, bounds some of them by the limits of writers, and follows lengths inside
//! of PASSWORD-ALGORITHMS. Here every value stays a slice of the message and is compared as a whole.

use stun_types::attribute::{
    AttributeStaticType as _, Fingerprint, Nonce, PasswordAlgorithm, PasswordAlgorithms, Realm, Userhash, Username,
};

use super::integrity::{self, Hash};

/// Bytes of a STUN header. RFC 8489, section 5.
const HEADER: usize = 20;
/// Bytes of an attribute's type and length. RFC 8489, section 14.
const ATTRIBUTE_HEADER: usize = 4;

/// The integrity attribute that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) hash: Hash,
    /// Where the attribute begins.
    pub(super) offset: usize,
    /// Whether it has all its bytes and no more.
    pub(super) is_whole: bool,
}

/// The credential attributes of one message, the first of each kind.
#[derive(Default)]
pub(super) struct Presented<'a> {
    pub(super) message: &'a [u8],
    pub(super) username: Option<&'a [u8]>,
    pub(super) userhash: Option<&'a [u8]>,
    pub(super) realm: Option<&'a [u8]>,
    pub(super) nonce: Option<&'a [u8]>,
    pub(super) password_algorithm: Option<&'a [u8]>,
    pub(super) password_algorithms: Option<&'a [u8]>,
    pub(super) mark: Option<Mark>,
    pub(super) has_fingerprint: bool,
}

impl<'a> Presented<'a> {
    /// Reads a whole STUN message. `None` if attributes run past its end or its fingerprint is wrong or not the last.
    ///
    /// What follows the integrity is ignored, but for the integrity by SHA-256 and the fingerprint: RFC 8489, section 9.
    pub(super) fn read(message: &'a [u8]) -> Option<Self> {
        let mut presented = Self { message, ..Self::default() };
        let mut offset = HEADER;
        while offset < message.len() {
            if presented.has_fingerprint {
                return None;
            }
            let header = message.get(offset..)?.first_chunk::<ATTRIBUTE_HEADER>()?;
            let kind = u16::from_be_bytes([header[0], header[1]]);
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let start = offset + ATTRIBUTE_HEADER;
            let value = message.get(start..start + length)?;
            presented.take(kind, value, offset)?;
            offset = start + length.next_multiple_of(4);
        }
        (offset == message.len()).then_some(presented)
    }

    fn take(&mut self, kind: u16, value: &'a [u8], offset: usize) -> Option<()> {
        if kind == Fingerprint::TYPE.value() {
            self.has_fingerprint = true;
            return (value == integrity::fingerprint(self.message, offset)?).then_some(());
        }
        for hash in [Hash::Sha1, Hash::Sha256] {
            // Each is the first of its kind, and nothing counts after that by SHA-256.
            let is_next = self.mark.is_none_or(|mark| mark.hash == Hash::Sha1 && hash == Hash::Sha256);
            if kind == hash.kind() && is_next {
                self.mark = Some(Mark { hash, offset, is_whole: value.len() == hash.length() });
                return Some(());
            }
        }
        if self.mark.is_some() {
            return Some(());
        }
        let place = if kind == Username::TYPE.value() {
            &mut self.username
        } else if kind == Userhash::TYPE.value() {
            &mut self.userhash
        } else if kind == Realm::TYPE.value() {
            &mut self.realm
        } else if kind == Nonce::TYPE.value() {
            &mut self.nonce
        } else if kind == PasswordAlgorithm::TYPE.value() {
            &mut self.password_algorithm
        } else if kind == PasswordAlgorithms::TYPE.value() {
            &mut self.password_algorithms
        } else {
            return Some(());
        };
        place.get_or_insert(value);
        Some(())
    }
}

/// Whether the message ends with a fingerprint, which has been compared when it came in.
pub(super) fn has_fingerprint(message: &[u8]) -> bool {
    Presented::read(message).is_some_and(|presented| presented.has_fingerprint)
}
