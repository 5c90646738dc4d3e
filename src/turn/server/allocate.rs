//! Allocate and Refresh: how allocations begin, go on, and end.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use stun_types::AddressFamily;
use stun_types::attribute::{AttributeStaticType as _, ErrorCode, XorMappedAddress};
use stun_types::message::{Message, MessageClass, MessageType, MessageWriteVec};
use turn_types::attribute::{
    AdditionalAddressFamily, AddressErrorCode, EvenPort, Lifetime, RequestedAddressFamily, RequestedTransport,
    ReservationToken, XorRelayedAddress,
};
use turn_types::message::ALLOCATE;

use super::allocation::{Allocation, Opening, Slot};
use super::auth::{Identity, Refusal};
use super::presented::has_fingerprint;
use super::requests::{Answer, BAD, attribute, put, put_error, refused, seal};
use super::{Action, Client, DEFAULT_LIFETIME, MAX_LIFETIME, RelayId, Server, Wanted};
use crate::sys::clock::Now;
use crate::sys::net::Family;

/// UDP's number among the IANA protocol numbers.
const UDP: u8 = 17;

impl Server {
    /// Allocate: RFC 8656, section 7.2. The answer follows when the relay socket is open.
    pub(super) fn allocate(
        &mut self,
        client: Client,
        message: &Message<'_>,
        identity: Identity,
    ) -> Result<(), Refusal> {
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
        if self.is_draining {
            return refused(ErrorCode::INSUFFICIENT_CAPACITY);
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
            has_fingerprint: has_fingerprint(message.as_bytes()),
            lifetime,
            wants_both,
            token: if let Wanted::EvenAndNext(token) = wanted { Some(token) } else { None },
        }));
        self.queue(Action::Open { relay: RelayId::new(slot, family), family, wanted });
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

    /// Refresh: RFC 8656, section 8.2. A lifetime of zero deletes.
    pub(super) fn refresh(&mut self, slot: u32, message: &Message<'_>, now: Now) -> Answer {
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

pub(super) fn family_of(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}
