//! Allocate and Refresh: how allocations begin, go on, and end.

use std::sync::Arc;
use std::time::Duration;

use stun_types::AddressFamily;
use stun_types::attribute::{AttributeStaticType as _, ErrorCode, XorMappedAddress};
use stun_types::message::{Message, MessageClass, MessageType, MessageWriteVec};
use turn_types::attribute::{
    AdditionalAddressFamily, AddressErrorCode, DontFragment, EvenPort, Lifetime, RequestedAddressFamily,
    RequestedTransport, ReservationToken, XorRelayedAddress,
};
use turn_types::message::ALLOCATE;

use super::allocation::{Allocation, Asked, FAMILIES, Opening, Origin, Owner, Relay, Slot};
use super::auth::{Identity, Key, Refusal};
use super::bandwidth::Meter;
use super::grants::{Channels, Permissions};
use super::presented::has_fingerprint;
use super::requests::{Answer, BAD, attribute, put, put_error, refused, seal};
use super::{Action, Client, DEFAULT_LIFETIME, MAX_LIFETIME, RelayId, Server, Wanted};
use crate::sys::clock::Now;
use crate::sys::net::Family;
use crate::turn::counters::Outcome;

/// UDP's number among the IANA protocol numbers.
const UDP: u8 = 17;
/// What a relay socket is refused with when there is none to be had.
pub(super) const NO_CAPACITY: u16 = ErrorCode::INSUFFICIENT_CAPACITY;

/// What an Allocate asks for.
struct Wish {
    /// Whether each family is wanted.
    families: [bool; 2],
    even: Option<bool>,
    token: Option<u64>,
    lifetime: Duration,
}

impl Server {
    /// Allocate: RFC 8656, section 7.2. The answer follows when the relay sockets are open.
    pub(super) fn allocate(
        &mut self,
        client: Client,
        message: &Message<'_>,
        identity: Identity,
    ) -> Result<(), Refusal> {
        if let Some(slot) = self.by_client.get(&client).copied() {
            return self.answer_again(slot, client, message, &identity);
        }
        // Refreshing what one has outlives the credential; getting more does not.
        if identity.is_expired {
            return Err(Refusal { code: ErrorCode::UNAUTHORIZED, challenges: true });
        }
        let wish = self.read_wish(message)?;
        let mut asked = [Asked::Not; 2];
        for (family, is_wanted) in FAMILIES.into_iter().zip(wish.families) {
            let is_there = self.settings.relays.iter().any(|relay| super::family_of(relay.local) == family);
            asked[family as usize] = match (is_wanted, is_there) {
                (false, _) => Asked::Not,
                (true, true) => Asked::Waiting,
                (true, false) => Asked::Failed(ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED),
            };
        }
        if !asked.contains(&Asked::Waiting) {
            return refused(ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED);
        }
        if self.is_draining {
            return refused(NO_CAPACITY);
        }
        let quotas = (self.settings.user_quota, self.settings.total_quota);
        let owner = match identity.probe {
            Some(route) => self.shared.enter_probe().then_some(Owner::Probe(route)),
            None => self.shared.enter(&identity.user_id, quotas.0, quotas.1).map(Owner::User),
        };
        let Some(owner) = owner else { return refused(ErrorCode::ALLOCATION_QUOTA_REACHED) };
        let slot = self.take_slot();
        self.by_client.insert(client, slot);
        let mut kept = None;
        for family in FAMILIES.into_iter().filter(|family| asked[*family as usize] == Asked::Waiting) {
            let wanted = match (wish.token, wish.even) {
                (Some(token), _) => Wanted::Kept(token),
                (None, None) => Wanted::Any,
                (None, Some(false)) => Wanted::Even,
                (None, Some(true)) => Wanted::EvenAndNext(*kept.insert(token_of(family, (self.rng)()))),
            };
            self.queue(Action::Open { relay: RelayId::new(slot, family), family, wanted });
        }
        let origin =
            Origin { transaction: message.transaction_id(), lifetime: wish.lifetime, token: kept, missing: None };
        self.slots[slot as usize] = Slot::Opening(Box::new(Opening {
            client,
            username: identity.username.into(),
            owner,
            key: identity.key,
            origin,
            has_fingerprint: has_fingerprint(message.as_bytes()),
            asked,
        }));
        Ok(())
    }

    /// An Allocate of a client that has an allocation, or soon will: a repetition gets the answer of the first.
    fn answer_again(
        &mut self,
        slot: u32,
        client: Client,
        message: &Message<'_>,
        identity: &Identity,
    ) -> Result<(), Refusal> {
        let transaction = message.transaction_id();
        if let Some(Slot::Opening(opening)) = self.slots.get(slot as usize)
            && opening.origin.transaction == transaction
        {
            // The answer is on its way.
            return Ok(());
        }
        let again = self.allocation(slot).filter(|allocation| {
            allocation.origin.transaction == transaction && *allocation.username == *identity.username
        });
        let Some(allocation) = again else { return refused(ErrorCode::ALLOCATION_MISMATCH) };
        let has_fingerprint = has_fingerprint(message.as_bytes());
        let message = self.granted(client, &allocation.relays, &allocation.origin, &allocation.key, has_fingerprint);
        self.queue(Action::Reply { client, message });
        Ok(())
    }

