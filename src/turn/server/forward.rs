//! The packet path: from a client to a peer, from a peer to a client, and from one allocation to another.
//!
//! No lock, no heap allocation; what is not relayed is counted with its reason.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

use stun_types::message::{MessageClass, MessageType, MessageWrite as _, MessageWriteVec};
use turn_types::attribute::{Icmp, XorPeerAddress};
use turn_types::message::DATA;

use super::allocation::{Allocation, Owner};
use super::settings::Reach;
use super::{Action, Client, Forward, Frame, IcmpError, RelayId, Server, Slot, Transport, family_of, put, wire};
use crate::sys::net::Family;
use crate::turn::counters::Dropped;
use crate::turn::insiders::Route;
use crate::turn::peers::PeerPolicy;

/// ICMP types that a client is told of: RFC 8656, section 11.5.
const TOLD_V4: &[u8] = &[3, 11];
const TOLD_V6: &[u8] = &[1, 2, 3];

/// Bytes that an indication of an ICMP message counts as: about what it has.
const ICMP_INDICATION: usize = 64;

impl Server {
    /// ChannelData of a client: RFC 8656, section 12.6.
    pub(super) fn relay_channel_data(
        &mut self,
        client: &Client,
        bytes: &[u8],
        now: Instant,
    ) -> Result<Forward, Dropped> {
        let (number, payload) = wire::channel_data(bytes).ok_or(Dropped::Malformed)?;
        let slot = self.slot_of(client).ok_or(Dropped::NoAllocation)?;
        let allocation = live(&self.slots, slot)?;
        let channel = allocation.channels.find(number, now).ok_or(Dropped::NoChannel)?;
        self.relay_to_peer(slot, channel.peer, payload, false, now)
    }

    /// A Send indication: RFC 8656, section 11.2. Whatever is wrong with it, it is discarded without a word.
    pub(super) fn relay_send(&mut self, client: &Client, send: wire::Send, now: Instant) -> Result<Forward, Dropped> {
        let slot = self.slot_of(client).ok_or(Dropped::NoAllocation)?;
        if send.dont_fragment && !self.settings.dont_fragment {
            return Err(Dropped::Malformed);
        }
        // Only from IPv4 to IPv4 does it mean something. RFC 8656, section 13.
        let is_v4 = client.remote.ip().to_canonical().is_ipv4() && send.peer.is_ipv4();
        let dont_fragment = send.dont_fragment && is_v4;
        self.relay_to_peer(slot, self.settings.heard(send.peer), send.payload, dont_fragment, now)
    }

    /// From the allocation in `slot` to `peer`, in our own terms.
    fn relay_to_peer(
        &mut self,
        slot: u32,
        peer: SocketAddr,
        payload: Range<usize>,
        dont_fragment: bool,
        now: Instant,
    ) -> Result<Forward, Dropped> {
        let allocation = live(&self.slots, slot)?;
        let reach = self.admit(allocation, peer, now)?;
        let family = family_of(peer.ip());
        let from = allocation.relay(family, now).ok_or(Dropped::NoAllocation)?;
        self.charge(allocation, payload.len(), now)?;
        let owner = &allocation.owner;
        let is_counted = !owner.is_probe();
        if reach == Reach::Relay && *owner != Owner::Probe(Route::ByKernel) {
            if let Some(other) = self.by_relay.get(&peer) {
                return self.relay_to_client(RelayId::new(*other, family), from, payload, now);
            }
            // A stream shard has no socket that a client of another shard would hear.
            if allocation.client.transport == Transport::Udp
                && let Some(view) = self.shared.view(peer)
                && let Some(view) = view.as_ref()
            {
                if !view.permits(from.ip(), now) {
                    return Err(Dropped::NoPermission);
                }
                let is_within = |rate| view.meter.admits(payload.len(), rate, self.since_began(now));
                if !self.settings.allocation_bandwidth.is_none_or(is_within) {
                    return Err(Dropped::Bandwidth);
                }
                let (client, number) = (view.client, view.channel_to(from, now));
                return self.deliver(client, number, from, payload, is_counted, now);
            }
        } else if reach == Reach::Peer && is_counted {
            self.charge_all(payload.len(), now)?;
            self.counts.relay(payload.len());
        }
        // What another shard hears through the kernel is counted there.
        Ok(Forward::ToPeer { relay: RelayId::new(slot, family), peer, payload, dont_fragment })
    }

    /// From `peer`, in our own terms, to the client that has `relay`.
    pub(super) fn relay_to_client(
        &mut self,
        relay: RelayId,
        peer: SocketAddr,
        payload: Range<usize>,
        now: Instant,
    ) -> Result<Forward, Dropped> {
        let allocation = live(&self.slots, relay.slot())?;
        allocation.relay(relay.family(), now).ok_or(Dropped::NoAllocation)?;
        self.admit(allocation, peer, now)?;
        self.charge(allocation, payload.len(), now)?;
        let number = allocation.channels.to(peer, now).map(|channel| channel.number);
        self.deliver(allocation.client, number, peer, payload, !allocation.owner.is_probe(), now)
    }

