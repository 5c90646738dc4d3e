//! Certificates without an authority: the operator's own files, requests by hand, and how devices come to trust the
//! local CA.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start programs and write files")]

mod common;
#[allow(dead_code, reason = "other tests need the rest")]
#[path = "common/pebble.rs"]
mod pebble;
#[allow(dead_code, reason = "other tests need the rest")]
#[path = "common/service.rs"]
mod service;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{CertificateSigningRequestParams, Issuer, KeyPair};
use rtcctl::certs::local_ca::LocalCa;
use serde_json::Value;

use self::common::{has_program, skip};
use self::pebble::get_plain;
use self::service::Service;

/// How long a changed file may take to be served.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);

/// An authority that works by hand.
struct Authority {
    ca: LocalCa,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let (ca, key) = LocalCa::create(rtcctl::sys::clock::now().wall).unwrap();
        Self { ca, key }
    }

    /// Writes a pair for `names`.
    fn write_pair(&self, names: &[&str], dir: &Path) -> (PathBuf, PathBuf) {
        let names: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let issued = self.ca.issue(&names, rtcctl::sys::clock::now().wall).unwrap();
        let (chain, key) = (dir.join("chain.pem"), dir.join("chain.key"));
        std::fs::write(&key, issued.key_pem).unwrap();
        std::fs::write(&chain, format!("{}{}", issued.certificate_pem, self.ca.certificate_pem)).unwrap();
        (chain, key)
    }
}

fn fingerprint(service: &Service) -> (String, String) {
    let status: Value = serde_json::from_str(&read_status(service)).unwrap();
    let word = |key: &str| status["certificate"][key].as_str().unwrap().to_owned();
    (word("source"), word("fingerprint_sha256"))
}

/// `status` fails with a finding, and is read all the same.
fn read_status(service: &Service) -> String {
    String::from_utf8(service.command(&["status", "--json"]).output().unwrap().stdout).unwrap()
}

#[test]
fn files_of_the_operator_are_checked_served_and_taken_again_when_they_change() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (chain, key) = authority.write_pair(&["localhost", "127.0.0.1"], dir.path());
    let (chain, key) = (chain.to_str().unwrap(), key.to_str().unwrap());
    let quoted = |text: &str| format!("\"{text}\"");
    let service = Service::start(&[
        ("certificate.cert_file", &quoted(chain)),
        ("certificate.key_file", &quoted(key)),
        ("certificate.source", "files"),
    ]);
    let (source, first) = fingerprint(&service);
    assert_eq!(source, "files");
    // A pair for other names is not served, and that is told.
    authority.write_pair(&["elsewhere.example"], dir.path());
    let until = |what: &str, is_it: &dyn Fn() -> bool| {
        let deadline = Instant::now() + TAKEN_WITHIN;
        while !is_it() {
            assert!(Instant::now() < deadline, "{what}: {}", read_status(&service));
            std::thread::park_timeout(Duration::from_millis(100));
        }
    };
    until("the wrong pair is not told", &|| read_status(&service).contains("it is not for `localhost`"));
    assert_eq!(fingerprint(&service).1, first);
    authority.write_pair(&["localhost", "127.0.0.1"], dir.path());
    until("the new pair is not taken", &|| fingerprint(&service).1 != first);
    let is_ready = || serde_json::from_str::<Value>(&read_status(&service)).unwrap()["state"] == "ready";
    until("a pair that fits makes nothing well again", &is_ready);
}

#[test]
fn a_damaged_file_of_the_operator_is_a_bad_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (chain, key) = authority.write_pair(&["localhost", "127.0.0.1"], dir.path());
    let quoted = |path: &Path| format!("\"{}\"", path.display());
    let service = Service::start(&[
        ("certificate.cert_file", &quoted(&chain)),
        ("certificate.key_file", &quoted(&key)),
        ("certificate.source", "files"),
    ]);
    service.run(&["stop"]);
    std::fs::write(&chain, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let output = service.command(&["start"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("chain.pem") && said.contains("is damaged"), "{said}");
}

#[test]
fn init_takes_files_and_refuses_what_could_not_be_served() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (chain, key) = authority.write_pair(&["call.example"], dir.path());
    let init = |host: &str, chain: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rtcctl"));
        command.arg("--home").arg(dir.path().join("home")).args(["init", "--yes", "--dry-run", "--host", host]);
        command.arg("--cert-file").arg(chain).arg("--key-file").arg(&key).args(["--relay-ip", "127.0.0.1"]);
        command.args(["--web-port", "38443", "--http-port", "off", "--turn-port", "38478"]);
        let output = command.env_remove("RTCCTL_HOME").stdin(Stdio::null()).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, text) = init("call.example", &chain);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("your own, taken again whenever they change"), "{text}");
    let (code, text) = init("other.example", &chain);
    assert!(code == 1 && text.contains("it is not for `other.example`"), "{code} {text}");
    let (code, text) = init("call.example", &key);
    assert!(code == 1 && text.contains("holds no certificate"), "{code} {text}");
}

