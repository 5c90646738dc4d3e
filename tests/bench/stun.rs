//! As much of STUN and TURN as a client needs that does it ten thousand times: RFC 8489 and RFC 8656.

use std::net::{Ipv4Addr, SocketAddrV4};

use aws_lc_rs::hmac;

pub(crate) const BINDING: u16 = 0x0001;
pub(crate) const ALLOCATE: u16 = 0x0003;
pub(crate) const CHANNEL_BIND: u16 = 0x0009;
pub(crate) const CREATE_PERMISSION: u16 = 0x0008;
pub(crate) const SEND_INDICATION: u16 = 0x0016;
pub(crate) const DATA_INDICATION: u16 = 0x0017;
const SUCCESS: u16 = 0x0100;
const ERROR: u16 = 0x0110;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
pub(crate) const CHANNEL_NUMBER: u16 = 0x000c;
pub(crate) const XOR_PEER_ADDRESS: u16 = 0x0012;
pub(crate) const DATA: u16 = 0x0013;
const REALM: u16 = 0x0014;
const NONCE: u16 = 0x0015;
pub(crate) const XOR_RELAYED_ADDRESS: u16 = 0x0016;
const REQUESTED_TRANSPORT: u16 = 0x0019;

const COOKIE: u32 = 0x2112_a442;
pub(crate) const HEADER: usize = 20;
/// The channel that every client binds: to have one each is enough.
pub(crate) const CHANNEL: u16 = 0x4000;
pub(crate) const CHANNEL_HEADER: usize = 4;

/// A message being written.
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(kind: u16, transaction: [u8; 12]) -> Self {
        let mut bytes = Vec::with_capacity(192);
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&COOKIE.to_be_bytes());
        bytes.extend_from_slice(&transaction);
        Self { bytes }
    }

    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.bytes.extend_from_slice(&kind.to_be_bytes());
        self.bytes.extend_from_slice(&short(value.len()).to_be_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    pub(crate) fn address(self, kind: u16, address: SocketAddrV4) -> Self {
        let mut value = [0; 8];
        value[1] = 1;
        value[2..4].copy_from_slice(&(address.port() ^ (COOKIE >> 16) as u16).to_be_bytes());
        value[4..].copy_from_slice(&(u32::from(*address.ip()) ^ COOKIE).to_be_bytes());
        self.attribute(kind, &value)
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.write_length(0);
        self.bytes
    }

    fn finish_signed(mut self, key: &hmac::Key) -> Vec<u8> {
        // The integrity covers a length that counts the integrity itself. RFC 8489, section 14.5.
        self.write_length(24);
        let tag = hmac::sign(key, &self.bytes);
        self.attribute(MESSAGE_INTEGRITY, tag.as_ref()).finish()
    }

    fn write_length(&mut self, more: usize) {
        let length = short(self.bytes.len() - HEADER + more);
        self.bytes[2..4].copy_from_slice(&length.to_be_bytes());
    }
}

fn short(length: usize) -> u16 {
    u16::try_from(length).expect("messages are short")
}

/// A message that came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) transaction: [u8; 12],
    attributes: &'a [u8],
}

impl<'a> Message<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[4..8] != COOKIE.to_be_bytes() {
            return None;
        }
        Some(Self {
            kind: u16::from_be_bytes([header[0], header[1]]),
            transaction: header[8..].try_into().expect("twelve of twenty"),
            attributes: rest.get(..length)?,
        })
    }

    pub(crate) fn attribute(&self, wanted: u16) -> Option<&'a [u8]> {
        let mut rest = self.attributes;
        while let Some((header, behind)) = rest.split_first_chunk::<4>() {
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let value = behind.get(..length)?;
            if u16::from_be_bytes([header[0], header[1]]) == wanted {
                return Some(value);
            }
            rest = behind.get(length.next_multiple_of(4)..)?;
        }
        None
    }

    pub(crate) fn address(&self, kind: u16) -> Option<SocketAddrV4> {
        let value = self.attribute(kind)?;
        let [_, 1, high, low, a, b, c, d] = *value else { return None };
        let address = u32::from_be_bytes([a, b, c, d]) ^ COOKIE;
        Some(SocketAddrV4::new(Ipv4Addr::from(address), u16::from_be_bytes([high, low]) ^ (COOKIE >> 16) as u16))
    }

    pub(crate) fn is_success(&self, method: u16) -> bool {
        self.kind == method | SUCCESS
    }

    /// The code of an error response.
    pub(crate) fn error(&self) -> Option<u16> {
        let value = self.attribute(ERROR_CODE).filter(|_| self.kind & ERROR == ERROR)?;
        Some(u16::from(*value.get(2)? & 7) * 100 + u16::from(*value.get(3)?))
    }

    /// A success response to this request.
    pub(crate) fn success(&self) -> Writer {
        Writer::new(self.kind | SUCCESS, self.transaction)
    }
}

