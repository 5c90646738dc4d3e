//! The relay against clients that others wrote: coturn's tools and the `turn` crate's client.
//!
//! Loopback peers are never relayed to, so what needs a peer that is no client runs in network namespaces.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

mod common;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/coturn.rs"]
mod coturn;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use assert_cmd::cargo::cargo_bin_cmd;
use coturn::{EchoPeer, Namespaces, PATIENCE, SERVER, enter, is_without_loss, tool};
use rtcctl::config::{self, PeerMode, Secret, Secrets, TurnConfig};
use rtcctl::error::Result;
use rtcctl::home::Home;
use rtcctl::supervisor::service::{Context, Report, Service as _};
use rtcctl::sys::clock;
use rtcctl::turn::credentials::{Credentials, issue};
use rtcctl::turn::{Counters, Turn, bind};
use tokio_util::sync::CancellationToken;
use turn::client::{Client, ClientConfig};
use webrtc_util::Conn as _;

#[test]
fn the_turn_crates_clients_relay_to_each_other_both_ways() {
    let relay = Relay::start(TurnConfig { workers: 1, ..loopback() }, secrets());
    block_on(converse(&relay));
    let counters = relay.stop().unwrap();
    assert_eq!(Counters::read(&counters.relayed_packets), u64::from(MESSAGES) * 2);
    assert_eq!(Counters::read(&counters.allocations), 0);
}

#[test]
fn clients_of_different_workers_relay_to_each_other() {
    // The kernel chooses a client's worker. That all of these meet their partner on one happens once in ten million.
    const PAIRS: u64 = 12;
    let relay = Relay::start(TurnConfig { workers: 4, ..loopback() }, secrets());
    for _ in 0..PAIRS {
        block_on(converse(&relay));
    }
    let counters = relay.stop().unwrap();
    assert_eq!(Counters::read(&counters.relayed_packets), PAIRS * u64::from(MESSAGES) * 2);
}

#[test]
fn the_turn_crates_client_is_refused_with_a_wrong_password() {
    let relay = Relay::start(loopback(), secrets());
    let mut wrong = relay.credentials("alice");
    wrong.credential.push('x');
    let attempt = async { client(relay.address, &wrong).await.allocate().await.err().map(|error| error.to_string()) };
    let error = block_on(attempt);
    assert!(error.unwrap().contains("401"));
}

#[test]
fn a_restarted_relay_serves_on_the_same_port() {
    let relay = Relay::start(loopback(), secrets());
    let again = relay.restart();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let binding = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    socket.send_to(&binding, again.address).unwrap();
    let mut buffer = [0; 100];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!((length, from, &buffer[..2]), (32, again.address, &[1, 1][..]));
}

#[test]
fn coturns_stun_client_learns_its_address() {
    if !common::has_program("turnutils_stunclient") {
        return;
    }
    let relay = Relay::start(loopback(), secrets());
    let port = relay.address.port().to_string();
    let told = tool(None, "turnutils_stunclient", &["-p", &port, "127.0.0.1"]);
    assert!(told.contains("UDP reflexive addr: 127.0.0.1:"), "{told}");
}

