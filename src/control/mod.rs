//! How commands reach the daemon: one JSON line each way over a Unix socket.

pub mod client;
pub mod protocol;
pub mod server;
pub mod socket;

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::words::carry;

/// Bytes of the longest line; a status has a few thousand.
const MAX_LINE: u64 = 256 * 1024;

/// Writes one line.
fn write_line(mut stream: &UnixStream, document: &impl Serialize) -> io::Result<()> {
    stream.write_all(&carry::to_line(document)?)
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
    Ok(carry::from_line(&line)?)
}
