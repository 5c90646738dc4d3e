//! The relay against a model of it: plain maps, every rule written down once more, nothing done twice as fast.
//!
//! Any sequence of what clients, peers, operators, time and a wire that loses datagrams can do must have the same
//! outcomes in both, to the nanosecond. `PROPTEST_CASES` has more of them tried.

mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use proptest::prelude::*;
use stun_types::message::MessageClass;

use self::rules::{Allocation, Goes, Model, granted};
use super::super::allocation::Relay;
use super::super::sim::{Caller, Reply, Sim, addr};
use super::super::{Forward, Frame, IcmpError, RelayId, Transport};
use super::draft::{
    ALLOCATE, CHANNEL_BIND, CHANNEL_NUMBER, CREATE_PERMISSION, DATA, Draft, INTEGRITY, LIFETIME, PEER, REFRESH, SEND,
    TRANSPORT, UDP, md5_key,
};
use crate::config::PeerMode;
use crate::sys::net::Family;
use crate::turn::peers::PeerPolicy;

const SECOND: Duration = Duration::from_secs(1);
const USER_QUOTA: u32 = 2;
const TOTAL_QUOTA: u32 = 3;
const MODES: [PeerMode; 3] = [PeerMode::Public, PeerMode::Lan, PeerMode::Itself];
/// Addresses that differ in what the rules say of them; the last two are ours.
const PLACES: [&str; 9] = [
    "9.9.9.9:5000",
    "9.9.9.9:5001",
    "9.9.9.9:53",
    "8.8.8.8:5000",
    "10.0.0.1:5000",
    "[2606:4700::1]:5000",
    "[fd00::1]:5000",
    "192.0.2.1:5000",
    "198.51.100.1:49199",
];
const CLIENTS: usize = 4;

#[derive(Debug, Clone, Copy)]
enum Lost {
    Nothing,
    Request,
    /// The client asks again by the same bytes.
    Answer,
}

#[derive(Debug, Clone)]
enum Step {
    /// `families` counts from 1: IPv4, IPv6, both.
    Allocate {
        who: usize,
        families: u8,
        lifetime: Option<u32>,
        lost: Lost,
    },
    Refresh {
        who: usize,
        family: Option<bool>,
        lifetime: Option<u32>,
        lost: Lost,
    },
    Permit {
        who: usize,
        peers: Vec<usize>,
        lost: Lost,
    },
    Bind {
        who: usize,
        number: u16,
        peer: usize,
        lost: Lost,
    },
    Send {
        who: usize,
        peer: usize,
    },
    ChannelData {
        who: usize,
        number: u16,
    },
    Arrive {
        who: usize,
        peer: usize,
    },
    Icmp {
        who: usize,
        peer: usize,
    },
    Close {
        who: usize,
    },
    /// Time passes, with or without a loop that wakes up when something ends.
    Pass {
        span: Duration,
        is_awake: bool,
    },
    /// Time passes up to the very end of something, or to a nanosecond before.
    PassToEnd {
        nth: usize,
        is_before: bool,
        is_awake: bool,
    },
    Change {
        mode: usize,
    },
    Drain,
}

/// The relay and its model, side by side.
struct World {
    sim: Sim,
    model: Model,
    callers: Vec<Caller>,
    began_at: Instant,
    /// When each one's nonce was made.
    nonces_at: [u64; CLIENTS],
    transactions: u32,
}

impl World {
    fn new() -> Self {
        let mut sim = Sim::with(|settings| (settings.user_quota, settings.total_quota) = (USER_QUOTA, TOTAL_QUOTA));
        // Dates count in whole seconds.
        sim.now.wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let callers = (0..CLIENTS).map(|number| {
            let transport = if number == 3 { Transport::Tcp } else { Transport::Udp };
            let remote = SocketAddr::new([203, 0, 113, 7].into(), 40_000 + u16::try_from(number).unwrap());
            sim.user_by(["alice", "bob"][number % 2], remote, transport, 0)
        });
        let callers = callers.collect();
        let began_at = sim.now.mono;
        Self { sim, model: Model::default(), callers, began_at, nonces_at: [0; CLIENTS], transactions: 0 }
    }

