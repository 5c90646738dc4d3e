//! Who may call, as callers and operators see it: keys, sessions, refusals, and another key while a call goes on.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

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

use std::path::Path;
use std::time::Duration;

use assert_cmd::Command;
use common::{has_program, npm_ci};
use serde_json::Value;
use service::Service;
use socket_io::Socket;

/// curl's own deadline, which it reports, lies below.
const CURL_WITHIN: Duration = Duration::from_secs(40);
const CLIENT_WITHIN: Duration = Duration::from_secs(150);

/// A service that needs a key.
struct Locked(Service);

impl Locked {
    fn start(settings: &[(&str, &str)]) -> Self {
        Self(Service::start(&[&[("access", "key")], settings].concat()))
    }

    /// The key that invite links have now.
    fn key(&self) -> String {
        let link = self.invite(&[])["link"].as_str().unwrap().to_owned();
        link.split_once("#key=").unwrap().1.to_owned()
    }

    fn invite(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.0.run(&[&["invite", "--json"], args].concat())).unwrap()
    }

    /// Status, headers and body, by HTTP/2 with its headers in lower case.
    fn ask(&self, path: &str, args: &[&str]) -> (u16, String, String) {
        let output = Command::new("curl")
            .args(["--silent", "--include", "--max-time", "30", "--noproxy", "*", "--cacert"])
            .arg(self.0.ca_file())
            .args(args)
            .arg(format!("{}{path}", self.0.url()))
            .timeout(CURL_WITHIN)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n");
        let (head, body) = text.split_once("\n\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_owned(), body.to_owned())
    }

    fn ask_with(&self, path: &str, header: &str) -> (u16, String, String) {
        self.ask(path, &["-H", header])
    }

    /// Exchanges the key; gives the cookie.
    fn cookie(&self) -> String {
        let bearer = format!("Authorization: Bearer {}", self.key());
        let (status, head, body) = self.ask("/api/session", &["-X", "POST", "-H", &bearer]);
        assert_eq!((status, body.as_str()), (204, ""), "{head}");
        let line = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        for word in ["; Path=/", "; Secure", "; HttpOnly", "; SameSite=Lax", "; Max-Age=2592000"] {
            assert!(line.contains(word), "{line}");
        }
        line.split(';').next().unwrap().to_owned()
    }
}

fn user_of(body: &str) -> String {
    let list: Value = serde_json::from_str(body).unwrap();
    list["iceServers"][1]["username"].as_str().unwrap().split_once(':').unwrap().1.to_owned()
}

#[test]
fn ice_servers_are_for_who_has_the_key_or_a_session_and_guessing_is_slowed() {
    if !has_program("curl") {
        return;
    }
    let service = Locked::start(&[]);
    let key = service.key();
    let (status, head, body) = service.ask("/api/ice", &[]);
    assert_eq!(status, 401);
    assert!(head.contains("www-authenticate: Bearer") && head.contains("cache-control: no-store"), "{head}");
    assert!(body.contains("\"error\":\"key_missing\"") && !body.contains("credential"), "{body}");
    // The three ways in.
    let cookie = service.cookie();
    for (path, header) in [
        (format!("/api/ice?key={key}"), "X: none".to_owned()),
        ("/api/ice".to_owned(), format!("Authorization: Bearer {key}")),
        ("/api/ice".to_owned(), format!("Cookie: a=b; {cookie}")),
    ] {
        let (status, _, body) = service.ask_with(&path, &header);
        assert_eq!(status, 200, "{body}");
    }
    // One browser is one user, whose relays are counted together.
    let user = |header: &str| user_of(&service.ask_with("/api/ice", header).2);
    let first = user(&format!("Cookie: {cookie}"));
    assert!(first.starts_with("session-"), "{first}");
    assert_eq!(user(&format!("Cookie: {cookie}")), first);
    assert_ne!(user(&format!("Cookie: {}", service.cookie())), first);
    // A page of somebody else cannot use the visitor's cookie.
    let foreign = ["-H", &format!("Cookie: {cookie}"), "-H", "Origin: https://localhost:1"];
    assert_eq!(service.ask("/api/ice", &foreign).0, 401);
    let tampered = service.ask_with("/api/ice", &format!("Cookie: {cookie}x"));
    assert!(tampered.0 == 401 && tampered.2.contains("session_ended"), "{tampered:?}");
    // Guessing is slowed down, and tells when to come back; a session is not concerned.
    let guesses: Vec<u16> = (0..25)
        .map(|guess| {
            service.ask("/api/session", &["-X", "POST", "-H", &format!("Authorization: Bearer {key}{guess}")]).0
        })
        .collect();
    assert!(guesses[..20].iter().all(|status| *status == 401) && guesses.last() == Some(&429), "{guesses:?}");
    let (status, head, body) = service.ask_with("/api/ice", &format!("Authorization: Bearer {key}"));
    assert!(
        status == 429 && head.contains("retry-after: ") && body.contains("too_many_tries"),
        "{status} {head} {body}"
    );
    assert_eq!(service.ask_with("/api/ice", &format!("Cookie: {cookie}")).0, 200);
    // Counted, told, and nowhere written.
    let status: Value = serde_json::from_str(&service.0.run(&["status", "--json"])).unwrap();
    assert_eq!(status["access"]["mode"], "key");
    assert_eq!(status["access"]["outcomes"]["wrong"], 20, "{status}");
    assert!(service.0.run(&["status"]).contains("access       key, "), "people are told");
    let metrics = service.ask("/metrics", &[]).2;
    assert!(metrics.contains("rtcctl_access_total{outcome=\"wrong\"} 20\n"), "{metrics}");
    let log = std::fs::read_to_string(service.0.home().join("log/rtcctl.log")).unwrap();
    let events = std::fs::read_to_string(service.0.home().join("state/events.jsonl")).unwrap_or_default();
    for secret in [&key, cookie.split_once('=').unwrap().1] {
        assert!(!log.contains(secret) && !events.contains(secret) && !metrics.contains(secret));
    }
}

