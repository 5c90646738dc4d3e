//! The relay where the network has something to say, and where it is changed or stopped while it serves.
//!
//! Loopback peers are never relayed to, so these run in network namespaces.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

mod common;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/coturn.rs"]
mod coturn;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use coturn::{EchoPeer, Namespaces, PATIENCE, PEER, SERVER, enter};
use rtcctl::config::{PeerMode, Secret, Secrets, TurnConfig};
use rtcctl::error::Result;
use rtcctl::supervisor::service::{Context, Report, Service as _};
use rtcctl::sys::clock;
use rtcctl::turn::credentials::{Credentials, issue};
use rtcctl::turn::{Control, Counters, Dropped, Outcome, Turn, bind};
use stun_types::attribute::{ErrorCode, Nonce, Realm, Username};
use stun_types::message::{
    IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageWrite as _, MessageWriteExt as _, MessageWriteVec,
    Method,
};
use tokio_util::sync::CancellationToken;
use turn_types::attribute::{ChannelNumber, Icmp, Lifetime, RequestedTransport, XorPeerAddress};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, DATA, REFRESH};

const REALM: &str = "rtcctl";
/// Where coturn's echo server listens.
const ECHO: (Ipv4Addr, u16) = (PEER, 3480);

/// Rows T36, T38.
/// Case 80.
#[test]
fn a_peer_that_cannot_be_reached_does_not_keep_the_relay_from_another_one_and_its_client_is_told() {
    let Some(net) = net() else { return };
    let relay = Relay::start(&net, config());
    let _peer = EchoPeer::start(&net);
    let mut client = Client::new(&net, &relay);
    assert_eq!(client.allocate(), None);
    client.bind(0x4000, ECHO.into());
    // No route leads to the first; nobody is at the second, or listens at the third.
    let unreachable: [SocketAddr; 3] =
        ["9.9.9.9:5000", "10.77.0.9:5000", "10.77.0.2:5000"].map(|text| text.parse().unwrap());
    for (number, peer) in (0x4001..).zip(unreachable) {
        client.bind(number, peer);
        for round in 0..3 {
            client.send(number, b"anybody?");
            let text = format!("still there, {peer} {round}?");
            client.send(0x4000, text.as_bytes());
            assert_eq!(client.receive(0x4000), text.as_bytes());
        }
    }
    while !client.told.iter().any(|(peer, ..)| *peer == unreachable[2]) {
        client.send(0x4003, b"anybody?");
        client.send(0x4000, b"next");
        client.receive(0x4000);
    }
    // Destination unreachable, port unreachable.
    let told = client.told.iter().filter(|(peer, ..)| *peer == unreachable[2]);
    assert!(told.clone().all(|(_, kind, code)| (*kind, *code) == (3, 3)), "{:?}", client.told);
    assert!(client.told.iter().all(|(peer, ..)| *peer != unreachable[0]));
    let counters = relay.stop().unwrap();
    assert_eq!(counters.dropped(Dropped::SendFailed), 3);
}

#[test]
fn where_icmp_is_off_nobody_is_told_and_everybody_is_served() {
    let Some(net) = net() else { return };
    let relay = Relay::start(&net, TurnConfig { icmp: false, ..config() });
    let _peer = EchoPeer::start(&net);
    let mut client = Client::new(&net, &relay);
    assert_eq!(client.allocate(), None);
    client.bind(0x4000, ECHO.into());
    client.bind(0x4001, (PEER, 5000).into());
    for round in 0..20_u8 {
        client.send(0x4001, b"anybody?");
        client.send(0x4000, &[round]);
        assert_eq!(client.receive(0x4000), [round]);
    }
    assert_eq!(client.told, []);
    assert_eq!(relay.stop().unwrap().dropped(Dropped::SendFailed), 0);
}

#[test]
fn what_a_peer_sends_in_bursts_arrives_whole_and_in_order() {
    const BURST: u8 = 40;
    let Some(net) = net() else { return };
    let relay = Relay::start(&net, config());
    let _peer = EchoPeer::start(&net);
    let mut client = Client::new(&net, &relay);
    assert_eq!(client.allocate(), None);
    client.bind(0x4000, ECHO.into());
    for number in 0..BURST {
        // Of two sizes, so that they are not all alike.
        client.send(0x4000, &vec![number; if number % 8 == 7 { 300 } else { 1000 }]);
    }
    for number in 0..BURST {
        let payload = client.receive(0x4000);
        assert!(payload.iter().all(|byte| *byte == number), "{number}: {:?}", payload.first());
    }
    let counters = relay.stop().unwrap();
    assert_eq!(Counters::read(&counters.relayed_packets), 2 * u64::from(BURST));
}

