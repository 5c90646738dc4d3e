//! A relay with clients and no network: time passes when a test says so, from one deadline to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use stun_types::attribute::{
    AttributeWrite, ErrorCode, MessageIntegrity, Nonce, Realm, UnknownAttributes, Username, XorMappedAddress,
};
use stun_types::message::{
    IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message, MessageClass, MessageWrite as _,
    MessageWriteExt as _, MessageWriteVec, Method,
};
use stun_types::prelude::{Attribute as _, AttributeFromRaw as _, AttributeStaticType as _};
use turn_types::attribute::{
    ChannelNumber, Data, DontFragment, Lifetime, RequestedTransport, ReservationToken, XorPeerAddress,
    XorRelayedAddress,
};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, REFRESH, SEND};

use super::{Action, Client, Forward, RelayAddress, RelayId, Server, Settings, Shared, Transport, Wanted};
use crate::config::{PeerMode, Secret};
use crate::sys::clock::{self, Now};
use crate::sys::net::Family;
use crate::turn::credentials;
use crate::turn::peers::PeerPolicy;

/// What passwords are derived from.
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
pub(super) const REALM: &str = "call.example";
/// Where relay sockets are bound.
pub(super) const RELAY_V4: &str = "198.51.100.1";
pub(super) const RELAY_V6: &str = "2001:db8::1";

/// An address of the test's, from text.
pub(super) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A somebody on the internet that is no client.
pub(super) fn peer() -> SocketAddr {
    addr("9.9.9.9:50000")
}

/// A user at an address.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) client: Client,
    pub(super) username: String,
    pub(super) password: String,
    pub(super) nonce: String,
    /// Its relay, once it has one.
    pub(super) relay: SocketAddr,
}

impl Caller {
    pub(super) fn key(&self) -> IntegrityKey {
        LongTermKeyCredentials::new(self.username.clone(), self.password.clone(), REALM.to_owned())
            .make_key(IntegrityAlgorithm::Sha1)
    }

    /// The bytes of a request that is signed as it should be.
    pub(super) fn sign(&self, method: Method, attributes: &[&dyn AttributeWrite]) -> Vec<u8> {
        let mut request = Message::builder_request(method, MessageWriteVec::new());
        for attribute in attributes {
            request.add_attribute(*attribute).unwrap();
        }
        request.add_attribute(&Username::new(&self.username).unwrap()).unwrap();
        request.add_attribute(&Realm::new(REALM).unwrap()).unwrap();
        request.add_attribute(&Nonce::new(&self.nonce).unwrap()).unwrap();
        request.add_message_integrity_with_key(&self.key(), IntegrityAlgorithm::Sha1).unwrap();
        request.finish()
    }
}

/// An answer of the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply(pub(super) Vec<u8>);

impl Reply {
    pub(super) fn message(&self) -> Message<'_> {
        Message::from_bytes(&self.0).unwrap()
    }

    /// `Err` with the code of an error response.
    pub(super) fn result(&self) -> Result<(), u16> {
        let message = self.message();
        if message.class() == MessageClass::Success { Ok(()) } else { Err(self.code()) }
    }

    pub(super) fn code(&self) -> u16 {
        self.message().attribute::<ErrorCode>().unwrap().code()
    }

    pub(super) fn nonce(&self) -> Option<String> {
        self.message().attribute::<Nonce>().ok().map(|nonce| nonce.nonce().to_owned())
    }

    pub(super) fn has_integrity(&self) -> bool {
        self.message().has_attribute(MessageIntegrity::TYPE)
    }

    pub(super) fn lifetime(&self) -> u32 {
        self.message().attribute::<Lifetime>().unwrap().seconds()
    }

    pub(super) fn mapped(&self) -> SocketAddr {
        let message = self.message();
        message.attribute::<XorMappedAddress>().unwrap().addr(message.transaction_id())
    }

    pub(super) fn relayed(&self) -> SocketAddr {
        let message = self.message();
        message.attribute::<XorRelayedAddress>().unwrap().addr(message.transaction_id())
    }

    pub(super) fn token(&self) -> Option<u64> {
        self.message().attribute::<ReservationToken>().ok().map(|token| token.token())
    }

    /// All relayed addresses: a dual allocation has two.
    pub(super) fn all_relayed(&self) -> Vec<SocketAddr> {
        let message = self.message();
        let relays = message.iter_attributes().filter(|(_, raw)| raw.get_type() == XorRelayedAddress::TYPE);
        let id = message.transaction_id();
        relays.map(|(_, raw)| XorRelayedAddress::from_raw_ref(&raw).unwrap().addr(id)).collect()
    }

    pub(super) fn lists_unknown(&self, kind: u16) -> bool {
        self.message().attribute::<UnknownAttributes>().unwrap().has_attribute(kind.into())
    }
}

