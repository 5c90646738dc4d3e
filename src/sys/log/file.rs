//! Log files that are put aside when they are large or old, and never have more than their bound all together.
//!
//! A disk that is full costs lines, which are counted and told of when there is room again, and nothing else.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::record::{Level, Record, moment};
use crate::sys::unix::leads_to;

/// A number that no file is put aside under: `log.keep` is smaller.
const MAX_NUMBER: u32 = 101;
/// How often files that are put aside are looked at for their age.
const SWEPT_EVERY: Duration = Duration::from_secs(60);

/// When a file is put aside, and when it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one file.
    pub max_size: u64,
    /// The age of the oldest line; `None`: any.
    pub max_age: Option<Duration>,
    /// Files besides the one that is written.
    pub keep: u32,
}

impl Limits {
    /// How old the first line of the file that is written may be. The files that are kept share out the whole age, so
    /// that no line is older when its file goes.
    fn share(&self) -> Option<Duration> {
        self.max_age.map(|age| age / (self.keep + 1))
    }

    /// Whether `file` is full, or old enough, for the next line to begin another one.
    fn ends(&self, bytes: u64, next: u64, age: Duration) -> bool {
        bytes > 0 && (bytes + next > self.max_size || self.share().is_some_and(|share| age >= share))
    }

    /// Whether a file that was last written so long ago has lines that are too old.
    fn outlives(&self, idle: Duration) -> bool {
        self.max_age.zip(self.share()).is_some_and(|(age, share)| idle + share >= age)
    }
}

/// The file that lines are written to, and those that were.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    began_at: SystemTime,
    limits: Limits,
    swept_at: SystemTime,
    /// Lines that could not be written since the last one that could.
    missing: u64,
    /// The same since the start.
    lost: u64,
    /// The file ends within a line.
    is_torn: bool,
}