    fn read_wish(&self, message: &Message<'_>) -> Result<Wish, Refusal> {
        if attribute::<RequestedTransport>(message)?.ok_or(BAD)?.protocol() != UDP {
            return refused(ErrorCode::UNSUPPORTED_TRANSPORT_PROTOCOL);
        }
        // A relay that cannot promise it does not know the attribute, and has said so before.
        attribute::<DontFragment>(message)?;
        let token = attribute::<ReservationToken>(message)?.map(|token| token.token());
        let even = attribute::<EvenPort>(message)?.map(|even| even.requested());
        let family = requested_family(message)?;
        let additional = attribute::<AdditionalAddressFamily>(message)?.map(|additional| additional.family());
        if token.is_some() && (even.is_some() || family.is_some() || additional.is_some()) {
            return Err(BAD);
        }
        if let Some(additional) = additional {
            let clashes = family.is_some() || even == Some(true);
            if additional != AddressFamily::IPV6 || clashes {
                return Err(BAD);
            }
        }
        let family = token.map(family_of_token).or(family).unwrap_or(Family::V4);
        Ok(Wish {
            families: FAMILIES.map(|each| each == family || additional.is_some()),
            even,
            token,
            lifetime: lifetime(message)?.unwrap_or(DEFAULT_LIFETIME).clamp(DEFAULT_LIFETIME, MAX_LIFETIME),
        })
    }

    /// Answers the Allocate in `slot`, whose relay sockets are open, or could not be opened.
    pub(super) fn finish_allocate(&mut self, slot: u32, now: Now) {
        let Slot::Opening(opening) = std::mem::replace(&mut self.slots[slot as usize], Slot::Free) else { return };
        let Opening { client, username, owner, key, mut origin, has_fingerprint, asked } = *opening;
        let expires_at = now.mono + origin.lifetime;
        let mut relays = [None; 2];
        for (family, asked) in FAMILIES.into_iter().zip(asked) {
            match asked {
                Asked::Open(address) => relays[family as usize] = Some(Relay { address, expires_at }),
                Asked::Failed(code) => origin.missing = Some((family, code)),
                Asked::Not | Asked::Waiting => {}
            }
        }
        if relays.iter().all(Option::is_none) {
            let kind = MessageType::from_class_method(MessageClass::Error, ALLOCATE);
            let mut reply = Message::builder(kind, origin.transaction, MessageWriteVec::new());
            put_error(&mut reply, NO_CAPACITY);
            let message = seal(reply, Some(&key), has_fingerprint);
            self.by_client.remove(&client);
            self.shared.leave(&owner);
            self.free.push(slot);
            if !owner.is_probe() {
                self.counts.end(Outcome::NoCapacity);
            }
            self.queue(Action::Reply { client, message });
            return;
        }
        let message = self.granted(client, &relays, &origin, &key, has_fingerprint);
        self.queue(Action::Reply { client, message });
        let allocation = Allocation {
            client,
            username,
            owner,
            key,
            relays,
            permissions: Permissions::new(),
            channels: Channels::new(),
            origin,
            meter: Arc::new(Meter::default()),
            is_published: false,
        };
        self.insert(slot, allocation);
    }

    /// The success that an allocation's first request is answered with, however often it comes.
    fn granted(
        &self,
        client: Client,
        relays: &[Option<Relay>; 2],
        origin: &Origin,
        key: &Key,
        has_fingerprint: bool,
    ) -> Vec<u8> {
        let kind = MessageType::from_class_method(MessageClass::Success, ALLOCATE);
        let mut reply = Message::builder(kind, origin.transaction, MessageWriteVec::new());
        for relay in relays.iter().flatten() {
            put(&mut reply, &XorRelayedAddress::new(self.settings.told(relay.address), origin.transaction));
        }
        put(&mut reply, &XorMappedAddress::new(client.remote, origin.transaction));
        put(&mut reply, &Lifetime::new(seconds(origin.lifetime)));
        if let Some((family, code)) = origin.missing {
            let family = if family == Family::V4 { AddressFamily::IPV4 } else { AddressFamily::IPV6 };
            let code = ErrorCode::new(code, "").expect("codes of ours are within 300 to 699");
            put(&mut reply, &AddressErrorCode::new(family, code));
        }
        if let Some(token) = origin.token {
            put(&mut reply, &ReservationToken::new(token));
        }
        seal(reply, Some(key), has_fingerprint)
    }

    /// Refresh: RFC 8656, section 8.2. A lifetime of zero deletes. With a family it is for that family alone.
    pub(super) fn refresh(&mut self, slot: u32, message: &Message<'_>, now: Now) -> Answer {
        let family = requested_family(message)?;
        let lifetime = lifetime(message)?;
        if let Some(family) = family
            && !self.allocation(slot).is_some_and(|allocation| allocation.has(family))
        {
            return refused(ErrorCode::PEER_ADDRESS_FAMILY_MISMATCH);
        }
        if lifetime == Some(Duration::ZERO) {
            match family {
                Some(family) => self.delete_family(slot, family, Outcome::Released),
                None => self.delete(slot, Outcome::Released),
            }
            return Ok(vec![Box::new(Lifetime::new(0))]);
        }
        let granted = lifetime.unwrap_or(DEFAULT_LIFETIME).clamp(DEFAULT_LIFETIME, MAX_LIFETIME);
        self.set_expiry(slot, family, now.mono + granted);
        Ok(vec![Box::new(Lifetime::new(seconds(granted)))])
    }
}

/// A token that says what family the kept port is of, since its Allocate may not.
fn token_of(family: Family, random: u64) -> u64 {
    random & !1 | family as u64
}

fn family_of_token(token: u64) -> Family {
    if token.is_multiple_of(2) { Family::V4 } else { Family::V6 }
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
