//! Where the guardian writes: the daemon's log, and the journal of events beside it.
//!
//! Each line opens the file by its name, so that it goes to the one that the daemon writes now. A full disk loses
//! lines and nothing else.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::home::Home;
use crate::supervisor::board::State;

/// Bytes of the journal after which the guardian leaves it alone: the daemon, which cuts it, does not run often enough.
const MAX_EVENTS: u64 = 8 << 20;

/// How much a line matters, as in the daemon's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Error,
    Warn,
    Info,
}

/// The guardian's pen.
#[derive(Debug)]
pub(super) struct Journal {
    log: PathBuf,
    events: PathBuf,
}

impl Journal {
    pub(super) fn new(home: &Home) -> Self {
        Self { log: home.log_file(), events: home.state_dir().join("events.jsonl") }
    }

    /// Writes a line into the log.
    pub(super) fn say(&self, level: Level, text: &str, now: SystemTime) {
        let level = match level {
            Level::Error => "ERROR",
            Level::Warn => " WARN",
            Level::Info => " INFO",
        };
        append(&self.log, &format!("{} {level} guardian {text}\n", rfc3339(now)), u64::MAX);
    }

    /// Writes a change of the daemon's state into the journal.
    pub(super) fn event(&self, from: State, to: State, cause: &str, now: SystemTime) {
        let event =
            json!({ "at": rfc3339(now), "task": null, "kind": "guardian", "from": from, "to": to, "cause": cause });
        append(&self.events, &format!("{event}\n"), MAX_EVENTS);
    }
}

pub(super) fn rfc3339(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    let micros = at.microsecond() * 1000;
    at.replace_nanosecond(micros).ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}

fn append(path: &Path, line: &str, most: u64) {
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    let Ok(mut file) = opened else { return };
    if file.metadata().is_ok_and(|data| data.len() < most) {
        // In one piece: others append to the same file.
        let _ = file.write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_is_a_line_in_the_log_and_an_event_in_the_journal() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::under(folder.path());
        for below in [home.log_dir(), home.state_dir()] {
            std::fs::create_dir_all(below).unwrap();
        }
        let journal = Journal::new(&home);
        journal.say(Level::Warn, "the daemon has died", SystemTime::UNIX_EPOCH);
        journal.event(State::Ready, State::Starting, "killed by SIGKILL", SystemTime::UNIX_EPOCH);
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(&home.log_file()), "1970-01-01T00:00:00Z  WARN guardian the daemon has died\n");
        let event = read(&home.state_dir().join("events.jsonl"));
        let wanted = json!({
            "at": "1970-01-01T00:00:00Z", "task": null, "kind": "guardian",
            "from": "ready", "to": "starting", "cause": "killed by SIGKILL",
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&event).unwrap(), wanted);
    }
}
