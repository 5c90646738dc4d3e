//! What the relay counts: by each worker for itself, and added up for whoever asks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Why a packet was not relayed, or a message not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// Not a message of STUN or TURN, or a broken one.
    Malformed,
    /// An answer would have exceeded what unauthenticated sources get.
    RateLimited,
    /// Data of a client without an allocation.
    NoAllocation,
    /// Data on a channel that is not bound.
    NoChannel,
    /// Data for or from a peer without a permission.
    NoPermission,
    /// Data for a peer that the policy denies.
    DeniedPeer,
    /// More than the bandwidth allows.
    Bandwidth,
    /// Too long for its frame or for the path.
    TooLong,
    /// The kernel did not take it: no buffer, no route, filtered.
    SendFailed,
    /// A client on TCP or TLS that reads too slowly.
    SlowClient,
}

/// What became of an Allocate that was authenticated, or asked to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Granted,
    /// Ended by its client.
    Released,
    /// Ended because it was not refreshed, or its connection was lost.
    Expired,
    /// 401 to a request that carried an integrity.
    WrongCredentials,
    /// 486.
    OverQuota,
    /// 508.
    NoCapacity,
    /// Any other refusal.
    Refused,
}

const REASONS: usize = Dropped::ALL.len();
const OUTCOMES: usize = Outcome::ALL.len();

impl Dropped {
    pub const ALL: [Self; 10] = [
        Self::Malformed,
        Self::RateLimited,
        Self::NoAllocation,
        Self::NoChannel,
        Self::NoPermission,
        Self::DeniedPeer,
        Self::Bandwidth,
        Self::TooLong,
        Self::SendFailed,
        Self::SlowClient,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::RateLimited => "rate_limited",
            Self::NoAllocation => "no_allocation",
            Self::NoChannel => "no_channel",
            Self::NoPermission => "no_permission",
            Self::DeniedPeer => "denied_peer",
            Self::Bandwidth => "bandwidth",
            Self::TooLong => "too_long",
            Self::SendFailed => "send_failed",
            Self::SlowClient => "slow_client",
        }
    }
}

impl Outcome {
    pub const ALL: [Self; 7] = [
        Self::Granted,
        Self::Released,
        Self::Expired,
        Self::WrongCredentials,
        Self::OverQuota,
        Self::NoCapacity,
        Self::Refused,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Released => "released",
            Self::Expired => "expired",
            Self::WrongCredentials => "wrong_credentials",
            Self::OverQuota => "over_quota",
            Self::NoCapacity => "no_capacity",
            Self::Refused => "refused",
        }
    }
}

/// Counted by one worker since it last told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    pub relayed_packets: u64,
    pub relayed_bytes: u64,
    dropped: [u64; REASONS],
    outcomes: [u64; OUTCOMES],
}

impl Counts {
    /// Counts one packet of `bytes` of payload that goes on.
    pub fn relay(&mut self, bytes: usize) {
        self.relayed_packets += 1;
        self.relayed_bytes += bytes as u64;
    }

    pub fn drop(&mut self, why: Dropped) {
        self.dropped[why as usize] += 1;
    }

    pub fn drop_many(&mut self, why: Dropped, times: u64) {
        self.dropped[why as usize] += times;
    }

    pub fn end(&mut self, outcome: Outcome) {
        self.outcomes[outcome as usize] += 1;
    }

    #[must_use]
    pub fn dropped(&self, why: Dropped) -> u64 {
        self.dropped[why as usize]
    }

    #[must_use]
    pub fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }
}

/// By which of the kernel's ways packets go now; set by the data plane, which knows what the kernel takes.
#[derive(Debug, Default)]
pub struct Path {
    /// Several datagrams of one sender are received in one piece.
    pub gro: AtomicBool,
    /// Several datagrams for one receiver are sent in one piece.
    pub gso: AtomicBool,
}

/// Counted by the data plane, read by anyone; outlives the task's instances.
#[derive(Debug, Default)]
pub struct Counters {
    /// Live allocations.
    pub allocations: AtomicU64,
    /// Payload bytes relayed, both directions.
    pub relayed_bytes: AtomicU64,
    /// Datagrams relayed, both directions.
    pub relayed_packets: AtomicU64,
    pub path: Path,
    dropped: [AtomicU64; REASONS],
    outcomes: [AtomicU64; OUTCOMES],
}

impl Counters {
    /// Reads one counter; exactness between counters is not promised.
    #[must_use]
    pub fn read(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    /// Adds what a worker has counted.
    pub fn add(&self, counts: &Counts) {
        let add = |counter: &AtomicU64, count: u64| {
            if count != 0 {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        };
        add(&self.relayed_packets, counts.relayed_packets);
        add(&self.relayed_bytes, counts.relayed_bytes);
        for (counter, count) in self.dropped.iter().zip(counts.dropped) {
            add(counter, count);
        }
        for (counter, count) in self.outcomes.iter().zip(counts.outcomes) {
            add(counter, count);
        }
    }

    /// Packets and messages that were not relayed or answered, by reason.
    #[must_use]
    pub fn dropped(&self, why: Dropped) -> u64 {
        Self::read(&self.dropped[why as usize])
    }

    /// Allocations by what became of them.
    #[must_use]
    pub fn outcome(&self, outcome: Outcome) -> u64 {
        Self::read(&self.outcomes[outcome as usize])
    }
}
