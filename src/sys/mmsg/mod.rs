//! Batches of datagrams: `recvmmsg` and `sendmmsg` with the local address of each.
//!
//! A server on a wildcard address must answer from the address it was asked at, so that is read with every datagram
//! (`IP_PKTINFO`, `IPV6_PKTINFO`) and said with every answer.
#![expect(unsafe_code, reason = "no safe wrapper sends a batch with a control message of its own for each datagram")]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

use nix::libc;

/// Datagrams of one system call.
pub const BATCH: usize = 32;
/// The longest UDP datagram.
const MAX_DATAGRAM: usize = 65_536;
/// Room for one `in6_pktinfo` with its header, in words, since headers are aligned.
const CONTROL_WORDS: usize = 8;
type Control = [u64; CONTROL_WORDS];

/// Buffers that a batch is received into, made once.
pub struct Receiver {
    buffers: Vec<u8>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    headers: Vec<libc::mmsghdr>,
    iovecs: Vec<libc::iovec>,
}

// SAFETY: the raw pointers in `headers` and `iovecs` point into the other fields and are written anew by every
// `receive`, before the kernel reads them; nothing else follows them but `packet`, which ends before the next call.
unsafe impl Send for Receiver {}

/// A datagram of the last batch.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    pub bytes: &'a [u8],
    pub from: SocketAddr,
    /// The address it was sent to, where the socket tells.
    pub local: Option<IpAddr>,
}

impl Default for Receiver {
    fn default() -> Self {
        // SAFETY: all of these are plain C structures for which zeros are a valid value.
        let (name, header, iovec) = unsafe { (zeroed(), zeroed(), zeroed()) };
        Self {
            buffers: vec![0; BATCH * MAX_DATAGRAM],
            names: vec![name; BATCH],
            controls: vec![[0; CONTROL_WORDS]; BATCH],
            headers: vec![header; BATCH],
            iovecs: vec![iovec; BATCH],
        }
    }
}

impl Receiver {
    /// Receives what is there, up to [`BATCH`] datagrams, without waiting. Gives their number.
    ///
    /// # Errors
    /// What the kernel says, `WouldBlock` if nothing is there. An error that an earlier datagram caused is told here.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        for index in 0..BATCH {
            let buffer = &mut self.buffers[index * MAX_DATAGRAM..(index + 1) * MAX_DATAGRAM];
            self.iovecs[index] = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = ptr::from_mut(&mut self.names[index]).cast();
            header.msg_namelen = length(size_of::<libc::sockaddr_storage>());
            header.msg_iov = ptr::from_mut(&mut self.iovecs[index]);
            header.msg_iovlen = 1;
            header.msg_control = self.controls[index].as_mut_ptr().cast();
            header.msg_controllen = size_of::<Control>();
            header.msg_flags = 0;
        }
        // SAFETY: every header points to live buffers of the lengths it says, owned by `self` and borrowed mutably here.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    /// The datagram at `index` of the batch that [`Receiver::receive`] counted; `None` if it is not of the internet.
    #[must_use]
    pub fn packet(&self, index: usize) -> Option<Packet<'_>> {
        let header = &self.headers[index];
        let start = index * MAX_DATAGRAM;
        let bytes = &self.buffers[start..start + MAX_DATAGRAM.min(header.msg_len as usize)];
        let from = socket_address(&self.names[index])?;
        Some(Packet { bytes, from, local: self.local(index) })
    }

    fn local(&self, index: usize) -> Option<IpAddr> {
        let header = &self.headers[index].msg_hdr;
        // SAFETY: the kernel has filled `msg_control` up to `msg_controllen` with whole control messages; both belong to
        // `self.controls[index]`, which is aligned for them. Data are read unaligned, after their length was compared.
        unsafe {
            let mut control = libc::CMSG_FIRSTHDR(header);
            while !control.is_null() {
                let (level, kind, data) = ((*control).cmsg_level, (*control).cmsg_type, libc::CMSG_DATA(control));
                let payload = (*control).cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
                if level == libc::IPPROTO_IP && kind == libc::IP_PKTINFO && payload >= size_of::<libc::in_pktinfo>() {
                    let info: libc::in_pktinfo = ptr::read_unaligned(data.cast());
                    return Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
                }
                let is_v6 = level == libc::IPPROTO_IPV6 && kind == libc::IPV6_PKTINFO;
                if is_v6 && payload >= size_of::<libc::in6_pktinfo>() {
                    let info: libc::in6_pktinfo = ptr::read_unaligned(data.cast());
                    return Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                control = libc::CMSG_NXTHDR(header, control);
            }
        }
        None
    }
}

