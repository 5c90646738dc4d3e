//! The messages of a TURN client: requests written, answers read, streams cut into both. RFC 8489 and RFC 8656.
//!
//! Bytes are written and read here, without the codec that the relay is built on: a client that shared it could not see
//! its mistakes. The tests hold the two against each other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aws_lc_rs::{constant_time, hmac};
use md5::{Digest as _, Md5};

/// Bytes of a STUN header. RFC 8489, section 5.
const HEADER: usize = 20;
/// What every STUN message has behind its length.
pub(super) const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// Bytes of a ChannelData header. RFC 8656, section 12.4.
const CHANNEL_HEADER: usize = 4;
/// The channel that either side binds to the other, the first there is. RFC 8656, section 12.
///
/// Nothing is sent to us on another one, and an answer by HTTP would look like channel 0x4854.
pub(super) const CHANNEL: u16 = 0x4000;

/// The bits of a message's type that are its class. RFC 8489, section 5.
const CLASS: u16 = 0x0110;
const SUCCESS: u16 = 0x0100;
const FAILURE: u16 = 0x0110;
/// The type of a Send indication. RFC 8656, section 17.
const SEND_INDICATION: u16 = 0x0016;
/// Bytes of an HMAC-SHA1, and of the attribute that carries it.
const MAC: usize = 20;
const INTEGRITY: usize = 4 + MAC;
/// UDP's number among the IANA protocol numbers.
const UDP: u8 = 17;
/// Bytes of a name, a realm or a nonce. RFC 8489, sections 14.3, 14.9 and 14.10: 763 at most.
const MAX_TEXT: usize = 763;

/// Attributes. RFC 8489, section 18.3, and RFC 8656, section 18.
mod kind {
    pub(super) const USERNAME: u16 = 0x0006;
    pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(super) const ERROR_CODE: u16 = 0x0009;
    pub(super) const CHANNEL_NUMBER: u16 = 0x000c;
    pub(super) const LIFETIME: u16 = 0x000d;
    pub(super) const XOR_PEER_ADDRESS: u16 = 0x0012;
    pub(super) const DATA: u16 = 0x0013;
    pub(super) const REALM: u16 = 0x0014;
    pub(super) const NONCE: u16 = 0x0015;
    pub(super) const XOR_RELAYED_ADDRESS: u16 = 0x0016;
    pub(super) const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
    pub(super) const REQUESTED_TRANSPORT: u16 = 0x0019;
    pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
}

/// What an answer has in common with its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::probe) struct TransactionId(pub(super) [u8; 12]);

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Binding,
    Allocate,
    /// A relay of IPv6.
    AllocateV6,
    Permit(SocketAddr),
    Bind {
        channel: u16,
        peer: SocketAddr,
    },
    /// For that many seconds; zero ends the allocation.
    Refresh(u32),
}

/// What the server wants a signature over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) realm: String,
    pub(super) nonce: String,
}

/// A user name and its password.
#[derive(Clone)]
pub struct Login {
    pub username: String,
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Login {
    /// RFC 8489, section 9.2.2.
    fn key(&self, challenge: &Challenge) -> hmac::Key {
        let text = format!("{}:{}:{}", self.username, challenge.realm, self.password);
        hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &Md5::digest(text.as_bytes()))
    }
}

/// An answer, as far as anything depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// The code and the reason of a refusal.
    pub(super) refusal: Option<(u16, String)>,
    pub(super) mapped: Option<SocketAddr>,
    pub(super) relayed: Option<SocketAddr>,
    pub(super) lifetime: Option<u32>,
    pub(super) realm: Option<String>,
    pub(super) nonce: Option<String>,
    /// Whether it is signed by who knows the password.
    pub(super) is_signed: bool,
}

/// A message that is being written.
struct Draft {
    bytes: Vec<u8>,
    id: TransactionId,
}

