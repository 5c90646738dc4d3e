//! Certificates of an authority, end to end against Debian's `pebble`: from `init` to the handshake of a client.
//!
//! Pebble rejects half of the good nonces and takes its time to look, as it was made to.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start programs and wait for them")]

mod common;
#[path = "common/pebble.rs"]
mod pebble;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use self::common::ports::free_port;
use self::common::{has_program, skip};
use self::pebble::{Manners, Pebble};

/// Half of all nonces are refused, and it looks after up to three seconds.
const ROUGH: [(&str, &str); 2] = [("PEBBLE_WFE_NONCEREJECT", "50"), ("PEBBLE_VA_SLEEPTIME", "3")];
const SMOOTH: [(&str, &str); 2] = [("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "0")];
/// Every order is looked at anew, so that no step is left out.
const THOROUGH: [(&str, &str); 3] =
    [("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "0"), ("PEBBLE_AUTHZREUSE", "0")];
/// With half of the nonces refused, an order takes a few attempts, and the ladder's first rung is a minute.
const ISSUED_WITHIN: Duration = Duration::from_secs(200);

/// A home with ports of its own, and an authority that looks at them. Dropping it stops what runs.
struct Scene {
    _dir: tempfile::TempDir,
    home: PathBuf,
    web: u16,
    http: u16,
    turn: u16,
    pebble: Pebble,
}

impl Scene {
    /// `None`: pebble is missing here, which was told.
    fn new(manners: &Manners<'_>) -> Option<Self> {
        if !has_program("pebble") || !has_program("pebble-challtestsrv") {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let (web, http, turn) = (free_port(), free_port(), free_port());
        let pebble = Pebble::start(http, web, manners);
        Some(Self { home: dir.path().join("home"), _dir: dir, web, http, turn, pebble })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rtcctl"));
        command.arg("--home").arg(&self.home).args(args).env_remove("RTCCTL_HOME").stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn init(&self, hosts: &[&str], more: &[&str]) {
        let [web, http, turn] = [self.web, self.http, self.turn].map(|port| port.to_string());
        let (directory, root) = (self.pebble.directory(), self.pebble.root());
        let mut args = vec!["init", "--yes", "--reach", "domain", "--cert", "acme", "--relay-ip", "127.0.0.1"];
        args.extend(["--acme-directory", &directory, "--acme-ca-root", root.to_str().unwrap()]);
        args.extend(["--web-port", &web, "--http-port", &http, "--turn-port", &turn]);
        args.extend(hosts.iter().flat_map(|host| ["--host", host]));
        args.extend(more);
        let output = self.run(&args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn start(&self) {
        let output = self.run(&["start"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn certificate(&self) -> Value {
        let status: Value = serde_json::from_slice(&self.run(&["status", "--json"]).stdout).unwrap();
        status["certificate"].clone()
    }

    /// Waits until the certificate is as it should be.
    fn wait_for(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + ISSUED_WITHIN;
        loop {
            let certificate = self.certificate();
            if is_it(&certificate) {
                return certificate;
            }
            let log = std::fs::read_to_string(self.home.join("log/rtcctl.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "{what}: {certificate:#}\n{log}\n{}", self.pebble.log());
            std::thread::park_timeout(Duration::from_millis(200));
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.command(&["stop"]).output();
    }
}

fn is_issued(certificate: &Value) -> bool {
    certificate["source"] == "acme"
}

/// From nothing to a certificate of the authority, by one kind of challenge. The local CA's is served meanwhile.
fn issues(hosts: &[&str], challenge: &str) {
    let Some(scene) = Scene::new(&Manners { env: &ROUGH, ..Manners::default() }) else { return };
    scene.init(hosts, &["--acme-challenge", challenge]);
    scene.start();
    let first = scene.certificate();
    assert!(["self-signed", "acme"].contains(&first["source"].as_str().unwrap()), "{first}");
    let issued = scene.wait_for("no certificate was issued", is_issued);
    let names: Vec<&str> = issued["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    for host in hosts {
        assert!(names.contains(host), "{host} in {names:?}");
    }
    assert_eq!(issued["renewal"]["state"], "idle");
    assert!(issued["issuer"].as_str().unwrap().contains("Pebble"), "{issued}");
    // What listens presents it, with SNI and without.
    let probe = scene.run(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&probe.stdout).unwrap();
    assert_eq!(status["state"], "ready", "{status:#}");
}

#[test]
fn a_name_is_certified_by_http_01() {
    issues(&["call.rtc.test"], "http-01");
}

#[test]
fn a_name_is_certified_by_tls_alpn_01() {
    issues(&["call.rtc.test"], "tls-alpn-01");
}

#[test]
fn an_address_is_certified_by_http_01() {
    issues(&["127.0.0.1"], "http-01");
}

#[test]
fn an_address_is_certified_by_tls_alpn_01_which_names_it_in_reverse() {
    issues(&["127.0.0.1", "call.rtc.test"], "tls-alpn-01");
}

/// Debian 12's pebble knows neither profiles nor ARI; `RTCCTL_PEBBLE` names the folder of one that does.
#[test]
fn an_address_gets_a_certificate_of_six_days_and_advice_when_to_renew_it() {
    let Some(folder) = std::env::var_os("RTCCTL_PEBBLE").filter(|folder| !folder.is_empty()) else {
        skip("there is no pebble with profiles and ARI: RTCCTL_PEBBLE may name the folder of version 2.10");
        return;
    };
    let manners = Manners { env: &SMOOTH, newer: Some(folder.into()), ..Manners::default() };
    let Some(scene) = Scene::new(&manners) else { return };
    scene.init(&["127.0.0.1"], &[]);
    scene.start();
    let issued = scene.wait_for("no certificate was issued", is_issued);
    let days = issued["days_left"].as_f64().unwrap();
    assert!((5.0..6.2).contains(&days), "{issued:#}");
    let advised = scene.wait_for("no advice was asked for", |certificate| {
        certificate["renewal"]["reason"] == "advised" && certificate["renewal"]["state"] == "idle"
    });
    let renewed = scene.run(&["cert", "renew", "--force"]);
    assert!(renewed.status.success(), "{}", String::from_utf8_lossy(&renewed.stderr));
    assert_ne!(scene.certificate()["fingerprint_sha256"], advised["fingerprint_sha256"]);
    assert!(scene.pebble.log().contains("replace"), "{}", scene.pebble.log());
}

#[test]
fn where_one_challenge_fails_the_other_is_taken_by_itself() {
    let Some(mut scene) = Scene::new(&Manners { env: &SMOOTH, ..Manners::default() }) else { return };
    // Nobody answers where the authority looks for HTTP-01: the service has another port for that.
    scene.http = free_port();
    scene.init(&["call.rtc.test"], &[]);
    scene.start();
    scene.wait_for("the other challenge was not taken", is_issued);
    let record = std::fs::read_to_string(scene.home.join("certs/acme/record.json")).unwrap();
    assert!(record.contains("\"challenge\": \"tls-alpn-01\""), "{record}");
}

#[test]
fn an_account_is_bound_to_one_elsewhere_where_the_authority_wants_that() {
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let Some(scene) = Scene::new(&Manners { env: &SMOOTH, binding: Some(("kid-1", key)), ..Manners::default() }) else {
        return;
    };
    scene.init(&["call.rtc.test"], &[]);
    let secrets = scene.home.join("secrets.yaml");
    let text = std::fs::read_to_string(&secrets).unwrap();
    let text = format!("{text}\nacme_eab:\n  \"{}\": \"kid-1:{key}\"\n", scene.pebble.directory());
    rtcctl::sys::fs::write_atomic(&secrets, text.as_bytes(), 0o600).unwrap();
    scene.start();
    scene.wait_for("no certificate was issued", is_issued);
    assert_no_secret_is_told(&scene, key);
}

/// Keys are where they belong, readable by nobody else, and nowhere else.
fn assert_no_secret_is_told(scene: &Scene, secret: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let log = std::fs::read_to_string(scene.home.join("log/rtcctl.log")).unwrap();
    assert!(!log.contains(secret) && !log.contains("PRIVATE KEY"), "the log tells a secret");
    for entry in std::fs::read_dir(scene.home.join("certs/acme")).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
}

#[test]
fn a_restart_serves_what_was_issued_and_orders_nothing() {
    let Some(mut scene) = Scene::new(&Manners { env: &SMOOTH, ..Manners::default() }) else { return };
    scene.init(&["call.rtc.test"], &[]);
    scene.start();
    let issued = scene.wait_for("no certificate was issued", is_issued);
    scene.pebble.stop();
    let output = scene.run(&["restart"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(scene.certificate()["fingerprint_sha256"], issued["fingerprint_sha256"]);
    let record: Value =
        serde_json::from_slice(&std::fs::read(scene.home.join("certs/acme/record.json")).unwrap()).unwrap();
    assert_eq!(record["attempts"].as_array().unwrap().len(), 1, "{record:#}");
}

#[test]
fn a_damaged_certificate_is_ordered_anew_while_the_local_one_is_served() {
    let Some(scene) = Scene::new(&Manners { env: &SMOOTH, ..Manners::default() }) else { return };
    scene.init(&["call.rtc.test"], &[]);
    scene.start();
    let issued = scene.wait_for("no certificate was issued", is_issued);
    scene.run(&["stop"]);
    std::fs::write(scene.home.join("certs/acme/bundle.pem"), "-----BEGIN PRIVATE KEY-----\n").unwrap();
    scene.start();
    let again = scene.wait_for("no new certificate was issued", is_issued);
    assert_ne!(again["fingerprint_sha256"], issued["fingerprint_sha256"]);
}

#[test]
fn a_forced_renewal_swaps_the_certificate_and_an_unneeded_one_does_not() {
    let Some(scene) = Scene::new(&Manners { env: &SMOOTH, ..Manners::default() }) else { return };
    scene.init(&["call.rtc.test"], &[]);
    scene.start();
    let first = scene.wait_for("no certificate was issued", is_issued);
    let unneeded = scene.run(&["cert", "renew"]);
    assert!(unneeded.status.success(), "{}", String::from_utf8_lossy(&unneeded.stderr));
    assert_eq!(scene.certificate()["fingerprint_sha256"], first["fingerprint_sha256"]);
    let forced = scene.run(&["cert", "renew", "--force"]);
    assert!(forced.status.success(), "{}", String::from_utf8_lossy(&forced.stderr));
    let second = scene.certificate();
    assert_ne!(second["fingerprint_sha256"], first["fingerprint_sha256"]);
    assert_eq!(second["source"], "acme");
}

#[test]
fn an_authority_that_is_down_is_told_and_the_page_is_served_all_the_same() {
    let Some(mut scene) = Scene::new(&Manners { env: &SMOOTH, ..Manners::default() }) else { return };
    scene.init(&["call.rtc.test"], &[]);
    scene.pebble.stop();
    let output = scene.run(&["start"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let certificate =
        scene.wait_for("the failure is not told", |certificate| !certificate["renewal"]["last"]["error"].is_null());
    assert_eq!(certificate["source"], "self-signed");
    assert_eq!(certificate["renewal"]["last"]["class"], "theirs", "{certificate:#}");
    assert_eq!(certificate["renewal"]["state"], "waiting");
    assert_eq!(scene.run(&["status"]).status.code(), Some(10));
    let answer = pebble::get_plain(scene.http, "/healthz");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Whatever is killed in the middle leaves a service that starts, serves and gets its certificate, by one account.
#[test]
fn a_kill_at_any_step_loses_nothing() {
    let Some(scene) = Scene::new(&Manners { env: &THOROUGH, ..Manners::default() }) else { return };
    scene.init(&["call.rtc.test"], &[]);
    let points = [
        "begun",
        "account-key-kept",
        "account-made",
        "ordered",
        "challenged",
        "key-kept",
        "finalized",
        "obtained",
        "kept",
        "recorded",
    ];
    let acme = scene.home.join("certs/acme");
    for point in points {
        // Each from the beginning, but for the account, which is made once.
        for name in ["record.json", "bundle.pem", "previous.pem", "pending.json"] {
            let _ = std::fs::remove_file(acme.join(name));
        }
        if point.starts_with("account") {
            for entry in std::fs::read_dir(&acme).unwrap() {
                std::fs::remove_file(entry.unwrap().path()).unwrap();
            }
        }
        let mut daemon = scene.command(&["run"]);
        daemon.env("RTCCTL_FAULT", point).stdout(Stdio::null()).stderr(Stdio::null());
        let mut daemon = daemon.spawn().unwrap();
        let deadline = Instant::now() + ISSUED_WITHIN;
        let status = loop {
            if let Some(status) = daemon.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                daemon.kill().unwrap();
                panic!("{point}: it was not killed in time, so it does not come there");
            }
            std::thread::park_timeout(Duration::from_millis(50));
        };
        assert!(!status.success(), "{point}: it was not killed");
        let account = account_key(&acme);
        let started = scene.run(&["start"]);
        assert!(started.status.success(), "{point}: {}", String::from_utf8_lossy(&started.stderr));
        scene.wait_for(point, is_issued);
        if let Some(account) = account {
            assert_eq!(account_key(&acme), Some(account), "{point}: the account's key was lost");
        }
        let record: Value = serde_json::from_slice(&std::fs::read(acme.join("record.json")).unwrap()).unwrap();
        assert!(record["attempts"].as_array().unwrap().len() <= 2, "{point}: {record:#}");
        assert!(!acme.join("pending.json").exists(), "{point}");
        scene.run(&["stop"]);
        let drafts = std::fs::read_dir(&acme).unwrap().filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().ends_with(".new")
        });
        assert_eq!(drafts.count(), 0, "{point}: half a file stayed");
    }
}

fn account_key(acme: &std::path::Path) -> Option<String> {
    let entries = std::fs::read_dir(acme).ok()?;
    let account = entries
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with("account-"))?;
    let account: Value = serde_json::from_slice(&std::fs::read(account).unwrap()).unwrap();
    Some(account["key"].as_str().unwrap().to_owned())
}
