//! A running service with planted faults, and those who use it.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rtcctl::control::client::ask;
use rtcctl::control::protocol::{Request, Response, Status, TaskStatus};
use rtcctl::home::Home;
use rtcctl::supervisor::board::State;
use rtcctl::supervisor::capsule::Capsule;
use rtcctl::supervisor::events::{self, Event, EventKind};
use rtcctl::supervisor::faults::{Kind, Place};
use rtcctl::supervisor::service::TaskName;

use super::datagrams::Datagrams;
use super::service::Service;
use super::socket_io::Socket;
use super::stream_client::{StreamClient, connect_tls};
use super::{PATIENCE, Secret, get, now, passes_media};

/// A running service with planted faults.
pub(crate) struct Scene {
    pub(crate) service: Service,
    pub(crate) home: Home,
}

impl Scene {
    /// Relays are on loopback, where clients reach each other.
    pub(crate) fn start() -> Self {
        let service = Service::start(&[
            ("turn.relay_ips", "[127.0.0.1]"),
            ("turn.user_quota", "1000"),
            ("signaling.max_rate", "10000"),
        ]);
        let home = Home::under(&service.home());
        Self { service, home }
    }

    pub(crate) fn ask(&self, request: &Request) -> Response {
        ask(&self.home, request, PATIENCE).unwrap()
    }

    pub(crate) fn status(&self) -> Status {
        let Response::Status { status } = self.ask(&Request::Status) else {
            panic!("the daemon does not tell its status")
        };
        *status
    }

    pub(crate) fn task(&self, name: TaskName) -> TaskStatus {
        self.status().tasks.into_iter().find(|task| task.name == name).unwrap()
    }

    pub(crate) fn restart(&self, task: TaskName) {
        assert_eq!(self.ask(&Request::Restart { task }), Response::Done);
    }

    pub(crate) fn plant(&self, place: Place, kind: Kind) {
        assert_eq!(self.ask(&Request::Fault { place, kind }), Response::Done);
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        events::read(&self.home.events_file()).unwrap()
    }

    /// What was kept of the last hang of a task.
    pub(crate) fn hang_capsule(&self, name: TaskName) -> Capsule {
        let is_hang = |event: &Event| event.kind == EventKind::Hang && event.task == Some(name);
        self.events().into_iter().rfind(is_hang).unwrap().capsule.unwrap()
    }

    /// Waits until a task serves after so many restarts that nobody asked for, and says how long that took.
    pub(crate) fn until_restarted(&self, name: TaskName, restarts: u64) -> Duration {
        let begin = now();
        let end = begin + PATIENCE;
        loop {
            let task = self.task(name);
            if task.restarts >= restarts && task.state == State::Ready {
                return now() - begin;
            }
            assert!(now() < end, "{task:?}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// The answer to a request for the page, its status alone.
    pub(crate) fn page(&self) -> String {
        get(self.service.web_port, "/")
    }

    /// Two people in a room of their own.
    pub(crate) fn call(&self) -> [Socket; 2] {
        static ROOMS: AtomicU64 = AtomicU64::new(0);
        let room = format!("room {}", ROOMS.fetch_add(1, Ordering::Relaxed));
        let mut call = [Socket::connect(self.service.web_port), Socket::connect(self.service.web_port)];
        for socket in &mut call {
            assert_eq!(socket.join(&room)["ok"], true);
        }
        call
    }

    pub(crate) fn credentials(&self) -> (String, String) {
        let printed = self.service.run(&["turn", "credentials", "--json"]);
        let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
        let text = |key: &str| printed[key].as_str().unwrap().to_owned();
        (text("username"), text("credential"))
    }

    /// Two clients by TURN over TLS, beside the page, who reach each other.
    pub(crate) fn media(&self) -> [Secret; 2] {
        let client = || StreamClient::new(connect_tls(self.service.web_port, &[]), self.credentials());
        let mut media = [client(), client()];
        let relays = [media[0].allocate(), media[1].allocate()];
        media[0].bind_channel(relays[1]);
        media[1].bind_channel(relays[0]);
        assert!(passes_media(&mut media));
        media
    }

    /// Whether a client by UDP gets a relay.
    pub(crate) fn relays_by_udp(&self) -> bool {
        let server = (Ipv4Addr::LOCALHOST, self.service.turn_port).into();
        let datagrams = Datagrams::connect(Ipv4Addr::LOCALHOST.into(), server).unwrap();
        let mut client = StreamClient::new(datagrams, self.credentials());
        matches!(client.try_allocate(), Ok(Some(_)))
    }
}
