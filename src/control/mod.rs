//! How commands reach the daemon: one JSON line each way over a Unix socket.

pub mod client;
pub mod protocol;
pub mod server;

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::libc;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of the longest line; a status has a few thousand.
const MAX_LINE: u64 = 256 * 1024;

/// A path to a socket that is short enough for the kernel (108 bytes), however long the home's own path is.
///
/// It leads through a descriptor of the folder, which must live as long as the path is used.
struct ShortPath {
    _folder: File,
    path: PathBuf,
}

impl ShortPath {
    fn to(socket: &Path) -> io::Result<Self> {
        let folder = socket.parent().unwrap_or(Path::new("/"));
        let folder =
            std::fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(folder)?;
        let name = socket.file_name().unwrap_or_default();
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(Self { _folder: folder, path })
    }
}

/// Writes one line.
fn write_line(mut stream: &UnixStream, document: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(document)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Reads one line of a bounded length.
fn read_line<T: DeserializeOwned>(stream: &UnixStream) -> io::Result<T> {
    let mut line = Vec::new();
    BufReader::new(stream.take(MAX_LINE)).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if line.last() != Some(&b'\n') {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the line is too long or cut off"));
    }
    Ok(serde_json::from_slice(&line)?)
}
