//! Packets on their way to one socket, counted by bytes until its connection has taken them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::signaling::Counters;

/// Bytes that a packet takes besides its text, so that many short ones count as what they are.
const OVERHEAD: usize = 128;
/// Once this much waits in all, nobody's share is as large as otherwise.
const SCARCE: u64 = 64 << 20;
/// By what shares are divided then.
const SCARCE_SHARE: usize = 64;
/// Packets for which there stays room while none waits.
const USUAL: usize = 16;

/// What waits for one socket.
#[derive(Debug)]
pub(super) struct Outbox {
    packets: VecDeque<String>,
    /// Bytes.
    waiting: usize,
    all: Arc<Counters>,
}

impl Outbox {
    pub(super) fn new(all: Arc<Counters>) -> Self {
        Self { packets: VecDeque::new(), waiting: 0, all }
    }

    /// Whether the packet was taken, and not so much waits already that its receiver does not read.
    pub(super) fn push(&mut self, packet: String, most: usize) -> bool {
        let size = packet.len() + OVERHEAD;
        // Where nothing waits, one packet may, however long it is.
        if self.waiting > 0 && self.waiting + size > share(most, self.all.queued_bytes.load(Relaxed)) {
            return false;
        }
        self.waiting += size;
        self.all.queued_bytes.fetch_add(size as u64, Relaxed);
        self.packets.push_back(packet);
        true
    }

    /// The packet that has waited longest.
    pub(super) fn pop(&mut self) -> Option<String> {
        let packet = self.packets.pop_front()?;
        self.forget(packet.len() + OVERHEAD);
        if self.packets.is_empty() && self.packets.capacity() > USUAL {
            self.packets = VecDeque::new();
        }
        Some(packet)
    }

    fn forget(&mut self, size: usize) {
        self.waiting -= size;
        self.all.queued_bytes.fetch_sub(size as u64, Relaxed);
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.forget(self.waiting);
    }
}

/// Bytes that may wait for one socket while so much waits for all.
fn share(most: usize, all: u64) -> usize {
    if all > SCARCE { most / SCARCE_SHARE } else { most }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_makes_room_when_it_is_taken() {
        let all = Arc::new(Counters::default());
        let waits = || all.queued_bytes.load(Relaxed);
        let mut outbox = Outbox::new(Arc::clone(&all));
        assert!(outbox.push("x".repeat(5000), 4000), "the only one may be long");
        assert!(!outbox.push("x".to_owned(), 4000));
        assert_eq!(outbox.pop().map(|packet| packet.len()), Some(5000));
        assert_eq!((0..9).filter(|_| outbox.push("x".repeat(1000), 4000)).count(), 3);
        assert_eq!(waits(), 3 * 1128);
        assert!(outbox.pop().is_some());
        assert_eq!(waits(), 2 * 1128);
        assert!(outbox.push("y".to_owned(), 4000));
        assert_eq!(std::iter::from_fn(|| outbox.pop()).last().as_deref(), Some("y"), "the last comes last");
        assert_eq!(waits(), 0);
        assert!(outbox.push("x".to_owned(), 4000));
        drop(outbox);
        assert_eq!(waits(), 0, "nothing waits for one that has gone");
    }

    #[test]
    fn shares_are_smaller_when_much_waits_for_all() {
        assert_eq!(share(6400, SCARCE), 6400);
        assert_eq!(share(6400, SCARCE + 1), 100);
    }
}
