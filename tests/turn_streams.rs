//! TURN over TCP and TLS, on its own port and beside the page on the HTTPS port, with a whole service.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

mod common;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/coturn.rs"]
mod coturn;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/service.rs"]
mod service;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/stream_client.rs"]
mod stream_client;

use std::io::{Read, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use common::has_program;
use coturn::{EchoPeer, Namespaces, PATIENCE, enter, is_without_loss, tool};
use serde_json::Value;
use service::Service;
use stream_client::{StreamClient, binding, connect, connect_tls};

/// A service whose relays are on loopback, where clients reach each other.
fn service() -> Service {
    Service::start(&[("turn.relay_ips", "[127.0.0.1]"), ("turn.user_quota", "1000")])
}

/// A user name and its password.
fn credentials(service: &Service) -> (String, String) {
    let printed: Value = serde_json::from_str(&service.run(&["turn", "credentials", "--json"])).unwrap();
    let text = |key: &str| printed[key].as_str().unwrap().to_owned();
    (text("username"), text("credential"))
}

fn status(service: &Service) -> Value {
    serde_json::from_str(&service.run(&["status", "--json"])).unwrap()
}

/// Everything that still comes until the other side closes; an error is an end, too.
fn rest(stream: &mut impl Read) -> Vec<u8> {
    let mut heard = Vec::new();
    // Closing with something unread resets the connection.
    let _ = stream.read_to_end(&mut heard);
    heard
}

#[test]
fn coturns_client_relays_without_loss_by_tcp_and_by_tls_on_both_ports() {
    if !has_program("turnutils_uclient") {
        return;
    }
    let service = service();
    let (username, password) = credentials(&service);
    let run = |port: u16, flags: &[&str]| {
        let port = port.to_string();
        let load = ["-v", "-y", "-n", "50", "-l", "173", "-z", "5", "-m", "2"];
        let pair = ["-u", &username, "-w", &password, "-p", &port, "127.0.0.1"];
        tool(None, "turnutils_uclient", &[flags, &load, &pair].concat())
    };
    std::thread::scope(|scope| {
        for (port, flags) in each_way(&service) {
            let run = &run;
            scope.spawn(move || {
                // From relay to relay, its first messages may come before the other side has its permission.
                let is_fine = (0..3).any(|_| is_without_loss(&run(port, flags)));
                assert!(is_fine, "{port} {flags:?}\n{}", run(port, flags));
            });
        }
    });
}

/// By TCP and by TLS, with channels and with indications, on both ports.
fn each_way(service: &Service) -> [(u16, &'static [&'static str]); 4] {
    let (own, https) = (service.turn_port, service.web_port);
    [(own, &["-t"]), (own, &["-t", "-S", "-s"]), (https, &["-t", "-s"]), (https, &["-t", "-S"])]
}

#[test]
fn coturns_client_reaches_a_peer_on_another_machine_by_tcp_and_by_tls() {
    if !["turnutils_uclient", "turnutils_peer", "ip"].into_iter().all(has_program) {
        return;
    }
    let Some(net) = Namespaces::new() else {
        common::skip("network namespaces need root");
        return;
    };
    let _peer = EchoPeer::start(&net);
    std::thread::scope(|scope| {
        let within = scope.spawn(|| {
            // What this thread starts runs there, too.
            enter(&net.server);
            let service = Service::start(&[("turn.relay_ips", "[10.77.0.1]"), ("turn.user_quota", "1000")]);
            let (username, password) = credentials(&service);
            for (port, flags) in each_way(&service) {
                let port = port.to_string();
                let load =
                    ["-v", "-c", "-n", "200", "-l", "173", "-z", "5", "-m", "2", "-e", "10.77.0.2", "-r", "3480"];
                let pair = ["-u", &username, "-w", &password, "-p", &port, "10.77.0.1"];
                let told = tool(Some(&net.peer), "turnutils_uclient", &[flags, &load, &pair].concat());
                assert!(is_without_loss(&told), "{port} {flags:?}\n{told}");
            }
        });
        within.join().unwrap();
    });
}

