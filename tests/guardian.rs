//! The guardian with real processes: whatever is killed, stopped or deleted comes back, and nobody is refused meanwhile.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start programs, spoil files and measure")]

mod common;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/knocker.rs"]
mod knocker;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/service.rs"]
mod service;

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{has_program, npm_ci, skip};
use knocker::Knocker;
use rtcctl::control::client::ask;
use rtcctl::control::protocol::Request;
use rtcctl::sys::process::Watched;
use serde_json::Value;
use service::Service;

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// Waits until `look` finds something.
fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look)
}

fn within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not happen");
        thread::park_timeout(Duration::from_millis(20));
    }
}

fn number(document: &Value) -> u32 {
    u32::try_from(document.as_u64().unwrap()).unwrap()
}

fn daemon(service: &Service) -> u32 {
    number(&service.status()["pid"])
}

fn guardian(service: &Service) -> u32 {
    number(&service.status()["guardian"]["pid"])
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap().success());
}

/// Ends a process without a word and waits until it is gone.
fn kill(pid: u32) {
    let process = Watched::new(pid).unwrap();
    process.kill().unwrap();
    assert!(process.wait(PATIENCE));
}

/// Whether nothing runs under this number any more, whoever has to take note of it.
fn is_gone(pid: u32) -> bool {
    let left = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    left.is_empty() || left.rsplit_once(')').unwrap().1.starts_with(" Z")
}

/// The page, or why it was not to be had. A connection that waits in a listener without a daemon waits here.
fn page(service: &Service) -> Result<(), String> {
    let output = Command::new("curl")
        .args(["-sS", "--fail", "--max-time", "30", "--noproxy", "*", "-o", "/dev/null", "--cacert"])
        .arg(service.ca_file())
        .arg(service.url())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or(told)
}

fn log(service: &Service) -> String {
    std::fs::read_to_string(service.home().join("log/rtcctl.log")).unwrap()
}

/// Knocks at every TCP port of the service.
fn knocker(service: &Service) -> Knocker {
    Knocker::at(&[service.web_port, service.http_port, service.turn_port])
}

/// A configuration that passes and keeps a daemon from starting, as long as the listener is there.
fn with_taken_port(config: &str) -> (TcpListener, String) {
    let thief = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = thief.local_addr().unwrap().port().to_string();
    (thief, rtcctl::config::set_value(config, "web.port", &port).unwrap())
}

/// What nobody has asked the service to take up must not keep it away at three in the morning.
#[test]
fn an_edit_that_does_not_pass_keeps_no_killed_daemon_from_coming_back() {
    let service = Service::start(&[]);
    let (config, secrets) = (service.home().join("config.yaml"), service.home().join("secrets.yaml"));
    let good = std::fs::read_to_string(&config).unwrap();
    let comes_back = |why: &str| {
        let pid = daemon(&service);
        kill(pid);
        page(&service).unwrap();
        until(why, || (service.status()["state"] != "starting").then_some(()));
        assert_ne!(daemon(&service), pid);
    };
    let told = || {
        let told = until("it is told", || {
            let status = service.status();
            let findings = status["findings"].as_array()?.clone();
            findings.into_iter().find(|finding| finding["code"] == "config-not-applied")
        });
        assert_eq!(told["severity"], "warning", "{told}");
        told["evidence"].to_string()
    };
    std::fs::write(&config, format!("{good}turn: {{port: 99999}}\nnonsense: 1\n")).unwrap();
    comes_back("after an edit");
    assert!(told().contains("config.yaml"));
    // What a daemon had from the one before is there for the next one, too, and a new guardian is told of it.
    kill(guardian(&service));
    until("another guardian", || service.status()["guardian"]["pid"].is_number().then_some(()));
    std::fs::remove_file(&config).unwrap();
    comes_back("after a deletion");
    std::fs::write(&config, &good).unwrap();
    std::fs::write(&secrets, "turn_secret: [").unwrap();
    comes_back("after an edit of the secrets");
    let log = log(&service);
    let refusals = log.lines().filter(|line| line.contains("the one before stays in force")).count();
    assert_eq!(refusals, 3, "{log}");
    // An operator who starts it by hand hears of it, and what ran goes on.
    let restart = service.command(&["restart"]).output().unwrap();
    assert_eq!(restart.status.code(), Some(78), "{restart:?}");
    page(&service).unwrap();
}

