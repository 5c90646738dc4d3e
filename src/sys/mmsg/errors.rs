//! What the network answered to datagrams of a socket with `IP_RECVERR`.
#![expect(unsafe_code, reason = "the kernel is given pointers to the buffers")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

use nix::libc;

use super::{CONTROL_WORDS, Control, Name, control_value, empty_header};
use crate::sys::net::Family;

/// An ICMP message that answered a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkError {
    /// Where the datagram was sent to.
    pub to: SocketAddr,
    /// Of ICMP: its two versions number their types apart.
    pub family: Family,
    pub kind: u8,
    pub code: u8,
    /// The MTU of the path for a datagram that was too long, else zero.
    pub mtu: u32,
}

/// Reads one entry of the socket's error queue. `None` is one that is not from the network.
///
/// # Errors
/// What the kernel says, `WouldBlock` if the queue is empty.
pub fn read_error(socket: BorrowedFd<'_>) -> io::Result<Option<NetworkError>> {
    let mut name = Name::empty();
    // The kernel gives an address after `sock_extended_err`, that of who complains: at most 28 bytes.
    let mut control: [Control; 2] = [[0; CONTROL_WORDS]; 2];
    let mut header = empty_header();
    header.msg_name = ptr::from_mut(&mut name).cast();
    header.msg_namelen = Name::LENGTH;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: the header points to live buffers of the lengths it says, on this stack.
    if unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let Some(to) = name.read() else { return Ok(None) };
    // SAFETY: the kernel has filled `msg_control` up to `msg_controllen` with whole control messages.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(&raw const header);
        while !message.is_null() {
            let kind = ((*message).cmsg_level, (*message).cmsg_type);
            let is_error =
                kind == (libc::IPPROTO_IP, libc::IP_RECVERR) || kind == (libc::IPPROTO_IPV6, libc::IPV6_RECVERR);
            if is_error && let Some(error) = control_value::<libc::sock_extended_err>(message) {
                return Ok(from_network(to, &error));
            }
            message = libc::CMSG_NXTHDR(&raw const header, message);
        }
    }
    Ok(None)
}

fn from_network(to: SocketAddr, error: &libc::sock_extended_err) -> Option<NetworkError> {
    let family = match error.ee_origin {
        libc::SO_EE_ORIGIN_ICMP => Family::V4,
        libc::SO_EE_ORIGIN_ICMP6 => Family::V6,
        // What the kernel itself says of a datagram that is too long for the path has no port with it.
        _ => return None,
    };
    Some(NetworkError { to, family, kind: error.ee_type, code: error.ee_code, mtu: error.ee_info })
}
