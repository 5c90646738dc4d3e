//! Requests put together byte by byte, signed by arithmetic that is not the relay's.

use aws_lc_rs::{digest, hmac};
use md5::Digest as _;
use stun_types::attribute::Fingerprint;

use super::super::sim::{Caller, REALM};

pub(super) const ALLOCATE: u16 = 0x0003;
pub(super) const REFRESH: u16 = 0x0004;
pub(super) const CREATE_PERMISSION: u16 = 0x0008;
pub(super) const CHANNEL_BIND: u16 = 0x0009;
pub(super) const SEND: u16 = 0x0016;

pub(super) const USERNAME: u16 = 0x0006;
pub(super) const INTEGRITY: u16 = 0x0008;
pub(super) const CHANNEL_NUMBER: u16 = 0x000c;
pub(super) const LIFETIME: u16 = 0x000d;
pub(super) const PEER: u16 = 0x0012;
pub(super) const DATA: u16 = 0x0013;
pub(super) const REALM_KIND: u16 = 0x0014;
pub(super) const NONCE: u16 = 0x0015;
pub(super) const TRANSPORT: u16 = 0x0019;
pub(super) const INTEGRITY_SHA_256: u16 = 0x001c;
pub(super) const PASSWORD_ALGORITHM: u16 = 0x001d;
pub(super) const USERHASH: u16 = 0x001e;
pub(super) const PASSWORD_ALGORITHMS: u16 = 0x8002;
pub(super) const SOFTWARE: u16 = 0x8022;

pub(super) const UDP: &[u8] = &[17, 0, 0, 0];

#[derive(Clone)]
pub(super) struct Draft(pub(super) Vec<u8>);

impl Draft {
    pub(super) fn new(kind: u16) -> Self {
        Self([&kind.to_be_bytes()[..], &[0, 0, 0x21, 0x12, 0xa4, 0x42], &[9; 12]].concat())
    }

    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend(kind.to_be_bytes());
        self.0.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self.set_length(0);
        self
    }

    /// With USERNAME, REALM and NONCE of this caller.
    pub(super) fn by(self, caller: &Caller) -> Self {
        let named = self.with(USERNAME, caller.username.as_bytes());
        named.with(REALM_KIND, REALM.as_bytes()).with(NONCE, caller.nonce.as_bytes())
    }

    pub(super) fn signed(self, kind: u16, key: &[u8]) -> Self {
        let signature = self.signature(kind, key);
        self.with(kind, &signature)
    }

    pub(super) fn signature(&self, kind: u16, key: &[u8]) -> Vec<u8> {
        let (algorithm, length) = match kind {
            INTEGRITY => (hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, 24),
            _ => (hmac::HMAC_SHA256, 36),
        };
        let mut draft = self.clone();
        draft.set_length(length);
        hmac::sign(&hmac::Key::new(algorithm, key), &draft.0).as_ref().to_vec()
    }

    pub(super) fn with_fingerprint(self) -> Self {
        let mut draft = self.clone();
        draft.set_length(8);
        let sum = u32::from_be_bytes(Fingerprint::compute(&[&draft.0])) ^ 0x5354_554e;
        self.with(0x8028, &sum.to_be_bytes())
    }

    fn set_length(&mut self, more: usize) {
        let length = u16::try_from(self.0.len() - 20 + more).unwrap();
        self.0[2..4].copy_from_slice(&length.to_be_bytes());
    }
}

pub(super) fn md5_key(username: &str, password: &str) -> Vec<u8> {
    md5::Md5::digest(format!("{username}:{REALM}:{password}")).to_vec()
}

pub(super) fn sha_256_key(username: &str, password: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, format!("{username}:{REALM}:{password}").as_bytes()).as_ref().to_vec()
}

/// Whether the message has an integrity of this kind, and only that, which this key has made.
pub(super) fn is_signed_by(message: &[u8], kind: u16, key: &[u8]) -> bool {
    let length = if kind == INTEGRITY { 24 } else { 36 };
    let Some((body, integrity)) = message.split_at_checked(message.len().saturating_sub(length)) else { return false };
    let other = if kind == INTEGRITY { INTEGRITY_SHA_256 } else { INTEGRITY };
    let has_other = stun_types::message::Message::from_bytes(message).unwrap().has_attribute(other.into());
    !has_other && Draft(body.to_vec()).signed(kind, key).0[body.len()..] == *integrity
}
