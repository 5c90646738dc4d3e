//! The service's life with real processes: start, status, stop, second starts, kills, and everything that is in the way.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start programs and spoil files")]

#[allow(dead_code, reason = "one part of it is used here")]
#[path = "common/service.rs"]
mod service;

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rtcctl::sys::ports::{Transport, holder};
use serde_json::Value;
use service::Undertaker;
use service::ports::free_port;

/// A home with free ports of its own. Dropping it stops what runs.
struct Scene {
    _dir: tempfile::TempDir,
    _undertaker: Undertaker,
    home: PathBuf,
    web: u16,
    http: u16,
    turn: u16,
}

impl Scene {
    fn new() -> Self {
        Self::below("home")
    }

    fn below(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join(name);
        let _undertaker = Undertaker::of(&home);
        let scene = Self { home, _dir: dir, _undertaker, web: free_port(), http: free_port(), turn: free_port() };
        let [web, http, turn] = [scene.web, scene.http, scene.turn].map(|port| port.to_string());
        let ports = ["--web-port", &web, "--http-port", &http, "--turn-port", &turn];
        let flags = ["init", "--yes", "--reach", "lan", "--host", "127.0.0.1", "--relay-ip", "127.0.0.1"];
        expect(&scene.run(&[&flags[..], &ports].concat()), 0);
        scene
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rtcctl"));
        command.arg("--home").arg(&self.home).args(args).env_remove("RTCCTL_HOME").stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn started() -> Self {
        let scene = Self::new();
        expect(&scene.run(&["start"]), 0);
        scene
    }

    fn status(&self) -> Value {
        serde_json::from_slice(&self.run(&["status", "--json"]).stdout).unwrap()
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.status()["pid"].as_i64().unwrap()).unwrap()
    }

    /// Whether this process has no port of the home any more. Others may: the kernel gives free ports to anyone.
    fn is_gone_from_its_ports(&self, pid: u32) -> bool {
        let is_other = |transport, port| holder(transport, port).is_none_or(|holder| holder.pid != pid);
        is_other(Transport::Tcp, self.web) && is_other(Transport::Tcp, self.http) && is_other(Transport::Udp, self.turn)
    }

    /// Ends the guardian and the daemon without a word and waits until both are gone.
    fn kill(&self) {
        let pid = |document: &Value| u32::try_from(document["pid"].as_u64().unwrap()).unwrap();
        let status = self.status();
        let watched = |pid| rtcctl::sys::process::Watched::new(pid).unwrap();
        let (daemon, guardian) = (watched(pid(&status)), watched(pid(&status["guardian"])));
        // So that it cannot start another guardian.
        assert!(Command::new("kill").args(["-STOP", &daemon.pid().to_string()]).status().unwrap().success());
        for process in [guardian, daemon] {
            process.kill().unwrap();
            assert!(process.wait(std::time::Duration::from_secs(10)));
        }
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.home.join(name)).unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // A home whose configuration a test has spoiled is stopped all the same.
        let _ = self.run(&["stop"]);
    }
}

/// Standard error, if the command ended with this code.
fn expect(output: &Output, code: i32) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}{}", String::from_utf8_lossy(&output.stdout));
    text
}

/// Without this, each thread that has served a crowd keeps two megabytes of what that has left.
#[cfg(target_env = "gnu")]
#[test]
fn the_daemon_has_its_threads_share_what_is_free_and_is_shown_as_it_was_started() {
    let scene = Scene::started();
    let of_daemon = |what: &str| std::fs::read_to_string(format!("/proc/{}/{what}", scene.pid())).unwrap();
    assert!(of_daemon("environ").contains("GLIBC_TUNABLES=glibc.malloc.tcache_count=0"));
    assert_eq!(of_daemon("comm"), "rtcctl\n");
    let line = of_daemon("cmdline");
    let words: Vec<&str> = line.split('\0').collect();
    assert_eq!((words[0], words[1]), (env!("CARGO_BIN_EXE_rtcctl"), "--home"), "{words:?}");
}

