//! Sessions of Engine.IO, request by request and frame by frame: who may do what with them, and how they end.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/service.rs"]
mod service;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/socket_io.rs"]
mod socket_io;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/stream_client.rs"]
mod stream_client;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;

use service::Service;
use socket_io::Socket;
use stream_client::connect_tls;

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A client that polls, by a connection for each request.
struct Poller {
    port: u16,
    sid: String,
}

impl Poller {
    /// Opens a session, and joins the namespace.
    fn connect(port: u16) -> (Self, String) {
        let (status, body) = read(&mut ask(port, "GET", "EIO=4&transport=polling", ""));
        let hello: Value = serde_json::from_str(body.strip_prefix('0').unwrap()).unwrap();
        assert_eq!((status, &hello["upgrades"][0]), (200, &"websocket".into()));
        let poller = Self { port, sid: hello["sid"].as_str().unwrap().to_owned() };
        assert_eq!(poller.post("40"), (200, "ok".to_owned()));
        let (status, connected) = poller.fetch();
        let connected: Value = serde_json::from_str(connected.strip_prefix("40").unwrap()).unwrap();
        assert_eq!(status, 200);
        (poller, connected["sid"].as_str().unwrap().to_owned())
    }

    fn post(&self, body: &str) -> (u16, String) {
        read(&mut ask(self.port, "POST", &self.query(), body))
    }

    fn fetch(&self) -> (u16, String) {
        read(&mut self.begin_fetch())
    }

    /// A request that may have to wait for its answer.
    fn begin_fetch(&self) -> Stream {
        ask(self.port, "GET", &self.query(), "")
    }

    fn query(&self) -> String {
        format!("EIO=4&transport=polling&sid={}", self.sid)
    }
}

