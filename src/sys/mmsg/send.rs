//! `sendmmsg` from wherever the bytes lie, several datagrams of one size as one piece.
#![expect(unsafe_code, reason = "the kernel is given pointers to the bytes")]

use std::io;
use std::marker::PhantomData;
use std::mem::size_of_val;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

use nix::libc;

use super::{CONTROL_WORDS, Control, Name, empty_header};

/// Messages of one system call.
const MESSAGES: usize = 64;
/// Parts of all of them together; the kernel takes 1024 for each.
const PARTS: usize = 1024;
/// Parts of one datagram: a header, the payload, padding.
pub const MAX_PARTS: usize = 3;

/// Memory for what `sendmmsg` is told, made once.
pub struct Sender {
    names: Vec<Name>,
    controls: Vec<Control>,
    iovecs: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    pieces: Vec<Piece>,
}

// SAFETY: the raw pointers in `headers` and `iovecs` are written anew by each batch before the kernel reads them.
unsafe impl Send for Sender {}

/// What a message is made of.
#[derive(Clone, Copy, Default)]
struct Piece {
    datagrams: usize,
    /// The size of each but the last one, which may be shorter.
    segment: usize,
    /// Bytes of control messages without that for the segment size.
    plain_control: usize,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Datagrams that the kernel did not take.
    pub failed: u64,
    /// Datagrams that are too long for the path or for UDP.
    pub too_long: u64,
    /// Pieces of several datagrams that the kernel took.
    pub pieces: u32,
    /// Pieces of several datagrams that it refused, so that they were sent one by one.
    pub refused: u32,
}

impl Default for Sender {
    fn default() -> Self {
        let header = libc::mmsghdr { msg_hdr: empty_header(), msg_len: 0 };
        let iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Self {
            names: vec![Name::empty(); MESSAGES],
            controls: vec![[0; CONTROL_WORDS]; MESSAGES],
            iovecs: vec![iovec; PARTS],
            headers: vec![header; MESSAGES],
            pieces: vec![Piece::default(); MESSAGES],
        }
    }
}

impl Sender {
    /// An empty batch of messages whose bytes live at least as long as it does.
    pub fn batch(&mut self) -> Batch<'_> {
        Batch { sender: self, messages: 0, parts: 0, bytes: PhantomData }
    }
}

/// Messages that wait to be sent by one socket.
///
/// Call [`Batch::begin`], then [`Batch::part`] for each of the message's parts in order, for as long as
/// [`Batch::has_room`], then [`Batch::transmit`].
pub struct Batch<'a> {
    sender: &'a mut Sender,
    messages: usize,
    parts: usize,
    bytes: PhantomData<&'a [u8]>,
}

