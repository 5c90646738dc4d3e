//! DNS-01 end to end: the operator's command, a name server that is asked whether the record is there, and `pebble`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start programs and write files")]

#[allow(dead_code, reason = "other tests need the rest")]
#[path = "common/acme_scene.rs"]
mod acme_scene;
mod common;
#[allow(dead_code, reason = "other tests need the rest")]
#[path = "common/pebble.rs"]
mod pebble;

use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use self::acme_scene::{ISSUED_WITHIN, SMOOTH, Scene, THOROUGH, is_issued};
use self::common::has_program;
use self::common::ports::free_port;
use self::pebble::Manners;

/// Adds records to pebble's DNS as a provider's tool would: the record is there a moment after the command has ended.
const HOOK: &str = r#"#!/bin/sh
echo "$RTCCTL_DNS_ACTION $RTCCTL_DNS_DOMAIN $RTCCTL_DNS_NAME $RTCCTL_DNS_VALUE" >> "$2/asked"
env > "$2/environment"
test -e "$2/broken" && { echo "no zone for this token" >&2; exit 3; }
tell() { curl -sf -d "$2" "$management/$1" > /dev/null; }
management=$1
case $RTCCTL_DNS_ACTION in
present) (sleep 2; tell set-txt "{\"host\":\"$RTCCTL_DNS_NAME.\",\"value\":\"$RTCCTL_DNS_VALUE\"}") > /dev/null 2>&1 & ;;
cleanup) tell clear-txt "{\"host\":\"$RTCCTL_DNS_NAME.\"}" ;;
esac
"#;

struct Zone {
    scene: Scene,
    dir: tempfile::TempDir,
}

impl Zone {
    /// A home for `call.rtc.test` with a command, and these flags besides.
    fn new(env: &[(&str, &str)], flags: &[&str], is_reached: bool) -> Option<Self> {
        let mut scene = Scene::new(&Manners { env, ..Manners::default() }).filter(|_| has_program("curl"))?;
        if !is_reached {
            (scene.web, scene.http) = (free_port(), free_port());
        }
        let dir = tempfile::tempdir().unwrap();
        let hook = dir.path().join("hook");
        std::fs::write(&hook, HOOK).unwrap();
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
        let management = scene.pebble.dns_management();
        let words = [hook.to_str().unwrap(), &management, dir.path().to_str().unwrap()];
        let command = words.iter().flat_map(|word| ["--acme-dns-command", word]);
        let flags: Vec<&str> = command.chain(flags.iter().copied()).collect();
        scene.init(&["call.rtc.test"], &flags);
        let file = scene.home.join("config.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        let servers = format!("[\"{}\"]", scene.pebble.dns());
        let text = rtcctl::config::set_value(&text, "certificate.acme_dns_servers", &servers).unwrap();
        std::fs::write(&file, text).unwrap();
        Some(Self { scene, dir })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What the command was asked for: each line without its value.
    fn asked(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.file("asked")).unwrap_or_default();
        text.lines().map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
    }

    /// Whether the DNS has a TXT record for the challenge of `rtc.test`.
    fn has_record(&self) -> bool {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let name = b"\x0f_acme-challenge\x03rtc\x04test\0";
        let question = [&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], &name[..], &[0, 16, 0, 1]].concat();
        socket.send_to(&question, self.scene.pebble.dns()).unwrap();
        let mut answer = [0; 512];
        socket.recv(&mut answer).unwrap();
        answer[7] > 0
    }

    fn assert_is_clean(&self) {
        assert!(!self.scene.home.join("certs/acme/dns.json").exists(), "a record is still remembered");
        assert!(!self.has_record(), "a record is still in the DNS");
    }
}

