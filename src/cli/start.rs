//! `rtcctl start` and `rtcctl run`: the service in the background and in the foreground.

use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, chown};
use std::path::Path;
use std::process::{Child, ChildStdout, ExitCode};
use std::time::Duration;

use clap::Args as ClapArgs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;

use super::{Frame, service};
use crate::config;
use crate::control::client::ask;
use crate::control::protocol::{Outcome, Request, Response, SCHEMA_VERSION};
use crate::daemon::{self, ANSWERED_WITHIN, Mode, STOPPED_WITHIN};
use crate::error::{Failure, Kind, Result};
use crate::guardian::{self, Manner, Occasion, Report, command_line};
use crate::home::Home;
use crate::setup::boot;
use crate::supervisor::board::State;
use crate::supervisor::service::TaskName;
use crate::sys::fs::create_private_dir;
use crate::sys::lock::Lock;
use crate::sys::memory;
use crate::sys::process::spawn_self;
use crate::sys::sandbox;
use crate::text;
use crate::words::Text;
use crate::words::carry;

/// How long a new daemon may take to say what became of it.
const STARTED_WITHIN: Duration = Duration::from_secs(60);
/// How long another `start` may need until its daemon answers.
const OTHER_STARTS_WITHIN: Duration = Duration::from_secs(2);
/// Log lines that are shown when something did not start, and the bytes they may have.
const SHOWN_LINES: usize = 10;
const SHOWN_BYTES: u64 = 8 * 1024;

/// Starts the service, or one task of it. Returns when everything is ready, or says what is not.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Start this task of the running service: certs, turn, signaling or web
    #[arg(value_name = "TASK", value_parser = super::task)]
    task: Option<TaskName>,
    /// Stay in the foreground, as `rtcctl run`
    #[arg(long, conflicts_with = "task")]
    foreground: bool,
    /// For endurance tests: restart what fails at once and without a bound
    #[arg(long, conflicts_with = "task")]
    endurance: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct RunArgs {
    /// Log to the home's file, as a service manager asks that starts it with the machine
    #[arg(long, hide = true, conflicts_with = "guarded")]
    service: bool,
    /// Log to the home's file, and start another guardian when this one dies
    #[arg(long, hide = true)]
    guarded: bool,
    /// For endurance tests: restart what fails at once and without a bound
    #[arg(long)]
    endurance: bool,
}

/// Keeps the daemon alive.
#[derive(Debug, ClapArgs)]
pub(super) struct GuardianArgs {
    /// Take over this running daemon, which has started this guardian
    #[arg(long, value_name = "PID")]
    adopt: Option<u32>,
    /// For endurance tests: restart what fails at once and without a bound
    #[arg(long)]
    endurance: bool,
}

