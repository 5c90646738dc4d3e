//! An allocation and what it holds: permissions, channels, deadlines.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use stun_types::message::TransactionId;

use super::auth::Key;
use super::{Action, CHANNEL_LIFETIME, Client, PERMISSION_LIFETIME, RelayId, Server};
use crate::sys::net::Family;

/// A place for an allocation.
pub(super) enum Slot {
    Free,
    /// Its relay socket is being opened.
    Opening(Box<Opening>),
    Live(Box<Allocation>),
}

/// A request that waits for its relay socket.
pub(super) struct Opening {
    pub(super) client: Client,
    pub(super) username: String,
    pub(super) user_id: String,
    pub(super) key: Key,
    pub(super) transaction: TransactionId,
    pub(super) has_fingerprint: bool,
    pub(super) lifetime: std::time::Duration,
    /// IPv6 besides IPv4, which it does not get.
    pub(super) wants_both: bool,
    /// The token under which the next port is kept.
    pub(super) token: Option<u64>,
}

pub(super) struct Allocation {
    pub(super) client: Client,
    /// The whole name: another one may not use this allocation.
    pub(super) username: String,
    /// What the quota counts by.
    pub(super) user_id: String,
    /// Derived from the password, which is not kept. RFC 8656, section 6.
    pub(super) key: Key,
    pub(super) family: Family,
    pub(super) relay: SocketAddr,
    pub(super) expires_at: Instant,
    pub(super) permissions: BTreeMap<IpAddr, Instant>,
    pub(super) channels: BTreeMap<u16, Channel>,
    pub(super) numbers_by_peer: HashMap<SocketAddr, u16>,
    /// The request that made it, and its answer, which is given again when the request is.
    pub(super) transaction: TransactionId,
    pub(super) answer: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Channel {
    pub(super) peer: SocketAddr,
    pub(super) expires_at: Instant,
}

/// Something that ends at its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    Allocation(u32),
    Permission(u32, IpAddr),
    Channel(u32, u16),
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
        self.by_relay.insert(allocation.relay, slot);
        self.shared.set_live(allocation.relay, true);
        self.deadlines.insert((allocation.expires_at, Due::Allocation(slot)));
        self.slots[slot as usize] = Slot::Live(Box::new(allocation));
    }

    /// Deletes whatever is in `slot`, at once and wholly.
    pub(super) fn delete(&mut self, slot: u32) {
        match std::mem::replace(&mut self.slots[slot as usize], Slot::Free) {
            Slot::Free => {}
            Slot::Opening(opening) => {
                self.by_client.remove(&opening.client);
                self.shared.leave(&opening.user_id);
                self.free.push(slot);
            }
            Slot::Live(allocation) => {
                self.by_client.remove(&allocation.client);
                self.by_relay.remove(&allocation.relay);
                self.shared.set_live(allocation.relay, false);
                self.shared.leave(&allocation.user_id);
                self.deadlines.remove(&(allocation.expires_at, Due::Allocation(slot)));
                for (peer, expires_at) in &allocation.permissions {
                    self.deadlines.remove(&(*expires_at, Due::Permission(slot, *peer)));
                }
                for (number, channel) in &allocation.channels {
                    self.deadlines.remove(&(channel.expires_at, Due::Channel(slot, *number)));
                }
                self.free.push(slot);
                self.queue(Action::Close { relay: RelayId::new(slot, allocation.family) });
            }
        }
    }

    /// Gives the allocation in `slot` another end.
    pub(super) fn set_expiry(&mut self, slot: u32, expires_at: Instant) {
        let Some(allocation) = self.allocation_mut(slot) else { return };
        let before = std::mem::replace(&mut allocation.expires_at, expires_at);
        self.deadlines.remove(&(before, Due::Allocation(slot)));
        self.deadlines.insert((expires_at, Due::Allocation(slot)));
    }

    /// Installs a permission, or extends it.
    pub(super) fn permit(&mut self, slot: u32, peer: IpAddr, now: Instant) {
        let expires_at = now + PERMISSION_LIFETIME;
        let Some(allocation) = self.allocation_mut(slot) else { return };
        let before = allocation.permissions.insert(peer, expires_at);
        if let Some(before) = before {
            self.deadlines.remove(&(before, Due::Permission(slot, peer)));
        }
        self.deadlines.insert((expires_at, Due::Permission(slot, peer)));
    }

    /// Binds a channel, or extends it.
    pub(super) fn bind(&mut self, slot: u32, number: u16, peer: SocketAddr, now: Instant) {
        let expires_at = now + CHANNEL_LIFETIME;
        let Some(allocation) = self.allocation_mut(slot) else { return };
        let before = allocation.channels.insert(number, Channel { peer, expires_at });
        allocation.numbers_by_peer.insert(peer, number);
        if let Some(before) = before {
            self.deadlines.remove(&(before.expires_at, Due::Channel(slot, number)));
        }
        self.deadlines.insert((expires_at, Due::Channel(slot, number)));
    }
}
