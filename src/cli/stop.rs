//! `rtcctl stop` and `rtcctl restart`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args as ClapArgs;
use serde_json::json;

use super::Frame;
use super::start::{daemon_pid, start};
use crate::config;
use crate::control::client::ask;
use crate::control::protocol::{Request, SCHEMA_VERSION};
use crate::daemon::{ANSWERED_WITHIN, STOPPED_WITHIN};
use crate::error::{Failure, Kind, Result};
use crate::supervisor::service::TaskName;
use crate::sys::process::Watched;

/// How long a daemon may take to take the wish to stop.
const HEARD_WITHIN: Duration = Duration::from_secs(5);
/// How long init may take to take note of a process that has ended.
const NOTED_WITHIN: Duration = Duration::from_secs(3);
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
        return done(frame, "stopped", &format!("{task} is stopped"));
    }
    match stop(frame)? {
        Some(daemon) => {
            daemon.linger(NOTED_WITHIN);
            done(frame, "stopped", &format!("rtcctl is stopped (it was pid {})", daemon.pid()))
        }
        None => done(frame, "stopped", "rtcctl was not running"),
    }
}

pub(super) fn restart(frame: &Frame, args: &Args) -> Result<ExitCode> {
    if let Some(task) = args.task {
        ask(&frame.home, &Request::Restart { task }, ANSWERED_WITHIN)?;
        return done(frame, "ready", &format!("{task} is ready again"));
    }
    // A configuration that would not start must not end a service that runs.
    config::load(&frame.home)?;
    stop(frame)?;
    start(frame, false)
}

fn done(frame: &Frame, state: &str, text: &str) -> Result<ExitCode> {
    if frame.json {
        frame.print_json(&json!({ "schema_version": SCHEMA_VERSION, "state": state }));
    } else {
        frame.say(text);
    }
    Ok(ExitCode::SUCCESS)
}

/// Stops the daemon and waits until its process has ended. Gives the process that was stopped, if there was one.
fn stop(frame: &Frame) -> Result<Option<Watched>> {
    let Some(pid) = daemon_pid(&frame.home) else { return Ok(None) };
    // It may end between the two looks.
    let Ok(daemon) = Watched::new(pid) else { return Ok(None) };
    if daemon_pid(&frame.home) != Some(pid) {
        return Ok(None);
    }
    let asked = ask(&frame.home, &Request::Stop { task: None }, HEARD_WITHIN);
    let has_ended = match asked {
        Ok(_) => daemon.wait(STOPPED_WITHIN),
        // On its way in or out, or out of reach: a signal says the same.
        Err(_) => daemon.terminate().is_ok() && daemon.wait(STOPPED_WITHIN),
    };
    if has_ended {
        return Ok(Some(daemon));
    }
    frame.say(&format!("warning: the daemon (pid {pid}) does not end by itself; killing it"));
    let kill = daemon.kill().map_err(|error| {
        let failure = Failure::operator(format!("cannot kill the daemon (pid {pid})")).caused_by(error);
        failure.hinted("stop it as the user it belongs to, or as root")
    });
    kill?;
    if daemon.wait(KILLED_WITHIN) {
        return Ok(Some(daemon));
    }
    Err(Failure::new(Kind::Operator, format!("the daemon (pid {pid}) does not end, not even by SIGKILL"))
        .hinted("it waits inside the kernel, most often for a disk; see `dmesg`"))
}
