//! One client on TCP or TLS: its socket and session, the message it is in the middle of, and what it was not sent yet.

use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustls::ServerConnection;
use tracing::debug;

use super::patience::Patience;
use crate::supervisor::handover::TurnStream;
use crate::sys::tcp::{give_up_after, keep_unsent};
use crate::turn::framer::{MAX_EARLY_MESSAGE, MAX_MESSAGE};
use crate::turn::server::{Client, Transport};

/// Bytes of one read: some fifty packets of video.
const CHUNK: usize = 64 * 1024;
/// Bytes that are sent before there are more, so that they are still in the processor's cache.
const SENT_EARLY: usize = 64 * 1024;
/// Bytes that wait for a client that reads too slowly: half a second of video. What does not fit is dropped, since a
/// late packet of a call is worth nothing.
const MAX_WAITING: usize = 256 * 1024;
/// What answers may take up besides: a client whose data are dropped still has to be able to refresh its allocation.
const MAX_ANSWERS: usize = 16 * 1024;
/// Bytes that wait in the kernel besides those on their way.
const UNSENT: u32 = 128 * 1024;
/// How long a client may acknowledge nothing, or take nothing, until its connection is ended.
const GONE_AFTER: Duration = Duration::from_secs(30);
/// Parts of a frame: header, payload, padding.
const MAX_PARTS: usize = 3;
/// Plain bytes of a record. RFC 8446, section 5.1.
const MAX_RECORD: usize = 16 * 1024;
/// What a record has besides: 22 bytes by TLS 1.3, up to 29 by TLS 1.2.
const RECORD_OVERHEAD: usize = 32;
/// Memory that a connection keeps while it is in the middle of a message. More than that was an exception.
const KEPT_CAPACITY: usize = 4096;
/// Buffers for output that are kept for use again.
const MAX_SPARE: usize = 16;

/// Buffers that all connections of a thread share.
pub(super) struct Buffers {
    encrypted: Box<[u8]>,
    /// What the last [`Connection::read`] gave.
    pub(super) plain: Box<[u8]>,
}

/// Memory for output that waits for the next one to need it.
pub(super) type Spare = Vec<Vec<u8>>;

impl Default for Buffers {
    fn default() -> Self {
        // Behind what was kept of a message there is room for a chunk, with what a session had of a record before it.
        let plain = vec![0; MAX_MESSAGE + 2 * CHUNK].into_boxed_slice();
        Self { encrypted: vec![0; CHUNK].into_boxed_slice(), plain }
    }
}

/// The connection has ended, in whatever way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Answer,
    Data,
}

/// A client's connection.
pub(super) struct Connection {
    pub(super) client: Client,
    /// Dropped before the stream is closed.
    _hold: Box<dyn Send>,
    stream: TcpStream,
    tls: Option<Box<ServerConnection>>,
    /// The beginning of a message.
    kept: Vec<u8>,
    output: Output,
    pub(super) patience: Patience,
    /// Whether nothing comes after what was read.
    is_at_end: bool,
    /// Whether it ever had an allocation, so is nobody unknown.
    is_trusted: bool,
    /// Whether it is among those that have something to be sent.
    pub(super) is_marked: bool,
    /// Whether epoll tells when the kernel takes more.
    pub(super) is_watched_for_output: bool,
}

/// Frames that were not sent yet, whole ones but for the first. Those of a session are in it, encrypted.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    /// How many of them were sent.
    sent: usize,
    /// How many wait in the session, or a few more than that.
    encrypted: usize,
    /// The kernel takes no more for now.
    is_blocked: bool,
}

impl Connection {
    /// Takes over a stream as the connection of this number.
    pub(super) fn new(taken: TurnStream, via: u32, now: Instant) -> Self {
        let TurnStream { stream, mut tls, received, client, local, hold } = taken;
        if let Some(tls) = &mut tls {
            // A limit of its own would cut frames in two. It is bounded by what is pushed.
            tls.set_buffer_limit(None);
        }
        bound(&stream).unwrap_or_else(|error| debug!(%client, %error, "the kernel bounds no output of its own"));
        let transport = if tls.is_some() { Transport::Tls } else { Transport::Tcp };
        Self {
            client: Client { remote: client, local, transport, via },
            stream,
            tls,
            kept: received,
            output: Output::default(),
            patience: Patience::new(now),
            is_at_end: false,
            is_trusted: false,
            is_marked: false,
            is_watched_for_output: false,
            _hold: hold,
        }
    }

    /// How long a message may be by now.
    pub(super) fn max_message(&self) -> usize {
        if self.is_trusted { MAX_MESSAGE } else { MAX_EARLY_MESSAGE }
    }

    pub(super) fn is_trusted(&self) -> bool {
        self.is_trusted
    }

    /// It has an allocation.
    pub(super) fn trust(&mut self) {
        self.is_trusted = true;
    }

