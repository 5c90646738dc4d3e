//! CreatePermission and ChannelBind: whom an allocation may talk to.

use std::net::IpAddr;
use std::time::Instant;

use stun_types::attribute::{Attribute as _, AttributeFromRaw as _, AttributeStaticType as _, ErrorCode};
use stun_types::message::Message;
use turn_types::attribute::{ChannelNumber, XorPeerAddress};

use super::auth::Refusal;
use super::grants::{Channel, Permission};
use super::requests::{Answer, BAD, attribute, refused};
use super::settings::Reach;
use super::{CHANNEL_LIFETIME, MAX_CHANNELS, MAX_PERMISSIONS, PERMISSION_LIFETIME, Server, family_of};
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
            peers.push(self.settings.heard(address.addr(message.transaction_id())).ip());
        }
        if peers.is_empty() {
            return Err(BAD);
        }
        peers.sort_unstable();
        peers.dedup();
        self.permit(slot, &peers, now.mono)?;
        Ok(Vec::new())
    }

    /// ChannelBind: RFC 8656, section 12.2.
    pub(super) fn channel_bind(&mut self, slot: u32, message: &Message<'_>, now: Now) -> Answer {
        let number = attribute::<ChannelNumber>(message)?.ok_or(BAD)?.channel();
        let peer = attribute::<XorPeerAddress>(message)?.ok_or(BAD)?.addr(message.transaction_id());
        let peer = self.settings.heard(peer);
        if !CHANNEL_NUMBERS.contains(&number) || peer.port() == 0 {
            return Err(BAD);
        }
        if self.check_peer(slot, peer.ip())? == Reach::Peer && !PeerPolicy::allows_port(peer.port()) {
            return refused(ErrorCode::FORBIDDEN);
        }
        let now = now.mono;
        let Some(allocation) = self.allocation_mut(slot) else { return refused(ErrorCode::ALLOCATION_MISMATCH) };
        let bound_peer = allocation.channels.find(number, now).map(|channel| channel.peer);
        let bound_number = allocation.channels.to(peer, now).map(|channel| channel.number);
        if bound_peer.is_some_and(|bound| bound != peer) || bound_number.is_some_and(|bound| bound != number) {
            return Err(BAD);
        }
        allocation.channels.retain(|channel| channel.expires_at > now);
        if bound_peer.is_none() && allocation.channels.len() >= MAX_CHANNELS {
            return refused(ErrorCode::INSUFFICIENT_CAPACITY);
        }
        let expires_at = now + CHANNEL_LIFETIME;
        self.permit(slot, &[peer.ip()], now)?;
        if let Some(allocation) = self.allocation_mut(slot) {
            allocation.channels.insert(Channel { number, peer, expires_at });
        }
        self.publish(slot);
        Ok(Vec::new())
    }

    /// Installs permissions for all of `peers`, which are different ones, or extends them.
    fn permit(&mut self, slot: u32, peers: &[IpAddr], now: Instant) -> Result<(), Refusal> {
        let reaches = peers.iter().map(|peer| self.check_peer(slot, *peer)).collect::<Result<Vec<_>, _>>()?;
        let Some(allocation) = self.allocation_mut(slot) else { return refused(ErrorCode::ALLOCATION_MISMATCH) };
        allocation.permissions.retain(|permission| permission.expires_at > now);
        if allocation.permissions.count_with(peers) > MAX_PERMISSIONS {
            return refused(ErrorCode::INSUFFICIENT_CAPACITY);
        }
        let expires_at = now + PERMISSION_LIFETIME;
        for (peer, reach) in peers.iter().zip(reaches) {
            allocation.permissions.insert(Permission { peer: *peer, reach, expires_at });
        }
        self.publish(slot);
        Ok(())
    }

    /// Whether the allocation may talk to `peer` at all.
    fn check_peer(&self, slot: u32, peer: IpAddr) -> Result<Reach, Refusal> {
        if !self.allocation(slot).is_some_and(|allocation| allocation.has(family_of(peer))) {
            return refused(ErrorCode::PEER_ADDRESS_FAMILY_MISMATCH);
        }
        let forbidden = Refusal { code: ErrorCode::FORBIDDEN, challenges: false };
        self.settings.reach(peer).ok_or(forbidden)
    }
}
