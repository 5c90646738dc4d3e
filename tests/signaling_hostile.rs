//! A thousand hostile sockets beside calls, against the real service over TLS.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start programs")]

mod common;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/service.rs"]
mod service;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/socket_io.rs"]
mod socket_io;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/stream_client.rs"]
mod stream_client;
#[path = "common/watched_call.rs"]
mod watched_call;

use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rtcctl::sys::clock;
use serde_json::Value;

use common::has_program;
use service::Service;
use socket_io::Socket;
use stream_client::{connect, connect_tls, connect_to, shake_hands};
use watched_call::WatchedCall;

/// Hostile sockets of each kind.
const EACH: usize = 100;
/// Sockets that one address may have here: fewer than the hostile want, who all come from one.
const MOST_OF_ONE: u64 = 150;
/// What resident memory may grow by: each of the thousand has a TLS session, and at most a message in the making.
const MOST_MEMORY: u64 = 192 << 20;
/// How long a message of the call may take on a machine that is busy with a thousand handshakes as well.
const NOTICED: Duration = Duration::from_secs(5);
/// The edge's own deadlines, and what a busy machine may add to them.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
const HEAD_WITHIN: Duration = Duration::from_secs(30);
const SLACK: Duration = Duration::from_secs(15);
/// How often a slow client says one more byte.
const DRIP: Duration = Duration::from_millis(500);

/// What keeps its connection open as long as it is let.
enum Held {
    Plain(TcpStream),
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
    Socket(#[expect(dead_code, reason = "it is held, and used by nobody")] Box<Socket>),
}

type Kind = (&'static str, fn(u16) -> Option<Held>);

const KINDS: [Kind; 10] = [
    ("says nothing", |port| Some(Held::Plain(connect(port)))),
    ("half of a handshake", |port| {
        let mut stream = connect(port);
        // A ClientHello of 512 bytes that does not come.
        stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).ok()?;
        Some(Held::Plain(stream))
    }),
    ("half of a head", |port| {
        let mut stream = connect_tls(port, &["http/1.1"]);
        stream.write_all(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: localhost\r\nX: ").ok()?;
        Some(Held::Tls(Box::new(stream)))
    }),
    ("half of a second head", |port| {
        let mut stream = connect_tls(port, &["http/1.1"]);
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nX: ").ok()?;
        Some(Held::Tls(Box::new(stream)))
    }),
    ("a session without a namespace", |port| Some(Held::Socket(Box::new(Socket::open(port).ok()?)))),
    ("a huge frame", |port| {
        let mut socket = Socket::open(port).ok()?;
        socket.write_text("40").ok()?;
        let head = [&[0x81, 0x80 | 127][..], &(1_u64 << 40).to_be_bytes(), &[0; 4], &[b'4'; 4096]].concat();
        let _ = socket.write_bytes(&head);
        Some(Held::Socket(Box::new(socket)))
    }),
    ("garbage", |port| {
        let mut socket = Socket::open(port).ok()?;
        for text in ["40", "42", "42[", "42{}", "4\u{0}", "451-", "hello"] {
            let _ = socket.write_text(text);
        }
        let _ = socket.write_bytes(&[0xff; 4096]);
        Some(Held::Socket(Box::new(socket)))
    }),
    ("deep brackets", |port| {
        let mut socket = Socket::open(port).ok()?;
        let (open, close) = ("[".repeat(20_000), "]".repeat(20_000));
        for text in
            ["40", "420[\"join\",\"deep\"]", &format!("42[\"message\",\"deep\",{open}{close}]"), &format!("40{open}")]
        {
            let _ = socket.write_text(text);
        }
        Some(Held::Socket(Box::new(socket)))
    }),
    ("a flood of joins", |port| {
        let mut socket = Socket::open(port).ok()?;
        let _ = socket.write_text("40");
        for room in 0..2000 {
            if socket.write_text(&format!("42[\"join\",\"flood {room}\"]")).is_err() {
                break;
            }
        }
        Some(Held::Socket(Box::new(socket)))
    }),
    ("never reads", |port| {
        let mut socket = Socket::open(port).ok()?;
        let _ = socket.write_text("40");
        let _ = socket.write_text("42[\"join\",\"deaf\"]");
        // Each is answered by an error that nobody reads.
        for _ in 0..150 {
            if socket.write_text("42[\"join\",null]").is_err() {
                break;
            }
        }
        Some(Held::Socket(Box::new(socket)))
    }),
];

#[test]
fn a_thousand_hostile_sockets_are_not_noticed_by_a_call() {
    let service = Service::start(&[("signaling.max_sockets_per_address", &MOST_OF_ONE.to_string())]);
    let pid = service.status()["pid"].as_u64().unwrap();
    let browsers = are_there_browsers().then(|| WatchedCall::start(&service));
    let friends = service.status()["signaling"]["sockets"].as_u64().unwrap() + 2;
    let memory_at_start = resident(pid);
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        let call = scope.spawn(|| talk_until(&ends, service.web_port));
        let most_memory = scope.spawn(|| {
            let mut most = 0;
            while !ends.load(Relaxed) {
                most = resident(pid).max(most);
                thread::sleep(Duration::from_millis(50));
            }
            most
        });
        let (began, from) = (clock::now().mono, unix_milliseconds());
        let crowds: Vec<_> = KINDS.iter().map(|(_, make)| scope.spawn(|| crowd(*make, service.web_port))).collect();
        let mut crowds: Vec<(Vec<Held>, Instant)> = crowds.into_iter().map(|crowd| crowd.join().unwrap()).collect();
        let counted = service.status()["signaling"].take();
        let sockets = counted["sockets"].as_u64().unwrap();
        assert!(sockets <= MOST_OF_ONE + 256 + friends, "{counted}");
        // Those that came to nothing are gone in time, and those that are slow, not before.
        let tops = [HANDSHAKE_WITHIN, HANDSHAKE_WITHIN, HEAD_WITHIN, HEAD_WITHIN];
        let slow: Vec<(Vec<Held>, Instant)> = crowds.drain(..tops.len()).collect();
        let waiting: Vec<_> =
            slow.into_iter().zip(tops).map(|(slow, top)| scope.spawn(move || all_end(slow, top))).collect();
        waiting.into_iter().for_each(|waiting| waiting.join().unwrap());
        drop(crowds);
        let counted = status_when(&service, |status| status["signaling"]["sockets"] == friends)["signaling"].take();
        ends.store(true, Relaxed);
        let (said, slowest) = call.join().unwrap();
        let grown = most_memory.join().unwrap().saturating_sub(memory_at_start);
        println!(
            "{} hostile sockets in {:?}: {said} messages of the call, the slowest took {slowest:?}; memory grew by {} KiB; {counted}",
            EACH * KINDS.len(),
            clock::now().mono - began,
            grown / 1024
        );
        assert!(slowest < NOTICED, "a message took {slowest:?}");
        if let Some(browsers) = browsers {
            let pauses = browsers.longest_pauses(from, unix_milliseconds());
            println!("the longest that a browser's call stood still: {pauses:?}");
            assert!(pauses.values().all(|pause| *pause < NOTICED), "{pauses:?}");
        }
        assert!(said >= 20, "{said}");
        assert!(grown < MOST_MEMORY, "{grown} bytes");
        for limit in ["sockets_of_address", "unreadable", "silent", "message_rate"] {
            assert!(counted["limits"][limit].as_u64() > Some(0), "{limit}: {counted}");
        }
        assert!(counted["ended"]["transport"].as_u64() > Some(0), "{counted}");
    });
    let status = service.status();
    assert!(status["connections"]["silent"].as_u64() >= Some(2 * EACH as u64), "{}", status["connections"]);
    assert_eq!(status["pid"], pid);
    assert!(status["tasks"].as_array().unwrap().iter().all(|task| task["restarts"] == 0), "{status}");
}

