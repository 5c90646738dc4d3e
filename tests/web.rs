//! The HTTPS page and the redirect beside it, asked by curl, with the home's own CA as the only one trusted.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

mod common;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/service.rs"]
mod service;

use std::time::Duration;

use assert_cmd::Command;
use common::has_program;
use serde_json::Value;
use service::Service;

/// curl's own deadline, which it reports, lies below.
const CURL_WITHIN: Duration = Duration::from_secs(40);

/// Status line, headers in lower case, and body of an answer; an empty text if the server only closed.
fn curl(service: &Service, args: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--include", "--max-time", "30", "--noproxy", "*", "--path-as-is", "--cacert"])
        .arg(service.ca_file())
        .args(args)
        .timeout(CURL_WITHIN)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    format!("{}\n\n{body}", head.to_lowercase())
}

fn has(answer: &str, lines: &[&str]) {
    for line in lines {
        assert!(answer.contains(line), "`{line}` is missing in:\n{answer}");
    }
}

#[test]
fn the_page_the_api_and_health_are_served_by_both_versions_of_http() {
    if !has_program("curl") {
        return;
    }
    let service = Service::start(&[]);
    for (version, first) in [("--http1.1", "http/1.1 200"), ("--http2", "http/2 200")] {
        let page = curl(&service, &[version, &service.url()]);
        has(&page, &[first, "content-type: text/html", "content-security-policy: default-src 'self'", "<html"]);
        has(&page, &["x-content-type-options: nosniff", "permissions-policy: ", "frame-ancestors 'none'"]);
        let ice = curl(&service, &[version, &format!("{}/api/ice", service.url())]);
        has(&ice, &[first, "cache-control: no-store"]);
        let list: Value = serde_json::from_str(ice.split_once("\n\n").unwrap().1).unwrap();
        assert!(list["iceServers"][1]["credential"].is_string() && list["ttl"].is_u64(), "{list}");
        let health = curl(&service, &[version, &format!("{}/healthz", service.url())]);
        has(&health, &[first, "{\"state\":\"ready\"}"]);
    }
    has(&curl(&service, &[&format!("{}/socket.io/socket.io.js", service.url())]), &[" 200", "javascript"]);
    has(&curl(&service, &["--head", &service.url()]), &[" 200"]);
    has(&curl(&service, &[&format!("{}/nothing", service.url())]), &[" 404"]);
    has(&curl(&service, &["-X", "DELETE", &format!("{}/healthz", service.url())]), &[" 405", "allow: "]);
    for path in ["/../config.yaml", "/rtcctl/../../config.yaml", "/%2e%2e/secrets.yaml", "/.git/config"] {
        has(&curl(&service, &[&format!("{}{path}", service.url())]), &[" 404"]);
    }
}

#[test]
fn plain_http_leads_to_https_and_to_no_host_that_the_client_made_up() {
    if !has_program("curl") {
        return;
    }
    let service = Service::start(&[]);
    let plain = format!("http://127.0.0.1:{}", service.http_port);
    let to = |host: &str, path: &str| format!("location: https://{host}:{}{path}\n", service.web_port);
    let answer = curl(&service, &[&format!("{plain}/ice-test?a=%0d%0ax")]);
    has(&answer, &[" 308", &to("127.0.0.1", "/ice-test?a=%0d%0ax")]);
    for host in ["evil.example", "localhost@evil.example", "localhost:80:80"] {
        let answer = curl(&service, &["-H", &format!("Host: {host}"), &format!("{plain}//evil.example/")]);
        assert!(answer.contains(&to("localhost", "//evil.example/")) || answer.contains(" 400"), "{host}: {answer}");
    }
    has(&curl(&service, &[&format!("{plain}/ca.crt")]), &[" 200", "application/x-x509-ca-cert", "BEGIN CERTIFICATE"]);
    has(&curl(&service, &[&format!("{plain}/.well-known/acme-challenge/x")]), &[" 404"]);
    // Somebody typed `http://` and the port of HTTPS.
    has(&curl(&service, &[&format!("http://127.0.0.1:{}/", service.web_port)]), &[" 308", &to("127.0.0.1", "/")]);
}

#[test]
fn heads_beyond_bounds_are_refused_and_the_service_goes_on() {
    if !has_program("curl") {
        return;
    }
    let service = Service::start(&[]);
    let large = format!("X: {}", "x".repeat(60_000));
    for version in ["--http1.1", "--http2"] {
        let answer = curl(&service, &[version, "-H", &large, &service.url()]);
        assert!(!answer.contains(" 200"), "{answer}");
    }
    let mut many: Vec<String> = Vec::new();
    for number in 0..100 {
        many.extend(["-H".to_owned(), format!("X-{number}: x")]);
    }
    let mut args: Vec<&str> = many.iter().map(String::as_str).collect();
    let url = service.url();
    args.extend(["--http1.1", &url]);
    has(&curl(&service, &args), &["http/1.1 431"]);
    has(&curl(&service, &[&url]), &[" 200"]);
}