impl LogFile {
    /// Opens the file for appending, readable by this user alone.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn open(path: &Path, limits: Limits, now: SystemTime) -> io::Result<Self> {
        let file = append_to(path)?;
        let mut this = Self {
            path: path.to_path_buf(),
            file,
            bytes: 0,
            began_at: now,
            limits,
            swept_at: now,
            missing: 0,
            lost: 0,
            is_torn: false,
        };
        this.measure(now)?;
        this.sweep(now);
        Ok(this)
    }

    /// Opens the file by its name again: somebody may have moved it away.
    ///
    /// # Errors
    /// What the kernel says; the old file is still written then.
    pub(super) fn reopen(&mut self, now: SystemTime) -> io::Result<()> {
        self.file = append_to(&self.path)?;
        self.measure(now)
    }

    pub(super) fn set_limits(&mut self, limits: Limits, now: SystemTime) {
        self.limits = limits;
        self.sweep(now);
    }

    /// Lines that were lost since the start.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Writes a line, which has its end. One that cannot be written is lost, and counted.
    pub(super) fn write(&mut self, line: &str, now: SystemTime) {
        // Why is not told: there is no place to tell it.
        if self.try_write(line, now).is_err() {
            self.missing += 1;
            self.lost += 1;
        }
    }

    /// Opens the file anew if its name leads elsewhere, puts it aside if it has become old, and removes those that are
    /// too old.
    pub(super) fn tick(&mut self, now: SystemTime) {
        if !leads_to(&self.path, &self.file).unwrap_or(false) {
            // Somebody has deleted it or moved it away: nobody would read what is written there. It is tried again.
            let _ = self.reopen(now);
        }
        let age = |since: SystemTime| now.duration_since(since).unwrap_or_default();
        if self.limits.ends(self.bytes, 0, age(self.began_at)) {
            // What cannot be put aside goes on to be written.
            let _ = self.put_aside(now);
        }
        if age(self.swept_at) >= SWEPT_EVERY || now < self.swept_at {
            self.sweep(now);
        }
    }

    fn try_write(&mut self, line: &str, now: SystemTime) -> io::Result<()> {
        let age = now.duration_since(self.began_at).unwrap_or_default();
        if self.limits.ends(self.bytes, line.len() as u64, age) {
            self.put_aside(now)?;
        }
        let mut text = String::new();
        if self.is_torn {
            text.push('\n');
        }
        if self.missing > 0 {
            let message = format!("{} lines before this could not be written; is the disk full?", self.missing);
            let told = Record { at: now, level: Level::Warn, task: "log".to_owned(), message, fields: Vec::new() };
            let is_json = line.starts_with('{');
            text.push_str(&told.line(if is_json { super::Format::Json } else { super::Format::Text }));
        }
        text.push_str(line);
        self.append(text.as_bytes())?;
        self.missing = 0;
        Ok(())
    }

    fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => {
                    self.bytes += length as u64;
                    self.is_torn = true;
                    bytes = &bytes[length..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // Everything that is written here ends with a line's end.
        self.is_torn = false;
        Ok(())
    }

    /// `rtcctl.log` becomes `rtcctl.log.1`, that `rtcctl.log.2`, and so on; the last one goes.
    fn put_aside(&mut self, now: SystemTime) -> io::Result<()> {
        if self.limits.keep == 0 {
            std::fs::remove_file(&self.path)?;
        } else {
            for number in (1..self.limits.keep).rev() {
                // There may be fewer than are kept.
                let _ = std::fs::rename(self.numbered(number), self.numbered(number + 1));
            }
            std::fs::rename(&self.path, self.numbered(1))?;
        }
        self.file = append_to(&self.path)?;
        (self.bytes, self.began_at, self.is_torn) = (0, now, false);
        Ok(())
    }

    /// Removes files beyond the number that is kept, and those that have become too old.
    fn sweep(&mut self, now: SystemTime) {
        self.swept_at = now;
        for number in 1..=MAX_NUMBER {
            let path = self.numbered(number);
            let Ok(data) = std::fs::metadata(&path) else { continue };
            let idle = data.modified().ok().and_then(|at| now.duration_since(at).ok()).unwrap_or_default();
            if number > self.limits.keep || self.limits.outlives(idle) {
                // It is tried again in a minute.
                let _ = std::fs::remove_file(path);
            }
        }
    }

    fn numbered(&self, number: u32) -> PathBuf {
        numbered(&self.path, number)
    }

    fn measure(&mut self, now: SystemTime) -> io::Result<()> {
        let data = self.file.metadata()?;
        self.bytes = data.len();
        self.is_torn = false;
        self.began_at = if self.bytes == 0 { now } else { begin(&self.path).or(data.modified().ok()).unwrap_or(now) };
        Ok(())
    }
}

