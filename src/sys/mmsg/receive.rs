//! `recvmmsg` into buffers that are made once.
#![expect(unsafe_code, reason = "the kernel is given pointers to the buffers")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

use nix::libc;

use super::{CONTROL_WORDS, Control, Name, control_value, empty_header};

/// Pieces that are held at a time: what dozens of callers have sent while a loaded worker was busy, so that packets of
/// one caller meet again.
pub const SLOTS: usize = 256;
/// Pieces of one system call.
pub const PIECES: usize = 64;
/// Bytes after which a batch is long enough, however few pieces they came in: it is read into memory that is touched
/// already, and few slots ever hold long pieces.
const ENOUGH: usize = 1 << 20;
/// The longest piece that the kernel gathers.
const SLOT: usize = 65_536;
/// Bytes before what is received, where a header may be written: a piece of memory leaves cheaper than two.
pub const HEADROOM: usize = 64;
/// Slots begin at different offsets within a page: else all headers would compete for the same few cache lines.
const STRIDE: usize = HEADROOM + SLOT + 4 * 64;

/// Buffers for what is received, used again after [`Receiver::clear`].
///
/// Memory is reserved for the longest pieces, but the kernel gives it only as it is touched: a receiver that has seen
/// nothing but single packets holds a page for each of the slots that it ever used at a time.
pub struct Receiver {
    memory: Vec<u8>,
    names: Vec<Name>,
    controls: Vec<Control>,
    iovecs: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    used: usize,
    bytes: usize,
}

// SAFETY: the raw pointers in `headers` and `iovecs` point to the heap memory of the other fields, which moves along
// with this value and is never made anew.
unsafe impl Send for Receiver {}

/// One or more datagrams of one sender, by their place in [`Receiver::memory`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    pub from: SocketAddr,
    /// The address they were sent to, where the socket tells.
    pub local: Option<IpAddr>,
    bytes: Range<usize>,
    segment: usize,
}

impl Arrival {
    /// Each datagram's place.
    pub fn segments(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (start, end) = (self.bytes.start, self.bytes.end);
        // An empty datagram is one, too.
        let step = if self.segment == 0 { (end - start).max(1) } else { self.segment };
        (start..end.max(start + 1)).step_by(step).map(move |at| at..end.min(at + step))
    }

    /// How many bytes before one of these datagrams nobody needs.
    #[must_use]
    pub fn headroom(&self, place: &Range<usize>) -> usize {
        if place.start == self.bytes.start { HEADROOM } else { 0 }
    }
}

impl Default for Receiver {
    fn default() -> Self {
        let header = libc::mmsghdr { msg_hdr: empty_header(), msg_len: 0 };
        let iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        let mut receiver = Self {
            memory: vec![0; SLOTS * STRIDE],
            names: vec![Name::empty(); SLOTS],
            controls: vec![[0; CONTROL_WORDS]; SLOTS],
            iovecs: vec![iovec; SLOTS],
            headers: vec![header; SLOTS],
            used: SLOTS,
            bytes: 0,
        };
        receiver.clear();
        receiver
    }
}

impl Receiver {
    /// How many more pieces there is room for; none if what there is makes a long batch.
    #[must_use]
    pub fn free(&self) -> usize {
        if self.bytes < ENOUGH { SLOTS - self.used } else { 0 }
    }

    /// Forgets what was received.
    pub fn clear(&mut self) {
        let base = self.memory.as_mut_ptr();
        for index in 0..self.used {
            // The kernel has written lengths and flags over what it was told.
            let start = base.wrapping_add(index * STRIDE + HEADROOM);
            self.iovecs[index] = libc::iovec { iov_base: start.cast(), iov_len: SLOT };
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = ptr::from_mut(&mut self.names[index]).cast();
            header.msg_namelen = Name::LENGTH;
            header.msg_iov = ptr::from_mut(&mut self.iovecs[index]);
            header.msg_iovlen = 1;
            header.msg_control = self.controls[index].as_mut_ptr().cast();
            header.msg_controllen = size_of::<Control>() as _;
            header.msg_flags = 0;
        }
        self.used = 0;
        self.bytes = 0;
    }

    /// Receives what is there and has room, at most [`PIECES`], without waiting. Gives the slots that were filled.
    ///
    /// # Errors
    /// What the kernel says, `WouldBlock` if nothing is there.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<Range<usize>> {
        let first = self.used;
        match self.receive_once(socket) {
            // What an earlier datagram of ours met on its way is told once, and is no reason not to read.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.receive_once(socket)?,
            done => done?,
        }
        Ok(first..self.used)
    }

    fn receive_once(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let free = &mut self.headers[self.used..];
        let most = free.len().min(PIECES);
        // SAFETY: every header points to live buffers of the lengths it says, owned by `self` and borrowed mutably here.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                free.as_mut_ptr(),
                most as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        self.bytes += free[..count].iter().map(|header| header.msg_len as usize).sum::<usize>();
        self.used += count;
        Ok(())
    }

    /// What is in a slot; `None` if it is not of the internet.
    #[must_use]
    pub fn arrival(&self, slot: usize) -> Option<Arrival> {
        let header = &self.headers[slot];
        let start = slot * STRIDE + HEADROOM;
        let mut arrival = Arrival {
            from: self.names[slot].read()?,
            local: None,
            bytes: start..start + SLOT.min(header.msg_len as usize),
            segment: 0,
        };
        // SAFETY: the kernel has filled `msg_control` up to `msg_controllen` with whole control messages; both belong
        // to `self.controls[slot]`, which is aligned for them.
        unsafe {
            let mut control = libc::CMSG_FIRSTHDR(&header.msg_hdr);
            while !control.is_null() {
                match ((*control).cmsg_level, (*control).cmsg_type) {
                    (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                        let info = control_value::<libc::in_pktinfo>(control);
                        arrival.local = info.map(|info| Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
                    }
                    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                        let info = control_value::<libc::in6_pktinfo>(control);
                        arrival.local = info.map(|info| Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                    }
                    (libc::SOL_UDP, libc::UDP_GRO) => {
                        let size = control_value::<libc::c_int>(control);
                        arrival.segment = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
                    }
                    _ => {}
                }
                control = libc::CMSG_NXTHDR(&header.msg_hdr, control);
            }
        }
        Some(arrival)
    }

    /// Where everything that was received lies.
    #[must_use]
    pub fn memory(&self) -> &[u8] {
        &self.memory
    }

    /// The same, for who writes a header in place.
    pub fn memory_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }
}
