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

use self::common::ports::free_port;
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
        let [web, turn] = [free_port(), free_port()].map(|port| port.to_string());
        command.args(["--web-port", &web, "--http-port", "off", "--turn-port", &turn]);
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

/// What operators bring: each is refused with its own words, and nothing is changed.
#[test]
fn an_answer_that_cannot_be_served_is_refused_with_what_to_do() {
    if !has_program("openssl") {
        return;
    }
    let service = Service::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    service.run(&["cert", "csr"]);
    let before = std::fs::read_to_string(service.home().join("config.yaml")).unwrap();
    let authority = Authority::new();
    let (chain, key) = authority.write_pair(&["localhost", "127.0.0.1"], dir.path());
    let file = |name: &str| dir.path().join(name);
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
    };
    openssl(&["x509", "-in", "chain.pem", "-outform", "DER", "-out", "chain.der"]);
    let refused = |path: &Path, words: &str| {
        let output = service.command(&["cert", "import", path.to_str().unwrap()]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(words), "{said}");
    };
    refused(&chain, "is not the key of");
    refused(&file("chain.der"), "is DER, not PEM");
    refused(&key, "holds no certificate");
    refused(&file("nothing.pem"), "No such file");
    assert_eq!(std::fs::read_to_string(service.home().join("config.yaml")).unwrap(), before);

    // By `init`, for files: an encrypted key, and files of Windows, which are fine.
    openssl(&["pkcs8", "-topk8", "-in", "chain.key", "-passout", "pass:x", "-out", "locked.key"]);
    for name in ["chain.pem", "chain.key"] {
        let text = std::fs::read_to_string(file(name)).unwrap();
        std::fs::write(file(&format!("windows-{name}")), format!("\u{feff}{}", text.replace('\n', "\r\n"))).unwrap();
    }
    let plan = |chain: &str, key: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rtcctl"));
        command.arg("--home").arg(file("home")).args(["init", "--yes", "--dry-run", "--host", "localhost"]);
        command.arg("--cert-file").arg(file(chain)).arg("--key-file").arg(file(key));
        command.args(["--relay-ip", "127.0.0.1", "--http-port", "off", "--web-port", &free_port().to_string()]);
        let output = command.env_remove("RTCCTL_HOME").stdin(Stdio::null()).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, text) = plan("chain.pem", "locked.key");
    assert!(code == 1 && text.contains("is encrypted"), "{code} {text}");
    let (code, text) = plan("windows-chain.pem", "windows-chain.key");
    assert_eq!(code, 0, "{text}");
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
    // What the page asks people to compare with.
    let shown = service.run(&["cert", "show"]);
    let print = print.trim_end().rsplit("\r\n").next().unwrap();
    assert!(shown.contains(&format!("its sha-256  {print}\n")), "{shown}");
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