fn ask(port: u16, method: &str, query: &str, body: &str) -> Stream {
    let mut stream = connect_tls(port, &["http/1.1"]);
    let length = body.len();
    write!(
        stream,
        "{method} /socket.io/?{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    stream
}

/// The status and the body of an answer.
fn read(stream: &mut Stream) -> (u16, String) {
    let mut answer = String::new();
    // The connection ends after it, whichever way.
    let _ = stream.read_to_string(&mut answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn a_session_is_its_clients_alone_and_one_request_of_each_kind_is_there_at_a_time() {
    let service = Service::start(&[("signaling.max_message", "4096")]);
    let port = service.web_port;
    let (poller, id) = Poller::connect(port);
    assert_eq!(poller.post("42[\"join\",\"r\"]").0, 200);
    assert_eq!(poller.fetch(), (200, format!("42[\"joined\",\"r\",\"{id}\"]")));
    // What others are told is a name and no key.
    let mut other = Socket::connect(port);
    other.join("r");
    let as_other = Poller { port, sid: id };
    for (status, body) in [as_other.fetch(), as_other.post("42[\"leave\",\"r\"]")] {
        assert_eq!((status, body.as_str()), (400, "{\"code\":1,\"message\":\"Session ID unknown\"}"));
    }
    assert!(poller.fetch().1.starts_with("42[\"otherjoin\",\"r\","));

    // Several packets in one request, a heartbeat among them; what waits comes as one answer.
    let packets = ["3", "42[\"message\",\"r\",1]", "42[\"message\",\"r\",2]"].join("\u{1e}");
    assert_eq!(poller.post(&packets).0, 200);
    assert_eq!([other.receive().unwrap(), other.receive().unwrap()], [1, 2]);
    let mut waits = poller.begin_fetch();
    for number in [3, 4] {
        other.send(number).unwrap();
    }
    let (mut status, mut heard) = read(&mut waits);
    while status == 200 && !heard.ends_with("42[\"message\",\"r\",4]") {
        let (next, more) = poller.fetch();
        (status, heard) = (next, format!("{heard}\u{1e}{more}"));
    }
    assert_eq!(heard, "42[\"message\",\"r\",3]\u{1e}42[\"message\",\"r\",4]");

    // A second request that waits is somebody else's: the session ends, and its peer hears of it.
    let mut first = poller.begin_fetch();
    let mut answers = [poller.fetch(), read(&mut first)];
    answers.sort();
    assert_eq!(answers[0], (200, "1".to_owned()), "who came first hears that it is over");
    assert_eq!(answers[1].0, 400);
    assert_eq!(other.event().unwrap().0, "bye");
    assert_eq!(poller.fetch().0, 400);
    let counted = service.signaling_when(|counted| counted["sockets"] == 1);
    assert_eq!(counted["ended"]["packet"], 1, "{counted}");
}

#[test]
fn who_goes_away_or_brings_what_is_no_packet_is_gone_at_once() {
    let service = Service::start(&[("signaling.max_message", "4096")]);
    let port = service.web_port;
    let mut other = Socket::connect(port);
    other.join("r");
    let join = || {
        let (poller, _) = Poller::connect(port);
        assert_eq!(poller.post("42[\"join\",\"r\"]").0, 200);
        assert!(poller.fetch().1.starts_with("42[\"joined\","));
        poller
    };
    let mut events = |name: &str| {
        assert_eq!(other.event().unwrap().0, "otherjoin");
        assert_eq!(other.event().unwrap().0, "bye", "{name}");
    };

    let poller = join();
    let waits = poller.begin_fetch();
    // By the time that another request is answered, this one waits.
    assert_eq!(poller.post("3").0, 200);
    drop(waits);
    events("the connection of a request that waits has ended");
    assert_eq!(join().post("1").0, 200);
    events("a goodbye");
    assert_eq!(join().post("9").0, 400);
    events("no packet");
    assert_eq!(join().post(&"x".repeat(128 * 1024)).0, 413);
    events("more than a request may bring");
    assert_eq!(join().post("").0, 400);
    events("nothing at all");

    let counted = service.signaling_when(|counted| counted["sockets"] == 1);
    let ended = &counted["ended"];
    assert_eq!([&ended["transport"], &ended["closed"], &ended["packet"]], [1, 1, 3], "{counted}");
    assert_eq!(counted["queued_bytes"], 0, "{counted}");
    drop(other);
    // Nobody is left who could be told.
    service.status_when(|status| status["calls"]["rooms"] == 0 && status["calls"]["peers"] == 0);
}

#[test]
fn a_websocket_that_does_not_take_over_leaves_the_session_as_it_is() {
    let service = Service::start(&[]);
    let port = service.web_port;
    let mut other = Socket::connect(port);
    other.join("r");
    let (poller, _) = Poller::connect(port);
    assert_eq!(poller.post("42[\"join\",\"r\"]").0, 200);
    assert!(poller.fetch().1.starts_with("42[\"joined\","));
    assert_eq!(other.event().unwrap().0, "otherjoin");

    let mut waits = poller.begin_fetch();
    let mut asks = Socket::upgrade(port, &poller.sid).unwrap();
    asks.write_text("2hello").unwrap();
    assert!(asks.read_text().is_err(), "it is no question of a client's");
    // The request that has waited all along is answered as if nothing had happened.
    other.send(1).unwrap();
    assert_eq!(read(&mut waits), (200, "42[\"message\",\"r\",1]".to_owned()));

    let mut waits = poller.begin_fetch();
    let mut asks = Socket::upgrade(port, &poller.sid).unwrap();
    asks.write_text("2probe").unwrap();
    assert_eq!(asks.read_text().unwrap(), "3probe");
    assert_eq!(read(&mut waits), (200, "6".to_owned()), "who waits is let go, so that it can come over");
    drop(asks);
    other.send(2).unwrap();
    let (mut status, mut heard) = poller.fetch();
    while (status, heard.as_str()) == (200, "6") {
        (status, heard) = poller.fetch();
    }
    assert_eq!((status, heard.as_str()), (200, "42[\"message\",\"r\",2]"), "it may be lost without harm");
    assert_eq!(poller.post("1").0, 200);
    assert_eq!(other.event().unwrap().0, "bye");

    // One that does take over is all that carries the session from then on.
    let (poller, _) = Poller::connect(port);
    assert_eq!(poller.post("42[\"join\",\"r\"]").0, 200);
    assert_eq!(other.event().unwrap().0, "otherjoin");
    let mut takes = Socket::upgrade(port, &poller.sid).unwrap();
    takes.write_text("2probe").unwrap();
    assert_eq!(takes.read_text().unwrap(), "3probe");
    takes.write_text("5").unwrap();
    assert!(takes.read_text().unwrap().starts_with("42[\"joined\","), "what has waited comes over, too");
    assert_eq!(poller.fetch().0, 400);
    assert_eq!(poller.post("1").0, 400);
    takes.write_text("42[\"message\",\"r\",5]").unwrap();
    assert_eq!(other.receive().unwrap(), 5);
}

#[test]
fn who_closes_a_websocket_hears_that_it_is_closed() {
    let service = Service::start(&[]);
    let mut socket = Socket::connect(service.web_port);
    socket.join("r");
    // A masked close frame with status 1000.
    socket.write_bytes(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).unwrap();
    // That is what a close frame is read as; a connection that breaks off is something else.
    assert_eq!(socket.read_text().unwrap_err().kind(), ErrorKind::ConnectionAborted);
    let counted = service.signaling_when(|counted| counted["sockets"] == 0);
    assert_eq!(counted["ended"]["closed"], 1, "{counted}");
}