#[test]
fn what_a_reload_took_up_is_what_the_next_daemon_falls_back_to() {
    let service = Service::start(&[]);
    let config = service.home().join("config.yaml");
    let first = std::fs::read_to_string(&config).unwrap();
    let second = rtcctl::config::set_value(&first, "turn.user_quota", "7").unwrap();
    std::fs::write(&config, &second).unwrap();
    service.run(&["reload"]);
    std::fs::write(&config, "nonsense").unwrap();
    kill(daemon(&service));
    page(&service).unwrap();
    std::fs::write(&config, &second).unwrap();
    assert_eq!(service.status()["pending"], Value::Null, "this is in force");
    std::fs::write(&config, &first).unwrap();
    assert_eq!(service.status()["pending"]["keys"], serde_json::json!(["turn.user_quota"]));
}

#[test]
fn a_killed_daemon_answers_again_within_a_second_and_nobody_is_refused() {
    let service = Service::start_by(&[], &["start", "--endurance"]);
    page(&service).unwrap();
    let knocker = knocker(&service);
    let watching = guardian(&service);
    let descriptors = || std::fs::read_dir(format!("/proc/{watching}/fd")).unwrap().count();
    let held = descriptors();
    let mut pid = daemon(&service);
    let mut times: Vec<Duration> = (0..20)
        .map(|_| {
            let killed_at = Instant::now();
            kill(pid);
            page(&service).unwrap();
            let time = killed_at.elapsed();
            let next = daemon(&service);
            assert_ne!(next, pid);
            pid = next;
            // The next one is to meet a daemon that had come to rest.
            until("ready again", || (service.status()["state"] == "ready").then_some(()));
            time
        })
        .collect();
    let knocks = knocker.end();
    assert_eq!(guardian(&service), watching);
    // Whoever asks it has a connection for a moment.
    until("the guardian keeps nothing of the dead", || (descriptors() <= held).then_some(()));
    times.sort_unstable();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "HTTPS after kill -9: median {median:?}, longest {longest:?} of {}; {knocks} knocks, none refused",
        times.len()
    );
    assert!(median < Duration::from_secs(1), "{times:?}");
    let status = service.status();
    assert_eq!(status["guardian"]["restarts"], 20, "{status}");
    assert_eq!(status["guardian"]["last_death"]["cause"], "killed by SIGKILL");
    assert_eq!(status["guardian"]["endurance"], true);
    let events = std::fs::read_to_string(service.home().join("state/events.jsonl")).unwrap();
    let deaths =
        events.lines().filter(|line| line.contains("\"guardian\"") && line.contains("killed by SIGKILL")).count();
    assert_eq!(deaths, 20, "{events}");
}

#[test]
fn however_many_sockets_there_are_all_of_them_outlive_the_daemon() {
    // As on a host of two hundred cores.
    let service = Service::start(&[("turn.workers", "200"), ("turn.bind", "[127.0.0.1, 127.0.0.2, 127.0.0.3]")]);
    let held = || std::fs::read_dir(format!("/proc/{}/fd", guardian(&service))).unwrap().count();
    until("the guardian holds all of them", || (held() > 600).then_some(()));
    let knocker = knocker(&service);
    kill(daemon(&service));
    page(&service).unwrap();
    assert!(knocker.end() > 0);
    let log = log(&service);
    let told = log.lines().find_map(|line| line.split("started the daemon again").nth(1)).unwrap();
    let sockets: usize = told.rsplit("with ").next().unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(sockets > 600, "{told}");
    assert!(!log.contains("has no room"), "{log}");
}

#[test]
fn a_restart_of_everything_refuses_nobody() {
    let service = Service::start(&[]);
    let watching = guardian(&service);
    let knocker = knocker(&service);
    let mut pid = daemon(&service);
    let home = rtcctl::home::Home::under(&service.home());
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let asking = thread::spawn(move || {
        let mut answers = 0;
        while !over.load(Ordering::Relaxed) {
            answers += usize::from(ask(&home, &Request::Status, Duration::from_secs(1)).is_ok());
        }
        answers
    });
    for _ in 0..3 {
        service.run(&["restart"]);
        let next = daemon(&service);
        assert_ne!(next, pid);
        pid = next;
        page(&service).unwrap();
    }
    let knocks = knocker.end();
    is_over.store(true, Ordering::Relaxed);
    assert!(asking.join().unwrap() > 0);
    let events = std::fs::read_to_string(service.home().join("state/events.jsonl")).unwrap();
    assert!(!events.contains("task-stopped"), "a task that was not started yet was taken for a stopped one\n{events}");
    let status = service.status();
    assert_eq!(number(&status["guardian"]["pid"]), watching, "the guardian goes on");
    assert_eq!((&status["guardian"]["restarts"], &status["guardian"]["last_death"]), (&Value::from(0), &Value::Null));
    println!("3 restarts: {knocks} knocks, none refused");
    // A daemon that does not listen to anybody is ended all the same.
    signal(pid, "STOP");
    service.run(&["restart"]);
    assert!(is_gone(pid));
    page(&service).unwrap();
    // One that would not start is not ended.
    let (config, pid) = (service.home().join("config.yaml"), daemon(&service));
    std::fs::write(&config, "nonsense: [").unwrap();
    assert_eq!(service.command(&["restart"]).output().unwrap().status.code(), Some(78));
    assert_eq!(daemon(&service), pid);
}