#[test]
fn coturns_client_relays_without_loss_with_what_the_command_line_prints() {
    if !common::has_program("turnutils_uclient") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let rtcctl = |args: &[&str]| {
        let mut command = cargo_bin_cmd!("rtcctl");
        command.arg("--home").arg(&home).args(args).env_remove("RTCCTL_HOME");
        let output = command.timeout(PATIENCE).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let (web, turn) = (common::ports::free_port().to_string(), common::ports::free_port().to_string());
    let ports = ["--web-port", &web, "--turn-port", &turn, "--http-port", "off"];
    rtcctl(&[&["init", "--yes", "--firewall", "skip", "--host", "127.0.0.1"][..], &ports].concat());
    let (_, secrets) = config::load(&Home::under(&home)).unwrap();
    let relay = Relay::start(loopback(), secrets);
    let printed = rtcctl(&["turn", "credentials", "--json", "--ttl", "600", "--user", "interop"]);
    let document: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((document["schema_version"].as_u64(), document["ttl"].as_u64()), (Some(1), Some(600)));
    let text = |key: &str| document[key].as_str().unwrap().to_owned();
    let issued = Credentials { username: text("username"), credential: text("credential"), ttl: 600 };
    assert!(issued.username.ends_with(":interop"));
    // By channels and by indications, with and without a second allocation on the next port.
    for flags in [&["-y"][..], &["-y", "-c"], &["-y", "-s"], &["-y", "-s", "-c"]] {
        relay.assert_no_loss(None, &issued, flags, "127.0.0.1");
    }
    assert!(Counters::read(&relay.counters.relayed_packets) > 0);
}

#[test]
fn coturns_client_relays_over_ipv6() {
    if !common::has_program("turnutils_uclient") {
        return;
    }
    let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let mut config = loopback();
    config.bind = vec![v6];
    config.relay_ips = vec![v6];
    let relay = Relay::start(config, secrets());
    relay.assert_no_loss(None, &relay.credentials("six"), &["-y", "-c", "-x"], "::1");
}

#[test]
fn coturns_client_reaches_a_peer_on_a_private_network_by_channels_and_by_indications() {
    if !["turnutils_uclient", "turnutils_peer", "ip"].into_iter().all(common::has_program) {
        return;
    }
    let Some(net) = Namespaces::new() else {
        common::skip("network namespaces need root");
        return;
    };
    let mut config = loopback();
    // On every address, so that answers must find the one that was asked.
    config.bind = vec![Ipv4Addr::UNSPECIFIED.into()];
    config.relay_ips = vec![SERVER.into()];
    let relay = Relay::start_in(Some(&net.server), config, secrets());
    let _peer = EchoPeer::start(&net);
    let issued = relay.credentials("lan");
    let echo = ["-e", "10.77.0.2", "-r", "3480"];
    for flags in [&["-s"][..], &["-s", "-c"]] {
        relay.assert_no_loss(Some(&net.peer), &issued, &[&echo, flags].concat(), "10.77.0.1");
    }
    for flags in [&["-c"][..], &["-c", "-D"]] {
        relay.assert_no_loss(Some(&net.peer), &issued, &[&echo, flags].concat(), "10.77.0.1");
    }
}

#[test]
fn a_public_relay_refuses_a_peer_on_a_private_network() {
    if !["turnutils_uclient", "ip"].into_iter().all(common::has_program) {
        return;
    }
    let Some(net) = Namespaces::new() else {
        common::skip("network namespaces need root");
        return;
    };
    let mut config = loopback();
    config.bind = vec![SERVER.into()];
    config.relay_ips = vec![SERVER.into()];
    config.peers = PeerMode::Public;
    let relay = Relay::start_in(Some(&net.server), config, secrets());
    let issued = relay.credentials("lan");
    let port = relay.address.port().to_string();
    let told = tool(
        Some(&net.peer),
        "turnutils_uclient",
        &[
            "-v",
            "-c",
            "-s",
            "-e",
            "10.77.0.2",
            "-u",
            &issued.username,
            "-w",
            &issued.credential,
            "-p",
            &port,
            "10.77.0.1",
        ],
    );
    assert!(told.contains("error 403"), "{told}");
    assert_eq!(Counters::read(&relay.counters.relayed_packets), 0);
}

/// A relay on 127.0.0.1 that gives its clients room.
fn loopback() -> TurnConfig {
    TurnConfig {
        bind: vec![Ipv4Addr::LOCALHOST.into()],
        port: 0,
        relay_ports: 20_000..=29_999,
        relay_ips: vec![Ipv4Addr::LOCALHOST.into()],
        peers: PeerMode::Lan,
        workers: 2,
        // coturn's client leaves its allocations behind when it gives up.
        user_quota: 1000,
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

/// Messages that each of two clients sends to the other.
const MESSAGES: u32 = 50;

/// Two clients find their addresses, allocate, and talk to each other through both relays.
async fn converse(relay: &Relay) {
    let alice = client(relay.address, &relay.credentials("alice")).await;
    let bob = client(relay.address, &relay.credentials("bob")).await;
    let mapped = alice.send_binding_request().await.unwrap();
    assert!(mapped.ip().is_loopback());
    let alices = alice.allocate().await.unwrap();
    let bobs = bob.allocate().await.unwrap();
    let (to_alice, to_bob) = (alices.local_addr().unwrap(), bobs.local_addr().unwrap());
    assert_ne!(to_alice, to_bob);
    // Counted after the answer is on its way.
    while Counters::read(&relay.counters.allocations) != 2 {
        tokio::task::yield_now().await;
    }
    // A first datagram makes the permission for its address. No allocation has this port, so it goes nowhere.
    alices.send_to(b"nobody", SocketAddr::new(to_bob.ip(), 19_999)).await.unwrap();
    let mut buffer = [0; 1500];
    for number in 0..MESSAGES {
        let text = format!("bob says {number}");
        bobs.send_to(text.as_bytes(), to_alice).await.unwrap();
        let (length, from) = alices.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..length], from), (text.as_bytes(), to_bob));
        let text = format!("alice says {number}");
        alices.send_to(text.as_bytes(), to_bob).await.unwrap();
        let (length, from) = bobs.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..length], from), (text.as_bytes(), to_alice));
    }
    alices.close().await.unwrap();
    bobs.close().await.unwrap();
    while Counters::read(&relay.counters.allocations) != 0 {
        tokio::task::yield_now().await;
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.unwrap() })
}

