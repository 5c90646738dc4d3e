//! The relay without sockets: decides what every datagram of a client or a peer leads to.
//!
//! One [`Server`] is one shard: the allocations of the clients that the kernel keeps on one thread. Drive it like this:
//! hand in what arrived ([`Server::handle_client`], [`Server::handle_peer`]), send the [`Forward`] it gives back, drain
//! [`Server::poll_action`], sleep until [`Server::poll_timeout`], call [`Server::handle_timeout`].
//!
//! The packet path takes no lock and makes no heap allocation: a `Forward` names a range of the bytes that came in.
//! What shards have in common (quotas, which relay ports are live) is in [`Shared`]. Sockets, threads and batching are
//! left to `workers`.

mod allocate;
mod allocation;
mod auth;
mod integrity;
mod keyring;
mod limits;
mod nonce;
mod permissions;
mod presented;
mod requests;
mod shared;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stun_types::attribute::AttributeStaticType as _;
use stun_types::message::{Message, MessageClass};
use turn_types::attribute::{Data, DontFragment, XorPeerAddress};
use turn_types::message::SEND;

use self::allocation::{Allocation, Due, Slot};
use self::auth::Gate;
use self::limits::Limits;
use super::counters::Counts;
use super::peers::PeerPolicy;
use crate::config::Secret;
use crate::sys::clock::Now;
use crate::sys::net::Family;
pub use shared::Shared;
pub use wire::Frame;

/// How long an allocation lasts unless its client asks for more. RFC 8656, section 3.2.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(600);
/// The most a client gets. RFC 8656, section 7.2, recommends an hour.
pub const MAX_LIFETIME: Duration = Duration::from_secs(3600);
/// How long a permission lasts without refresh. Fixed by RFC 8656, section 9.
pub const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);
/// How long a channel binding lasts without refresh. RFC 8656, section 12.
pub const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);
/// Peers that one allocation may have permissions for; an ICE agent needs one for each remote candidate.
pub const MAX_PERMISSIONS: usize = 128;
/// Channels of one allocation.
pub const MAX_CHANNELS: usize = 128;
/// Replies that may wait to be drained; more means that nobody drains.
const MAX_ACTIONS: usize = 4096;

/// How a client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

/// A client's 5-tuple: RFC 8656, section 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Client {
    pub remote: SocketAddr,
    /// The address of ours that the client sends to.
    pub local: IpAddr,
    pub transport: Transport,
    /// Which listening socket (UDP) or which connection (TCP, TLS) of the shard it came in by.
    pub via: u32,
}

/// A relay socket: twice the place of its allocation in the shard, and one more for IPv6. An allocation has up to two,
/// one of each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelayId(pub u32);

impl RelayId {
    pub(super) fn new(slot: u32, family: Family) -> Self {
        Self(slot * 2 + family as u32)
    }

    fn slot(self) -> u32 {
        self.0 / 2
    }

    fn family(self) -> Family {
        if self.0.is_multiple_of(2) { Family::V4 } else { Family::V6 }
    }
}

/// What the network said of a datagram that a relay socket sent. RFC 8656, section 11.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpError {
    /// Of the ICMP message: IPv4 and IPv6 number their types apart.
    pub family: Family,
    pub kind: u8,
    pub code: u8,
    /// The MTU for a datagram that was too big, else zero.
    pub data: u32,
}

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
    /// All of them verify.
    pub secrets: Vec<Secret>,
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
}

/// A datagram to be sent on, its payload being a range of the one that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forward {
    ToClient { client: Client, frame: Frame, payload: Range<usize> },
    ToPeer { relay: RelayId, peer: SocketAddr, payload: Range<usize>, dont_fragment: bool },
}

/// Which relay socket a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Any port.
    Any,
    /// An even port. RFC 8656, section 18.6.
    Even,
    /// An even port, the next one being kept under this token.
    EvenAndNext(u64),
    /// The port kept under this token.
    Kept(u64),
}

/// What the server wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this message to this client.
    Reply { client: Client, message: Vec<u8> },
    /// Open a relay socket, then call [`Server::handle_opened`].
    Open { relay: RelayId, family: Family, wanted: Wanted },
    /// Close a relay socket.
    Close { relay: RelayId },
}

/// One shard of the relay.
pub struct Server {
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    gate: Gate,
    limits: Limits,
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_client: HashMap<Client, u32>,
    by_relay: HashMap<SocketAddr, u32>,
    deadlines: BTreeSet<(Instant, Due)>,
    actions: VecDeque<Action>,
    is_draining: bool,
    /// Tells indications apart.
    indications: u64,
    counts: Counts,
    rng: Box<dyn FnMut() -> u64 + Send>,
}

