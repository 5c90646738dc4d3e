//! The service probes itself by every way a caller has, and no probe is taken for a caller.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

mod common;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/service.rs"]
mod service;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use rtcctl::sys::clock;
use serde_json::{Value, json};
use service::Service;

/// The first round of all probes takes ten seconds, on a machine that is not busy with other tests.
const LONG: Duration = Duration::from_secs(90);

const EVERY_PROBE: [&str; 11] = [
    "certificate",
    "fingerprint",
    "forbidden_logins",
    "forbidden_peers",
    "relay_tcp",
    "relay_tls",
    "relay_udp",
    "rooms",
    "signaling",
    "stun",
    "web",
];

/// The status once `is_so`.
fn status_when(service: &Service, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let end = clock::now().mono + LONG;
    loop {
        let status = service.status();
        if is_so(&status) {
            return status;
        }
        assert!(clock::now().mono < end, "{what}\n{status:#}");
    }
}

fn names(status: &Value) -> BTreeSet<&str> {
    status["probes"].as_array().unwrap().iter().map(|probe| probe["name"].as_str().unwrap()).collect()
}

fn codes(status: &Value) -> Vec<&str> {
    status["findings"].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect()
}

/// What the command was told, once it was told so many events.
fn events_when(told: &Path, count: usize) -> Vec<Value> {
    let end = clock::now().mono + LONG;
    loop {
        let text = std::fs::read_to_string(told).unwrap_or_default();
        let events: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if events.len() == count {
            return events;
        }
        assert!(clock::now().mono < end, "{text}");
        std::thread::yield_now();
    }
}

#[test]
fn every_probe_succeeds_and_none_shows_where_callers_are_counted() {
    // No caller could do anything here, so that whoever does is no caller.
    let limits = [
        ("turn.relay_ips", "[127.0.0.1]"),
        ("turn.total_quota", "1"),
        ("turn.allocation_bandwidth", "1k"),
        ("signaling.max_rooms", "1"),
        ("signaling.max_sockets", "2"),
    ];
    let service = Service::start(&limits);
    let done = status_when(&service, "every probe was made", |status| names(status).len() == EVERY_PROBE.len());
    assert_eq!(names(&done).into_iter().collect::<Vec<_>>(), EVERY_PROBE);
    for probe in done["probes"].as_array().unwrap() {
        assert_eq!(probe["ok"], true, "{probe}");
        assert!(probe["p50_ms"].is_number() && probe["max_ms"].as_f64() >= probe["p50_ms"].as_f64(), "{probe}");
    }
    for task in done["tasks"].as_array().unwrap() {
        assert_eq!(task["probe"]["ok"], true, "{task}");
        assert!(task["probe"]["p90_ms"].is_number(), "{task}");
    }
    let is_zero = |counts: &Value| counts.as_object().unwrap().values().all(|count| *count == 0);
    assert_eq!(done["calls"], json!({ "rooms": 0, "peers": 0 }));
    assert!(is_zero(&done["connections"]), "{}", done["connections"]);
    let turn = &done["turn"];
    assert!(is_zero(&turn["dropped"]) && is_zero(&turn["outcomes"]), "{turn}");
    assert_eq!([&turn["allocations"], &turn["relayed_bytes"], &turn["relayed_packets"]], [0, 0, 0]);
    assert_eq!(done["findings"], json!([]));
    assert_eq!(done["state"], "ready");
}

/// A minute, what it may be longer, and a second for who asks.
#[cfg(feature = "faults")]
const PROBE_PERIOD: Duration = Duration::from_secs(67);

#[cfg(feature = "faults")]
#[test]
fn a_weakened_peer_filter_of_the_running_daemon_is_found_within_one_period() {
    let service = Service::start(&[("turn.relay_ips", "[127.0.0.1]")]);
    status_when(&service, "every probe was made", |status| names(status).len() == EVERY_PROBE.len());
    assert_eq!(codes(&service.status()), Vec::<&str>::new());
    let start = clock::now().mono;
    service.run(&["fault", "turn", "hole", "--peer", "169.254.169.254"]);
    let told = status_when(&service, "the hole is found", |status| !codes(status).is_empty());
    let took = clock::now().mono - start;
    assert!(took < PROBE_PERIOD, "{took:?}");
    let finding = &told["findings"][0];
    assert_eq!(
        (&finding["code"], &finding["severity"]),
        (&json!("relay-reaches-forbidden"), &json!("critical")),
        "{told}"
    );
    assert_eq!(finding["evidence"], "CreatePermission for 169.254.169.254 is granted");
    assert_eq!(service.command(&["status"]).output().unwrap().status.code(), Some(10));
}

#[test]
fn an_edit_and_a_stopped_task_are_found_told_and_over_when_they_are_over() {
    let folder = tempfile::tempdir().unwrap();
    let (script, told) = (folder.path().join("tell"), folder.path().join("told"));
    rtcctl::sys::fs::write_atomic(&script, b"#!/bin/sh\ncat >> \"$1\"\necho >> \"$1\"\n", 0o700).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    let command = format!("[{}, {}]", script.display(), told.display());
    let service = Service::start(&[("turn.relay_ips", "[127.0.0.1]"), ("notify.command", &command)]);
    let file = service.home().join("config.yaml");
    let edited = std::fs::read_to_string(&file).unwrap() + "# edited\n";
    rtcctl::sys::fs::write_atomic(&file, edited.as_bytes(), 0o600).unwrap();
    let status = status_when(&service, "the edit is seen", |status| codes(status) == ["config-not-applied"]);
    assert_eq!(status["findings"][0]["severity"], "info");
    assert_eq!(service.command(&["status"]).output().unwrap().status.code(), Some(0), "good to know, and not bad");
    service.run(&["stop", "web"]);
    let status = status_when(&service, "the stop is seen", |status| codes(status).contains(&"task-stopped"));
    assert_eq!(codes(&status), ["task-stopped", "config-not-applied"], "nothing that only follows from it");
    let output = service.command(&["status"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(11));
    assert!(text.contains("warning: web is stopped [task-stopped]") && text.contains("  hint: start it by"), "{text}");
    // Only what somebody was told of is told to be over.
    events_when(&told, 2);
    service.run(&["start", "web"]);
    status_when(&service, "it is over", |status| codes(status) == ["config-not-applied"]);
    let events = events_when(&told, 3);
    let heard: Vec<_> = events.iter().map(|event| (&event["event"], &event["finding"]["code"])).collect();
    let (raised, cleared) = (json!("raised"), json!("cleared"));
    let (edit, stop) = (json!("config-not-applied"), json!("task-stopped"));
    assert_eq!(heard, [(&raised, &edit), (&raised, &stop), (&cleared, &stop)]);
    assert_eq!(events[1]["finding"]["subject"], "web");
}
