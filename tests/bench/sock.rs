//! UDP sockets that send and receive several datagrams of one flow by one system call (UDP_SEGMENT and UDP_GRO).
#![expect(unsafe_code, reason = "no safe wrapper does this without a heap allocation for each datagram")]

use std::io::{self, IoSlice};
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;
use std::time::Duration;

use nix::libc;
use nix::sys::epoll::EpollEvent;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt};

/// Bytes that a receive buffer needs: the longest train of datagrams that the kernel hands over.
pub(crate) const TRAIN: usize = 1 << 16;
/// Large enough that the generator itself never is where a packet is lost.
const SOCKET_BUFFER: usize = 4 << 20;

/// Aligned room for control messages.
type Control = [u64; 8];

/// What [`receive`] received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) len: usize,
    /// Bytes of each datagram of the train; the last one may be shorter.
    pub(crate) segment: usize,
    pub(crate) from: SocketAddrV4,
    /// The address it was sent to, where [`udp`] was told to ask for it.
    pub(crate) local: Option<Ipv4Addr>,
}

/// Opens a UDP socket whose buffers hold everything that is on its way.
pub(crate) fn udp(address: SocketAddrV4, tells_local: bool) -> io::Result<UdpSocket> {
    let fd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // Beyond `net.core.rmem_max`, as root; otherwise up to it.
    if setsockopt(&fd, sockopt::RcvBufForce, &SOCKET_BUFFER).is_err() {
        setsockopt(&fd, sockopt::RcvBuf, &SOCKET_BUFFER)?;
    }
    setsockopt(&fd, sockopt::SndBuf, &SOCKET_BUFFER)?;
    if tells_local {
        setsockopt(&fd, sockopt::Ipv4PacketInfo, &true)?;
    }
    bind(fd.as_raw_fd(), &SockaddrIn::from(address))?;
    Ok(UdpSocket::from(fd))
}

/// Lets the kernel hand over trains of datagrams.
pub(crate) fn accept_trains(socket: &UdpSocket) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::UdpGroSegment, &true)?)
}

/// Sends `parts` one after the other, cut into datagrams of `segment` bytes if that is less than their length; waits
/// while the socket's buffer is full.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    parts: &[IoSlice<'_>],
    segment: usize,
    to: Option<SocketAddrV4>,
    from: Option<Ipv4Addr>,
) -> io::Result<()> {
    // SAFETY: plain C structures for which zeros are a valid value.
    let mut header: libc::msghdr = unsafe { zeroed() };
    let mut name;
    let mut control: Control = [0; 8];
    // `IoSlice` promises to be an `iovec`, and `sendmsg` writes to neither.
    header.msg_iov = parts.as_ptr().cast_mut().cast();
    header.msg_iovlen = parts.len();
    if let Some(to) = to {
        name = socket_name(to);
        header.msg_name = ptr::from_mut(&mut name).cast();
        header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    }
    let mut used = 0;
    header.msg_control = control.as_mut_ptr().cast();
    if segment < parts.iter().map(|part| part.len()).sum() {
        used += write_control(&mut control, used, libc::SOL_UDP, libc::UDP_SEGMENT, segment as u16);
    }
    if let Some(from) = from {
        // SAFETY: as above.
        let mut info: libc::in_pktinfo = unsafe { zeroed() };
        info.ipi_spec_dst.s_addr = u32::from(from).to_be();
        used += write_control(&mut control, used, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
    }
    header.msg_controllen = used;
    if used == 0 {
        header.msg_control = ptr::null_mut();
    }
    // SAFETY: the header points to live memory of the lengths it says; `sendmsg` only reads it.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Receives a datagram or a train of them without waiting.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    // SAFETY: plain C structures for which zeros are a valid value.
    let (mut header, mut name): (libc::msghdr, libc::sockaddr_in) = unsafe { (zeroed(), zeroed()) };
    let mut control: Control = [0; 8];
    let mut iovec = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    header.msg_iov = ptr::from_mut(&mut iovec);
    header.msg_iovlen = 1;
    header.msg_name = ptr::from_mut(&mut name).cast();
    header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of::<Control>();
    // SAFETY: the header points to live, mutable memory of the lengths it says.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    let from = SocketAddrV4::new(u32::from_be(name.sin_addr.s_addr).into(), u16::from_be(name.sin_port));
    let mut received = Received { len, segment: len, from, local: None };
    // SAFETY: the kernel has filled the control buffer up to `msg_controllen` with whole messages; data are read
    // unaligned, by the type that their level and kind say.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(&raw const header);
        while !message.is_null() {
            let data = libc::CMSG_DATA(message);
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    let segment: libc::c_int = ptr::read_unaligned(data.cast());
                    received.segment = usize::try_from(segment).unwrap_or(len).max(1);
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: libc::in_pktinfo = ptr::read_unaligned(data.cast());
                    received.local = Some(u32::from_be(info.ipi_addr.s_addr).into());
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(&raw const header, message);
        }
    }
    Ok(received)
}

/// Waits for events, with a timeout finer than a millisecond.
pub(crate) fn wait(epoll: BorrowedFd<'_>, events: &mut [EpollEvent], timeout: Duration) -> io::Result<usize> {
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs().cast_signed(),
        tv_nsec: libc::c_long::from(timeout.subsec_nanos().cast_signed()),
    };
    // SAFETY: `EpollEvent` is a transparent `epoll_event`; the array is live and as long as is said.
    let count = unsafe {
        libc::epoll_pwait2(
            epoll.as_raw_fd(),
            events.as_mut_ptr().cast(),
            events.len() as libc::c_int,
            &raw const timeout,
            ptr::null(),
        )
    };
    match usize::try_from(count) {
        Ok(count) => Ok(count),
        Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => Ok(0),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Lets this thread's timeouts end when they say: the kernel adds 50 us by default.
pub(crate) fn wake_on_time() {
    // SAFETY: changes a number of this thread and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

fn socket_name(address: SocketAddrV4) -> libc::sockaddr_in {
    // SAFETY: a plain C structure for which zeros are a valid value.
    let mut name: libc::sockaddr_in = unsafe { zeroed() };
    name.sin_family = libc::AF_INET as libc::sa_family_t;
    name.sin_port = address.port().to_be();
    name.sin_addr.s_addr = u32::from(*address.ip()).to_be();
    name
}

/// Writes a control message at byte `at`, and gives the bytes it takes.
fn write_control<T>(control: &mut Control, at: usize, level: libc::c_int, kind: libc::c_int, data: T) -> usize {
    let length = size_of::<T>() as libc::c_uint;
    // SAFETY: these two only compute.
    let (space, whole) = unsafe { (libc::CMSG_SPACE(length) as usize, libc::CMSG_LEN(length) as usize) };
    assert!(at + space <= size_of::<Control>() && at.is_multiple_of(8), "room for two short control messages");
    // SAFETY: `at` is within the buffer and aligned, and the message ends within it, as was just asserted.
    unsafe {
        let message: *mut libc::cmsghdr = control.as_mut_ptr().cast::<u8>().add(at).cast();
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = whole;
        ptr::write_unaligned(libc::CMSG_DATA(message).cast(), data);
    }
    space
}
