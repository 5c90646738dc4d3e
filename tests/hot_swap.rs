//! Certificates are swapped under load: whoever is connected stays, and whoever comes gets the old one or the new one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start programs")]

#[allow(dead_code, reason = "other tests need the rest")]
#[path = "common/acme_scene.rs"]
mod acme_scene;
mod common;
#[allow(dead_code, reason = "other tests need the rest")]
#[path = "common/pebble.rs"]
mod pebble;
#[allow(dead_code, reason = "other tests need the rest")]
#[path = "common/socket_io.rs"]
mod socket_io;
#[allow(dead_code, reason = "other tests need the rest")]
#[path = "common/stream_client.rs"]
mod stream_client;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use self::acme_scene::{SMOOTH, Scene, is_issued};
use self::common::has_program;
use self::pebble::Manners;
use self::socket_io::Socket;
use self::stream_client::{StreamClient, connect_tls};

const SWAPS: usize = 20;
/// Handshakes at the same moment.
const HANDSHAKES: usize = 1000;
const NAME: &str = "call.rtc.test";
/// How long one connection may take in all: it gets its turn among a thousand, on two slow cores, too.
const SHAKEN_WITHIN: Duration = Duration::from_secs(60);
/// How far ahead of other programs on this machine the service and its clients are. Both have ten seconds for their side
/// of a handshake, and a thousand take seconds of both cores: what else runs here must not be what is measured.
const AHEAD: &str = "-15";

fn trusting(root_pem: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root_pem.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// Puts every thread of a process ahead of others, where that is allowed.
fn put_ahead(pid: u64) {
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let thread = thread.unwrap().file_name();
        // Only root may.
        let _ = Command::new("renice").args(["-n", AHEAD, "-p"]).arg(thread).output();
    }
}

/// Of an authority, by ACME: twenty orders, while whoever is connected stays and a thousand shake hands at a time.
#[test]
fn twenty_forced_renewals_under_load_drop_no_connection_and_no_handshake() {
    let Some(scene) = Scene::new(&Manners { env: &SMOOTH, ..Manners::default() }) else { return };
    if !has_program("curl") || !has_program("renice") {
        return;
    }
    scene.init(&[NAME], &[]);
    scene.start();
    scene.wait_for("no certificate was issued", is_issued);
    let status: Value = serde_json::from_slice(&scene.run(&["status", "--json"]).stdout).unwrap();
    put_ahead(status["pid"].as_u64().unwrap());
    put_ahead(std::process::id().into());

    let mut room = [Socket::connect(scene.web), Socket::connect(scene.web)];
    for socket in &mut room {
        socket.join("swaps");
    }
    let credentials: Value = serde_json::from_slice(&scene.run(&["turn", "credentials", "--json"]).stdout).unwrap();
    let word = |key: &str| credentials[key].as_str().unwrap().to_owned();
    let call = || {
        let stream = connect_tls(scene.web, &["stun.turn"]);
        StreamClient::new(stream, (word("username"), word("credential")))
    };
    let (mut alice, mut bob) = (call(), call());
    let (to_alice, to_bob) = (alice.allocate(), bob.allocate());
    alice.bind_channel(to_bob);
    bob.bind_channel(to_alice);

    let load = Load::start(scene.web, trusting(&scene.pebble.issuing_root()));
    let mut fingerprints = BTreeSet::from([served(&scene)]);
    for swap in 0..SWAPS {
        let renewed = scene.run(&["cert", "renew", "--force"]);
        assert!(renewed.status.success(), "{swap}: {}", String::from_utf8_lossy(&renewed.stderr));
        fingerprints.insert(served(&scene));
        // Both stay through each swap, not only through all.
        alice.send(&[1; 100]);
        assert_eq!(bob.receive(), [1; 100], "{swap}");
        talk(&mut room);
        if load.has_failed() {
            // What failed is told below.
            break;
        }
    }
    let (handshakes, seen) = load.end().unwrap();
    assert_eq!(fingerprints.len(), SWAPS + 1, "each swap is another certificate");
    assert!(handshakes >= HANDSHAKES, "{handshakes}");
    assert!(seen.len() > 1, "the load saw one certificate alone, so it saw no swap");
    assert!(seen.is_subset(&fingerprints), "a handshake saw a certificate that was never current");

    talk(&mut room);
    bob.send(&[2; 50]);
    assert_eq!(alice.receive(), [2; 50]);
}