    /// What the network said of a datagram to `peer`: RFC 8656, section 11.5. It comes as an indication even if there
    /// is a channel.
    pub(super) fn relay_icmp(
        &mut self,
        relay: RelayId,
        peer: SocketAddr,
        error: IcmpError,
        now: Instant,
    ) -> Result<(), Dropped> {
        let told = if error.family == Family::V4 { TOLD_V4 } else { TOLD_V6 };
        if !told.contains(&error.kind) || error.family != relay.family() {
            return Err(Dropped::Malformed);
        }
        let allocation = live(&self.slots, relay.slot())?;
        allocation.relay(relay.family(), now).ok_or(Dropped::NoAllocation)?;
        self.admit(allocation, peer, now)?;
        // A peer that answers each datagram so must not cost more than one that answers by data.
        self.charge(allocation, ICMP_INDICATION, now)?;
        if !allocation.owner.is_probe() {
            self.charge_all(ICMP_INDICATION, now)?;
        }
        let client = allocation.client;
        // Only what is too big has a number with it, the MTU. RFC 8656, section 18.13.
        let is_too_big = matches!((error.family, error.kind, error.code), (Family::V4, 3, 4) | (Family::V6, 2, _));
        let data = if is_too_big { error.data } else { 0 };
        let kind = MessageType::from_class_method(MessageClass::Indication, DATA);
        let id = u128::from(self.next_indication()).into();
        let mut message = stun_types::message::Message::builder(kind, id, MessageWriteVec::new());
        put(&mut message, &XorPeerAddress::new(self.settings.told(peer), id));
        put(&mut message, &Icmp::new(error.kind, error.code, data));
        let message = message.finish();
        self.queue(Action::Reply { client, message });
        Ok(())
    }

    /// Whether the allocation may exchange data with `peer` now, and what is there.
    ///
    /// The one place that decides on data in every direction; permissions come about by [`Settings::reach`] alone and
    /// are looked through whenever the settings change.
    ///
    /// [`Settings::reach`]: super::Settings::reach
    fn admit(&self, allocation: &Allocation, peer: SocketAddr, now: Instant) -> Result<Reach, Dropped> {
        let Some(permission) = allocation.permissions.find(peer.ip(), now) else {
            let is_allowed = self.settings.reach(peer.ip()).is_some();
            return Err(if is_allowed { Dropped::NoPermission } else { Dropped::DeniedPeer });
        };
        let is_open = match permission.reach {
            Reach::Peer => PeerPolicy::allows_port(peer.port()),
            // Nothing on this host but live allocations is reached, or heard.
            Reach::Relay => self.shared.is_live(peer),
            Reach::Nobody => false,
        };
        if is_open { Ok(permission.reach) } else { Err(Dropped::DeniedPeer) }
    }

    /// Wraps data for a client, by its channel if there is one, and counts it unless it is a probe's.
    fn deliver(
        &mut self,
        client: Client,
        number: Option<u16>,
        peer: SocketAddr,
        payload: Range<usize>,
        is_counted: bool,
        now: Instant,
    ) -> Result<Forward, Dropped> {
        if is_counted {
            self.charge_all(payload.len(), now)?;
            self.counts.relay(payload.len());
        }
        let frame = match number {
            Some(number) => Frame::Channel(number),
            None => Frame::Indication { peer: self.settings.told(peer), serial: self.next_indication() },
        };
        Ok(Forward::ToClient { client, frame, payload })
    }

    /// Counts `bytes` against the allocation's bandwidth.
    fn charge(&self, allocation: &Allocation, bytes: usize, now: Instant) -> Result<(), Dropped> {
        let rate = self.settings.allocation_bandwidth.filter(|_| !allocation.owner.is_probe());
        let Some(rate) = rate else { return Ok(()) };
        let is_within = allocation.meter.admits(bytes, rate, self.since_began(now));
        if is_within { Ok(()) } else { Err(Dropped::Bandwidth) }
    }

    /// Counts `bytes` against the bandwidth of all allocations.
    fn charge_all(&self, bytes: usize, now: Instant) -> Result<(), Dropped> {
        let Some(rate) = self.settings.total_bandwidth else { return Ok(()) };
        let is_within = self.shared.admits(bytes, rate, self.since_began(now));
        if is_within { Ok(()) } else { Err(Dropped::Bandwidth) }
    }

    fn since_began(&self, now: Instant) -> std::time::Duration {
        now.saturating_duration_since(self.began_at)
    }

    fn next_indication(&mut self) -> u64 {
        self.indications = self.indications.wrapping_add(1);
        self.indications
    }

    /// The place of the client's allocation. Packets come in trains, so the last one's is tried first.
    fn slot_of(&mut self, client: &Client) -> Option<u32> {
        if let Some(Slot::Live(allocation)) = self.slots.get(self.recent as usize)
            && allocation.client == *client
        {
            return Some(self.recent);
        }
        self.recent = *self.by_client.get(client)?;
        Some(self.recent)
    }
}

fn live(slots: &[Slot], slot: u32) -> Result<&Allocation, Dropped> {
    match slots.get(slot as usize) {
        Some(Slot::Live(allocation)) => Ok(allocation),
        _ => Err(Dropped::NoAllocation),
    }
}