#[test]
fn a_request_goes_out_and_its_answer_is_served_after_a_restart() {
    let service = Service::start(&[]);
    let request = service.run(&["cert", "csr"]);
    let authority = Authority::new();
    let issuer =
        Issuer::from_ca_cert_pem(&authority.ca.certificate_pem, KeyPair::from_pem(&authority.key).unwrap()).unwrap();
    let signed = CertificateSigningRequestParams::from_pem(&request).unwrap().signed_by(&issuer).unwrap().pem();
    let answer = service.home().join("answer.pem");
    std::fs::write(&answer, format!("{signed}{}", authority.ca.certificate_pem)).unwrap();
    service.run(&["cert", "import", answer.to_str().unwrap()]);
    service.run(&["restart"]);
    let (source, served) = fingerprint(&service);
    assert_eq!(source, "files");
    let shown: Value = serde_json::from_str(&service.run(&["cert", "show", "--json"])).unwrap();
    assert_eq!((shown["served"].as_bool(), shown["fingerprint_sha256"].as_str()), (Some(true), Some(served.as_str())));
}

#[test]
fn the_page_that_explains_trust_is_there_without_tls_with_its_code_and_fingerprint() {
    let service = Service::start(&[]);
    let page = get_plain(service.http_port, "/trust");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("信任此服务") && page.contains("iPhone"), "{page}");
    let code = get_plain(service.http_port, "/trust/qr.svg");
    assert!(code.contains("image/svg+xml") && code.contains("<path"), "{code}");
    let print = get_plain(service.http_port, "/trust/fingerprint.txt");
    assert_eq!(print.trim_end().rsplit("\r\n").next().unwrap().split(':').count(), 32, "{print}");
    let ca = get_plain(service.http_port, "/ca.crt");
    assert!(ca.contains("application/x-x509-ca-cert"), "{ca}");
    assert!(get_plain(service.http_port, "/trust/../config.yaml").starts_with("HTTP/1.1 308"));
}

#[test]
fn the_engine_is_rehearsed_in_seconds_and_every_scenario_holds() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_rtcctl"))
        .arg("--home")
        .arg(dir.path())
        .args(["cert", "rehearse", "--json"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let played: Value = serde_json::from_slice(&output.stdout).unwrap();
    let scenarios = played["scenarios"].as_array().unwrap();
    assert!(scenarios.len() >= 10 && scenarios.iter().all(|one| one["holds"] == true), "{played:#}");
}

/// In a mount namespace, so that this machine's own list of authorities stays as it is.
#[test]
fn chromium_trusts_the_page_after_cert_trust_and_no_longer_after_untrust() {
    if !nix::unistd::geteuid().is_root() {
        skip("a mount namespace of its own needs root");
        return;
    }
    if !has_program("chromium") || !has_program("certutil") || !has_program("unshare") {
        return;
    }
    let service = Service::start(&[]);
    let user = tempfile::tempdir().unwrap();
    let cert = |word: &str| {
        let script = "mount -t tmpfs none /usr/local/share/ca-certificates && mount -t tmpfs none /etc/ssl/certs && \
                      \"$0\" --home \"$1\" cert \"$2\" && ls /usr/local/share/ca-certificates && \
                      if [ $2 = trust ]; then grep -c BEGIN /etc/ssl/certs/ca-certificates.crt; fi";
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-ec", script, env!("CARGO_BIN_EXE_rtcctl")])
            .arg(service.home())
            .arg(word)
            .env("HOME", user.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{word}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(!loads(&service, user.path()), "an unknown authority is trusted");
    let said = cert("trust");
    assert!(said.contains("rtcctl-") && said.contains("trusts the local CA"), "{said}");
    assert!(cert("trust").contains("already"), "a second time changes nothing of the browsers");
    assert!(loads(&service, user.path()), "the page is not trusted");
    cert("untrust");
    assert!(!loads(&service, user.path()), "the page is still trusted");
}

/// Whether Chromium shows the page, with no flag that bears on certificates.
fn loads(service: &Service, home: &Path) -> bool {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"])
        .args(["--disable-component-update", "--disable-sync", "--virtual-time-budget=2000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(service.url())
        .env("HOME", home)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).contains("/rtcctl/")
}
