//! Decides how much one socket, and one address, may have: buckets, sockets of an address, joins of an address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::sys::net::site;

/// Seconds of a rate that may be used at once.
const BURST: f64 = 4.0;
/// A socket that was refused so many bursts in a row does not listen, and is cut.
const PATIENCE_IN_BURSTS: f64 = 5.0;
/// After so long without a join, a bucket of an address is full again, and forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);

/// Lets so much pass a second on average, and four times that at once.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    rate: f64,
    tokens: f64,
    filled_at: Instant,
    /// Refused since the last that passed.
    refused: f64,
}

/// What a bucket says to one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passage {
    Passes,
    /// The first that does not, after one that did: worth a word.
    RefusedFirst,
    Refused,
    /// It goes on and on.
    Flood,
}

impl Bucket {
    pub(super) fn new(rate: u32, now: Instant) -> Self {
        let rate = f64::from(rate);
        Self { rate, tokens: rate * BURST, filled_at: now, refused: 0.0 }
    }

    /// Whether one more may pass.
    pub(super) fn take(&mut self, now: Instant) -> Passage {
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.filled_at = now;
        self.tokens = (self.tokens + passed * self.rate).min(self.rate * BURST);
        if self.tokens < 1.0 {
            self.refused += 1.0;
            return match self.refused {
                count if count > self.rate * BURST * PATIENCE_IN_BURSTS => Passage::Flood,
                1.0 => Passage::RefusedFirst,
                _ => Passage::Refused,
            };
        }
        self.tokens -= 1.0;
        // Who sends at a rate just above what is allowed is told now and then, and is never taken for a flood.
        self.refused = (self.refused - 1.0).max(0.0);
        Passage::Passes
    }

    fn is_full(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.filled_at) >= FORGOTTEN_AFTER
    }
}

/// What the sockets of each address have.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    sockets_by_site: BTreeMap<IpAddr, usize>,
    joins_by_site: BTreeMap<IpAddr, Bucket>,
}

impl Addresses {
    /// One more socket of `client` is there. `false`: it is one too many; it has to [leave](Self::leave) all the same.
    pub(super) fn enter(&mut self, client: IpAddr, most: usize) -> bool {
        let count = self.sockets_by_site.entry(site(client)).or_default();
        *count += 1;
        *count <= most
    }

    pub(super) fn leave(&mut self, client: IpAddr) {
        let site = site(client);
        if let Some(count) = self.sockets_by_site.get_mut(&site) {
            *count -= 1;
            if *count == 0 {
                self.sockets_by_site.remove(&site);
            }
        }
    }

    /// Whether `client` may join once more, of so many a second.
    pub(super) fn join(&mut self, client: IpAddr, rate: u32, now: Instant) -> bool {
        let bucket = self.joins_by_site.entry(site(client)).or_insert_with(|| Bucket::new(rate, now));
        if bucket.rate.total_cmp(&f64::from(rate)).is_ne() {
            *bucket = Bucket::new(rate, now);
        }
        bucket.take(now) == Passage::Passes
    }

    /// Forgets the buckets that are as good as new.
    pub(super) fn tidy(&mut self, now: Instant) {
        self.joins_by_site.retain(|_, bucket| !bucket.is_full(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_bucket_lets_bursts_pass_and_the_rate_on_average() {
        let now = clock::now().mono;
        let mut bucket = Bucket::new(10, now);
        let passed = |bucket: &mut Bucket, at| (0..100).filter(|_| bucket.take(at) == Passage::Passes).count();
        assert_eq!(passed(&mut bucket, now), 40);
        assert_eq!(passed(&mut bucket, now + Duration::from_secs(1)), 10);
        assert_eq!(passed(&mut bucket, now + Duration::from_secs(3600)), 40);
    }

    #[test]
    fn who_is_refused_is_told_once_and_is_a_flood_if_it_goes_on() {
        let now = clock::now().mono;
        let mut bucket = Bucket::new(1, now);
        let taken: Vec<Passage> = (0..25).map(|_| bucket.take(now)).collect();
        assert_eq!(taken[..4], [Passage::Passes; 4]);
        assert_eq!(taken[4], Passage::RefusedFirst);
        assert_eq!(taken[5..24], [Passage::Refused; 19]);
        assert_eq!(taken[24], Passage::Flood);
    }

    #[test]
    fn who_sends_a_little_too_much_for_ever_is_no_flood() {
        let now = clock::now().mono;
        let mut bucket = Bucket::new(10, now);
        let step = Duration::from_millis(67);
        let taken = (0..10_000_u32).map(|count| bucket.take(now + step * count));
        assert!(taken.into_iter().all(|passage| passage != Passage::Flood));
    }

    #[test]
    fn sockets_of_an_address_are_bounded_and_given_back() {
        let mut addresses = Addresses::default();
        for _ in 0..3 {
            assert!(addresses.enter(address("192.0.2.1"), 3));
        }
        assert!(!addresses.enter(address("::ffff:192.0.2.1"), 3), "the same address in another form");
        assert!(addresses.enter(address("192.0.2.2"), 3));
        addresses.leave(address("192.0.2.1"));
        addresses.leave(address("192.0.2.1"));
        assert!(addresses.enter(address("192.0.2.1"), 3));
        for client in ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"] {
            addresses.leave(address(client));
        }
        assert!(addresses.sockets_by_site.is_empty());
    }

    #[test]
    fn an_ipv6_subscriber_is_one_client() {
        let mut addresses = Addresses::default();
        assert!(addresses.enter(address("2001:db8:1:2::1"), 1));
        assert!(!addresses.enter(address("2001:db8:1:2:3:4:5:6"), 1));
        assert!(addresses.enter(address("2001:db8:1:3::1"), 1));
    }

    #[test]
    fn joins_of_an_address_are_bounded_and_forgotten() {
        let now = clock::now().mono;
        let mut addresses = Addresses::default();
        let mut joined = |client, rate, at| (0..100).filter(|_| addresses.join(address(client), rate, at)).count();
        assert_eq!(joined("192.0.2.1", 5, now), 20);
        assert_eq!(joined("192.0.2.2", 5, now), 20);
        assert_eq!(joined("192.0.2.1", 5, now + Duration::from_secs(1)), 5);
        assert_eq!(joined("192.0.2.1", 6, now + Duration::from_secs(1)), 24, "another rate holds at once");
        addresses.tidy(now + Duration::from_secs(3));
        assert_eq!(addresses.joins_by_site.len(), 2);
        addresses.tidy(now + Duration::from_secs(5));
        assert_eq!(addresses.joins_by_site.len(), 1);
        addresses.tidy(now + Duration::from_secs(6));
        assert!(addresses.joins_by_site.is_empty());
    }
}