#[test]
fn a_started_service_is_ready_and_a_stopped_one_leaves_nothing() {
    let scene = Scene::new();
    assert!(expect(&scene.run(&["status"]), 3).contains("rtcctl is not running"));
    assert!(expect(&scene.run(&["start"]), 0).contains("rtcctl is ready (pid "));
    let status = scene.status();
    assert_eq!(status["schema_version"], 1);
    assert_eq!(status["state"], "ready");
    let tasks: Vec<(&str, &str)> = status["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| (task["name"].as_str().unwrap(), task["state"].as_str().unwrap()))
        .collect();
    assert_eq!(tasks, [("certs", "ready"), ("turn", "ready"), ("signaling", "ready"), ("web", "ready")]);
    for task in status["tasks"].as_array().unwrap() {
        assert_eq!(task["probe"]["ok"], true, "{task}");
        assert!(
            task["probe"]["latency_ms"].is_number() && task["probe"]["at"].as_str().unwrap().ends_with('Z'),
            "{task}"
        );
    }
    assert_eq!(status["urls"]["web"], format!("https://127.0.0.1:{}/", scene.web));
    assert_eq!(status["urls"]["ice"][0], format!("stun:127.0.0.1:{}", scene.turn));
    assert_eq!(status["certificate"]["source"], "self-signed");
    assert!(status["certificate"]["days_left"].as_f64().unwrap() > 300.0);
    assert_eq!(status["certificate"]["fingerprint_sha256"].as_str().unwrap().len(), 64);
    assert_eq!(status["findings"], serde_json::json!([]));
    expect(&scene.run(&["status"]), 0);
    expect(&scene.run(&["list"]), 0);
    let pid = scene.pid();
    assert!(expect(&scene.run(&["stop"]), 0).contains("rtcctl is stopped"));
    // It has ended once nobody is left to run, whether or not init has taken note of it.
    let left = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(left.is_empty() || left.rsplit_once(')').unwrap().1.starts_with(" Z"), "{left}");
    assert!(scene.is_gone_from_its_ports(u32::try_from(pid).unwrap()));
    assert!(!scene.home.join("control.sock").exists());
    let stopped: Output = scene.run(&["status", "--json"]);
    assert_eq!(stopped.status.code(), Some(3));
    assert_eq!(serde_json::from_slice::<Value>(&stopped.stdout).unwrap()["state"], "stopped");
    assert!(expect(&scene.run(&["stop"]), 0).contains("was not running"));
}

#[test]
fn a_second_start_says_that_it_runs_and_changes_nothing() {
    let scene = Scene::started();
    let pid = scene.pid();
    assert!(expect(&scene.run(&["start"]), 0).contains(&format!("runs already (pid {pid}")));
    let told = expect(&scene.run(&["run"]), 14);
    assert!(told.contains(&format!("rtcctl runs already for this home (pid {pid})")), "{told}");
    assert_eq!(scene.pid(), pid);
}

#[test]
fn many_starts_at_once_make_one_daemon() {
    let scene = Scene::new();
    let starts: Vec<Child> = (0..6).map(|_| scene.command(&["start"]).stderr(Stdio::null()).spawn().unwrap()).collect();
    let codes: Vec<Option<i32>> = starts.into_iter().map(|mut start| start.wait().unwrap().code()).collect();
    assert!(codes.contains(&Some(0)), "{codes:?}");
    assert!(codes.iter().all(|code| [Some(0), Some(14)].contains(code)), "{codes:?}");
    assert_eq!(scene.status()["state"], "ready");
}

#[test]
fn a_service_whose_every_process_was_killed_can_be_started_again_and_nothing_is_lost() {
    let scene = Scene::started();
    let kept = ["secrets.yaml", "config.yaml", "certs/ca.pem", "certs/leaf.pem", "certs/leaf.key"];
    let before: Vec<Vec<u8>> = kept.iter().map(|name| scene.read(name)).collect();
    let pid = scene.pid();
    scene.kill();
    assert!(scene.home.join("control.sock").exists(), "a killed daemon leaves its socket");
    expect(&scene.run(&["status"]), 3);
    expect(&scene.run(&["start"]), 0);
    assert_ne!(scene.pid(), pid);
    let after: Vec<Vec<u8>> = kept.iter().map(|name| scene.read(name)).collect();
    assert!(before == after, "a file changed");
}

#[test]
fn a_control_socket_that_was_deleted_is_there_again_in_a_moment_and_a_stop_does_not_need_it() {
    let scene = Scene::started();
    let pid = scene.pid();
    let socket = scene.home.join("control.sock");
    std::fs::remove_file(&socket).unwrap();
    let deleted_at = std::time::Instant::now();
    while scene.run(&["status"]).status.code() != Some(0) {
        assert!(deleted_at.elapsed() < std::time::Duration::from_secs(5), "it did not come back");
    }
    assert_eq!(scene.pid(), pid);
    // A folder in its place keeps it away.
    std::fs::remove_file(&socket).unwrap();
    if std::fs::create_dir(&socket).is_ok() {
        let told = expect(&scene.run(&["status"]), 1);
        assert!(told.contains("cannot reach") || told.contains("nothing answers"), "{told}");
        assert!(expect(&scene.run(&["start"]), 14).contains("does not answer"));
    }
    let told = expect(&scene.run(&["stop"]), 0);
    assert!(told.contains("rtcctl is stopped") && !told.contains("killing"), "{told}");
    // Gone already, if the daemon was faster.
    let _ = std::fs::remove_dir(&socket);
    expect(&scene.run(&["start"]), 0);
}

#[test]
fn a_stop_that_cannot_see_whether_anything_runs_does_not_say_that_nothing_does() {
    let scene = Scene::new();
    expect(&scene.run(&["stop"]), 0);
    // What keeps root out as well as anyone: a file that leads to itself.
    let lock = scene.home.join("state/daemon.lock");
    std::os::unix::fs::symlink("daemon.lock", &lock).unwrap();
    let told = expect(&scene.run(&["stop"]), 1);
    assert!(told.contains("daemon.lock` whether rtcctl runs") && told.contains("or as root"), "{told}");
    std::fs::remove_file(&lock).unwrap();
}

#[test]
fn tasks_are_stopped_started_and_restarted_one_by_one() {
    let scene = Scene::started();
    expect(&scene.run(&["stop", "turn"]), 0);
    let told = String::from_utf8(scene.run(&["status"]).stdout).unwrap();
    assert!(told.contains("turn is stopped [task-stopped]") && told.contains("start turn`"), "{told}");
    assert_eq!(scene.run(&["status"]).status.code(), Some(11));
    expect(&scene.run(&["start", "turn"]), 0);
    expect(&scene.run(&["status"]), 0);
    for task in ["certs", "turn", "signaling", "web"] {
        expect(&scene.run(&["restart", task]), 0);
    }
    let status = scene.status();
    assert_eq!(status["state"], "ready");
    assert!(
        status["tasks"].as_array().unwrap().iter().all(|task| task["restarts"] == 0),
        "ordered restarts do not count"
    );
    let told = expect(&scene.run(&["restart", "printer"]), 2);
    assert!(told.contains("tasks are certs, turn, signaling, web"), "{told}");
    let pid = scene.pid();
    expect(&scene.run(&["restart"]), 0);
    assert_ne!(scene.pid(), pid);
}

#[test]
fn a_taken_port_names_its_holder_and_nothing_is_left_running() {
    let scene = Scene::new();
    let me = std::process::id();
    let tcp = TcpListener::bind(("0.0.0.0", scene.web)).unwrap();
    let told = expect(&scene.run(&["start"]), 1);
    assert!(told.contains(&format!("cannot bind `0.0.0.0:{}/tcp` for web", scene.web)), "{told}");
    assert!(told.contains(&format!("(pid {me})")) && told.contains("`web.port`"), "{told}");
    drop(tcp);
    let udp = UdpSocket::bind(("0.0.0.0", scene.turn)).unwrap();
    let told = expect(&scene.run(&["start"]), 1);
    assert!(told.contains("for turn") && told.contains(&format!("(pid {me})")), "{told}");
    for left in ["control.sock", "guardian.sock", "notify.sock"] {
        assert!(!scene.home.join(left).exists(), "{left}");
    }
    for left in ["daemon", "guardian"] {
        assert_eq!(rtcctl::sys::lock::Lock::holder(&scene.home.join(format!("state/{left}.lock"))), None);
    }
    drop(udp);
    expect(&scene.run(&["status"]), 3);
    expect(&scene.run(&["start"]), 0);
}

/// Case 87.
#[test]
fn a_bad_configuration_is_told_whole_and_binds_nothing() {
    let scene = Scene::new();
    let path = scene.home.join("config.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let port = format!("port: {}", scene.turn);
    std::fs::write(&path, text.replace(&port, "port: 99999") + "\ntypo: 1\n").unwrap();
    for command in ["start", "run", "restart"] {
        let told = expect(&scene.run(&[command]), 78);
        assert!(told.contains("turn.port") && told.contains("typo") && told.contains("line"), "{command}: {told}");
    }
    expect(&scene.run(&["status"]), 3);
    // A running service outlives a configuration that would not start.
    std::fs::write(&path, &text).unwrap();
    expect(&scene.run(&["start"]), 0);
    std::fs::write(&path, "nonsense: [").unwrap();
    expect(&scene.run(&["restart"]), 78);
    std::fs::write(&path, &text).unwrap();
    assert_eq!(scene.status()["state"], "ready");
}

#[test]
fn a_home_without_configuration_or_with_a_file_in_the_way_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let rtcctl = |home: &Path, args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_rtcctl")).arg("--home").arg(home).args(args).output().unwrap()
    };
    let told = expect(&rtcctl(&dir.path().join("none"), &["start"]), 1);
    assert!(told.contains("init"), "{told}");
    let scene = Scene::new();
    std::fs::remove_dir_all(scene.home.join("state")).unwrap();
    std::fs::write(scene.home.join("state"), "a file").unwrap();
    let told = expect(&scene.run(&["start"]), 1);
    assert!(told.contains("state"), "{told}");
}