/// Case 91.
#[test]
fn traffic_of_a_peer_that_is_denied_from_now_on_stops_and_the_allocation_stays() {
    let Some(net) = net() else { return };
    let relay = Relay::start(&net, config());
    let _peer = EchoPeer::start(&net);
    let mut client = Client::new(&net, &relay);
    assert_eq!(client.allocate(), None);
    client.bind(0x4000, ECHO.into());
    client.send(0x4000, b"allowed");
    assert_eq!(client.receive(0x4000), b"allowed");
    relay.control.apply(&TurnConfig { peers: PeerMode::Public, ..config() }, &secrets());
    client.send(0x4000, b"denied");
    // Answered after what was sent before has been dealt with.
    assert_eq!(client.refresh(600), None);
    let counters = relay.stop().unwrap();
    assert_eq!(Counters::read(&counters.relayed_packets), 2);
    assert_eq!(counters.dropped(Dropped::NoChannel), 1);
}

/// Case 92.
#[test]
fn a_relay_that_is_told_to_stop_serves_those_who_are_there_and_nobody_else() {
    let Some(net) = net() else { return };
    let relay = Relay::start(&net, TurnConfig { drain: PATIENCE, ..config() });
    let _peer = EchoPeer::start(&net);
    let mut client = Client::new(&net, &relay);
    assert_eq!(client.allocate(), None);
    client.bind(0x4000, ECHO.into());
    relay.stopping.cancel();
    // Of all workers: the kernel chooses by the client's port.
    for _ in 0..8 {
        let mut late = Client::new(&net, &relay);
        // The workers hear of it within a moment; whoever was in time is not late.
        while late.allocate().is_none() {
            assert_eq!(late.refresh(0), None);
        }
        assert_eq!(late.allocate(), Some(508));
    }
    client.send(0x4000, b"still served");
    assert_eq!(client.receive(0x4000), b"still served");
    assert_eq!(client.refresh(0), None);
    let counters = relay.stop().unwrap();
    assert!(counters.outcome(Outcome::NoCapacity) >= 16);
    assert_eq!(Counters::read(&counters.allocations), 0);
}

fn net() -> Option<Namespaces> {
    if !["turnutils_peer", "ip"].into_iter().all(common::has_program) {
        return None;
    }
    let net = Namespaces::new();
    if net.is_none() {
        common::skip("network namespaces need root");
    }
    net
}

fn config() -> TurnConfig {
    TurnConfig {
        bind: vec![SERVER.into()],
        port: 0,
        relay_ports: 20_000..=29_999,
        relay_ips: vec![SERVER.into()],
        peers: PeerMode::Lan,
        workers: 2,
        drain: Duration::ZERO,
        ..TurnConfig::default()
    }
}

fn secrets() -> Secrets {
    Secrets {
        turn: vec![Secret::new(b"0123456789abcdef0123456789abcdef".to_vec())],
        turn_users: BTreeMap::new(),
        acme_bindings: BTreeMap::new(),
        metrics_token: None,
        access_key: None,
        turn_old_until: None,
    }
}

