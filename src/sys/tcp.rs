//! TCP listeners that a restarted service can have back at once, and bounds for connections.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd as _};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};

/// Connections that may wait to be accepted; the kernel caps it by `net.core.somaxconn`.
const WAITING: i32 = 1024;

/// Listens on `address` without ever blocking. `[::]` takes IPv6 only, so that it goes with `0.0.0.0`.
///
/// # Errors
/// What the kernel says.
pub fn open(address: SocketAddr) -> io::Result<TcpListener> {
    open_with(address, false)
}

/// As [`open`], beside listeners of ours that [`share_port`] was called for.
///
/// # Errors
/// What the kernel says.
pub fn open_shared(address: SocketAddr) -> io::Result<TcpListener> {
    open_with(address, true)
}

/// From now on another listener of this user may have the same port.
///
/// # Errors
/// What the kernel says.
pub fn share_port(listener: &TcpListener) -> io::Result<()> {
    Ok(setsockopt(listener, sockopt::ReusePort, &true)?)
}

fn open_with(address: SocketAddr, is_shared: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    // Connections of a service that has just ended linger; they do not hold the port.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if is_shared {
        setsockopt(&socket, sockopt::ReusePort, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&socket, room())?;
    Ok(TcpListener::from(socket))
}

/// Makes a listener that was handed over like one of [`open`].
///
/// # Errors
/// What the kernel says.
pub fn adopt(listener: &TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    setsockopt(listener, sockopt::ReuseAddr, &true)?;
    // Whoever opened it may have left room for a few connections only.
    Ok(listen(listener, room())?)
}

/// For as many as [`WAITING`]; musl knows a kernel that took 128, and then it is what this one takes.
fn room() -> Backlog {
    Backlog::new(WAITING).unwrap_or(Backlog::MAXALLOWABLE)
}

/// Has the kernel take no more from us while `bytes` wait for their first sending. What the network has in flight
/// does not count.
///
/// # Errors
/// What the kernel says.
#[expect(unsafe_code, reason = "nix has no TCP_NOTSENT_LOWAT")]
pub fn keep_unsent(stream: &impl AsFd, bytes: u32) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<u32>()).map_err(io::Error::other)?;
    let descriptor = stream.as_fd().as_raw_fd();
    // SAFETY: the kernel reads `length` bytes of `bytes`, which outlives the call.
    let set = unsafe {
        libc::setsockopt(descriptor, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, (&raw const bytes).cast(), length)
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Has the kernel end a connection whose other end has acknowledged or taken nothing for so long.
///
/// # Errors
/// What the kernel says.
pub fn give_up_after(stream: &impl AsFd, patience: Duration) -> io::Result<()> {
    let milliseconds = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
    Ok(setsockopt(stream, sockopt::TcpUserTimeout, &milliseconds)?)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpStream;

    use nix::sys::socket::getsockopt;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    /// Bytes that the kernel takes for a client that never reads.
    fn taken(stream: &mut TcpStream) -> usize {
        stream.set_nonblocking(true).unwrap();
        let block = [7; 4096];
        let mut taken = 0;
        while let Ok(length) = stream.write(&block) {
            taken += length;
        }
        taken
    }

    #[test]
    fn little_waits_for_a_client_that_never_reads_and_the_kernel_gives_it_up() {
        let ((_free, mut unbounded), (_bound, mut bounded)) = (pair(), pair());
        keep_unsent(&bounded, 16 * 1024).unwrap();
        give_up_after(&bounded, Duration::from_secs(30)).unwrap();
        assert_eq!(getsockopt(&bounded, sockopt::TcpUserTimeout).unwrap(), 30_000);
        let (all, few) = (taken(&mut unbounded), taken(&mut bounded));
        assert!(few < all, "{few} of {all} bytes");
    }
}
