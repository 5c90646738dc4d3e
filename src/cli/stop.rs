//! `rtcctl stop` and `rtcctl restart`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args as ClapArgs;
use serde_json::json;

use super::start::{daemon_pid, restart_by_guardian, restart_by_unit, start};
use super::upgrade::renew_guardian;
use super::{Frame, service};
use crate::config;
use crate::control::client::ask;
use crate::control::protocol::{Request, SCHEMA_VERSION};
use crate::daemon::{ANSWERED_WITHIN, STOPPED_WITHIN};
use crate::error::{Failure, Kind, Result};
use crate::guardian::{self, Report};
use crate::home::Home;
use crate::supervisor::service::TaskName;
use crate::sys::lock::Lock;
use crate::sys::process::{self, Watched};
use crate::text;
use crate::words::Text;

/// How long a daemon may take to take the wish to stop.
const HEARD_WITHIN: Duration = Duration::from_secs(5);
/// How long init may take to take note of a process that has ended.
const NOTED_WITHIN: Duration = Duration::from_secs(3);
/// How long a guardian may take to end once its daemon has.
const GUARDIAN_ENDS_WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked whether something is left.
const ROUNDS: usize = 4;
/// How long the kernel may take to end a process that was killed.
const KILLED_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Only this task of the running service: certs, turn, signaling or web
    #[arg(value_name = "TASK", value_parser = super::task)]
    task: Option<TaskName>,
}

pub(super) fn run(frame: &Frame, args: &Args) -> Result<ExitCode> {
    if let Some(task) = args.task {
        ask(&frame.home, &Request::Stop { task: Some(task) }, ANSWERED_WITHIN)?;
        return done(frame, "stopped", text!("{} is stopped", task));
    }
    match stop(frame)? {
        Stopped::Daemon(daemon) => {
            daemon.linger(NOTED_WITHIN);
            done(frame, "stopped", text!("rtcctl is stopped (it was pid {})", daemon.pid()))
        }
        Stopped::GuardianAlone => done(frame, "stopped", text!("rtcctl is stopped (its daemon was down)")),
        Stopped::Nothing => done(frame, "stopped", text!("rtcctl was not running")),
    }
}

pub(super) fn restart(frame: &Frame, args: &Args) -> Result<ExitCode> {
    if let Some(task) = args.task {
        ask(&frame.home, &Request::Restart { task }, ANSWERED_WITHIN)?;
        return done(frame, "ready", text!("{} is ready again", task));
    }
    // A configuration that would not start must not end a service that runs.
    config::load(&frame.home)?;
    if service::is_a_unit(&frame.home) {
        if guardian::holder(&frame.home).is_some() {
            // It was started before there was a unit.
            stop(frame)?;
        }
        return restart_by_unit(frame);
    }
    let report = guardian::report(&frame.home).ok();
    // It holds the sockets meanwhile, so nobody is refused. But it keeps the manner that it was started with.
    if let Some(report) = report.as_ref().filter(|report| frame.verbose == 0 && is_of_this_program(frame, report)) {
        return restart_by_guardian(frame, report);
    }
    // What restarts without a bound goes on so.
    let endurance = report.is_some_and(|report| report.endurance);
    stop(frame)?;
    start(frame, endurance)
}

/// Whether the guardian is this program, or has become so: one that was replaced on the disk gives way to this one.
fn is_of_this_program(frame: &Frame, report: &Report) -> bool {
    let own = process::own_program();
    process::is_this_program(report.pid)
        || report.daemon.is_some()
            && process::program_of(report.pid).as_ref() == Some(&own)
            && renew_guardian(frame, &own).is_ok()
}

fn done(frame: &Frame, state: &str, text: Text) -> Result<ExitCode> {
    if frame.json {
        frame.print_json(&json!({ "schema_version": SCHEMA_VERSION, "state": state }));
    } else {
        frame.say(text);
    }
    Ok(ExitCode::SUCCESS)
}