#[test]
fn a_killed_guardian_is_replaced_and_the_new_one_holds_every_socket() {
    let service = Service::start(&[]);
    let knocker = knocker(&service);
    let (pid, first) = (daemon(&service), guardian(&service));
    for round in 1..=3 {
        let before = guardian(&service);
        kill(before);
        let told = format!("{round} guardians more");
        until(&told, || {
            (log(&service).matches("a new guardian watches and holds the sockets").count() == round).then_some(())
        });
        assert_ne!(guardian(&service), before);
        assert_eq!(daemon(&service), pid, "the daemon goes on");
        if round < 3 {
            // The second in a row is started after a pause.
            continue;
        }
        // What somebody else says at its door does not count.
        let stranger = rtcctl::sys::notify::Manager::at(service.home().join("notify.sock").as_os_str(), None);
        for name in ["https", "http", "turn", "turn-udp", "control"] {
            stranger.say(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
        }
        stranger.say("STOPPING=1");
    }
    kill(pid);
    page(&service).unwrap();
    assert_ne!(daemon(&service), pid);
    assert!(knocker.end() > 0);
    let status = service.status();
    assert!(status["guardian"]["last_death"]["cause"].as_str().unwrap().starts_with("ended"), "{status}");
    let last = guardian(&service);
    service.run(&["stop"]);
    assert!(is_gone(first) && is_gone(last));
}

#[test]
fn a_daemon_that_hangs_is_written_down_killed_and_started_again() {
    let service = Service::start(&[]);
    let pid = daemon(&service);
    let knocker = knocker(&service);
    signal(pid, "STOP");
    until("the end of the daemon that hangs", || is_gone(pid).then_some(()));
    page(&service).unwrap();
    assert!(knocker.end() > 0);
    let log = log(&service);
    for told in [
        &format!("kills the daemon (pid {pid})"),
        "its supervisor's loop has not turned within 10 s",
        "`supervisor` is stopped by a signal",
        "`edge` is stopped by a signal",
    ] {
        assert!(log.contains(told), "{told} is missing in\n{log}");
    }
    assert!(
        service.status()["guardian"]["last_death"]["cause"].as_str().unwrap().starts_with("killed by its guardian")
    );
}

/// The process lives and answers most of what it is asked, and nobody within it would end it.
#[cfg(feature = "faults")]
#[test]
fn a_daemon_whose_supervisor_alone_hangs_is_killed_and_started_again() {
    let service = Service::start(&[]);
    let pid = daemon(&service);
    service.run(&["fault", "supervisor", "spin"]);
    until("the end of the daemon whose supervisor hangs", || is_gone(pid).then_some(()));
    page(&service).unwrap();
    let log = log(&service);
    assert!(log.contains("its supervisor's loop has not turned within 10 s"), "{log}");
    assert!(log.contains("`supervisor` is running"), "{log}");
}

#[test]
fn a_guardian_that_is_paused_kills_nobody_and_holds_nobody_up() {
    let service = Service::start(&[]);
    let (pid, watching) = (daemon(&service), guardian(&service));
    signal(watching, "STOP");
    let paused_at = Instant::now();
    // More heartbeats than fit into its socket.
    until("a pause longer than the daemon may be silent", || {
        service.run(&["restart", "web"]);
        (paused_at.elapsed() > Duration::from_secs(13)).then_some(())
    });
    let told = service.command(&["status"]).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains(&format!("guardian     pid {watching}, which does not answer")), "{told}");
    signal(watching, "CONT");
    until("the guardian's own words on its pause", || log(&service).contains("was paused itself").then_some(()));
    service.run(&["restart", "web"]);
    assert_eq!((daemon(&service), guardian(&service)), (pid, watching));
    kill(pid);
    page(&service).unwrap();
}

