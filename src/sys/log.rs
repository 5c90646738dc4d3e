//! Where log lines go: standard error, or a file that never grows past its bound.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::tail::TailLayer;

/// Bytes after which a log file is put aside.
const MAX_BYTES: u64 = 10 << 20;
/// Files that are kept besides the one that is written: `rtcctl.log.1` is the newest.
const KEPT: usize = 3;

/// A log file that is put aside when it is full. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogFile {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: File,
    bytes: u64,
    max_bytes: u64,
}

impl LogFile {
    /// Opens the file for appending, readable by this user alone.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::bounded(path, MAX_BYTES)
    }

    fn bounded(path: &Path, max_bytes: u64) -> io::Result<Self> {
        let file = append_to(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { inner: Arc::new(Mutex::new(Inner { path: path.to_path_buf(), file, bytes, max_bytes })) })
    }

    /// Opens the file by its name again: somebody may have moved it away.
    ///
    /// # Errors
    /// What the kernel says; the old file is still written then.
    pub fn reopen(&self) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        inner.file = append_to(&inner.path)?;
        inner.bytes = inner.file.metadata()?.len();
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if inner.bytes > 0 && inner.bytes + line.len() as u64 > inner.max_bytes {
            inner.put_aside()?;
        }
        inner.file.write_all(line)?;
        inner.bytes += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Inner {
    fn put_aside(&mut self) -> io::Result<()> {
        let numbered = |number: usize| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..KEPT).rev() {
            // There may be fewer than are kept.
            let _ = std::fs::rename(numbered(number), numbered(number + 1));
        }
        std::fs::rename(&self.path, numbered(1))?;
        self.file = append_to(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Sends log lines to `file`, or to standard error. `RTCCTL_LOG` overrides what `verbose` asks for.
pub fn init(file: Option<LogFile>, verbose: u8) {
    let level = match verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    // The STUN codec warns about every malformed datagram, of which a public port gets many.
    let filter = std::env::var("RTCCTL_LOG").ok().and_then(|wanted| EnvFilter::try_new(wanted).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(format!("{level},stun_types=error,turn_types=error")));
    let format = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_thread_names(true);
    // A second call, as in tests, changes nothing.
    let _ = match file {
        Some(file) => format.with_ansi(false).with_writer(file).finish().with(TailLayer).try_init(),
        None => {
            let format = format.with_ansi(io::stderr().is_terminal()).with_writer(io::stderr);
            format.finish().with(TailLayer).try_init()
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_put_aside_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rtcctl.log");
        let mut log = LogFile::bounded(&path, 20).unwrap();
        for number in 0..12 {
            log.write_all(format!("line {number:04}\n").as_bytes()).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("rtcctl.log"), "line 0010\nline 0011\n");
        assert_eq!(read("rtcctl.log.1"), "line 0008\nline 0009\n");
        assert_eq!(read("rtcctl.log.3"), "line 0004\nline 0005\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1 + KEPT);
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rtcctl.log");
        let mut log = LogFile::open(&path).unwrap();
        log.write_all(b"before\n").unwrap();
        std::fs::rename(&path, folder.path().join("moved")).unwrap();
        log.reopen().unwrap();
        log.write_all(b"after\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "after\n");
    }
}
