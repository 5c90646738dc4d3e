//! `rtcctl turn test` against our own service, against coturn, and against servers that fail at one step each.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

mod common;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/service.rs"]
mod service;

use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, SystemTime};

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin_cmd;
use common::ports::free_port;
use common::{has_program, skip};
use rtcctl::certs::local_ca::LocalCa;
use rtcctl::sys::clock;
use serde_json::Value;
use service::Service;

/// How long one run may take: steps have deadlines of their own, which lie below.
const PATIENCE: Duration = Duration::from_secs(60);
const STARTED_WITHIN: Duration = Duration::from_secs(20);
const USER: &str = "alice";
const PASSWORD: &str = "wonderland";
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[test]
fn every_url_of_the_own_service_works_and_refuses_what_it_must() {
    let service = Service::start(&[]);
    let told = service.run(&["turn", "test"]);
    assert!(told.ends_with("every step succeeds\n"), "{told}");
    let document: Value = serde_json::from_str(&service.run(&["turn", "test", "--json"])).unwrap();
    assert_eq!((&document["schema_version"], &document["ok"]), (&1.into(), &true.into()));
    assert!(document["first_failing"].is_null());
    let relays: Vec<&Value> = document["tests"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|test| test["url"].as_str().unwrap().starts_with("turn"))
        .collect();
    assert!(!relays.is_empty());
    for relay in relays {
        assert_eq!((&relay["traffic"]["sent"], &relay["traffic"]["returned"]), (&100.into(), &100.into()), "{relay}");
        let attack = relay["steps"].as_array().unwrap().iter().find(|step| step["step"] == "attack").unwrap();
        assert_eq!(attack["told"], "refused, as it must be: 127.0.0.1: 403, 169.254.169.254: 403");
    }
    // What was tested is counted, and nothing of it is left behind.
    let status: Value = serde_json::from_str(&service.run(&["status", "--json"])).unwrap();
    let turn = &status["turn"];
    assert_eq!(turn["allocations"], 0, "{turn}");
    assert_eq!(turn["outcomes"].as_object().unwrap().len(), rtcctl::turn::Outcome::ALL.len());
    assert_eq!(turn["outcomes"]["granted"], turn["outcomes"]["released"], "{turn}");
    assert_eq!(turn["dropped"].as_object().unwrap().len(), rtcctl::turn::Dropped::ALL.len());
    assert!(turn["listening"]["udp"].as_array().is_some_and(|udp| !udp.is_empty()), "{turn}");
    let told = service.run(&["status"]);
    assert!(told.contains("relay        0 allocations of ") && told.contains("path         "), "{told}");
}

