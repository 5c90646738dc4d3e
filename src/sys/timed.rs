//! A stream whose every read and write ends at a deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::clock;

/// A blocking stream that gives up at a moment.
#[derive(Debug)]
pub struct Timed {
    stream: TcpStream,
    /// What is not done by then fails by `TimedOut` or `WouldBlock`.
    pub until: Instant,
}

impl Timed {
    #[must_use]
    pub fn new(stream: TcpStream, until: Instant) -> Self {
        Self { stream, until }
    }
}

/// What is left until `until`; an operating system takes zero for forever.
///
/// # Errors
/// `TimedOut` if nothing is.
pub fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(clock::now().mono);
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.until)?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.until)?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
