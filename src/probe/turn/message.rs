//! The messages of a TURN client: requests written, answers read, streams cut into both. RFC 8489 and RFC 8656.

use std::net::SocketAddr;

use stun_types::attribute::{
    AttributeStaticType as _, ErrorCode, MessageIntegrity, MessageIntegritySha256, Nonce, Realm, Username,
    XorMappedAddress,
};
use stun_types::message::{
    BINDING, IntegrityAlgorithm, LongTermCredentials, LongTermKeyCredentials, MAGIC_COOKIE, Message, MessageClass,
    MessageType, MessageWrite as _, MessageWriteExt as _, MessageWriteVec, Method, TransactionId,
};
use turn_types::attribute::{ChannelNumber, Lifetime, RequestedTransport, XorPeerAddress, XorRelayedAddress};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH};

/// Bytes of a STUN header. RFC 8489, section 5.
const HEADER: usize = 20;
/// Bytes of a ChannelData header. RFC 8656, section 12.4.
const CHANNEL_HEADER: usize = 4;
/// The channel that either side binds to the other, the first there is. RFC 8656, section 12.
///
/// Nothing is sent to us on another one, and an answer by HTTP would look like channel 0x4854.
pub(super) const CHANNEL: u16 = 0x4000;

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Binding,
    Allocate,
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
    fn key(&self, challenge: &Challenge) -> LongTermKeyCredentials {
        LongTermCredentials::new(self.username.clone(), self.password.clone()).to_key(challenge.realm.clone())
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

impl Ask {
    fn method(&self) -> Method {
        match self {
            Self::Binding => BINDING,
            Self::Allocate => ALLOCATE,
            Self::Permit(_) => CREATE_PERMISSION,
            Self::Bind { .. } => CHANNEL_BIND,
            Self::Refresh(_) => REFRESH,
        }
    }

    /// Writes the request, signed as browsers do by HMAC-SHA1, or without a signature.
    ///
    /// `None` if the name, realm or nonce is longer than STUN allows.
    pub(super) fn write(&self, id: TransactionId, signed: Option<(&Login, &Challenge)>) -> Option<Vec<u8>> {
        let kind = MessageType::from_class_method(MessageClass::Request, self.method());
        let mut request = Message::builder(kind, id, MessageWriteVec::new());
        match *self {
            Self::Binding => {}
            Self::Allocate => request.add_attribute(&RequestedTransport::new(RequestedTransport::UDP)).ok()?,
            Self::Permit(peer) => request.add_attribute(&XorPeerAddress::new(peer, id)).ok()?,
            Self::Bind { channel, peer } => {
                request.add_attribute(&ChannelNumber::new(channel)).ok()?;
                request.add_attribute(&XorPeerAddress::new(peer, id)).ok()?;
            }
            Self::Refresh(seconds) => request.add_attribute(&Lifetime::new(seconds)).ok()?,
        }
        if let Some((login, challenge)) = signed {
            request.add_attribute(&Username::new(&login.username).ok()?).ok()?;
            request.add_attribute(&Realm::new(&challenge.realm).ok()?).ok()?;
            request.add_attribute(&Nonce::new(&challenge.nonce).ok()?).ok()?;
            request.add_message_integrity(&login.key(challenge).into(), IntegrityAlgorithm::Sha1).ok()?;
        }
        Some(request.finish())
    }

    /// Reads the answer to the request `id`. `None`: this is none.
    pub(super) fn read(&self, bytes: &[u8], id: TransactionId, signed: Option<(&Login, &Challenge)>) -> Option<Answer> {
        let message = Message::from_bytes(bytes).ok()?;
        if message.transaction_id() != id || !message.is_response() || message.method() != self.method() {
            return None;
        }
        let is_marked =
            message.has_attribute(MessageIntegrity::TYPE) || message.has_attribute(MessageIntegritySha256::TYPE);
        let is_signed = is_marked
            && signed
                .is_some_and(|(login, challenge)| message.validate_integrity(&login.key(challenge).into()).is_ok());
        let refusal = (message.class() == MessageClass::Error).then(|| match message.attribute::<ErrorCode>() {
            Ok(error) => (error.code(), error.reason().to_owned()),
            Err(_) => (0, "no code".to_owned()),
        });
        Some(Answer {
            refusal,
            mapped: message.attribute::<XorMappedAddress>().ok().map(|mapped| mapped.addr(id)),
            relayed: message.attribute::<XorRelayedAddress>().ok().map(|relayed| relayed.addr(id)),
            lifetime: message.attribute::<Lifetime>().ok().map(|lifetime| lifetime.seconds()),
            realm: message.attribute::<Realm>().ok().map(|realm| realm.realm().to_owned()),
            nonce: message.attribute::<Nonce>().ok().map(|nonce| nonce.nonce().to_owned()),
            is_signed,
        })
    }
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
        let cookie = MAGIC_COOKIE.to_be_bytes();
        let seen = &stream[CHANNEL_HEADER..stream.len().min(CHANNEL_HEADER + cookie.len())];
        if !cookie.starts_with(seen) {
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
    use super::*;

    fn login() -> Login {
        Login { username: "1700000000:alice".to_owned(), password: "secret".to_owned() }
    }

    #[test]
    fn a_request_carries_what_it_asks_and_is_signed_by_the_password() {
        let id = TransactionId::from(7);
        let challenge = Challenge { realm: "call.example".to_owned(), nonce: "n".to_owned() };
        let peer: SocketAddr = "[2001:db8::1]:49200".parse().unwrap();
        let bytes = Ask::Bind { channel: 0x4000, peer }.write(id, Some((&login(), &challenge))).unwrap();
        let message = Message::from_bytes(&bytes).unwrap();
        assert_eq!((message.method(), message.class()), (CHANNEL_BIND, MessageClass::Request));
        assert_eq!(message.attribute::<XorPeerAddress>().unwrap().addr(id), peer);
        assert_eq!(message.attribute::<ChannelNumber>().unwrap().channel(), 0x4000);
        assert!(message.validate_integrity(&login().key(&challenge).into()).is_ok());
        let other = Login { password: "other".to_owned(), ..login() };
        assert!(message.validate_integrity(&other.key(&challenge).into()).is_err());
        assert!(!format!("{:?}", login()).contains("secret"));
    }

    #[test]
    fn an_answer_belongs_to_its_request_alone() {
        let id = TransactionId::from(7);
        let request = Ask::Allocate.write(id, None).unwrap();
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
        assert_eq!(Ask::Allocate.read(&refusal, id, None), Some(wanted));
        assert_eq!(Ask::Allocate.read(&refusal, TransactionId::from(8), None), None);
        assert_eq!(Ask::Binding.read(&refusal, id, None), None);
        assert_eq!(Ask::Allocate.read(request.as_bytes(), id, None), None, "a request is no answer");
        assert_eq!(Ask::Allocate.read(b"HTTP/1.1 400 Bad Request\r\n", id, None), None);
    }

    #[test]
    fn a_stream_is_cut_into_messages() {
        let request = Ask::Refresh(0).write(TransactionId::from(1), None).unwrap();
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
            let _ = Ask::Allocate.read(&bytes, TransactionId::from(7), None);
        }
    }
}
