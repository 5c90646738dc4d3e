//! Accepts every TCP connection and terminates TLS; hands requests to web and signaling, streams of TURN to turn.
//!
//! Connections of HTTP belong to no task, so restarting a task closes none of them: its requests wait for the next
//! instance. What a connection speaks is told by its first bytes (`demux`, asked by `arrival`), where plain HTTP is
//! sent by `redirect`. What a request or a message is answered with is left to the tasks.

mod accept;
mod arrival;
mod connection;
mod counters;
mod cut;
pub mod demux;
mod ending;
mod held;
mod listeners;
mod live;
mod nomad;
mod redirect;
mod tls;

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

use self::accept::{Caps, accept};
use self::connection::Connections;
use self::ending::{Ending, FINISHED_WITHIN};
use self::live::Live;
use self::tls::Tls;
use crate::certs::CertHandle;
use crate::config::Config;
use crate::error::{Failure, Result};
use crate::supervisor::handover::{Door, HttpJob, TurnStream};
use crate::supervisor::instance::Pulse;
use crate::sys::marks::Marks;
use crate::sys::process::open_files_limit;
use crate::text;
pub use counters::{Class, Counters};
pub use listeners::Listeners;
pub use live::{Control, Moving};

/// Threads for TLS and HTTP. What they hand on is computed elsewhere.
const THREADS: usize = 2;
/// How long connections may take to be written what they are answered when the service stops.
const DRAINED_WITHIN: Duration = Duration::from_millis(1500);
/// How long the tasks should be there for those who are connected when the service stops, if nothing hangs.
pub const ASKED_WITHIN: Duration = FINISHED_WITHIN.saturating_add(Duration::from_secs(1));

/// Where requests and streams go.
#[derive(Clone, Default)]
pub struct Doors {
    pub web: Door<HttpJob>,
    pub signaling: Door<HttpJob>,
    pub turn: Door<TurnStream>,
}

/// Everything that listens on TCP.
pub struct Edge {
    live: Arc<Live>,
    certificate: CertHandle,
    doors: Doors,
    counters: Arc<Counters>,
    marks: Marks,
    /// One for each listener.
    pulses: Vec<Arc<Pulse>>,
}

impl Edge {
    /// # Errors
    /// If there are no descriptors to be had.
    pub fn new(listeners: Listeners, certificate: CertHandle, doors: Doors, config: &Config) -> Result<Self> {
        let pulses = (0..listeners.count()).map(|number| Arc::new(pulse(number))).collect();
        let live = Arc::new(Live::new(listeners, config)?);
        Ok(Self { live, certificate, doors, counters: Arc::default(), marks: Marks::default(), pulses })
    }

    /// Changes what is listened on, and under which names, while it serves.
    #[must_use]
    pub fn control(&self) -> Control {
        Control::new(Arc::clone(&self.live))
    }

    /// Knows the connections that this process makes to itself by `marks`, and counts them nowhere.
    #[must_use]
    pub fn with_marks(mut self, marks: Marks) -> Self {
        self.marks = marks;
        self
    }

    /// The pulses of its loops, each of which beats at least once a second.
    #[must_use]
    pub fn pulses(&self) -> Vec<Arc<Pulse>> {
        self.pulses.clone()
    }

    /// What it counts, for as long as the process lives.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Serves until `closing` is cancelled, then lets connections finish for a moment. `asking` is dropped once nobody
    /// needs a task any more to be answered.
    ///
    /// Upgraded connections live until `closed` is cancelled: their task has said goodbye by then.
    ///
    /// # Errors
    /// If there is no runtime to be had.
    pub fn run(self, closing: CancellationToken, asking: Sender<()>, closed: &CancellationToken) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("edge")
            .enable_all()
            .build()
            .map_err(|error| Failure::operator(text!("cannot start a runtime for edge")).caused_by(error))?;
        let result = runtime.block_on(self.serve(closing, asking, closed));
        // Whoever has not finished by now is cut off.
        runtime.shutdown_background();
        result
    }

    async fn serve(self, closing: CancellationToken, asking: Sender<()>, closed: &CancellationToken) -> Result<()> {
        let caps = Arc::new(Caps::new(open_files_limit()));
        let ending = Ending::at(closing.clone());
        let connections = Arc::new(Connections {
            challenges: self.certificate.challenges().clone(),
            tls: Tls::new(self.certificate)?,
            doors: self.doors,
            live: Arc::clone(&self.live),
            counters: self.counters,
            marks: self.marks,
            ending: ending.clone(),
        });
        let tracker = TaskTracker::new();
        let mut accepting = JoinSet::new();
        let mut accepts: Option<CancellationToken> = None;
        let mut sets = self.live.sets();
        loop {
            let set = tokio::select! {
                () = closing.cancelled() => break,
                Some(set) = sets.recv() => set,
            };
            let stopping = closing.child_token();
            let loops = set.len();
            for (number, (port, listener)) in set.into_iter().enumerate() {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener)
                    .inspect_err(|error| error!(%error, "cannot watch a listener; nobody is served by it"))
                else {
                    continue;
                };
                let (connections, caps) = (Arc::clone(&connections), Arc::clone(&caps));
                let pulses = shared_out(&self.pulses, number, loops);
                accepting.spawn(accept(listener, port, connections, caps, tracker.clone(), stopping.clone(), pulses));
            }
            // Only now: a port that stays is accepted from without a gap.
            if let Some(before) = accepts.replace(stopping) {
                before.cancel();
            }
            while accepting.try_join_next().is_some() {}
        }
        // They end by the same token.
        while accepting.join_next().await.is_some() {}
        tracker.close();
        let drained = tokio::time::timeout(DRAINED_WITHIN, tracker.wait());
        let finished = async {
            ending.finished().await;
            drop(asking);
        };
        if tokio::join!(drained, finished).0.is_err() {
            debug!(left = tracker.len(), "connections did not finish in time");
        }
        closed.cancelled().await;
        Ok(())
    }
}

/// The pulses that one of so many loops beats: there are as many as there were listeners at the start, and each of them
/// is somebody's, however many there are now.
fn shared_out(pulses: &[Arc<Pulse>], number: usize, loops: usize) -> Vec<Arc<Pulse>> {
    let own: Vec<Arc<Pulse>> = pulses.iter().skip(number).step_by(loops.max(1)).cloned().collect();
    if own.is_empty() { pulses.get(number % pulses.len().max(1)).cloned().into_iter().collect() } else { own }
}

fn pulse(number: usize) -> Pulse {
    let pulse = Pulse::new(&format!("edge-{number}"));
    #[cfg(feature = "faults")]
    pulse.set_place(Some(crate::supervisor::faults::Place::Edge));
    pulse
}
