//! What `init` has changed on this host, with what was there before: the ground on which it is taken back.
//!
//! It lies in `state/setup`. The folders above it may be missing as well: they come to be together with the journal by
//! one rename, and go with it by another, so that no crash leaves a change of which nothing is known. Whoever has it
//! open holds the folder's lock.

pub mod image;
pub mod record;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use self::image::{cannot, draft_of, sync_parent};
use self::record::{Effect, Ledger, Record, VERSION};
use crate::error::{Failure, Kind, Result};
use crate::home::Home;
use crate::sys::fault;
use crate::sys::fs::{create_private_dir, write_atomic_by};
use crate::sys::lock::{FolderLock, Refused};
use crate::text;
use crate::words::Text;

/// The lines.
const FILE: &str = "journal.jsonl";
/// How often it is tried to make the journal while others make and remove folders at the same place.
const ATTEMPTS: usize = 8;

/// The journal of a home, open and locked.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    file: File,
    /// The bytes that are whole lines.
    length: u64,
    ledger: Ledger,
    _lock: FolderLock,
}

impl Journal {
    /// Opens the journal of a home, if there is one. What a killed run has left of its making or removal goes.
    ///
    /// # Errors
    /// `Kind::Locked` if another run has it open; if it is damaged.
    pub fn open(home: &Home) -> Result<Option<Self>> {
        sweep(home)?;
        let folder = home.setup_dir();
        let lock = match FolderLock::take(&folder) {
            Ok(lock) => lock,
            Err(Refused::Held(pid)) => return Err(locked(pid)),
            Err(Refused::Io(error)) if is_absent(&error) => return Ok(None),
            Err(Refused::Io(error)) => return Err(cannot(text!("open the file"), &folder, error)),
        };
        if folder.join(FILE).exists() { Self::opened(folder, lock).map(Some) } else { Ok(None) }
    }

    /// Opens the journal of a home, and makes it if there is none.
    ///
    /// # Errors
    /// As [`Self::open`]; if there is no room, or the folder cannot be written.
    pub fn create(home: &Home) -> Result<Self> {
        for _ in 0..ATTEMPTS {
            if let Some(journal) = Self::open(home)? {
                return Ok(journal);
            }
            if let Some(journal) = bear(&home.setup_dir())? {
                return Ok(journal);
            }
        }
        Err(locked(None))
    }

    /// What the journal of a home says, without touching it.
    ///
    /// # Errors
    /// If it is damaged or cannot be read.
    pub fn read(home: &Home) -> Result<Option<Ledger>> {
        let path = home.setup_dir().join(FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ledger::read(&text).map(Some).map_err(|why| damaged(&path, why)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(cannot(text!("read"), &path, error)),
        }
    }

    fn opened(folder: PathBuf, lock: FolderLock) -> Result<Self> {
        let path = folder.join(FILE);
        let failed = |error| cannot(text!("open the file"), &path, error);
        let text = crate::sys::fs::read_to_string(&path)?;
        let ledger = Ledger::read(&text).map_err(|why| damaged(&path, why))?;
        let file = OpenOptions::new().append(true).mode(0o600).open(&path).map_err(failed)?;
        let length = text.rfind('\n').map_or(0, |end| end + 1) as u64;
        // A line that a crash has torn would spoil the next one.
        file.set_len(length).map_err(failed)?;
        Ok(Self { folder, file, length, ledger, _lock: lock })
    }

    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Where pre-images lie.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a line; it is on the disk when this returns.
    ///
    /// # Errors
    /// If there is no room. The journal is as before then.
    pub fn write(&mut self, record: Record) -> Result<()> {
        let mut line = serde_json::to_vec(&record).map_err(|error| Failure::bug(Text::verbatim(error.to_string())))?;
        line.push(b'\n');
        if let Err(error) = self.file.write_all(&line).and_then(|()| self.file.sync_data()) {
            // Half a line would spoil the next one. Where even that fails, it is cut off when the journal is opened.
            let _ = self.file.set_len(self.length);
            return Err(cannot(text!("write"), &self.folder.join(FILE), error));
        }
        self.length += line.len() as u64;
        self.ledger.take(record).map_err(Failure::bug)?;
        fault::moment("setup");
        Ok(())
    }

    /// Notes what is about to be done, and gives the number of the step.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn will(&mut self, run: u32, effect: Effect) -> Result<u32> {
        let step = self.next_step(run);
        self.write(Record::Will { run, step, effect })?;
        Ok(step)
    }

    /// The number that the next step of a run will have.
    #[must_use]
    pub fn next_step(&self, run: u32) -> u32 {
        let run = self.ledger.runs.iter().find(|known| known.number == run);
        run.and_then(|run| run.steps.last()).map_or(1, |step| step.number + 1)
    }