impl<'a> Batch<'a> {
    /// Whether a message of `datagrams` still fits. One of [`super::MAX_SEGMENTS`] fits into an empty batch.
    #[must_use]
    pub fn has_room(&self, datagrams: usize) -> bool {
        self.messages < MESSAGES && self.parts + datagrams * MAX_PARTS <= PARTS
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Starts a message of `datagrams` that are `segment` bytes long each, the last one at most, to be sent from the
    /// local address `from`.
    pub fn begin(&mut self, to: SocketAddr, from: Option<IpAddr>, datagrams: usize, segment: usize) {
        let index = self.messages;
        let Sender { names, controls, iovecs, headers, pieces } = &mut *self.sender;
        let header = &mut headers[index].msg_hdr;
        header.msg_namelen = names[index].write(to);
        header.msg_name = ptr::from_mut(&mut names[index]).cast();
        header.msg_iov = ptr::from_mut(&mut iovecs[self.parts]);
        header.msg_iovlen = 0;
        let control = &mut controls[index];
        let plain_control = from.map_or(0, |from| write_local(control, from));
        let mut length = plain_control;
        if datagrams > 1 {
            let size = u16::try_from(segment).expect("a datagram is shorter than 64 KiB");
            length += write_control(control, length, libc::SOL_UDP, libc::UDP_SEGMENT, size);
        }
        header.msg_control = if length == 0 { ptr::null_mut() } else { control.as_mut_ptr().cast() };
        header.msg_controllen = length as _;
        pieces[index] = Piece { datagrams, segment, plain_control };
        self.messages += 1;
    }

    /// Adds bytes to the message that was begun last. They are not copied.
    pub fn part(&mut self, bytes: &'a [u8]) {
        // An empty part would take the place of one with bytes when a message is sent apart.
        if bytes.is_empty() {
            return;
        }
        let header = &mut self.sender.headers[self.messages - 1].msg_hdr;
        if header.msg_iovlen > 0 {
            let last = &mut self.sender.iovecs[self.parts - 1];
            if last.iov_base.cast::<u8>().cast_const().wrapping_add(last.iov_len) == bytes.as_ptr() {
                last.iov_len += bytes.len();
                return;
            }
        }
        self.sender.iovecs[self.parts] =
            libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        header.msg_iovlen += 1;
        self.parts += 1;
    }

    /// Sends everything without waiting, and empties the batch.
    ///
    /// A datagram that fails does not hold up the next; a full buffer ends the batch. What an earlier datagram met on
    /// its way is told by the kernel in place of sending, so that everything is tried twice.
    pub fn transmit(&mut self, socket: BorrowedFd<'_>) -> Sent {
        let mut sent = Sent::default();
        let mut next = 0;
        let mut is_second_try = false;
        while next < self.messages {
            let error = match self.hand_over(socket, next) {
                Ok(count) => {
                    let taken = &self.sender.pieces[next..next + count];
                    sent.pieces += taken.iter().map(|piece| u32::from(piece.datagrams > 1)).sum::<u32>();
                    // None at all is no answer of the kernel's; it must not be waited for.
                    next += count.max(1);
                    is_second_try = false;
                    continue;
                }
                Err(error) => error,
            };
            if is_full(&error) {
                sent.failed +=
                    self.sender.pieces[next..self.messages].iter().map(|one| one.datagrams as u64).sum::<u64>();
                break;
            }
            if !is_second_try {
                is_second_try = true;
                continue;
            }
            is_second_try = false;
            let piece = self.sender.pieces[next];
            if piece.datagrams > 1 && refuses_pieces(&error) {
                sent.refused += 1;
                self.transmit_apart(socket, next, &mut sent);
            } else {
                sent.lose(&error, piece.datagrams as u64);
            }
            next += 1;
        }
        self.messages = 0;
        self.parts = 0;
        sent
    }

    /// Gives the messages from `next` on to the kernel, and tells how many of them it took.
    fn hand_over(&mut self, socket: BorrowedFd<'_>, next: usize) -> io::Result<usize> {
        let waiting = &mut self.sender.headers[next..self.messages];
        let one = waiting[0].msg_hdr;
        // SAFETY: each header points to live memory of the lengths it says: the sender's own, borrowed mutably here,
        // and the bytes of the parts, which are borrowed for as long as this batch lives.
        unsafe {
            if waiting.len() == 1 && one.msg_iovlen == 1 && one.msg_controllen == 0 {
                // A plain datagram in the plain way, which has less to copy.
                let libc::iovec { iov_base, iov_len } = *one.msg_iov;
                let (name, length) = (one.msg_name.cast(), one.msg_namelen);
                return match libc::sendto(socket.as_raw_fd(), iov_base, iov_len, libc::MSG_DONTWAIT, name, length) {
                    -1 => Err(io::Error::last_os_error()),
                    _ => Ok(1),
                };
            }
            let (first, count) = (waiting.as_mut_ptr(), waiting.len() as libc::c_uint);
            let count = libc::sendmmsg(socket.as_raw_fd(), first, count, libc::MSG_DONTWAIT as _);
            usize::try_from(count).map_err(|_| io::Error::last_os_error())
        }
    }

    /// Sends the datagrams of one message one by one.
    pub(super) fn transmit_apart(&self, socket: BorrowedFd<'_>, index: usize, sent: &mut Sent) {
        let piece = self.sender.pieces[index];
        let mut header = self.sender.headers[index].msg_hdr;
        header.msg_controllen = piece.plain_control as _;
        if piece.plain_control == 0 {
            header.msg_control = ptr::null_mut();
        }
        let first = (header.msg_iov.addr() - self.sender.iovecs.as_ptr().addr()) / size_of::<libc::iovec>();
        let mut rest = self.sender.iovecs[first..first + header.msg_iovlen as usize].iter().copied();
        let mut current = rest.next();
        for _ in 0..piece.datagrams {
            let mut parts = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; MAX_PARTS];
            let mut count = 0;
            let mut missing = piece.segment;
            while let Some(part) = current.as_mut().filter(|_| missing > 0 && count < MAX_PARTS) {
                let length = part.iov_len.min(missing);
                parts[count] = libc::iovec { iov_base: part.iov_base, iov_len: length };
                count += 1;
                missing -= length;
                part.iov_base = part.iov_base.cast::<u8>().wrapping_add(length).cast();
                part.iov_len -= length;
                if part.iov_len == 0 {
                    current = rest.next();
                }
            }
            header.msg_iov = parts.as_mut_ptr();
            header.msg_iovlen = count as _;
            // SAFETY: as in `transmit`; the parts are pieces of the message's own and live on this stack.
            let once = || match unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) } {
                -1 => Err(io::Error::last_os_error()),
                _ => Ok(()),
            };
            if let Err(error) = once().or_else(|error| if is_full(&error) { Err(error) } else { once() }) {
                sent.lose(&error, 1);
            }
        }
    }
}

