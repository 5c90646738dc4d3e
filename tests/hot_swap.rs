//! Certificates are swapped under load: whoever is connected stays, and whoever comes gets the old one or the new one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

mod common;
#[allow(dead_code, reason = "other tests need the rest")]
#[path = "common/service.rs"]
mod service;
#[allow(dead_code, reason = "other tests need the rest")]
#[path = "common/stream_client.rs"]
mod stream_client;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use self::service::Service;
use self::stream_client::{StreamClient, connect_tls};

const SWAPS: usize = 20;
/// Connections that are open at once.
const HANDSHAKES: usize = 1000;
/// Of these, how many shake hands at the same moment: each must be done within the ten seconds that the service gives
/// it, on two slow cores, too.
const AT_A_MOMENT: usize = 200;
/// How long one connection may take in all.
const SHAKEN_WITHIN: Duration = Duration::from_secs(60);

fn trusting(service: &Service) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(service.ca_file()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// A WebSocket to signaling: what was read of the handshake shows that it stands.
fn open_web_socket(port: u16) -> rustls::StreamOwned<rustls::ClientConnection, std::net::TcpStream> {
    let mut socket = connect_tls(port, &["http/1.1"]);
    let request = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    assert!(read_web_socket(&mut socket).starts_with('0'), "Engine.IO opens");
    socket
}

/// The next text frame, which is short.
fn read_web_socket(socket: &mut impl std::io::Read) -> String {
    let mut head = [0; 2];
    socket.read_exact(&mut head).unwrap();
    let length = match head[1] & 127 {
        126 => {
            let mut long = [0; 2];
            socket.read_exact(&mut long).unwrap();
            usize::from(u16::from_be_bytes(long))
        }
        short => usize::from(short),
    };
    let mut text = vec![0; length];
    socket.read_exact(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

/// Joins the default namespace; the answer shows that both directions work.
fn talk(socket: &mut (impl std::io::Read + std::io::Write)) {
    let text = b"40";
    let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0];
    frame.extend(text);
    socket.write_all(&frame).unwrap();
    loop {
        let heard = read_web_socket(socket);
        // A ping may come first.
        if heard != "2" {
            assert!(heard.starts_with("40"), "{heard}");
            return;
        }
    }
}

#[test]
fn twenty_swaps_under_load_drop_no_connection_and_no_handshake() {
    let service = Service::start(&[]);
    let mut socket = open_web_socket(service.web_port);
    let credentials: Value = serde_json::from_str(&service.run(&["turn", "credentials", "--json"])).unwrap();
    let word = |key: &str| credentials[key].as_str().unwrap().to_owned();
    let call = || {
        let stream = connect_tls(service.web_port, &["stun.turn"]);
        StreamClient::new(stream, (word("username"), word("credential")))
    };
    let (mut alice, mut bob) = (call(), call());
    let (to_alice, to_bob) = (alice.allocate(), bob.allocate());
    alice.bind_channel(to_bob);
    bob.bind_channel(to_alice);

    let config = trusting(&service);
    let (done, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let swapping = Arc::new(AtomicBool::new(true));
    let port = service.web_port;
    let (counted, stopped, still) = (Arc::clone(&done), Arc::clone(&failed), Arc::clone(&swapping));
    let load = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async move {
            let mut seen = BTreeSet::new();
            let turns = Arc::new(Semaphore::new(AT_A_MOMENT));
            // A thousand at once, and again for as long as certificates are swapped.
            while still.load(Ordering::Relaxed) || counted.load(Ordering::Relaxed) < HANDSHAKES {
                let shake = |_| tokio::spawn(shake(port, Arc::clone(&config), Arc::clone(&turns)));
                let shaking: Vec<_> = (0..HANDSHAKES).map(shake).collect();
                let mut open = Vec::new();
                for task in shaking {
                    match task.await.unwrap() {
                        Ok((certificate, stream)) => {
                            open.push(stream);
                            seen.insert(certificate);
                            counted.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(why) => {
                            stopped.store(true, Ordering::Relaxed);
                            panic!("a handshake failed: {why}");
                        }
                    }
                }
            }
            seen
        })
    });
    let mut fingerprints = BTreeSet::new();
    for _ in 0..SWAPS {
        service.run(&["cert", "renew", "--force"]);
        let shown: Value = serde_json::from_str(&service.run(&["cert", "show", "--json"])).unwrap();
        assert_eq!(shown["served"], true, "{shown}");
        fingerprints.insert(shown["fingerprint_sha256"].as_str().unwrap().to_owned());
    }
    swapping.store(false, Ordering::Relaxed);
    let seen = load.join().unwrap();
    assert!(!failed.load(Ordering::Relaxed));
    assert_eq!(fingerprints.len(), SWAPS, "each swap is another certificate");
    assert!(done.load(Ordering::Relaxed) >= HANDSHAKES);
    assert!(seen.len() > 1, "the load saw one certificate alone, so it saw no swap");

    talk(&mut socket);
    for round in 0..10_u8 {
        alice.send(&[round; 100]);
        assert_eq!(bob.receive(), [round; 100]);
        bob.send(&[round; 50]);
        assert_eq!(alice.receive(), [round; 50]);
    }
}

/// One handshake that trusts the local CA alone; gives the certificate that it saw, and the connection.
async fn shake(
    port: u16,
    config: Arc<ClientConfig>,
    turns: Arc<Semaphore>,
) -> Result<(Vec<u8>, TlsStream<TcpStream>), String> {
    let shaking = async {
        let _turn = turns.acquire().await.unwrap();
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| error.to_string())?;
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|error| error.to_string())?;
        let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        Ok((certificate, stream))
    };
    tokio::time::timeout(SHAKEN_WITHIN, shaking).await.unwrap_or_else(|_| Err("it takes too long".to_owned()))
}
