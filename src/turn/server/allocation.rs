//! An allocation and what it holds, and the places of a shard that allocations have.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stun_types::message::TransactionId;

use super::auth::Key;
use super::bandwidth::Meter;
use super::grants::{Channels, Permissions};
use super::settings::Reach;
use super::shared::View;
use super::{Action, Client, RelayId, Server, Transport};
use crate::sys::net::Family;
use crate::turn::counters::Outcome;
use crate::turn::insiders::Route;

/// Both families, in the order of everything that is kept by family.
pub(super) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Whose an allocation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// What the quota counts by.
    User(Arc<str>),
    /// A probe of this process: counts nowhere, and its packets go this way.
    Probe(Route),
}

impl Owner {
    pub(super) fn is_probe(&self) -> bool {
        matches!(self, Self::Probe(_))
    }
}

/// A place for an allocation.
pub(super) enum Slot {
    Free,
    /// Its relay sockets are being opened.
    Opening(Box<Opening>),
    Live(Box<Allocation>),
    /// Nobody waits any more for the relay sockets that are being opened, so many of them.
    Abandoned(u8),
}

/// Where a relay socket of one family stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Not,
    Waiting,
    Open(SocketAddr),
    /// It cannot be had, for the reason that the code says.
    Failed(u16),
}

/// A request that waits for its relay sockets.
pub(super) struct Opening {
    pub(super) client: Client,
    pub(super) username: Box<str>,
    pub(super) owner: Owner,
    pub(super) key: Key,
    pub(super) origin: Origin,
    pub(super) has_fingerprint: bool,
    /// By family.
    pub(super) asked: [Asked; 2],
}

/// The request that made an allocation: enough to answer it again when it comes again. RFC 8489, section 6.3.1.
pub(super) struct Origin {
    pub(super) transaction: TransactionId,
    pub(super) lifetime: Duration,
    /// The token under which the next port is kept.
    pub(super) token: Option<u64>,
    /// The family that was wanted as well and could not be had, and why.
    pub(super) missing: Option<(Family, u16)>,
}

/// A relay socket and its end, which each family may have for itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    pub(super) expires_at: Instant,
}

pub(super) struct Allocation {
    pub(super) client: Client,
    /// The whole name: another one may not use this allocation.
    pub(super) username: Box<str>,
    pub(super) owner: Owner,
    /// Derived from the password, which is not kept. RFC 8656, section 6.
    pub(super) key: Key,
    /// By family, at least one.
    pub(super) relays: [Option<Relay>; 2],
    pub(super) permissions: Permissions,
    pub(super) channels: Channels,
    pub(super) origin: Origin,
    pub(super) meter: Arc<Meter>,
    /// Whether other shards have a view of it.
    pub(super) is_published: bool,
}

impl Allocation {
    /// The relay of a family, unless its time is over.
    pub(super) fn relay(&self, family: Family, now: Instant) -> Option<SocketAddr> {
        let relay = self.relays[family as usize].as_ref()?;
        (relay.expires_at > now).then_some(relay.address)
    }

    pub(super) fn has(&self, family: Family) -> bool {
        self.relays[family as usize].is_some()
    }

    /// The end of what ends first.
    fn expires_at(&self) -> Instant {
        let ends = self.relays.iter().flatten().map(|relay| relay.expires_at);
        ends.min().expect("an allocation has a relay of one family at least")
    }

    /// What other shards need to know.
    fn view(&self, relay: &Relay) -> View {
        let is_ours = |address| self.permissions.iter().any(|own| own.reach == Reach::Relay && own.peer == address);
        let permissions = self.permissions.iter().filter(|permission| permission.reach == Reach::Relay);
        let channels = self.channels.iter().filter(|channel| is_ours(channel.peer.ip()));
        let mut channels: Vec<_> = channels.map(|channel| (channel.peer, channel.number, channel.expires_at)).collect();
        channels.sort_unstable();
        View {
            relay: relay.address,
            client: self.client,
            expires_at: relay.expires_at,
            permissions: permissions.map(|permission| (permission.peer, permission.expires_at)).collect(),
            channels,
            meter: Arc::clone(&self.meter),
        }
    }
}

