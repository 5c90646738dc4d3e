//! aioice, an ICE agent in Python, by the relay alone: over UDP, TCP and verified TLS.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

mod common;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/service.rs"]
mod service;

use std::path::{Path, PathBuf};
use std::time::Duration;

use assert_cmd::Command;
use common::{has_program, skip};
use serde_json::Value;
use service::Service;

/// For pip, which may have to ask the network, and for each call, which gives up by itself before.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn two_agents_talk_through_the_relay_by_udp_tcp_and_tls() {
    let Some(python) = python() else { return };
    let service = Service::start(&[("turn.relay_ips", "[127.0.0.1]")]);
    let printed: Value = serde_json::from_str(&service.run(&["turn", "credentials", "--json"])).unwrap();
    let text = |key: &str| printed[key].as_str().unwrap().to_owned();
    for (transport, port) in [
        ("udp", service.turn_port),
        ("tcp", service.turn_port),
        ("tcp", service.web_port),
        ("tls", service.turn_port),
        ("tls", service.web_port),
    ] {
        let mut command = Command::new(&python);
        command.arg(folder().join("call.py")).args([transport, "localhost", &port.to_string()]);
        command.env("TURN_USERNAME", text("username")).env("TURN_CREDENTIAL", text("credential"));
        // The only authority that OpenSSL trusts then.
        command.env("SSL_CERT_FILE", service.ca_file()).env("SSL_CERT_DIR", "/nonexistent");
        let output = command.timeout(PATIENCE).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && told.starts_with("passed"), "{transport} {port}: {output:?}");
    }
    let status: Value = serde_json::from_str(&service.run(&["status", "--json"])).unwrap();
    assert!(status["turn"]["relayed_packets"].as_u64().unwrap() >= 5 * 400, "{status}");
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/aioice")
}

/// A Python that has what the requirements pin, installed once. `None`: there is none, which was told.
fn python() -> Option<PathBuf> {
    if !has_program("python3") {
        return None;
    }
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("aioice");
    let (python, done) = (venv.join("bin/python"), venv.join("requirements.txt"));
    let wanted = std::fs::read(folder().join("requirements.txt")).unwrap();
    if std::fs::read(&done).is_ok_and(|had| had == wanted) {
        return Some(python);
    }
    let is_made = |program: &Path, args: &[&str]| {
        let output = Command::new(program).args(args).timeout(PATIENCE).output().unwrap();
        if !output.status.success() {
            skip(&format!("a Python environment with aioice cannot be made: {args:?} failed"));
        }
        output.status.success()
    };
    let requirements = folder().join("requirements.txt");
    let install = ["-m", "pip", "install", "--quiet", "-r", requirements.to_str().unwrap()];
    if !is_made(Path::new("python3"), &["-m", "venv", "--clear", venv.to_str().unwrap()]) || !is_made(&python, &install)
    {
        return None;
    }
    rtcctl::sys::fs::write_atomic(&done, &wanted, 0o644).unwrap();
    Some(python)
}