/// Rows S36, C17.
/// Cases 26, 28.
#[test]
fn pages_and_turn_share_the_https_port_whatever_protocols_a_client_offers() {
    if !has_program("curl") {
        return;
    }
    let service = service();
    let pair = credentials(&service);
    let page = |flags: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-o", "/dev/null", "-w", "%{http_code} %{http_version}", "--noproxy", "*", "--cacert"]);
        let output = curl.arg(service.ca_file()).args(flags).arg(service.url()).timeout(PATIENCE).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(page(&["--http2"]), "200 2");
    assert_eq!(page(&["--http1.1"]), "200 1.1");
    assert_eq!(page(&["--no-alpn"]), "200 1.1");
    for port in [service.web_port, service.turn_port] {
        assert!(StreamClient::new(connect(port), pair.clone()).is_answered(), "plain on {port}");
        for (offered, answered) in [
            (&[][..], None),
            (&["stun.turn"], Some(&b"stun.turn"[..])),
            (&["h2", "stun.nat-discovery"], Some(b"stun.nat-discovery")),
            (&["imap", "xmpp-client"], None),
        ] {
            let stream = connect_tls(port, offered);
            assert_eq!(stream.conn.alpn_protocol(), answered, "{offered:?} on {port}");
            assert!(StreamClient::new(stream, pair.clone()).is_answered(), "{offered:?} on {port}");
        }
    }
    let page = connect_tls(service.web_port, &["h2"]);
    assert_eq!(page.conn.alpn_protocol(), Some(&b"h2"[..]));
}

/// Case 23.
#[test]
fn a_message_that_comes_byte_by_byte_is_answered() {
    let service = service();
    let pair = credentials(&service);
    for port in [service.web_port, service.turn_port] {
        let (mut plain, mut tls) = (connect(port), connect_tls(port, &[]));
        plain.set_nodelay(true).unwrap();
        for byte in binding() {
            plain.write_all(&[byte]).unwrap();
            tls.write_all(&[byte]).unwrap();
        }
        assert_eq!(StreamClient::new(plain, pair.clone()).read_frame()[..2], [1, 1]);
        assert_eq!(StreamClient::new(tls, pair.clone()).read_frame()[..2], [1, 1]);
    }
}

/// Cases 25, 26, 30.
#[test]
fn what_a_port_does_not_serve_is_closed_without_a_word() {
    let service = service();
    let stun_then = |bytes: &[u8]| [&binding(), bytes].concat();
    let garbage = [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec(),
        b"\x40\0\0\x04data".to_vec(),
        b"\0\x01\0\0wrong cookie".to_vec(),
        b"\x80\x2e\x01\0\x02".to_vec(),
        vec![0xff; 5000],
    ];
    for port in [service.web_port, service.turn_port] {
        for bytes in &garbage {
            let mut stream = connect(port);
            // It may be closed already.
            let _ = stream.write_all(bytes);
            assert_eq!(rest(&mut stream), b"", "{bytes:?} on {port}");
        }
        // After a message, what follows is no message: one that is too long before there is an allocation, none at all.
        for bytes in [&b"\x40\0\xff\xff"[..], b"\0\x01\xff\xfc", b"GET / HTTP/1.1\r\n\r\n", b"\xff"] {
            let mut stream = connect(port);
            stream.write_all(&stun_then(bytes)).unwrap();
            let heard = rest(&mut stream);
            assert!(
                heard.is_empty() || heard.starts_with(&[1, 1]) && heard.len() < 100,
                "{bytes:?} on {port}: {heard:?}"
            );
        }
    }
    for mut stream in [connect(service.turn_port), connect(service.http_port)] {
        let is_turn = stream.peer_addr().unwrap().port() == service.turn_port;
        let wrong = if is_turn { b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec() } else { binding() };
        stream.write_all(&wrong).unwrap();
        assert_eq!(rest(&mut stream), b"");
    }
    let mut tls = connect_tls(service.turn_port, &["h2", "http/1.1"]);
    assert_eq!(tls.conn.alpn_protocol(), None);
    tls.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(rest(&mut tls), b"");
}

