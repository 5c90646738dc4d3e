//! The journal: every change of state with its cause, in memory and in a file that outlives the process.
//!
//! Both are bounded. A disk that is full costs nothing but the file's completeness for as long as it is full: what
//! could not be written waits in memory. A line that was cut off by a kill is left out by the reader.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use serde::{Deserialize, Serialize};

use super::board::State;
use super::capsule::{Capsule, cut};
use super::service::TaskName;
use crate::sys::clock::{self, Now};

/// Events that are kept in memory, and the bytes that they may have as lines.
const MAX_RECENT: usize = 256;
const MAX_RECENT_BYTES: usize = 512 * 1024;
/// Bytes after which the file is put aside. One that was put aside is kept.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What kind of thing has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// The daemon's own life: started, stopping.
    Daemon,
    /// What happened to the daemon, as its guardian saw it.
    Guardian,
    /// A task has changed its state.
    State,
    /// What an operator has ordered.
    Order,
    /// A thread has panicked; the capsule says where.
    Panic,
    /// A task or a thread has made no progress for too long.
    Hang,
    /// The configuration was read again.
    Reload,
    /// Something an operator should know has come or gone.
    Finding,
    /// A fault was planted by a test.
    Fault,
    /// Written by a later version.
    #[serde(other)]
    Other,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// RFC 3339, in UTC and milliseconds.
    pub at: String,
    /// The process that has written it.
    pub pid: u32,
    /// `None`: it is about the whole service.
    pub task: Option<TaskName>,
    pub kind: EventKind,
    #[serde(default)]
    pub from: Option<String>,
    #[serde(default)]
    pub to: Option<String>,
    pub cause: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capsule: Option<Capsule>,
}

impl Event {
    /// Something that has happened `now` to a task, or to the whole service.
    #[must_use]
    pub fn new(kind: EventKind, task: Option<TaskName>, cause: &str, now: Now) -> Self {
        let at = clock::rfc3339(now.wall);
        Self { at, pid: std::process::id(), task, kind, from: None, to: None, cause: cut(cause), capsule: None }
    }

    /// A task's change of state.
    #[must_use]
    pub fn state(task: TaskName, from: State, to: State, cause: &str, now: Now) -> Self {
        Self::new(EventKind::State, Some(task), cause, now).between(from.as_str(), to.as_str())
    }

    /// What was before and what is now, in a word each.
    #[must_use]
    pub fn between(mut self, from: &str, to: &str) -> Self {
        (self.from, self.to) = (Some(from.to_owned()), Some(to.to_owned()));
        self
    }

    #[must_use]
    pub fn with_capsule(mut self, capsule: Capsule) -> Self {
        self.capsule = Some(capsule.bounded());
        self
    }
}

/// Takes events down. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Journal {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    /// With the bytes of each as a line.
    recent: VecDeque<(Event, usize)>,
    recent_bytes: usize,
    /// How many of the last ones are not in the file.
    unwritten: usize,
    file: Option<JournalFile>,
    /// Whether the last write has failed.
    is_failing: bool,
}

impl Default for Journal {
    fn default() -> Self {
        Self::with_file(None)
    }
}

