//! The manager's end of sd_notify(3): receives messages and sockets from one process and from nobody else.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt, sockopt};

use super::unix::{ShortPath, Spot};

/// Bytes of the longest message; what is longer is cut off.
const MAX_TEXT: usize = 4096;
/// Sockets that come with one message: as many as the kernel lets through.
const MAX_SOCKETS: usize = 253;

/// Where the daemon's messages arrive.
#[derive(Debug)]
pub struct Notices {
    spot: Spot,
    socket: UnixDatagram,
}

/// A message, with who sent it.
#[derive(Debug)]
pub struct Notice {
    /// The sender's process, as the kernel vouches for it.
    pub pid: u32,
    pub text: String,
    pub sockets: Vec<OwnedFd>,
}

impl Notices {
    /// Binds `path` for this user alone, in the place of what is left there.
    ///
    /// # Errors
    /// If the folder is not there or not writable.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let short = ShortPath::to(path)?;
        short.clear()?;
        let socket = UnixDatagram::bind(&short.path)?;
        short.close_to_others()?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, sockopt::PassCred, &true)?;
        Ok(Self { spot: Spot::of(path), socket })
    }

    /// Whether the path still leads here.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.spot.is_kept()
    }

    /// The next message; `None` if there is none now.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn receive(&self) -> io::Result<Option<Notice>> {
        let mut text = [0; MAX_TEXT];
        let mut room = nix::cmsg_space!(UnixCredentials, [RawFd; MAX_SOCKETS]);
        let mut parts = [IoSliceMut::new(&mut text)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let received = match recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut room), flags) {
            Ok(received) => received,
            Err(Errno::EAGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (mut pid, mut sockets) = (0, Vec::new());
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = message {
                sockets.extend(numbers.into_iter().map(own));
            } else if let ControlMessageOwned::ScmCredentials(sender) = message {
                pid = sender.pid().unsigned_abs();
            }
        }
        let length = received.bytes;
        Ok(Some(Notice { pid, text: String::from_utf8_lossy(&text[..length]).into_owned(), sockets }))
    }
}

impl AsFd for Notices {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[expect(unsafe_code, reason = "descriptors that arrive are known by their numbers alone")]
fn own(number: RawFd) -> OwnedFd {
    // SAFETY: the kernel has made it for this process with the message, and nobody else has heard of it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::sys::notify::Manager;

    #[test]
    fn messages_and_sockets_arrive_with_their_sender() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d".repeat(150)).join("notify.sock");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        let notices = Notices::bind(&path).unwrap();
        let notices = {
            drop(notices);
            Notices::bind(&path).expect("what is left there is replaced")
        };
        assert!(notices.receive().unwrap().is_none());
        let manager = Manager::at(path.as_os_str(), None);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        manager.keep("https", [&listener]).unwrap();
        manager.ready();
        drop((listener, manager));
        let stored = notices.receive().unwrap().unwrap();
        assert_eq!(stored.pid, std::process::id());
        assert_eq!(stored.text, "FDSTORE=1\nFDPOLL=0\nFDNAME=https");
        assert_eq!(stored.sockets.len(), 1);
        assert!(TcpStream::connect(address).is_ok(), "what was received still listens");
        let ready = notices.receive().unwrap().unwrap();
        assert_eq!((ready.text.as_str(), ready.sockets.len()), ("READY=1", 0));
        drop(stored);
        assert!(TcpStream::connect(address).is_err());
    }
}
