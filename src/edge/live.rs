//! What is listened on and under which names, and how that changes without ending a connection.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use arc_swap::ArcSwap;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::arrival::Port;
use super::listeners::{Listeners, NAMES};
use super::redirect::OwnNames;
use crate::config::Config;
use crate::error::{Failure, Result};
use crate::sys::notify::Manager;
use crate::text;

/// Listeners that are accepted from in place of all before them.
type Set = Vec<(Port, TcpListener)>;

/// What connections and the accepting loop read.
pub(super) struct Live {
    names: ArcSwap<OwnNames>,
    takes_turn: AtomicBool,
    /// The same listeners as those that are accepted from, for the next change.
    held: Mutex<Listeners>,
    sender: UnboundedSender<Set>,
    /// Until the accepting loop has taken it.
    sets: Mutex<Option<UnboundedReceiver<Set>>>,
}

/// Changes where and under which names TCP is served. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    live: Arc<Live>,
}

/// Listeners that are bound and not yet accepted from; dropping them gives back what is new.
pub struct Moving {
    held: Listeners,
    set: Set,
}

impl Live {
    pub(super) fn new(listeners: Listeners, config: &Config) -> Result<Self> {
        let (sender, sets) = unbounded_channel();
        let moving = Moving::new(listeners)?;
        let names = ArcSwap::from_pointee(names(&moving.held, config));
        let takes_turn = AtomicBool::new(moving.held.takes_turn());
        // The receiver is just below.
        let _ = sender.send(moving.set);
        Ok(Self { names, takes_turn, held: Mutex::new(moving.held), sender, sets: Mutex::new(Some(sets)) })
    }

    pub(super) fn names(&self) -> Arc<OwnNames> {
        self.names.load_full()
    }

    /// Whether clients of TURN may come by TCP.
    pub(super) fn takes_turn(&self) -> bool {
        self.takes_turn.load(Ordering::Relaxed)
    }

    /// What is to be accepted from, each set in place of the one before.
    ///
    /// # Panics
    /// If it is taken twice: edge runs once.
    pub(super) fn sets(&self) -> UnboundedReceiver<Set> {
        let mut sets = self.sets.lock().expect("nothing panics while it holds this lock");
        sets.take().expect("edge runs once")
    }

    fn held(&self) -> MutexGuard<'_, Listeners> {
        self.held.lock().expect("nothing panics while it holds this lock")
    }
}

impl Moving {
    fn new(held: Listeners) -> Result<Self> {
        let cloned = held.try_clone();
        let cloned = cloned.map_err(|error| Failure::operator(text!("cannot keep a listener")).caused_by(error))?;
        Ok(Self { held, set: cloned.into_each().collect() })
    }
}

impl Control {
    pub(super) fn new(live: Arc<Live>) -> Self {
        Self { live }
    }

    /// Binds what `config` wants and is not bound yet. Nothing that is served changes.
    ///
    /// # Errors
    /// If a port is taken, naming its holder, or may not be had.
    pub fn bind(&self, config: &Config) -> Result<Moving> {
        let cloned = self.live.held().try_clone();
        let cloned = cloned.map_err(|error| Failure::operator(text!("cannot keep a listener")).caused_by(error))?;
        // Whoever asks for a port is told that it is taken; what is lacking already keeps nothing else away.
        let may_lack = config.web.http_port.is_some_and(|port| cloned.lacks(port));
        let held = cloned.into_each().map(|(_, listener)| listener).collect();
        Moving::new(Listeners::bind_beside(&config.web, &config.turn, held, may_lack)?)
    }

    /// Why the port of HTTP is not served, though it is wanted.
    #[must_use]
    pub fn lack(&self) -> Option<Failure> {
        self.live.held().lack().cloned()
    }

    /// Takes the port of HTTP if it is lacking and free by now. `true`: it is served from now on.
    pub fn mend(&self, config: &Config) -> bool {
        if self.lack().is_none() {
            return false;
        }
        let Ok(moving) = self.bind(config) else { return false };
        let is_mended = moving.held.lack().is_none();
        if is_mended {
            self.apply(config, Some(moving));
        } else {
            // Who has it may be another one by now.
            *self.live.held() = moving.held;
        }
        is_mended
    }

    /// Serves by the names of `config` from now on, and by what was bound for it. A listener that is not wanted any
    /// more is closed once whoever waits there was taken; connections live on.
    pub fn apply(&self, config: &Config, moving: Option<Moving>) {
        let mut held = self.live.held();
        if let Some(moving) = moving {
            self.live.takes_turn.store(moving.held.takes_turn(), Ordering::Relaxed);
            *held = moving.held;
            // Nobody accepts any more once the service stops.
            let _ = self.live.sender.send(moving.set);
        }
        self.live.names.store(Arc::new(names(&held, config)));
    }

