//! Which listening sockets workers have, and how a moved port changes that while allocations live.
//!
//! A listener has a number, which is the same for all workers and part of what an allocation is known by. So a moved
//! port adds listeners under new numbers, and the old ones are served on under theirs until no allocation uses them.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::sockets::{Listener, TurnSockets, keep, nowhere, open_each};
use crate::config::TurnConfig;
use crate::error::{Failure, Result};
use crate::sys::fdstore::Inherited;
use crate::sys::notify::Manager;
use crate::text;

/// How long a port that was moved away from is served at most: as long as the longest lifetime that a client may ask
/// for, after which it has asked for another page, or hangs.
const MOVED_WITHIN: Duration = Duration::from_secs(3600);
/// Numbers of listeners; workers keep them in a byte.
const MAX_LISTENERS: usize = 256;

/// The listeners of all workers, by number.
#[derive(Debug, Clone)]
pub(super) struct Listening {
    slots: Vec<Option<Slot>>,
}

/// One address that is listened on.
#[derive(Debug, Clone)]
struct Slot {
    address: SocketAddr,
    /// One for each worker.
    listeners: Vec<Listener>,
    /// It has been moved away from, and is closed at this time at the latest.
    ends_at: Option<Instant>,
}

/// Addresses that are bound and not yet served.
#[derive(Debug)]
pub struct Moving {
    /// Those that go on to be served.
    kept: Vec<SocketAddr>,
    opened: Vec<Slot>,
}

impl Listening {
    pub(super) fn new(sockets: TurnSockets) -> Self {
        let mut slots: Vec<Option<Slot>> = Vec::new();
        for listeners in sockets.workers {
            for (number, listener) in listeners.into_iter().enumerate() {
                if let Some(Some(slot)) = slots.get_mut(number) {
                    slot.listeners.push(listener);
                } else {
                    slots.push(Some(Slot { address: listener.address, listeners: vec![listener], ends_at: None }));
                }
            }
        }
        Self { slots }
    }

    /// The listeners of one worker, by number.
    pub(super) fn of_worker(&self, worker: usize) -> Vec<Option<Listener>> {
        let own = |slot: &Slot| Some(slot.listeners.get(worker)?.draining(slot.ends_at.is_some()));
        self.slots.iter().map(|slot| slot.as_ref().and_then(own)).collect()
    }

    /// How many workers there are listeners for.
    pub(super) fn workers(&self) -> usize {
        self.live().map(|slot| slot.listeners.len()).max().unwrap_or(0)
    }