#[test]
fn another_key_counts_at_once_and_who_is_in_a_room_stays() {
    if !has_program("curl") {
        return;
    }
    let service = Locked::start(&[]);
    let (old, cookie) = (service.key(), service.cookie());
    let connect = |auth: &str| Socket::connect_with(service.0.web_port, auth);
    let mut anna = connect(&format!("{{\"key\":\"{old}\",\"session\":\"0123456789abcdef\"}}")).unwrap();
    let mut bo = connect(&format!("{{\"key\":\"{old}\"}}")).unwrap();
    assert_eq!(anna.join("r")["ok"], true);
    assert_eq!(bo.join("r")["ok"], true);

    let told = service.invite(&["--new-key", "--room", "会 1"]);
    assert_eq!((&told["applied"], &told["access"]), (&Value::Bool(true), &Value::String("key".to_owned())));
    let new = told["link"].as_str().unwrap().split_once("/?room=%E4%BC%9A%201#key=").unwrap().1.to_owned();
    assert!(new != old && new.len() == 26, "{new}");

    bo.send(7).unwrap();
    assert_eq!(anna.receive().unwrap(), 7, "who is in a room stays");
    assert_eq!(anna.join("r")["ok"], true, "and is told ICE servers still");
    for refused in [format!("{{\"key\":\"{old}\"}}"), "{}".to_owned()] {
        assert!(connect(&refused).is_err(), "{refused}");
    }
    assert_eq!(service.ask_with("/api/ice", &format!("Cookie: {cookie}")).0, 401);
    assert_eq!(service.ask(&format!("/api/ice?key={old}"), &[]).0, 401);
    assert_eq!(service.ask(&format!("/api/ice?key={new}"), &[]).0, 200);
    assert!(connect(&format!("{{\"key\":\"{new}\"}}")).is_ok());
    // An interruption does not end a call: who has a place comes back to it.
    drop(anna);
    let mut anna = connect("{\"session\":\"0123456789abcdef\"}").unwrap();
    assert_eq!(anna.join("r")["ok"], true);
    bo.send(8).unwrap();
    assert_eq!(anna.receive().unwrap(), 8);
    assert!(connect("{\"session\":\"fedcba9876543210\"}").is_err(), "a session that nobody has is no key");
    let events = service.0.run(&["events"]);
    assert!(events.contains("access_key"), "{events}");
}

