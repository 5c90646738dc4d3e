//! CreatePermission and ChannelBind: whom an allocation may talk to.

use std::net::IpAddr;

use stun_types::attribute::{Attribute as _, AttributeFromRaw as _, AttributeStaticType as _, ErrorCode};
use stun_types::message::Message;
use turn_types::attribute::{ChannelNumber, XorPeerAddress};

use super::allocate::family_of;
use super::auth::Refusal;
use super::requests::{Answer, BAD, attribute, refused};
use super::{MAX_CHANNELS, MAX_PERMISSIONS, Server};
use crate::sys::clock::Now;
use crate::turn::peers::PeerPolicy;

/// Channel numbers a client may bind: those of RFC 5766, section 11.
///
/// RFC 8656, section 12, keeps 0x5000 and above for protocols that share a port with TURN, of which there are none on
/// ours. Clients of the older RFC, coturn's test client among them, draw from the whole range and give up when refused.
const CHANNEL_NUMBERS: std::ops::RangeInclusive<u16> = 0x4000..=0x7fff;

impl Server {
    /// CreatePermission: RFC 8656, section 10.2. All of the peers, or none.
    pub(super) fn create_permission(&mut self, slot: u32, message: &Message<'_>, now: Now) -> Answer {
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
    pub(super) fn channel_bind(&mut self, slot: u32, message: &Message<'_>, now: Now) -> Answer {
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
}
