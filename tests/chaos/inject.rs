//! Carries faults out: plants them, kills processes, fills disks, edits files. Each returns once it has had its effect.

use std::io::{ErrorKind, Write as _};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rtcctl::control::client::ask;
use rtcctl::control::protocol::{Finding, Request, Response, Severity, Status};
use rtcctl::guardian;
use rtcctl::home::Home;
use rtcctl::supervisor::board::State;
use rtcctl::supervisor::faults::{Kind, Place};
use rtcctl::supervisor::service::TaskName;

use crate::now;
use crate::plan::{BLOCKED_FOR, Fault, LASTS, PAUSED_FOR, STARVES_FOR, Step};
use crate::service::Service;

/// How long a fault may take to have its effect.
const EFFECT_WITHIN: Duration = Duration::from_secs(120);
/// How far the clock jumps.
const TWO_HOURS: i64 = 7200;

/// The service that all this is done to.
pub(crate) struct Victim {
    pub(crate) service: Service,
    pub(crate) home: Home,
}

impl Victim {
    pub(crate) fn new(service: Service) -> Self {
        let home = Home::under(&service.home());
        Self { service, home }
    }

    /// `None`: nobody answers just now.
    pub(crate) fn status(&self) -> Option<Status> {
        match ask(&self.home, &Request::Status, Duration::from_secs(2)) {
            Ok(Response::Status { status }) => Some(*status),
            Ok(_) | Err(_) => None,
        }
    }

    /// Waits until everything is ready under a guardian.
    pub(crate) fn until_ready(&self, what: &str) {
        let end = now() + EFFECT_WITHIN;
        loop {
            let is_guarded = guardian::report(&self.home).is_ok_and(|report| report.state == State::Ready);
            let status = self.status();
            if is_guarded && status.as_ref().is_some_and(is_well) {
                return;
            }
            let told = status.map(|status| (status.state, status.findings));
            let log = || std::fs::read_to_string(self.home.log_file()).unwrap_or_else(|error| error.to_string());
            let last = || log().lines().rev().take(60).map(|line| format!("\n{line}")).collect::<String>();
            assert!(
                now() < end,
                "not ready after {what}; guarded: {is_guarded}, {told:#?}; last lines first:{}",
                last()
            );
            thread::park_timeout(Duration::from_millis(20));
        }
    }

    pub(crate) fn daemon(&self) -> u32 {
        until("an answer of the daemon", || self.status()).pid
    }

    pub(crate) fn guardian(&self) -> u32 {
        until("an answer of the guardian", || guardian::report(&self.home).ok()).pid
    }

    fn until_replaced(&self, pid: u32) {
        until("another daemon", || self.status().filter(|status| status.pid != pid));
    }

    pub(crate) fn suffer(&self, step: &Step) {
        match step.fault {
            Fault::Panic(task) => self.plant(step, task, Kind::Panic),
            Fault::Spin(task) => self.plant(step, task, Kind::Spin),
            Fault::Deadlock(task) => self.plant(step, task, Kind::Deadlock),
            Fault::Block(task) => {
                self.order(&Request::Fault {
                    place: Place::Task(task),
                    kind: Kind::Block { seconds: BLOCKED_FOR.as_secs() },
                });
                pass(BLOCKED_FOR + Duration::from_secs(1));
            }
            Fault::SpinSupervisor => {
                let pid = self.daemon();
                self.order(&Request::Fault { place: Place::Supervisor, kind: Kind::Spin });
                self.until_replaced(pid);
            }
            Fault::KillDaemon => self.kill_daemon(),
            Fault::KillGuardian => {
                let pid = self.guardian();
                send(pid, Signal::SIGKILL);
                until("another guardian", || guardian::report(&self.home).ok().filter(|report| report.pid != pid));
            }
            Fault::PauseDaemon => pause(self.daemon()),
            Fault::PauseGuardian => pause(self.guardian()),
            Fault::FreezeDaemon => {
                let pid = self.daemon();
                send(pid, Signal::SIGSTOP);
                self.until_replaced(pid);
            }
            Fault::Descriptors => self.starve(),
            Fault::DiskFull => self.fill_disk(|| {
                self.service.run(&["restart", "web"]);
            }),
            Fault::DiskFullKill => self.fill_disk(|| self.kill_daemon()),
            Fault::ClockAhead => self.shift_clock(TWO_HOURS),
            Fault::ClockBehind => self.shift_clock(-TWO_HOURS),
            Fault::Thief => self.try_ports(),
            Fault::PortStolen => self.steal_port(),
            Fault::CertificateDamaged => {
                let leaf = self.home.certs_dir().join("leaf.pem");
                rtcctl::sys::fs::write_atomic(&leaf, b"damaged", 0o644).unwrap();
                self.service.run(&["restart", "certs"]);
                assert!(std::fs::read_to_string(&leaf).unwrap().contains("BEGIN CERTIFICATE"), "it was not made anew");
            }
            Fault::ControlDeleted => {
                std::fs::remove_file(self.home.control_socket()).unwrap();
                until("another control socket", || self.status());
            }
            Fault::Reload => self.reload(),
            Fault::ReloadBad => self.reload_bad(),
            Fault::Restart(task) => {
                self.service.run(&["restart", task.as_str()]);
            }
            Fault::RestartAll => {
                self.service.run(&["restart"]);
            }
        }
    }

    fn order(&self, request: &Request) {
        assert_eq!(ask(&self.home, request, Duration::from_secs(35)).unwrap(), Response::Done, "{request:?}");
    }