pub(super) struct Sim {
    pub(super) server: Server,
    pub(super) shared: Arc<Shared>,
    pub(super) settings: Settings,
    pub(super) now: Now,
    secret: Secret,
    /// Open relay sockets.
    pub(super) sockets: BTreeMap<RelayId, SocketAddr>,
    kept: BTreeMap<u64, SocketAddr>,
    free_ports: BTreeSet<u16>,
    /// The family of which no socket can be had.
    pub(super) fails: Option<Family>,
    next_host: u8,
}

impl Sim {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    /// A relay with settings of the test's own.
    pub(super) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let secret = Secret::new(SECRET.to_vec());
        let same = |text: &str| {
            let address: IpAddr = text.parse().unwrap();
            RelayAddress { local: address, told: address }
        };
        let mut settings = Settings {
            realm: REALM.to_owned(),
            secrets: vec![secret],
            old_secrets_until: None,
            policy: PeerPolicy::new(PeerMode::Public, Vec::new(), Vec::new(), Vec::new()),
            relays: vec![same(RELAY_V4), same(RELAY_V6)],
            users: BTreeMap::new(),
            listeners: vec![addr("192.0.2.1:3478")],
            user_quota: 12,
            total_quota: 100,
            allocation_bandwidth: None,
            total_bandwidth: None,
            dont_fragment: false,
            nonce_key: [7; 32],
            probe_key: Secret::new(vec![9; 32]),
        };
        change(&mut settings);
        Self::shard(settings, Arc::new(Shared::new(49160..=49199)), 49160, clock::now())
    }

    /// Another shard of the same relay, whose ports are others.
    pub(super) fn another(&self, first_port: u16) -> Self {
        let mut sim = Self::shard(self.settings.clone(), Arc::clone(&self.shared), first_port, self.now);
        sim.next_host = 100;
        sim
    }

    fn shard(settings: Settings, shared: Arc<Shared>, first_port: u16, now: Now) -> Self {
        let secret = Secret::new(SECRET.to_vec());
        let mut seed = 0;
        let rng = move || {
            seed += 1;
            seed
        };
        let server = Server::new(Arc::new(settings.clone()), Arc::clone(&shared), now, Box::new(rng));
        let free_ports = (first_port..first_port + 20).collect();
        Self {
            server,
            shared,
            settings,
            now,
            secret,
            sockets: BTreeMap::new(),
            kept: BTreeMap::new(),
            free_ports,
            fails: None,
            next_host: 1,
        }
    }

    /// A user at an address of its own, with a credential of an hour and a fresh nonce.
    pub(super) fn user(&mut self, name: &str) -> Caller {
        let remote = SocketAddr::new([203, 0, 113, self.next_host].into(), 40000);
        self.next_host += 1;
        self.user_at(name, remote)
    }

    pub(super) fn user_at(&mut self, name: &str, remote: SocketAddr) -> Caller {
        self.user_by(name, remote, Transport::Udp, 0)
    }

    pub(super) fn user_by(&mut self, name: &str, remote: SocketAddr, transport: Transport, via: u32) -> Caller {
        let client = Client { remote, local: "192.0.2.1".parse().unwrap(), transport, via };
        let issued = credentials::issue(&self.secret, name, 3600, self.now);
        let relay = addr("0.0.0.0:0");
        let nonce = String::new();
        let mut caller = Caller { client, username: issued.username, password: issued.credential, nonce, relay };
        caller.nonce = self.challenge(&caller);
        caller
    }

    /// The nonce that an unsigned Allocate is answered with.
    pub(super) fn challenge(&mut self, caller: &Caller) -> String {
        let mut request = Message::builder_request(ALLOCATE, MessageWriteVec::new());
        request.add_attribute(&RequestedTransport::new(RequestedTransport::UDP)).unwrap();
        let reply = self.deliver(caller.client, &request.finish()).unwrap();
        assert_eq!(reply.code(), ErrorCode::UNAUTHORIZED);
        reply.nonce().unwrap()
    }

    /// Hands in a datagram that leads to no forwarding; gives the one answer, if there is one.
    pub(super) fn deliver(&mut self, client: Client, bytes: &[u8]) -> Option<Reply> {
        assert_eq!(self.server.handle_client(client, bytes, self.now), None);
        let mut replies = self.drain();
        assert!(replies.len() <= 1, "{replies:?}");
        let (to, reply) = replies.pop()?;
        assert_eq!(to, client);
        Some(reply)
    }

    /// Does what the relay wants done.
    pub(super) fn drain(&mut self) -> Vec<(Client, Reply)> {
        let mut replies = Vec::new();
        while let Some(action) = self.server.poll_action() {
            match action {
                Action::Reply { client, message } => replies.push((client, Reply(message))),
                Action::Open { relay, family, wanted } => {
                    let address = self.open(family, wanted);
                    if let Some(address) = address {
                        assert_eq!(self.sockets.insert(relay, address), None, "{relay:?} was open");
                    }
                    self.server.handle_opened(relay, address, self.now);
                }
                Action::Close { relay } => {
                    let address = self.sockets.remove(&relay).expect("only an open socket is closed");
                    self.free_ports.insert(address.port());
                }
            }
        }
        replies
    }

    /// Changes the settings of the live relay.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        self.server.set_settings(Arc::new(self.settings.clone()), self.now);
        assert_eq!(self.drain(), [], "nothing is said when the settings change");
    }

    fn open(&mut self, family: Family, wanted: Wanted) -> Option<SocketAddr> {
        if self.fails == Some(family) {
            return None;
        }
        let relay = if family == Family::V4 { RELAY_V4 } else { RELAY_V6 };
        let port = match wanted {
            Wanted::Kept(token) => {
                let is_of_family = |kept: &SocketAddr| kept.is_ipv4() == (family == Family::V4);
                return self.kept.remove(&token).filter(is_of_family);
            }
            Wanted::Any => *self.free_ports.first()?,
            Wanted::Even | Wanted::EvenAndNext(_) => *self.free_ports.iter().find(|port| **port % 2 == 0)?,
        };
        self.free_ports.remove(&port);
        let at = |port| SocketAddr::new(relay.parse().unwrap(), port);
        if let Wanted::EvenAndNext(token) = wanted {
            self.free_ports.remove(&(port + 1)).then(|| self.kept.insert(token, at(port + 1)))?;
        }
        Some(at(port))
    }

    /// A signed request and its answer.
    pub(super) fn ask(&mut self, caller: &Caller, method: Method, attributes: &[&dyn AttributeWrite]) -> Reply {
        let bytes = caller.sign(method, attributes);
        self.deliver(caller.client, &bytes).expect("a signed request is answered")
    }

    pub(super) fn allocate_by(&mut self, caller: &mut Caller, more: &[&dyn AttributeWrite]) -> Result<Reply, u16> {
        let udp = RequestedTransport::new(RequestedTransport::UDP);
        let reply = self.ask(caller, ALLOCATE, &[&[&udp as &dyn AttributeWrite], more].concat());
        reply.result()?;
        caller.relay = reply.relayed();
        Ok(reply)
    }

    /// A new user with an allocation.
    pub(super) fn allocate(&mut self, name: &str) -> Caller {
        let mut caller = self.user(name);
        self.allocate_by(&mut caller, &[]).unwrap();
        caller
    }

    /// The lifetime that a Refresh grants.
    pub(super) fn refresh(&mut self, caller: &Caller, lifetime: u32) -> Result<u32, u16> {
        let reply = self.ask(caller, REFRESH, &[&Lifetime::new(lifetime)]);
        reply.result().map(|()| reply.lifetime())
    }

    pub(super) fn permit(&mut self, caller: &Caller, peers: &[SocketAddr]) -> Result<(), u16> {
        let id = stun_types::message::TransactionId::generate();
        let mut request = Message::builder(
            stun_types::message::MessageType::from_class_method(MessageClass::Request, CREATE_PERMISSION),
            id,
            MessageWriteVec::new(),
        );
        for peer in peers {
            request.add_attribute(&XorPeerAddress::new(*peer, id)).unwrap();
        }
        self.finish(caller, request).result()
    }

    pub(super) fn bind_channel(&mut self, caller: &Caller, number: u16, peer: SocketAddr) -> Result<(), u16> {
        let id = stun_types::message::TransactionId::generate();
        let mut request = Message::builder(
            stun_types::message::MessageType::from_class_method(MessageClass::Request, CHANNEL_BIND),
            id,
            MessageWriteVec::new(),
        );
        request.add_attribute(&ChannelNumber::new(number)).unwrap();
        request.add_attribute(&XorPeerAddress::new(peer, id)).unwrap();
        self.finish(caller, request).result()
    }

    fn finish(&mut self, caller: &Caller, mut request: MessageWriteVec) -> Reply {
        request.add_attribute(&Username::new(&caller.username).unwrap()).unwrap();
        request.add_attribute(&Realm::new(REALM).unwrap()).unwrap();
        request.add_attribute(&Nonce::new(&caller.nonce).unwrap()).unwrap();
        request.add_message_integrity_with_key(&caller.key(), IntegrityAlgorithm::Sha1).unwrap();
        self.deliver(caller.client, &request.finish()).expect("a signed request is answered")
    }

    /// What a Send indication leads to, with the payload it carries.
    pub(super) fn send(&mut self, caller: &Caller, peer: SocketAddr, data: &[u8]) -> Option<(Forward, Vec<u8>)> {
        let mut indication = Message::builder_indication(SEND, MessageWriteVec::new());
        let address = XorPeerAddress::new(peer, indication.transaction_id());
        indication.add_attribute(&address).unwrap();
        indication.add_attribute(&Data::new(data)).unwrap();
        self.forward(caller, &indication.finish())
    }

    /// A Send indication that must not be fragmented.
    pub(super) fn send_whole(&mut self, caller: &Caller, peer: SocketAddr, data: &[u8]) -> Option<(Forward, Vec<u8>)> {
        let mut indication = Message::builder_indication(SEND, MessageWriteVec::new());
        let address = XorPeerAddress::new(peer, indication.transaction_id());
        indication.add_attribute(&address).unwrap();
        indication.add_attribute(&DontFragment::new()).unwrap();
        indication.add_attribute(&Data::new(data)).unwrap();
        self.forward(caller, &indication.finish())
    }

    pub(super) fn send_on_channel(&mut self, caller: &Caller, number: u16, data: &[u8]) -> Option<(Forward, Vec<u8>)> {
        let length = u16::try_from(data.len()).unwrap();
        let bytes = [&number.to_be_bytes(), &length.to_be_bytes(), data].concat();
        self.forward(caller, &bytes)
    }

    pub(super) fn forward(&mut self, caller: &Caller, bytes: &[u8]) -> Option<(Forward, Vec<u8>)> {
        let forward = self.server.handle_client(caller.client, bytes, self.now);
        assert_eq!(self.drain(), [], "relayed data is never answered");
        let (Forward::ToClient { payload, .. } | Forward::ToPeer { payload, .. }) = forward.as_ref()?;
        let payload = bytes[payload.clone()].to_vec();
        Some((forward?, payload))
    }

    /// What a datagram from `peer` to the caller's relay socket leads to.
    pub(super) fn arrive(&mut self, caller: &Caller, peer: SocketAddr, len: usize) -> Option<Forward> {
        let relay = self.socket_of(caller)?;
        let forward = self.server.handle_peer(relay, peer, len, self.now);
        assert_eq!(self.drain(), []);
        forward
    }

    /// The caller's relay socket, while it is open.
    pub(super) fn socket_of(&self, caller: &Caller) -> Option<RelayId> {
        self.sockets.iter().find(|(_, address)| **address == caller.relay).map(|(relay, _)| *relay)
    }

    /// Lets time pass, waking the relay at each of its deadlines on the way.
    pub(super) fn advance(&mut self, span: Duration) {
        let end = self.now.mono + span;
        while let Some(at) = self.server.poll_timeout().filter(|at| *at <= end) {
            self.pass(at.saturating_duration_since(self.now.mono));
            self.server.handle_timeout(self.now);
            assert_eq!(self.drain(), [], "nothing is said when something ends");
        }
        self.pass(end.saturating_duration_since(self.now.mono));
    }

    /// Lets time pass without waking the relay, as when a loop is late.
    pub(super) fn pass(&mut self, span: Duration) {
        self.now = Now { mono: self.now.mono + span, wall: self.now.wall + span };
    }
}