#[test]
fn a_star_and_its_domain_are_certified_by_two_records_of_one_name_which_are_removed() {
    let flags = ["--acme-challenge", "dns-01", "--acme-name", "*.rtc.test", "--acme-name", "rtc.test"];
    let Some(zone) = Zone::new(&SMOOTH, &flags, false) else { return };
    let again = zone.scene.run(&["init", "--yes", "--dry-run"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("0 changes"), "{again:?}");
    zone.scene.start();
    let issued = zone.scene.wait_for("no certificate was issued", is_issued);
    assert_eq!(issued["names"], serde_json::json!(["*.rtc.test", "rtc.test"]), "the host is covered by the star");
    assert_eq!(issued["renewal"]["state"], "idle", "{issued:#}");
    let line = |action: &str| format!("{action} rtc.test _acme-challenge.rtc.test");
    assert_eq!(zone.asked(), [line("present"), line("present"), line("cleanup"), line("cleanup")]);
    let environment = std::fs::read_to_string(zone.file("environment")).unwrap();
    assert!(!environment.contains("RTCCTL_HOME") && !environment.contains("LISTEN_FDS"), "{environment}");
    zone.assert_is_clean();
}

#[test]
fn where_nobody_reaches_this_host_the_command_is_taken_by_itself() {
    let Some(zone) = Zone::new(&SMOOTH, &[], false) else { return };
    zone.scene.start();
    zone.scene.wait_for("the command was not taken", is_issued);
    let record = std::fs::read_to_string(zone.scene.home.join("certs/acme/record.json")).unwrap();
    assert!(record.contains("\"challenge\": \"dns-01\""), "{record}");
}

#[test]
fn a_command_that_fails_is_told_with_its_words_and_a_mended_one_is_tried_and_used() {
    let Some(zone) = Zone::new(&SMOOTH, &["--acme-challenge", "dns-01"], false) else { return };
    std::fs::write(zone.file("broken"), "").unwrap();
    zone.scene.start();
    let failed = zone
        .scene
        .wait_for("the failure is not told", |certificate| !certificate["renewal"]["last"]["error"].is_null());
    let last = &failed["renewal"]["last"];
    assert_eq!((last["class"].as_str(), failed["source"].as_str()), (Some("ours"), Some("self-signed")), "{failed:#}");
    assert!(last["error"].as_str().unwrap().contains("no zone for this token"), "{last}");
    assert!(last["hint"].as_str().unwrap().contains("--try-hook"), "{last}");
    let tried = zone.scene.run(&["cert", "preflight", "--try-hook"]);
    assert_eq!(tried.status.code(), Some(1), "{tried:?}");
    assert!(String::from_utf8_lossy(&tried.stdout).contains("no zone for this token"), "{tried:?}");
    std::fs::remove_file(zone.file("broken")).unwrap();
    let tried = zone.scene.run(&["cert", "preflight", "--try-hook"]);
    assert_eq!(tried.status.code(), Some(0), "{tried:?}");
    let renewed = zone.scene.run(&["cert", "renew"]);
    assert!(renewed.status.success(), "{}", String::from_utf8_lossy(&renewed.stderr));
    assert!(is_issued(&zone.scene.certificate()));
}

/// The record of a service that is killed is removed, and its order gone on with.
#[test]
fn a_kill_while_a_record_is_in_the_dns_leaves_none_behind() {
    let Some(zone) = Zone::new(&THOROUGH, &["--acme-challenge", "dns-01", "--acme-name", "rtc.test"], false) else {
        return;
    };
    let mut daemon = zone.scene.command(&["run"]);
    daemon.env("RTCCTL_FAULT", "presented").stdout(Stdio::null()).stderr(Stdio::null());
    let mut daemon = daemon.spawn().unwrap();
    let deadline = Instant::now() + ISSUED_WITHIN;
    while daemon.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            daemon.kill().unwrap();
            panic!("it was not killed in time, so it does not come there");
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    assert!(zone.scene.home.join("certs/acme/dns.json").exists(), "nothing remembers the record");
    zone.scene.start();
    zone.scene.wait_for("no certificate was issued", is_issued);
    let count = |action: &str| zone.asked().iter().filter(|line| line.starts_with(action)).count();
    assert_eq!((count("present"), count("cleanup")), (3, 3), "{:?}", zone.asked());
    zone.assert_is_clean();
}