impl Journal {
    /// Goes on with the file at `path`. Nothing it needs may keep the service from starting, so this cannot fail:
    /// a file that cannot be opened now is tried again with each event.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        Self::bounded(path, MAX_FILE_BYTES)
    }

    fn bounded(path: &Path, max_bytes: u64) -> Self {
        Self::with_file(Some(JournalFile { path: path.to_path_buf(), max_bytes, open: None, is_torn: false }))
    }

    fn with_file(file: Option<JournalFile>) -> Self {
        let inner = Inner { recent: VecDeque::new(), recent_bytes: 0, unwritten: 0, file, is_failing: false };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Takes an event down.
    pub fn record(&self, event: Event) {
        self.lock().record(event);
    }

    /// Takes an event down unless somebody else is at it just now: for those who must not wait, like a panic hook,
    /// which may have been called by the very thread that is at it.
    pub fn try_record(&self, event: Event) {
        match self.inner.try_lock() {
            Ok(mut inner) => inner.record(event),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().record(event),
            Err(TryLockError::WouldBlock) => {}
        }
    }

    /// What happened last, oldest first.
    #[must_use]
    pub fn recent(&self) -> Vec<Event> {
        self.lock().recent.iter().map(|(event, _)| event.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What a panic has left behind is at worst one event short.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn record(&mut self, event: Event) {
        let line = line(&event);
        self.recent_bytes += line.len();
        self.recent.push_back((event, line.len()));
        self.unwritten += 1;
        while self.recent.len() > MAX_RECENT || (self.recent_bytes > MAX_RECENT_BYTES && self.recent.len() > 1) {
            let Some((_, bytes)) = self.recent.pop_front() else { break };
            self.recent_bytes -= bytes;
        }
        self.unwritten = self.unwritten.min(self.recent.len());
        let Some(file) = &mut self.file else { return };
        while self.unwritten > 0 {
            let (event, _) = &self.recent[self.recent.len() - self.unwritten];
            match file.append(&self::line(event)) {
                Ok(()) => {
                    self.unwritten -= 1;
                    self.is_failing = false;
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.is_failing, true) {
                        let path = file.path.display();
                        tracing::warn!(%error, "cannot write events to `{path}`; they are kept in memory until it works");
                    }
                    return;
                }
            }
        }
    }
}

fn line(event: &Event) -> Vec<u8> {
    let mut line = serde_json::to_vec(event).expect("an event has string keys only");
    line.push(b'\n');
    line
}

#[derive(Debug)]
struct JournalFile {
    path: PathBuf,
    max_bytes: u64,
    open: Option<File>,
    /// The file ends within a line.
    is_torn: bool,
}

impl JournalFile {
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let mut file = self.current()?;
        if file.metadata()?.len() + line.len() as u64 > self.max_bytes {
            std::fs::rename(&self.path, put_aside(&self.path))?;
            self.open = None;
            file = self.current()?;
        }
        let line = if self.is_torn { [b"\n", line].concat() } else { line.to_vec() };
        // Unless all of it is written. One write a line, so that those of two processes do not mix.
        self.is_torn = true;
        file.write_all(&line)?;
        self.is_torn = false;
        Ok(())
    }

    /// The file that has our path now: another process may have put it aside, or somebody may have deleted it.
    fn current(&mut self) -> io::Result<File> {
        let identity = |data: &std::fs::Metadata| (data.dev(), data.ino());
        if let Some(file) = &self.open
            && let (Ok(named), Ok(held)) = (std::fs::metadata(&self.path), file.metadata())
            && identity(&named) == identity(&held)
        {
            return file.try_clone();
        }
        let mut file = OpenOptions::new().append(true).read(true).create(true).mode(0o600).open(&self.path)?;
        self.is_torn = !ends_whole(&mut file)?;
        self.open = Some(file.try_clone()?);
        Ok(file)
    }
}

