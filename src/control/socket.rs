//! The control socket and its place in the file system, which somebody may clear.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Backlog, getsockopt, listen, sockopt::PeerCredentials};

use crate::sys::unix::{ShortPath, Spot};

/// Clients that may wait to be accepted.
const WAITING: i32 = 64;

/// A listening socket that can be reached by its path.
#[derive(Debug)]
pub struct Socket {
    spot: Spot,
    listener: UnixListener,
}

impl Socket {
    /// Binds `path` for this user alone, in the place of what is left there: the caller holds the home's lock.
    ///
    /// # Errors
    /// If the folder is not there or not writable.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let short = ShortPath::to(path)?;
        short.clear()?;
        let listener = UnixListener::bind(&short.path)?;
        short.close_to_others()?;
        Self::new(path, listener)
    }

    /// Takes over a listener that was handed over, if `path` still leads to it.
    #[must_use]
    pub fn take_over(path: &Path, listener: UnixListener) -> Option<Self> {
        // By this call the kernel names this process to whoever connects.
        listen(&listener, Backlog::new(WAITING).ok()?).ok()?;
        let short = ShortPath::to(path).ok()?;
        let stream = UnixStream::connect(&short.path).ok()?;
        let answers = getsockopt(&stream, PeerCredentials).ok()?.pid().unsigned_abs();
        (answers == std::process::id()).then(|| Self::new(path, listener).ok()).flatten()
    }

    fn new(path: &Path, listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let spot = Spot::of(path);
        if spot.is_kept() { Ok(Self { spot, listener }) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// Whether the path still leads to it.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.spot.is_kept()
    }

    /// Binds the path anew, for a socket that cannot be reached any more.
    ///
    /// # Errors
    /// As [`Socket::bind`].
    pub fn renew(&mut self) -> io::Result<()> {
        *self = Self::bind(self.spot.path())?;
        Ok(())
    }

    /// The next client; `None` if none has come within `patience`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn accept(&self, patience: Duration) -> io::Result<Option<UnixStream>> {
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let mut waiting = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        // Interrupted or not, a look does no harm.
        let _ = poll(&mut waiting, timeout);
        match self.listener.accept() {
            Ok((stream, _)) => Ok(Some(stream)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.spot.path()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_taken_over_only_while_its_path_leads_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let first = Socket::bind(&path).unwrap();
        let handed = || first.listener.try_clone().unwrap();
        let again = Socket::take_over(&path, handed()).unwrap();
        assert!(again.is_reachable());
        let waiting = UnixStream::connect(&path).unwrap();
        assert!(again.accept(Duration::from_secs(5)).unwrap().is_some());
        drop(waiting);
        std::fs::remove_file(&path).unwrap();
        assert!(!again.is_reachable());
        assert!(Socket::take_over(&path, handed()).is_none(), "nothing is there");
        let other = UnixListener::bind(&path).unwrap();
        assert!(!again.is_reachable(), "it leads somewhere else");
        drop(other);
        assert!(Socket::take_over(&path, handed()).is_none(), "nobody listens there");
    }

    #[test]
    fn a_socket_whose_file_was_deleted_can_be_had_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let mut socket = Socket::bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        socket.renew().unwrap();
        assert!(socket.is_reachable());
        let _client = UnixStream::connect(&path).unwrap();
        assert!(socket.accept(Duration::from_secs(5)).unwrap().is_some());
    }
}
