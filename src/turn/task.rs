//! The turn task: one instance is all workers of the data plane.

use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task;
use std::thread::{self, ScopedJoinHandle};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::Counters;
use super::control::{Control, Live};
use super::plane::Worker;
use super::plane::stream::{Entrance, StreamWorker};
use super::plane::udp::{self, Common};
use super::relay_ports::RelayPorts;
use super::server::Shared;
use super::sockets::TurnSockets;
use crate::config::{Secrets, TurnConfig};
use crate::error::{Failure, Result};
use crate::supervisor::handover::{Door, TurnStream};
use crate::supervisor::service::{Context, Service, TaskName};
use crate::sys::threads::unparking;
use crate::sys::udp::offloads;
use crate::sys::{clock, turns};
use crate::text;

/// The STUN/TURN server. Each instance starts without allocations, on the same listening sockets.
pub struct Turn {
    live: Arc<Live>,
    streams: Option<Door<TurnStream>>,
    counters: Arc<Counters>,
}

impl Turn {
    #[must_use]
    pub fn new(config: &TurnConfig, secrets: &Secrets, sockets: TurnSockets, counters: Arc<Counters>) -> Self {
        let live = Arc::new(Live::new(config, secrets, sockets));
        Self { live, streams: None, counters }
    }

    /// Serves clients on TCP and TLS as well, who come in by this door, unless `turn.tcp` is off.
    #[must_use]
    pub fn with_streams(mut self, door: Door<TurnStream>) -> Self {
        self.streams = Some(door);
        self
    }

    /// Changes what the running instance works by.
    #[must_use]
    pub fn control(&self) -> Control {
        Control::new(Arc::clone(&self.live))
    }
}

impl Service for Turn {
    fn name(&self) -> TaskName {
        TaskName::Turn
    }

    fn run(&self, context: Context) -> Result<()> {
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|error| Failure::operator(text!("cannot make an eventfd for turn")).caused_by(error))?;
        let current = self.live.begin()?;
        let offloads = offloads();
        self.counters.path.gro.store(offloads.gro, Ordering::Relaxed);
        self.counters.path.gso.store(offloads.gso, Ordering::Relaxed);
        let relays = current.settings.relays.iter().map(|relay| relay.local).collect();
        let common = Common {
            shared: Arc::new(Shared::new(current.config.relay_ports.clone())),
            ports: Arc::new(RelayPorts::new(relays, current.config.relay_ports.clone())),
            counters: Arc::clone(&self.counters),
            live: Arc::clone(&self.live),
            offloads,
            one_has_ended: Arc::default(),
        };
        let one_has_ended = Arc::clone(&common.one_has_ended);
        let mut workers = Vec::new();
        for number in 0..current.workers() {
            workers.push(Worker::Udp(Box::new(udp::Worker::new(&common, number, &stop)?)));
        }
        let streams = self.streams.as_ref().filter(|_| current.config.tcp);
        let mut latch = None;
        if let Some(door) = streams {
            let entrance = Entrance::open(door)?;
            latch = Some(entrance.latch());
            workers.push(Worker::Stream(Box::new(StreamWorker::new(&common, entrance, &stop)?)));
        }
        // It has listeners, which must end when they have drained.
        drop(current);
        let result = thread::scope(|scope| {
            let mut threads = Vec::new();
            for (number, worker) in workers.into_iter().enumerate() {
                let name = format!("turn-{number}");
                let (pulse, own) = (context.pulse(&name), &context);
                let bell = Bell { rung: Arc::clone(&one_has_ended), sleeper: thread::current() };
                let serve = move || {
                    let _rings_at_its_end = bell;
                    own.adopt_thread();
                    worker.run(&pulse)
                };
                match thread::Builder::new().name(name).spawn_scoped(scope, serve) {
                    Ok(thread) => threads.push(thread),
                    Err(error) => {
                        let failure = Failure::operator(text!("cannot start a thread for turn")).caused_by(error);
                        return end(&stop, threads).and(Err(failure));
                    }
                }
            }
            context.ready();
            let mut stopping = pin!(context.stopping().cancelled());
            let waker = unparking();
            let mut poll = || stopping.as_mut().poll(&mut task::Context::from_waker(&waker)).is_ready();
            while !poll() && !one_has_ended.load(Ordering::Acquire) {
                // Its end and that of a worker wake it.
                thread::park_timeout(turns::until_next(clock::now().mono));
                context.progress();
                self.live.retire(clock::now().mono);
            }
            if let Some(latch) = latch {
                // Who comes now waits for the next instance.
                latch.shut();
            }
            end(&stop, threads)
        });
        self.counters.allocations.store(0, Ordering::Relaxed);
        result
    }

    fn fence(&self) {
        if let Some(door) = &self.streams {
            door.fence();
        }
        self.counters.allocations.store(0, Ordering::Relaxed);
    }
}

/// Wakes the task when the worker that has it ends, however it ends.
struct Bell {
    rung: Arc<AtomicBool>,
    sleeper: thread::Thread,
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.rung.store(true, Ordering::Release);
        self.sleeper.unpark();
    }
}

/// Stops all workers and gives the first failure. A panic goes on, so that the supervisor sees it as what it is.
fn end(stop: &EventFd, threads: Vec<ScopedJoinHandle<'_, Result<()>>>) -> Result<()> {
    stop.write(1).map_err(|error| Failure::bug(text!("cannot signal the workers of turn")).caused_by(error))?;
    let ends: Vec<_> = threads.into_iter().map(ScopedJoinHandle::join).collect();
    ends.into_iter().try_for_each(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}