pub(super) fn run_in_foreground(frame: &Frame, args: &RunArgs) -> Result<ExitCode> {
    memory::share_free_blocks();
    confine(frame)?;
    let mode = match (args.guarded, args.service) {
        (true, _) => Mode::Guarded,
        (false, true) => Mode::Service,
        (false, false) => Mode::Foreground,
    };
    daemon::run(&frame.home, mode, manner(frame, args.endurance))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn guard(frame: &Frame, args: &GuardianArgs) -> Result<ExitCode> {
    confine(frame)?;
    let occasion = args.adopt.map_or(Occasion::Start, Occasion::Adoption);
    Ok(guardian::run(&frame.home, manner(frame, args.endurance), occasion)?.into())
}

/// The home of a service with a user of its own is that user's: root becomes it, and this process can write nowhere else.
/// There is no second thread yet.
fn confine(frame: &Frame) -> Result<()> {
    let home = &frame.home;
    let Some((user, group)) = service::user_of(home) else { return Ok(()) };
    let failed = |error| Failure::operator(text!("cannot give up the privileges of root")).caused_by(error);
    if nix::unistd::geteuid().is_root() {
        create_private_dir(home.run_dir())?;
        chown(home.run_dir(), Some(user), Some(group)).map_err(failed)?;
        boot::owners::hand_over(home)?;
        sandbox::become_user(user, group).map_err(failed)?;
    }
    if std::env::var_os(sandbox::MARK).is_none() {
        let fixed = ["/dev", "/tmp", "/var/tmp"].map(Path::new);
        let own = [home.state_dir(), home.log_dir(), home.run_dir()];
        let folders: Vec<&Path> = own.into_iter().chain(fixed).collect();
        sandbox::write_only_below(&folders).map_err(failed)?;
    }
    Ok(())
}

fn manner(frame: &Frame, endurance: bool) -> Manner {
    Manner { verbose: frame.verbose, endurance }
}

pub(super) fn run(frame: &Frame, args: &Args) -> Result<ExitCode> {
    super::firewall::catch_up_quietly(frame);
    if args.foreground {
        return run_in_foreground(frame, &RunArgs { service: false, guarded: false, endurance: args.endurance });
    }
    if let Some(task) = args.task {
        ask(&frame.home, &Request::Start { task }, ANSWERED_WITHIN)?;
        return say_done(frame, text!("{} is ready", task));
    }
    start(frame, args.endurance)
}

/// Starts the daemon in the background, unless it runs.
pub(super) fn start(frame: &Frame, endurance: bool) -> Result<ExitCode> {
    if let Some(pid) = Lock::holder(&frame.home.lock_file()) {
        // One that its guardian is just starting is waited for, like one that waits for its start.
        if !guardian::report(&frame.home).is_ok_and(|report| report.state == State::Starting) {
            return already_running(frame, pid);
        }
    }
    // What can be complained about is told by this command itself, before there is a daemon.
    config::load(&frame.home)?;
    if service::is_a_unit(&frame.home) {
        return settled(frame, || service::start(frame));
    }
    create_private_dir(frame.home.log_dir())?;
    let log = frame.home.log_file();
    let complaints = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&log);
    let complaints =
        complaints.map_err(|error| Failure::operator(text!("cannot write `{}`", log.display())).caused_by(error))?;
    let begin = complaints.metadata().map_or(0, |data| data.len());
    if guardian::holder(&frame.home).is_some() {
        return wake(frame);
    }
    let line = command_line(&frame.home, manner(frame, endurance), Occasion::Start);
    let mut child = spawn_self(&line, complaints)
        .map_err(|error| Failure::operator(text!("cannot start the daemon")).caused_by(error))?;
    match hear(&mut child)? {
        Some(Outcome::Ready { pid }) => ready(frame, pid),
        Some(Outcome::Partly { pid, tasks }) => {
            let failure = Failure::new(Kind::TaskDown, text!("rtcctl runs (pid {}), but not all of it is ready", pid));
            let failure =
                tasks.iter().fold(failure, |failure, (task, why)| failure.because(text!("{}: {}", task, why)));
            Err(with_log(failure, &log, begin).hinted(text!(
                "it goes on trying; see `rtcctl{0} status`, or end it by `rtcctl{0} stop`",
                frame.home.flag()
            )))
        }
        Some(Outcome::Failed { failure }) => {
            // It has nothing left to do.
            let _ = child.wait();
            Err(failure)
        }
        None => {
            let failure = Failure::operator(text!("the guardian ended before the daemon was ready"));
            let failure = match child.wait() {
                Ok(status) => failure.because(Text::verbatim(status.to_string())),
                Err(_) => failure,
            };
            Err(with_log(failure, &log, begin))
        }
    }
}

/// The daemon is down, and its guardian waits before it starts it again: there is nothing to wait for any more.
fn wake(frame: &Frame) -> Result<ExitCode> {
    settled(frame, || guardian::start(&frame.home, STARTED_WITHIN))
}

/// Has systemd end the daemon and start it again; it holds the sockets meanwhile.
pub(super) fn restart_by_unit(frame: &Frame) -> Result<ExitCode> {
    settled(frame, || service::restart(frame))
}

/// Has the guardian end the daemon and start it again. A guardian without a daemon starts one.
pub(super) fn restart_by_guardian(frame: &Frame, report: &Report) -> Result<ExitCode> {
    if report.daemon.is_none() {
        return wake(frame);
    }
    settled(frame, || guardian::restart(&frame.home, STOPPED_WITHIN + STARTED_WITHIN))
}

