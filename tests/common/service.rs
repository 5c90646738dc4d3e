//! A real service in a home of its own, on ports that are free; stopped when it goes out of scope.

#[allow(clippy::duplicate_mod, reason = "tests that use `common` besides have it twice")]
#[path = "ports.rs"]
pub(crate) mod ports;

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::time::Duration;

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin_cmd;
use rtcctl::sys::clock;
use serde_json::Value;

use self::ports::free_port;

/// `start` and `stop` have deadlines of their own; this one is beyond them.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);
/// How soon `status` shows what has happened.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);

pub(crate) struct Service {
    dir: tempfile::TempDir,
    pub(crate) web_port: u16,
    pub(crate) http_port: u16,
    pub(crate) turn_port: u16,
    _undertaker: Undertaker,
}

impl Service {
    /// Sets a home up with these keys, each `section.key`, and starts it.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_by(settings, &["start"])
    }

    /// As [`Service::start`], by this command.
    pub(crate) fn start_by(settings: &[(&str, &str)], start: &[&str]) -> Self {
        Self::start_in(&std::env::temp_dir(), settings, start)
    }

    /// As [`Service::start_by`], with the home below `parent`.
    pub(crate) fn start_in(parent: &std::path::Path, settings: &[(&str, &str)], start: &[&str]) -> Self {
        let [web_port, http_port] = [free_port(), free_port()];
        let dir = tempfile::tempdir_in(parent).unwrap();
        let undertaker = Undertaker::of(&dir.path().join("home"));
        let service = Self { dir, web_port, http_port, turn_port: free_port(), _undertaker: undertaker };
        let (web, http, turn) = (web_port.to_string(), http_port.to_string(), service.turn_port.to_string());
        service.run(&[
            "init",
            "--yes",
            "--reach",
            "lan",
            "--host",
            "localhost",
            "--host",
            "127.0.0.1",
            "--web-port",
            &web,
            "--http-port",
            &http,
            "--turn-port",
            &turn,
        ]);
        let file = service.home().join("config.yaml");
        let mut text = std::fs::read_to_string(&file).unwrap();
        for (key, value) in settings {
            text = rtcctl::config::set_value(&text, key, value).unwrap();
        }
        rtcctl::sys::fs::write_atomic(&file, text.as_bytes(), 0o600).unwrap();
        service.run(start);
        service
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.web_port)
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.home().join("certs/ca.pem")
    }

    /// Runs a command on this home and gives what it printed.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// What `status` says of it.
    pub(crate) fn status(&self) -> Value {
        serde_json::from_slice(&self.command(&["status", "--json"]).output().unwrap().stdout).unwrap()
    }

    /// What `status` says once it is as it should be, soon.
    pub(crate) fn status_when(&self, mut is_so: impl FnMut(&Value) -> bool) -> Value {
        let deadline = clock::now().mono + NOTICED_WITHIN;
        while clock::now().mono < deadline {
            let status = self.status();
            if is_so(&status) {
                return status;
            }
        }
        panic!("{}", self.status());
    }

    /// What signaling counts once it is as it should be, soon.
    pub(crate) fn signaling_when(&self, mut is_so: impl FnMut(&Value) -> bool) -> Value {
        self.status_when(|status| is_so(&status["signaling"]))["signaling"].take()
    }

    /// A command on this home, to be run.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = cargo_bin_cmd!("rtcctl");
        command.arg("--home").arg(self.home()).args(args).env_remove("RTCCTL_HOME").timeout(COMMAND_WITHIN);
        command
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // A test that already fails must not fail twice.
        let _ = self.command(&["stop"]).output();
    }
}

/// Stops the service of a home if this test process is killed before it can do so itself.
pub(crate) struct Undertaker {
    waiting: std::process::Child,
}

impl Undertaker {
    pub(crate) fn of(home: &std::path::Path) -> Self {
        #[expect(clippy::disallowed_methods, reason = "tests start programs")]
        let waiting = std::process::Command::new("sh")
            // The end of its input is the end of this process.
            .args(["-c", "read -r _; exec \"$0\" --home \"$1\" stop", env!("CARGO_BIN_EXE_rtcctl")])
            .arg(home)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            // What kills this process by its group is not to kill this one.
            .process_group(0)
            .spawn()
            .unwrap();
        Self { waiting }
    }
}

impl Drop for Undertaker {
    fn drop(&mut self) {
        let _ = self.waiting.kill();
        let _ = self.waiting.wait();
    }
}
