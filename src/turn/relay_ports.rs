//! Relay sockets: bound at a random port of the range, and the ports that clients asked to be kept.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
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
                for port in self.ports(is_even) {
                    let Some(socket) = bind(address, port).ok()? else { continue };
                    let next = if self.range.contains(&(port + 1)) { bind(address, port + 1).ok()? } else { None };
                    let Some(next) = next else { continue };
                    kept.insert(token, Kept { socket: next, until: now + KEPT_FOR });
                    return Some(socket);
                }
                None
            }
            Wanted::Kept(token) => kept.remove(&token).map(|kept| kept.socket),
        }
    }

    fn bind_any(&self, address: IpAddr, is_fit: fn(u16) -> bool) -> Option<UdpSocket> {
        self.ports(is_fit).find_map(|port| bind(address, port).transpose())?.ok()
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

/// The socket of one port; `None` if something else has it, since the range may overlap with the system's ephemeral
/// ports.
///
/// # Errors
/// What would fail at any other port as well, like having no descriptors left: trying thousands more would only hold
/// up everybody else.
fn bind(address: IpAddr, port: u16) -> io::Result<Option<UdpSocket>> {
    match open(SocketAddr::new(address, port), Purpose::Relay) {
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
    fn a_taken_port_is_passed_over_and_another_failure_is_told() {
        let taken = ports(42_020..=42_020).open(Family::V4, Wanted::Any, clock::now().mono).unwrap();
        let address = taken.local_addr().unwrap();
        assert!(bind(address.ip(), address.port()).unwrap().is_none());
        let nobodys = Ipv4Addr::new(203, 0, 113, 1).into();
        assert_eq!(bind(nobodys, 42_021).unwrap_err().kind(), ErrorKind::AddrNotAvailable);
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
