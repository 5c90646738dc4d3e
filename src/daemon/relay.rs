//! What the status tells of the relay: what it may, where it listens, by which way packets go, what it counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::config::{Latency, TurnConfig};
use crate::control::protocol::{TurnLimits, TurnListening, TurnPath, TurnStatus};
use crate::turn::{Counters, Dropped, Outcome};

/// The relay's settings and counters.
pub(super) struct Relay {
    counters: Arc<Counters>,
    limits: TurnLimits,
    listening: TurnListening,
    workers: u64,
    latency: &'static str,
}

impl Relay {
    /// `udp`, `tcp` and `tls` are the addresses that are listened on for each.
    pub(super) fn new(
        config: &TurnConfig,
        counters: Arc<Counters>,
        udp: &[SocketAddr],
        tcp: &[SocketAddr],
        tls: &[SocketAddr],
    ) -> Self {
        let texts = |addresses: &[SocketAddr]| addresses.iter().map(ToString::to_string).collect();
        Self {
            counters,
            limits: TurnLimits {
                user_allocations: config.user_quota.into(),
                allocations: config.total_quota.into(),
                allocation_bandwidth: config.allocation_bandwidth,
                bandwidth: config.total_bandwidth,
            },
            listening: TurnListening { udp: texts(udp), tcp: texts(tcp), tls: texts(tls) },
            workers: config.workers as u64,
            latency: match config.latency {
                Latency::Auto => "auto",
                Latency::Low => "low",
            },
        }
    }

    pub(super) fn status(&self) -> TurnStatus {
        let counters = &self.counters;
        let path = &counters.path;
        TurnStatus {
            allocations: Counters::read(&counters.allocations),
            relayed_bytes: Counters::read(&counters.relayed_bytes),
            relayed_packets: Counters::read(&counters.relayed_packets),
            dropped: Dropped::ALL.iter().map(|why| (why.as_str().to_owned(), counters.dropped(*why))).collect(),
            outcomes: Outcome::ALL
                .iter()
                .map(|outcome| (outcome.as_str().to_owned(), counters.outcome(*outcome)))
                .collect(),
            limits: self.limits.clone(),
            listening: self.listening.clone(),
            path: TurnPath {
                gro: path.gro.load(Ordering::Relaxed),
                gso: path.gso.load(Ordering::Relaxed),
                workers: self.workers,
                latency: self.latency.to_owned(),
            },
        }
    }
}