/// Datagrams that wait to be sent by one socket. Its memory is used again.
#[derive(Default)]
pub struct Sender {
    arena: Vec<u8>,
    waiting: Vec<Waiting>,
}

struct Waiting {
    start: usize,
    end: usize,
    to: SocketAddr,
    from: Option<IpAddr>,
}

impl Sender {
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= BATCH
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a datagram made of `parts`, to be sent from the local address `from`.
    pub fn push(&mut self, to: SocketAddr, from: Option<IpAddr>, parts: &[&[u8]]) {
        let start = self.arena.len();
        for part in parts {
            self.arena.extend_from_slice(part);
        }
        self.waiting.push(Waiting { start, end: self.arena.len(), to, from });
    }

    /// Sends everything without waiting, and gives how many datagrams could not be sent.
    ///
    /// One that fails (no route, too long, filtered) does not hold up the next; a full buffer ends the batch.
    pub fn flush(&mut self, socket: BorrowedFd<'_>) -> usize {
        let mut lost = 0;
        let mut next = 0;
        while next < self.waiting.len() {
            let end = self.waiting.len().min(next + BATCH);
            match self.send(socket, next..end) {
                Ok(sent) => next += sent.max(1),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    lost += self.waiting.len() - next;
                    break;
                }
                // Told of the first datagram of the batch, or left behind by an ICMP message for an earlier one.
                Err(_) => {
                    lost += 1;
                    next += 1;
                }
            }
        }
        self.waiting.clear();
        self.arena.clear();
        lost
    }

    fn send(&mut self, socket: BorrowedFd<'_>, range: std::ops::Range<usize>) -> io::Result<usize> {
        // SAFETY: plain C structures for which zeros are a valid value.
        let mut names: [libc::sockaddr_storage; BATCH] = unsafe { zeroed() };
        let mut iovecs: [libc::iovec; BATCH] = unsafe { zeroed() };
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
        let mut controls: [Control; BATCH] = [[0; CONTROL_WORDS]; BATCH];
        let count = range.len();
        for (index, datagram) in self.waiting[range].iter().enumerate() {
            let bytes = &mut self.arena[datagram.start..datagram.end];
            iovecs[index] = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
            let header = &mut headers[index].msg_hdr;
            header.msg_namelen = write_address(&mut names[index], datagram.to);
            header.msg_name = ptr::from_mut(&mut names[index]).cast();
            header.msg_iov = ptr::from_mut(&mut iovecs[index]);
            header.msg_iovlen = 1;
            if let Some(from) = datagram.from {
                header.msg_control = controls[index].as_mut_ptr().cast();
                header.msg_controllen = size_of::<Control>();
                write_local(header, from);
            }
        }
        // SAFETY: the first `count` headers point to live memory of the lengths they say, on this stack and in the arena.
        let sent = unsafe {
            libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count as libc::c_uint, libc::MSG_DONTWAIT)
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

fn length(bytes: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(bytes).expect("a socket address is short")
}

/// Reads the address that the kernel wrote.
fn socket_address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let storage = ptr::from_ref(storage);
    // SAFETY: a `sockaddr_storage` is large enough and aligned for both; the family says which one the kernel wrote.
    unsafe {
        match libc::c_int::from((*storage).ss_family) {
            libc::AF_INET => {
                let v4 = &*storage.cast::<libc::sockaddr_in>();
                let address = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                Some(SocketAddrV4::new(address, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                let v6 = &*storage.cast::<libc::sockaddr_in6>();
                let address = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                Some(SocketAddrV6::new(address, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

/// Writes an address for the kernel and gives its length.
fn write_address(storage: &mut libc::sockaddr_storage, address: SocketAddr) -> libc::socklen_t {
    let storage = ptr::from_mut(storage);
    // SAFETY: a `sockaddr_storage` is large enough and aligned for both, and nothing else refers to it.
    unsafe {
        match address {
            SocketAddr::V4(v4) => {
                let target = &mut *storage.cast::<libc::sockaddr_in>();
                target.sin_family = libc::AF_INET as libc::sa_family_t;
                target.sin_port = v4.port().to_be();
                target.sin_addr.s_addr = u32::from(*v4.ip()).to_be();
                length(size_of::<libc::sockaddr_in>())
            }
            SocketAddr::V6(v6) => {
                let target = &mut *storage.cast::<libc::sockaddr_in6>();
                target.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                target.sin6_port = v6.port().to_be();
                target.sin6_addr.s6_addr = v6.ip().octets();
                target.sin6_scope_id = v6.scope_id();
                length(size_of::<libc::sockaddr_in6>())
            }
        }
    }
}

/// Writes the local address to send from into the control buffer that `header` names.
fn write_local(header: &mut libc::msghdr, from: IpAddr) {
    // SAFETY: `header` names a zeroed, aligned control buffer that is longer than either message; the kernel is told
    // the length of the one that was written.
    unsafe {
        let control = libc::CMSG_FIRSTHDR(header);
        match from {
            IpAddr::V4(v4) => {
                let mut info: libc::in_pktinfo = zeroed();
                info.ipi_spec_dst.s_addr = u32::from(v4).to_be();
                (*control).cmsg_level = libc::IPPROTO_IP;
                (*control).cmsg_type = libc::IP_PKTINFO;
                (*control).cmsg_len = libc::CMSG_LEN(size_of_val(&info) as libc::c_uint) as usize;
                header.msg_controllen = libc::CMSG_SPACE(size_of_val(&info) as libc::c_uint) as usize;
                ptr::write_unaligned(libc::CMSG_DATA(control).cast(), info);
            }
            IpAddr::V6(v6) => {
                let mut info: libc::in6_pktinfo = zeroed();
                info.ipi6_addr.s6_addr = v6.octets();
                (*control).cmsg_level = libc::IPPROTO_IPV6;
                (*control).cmsg_type = libc::IPV6_PKTINFO;
                (*control).cmsg_len = libc::CMSG_LEN(size_of_val(&info) as libc::c_uint) as usize;
                header.msg_controllen = libc::CMSG_SPACE(size_of_val(&info) as libc::c_uint) as usize;
                ptr::write_unaligned(libc::CMSG_DATA(control).cast(), info);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::sys::udp::{Purpose, open};

    fn exchange(wildcard: &str, asked_at: &str) {
        let server = open(wildcard.parse().unwrap(), Purpose::Listener).unwrap();
        let port = server.local_addr().unwrap().port();
        let client = UdpSocket::bind((asked_at.parse::<IpAddr>().unwrap(), 0)).unwrap();
        let asked: SocketAddr = (asked_at.parse::<IpAddr>().unwrap(), port).into();
        for text in ["one", "two"] {
            client.send_to(text.as_bytes(), asked).unwrap();
        }
        let mut receiver = Receiver::default();
        assert_eq!(receiver.receive(server.as_fd()).unwrap(), 2);
        let mut sender = Sender::default();
        for index in 0..2 {
            let packet = receiver.packet(index).unwrap();
            assert_eq!(packet.from, client.local_addr().unwrap());
            assert_eq!(packet.local, Some(asked.ip()));
            sender.push(packet.from, packet.local, &[b"re:", packet.bytes]);
        }
        assert_eq!(sender.flush(server.as_fd()), 0);
        let mut buffer = [0; 16];
        for text in ["re:one", "re:two"] {
            let (length, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from), (text.as_bytes(), asked));
        }
    }

    #[test]
    fn answers_leave_from_the_address_that_was_asked() {
        exchange("0.0.0.0:0", "127.0.0.1");
        // Any address of 127.0.0.0/8 is this host; the routing table alone would choose 127.0.0.1.
        exchange("0.0.0.0:0", "127.0.0.9");
        exchange("[::]:0", "::1");
    }

    #[test]
    fn a_datagram_that_cannot_be_sent_does_not_hold_up_the_next() {
        let server = open("127.0.0.1:0".parse().unwrap(), Purpose::Relay).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut sender = Sender::default();
        sender.push("255.255.255.255:9".parse().unwrap(), None, &[b"broadcast without permission"]);
        sender.push(client.local_addr().unwrap(), None, &[b"fine"]);
        sender.push(client.local_addr().unwrap(), None, &[&[0; 65_508]]);
        sender.push(client.local_addr().unwrap(), None, &[b"fine, too"]);
        assert_eq!(sender.flush(server.as_fd()), 2);
        let mut buffer = [0; 16];
        assert_eq!(client.recv(&mut buffer).unwrap(), 4);
        assert_eq!(client.recv(&mut buffer).unwrap(), 9);
    }
}
