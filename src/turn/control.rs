//! What the running relay works by, and how it is changed without ending an allocation.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::credentials;
use super::insiders::{Insiders, Route};
use super::listening::{Listening, Moving};
use super::peers::PeerPolicy;
use super::server::{RelayAddress, Settings};
use super::sockets::{Listener, TurnSockets, of_family};
use crate::config::{Latency, Secret, Secrets, TurnConfig};
use crate::error::{Failure, Result};
use crate::sys::notify::Manager;
use crate::sys::udp::{Purpose, open};
use crate::sys::{clock, net};
use crate::text;

/// Changes what the relay works by. Cheap to clone; outlives the task's instances.
#[derive(Clone)]
pub struct Control {
    live: Arc<Live>,
}

impl Control {
    pub(super) fn new(live: Arc<Live>) -> Self {
        Self { live }
    }

    /// Makes all workers go by another configuration from their next packet on, or within a second.
    ///
    /// What is bound stays as it is until the task's next instance: relay addresses and ports, and the number of
    /// workers. Listeners change by [`Control::move_to`].
    pub fn apply(&self, config: &TurnConfig, secrets: &Secrets) {
        self.live.change(config, secrets, None);
    }

    /// Binds the listeners that `config` wants and that are not bound yet; nothing is served by them until they are
    /// given to [`Control::move_to`], and dropping them gives them back.
    ///
    /// # Errors
    /// If a port is taken, naming its holder, or may not be had.
    pub fn bind(&self, config: &TurnConfig) -> Result<Moving> {
        self.live.current().listening.bind(config)
    }

    /// As [`Control::apply`], and serves clients by other listeners from now on. Clients of the old ones keep their
    /// allocations there, for an hour at most; what nobody uses is closed within a second or two.
    pub fn move_to(&self, config: &TurnConfig, secrets: &Secrets, moving: Moving) {
        self.live.change(config, secrets, Some(moving));
    }

    /// Where clients are listened for, without what still drains.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.live.current().listening.addresses()
    }

    /// Has the service manager keep the listeners for the next start, without those that drain.
    ///
    /// # Errors
    /// If there is no descriptor to be had.
    pub fn keep_in(&self, manager: &Manager) -> std::io::Result<()> {
        self.live.current().listening.keep_in(manager)
    }

    /// Whether another instance could bind the relay addresses of `config`.
    ///
    /// # Errors
    /// If one is not an address of this host.
    pub fn check_relay_ips(&self, config: &TurnConfig) -> Result<()> {
        config.relay_ips.iter().try_for_each(|address| {
            open(SocketAddr::new(*address, 0), Purpose::Relay).map(drop).map_err(|error| {
                Failure::operator(text!("cannot relay by `{}`", address))
                    .caused_by(error)
                    .hinted(text!("list addresses of this host as `turn.relay_ips`; public ones are `turn.public_ips`"))
            })
        })
    }

    /// Makes a hole in the filter of the running relay, to see who notices.
    #[cfg(any(test, feature = "faults"))]
    pub(crate) fn weaken(&self, hole: IpAddr) {
        let before = self.live.current();
        let mut settings = (*before.settings).clone();
        settings.policy = settings.policy.weakened(hole);
        let Current { config, secrets, listening, drain, .. } = &*before;
        let (config, secrets, listening) = (config.clone(), secrets.clone(), listening.clone());
        let settings = Arc::new(settings);
        self.live.current.store(Arc::new(Current { config, secrets, settings, listening, drain: *drain }));
        self.live.generation.fetch_add(1, Ordering::Release);
    }

    /// A name for a probe, which the relay counts nowhere, and the password that any user of that name would have. It
    /// is good until `expires_at`, in seconds since 1970.
    #[must_use]
    pub fn probe_credentials(&self, route: Route, expires_at: u64) -> (String, String) {
        let name = Insiders::new(&self.live.probe_key).name(route, expires_at);
        let current = self.live.current();
        let secret = current.secrets.turn.first().expect("`Secrets::turn` is never empty");
        let password = credentials::password(secret, &name);
        (name, password)
    }

    /// Addresses that the relay listens on, wildcards left out. Nobody is reached by a permission for one.
    #[must_use]
    pub fn listening_addresses(&self) -> Vec<IpAddr> {
        let addresses = self.live.current().listening.all_addresses();
        addresses.iter().map(SocketAddr::ip).filter(|address| !address.is_unspecified()).collect()
    }

    /// The local and the told relay addresses that are bound now.
    #[must_use]
    pub fn relay_addresses(&self) -> Vec<RelayAddress> {
        self.live.current().settings.relays.clone()
    }
}

