//! What the running relay works by, and how it is changed without ending an allocation.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::credentials;
use super::insiders::{Insiders, Route};
use super::peers::PeerPolicy;
use super::server::{RelayAddress, Settings};
use super::sockets::of_family;
use crate::config::{Latency, Secret, Secrets, TurnConfig};
use crate::sys::net;

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
    /// workers. Listeners are the daemon's.
    pub fn apply(&self, config: &TurnConfig, secrets: &Secrets) {
        self.live.change(config, secrets);
    }

    /// Makes a hole in the filter of the running relay.
    #[cfg(test)]
    pub(crate) fn weaken(&self, hole: IpAddr) {
        let before = self.live.current();
        let mut settings = (*before.settings).clone();
        settings.policy = settings.policy.weakened(hole);
        let Current { config, secrets, drain, .. } = &*before;
        let (config, secrets) = (config.clone(), secrets.clone());
        self.live.current.store(Arc::new(Current { config, secrets, settings: Arc::new(settings), drain: *drain }));
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
        let addresses = self.live.listeners.iter().map(SocketAddr::ip);
        addresses.filter(|address| !address.is_unspecified()).collect()
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
    listeners: Vec<SocketAddr>,
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
    /// How long allocations are served on after the order to stop.
    pub(super) drain: Duration,
}

impl Current {
    /// Whether clients are told of ICMP errors.
    pub(super) fn tells_icmp(&self) -> bool {
        self.config.icmp
    }

    /// Whether packets may wait a moment for others.
    pub(super) fn may_gather(&self) -> bool {
        self.config.latency == Latency::Auto
    }
}

impl Live {
    pub(super) fn new(config: &TurnConfig, secrets: &Secrets, listeners: Vec<SocketAddr>) -> Self {
        let nonce_key = rand::random();
        let probe_key = Secret::new(rand::random::<[u8; 32]>().to_vec());
        let current = current(config, secrets, &config.relay_ips, &listeners, nonce_key, probe_key.clone());
        Self {
            current: ArcSwap::from_pointee(current),
            changing: Mutex::default(),
            generation: AtomicU64::new(0),
            listeners,
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
    pub(super) fn begin(&self) -> Arc<Current> {
        // A change at the same time must not be overwritten by what was read before it.
        let _changing = self.changing.lock().expect("nothing panics while it holds this lock");
        let current = self.current();
        self.set(&current.config, &current.secrets, &current.config.relay_ips);
        self.current()
    }

    /// Keeps what is bound.
    fn change(&self, config: &TurnConfig, secrets: &Secrets) {
        let _changing = self.changing.lock().expect("nothing panics while it holds this lock");
        let bound: Vec<IpAddr> = self.current().settings.relays.iter().map(|relay| relay.local).collect();
        self.set(config, secrets, &bound);
    }

    fn set(&self, config: &TurnConfig, secrets: &Secrets, bound: &[IpAddr]) {
        let probe_key = self.probe_key.clone();
        let next = current(config, secrets, bound, &self.listeners, self.nonce_key, probe_key);
        self.current.store(Arc::new(next));
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
    listeners: &[SocketAddr],
    nonce_key: [u8; 32],
    probe_key: Secret,
) -> Current {
    let relays = bound
        .iter()
        .map(|local| RelayAddress { local: *local, told: of_family(&config.public_ips, *local).unwrap_or(*local) });
    let settings = Settings {
        realm: config.realm.clone(),
        secrets: secrets.turn.clone(),
        users: secrets.turn_users.clone(),
        policy: PeerPolicy::new(
            config.peers,
            config.allow_peers.clone(),
            net::local_addresses(),
            net::broadcast_addresses(),
        ),
        relays: relays.collect(),
        listeners: listeners.to_vec(),
        user_quota: config.user_quota,
        total_quota: config.total_quota,
        allocation_bandwidth: config.allocation_bandwidth,
        total_bandwidth: config.total_bandwidth,
        dont_fragment: true,
        nonce_key,
        probe_key,
    };
    Current { config: config.clone(), secrets: secrets.clone(), settings: Arc::new(settings), drain: config.drain }
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
        }
    }

    fn config(relay: Ipv4Addr) -> TurnConfig {
        TurnConfig { relay_ips: vec![relay.into()], ..TurnConfig::default() }
    }

    #[test]
    fn what_is_bound_stays_until_the_next_instance() {
        let (old, new, told) =
            (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(203, 0, 113, 9));
        let live = Arc::new(Live::new(&config(old), &secrets(), Vec::new()));
        let before = live.generation();
        let changed = TurnConfig { user_quota: 3, public_ips: vec![told.into()], ..config(new) };
        Control::new(Arc::clone(&live)).apply(&changed, &secrets());
        assert_ne!(live.generation(), before);
        let settings = Arc::clone(&live.current().settings);
        assert_eq!(settings.user_quota, 3);
        assert_eq!(settings.relays, [RelayAddress { local: old.into(), told: told.into() }]);
        assert_eq!(live.begin().settings.relays, [RelayAddress { local: new.into(), told: told.into() }]);
        assert_eq!(live.current().settings.nonce_key, settings.nonce_key);
    }
}
