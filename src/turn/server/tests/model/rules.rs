//! The rules of the relay, once more and as plainly as can be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::super::super::sim::{RELAY_V4, RELAY_V6, addr};
use super::super::super::{CHANNEL_LIFETIME, PERMISSION_LIFETIME};
use super::{PLACES, TOTAL_QUOTA, USER_QUOTA};

#[derive(Debug, Clone, Default)]
pub(super) struct Allocation {
    pub(super) transaction: u32,
    /// By family, is it IPv4: where it is, and its end.
    pub(super) relays: BTreeMap<bool, (SocketAddr, Duration)>,
    pub(super) permissions: BTreeMap<IpAddr, Duration>,
    pub(super) channels: BTreeMap<u16, (SocketAddr, Duration)>,
}

/// What is at an address, by the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Peer,
    Relay,
    Nobody,
    Denied,
}

/// Where data go: to a peer from a relay address, or to a client by a channel or as an indication from an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goes {
    ToPeer { from: SocketAddr, peer: SocketAddr },
    ToClient { who: usize, channel: Option<u16>, from: SocketAddr },
}

#[derive(Debug, Default)]
pub(super) struct Model {
    /// Since the beginning.
    pub(super) now: Duration,
    pub(super) mode: usize,
    pub(super) is_draining: bool,
    pub(super) allocations: BTreeMap<usize, Allocation>,
}

impl Model {
    fn at(&self, address: IpAddr) -> At {
        let text = address.to_string();
        let is_private = text.starts_with("10.") || text.starts_with("fd00:");
        match (text.as_str(), self.mode) {
            (RELAY_V4 | RELAY_V6, _) => At::Relay,
            ("192.0.2.1", _) => At::Nobody,
            (_, 1) => At::Peer,
            (_, 0) if !is_private => At::Peer,
            _ => At::Denied,
        }
    }

    /// Forgets what is over.
    pub(super) fn prune(&mut self) {
        let now = self.now;
        for allocation in self.allocations.values_mut() {
            allocation.relays.retain(|_, (_, end)| *end > now);
            let has = |address: &IpAddr| allocation.relays.contains_key(&address.is_ipv4());
            allocation.permissions.retain(|peer, end| *end > now && has(peer));
            allocation.channels.retain(|_, (peer, end)| *end > now && has(&peer.ip()));
        }
        self.allocations.retain(|_, allocation| !allocation.relays.is_empty());
    }

    pub(super) fn ends(&self) -> Vec<Duration> {
        let mut ends = BTreeSet::new();
        for allocation in self.allocations.values() {
            ends.extend(allocation.relays.values().map(|(_, end)| *end));
            ends.extend(allocation.permissions.values());
            ends.extend(allocation.channels.values().map(|(_, end)| *end));
        }
        ends.into_iter().filter(|end| *end > self.now).collect()
    }

    /// `Ok` with whether it is the first answer, whose relay addresses are not known beforehand.
    pub(super) fn allocate(&self, who: usize, transaction: u32) -> Result<bool, u16> {
        if let Some(allocation) = self.allocations.get(&who) {
            return if allocation.transaction == transaction { Ok(false) } else { Err(437) };
        }
        // An hour, and a minute more.
        if self.now.as_secs() >= 3660 {
            return Err(401);
        }
        if self.is_draining {
            return Err(508);
        }
        let of_user = |user: usize| self.allocations.keys().filter(|other| *other % 2 == user % 2).count();
        if of_user(who) >= USER_QUOTA as usize || self.allocations.len() >= TOTAL_QUOTA as usize {
            return Err(486);
        }
        Ok(true)
    }

    pub(super) fn refresh(&mut self, who: usize, family: Option<bool>, lifetime: Option<u32>) -> Result<u32, u16> {
        let now = self.now;
        let allocation = self.allocations.get_mut(&who).ok_or(437_u16)?;
        if family.is_some_and(|family| !allocation.relays.contains_key(&family)) {
            return Err(443);
        }
        let granted = granted(lifetime);
        let lifetime = if lifetime == Some(0) { 0 } else { granted };
        for (of, (_, end)) in &mut allocation.relays {
            if family.is_none_or(|family| family == *of) {
                *end = now + Duration::from_secs(lifetime.into());
            }
        }
        self.prune();
        Ok(lifetime)
    }