#[test]
fn a_daemon_that_cannot_start_is_told_waited_for_and_started_by_hand() {
    let service = Service::start(&[]);
    let config = service.home().join("config.yaml");
    let good = std::fs::read_to_string(&config).unwrap();
    let (_thief, wants_taken_port) = with_taken_port(&good);
    std::fs::write(&config, wants_taken_port).unwrap();
    kill(daemon(&service));
    let down = until("a wait for the next start", || {
        let output = service.command(&["status", "--json"]).output().unwrap();
        let document: Value = serde_json::from_slice(&output.stdout).ok()?;
        (output.status.code() == Some(11) && document["guardian"]["next_start_s"].is_number()).then_some(document)
    });
    assert_eq!(down["guardian"]["last_death"]["cause"], "ended with exit code 1", "{down}");
    assert!(matches!(down["state"].as_str().unwrap(), "backoff" | "held"), "{down}");
    let told = service.command(&["status"]).output().unwrap();
    assert!(String::from_utf8_lossy(&told.stdout).contains("the daemon is down"), "{told:?}");
    // Nobody else may take its place.
    assert_eq!(service.command(&["start"]).output().unwrap().status.code(), Some(1));
    std::fs::write(&config, &good).unwrap();
    let second = service.command(&["run"]).output().unwrap();
    let refused = String::from_utf8_lossy(&second.stderr).into_owned();
    if service.status()["guardian"]["daemon"].is_null() {
        assert_eq!(second.status.code(), Some(14), "{refused}");
    }
    assert!(log(&service).contains("cannot bind"), "its complaint is in the log: {}", log(&service));
    // Who comes while it is down waits in the listeners that are held.
    let waiting: Vec<TcpStream> =
        (0..300).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, service.web_port)).unwrap()).collect();
    // An order to a task does not wait for a daemon that is not there.
    let ordered_at = Instant::now();
    service.command(&["restart", "web"]).output().unwrap();
    assert!(ordered_at.elapsed() < Duration::from_secs(10));
    service.run(&["start"]);
    page(&service).unwrap();
    assert_eq!(waiting.len(), 300);
    service.run(&["status"]);
}

#[test]
fn what_the_daemon_says_when_it_aborts_goes_to_the_log_that_is_written_now() {
    let service = Service::start(&[]);
    let (pid, path) = (daemon(&service), service.home().join("log/rtcctl.log"));
    let leads_to = || std::fs::read_link(format!("/proc/{pid}/fd/2")).unwrap();
    assert_eq!(leads_to(), path);
    std::fs::rename(&path, service.home().join("log/put-aside")).unwrap();
    signal(pid, "HUP");
    until("the new log", || (path.exists() && leads_to() == path).then_some(()));
}

#[test]
fn a_stop_works_whatever_state_both_are_in() {
    // While the daemon waits for its next start.
    let service = Service::start(&[]);
    let config = service.home().join("config.yaml");
    let good = std::fs::read_to_string(&config).unwrap();
    let (_thief, wants_taken_port) = with_taken_port(&good);
    std::fs::write(&config, wants_taken_port).unwrap();
    let watching = guardian(&service);
    kill(daemon(&service));
    until("a wait for the next start", || {
        let told = service.command(&["status"]).output().unwrap();
        (told.status.code() == Some(11)).then_some(())
    });
    service.run(&["stop"]);
    assert!(is_gone(watching));
    assert_eq!(service.command(&["status"]).output().unwrap().status.code(), Some(3));
    std::fs::write(&config, &good).unwrap();
    // The guardian is paused; the guardian has just been killed; the daemon is paused.
    for case in ["guardian paused", "guardian killed", "daemon paused"] {
        service.run(&["start"]);
        let (pid, watching) = (daemon(&service), guardian(&service));
        match case {
            "guardian paused" => signal(watching, "STOP"),
            "guardian killed" => kill(watching),
            _ => signal(pid, "STOP"),
        }
        let begun_at = Instant::now();
        service.run(&["stop"]);
        assert!(begun_at.elapsed() < Duration::from_secs(20), "{case}: {:?}", begun_at.elapsed());
        assert!(is_gone(pid) && is_gone(watching), "{case}");
        assert_eq!(service.command(&["status"]).output().unwrap().status.code(), Some(3), "{case}");
        for left in ["control.sock", "guardian.sock", "notify.sock"] {
            let is_left = service.home().join(left).exists();
            assert!(!is_left || case != "guardian killed", "{case}: {left}");
        }
    }
}

