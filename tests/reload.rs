//! Another configuration while people call: what is applied, what is refused, and what nobody may notice.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start programs and edit files")]

mod common;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/datagrams.rs"]
mod datagrams;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/service.rs"]
mod service;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/stream_client.rs"]
mod stream_client;
#[path = "common/survivor.rs"]
mod survivor;

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use service::Service;
use stream_client::{StreamClient, connect, connect_tls};
use survivor::{Relayed, Room, credentials};

/// How long something may take that happens within a second or two.
const SOON: Duration = Duration::from_secs(20);

fn service() -> Service {
    Service::start(&[("turn.relay_ips", "[127.0.0.1]"), ("turn.peers", "lan")])
}

fn edit(service: &Service, settings: &[(&str, &str)]) {
    let file = service.home().join("config.yaml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    for (key, value) in settings {
        text = rtcctl::config::set_value(&text, key, value).unwrap();
    }
    std::fs::write(file, text).unwrap();
}

/// What a reload says that works.
fn reload(service: &Service) -> Value {
    serde_json::from_str(&service.run(&["reload", "--json"])).unwrap()
}

/// Key and effect of each change.
fn effects(reload: &Value) -> Vec<(&str, &str)> {
    let changes = reload["changes"].as_array().unwrap();
    changes.iter().map(|change| (change["key"].as_str().unwrap(), change["effect"].as_str().unwrap())).collect()
}

fn effect_on_tasks(reload: &Value) -> Value {
    let tasks = reload["tasks"].as_array().unwrap();
    tasks
        .iter()
        .map(|task| (task["name"].as_str().unwrap().to_owned(), task["effect"].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn fingerprint(service: &Service) -> Value {
    service.status()["certificate"]["fingerprint_sha256"].clone()
}

/// What a command says on standard error, if it ends with this code.
fn refusal(service: &Service, args: &[&str], code: i32) -> String {
    let output = service.command(args).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{told}{}", String::from_utf8_lossy(&output.stdout));
    told
}

/// Asks until it is so.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {SOON:?}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn free_port() -> u16 {
    let mut ports = std::iter::repeat_with(common::ports::free_port);
    ports.find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok()).unwrap()
}

#[test]
fn what_running_tasks_take_up_is_applied_and_a_call_goes_on_through_all_of_it() {
    let service = service();
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("index.html"), "my own page").unwrap();
    let root = root.path().to_str().unwrap();
    let mut media = Relayed::call(&service, service.turn_port);
    let mut room = Room::join(&service);
    let before = fingerprint(&service);
    let pid = service.status()["pid"].clone();
    let edits: [&[(&str, &str)]; 8] = [
        &[("turn.user_quota", "7"), ("turn.total_quota", "50"), ("turn.drain", "1")],
        &[("turn.peers", "public"), ("turn.allow_peers", "[192.168.7.0/24]")],
        &[("turn.public_ips", "[203.0.113.9]"), ("turn.allocation_bandwidth", "2M")],
        &[("log.level", "debug"), ("log.keep", "2")],
        &[("web.root", root)],
        &[("signaling.max_rooms", "9"), ("signaling.max_sockets", "20"), ("signaling.max_rate", "40")],
        &[("hosts", "[localhost, 127.0.0.1, added.test]")],
        &[("turn.credential_ttl", "600"), ("turn.icmp", "off"), ("turn.latency", "low")],
    ];
    for settings in edits {
        edit(&service, settings);
        let keys: Vec<&str> = settings.iter().map(|(key, _)| *key).collect();
        let mut pending: Vec<String> = serde_json::from_value(service.status()["pending"]["keys"].clone()).unwrap();
        pending.sort_by_key(|key| keys.iter().position(|other| other == key));
        assert_eq!(pending, keys, "an edit is shown and not applied");
        let reload = reload(&service);
        let mut told = effects(&reload);
        told.sort_by_key(|(key, _)| keys.iter().position(|other| other == key));
        assert_eq!(told, keys.iter().map(|key| (*key, "applied")).collect::<Vec<_>>());
        media.talk();
        assert_eq!(room.as_mut().map_or("held".to_owned(), Room::talk), "held", "after {settings:?}");
    }
    let now = service.status();
    assert_eq!((&now["pid"], &now["pending"]), (&pid, &Value::Null));
    assert_eq!(now["turn"]["limits"]["user_allocations"], 7);
    assert_ne!(now["certificate"]["fingerprint_sha256"], before);
    assert!(now["certificate"]["names"].as_array().unwrap().contains(&json!("added.test")));
    assert!(now["tasks"].as_array().unwrap().iter().all(|task| task["restarts"] == 0), "{now}");
    let page = service.command(&["logs", "-n", "1000"]).output().unwrap();
    assert!(String::from_utf8_lossy(&page.stdout).contains("reloaded keys=\"turn.user_quota"), "it is in the log");
    if common::has_program("curl") {
        let output = std::process::Command::new("curl")
            .args(["-sS", "--cacert"])
            .arg(service.ca_file())
            .arg(service.url())
            .output()
            .unwrap();
        assert_eq!(output.stdout, b"my own page");
    }
    let same = reload(&service);
    assert_eq!((&same["result"], &same["changes"]), (&json!("unchanged"), &json!([])));
    assert_eq!(service.run(&["reload"]), "nothing has changed\n");
}

