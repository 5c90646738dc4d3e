//! The relay without sockets: decides what every datagram of a client or a peer leads to.
//!
//! One [`Server`] is one shard: the allocations of the clients that the kernel keeps on one thread, or of those that come
//! by streams. Drive it like this: hand in what happened ([`Server::handle_client`], [`Server::handle_peer`],
//! [`Server::handle_icmp`], [`Server::handle_closed`]), send the [`Forward`] it gives back, drain
//! [`Server::poll_action`], sleep until [`Server::poll_timeout`], call [`Server::handle_timeout`]. Settings may be
//! replaced at any time ([`Server::set_settings`]).
//!
//! The packet path takes no lock and makes no heap allocation: a `Forward` names a range of the bytes that came in.
//! What shards have in common (quotas, bandwidth, which relay ports are live, and what it takes to deliver to them) is in
//! [`Shared`]. A `Forward::ToClient` for a UDP client may be for one of another shard, and leaves by the own listener of
//! the same number; one for a stream client is always the shard's own. Sockets, threads and batching are left to `plane`.

mod allocate;
mod allocation;
mod auth;
mod bandwidth;
mod forward;
mod grants;
mod integrity;
mod keyring;
mod limits;
mod nonce;
mod permissions;
mod presented;
mod requests;
mod settings;
mod shared;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use stun_types::message::{Message, MessageClass};
use turn_types::message::SEND;

use self::allocation::{Asked, Slot};
use self::auth::Gate;
use self::limits::Limits;
use self::requests::put;
use super::counters::{Counts, Dropped, Outcome};
use crate::sys::clock::Now;
use crate::sys::net::Family;
pub use settings::{RelayAddress, Settings};
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Client {
    pub remote: SocketAddr,
    /// The address of ours that the client sends to.
    pub local: IpAddr,
    pub transport: Transport,
    /// Which listening socket (UDP) or which connection (TCP, TLS) of the shard it came in by.
    pub via: u32,
}