/// The folder and the program of Red Hat, the latter played by a script that does what it does: whoever is in the folder
/// is in the bundle.
#[test]
fn the_store_of_red_hat_takes_the_ca_and_gives_it_up() {
    if !nix::unistd::geteuid().is_root() {
        return skip("a mount namespace of its own needs root");
    }
    if !has_program("unshare") {
        return;
    }
    let service = Service::start(&[]);
    let root = tempfile::tempdir().unwrap();
    // Of somebody who has Firefox, too.
    let user = root.path().join("user");
    let profile = user.join(".mozilla/firefox/x1y2.default");
    std::fs::create_dir_all(&profile).unwrap();
    let database = format!("sql:{}", profile.display());
    let has_firefox = has_program("certutil");
    if has_firefox {
        let made = Command::new("certutil").args(["-N", "--empty-password", "-d", &database]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    }
    let script = "mkdir \"$2/bin\" \"$2/etc\" && cp -a /etc/. \"$2/etc\" && mount --bind \"$2/etc\" /etc && \
                  mount -t tmpfs none /usr/local/share && \
                  mkdir -p /etc/pki/ca-trust/source/anchors /etc/pki/tls/certs && \
                  printf '%s\\n' '#!/bin/sh' '[ \"$1\" = extract ] || exit 9' \
                      'cat /etc/pki/ca-trust/source/anchors/*.pem > /etc/pki/tls/certs/ca-bundle.crt 2>/dev/null; true' \
                      > \"$2/bin/update-ca-trust\" && chmod 755 \"$2/bin/update-ca-trust\" && export PATH=\"$2/bin:$PATH\" && \
                  \"$0\" --home \"$1\" cert trust && ls /etc/pki/ca-trust/source/anchors && \
                  grep -c BEGIN /etc/pki/tls/certs/ca-bundle.crt && \"$0\" --home \"$1\" cert trust && \
                  \"$0\" --home \"$1\" cert untrust && ls /etc/pki/ca-trust/source/anchors && \
                  wc -c < /etc/pki/tls/certs/ca-bundle.crt";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-ec", script, env!("CARGO_BIN_EXE_rtcctl")])
        .arg(service.home())
        .arg(root.path())
        .env("HOME", &user)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let of_firefox = said.lines().filter(|line| line.contains("x1y2.default")).collect::<Vec<_>>();
    if has_firefox {
        let [first, second, third] = of_firefox[..] else { panic!("{said}") };
        assert!(first.ends_with("trusts the local CA") && second.ends_with("already"), "{said}");
        assert!(third.ends_with("no longer trusts the local CA"), "{said}");
    }
    let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with("browsers")).collect();
    let [trusted, file, count, again, untrusted, left] = lines[..] else { panic!("{said}") };
    assert!(trusted.contains("/etc/pki/ca-trust/source/anchors/rtcctl-") && trusted.contains("trusts"), "{said}");
    assert!(file.starts_with("rtcctl-") && file.ends_with(".pem") && count == "1", "{said}");
    assert!(again.ends_with("already") && untrusted.contains("no longer trusts") && left == "0", "{said}");
}

/// As a user does who was told of `/trust`: download the file, import it.
#[test]
fn chromium_trusts_the_page_after_the_ca_was_downloaded_and_imported_by_hand() {
    if !has_program("chromium") || !has_program("certutil") || !has_program("curl") {
        return;
    }
    let service = Service::start(&[]);
    let user = tempfile::tempdir().unwrap();
    let file = user.path().join("ca.crt");
    let download = |url: String| {
        let output = Command::new("curl").args(["-sfk", "-o"]).arg(&file).arg(url).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        std::fs::read(&file).unwrap()
    };
    let secure = download(format!("{}/ca.crt", service.url()));
    let plain = download(format!("http://localhost:{}/ca.crt", service.http_port));
    assert_eq!(plain, secure, "both ports give the same file");
    let store = user.path().join(".pki/nssdb");
    std::fs::create_dir_all(&store).unwrap();
    let certutil = |args: &[&str]| {
        let mut command = Command::new("certutil");
        let output = command.arg("-d").arg(format!("sql:{}", store.display())).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
    };
    certutil(&["-N", "--empty-password"]);
    assert!(!loads(&service, user.path()), "an unknown authority is trusted");
    certutil(&["-A", "-t", "C,,", "-n", "my calls", "-i", file.to_str().unwrap()]);
    assert!(loads(&service, user.path()), "the page is not trusted");
}

/// Whatever name a client indicates, or none, it gets the certificate: by address there is none to be indicated.
#[test]
fn every_form_of_a_name_and_none_is_answered_with_the_certificate() {
    if !has_program("openssl") {
        return;
    }
    let service = Service::start(&[]);
    let (_, served) = fingerprint(&service);
    let forms: [&[&str]; 9] = [
        &["-noservername"],
        &["-servername", "localhost"],
        &["-servername", "LOCALHOST"],
        &["-servername", "localhost."],
        &["-servername", "unknown.example"],
        &["-servername", "127.0.0.1"],
        &["-servername", "::1"],
        &["-servername", "under_score.example"],
        &["-servername", "1.0.0.127.in-addr.arpa"],
    ];
    for port in [service.web_port, service.turn_port] {
        for version in ["-tls1_2", "-tls1_3"] {
            for form in forms {
                let script = "openssl s_client \"$@\" < /dev/null | openssl x509 -noout -fingerprint -sha256";
                let output = Command::new("sh")
                    .args(["-c", script, "sh", "-connect", &format!("127.0.0.1:{port}"), version])
                    .args(form)
                    .output()
                    .unwrap();
                let said = String::from_utf8_lossy(&output.stdout).to_lowercase().replace(':', "");
                assert!(said.contains(&served), "{port} {version} {form:?}: {output:?}");
            }
        }
    }
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
