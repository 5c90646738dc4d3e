//! What each request leads to: who may ask, whose turn it is to decide, and how the answer is written.

use stun_types::attribute::{
    AttributeFromRaw, AttributeStaticType, AttributeType, AttributeWrite, ErrorCode, Fingerprint, MessageIntegrity,
    MessageIntegritySha256, Nonce, PasswordAlgorithm, PasswordAlgorithms, Realm, UnknownAttributes, Userhash, Username,
    XorMappedAddress,
};
use stun_types::message::{BINDING, Message, MessageWrite as _, MessageWriteExt as _, MessageWriteVec};
use turn_types::attribute::{
    ChannelNumber, DontFragment, EvenPort, Lifetime, RequestedAddressFamily, RequestedTransport, ReservationToken,
    XorPeerAddress,
};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH};

use super::auth::{Identity, Key, Refusal};
use super::{Action, Client, Server, wire};
use crate::sys::clock::Now;
use crate::turn::counters::{Dropped, Outcome};

/// How many times longer than its request a challenge may be; a reflector gains nothing by so little.
const MAX_AMPLIFICATION: usize = 3;
/// The attributes of the credential mechanism, which every request may have.
const CREDENTIALS: [AttributeType; 8] = [
    Username::TYPE,
    Userhash::TYPE,
    Realm::TYPE,
    Nonce::TYPE,
    MessageIntegrity::TYPE,
    MessageIntegritySha256::TYPE,
    PasswordAlgorithm::TYPE,
    PasswordAlgorithms::TYPE,
];

/// What an Allocate may have besides.
const ALLOCATES: &[AttributeType] = &[
    RequestedTransport::TYPE,
    Lifetime::TYPE,
    RequestedAddressFamily::TYPE,
    EvenPort::TYPE,
    ReservationToken::TYPE,
    DontFragment::TYPE,
];

/// What a request is answered with: attributes of a success, or a refusal.
pub(super) type Answer = Result<Vec<Box<dyn AttributeWrite>>, Refusal>;

pub(super) fn refused<T>(code: u16) -> Result<T, Refusal> {
    Err(Refusal { code, challenges: false })
}

impl Server {
    pub(super) fn handle_request(&mut self, client: Client, message: &Message<'_>, now: Now) {
        let method = message.method();
        let known: &[AttributeType] = match method {
            BINDING => &[],
            ALLOCATE if self.settings.dont_fragment => ALLOCATES,
            // The last one is the promise not to fragment, which takes a socket that can.
            ALLOCATE => &ALLOCATES[..ALLOCATES.len() - 1],
            REFRESH => &[Lifetime::TYPE, RequestedAddressFamily::TYPE],
            CREATE_PERMISSION => &[XorPeerAddress::TYPE],
            CHANNEL_BIND => &[ChannelNumber::TYPE, XorPeerAddress::TYPE],
            // Silence: an answer to what nobody should ask is a gift to reflectors.
            _ => {
                self.counts.drop(Dropped::Malformed);
                return;
            }
        };
        if method == BINDING {
            let unknown = wire::unknown_attributes(message, &CREDENTIALS);
            if unknown.is_empty() {
                let mapped = XorMappedAddress::new(client.remote, message.transaction_id());
                self.succeed(client, message, &[&mapped], None);
            } else {
                self.refuse_unknown(client, message, &unknown, None);
            }
            return;
        }
        // No client leaves this out, and the refusal is shorter than a challenge.
        let has_integrity =
            message.has_attribute(MessageIntegrity::TYPE) || message.has_attribute(MessageIntegritySha256::TYPE);
        if method == ALLOCATE && !has_integrity && !message.has_attribute(RequestedTransport::TYPE) {
            self.refuse(client, message, Refusal { code: ErrorCode::BAD_REQUEST, challenges: false }, None, now);
            return;
        }
        let identity = match self.authenticate(client, message, now) {
            Ok(identity) => identity,
            Err(refusal) => {
                if method == ALLOCATE && has_integrity && refusal.code == ErrorCode::UNAUTHORIZED {
                    self.counts.end(Outcome::WrongCredentials);
                }
                self.refuse(client, message, refusal, None, now);
                return;
            }
        };
        let key = identity.key.clone();
        let unknown = wire::unknown_attributes(message, &[known, &CREDENTIALS].concat());
        if !unknown.is_empty() {
            self.refuse_unknown(client, message, &unknown, Some(&key));
            return;
        }
        if method == ALLOCATE {
            if let Err(refusal) = self.allocate(client, message, identity) {
                self.refuse(client, message, refusal, Some(&key), now);
            }
            return;
        }
        let answer = self.own_slot(client, &identity).and_then(|slot| match method {
            REFRESH => self.refresh(slot, message, now),
            CREATE_PERMISSION => self.create_permission(slot, message, now),
            _ => self.channel_bind(slot, message, now),
        });
        match answer {
            Ok(attributes) => {
                let attributes: Vec<&dyn AttributeWrite> = attributes.iter().map(AsRef::as_ref).collect();
                self.succeed(client, message, &attributes, Some(&key));
            }
            Err(refusal) => self.refuse(client, message, refusal, Some(&key), now),
        }
    }

