//! What the shards of one relay have in common. Reading which ports are live takes no lock.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Bits of one word.
const WORD: usize = 64;
/// Words for all ports.
const WORDS: usize = 65536 / WORD;

/// Quotas, and the relay ports in use.
pub struct Shared {
    live_v4: Box<[AtomicU64]>,
    live_v6: Box<[AtomicU64]>,
    total: AtomicU32,
    by_user: Mutex<BTreeMap<String, u32>>,
}

impl Shared {
    /// For relay sockets bound to `ports`.
    #[must_use]
    pub fn new(ports: RangeInclusive<u16>) -> Self {
        let _ = ports;
        let words = || (0..WORDS).map(|_| AtomicU64::new(0)).collect();
        Self { live_v4: words(), live_v6: words(), total: AtomicU32::new(0), by_user: Mutex::default() }
    }

    /// Allocations at this moment.
    #[must_use]
    pub fn allocations(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }

    /// Whether an allocation of any shard has the port of `address`, one of our relay addresses.
    pub(super) fn is_live(&self, address: SocketAddr) -> bool {
        let (word, bit) = Self::place(address.port());
        self.ports(address)[word].load(Ordering::Relaxed) & bit != 0
    }

    pub(super) fn set_live(&self, address: SocketAddr, is_live: bool) {
        let (word, bit) = Self::place(address.port());
        let word = &self.ports(address)[word];
        if is_live {
            word.fetch_or(bit, Ordering::Relaxed)
        } else {
            word.fetch_and(!bit, Ordering::Relaxed)
        };
    }

    /// Counts one more allocation of `user`, if both quotas have room.
    pub(super) fn enter(&self, user: &str, user_quota: u32, total_quota: u32) -> bool {
        let mut by_user = self.by_user.lock().expect("nothing panics while it holds this lock");
        let count = by_user.get(user).copied().unwrap_or(0);
        if count >= user_quota || self.total.load(Ordering::Relaxed) >= total_quota {
            return false;
        }
        by_user.insert(user.to_owned(), count + 1);
        self.total.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Counts one allocation of `user` less.
    pub(super) fn leave(&self, user: &str) {
        let mut by_user = self.by_user.lock().expect("nothing panics while it holds this lock");
        let Some(count) = by_user.get_mut(user) else { return };
        *count -= 1;
        if *count == 0 {
            by_user.remove(user);
        }
        self.total.fetch_sub(1, Ordering::Relaxed);
    }

    fn ports(&self, address: SocketAddr) -> &[AtomicU64] {
        if address.is_ipv4() { &self.live_v4 } else { &self.live_v6 }
    }

    fn place(port: u16) -> (usize, u64) {
        (usize::from(port) / WORD, 1 << (usize::from(port) % WORD))
    }
}
