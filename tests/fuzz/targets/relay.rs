//! A relay without sockets for the fuzzers, which checks what must hold whatever comes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rtcctl::config::{PeerMode, Secret};
use rtcctl::sys::clock::{self, Now};
use rtcctl::sys::net::Family;
use rtcctl::turn::credentials::{Credentials, issue};
use rtcctl::turn::peers::PeerPolicy;
use rtcctl::turn::server::{
    Action, Client, Forward, Frame, IcmpError, RelayAddress, RelayId, Server, Settings, Shared, Transport, Wanted,
};
use stun_types::attribute::{Nonce, RawAttribute, Realm, Username};
use stun_types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageClass, MessageType, MessageWrite as _,
    MessageWriteExt as _, MessageWriteVec, Method,
};
use turn_types::attribute::XorPeerAddress;

const REALM: &str = "fuzz";
const PORTS: std::ops::RangeInclusive<u16> = 50_000..=50_031;
const USER_QUOTA: u32 = 3;
/// How much longer than its request an answer to a stranger may be.
const MAX_AMPLIFICATION: usize = 3;

/// Bytes of the fuzzer, taken from the front; there is always another zero.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

pub struct Relay {
    server: Server,
    shared: Arc<Shared>,
    now: Now,
    user: Credentials,
    nonces: BTreeMap<Client, String>,
    /// Open relay sockets.
    sockets: BTreeMap<RelayId, SocketAddr>,
    kept: BTreeMap<u64, SocketAddr>,
    mode: PeerMode,
    transaction: u128,
}

impl Relay {
    pub fn new() -> Self {
        let (shared, now) = (Arc::new(Shared::new(PORTS)), clock::now());
        let secret = Secret::new(vec![b'f'; 32]);
        let user = issue(&secret, "fuzzer", 3600, now);
        let mut seed = 0_u64;
        let rng = move || {
            seed += 1;
            seed
        };
        let server = Server::new(Arc::new(settings(PeerMode::Public)), Arc::clone(&shared), now, Box::new(rng));
        let (nonces, sockets, kept) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { server, shared, now, user, nonces, sockets, kept, mode: PeerMode::Public, transaction: 0 }
    }