    fn place(&self, number: usize) -> SocketAddr {
        let relay = |who: usize| self.model.allocations.get(&who)?.relays.values().next().map(|(relay, _)| *relay);
        let other = || relay(number - PLACES.len()).unwrap_or_else(|| addr(PLACES[PLACES.len() - 1]));
        PLACES.get(number).map_or_else(other, |place| addr(place))
    }

    fn pass(&mut self, span: Duration, is_awake: bool) {
        if is_awake {
            self.sim.advance(span)
        } else {
            self.sim.pass(span)
        }
        self.model.now += span;
        self.model.prune();
    }

    /// Asks once, or twice by the same bytes; `check` compares an answer with the model's.
    fn ask(
        &mut self,
        who: usize,
        lost: Lost,
        method: u16,
        write: impl Fn(Draft) -> Draft,
        mut check: impl FnMut(&mut Self, u32, &Reply),
    ) {
        self.transactions += 1;
        let transaction = self.transactions;
        if matches!(lost, Lost::Request) {
            return;
        }
        let sign = |caller: &Caller| {
            let mut draft = Draft::new(method);
            draft.0[16..].copy_from_slice(&transaction.to_be_bytes());
            write(draft).by(caller).signed(INTEGRITY, &md5_key(&caller.username, &caller.password)).0
        };
        let client = self.callers[who].client;
        if self.model.now.as_secs() - self.nonces_at[who] >= 600 {
            let reply = self.sim.deliver(client, &sign(&self.callers[who])).unwrap();
            assert_eq!(reply.result(), Err(438), "the nonce is old");
            self.callers[who].nonce = reply.nonce().unwrap();
            self.nonces_at[who] = self.model.now.as_secs();
        }
        let bytes = sign(&self.callers[who]);
        for _ in 0..if matches!(lost, Lost::Answer) { 2 } else { 1 } {
            let reply = self.sim.deliver(client, &bytes).unwrap();
            check(self, transaction, &reply);
        }
        // More failures at once would be met with silence.
        self.pass(SECOND, false);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Allocate { who, families, lifetime, lost } => {
                let (who, families, lifetime) = (*who, *families, *lifetime);
                let write = |draft: Draft| {
                    let draft = draft.with(TRANSPORT, UDP);
                    let draft =
                        lifetime.iter().fold(draft, |draft, seconds| draft.with(LIFETIME, &seconds.to_be_bytes()));
                    match families {
                        1 => draft,
                        2 => draft.with(0x0017, &[2, 0, 0, 0]),
                        _ => draft.with(0x8000, &[2, 0, 0, 0]),
                    }
                };
                self.ask(who, *lost, ALLOCATE, write, |world, transaction, reply| {
                    world.check_allocate(who, families, granted(lifetime), transaction, reply);
                });
            }
            Step::Refresh { who, family, lifetime, lost } => {
                let write = |draft: Draft| {
                    let draft =
                        lifetime.iter().fold(draft, |draft, seconds| draft.with(LIFETIME, &seconds.to_be_bytes()));
                    family.iter().fold(draft, |draft, is_v4| draft.with(0x0017, &[if *is_v4 { 1 } else { 2 }, 0, 0, 0]))
                };
                self.ask(*who, *lost, REFRESH, write, |world, _, reply| {
                    let wanted = world.model.refresh(*who, *family, *lifetime);
                    assert_eq!(reply.result().map(|()| reply.lifetime()), wanted);
                });
            }
            Step::Permit { who, peers, lost } => {
                let peers: Vec<SocketAddr> = peers.iter().map(|peer| self.place(*peer)).collect();
                let write = |draft| peers.iter().fold(draft, with_peer);
                self.ask(*who, *lost, CREATE_PERMISSION, write, |world, _, reply| {
                    assert_eq!(reply.result(), world.model.permit(*who, &peers), "{peers:?}");
                });
            }
            Step::Bind { who, number, peer, lost } => {
                let peer = self.place(*peer);
                let [high, low] = number.to_be_bytes();
                let write = |draft: Draft| with_peer(draft.with(CHANNEL_NUMBER, &[high, low, 0, 0]), &peer);
                self.ask(*who, *lost, CHANNEL_BIND, write, |world, _, reply| {
                    assert_eq!(reply.result(), world.model.bind(*who, *number, peer), "{number:#x} {peer}");
                });
            }
            Step::Send { who, peer } => {
                let peer = self.place(*peer);
                let bytes = with_peer(Draft::new(SEND), &peer).with(DATA, b"data").0;
                let forward = self.sim.server.handle_client(self.callers[*who].client, &bytes, self.sim.now);
                assert_eq!(self.goes(forward), self.model.send(*who, peer), "{peer}");
            }
            Step::ChannelData { who, number } => {
                let bytes = [&number.to_be_bytes()[..], &[0, 4], b"data"].concat();
                let forward = self.sim.server.handle_client(self.callers[*who].client, &bytes, self.sim.now);
                assert_eq!(self.goes(forward), self.model.channel_data(*who, *number));
            }
            Step::Arrive { who, peer } => {
                let from = addr(PLACES[*peer]);
                if let Some(relay) = self.relay_of(*who, from) {
                    let forward = self.sim.server.handle_peer(relay, from, 4, self.sim.now);
                    assert_eq!(self.goes(forward), self.model.arrive(*who, from), "{from}");
                }
            }
            Step::Icmp { who, peer } => {
                let to = addr(PLACES[*peer]);
                if let Some(relay) = self.relay_of(*who, to) {
                    let (family, kind) = if to.is_ipv4() { (Family::V4, 3) } else { (Family::V6, 1) };
                    self.sim.server.handle_icmp(relay, to, IcmpError { family, kind, code: 1, data: 0 }, self.sim.now);
                    let told = self.sim.drain();
                    assert_eq!(told.len(), usize::from(self.model.arrive(*who, to).is_some()), "{to}");
                    assert!(told.iter().all(|(client, reply)| {
                        *client == self.callers[*who].client && reply.message().class() == MessageClass::Indication
                    }));
                }
            }
            Step::Close { who } => {
                self.sim.server.handle_closed(self.callers[*who].client);
                assert_eq!(self.sim.drain(), []);
                self.model.allocations.remove(who);
            }
            Step::Pass { span, is_awake } => self.pass(*span, *is_awake),
            Step::PassToEnd { nth, is_before, is_awake } => {
                let ends = self.model.ends();
                if let Some(end) = ends.get(nth % ends.len().max(1)) {
                    let span = *end - self.model.now - Duration::from_nanos((*is_before).into());
                    self.pass(span, *is_awake);
                }
            }
            Step::Change { mode } => {
                let policy = PeerPolicy::new(MODES[*mode], Vec::new(), Vec::new(), Vec::new());
                self.sim.change(|settings| settings.policy = policy);
                self.model.change(*mode);
            }
            Step::Drain => {
                self.sim.server.drain();
                self.model.is_draining = true;
            }
        }
    }

    fn check_allocate(&mut self, who: usize, families: u8, lifetime: u32, transaction: u32, reply: &Reply) {
        let wanted = self.model.allocate(who, transaction);
        assert_eq!(reply.result(), wanted.map(|_| ()));
        if reply.result() == Err(401) {
            self.callers[who].nonce = reply.nonce().unwrap();
            self.nonces_at[who] = self.model.now.as_secs();
        }
        let Ok(is_first) = wanted else { return };
        assert_eq!((reply.lifetime(), reply.mapped()), (lifetime, self.callers[who].client.remote));
        let relays = reply.all_relayed();
        if is_first {
            let of: Vec<bool> = relays.iter().map(SocketAddr::is_ipv4).collect();
            assert_eq!(of, [&[true][..], &[false], &[true, false]][usize::from(families) - 1]);
            let taken =
                self.model.allocations.values().flat_map(|other| other.relays.values()).map(|(relay, _)| *relay);
            assert!(taken.collect::<Vec<_>>().iter().all(|taken| !relays.contains(taken)), "{relays:?} is taken");
            let end = self.model.now + Duration::from_secs(lifetime.into());
            let relays = relays.into_iter().map(|relay| (relay.is_ipv4(), (relay, end))).collect();
            self.model.allocations.insert(who, Allocation { transaction, relays, ..Allocation::default() });
        } else {
            let mut known: Vec<SocketAddr> =
                self.model.allocations[&who].relays.values().map(|(relay, _)| *relay).collect();
            known.reverse();
            assert_eq!(relays, known);
        }
    }

    /// The client's open relay socket of the family of `peer`.
    fn relay_of(&self, who: usize, peer: SocketAddr) -> Option<RelayId> {
        let (own, _) = self.model.allocations.get(&who)?.relays.get(&peer.is_ipv4())?;
        self.sim.sockets.iter().find(|(_, address)| *address == own).map(|(relay, _)| *relay)
    }

    fn goes(&mut self, forward: Option<Forward>) -> Option<Goes> {
        assert_eq!(self.sim.drain(), [], "data are never answered");
        match forward? {
            Forward::ToPeer { relay, peer, payload, dont_fragment } => {
                assert!(payload.len() == 4 && !dont_fragment);
                Some(Goes::ToPeer { from: self.sim.sockets[&relay], peer })
            }
            Forward::ToClient { client, frame, payload } => {
                assert_eq!(payload.len(), 4);
                let who = self.callers.iter().position(|caller| caller.client == client).unwrap();
                let bound = |number: u16| self.model.allocations[&who].channels[&number].0;
                Some(match frame {
                    Frame::Channel(number) => Goes::ToClient { who, channel: Some(number), from: bound(number) },
                    Frame::Indication { peer, .. } => Goes::ToClient { who, channel: None, from: peer },
                })
            }
        }
    }

    /// Whether both hold the same, apart from what is over and was not yet swept up.
    fn compare_living(&self) {
        let (server, now) = (&self.sim.server, self.sim.now.mono);
        for (who, caller) in self.callers.iter().enumerate() {
            let allocation = server.by_client.get(&caller.client).and_then(|slot| server.allocation(*slot));
            let ends = |at: Instant| at.checked_duration_since(self.began_at).filter(|_| at > now);
            let (mut relays, mut permissions, mut channels) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
            if let Some(allocation) = allocation {
                let of_relay =
                    |relay: &Relay| Some((relay.address.is_ipv4(), (relay.address, ends(relay.expires_at)?)));
                relays = allocation.relays.iter().flatten().filter_map(of_relay).collect();
                let has = |peer: IpAddr| relays.contains_key(&peer.is_ipv4());
                let permitted = allocation.permissions.iter().filter(|permission| has(permission.peer));
                permissions = permitted.filter_map(|one| Some((one.peer, ends(one.expires_at)?))).collect();
                let bound = allocation.channels.iter().filter(|channel| has(channel.peer.ip()));
                channels = bound.filter_map(|one| Some((one.number, (one.peer, ends(one.expires_at)?)))).collect();
            }
            let wanted = self.model.allocations.get(&who).cloned().unwrap_or_default();
            assert_eq!(
                (relays, permissions, channels),
                (wanted.relays, wanted.permissions, wanted.channels),
                "of {who}"
            );
        }
    }

    /// Whether both hold the same, once the relay has woken.
    fn compare(&mut self) {
        self.sim.server.handle_timeout(self.sim.now);
        assert_eq!(self.sim.drain(), []);
        let relays = self.model.allocations.values().flat_map(|allocation| allocation.relays.values());
        let relays: BTreeSet<SocketAddr> = relays.map(|(relay, _)| *relay).collect();
        assert_eq!(self.sim.sockets.values().copied().collect::<BTreeSet<_>>(), relays);
        let server = &self.sim.server;
        let count = self.model.allocations.len();
        assert_eq!(self.sim.shared.allocations() as usize, count);
        assert_eq!(
            (server.by_client.len(), server.deadlines.len(), server.by_relay.len()),
            (count, count, relays.len())
        );
        assert!(relays.iter().all(|relay| server.by_relay.contains_key(relay) && self.sim.shared.is_live(*relay)));
        assert_eq!(server.slots.len() - server.free.len(), count);
    }
}

