//! UDP sockets with the options that a relay needs.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, getsockopt, setsockopt, socket, sockopt,
};

use super::mmsg::{Fragments, set_fragments};

/// Bytes that may wait in a listener: a keyframe of many callers at once fits.
const LISTENER_BUFFER: usize = 4 << 20;
/// Bytes that may wait in a relay socket: a keyframe of one caller fits. They are not taken before they are needed.
const RELAY_BUFFER: usize = 512 << 10;

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Shares its address with the other workers' listeners, and tells where each datagram was sent to.
    Listener,
    /// Has its address for itself, and hears what the network says of its datagrams.
    Relay,
}

/// What the kernel can do for many datagrams at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Datagrams of one sender arrive in one piece: `UDP_GRO`, Linux 5.0.
    pub gro: bool,
    /// Datagrams to one address leave in one piece: `UDP_SEGMENT`, Linux 4.18.
    pub gso: bool,
}

/// Asks the kernel.
#[must_use]
pub fn offloads() -> Offloads {
    let Ok(socket) = open((Ipv4Addr::LOCALHOST, 0).into(), Purpose::Listener) else { return Offloads::default() };
    Offloads {
        gro: getsockopt(&socket, sockopt::UdpGroSegment).unwrap_or(false),
        gso: getsockopt(&socket, sockopt::UdpGsoSegment).is_ok(),
    }
}

/// Whether sockets of this process may have larger buffers than the system allows everybody.
#[must_use]
pub fn may_force_buffers() -> bool {
    let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)) else { return false };
    setsockopt(&socket, sockopt::RcvBufForce, &LISTENER_BUFFER).is_ok()
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
    }
    prepare(&socket, address, purpose)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(UdpSocket::from(socket))
}

/// Makes a listener that was handed over like one of [`open`]: whoever opened it may not know what a relay needs.
///
/// # Errors
/// What the kernel says.
pub fn adopt(socket: &UdpSocket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    prepare(socket, socket.local_addr()?, Purpose::Listener)
}

/// Sets what may be set before or after the socket has its address.
fn prepare(socket: &impl AsFd, address: SocketAddr, purpose: Purpose) -> io::Result<()> {
    match purpose {
        Purpose::Listener => {
            enlarge(socket, LISTENER_BUFFER);
            if address.ip().is_unspecified() {
                if address.is_ipv4() {
                    setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
                } else {
                    setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
                }
            }
        }
        Purpose::Relay => {
            enlarge(socket, RELAY_BUFFER);
            if address.is_ipv4() {
                setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
            } else {
                setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
            }
        }
    }
    set_fragments(socket.as_fd(), address.is_ipv4(), Fragments::Allowed)?;
    // A kernel without it gives datagrams one by one.
    let _ = setsockopt(socket, sockopt::UdpGroSegment, &true);
    Ok(())
}

/// Asks for room beyond the system's limit, or else as much as that allows: less room is no reason not to serve.
fn enlarge(socket: &impl AsFd, bytes: usize) {
    if setsockopt(socket, sockopt::RcvBufForce, &bytes).is_err() {
        let _ = setsockopt(socket, sockopt::RcvBuf, &bytes);
    }
    if setsockopt(socket, sockopt::SndBufForce, &bytes).is_err() {
        let _ = setsockopt(socket, sockopt::SndBuf, &bytes);
    }
}
