//! Accepts connections, as many as there is room for.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::libc;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::arrival::Port;
use super::connection::Connections;
use super::counters::Class;
use super::held::Held;
use crate::supervisor::instance::Pulse;
use crate::sys::net::site;
use crate::sys::{clock, turns};

/// Connections at a time; each is a descriptor and some ten kilobytes. All sockets of signaling fit in twice over.
const MAX_CONNECTIONS: usize = 10_240;
/// The pause after an accept that failed for lack of descriptors or memory: without it the loop would spin.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections that are taken from the queue of a listener that ends: as many as wait there by default.
const MAX_LATE: usize = 1024;
/// After so long without such a failure, the next one is news.
const CALM: Duration = Duration::from_secs(60);

/// Counts connections.
pub(super) struct Caps {
    /// Connections at a time.
    most: usize,
    /// Connections of one address at a time.
    most_of_one: usize,
    by_client: Mutex<HashMap<IpAddr, usize>>,
    total: AtomicUsize,
}

/// A connection's place, given back when it ends.
pub(super) struct Place {
    caps: Arc<Caps>,
    client: IpAddr,
}

impl Caps {
    /// For a process that may have so many `descriptors`: the relay, files and peers need some, too.
    pub(super) fn new(descriptors: u64) -> Self {
        let most = usize::try_from(descriptors / 4).unwrap_or(usize::MAX).min(MAX_CONNECTIONS);
        if most < MAX_CONNECTIONS {
            warn!(
                descriptors,
                most, "few files may be open, so few connections are taken; raise the limit (ulimit -n)"
            );
        }
        // A whole campus may be behind one address; yet it leaves room for everyone else.
        let most_of_one = (most * 2 / 5).max(1);
        Self { most, most_of_one, by_client: Mutex::default(), total: AtomicUsize::default() }
    }

    pub(super) fn enter(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let client = site(client);
        let mut by_client = self.by_client.lock().expect("nothing panics while it holds this lock");
        let count = by_client.entry(client).or_default();
        if *count >= self.most_of_one || self.total.load(Relaxed) >= self.most {
            if *count == 0 {
                by_client.remove(&client);
            }
            return None;
        }
        *count += 1;
        self.total.fetch_add(1, Relaxed);
        Some(Place { caps: Arc::clone(self), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_client = self.caps.by_client.lock().expect("nothing panics while it holds this lock");
        if let Some(count) = by_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                by_client.remove(&self.client);
            }
        }
        self.caps.total.fetch_sub(1, Relaxed);
    }
}

/// Whether this host has run out of something. Any other failure is that of one connection, which has ended by now.
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Whether a shortage `now` begins a series of them.
fn begins_series(last: Option<Instant>, now: Instant) -> bool {
    last.is_none_or(|last| now.saturating_duration_since(last) >= CALM)
}

/// Accepts until `stopping` is cancelled, and then whoever waits already.
pub(super) async fn accept(
    listener: TcpListener,
    port: Port,
    connections: Arc<Connections>,
    caps: Arc<Caps>,
    tracker: TaskTracker,
    stopping: CancellationToken,
    pulses: Vec<Arc<Pulse>>,
) {
    let mut last_shortage = None;
    let take = |stream, client: SocketAddr| {
        // A probe of ours is nobody's connection: it takes no place and is not counted.
        let place = if connections.marks.take(client) {
            None
        } else {
            let Some(place) = caps.enter(client.ip()) else { return connections.counters.count(Class::TurnedAway) };
            Some(place)
        };
        let connections = Arc::clone(&connections);
        tracker.spawn(connections.serve(port, Held::new(stream, place), client));
    };
    loop {
        pulses.iter().for_each(|pulse| pulse.beat());
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => break,
            () = tokio::time::sleep(turns::until_next(clock::now().mono)) => continue,
        };
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                connections.counters.count(Class::Failed);
                if !is_shortage(&error) {
                    debug!(%error, "a connection ended before it was accepted");
                    continue;
                }
                let now = clock::now().mono;
                if begins_series(last_shortage.replace(now), now) {
                    warn!(%error, "cannot accept connections; raise the limit of open files, or close some");
                }
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => continue,
                    () = stopping.cancelled() => break,
                }
            }
        };
        take(stream, client);
    }
    if connections.ending.has_come() {
        return;
    }
    // The listener moves elsewhere, and these have been waiting already. A flood must not keep it from ending.
    for _ in 0..MAX_LATE {
        let Ok(Ok((stream, client))) = timeout(Duration::ZERO, listener.accept()).await else { return };
        take(stream, client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row S5.
    #[test]
    fn one_client_cannot_take_every_place_and_gives_them_back() {
        let caps = Arc::new(Caps::new(u64::MAX));
        assert_eq!(caps.most_of_one, 4096);
        let greedy = "192.0.2.1".parse().unwrap();
        let mut places: Vec<Place> = (0..caps.most_of_one).map(|_| caps.enter(greedy).unwrap()).collect();
        assert!(caps.enter(greedy).is_none());
        assert!(caps.enter("192.0.2.2".parse().unwrap()).is_some());
        places.pop();
        assert!(caps.enter(greedy).is_some());
        drop(places);
        assert!(caps.by_client.lock().unwrap().is_empty());
    }

    #[test]
    fn connections_leave_most_descriptors_to_the_rest_of_the_service() {
        let bounds = |descriptors| {
            let caps = Caps::new(descriptors);
            (caps.most, caps.most_of_one)
        };
        assert_eq!(bounds(1024), (256, 102));
        assert_eq!(bounds(40_960), (10_240, 4096));
        assert_eq!(bounds(1 << 20), (10_240, 4096));
        let caps = Arc::new(Caps::new(16));
        let clients = (1..=5).map(|last| IpAddr::from([192, 0, 2, last]));
        let places: Vec<Option<Place>> = clients.map(|client| caps.enter(client)).collect();
        assert_eq!(places.iter().filter(|place| place.is_some()).count(), 4);
    }

    #[test]
    fn a_shortage_holds_up_a_listener_and_the_failure_of_one_connection_does_not() {
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            assert!(is_shortage(&io::Error::from_raw_os_error(code)), "{code}");
        }
        for code in [libc::ECONNABORTED, libc::EPROTO, libc::ENETUNREACH, libc::EHOSTDOWN, libc::EINTR, libc::EPERM] {
            assert!(!is_shortage(&io::Error::from_raw_os_error(code)), "{code}");
        }
    }

    #[test]
    fn only_the_first_shortage_of_a_series_is_news() {
        let start = clock::now().mono;
        assert!(begins_series(None, start));
        assert!(!begins_series(Some(start), start + PAUSE));
        assert!(begins_series(Some(start), start + CALM));
    }

    #[test]
    fn an_ipv6_subscriber_is_one_client() {
        assert_eq!(site("2001:db8:1:2:3:4:5:6".parse().unwrap()), site("2001:db8:1:2::1".parse().unwrap()));
        assert_ne!(site("2001:db8:1:2::1".parse().unwrap()), site("2001:db8:1:3::1".parse().unwrap()));
    }
}
