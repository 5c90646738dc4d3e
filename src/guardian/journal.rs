//! Where the guardian writes: the daemon's log, and the journal of events beside it.
//!
//! Each line of the log opens the file by its name, so that it goes to the one that the daemon writes now. A full disk loses
//! lines and nothing else.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::home::Home;
use crate::supervisor::events::{self, Event, EventKind};
use crate::supervisor::policy::Change;
use crate::sys::clock::{Now, rfc3339};

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
    events: events::Journal,
}

impl Journal {
    pub(super) fn new(home: &Home) -> Self {
        Self { log: home.log_file(), events: events::Journal::open(&home.events_file()) }
    }

    /// Writes a line into the log.
    pub(super) fn say(&self, level: Level, text: &str, now: SystemTime) {
        let level = match level {
            Level::Error => "ERROR",
            Level::Warn => " WARN",
            Level::Info => " INFO",
        };
        let line = format!("{} {level} guardian {text}\n", rfc3339(now));
        let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.log);
        // In one piece: the daemon appends to the same file.
        let _ = opened.and_then(|mut file| file.write_all(line.as_bytes()));
    }

    /// Writes a change of the daemon's state into the journal of events.
    pub(super) fn event(&self, change: &Change, now: Now) {
        let event = Event::new(EventKind::Guardian, None, &change.cause, now);
        self.events.record(event.between(change.from.as_str(), change.to.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::board::State;
    use crate::sys::clock;

    #[test]
    fn a_death_is_a_line_in_the_log_and_an_event_in_the_journal() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::under(folder.path());
        for below in [home.log_dir(), home.state_dir()] {
            std::fs::create_dir_all(below).unwrap();
        }
        let journal = Journal::new(&home);
        journal.say(Level::Warn, "the daemon has died", SystemTime::UNIX_EPOCH);
        let now = clock::now();
        let change = Change { from: State::Ready, to: State::Starting, cause: "killed by SIGKILL".to_owned() };
        journal.event(&change, now);
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(home.log_file()), "1970-01-01T00:00:00Z  WARN guardian the daemon has died\n");
        let event: Event = serde_json::from_str(&read(home.events_file())).unwrap();
        assert_eq!((event.kind, event.task, event.at), (EventKind::Guardian, None, rfc3339(now.wall)));
        let wanted = ("ready", "starting", "killed by SIGKILL");
        assert_eq!((event.from.as_deref().unwrap(), event.to.as_deref().unwrap(), event.cause.as_str()), wanted);
    }
}