impl Server {
    /// Finds a place, which the caller fills.
    pub(super) fn take_slot(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Free);
            u32::try_from(self.slots.len() - 1).expect("there are fewer allocations than UDP ports")
        })
    }

    /// Makes `allocation` live in `slot`.
    pub(super) fn insert(&mut self, slot: u32, allocation: Allocation) {
        self.by_client.insert(allocation.client, slot);
        for relay in allocation.relays.iter().flatten() {
            self.by_relay.insert(relay.address, slot);
            self.shared.set_live(relay.address, true);
        }
        self.deadlines.insert((allocation.expires_at(), slot));
        if !allocation.owner.is_probe() {
            self.counts.end(Outcome::Granted);
        }
        self.slots[slot as usize] = Slot::Live(Box::new(allocation));
    }

    /// Deletes whatever is in `slot`, at once and wholly.
    pub(super) fn delete(&mut self, slot: u32, outcome: Outcome) {
        match std::mem::replace(&mut self.slots[slot as usize], Slot::Free) {
            Slot::Free => {}
            Slot::Abandoned(waiting) => self.slots[slot as usize] = Slot::Abandoned(waiting),
            Slot::Opening(opening) => {
                self.by_client.remove(&opening.client);
                self.shared.leave(&opening.owner);
                let mut waiting = 0;
                for (family, asked) in FAMILIES.into_iter().zip(opening.asked) {
                    match asked {
                        Asked::Waiting => waiting += 1,
                        Asked::Open(_) => self.queue(Action::Close { relay: RelayId::new(slot, family) }),
                        Asked::Not | Asked::Failed(_) => {}
                    }
                }
                // The place cannot be given away before its sockets have been answered for.
                self.slots[slot as usize] = Slot::Abandoned(waiting);
            }
            Slot::Live(allocation) => {
                self.deadlines.remove(&(allocation.expires_at(), slot));
                self.by_client.remove(&allocation.client);
                self.shared.leave(&allocation.owner);
                for (family, relay) in FAMILIES.into_iter().zip(&allocation.relays) {
                    if let Some(relay) = relay {
                        self.close(slot, family, relay, allocation.is_published);
                    }
                }
                self.free.push(slot);
                if !allocation.owner.is_probe() {
                    self.counts.end(outcome);
                }
            }
        }
    }

    /// Deletes one family of an allocation that has both, else all of it.
    pub(super) fn delete_family(&mut self, slot: u32, family: Family, outcome: Outcome) {
        let Some(allocation) = self.allocation_mut(slot) else { return };
        if !allocation.relays.iter().all(Option::is_some) {
            self.delete(slot, outcome);
            return;
        }
        let before = allocation.expires_at();
        let Some(relay) = allocation.relays[family as usize].take() else { return };
        let is_other = |is_ipv4: bool| is_ipv4 != (family == Family::V4);
        allocation.permissions.retain(|permission| is_other(permission.peer.is_ipv4()));
        allocation.channels.retain(|channel| is_other(channel.peer.is_ipv4()));
        let (after, is_published) = (allocation.expires_at(), allocation.is_published);
        self.deadlines.remove(&(before, slot));
        self.deadlines.insert((after, slot));
        self.close(slot, family, &relay, is_published);
        self.publish(slot);
    }

    fn close(&mut self, slot: u32, family: Family, relay: &Relay, is_published: bool) {
        self.by_relay.remove(&relay.address);
        self.shared.set_live(relay.address, false);
        if is_published {
            self.shared.set_view(relay.address, None);
        }
        self.queue(Action::Close { relay: RelayId::new(slot, family) });
    }

    /// Gives the allocation in `slot` another end, or one family of it.
    pub(super) fn set_expiry(&mut self, slot: u32, family: Option<Family>, expires_at: Instant) {
        let Some(allocation) = self.allocation_mut(slot) else { return };
        let before = allocation.expires_at();
        for (of, relay) in FAMILIES.into_iter().zip(&mut allocation.relays) {
            if let Some(relay) = relay
                && family.is_none_or(|family| family == of)
            {
                relay.expires_at = expires_at;
            }
        }
        let after = allocation.expires_at();
        self.deadlines.remove(&(before, slot));
        self.deadlines.insert((after, slot));
        self.publish(slot);
    }

    /// Ends what is due at `now` of the allocation in `slot`.
    pub(super) fn expire(&mut self, slot: u32, now: Instant) {
        for family in FAMILIES {
            let relay = self.allocation(slot).and_then(|allocation| allocation.relays[family as usize]);
            if relay.is_some_and(|relay| relay.expires_at <= now) {
                self.delete_family(slot, family, Outcome::Expired);
            }
        }
    }

    /// Shows the other shards what they need to deliver to the allocation in `slot`, once it permits relay addresses
    /// of ours. A client on a stream is none of theirs: it is reached through its socket.
    pub(super) fn publish(&mut self, slot: u32) {
        let Some(Slot::Live(allocation)) = self.slots.get_mut(slot as usize) else { return };
        let permits_relays = allocation.permissions.iter().any(|permission| permission.reach == Reach::Relay);
        let is_wanted =
            permits_relays && allocation.client.transport == Transport::Udp && self.shared.has_other_shards();
        if !is_wanted && !allocation.is_published {
            return;
        }
        allocation.is_published = is_wanted;
        for relay in allocation.relays.iter().flatten() {
            self.shared.set_view(relay.address, is_wanted.then(|| Arc::new(allocation.view(relay))));
        }
    }

    pub(super) fn allocation(&self, slot: u32) -> Option<&Allocation> {
        match self.slots.get(slot as usize)? {
            Slot::Live(allocation) => Some(allocation),
            Slot::Free | Slot::Opening(_) | Slot::Abandoned(_) => None,
        }
    }

    pub(super) fn allocation_mut(&mut self, slot: u32) -> Option<&mut Allocation> {
        match self.slots.get_mut(slot as usize)? {
            Slot::Live(allocation) => Some(allocation),
            Slot::Free | Slot::Opening(_) | Slot::Abandoned(_) => None,
        }
    }
}