    /// Where clients are told to come to.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.live().filter(|slot| slot.ends_at.is_none()).map(|slot| slot.address).collect()
    }

    /// Where anything may come from, what drains included.
    pub(super) fn all_addresses(&self) -> Vec<SocketAddr> {
        self.live().map(|slot| slot.address).collect()
    }

    /// Has the service manager keep what is served for the next start, and nothing else.
    pub(super) fn keep_in(&self, manager: &Manager) -> io::Result<()> {
        let served = self.live().filter(|slot| slot.ends_at.is_none());
        keep(manager, served.flat_map(|slot| &slot.listeners))
    }

    fn live(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().flatten()
    }

    /// Binds what `config` wants and is not bound yet. Nothing that is served changes.
    ///
    /// # Errors
    /// If a port is taken, naming its holder, or may not be had.
    pub(super) fn bind(&self, config: &TurnConfig) -> Result<Moving> {
        let mut nothing = Inherited::default();
        let mut moving = Moving { kept: Vec::new(), opened: Vec::new() };
        for address in &config.bind {
            let wanted = SocketAddr::new(*address, config.port);
            if self.live().any(|slot| slot.address == wanted) {
                moving.kept.push(wanted);
                continue;
            }
            let is_ours = self.live().any(|slot| slot.address.port() == wanted.port());
            let listeners = open_each(config, *address, self.workers().max(1), (!is_ours).then_some(&mut nothing))?;
            let Some(address) = listeners.first().map(|listener| listener.address) else { continue };
            moving.opened.push(Slot { address, listeners, ends_at: None });
        }
        if moving.kept.is_empty() && moving.opened.is_empty() {
            return Err(nowhere());
        }
        let free = MAX_LISTENERS - self.live().count();
        if moving.opened.len() > free {
            return Err(Failure::operator(text!("too many ports of turn still drain from the last moves"))
                .hinted(text!("let their calls end, or end them by `rtcctl restart turn`")));
        }
        Ok(moving)
    }

    /// Serves what was bound, and lets drain what is not wanted any more.
    pub(super) fn moved(&self, moving: Moving, now: Instant) -> Self {
        let mut slots = self.slots.clone();
        for slot in slots.iter_mut().flatten() {
            slot.ends_at = match slot.ends_at {
                _ if moving.kept.contains(&slot.address) => None,
                None => {
                    // What was said when it drained before is no news.
                    slot.listeners.iter().for_each(|listener| listener.say_idle(false));
                    Some(now + MOVED_WITHIN)
                }
                ends_at => ends_at,
            };
        }
        for slot in moving.opened {
            match slots.iter_mut().find(|place| place.is_none()) {
                Some(place) => *place = Some(slot),
                None => slots.push(Some(slot)),
            }
        }
        Self { slots }
    }

    /// What is left when listeners end whose time is over, or that nobody uses; `None`: nothing has changed.
    pub(super) fn retired(&self, now: Instant) -> Option<Self> {
        let has_ended = |slot: &Slot| {
            let Some(ends_at) = slot.ends_at else { return false };
            ends_at <= now || slot.listeners.iter().all(Listener::is_idle)
        };
        if !self.live().any(has_ended) {
            return None;
        }
        let slots = self.slots.iter().map(|slot| slot.clone().filter(|slot| !has_ended(slot))).collect();
        Some(Self { slots })
    }

    /// What another instance of so many workers begins with: nothing drains, since no allocation is left.
    ///
    /// # Errors
    /// If the kernel has no more sockets to give.
    pub(super) fn begun(&self, config: &TurnConfig) -> Result<Self> {
        let workers = config.workers.max(1);
        let mut slots = Vec::new();
        for slot in self.live().filter(|slot| slot.ends_at.is_none()) {
            let mut listeners = slot.listeners.clone();
            listeners.truncate(workers);
            let at = TurnConfig { port: slot.address.port(), ..config.clone() };
            listeners.extend(open_each(&at, slot.address.ip(), workers - listeners.len(), None)?);
            slots.push(Some(Slot { listeners, ..slot.clone() }));
        }
        Ok(Self { slots })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::sys::clock;
    use crate::turn::sockets::bind;

    fn config(last: u8, port: u16) -> TurnConfig {
        let here = Ipv4Addr::new(127, 0, 0, last).into();
        TurnConfig { bind: vec![here], port, relay_ips: vec![here], workers: 2, ..TurnConfig::default() }
    }

    fn listening(config: &TurnConfig) -> (Listening, u16) {
        let sockets = bind(config).unwrap();
        let port = sockets.addresses()[0].port();
        (Listening::new(sockets), port)
    }

    fn is_there(listening: &Listening, number: usize) -> bool {
        listening.of_worker(1).get(number).is_some_and(Option::is_some)
    }

    #[test]
    fn a_moved_port_is_served_at_once_and_the_old_one_until_no_worker_needs_it() {
        let now = clock::now().mono;
        let (old, port) = listening(&config(71, 0));
        let moving = old.bind(&config(72, port)).unwrap();
        let both = old.moved(moving, now);
        let [here, there] = [71, 72].map(|last| SocketAddr::from(([127, 0, 0, last], port)));
        assert_eq!((both.addresses(), both.all_addresses()), (vec![there], vec![here, there]));
        let of = |worker: usize| both.of_worker(worker)[0].clone().unwrap();
        assert!(of(0).drains && !both.of_worker(0)[1].as_ref().unwrap().drains);
        assert!(of(0).is(&old.of_worker(0)[0].clone().unwrap()), "it is the same socket under the same number");
        of(0).say_idle(true);
        assert!(both.retired(now).is_none(), "the other worker still needs it");
        of(1).say_idle(true);
        let left = both.retired(now).unwrap();
        assert!(!is_there(&left, 0) && is_there(&left, 1));
        let back = left.moved(left.bind(&config(71, port)).unwrap(), now);
        assert!(is_there(&back, 0) && back.of_worker(1)[1].as_ref().unwrap().drains, "the free number is used again");
    }

    #[test]
    fn what_is_used_ends_within_an_hour_and_with_the_instance() {
        let now = clock::now().mono;
        let (old, port) = listening(&config(73, 0));
        let both = old.moved(old.bind(&config(74, port)).unwrap(), now);
        assert!(both.retired(now + MOVED_WITHIN - Duration::from_secs(1)).is_none());
        assert_eq!(both.retired(now + MOVED_WITHIN).unwrap().all_addresses().len(), 1);
        let begun = both.begun(&TurnConfig { workers: 3, ..config(74, port) }).unwrap();
        assert_eq!((begun.all_addresses(), begun.workers()), (both.addresses(), 3));
        let begun = begun.begun(&TurnConfig { workers: 1, ..config(74, port) }).unwrap();
        assert_eq!(begun.workers(), 1);
    }

    #[test]
    fn going_back_before_the_old_port_has_drained_takes_it_up_again() {
        let now = clock::now().mono;
        let (old, port) = listening(&config(75, 0));
        let both = old.moved(old.bind(&config(76, port)).unwrap(), now);
        let back = both.moved(both.bind(&config(75, port)).unwrap(), now);
        assert_eq!(back.addresses(), old.addresses());
        assert!(back.of_worker(0)[1].as_ref().unwrap().drains);
    }

    #[test]
    fn a_taken_port_changes_nothing() {
        let (old, _) = listening(&config(77, 0));
        let other = bind(&config(78, 0)).unwrap();
        let failure = old.bind(&config(78, other.addresses()[0].port())).unwrap_err();
        assert!(failure.message().contains("/udp` for turn"), "{failure}");
    }
}