impl Hash for Client {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // What clients differ in, in few strokes: this is done for every packet. Equality looks at all of it.
        match self.remote.ip() {
            IpAddr::V4(v4) => state.write_u32(v4.to_bits()),
            IpAddr::V6(v6) => state.write_u128(v6.to_bits()),
        }
        state.write_u64(u64::from(self.remote.port()) << 32 | u64::from(self.via));
    }
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
    /// Where the last packet's allocation was.
    recent: u32,
    /// Hashed by a secret, though only who has a password gets in, and a bounded number of times.
    by_client: HashMap<Client, u32, RandomState>,
    by_relay: HashMap<SocketAddr, u32, RandomState>,
    deadlines: BTreeSet<(Instant, u32)>,
    actions: VecDeque<Action>,
    is_draining: bool,
    /// Tells indications apart.
    indications: u64,
    counts: Counts,
    /// What bandwidth is measured from.
    began_at: Instant,
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
            began_at: shared.join(now.mono),
            settings,
            shared,
            slots: Vec::new(),
            free: Vec::new(),
            recent: 0,
            by_client: HashMap::default(),
            by_relay: HashMap::default(),
            deadlines: BTreeSet::new(),
            actions: VecDeque::new(),
            is_draining: false,
            // Shards deliver to each other's clients, who should not see a number twice.
            indications: rng(),
            counts: Counts::default(),
            rng,
        }
    }

    /// A datagram of a client, or a message of one that is connected by a stream.
    pub fn handle_client(&mut self, client: Client, bytes: &[u8], now: Now) -> Option<Forward> {
        // The first two bits tell STUN from ChannelData. RFC 8656, section 12.
        let forward = match bytes.first() {
            Some(0x40..=0x7f) => self.relay_channel_data(&client, bytes, now.mono).map(Some),
            Some(0x00..=0x03) => self.handle_message(client, bytes, now),
            _ => Err(Dropped::Malformed),
        };
        self.count(forward, self.recent)
    }

    /// A datagram of `len` bytes that `peer` sent to a relay socket.
    pub fn handle_peer(&mut self, relay: RelayId, peer: SocketAddr, len: usize, now: Now) -> Option<Forward> {
        let forward = self.relay_to_client(relay, self.settings.heard(peer), 0..len, now.mono);
        self.count(forward.map(Some), relay.slot())
    }

    /// What the network said of a datagram that `relay` had sent to `peer`.
    pub fn handle_icmp(&mut self, relay: RelayId, peer: SocketAddr, error: IcmpError, now: Now) {
        let told = self.relay_icmp(relay, self.settings.heard(peer), error, now.mono);
        self.count(told.map(|()| None), relay.slot());
    }

    /// Whether `client` has an allocation.
    #[must_use]
    pub fn has_allocation(&self, client: &Client) -> bool {
        self.by_client.contains_key(client)
    }

    /// The connection of `client` has ended, and its allocation with it.
    pub fn handle_closed(&mut self, client: Client) {
        if let Some(slot) = self.by_client.get(&client).copied() {
            self.delete(slot, Outcome::Expired);
        }
    }

    /// Whether an allocation of a client on UDP came by the listener `via`.
    #[must_use]
    pub fn is_reached_by(&self, via: u32) -> bool {
        self.clients_by(via).next().is_some()
    }

    /// The listener `via` is gone, and with it the allocations that were reached by it.
    pub fn handle_unbound(&mut self, via: u32) {
        let gone: Vec<Client> = self.clients_by(via).collect();
        gone.into_iter().for_each(|client| self.handle_closed(client));
    }

    fn clients_by(&self, via: u32) -> impl Iterator<Item = Client> {
        let live = self.slots.iter().filter_map(|slot| match slot {
            Slot::Live(allocation) => Some(allocation.client),
            Slot::Opening(_) | Slot::Abandoned(_) | Slot::Free => None,
        });
        live.filter(move |client| client.transport == Transport::Udp && client.via == via)
    }

    /// The relay socket of [`Action::Open`] is bound to `address`; `None`: there was no port left.
    pub fn handle_opened(&mut self, relay: RelayId, address: Option<SocketAddr>, now: Now) {
        let slot = relay.slot();
        match self.slots.get_mut(slot as usize) {
            Some(Slot::Opening(opening)) => {
                let asked = &mut opening.asked[relay.family() as usize];
                *asked = address.map_or(Asked::Failed(allocate::NO_CAPACITY), Asked::Open);
                if !opening.asked.contains(&Asked::Waiting) {
                    self.finish_allocate(slot, now);
                }
            }
            Some(Slot::Abandoned(waiting)) => {
                *waiting -= 1;
                if *waiting == 0 {
                    self.slots[slot as usize] = Slot::Free;
                    self.free.push(slot);
                }
                if address.is_some() {
                    self.queue(Action::Close { relay });
                }
            }
            Some(Slot::Free | Slot::Live(_)) | None => {}
        }
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
        while let Some((at, slot)) = self.deadlines.first().copied()
            && at <= now.mono
        {
            self.expire(slot, now.mono);
        }
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
            self.delete(slot, Outcome::Expired);
        }
    }

    fn handle_message(&mut self, client: Client, bytes: &[u8], now: Now) -> Result<Option<Forward>, Dropped> {
        if !wire::is_whole_message(bytes) || !is_fit_source(client.remote) || self.is_ourselves(client) {
            return Err(Dropped::Malformed);
        }
        let message = Message::from_bytes(bytes).ok().filter(wire::ends_with_its_fingerprint);
        let message = message.ok_or(Dropped::Malformed)?;
        match message.class() {
            MessageClass::Request => {
                // A late loop must not let a request find what has ended.
                self.handle_timeout(now);
                self.handle_request(client, &message, now);
                Ok(None)
            }
            MessageClass::Indication if message.method() == SEND => {
                let send = wire::send(&message).ok_or(Dropped::Malformed)?;
                self.relay_send(&client, send, now.mono).map(Some)
            }
            // Nothing is said to indications and answers; a Binding indication keeps a NAT's door open.
            MessageClass::Indication | MessageClass::Success | MessageClass::Error => Ok(None),
        }
    }

    /// Counts what is not relayed. `slot` is that of the allocation which it was from or for, if it got so far.
    fn count(&mut self, forward: Result<Option<Forward>, Dropped>, slot: u32) -> Option<Forward> {
        forward.unwrap_or_else(|why| {
            let has_owner = !matches!(why, Dropped::Malformed | Dropped::RateLimited | Dropped::NoAllocation);
            let is_probe = || self.allocation(slot).is_some_and(|allocation| allocation.owner.is_probe());
            if !(has_owner && is_probe()) {
                self.counts.drop(why);
            }
            None
        })
    }

    /// Whether a datagram comes out of a socket of our own: a loop, see RFC 8656, section 21.1.7.
    fn is_ourselves(&self, client: Client) -> bool {
        // All our sockets that could send one are of UDP; ports of TCP are others.
        let is_possible = client.transport == Transport::Udp;
        let is_relay = || self.settings.is_relay(client.remote.ip()) && self.shared.is_live(client.remote);
        is_possible && (is_relay() || self.settings.is_listening_at(client.remote, client.local))
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

fn family_of(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}