    /// Waits until the task was replaced, and with it the daemon where that follows.
    fn plant(&self, step: &Step, task: TaskName, kind: Kind) {
        let restarts = |status: &Status| status.tasks.iter().find(|other| other.name == task).unwrap().restarts;
        let before = until("a status", || self.status());
        self.order(&Request::Fault { place: Place::Task(task), kind });
        let is_over = |status: &Status| status.pid != before.pid || restarts(status) > restarts(&before);
        until("a restart", || self.status().filter(&is_over));
        if step.escalates {
            // Unless it was forgiven: five minutes ready are enough for that.
            let end = now() + Duration::from_secs(12);
            while now() < end && self.status().is_none_or(|status| status.pid == before.pid) {
                thread::park_timeout(Duration::from_millis(50));
            }
        }
    }

    fn kill_daemon(&self) {
        let pid = self.daemon();
        send(pid, Signal::SIGKILL);
        self.until_replaced(pid);
    }

    /// Takes the daemon's limit down to what it has open just now.
    fn starve(&self) {
        let pid = self.daemon();
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        let soft = soft.split_whitespace().next().unwrap().to_owned();
        let limit = |soft: &str| {
            let line = [format!("--pid={pid}"), format!("--nofile={soft}:")];
            assert!(Command::new("prlimit").args(line).status().unwrap().success());
        };
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        limit(&open.to_string());
        pass(STARVES_FOR);
        limit(&soft);
    }

    fn fill_disk(&self, meanwhile: impl FnOnce()) {
        let ballast = self.ballast();
        let mut file = std::fs::File::create(&ballast).unwrap();
        let page = [0; 4096];
        let error = std::iter::repeat_with(|| file.write_all(&page)).find_map(Result::err).unwrap();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        let end = now() + LASTS;
        meanwhile();
        pass(end.saturating_duration_since(now()));
        drop(file);
        std::fs::remove_file(&ballast).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.service.home().join("ballast")
    }

    fn shift_clock(&self, seconds: i64) {
        let jump = |seconds| self.order(&Request::Fault { place: Place::Supervisor, kind: Kind::Jump { seconds } });
        jump(seconds);
        pass(LASTS);
        jump(-seconds);
    }

    /// Nobody gets a port of a daemon that is being replaced: the guardian holds them.
    fn try_ports(&self) {
        let tcp = [self.service.web_port, self.service.http_port, self.service.turn_port];
        let udp = self.service.turn_port;
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let thief = scope.spawn(|| {
                let mut tries = 0;
                while !is_over.load(Ordering::Relaxed) {
                    for port in tcp {
                        assert!(
                            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_err(),
                            "TCP port {port} was to be had"
                        );
                    }
                    assert!(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, udp)).is_err(), "UDP port {udp} was to be had");
                    tries += 1;
                    thread::park_timeout(Duration::from_millis(2));
                }
                tries
            });
            self.kill_daemon();
            is_over.store(true, Ordering::Relaxed);
            assert!(thief.join().unwrap() > 0);
        });
    }

    fn steal_port(&self) {
        let (daemon, guardian) = (self.daemon(), self.guardian());
        // So that it cannot start another guardian.
        send(daemon, Signal::SIGSTOP);
        send(guardian, Signal::SIGKILL);
        send(daemon, Signal::SIGKILL);
        let port = self.service.web_port;
        let thief = until("the port to be free", || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).ok());
        let told = self.service.command(&["start", "--endurance"]).output().unwrap();
        let text = String::from_utf8_lossy(&told.stderr).into_owned();
        assert_eq!(told.status.code(), Some(1), "{text}");
        let own = format!("pid {}", std::process::id());
        assert!(text.contains(&port.to_string()) && text.contains(&own), "it does not say who has the port: {text}");
        drop(thief);
        self.service.run(&["start", "--endurance"]);
    }

    /// A quota and the level of the log are other ones than before.
    fn reload(&self) {
        let file = self.home.config_file();
        let text = std::fs::read_to_string(&file).unwrap();
        let (quota, level) = if text.contains("1001") { ("1000", "info") } else { ("1001", "debug") };
        let text = rtcctl::config::set_value(&text, "turn.user_quota", quota).unwrap();
        let text = rtcctl::config::set_value(&text, "log.level", level).unwrap();
        rtcctl::sys::fs::write_atomic(&file, text.as_bytes(), 0o600).unwrap();
        self.service.run(&["reload"]);
    }

    fn reload_bad(&self) {
        let file = self.home.config_file();
        let good = std::fs::read(&file).unwrap();
        rtcctl::sys::fs::write_atomic(&file, b"nonsense: [", 0o600).unwrap();
        assert_eq!(self.service.command(&["reload"]).output().unwrap().status.code(), Some(78));
        rtcctl::sys::fs::write_atomic(&file, &good, 0o600).unwrap();
    }
}

fn pause(pid: u32) {
    send(pid, Signal::SIGSTOP);
    pass(PAUSED_FOR);
    send(pid, Signal::SIGCONT);
}

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// Whether everything serves. An instance that hangs is cut off and cannot be ended, so the status is `degraded` for it
/// until there is another daemon.
fn is_well(status: &Status) -> bool {
    let is_grave = |finding: &Finding| matches!(finding.severity, Severity::Error | Severity::Critical);
    let is_of_another = |finding: &Finding| is_grave(finding) && finding.code != "task-hung";
    status.tasks.iter().all(|task| task.state == State::Ready) && !status.findings.iter().any(is_of_another)
}

/// Lets time pass: what lasts is over then, and not when something happens.
pub(crate) fn pass(span: Duration) {
    let end: Instant = now() + span;
    while now() < end {
        thread::park_timeout(end.saturating_duration_since(now()));
    }
}

/// Waits until `look` finds something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = now() + EFFECT_WITHIN;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(now() < end, "{what}: it did not come within {} s", EFFECT_WITHIN.as_secs());
        thread::park_timeout(Duration::from_millis(20));
    }
}
