//! How many answers those get who have not shown that they are who their datagrams say: no more than a reflector has use
//! for, from a table of fixed size.
//!
//! A source is a prefix: an IPv4 address, or an IPv6 network of 64 bits. What is left to a source recovers with time, so
//! an entry is a few moments at which it has recovered wholly. An entry that has recovered most makes place for a source
//! that has none: sources that are made up push each other out, and not the one that is being flooded through them.

use std::hash::{DefaultHasher, Hasher as _};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Entries that one prefix may have, by its hash, and the number of such sets: 80 KiB together.
const WAYS: usize = 4;
const SETS: usize = 1024;
const _: () = assert!(WAYS * SETS * size_of::<Entry>() <= 80 * 1024, "the table has a budget");
/// Ticks of the table's clock in a second. It wraps after twelve days, which makes at worst one wrong guess.
const TICKS: u32 = 4000;
/// Ten seconds: no debt is longer.
const MAX_DEBT: u32 = 10 * TICKS;
/// Replies a second to all sources together.
const TOTAL: u32 = 50_000;
/// How long a prefix is trusted after a request with an integrity that was right, to a nonce of ours.
const PROVEN_FOR: Duration = Duration::from_secs(600);

/// What an answer is, of those that need no credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// A Binding.
    Binding,
    /// A request without an integrity, by a challenge.
    Unsigned,
    /// A request that has an integrity and fails.
    Failed,
}

/// So many a second in the long run, and so many at once.
#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: u32,
    burst: u32,
}

const BINDINGS: Rate = Rate { per_second: 50, burst: 500 };
const CHALLENGES: Rate = Rate { per_second: 10, burst: 100 };
const PROVEN_CHALLENGES: Rate = Rate { per_second: 2000, burst: 2000 };
const FAILURES: Rate = Rate { per_second: 10, burst: 10 };

impl Rate {
    fn period(self) -> u32 {
        TICKS / self.per_second
    }

    /// The debt after one more, if that is allowed.
    fn charge(self, debt: u32) -> Option<u32> {
        let after = debt + self.period();
        (after <= self.period() * self.burst).then_some(after)
    }
}

/// A source, and when it will have recovered from each kind of answer.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    tag: u32,
    binding_at: u32,
    challenge_at: u32,
    failure_at: u32,
    /// Seconds since the table was made.
    proven_until: u32,
}

impl Entry {
    fn is_proven(&self, clock: Clock) -> bool {
        self.proven_until > clock.seconds
    }

    /// How much would be forgotten with it.
    fn worth(&self, clock: Clock) -> u32 {
        let scale = MAX_DEBT / (FAILURES.burst * FAILURES.period());
        let debts = [clock.debt(self.binding_at), clock.debt(self.challenge_at), clock.debt(self.failure_at) * scale];
        let proof = if self.is_proven(clock) { MAX_DEBT } else { 0 };
        debts.into_iter().max().unwrap_or(0) + proof
    }
}

/// One moment on the table's clock.
#[derive(Debug, Clone, Copy)]
struct Clock {
    ticks: u32,
    seconds: u32,
    nanos: u64,
}

impl Clock {
    /// Ticks until `at`. What is longer than any debt has been left over from before the clock wrapped.
    fn debt(self, at: u32) -> u32 {
        let ahead = at.wrapping_sub(self.ticks);
        if ahead <= MAX_DEBT { ahead } else { 0 }
    }
}

pub(super) struct Limits {
    entries: Vec<Entry>,
    /// Keeps others from choosing who shares a set with whom.
    secret: [u64; 2],
    started_at: Instant,
    /// When all sources together will have recovered, in nanoseconds.
    total_at: u64,
}

impl Limits {
    pub(super) fn new(secret: [u64; 2], now: Instant) -> Self {
        Self { entries: vec![Entry::default(); WAYS * SETS], secret, started_at: now, total_at: 0 }
    }

    /// Whether `source` gets one more answer, which counts from now on.
    ///
    /// Sources that nobody on the internet can be are not limited, unless it is passwords they may be guessing.
    pub(super) fn allows(&mut self, source: IpAddr, answered: Answered, now: Instant) -> bool {
        let source = source.to_canonical();
        if answered != Answered::Failed && is_local(source) {
            return true;
        }
        let clock = self.clock(now);
        let period = 1_000_000_000 / u64::from(TOTAL);
        let total_at = self.total_at.max(clock.nanos) + period;
        let is_exhausted = total_at - clock.nanos > 1_000_000_000;
        let entry = self.entry(source, clock);
        let is_proven = entry.is_proven(clock);
        let (rate, at) = match answered {
            Answered::Binding => (BINDINGS, &mut entry.binding_at),
            Answered::Unsigned if is_proven => (PROVEN_CHALLENGES, &mut entry.challenge_at),
            Answered::Unsigned => (CHALLENGES, &mut entry.challenge_at),
            Answered::Failed => (FAILURES, &mut entry.failure_at),
        };
        let Some(debt) = rate.charge(clock.debt(*at)) else { return false };
        // Whoever has proven to be there is served while others flood.
        if is_exhausted && !is_proven {
            return false;
        }
        *at = clock.ticks.wrapping_add(debt);
        if !is_exhausted {
            self.total_at = total_at;
        }
        true
    }

    /// Takes note that datagrams of `source` do come from there.
    pub(super) fn prove(&mut self, source: IpAddr, now: Instant) {
        let source = source.to_canonical();
        if is_local(source) {
            return;
        }
        let clock = self.clock(now);
        let entry = self.entry(source, clock);
        if !entry.is_proven(clock) {
            entry.challenge_at = clock.ticks;
        }
        entry.proven_until = clock.seconds + u32::try_from(PROVEN_FOR.as_secs()).expect("ten minutes are few seconds");
    }

    fn clock(&self, now: Instant) -> Clock {
        let since = now.saturating_duration_since(self.started_at);
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX / 2);
        let ticks = (nanos / (1_000_000_000 / u64::from(TICKS))) as u32;
        Clock { ticks, seconds: u32::try_from(since.as_secs()).unwrap_or(u32::MAX / 2), nanos }
    }

    /// The entry of a source, which may be new.
    fn entry(&mut self, source: IpAddr, clock: Clock) -> &mut Entry {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.secret[0]);
        hasher.write_u64(self.secret[1]);
        match source {
            IpAddr::V4(v4) => hasher.write_u32(v4.to_bits()),
            IpAddr::V6(v6) => hasher.write_u64((v6.to_bits() >> 64) as u64),
        }
        let hash = hasher.finish();
        let tag = (hash >> 32) as u32;
        let set = (hash as usize % SETS) * WAYS;
        let set = &mut self.entries[set..set + WAYS];
        let found = set.iter().position(|entry| entry.tag == tag);
        let place = found.unwrap_or_else(|| {
            let least = (0..WAYS).min_by_key(|way| set[*way].worth(clock)).expect("a set has ways");
            set[least] = Entry {
                tag,
                binding_at: clock.ticks,
                challenge_at: clock.ticks,
                failure_at: clock.ticks,
                proven_until: 0,
            };
            least
        });
        &mut set[place]
    }
}

/// Whether an address means nobody beyond the networks that this host is in.
fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}