    /// Does one thing that the input says.
    pub fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 12 {
            0 | 1 => {
                let (client, length) = (client(input.byte()), input.short() % 1500);
                self.datagram(client, input.bytes(length.into()));
            }
            2..=5 => self.request(input),
            6 => {
                let (client, number, length) = (client(input.byte()), input.short(), input.byte());
                let bytes = [&number.to_be_bytes()[..], &[0, length], &vec![7; length.into()]].concat();
                self.datagram(client, &bytes);
            }
            7 => {
                let (relay, from, length) = (RelayId(input.byte().into()), peer(input), input.short());
                if self.sockets.contains_key(&relay) {
                    let forward = self.server.handle_peer(relay, from, length.into(), self.now);
                    self.check(forward, length.into());
                }
            }
            8 => {
                let (relay, to) = (RelayId(input.byte().into()), peer(input));
                let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
                let error = IcmpError { family, kind: input.byte(), code: input.byte(), data: input.short().into() };
                self.server.handle_icmp(relay, to, error, self.now);
            }
            9 => self.pass(Duration::from_secs(input.short().into())),
            10 => self.server.handle_closed(client(input.byte())),
            _ => {
                self.mode = [PeerMode::Itself, PeerMode::Public, PeerMode::Lan][usize::from(input.byte() % 3)];
                self.server.set_settings(Arc::new(settings(self.mode)), self.now);
            }
        }
        self.act(None);
        assert!(self.shared.allocations() <= USER_QUOTA, "more allocations than the quota");
        assert!(self.sockets.len() <= 2 * USER_QUOTA as usize, "more sockets than allocations");
        let addresses: BTreeSet<&SocketAddr> = self.sockets.values().collect();
        assert_eq!(addresses.len(), self.sockets.len(), "two allocations have one address");
    }

    /// A datagram as it comes.
    pub fn datagram(&mut self, client: Client, bytes: &[u8]) {
        let forward = self.server.handle_client(client, bytes, self.now);
        self.check(forward, bytes.len());
        self.act(Some(bytes));
    }

    /// A request with attributes of the input, signed as it should be.
    fn request(&mut self, input: &mut Input<'_>) {
        let client = client(input.byte());
        let method = Method::new([3, 4, 8, 9, 1, 6][usize::from(input.byte() % 6)]);
        if !self.nonces.contains_key(&client) {
            let mut plain = self.builder(Method::new(3));
            let udp = RawAttribute::new(0x0019.into(), &[17, 0, 0, 0]);
            plain.add_attribute(&udp).expect("it is the first");
            self.datagram(client, &plain.finish());
        }
        let Some(nonce) = self.nonces.get(&client).cloned() else { return };
        let mut request = self.builder(method);
        let count = input.byte() % 6;
        for _ in 0..count {
            let kind = attribute(input);
            if kind == 0x0012 && !input.byte().is_multiple_of(8) {
                let _ = request.add_attribute(&XorPeerAddress::new(peer(input), self.transaction.into()));
            } else {
                let length = input.byte() % 24;
                let value = input.bytes(length.into());
                let _ = request.add_attribute(&RawAttribute::new(kind.into(), value));
            }
        }
        let signed = (|| {
            request.add_attribute(&Username::new(&self.user.username).ok()?).ok()?;
            request.add_attribute(&Realm::new(REALM).ok()?).ok()?;
            request.add_attribute(&Nonce::new(&nonce).ok()?).ok()?;
            let name = (self.user.username.clone(), self.user.credential.clone());
            let algorithm =
                if input.byte().is_multiple_of(4) { IntegrityAlgorithm::Sha256 } else { IntegrityAlgorithm::Sha1 };
            let key = LongTermKeyCredentials::new(name.0, name.1, REALM.to_owned()).make_key(IntegrityAlgorithm::Sha1);
            request.add_message_integrity_with_key(&key, algorithm).ok()
        })();
        if signed.is_some() {
            self.datagram(client, &request.finish());
        }
    }

    /// A request with a transaction of its own, the same in every run.
    fn builder(&mut self, method: Method) -> MessageWriteVec {
        self.transaction += 1;
        let kind = MessageType::from_class_method(MessageClass::Request, method);
        Message::builder(kind, self.transaction.into(), MessageWriteVec::new())
    }

    fn pass(&mut self, span: Duration) {
        self.now = Now { mono: self.now.mono + span, wall: self.now.wall + span };
        self.server.handle_timeout(self.now);
        assert!(self.server.poll_timeout().is_none_or(|at| at > self.now.mono), "a deadline is left behind");
    }

    /// Does what the relay wants done. `request`: the one datagram that answers may be due to.
    fn act(&mut self, request: Option<&[u8]>) {
        while let Some(action) = self.server.poll_action() {
            match action {
                Action::Reply { client, message } => self.check_reply(client, &message, request),
                Action::Open { relay, family, wanted } => {
                    let address = self.open(family, wanted);
                    if let Some(address) = address {
                        assert_eq!(self.sockets.insert(relay, address), None, "{relay:?} was open");
                    }
                    self.server.handle_opened(relay, address, self.now);
                }
                Action::Close { relay } => {
                    assert!(self.sockets.remove(&relay).is_some(), "{relay:?} was not open");
                }
            }
        }
    }

    fn check_reply(&mut self, client: Client, bytes: &[u8], request: Option<&[u8]>) {
        let reply = Message::from_bytes(bytes).expect("an answer is a message");
        if let Ok(nonce) = reply.attribute::<Nonce>() {
            self.nonces.insert(client, nonce.nonce().to_owned());
        }
        if reply.class() == MessageClass::Indication {
            return;
        }
        let request = request.expect("only a request is answered");
        assert!(request.len() >= 20 && request[4..20] == bytes[4..20], "an answer to nobody");
        let is_authenticated = reply.has_attribute(0x0008.into()) || reply.has_attribute(0x001c.into());
        // Over a stream nobody is answered but who is there.
        let may_be_long = is_authenticated || client.transport != Transport::Udp;
        assert!(may_be_long || bytes.len() <= MAX_AMPLIFICATION * request.len(), "an answer is a gift");
    }

    fn check(&mut self, forward: Option<Forward>, length: usize) {
        match forward {
            None => {}
            Some(Forward::ToClient { client, frame, payload }) => {
                assert!(payload.start <= payload.end && payload.end <= length, "{payload:?} of {length}");
                let mut header = [0; Frame::MAX_HEADER];
                let _ = frame.write_header(client.transport, payload.len(), &mut header);
            }
            Some(Forward::ToPeer { relay, peer, payload, .. }) => {
                assert!(payload.start <= payload.end && payload.end <= length, "{payload:?} of {length}");
                let own = self.sockets.get(&relay).expect("data leave by an open socket");
                assert_eq!(own.is_ipv4(), peer.is_ipv4(), "data of one family leave by the other");
                assert!(self.may_be_reached(peer), "{peer} was reached in {:?}", self.mode);
            }
        }
    }

    /// Told another way than the relay does: only what surely may be reached.
    fn may_be_reached(&self, peer: SocketAddr) -> bool {
        let is_relay = self.sockets.values().chain(self.kept.values()).any(|address| *address == peer);
        let is_public = match peer.ip() {
            IpAddr::V4(v4) => {
                !(v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_unspecified())
            }
            IpAddr::V6(v6) => v6.segments()[0] & 0xe000 == 0x2000 && v6.segments()[0] != 0x2002,
        };
        let is_private = match peer.ip() {
            IpAddr::V4(v4) => v4.is_private(),
            IpAddr::V6(v6) => v6.is_unique_local(),
        };
        match self.mode {
            PeerMode::Itself | PeerMode::Custom => is_relay,
            PeerMode::Public => is_relay || (is_public && peer.port() >= 1024),
            PeerMode::Lan => is_relay || ((is_public || is_private) && peer.port() >= 1024),
        }
    }

    fn open(&mut self, family: Family, wanted: Wanted) -> Option<SocketAddr> {
        let address = if family == Family::V4 { relay_v4() } else { relay_v6() };
        let taken: BTreeSet<SocketAddr> = self.sockets.values().chain(self.kept.values()).copied().collect();
        let is_free = |port: u16| PORTS.contains(&port) && !taken.contains(&SocketAddr::new(address, port));
        match wanted {
            Wanted::Kept(token) => self.kept.remove(&token),
            Wanted::Any => PORTS.map(|port| SocketAddr::new(address, port)).find(|at| is_free(at.port())),
            Wanted::Even => {
                let even = PORTS.filter(|port| port % 2 == 0);
                even.map(|port| SocketAddr::new(address, port)).find(|at| is_free(at.port()))
            }
            Wanted::EvenAndNext(token) => {
                let port = PORTS.filter(|port| port % 2 == 0).find(|port| is_free(*port) && is_free(port + 1))?;
                self.kept.insert(token, SocketAddr::new(address, port + 1));
                Some(SocketAddr::new(address, port))
            }
        }
    }
}