/// The name of the file that was put aside `number` files ago.
#[must_use]
pub fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.to_path_buf().into_os_string();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// When the first line was written.
fn begin(path: &Path) -> Option<SystemTime> {
    let mut line = String::new();
    BufReader::new(File::open(path).ok()?.take(64 * 1024)).read_line(&mut line).ok()?;
    Record::parse(line.trim_end()).map(|record| record.at).or_else(|| moment(line.split(' ').next()?))
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;

    const SMALL: Limits = Limits { max_size: 20, max_age: None, keep: 3 };
    const DAY: Duration = Duration::from_secs(86_400);

    fn open(folder: &tempfile::TempDir, limits: Limits) -> LogFile {
        LogFile::open(&folder.path().join("rtcctl.log"), limits, clock::now().wall).unwrap()
    }

    fn read(folder: &tempfile::TempDir, name: &str) -> String {
        std::fs::read_to_string(folder.path().join(name)).unwrap()
    }

    #[test]
    fn a_full_file_is_put_aside_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(&folder, SMALL);
        for number in 0..12 {
            log.write(&format!("line {number:04}\n"), clock::now().wall);
        }
        assert_eq!(read(&folder, "rtcctl.log"), "line 0010\nline 0011\n");
        assert_eq!(read(&folder, "rtcctl.log.1"), "line 0008\nline 0009\n");
        assert_eq!(read(&folder, "rtcctl.log.3"), "line 0004\nline 0005\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4);
        log.set_limits(Limits { keep: 1, ..SMALL }, clock::now().wall);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "fewer are kept at once");
        let mut log = open(&folder, Limits { keep: 0, ..SMALL });
        log.write("line 0012\n", clock::now().wall);
        assert_eq!(read(&folder, "rtcctl.log"), "line 0012\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn no_line_is_kept_for_longer_than_its_age() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { max_size: 1 << 20, max_age: Some(4 * DAY), keep: 3 };
        let now = clock::now().wall;
        let mut log = open(&folder, limits);
        log.write("first\n", now);
        log.tick(now + DAY - Duration::from_secs(1));
        assert!(!folder.path().join("rtcctl.log.1").exists());
        log.tick(now + DAY + Duration::from_secs(1));
        assert_eq!(read(&folder, "rtcctl.log.1"), "first\n");
        log.tick(now + 2 * DAY);
        assert!(folder.path().join("rtcctl.log.1").exists(), "an empty file is not put aside");
        // The file's own time is that of its last line, which was written by the kernel's clock just now.
        log.tick(now + 4 * DAY);
        assert!(!folder.path().join("rtcctl.log.1").exists());
    }

    #[test]
    fn a_file_of_yesterday_is_as_old_as_its_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rtcctl.log");
        let old = Record {
            at: clock::now().wall - 2 * DAY,
            level: Level::Info,
            task: "web".to_owned(),
            message: "old".to_owned(),
            fields: Vec::new(),
        };
        for format in [super::super::Format::Text, super::super::Format::Json] {
            crate::sys::fs::write_atomic(&path, old.line(format).as_bytes(), 0o600).unwrap();
            let mut log = open(&folder, Limits { max_size: 1 << 20, max_age: Some(4 * DAY), keep: 3 });
            log.write("new\n", clock::now().wall);
            assert_eq!(read(&folder, "rtcctl.log"), "new\n");
        }
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(&folder, SMALL);
        log.write("before\n", clock::now().wall);
        std::fs::rename(folder.path().join("rtcctl.log"), folder.path().join("moved")).unwrap();
        log.reopen(clock::now().wall).unwrap();
        log.write("after\n", clock::now().wall);
        assert_eq!(read(&folder, "rtcctl.log"), "after\n");
    }

    #[test]
    fn a_file_that_was_deleted_is_there_again_without_anybody_asking() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(&folder, Limits { max_size: 1 << 20, ..SMALL });
        log.write("before\n", clock::now().wall);
        std::fs::remove_file(folder.path().join("rtcctl.log")).unwrap();
        log.tick(clock::now().wall);
        log.write("after\n", clock::now().wall);
        assert_eq!(read(&folder, "rtcctl.log"), "after\n");
        // Whoever has an empty one made meanwhile, as for what is said beside the log, is joined.
        std::fs::remove_file(folder.path().join("rtcctl.log")).unwrap();
        File::create(folder.path().join("rtcctl.log")).unwrap();
        log.tick(clock::now().wall);
        log.write("once more\n", clock::now().wall);
        log.tick(clock::now().wall);
        assert_eq!(read(&folder, "rtcctl.log"), "once more\n");
    }

    #[test]
    fn lines_that_a_full_disk_refused_are_counted_and_told_of_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rtcctl.log");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let now = clock::now().wall;
        let mut log = LogFile::open(&path, SMALL, now).unwrap();
        for _ in 0..5 {
            log.write("lost\n", now);
        }
        assert_eq!(log.lost(), 5);
        std::fs::remove_file(&path).unwrap();
        log.reopen(now).unwrap();
        log.write("here\n", now);
        let text = read(&folder, "rtcctl.log");
        assert!(
            text.contains("WARN log: 5 lines before this could not be written") && text.ends_with("here\n"),
            "{text}"
        );
        assert_eq!(log.lost(), 5, "the count is of all");
    }
}