/// What an instance of the task reads.
pub(super) struct Live {
    current: ArcSwap<Current>,
    changing: Mutex<()>,
    /// Raised with every change.
    generation: AtomicU64,
    /// The same for as long as the daemon lives: clients need not ask for another nonce after a change.
    nonce_key: [u8; 32],
    /// The same for as long as the daemon lives, and known to nobody else.
    probe_key: Secret,
}

/// One configuration.
pub(super) struct Current {
    pub(super) config: TurnConfig,
    secrets: Secrets,
    pub(super) settings: Arc<Settings>,
    listening: Listening,
    /// How long allocations are served on after the order to stop.
    pub(super) drain: Duration,
}

impl Current {
    /// The addresses that relay sockets are bound to.
    fn bound(&self) -> Vec<IpAddr> {
        self.settings.relays.iter().map(|relay| relay.local).collect()
    }

    /// Whether clients are told of ICMP errors.
    pub(super) fn tells_icmp(&self) -> bool {
        self.config.icmp
    }

    /// The listeners of one worker, by number.
    pub(super) fn listeners(&self, worker: usize) -> Vec<Option<Listener>> {
        self.listening.of_worker(worker)
    }

    /// How many workers there are listeners for.
    pub(super) fn workers(&self) -> usize {
        self.listening.workers()
    }

    /// Whether packets may wait a moment for others.
    pub(super) fn may_gather(&self) -> bool {
        self.config.latency == Latency::Auto
    }
}

impl Live {
    pub(super) fn new(config: &TurnConfig, secrets: &Secrets, sockets: TurnSockets) -> Self {
        let nonce_key = rand::random();
        let probe_key = Secret::new(rand::random::<[u8; 32]>().to_vec());
        let listening = Listening::new(sockets);
        let current = current(config, secrets, &config.relay_ips, listening, nonce_key, probe_key.clone());
        Self {
            current: ArcSwap::from_pointee(current),
            changing: Mutex::default(),
            generation: AtomicU64::new(0),
            nonce_key,
            probe_key,
        }
    }

    pub(super) fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// An instance begins: it binds what is configured now, and the host may have other addresses than before.
    ///
    /// # Errors
    /// If the kernel has no sockets for more workers.
    pub(super) fn begin(&self) -> Result<Arc<Current>> {
        // A change at the same time must not be overwritten by what was read before it.
        let _changing = self.changing.lock().expect("nothing panics while it holds this lock");
        let current = self.current();
        let listening = current.listening.begun(&current.config)?;
        self.set(&current.config, &current.secrets, &current.config.relay_ips, listening);
        Ok(self.current())
    }

    /// Closes listeners that have drained.
    pub(super) fn retire(&self, now: Instant) {
        if self.current.load().listening.retired(now).is_none() {
            return;
        }
        let _changing = self.changing.lock().expect("nothing panics while it holds this lock");
        let current = self.current();
        if let Some(listening) = current.listening.retired(now) {
            self.set(&current.config, &current.secrets, &current.bound(), listening);
        }
    }