    fn may(&self, who: usize, peer: IpAddr) -> Result<(), u16> {
        let allocation = self.allocations.get(&who).ok_or(437_u16)?;
        if !allocation.relays.contains_key(&peer.is_ipv4()) {
            return Err(443);
        }
        if self.at(peer) == At::Denied { Err(403) } else { Ok(()) }
    }

    pub(super) fn permit(&mut self, who: usize, peers: &[SocketAddr]) -> Result<(), u16> {
        let peers: BTreeSet<IpAddr> = peers.iter().map(SocketAddr::ip).collect();
        peers.iter().try_for_each(|peer| self.may(who, *peer))?;
        let end = self.now + PERMISSION_LIFETIME;
        let allocation = self.allocations.get_mut(&who).ok_or(437_u16)?;
        allocation.permissions.extend(peers.into_iter().map(|peer| (peer, end)));
        Ok(())
    }

    pub(super) fn bind(&mut self, who: usize, number: u16, peer: SocketAddr) -> Result<(), u16> {
        let allocation = self.allocations.get(&who).ok_or(437_u16)?;
        if number < 0x4000 {
            return Err(400);
        }
        self.may(who, peer.ip())?;
        if self.at(peer.ip()) == At::Peer && peer.port() < 1024 {
            return Err(403);
        }
        if allocation.channels.iter().any(|(bound, (to, _))| (*bound == number) != (*to == peer)) {
            return Err(400);
        }
        self.permit(who, &[peer])?;
        let end = self.now + CHANNEL_LIFETIME;
        self.allocations.get_mut(&who).ok_or(437_u16)?.channels.insert(number, (peer, end));
        Ok(())
    }

    /// From a client to a peer, which may be another client.
    pub(super) fn send(&self, who: usize, peer: SocketAddr) -> Option<Goes> {
        let allocation = self.allocations.get(&who)?;
        let (from, _) = allocation.relays.get(&peer.is_ipv4())?;
        allocation.permissions.get(&peer.ip())?;
        match self.at(peer.ip()) {
            At::Peer => (peer.port() >= 1024).then_some(Goes::ToPeer { from: *from, peer }),
            At::Relay => {
                let has = |other: &Allocation| other.relays.values().any(|(relay, _)| *relay == peer);
                let (other, _) = self.allocations.iter().find(|(_, other)| has(other))?;
                self.arrive(*other, *from)
            }
            At::Nobody | At::Denied => None,
        }
    }

    pub(super) fn channel_data(&self, who: usize, number: u16) -> Option<Goes> {
        let (peer, _) = self.allocations.get(&who)?.channels.get(&number)?;
        self.send(who, *peer)
    }

    /// From a peer, or from another client, to a client.
    pub(super) fn arrive(&self, who: usize, from: SocketAddr) -> Option<Goes> {
        let allocation = self.allocations.get(&who)?;
        allocation.relays.get(&from.is_ipv4())?;
        allocation.permissions.get(&from.ip())?;
        let is_open = match self.at(from.ip()) {
            At::Peer => from.port() >= 1024,
            At::Relay => true,
            At::Nobody | At::Denied => false,
        };
        let channel = allocation.channels.iter().find(|(_, (peer, _))| *peer == from).map(|(number, _)| *number);
        is_open.then_some(Goes::ToClient { who, channel, from })
    }

    pub(super) fn change(&mut self, mode: usize) {
        self.mode = mode;
        let denied: BTreeSet<IpAddr> = PLACES.map(|place| addr(place).ip()).into_iter().collect();
        let denied: BTreeSet<IpAddr> = denied.into_iter().filter(|address| self.at(*address) == At::Denied).collect();
        for allocation in self.allocations.values_mut() {
            allocation.permissions.retain(|peer, _| !denied.contains(peer));
            allocation.channels.retain(|_, (peer, _)| !denied.contains(&peer.ip()));
        }
    }
}

pub(super) fn granted(lifetime: Option<u32>) -> u32 {
    lifetime.unwrap_or(600).clamp(600, 3600)
}
