//! What leaves a home: a bundle without a single secret of it, and a backup with all of them that becomes a home again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests edit files")]

#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/service.rs"]
mod service;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/socket_io.rs"]
mod socket_io;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/stream_client.rs"]
mod stream_client;

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use assert_cmd::cargo::cargo_bin_cmd;
use flate2::read::GzDecoder;
use serde_json::Value;
use service::Service;
use socket_io::Socket;
use stream_client::connect_tls;

const NOBODYS: &str = "https://hooks.example.invalid/in/HOOKTOKENinPATH?auth=HOOKTOKENinQUERY";

const ACCOUNT_KEY: &str = "TUlHSEFnRUFNQk1HQnlxR1NNNDlBZ0VHQ0NxR1NNNDlBd0VIQkcwd2F3SUJBUVFn";
/// What a page keeps its place in a room by.
const PLACE: &str = "5f0c9a52-PLACEinTHEroom-77aa";
const PENDING_KEY: &str = "UEVORElOR0tFWXBlbmRpbmdrZXlQRU5ESU5HS0VZ";

/// A running service with every kind of secret that a home can have.
fn service() -> Service {
    let service = Service::start(&[
        ("log.level", "trace"),
        ("turn.relay_ips", "[127.0.0.1]"),
        ("notify.webhook", &format!("'{NOBODYS}'")),
        ("notify.command", "[/bin/true, --token=HOOKTOKENinCOMMAND, HOOKTOKENasWORD]"),
    ]);
    let secrets = service.home().join("secrets.yaml");
    let text = std::fs::read_to_string(&secrets).unwrap();
    let text = text
        .replace("#turn_users:\n#  name: password", "turn_users:\n  doorbell: 'DOOR pass \"word\" 1'")
        .replace("#acme_eab:\n#  zerossl: KEY_ID:KEY", "acme_eab:\n  zerossl: kid-1:EABHMACKEYofTHEauthority")
        .replace("#metrics_token:", "metrics_token: METRICSTOKENofTHISHOME-0123456789");
    std::fs::write(&secrets, text).unwrap();
    service.run(&["invite", "--new-key"]);
    let config = service.home().join("config.yaml");
    let text = rtcctl::config::set_value(&std::fs::read_to_string(&config).unwrap(), "access", "key").unwrap();
    std::fs::write(&config, text).unwrap();
    service.run(&["reload"]);
    let acme = service.home().join("certs/acme");
    std::fs::create_dir_all(&acme).unwrap();
    let account = format!("{{\"directory\":\"https://ca.example\",\"key\":\"{ACCOUNT_KEY}\",\"id\":null}}");
    std::fs::write(acme.join("account-0123456789abcdef.json"), account).unwrap();
    let pending = format!("{{\"key\":\"-----BEGIN PRIVATE KEY-----\\n{PENDING_KEY}\\n-----END PRIVATE KEY-----\\n\"}}");
    std::fs::write(acme.join("pending.json"), pending).unwrap();
    service
}

fn secret(service: &Service, key: &str) -> String {
    let text = std::fs::read_to_string(service.home().join("secrets.yaml")).unwrap();
    let (_, rest) = text.split_once(key).unwrap();
    rest.trim_start_matches(['\n', '-', ' ', '"', '[']).split(['\n', '"', ']']).next().unwrap().to_owned()
}

fn access_key(service: &Service) -> String {
    secret(service, "\naccess_key:")
}

/// What a browser's cookie has, in exchange for the key.
fn session(service: &Service, key: &str) -> String {
    let mut stream = connect_tls(service.web_port, &["http/1.1"]);
    let head = format!("POST /api/session HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n");
    stream.write_all(format!("{head}Content-Length: 0\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    cookie.split_once('=').unwrap().1.split(';').next().unwrap().to_owned()
}

/// Every secret of the home, found by other means than those of the program.
fn secrets(service: &Service) -> Vec<String> {
    let home = service.home();
    let mut found: Vec<String> = ["HOOKTOKENinPATH", "HOOKTOKENinQUERY", "HOOKTOKENinCOMMAND", "HOOKTOKENasWORD"]
        .into_iter()
        .chain(["DOOR pass \"word\" 1", "EABHMACKEYofTHEauthority", "METRICSTOKENofTHISHOME-0123456789"])
        .chain([ACCOUNT_KEY, PENDING_KEY])
        .map(str::to_owned)
        .collect();
    let key = access_key(service);
    assert_eq!(key.len(), 26, "{key}");
    let turn = secret(service, "\nturn_secrets:");
    assert_eq!(turn.len(), 64, "{turn}");
    found.extend([session(service, &key), key, turn]);
    for file in ["ca.key", "leaf.key"] {
        let pem = std::fs::read_to_string(home.join("certs").join(file)).unwrap();
        found.extend(pem.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned));
    }
    let issued: Value = serde_json::from_str(&service.run(&["turn", "credentials", "--json"])).unwrap();
    found.push(issued["credential"].as_str().unwrap().to_owned());
    found
}

fn members(file: &Path) -> Vec<(String, String)> {
    let mut plain = Vec::new();
    GzDecoder::new(std::fs::File::open(file).unwrap()).read_to_end(&mut plain).unwrap();
    let mut archive = tar::Archive::new(&plain[..]);
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        let path = entry.path().unwrap().into_owned();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), text)
    };
    archive.entries().unwrap().map(read).collect()
}

fn refusal(home: &Path, args: &[&str], code: i32) -> String {
    let output = cargo_bin_cmd!("rtcctl").arg("--home").arg(home).args(args).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
    told
}

