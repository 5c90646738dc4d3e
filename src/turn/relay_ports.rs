//! Relay sockets: bound at a random port of the range, and the ports that clients asked to be kept.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rand::RngExt as _;

use super::server::Wanted;
use crate::sys::net::Family;
use crate::sys::udp::{Purpose, open};

/// How long a kept port waits for its client. RFC 8656, section 7.2, wants at least 30 seconds.
const KEPT_FOR: Duration = Duration::from_secs(30);
/// Ports that may be kept at a time: a client that never comes back must not empty the range.
const MAX_KEPT: usize = 64;

/// Opens relay sockets for all workers.
pub(super) struct RelayPorts {
    addresses: Vec<IpAddr>,
    range: RangeInclusive<u16>,
    kept: Mutex<BTreeMap<u64, Kept>>,
}

struct Kept {
    socket: UdpSocket,
    until: Instant,
}

impl RelayPorts {
    pub(super) fn new(addresses: Vec<IpAddr>, range: RangeInclusive<u16>) -> Self {
        Self { addresses, range, kept: Mutex::default() }
    }

    /// A socket as wanted; `None`: there is none to be had.
    pub(super) fn open(&self, family: Family, wanted: Wanted, now: Instant) -> Option<UdpSocket> {
        let mut kept = self.kept.lock().expect("nothing panics while it holds this lock");
        kept.retain(|_, kept| kept.until > now);
        let address = *self.addresses.iter().find(|address| address.is_ipv4() == (family == Family::V4))?;
        match wanted {
            Wanted::Any => self.bind_any(address, |_| true),
            Wanted::Even => self.bind_any(address, is_even),
            Wanted::EvenAndNext(token) => {
                if kept.len() >= MAX_KEPT {
                    return None;
                }
                self.ports(is_even).find_map(|port| {
                    let socket = bind(address, port)?;
                    let next = self.range.contains(&(port + 1)).then(|| bind(address, port + 1))??;
                    kept.insert(token, Kept { socket: next, until: now + KEPT_FOR });
                    Some(socket)
                })
            }
            Wanted::Kept(token) => kept.remove(&token).map(|kept| kept.socket),
        }
    }

    fn bind_any(&self, address: IpAddr, is_fit: fn(u16) -> bool) -> Option<UdpSocket> {
        self.ports(is_fit).find_map(|port| bind(address, port))
    }

    /// All ports of the range, from a random one on: nobody can guess the next. RFC 6056.
    fn ports(&self, is_fit: fn(u16) -> bool) -> impl Iterator<Item = u16> {
        let start = rand::rng().random_range(self.range.clone());
        (start..=*self.range.end()).chain(*self.range.start()..start).filter(move |port| is_fit(*port))
    }
}

fn is_even(port: u16) -> bool {
    port.is_multiple_of(2)
}

/// A port that something else has is no failure: the range may overlap with the system's ephemeral ports.
fn bind(address: IpAddr, port: u16) -> Option<UdpSocket> {
    open(SocketAddr::new(address, port), Purpose::Relay).ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::sys::clock;

    fn ports(range: RangeInclusive<u16>) -> RelayPorts {
        RelayPorts::new(vec![Ipv4Addr::new(127, 0, 0, 77).into()], range)
    }

    fn port(socket: &UdpSocket) -> u16 {
        socket.local_addr().unwrap().port()
    }

    #[test]
    fn the_last_free_port_of_the_range_is_found() {
        let ports = ports(42_000..=42_003);
        let now = clock::now().mono;
        let open = || ports.open(Family::V4, Wanted::Any, now);
        let mut sockets: Vec<UdpSocket> = (0..4).map(|_| open().unwrap()).collect();
        assert!(open().is_none());
        let freed = port(&sockets.remove(2));
        assert_eq!(port(&open().unwrap()), freed);
        assert!(ports.open(Family::V6, Wanted::Any, now).is_none());
    }

    #[test]
    fn a_kept_port_is_the_next_one_and_waits_for_half_a_minute() {
        let ports = ports(42_010..=42_013);
        let now = clock::now().mono;
        let even = ports.open(Family::V4, Wanted::EvenAndNext(7), now).unwrap();
        assert!(port(&even).is_multiple_of(2));
        assert!(ports.open(Family::V4, Wanted::Kept(8), now).is_none());
        let next = ports.open(Family::V4, Wanted::Kept(7), now + KEPT_FOR - Duration::from_secs(1)).unwrap();
        assert_eq!(port(&next), port(&even) + 1);
        assert!(ports.open(Family::V4, Wanted::Kept(7), now).is_none());
        drop((even, next));
        let _first = ports.open(Family::V4, Wanted::EvenAndNext(9), now).unwrap();
        assert!(ports.open(Family::V4, Wanted::Kept(9), now + KEPT_FOR).is_none());
    }
}
