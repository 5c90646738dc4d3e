//! What the shards of one relay have in common. Reading takes no lock.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwapOption, Guard};

use super::Client;
use super::allocation::Owner;
use super::bandwidth::Meter;

/// Bits of one word.
const WORD: usize = 64;
/// Words for all ports.
const WORDS: usize = 65536 / WORD;

/// Allocations that probes may have at a time; more means that they are not given back.
const MAX_PROBES: u32 = 32;

/// Quotas, bandwidth, the relay ports in use, and what other shards must know of the allocations there.
pub struct Shared {
    ports: RangeInclusive<u16>,
    live_v4: Box<[AtomicU64]>,
    live_v6: Box<[AtomicU64]>,
    /// By port; made at first use, since most relays have one shard or no callers that reach each other.
    views_v4: OnceLock<Views>,
    views_v6: OnceLock<Views>,
    shards: AtomicU32,
    total: AtomicU32,
    /// Allocations of probes, which count nowhere else.
    probes: AtomicU32,
    by_user: Mutex<BTreeMap<Arc<str>, u32>>,
    /// Of all allocations together.
    meter: Meter,
    began_at: OnceLock<Instant>,
}

type Views = Box<[ArcSwapOption<View>]>;

/// An allocation as the other shards see it: enough to hand its client what they have for it.
pub(super) struct View {
    pub(super) relay: SocketAddr,
    pub(super) client: Client,
    pub(super) expires_at: Instant,
    /// For relay addresses of ours, which are one or two.
    pub(super) permissions: Vec<(IpAddr, Instant)>,
    /// To relay addresses of ours, sorted by them.
    pub(super) channels: Vec<(SocketAddr, u16, Instant)>,
    pub(super) meter: Arc<Meter>,
}

impl View {
    pub(super) fn permits(&self, peer: IpAddr, now: Instant) -> bool {
        self.expires_at > now && self.permissions.iter().any(|(permitted, until)| *permitted == peer && *until > now)
    }

    pub(super) fn channel_to(&self, peer: SocketAddr, now: Instant) -> Option<u16> {
        let place = self.channels.binary_search_by(|(bound, ..)| bound.cmp(&peer)).ok()?;
        let (_, number, until) = self.channels[place];
        (until > now).then_some(number)
    }
}

impl Shared {
    /// For relay sockets bound to `ports`.
    #[must_use]
    pub fn new(ports: RangeInclusive<u16>) -> Self {
        let words = || (0..WORDS).map(|_| AtomicU64::new(0)).collect();
        Self {
            ports,
            live_v4: words(),
            live_v6: words(),
            views_v4: OnceLock::new(),
            views_v6: OnceLock::new(),
            shards: AtomicU32::new(0),
            total: AtomicU32::new(0),
            probes: AtomicU32::new(0),
            by_user: Mutex::default(),
            meter: Meter::default(),
            began_at: OnceLock::new(),
        }
    }

    /// Allocations at this moment.
    #[must_use]
    pub fn allocations(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }

    /// One more shard; gives the moment that meters count from.
    pub(super) fn join(&self, now: Instant) -> Instant {
        self.shards.fetch_add(1, Ordering::Relaxed);
        *self.began_at.get_or_init(|| now)
    }

    pub(super) fn has_other_shards(&self) -> bool {
        self.shards.load(Ordering::Relaxed) > 1
    }

    /// Whether `bytes` may pass by the bandwidth that all allocations share.
    pub(super) fn admits(&self, bytes: usize, rate: u64, now: Duration) -> bool {
        self.meter.admits(bytes, rate, now)
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

    /// What is known here of the allocation that has the relay address `relay`.
    pub(super) fn view(&self, relay: SocketAddr) -> Option<Guard<Option<Arc<View>>>> {
        let index = self.index(relay)?;
        let view = self.views(relay).get()?[index].load();
        view.as_ref().is_some_and(|view| view.relay == relay).then_some(view)
    }

    pub(super) fn set_view(&self, relay: SocketAddr, view: Option<Arc<View>>) {
        let Some(index) = self.index(relay) else { return };
        let views = self.views(relay).get_or_init(|| self.ports.clone().map(|_| ArcSwapOption::empty()).collect());
        views[index].store(view);
    }

    /// Counts one more allocation of `user`, if both quotas have room. Gives the name that is shared by all of them.
    pub(super) fn enter(&self, user: &str, user_quota: u32, total_quota: u32) -> Option<Arc<str>> {
        let mut by_user = self.by_user.lock().expect("nothing panics while it holds this lock");
        let known = by_user.get_key_value(user).map(|(name, count)| (Arc::clone(name), *count));
        let (name, count) = known.unwrap_or_else(|| (Arc::from(user), 0));
        if count >= user_quota || self.total.load(Ordering::Relaxed) >= total_quota {
            return None;
        }
        by_user.insert(Arc::clone(&name), count + 1);
        self.total.fetch_add(1, Ordering::Relaxed);
        Some(name)
    }

    /// Counts one more allocation of a probe, if there is room for it.
    pub(super) fn enter_probe(&self) -> bool {
        let more = |count: u32| (count < MAX_PROBES).then_some(count + 1);
        self.probes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Counts one allocation of `owner` less.
    pub(super) fn leave(&self, owner: &Owner) {
        let Owner::User(user) = owner else {
            self.probes.fetch_sub(1, Ordering::Relaxed);
            return;
        };
        let mut by_user = self.by_user.lock().expect("nothing panics while it holds this lock");
        let Some(count) = by_user.get_mut(&**user) else { return };
        *count -= 1;
        if *count == 0 {
            by_user.remove(&**user);
        }
        self.total.fetch_sub(1, Ordering::Relaxed);
    }

    fn ports(&self, address: SocketAddr) -> &[AtomicU64] {
        if address.is_ipv4() { &self.live_v4 } else { &self.live_v6 }
    }

    fn views(&self, address: SocketAddr) -> &OnceLock<Views> {
        if address.is_ipv4() { &self.views_v4 } else { &self.views_v6 }
    }

    fn index(&self, address: SocketAddr) -> Option<usize> {
        self.ports.contains(&address.port()).then(|| usize::from(address.port() - self.ports.start()))
    }

    fn place(port: u16) -> (usize, u64) {
        (usize::from(port) / WORD, 1 << (usize::from(port) % WORD))
    }
}