/// Opens all of a kind. Those that the server refuses are no less hostile.
fn crowd(make: fn(u16) -> Option<Held>, port: u16) -> (Vec<Held>, Instant) {
    let began = clock::now().mono;
    ((0..EACH).filter_map(|_| make(port)).collect(), began)
}

/// Drips bytes into connections until the server has closed every one of them.
fn all_end((mut held, began): (Vec<Held>, Instant), within: Duration) {
    let opened = clock::now().mono;
    while !held.is_empty() {
        held.retain_mut(|held| !has_ended(held));
        let now = clock::now().mono;
        assert!(now - opened < within + SLACK, "{} of {EACH} are still there", held.len());
        if held.len() < EACH {
            assert!(now - began > within - Duration::from_secs(1), "one is closed after {:?} already", now - began);
        }
        thread::sleep(DRIP);
    }
}

/// Whether the server has closed a connection; it is sent one more byte if not.
fn has_ended(held: &mut Held) -> bool {
    match held {
        Held::Plain(stream) => is_closed(stream),
        Held::Tls(stream) => {
            let _ = stream.write_all(b"x");
            let _ = stream.flush();
            is_closed(&mut stream.sock)
        }
        Held::Socket(_) => unreachable!("sockets are not waited for"),
    }
}

fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut bytes = [0; 16 * 1024];
    let ended = loop {
        match stream.read(&mut bytes) {
            Ok(0) => break true,
            // An answer, or the TLS alert of the end.
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break false,
            Err(_) => break true,
        }
    };
    let _ = stream.set_nonblocking(false);
    ended
}

/// Two people say something to each other until it `ends`. Gives how many messages came, and how long the slowest took.
fn talk_until(ends: &AtomicBool, port: u16) -> (u64, Duration) {
    let server = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let enter = || {
        let mut socket = Socket::open_by(shake_hands(connect_to(server), &["http/1.1"]).unwrap()).unwrap();
        socket.write_text("40").unwrap();
        assert!(socket.read_text().unwrap().starts_with("40"));
        assert_eq!(socket.join("the call")["ok"], true);
        socket
    };
    let (mut anna, mut bo) = (enter(), enter());
    let (mut said, mut slowest) = (0, Duration::ZERO);
    while !ends.load(Relaxed) {
        for (speaker, listener) in [(0, 1), (1, 0)] {
            let people = [&mut anna, &mut bo];
            let at = clock::now().mono;
            people[speaker].send(said).unwrap();
            // The next one, and no other.
            assert_eq!(people[listener].receive().unwrap(), said);
            slowest = slowest.max(clock::now().mono - at);
            said += 1;
        }
        // At a pace that is allowed.
        thread::sleep(Duration::from_millis(50));
    }
    (said, slowest)
}

/// Where there are none, two clients of Socket.IO are all who call.
fn are_there_browsers() -> bool {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    ["chromium", "certutil", "node", "npm"].into_iter().all(has_program) && common::npm_ci(&folder)
}

fn unix_milliseconds() -> u64 {
    let since = clock::now().wall.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

fn status_when(service: &Service, is_so: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..300 {
        let status = service.status();
        if is_so(&status) {
            return status;
        }
    }
    panic!("{}", service.status());
}

fn resident(pid: u64) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    resident.unwrap().parse::<u64>().unwrap() * 1024
}