fn settings(mode: PeerMode) -> Settings {
    let same = |address| RelayAddress { local: address, told: address };
    Settings {
        realm: REALM.to_owned(),
        secrets: vec![Secret::new(vec![b'f'; 32])],
        old_secrets_until: None,
        users: BTreeMap::new(),
        policy: PeerPolicy::new(mode, Vec::new(), Vec::new(), Vec::new()),
        relays: vec![same(relay_v4()), same(relay_v6())],
        listeners: Vec::new(),
        user_quota: USER_QUOTA,
        total_quota: 100,
        allocation_bandwidth: None,
        total_bandwidth: None,
        dont_fragment: true,
        nonce_key: [3; 32],
        probe_key: Secret::new(vec![b'p'; 32]),
    }
}

fn relay_v4() -> IpAddr {
    [198, 51, 100, 1].into()
}

fn relay_v6() -> IpAddr {
    [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()
}

pub fn client(number: u8) -> Client {
    let transport = [Transport::Udp, Transport::Udp, Transport::Tcp, Transport::Tls][usize::from(number % 4)];
    let remote = SocketAddr::new([203, 0, 113, number % 8].into(), 40_000);
    Client { remote, local: [192, 0, 2, 1].into(), transport, via: u32::from(number % 4) }
}

/// Addresses that matter are more likely than others.
fn peer(input: &mut Input<'_>) -> SocketAddr {
    let kind = input.byte();
    let port = if kind & 0x80 == 0 { 50_000 + u16::from(input.byte() % 32) } else { input.short() };
    let address: IpAddr = match kind % 6 {
        0 => relay_v4(),
        1 => relay_v6(),
        2 => [9, 9, 9, kind].into(),
        3 => [0x2606, 0x4700, 0, 0, 0, 0, 0, u16::from(kind)].into(),
        4 => [input.byte(), input.byte(), input.byte(), input.byte()].into(),
        _ => [input.short(), input.short(), 0, 0, 0, input.short(), input.short(), input.short()].into(),
    };
    SocketAddr::new(address, port)
}

/// Attribute types that TURN knows are more likely than others.
fn attribute(input: &mut Input<'_>) -> u16 {
    const KNOWN: [u16; 14] = [
        0x000c, 0x000d, 0x0012, 0x0013, 0x0016, 0x0017, 0x0018, 0x0019, 0x001a, 0x0022, 0x8000, 0x8001, 0x8004, 0x8030,
    ];
    let choice = input.byte();
    let kind = KNOWN.get(usize::from(choice % 16)).copied().unwrap_or_else(|| input.short());
    // The codec writes integrities and fingerprints by itself, and panics when it is asked to copy one.
    if [0x0008, 0x001c, 0x8028].contains(&kind) { 0x7fff } else { kind }
}