    /// All addresses of HTTPS.
    #[must_use]
    pub fn https_addresses(&self) -> Vec<SocketAddr> {
        self.live.held().https_addresses()
    }

    /// Has the service manager keep what is listened on now for the next start, and nothing else.
    ///
    /// # Errors
    /// If there is no descriptor to be had.
    pub fn keep_in(&self, manager: &Manager) -> std::io::Result<()> {
        NAMES.into_iter().for_each(|name| manager.release_named(name));
        self.live.held().keep_in(manager)
    }

    /// Where TURN is served by TCP and by TLS.
    #[must_use]
    pub fn turn_addresses(&self) -> Vec<SocketAddr> {
        self.live.held().turn_addresses()
    }
}

fn names(listeners: &Listeners, config: &Config) -> OwnNames {
    OwnNames { hosts: config.hosts.clone(), https_port: listeners.https_port().unwrap_or(config.web.port) }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, TcpStream};

    use super::*;
    use crate::config::{HostFacts, resolve};

    fn config(text: &str) -> Config {
        let facts = HostFacts { relay_ips: vec![Ipv4Addr::LOCALHOST.into()], cores: 1 };
        let text = format!("hosts: [a.example]\nturn: {{bind: [127.0.0.1], tcp: off}}\n{text}");
        resolve(&text, &facts).unwrap().config
    }

    fn web(addresses: &str, port: u16) -> Config {
        config(&format!("web: {{bind: [{addresses}], port: {port}, http_port: off}}\n"))
    }

    /// Two ports that were free a moment ago.
    fn free() -> [u16; 2] {
        let held = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
        held.map(|listener| listener.local_addr().unwrap().port())
    }

    fn live(config: &Config) -> (Arc<Live>, Control) {
        let live = Arc::new(Live::new(Listeners::bind(&config.web, &config.turn).unwrap(), config).unwrap());
        (Arc::clone(&live), Control::new(live))
    }

    fn addresses(set: &Set) -> Vec<SocketAddr> {
        set.iter().map(|(_, listener)| listener.local_addr().unwrap()).collect()
    }

    #[test]
    fn a_port_that_stays_is_the_same_socket_and_one_that_moves_is_bound_first() {
        let [port, other] = free();
        let first = web("127.0.0.1, 127.0.0.2", port);
        let (live, control) = live(&first);
        let mut sets = live.sets();
        let before = sets.try_recv().unwrap();
        let moved = Config {
            web: crate::config::WebConfig { bind: first.web.bind[..1].to_vec(), ..first.web.clone() },
            ..first
        };
        control.apply(&moved, Some(control.bind(&moved).unwrap()));
        let after = sets.try_recv().unwrap();
        assert_eq!(addresses(&after), [SocketAddr::from(([127, 0, 0, 1], port))]);
        drop(before);
        assert!(TcpStream::connect(("127.0.0.1", port)).is_ok(), "it was never closed");
        assert!(TcpStream::connect(("127.0.0.2", port)).is_err(), "nobody listens there any more");
        let elsewhere = web("127.0.0.1", other);
        let moving = control.bind(&elsewhere).unwrap();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_ok() && TcpStream::connect(("127.0.0.1", other)).is_ok());
        drop(moving);
        assert!(TcpStream::connect(("127.0.0.1", other)).is_err(), "what was not applied is given back");
        assert_eq!(live.names().https_port, port);
    }

    #[test]
    fn an_address_moves_to_the_wildcard_of_the_same_port_and_back() {
        let [port, _] = free();
        let (live, control) = live(&web("127.0.0.1", port));
        let mut sets = live.sets();
        let mut served = sets.try_recv().unwrap();
        for wanted in ["0.0.0.0", "127.0.0.1", "0.0.0.0"] {
            let config = web(wanted, port);
            control.apply(&config, Some(control.bind(&config).unwrap()));
            served = sets.try_recv().unwrap();
            let wanted: IpAddr = wanted.parse().unwrap();
            assert_eq!(addresses(&served), [SocketAddr::new(wanted, port)]);
            assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
        }
        drop(served);
    }

    #[test]
    fn a_taken_port_is_told_and_nothing_changes() {
        let [port, _] = free();
        let (live, control) = live(&web("127.0.0.1", port));
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = web("127.0.0.1", other.local_addr().unwrap().port());
        assert!(control.bind(&taken).err().unwrap().message().contains("/tcp` for web"));
        assert_eq!(control.https_addresses(), [SocketAddr::from(([127, 0, 0, 1], port))]);
        assert!(live.sets().try_recv().is_ok());
    }
}
