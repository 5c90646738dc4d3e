//! The Socket.IO clients that pages out there use, in their own runtime, against the real service over TLS.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

mod common;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/service.rs"]
mod service;

use std::path::{Path, PathBuf};
use std::time::Duration;

use assert_cmd::Command;

use common::{has_program, npm_ci};
use serde_json::Value;
use service::Service;

/// A client that takes longer than all of its own deadlines together hangs.
const CLIENT_WITHIN: Duration = Duration::from_secs(150);

#[test]
fn clients_of_version_2_keep_their_rooms() {
    every_transport("2");
}

#[test]
fn clients_of_version_3_keep_their_rooms() {
    every_transport("3");
}

#[test]
fn clients_of_version_4_keep_their_rooms() {
    every_transport("4");
}

fn every_transport(version: &str) {
    let Some(modules) = modules() else { return };
    // The default rate is meant for pages, not for a thousand messages in a row.
    let service = Service::start(&[("signaling.max_rate", "10000")]);
    for transports in ["polling", "websocket", "polling,websocket"] {
        let output = Command::new("node")
            .arg(modules.join("client.js"))
            .args([&service.url(), version, transports])
            .env("NODE_EXTRA_CA_CERTS", service.ca_file())
            .timeout(CLIENT_WITHIN)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "socket.io-client {version} by {transports}:\n{out}{err}");
        assert!(out.ends_with("all held\n"), "{out}");
    }
    let status: Value = serde_json::from_str(&service.run(&["status", "--json"])).unwrap();
    assert_eq!(status["tasks"][2]["restarts"], 0, "{status}");
}

/// The folder with the client and its packages.
fn modules() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/signaling");
    (has_program("node") && has_program("npm") && npm_ci(&folder)).then_some(folder)
}
