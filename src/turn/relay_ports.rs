//! Relay sockets: bound at a random port of the range, and the ports that clients asked to be kept.
//!
//! Each free port of the range is equally likely, however many are taken: nobody can guess the next one (RFC 6056), and
//! the last free port of a large range is found as fast as the first.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rand::RngExt as _;

use super::server::Wanted;
use crate::sys::net::Family;
use crate::sys::udp::{Purpose, open};

/// How long a kept port waits for its client. RFC 8656, section 7.2, wants at least 30 seconds.
const KEPT_FOR: Duration = Duration::from_secs(30);
/// Ports that may be kept at a time: a client that never comes back must not empty the range.
const MAX_KEPT: usize = 64;
/// How long a port that another program has is not tried again.
const FOREIGN_FOR: Duration = Duration::from_secs(5);
/// Ports that are tried for one client. Others wait meanwhile.
const MAX_TRIES: usize = 256;
/// Ports of one word.
const WORD: u16 = 64;
/// Every other bit: the even ports of a word.
const EVEN: u64 = 0x5555_5555_5555_5555;

/// Opens relay sockets for all workers.
pub(super) struct RelayPorts {
    addresses: Vec<IpAddr>,
    state: Mutex<State>,
}

struct State {
    v4: Ports,
    v6: Ports,
    kept: BTreeMap<u64, Kept>,
}

struct Kept {
    socket: UdpSocket,
    address: SocketAddr,
    until: Instant,
}

/// The ports of the range at the address of one family.
struct Ports {
    range: RangeInclusive<u16>,
    /// Of which the first bit is the port `base`.
    taken: Vec<u64>,
    base: u16,
    /// Taken by another program when last tried, with the time of the first of them.
    foreign: Vec<u16>,
    foreign_since: Option<Instant>,
}

impl RelayPorts {
    pub(super) fn new(addresses: Vec<IpAddr>, range: RangeInclusive<u16>) -> Self {
        let state = State { v4: Ports::new(range.clone()), v6: Ports::new(range), kept: BTreeMap::new() };
        Self { addresses, state: Mutex::new(state) }
    }

    /// A socket as wanted, with its address, which [`RelayPorts::release`] gives back; `None`: there is none to be had.
    pub(super) fn open(&self, family: Family, wanted: Wanted, now: Instant) -> Option<(UdpSocket, SocketAddr)> {
        self.forget_kept(now);
        let address = *self.addresses.iter().find(|address| address.is_ipv4() == (family == Family::V4))?;
        match wanted {
            Wanted::Any => self.bind_any(address, Fit::Any, now),
            Wanted::Even => self.bind_any(address, Fit::Even, now),
            Wanted::EvenAndNext(token) => {
                if self.lock().kept.len() >= MAX_KEPT {
                    return None;
                }
                for _ in 0..MAX_TRIES {
                    let (socket, even) = self.bind_any(address, Fit::EvenWithNext, now)?;
                    let next = SocketAddr::new(address, even.port() + 1);
                    // The next one has been taken along with it.
                    let bound = bind(next);
                    if let Ok(Some(kept)) = bound {
                        let kept = Kept { socket: kept, address: next, until: now + KEPT_FOR };
                        self.lock().kept.insert(token, kept);
                        return Some((socket, even));
                    }
                    drop(socket);
                    let mut state = self.lock();
                    state.ports(address).release_all(Fit::EvenWithNext, even.port());
                    // No descriptors are left: that is so at any other port, too.
                    bound.ok()?;
                    state.ports(address).set_foreign(next.port(), now);
                }
                None
            }
            Wanted::Kept(token) => self.lock().kept.remove(&token).map(|kept| (kept.socket, kept.address)),
        }
    }

    /// The port of a socket that is closed may be given to the next.
    pub(super) fn release(&self, address: SocketAddr) {
        self.release_port(address.is_ipv4(), address.port());
    }

    pub(super) fn release_port(&self, is_ipv4: bool, port: u16) {
        let mut state = self.lock();
        if is_ipv4 { state.v4.release(port) } else { state.v6.release(port) }
    }

    fn forget_kept(&self, now: Instant) {
        let mut state = self.lock();
        let State { v4, v6, kept } = &mut *state;
        for (_, Kept { socket, address, .. }) in kept.extract_if(.., |_, kept| kept.until <= now) {
            drop(socket);
            if address.is_ipv4() { v4.release(address.port()) } else { v6.release(address.port()) }
        }
    }

