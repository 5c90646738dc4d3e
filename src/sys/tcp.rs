//! TCP listeners that a restarted service can have back at once.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;

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
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    // Connections of a service that has just ended linger; they do not hold the port.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&socket, Backlog::new(WAITING)?)?;
    Ok(TcpListener::from(socket))
}