impl Draft {
    fn new(kind: u16, id: TransactionId) -> Self {
        Self { bytes: [&kind.to_be_bytes()[..], &[0, 0], &MAGIC_COOKIE, &id.0].concat(), id }
    }

    /// Adds an attribute, padded to four bytes.
    fn put(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len()).expect("an attribute of ours is short");
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend(length.to_be_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.set_length(0);
    }

    /// RFC 8489, section 14.2.
    fn put_address(&mut self, kind: u16, address: SocketAddr) {
        let mask = mask(self.id);
        let family = if address.is_ipv4() { 1 } else { 2 };
        let octets = match address.ip() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let mut value = vec![0, family];
        value.extend(address.port().to_be_bytes().iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        value.extend(octets.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        self.put(kind, &value);
    }

    /// RFC 8489, section 14.5: the length counts the signature already.
    fn sign(&mut self, key: &hmac::Key) {
        self.set_length(INTEGRITY);
        let mac = hmac::sign(key, &self.bytes);
        self.put(kind::MESSAGE_INTEGRITY, mac.as_ref());
    }

    fn set_length(&mut self, more: usize) {
        let length = u16::try_from(self.bytes.len() - HEADER + more).expect("a message of ours is short");
        self.bytes[2..4].copy_from_slice(&length.to_be_bytes());
    }
}

/// What addresses are hidden under.
fn mask(id: TransactionId) -> [u8; 16] {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE);
    mask[4..].copy_from_slice(&id.0);
    mask
}

impl Ask {
    fn method(&self) -> u16 {
        match self {
            Self::Binding => 0x001,
            Self::Allocate | Self::AllocateV6 => 0x003,
            Self::Refresh(_) => 0x004,
            Self::Permit(_) => 0x008,
            Self::Bind { .. } => 0x009,
        }
    }

    /// Writes the request, signed as browsers do by HMAC-SHA1, or without a signature.
    ///
    /// `None` if the name, realm or nonce is longer than STUN allows.
    pub(super) fn write(&self, id: TransactionId, signed: Option<(&Login, &Challenge)>) -> Option<Vec<u8>> {
        let mut request = Draft::new(self.method(), id);
        match *self {
            Self::Binding => {}
            Self::Allocate => request.put(kind::REQUESTED_TRANSPORT, &[UDP, 0, 0, 0]),
            Self::AllocateV6 => {
                request.put(kind::REQUESTED_TRANSPORT, &[UDP, 0, 0, 0]);
                request.put(kind::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]);
            }
            Self::Permit(peer) => request.put_address(kind::XOR_PEER_ADDRESS, peer),
            Self::Bind { channel, peer } => {
                let [high, low] = channel.to_be_bytes();
                request.put(kind::CHANNEL_NUMBER, &[high, low, 0, 0]);
                request.put_address(kind::XOR_PEER_ADDRESS, peer);
            }
            Self::Refresh(seconds) => request.put(kind::LIFETIME, &seconds.to_be_bytes()),
        }
        if let Some((login, challenge)) = signed {
            let texts =
                [(kind::USERNAME, &login.username), (kind::REALM, &challenge.realm), (kind::NONCE, &challenge.nonce)];
            for (kind, text) in texts {
                if text.len() > MAX_TEXT {
                    return None;
                }
                request.put(kind, text.as_bytes());
            }
            request.sign(&login.key(challenge));
        }
        Some(request.bytes)
    }