fn with_peer(draft: Draft, peer: &SocketAddr) -> Draft {
    let mask: [u8; 16] = draft.0[4..20].try_into().unwrap();
    let octets = match peer.ip() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let port = (peer.port() ^ 0x2112).to_be_bytes();
    let octets = octets.iter().zip(mask).map(|(octet, mask)| octet ^ mask);
    let family = if peer.is_ipv4() { 1 } else { 2 };
    draft.with(PEER, &[0, family, port[0], port[1]].into_iter().chain(octets).collect::<Vec<u8>>())
}

fn steps() -> impl Strategy<Value = Step> {
    let who = || 0..CLIENTS;
    // The relays of clients, too, for as long as they have one.
    let place = || 0..PLACES.len() + CLIENTS;
    let number = || prop::sample::select(vec![0x3fff_u16, 0x4000, 0x4000, 0x4001, 0x7fff]);
    let lost = || prop_oneof![6 => Just(Lost::Nothing), 1 => Just(Lost::Request), 2 => Just(Lost::Answer)];
    let lifetime = || prop::option::of(prop::sample::select(vec![0_u32, 1, 601, 900, 3600, u32::MAX]));
    let spans = [1, 30, 299, 300, 301, 599, 600, 1800, 3600].map(Duration::from_secs).to_vec();
    prop_oneof![
        8 => (who(), 1_u8..4, lifetime(), lost())
            .prop_map(|(who, families, lifetime, lost)| Step::Allocate { who, families, lifetime, lost }),
        3 => (who(), prop::option::of(any::<bool>()), lifetime(), lost())
            .prop_map(|(who, family, lifetime, lost)| Step::Refresh { who, family, lifetime, lost }),
        6 => (who(), prop::collection::vec(place(), 1..3), lost())
            .prop_map(|(who, peers, lost)| Step::Permit { who, peers, lost }),
        6 => (who(), number(), place(), lost())
            .prop_map(|(who, number, peer, lost)| Step::Bind { who, number, peer, lost }),
        10 => (who(), place()).prop_map(|(who, peer)| Step::Send { who, peer }),
        6 => (who(), number()).prop_map(|(who, number)| Step::ChannelData { who, number }),
        6 => (who(), 0..PLACES.len() - 1).prop_map(|(who, peer)| Step::Arrive { who, peer }),
        2 => (who(), 0..PLACES.len() - 1).prop_map(|(who, peer)| Step::Icmp { who, peer }),
        1 => who().prop_map(|who| Step::Close { who }),
        3 => (prop::sample::select(spans), any::<bool>()).prop_map(|(span, is_awake)| Step::Pass { span, is_awake }),
        4 => (0_usize..8, any::<bool>(), any::<bool>())
            .prop_map(|(nth, is_before, is_awake)| Step::PassToEnd { nth, is_before, is_awake }),
        3 => (0..MODES.len()).prop_map(|mode| Step::Change { mode }),
        1 => prop::bool::weighted(0.1).prop_map(|is_last| if is_last { Step::Drain } else { Step::Change { mode: 0 } }),
    ]
}

proptest! {
    #[test]
    fn the_relay_does_what_its_model_does(steps in prop::collection::vec(steps(), 1..120)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.model.prune();
            world.compare_living();
        }
        world.compare();
        world.pass(Duration::from_secs(3600), false);
        world.compare();
        prop_assert!(world.sim.sockets.is_empty() && world.sim.server.is_empty());
        prop_assert_eq!(world.sim.server.poll_timeout(), None);
    }
}