    /// Removes the journal, and those of the folders that came with it which hold nothing else. Gives the folders that
    /// came with it and stay.
    ///
    /// # Errors
    /// If they cannot be removed.
    pub fn bury(self) -> Result<Vec<PathBuf>> {
        let Some(top) = self.ledger.folders.iter().position(|above| is_all_of(above, &self.folder)) else {
            // The folder was there before.
            return self.empty().map(|()| self.ledger.folders.clone());
        };
        let stay = self.ledger.folders[..top].to_vec();
        let top = &self.ledger.folders[top];
        // Whoever finds it under the other name must see that somebody is at work.
        let _outer = if *top == self.folder { None } else { FolderLock::take(top).ok() };
        let draft = draft_of(top);
        std::fs::rename(top, &draft).map_err(|error| cannot(text!("remove"), top, error))?;
        sync_parent(top);
        fault::moment("setup");
        std::fs::remove_dir_all(&draft).map_err(|error| cannot(text!("remove"), &draft, error))?;
        sync_parent(top);
        fault::moment("setup");
        Ok(stay)
    }

    /// The lines last: as long as they are there, it is known what the rest is.
    fn empty(&self) -> Result<()> {
        let failed = |error| cannot(text!("remove"), &self.folder, error);
        for entry in std::fs::read_dir(&self.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name() != FILE {
                std::fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        fault::moment("setup");
        std::fs::remove_file(self.folder.join(FILE)).map_err(failed)
    }
}

/// Makes the journal under another name, and gives it its own in one step. `None`: somebody else was faster.
fn bear(folder: &Path) -> Result<Option<Journal>> {
    let missing = missing(folder);
    let Some(top) = missing.first() else {
        let Ok(lock) = FolderLock::take(folder) else { return Ok(None) };
        write_first(folder, Vec::new())?;
        return Journal::opened(folder.to_path_buf(), lock).map(Some);
    };
    let draft = draft_of(top);
    match DirBuilder::new().mode(0o700).create(&draft) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(cannot(text!("create the folder"), top, error)),
    }
    fault::moment("setup");
    let Ok(outer) = FolderLock::take(&draft) else { return Ok(None) };
    let made = fill(&draft, folder, &missing).and_then(|inner| {
        std::fs::rename(&draft, top).map_err(|error| cannot(text!("create the folder"), top, error))?;
        Ok(inner)
    });
    match made {
        Ok(inner) => {
            sync_parent(top);
            fault::moment("setup");
            Journal::opened(folder.to_path_buf(), inner.unwrap_or(outer)).map(Some)
        }
        Err(failure) => {
            // What cannot be removed now is swept the next time.
            let _ = std::fs::remove_dir_all(&draft);
            Err(failure)
        }
    }
}

/// Fills the draft of the outermost folder. Gives the lock of the journal's own folder, if that is another one.
fn fill(draft: &Path, folder: &Path, missing: &[PathBuf]) -> Result<Option<FolderLock>> {
    let below = missing.first().and_then(|top| folder.strip_prefix(top).ok()).unwrap_or(Path::new(""));
    let inner = if below.as_os_str().is_empty() { draft.to_path_buf() } else { draft.join(below) };
    create_private_dir(&inner)?;
    fault::moment("setup");
    write_first(&inner, missing.to_vec())?;
    fault::moment("setup");
    if inner == draft {
        return Ok(None);
    }
    FolderLock::take(&inner).map(Some).map_err(|_| locked(None))
}

fn write_first(folder: &Path, folders: Vec<PathBuf>) -> Result<()> {
    let first = Record::Opened { version: VERSION, folders };
    let line = serde_json::to_string(&first).map_err(|error| Failure::bug(Text::verbatim(error.to_string())))? + "\n";
    let path = folder.join(FILE);
    write_atomic_by(&draft_of(&path), &path, line.as_bytes(), 0o600)
}

/// Removes what a killed run has left under another name.
fn sweep(home: &Home) -> Result<()> {
    for folder in home.setup_dir().ancestors().filter(|folder| folder.file_name().is_some()) {
        let draft = draft_of(folder);
        if !std::fs::symlink_metadata(&draft).is_ok_and(|found| found.is_dir()) {
            continue;
        }
        match FolderLock::take(&draft) {
            Ok(_lock) => match std::fs::remove_dir_all(&draft) {
                Err(error) if !is_absent(&error) => return Err(cannot(text!("remove"), &draft, error)),
                Ok(()) | Err(_) => {}
            },
            Err(Refused::Held(pid)) => return Err(locked(pid)),
            Err(Refused::Io(error)) if is_absent(&error) => {}
            Err(Refused::Io(error)) => return Err(cannot(text!("open the file"), &draft, error)),
        }
    }
    Ok(())
}

/// The folders down to `folder` that are not there, outermost first.
fn missing(folder: &Path) -> Vec<PathBuf> {
    let absent = |path: &&Path| !path.as_os_str().is_empty() && path.symlink_metadata().is_err();
    let mut missing: Vec<PathBuf> = folder.ancestors().take_while(absent).map(Path::to_path_buf).collect();
    missing.reverse();
    missing
}

/// Whether `above` holds nothing but what leads to `folder`.
fn is_all_of(above: &Path, folder: &Path) -> bool {
    let mut at = folder;
    while at != above {
        let Some(parent) = at.parent() else { return false };
        let is_alone = std::fs::read_dir(parent).is_ok_and(|mut entries| {
            entries.all(|entry| entry.is_ok_and(|entry| Some(entry.file_name().as_os_str()) == at.file_name()))
        });
        if !is_alone {
            return false;
        }
        at = parent;
    }
    true
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn locked(pid: Option<u32>) -> Failure {
    let holder = pid.map(|pid| text!(" (pid {})", pid)).unwrap_or_default();
    Failure::new(Kind::Locked, text!("another `init`, `undo` or `uninstall` is at work on this home{}", holder))
        .hinted(text!("wait until it has ended, and try again"))
}

fn damaged(path: &Path, why: Text) -> Failure {
    Failure::operator(text!("the journal `{}` is damaged", path.display())).because(why).hinted(text!(
        "`rtcctl config check` tells whether the rest is whole; move `{}` away to go on without it",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::under(&dir.path().join("a/home"));
        (dir, home)
    }

    fn count(dir: &tempfile::TempDir) -> usize {
        std::fs::read_dir(dir.path()).unwrap().count()
    }

    #[test]
    fn a_journal_comes_with_its_folders_and_goes_with_them() {
        let (dir, home) = home();
        let journal = Journal::create(&home).unwrap();
        let above = dir.path().join("a");
        let folders = [above.clone(), above.join("home"), above.join("home/state"), home.setup_dir()];
        assert_eq!(journal.ledger().folders, folders);
        assert_eq!(journal.bury().unwrap(), Vec::<PathBuf>::new());
        assert_eq!(count(&dir), 0);
    }

    #[test]
    fn folders_that_hold_something_else_stay() {
        let (dir, home) = home();
        let journal = Journal::create(&home).unwrap();
        write_atomic_by(&dir.path().join("x"), &dir.path().join("a/home/notes"), b"mine", 0o600).unwrap();
        assert_eq!(journal.bury().unwrap(), [dir.path().join("a"), dir.path().join("a/home")]);
        assert!(!home.state_dir().exists() && dir.path().join("a/home/notes").exists());
        // A folder that was there before is not removed.
        std::fs::create_dir_all(home.setup_dir()).unwrap();
        Journal::create(&home).unwrap().bury().unwrap();
        assert_eq!(std::fs::read_dir(home.setup_dir()).unwrap().count(), 0);
    }

    #[test]
    fn one_at_a_time_opens_it_and_what_a_killed_run_left_is_swept() {
        let (dir, home) = home();
        let journal = Journal::create(&home).unwrap();
        assert_eq!(Journal::open(&home).unwrap_err().kind(), Kind::Locked);
        assert_eq!(Journal::create(&home).unwrap_err().kind(), Kind::Locked);
        journal.bury().unwrap();
        assert!(Journal::open(&home).unwrap().is_none());
        // As a run that is killed between two of its first steps leaves it.
        create_private_dir(&dir.path().join(".a.rtcctl-draft/home/state")).unwrap();
        assert!(Journal::open(&home).unwrap().is_none());
        assert_eq!(count(&dir), 0);
        create_private_dir(&dir.path().join(".a.rtcctl-draft/home/state")).unwrap();
        let held = FolderLock::take(&dir.path().join(".a.rtcctl-draft")).unwrap();
        assert_eq!(Journal::create(&home).unwrap_err().kind(), Kind::Locked);
        drop(held);
        assert!(Journal::create(&home).is_ok());
    }

    #[test]
    fn a_torn_line_is_cut_off_before_the_next_one_is_written() {
        let (_dir, home) = home();
        drop(Journal::create(&home).unwrap());
        let path = home.setup_dir().join(FILE);
        let torn = std::fs::read_to_string(&path).unwrap() + "{\"record\":\"beg";
        write_atomic_by(&draft_of(&path), &path, torn.as_bytes(), 0o600).unwrap();
        let mut journal = Journal::open(&home).unwrap().unwrap();
        journal.write(Record::Began { run: 1, at: "now".to_owned(), what: "init".to_owned() }).unwrap();
        drop(journal);
        assert_eq!(Journal::read(&home).unwrap().unwrap().cut_off().unwrap().number, 1);
    }
}