    /// Reads the answer to the request `id`. `None`: this is none.
    pub(super) fn read(&self, bytes: &[u8], id: TransactionId, signed: Option<(&Login, &Challenge)>) -> Option<Answer> {
        let head = bytes.first_chunk::<HEADER>()?;
        let number = |high: u8, low: u8| u16::from_be_bytes([high, low]);
        let (kind, length) = (number(head[0], head[1]), usize::from(number(head[2], head[3])));
        let is_failure = kind & CLASS == FAILURE;
        let is_answer = kind & !CLASS == self.method() && (kind & CLASS == SUCCESS || is_failure);
        if !is_answer || head[4..8] != MAGIC_COOKIE || head[8..] != id.0 || length + HEADER != bytes.len() {
            return None;
        }
        let mut answer = Answer::default();
        if is_failure {
            answer.refusal = Some((0, "no code".to_owned()));
        }
        let mut at = HEADER;
        while at < bytes.len() {
            let [high, low, long, short] = *bytes.get(at..)?.first_chunk::<4>()?;
            let value = bytes.get(at + 4..at + 4 + usize::from(number(long, short)))?;
            let text = || String::from_utf8_lossy(value).into_owned();
            match number(high, low) {
                kind::ERROR_CODE if is_failure => {
                    let [_, _, hundreds, rest, ..] = value else { return None };
                    let code = u16::from(hundreds & 7) * 100 + u16::from(*rest);
                    answer.refusal = Some((code, String::from_utf8_lossy(&value[4..]).into_owned()));
                }
                kind::XOR_MAPPED_ADDRESS => answer.mapped = answer.mapped.or(address(value, id)),
                kind::XOR_RELAYED_ADDRESS => answer.relayed = answer.relayed.or(address(value, id)),
                kind::LIFETIME => answer.lifetime = value.try_into().ok().map(u32::from_be_bytes),
                kind::REALM => answer.realm = Some(text()),
                kind::NONCE => answer.nonce = Some(text()),
                kind::MESSAGE_INTEGRITY => {
                    let fits =
                        |(login, challenge): (&Login, &Challenge)| is_mac(bytes, at, value, &login.key(challenge));
                    answer.is_signed = signed.is_some_and(fits);
                    // What follows is signed by nobody.
                    break;
                }
                _ => {}
            }
            at += 4 + value.len().next_multiple_of(4);
        }
        Some(answer)
    }
}

/// Whether `mac` signs what stands before `at`. The length counts the signature and nothing behind it.
fn is_mac(bytes: &[u8], at: usize, mac: &[u8], key: &hmac::Key) -> bool {
    let Ok(length) = u16::try_from(at - HEADER + INTEGRITY) else { return false };
    let mut signed = bytes[..at].to_vec();
    signed[2..4].copy_from_slice(&length.to_be_bytes());
    constant_time::verify_slices_are_equal(hmac::sign(key, &signed).as_ref(), mac).is_ok()
}

