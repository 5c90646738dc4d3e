//! Batches of datagrams, with what the kernel says and is told beside each of them.
//!
//! [`receive`] takes many datagrams by one call (`recvmmsg`), those of one sender in one piece where the kernel has
//! gathered them (`UDP_GRO`). [`send`] gives away many by one call (`sendmmsg`), those to one address in one piece
//! (`UDP_SEGMENT`). [`errors`] reads what the network answered (`IP_RECVERR`).
//!
//! A server on a wildcard address must answer from the address it was asked at, so that is read with every datagram
//! (`IP_PKTINFO`, `IPV6_PKTINFO`) and said with every answer.
#![expect(
    unsafe_code,
    reason = "no safe wrapper has batches with control messages of their own, or all socket options"
)]
#![allow(clippy::unnecessary_cast, reason = "the lengths in these structures have other types with musl")]

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
        Self {
            v6: libc::sockaddr_in6 {
                sin6_family: 0,
                sin6_port: 0,
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
                sin6_scope_id: 0,
            },
        }
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

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, UdpSocket};
    use std::os::fd::AsFd as _;
    use std::time::Duration;

    use nix::poll::{PollFd, PollFlags, poll};

    use super::*;
    use crate::sys::net::Family;
    use crate::sys::udp::{Purpose, offloads, open};

    fn exchange(wildcard: &str, asked_at: &str) {
        let server = open(wildcard.parse().unwrap(), Purpose::Listener).unwrap();
        let port = server.local_addr().unwrap().port();
        let client = UdpSocket::bind((asked_at.parse::<IpAddr>().unwrap(), 0)).unwrap();
        let asked: SocketAddr = (asked_at.parse::<IpAddr>().unwrap(), port).into();
        for text in ["one", "two"] {
            client.send_to(text.as_bytes(), asked).unwrap();
        }
        let mut receiver = Receiver::default();
        assert_eq!(receiver.receive(server.as_fd()).unwrap(), 0..2);
        let mut sender = Sender::default();
        let mut batch = sender.batch();
        for slot in 0..2 {
            let arrival = receiver.arrival(slot).unwrap();
            assert_eq!((arrival.from, arrival.local), (client.local_addr().unwrap(), Some(asked.ip())));
            let places: Vec<_> = arrival.segments().collect();
            batch.begin(arrival.from, arrival.local, 1, 6);
            batch.part(b"re:");
            batch.part(&receiver.memory()[places[0].clone()]);
            assert_eq!(places.len(), 1);
        }
        assert_eq!(batch.transmit(server.as_fd()), Sent::default());
        let mut buffer = [0; 16];
        for text in ["re:one", "re:two"] {
            let (length, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from), (text.as_bytes(), asked));
        }
    }

    /// Row S16.
    #[test]
    fn answers_leave_from_the_address_that_was_asked() {
        exchange("0.0.0.0:0", "127.0.0.1");
        // Any address of 127.0.0.0/8 is this host; the routing table alone would choose 127.0.0.1.
        exchange("0.0.0.0:0", "127.0.0.9");
        exchange("[::]:0", "::1");
    }

    /// What is sent apart is cut into the same datagrams, whatever the parts were.
    #[test]
    fn an_empty_part_does_not_shift_what_follows() {
        let (socket, client) = (relay("127.0.0.1:0"), UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut sender = Sender::default();
        let mut batch = sender.batch();
        batch.begin(client.local_addr().unwrap(), None, 2, 6);
        [&b"first!"[..], b"", b"sec", b"on", b"d"].into_iter().for_each(|part| batch.part(part));
        let mut sent = Sent::default();
        batch.transmit_apart(socket.as_fd(), 0, &mut sent);
        assert_eq!(sent, Sent::default());
        let mut buffer = [0; 16];
        for text in ["first!", "second"] {
            let length = client.recv(&mut buffer).unwrap();
            assert_eq!(std::str::from_utf8(&buffer[..length]).unwrap(), text);
        }
    }

    fn relay(address: &str) -> UdpSocket {
        open(address.parse().unwrap(), Purpose::Relay).unwrap()
    }

    /// Three datagrams of 700, 700 and 500 bytes in one piece, their headers apart from their payloads.
    fn send_three(sender: &mut Sender, socket: &UdpSocket, to: SocketAddr) -> Sent {
        let payloads: Vec<Vec<u8>> = [(1, 696), (2, 696), (3, 496)].map(|(byte, len)| vec![byte; len]).into();
        let mut batch = sender.batch();
        batch.begin(to, None, 3, 700);
        for payload in &payloads {
            batch.part(b"head");
            batch.part(payload);
        }
        batch.transmit(socket.as_fd())
    }

    fn is_one_of_three(number: usize, bytes: &[u8]) -> bool {
        let length = [700, 700, 500][number];
        bytes.len() == length
            && bytes.starts_with(b"head")
            && bytes[4..].iter().all(|byte| *byte as usize == number + 1)
    }

    #[test]
    fn what_leaves_in_one_piece_arrives_in_one_and_is_told_apart() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (from, to) = (relay(address), relay(address));
            let sent = send_three(&mut Sender::default(), &from, to.local_addr().unwrap());
            assert_eq!(sent, Sent { pieces: 1, ..Sent::default() });
            let mut receiver = Receiver::default();
            let slots = receiver.receive(to.as_fd()).unwrap();
            if offloads().gro {
                assert_eq!(slots, 0..1);
            }
            let places: Vec<_> = slots.flat_map(|slot| receiver.arrival(slot).unwrap().segments()).collect();
            assert_eq!(places.len(), 3);
            for (number, place) in places.into_iter().enumerate() {
                assert!(is_one_of_three(number, &receiver.memory()[place]));
            }
        }
    }

    #[test]
    fn a_piece_that_is_refused_is_sent_one_by_one() {
        // Without checksums the kernel does not cut pieces up: EINVAL, as from a way out that cannot.
        let (from, to) = (relay("127.0.0.1:0"), relay("127.0.0.1:0"));
        set_option(from.as_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
        let mut sender = Sender::default();
        let sent = send_three(&mut sender, &from, to.local_addr().unwrap());
        assert_eq!(sent, Sent { refused: 1, ..Sent::default() });
        let mut buffer = [0; 1000];
        for number in 0..3 {
            let length = to.recv(&mut buffer).unwrap();
            assert!(is_one_of_three(number, &buffer[..length]), "{number}");
        }
    }

    /// Cases 78, 90.
    #[test]
    fn a_datagram_that_cannot_be_sent_does_not_hold_up_the_next() {
        let server = relay("127.0.0.1:0");
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (to, long) = (client.local_addr().unwrap(), vec![0; MAX_PIECE + 1]);
        let mut sender = Sender::default();
        let mut batch = sender.batch();
        let datagrams: [(SocketAddr, &[u8]); 4] =
            [("255.255.255.255:9".parse().unwrap(), b"broadcast"), (to, b"fine"), (to, &long), (to, b"fine, too")];
        for (to, bytes) in datagrams {
            batch.begin(to, None, 1, bytes.len());
            batch.part(bytes);
        }
        assert_eq!(batch.transmit(server.as_fd()), Sent { failed: 1, too_long: 1, ..Sent::default() });
        let mut buffer = [0; 16];
        assert_eq!(client.recv(&mut buffer).unwrap(), 4);
        assert_eq!(client.recv(&mut buffer).unwrap(), 9);
    }

    /// Waits until the network has answered.
    fn wait_for_error(socket: &UdpSocket) {
        // Errors are told whether they are asked for or not.
        let mut watched = [PollFd::new(socket.as_fd(), PollFlags::empty())];
        assert_eq!(poll(&mut watched, 10_000_u16).unwrap(), 1);
    }

    /// Rows T36, T37.
    /// Case 80.
    #[test]
    fn the_answer_to_one_peer_neither_costs_a_datagram_nor_hides_who_it_is_from() {
        for (address, family, kind, code) in [("127.0.0.1:0", Family::V4, 3, 3), ("[::1]:0", Family::V6, 1, 4)] {
            let (server, client) = (relay(address), relay(address));
            client.set_nonblocking(false).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let gone = relay(address).local_addr().unwrap();
            let mut sender = Sender::default();
            let mut send = |to: SocketAddr| {
                let mut batch = sender.batch();
                batch.begin(to, None, 1, 5);
                batch.part(b"hello");
                batch.transmit(server.as_fd())
            };
            assert_eq!(send(gone), Sent::default());
            wait_for_error(&server);
            // The kernel tells of the refusal in place of sending.
            assert_eq!(send(client.local_addr().unwrap()), Sent::default());
            assert_eq!(client.recv(&mut [0; 16]).unwrap(), 5);
            let error = read_error(server.as_fd()).unwrap().unwrap();
            assert_eq!(error, NetworkError { to: gone, family, kind, code, mtu: 0 });
            assert_eq!(read_error(server.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            // Reading is not kept from it, either.
            assert_eq!(send(gone), Sent::default());
            wait_for_error(&server);
            client.send_to(b"back", server.local_addr().unwrap()).unwrap();
            assert_eq!(Receiver::default().receive(server.as_fd()).unwrap(), 0..1);
        }
    }

    /// Row T34.
    #[test]
    fn t51_a_datagram_longer_than_the_mtu_is_cut_up_unless_that_is_forbidden() {
        let (from, to) = (relay("[::1]:0"), UdpSocket::bind("[::1]:0").unwrap());
        // Loopback's MTU is 64 KiB with the headers of 48 bytes; what the header of UDP can say is more.
        let (fits, long) = (vec![1; 65_488], vec![2; 65_489]);
        let mut buffer = vec![0; 70_000];
        let mut arrives = |fragments, bytes: &[u8]| {
            set_fragments(from.as_fd(), false, fragments).unwrap();
            from.send_to(bytes, to.local_addr().unwrap()).map(|_| to.recv(&mut buffer).unwrap()).ok()
        };
        assert_eq!(arrives(Fragments::Allowed, &long), Some(65_489));
        assert_eq!(arrives(Fragments::Forbidden, &fits), Some(65_488));
        assert_eq!(arrives(Fragments::Forbidden, &long), None);
        assert_eq!(arrives(Fragments::Allowed, &long), Some(65_489));
    }

    #[test]
    fn an_empty_datagram_is_one() {
        let (from, to) = (relay("127.0.0.1:0"), relay("127.0.0.1:0"));
        from.send_to(b"", to.local_addr().unwrap()).unwrap();
        let mut receiver = Receiver::default();
        assert_eq!(receiver.receive(to.as_fd()).unwrap(), 0..1);
        assert_eq!(receiver.arrival(0).unwrap().segments().map(|place| place.len()).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn a_receiver_takes_only_what_it_has_room_for_and_is_used_again() {
        let (from, to) = (relay("127.0.0.1:0"), relay("127.0.0.1:0"));
        for number in 0..=receive::SLOTS {
            from.send_to(&number.to_be_bytes(), to.local_addr().unwrap()).unwrap();
        }
        let mut receiver = Receiver::default();
        for _ in 0..receive::SLOTS / receive::PIECES {
            assert_eq!(receiver.receive(to.as_fd()).unwrap().len(), receive::PIECES);
        }
        assert_eq!(receiver.free(), 0);
        receiver.clear();
        assert_eq!(receiver.receive(to.as_fd()).unwrap(), 0..1);
        let place = receiver.arrival(0).unwrap().segments().next().unwrap();
        assert_eq!(receiver.memory()[place], receive::SLOTS.to_be_bytes());
    }

    #[test]
    fn a_batch_of_long_pieces_is_soon_long_enough() {
        let (from, to) = (relay("127.0.0.1:0"), relay("127.0.0.1:0"));
        let mut receiver = Receiver::default();
        let mut count = 0;
        while receiver.free() > 0 {
            from.send_to(&[7; MAX_PIECE], to.local_addr().unwrap()).unwrap();
            receiver.receive(to.as_fd()).unwrap();
            count += 1;
        }
        assert_eq!(count, 17);
        receiver.clear();
        assert_eq!(receiver.free(), receive::SLOTS);
    }
}