#[test]
fn while_a_task_is_stopped_its_requests_are_told_to_come_back_and_the_other_task_answers() {
    if !has_program("curl") {
        return;
    }
    let service = Service::start(&[]);
    let handshake = format!("{}/socket.io/?EIO=4&transport=polling", service.url());
    service.run(&["stop", "web"]);
    has(&curl(&service, &[&service.url()]), &[" 503", "retry-after: "]);
    has(&curl(&service, &[&handshake]), &[" 200", "\"sid\""]);
    service.run(&["start", "web"]);
    has(&curl(&service, &[&service.url()]), &[" 200"]);
    service.run(&["restart", "signaling"]);
    has(&curl(&service, &[&handshake]), &[" 200", "\"sid\""]);
}

#[test]
fn a_folder_of_the_operator_replaces_the_page_but_not_the_api() {
    if !has_program("curl") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let index = b"<script>own()</script>";
    rtcctl::sys::fs::write_atomic(&folder.path().join("index.html"), index, 0o644).unwrap();
    let service = Service::start(&[("web.root", folder.path().to_str().unwrap())]);
    let page = curl(&service, &[&service.url()]);
    has(&page, &[" 200", "<script>own()</script>"]);
    // Pages of others have scripts of their own inside.
    assert!(!page.contains("content-security-policy"), "{page}");
    has(&curl(&service, &[&format!("{}/healthz", service.url())]), &[" 200", "ready"]);
    has(&curl(&service, &[&format!("{}/api/ice", service.url())]), &[" 200", "iceServers"]);
    // The script of Socket.IO is ours until there is one of the operator.
    let script = format!("{}/socket.io/socket.io.js", service.url());
    has(&curl(&service, &[&script]), &[" 200", "globalThis.io = io"]);
    std::fs::create_dir(folder.path().join("socket.io")).unwrap();
    rtcctl::sys::fs::write_atomic(&folder.path().join("socket.io/socket.io.js"), b"their(io)", 0o644).unwrap();
    let own = curl(&service, &[&script]);
    has(&own, &[" 200", "javascript", "their(io)"]);
    assert!(!own.contains("globalThis.io"), "{own}");
}

#[test]
fn who_sends_too_much_is_told_so_and_not_cut_off() {
    if !has_program("curl") {
        return;
    }
    let service = Service::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    let large = format!("@{}", file.display());
    for (size, path, version, header, told) in [
        (100_000, "/api/phone/report", "--http1.1", "Expect:", " 413"),
        (100_000, "/api/phone/report", "--http2", "Expect:", " 413"),
        (1_000_000, "/api/session", "--http1.1", "Transfer-Encoding: chunked", " 413"),
        (100_000, "/", "--http1.1", "Expect:", " 413"),
        (16_384, "/api/phone/report", "--http1.1", "Expect:", " 401"),
    ] {
        rtcctl::sys::fs::write_atomic(&file, &vec![b'x'; size], 0o644).unwrap();
        let url = format!("{}{path}", service.url());
        let answer = curl(&service, &[version, "-H", header, "--data-binary", &large, &url]);
        has(&answer, &[told]);
        assert!(told != " 413" || answer.contains("16 KiB at most"), "{answer}");
    }
    // Nobody is heard out without an end.
    rtcctl::sys::fs::write_atomic(&file, &vec![b'x'; 30_000_000], 0o644).unwrap();
    let answer = curl(&service, &["--http1.1", "-H", "Expect:", "--data-binary", &large, &service.url()]);
    assert!(!answer.contains(" 200"), "{answer}");
    has(&curl(&service, &[&service.url()]), &[" 200"]);
}

#[test]
fn programs_on_this_host_read_the_counters_and_others_need_the_token() {
    if !has_program("curl") {
        return;
    }
    let service = Service::start(&[]);
    let url = format!("{}/metrics", service.url());
    let told = curl(&service, &[&url]);
    has(&told, &[" 200", "content-type: text/plain; version=0.0.4", "cache-control: no-store"]);
    for line in [
        "rtcctl_turn_allocations 0",
        "rtcctl_turn_dropped_total{reason=\"malformed\"}",
        "rtcctl_connections_total{class=\"web\"} ",
        "rtcctl_connections_total{class=\"turned_away\"} 0",
        "rtcctl_task_up{task=\"web\"} 1",
    ] {
        assert!(told.contains(&format!("\n{line}")), "{line}: {told}");
    }
    // A proxy on this host asks for others.
    let proxied = ["-H", "X-Forwarded-For: 192.0.2.1", &url];
    has(&curl(&service, &proxied), &[" 401", "www-authenticate: bearer"]);
    let token = "0123456789abcdef0123456789abcdef";
    let file = service.home().join("secrets.yaml");
    let secrets = std::fs::read_to_string(&file).unwrap() + &format!("metrics_token: {token}\n");
    rtcctl::sys::fs::write_atomic(&file, secrets.as_bytes(), 0o600).unwrap();
    service.run(&["restart"]);
    let bearer =
        |token: &str| curl(&service, &[&proxied[..], &["-H", &format!("Authorization: Bearer {token}")]].concat());
    has(&bearer(token), &[" 200", "rtcctl_task_up"]);
    has(&bearer("0123456789abcdef0123456789abcdee"), &[" 401"]);
    // In the clear nobody shows a token.
    has(&curl(&service, &[&format!("http://127.0.0.1:{}/metrics", service.http_port)]), &[" 308"]);
}
