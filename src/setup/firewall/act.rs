//! Carries changes out.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use super::change::Change;
use crate::error::{Failure, Kind, Result};
use crate::sys::exec::{Told, ask, ask_alone};
use crate::sys::fs::write_atomic;
use crate::sys::lock::{Lock, Refused};
use crate::text;
use crate::words::Text;

/// How long one command may take; firewalld on a small machine needs seconds.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);
/// The largest ruleset that is read: sets of addresses can be long.
const MAX_OUTPUT: usize = 64 << 20;
/// What `firewall-cmd` says when a thing is as wanted already.
const ALREADY: [i32; 2] = [11, 12];

/// Held by a command that changes rules for as long as it works, also where the run that has started it was killed. The
/// next run must not look at rules before that.
const AT_WORK: &str = "/run/rtcctl-firewall.command";

/// Asks a tool and gives its answer.
///
/// # Errors
/// If it cannot be run.
pub(super) fn tool(words: &[&str]) -> Result<Told> {
    Lock::wait_until_free(Path::new(AT_WORK), COMMAND_WITHIN);
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    ask(&words, COMMAND_WITHIN, MAX_OUTPUT).map_err(|error| cannot_run(&words, error))
}

/// Has a tool change rules.
fn change_by(words: &[String]) -> Result<Told> {
    let path = Path::new(AT_WORK);
    Lock::wait_until_free(path, COMMAND_WITHIN);
    let lock = Lock::take(path).map_err(|refused| match refused {
        Refused::Held(_) => {
            Failure::new(Kind::Locked, text!("a command of a run that was killed still changes the firewall"))
                .hinted(text!("wait for its end, then try again"))
        }
        Refused::Io(error) => Failure::operator(text!("cannot lock `{}`", AT_WORK)).caused_by(error),
    })?;
    ask_alone(words, &lock, COMMAND_WITHIN, MAX_OUTPUT).map_err(|error| cannot_run(words, error))
}

fn cannot_run(words: &[String], error: std::io::Error) -> Failure {
    Failure::operator(text!("cannot run `{}`", words.join(" "))).caused_by(error)
}

/// As [`tool`], where only success is an answer.
///
/// # Errors
/// If it fails.
pub(super) fn answer(words: &[&str]) -> Result<String> {
    let told = tool(words)?;
    if told.status.success() {
        return Ok(told.output);
    }
    let mut failure = Failure::operator(text!("`{}` failed", words.join(" ")));
    let said = format!("{}\n{}", told.complaints, told.output);
    failure = failure.because(Text::verbatim(said.trim().lines().take(3).collect::<Vec<_>>().join(" ")));
    if said.contains("not permitted") || said.contains("Permission denied") {
        failure =
            failure.hinted(text!("a firewall can be read and changed by root only; in a container it is the host's"));
    }
    Err(failure)
}

/// Does one change.
///
/// # Errors
/// What the tool says.
pub fn carry_out(change: &Change) -> Result<()> {
    match change {
        Change::Run(words) => {
            let told = change_by(words)?;
            let is_firewalld = words.first().is_some_and(|name| name == "firewall-cmd");
            let is_as_wanted = is_firewalld && told.status.code().is_some_and(|code| ALREADY.contains(&code));
            if told.status.success() || is_as_wanted {
                return Ok(());
            }
            let said = format!("{}\n{}", told.complaints, told.output);
            Err(Failure::operator(text!("`{}` failed", change))
                .because(Text::verbatim(said.trim().lines().take(3).collect::<Vec<_>>().join(" "))))
        }
        Change::Write { path, text, mode } => {
            let kept = std::fs::metadata(path).map(|metadata| metadata.permissions().mode() & 0o777);
            write_atomic(path, text.as_bytes(), kept.unwrap_or(*mode))
        }
        Change::Remove { path } => remove(path),
    }
}

/// Removes what a run that was killed has left of its writing `name` in `folder`.
pub(super) fn sweep(folder: &Path, name: &str) {
    let is_draft = |found: &str| found.starts_with(&format!(".{name}.")) && found.ends_with(".new");
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_draft) {
            // What stays is found again by the next run.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

pub(super) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Failure::operator(text!("cannot remove `{}`", path.display())).caused_by(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