/// Row T6.
#[test]
fn data_passes_from_tls_to_tcp_and_back_and_a_client_that_leaves_frees_its_allocation_at_once() {
    let service = service();
    let mut alice = StreamClient::new(connect_tls(service.web_port, &[]), credentials(&service));
    let mut bob = StreamClient::new(connect(service.turn_port), credentials(&service));
    let (to_alice, to_bob) = (alice.allocate(), bob.allocate());
    alice.bind_channel(to_bob);
    bob.bind_channel(to_alice);
    for length in [0, 1, 2, 3, 4, 1200, 9000] {
        let payload = vec![length as u8; length];
        alice.send(&payload);
        assert_eq!(bob.receive(), payload);
        bob.send(&payload);
        assert_eq!(alice.receive(), payload);
    }
    assert_eq!(status(&service)["turn"]["allocations"], 2);
    drop(alice);
    bob.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut bob.stream), b"");
    assert!(until(|| status(&service)["turn"]["allocations"] == 0));
}

/// Case 79.
#[test]
fn a_client_that_never_reads_holds_up_nobody_and_takes_no_more_memory_than_its_share() {
    let service = service();
    let mut slow = StreamClient::new(connect(service.turn_port), credentials(&service));
    let mut flood = StreamClient::new(connect(service.turn_port), credentials(&service));
    let (to_slow, to_flood) = (slow.allocate(), flood.allocate());
    slow.bind_channel(to_flood);
    flood.bind_channel(to_slow);
    let memory = |service: &Service| status(service)["usage"]["memory_bytes"].as_u64().unwrap();
    let before = memory(&service);
    for _ in 0..60_000 {
        flood.send(&[7; 1200]);
    }
    assert!(flood.is_answered());
    let after = memory(&service);
    assert!(after < before + (4 << 20), "{before} bytes became {after}");
    // What was kept for it comes as whole frames, and the next answer after them.
    slow.stream.write_all(&binding()).unwrap();
    let mut frames = 0;
    loop {
        let frame = slow.read_frame();
        if frame.starts_with(&[1, 1]) {
            break;
        }
        assert_eq!(frame.len(), 1204);
        frames += 1;
    }
    assert!((1..60_000).contains(&frames), "{frames} frames");
}

#[test]
fn a_restart_of_turn_closes_its_streams_and_its_ports_stay_open() {
    let service = service();
    let pair = credentials(&service);
    let mut clients: Vec<StreamClient<TcpStream>> = Vec::new();
    for port in [service.web_port, service.turn_port] {
        clients.push(StreamClient::new(connect(port), pair.clone()));
    }
    clients.iter_mut().for_each(|client| assert!(client.is_answered()));
    service.run(&["restart", "turn"]);
    for client in &mut clients {
        assert_eq!(rest(&mut client.stream), b"");
    }
    for port in [service.web_port, service.turn_port] {
        assert!(StreamClient::new(connect(port), pair.clone()).is_answered());
    }
}

#[test]
fn without_tcp_in_the_configuration_turn_is_served_by_udp_alone() {
    let service = Service::start(&[("turn.tcp", "off")]);
    assert!(TcpStream::connect(("127.0.0.1", service.turn_port)).is_err());
    let mut stream = connect(service.web_port);
    stream.write_all(&binding()).unwrap();
    assert_eq!(rest(&mut stream), b"");
    let urls = status(&service)["urls"]["ice"].clone();
    assert_eq!(urls.as_array().unwrap().len(), 2, "{urls}");
}

/// Asks again and again; each question takes its time.
fn until(mut is_so: impl FnMut() -> bool) -> bool {
    #[expect(clippy::disallowed_methods, reason = "a test may look at the clock")]
    let now = Instant::now;
    let end = now() + Duration::from_secs(20);
    while now() < end {
        if is_so() {
            return true;
        }
    }
    false
}
