//! What each request leads to: Binding, Allocate, Refresh, CreatePermission, ChannelBind.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use stun_types::AddressFamily;
use stun_types::attribute::{
    Attribute as _, AttributeFromRaw, AttributeStaticType, AttributeType, AttributeWrite, ErrorCode, Fingerprint,
    MessageIntegrity, MessageIntegritySha256, Nonce, PasswordAlgorithm, PasswordAlgorithms, Realm, UnknownAttributes,
    Userhash, Username, XorMappedAddress,
};
use stun_types::message::{
    BINDING, Message, MessageClass, MessageType, MessageWrite as _, MessageWriteExt as _, MessageWriteVec,
};
use turn_types::attribute::{
    AdditionalAddressFamily, AddressErrorCode, ChannelNumber, EvenPort, Lifetime, RequestedAddressFamily,
    RequestedTransport, ReservationToken, XorPeerAddress, XorRelayedAddress,
};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH};

use super::allocation::{Allocation, Opening, Slot};
use super::auth::{Identity, Key, Refusal};
use super::{
    Action, Client, DEFAULT_LIFETIME, MAX_CHANNELS, MAX_LIFETIME, MAX_PERMISSIONS, RelayId, Server, Wanted, wire,
};
use crate::sys::clock::Now;
use crate::sys::net::Family;
use crate::turn::peers::PeerPolicy;

/// UDP's number among the IANA protocol numbers.
const UDP: u8 = 17;
/// How many times longer than its request a challenge may be; a reflector gains nothing by so little.
const MAX_AMPLIFICATION: usize = 3;
/// Channel numbers a client may bind: those of RFC 5766, section 11.
///
/// RFC 8656, section 12, keeps 0x5000 and above for protocols that share a port with TURN, of which there are none on
/// ours. Clients of the older RFC, coturn's test client among them, draw from the whole range and give up when refused.
const CHANNEL_NUMBERS: std::ops::RangeInclusive<u16> = 0x4000..=0x7fff;

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

/// What a request is answered with: attributes of a success, or a refusal.
type Answer = Result<Vec<Box<dyn AttributeWrite>>, Refusal>;

fn refused<T>(code: u16) -> Result<T, Refusal> {
    Err(Refusal { code, challenges: false })
}