/// The task as the supervisor runs it, on a thread of its own.
struct Relay {
    address: SocketAddr,
    control: Control,
    counters: Arc<Counters>,
    stopping: CancellationToken,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Relay {
    fn start(net: &Namespaces, config: TurnConfig) -> Self {
        let counters = Arc::new(Counters::default());
        let (sender, receiver) = mpsc::channel();
        let stopping = CancellationToken::new();
        let (for_turn, token, namespace) = (Arc::clone(&counters), stopping.clone(), net.server.clone());
        let thread = std::thread::spawn(move || {
            enter(&namespace);
            let sockets = bind(&config).unwrap();
            let address = sockets.addresses()[0];
            let turn = Turn::new(&config, &secrets(), sockets, for_turn);
            let control = turn.control();
            let report = move |report: Report| {
                if report == Report::Ready {
                    sender.send((address, control.clone())).unwrap();
                }
            };
            turn.run(Context::new(Arc::new(report), Arc::default(), token))
        });
        let (address, control) = receiver.recv_timeout(PATIENCE).unwrap();
        Self { address, control, counters, stopping, thread: Some(thread) }
    }

    fn stop(mut self) -> Result<Arc<Counters>> {
        self.stopping.cancel();
        self.thread.take().unwrap().join().unwrap()?;
        Ok(Arc::clone(&self.counters))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stopping.cancel();
        // A failing test has said what is wrong already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A client that does one thing after the other.
struct Client {
    socket: UdpSocket,
    issued: Credentials,
    nonce: String,
    /// What the network said, as the relay passed it on: peer, type and code.
    told: Vec<(SocketAddr, u8, u8)>,
}

impl Client {
    fn new(net: &Namespaces, relay: &Relay) -> Self {
        let (namespace, server) = (net.peer.clone(), relay.address);
        let socket = std::thread::spawn(move || {
            enter(&namespace);
            let socket = UdpSocket::bind((PEER, 0)).unwrap();
            socket.connect(server).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        });
        let issued = issue(&secrets().turn[0], "lan", 600, clock::now());
        Self { socket: socket.join().unwrap(), issued, nonce: "none yet".to_owned(), told: Vec::new() }
    }

    /// Gives the error code, if there is one.
    fn allocate(&mut self) -> Option<u16> {
        let add = |request: &mut MessageWriteVec| {
            request.add_attribute(&RequestedTransport::new(RequestedTransport::UDP)).unwrap();
        };
        // The first one learns the nonce.
        match self.request(ALLOCATE, add) {
            Some(401 | 438) => self.request(ALLOCATE, add),
            answer => answer,
        }
    }

    fn refresh(&mut self, seconds: u32) -> Option<u16> {
        self.request(REFRESH, |request| request.add_attribute(&Lifetime::new(seconds)).unwrap())
    }

    fn bind(&mut self, number: u16, peer: SocketAddr) {
        let answer = self.request(CHANNEL_BIND, |request| {
            let address = XorPeerAddress::new(peer, request.transaction_id());
            request.add_attribute(&ChannelNumber::new(number)).unwrap();
            request.add_attribute(&address).unwrap();
        });
        assert_eq!(answer, None);
    }

    fn request(&mut self, method: Method, add: impl Fn(&mut MessageWriteVec)) -> Option<u16> {
        let mut request = Message::builder_request(method, MessageWriteVec::new());
        let id = request.transaction_id();
        add(&mut request);
        let Credentials { username, credential, .. } = &self.issued;
        let key = LongTermKeyCredentials::new(username.clone(), credential.clone(), REALM.to_owned());
        request.add_attribute(&Username::new(username).unwrap()).unwrap();
        request.add_attribute(&Realm::new(REALM).unwrap()).unwrap();
        request.add_attribute(&Nonce::new(&self.nonce).unwrap()).unwrap();
        let key = key.make_key(IntegrityAlgorithm::Sha1);
        request.add_message_integrity_with_key(&key, IntegrityAlgorithm::Sha1).unwrap();
        self.socket.send(&request.finish()).unwrap();
        loop {
            let bytes = self.read();
            let Ok(answer) = Message::from_bytes(&bytes) else { continue };
            if answer.transaction_id() != id {
                continue;
            }
            if let Ok(nonce) = answer.attribute::<Nonce>() {
                self.nonce = nonce.nonce().to_owned();
            }
            return answer.attribute::<ErrorCode>().ok().map(|error| error.code());
        }
    }

    fn send(&self, number: u16, payload: &[u8]) {
        let length = u16::try_from(payload.len()).unwrap();
        self.socket.send(&[&number.to_be_bytes()[..], &length.to_be_bytes(), payload].concat()).unwrap();
    }

    /// The next payload on a channel.
    fn receive(&mut self, number: u16) -> Vec<u8> {
        loop {
            let bytes = self.read();
            if bytes.starts_with(&number.to_be_bytes()) {
                return bytes[4..].to_vec();
            }
        }
    }

    fn read(&mut self) -> Vec<u8> {
        let mut buffer = [0; 2000];
        let length = self.socket.recv(&mut buffer).unwrap();
        let bytes = buffer[..length].to_vec();
        if let Ok(message) = Message::from_bytes(&bytes)
            && message.has_method(DATA)
            && let Ok(icmp) = message.attribute::<Icmp>()
        {
            let peer = message.attribute::<XorPeerAddress>().unwrap().addr(message.transaction_id());
            self.told.push((peer, icmp.icmp_type(), icmp.code()));
        }
        bytes
    }
}