#[test]
fn clients_of_every_version_come_in_by_cookie_and_by_key() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/signaling");
    if !(has_program("curl") && has_program("node") && has_program("npm") && npm_ci(&folder)) {
        return;
    }
    let service = Locked::start(&[]);
    let (key, cookie) = (service.key(), service.cookie());
    for version in ["2", "3", "4"] {
        for transports in ["polling", "websocket"] {
            // Each of them shows two wrong keys, and twenty from one place are slowed down.
            let output = Command::new("node")
                .arg(folder.join("key.js"))
                .args([&service.0.url(), version, transports, &cookie])
                .env("NODE_EXTRA_CA_CERTS", service.0.ca_file())
                .env("RTCCTL_KEY", &key)
                .timeout(CLIENT_WITHIN)
                .output()
                .unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            assert!(output.status.success(), "socket.io-client {version} by {transports}:\n{out}{err}");
        }
    }
}

#[test]
fn probes_and_the_relay_test_need_no_key() {
    let service = Locked::start(&[]);
    let test = service.0.run(&["turn", "test"]);
    assert!(test.contains("every step succeeds"), "{test}");
    let status: Value = serde_json::from_str(&service.0.run(&["status", "--json"])).unwrap();
    assert_eq!(status["state"], "ready", "{status}");
    let rooms = status["probes"].as_array().unwrap().iter().find(|probe| probe["name"] == "rooms").unwrap();
    assert_eq!(rooms["ok"], true, "{rooms}");
    let outcomes = status["access"]["outcomes"].as_object().unwrap();
    assert!(outcomes.values().all(|count| count == 0), "no probe is counted: {status}");
}

#[test]
fn pages_of_the_operator_stand_behind_the_key_and_their_parts_do_not() {
    if !has_program("curl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    rtcctl::sys::fs::write_atomic(&folder.path().join("index.html"), b"<title>own</title>", 0o644).unwrap();
    rtcctl::sys::fs::write_atomic(&folder.path().join("main.js"), b"own()", 0o644).unwrap();
    let service = Locked::start(&[("web.root", folder.path().to_str().unwrap())]);
    let browser = ["-H", "Accept: text/html,*/*;q=0.8", "-H", "Accept-Encoding: identity"];
    let (status, head, body) = service.ask("/?room=1", &browser);
    assert!(status == 401 && body.contains("key-form") && !body.contains("own"), "{head}\n{body}");
    assert!(head.contains("cache-control: no-store") && head.contains("content-security-policy"), "{head}");
    let cookie = format!("Cookie: {}", service.cookie());
    let (status, _, body) = service.ask("/?room=1", &[&browser[..], &["-H", &cookie]].concat());
    assert_eq!((status, body.as_str()), (200, "<title>own</title>"));
    assert_eq!(service.ask("/main.js", &[]).2, "own()");
}

#[test]
fn a_home_without_a_key_says_how_to_get_one_and_gets_it() {
    let service = Service::start(&[]);
    service.run(&["stop"]);
    let open: Value = serde_json::from_str(&service.run(&["invite", "--json"])).unwrap();
    assert_eq!((open["access"].as_str(), open["applied"].is_null()), (Some("open"), true));
    assert!(!open["link"].as_str().unwrap().contains("key"), "{open}");
    // As homes of older versions are.
    let (config, secrets) = (service.home().join("config.yaml"), service.home().join("secrets.yaml"));
    let text = std::fs::read_to_string(&secrets).unwrap();
    let bare: String =
        text.lines().filter(|line| !line.starts_with("access_key")).map(|line| format!("{line}\n")).collect();
    rtcctl::sys::fs::write_atomic(&secrets, bare.as_bytes(), 0o600).unwrap();
    let closed = std::fs::read_to_string(&config).unwrap().replace("access: open", "access: key");
    rtcctl::sys::fs::write_atomic(&config, closed.as_bytes(), 0o644).unwrap();
    let output = service.command(&["start"]).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(78), "{err}");
    assert!(err.contains("access_key: is missing") && err.contains("invite --new-key"), "{err}");
    let made: Value = serde_json::from_str(&service.run(&["invite", "--new-key", "--json"])).unwrap();
    assert_eq!(made["applied"], false, "nothing runs");
    assert!(made["link"].as_str().unwrap().contains("#key="), "{made}");
    let (before, after) = (bare.lines().count(), std::fs::read_to_string(&secrets).unwrap().lines().count());
    assert!(after > before);
    service.run(&["start"]);
    // Or by setting it up again.
    service.run(&["stop"]);
    rtcctl::sys::fs::write_atomic(&secrets, bare.as_bytes(), 0o600).unwrap();
    let again = service.run(&["init", "--yes"]);
    assert!(again.contains("1 change made") && again.contains("#key="), "{again}");
    service.run(&["config", "check"]);
    let output = service.command(&["invite", "--room", ""]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
