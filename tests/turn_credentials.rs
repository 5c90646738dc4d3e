//! `rtcctl turn credentials`: what it prints and what it refuses. Nothing needs to run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

mod common;

use std::path::Path;
use std::process::Output;

use assert_cmd::cargo::cargo_bin_cmd;
use rtcctl::config;
use rtcctl::home::Home;
use rtcctl::sys::clock;
use rtcctl::turn::credentials::{User, password};

fn rtcctl(home: &Path, args: &[&str]) -> Output {
    cargo_bin_cmd!("rtcctl").arg("--home").arg(home).args(args).env_remove("RTCCTL_HOME").output().unwrap()
}

/// Sets a home up, and gives its TURN port and its HTTPS port.
fn init(home: &Path) -> (u16, u16) {
    let (turn, web) = (common::ports::free_port(), common::ports::free_port());
    let (web_text, turn_text) = (web.to_string(), turn.to_string());
    let ports = ["--web-port", &web_text, "--turn-port", &turn_text, "--http-port", "off"];
    let flags = ["init", "--yes", "--firewall", "skip", "--host", "call.example.org"];
    let output = rtcctl(home, &[&flags[..], &ports].concat());
    assert!(output.status.success(), "{output:?}");
    (turn, web)
}

#[test]
fn people_read_a_line_a_value_and_the_password_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let (port, web) = init(dir.path());
    let output = rtcctl(dir.path(), &["turn", "credentials", "--ttl", "60", "--user", "9999999999:root"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let fields: Vec<(&str, &str)> =
        text.lines().map(|line| line.split_once(' ').unwrap()).map(|(key, value)| (key, value.trim())).collect();
    let (username, credential) = (fields[0].1, fields[1].1);
    let user = User::parse(username).unwrap();
    assert_eq!(user.id, "9999999999_root", "a user cannot choose its expiry");
    assert!(user.expires_at <= clock::now().unix_seconds() + 60);
    let (_, secrets) = config::load(&Home::under(dir.path())).unwrap();
    let wanted = [
        ("username", username),
        ("credential", credential),
        ("ttl", "60 s"),
        ("url", &format!("stun:call.example.org:{port}")),
        ("url", &format!("turn:call.example.org:{port}?transport=udp")),
        ("url", &format!("turn:call.example.org:{port}?transport=tcp")),
        ("url", &format!("turns:call.example.org:{web}?transport=tcp")),
    ];
    assert_eq!(fields, wanted);
    assert_eq!(credential, password(&secrets.turn[0], username));
}

#[test]
fn lifetimes_out_of_bounds_are_wrong_usage() {
    let dir = tempfile::tempdir().unwrap();
    for ttl in ["0", "2592001", "-1", "an hour"] {
        let output = rtcctl(dir.path(), &["turn", "credentials", &format!("--ttl={ttl}")]);
        assert_eq!(output.status.code(), Some(2), "{ttl}: {output:?}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_home_without_configuration_is_told_how_to_get_one() {
    let dir = tempfile::tempdir().unwrap();
    let output = rtcctl(dir.path(), &["turn", "credentials", "--json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("config.yaml") && told.contains("init"), "{told}");
    assert!(output.stdout.is_empty());
}
