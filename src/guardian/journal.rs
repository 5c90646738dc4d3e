//! Where the guardian writes: the daemon's log, and the journal of events beside it.
//!
//! Each line of the log opens the file by its name, so that it goes to the one that the daemon writes now, and has the
//! form of the line before it. A full disk loses lines and nothing else.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::home::Home;
use crate::supervisor::events::{self, Event, EventKind};
use crate::supervisor::policy::Change;
use crate::sys::clock::Now;
use crate::sys::log::record::{Format, Level, Record};

/// Bytes at the end of the log that are looked at for its form.
const LOOKED_AT: u64 = 16 * 1024;

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
        let (task, message) = ("guardian".to_owned(), text.to_owned());
        let record = Record { at: now, level, task, message, fields: Vec::new() };
        let opened = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.log);
        let _ = opened.and_then(|mut file| {
            let line = record.line(form(&mut file).unwrap_or(Format::Text));
            // In one piece: the daemon appends to the same file.
            file.write_all(line.as_bytes())
        });
    }

    /// Writes a change of the daemon's state into the journal of events.
    pub(super) fn event(&self, change: &Change, now: Now) {
        let event = Event::new(EventKind::Guardian, None, &change.cause, now);
        self.events.record(event.between(change.from.as_str(), change.to.as_str()));
    }
}

/// The form of the last line.
fn form(log: &mut File) -> io::Result<Format> {
    let length = log.metadata()?.len();
    log.seek(SeekFrom::Start(length.saturating_sub(LOOKED_AT)))?;
    let mut end = Vec::new();
    log.take(LOOKED_AT).read_to_end(&mut end)?;
    let last = end.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(if last.starts_with(b"{") { Format::Json } else { Format::Text })
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
        assert_eq!(read(home.log_file()), "1970-01-01T00:00:00.000Z  WARN guardian: the daemon has died\n");
        File::create(home.log_file()).unwrap().write_all(b"{}\n").unwrap();
        journal.say(Level::Info, "started", SystemTime::UNIX_EPOCH);
        let last = read(home.log_file());
        let record: serde_json::Value = serde_json::from_str(last.lines().last().unwrap()).unwrap();
        assert_eq!((&record["task"], &record["message"]), (&"guardian".into(), &"started".into()));
        let event: Event = serde_json::from_str(&read(home.events_file())).unwrap();
        assert_eq!((event.kind, event.task, event.at), (EventKind::Guardian, None, clock::rfc3339(now.wall)));
        let wanted = ("ready", "starting", "killed by SIGKILL");
        assert_eq!((event.from.as_deref().unwrap(), event.to.as_deref().unwrap(), event.cause.as_str()), wanted);
    }
}