impl Server {
    pub(super) fn handle_request(&mut self, client: Client, message: &Message<'_>, now: Now) {
        let method = message.method();
        let known: &[AttributeType] = match method {
            BINDING => &[],
            ALLOCATE => &[
                RequestedTransport::TYPE,
                Lifetime::TYPE,
                RequestedAddressFamily::TYPE,
                EvenPort::TYPE,
                ReservationToken::TYPE,
            ],
            REFRESH => &[Lifetime::TYPE, RequestedAddressFamily::TYPE],
            CREATE_PERMISSION => &[XorPeerAddress::TYPE],
            CHANNEL_BIND => &[ChannelNumber::TYPE, XorPeerAddress::TYPE],
            // Silence: an answer to what nobody should ask is a gift to reflectors.
            _ => return,
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

    /// Allocate: RFC 8656, section 7.2. The answer follows when the relay socket is open.
    fn allocate(&mut self, client: Client, message: &Message<'_>, identity: Identity) -> Result<(), Refusal> {
        // Refreshing what one has outlives the credential; getting more does not.
        if identity.is_expired {
            return Err(Refusal { code: ErrorCode::UNAUTHORIZED, challenges: true });
        }
        if let Some(slot) = self.by_client.get(&client).copied() {
            if let Some(Slot::Opening(opening)) = self.slots.get(slot as usize)
                && opening.transaction == message.transaction_id()
            {
                // The answer is on its way.
                return Ok(());
            }
            let again = self.allocation(slot).filter(|allocation| {
                allocation.transaction == message.transaction_id() && allocation.username == identity.username
            });
            let Some(allocation) = again else { return refused(ErrorCode::ALLOCATION_MISMATCH) };
            let message = allocation.answer.clone();
            self.queue(Action::Reply { client, message });
            return Ok(());
        }
        if attribute::<RequestedTransport>(message)?.ok_or(BAD)?.protocol() != UDP {
            return refused(ErrorCode::UNSUPPORTED_TRANSPORT_PROTOCOL);
        }
        let token = attribute::<ReservationToken>(message)?.map(|token| token.token());
        let even = attribute::<EvenPort>(message)?.map(|even| even.requested());
        let family = requested_family(message)?;
        if token.is_some() && (even.is_some() || family.is_some()) {
            return Err(BAD);
        }
        let wants_both = message.has_attribute(AdditionalAddressFamily::TYPE);
        if wants_both {
            let additional = attribute::<AdditionalAddressFamily>(message)?.ok_or(BAD)?.family();
            let clashes = family.is_some() || token.is_some() || even == Some(true);
            if additional != AddressFamily::IPV6 || clashes {
                return Err(BAD);
            }
        }
        let family = family.unwrap_or(Family::V4);
        if !self.settings.relays.iter().any(|relay| family_of(relay.local) == family) {
            return refused(ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED);
        }
        let lifetime = lifetime(message)?.unwrap_or(DEFAULT_LIFETIME).clamp(DEFAULT_LIFETIME, MAX_LIFETIME);
        let quotas = (self.settings.user_quota, self.settings.total_quota);
        if !self.shared.enter(&identity.user_id, quotas.0, quotas.1) {
            return refused(ErrorCode::ALLOCATION_QUOTA_REACHED);
        }
        let wanted = match (token, even) {
            (Some(token), _) => Wanted::Kept(token),
            (None, None) => Wanted::Any,
            (None, Some(false)) => Wanted::Even,
            (None, Some(true)) => Wanted::EvenAndNext((self.rng)()),
        };
        let slot = self.take_slot();
        self.by_client.insert(client, slot);
        self.slots[slot as usize] = Slot::Opening(Box::new(Opening {
            client,
            username: identity.username,
            user_id: identity.user_id,
            key: identity.key,
            transaction: message.transaction_id(),
            has_fingerprint: message.has_attribute(Fingerprint::TYPE),
            lifetime,
            wants_both,
            token: if let Wanted::EvenAndNext(token) = wanted { Some(token) } else { None },
        }));
        self.queue(Action::Open { relay: RelayId(slot), family, wanted });
        Ok(())
    }

    /// Answers an Allocate whose relay socket is open, or could not be opened.
    pub(super) fn finish_allocate(&mut self, slot: u32, opening: Opening, relay: Option<SocketAddr>, now: Now) {
        let Opening { client, transaction, has_fingerprint, key, .. } = &opening;
        let kind = |class| MessageType::from_class_method(class, ALLOCATE);
        let Some(relay) = relay else {
            let mut reply = Message::builder(kind(MessageClass::Error), *transaction, MessageWriteVec::new());
            put_error(&mut reply, ErrorCode::INSUFFICIENT_CAPACITY);
            let message = seal(reply, Some(key), *has_fingerprint);
            self.by_client.remove(client);
            self.shared.leave(&opening.user_id);
            self.free.push(slot);
            self.queue(Action::Reply { client: *client, message });
            return;
        };
        let mut reply = Message::builder(kind(MessageClass::Success), *transaction, MessageWriteVec::new());
        put(&mut reply, &XorRelayedAddress::new(self.told(relay), *transaction));
        put(&mut reply, &XorMappedAddress::new(client.remote, *transaction));
        put(&mut reply, &Lifetime::new(seconds(opening.lifetime)));
        if opening.wants_both {
            // One allocation has one relay address here; a client that wants the other makes another allocation.
            let code = ErrorCode::new(ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED, "");
            let code = code.expect("codes of ours are within 300 to 699");
            put(&mut reply, &AddressErrorCode::new(AddressFamily::IPV6, code));
        }
        if let Some(token) = opening.token {
            put(&mut reply, &ReservationToken::new(token));
        }
        let answer = seal(reply, Some(key), *has_fingerprint);
        self.queue(Action::Reply { client: *client, message: answer.clone() });
        self.insert(
            slot,
            Allocation {
                client: *client,
                username: opening.username,
                user_id: opening.user_id,
                key: opening.key,
                family: family_of(relay.ip()),
                relay,
                expires_at: now.mono + opening.lifetime,
                permissions: BTreeMap::new(),
                channels: BTreeMap::new(),
                numbers_by_peer: HashMap::new(),
                transaction: opening.transaction,
                answer,
            },
        );
    }

    /// The client's allocation, which must be this user's: RFC 8656, section 5.
    fn own_slot(&self, client: Client, identity: &Identity) -> Result<u32, Refusal> {
        let found = self.by_client.get(&client).and_then(|slot| Some((*slot, self.allocation(*slot)?)));
        let Some((slot, allocation)) = found else { return refused(ErrorCode::ALLOCATION_MISMATCH) };
        if allocation.username != identity.username || allocation.key != identity.key {
            return refused(ErrorCode::WRONG_CREDENTIALS);
        }
        Ok(slot)
    }

    /// Refresh: RFC 8656, section 8.2. A lifetime of zero deletes.
    fn refresh(&mut self, slot: u32, message: &Message<'_>, now: Now) -> Answer {
        let family = requested_family(message)?;
        let lifetime = lifetime(message)?;
        let own_family = self.allocation(slot).map(|allocation| allocation.family);
        if family.is_some() && family != own_family {
            return refused(ErrorCode::PEER_ADDRESS_FAMILY_MISMATCH);
        }
        if lifetime == Some(Duration::ZERO) {
            self.delete(slot);
            return Ok(vec![Box::new(Lifetime::new(0))]);
        }
        let granted = lifetime.unwrap_or(DEFAULT_LIFETIME).clamp(DEFAULT_LIFETIME, MAX_LIFETIME);
        self.set_expiry(slot, now.mono + granted);
        Ok(vec![Box::new(Lifetime::new(seconds(granted)))])
    }

    /// CreatePermission: RFC 8656, section 10.2. All of the peers, or none.
    fn create_permission(&mut self, slot: u32, message: &Message<'_>, now: Now) -> Answer {
        let mut peers = Vec::new();
        for (_, raw) in message.iter_attributes() {
            if raw.get_type() != XorPeerAddress::TYPE {
                continue;
            }
            let address = XorPeerAddress::from_raw_ref(&raw).map_err(|_| BAD)?;
            let peer = self.heard(address.addr(message.transaction_id())).ip();
            self.check_peer(slot, peer)?;
            if !peers.contains(&peer) {
                peers.push(peer);
            }
        }
        if peers.is_empty() {
            return Err(BAD);
        }
        self.check_room(slot, &peers)?;
        for peer in peers {
            self.permit(slot, peer, now.mono);
        }
        Ok(Vec::new())
    }

    /// ChannelBind: RFC 8656, section 12.2.
    fn channel_bind(&mut self, slot: u32, message: &Message<'_>, now: Now) -> Answer {
        let number = attribute::<ChannelNumber>(message)?.ok_or(BAD)?.channel();
        let peer = attribute::<XorPeerAddress>(message)?.ok_or(BAD)?.addr(message.transaction_id());
        let peer = self.heard(peer);
        if !CHANNEL_NUMBERS.contains(&number) || peer.port() == 0 {
            return Err(BAD);
        }
        self.check_peer(slot, peer.ip())?;
        if !self.is_own_address(peer.ip()) && !PeerPolicy::allows_port(peer.port()) {
            return refused(ErrorCode::FORBIDDEN);
        }
        let Some(allocation) = self.allocation(slot) else { return refused(ErrorCode::ALLOCATION_MISMATCH) };
        let bound_peer = allocation.channels.get(&number).map(|channel| channel.peer);
        let bound_number = allocation.numbers_by_peer.get(&peer).copied();
        if bound_peer.is_some_and(|bound| bound != peer) || bound_number.is_some_and(|bound| bound != number) {
            return Err(BAD);
        }
        if bound_peer.is_none() && allocation.channels.len() >= MAX_CHANNELS {
            return refused(ErrorCode::INSUFFICIENT_CAPACITY);
        }
        self.check_room(slot, &[peer.ip()])?;
        self.bind(slot, number, peer, now.mono);
        self.permit(slot, peer.ip(), now.mono);
        Ok(Vec::new())
    }

    /// Whether the allocation may talk to `peer` at all.
    fn check_peer(&self, slot: u32, peer: IpAddr) -> Result<(), Refusal> {
        let family = self.allocation(slot).map(|allocation| allocation.family);
        if family != Some(family_of(peer)) {
            return refused(ErrorCode::PEER_ADDRESS_FAMILY_MISMATCH);
        }
        if self.is_own_address(peer) || self.settings.policy.allows(peer) {
            return Ok(());
        }
        refused(ErrorCode::FORBIDDEN)
    }

    fn check_room(&self, slot: u32, peers: &[IpAddr]) -> Result<(), Refusal> {
        let Some(allocation) = self.allocation(slot) else { return refused(ErrorCode::ALLOCATION_MISMATCH) };
        let new = peers.iter().filter(|peer| !allocation.permissions.contains_key(*peer)).count();
        if allocation.permissions.len() + new > MAX_PERMISSIONS {
            return refused(ErrorCode::INSUFFICIENT_CAPACITY);
        }
        Ok(())
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

const BAD: Refusal = Refusal { code: ErrorCode::BAD_REQUEST, challenges: false };

/// The first attribute of a kind, if there is one; malformed ones are bad requests.
fn attribute<'a, A: AttributeFromRaw<'a> + AttributeStaticType>(
    message: &'a Message<'a>,
) -> Result<Option<A>, Refusal> {
    if message.has_attribute(A::TYPE) { message.attribute::<A>().map(Some).map_err(|_| BAD) } else { Ok(None) }
}

fn requested_family(message: &Message<'_>) -> Result<Option<Family>, Refusal> {
    if !message.has_attribute(RequestedAddressFamily::TYPE) {
        return Ok(None);
    }
    // A family that is none is not supported, rather than malformed.
    let family = message
        .attribute::<RequestedAddressFamily>()
        .map_err(|_| Refusal { code: ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED, challenges: false })?;
    Ok(Some(match family.family() {
        AddressFamily::IPV4 => Family::V4,
        AddressFamily::IPV6 => Family::V6,
    }))
}

fn lifetime(message: &Message<'_>) -> Result<Option<Duration>, Refusal> {
    Ok(attribute::<Lifetime>(message)?.map(|lifetime| Duration::from_secs(lifetime.seconds().into())))
}

fn seconds(span: Duration) -> u32 {
    u32::try_from(span.as_secs()).unwrap_or(u32::MAX)
}

fn family_of(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

fn put(reply: &mut MessageWriteVec, attribute: &dyn AttributeWrite) {
    reply.add_attribute(attribute).expect("each attribute is added once, before the integrity");
}

/// An error code without words: they would only make the answer longer.
fn put_error(reply: &mut MessageWriteVec, code: u16) {
    put(reply, &ErrorCode::new(code, "").expect("codes of ours are within 300 to 699"));
}

fn seal(mut reply: MessageWriteVec, key: Option<&Key>, has_fingerprint: bool) -> Vec<u8> {
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