/// An address that was hidden. RFC 8489, section 14.2.
fn address(value: &[u8], id: TransactionId) -> Option<SocketAddr> {
    let mask = mask(id);
    let [_, family, high, low, octets @ ..] = value else { return None };
    let port = u16::from_be_bytes([high ^ mask[0], low ^ mask[1]]);
    let plain: Vec<u8> = octets.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
    let ip: IpAddr = match (family, octets.len()) {
        (1, 4) => Ipv4Addr::from(<[u8; 4]>::try_from(plain).ok()?).into(),
        (2, 16) => Ipv6Addr::from(<[u8; 16]>::try_from(plain).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// A Send indication: data for a peer without a channel, which nobody answers. RFC 8656, section 11.1.
pub(super) fn send_indication(id: TransactionId, peer: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut message = Draft::new(SEND_INDICATION, id);
    message.put_address(kind::XOR_PEER_ADDRESS, peer);
    message.put(kind::DATA, payload);
    message.bytes
}

/// Writes `payload` as ChannelData. On a stream it is padded: RFC 8656, section 12.5.
///
/// # Panics
/// If the payload is longer than a datagram.
pub(super) fn channel_data(payload: &[u8], is_stream: bool) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a payload of ours is short");
    let mut bytes = [&CHANNEL.to_be_bytes()[..], &length.to_be_bytes(), payload].concat();
    if is_stream {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// The payload of ChannelData.
pub(super) fn payload_of(bytes: &[u8]) -> Option<&[u8]> {
    let (head, rest) = bytes.split_first_chunk::<CHANNEL_HEADER>()?;
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    if head[..2] == CHANNEL.to_be_bytes() { rest.get(..length) } else { None }
}

/// What the beginning of a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// So many bytes make a message.
    Whole(usize),
    /// Too few bytes so far.
    More,
    /// Neither STUN nor ChannelData.
    Foreign,
}

/// Finds the first message of a stream.
pub(super) fn cut(stream: &[u8]) -> Cut {
    let Some(head) = stream.first_chunk::<CHANNEL_HEADER>() else { return Cut::More };
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let whole = if head[..2] == CHANNEL.to_be_bytes() {
        CHANNEL_HEADER + length.next_multiple_of(4)
    } else if head[0] < 0x40 && length.is_multiple_of(4) {
        let seen = &stream[CHANNEL_HEADER..stream.len().min(CHANNEL_HEADER + MAGIC_COOKIE.len())];
        if !MAGIC_COOKIE.starts_with(seen) {
            return Cut::Foreign;
        }
        HEADER + length
    } else {
        return Cut::Foreign;
    };
    if stream.len() >= whole { Cut::Whole(whole) } else { Cut::More }
}

#[cfg(test)]
mod tests {
    use stun_types::attribute::{ErrorCode, Realm, XorMappedAddress};
    use stun_types::message::{
        IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass, MessageIntegrityCredentials,
        MessageWrite as _, MessageWriteExt as _, MessageWriteVec,
    };
    use turn_types::attribute::{ChannelNumber, Data, Lifetime, XorPeerAddress, XorRelayedAddress};
    use turn_types::message::{CHANNEL_BIND, SEND};

    use super::*;

    const ID: TransactionId = TransactionId([7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);

    fn login() -> Login {
        Login { username: "1700000000:alice".to_owned(), password: "secret".to_owned() }
    }

    fn challenge() -> Challenge {
        Challenge { realm: "call.example".to_owned(), nonce: "n".to_owned() }
    }

    /// Credentials as the other codec has them.
    fn credentials(password: &str) -> MessageIntegrityCredentials {
        LongTermKeyCredentials::new(login().username, password.to_owned(), challenge().realm).into()
    }

    #[test]
    fn a_request_is_read_by_the_other_codec_as_it_was_meant() {
        let peer: SocketAddr = "[2001:db8::1]:49200".parse().unwrap();
        let bytes = Ask::Bind { channel: 0x4000, peer }.write(ID, Some((&login(), &challenge()))).unwrap();
        let message = Message::from_bytes(&bytes).unwrap();
        assert_eq!((message.method(), message.class()), (CHANNEL_BIND, MessageClass::Request));
        assert_eq!(message.attribute::<XorPeerAddress>().unwrap().addr(message.transaction_id()), peer);
        assert_eq!(message.attribute::<ChannelNumber>().unwrap().channel(), 0x4000);
        assert!(message.validate_integrity(&credentials("secret")).is_ok());
        assert!(message.validate_integrity(&credentials("other")).is_err());
        assert!(!format!("{:?}", login()).contains("secret"));
        let peer: SocketAddr = "192.0.2.7:4000".parse().unwrap();
        let bytes = send_indication(ID, peer, b"hello");
        let message = Message::from_bytes(&bytes).unwrap();
        assert_eq!((message.method(), message.class()), (SEND, MessageClass::Indication));
        assert_eq!(message.attribute::<XorPeerAddress>().unwrap().addr(message.transaction_id()), peer);
        assert_eq!(message.attribute::<Data>().unwrap().data(), b"hello");
    }

    #[test]
    fn an_answer_of_the_other_codec_is_read_as_it_was_meant() {
        let signed = (&login(), &challenge());
        let bytes = Ask::Allocate.write(ID, Some(signed)).unwrap();
        let request = Message::from_bytes(&bytes).unwrap();
        let id = request.transaction_id();
        let (relayed, mapped) = ("[2001:db8::9]:50000".parse().unwrap(), "192.0.2.4:1234".parse().unwrap());
        let granted = |password: &str| {
            let mut answer = Message::builder_success(&request, MessageWriteVec::new());
            answer.add_attribute(&XorRelayedAddress::new(relayed, id)).unwrap();
            answer.add_attribute(&XorMappedAddress::new(mapped, id)).unwrap();
            answer.add_attribute(&Lifetime::new(600)).unwrap();
            answer.add_message_integrity(&credentials(password), IntegrityAlgorithm::Sha1).unwrap();
            answer.add_fingerprint().unwrap();
            answer.finish()
        };
        let wanted = Answer {
            relayed: Some(relayed),
            mapped: Some(mapped),
            lifetime: Some(600),
            is_signed: true,
            ..Answer::default()
        };
        assert_eq!(Ask::Allocate.read(&granted("secret"), ID, Some(signed)), Some(wanted));
        assert!(!Ask::Allocate.read(&granted("other"), ID, Some(signed)).unwrap().is_signed);
        let cut = &granted("secret")[..40];
        assert_eq!(Ask::Allocate.read(cut, ID, Some(signed)), None);
    }

    #[test]
    fn an_answer_belongs_to_its_request_alone() {
        let request = Ask::Allocate.write(ID, None).unwrap();
        let request = Message::from_bytes(&request).unwrap();
        let mut refusal = Message::builder_error(&request, MessageWriteVec::new());
        refusal.add_attribute(&ErrorCode::new(401, "Unauthorized").unwrap()).unwrap();
        refusal.add_attribute(&Realm::new("r").unwrap()).unwrap();
        let refusal = refusal.finish();
        let wanted = Answer {
            refusal: Some((401, "Unauthorized".to_owned())),
            realm: Some("r".to_owned()),
            ..Answer::default()
        };
        assert_eq!(Ask::Allocate.read(&refusal, ID, None), Some(wanted));
        assert_eq!(Ask::Allocate.read(&refusal, TransactionId([8; 12]), None), None);
        assert_eq!(Ask::Binding.read(&refusal, ID, None), None);
        assert_eq!(Ask::Allocate.read(request.as_bytes(), ID, None), None, "a request is no answer");
        assert_eq!(Ask::Allocate.read(b"HTTP/1.1 400 Bad Request\r\n", ID, None), None);
    }

    #[test]
    fn a_stream_is_cut_into_messages() {
        let request = Ask::Refresh(0).write(ID, None).unwrap();
        let data = channel_data(b"hello", true);
        assert_eq!(data, [0x40, 0, 0, 5, b'h', b'e', b'l', b'l', b'o', 0, 0, 0]);
        assert_eq!(channel_data(b"hello", false).len(), 9);
        assert_eq!(payload_of(&data), Some(&b"hello"[..]));
        assert_eq!(payload_of(&[0x40, 1, 0, 0]), None, "another channel");
        assert_eq!(payload_of(&data[..8]), None, "cut short");
        for (message, rest) in [(&request, &data), (&data, &request)] {
            let stream = [&message[..], rest].concat();
            assert_eq!(cut(&stream), Cut::Whole(message.len()));
            for length in 0..message.len() {
                assert_eq!(cut(&stream[..length]), Cut::More, "{length}");
            }
        }
        assert_eq!(cut(b"HTTP/1.1 400"), Cut::Foreign);
        assert_eq!(cut(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x43]), Cut::Foreign);
        assert_eq!(cut(&[22, 3, 1, 0]), Cut::More, "a TLS record looks like STUN until its fifth byte");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            let _ = cut(&bytes);
            let _ = payload_of(&bytes);
            let _ = Ask::Allocate.read(&bytes, ID, None);
            let mut headed = [&[1, 3, 0, 0][..], &MAGIC_COOKIE, &ID.0, &bytes].concat();
            headed[2..4].copy_from_slice(&(bytes.len() as u16).to_be_bytes());
            let _ = Ask::Allocate.read(&headed, ID, Some((&login(), &challenge())));
        }
    }
}