#[test]
fn secrets_are_taken_up_and_an_allocation_of_the_old_one_lives_on() {
    let service = service();
    let mut media = Relayed::call(&service, service.turn_port);
    let old = credentials(&service);
    let file = service.home().join("secrets.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let secret = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let lines = text.lines().map(|line| if line.starts_with("- ") { format!("- {secret}") } else { line.to_owned() });
    let text: String = lines.map(|line| line + "\n").collect();
    assert!(text.contains(secret), "{text}");
    std::fs::write(&file, text.replace("#turn_users:\n#  name: password", "turn_users:\n  carol: a good password"))
        .unwrap();
    let told = reload(&service);
    assert_eq!(effects(&told), [("turn_secrets", "applied"), ("turn_users", "applied")]);
    assert!(!told.to_string().contains(secret) && !told.to_string().contains("a good password"));
    media.talk();
    let allocate = |pair| StreamClient::new(connect(service.turn_port), pair).try_allocate().unwrap();
    assert_ne!(credentials(&service).1, old.1);
    assert!(allocate(credentials(&service)).is_some());
    assert!(allocate(("carol".to_owned(), "a good password".to_owned())).is_some());
    assert!(allocate(old).is_none(), "what the old secret has issued is worthless for another allocation");
}

#[test]
fn another_turn_secret_ends_no_call_and_the_one_before_is_good_for_as_long_as_was_said() {
    let service = service();
    let mut media = Relayed::call(&service, service.turn_port);
    let allocate = |pair: &(String, String)| {
        StreamClient::new(connect(service.turn_port), pair.clone()).try_allocate().unwrap().is_some()
    };
    let old = credentials(&service);
    let text = service.run(&["turn", "rotate-secret", "--grace", "1h", "--json"]);
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["applied"], true);
    assert!(told["old_until"].is_string(), "{told}");
    let new = credentials(&service);
    let secrets = std::fs::read_to_string(service.home().join("secrets.yaml")).unwrap();
    let (_, secret) = secrets.split_once("turn_secrets: [\"").unwrap();
    assert!(!text.contains(&secret[..64]), "a secret is never shown");
    assert!(allocate(&old) && allocate(&new));
    media.talk();
    media.anna.refresh(600);

    // The grace of before holds, however short another one is; ended at once, nothing of it is good.
    service.run(&["turn", "rotate-secret", "--grace", "1s"]);
    assert!(allocate(&old) && allocate(&new));
    service.run(&["turn", "rotate-secret", "--grace", "0s"]);
    assert!(!allocate(&old) && !allocate(&new));
    assert!(allocate(&credentials(&service)));
    media.talk();
    media.anna.refresh(600);
    media.bo.refresh(600);
    assert_eq!(service.run(&["reload"]), "nothing has changed\n");

    let file = service.home().join("secrets.yaml");
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + "hunter2: x\n").unwrap();
    let before = std::fs::read(&file).unwrap();
    refusal(&service, &["turn", "rotate-secret"], 78);
    assert_eq!(std::fs::read(&file).unwrap(), before);
    refusal(&service, &["turn", "rotate-secret", "--grace", "31d"], 2);
    media.hang_up();
}