/// Who the generator is to the server.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: String,
}

/// What one client knows of its dialogue with the server.
pub(crate) struct Session {
    username: String,
    realm: Vec<u8>,
    nonce: Vec<u8>,
    key: hmac::Key,
}

impl Session {
    /// Reads the challenge of a 401 response.
    pub(crate) fn new(credentials: &Credentials, challenge: &Message<'_>) -> Option<Self> {
        let (realm, nonce) = (challenge.attribute(REALM)?, challenge.attribute(NONCE)?);
        let mut text = format!("{}:", credentials.username).into_bytes();
        text.extend_from_slice(realm);
        text.extend_from_slice(format!(":{}", credentials.password).as_bytes());
        Some(Self {
            username: credentials.username.clone(),
            realm: realm.to_vec(),
            nonce: nonce.to_vec(),
            key: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &md5(&text)),
        })
    }

    fn sign(&self, writer: Writer) -> Vec<u8> {
        writer
            .attribute(USERNAME, self.username.as_bytes())
            .attribute(REALM, &self.realm)
            .attribute(NONCE, &self.nonce)
            .finish_signed(&self.key)
    }
}

/// Signs a request, where there is a session to sign it for.
fn signed(writer: Writer, session: Option<&Session>) -> Vec<u8> {
    match session {
        Some(session) => session.sign(writer),
        None => writer.finish(),
    }
}

pub(crate) fn binding(transaction: [u8; 12]) -> Vec<u8> {
    Writer::new(BINDING, transaction).finish()
}

pub(crate) fn allocate(transaction: [u8; 12], session: Option<&Session>) -> Vec<u8> {
    // UDP is 17. RFC 8656, section 18.7.
    signed(Writer::new(ALLOCATE, transaction).attribute(REQUESTED_TRANSPORT, &[17, 0, 0, 0]), session)
}

pub(crate) fn channel_bind(transaction: [u8; 12], session: Option<&Session>, peer: SocketAddrV4) -> Vec<u8> {
    let [high, low] = CHANNEL.to_be_bytes();
    let writer = Writer::new(CHANNEL_BIND, transaction).attribute(CHANNEL_NUMBER, &[high, low, 0, 0]);
    signed(writer.address(XOR_PEER_ADDRESS, peer), session)
}

pub(crate) fn create_permission(transaction: [u8; 12], session: Option<&Session>, peer: SocketAddrV4) -> Vec<u8> {
    signed(Writer::new(CREATE_PERMISSION, transaction).address(XOR_PEER_ADDRESS, peer), session)
}

/// A Send indication, ready to be sent.
pub(crate) fn send_indication(peer: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    Writer::new(SEND_INDICATION, [7; 12]).address(XOR_PEER_ADDRESS, peer).attribute(DATA, payload).finish()
}

/// The digest that keys of the long-term mechanism are made by; the crypto library has none. RFC 1321.
fn md5(text: &[u8]) -> [u8; 16] {
    const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
    let mut padded = text.to_vec();
    padded.push(0x80);
    padded.resize((padded.len() + 8).next_multiple_of(64) - 8, 0);
    padded.extend_from_slice(&(text.len() as u64 * 8).to_le_bytes());
    let mut state: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    for block in padded.chunks_exact(64) {
        let word = |index: usize| {
            u32::from_le_bytes(block[index * 4..index * 4 + 4].try_into().expect("four bytes of a block"))
        };
        let [mut a, mut b, mut c, mut d] = state;
        for step in 0..64 {
            let (mixed, index) = match step / 16 {
                0 => ((b & c) | (!b & d), step),
                1 => ((d & b) | (!d & c), (5 * step + 1) % 16),
                2 => (b ^ c ^ d, (3 * step + 5) % 16),
                _ => (c ^ (b | !d), (7 * step) % 16),
            };
            let constant = (((step + 1) as f64).sin().abs() * 4_294_967_296.0) as u32;
            let sum = a.wrapping_add(mixed).wrapping_add(constant).wrapping_add(word(index));
            (a, d, c) = (d, c, b);
            b = b.wrapping_add(sum.rotate_left(SHIFTS[step / 16][step % 4]));
        }
        for (whole, part) in state.iter_mut().zip([a, b, c, d]) {
            *whole = whole.wrapping_add(part);
        }
    }
    let mut digest = [0; 16];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    digest
}