impl Sent {
    fn lose(&mut self, error: &io::Error, datagrams: u64) {
        if error.raw_os_error() == Some(libc::EMSGSIZE) {
            self.too_long += datagrams;
        } else {
            self.failed += datagrams;
        }
    }

    /// Adds what became of another batch.
    pub fn add(&mut self, other: Self) {
        self.failed += other.failed;
        self.too_long += other.too_long;
        self.pieces += other.pieces;
        self.refused += other.refused;
    }
}

/// Whether the socket's own buffer is full, so that the next datagram would fail as well.
fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Whether it may be due to the piece: the way out cannot cut it up, or a segment does not fit it.
fn refuses_pieces(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE | libc::EOPNOTSUPP))
}

/// Writes the local address to send from. Gives the bytes that were used.
fn write_local(control: &mut Control, from: IpAddr) -> usize {
    match from {
        IpAddr::V4(v4) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(v4).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            write_control(control, 0, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
        }
        IpAddr::V6(v6) => {
            let info = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: v6.octets() }, ipi6_ifindex: 0 };
            write_control(control, 0, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
        }
    }
}

/// Writes one control message at `offset`, where the previous one ended. Gives the bytes that were used.
fn write_control<T: Copy>(control: &mut Control, offset: usize, level: i32, kind: i32, value: T) -> usize {
    let bytes = size_of_val(&value) as libc::c_uint;
    // SAFETY: these two only compute.
    let (length, space) = unsafe { (libc::CMSG_LEN(bytes) as usize, libc::CMSG_SPACE(bytes) as usize) };
    assert!(offset + space <= size_of_val(control), "the control messages of one datagram have room");
    // SAFETY: there is room for the whole message, and `offset` is a sum of spaces, which keep it aligned.
    unsafe {
        let message = control.as_mut_ptr().cast::<u8>().add(offset).cast::<libc::cmsghdr>();
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = length as _;
        ptr::write_unaligned(libc::CMSG_DATA(message).cast(), value);
    }
    space
}