/// What there was to be stopped.
pub(super) enum Stopped {
    Daemon(Watched),
    /// The daemon had died and waited for its next start.
    GuardianAlone,
    Nothing,
}

/// Stops the daemon and its guardian, and waits until both processes have ended.
pub(super) fn stop(frame: &Frame) -> Result<Stopped> {
    for lock in [frame.home.guardian_lock_file(), frame.home.lock_file()] {
        Lock::is_within_reach(&lock).map_err(|error| {
            let failure = Failure::operator(text!("cannot see by `{}` whether rtcctl runs", lock.display()));
            failure.caused_by(error).hinted(text!("stop it as the user it belongs to, or as root"))
        })?;
    }
    let mut stopped = stop_unit(frame)?;
    // One of them may start the other anew while that one ends.
    for _ in 0..ROUNDS {
        let guardian = watched(guardian::holder, &frame.home);
        let daemon = watched(daemon_pid, &frame.home);
        if guardian.is_none() && daemon.is_none() {
            break;
        }
        end(frame, guardian.as_ref(), daemon.as_ref())?;
        stopped = match (daemon, stopped) {
            (Some(daemon), _) | (None, Stopped::Daemon(daemon)) => Stopped::Daemon(daemon),
            (None, Stopped::GuardianAlone | Stopped::Nothing) => Stopped::GuardianAlone,
        };
    }
    Ok(stopped)
}

/// systemd would start again what ends in another way.
fn stop_unit(frame: &Frame) -> Result<Stopped> {
    if !service::is_a_unit(&frame.home) {
        return Ok(Stopped::Nothing);
    }
    let daemon = watched(daemon_pid, &frame.home);
    service::stop()?;
    Ok(daemon.filter(|daemon| daemon.wait(Duration::ZERO)).map_or(Stopped::Nothing, Stopped::Daemon))
}

/// The process that `holder` finds, unless it ends meanwhile.
fn watched(holder: impl Fn(&Home) -> Option<u32>, home: &Home) -> Option<Watched> {
    let pid = holder(home)?;
    let process = Watched::new(pid).ok()?;
    (holder(home) == Some(pid)).then_some(process)
}

fn end(frame: &Frame, guardian: Option<&Watched>, daemon: Option<&Watched>) -> Result<()> {
    let is_heard = guardian.is_some() && guardian::stop(&frame.home).is_ok();
    if let Some(guardian) = guardian.filter(|_| !is_heard) {
        // Should it wake up later, this is the first thing it hears.
        let _ = guardian.terminate();
    }
    if let Some(daemon) = daemon {
        let asked = is_heard || ask(&frame.home, &Request::Stop { task: None }, HEARD_WITHIN).is_ok();
        // On its way in or out, or out of reach: a signal says the same.
        let is_told = asked || daemon.terminate().is_ok();
        if !is_told || !daemon.wait(STOPPED_WITHIN) {
            kill(frame, &text!("daemon"), daemon)?;
        }
    }
    if let Some(guardian) = guardian
        && !guardian.wait(if is_heard { GUARDIAN_ENDS_WITHIN } else { Duration::ZERO })
    {
        kill(frame, &text!("guardian"), guardian)?;
    }
    Ok(())
}

fn kill(frame: &Frame, what: &Text, process: &Watched) -> Result<()> {
    let pid = process.pid();
    frame.say(text!("warning: the {} (pid {}) does not end by itself; killing it", what, pid));
    let kill = process.kill().map_err(|error| {
        let failure = Failure::operator(text!("cannot kill the {} (pid {})", what, pid)).caused_by(error);
        failure.hinted(text!("stop it as the user it belongs to, or as root"))
    });
    kill?;
    if process.wait(KILLED_WITHIN) {
        return Ok(());
    }
    Err(Failure::new(Kind::Operator, text!("the {} (pid {}) does not end, not even by SIGKILL", what, pid))
        .hinted(text!("it waits inside the kernel, most often for a disk; see `dmesg`")))
}
