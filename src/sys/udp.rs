//! UDP sockets with the options that a relay needs.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt};

/// Bytes that may wait in a listener; the kernel caps it by `net.core.rmem_max`. A keyframe of many callers at once fits.
const LISTENER_BUFFER: usize = 4 << 20;

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Shares its address with the other workers' listeners, and tells where each datagram was sent to.
    Listener,
    /// Has its address for itself.
    Relay,
}

/// Opens a socket on `address` that never blocks.
///
/// # Errors
/// What the kernel says.
pub fn open(address: SocketAddr, purpose: Purpose) -> io::Result<UdpSocket> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Datagram, flags, None)?;
    if address.is_ipv6() {
        // Both wildcards are bound side by side, so that IPv4 addresses look like IPv4 addresses.
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    if purpose == Purpose::Listener {
        setsockopt(&socket, sockopt::ReusePort, &true)?;
        // Less room is no reason not to serve.
        let _ = setsockopt(&socket, sockopt::RcvBuf, &LISTENER_BUFFER);
        if address.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(UdpSocket::from(socket))
}