/// Case 88.
#[test]
fn a_missing_certificate_is_made_anew_by_the_same_authority() {
    let scene = Scene::new();
    let (authority, leaf) = (scene.read("certs/ca.pem"), scene.read("certs/leaf.pem"));
    for name in ["certs/leaf.pem", "certs/leaf.key"] {
        std::fs::remove_file(scene.home.join(name)).unwrap();
    }
    expect(&scene.run(&["start"]), 0);
    assert!(scene.read("certs/ca.pem") == authority && scene.read("certs/leaf.pem") != leaf);
}

#[test]
fn secrets_that_others_can_read_are_refused() {
    let scene = Scene::new();
    std::fs::set_permissions(scene.home.join("secrets.yaml"), Permissions::from_mode(0o644)).unwrap();
    let told = expect(&scene.run(&["start"]), 78);
    assert!(told.contains("secrets.yaml") && told.contains("chmod"), "{told}");
}

#[test]
fn sigterm_ends_a_foreground_run_and_sighup_does_not() {
    let scene = Scene::new();
    let mut child = scene.command(&["run"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let signal = |name: &str| {
        let status = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
        assert!(status.success());
    };
    assert!(lines.any(|line| line.contains(" ready url=")), "it says when it is ready");
    expect(&scene.run(&["status"]), 0);
    signal("HUP");
    assert!(lines.any(|line| line.contains("SIGHUP")));
    expect(&scene.run(&["status"]), 0);
    signal("TERM");
    assert!(lines.any(|line| line.contains("stopped")));
    let pid = child.id();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(scene.is_gone_from_its_ports(pid));
}

#[test]
fn two_homes_run_side_by_side_below_long_paths() {
    let long = format!("{}/{}", "d".repeat(100), "e".repeat(100));
    let (one, other) = (Scene::below(&long), Scene::new());
    expect(&one.run(&["start"]), 0);
    expect(&other.run(&["start"]), 0);
    let mode = std::fs::metadata(one.home.join("control.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::metadata(one.home.join("log/rtcctl.log")).unwrap().permissions().mode() & 0o777, 0o600);
    expect(&one.run(&["stop"]), 0);
    expect(&other.run(&["status"]), 0);
}

#[test]
fn an_interrupted_terminal_ends_no_daemon_and_secrets_stay_out_of_the_log() {
    let scene = Scene::started();
    let pid = scene.pid();
    let session = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session: i32 = session.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap().parse().unwrap();
    assert_eq!(session, pid, "the daemon leads a session of its own");
    assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(), "rtcctl\n");
    let secrets = String::from_utf8(scene.read("secrets.yaml")).unwrap();
    let secret: String = secrets
        .chars()
        .collect::<Vec<_>>()
        .split(|c| !c.is_ascii_hexdigit())
        .map(|word| word.iter().collect::<String>())
        .max_by_key(String::len)
        .unwrap();
    assert_eq!(secret.len(), 64);
    let log = String::from_utf8(scene.read("log/rtcctl.log")).unwrap();
    let guardian = &scene.status()["guardian"]["pid"];
    for pid in [pid.to_string(), guardian.to_string()] {
        for file in ["cmdline", "environ"] {
            let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
            assert!(!String::from_utf8_lossy(&bytes).contains(&secret), "{file}");
        }
    }
    assert!(!log.contains(&secret));
}

#[test]
fn the_page_health_and_ice_list_are_served_and_plain_http_is_redirected() {
    let scene = Scene::started();
    let curl = |args: &[&str]| {
        let ca = scene.home.join("certs/ca.pem");
        let output = Command::new("curl").args(["-sS", "--cacert"]).arg(ca).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let base = format!("https://127.0.0.1:{}", scene.web);
    assert_eq!(curl(&[&format!("{base}/healthz")]), "{\"state\":\"ready\"}");
    let ice: Value = serde_json::from_str(&curl(&[&format!("{base}/api/ice")])).unwrap();
    assert_eq!(ice["iceServers"][1]["urls"][0], format!("turn:127.0.0.1:{}?transport=udp", scene.turn));
    assert!(curl(&["--http1.1", &base]).contains("<title>rtcctl</title>"));
    let head = curl(&["-I", &format!("http://127.0.0.1:{}/x?y=1", scene.http)]);
    assert!(head.contains("308") && head.contains(&format!("location: {base}/x?y=1")), "{head}");
    assert!(curl(&[&format!("http://127.0.0.1:{}/ca.crt", scene.http)]).contains("BEGIN CERTIFICATE"));
    // A connection that is open does not hold up a stop.
    let _idle = TcpStream::connect(("127.0.0.1", scene.web)).unwrap();
    expect(&scene.run(&["stop"]), 0);
}
