//! Packets on their way to one socket, counted by bytes until the transport has taken them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use engineioxide::Str;

use super::counters::Counters;

/// Bytes that a packet takes besides its text, so that many short ones count as what they are.
const OVERHEAD: usize = 128;
/// Once this much waits in all, nobody's share is as large as otherwise.
const SCARCE: u64 = 64 << 20;
/// By what shares are divided then.
const SCARCE_SHARE: usize = 64;

/// Counts what waits for one socket.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Arc<AtomicUsize>,
}

/// Belongs to the text of a packet, wherever that is kept.
struct Counted {
    text: String,
    waiting: Arc<AtomicUsize>,
    all: Arc<Counters>,
}

impl Outbox {
    /// Counts a packet until it is dropped. `None`: so much waits already that its receiver does not read.
    pub(super) fn pack(&self, text: String, most: usize, all: &Arc<Counters>) -> Option<Str> {
        let size = text.len() + OVERHEAD;
        let waiting = self.waiting.load(Relaxed);
        // Where nothing waits, one packet may, however long it is.
        if waiting > 0 && waiting + size > share(most, all.queued_bytes.load(Relaxed)) {
            return None;
        }
        self.waiting.fetch_add(size, Relaxed);
        all.queued_bytes.fetch_add(size as u64, Relaxed);
        let counted = Counted { text, waiting: Arc::clone(&self.waiting), all: Arc::clone(all) };
        Some(as_str(Bytes::from_owner(counted)))
    }
}

/// Bytes that may wait for one socket while so much waits for all.
fn share(most: usize, all: u64) -> usize {
    if all > SCARCE { most / SCARCE_SHARE } else { most }
}

#[expect(unsafe_code, reason = "the library has no other way to a text whose end is noticed")]
fn as_str(text: Bytes) -> Str {
    debug_assert!(std::str::from_utf8(&text).is_ok());
    // SAFETY: the bytes are those of the `String` in `Counted`, which is all that this is called with.
    unsafe { Str::from_bytes_unchecked(text) }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let size = self.text.len() + OVERHEAD;
        self.waiting.fetch_sub(size, Relaxed);
        AtomicU64::fetch_sub(&self.all.queued_bytes, size as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_makes_room_when_it_is_taken() {
        let (outbox, all) = (Outbox::default(), Arc::new(Counters::default()));
        let pack = || outbox.pack("x".repeat(1000), 4000, &all);
        let mut packets: Vec<Str> = std::iter::from_fn(pack).collect();
        assert_eq!(packets.len(), 3);
        assert_eq!(all.queued_bytes.load(Relaxed), 3 * 1128);
        let copy = packets[0].clone();
        packets.clear();
        assert_eq!(all.queued_bytes.load(Relaxed), 1128, "a copy keeps the text");
        assert_eq!(copy.as_str(), "x".repeat(1000));
        drop(copy);
        assert_eq!((all.queued_bytes.load(Relaxed), outbox.waiting.load(Relaxed)), (0, 0));
        assert!(pack().is_some());
    }

    #[test]
    fn shares_are_smaller_when_much_waits_for_all() {
        assert_eq!(share(6400, SCARCE), 6400);
        assert_eq!(share(6400, SCARCE + 1), 100);
    }
}
