//! The turn task: one instance is all workers of the data plane.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::Counters;
use super::peers::PeerPolicy;
use super::relay_ports::RelayPorts;
use super::server::{RelayAddress, Server, Settings, Shared};
use super::sockets::{TurnSockets, of_family};
use super::workers::Worker;
use crate::config::{Secret, Secrets, TurnConfig};
use crate::error::{Failure, Result};
use crate::supervisor::service::{Context, Service, TaskName};
use crate::sys::{clock, net};

/// How often it is looked whether the task should stop or a worker has ended.
const LOOKED_EVERY: Duration = Duration::from_millis(50);

/// The STUN/TURN server. Each instance starts without allocations, on the same listening sockets.
pub struct Turn {
    config: TurnConfig,
    secrets: Vec<Secret>,
    users: BTreeMap<String, Secret>,
    sockets: TurnSockets,
    counters: Arc<Counters>,
}

impl Turn {
    #[must_use]
    pub fn new(config: &TurnConfig, secrets: &Secrets, sockets: TurnSockets, counters: Arc<Counters>) -> Self {
        Self {
            config: config.clone(),
            secrets: secrets.turn.clone(),
            users: secrets.turn_users.clone(),
            sockets,
            counters,
        }
    }

    fn settings(&self) -> Settings {
        let relays = self.config.relay_ips.iter().map(|local| RelayAddress {
            local: *local,
            told: of_family(&self.config.public_ips, *local).unwrap_or(*local),
        });
        Settings {
            realm: self.config.realm.clone(),
            secrets: self.secrets.clone(),
            users: self.users.clone(),
            policy: PeerPolicy::new(
                self.config.peers,
                self.config.allow_peers.clone(),
                net::local_addresses(),
                net::broadcast_addresses(),
            ),
            relays: relays.collect(),
            listeners: self.config.bind.iter().map(|address| SocketAddr::new(*address, self.config.port)).collect(),
            user_quota: self.config.user_quota,
            total_quota: self.config.total_quota,
            allocation_bandwidth: self.config.allocation_bandwidth,
            total_bandwidth: self.config.total_bandwidth,
            dont_fragment: false,
            nonce_key: rand::random(),
        }
    }
}

impl Service for Turn {
    fn name(&self) -> TaskName {
        TaskName::Turn
    }

    fn run(&self, context: Context) -> Result<()> {
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|error| Failure::operator("cannot make an eventfd for turn").caused_by(error))?;
        let settings = Arc::new(self.settings());
        let shared = Arc::new(Shared::new(self.config.relay_ports.clone()));
        let ports = Arc::new(RelayPorts::new(self.config.relay_ips.clone(), self.config.relay_ports.clone()));
        let mut workers = Vec::new();
        for listeners in &self.sockets.workers {
            let server = Server::new(Arc::clone(&settings), Arc::clone(&shared), clock::now(), Box::new(rand::random));
            let counters = Arc::clone(&self.counters);
            workers.push(Worker::new(server, Arc::clone(&shared), listeners, Arc::clone(&ports), counters, &stop)?);
        }
        let pulses: Vec<AtomicU64> = workers.iter().map(|_| AtomicU64::new(0)).collect();
        let result = thread::scope(|scope| {
            let mut threads = Vec::new();
            for (number, (worker, pulse)) in workers.into_iter().zip(&pulses).enumerate() {
                let spawned = thread::Builder::new()
                    .name(format!("turn-{number}"))
                    .spawn_scoped(scope, move || worker.run(pulse));
                match spawned {
                    Ok(thread) => threads.push(thread),
                    Err(error) => {
                        let failure = Failure::operator("cannot start a thread for turn").caused_by(error);
                        return end(&stop, threads).and(Err(failure));
                    }
                }
            }
            context.ready();
            let mut seen = vec![0; pulses.len()];
            while !context.stopping().is_cancelled() && !threads.iter().any(ScopedJoinHandle::is_finished) {
                thread::park_timeout(LOOKED_EVERY);
                if all_moved(&pulses, &mut seen) {
                    context.progress();
                }
            }
            end(&stop, threads)
        });
        self.counters.allocations.store(0, Ordering::Relaxed);
        result
    }
}

/// Whether every worker's loop has turned since this was last true: one that hangs must not hide behind the others.
fn all_moved(pulses: &[AtomicU64], seen: &mut [u64]) -> bool {
    let current: Vec<u64> = pulses.iter().map(|pulse| pulse.load(Ordering::Relaxed)).collect();
    let have_moved = current.iter().zip(&*seen).all(|(now, before)| now != before);
    if have_moved {
        seen.copy_from_slice(&current);
    }
    have_moved
}

/// Stops all workers and gives the first failure. A panic goes on, so that the supervisor sees it as what it is.
fn end(stop: &EventFd, threads: Vec<ScopedJoinHandle<'_, Result<()>>>) -> Result<()> {
    stop.write(1).map_err(|error| Failure::bug("cannot signal the workers of turn").caused_by(error))?;
    let ends: Vec<_> = threads.into_iter().map(ScopedJoinHandle::join).collect();
    ends.into_iter().try_for_each(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_worker_that_hangs_stops_the_progress_of_all() {
        let pulses = [AtomicU64::new(1), AtomicU64::new(1)];
        let mut seen = [0, 0];
        assert!(all_moved(&pulses, &mut seen));
        assert!(!all_moved(&pulses, &mut seen));
        pulses[0].fetch_add(5, Ordering::Relaxed);
        assert!(!all_moved(&pulses, &mut seen));
        pulses[1].fetch_add(1, Ordering::Relaxed);
        assert!(all_moved(&pulses, &mut seen));
    }
}
