//! How often each network may do something, in bounded memory.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::sys::net::site;

/// Networks that are told apart at a time. More than that share one allowance until others have filled up again.
const MAX_NETWORKS: usize = 8192;
/// How often those that have filled up again are looked for: not with each newcomer of a flood.
const SWEPT_EVERY: Duration = Duration::from_secs(1);

/// What one subscriber has: an IPv4 address, or the 64 bits of IPv6 that a host chooses the rest of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Network(IpAddr);

impl Network {
    pub(super) fn of(client: IpAddr) -> Self {
        match client.to_canonical() {
            // Those of a LAN share their first 64 bits, and are different people.
            IpAddr::V6(v6) if v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback() => Self(v6.into()),
            address @ (IpAddr::V4(_) | IpAddr::V6(_)) => Self(site(address)),
        }
    }

    pub(super) fn address(self) -> IpAddr {
        self.0
    }
}

/// Lets each network do something so often at once, and so often a second.
#[derive(Debug)]
pub(super) struct Limiter {
    rate: f64,
    burst: f64,
    buckets: BTreeMap<Network, Bucket>,
    /// Of those that there is no place for.
    shared: Option<Bucket>,
    swept_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    filled_at: Instant,
}

impl Limiter {
    pub(super) fn new(rate: f64, burst: f64) -> Self {
        Self { rate, burst, buckets: BTreeMap::new(), shared: None, swept_at: None }
    }

    /// Does it once.
    ///
    /// # Errors
    /// How long it takes until it is possible again.
    pub(super) fn take(&mut self, network: Network, now: Instant) -> Result<(), Duration> {
        let (rate, burst) = (self.rate, self.burst);
        let bucket = self.bucket(network, now);
        bucket.fill(rate, burst, now);
        bucket.wait(rate)?;
        bucket.tokens -= 1.0;
        Ok(())
    }

    /// Whether it is possible.
    ///
    /// # Errors
    /// How long it takes until it is.
    pub(super) fn look(&mut self, network: Network, now: Instant) -> Result<(), Duration> {
        let known = self.buckets.get(&network).copied();
        // A newcomer to a full table is judged with the others that have no place.
        let shared = self.shared.filter(|_| self.buckets.len() >= MAX_NETWORKS);
        let Some(mut bucket) = known.or(shared) else { return Ok(()) };
        bucket.fill(self.rate, self.burst, now);
        bucket.wait(self.rate)
    }

    fn bucket(&mut self, network: Network, now: Instant) -> &mut Bucket {
        let is_known = self.buckets.contains_key(&network);
        if !is_known && self.buckets.len() >= MAX_NETWORKS {
            self.sweep(now);
        }
        let fresh = Bucket { tokens: self.burst, filled_at: now };
        if is_known || self.buckets.len() < MAX_NETWORKS {
            return self.buckets.entry(network).or_insert(fresh);
        }
        self.shared.get_or_insert(fresh)
    }

    /// Forgets the networks that may do as much as one that was never seen.
    fn sweep(&mut self, now: Instant) {
        if self.swept_at.is_some_and(|at| now.saturating_duration_since(at) < SWEPT_EVERY) {
            return;
        }
        self.swept_at = Some(now);
        let (rate, burst) = (self.rate, self.burst);
        self.buckets.retain(|_, bucket| {
            bucket.fill(rate, burst, now);
            bucket.tokens < burst
        });
    }
}

impl Bucket {
    fn fill(&mut self, rate: f64, burst: f64, now: Instant) {
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.filled_at = now;
        self.tokens = (self.tokens + passed * rate).min(burst);
    }

    fn wait(&self, rate: f64) -> Result<(), Duration> {
        if self.tokens >= 1.0 { Ok(()) } else { Err(Duration::from_secs_f64((1.0 - self.tokens) / rate)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;

    fn network(number: u32) -> Network {
        Network::of(IpAddr::V4(number.into()))
    }

    fn passed(limiter: &mut Limiter, network: Network, now: Instant) -> usize {
        (0..100).filter(|_| limiter.take(network, now).is_ok()).count()
    }

    #[test]
    fn each_network_has_its_burst_and_then_its_rate() {
        let now = clock::now().mono;
        let mut limiter = Limiter::new(0.5, 3.0);
        assert_eq!(passed(&mut limiter, network(1), now), 3);
        assert_eq!(passed(&mut limiter, network(2), now), 3);
        assert_eq!(limiter.take(network(1), now), Err(Duration::from_secs(2)));
        assert_eq!(limiter.look(network(1), now), Err(Duration::from_secs(2)));
        assert_eq!(passed(&mut limiter, network(1), now + Duration::from_secs(4)), 2);
        assert_eq!(passed(&mut limiter, network(1), now + Duration::from_secs(4000)), 3);
    }

    #[test]
    fn looking_takes_nothing() {
        let now = clock::now().mono;
        let mut limiter = Limiter::new(1.0, 1.0);
        assert!((0..10).all(|_| limiter.look(network(1), now).is_ok()));
        assert!(limiter.buckets.is_empty());
        assert_eq!(passed(&mut limiter, network(1), now), 1);
    }

    #[test]
    fn a_flood_of_networks_takes_bounded_memory_and_frees_nobody() {
        let now = clock::now().mono;
        let mut limiter = Limiter::new(1.0, 2.0);
        assert_eq!(passed(&mut limiter, network(0), now), 2);
        let most = u32::try_from(MAX_NETWORKS).unwrap();
        for number in 1..most {
            limiter.take(network(number), now).unwrap();
        }
        // Newcomers share what one has.
        let newcomers = (0..1000).filter(|number| limiter.take(network(most + number), now).is_ok()).count();
        assert_eq!(newcomers, 2);
        assert!(limiter.look(network(9 * most), now).is_err());
        assert_eq!(limiter.buckets.len(), MAX_NETWORKS);
        assert!(limiter.take(network(0), now).is_err(), "one that is known is not forgotten for newcomers");
        // When they have filled up again there is room.
        let later = now + Duration::from_secs(60);
        assert_eq!(passed(&mut limiter, network(9 * most), later), 2);
        assert_eq!(limiter.buckets.len(), 1);
    }

    #[test]
    fn a_subscriber_is_one_network_and_people_of_a_lan_are_many() {
        let of = |text: &str| Network::of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("fd00::1"), of("fd00::2"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