/// Each hears the other, by the WebSocket of the beginning.
fn talk([one, other]: &mut [Socket; 2]) {
    one.send(1).unwrap();
    assert_eq!(other.receive().unwrap(), 1);
    other.send(2).unwrap();
    assert_eq!(one.receive().unwrap(), 2);
}

/// What the service says it serves, and what is on disk.
fn served(scene: &Scene) -> String {
    let shown: Value = serde_json::from_slice(&scene.run(&["cert", "show", "--json"]).stdout).unwrap();
    assert_eq!((&shown["served"], &shown["source"]), (&true.into(), &"acme".into()), "{shown}");
    shown["fingerprint_sha256"].as_str().unwrap().to_owned()
}

/// A thousand connections that shake hands at the same moment, and again for as long as it is not ended.
struct Load {
    goes_on: Arc<AtomicBool>,
    has_failed: Arc<AtomicBool>,
    thread: JoinHandle<Result<(usize, BTreeSet<String>), String>>,
}

impl Load {
    fn start(port: u16, config: Arc<ClientConfig>) -> Self {
        let (goes_on, has_failed) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let (go, failed) = (Arc::clone(&goes_on), Arc::clone(&has_failed));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            let result = runtime.block_on(waves(port, &config, &go));
            failed.store(result.is_err(), Ordering::Relaxed);
            result
        });
        Self { goes_on, has_failed, thread }
    }

    fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// How many handshakes there were, and which certificates they saw.
    fn end(self) -> Result<(usize, BTreeSet<String>), String> {
        self.goes_on.store(false, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

async fn waves(
    port: u16,
    config: &Arc<ClientConfig>,
    goes_on: &AtomicBool,
) -> Result<(usize, BTreeSet<String>), String> {
    let (mut handshakes, mut seen) = (0, BTreeSet::new());
    while goes_on.load(Ordering::Relaxed) || handshakes == 0 {
        // All sockets are open before the first one says a word.
        let start = Arc::new(Barrier::new(HANDSHAKES));
        let shaking: Vec<_> =
            (0..HANDSHAKES).map(|_| tokio::spawn(shake(port, Arc::clone(config), Arc::clone(&start)))).collect();
        let mut open = Vec::new();
        for task in shaking {
            let (fingerprint, stream) = task.await.unwrap()?;
            // It stays open until all have shaken hands.
            open.push(stream);
            seen.insert(fingerprint);
            handshakes += 1;
        }
    }
    Ok((handshakes, seen))
}

/// One handshake that trusts the authority alone; gives the certificate that it saw, and the connection.
async fn shake(
    port: u16,
    config: Arc<ClientConfig>,
    start: Arc<Barrier>,
) -> Result<(String, TlsStream<TcpStream>), String> {
    let told = |step: &'static str| move |error: std::io::Error| format!("{step}: {error}");
    let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map_err(told("connecting"));
    start.wait().await;
    let name = ServerName::try_from(NAME).unwrap();
    let shaking = TlsConnector::from(config).connect(name, connected?);
    let shaken = tokio::time::timeout(SHAKEN_WITHIN, shaking).await;
    let stream = shaken.map_err(|_| "the handshake takes too long".to_owned())?.map_err(told("shaking hands"))?;
    let certificate = &stream.get_ref().1.peer_certificates().unwrap()[0];
    Ok((sha256(certificate), stream))
}

/// A fingerprint as `status` has it.
fn sha256(bytes: &[u8]) -> String {
    let hash = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, bytes);
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
