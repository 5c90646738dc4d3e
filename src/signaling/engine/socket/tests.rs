use std::task::Poll;
use std::time::Duration;

use super::*;
use crate::signaling::Counters;
use crate::sys::clock;

const SETTINGS: Settings = Settings {
    ping_every: Duration::from_secs(40),
    pong_within: Duration::from_secs(10),
    upgraded_within: Duration::from_secs(10),
    max_message: 1000,
};

struct Scene {
    socket: Arc<Socket<()>>,
    ended: mpsc::UnboundedReceiver<Ended<()>>,
    start: Instant,
}

impl Scene {
    fn new(version: Version) -> Self {
        let (ends, ended) = mpsc::unbounded_channel();
        let start = clock::now().mono;
        let outbox = Outbox::new(Arc::new(Counters::default()));
        let (names, moments) = ((version, "s".to_owned()), (start, start + SETTINGS.ping_every));
        let socket = Socket::new(names, ("i".to_owned(), ()), outbox, ends, moments);
        Self { socket: Arc::new(socket), ended, start }
    }

    fn with_websocket(version: Version) -> Self {
        let scene = Self::new(version);
        scene.socket.carry_by(None);
        scene
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    /// When to come again, in whole seconds.
    fn beat(&self, seconds: u64, is_late: bool) -> Option<u64> {
        let next = self.socket.beat(self.at(seconds), is_late, &SETTINGS)?;
        Some((next - self.start).as_secs())
    }

    fn next_packet(&self) -> Option<String> {
        self.socket.next_packet()
    }

    /// What waits, as a request would get it.
    fn fetched(&self) -> Option<String> {
        let mut fetch = self.socket.fetch().unwrap();
        match fetch.poll_body(&Context::from_waker(Waker::noop())) {
            Poll::Ready(body) => Some(body),
            Poll::Pending => {
                fetch.is_done = true;
                None
            }
        }
    }

    fn end(&mut self) -> Option<End> {
        self.ended.try_recv().ok().map(|(_, end)| end)
    }
}

#[test]
fn a_client_is_asked_and_ends_if_it_does_not_say_that_it_lives() {
    let mut scene = Scene::with_websocket(Version::V4);
    assert_eq!((scene.beat(0, false), scene.next_packet()), (Some(40), None));
    assert_eq!(scene.beat(41, false), Some(51));
    assert_eq!(scene.next_packet().as_deref(), Some("2"));
    scene.socket.heard(scene.at(42));
    assert_eq!((scene.beat(51, false), scene.next_packet()), (Some(81), None), "every 40 s, whenever it is looked at");
    assert_eq!(scene.beat(81, false), Some(91));
    assert_eq!(scene.beat(90, false), Some(91));
    assert_eq!(scene.end(), None);
    assert_eq!(scene.beat(91, false), None);
    assert_eq!(scene.end(), Some(End::Ping));
    assert_eq!((scene.beat(92, false), scene.end()), (None, None), "once");
}

#[test]
fn nobody_is_blamed_for_what_this_process_has_slept_through() {
    for version in [Version::V3, Version::V4] {
        let mut scene = Scene::with_websocket(version);
        assert!(scene.beat(40, false).is_some());
        assert_eq!(scene.beat(300, true), Some(310));
        scene.socket.heard(scene.at(301));
        assert!(scene.beat(310, false).is_some());
        assert_eq!(scene.end(), None);
    }
}

#[test]
fn an_old_client_asks_by_itself() {
    let mut scene = Scene::with_websocket(Version::V3);
    assert_eq!(scene.beat(50, false), None, "it has never asked");
    assert_eq!(scene.end(), Some(End::Ping));
    let scene = Scene::with_websocket(Version::V3);
    scene.socket.heard(scene.at(25));
    scene.socket.pong();
    assert_eq!(scene.next_packet().as_deref(), Some("3"));
    assert_eq!(scene.beat(50, false), Some(75));
    scene.socket.send("x".repeat(5000), 10_000);
    for _ in 0..1000 {
        scene.socket.pong();
    }
    let waits: Vec<_> = std::iter::from_fn(|| scene.next_packet()).collect();
    assert_eq!(waits[1..], ["3"], "one answer, whatever else waits; who never reads has no thousand of them");
}

#[test]
fn a_client_that_polls_and_does_not_come_again_has_gone() {
    let mut scene = Scene::new(Version::V4);
    assert_eq!(scene.beat(0, false), Some(10));
    let fetch = scene.socket.fetch().unwrap();
    assert_eq!(scene.beat(20, false), Some(30), "it waits for its answer");
    scene.socket.send("a".to_owned(), 1000);
    let mut fetch = fetch;
    assert!(fetch.poll_body(&Context::from_waker(Waker::noop())).is_ready());
    drop(fetch);
    let probe = scene.socket.probe().unwrap();
    assert_eq!(scene.beat(20, false), Some(30), "it is about to come by a WebSocket");
    drop(probe);
    assert_eq!((scene.beat(11, false), scene.end()), (None, Some(End::Transport)));
}

#[test]
fn requests_get_what_waits_in_order_and_only_one_may_wait() {
    let mut scene = Scene::new(Version::V4);
    assert_eq!(scene.fetched(), None);
    for text in ["a", "b"] {
        assert_eq!(scene.socket.send(text.to_owned(), 1000), Sent::Queued);
    }
    assert_eq!(scene.socket.send("x".repeat(1000), 1000), Sent::Full);
    assert_eq!(scene.fetched().as_deref(), Some("4a\u{1e}4b"));
    let waits = scene.socket.fetch().unwrap();
    assert_eq!(scene.socket.fetch().err(), Some(Misplaced::Twice));
    assert_eq!(scene.end(), None);
    drop(waits);
    assert_eq!(scene.end(), Some(End::Transport), "who does not wait for its answer has gone");
    assert_eq!(scene.socket.send("c".to_owned(), 1000), Sent::Ended);
    assert_eq!(scene.fetched().as_deref(), Some("1"));
}

#[test]
fn a_websocket_takes_over_what_waits_and_nothing_is_told_twice() {
    let scene = Scene::new(Version::V4);
    let mut waits = scene.socket.fetch().unwrap();
    let cx = Context::from_waker(Waker::noop());
    assert_eq!(waits.poll_body(&cx), Poll::Pending);
    let probe = scene.socket.probe().unwrap();
    assert_eq!(scene.socket.probe().err(), Some(Misplaced::Twice));
    assert_eq!(waits.poll_body(&cx), Poll::Ready("6".to_owned()), "it waits no longer");
    drop((waits, probe));
    assert_eq!(scene.fetched(), None, "the WebSocket was given up, so it goes on as before");
    let mut waits = scene.socket.fetch().unwrap();
    let probe = scene.socket.probe().unwrap();
    scene.socket.send("a".to_owned(), 1000);
    probe.succeed(None);
    assert_eq!(waits.poll_body(&cx), Poll::Ready("6".to_owned()));
    drop(waits);
    assert_eq!(scene.socket.fetch().err(), Some(Misplaced::Elsewhere));
    assert_eq!(scene.socket.post().err(), Some(Misplaced::Elsewhere));
    assert_eq!((scene.next_packet().as_deref(), scene.next_packet()), (Some("4a"), None));
    assert!(!scene.socket.is_over(&cx));
    scene.socket.send("b".to_owned(), 1000);
    scene.socket.end(End::Closed);
    assert!(scene.socket.is_over(&cx));
    assert!(!scene.socket.heard(scene.start), "what it says now is nobody's business");
    assert_eq!(scene.socket.last_packets().collect::<Vec<_>>(), ["4b", "1"]);
}