    /// Gives what was read before it was taken over, as [`Connection::read`] does.
    pub(super) fn read_held(&mut self, buffers: &mut Buffers) -> usize {
        let mut length = self.recall(&mut buffers.plain);
        if let Some(tls) = &mut self.tls {
            self.is_at_end = decrypted(tls, &mut buffers.plain, &mut length).is_err();
        }
        length
    }

    /// Reads once. Gives how many bytes of `buffers.plain` there are now, the beginning of a message that was kept
    /// before them included. [`Connection::is_at_end`] says whether they are the last.
    pub(super) fn read(&mut self, buffers: &mut Buffers) -> usize {
        let mut length = self.recall(&mut buffers.plain);
        let room = match &self.tls {
            Some(_) => &mut buffers.encrypted[..],
            None => &mut buffers.plain[length..length + CHUNK],
        };
        let read = match self.stream.read(room) {
            Ok(read) => read,
            Err(error) if is_for_later(&error) => return length,
            Err(_) => 0,
        };
        if read == 0 {
            self.is_at_end = true;
            return length;
        }
        let Some(tls) = &mut self.tls else { return length + read };
        let mut encrypted = &buffers.encrypted[..read];
        while !encrypted.is_empty() && !self.is_at_end {
            let is_heard = matches!(tls.read_tls(&mut encrypted), Ok(1..)) && tls.process_new_packets().is_ok();
            if !is_heard {
                // The alert that says why.
                let _ = tls.write_tls(&mut self.stream);
            }
            self.is_at_end = decrypted(tls, &mut buffers.plain, &mut length).is_err() || !is_heard;
        }
        length
    }

    /// Whether the client has closed, which includes its half of the connection, or broken the rules of TLS.
    pub(super) fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// Keeps the beginning of a message for the next read.
    pub(super) fn keep(&mut self, rest: &[u8]) {
        if rest.is_empty() && self.kept.capacity() > KEPT_CAPACITY {
            self.kept = Vec::new();
        }
        self.kept.clear();
        self.kept.extend_from_slice(rest);
    }

    fn recall(&self, plain: &mut [u8]) -> usize {
        plain[..self.kept.len()].copy_from_slice(&self.kept);
        self.kept.len()
    }

    /// Adds a frame made of `parts`. `Ok(false)`: the client is too slow, and it was dropped.
    ///
    /// # Errors
    /// If it turns out that the client has gone.
    pub(super) fn push(&mut self, parts: &[&[u8]], kind: Kind, spare: &mut Spare) -> Result<bool, Ended> {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        if self.output.waiting() + length > SENT_EARLY && !self.output.is_blocked {
            self.flush(spare)?;
        }
        if !self.output.has_room(length, kind) {
            return Ok(false);
        }
        match &mut self.tls {
            Some(tls) => self.output.encrypt(tls, parts, length)?,
            None => self.output.push(parts, length, spare),
        }
        Ok(true)
    }

    /// Sends what waits, as far as the kernel takes it.
    ///
    /// # Errors
    /// If the client has gone.
    pub(super) fn flush(&mut self, spare: &mut Spare) -> Result<(), Ended> {
        if self.output.is_blocked {
            return Ok(());
        }
        let sent = match &mut self.tls {
            Some(tls) => self.output.send_encrypted(tls, &mut self.stream),
            None => self.output.send(&mut self.stream),
        };
        match sent {
            Ok(()) => self.output.reuse(spare),
            Err(error) if is_for_later(&error) => self.output.is_blocked = true,
            Err(_) => return Err(Ended),
        }
        Ok(())
    }

    /// The kernel takes more.
    pub(super) fn handle_writable(&mut self) {
        self.output.is_blocked = false;
    }

    /// Whether something waits for the kernel to take more.
    pub(super) fn is_blocked(&self) -> bool {
        self.output.is_blocked
    }

