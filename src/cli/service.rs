//! The service as systemd runs it, where `init --boot service` has made it one.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use super::Frame;
use super::start::daemon_pid;
use crate::error::{Failure, Result};
use crate::home::Home;
use crate::setup::boot;
use crate::setup::boot::files::UNIT_NAME;
use crate::sys::exec::{self, Told};
use crate::text;
use crate::words::Text;
pub(super) use boot::facts::is_a_unit;

/// Longer than the unit's own limits.
const PATIENCE: Duration = Duration::from_secs(120);
const MAX_OUTPUT: usize = 8 * 1024;
/// Lines of systemd's journal that are shown when it could not be started.
const SHOWN_LINES: &str = "10";

/// The user that runs the service of this home, and its group, if it is not root: whom its log belongs to.
pub(super) fn user_of(home: &Home) -> Option<(u32, u32)> {
    let found = std::fs::symlink_metadata(home.log_dir()).ok().filter(|_| home.is_the_systems())?;
    (found.is_dir() && found.uid() != 0).then_some((found.uid(), found.gid()))
}

/// Has systemd start it, and gives its process number once it is ready.
pub(super) fn start(frame: &Frame) -> Result<u32> {
    settle(frame, "start")
}

/// Has systemd end it and start it again.
pub(super) fn restart(frame: &Frame) -> Result<u32> {
    settle(frame, "restart")
}

/// Has systemd stop it, and start it no more until it is told to or the machine starts.
pub(super) fn stop() -> Result<()> {
    let told = systemctl(&["stop", UNIT_NAME])?;
    if told.status.success() { Ok(()) } else { Err(failure("stop", &told)) }
}

fn settle(frame: &Frame, verb: &str) -> Result<u32> {
    // What root has written since is to be the service's.
    boot::owners::hand_over(&frame.home)?;
    // One that has failed too often would not be started again.
    let _ = systemctl(&["reset-failed", UNIT_NAME]);
    let told = systemctl(&[verb, UNIT_NAME])?;
    if !told.status.success() {
        let failure = failure(verb, &told);
        return Err(journal().into_iter().fold(failure, Failure::because));
    }
    daemon_pid(&frame.home).ok_or_else(|| {
        Failure::operator(text!("systemd has started {}, and it is not there", UNIT_NAME)).hinted(hint())
    })
}

fn failure(verb: &str, told: &Told) -> Failure {
    let failure = Failure::operator(text!("systemd could not {} {}", verb, UNIT_NAME));
    let why = told.complaints.lines().next().unwrap_or_default().trim();
    let failure = if why.is_empty() { failure } else { failure.because(Text::verbatim(why)) };
    failure.hinted(hint())
}

fn hint() -> Text {
    text!("see `systemctl status {0}` and `journalctl -u {0}`", UNIT_NAME)
}

/// What the service has said to systemd's journal, most of all why it did not start.
fn journal() -> Option<Text> {
    let line = ["journalctl", "--unit", UNIT_NAME, "--lines", SHOWN_LINES, "--output", "cat", "--no-pager", "--quiet"];
    let told = exec::ask(&line.map(str::to_owned), PATIENCE, MAX_OUTPUT).ok()?;
    let text = told.output.trim_end();
    (!text.is_empty()).then(|| text!("the end of its journal:\n  {}", text.replace('\n', "\n  ")))
}

/// How systemd sees it, if that is all there is to say: it does not run.
pub(super) fn state(home: &Home) -> Option<Text> {
    if !is_a_unit(home) {
        return None;
    }
    let line = ["show", UNIT_NAME, "--property", "ActiveState,SubState,Result,NRestarts"];
    let told = systemctl(&line).ok()?;
    let value = |name: &str| {
        let line = told.output.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or("unknown").to_owned()
    };
    Some(text!("systemd says: {} ({}), last result {}", value("ActiveState"), value("SubState"), value("Result")))
}

fn systemctl(words: &[&str]) -> Result<Told> {
    let line: Vec<String> = ["systemctl", "--no-pager"].iter().chain(words).map(|word| (*word).to_owned()).collect();
    exec::ask(&line, PATIENCE, MAX_OUTPUT)
        .map_err(|error| Failure::operator(text!("cannot ask systemd by `systemctl`")).caused_by(error))
}