    fn bind_any(&self, address: IpAddr, fit: Fit, now: Instant) -> Option<(UdpSocket, SocketAddr)> {
        for _ in 0..MAX_TRIES {
            // Taken before it is bound, so that no worker waits for the system calls of another.
            let port = self.lock().ports(address).take(fit, now, |free| rand::rng().random_range(0..free))?;
            let target = SocketAddr::new(address, port);
            match bind(target) {
                Ok(Some(socket)) => return Some((socket, target)),
                Ok(None) => {
                    let mut state = self.lock();
                    state.ports(address).release_all(fit, port);
                    state.ports(address).set_foreign(port, now);
                }
                Err(_) => {
                    self.lock().ports(address).release_all(fit, port);
                    return None;
                }
            }
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

/// Which ports will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    Any,
    Even,
    /// An even one whose successor is free as well, and is taken with it.
    EvenWithNext,
}

impl State {
    fn ports(&mut self, address: IpAddr) -> &mut Ports {
        if address.is_ipv4() { &mut self.v4 } else { &mut self.v6 }
    }
}

impl Ports {
    fn new(range: RangeInclusive<u16>) -> Self {
        let base = range.start() / WORD * WORD;
        let mut taken = vec![u64::MAX; usize::from((range.end() - base) / WORD) + 1];
        for port in range.clone() {
            let at = port - base;
            taken[usize::from(at / WORD)] &= !(1 << (at % WORD));
        }
        Self { range, taken, base, foreign: Vec::new(), foreign_since: None }
    }

    /// Takes one of the free ports that fit; `choose` says which, given their number.
    fn take(&mut self, fit: Fit, now: Instant, choose: impl FnOnce(u32) -> u32) -> Option<u16> {
        if self.foreign_since.is_some_and(|since| since + FOREIGN_FOR <= now) {
            self.forget_foreign();
        }
        let fitting = |taken: u64| match fit {
            Fit::Any => !taken,
            Fit::Even => !taken & EVEN,
            // Pairs do not cross words.
            Fit::EvenWithNext => !taken & (!taken >> 1) & EVEN,
        };
        let free: u32 = self.taken.iter().map(|taken| fitting(*taken).count_ones()).sum();
        if free == 0 {
            return None;
        }
        let mut rank = choose(free);
        for (index, taken) in self.taken.iter_mut().enumerate() {
            let mut bits = fitting(*taken);
            let ones = bits.count_ones();
            if rank >= ones {
                rank -= ones;
                continue;
            }
            for _ in 0..rank {
                bits &= bits - 1;
            }
            let bit = bits.trailing_zeros();
            *taken |= if fit == Fit::EvenWithNext { 0b11 << bit } else { 1 << bit };
            let at = index * usize::from(WORD) + bit as usize;
            return Some(self.base + u16::try_from(at).expect("ports are numbered by `u16`"));
        }
        None
    }

    fn release(&mut self, port: u16) {
        if self.range.contains(&port) {
            let at = port - self.base;
            self.taken[usize::from(at / WORD)] &= !(1 << (at % WORD));
        }
    }

    fn release_all(&mut self, fit: Fit, port: u16) {
        self.release(port);
        if fit == Fit::EvenWithNext {
            self.release(port + 1);
        }
    }

    /// Leaves a port alone for a while. It must be free as far as we know.
    fn set_foreign(&mut self, port: u16, now: Instant) {
        let at = port - self.base;
        self.taken[usize::from(at / WORD)] |= 1 << (at % WORD);
        self.foreign.push(port);
        self.foreign_since.get_or_insert(now);
    }

    fn forget_foreign(&mut self) {
        self.foreign_since = None;
        for port in std::mem::take(&mut self.foreign) {
            self.release(port);
        }
    }
}

/// The socket of one port; `None` if something else has it, since the range may overlap with the system's ephemeral
/// ports.
///
/// # Errors
/// What would fail at any other port as well, like having no descriptors left: trying thousands more would only hold
/// up everybody else.
fn bind(address: SocketAddr) -> io::Result<Option<UdpSocket>> {
    match open(address, Purpose::Relay) {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::sys::clock;

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77));

    fn ports(range: RangeInclusive<u16>) -> RelayPorts {
        RelayPorts::new(vec![ADDRESS], range)
    }

    /// Row T22.
    /// Case 58.
    #[test]
    fn the_last_free_port_of_the_range_is_found() {
        let ports = ports(42_000..=42_003);
        let now = clock::now().mono;
        let open = || ports.open(Family::V4, Wanted::Any, now);
        let mut sockets: Vec<(UdpSocket, SocketAddr)> = (0..4).map(|_| open().unwrap()).collect();
        assert!(open().is_none());
        let (socket, freed) = sockets.remove(2);
        drop(socket);
        ports.release(freed);
        assert_eq!(open().unwrap().1, freed);
        assert!(ports.open(Family::V6, Wanted::Any, now).is_none());
    }

    #[test]
    fn a_port_that_another_program_has_is_passed_over_for_a_while() {
        let address = SocketAddr::new(ADDRESS, 42_020);
        let other = bind(address).unwrap().unwrap();
        assert!(bind(address).unwrap().is_none());
        let (ports, now) = (ports(42_020..=42_021), clock::now().mono);
        let (_ours, next) = ports.open(Family::V4, Wanted::Any, now).unwrap();
        assert_eq!(next.port(), 42_021);
        assert!(ports.open(Family::V4, Wanted::Even, now).is_none());
        drop(other);
        assert!(ports.open(Family::V4, Wanted::Any, now).is_none());
        assert_eq!(ports.open(Family::V4, Wanted::Any, now + FOREIGN_FOR).unwrap().1, address);
    }

    /// Case 90.
    #[test]
    fn an_address_that_cannot_be_bound_is_not_tried_again_and_again() {
        let nobodys: IpAddr = Ipv4Addr::new(203, 0, 113, 1).into();
        assert_eq!(bind(SocketAddr::new(nobodys, 42_021)).unwrap_err().kind(), ErrorKind::AddrNotAvailable);
        let ports = RelayPorts::new(vec![nobodys], 42_021..=42_021);
        assert!(ports.open(Family::V4, Wanted::Any, clock::now().mono).is_none());
        assert_eq!(ports.lock().v4.take(Fit::Any, clock::now().mono, |_| 0), Some(42_021));
    }

    /// Rows T14, T21.
    /// Cases 51, 53.
    #[test]
    fn a_kept_port_is_the_next_one_and_waits_for_half_a_minute() {
        let ports = ports(42_010..=42_013);
        let now = clock::now().mono;
        let (_even, even) = ports.open(Family::V4, Wanted::EvenAndNext(7), now).unwrap();
        assert!(even.port().is_multiple_of(2));
        assert!(ports.open(Family::V4, Wanted::Kept(8), now).is_none());
        let (_next, next) = ports.open(Family::V4, Wanted::Kept(7), now + KEPT_FOR - Duration::from_secs(1)).unwrap();
        assert_eq!(next.port(), even.port() + 1);
        assert!(ports.open(Family::V4, Wanted::Kept(7), now).is_none());
        let (_third, third) = ports.open(Family::V4, Wanted::EvenAndNext(9), now).unwrap();
        assert!(ports.open(Family::V4, Wanted::EvenAndNext(10), now).is_none());
        // Nobody came for it, so that anybody may have it.
        assert!(ports.open(Family::V4, Wanted::Kept(9), now + KEPT_FOR).is_none());
        assert_eq!(ports.open(Family::V4, Wanted::Any, now + KEPT_FOR).unwrap().1.port(), third.port() + 1);
    }

    #[test]
    fn a_pair_is_given_only_where_both_ports_are_free() {
        let (ports, now) = (ports(42_030..=42_033), clock::now().mono);
        let other = bind(SocketAddr::new(ADDRESS, 42_031)).unwrap().unwrap();
        let (_even, even) = ports.open(Family::V4, Wanted::EvenAndNext(7), now).unwrap();
        assert_eq!(even.port(), 42_032);
        assert!(ports.open(Family::V4, Wanted::EvenAndNext(8), now).is_none());
        drop(other);
        assert!(ports.open(Family::V4, Wanted::EvenAndNext(8), now).is_none());
        assert_eq!(ports.open(Family::V4, Wanted::EvenAndNext(8), now + FOREIGN_FOR).unwrap().1.port(), 42_030);
    }

    /// Row T22.
    /// Case 63.
    /// Ten thousand allocations of a range of 16,384 ports, none of which is given back.
    #[test]
    fn ports_of_a_nearly_full_range_are_even_spread_and_not_to_be_guessed() {
        const COUNT: usize = 10_000;
        const BINS: usize = 64;
        let mut ports = Ports::new(49_152..=65_535);
        let now = clock::now().mono;
        let mut taken: Vec<f64> = Vec::new();
        for _ in 0..COUNT {
            let port = ports.take(Fit::Any, now, |free| rand::rng().random_range(0..free)).unwrap();
            taken.push(f64::from(port - 49_152));
        }
        let mut unique: Vec<u64> = taken.iter().map(|port| *port as u64).collect();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), COUNT);
        // Pearson's test over 64 bins: 63 degrees of freedom exceed 135 once in ten million runs. Drawing without
        // putting back makes it less.
        for part in taken.chunks(COUNT / 2) {
            let mut bins = [0.0; BINS];
            part.iter().for_each(|port| bins[*port as usize / (16_384 / BINS)] += 1.0);
            let expected = part.len() as f64 / BINS as f64;
            let chi_squared: f64 = bins.iter().map(|count: &f64| (count - expected).powi(2) / expected).sum();
            assert!(chi_squared < 135.0, "{chi_squared}");
        }
        // The correlation of each port with the next is normal with a deviation of 0.01: five of them.
        let mean = taken.iter().sum::<f64>() / COUNT as f64;
        let variance: f64 = taken.iter().map(|port| (port - mean).powi(2)).sum();
        let covariance: f64 = taken.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
        assert!((covariance / variance).abs() < 0.05, "{}", covariance / variance);
        // A free port after a taken one is no likelier than any other: differences of one occur about as often.
        let next = taken.windows(2).filter(|pair| (pair[1] - pair[0]).abs() < 1.5).count();
        assert!(next < 20, "{next}");
    }
}