    /// Sends what the kernel takes of what waits, and says goodbye where that is the custom.
    pub(super) fn close(mut self) {
        let _ = self.flush(&mut Spare::default());
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.write_tls(&mut self.stream);
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Output {
    fn waiting(&self) -> usize {
        self.bytes.len() - self.sent + self.encrypted
    }

    fn has_room(&self, length: usize, kind: Kind) -> bool {
        let most = match kind {
            Kind::Data => MAX_WAITING,
            Kind::Answer => MAX_WAITING + MAX_ANSWERS,
        };
        self.waiting() + length <= most
    }

    fn push(&mut self, parts: &[&[u8]], length: usize, spare: &mut Spare) {
        if self.bytes.capacity() == 0 {
            self.bytes = spare.pop().unwrap_or_default();
        }
        // What was sent makes room before more memory does.
        if self.sent > 0 && self.bytes.len() + length > self.bytes.capacity() {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
    }

    /// Each frame is a record of its own: there are clients that take one for the other.
    fn encrypt(&mut self, tls: &mut ServerConnection, parts: &[&[u8]], length: usize) -> Result<(), Ended> {
        let mut slices = [IoSlice::new(&[]); MAX_PARTS];
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
        }
        // Without a limit everything is taken at once.
        let taken = tls.writer().write_vectored(&slices[..parts.len().min(MAX_PARTS)]).map_err(|_| Ended)?;
        debug_assert_eq!(taken, length, "a session without a limit takes a frame as it is");
        self.encrypted += length + length.div_ceil(MAX_RECORD) * RECORD_OVERHEAD;
        Ok(())
    }

    fn send(&mut self, stream: &mut impl io::Write) -> io::Result<()> {
        while self.sent < self.bytes.len() {
            match stream.write(&self.bytes[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn send_encrypted(&mut self, tls: &mut ServerConnection, stream: &mut impl io::Write) -> io::Result<()> {
        while tls.wants_write() {
            match tls.write_tls(stream)? {
                0 => return Err(ErrorKind::WriteZero.into()),
                sent => self.encrypted = self.encrypted.saturating_sub(sent),
            }
        }
        self.encrypted = 0;
        Ok(())
    }

    /// Everything is sent: the memory is for who needs it next.
    fn reuse(&mut self, spare: &mut Spare) {
        let mut bytes = std::mem::take(&mut self.bytes);
        self.sent = 0;
        if spare.len() < MAX_SPARE && bytes.capacity() > 0 {
            bytes.clear();
            spare.push(bytes);
        }
    }
}

/// Bounds what the kernel keeps for a client, and how long: what waits there is late already.
fn bound(stream: &TcpStream) -> io::Result<()> {
    keep_unsent(stream, UNSENT)?;
    give_up_after(stream, GONE_AFTER)
}

/// Moves what was decrypted to `plain`, behind the `length` bytes that are there.
fn decrypted(tls: &mut ServerConnection, plain: &mut [u8], length: &mut usize) -> Result<(), Ended> {
    loop {
        match tls.reader().read(&mut plain[*length..]) {
            Ok(0) => return Err(Ended),
            Ok(read) => *length += read,
            Err(error) if is_for_later(&error) => return Ok(()),
            Err(_) => return Err(Ended),
        }
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes some bytes, then none until it is asked again.
    #[derive(Default)]
    struct Slow {
        taken: Vec<u8>,
        room: usize,
    }

    impl io::Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let length = bytes.len().min(self.room);
            if length == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.taken.extend_from_slice(&bytes[..length]);
            self.room -= length;
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn push_as(output: &mut Output, frame: &[u8], kind: Kind) -> bool {
        let has_room = output.has_room(frame.len(), kind);
        if has_room {
            output.push(&[&frame[..1], &frame[1..]], frame.len(), &mut Vec::new());
        }
        has_room
    }

    fn push(output: &mut Output, frame: &[u8]) -> bool {
        push_as(output, frame, Kind::Data)
    }

    /// Case 79.
    #[test]
    fn a_client_that_never_reads_has_a_bounded_number_of_whole_frames_waiting() {
        let mut output = Output::default();
        let pushed = (0..10_000).filter(|number| push(&mut output, &[*number as u8; 1000])).count();
        assert_eq!(pushed, MAX_WAITING / 1000);
        assert!(output.bytes.capacity() <= 2 * MAX_WAITING, "{}", output.bytes.capacity());
        assert_eq!(output.waiting(), pushed * 1000);
        let answer = |output: &mut Output| push_as(output, &[1; 100], Kind::Answer);
        assert_eq!(
            (0..1000).filter(|_| answer(&mut output)).count(),
            (MAX_WAITING + MAX_ANSWERS - pushed * 1000) / 100
        );
    }

    #[test]
    fn the_longest_frame_fits() {
        assert!(push(&mut Output::default(), &[7; MAX_MESSAGE]));
    }

    #[test]
    fn memory_of_what_was_sent_is_used_again() {
        let (mut spare, mut output) = (Vec::new(), Output::default());
        output.push(&[b"frame"], 5, &mut spare);
        output.send(&mut Slow { room: 5, ..Slow::default() }).unwrap();
        output.reuse(&mut spare);
        assert_eq!((output.bytes.capacity(), spare.len()), (0, 1));
        output.push(&[b"again"], 5, &mut spare);
        assert!(spare.is_empty());
        assert_eq!(output.bytes, b"again");
    }

    proptest! {
        #[test]
        fn only_whole_frames_are_ever_dropped(rounds in proptest::collection::vec((0_usize..80_000, 0_usize..200_000), 1..40)) {
            let (mut output, mut slow, mut expected) = (Output::default(), Slow::default(), Vec::new());
            for (number, (length, room)) in rounds.into_iter().enumerate() {
                let frame = vec![number as u8; length + 1];
                if push(&mut output, &frame) {
                    expected.extend_from_slice(&frame);
                }
                slow.room = room;
                let _ = output.send(&mut slow);
                prop_assert!(output.waiting() <= MAX_WAITING);
            }
            slow.room = usize::MAX;
            output.send(&mut slow).unwrap();
            prop_assert!(slow.taken == expected);
        }
    }
}
