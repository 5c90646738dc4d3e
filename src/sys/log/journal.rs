//! systemd's journal by its native protocol: one datagram a record, each field by itself.
//!
//! See <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::record::{Level, Record};

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// Bytes of one value: a datagram that is too long is refused as a whole.
const MAX_VALUE: usize = 16 * 1024;

/// A way to the journal.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// The journal, if standard error leads there anyway, as it does for what systemd has started.
    #[must_use]
    pub(super) fn behind_stderr() -> Option<Self> {
        let stream = std::env::var("JOURNAL_STREAM").ok()?;
        let stderr = std::fs::metadata("/proc/self/fd/2").ok()?;
        if stream != format!("{}:{}", stderr.dev(), stderr.ino()) {
            return None;
        }
        Self::at(Path::new(SOCKET)).ok()
    }

    fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // A journal that is stuck must not hold up the service.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path: path.to_path_buf() })
    }

    /// # Errors
    /// What the kernel says: nobody listens, or the journal does not keep up.
    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        self.socket.send_to(&encoded(record), &self.path).map(drop)
    }
}

fn encoded(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    let priority = match record.level {
        Level::Error => "3",
        Level::Warn => "4",
        Level::Info => "6",
        Level::Debug | Level::Trace => "7",
    };
    put(&mut bytes, "MESSAGE", &record.text());
    put(&mut bytes, "PRIORITY", priority);
    put(&mut bytes, "SYSLOG_IDENTIFIER", "rtcctl");
    put(&mut bytes, "RTCCTL_TASK", &record.task);
    for (name, value) in &record.fields {
        put(&mut bytes, &field(name), value);
    }
    bytes
}

/// Ours have a prefix of their own: the journal's own fields are not to be mistaken for them.
fn field(name: &str) -> String {
    let plain = |symbol: char| if symbol.is_ascii_alphanumeric() { symbol.to_ascii_uppercase() } else { '_' };
    format!("RTCCTL_F_{}", name.chars().take(40).map(plain).collect::<String>())
}

fn put(bytes: &mut Vec<u8>, name: &str, value: &str) {
    let end = (0..=value.len().min(MAX_VALUE)).rev().find(|end| value.is_char_boundary(*end)).unwrap_or(0);
    let value = &value[..end];
    bytes.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        bytes.push(b'\n');
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend_from_slice(value.as_bytes());
    bytes.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;

    fn record(fields: &[(&str, &str)]) -> Record {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Record {
            at: clock::now().wall,
            level: Level::Warn,
            task: "web".to_owned(),
            message: "it broke".to_owned(),
            fields,
        }
    }

    fn listener() -> (tempfile::TempDir, UnixDatagram, Journal) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixDatagram::bind(&path).unwrap();
        (folder, listener, Journal::at(&path).unwrap())
    }

    #[test]
    fn a_record_arrives_field_by_field() {
        let (_folder, listener, journal) = listener();
        journal.write(&record(&[("port", "443"), ("last-error", "two\nlines")])).unwrap();
        let mut buffer = [0; 4096];
        let length = listener.recv(&mut buffer).unwrap();
        let wanted = [
            &b"MESSAGE=it broke port=443 last-error=\"two\\nlines\"\nPRIORITY=4\nSYSLOG_IDENTIFIER=rtcctl\n"[..],
            b"RTCCTL_TASK=web\nRTCCTL_F_PORT=443\nRTCCTL_F_LAST_ERROR\n\x09\0\0\0\0\0\0\0two\nlines\n",
        ];
        assert_eq!(String::from_utf8_lossy(&buffer[..length]), String::from_utf8_lossy(&wanted.concat()));
    }

    #[test]
    fn a_value_without_bounds_is_cut_and_a_journal_that_does_not_read_holds_up_nobody() {
        let (_folder, _listener, journal) = listener();
        let long = "ä".repeat(MAX_VALUE);
        let failure = std::iter::repeat_with(|| journal.write(&record(&[("text", &long)]))).find_map(Result::err);
        assert_eq!(failure.unwrap().kind(), io::ErrorKind::WouldBlock);
    }
}