impl Server {
    /// An empty shard. `rng` must not be predictable: reservation tokens come from it.
    #[must_use]
    pub fn new(
        settings: Arc<Settings>,
        shared: Arc<Shared>,
        now: Now,
        mut rng: Box<dyn FnMut() -> u64 + Send>,
    ) -> Self {
        Self {
            gate: Gate::new(&settings),
            limits: Limits::new([rng(), rng()], now.mono),
            settings,
            shared,
            slots: Vec::new(),
            free: Vec::new(),
            by_client: HashMap::new(),
            by_relay: HashMap::new(),
            deadlines: BTreeSet::new(),
            actions: VecDeque::new(),
            is_draining: false,
            indications: 0,
            counts: Counts::default(),
            rng,
        }
    }

    /// A datagram of a client.
    pub fn handle_client(&mut self, client: Client, bytes: &[u8], now: Now) -> Option<Forward> {
        // The first two bits tell STUN from ChannelData. RFC 8656, section 12.
        match *bytes.first()? {
            0x40..=0x7f => {
                let (number, payload) = wire::channel_data(bytes)?;
                let slot = *self.by_client.get(&client)?;
                let channel = *self.allocation(slot)?.channels.get(&number)?;
                if channel.expires_at <= now.mono {
                    return None;
                }
                self.forward_to_peer(slot, channel.peer, payload, now.mono)
            }
            0x00..=0x03 => self.handle_message(client, bytes, now),
            _ => None,
        }
    }

    /// A datagram of `len` bytes that `peer` sent to a relay socket.
    pub fn handle_peer(&mut self, relay: RelayId, peer: SocketAddr, len: usize, now: Now) -> Option<Forward> {
        self.forward_to_client(relay.slot(), peer, 0..len, now.mono)
    }

    /// What the network said of a datagram that `relay` had sent to `peer`.
    pub fn handle_icmp(&mut self, relay: RelayId, peer: SocketAddr, error: IcmpError, now: Now) {
        let _ = (relay, peer, error, now);
    }

    /// The connection of `client` has ended, and its allocation with it.
    pub fn handle_closed(&mut self, client: Client) {
        if let Some(slot) = self.by_client.get(&client).copied() {
            self.delete(slot);
        }
    }

    /// The relay socket of [`Action::Open`] is bound to `address`; `None`: there was no port left.
    pub fn handle_opened(&mut self, relay: RelayId, address: Option<SocketAddr>, now: Now) {
        let address = address.filter(|address| address.is_ipv4() == (relay.family() == Family::V4));
        let Some(slot) = self.slots.get_mut(relay.slot() as usize) else { return };
        let Slot::Opening(opening) = std::mem::replace(slot, Slot::Free) else { return };
        self.finish_allocate(relay.slot(), *opening, address, now);
    }