#[test]
fn moved_ports_are_served_before_the_old_ones_end_and_calls_stay_where_they_are() {
    let service = service();
    let mut media = Relayed::call(&service, service.turn_port);
    let mut streamed = StreamClient::new(connect(service.turn_port), credentials(&service));
    streamed.allocate();
    let mut room = Room::join(&service);
    let mut tls = connect_tls(service.web_port, &["http/1.1"]);
    let [web, http, turn] = [(); 3].map(|()| free_port());
    let [web_text, http_text, turn_text] = [web, http, turn].map(|port| port.to_string());
    edit(&service, &[("web.port", &web_text), ("web.http_port", &http_text), ("turn.port", &turn_text)]);
    let told = reload(&service);
    assert_eq!(effects(&told), [("web.port", "applied"), ("web.http_port", "applied"), ("turn.port", "applied")]);
    let told = service.status();
    assert_eq!(told["urls"]["web"], format!("https://localhost:{web}/"));
    assert_eq!(told["urls"]["ice"][0], format!("stun:localhost:{turn}"));
    // Whoever is there already stays, by all three ways.
    media.talk();
    assert!(streamed.is_answered());
    assert_eq!(room.as_mut().map_or("held".to_owned(), Room::talk), "held");
    std::io::Write::write_all(&mut tls, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut heard = String::new();
    let _ = std::io::Read::read_to_string(&mut tls, &mut heard);
    assert!(heard.starts_with("HTTP/1.1 200"), "{heard}");
    // Whoever comes finds the new ones.
    for (new, old) in [(web, service.web_port), (http, service.http_port), (turn, service.turn_port)] {
        assert!(TcpStream::connect(("127.0.0.1", new)).is_ok(), "{new}");
        eventually("the old port is closed", || TcpStream::connect(("127.0.0.1", old)).is_err());
    }
    Relayed::call(&service, turn).hang_up();
    assert!(StreamClient::new(connect_tls(web, &[]), credentials(&service)).is_answered());
    // The old port is served for as long as somebody is there.
    media.talk();
    assert!(UdpSocket::bind(("127.0.0.1", service.turn_port)).is_err());
    media.hang_up();
    eventually("the old UDP port is free", || UdpSocket::bind(("0.0.0.0", service.turn_port)).is_ok());
    assert_eq!(service.command(&["status"]).output().unwrap().status.code(), Some(0));
}

#[test]
fn a_bad_configuration_is_refused_with_every_complaint_and_nothing_is_changed() {
    let service = service();
    let mut media = Relayed::call(&service, service.turn_port);
    let good = std::fs::read_to_string(service.home().join("config.yaml")).unwrap();
    edit(&service, &[("turn.user_quota", "many"), ("turn.total_quota", "5")]);
    let mut text = std::fs::read_to_string(service.home().join("config.yaml")).unwrap();
    text.push_str("colour: red\n");
    std::fs::write(service.home().join("config.yaml"), &text).unwrap();
    let told = refusal(&service, &["reload"], 78);
    assert!(told.contains("turn.user_quota: must be") && told.contains("colour: unknown key"), "{told}");
    let pending = service.status()["pending"].clone();
    assert_eq!(pending["complaints"].as_array().unwrap().len(), 3, "{pending}");
    // What the daemon has to say is said in the language of who asks.
    let told = service.command(&["--lang", "zh", "status"]).output().unwrap();
    let told = String::from_utf8_lossy(&told.stdout);
    assert!(told.contains("turn.user_quota：必须是") && told.contains("colour：未知的键"), "{told}");
    assert_eq!(service.status()["turn"]["limits"]["user_allocations"], 32);
    // A port of somebody else, together with something that could have been applied.
    std::fs::write(service.home().join("config.yaml"), &good).unwrap();
    let taken = TcpListener::bind(("0.0.0.0", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    edit(&service, &[("web.port", &port), ("turn.user_quota", "3"), ("turn.port", &free_port().to_string())]);
    let told = refusal(&service, &["reload"], 1);
    assert!(told.contains(&format!("cannot bind `0.0.0.0:{port}/tcp` for web")), "{told}");
    assert!(told.contains("nothing was changed"), "{told}");
    let now = service.status();
    assert_eq!(now["turn"]["limits"]["user_allocations"], 32, "all of it or nothing");
    assert_eq!(now["urls"]["ice"][0], format!("stun:localhost:{}", service.turn_port));
    assert!(TcpStream::connect(("127.0.0.1", service.web_port)).is_ok());
    media.talk();
    std::fs::write(service.home().join("config.yaml"), &good).unwrap();
    assert_eq!(reload(&service)["result"], "unchanged");
}

#[test]
fn what_cannot_change_while_it_runs_restarts_that_task_alone() {
    let service = service();
    let mut room = Room::join(&service);
    edit(&service, &[("turn.relay_ports", "52000-52100"), ("turn.workers", "3")]);
    let told = reload(&service);
    let restarted = [("turn.relay_ports", "restarted"), ("turn.workers", "restarted")];
    // As many allocations as there are ports, where nobody says otherwise.
    assert_eq!(effects(&told), [&restarted[..], &[("turn.total_quota", "applied")]].concat());
    let unchanged = json!("unchanged");
    let wanted = json!({ "certs": unchanged, "turn": "restarted", "signaling": unchanged, "web": unchanged });
    assert_eq!(effect_on_tasks(&told), wanted);
    assert_eq!(room.as_mut().map_or("held".to_owned(), Room::talk), "held");
    let relay = StreamClient::new(connect(service.turn_port), credentials(&service)).allocate();
    assert!((52000..=52100).contains(&relay.port()), "{relay}");
    let mut media = Relayed::call(&service, service.turn_port);
    edit(&service, &[("signaling.max_message", "8192")]);
    let told = service.run(&["reload"]);
    assert!(told.contains("signaling was restarted") && told.contains("pages came back to their rooms"), "{told}");
    media.talk();
    // Without TCP there are neither listeners nor streams of TURN, and with it again there are.
    edit(&service, &[("turn.tcp", "off")]);
    assert_eq!(effects(&reload(&service)), [("turn.tcp", "restarted")]);
    eventually("TURN is closed by TCP", || TcpStream::connect(("127.0.0.1", service.turn_port)).is_err());
    edit(&service, &[("turn.tcp", "on")]);
    reload(&service);
    StreamClient::new(connect(service.turn_port), credentials(&service)).allocate();
    assert_eq!(service.status()["turn"]["path"]["workers"], 3);
}

#[test]
fn sighup_reloads_and_opens_the_log_anew() {
    let service = service();
    let log = service.home().join("log/rtcctl.log");
    std::fs::rename(&log, service.home().join("log/moved")).unwrap();
    edit(&service, &[("turn.user_quota", "4")]);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(service.status()["pid"].as_i64().unwrap()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
    eventually("it is applied", || service.status()["turn"]["limits"]["user_allocations"] == 4);
    let told = || std::fs::read_to_string(&log).unwrap_or_default();
    eventually("it is in the new file", || told().contains("reloaded keys=turn.user_quota"));
    std::fs::write(service.home().join("config.yaml"), "hosts: [").unwrap();
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
    eventually("the refusal is in the log", || told().contains("the new configuration is refused"));
    assert_eq!(service.status()["turn"]["limits"]["user_allocations"], 4);
    let events = service.run(&["events", "--json"]);
    let kinds: Vec<Value> = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
    let reloads: Vec<&Value> = kinds.iter().filter(|event| event["kind"] == "reload").collect();
    assert_eq!(reloads.len(), 2, "{events}");
}
