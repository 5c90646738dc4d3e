//! Connections of this process to itself, known by the address they come from.
//!
//! The kernel vouches for the address of an accepted connection, and nobody else can have the port while it is open. So
//! what was connected here is told from everybody else's connections, whatever those say.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, getsockname, getsockopt, socket, sockopt,
};

use super::clock;

/// How long a connection may wait to be accepted and still be known.
const KNOWN_FOR: Duration = Duration::from_secs(15);

/// The connections that were made here and not accepted yet. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    until_by_address: Arc<Mutex<BTreeMap<SocketAddr, Instant>>>,
}

impl Marks {
    /// Connects to `address`, which must be one of this host, and remembers where from.
    ///
    /// # Errors
    /// What the kernel says; `TimedOut` at `until`.
    pub fn connect(&self, address: SocketAddr, until: Instant) -> io::Result<TcpStream> {
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(family, SockType::Stream, flags, None)?;
        // Bound before it connects, so that it is known before it can be accepted.
        bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(address.ip(), 0)))?;
        let own = address_of(&getsockname(socket.as_raw_fd())?).ok_or(ErrorKind::AddrNotAvailable)?;
        let now = clock::now().mono;
        let mut known = self.known();
        known.retain(|_, until| *until > now);
        known.insert(own, now + KNOWN_FOR);
        drop(known);
        match connect(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
            Ok(()) => {}
            Err(Errno::EINPROGRESS) => {
                let left = until.saturating_duration_since(clock::now().mono);
                let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
                let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
                if poll(&mut waiting, timeout)? == 0 {
                    return Err(ErrorKind::TimedOut.into());
                }
                match getsockopt(&socket, sockopt::SocketError)? {
                    0 => {}
                    code => return Err(io::Error::from_raw_os_error(code)),
                }
            }
            Err(error) => return Err(error.into()),
        }
        let stream = TcpStream::from(socket);
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Whether an accepted connection from `address` was made here. It is said once.
    #[must_use]
    pub fn take(&self, address: SocketAddr) -> bool {
        let until = self.known().remove(&address);
        until.is_some_and(|until| until > clock::now().mono)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<SocketAddr, Instant>> {
        self.until_by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address_of(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn soon() -> Instant {
        clock::now().mono + Duration::from_secs(10)
    }

    #[test]
    fn a_connection_of_our_own_is_known_once_and_another_one_never() {
        let marks = Marks::default();
        for listener in ["127.0.0.1:0", "[::1]:0"].map(|address| TcpListener::bind(address).unwrap()) {
            let address = listener.local_addr().unwrap();
            let own = marks.connect(address, soon()).unwrap();
            let (_accepted, from) = listener.accept().unwrap();
            assert_eq!(from, own.local_addr().unwrap());
            assert!(marks.take(from));
            assert!(!marks.take(from));
            let _other = TcpStream::connect(address).unwrap();
            let (_accepted, from) = listener.accept().unwrap();
            assert!(!marks.take(from));
        }
    }

    #[test]
    fn a_port_that_nobody_listens_on_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = Marks::default().connect(address, soon()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
}