#[test]
fn what_others_delete_comes_back_and_the_service_stays_within_reach() {
    let service = Service::start(&[]);
    let (pid, watching) = (daemon(&service), guardian(&service));
    for deleted in ["control.sock", "guardian.sock", "notify.sock"] {
        std::fs::remove_file(service.home().join(deleted)).unwrap();
    }
    std::fs::remove_dir_all(service.home().join("state")).unwrap();
    let told = until("a status with both", || {
        let output = service.command(&["status", "--json"]).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).ok().filter(|status| !status["guardian"].is_null())
    });
    assert_eq!((number(&told["pid"]), number(&told["guardian"]["pid"])), (pid, watching));
    until("the guardian's own words", || log(&service).contains("deleted and are there again").then_some(()));
    // What the next daemon says arrives where the guardian listens now.
    kill(pid);
    until("a daemon that has said that it is ready", || {
        let output = service.command(&["status", "--json"]).output().unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        (status["guardian"]["state"] == "ready" && status["pid"] != pid).then_some(())
    });
    let pid = daemon(&service);
    std::fs::remove_dir_all(service.home().join("state")).unwrap();
    until("the locks", || service.home().join("state/daemon.lock").exists().then_some(()));
    service.run(&["stop"]);
    assert!(is_gone(pid) && is_gone(watching));
}

#[test]
fn a_home_has_one_guardian_and_a_signal_to_either_ends_both() {
    let service = Service::start(&[]);
    let (pid, watching) = (daemon(&service), guardian(&service));
    let second = service.command(&["guardian"]).output().unwrap();
    assert_eq!(second.status.code(), Some(14), "{second:?}");
    assert_eq!((daemon(&service), guardian(&service)), (pid, watching));
    for name in ["cmdline", "comm"] {
        let read = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
        assert!(read(pid).contains("rtcctl") && read(watching).contains("rtcctl"));
    }
    for told in [watching, pid] {
        let (pid, watching) = (daemon(&service), guardian(&service));
        signal(if told == pid { pid } else { watching }, "TERM");
        until("the end of both", || (is_gone(pid) && is_gone(watching)).then_some(()));
        assert_eq!(service.command(&["status"]).output().unwrap().status.code(), Some(3));
        service.run(&["start"]);
    }
}

#[test]
fn the_guardian_is_small() {
    let service = Service::start(&[]);
    let text = std::fs::read_to_string(format!("/proc/{}/status", guardian(&service))).unwrap();
    let kilobytes = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    // Its own memory: pages of the program are shared with the daemon.
    assert!(kilobytes("RssAnon:") < 3 * 1024, "{text}");
    assert_eq!(kilobytes("Threads:"), 1);
}

#[test]
fn sockets_of_a_service_manager_are_taken_by_name_and_address() {
    let service = Service::start(&[]);
    service.run(&["stop"]);
    let https = TcpListener::bind((Ipv4Addr::UNSPECIFIED, service.web_port)).unwrap();
    let strange = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    for socket in [&https, &strange] {
        nix::fcntl::fcntl(socket, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    }
    // As systemd does it: numbers in a row, and the number of the process that is to take them.
    let script = format!(
        "exec 3<&{} 4<&{}; LISTEN_FDS=2 LISTEN_FDNAMES=https:https LISTEN_PID=$$ exec \"$0\" --home \"$1\" run",
        https.as_raw_fd(),
        strange.as_raw_fd()
    );
    let mut child = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_rtcctl")])
        .arg(service.home())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains(" ready url=")), "it says when it is ready");
    drop(strange);
    page(&service).unwrap();
    let environment = std::fs::read(format!("/proc/{}/environ", child.id())).unwrap();
    assert!(!environment.is_empty());
    // The listener is the one that was handed over: it outlives the service.
    signal(child.id(), "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, service.web_port)).is_ok());
}

#[test]
fn signaling_clients_are_back_in_their_room_within_five_seconds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/signaling");
    if !has_program("node") || !has_program("npm") || !npm_ci(&folder) {
        return skip("Socket.IO clients need Node.js");
    }
    let service = Service::start_by(&[], &["start", "--endurance"]);
    for version in ["2", "3", "4"] {
        let mut client = Command::new("node")
            .arg(folder.join("comeback.js"))
            .args([&service.url(), version, "2"])
            .env("NODE_EXTRA_CA_CERTS", service.ca_file())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(client.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert_eq!(lines.next().as_deref(), Some("in"), "version {version}");
        for _ in 0..2 {
            kill(daemon(&service));
            let told = lines.next().unwrap_or_default();
            println!("version {version}: {told} ms");
            let milliseconds: u64 = told.strip_prefix("back ").unwrap_or_else(|| panic!("{told}")).parse().unwrap();
            assert!(milliseconds < 5000, "{told}");
        }
        let mut rest = String::new();
        lines.by_ref().for_each(|line| rest.push_str(&line));
        assert!(client.wait().unwrap().success(), "{rest}");
    }
}