#[test]
fn a_service_that_does_not_run_is_told_from_one_that_fails() {
    let dir = tempfile::tempdir().unwrap();
    let output = rtcctl(dir.path(), &["turn", "test"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}

#[test]
fn a_bad_url_and_a_missing_password_are_told_before_anything_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let output = rtcctl(dir.path(), &["turn", "test", "turn://call.example"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("has slashes after its scheme"), "{output:?}");
    let output = rtcctl(dir.path(), &["turn", "test", "turn:127.0.0.1:1", "--username", "a"]).output().unwrap();
    assert_eq!(output.status.code(), Some(13), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--credential-file"), "{output:?}");
}

#[test]
fn coturn_works_by_udp_tcp_and_tls_with_a_password_from_each_source() {
    let Some(coturn) = Coturn::start(&["--allow-loopback-peers"]) else { return };
    let file = coturn.dir.path().join("password");
    rtcctl::sys::fs::write_atomic(&file, format!("{PASSWORD}\n").as_bytes(), 0o600).unwrap();
    let file = file.to_str().unwrap();
    let [udp, tcp, tls] = coturn.urls();
    let from_file = coturn.rtcctl(&["turn", "test", &udp, "--username", USER, "--credential-file", file]);
    let from_variable = coturn.test(&tcp);
    let mut from_input = coturn.rtcctl(&["turn", "test", &tls, "--username", USER, "--credential-file", "-"]);
    from_input.write_stdin(PASSWORD);
    for mut command in [from_file, from_variable, from_input] {
        let (told, code) = ended(&command.output().unwrap());
        assert_eq!(code, 0, "{told}");
        assert!(told.contains("100 packets each way without loss"), "{told}");
        // Debian's coturn grants a Refresh after the end.
        assert!(told.ends_with("every step succeeds, one with a warning\n"), "{told}");
    }
    let (told, code) = ended(&coturn.test(&udp).arg("--attack").output().unwrap());
    assert_eq!(code, 1, "{told}");
    assert!(last_line(&told).ends_with("the relay lets its users send to 169.254.169.254"), "{told}");
}

#[test]
fn a_relay_that_denies_its_own_address_fails_at_the_permission() {
    let Some(coturn) = Coturn::start(&["--denied-peer-ip=127.0.0.1"]) else { return };
    coturn.fails_at(&coturn.urls()[0], "permission", "refused: 403", "its own relay address");
}

#[test]
fn a_wrong_password_fails_at_the_allocation_and_is_never_printed() {
    let Some(coturn) = Coturn::start(&[]) else { return };
    for json in [&[][..], &["--json"]] {
        let mut command = coturn.rtcctl(&["turn", "test", &coturn.urls()[0], "--username", USER]);
        let output = command.args(json).env("RTCCTL_TURN_CREDENTIAL", "looking-glass").output().unwrap();
        let (told, code) = ended(&output);
        assert_eq!(code, 1, "{told}");
        assert!(told.contains("401") && told.contains("allocate"), "{told}");
        assert!(!told.contains("looking-glass") && !format!("{output:?}").contains("looking-glass"), "{told}");
    }
}

#[test]
fn without_credentials_a_server_is_tested_up_to_its_challenge() {
    let Some(coturn) = Coturn::start(&[]) else { return };
    let (told, code) = ended(&coturn.rtcctl(&["turn", "test", &coturn.urls()[1]]).output().unwrap());
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("realm `test`") && told.contains("no credentials were given"), "{told}");
    assert!(last_line(&told).contains("not every relay was tried"), "{told}");
}

#[test]
fn a_relay_for_everybody_fails_at_the_challenge() {
    let Some(coturn) = Coturn::start(&["--no-auth"]) else { return };
    coturn.fails_at(&coturn.urls()[0], "challenge", "anybody may use this relay", "without credentials");
}

#[test]
fn a_dead_port_fails_at_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let (udp, tcp) = (free_port(), free_port());
    for url in [format!("turn:127.0.0.1:{udp}"), format!("turns:127.0.0.1:{tcp}")] {
        let (told, code) = ended(&rtcctl(dir.path(), &["turn", "test", &url]).output().unwrap());
        assert_eq!(code, 1, "{told}");
        assert!(last_line(&told).starts_with("first failing hop: connect of turn"), "{told}");
        assert!(told.contains("nothing listens on port"), "{told}");
    }
}

#[test]
fn a_host_without_an_address_fails_at_the_look_up() {
    let dir = tempfile::tempdir().unwrap();
    let url = "turn:nobody.invalid";
    let (told, code) = ended(&rtcctl(dir.path(), &["turn", "test", url, "--timeout", "20"]).output().unwrap());
    assert_eq!(code, 1, "{told}");
    assert!(last_line(&told).starts_with("first failing hop: dns of turn:nobody.invalid"), "{told}");
}

#[test]
fn what_is_no_tls_and_no_turn_is_told_as_such() {
    let service = Service::start(&[]);
    let [tls, plain] =
        [format!("turns:localhost:{}", service.http_port), format!("stuns:localhost:{}", service.web_port)];
    // A port of plain HTTP; then one of TLS, with the home's own authority as the only one that vouches for it.
    let (told, code) = ended(&service.command(&["turn", "test", &tls]).output().unwrap());
    assert_eq!(code, 1, "{told}");
    assert!(last_line(&told).starts_with("first failing hop: tls of "), "{told}");
    let (told, _) = ended(&service.command(&["turn", "test", &plain, "--timeout", "2"]).output().unwrap());
    assert!(told.contains("certificate for "), "{told}");
}

#[test]
fn a_certificate_that_cannot_be_trusted_fails_at_tls_with_the_reason() {
    let now = clock::now().wall;
    for (names, issued_at, is_trusted, why) in [
        (["localhost"], now, false, "an authority that is not trusted"),
        (["other.example"], now, true, "the certificate is for other names"),
        (["localhost"], now - 2 * YEAR, true, "the certificate is not valid now"),
    ] {
        let Some(coturn) = Coturn::start_with(&[], &names, issued_at, None) else { return };
        let mut command = coturn.test(&coturn.urls()[2]);
        if !is_trusted {
            command.env("SSL_CERT_FILE", "/dev/null");
        }
        let (told, code) = ended(&command.output().unwrap());
        assert_eq!(code, 1, "{told}");
        assert!(last_line(&told).starts_with("first failing hop: tls of turns:"), "{told}");
        assert!(last_line(&told).contains(why), "{told}");
    }
}

#[test]
fn closed_relay_ports_fail_at_the_data() {
    if !nix::unistd::geteuid().is_root() {
        return skip("network namespaces need root");
    }
    if !has_program("ip") || !has_program("nft") {
        return;
    }
    let Some(namespace) = Namespace::new() else { return };
    namespace.run("ip", &["link", "set", "lo", "up"]);
    namespace.run("nft", &["add table inet t; add chain inet t c { type filter hook input priority 0; }"]);
    // Below what the kernel gives to clients, so that nothing else is closed.
    namespace.run("nft", &["add rule inet t c udp dport 20000-21000 drop"]);
    let flags = ["--allow-loopback-peers", "--min-port=20000", "--max-port=21000"];
    let started = Coturn::start_with(&flags, &["localhost"], clock::now().wall, Some(&namespace));
    let Some(coturn) = started else { return };
    coturn.fails_at(&coturn.urls()[0], "data", "of 100 packets 0 arrived", "open the whole range of relay ports");
}

/// Debian's coturn on loopback, ended with the test.
struct Coturn {
    dir: tempfile::TempDir,
    process: Child,
    port: u16,
    tls_port: u16,
    namespace: Option<String>,
}

impl Coturn {
    fn start(flags: &[&str]) -> Option<Self> {
        Self::start_with(flags, &["localhost", "127.0.0.1"], clock::now().wall, None)
    }

    fn start_with(
        flags: &[&str],
        names: &[&str],
        issued_at: SystemTime,
        namespace: Option<&Namespace>,
    ) -> Option<Self> {
        if !has_program("turnserver") {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            rtcctl::sys::fs::write_atomic(&path, text.as_bytes(), 0o600).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (ca, _) = LocalCa::create(issued_at).unwrap();
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let issued = ca.issue(&names, issued_at).unwrap();
        write("ca.pem", &ca.certificate_pem);
        let certificate = write("leaf.pem", &format!("{}{}", issued.certificate_pem, ca.certificate_pem));
        let key = write("leaf.key", &issued.key_pem);
        let (port, tls_port) = (free_port(), free_port());
        let path = |name: &str| dir.path().join(name).display().to_string();
        let mut args: Vec<String> = ["-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", "--no-cli", "--no-dtls"]
            .map(str::to_owned)
            .into();
        args.extend([
            format!("--listening-port={port}"),
            format!("--tls-listening-port={tls_port}"),
            format!("--cert={certificate}"),
            format!("--pkey={key}"),
            format!("--userdb={}", path("users")),
            format!("--pidfile={}", path("pid")),
            format!("--log-file={}", path("log")),
            "--realm=test".to_owned(),
        ]);
        if !flags.contains(&"--no-auth") {
            args.extend(["--lt-cred-mech".to_owned(), format!("--user={USER}:{PASSWORD}")]);
        }
        args.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let namespace = namespace.map(|namespace| namespace.0.clone());
        let [program, before @ ..] = &within(namespace.as_deref(), "turnserver")[..] else { unreachable!() };
        #[expect(clippy::disallowed_methods, reason = "it runs beside the test, which ends it")]
        let process = std::process::Command::new(program)
            .args(before)
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let coturn = Self { dir, process, port, tls_port, namespace };
        let stun = format!("stun:127.0.0.1:{port}");
        let give_up_at = clock::now().mono + STARTED_WITHIN;
        let mut answers = false;
        while !answers && clock::now().mono < give_up_at {
            answers = coturn.rtcctl(&["turn", "test", &stun, "--timeout", "1"]).output().unwrap().status.success();
        }
        assert!(answers, "coturn does not start");
        Some(coturn)
    }

    fn urls(&self) -> [String; 3] {
        let Self { port, tls_port, .. } = self;
        [
            format!("turn:127.0.0.1:{port}?transport=udp"),
            format!("turn:127.0.0.1:{port}?transport=tcp"),
            format!("turns:localhost:{tls_port}?transport=tcp"),
        ]
    }

    /// A command where the server can be reached, trusting the server's authority.
    fn rtcctl(&self, args: &[&str]) -> Command {
        let [program, before @ ..] = &within(self.namespace.as_deref(), env!("CARGO_BIN_EXE_rtcctl"))[..] else {
            unreachable!()
        };
        let mut command = Command::new(program);
        command.args(before).arg("--home").arg(self.dir.path().join("home")).args(args);
        command.env_remove("RTCCTL_HOME").env("SSL_CERT_FILE", self.dir.path().join("ca.pem")).timeout(PATIENCE);
        command
    }

    /// A test by the user it knows.
    fn test(&self, url: &str) -> Command {
        let mut command = self.rtcctl(&["turn", "test", url, "--username", USER]);
        command.env("RTCCTL_TURN_CREDENTIAL", PASSWORD);
        command
    }

    fn fails_at(&self, url: &str, step: &str, told: &str, hint: &str) {
        let (text, code) = ended(&self.test(url).output().unwrap());
        assert_eq!(code, 1, "{text}");
        let last = last_line(&text);
        assert!(last.starts_with(&format!("first failing hop: {step} of {url}")) && last.contains(told), "{text}");
        assert!(text.contains(hint), "{text}");
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        // `ip netns exec` becomes the program itself, so this ends the program.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A network namespace with nothing but loopback.
struct Namespace(String);

impl Namespace {
    fn new() -> Option<Self> {
        let name = format!("rtcctl-test-{}", std::process::id());
        let output = Command::new("ip").args(["netns", "add", &name]).timeout(PATIENCE).output().unwrap();
        if !output.status.success() {
            skip("network namespaces are not to be had");
            return None;
        }
        Some(Self(name))
    }

    fn run(&self, program: &str, args: &[&str]) {
        let [first, before @ ..] = &within(Some(&self.0), program)[..] else { unreachable!() };
        let output = Command::new(first).args(before).args(args).timeout(PATIENCE).output().unwrap();
        assert!(output.status.success(), "{program} {args:?}: {output:?}");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).timeout(PATIENCE).output();
    }
}

/// The words by which a program starts in a namespace, or here.
fn within(namespace: Option<&str>, program: &str) -> Vec<String> {
    let words = match namespace {
        Some(namespace) => vec!["ip", "netns", "exec", namespace, program],
        None => vec![program],
    };
    words.into_iter().map(str::to_owned).collect()
}

fn rtcctl(home: &Path, args: &[&str]) -> Command {
    let mut command = cargo_bin_cmd!("rtcctl");
    command.arg("--home").arg(home).args(args).env_remove("RTCCTL_HOME").timeout(PATIENCE);
    command
}

fn ended(output: &Output) -> (String, i32) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code().unwrap())
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().last().unwrap_or_default()
}
