//! What those who watch have seen: signs that they are served, and what was lost.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Somebody who watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Channel {
    /// Asks for the page again and again.
    Page,
    /// Two sockets of Socket.IO's client in a room.
    Room,
    /// Two callers who are both relayed, by UDP.
    RelayUdp,
    /// The same by TLS, beside the page.
    RelayTls,
    /// Two browsers in a call, directly: the pictures.
    Call,
    /// The pages of that call: whether they say that the connection to the room is there.
    CallRoom,
    /// The same browsers in another call, by the relay alone.
    RelayedCall,
}

impl Channel {
    pub(crate) const ALL: [Self; 7] =
        [Self::Page, Self::Room, Self::RelayUdp, Self::RelayTls, Self::Call, Self::CallRoom, Self::RelayedCall];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Room => "room",
            Self::RelayUdp => "relay-udp",
            Self::RelayTls => "relay-tls",
            Self::Call => "call",
            Self::CallRoom => "call-room",
            Self::RelayedCall => "relayed-call",
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.as_str())
    }
}

#[derive(Debug, Clone, Default)]
struct Seen {
    served_at: Vec<Instant>,
    lost_at: Vec<Instant>,
    refused_at: Vec<Instant>,
}

/// What was seen by all. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signs {
    seen: Arc<Mutex<BTreeMap<Channel, Seen>>>,
}

/// What one channel has noticed in a span of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Noticed {
    /// The longest time without a sign.
    pub(crate) outage: Duration,
    /// Messages that were sent and never arrived.
    pub(crate) lost: usize,
    /// Connections that were refused.
    pub(crate) refused: usize,
}

impl Signs {
    pub(crate) fn served(&self, channel: Channel, at: Instant) {
        self.note(channel, |seen| seen.served_at.push(at));
    }

    pub(crate) fn lost(&self, channel: Channel, count: u64, at: Instant) {
        self.note(channel, |seen| (0..count).for_each(|_| seen.lost_at.push(at)));
    }

    pub(crate) fn refused(&self, channel: Channel, at: Instant) {
        self.note(channel, |seen| seen.refused_at.push(at));
    }

    fn note(&self, channel: Channel, note: impl FnOnce(&mut Seen)) {
        note(self.seen.lock().unwrap_or_else(PoisonError::into_inner).entry(channel).or_default());
    }

    /// Those who have been served at all.
    pub(crate) fn channels(&self) -> Vec<Channel> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|(_, seen)| !seen.served_at.is_empty()).map(|(channel, _)| *channel).collect()
    }

    /// Whether a channel was served after `since`.
    pub(crate) fn is_served_since(&self, channel: Channel, since: Instant) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&channel).is_some_and(|seen| seen.served_at.iter().rev().any(|at| *at > since))
    }

    /// What a channel has noticed between two moments.
    pub(crate) fn noticed(&self, channel: Channel, from: Instant, to: Instant) -> Noticed {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&channel).map(|seen| noticed(seen, from, to)).unwrap_or_default()
    }
}

fn noticed(seen: &Seen, from: Instant, to: Instant) -> Noticed {
    let within = |moments: &[Instant]| moments.iter().filter(|at| **at >= from && **at <= to).count();
    // Some come with a list of earlier ones.
    let mut served_at = seen.served_at.clone();
    served_at.sort_unstable();
    // From the last sign before, since that is when the user was served last; until the end, if none came.
    let before = served_at.iter().rev().find(|at| **at < from).copied().unwrap_or(from);
    let signs = served_at.iter().copied().filter(|at| *at >= from && *at <= to);
    let signs: Vec<Instant> = std::iter::once(before).chain(signs).chain([to]).collect();
    let outage = signs.windows(2).map(|pair| pair[1].saturating_duration_since(pair[0])).max().unwrap_or_default();
    Noticed { outage, lost: within(&seen.lost_at), refused: within(&seen.refused_at) }
}

#[test]
fn an_outage_is_the_longest_time_without_a_sign_from_the_last_before_to_the_end() {
    let zero = rtcctl::sys::clock::now().mono;
    let at = |tenths: u64| zero + Duration::from_millis(100 * tenths);
    let signs = Signs::default();
    for tenths in [1, 3, 2, 40, 41] {
        signs.served(Channel::Page, at(tenths));
    }
    signs.lost(Channel::Page, 2, at(20));
    signs.lost(Channel::Page, 1, at(60));
    signs.refused(Channel::Page, at(5));
    let found = signs.noticed(Channel::Page, at(10), at(42));
    assert_eq!(found, Noticed { outage: Duration::from_millis(3700), lost: 2, refused: 0 });
    assert_eq!(signs.noticed(Channel::Page, at(10), at(30)).outage, Duration::from_millis(2700), "it goes on");
    assert_eq!(signs.noticed(Channel::Page, at(2), at(3)).outage, Duration::from_millis(100));
    assert_eq!(signs.channels(), [Channel::Page]);
    assert!(signs.is_served_since(Channel::Page, at(40)) && !signs.is_served_since(Channel::Page, at(41)));
}
