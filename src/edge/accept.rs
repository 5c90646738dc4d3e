//! Accepts connections, as many as there is room for.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::arrival::Port;
use super::connection::Connections;
use super::counters::Class;
use super::held::Held;

/// Connections at a time; each is a descriptor and some ten kilobytes. All sockets of signaling fit in twice over.
const MAX_CONNECTIONS: usize = 10_240;
/// Connections of one address at a time. A whole campus may be behind one; yet it leaves room for everyone else.
const MAX_OF_ONE: usize = 4096;
/// The pause after a failed accept, which is most often a lack of descriptors: without it the loop would spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Counts connections.
#[derive(Default)]
pub(super) struct Caps {
    by_client: Mutex<HashMap<IpAddr, usize>>,
    total: std::sync::atomic::AtomicUsize,
}

/// A connection's place, given back when it ends.
pub(super) struct Place {
    caps: Arc<Caps>,
    client: IpAddr,
}

impl Caps {
    fn enter(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        use std::sync::atomic::Ordering::Relaxed;
        let client = site(client);
        let mut by_client = self.by_client.lock().expect("nothing panics while it holds this lock");
        let count = by_client.entry(client).or_default();
        if *count >= MAX_OF_ONE || self.total.load(Relaxed) >= MAX_CONNECTIONS {
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
        self.caps.total.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// What counts as one client: an address, or the /64 that an IPv6 subscriber has for himself.
fn site(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// Accepts until the service closes.
pub(super) async fn accept(
    listener: TcpListener,
    port: Port,
    connections: Arc<Connections>,
    caps: Arc<Caps>,
    tracker: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = connections.closing.cancelled() => return,
        };
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(place) = caps.enter(client.ip()) else {
            connections.counters.count(Class::TurnedAway);
            continue;
        };
        let connections = Arc::clone(&connections);
        tracker.spawn(connections.serve(port, Held { stream, place }, client));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row S5.
    #[test]
    fn one_client_cannot_take_every_place_and_gives_them_back() {
        let caps = Arc::new(Caps::default());
        let greedy = "192.0.2.1".parse().unwrap();
        let mut places: Vec<Place> = (0..MAX_OF_ONE).map(|_| caps.enter(greedy).unwrap()).collect();
        assert!(caps.enter(greedy).is_none());
        assert!(caps.enter("192.0.2.2".parse().unwrap()).is_some());
        places.pop();
        assert!(caps.enter(greedy).is_some());
        drop(places);
        assert!(caps.by_client.lock().unwrap().is_empty());
    }

    #[test]
    fn an_ipv6_subscriber_is_one_client() {
        assert_eq!(site("2001:db8:1:2:3:4:5:6".parse().unwrap()), site("2001:db8:1:2::1".parse().unwrap()));
        assert_ne!(site("2001:db8:1:2::1".parse().unwrap()), site("2001:db8:1:3::1".parse().unwrap()));
    }
}