    /// The next thing to do, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Server::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Forgets what has expired.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some((at, due)) = self.deadlines.first().copied() {
            if at > now.mono {
                return;
            }
            self.deadlines.pop_first();
            match due {
                Due::Allocation(slot) => self.delete(slot),
                Due::Permission(slot, peer) => {
                    if let Some(allocation) = self.allocation_mut(slot) {
                        allocation.permissions.remove(&peer);
                    }
                }
                Due::Channel(slot, number) => {
                    if let Some(allocation) = self.allocation_mut(slot)
                        && let Some(channel) = allocation.channels.remove(&number)
                    {
                        allocation.numbers_by_peer.remove(&channel.peer);
                    }
                }
            }
        }
    }

    /// Works by other settings from now on.
    pub fn set_settings(&mut self, settings: Arc<Settings>, now: Now) {
        self.gate.set_settings(&settings, now);
        self.settings = settings;
    }

    /// Makes no allocation any more; those that live go on.
    pub fn drain(&mut self) {
        self.is_draining = true;
    }

    /// Whether nothing is allocated, and nothing about to be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_client.is_empty()
    }

    /// What was counted since this was last called.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Deletes everything, closing all relay sockets.
    pub fn shut(&mut self) {
        for slot in 0..u32::try_from(self.slots.len()).expect("slots are numbered by `u32`") {
            self.delete(slot);
        }
    }

    fn handle_message(&mut self, client: Client, bytes: &[u8], now: Now) -> Option<Forward> {
        if !wire::is_whole_message(bytes) || !is_fit_source(client.remote) || self.is_own_relay(client.remote) {
            return None;
        }
        let message = Message::from_bytes(bytes).ok().filter(wire::ends_with_its_fingerprint)?;
        match message.class() {
            MessageClass::Request => {
                // A late loop must not let a request find what has ended.
                self.handle_timeout(now);
                self.handle_request(client, &message, now);
                None
            }
            MessageClass::Indication if message.method() == SEND => self.handle_send(client, &message, now.mono),
            MessageClass::Indication | MessageClass::Success | MessageClass::Error => None,
        }
    }

    /// A Send indication: RFC 8656, section 11.2. Whatever is wrong with it, it is discarded without a word.
    fn handle_send(&mut self, client: Client, message: &Message<'_>, now: Instant) -> Option<Forward> {
        let slot = *self.by_client.get(&client)?;
        let known = [XorPeerAddress::TYPE, Data::TYPE];
        if message.has_attribute(DontFragment::TYPE) || !wire::unknown_attributes(message, &known).is_empty() {
            return None;
        }
        let peer = message.attribute::<XorPeerAddress>().ok()?.addr(message.transaction_id());
        let (offset, data) = message.raw_attribute_and_offset(Data::TYPE)?;
        let start = offset + wire::ATTRIBUTE_HEADER;
        let payload = start..start + usize::from(data.header.length());
        let peer = self.heard(peer);
        self.forward_to_peer(slot, peer, payload, now)
    }

    /// From the allocation in `slot` to `peer`, if it has the permission.
    fn forward_to_peer(&mut self, slot: u32, peer: SocketAddr, payload: Range<usize>, now: Instant) -> Option<Forward> {
        let allocation = self.allocation(slot)?;
        let is_permitted = allocation.permissions.get(&peer.ip()).is_some_and(|expires_at| *expires_at > now);
        if !is_permitted || allocation.expires_at <= now {
            return None;
        }
        let (relay, by) = (allocation.relay, RelayId::new(slot, allocation.family));
        if self.is_own_address(peer.ip()) {
            // Nothing on this host but live allocations is reached, and those of this shard without a socket.
            if let Some(other) = self.by_relay.get(&peer) {
                return self.forward_to_client(*other, relay, payload, now);
            }
            if !self.shared.is_live(peer) {
                return None;
            }
        } else if !PeerPolicy::allows_port(peer.port()) {
            return None;
        }
        Some(Forward::ToPeer { relay: by, peer, payload, dont_fragment: false })
    }

    /// From `peer` to the client of the allocation in `slot`, if that has the permission.
    fn forward_to_client(
        &mut self,
        slot: u32,
        peer: SocketAddr,
        payload: Range<usize>,
        now: Instant,
    ) -> Option<Forward> {
        let allocation = self.allocation(slot)?;
        let is_permitted = allocation.permissions.get(&peer.ip()).is_some_and(|expires_at| *expires_at > now);
        if !is_permitted || allocation.expires_at <= now {
            return None;
        }
        let client = allocation.client;
        let number = allocation.numbers_by_peer.get(&peer).copied();
        let is_bound = |number: &u16| allocation.channels.get(number).is_some_and(|channel| channel.expires_at > now);
        let frame = if let Some(number) = number.filter(is_bound) {
            Frame::Channel(number)
        } else {
            self.indications = self.indications.wrapping_add(1);
            Frame::Indication { peer: self.told(peer), serial: self.indications }
        };
        Some(Forward::ToClient { client, frame, payload })
    }

    fn allocation(&self, slot: u32) -> Option<&Allocation> {
        match self.slots.get(slot as usize)? {
            Slot::Live(allocation) => Some(allocation),
            Slot::Free | Slot::Opening(_) => None,
        }
    }

    fn allocation_mut(&mut self, slot: u32) -> Option<&mut Allocation> {
        match self.slots.get_mut(slot as usize)? {
            Slot::Live(allocation) => Some(allocation),
            Slot::Free | Slot::Opening(_) => None,
        }
    }

    fn is_own_address(&self, address: IpAddr) -> bool {
        self.settings.relays.iter().any(|relay| relay.local == address)
    }

    /// Whether a datagram comes out of one of our own relay sockets: a loop, see RFC 8656, section 21.1.7.
    fn is_own_relay(&self, address: SocketAddr) -> bool {
        self.is_own_address(address.ip()) && self.shared.is_live(address)
    }

    /// An address as a client says it, in our own terms.
    fn heard(&self, address: SocketAddr) -> SocketAddr {
        let relay = self.settings.relays.iter().find(|relay| relay.told == address.ip());
        relay.map_or(address, |relay| SocketAddr::new(relay.local, address.port()))
    }

    /// One of our own addresses as clients know it.
    fn told(&self, address: SocketAddr) -> SocketAddr {
        let relay = self.settings.relays.iter().find(|relay| relay.local == address.ip());
        relay.map_or(address, |relay| SocketAddr::new(relay.told, address.port()))
    }

    fn queue(&mut self, action: Action) {
        // A reply that is lost is asked for again; an opened or closed socket is not.
        let may_be_dropped = matches!(action, Action::Reply { .. });
        if self.actions.len() < MAX_ACTIONS || !may_be_dropped {
            self.actions.push_back(action);
        }
    }
}

/// Whether a datagram's source can be a client at all: RFC 8656, sections 21.1.7 and 21.4.
fn is_fit_source(source: SocketAddr) -> bool {
    let is_fit = match source.ip() {
        IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_multicast() && !v4.is_broadcast(),
        IpAddr::V6(v6) => {
            let [first, second, ..] = v6.segments();
            let is_translated = first == 0x2002 || (first == 0x2001 && second == 0);
            !v6.is_unspecified() && !v6.is_multicast() && !is_translated
        }
    };
    is_fit && source.port() != 0
}
