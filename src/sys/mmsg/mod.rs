//! Batches of datagrams, with what the kernel says and is told beside each of them.
//!
//! [`receive`] takes many datagrams by one call (`recvmmsg`), those of one sender in one piece where the kernel has
//! gathered them (`UDP_GRO`). [`send`] gives away many by one call (`sendmmsg`), those to one address in one piece
//! (`UDP_SEGMENT`). [`errors`] reads what the network answered (`IP_RECVERR`).
//!
//! A server on a wildcard address must answer from the address it was asked at, so that is read with every datagram
//! (`IP_PKTINFO`, `IPV6_PKTINFO`) and said with every answer.
#![expect(unsafe_code, reason = "no safe wrapper has batches with control messages of their own, or all socket options")]

pub mod errors;
pub mod receive;
pub mod send;

use std::io;
use std::mem::{size_of, size_of_val};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

use nix::libc;

pub use errors::{NetworkError, read_error};
pub use receive::{Arrival, Receiver};
pub use send::{Batch, Sender, Sent};

/// Datagrams that the kernel cuts one piece into at most: `UDP_MAX_SEGMENTS` of Linux before 6.12, which has 128.
pub const MAX_SEGMENTS: usize = 64;
/// Bytes of one piece: the longest UDP payload over IPv4.
pub const MAX_PIECE: usize = 65_507;

/// Room for the control messages of one datagram, in words, since their headers are aligned: an `in6_pktinfo` and a
/// segment size, which is an `int` when received and a `u16` when sent.
const CONTROL_WORDS: usize = 8;
type Control = [u64; CONTROL_WORDS];

/// A socket address as the kernel writes it, without the 100 bytes that `sockaddr_storage` keeps for other families.
#[derive(Clone, Copy)]
#[repr(C)]
union Name {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Name {
    const LENGTH: libc::socklen_t = size_of::<Self>() as libc::socklen_t;

    fn empty() -> Self {
        Self { v6: libc::sockaddr_in6 { sin6_family: 0, sin6_port: 0, sin6_flowinfo: 0, sin6_addr: libc::in6_addr { s6_addr: [0; 16] }, sin6_scope_id: 0 } }
    }

    /// What the kernel wrote; `None` if it is not of the internet.
    fn read(&self) -> Option<SocketAddr> {
        // SAFETY: every byte was initialised by `empty`, and any bits are valid for these plain integers.
        let (family, v4, v6) = unsafe { (self.family, self.v4, self.v6) };
        match libc::c_int::from(family) {
            libc::AF_INET => {
                let address = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                Some(SocketAddrV4::new(address, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                let address = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                Some(SocketAddrV6::new(address, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }

    /// Writes an address for the kernel and gives its length.
    fn write(&mut self, address: SocketAddr) -> libc::socklen_t {
        match address {
            SocketAddr::V4(v4) => {
                self.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from(*v4.ip()).to_be() },
                    sin_zero: [0; 8],
                };
                size_of::<libc::sockaddr_in>() as libc::socklen_t
            }
            SocketAddr::V6(v6) => {
                self.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                };
                size_of::<libc::sockaddr_in6>() as libc::socklen_t
            }
        }
    }
}

/// A header that names nothing yet.
fn empty_header() -> libc::msghdr {
    // SAFETY: zeros are a valid value of this plain C structure: no buffers.
    unsafe { std::mem::zeroed() }
}

/// The value of a control message, if it is long enough.
///
/// # Safety
/// `control` points to a whole control message.
unsafe fn control_value<T: Copy>(control: *const libc::cmsghdr) -> Option<T> {
    // SAFETY: the caller gives a whole message; its data are read unaligned, after their length was compared.
    unsafe {
        let length = ((*control).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
        (length >= size_of::<T>()).then(|| ptr::read_unaligned(libc::CMSG_DATA(control).cast::<T>()))
    }
}

/// How a socket treats datagrams that are too long for the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragments {
    /// Routers may cut them up. What ICMP says of the path is not believed: nobody can make this host send tiny ones.
    Allowed,
    /// Routers drop them and say so. RFC 8656, section 14.
    Forbidden,
}

/// Sets how datagrams that are too long for the path are treated from now on.
///
/// # Errors
/// What the kernel says.
pub fn set_fragments(socket: BorrowedFd<'_>, is_ipv4: bool, fragments: Fragments) -> io::Result<()> {
    let (level, name, value) = match (is_ipv4, fragments) {
        (true, Fragments::Allowed) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_OMIT),
        (true, Fragments::Forbidden) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO),
        // With IPv6 only the sender cuts up, so that it has to believe what the path says.
        (false, Fragments::Allowed) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT),
        (false, Fragments::Forbidden) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO),
    };
    set_option(socket, level, name, value)
}

fn set_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: libc::c_int) -> io::Result<()> {
    let length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the option's value is an `int`, which lives on this stack for the time of the call.
    let failed = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, ptr::from_ref(&value).cast(), length) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