#[test]
fn a_bundle_tells_everything_but_secrets() {
    let service = service();
    let secrets = secrets(&service);
    // What an operator's own program, or a later version, may write by mistake.
    let log = service.home().join("log/rtcctl.log");
    let mut text = std::fs::read_to_string(&log).unwrap();
    for secret in &secrets {
        text.push_str(&format!("2026-11-30T13:00:00Z WARN web: oops {secret} and url=https://x/?key={secret}\n"));
    }
    // This one has no form of its own, but a name.
    text.push_str(&format!("2026-11-30T13:00:00Z WARN web: oops 40{{\"session\":\"{PLACE}\"}}, session={PLACE}\n"));
    std::fs::write(&log, text).unwrap();
    let auth = serde_json::json!({ "session": PLACE, "key": access_key(&service) });
    let mut socket = Socket::connect_with(service.web_port, &auth.to_string()).unwrap();
    socket.join("bundled");
    let file = service.home().join("out.tar.gz");
    let path = file.to_str().unwrap();
    service.run(&["bundle", "--offline", "-o", path]);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let members = members(&file);
    for (name, text) in &members {
        for secret in secrets.iter().map(String::as_str).chain([PLACE]) {
            assert!(!text.contains(secret), "{name} has {secret}");
        }
        assert!(!text.contains("BEGIN PRIVATE KEY-----\nM"), "{name}");
    }
    let text = |name: &str| &members.iter().find(|(other, _)| other == name).unwrap().1;
    let status: Value = serde_json::from_str(text("status.json")).unwrap();
    assert_eq!(status["tasks"].as_array().unwrap().len(), 4);
    let config: Value = serde_json::from_str(text("config.json")).unwrap();
    assert_eq!(config["values"]["web.port"], service.web_port);
    assert_eq!(config["values"]["notify.command"][0], "/bin/true");
    assert_eq!(config["values"]["notify.webhook"], "https://hooks.example.invalid/...");
    let doctor: Value = serde_json::from_str(text("doctor.json")).unwrap();
    assert!(doctor["ok"].as_array().unwrap().len() > 5);
    assert!(text("events.jsonl").contains("starting") && text("rtcctl.log").contains("oops [redacted]"));
    assert!(text("kernel.txt").contains("Linux") && text("files.txt").contains("secrets.yaml"));
    assert!(text("about.json").contains("\"version\""));

    let told = refusal(&service.home(), &["bundle", "-o", path], 1);
    assert!(told.contains("is there already"), "{told}");
}

#[test]
fn a_bundle_of_a_broken_home_says_what_is_broken_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("config.yaml"), "web: {port: x}\n").unwrap();
    std::fs::write(home.join("secrets.yaml"), "turn_secrets: [BROKENhomeBROKENhomeBROKENhome\nx: '").unwrap();
    let file = dir.path().join("out.tar.gz");
    let file_text = file.to_str().unwrap();
    cargo_bin_cmd!("rtcctl").arg("--home").arg(&home).args(["bundle", "--offline", "-o", file_text]).assert().success();
    let members = members(&file);
    assert!(members.iter().all(|(_, text)| !text.contains("BROKENhomeBROKENhomeBROKENhome")));
    let config = &members.iter().find(|(name, _)| name == "config.json").unwrap().1;
    assert!(config.contains("web.port"), "{config}");
    // Not even that is there.
    cargo_bin_cmd!("rtcctl")
        .arg("--home")
        .arg(dir.path().join("none"))
        .args(["bundle", "--offline", "--force", "-o", file_text])
        .assert()
        .success();
}

#[test]
fn a_home_moves_in_one_file_and_serves_as_before() {
    let service = service();
    let link = service.run(&["invite", "--quiet"]);
    let credential = |home: &Path| {
        let mut command = cargo_bin_cmd!("rtcctl");
        let output = command.arg("--home").arg(home).args(["cert", "show", "--json"]).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["fingerprint_sha256"].clone()
    };
    let fingerprint = credential(&service.home());
    assert!(fingerprint.is_string());
    let dir = tempfile::tempdir().unwrap();
    let file: PathBuf = dir.path().join("home.backup");
    let path = file.to_str().unwrap();
    service.run(&["backup", path]);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    refusal(&service.home(), &["backup", path], 1);
    let told = refusal(&service.home(), &["restore", path, "--force"], 14);
    assert!(told.contains("rtcctl runs for this home"), "{told}");

    let other = dir.path().join("other");
    let run = |args: &[&str]| {
        let output = cargo_bin_cmd!("rtcctl").arg("--home").arg(&other).args(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    run(&["restore", path]);
    assert_eq!(run(&["invite", "--quiet"]), link);
    service.run(&["stop"]);
    run(&["start"]);
    assert_eq!(credential(&other), fingerprint);
    run(&["stop"]);
    let told = refusal(&other, &["restore", path], 1);
    assert!(told.contains("there is a home already"), "{told}");
    run(&["restore", path, "--force"]);

    let half = std::fs::read(&file).unwrap();
    std::fs::write(&file, &half[..half.len() / 2]).unwrap();
    let nowhere = dir.path().join("nowhere");
    let told = refusal(&nowhere, &["restore", path], 1);
    assert!(told.contains("cut off or damaged"), "{told}");
    assert!(!nowhere.exists());
    refusal(&nowhere, &["restore", "/nonexistent"], 1);
    refusal(&nowhere, &["backup", path, "--force"], 1);
}