    /// The client's allocation, which must be this user's: RFC 8656, section 5.
    fn own_slot(&self, client: Client, identity: &Identity) -> Result<u32, Refusal> {
        let found = self.by_client.get(&client).and_then(|slot| Some((*slot, self.allocation(*slot)?)));
        let Some((slot, allocation)) = found else { return refused(ErrorCode::ALLOCATION_MISMATCH) };
        if *allocation.username != *identity.username || allocation.key != identity.key {
            return refused(ErrorCode::WRONG_CREDENTIALS);
        }
        Ok(slot)
    }

    fn succeed(
        &mut self,
        client: Client,
        message: &Message<'_>,
        attributes: &[&dyn AttributeWrite],
        key: Option<&Key>,
    ) {
        let mut reply = Message::builder_success(message, MessageWriteVec::new());
        for attribute in attributes {
            put(&mut reply, *attribute);
        }
        let message = seal(reply, key, message.has_attribute(Fingerprint::TYPE));
        self.queue(Action::Reply { client, message });
    }

    fn refuse(&mut self, client: Client, message: &Message<'_>, refusal: Refusal, key: Option<&Key>, now: Now) {
        let mut reply = Message::builder_error(message, MessageWriteVec::new());
        put_error(&mut reply, refusal.code);
        if refusal.challenges {
            put(&mut reply, &Realm::new(&self.settings.realm).expect("the configuration bounds the realm"));
            let nonce = self.nonces.issue(client, now.mono);
            put(&mut reply, &Nonce::new(&nonce).expect("a nonce of ours is sixteen characters"));
        }
        let key = key.filter(|_| !refusal.challenges);
        let bytes = seal(reply, key, message.has_attribute(Fingerprint::TYPE));
        let is_gift = refusal.challenges && bytes.len() > MAX_AMPLIFICATION * message.as_bytes().len();
        if is_gift {
            // Nothing that a client sends is so short: its first Allocate has a transport, and whatever follows a nonce.
            self.refuse(client, message, BAD, None, now);
            return;
        }
        self.queue(Action::Reply { client, message: bytes });
    }

    fn refuse_unknown(&mut self, client: Client, message: &Message<'_>, unknown: &[AttributeType], key: Option<&Key>) {
        let mut reply = Message::builder_error(message, MessageWriteVec::new());
        put_error(&mut reply, ErrorCode::UNKNOWN_ATTRIBUTE);
        put(&mut reply, &UnknownAttributes::new(unknown));
        let message = seal(reply, key, message.has_attribute(Fingerprint::TYPE));
        self.queue(Action::Reply { client, message });
    }
}

pub(super) const BAD: Refusal = Refusal { code: ErrorCode::BAD_REQUEST, challenges: false };

/// The first attribute of a kind, if there is one; malformed ones are bad requests.
pub(super) fn attribute<'a, A: AttributeFromRaw<'a> + AttributeStaticType>(
    message: &'a Message<'a>,
) -> Result<Option<A>, Refusal> {
    if message.has_attribute(A::TYPE) { message.attribute::<A>().map(Some).map_err(|_| BAD) } else { Ok(None) }
}

pub(super) fn put(reply: &mut MessageWriteVec, attribute: &dyn AttributeWrite) {
    reply.add_attribute(attribute).expect("each attribute is added once, before the integrity");
}

/// An error code without words: they would only make the answer longer.
pub(super) fn put_error(reply: &mut MessageWriteVec, code: u16) {
    put(reply, &ErrorCode::new(code, "").expect("codes of ours are within 300 to 699"));
}

pub(super) fn seal(mut reply: MessageWriteVec, key: Option<&Key>, has_fingerprint: bool) -> Vec<u8> {
    if let Some(key) = key {
        reply
            .add_message_integrity_with_key(&key.integrity, key.algorithm)
            .expect("the integrity is added once, before the fingerprint");
    }
    if has_fingerprint {
        reply.add_fingerprint().expect("a fingerprint is added once, at the end");
    }
    reply.finish()
}