async fn client(server: SocketAddr, issued: &Credentials) -> Client {
    client_at(Ipv4Addr::LOCALHOST, server, issued).await
}

async fn client_at(own: Ipv4Addr, server: SocketAddr, issued: &Credentials) -> Client {
    let client = Client::new(ClientConfig {
        stun_serv_addr: server.to_string(),
        turn_serv_addr: server.to_string(),
        username: issued.username.clone(),
        password: issued.credential.clone(),
        realm: "rtcctl".to_owned(),
        software: String::new(),
        rto_in_ms: 0,
        conn: Arc::new(tokio::net::UdpSocket::bind((own, 0)).await.unwrap()),
        vnet: None,
    })
    .await
    .unwrap();
    client.listen().await.unwrap();
    client
}

/// The task as the supervisor runs it, on a thread of its own.
struct Relay {
    address: SocketAddr,
    turn: Arc<Turn>,
    secrets: Secrets,
    counters: Arc<Counters>,
    stopping: CancellationToken,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Relay {
    fn start(config: TurnConfig, secrets: Secrets) -> Self {
        Self::start_in(None, config, secrets)
    }

    fn start_in(namespace: Option<&str>, config: TurnConfig, secrets: Secrets) -> Self {
        let counters = Arc::new(Counters::default());
        let (for_turn, keys) = (Arc::clone(&counters), secrets.clone());
        let (sender, receiver) = mpsc::channel();
        let stopping = CancellationToken::new();
        let token = stopping.clone();
        let namespace = namespace.map(str::to_owned);
        let thread = std::thread::spawn(move || {
            if let Some(namespace) = namespace {
                enter(&namespace);
            }
            let sockets = bind(&config).unwrap();
            let address = sockets.addresses()[0];
            let turn = Arc::new(Turn::new(&config, &keys, sockets, for_turn));
            let running = Arc::clone(&turn);
            let ready = move || sender.send((address, Arc::clone(&running))).unwrap_or_default();
            turn.run(context(ready, token))
        });
        let (address, turn) = receiver.recv_timeout(PATIENCE).unwrap();
        Self { address, turn, secrets, counters, stopping, thread: Some(thread) }
    }

    /// Ends this instance and starts the next one on the same listeners.
    fn restart(mut self) -> Self {
        self.end().unwrap();
        let (sender, receiver) = mpsc::channel();
        self.stopping = CancellationToken::new();
        let (turn, token) = (Arc::clone(&self.turn), self.stopping.clone());
        let ready = move || sender.send(()).unwrap_or_default();
        self.thread = Some(std::thread::spawn(move || turn.run(context(ready, token))));
        receiver.recv_timeout(PATIENCE).unwrap();
        self
    }

    fn credentials(&self, user: &str) -> Credentials {
        issue(&self.secrets.turn[0], user, 600, clock::now())
    }

    /// Runs coturn's client, which must get back everything it sends.
    fn assert_no_loss(&self, namespace: Option<&str>, issued: &Credentials, flags: &[&str], server: &str) {
        let told = self.uclient(namespace, issued, &[flags, &["-m", "2"]].concat(), server);
        assert!(is_without_loss(&told), "{flags:?}\n{told}");
    }

    fn uclient(&self, namespace: Option<&str>, issued: &Credentials, flags: &[&str], server: &str) -> String {
        let port = self.address.port().to_string();
        let pair = ["-u", &issued.username, "-w", &issued.credential, "-p", &port];
        let load = ["-v", "-n", "50", "-l", "173", "-z", "5"];
        tool(namespace, "turnutils_uclient", &[flags, &load, &pair, &[server]].concat())
    }

    fn stop(mut self) -> Result<Arc<Counters>> {
        self.end()?;
        Ok(Arc::clone(&self.counters))
    }

    fn end(&mut self) -> Result<()> {
        self.stopping.cancel();
        self.thread.take().map_or(Ok(()), |thread| thread.join().unwrap())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stopping.cancel();
        // A failing test has said what is wrong already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn context(ready: impl Fn() + Send + Sync + 'static, stopping: CancellationToken) -> Context {
    let report = move |report: Report| {
        if report == Report::Ready {
            ready();
        }
    };
    Context::new(Arc::new(report), Arc::default(), stopping)
}
