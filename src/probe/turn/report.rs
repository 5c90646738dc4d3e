//! What a test of a server found, step by step.

use std::net::SocketAddr;
use std::time::Duration;

use super::url::{Carrier, IceUrl, Service};
use crate::words::Text;

/// What is done, in the order in which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepName {
    /// Reading the URL.
    Url,
    /// Looking the host up.
    Dns,
    /// A TCP connection; by UDP, any answer at all.
    Connect,
    Tls,
    /// STUN: which address does the server see?
    Binding,
    /// An Allocate without credentials, which is to be answered by realm and nonce.
    Challenge,
    /// An Allocate with credentials.
    Allocate,
    /// A second allocation by a second socket: the other side of a call.
    Peer,
    /// CreatePermission, each for the other.
    Permission,
    /// ChannelBind, each for the other.
    Channel,
    /// Packets both ways through both relays.
    Data,
    /// CreatePermission for addresses that no relay may reach.
    Attack,
    /// Refresh by zero seconds.
    Release,
    /// Whether the allocation is gone then.
    Released,
}

impl StepName {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Binding => "binding",
            Self::Challenge => "challenge",
            Self::Allocate => "allocate",
            Self::Peer => "peer",
            Self::Permission => "permission",
            Self::Channel => "channel",
            Self::Data => "data",
            Self::Attack => "attack",
            Self::Release => "release",
            Self::Released => "released",
        }
    }

    /// The steps that a URL asks for.
    #[must_use]
    pub fn expected(url: &IceUrl, attack: bool) -> Vec<Self> {
        let mut steps = vec![Self::Url, Self::Dns, Self::Connect];
        if url.carrier == Carrier::Tls {
            steps.push(Self::Tls);
        }
        steps.push(Self::Binding);
        if url.service == Service::Turn {
            steps.extend([Self::Challenge, Self::Allocate, Self::Peer, Self::Permission, Self::Channel, Self::Data]);
            if attack {
                steps.push(Self::Attack);
            }
            steps.extend([Self::Release, Self::Released]);
        }
        steps
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Ok,
    /// It works, but somebody should look.
    Warning,
    Failed,
    Skipped,
}

impl Status {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// A step that was taken, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub name: StepName,
    pub status: Status,
    pub took: Duration,
    /// What was found, or what failed.
    pub told: Text,
    pub why: Option<Text>,
    pub hint: Option<Text>,
}

/// Why something is not as it should be, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Advice {
    pub(super) why: Text,
    pub(super) hint: Text,
}

/// What a step found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Fine(Text),
    /// Fine, with something to look at.
    Odd(Text, Advice),
    /// Not fine, though what follows can be tried.
    Broken(Text, Advice),
    /// Nothing to be tried here.
    Nothing(Text),
}

impl Step {
    pub(super) fn new(name: StepName, found: Found, took: Duration) -> Self {
        let (status, told, advice) = match found {
            Found::Fine(told) => (Status::Ok, told, None),
            Found::Odd(told, advice) => (Status::Warning, told, Some(advice)),
            Found::Broken(told, advice) => (Status::Failed, told, Some(advice)),
            Found::Nothing(told) => (Status::Skipped, told, None),
        };
        let (why, hint) = advice.map(|advice| (advice.why, advice.hint)).unzip();
        Self { name, status, took, told, why, hint }
    }
}

/// Round trips through both relays, and what got lost on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    pub sent: u32,
    /// That arrived at the peer.
    pub arrived: u32,
    /// That came back.
    pub returned: u32,
    pub p50: Duration,
    pub p90: Duration,
}

impl Traffic {
    /// From the round trips of the packets that came back.
    pub(super) fn of(sent: u32, arrived: u32, mut round_trips: Vec<Duration>) -> Self {
        round_trips.sort_unstable();
        let rank = |percent: usize| {
            let at = (round_trips.len() * percent).div_ceil(100).saturating_sub(1);
            round_trips.get(at).copied().unwrap_or_default()
        };
        let returned = u32::try_from(round_trips.len()).unwrap_or(u32::MAX);
        Self { sent, arrived, returned, p50: rank(50), p90: rank(90) }
    }
}

/// One URL by one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub url: String,
    /// `None` if the host has none.
    pub address: Option<SocketAddr>,
    pub steps: Vec<Step>,
    /// The address that the server sees.
    pub mapped: Option<SocketAddr>,
    pub relayed: Option<SocketAddr>,
    pub traffic: Option<Traffic>,
}

impl Report {
    /// The first step that failed.
    #[must_use]
    pub fn failing(&self) -> Option<&Step> {
        self.steps.iter().find(|step| step.status == Status::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_asks_for_the_steps_of_its_service_and_carrier() {
        let words = |url: &str, attack| {
            let steps = StepName::expected(&url.parse().unwrap(), attack);
            assert!(steps.is_sorted());
            steps.into_iter().map(StepName::as_str).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(words("stun:a.example", true), "url dns connect binding");
        assert_eq!(
            words("turns:a.example", true),
            "url dns connect tls binding challenge allocate peer permission channel data attack release released"
        );
        assert!(!words("turn:a.example", false).contains("attack"));
    }

    #[test]
    fn percentiles_are_round_trips_that_happened() {
        let ms = Duration::from_millis;
        let traffic = Traffic::of(12, 11, (1..=10).rev().map(ms).collect());
        assert_eq!(traffic, Traffic { sent: 12, arrived: 11, returned: 10, p50: ms(5), p90: ms(9) });
        assert_eq!(Traffic::of(1, 1, vec![ms(3)]).p90, ms(3));
        assert_eq!(Traffic::of(1, 0, Vec::new()).p50, Duration::ZERO);
    }
}
