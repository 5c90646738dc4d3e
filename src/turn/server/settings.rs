//! What a shard works by, and how it changes while allocations live.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use super::Server;
use super::allocation::Slot;
use crate::config::Secret;
use crate::sys::clock::Now;
use crate::turn::peers::PeerPolicy;

/// An address that relay sockets are bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayAddress {
    pub local: IpAddr,
    /// What clients are told: another one on a host behind 1:1 NAT.
    pub told: IpAddr,
}

/// What a shard works by; [`Server::set_settings`] changes it.
#[derive(Clone)]
pub struct Settings {
    pub realm: String,
    /// All of them verify, those behind the first until `old_secrets_until`.
    pub secrets: Vec<Secret>,
    pub old_secrets_until: Option<SystemTime>,
    /// Users with a password of their own, by name.
    pub users: BTreeMap<String, Secret>,
    pub policy: PeerPolicy,
    /// At most one of each family.
    pub relays: Vec<RelayAddress>,
    /// Where clients come to, wildcards included.
    pub listeners: Vec<SocketAddr>,
    /// Allocations of one user id at a time.
    pub user_quota: u32,
    /// Allocations in all.
    pub total_quota: u32,
    /// Payload bytes a second of one allocation, both directions together.
    pub allocation_bandwidth: Option<u64>,
    /// Payload bytes a second of all allocations of all shards together.
    pub total_bandwidth: Option<u64>,
    /// Whether relay sockets can send what must not be fragmented.
    pub dont_fragment: bool,
    /// Authenticates nonces; the same for all shards of a process.
    pub nonce_key: [u8; 32],
    /// Makes and knows the names of this process's own probes; as random, and as common to all shards.
    pub probe_key: Secret,
}

/// What an allocation finds at an address that it may have a permission for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Somebody on the network.
    Peer,
    /// Relay sockets of ours: only those of live allocations.
    Relay,
    /// An address of ours without relay sockets: nobody.
    Nobody,
}

impl Settings {
    /// What is at `address`, in our own terms; `None`: it is denied. Every permission is by this.
    pub(super) fn reach(&self, address: IpAddr) -> Option<Reach> {
        if self.is_relay(address) {
            Some(Reach::Relay)
        } else if self.is_listener(address) {
            Some(Reach::Nobody)
        } else {
            self.policy.allows(address).then_some(Reach::Peer)
        }
    }

    pub(super) fn is_relay(&self, address: IpAddr) -> bool {
        self.relays.iter().any(|relay| relay.local == address)
    }

    /// An address as others say it, in our own terms.
    pub(super) fn heard(&self, address: SocketAddr) -> SocketAddr {
        let relay = self.relays.iter().find(|relay| relay.told == address.ip());
        relay.map_or(address, |relay| SocketAddr::new(relay.local, address.port()))
    }

    /// One of our own addresses as others know it.
    pub(super) fn told(&self, address: SocketAddr) -> SocketAddr {
        let relay = self.relays.iter().find(|relay| relay.local == address.ip());
        relay.map_or(address, |relay| SocketAddr::new(relay.told, address.port()))
    }

    /// Whether a datagram that came to `local` was sent by one of our own listeners.
    pub(super) fn is_listening_at(&self, source: SocketAddr, local: IpAddr) -> bool {
        self.listeners.iter().any(|listener| {
            let is_there = listener.ip() == source.ip() || (listener.ip().is_unspecified() && source.ip() == local);
            is_there && listener.port() == source.port()
        })
    }

    fn is_listener(&self, address: IpAddr) -> bool {
        self.listeners.iter().any(|listener| listener.ip() == address && !address.is_unspecified())
    }
}

impl Server {
    /// Works by other settings from now on.
    ///
    /// Permissions and channels for peers that are denied now end at once. An allocation stays its user's, even if the
    /// credential that made it is no longer good for another.
    pub fn set_settings(&mut self, settings: Arc<Settings>, now: Now) {
        self.gate.set_settings(&settings, now);
        self.settings = settings;
        for slot in 0..u32::try_from(self.slots.len()).expect("slots are numbered by `u32`") {
            if let Slot::Live(allocation) = &mut self.slots[slot as usize] {
                let settings = &self.settings;
                allocation.permissions.retain(|permission| {
                    let reach = settings.reach(permission.peer);
                    permission.reach = reach.unwrap_or(Reach::Nobody);
                    reach.is_some()
                });
                allocation.channels.retain(|channel| settings.reach(channel.peer.ip()).is_some());
                self.publish(slot);
            }
        }
    }
}
