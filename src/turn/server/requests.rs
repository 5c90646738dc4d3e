//! What each request leads to: who may ask, whose turn it is to decide, and how the answer is written.

use stun_types::attribute::{
    AttributeFromRaw, AttributeStaticType, AttributeType, AttributeWrite, ErrorCode, UnknownAttributes,
    XorMappedAddress,
};
use stun_types::message::{BINDING, Message, MessageWriteExt as _, MessageWriteVec};
use turn_types::attribute::RequestedTransport;
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH};

use super::allocation::Slot;
use super::auth::{Identity, Key, Refusal};
pub(super) use super::integrity::seal;
use super::limits::Answered;
use super::presented::Presented;
use super::{Action, Client, Server, Transport, wire};
use crate::sys::clock::Now;
use crate::turn::counters::{Dropped, Outcome};

/// How many times longer than its request a challenge may be; a reflector gains nothing by so little.
const MAX_AMPLIFICATION: usize = 3;
/// Bytes of an error response without anything else: the header and ERROR-CODE.
const BARE_REFUSAL: usize = 28;
/// Bytes of a fingerprint. RFC 8489, section 14.7.
const FINGERPRINT: usize = 8;
/// What a request is answered with: attributes of a success, or a refusal.
pub(super) type Answer = Result<Vec<Box<dyn AttributeWrite>>, Refusal>;

pub(super) fn refused<T>(code: u16) -> Result<T, Refusal> {
    Err(Refusal { code, challenges: false })
}

/// A request to be answered.
#[derive(Clone, Copy)]
struct Asked<'a> {
    client: Client,
    message: &'a Message<'a>,
    /// Whether it has an integrity, right or wrong.
    is_signed: bool,
    /// Whether it comes from a probe of this process.
    is_probe: bool,
    userhash: Option<&'a [u8]>,
    has_fingerprint: bool,
    now: Now,
}

impl Server {
    pub(super) fn handle_request(&mut self, client: Client, message: &Message<'_>, now: Now) {
        let method = message.method();
        if !matches!(method, BINDING | ALLOCATE | REFRESH | CREATE_PERMISSION | CHANNEL_BIND) {
            // Silence: an answer to what nobody should ask is a gift to reflectors.
            self.counts.drop(Dropped::Malformed);
            return;
        }
        let Some(presented) = Presented::read(message.as_bytes()) else {
            self.counts.drop(Dropped::Malformed);
            return;
        };
        let asked = Asked {
            client,
            message,
            is_signed: presented.mark.is_some(),
            is_probe: self.gate.is_probe(&presented),
            userhash: presented.userhash,
            has_fingerprint: presented.has_fingerprint,
            now,
        };
        if method == BINDING {
            self.answer_binding(&asked);
            return;
        }
        // No client leaves this out, and the refusal is shorter than a challenge.
        if method == ALLOCATE && !asked.is_signed && !message.has_attribute(RequestedTransport::TYPE) {
            self.refuse(&asked, BAD, None);
            return;
        }
        let identity = match self.authenticate(client, &presented, now) {
            Ok(identity) => identity,
            Err(refusal) => {
                self.refuse(&asked, refusal, None);
                return;
            }
        };
        let key = identity.key;
        let unknown = wire::unknown_attributes(message, self.settings.dont_fragment);
        if !unknown.is_empty() {
            self.refuse_unknown(&asked, &unknown, Some(&key));
            return;
        }
        if method == ALLOCATE {
            if let Err(refusal) = self.allocate(client, message, identity) {
                self.refuse(&asked, refusal, Some(&key));
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
                self.succeed(&asked, &attributes, Some(&key));
            }
            Err(refusal) => self.refuse(&asked, refusal, Some(&key)),
        }
    }

    /// Binding: RFC 8489, section 12. It needs no credentials.
    fn answer_binding(&mut self, asked: &Asked<'_>) {
        if !self.may_answer(asked, Answered::Binding) {
            return;
        }
        let unknown = wire::unknown_attributes(asked.message, self.settings.dont_fragment);
        if unknown.is_empty() {
            let mapped = XorMappedAddress::new(asked.client.remote, asked.message.transaction_id());
            self.succeed(asked, &[&mapped], None);
        } else {
            self.refuse_unknown(asked, &unknown, None);
        }
    }