/// Has whoever looks after the daemon `start` it, and tells what became of that.
fn settled(frame: &Frame, start: impl FnOnce() -> Result<u32>) -> Result<ExitCode> {
    let log = frame.home.log_file();
    let begin = std::fs::metadata(&log).map_or(0, |data| data.len());
    let pid = start().map_err(|failure| {
        if failure.kind() != Kind::Operator {
            return failure;
        }
        with_log(failure, &log, begin).hinted(text!(
            "whoever looks after it goes on trying; see `rtcctl{0} status`, or end it by `rtcctl{0} stop`",
            frame.home.flag()
        ))
    })?;
    match ask(&frame.home, &Request::Status, OTHER_STARTS_WITHIN) {
        Ok(Response::Status { status }) if !matches!(status.state, State::Ready | State::Degraded) => {
            let failure = text!("rtcctl runs (pid {}), but not all of it is ready", pid);
            Err(Failure::new(Kind::TaskDown, failure).hinted(text!("see `rtcctl{} status`", frame.home.flag())))
        }
        Ok(_) | Err(_) => ready(frame, pid),
    }
}

fn ready(frame: &Frame, pid: u32) -> Result<ExitCode> {
    if frame.json {
        frame.print_json(&json!({ "schema_version": SCHEMA_VERSION, "state": "ready", "pid": pid }));
    } else {
        frame.say(text!("rtcctl is ready (pid {})", pid));
        frame.say(text!("see `rtcctl{0} status`, stop it by `rtcctl{0} stop`", frame.home.flag()));
    }
    Ok(ExitCode::SUCCESS)
}

fn say_done(frame: &Frame, text: Text) -> Result<ExitCode> {
    if frame.json {
        frame.print_json(&json!({ "schema_version": SCHEMA_VERSION, "done": text }));
    } else {
        frame.say(text);
    }
    Ok(ExitCode::SUCCESS)
}

/// A second start is no failure where the service is ready.
fn already_running(frame: &Frame, pid: u32) -> Result<ExitCode> {
    let locked = |what: Text| {
        Failure::new(Kind::Locked, text!("rtcctl runs already for this home (pid {})", pid))
            .because(what)
            .hinted(text!("see `rtcctl{0} status`, or start anew by `rtcctl{0} restart`", frame.home.flag()))
    };
    match ask(&frame.home, &Request::Status, OTHER_STARTS_WITHIN) {
        Ok(Response::Status { status }) if matches!(status.state, State::Ready | State::Degraded) => {
            let since = super::words::span(status.uptime_s);
            if frame.json {
                let document = json!({ "schema_version": SCHEMA_VERSION, "state": status.state, "pid": pid });
                frame.print_json(&document);
            } else {
                frame.say(text!("rtcctl runs already (pid {}, for {}); nothing was changed", pid, since));
            }
            Ok(ExitCode::SUCCESS)
        }
        Ok(_) => Err(locked(text!("not all of it is ready"))),
        Err(_) => Err(locked(text!("it does not answer yet"))),
    }
}

/// Waits for the daemon's one line. `None`: it ended without a word.
fn hear(child: &mut Child) -> Result<Option<Outcome>> {
    let output: ChildStdout = child.stdout.take().expect("the daemon's output is a pipe");
    let timeout = PollTimeout::try_from(STARTED_WITHIN).unwrap_or(PollTimeout::MAX);
    let mut waiting = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
    if !poll(&mut waiting, timeout).is_ok_and(|ready| ready > 0) {
        let failure = text!("the daemon (pid {}) has said nothing for {} s", child.id(), STARTED_WITHIN.as_secs());
        return Err(Failure::new(Kind::TaskDown, failure).hinted(text!("end it by `rtcctl stop`")));
    }
    let mut line = String::new();
    let heard = BufReader::new(output).read_line(&mut line);
    heard.map_err(|error| Failure::operator(text!("cannot hear the daemon")).caused_by(error))?;
    Ok(carry::from_line(line.as_bytes()).ok())
}

/// Adds what the log says since `begin`.
fn with_log(failure: Failure, log: &Path, begin: u64) -> Failure {
    let read = || {
        let mut file = std::fs::File::open(log).ok()?;
        let begin = begin.max(file.metadata().ok()?.len().saturating_sub(SHOWN_BYTES));
        file.seek(SeekFrom::Start(begin)).ok()?;
        let mut bytes = Vec::new();
        file.take(SHOWN_BYTES).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
    if shown.is_empty() {
        return failure;
    }
    failure.because(text!("the end of `{}`:\n  {}", log.display(), shown.join("\n  ")))
}

/// Where a home's daemon is, if it runs.
pub(super) fn daemon_pid(home: &Home) -> Option<u32> {
    Lock::holder(&home.lock_file())
}
