//! A home that gets its certificate from a pebble of its own.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::has_program;
use crate::common::ports::free_port;
use crate::pebble::{Manners, Pebble};

/// Half of all nonces are refused, and it looks after up to three seconds.
pub(crate) const ROUGH: [(&str, &str); 2] = [("PEBBLE_WFE_NONCEREJECT", "50"), ("PEBBLE_VA_SLEEPTIME", "3")];
pub(crate) const SMOOTH: [(&str, &str); 2] = [("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "0")];
/// Every order is looked at anew, so that no step is left out.
pub(crate) const THOROUGH: [(&str, &str); 3] =
    [("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "0"), ("PEBBLE_AUTHZREUSE", "0")];
/// With half of the nonces refused, an order takes a few attempts, and the ladder's first rung is a minute.
pub(crate) const ISSUED_WITHIN: Duration = Duration::from_secs(200);

/// A home with ports of its own, and an authority that looks at them. Dropping it stops what runs.
pub(crate) struct Scene {
    _dir: tempfile::TempDir,
    pub(crate) home: PathBuf,
    pub(crate) web: u16,
    pub(crate) http: u16,
    pub(crate) turn: u16,
    pub(crate) pebble: Pebble,
}

impl Scene {
    /// `None`: pebble is missing here, which was told.
    pub(crate) fn new(manners: &Manners<'_>) -> Option<Self> {
        if !has_program("pebble") || !has_program("pebble-challtestsrv") {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let (web, http, turn) = (free_port(), free_port(), free_port());
        let pebble = Pebble::start(http, web, manners);
        Some(Self { home: dir.path().join("home"), _dir: dir, web, http, turn, pebble })
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rtcctl"));
        command.arg("--home").arg(&self.home).args(args).env_remove("RTCCTL_HOME").stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub(crate) fn init(&self, hosts: &[&str], more: &[&str]) {
        let [web, http, turn] = [self.web, self.http, self.turn].map(|port| port.to_string());
        let (directory, root) = (self.pebble.directory(), self.pebble.root());
        let mut args =
            vec!["init", "--yes", "--offline", "--reach", "domain", "--cert", "acme", "--relay-ip", "127.0.0.1"];
        args.extend(["--access", "open"]);
        args.extend(["--acme-directory", &directory, "--acme-ca-root", root.to_str().unwrap()]);
        args.extend(["--web-port", &web, "--http-port", &http, "--turn-port", &turn]);
        args.extend(hosts.iter().flat_map(|host| ["--host", host]));
        args.extend(more);
        let output = self.run(&args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn start(&self) {
        let output = self.run(&["start"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn certificate(&self) -> Value {
        let status: Value = serde_json::from_slice(&self.run(&["status", "--json"]).stdout).unwrap();
        status["certificate"].clone()
    }

    /// Waits until the certificate is as it should be.
    pub(crate) fn wait_for(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
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

pub(crate) fn is_issued(certificate: &Value) -> bool {
    certificate["source"] == "acme"
}