    fn authenticate(&mut self, client: Client, presented: &Presented<'_>, now: Now) -> Result<Identity, Refusal> {
        let slot = self.by_client.get(&client).and_then(|slot| self.slots.get(*slot as usize));
        let stored = match slot {
            Some(Slot::Live(allocation)) => Some((&*allocation.username, &allocation.key)),
            Some(Slot::Opening(opening)) => Some((&*opening.username, &opening.key)),
            Some(Slot::Free | Slot::Abandoned(_)) | None => None,
        };
        let identity = self.gate.authenticate(client, presented, stored, now)?;
        if client.transport == Transport::Udp {
            // The nonce went to this address, so what it says of its source is true.
            self.limits.prove(client.remote.ip(), now.mono);
        }
        Ok(identity)
    }

    /// Whether a client that has shown no credentials gets an answer. Over a stream it cannot be somebody else.
    fn may_answer(&mut self, asked: &Asked<'_>, answered: Answered) -> bool {
        let is_stream = asked.client.transport != Transport::Udp;
        let may = is_stream || asked.is_probe || self.limits.allows(asked.client.remote.ip(), answered, asked.now.mono);
        if !may {
            self.counts.drop(Dropped::RateLimited);
        }
        may
    }

    /// The client's allocation, which must be this user's: RFC 8656, section 5.
    fn own_slot(&self, client: Client, identity: &Identity) -> Result<u32, Refusal> {
        let found = self.by_client.get(&client).and_then(|slot| Some((*slot, self.allocation(*slot)?)));
        let Some((slot, allocation)) = found else { return refused(ErrorCode::ALLOCATION_MISMATCH) };
        if *allocation.username != *identity.username || allocation.key.contradicts(&identity.key) {
            return refused(ErrorCode::WRONG_CREDENTIALS);
        }
        Ok(slot)
    }

    fn succeed(&mut self, asked: &Asked<'_>, attributes: &[&dyn AttributeWrite], key: Option<&Key>) {
        let mut reply = Message::builder_success(asked.message, MessageWriteVec::new());
        for attribute in attributes {
            put(&mut reply, *attribute);
        }
        let message = seal(reply, key, asked.has_fingerprint);
        self.queue(Action::Reply { client: asked.client, message });
    }

    /// Without a `key`, or with a challenge, the answer is that of one who has shown no credentials.
    fn refuse(&mut self, asked: &Asked<'_>, refusal: Refusal, key: Option<&Key>) {
        let Refusal { mut code, challenges } = refusal;
        let key = key.filter(|_| !challenges);
        if asked.is_signed && asked.message.method() == ALLOCATE && !asked.is_probe {
            self.counts.end(outcome_of(code));
        }
        let answered = if asked.is_signed { Answered::Failed } else { Answered::Unsigned };
        if key.is_none() && !self.may_answer(asked, answered) {
            return;
        }
        let mut attributes = Vec::new();
        if challenges {
            let Asked { client, message, userhash, has_fingerprint, now, .. } = *asked;
            let taken = BARE_REFUSAL + if has_fingerprint { FINGERPRINT } else { 0 };
            let room = match client.transport {
                Transport::Udp => (MAX_AMPLIFICATION * message.as_bytes().len()).saturating_sub(taken),
                Transport::Tcp | Transport::Tls => usize::MAX,
            };
            match self.gate.challenge(client, userhash, room, now) {
                Some(challenge) => attributes = challenge,
                // Nothing that a client sends is so short: its first Allocate has a transport, the rest a nonce.
                None => code = ErrorCode::BAD_REQUEST,
            }
        }
        let mut reply = Message::builder_error(asked.message, MessageWriteVec::new());
        put_error(&mut reply, code);
        for attribute in &attributes {
            put(&mut reply, attribute.as_ref());
        }
        let message = seal(reply, key, asked.has_fingerprint);
        self.queue(Action::Reply { client: asked.client, message });
    }

    fn refuse_unknown(&mut self, asked: &Asked<'_>, unknown: &[AttributeType], key: Option<&Key>) {
        let mut reply = Message::builder_error(asked.message, MessageWriteVec::new());
        put_error(&mut reply, ErrorCode::UNKNOWN_ATTRIBUTE);
        put(&mut reply, &UnknownAttributes::new(unknown));
        let message = seal(reply, key, asked.has_fingerprint);
        self.queue(Action::Reply { client: asked.client, message });
    }
}

pub(super) const BAD: Refusal = Refusal { code: ErrorCode::BAD_REQUEST, challenges: false };

/// What a refused Allocate counts as.
fn outcome_of(code: u16) -> Outcome {
    match code {
        ErrorCode::UNAUTHORIZED => Outcome::WrongCredentials,
        ErrorCode::ALLOCATION_QUOTA_REACHED => Outcome::OverQuota,
        ErrorCode::INSUFFICIENT_CAPACITY => Outcome::NoCapacity,
        _ => Outcome::Refused,
    }
}

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
