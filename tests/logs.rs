//! What the service has logged, read by the command: while it runs, after it has ended, and as lines are written.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start programs")]

mod common;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/service.rs"]
mod service;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;
use service::Service;

fn lines(service: &Service, args: &[&str]) -> Vec<String> {
    service.run(args).lines().map(str::to_owned).collect()
}

#[test]
fn lines_are_read_with_and_without_a_daemon_and_chosen_by_task_and_severity() {
    let service = Service::start(&[("log.format", "json")]);
    service.run(&["stop", "web"]);
    let all = lines(&service, &["logs"]);
    assert!(all.iter().any(|line| line.contains(" INFO daemon: starting version=")), "{all:?}");
    service.run(&["stop"]);
    let web = lines(&service, &["logs", "--task", "web", "--since", "1h"]);
    assert!(!web.is_empty() && web.iter().all(|line| line.contains(" web: ")), "{web:?}");
    assert!(lines(&service, &["logs", "--level", "error"]).is_empty());
    assert_eq!(
        lines(&service, &["logs", "-n", "1"]),
        lines(&service, &["logs"])[lines(&service, &["logs"]).len() - 1..]
    );
    for line in lines(&service, &["logs", "--json"]) {
        let document: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(document["schema_version"], 1);
        assert!(document["at"].is_string() && document["task"].is_string() && document["level"].is_string(), "{line}");
    }
    let file = std::fs::read_to_string(service.home().join("log/rtcctl.log")).unwrap();
    assert!(file.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{file}");
}

#[test]
fn followed_lines_come_as_they_are_written_until_the_reader_leaves() {
    let service = Service::start(&[]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_rtcctl"))
        .arg("--home")
        .arg(service.home())
        .args(["logs", "-f", "-n", "0", "--task", "certs"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let log = service.home().join("log/rtcctl.log");
    for _ in 0..2 {
        service.run(&["restart", "certs"]);
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert!(line.contains(" certs: "), "{line}");
        // As if it were full: the next lines are in another file.
        std::fs::rename(&log, service.home().join("log/rtcctl.log.1")).unwrap();
        let pid = std::fs::read_to_string(service.home().join("state/daemon.lock")).unwrap();
        let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
    }
    drop(output);
    service.run(&["restart", "certs"]);
    assert!(child.wait().unwrap().success(), "it ends when nobody reads");
}

#[test]
fn a_home_without_a_log_says_where_else_to_look() {
    let dir = tempfile::tempdir().unwrap();
    let output =
        assert_cmd::cargo::cargo_bin_cmd!("rtcctl").arg("--home").arg(dir.path()).arg("logs").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("journalctl -t rtcctl"));
}