    /// Keeps what is bound, but for listeners if they move.
    fn change(&self, config: &TurnConfig, secrets: &Secrets, moving: Option<Moving>) {
        let _changing = self.changing.lock().expect("nothing panics while it holds this lock");
        let current = self.current();
        let listening = match moving {
            Some(moving) => current.listening.moved(moving, clock::now().mono),
            None => current.listening.clone(),
        };
        self.set(config, secrets, &current.bound(), listening);
    }

    fn set(&self, config: &TurnConfig, secrets: &Secrets, bound: &[IpAddr], listening: Listening) {
        let probe_key = self.probe_key.clone();
        self.current.store(Arc::new(current(config, secrets, bound, listening, self.nonce_key, probe_key)));
        self.generation.fetch_add(1, Ordering::Release);
    }
}

/// What one worker works by, until it looks for something newer.
pub(super) struct Follower {
    live: Arc<Live>,
    generation: u64,
}

impl Follower {
    pub(super) fn new(live: Arc<Live>) -> Self {
        // Before anything is read: a change in between is followed once too often rather than never.
        Self { generation: live.generation(), live }
    }

    pub(super) fn current(&self) -> Arc<Current> {
        self.live.current()
    }

    /// What is configured now, if that has changed since it was last asked.
    pub(super) fn poll_change(&mut self) -> Option<Arc<Current>> {
        let generation = self.live.generation();
        (std::mem::replace(&mut self.generation, generation) != generation).then(|| self.live.current())
    }
}

fn current(
    config: &TurnConfig,
    secrets: &Secrets,
    bound: &[IpAddr],
    listening: Listening,
    nonce_key: [u8; 32],
    probe_key: Secret,
) -> Current {
    let relays = bound
        .iter()
        .map(|local| RelayAddress { local: *local, told: of_family(&config.public_ips, *local).unwrap_or(*local) });
    let settings = Settings {
        realm: config.realm.clone(),
        secrets: secrets.turn.clone(),
        old_secrets_until: secrets.turn_old_until,
        users: secrets.turn_users.clone(),
        policy: PeerPolicy::new(
            config.peers,
            config.allow_peers.clone(),
            net::local_addresses(),
            net::broadcast_addresses(),
        ),
        relays: relays.collect(),
        listeners: listening.all_addresses(),
        user_quota: config.user_quota,
        total_quota: config.total_quota,
        allocation_bandwidth: config.allocation_bandwidth,
        total_bandwidth: config.total_bandwidth,
        dont_fragment: true,
        nonce_key,
        probe_key,
    };
    Current {
        config: config.clone(),
        secrets: secrets.clone(),
        settings: Arc::new(settings),
        listening,
        drain: config.drain,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use super::*;

    fn secrets() -> Secrets {
        Secrets {
            turn: vec![Secret::new(vec![7; 32])],
            turn_users: BTreeMap::new(),
            acme_bindings: BTreeMap::new(),
            metrics_token: None,
            access_key: None,
            turn_old_until: None,
        }
    }

    fn config(relay: Ipv4Addr) -> TurnConfig {
        TurnConfig { relay_ips: vec![relay.into()], ..TurnConfig::default() }
    }

    #[test]
    fn what_is_bound_stays_until_the_next_instance() {
        let (old, new, told) =
            (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(203, 0, 113, 9));
        let live = Arc::new(Live::new(&config(old), &secrets(), TurnSockets { workers: Vec::new() }));
        let before = live.generation();
        let changed = TurnConfig { user_quota: 3, public_ips: vec![told.into()], ..config(new) };
        Control::new(Arc::clone(&live)).apply(&changed, &secrets());
        assert_ne!(live.generation(), before);
        let settings = Arc::clone(&live.current().settings);
        assert_eq!(settings.user_quota, 3);
        assert_eq!(settings.relays, [RelayAddress { local: old.into(), told: told.into() }]);
        assert_eq!(live.begin().unwrap().settings.relays, [RelayAddress { local: new.into(), told: told.into() }]);
        assert_eq!(live.current().settings.nonce_key, settings.nonce_key);
    }
}