fn ends_whole(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn put_aside(path: &Path) -> PathBuf {
    let mut name = path.to_path_buf().into_os_string();
    name.push(".1");
    name.into()
}

/// Reads the events of a journal's file, oldest first, whether or not anybody is writing it. What is no whole event is
/// left out.
///
/// # Errors
/// If the file is there and cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<Event>> {
    let mut events = Vec::new();
    for path in [put_aside(path), path.to_path_buf()] {
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(file) => file.take(2 * MAX_FILE_BYTES).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        events.extend(bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Event>(line).ok()));
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: usize) -> Event {
        Event::state(TaskName::Web, State::Ready, State::Backoff, &format!("cause {number}"), clock::now())
    }

    fn causes(events: &[Event]) -> Vec<String> {
        events.iter().map(|event| event.cause.clone()).collect()
    }

    fn numbered(numbers: std::ops::Range<usize>) -> Vec<String> {
        numbers.map(|number| format!("cause {number}")).collect()
    }

    #[test]
    fn events_outlive_the_process_and_the_next_one_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        assert_eq!(read(&path).unwrap(), []);
        let capsule = Capsule { message: "it broke".to_owned(), ..Capsule::default() };
        let first = Event::new(EventKind::Panic, None, "it broke", clock::now()).with_capsule(capsule);
        Journal::open(&path).record(first.clone());
        let next = Journal::open(&path);
        next.record(event(1));
        assert_eq!(causes(&next.recent()), ["cause 1"]);
        let events = read(&path).unwrap();
        assert_eq!(events[0], first);
        assert_eq!(causes(&events), ["it broke", "cause 1"]);
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_line_has_the_fields_that_scripts_read() {
        let now = Now { wall: std::time::SystemTime::UNIX_EPOCH, ..clock::now() };
        let event = Event::state(TaskName::Web, State::Ready, State::Held, "it broke", now);
        let wanted = format!(
            "{{\"at\":\"1970-01-01T00:00:00.000Z\",\"pid\":{},\"task\":\"web\",\"kind\":\"state\",\"from\":\"ready\",\
             \"to\":\"held\",\"cause\":\"it broke\"}}\n",
            std::process::id()
        );
        assert_eq!(String::from_utf8(line(&event)).unwrap(), wanted);
        let later = "{\"at\":\"\",\"pid\":1,\"task\":null,\"kind\":\"eclipse\",\"cause\":\"\",\"new\":1}";
        assert_eq!(serde_json::from_str::<Event>(later).unwrap().kind, EventKind::Other);
    }

    #[test]
    fn a_line_that_a_kill_has_cut_off_costs_no_other_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        Journal::open(&path).record(event(0));
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"at\":\"2026").unwrap();
        Journal::open(&path).record(event(1));
        assert_eq!(causes(&read(&path).unwrap()), numbered(0..2));
    }

    #[test]
    fn memory_and_disk_are_bounded_and_the_last_events_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let journal = Journal::bounded(&path, 20_000);
        for number in 0..1000 {
            journal.record(event(number));
        }
        assert_eq!(causes(&journal.recent()), numbered(1000 - MAX_RECENT..1000));
        let on_disk = read(&path).unwrap();
        assert_eq!(causes(&on_disk), numbered(1000 - on_disk.len()..1000));
        assert!(on_disk.len() > 100, "{}", on_disk.len());
        let bytes: u64 =
            std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes <= 40_000, "{bytes}");
    }

    #[test]
    fn large_capsules_push_old_events_out_of_memory() {
        let journal = Journal::default();
        let lines = vec!["x".repeat(300); 50];
        for number in 0..200 {
            journal.record(event(number).with_capsule(Capsule { log: lines.clone(), ..Capsule::default() }));
        }
        let recent = journal.recent();
        assert!(recent.len() < 100, "{}", recent.len());
        assert_eq!(recent.last().unwrap().cause, "cause 199");
    }

    #[test]
    fn what_a_full_disk_refused_is_written_once_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (folder.path().join("events.jsonl"), folder.path().join("elsewhere"));
        // Every write to it fails as on a full disk.
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let journal = Journal::open(&path);
        for number in 0..3 {
            journal.record(event(number));
        }
        assert_eq!(causes(&journal.recent()), numbered(0..3));
        std::fs::rename(&path, &elsewhere).unwrap();
        journal.record(event(3));
        assert_eq!(causes(&read(&path).unwrap()), numbered(0..4));
    }

    #[test]
    fn a_file_that_was_deleted_or_put_aside_by_another_process_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let (one, other) = (Journal::bounded(&path, 1000), Journal::bounded(&path, 1000));
        for number in 0..8 {
            let journal = if number % 2 == 0 { &one } else { &other };
            journal.record(event(number));
        }
        let on_disk = read(&path).unwrap();
        assert_eq!(causes(&on_disk), numbered(8 - on_disk.len()..8));
        std::fs::remove_file(&path).unwrap();
        one.record(event(8));
        assert_eq!(read(&path).unwrap().last().unwrap().cause, "cause 8");
    }
}
