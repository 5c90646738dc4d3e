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
mod held;
mod listeners;
mod redirect;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use self::accept::{Caps, accept};
use self::connection::Connections;
use self::redirect::OwnNames;
use self::tls::Tls;
use crate::certs::CertHandle;
use crate::config::Config;
use crate::error::{Failure, Result};
use crate::supervisor::handover::{Door, HttpJob, TurnStream};
use crate::supervisor::instance::Pulse;
use crate::sys::marks::Marks;
use crate::sys::process::open_files_limit;
pub use counters::{Class, Counters};
pub use listeners::Listeners;

/// Threads for TLS and HTTP. What they hand on is computed elsewhere.
const THREADS: usize = 2;
/// How long connections may finish what they are at when the service stops.
const DRAINED_WITHIN: Duration = Duration::from_secs(2);

/// Where requests and streams go.
#[derive(Clone, Default)]
pub struct Doors {
    pub web: Door<HttpJob>,
    pub signaling: Door<HttpJob>,
    /// `None`: TURN is served over UDP only.
    pub turn: Option<Door<TurnStream>>,
}

/// Everything that listens on TCP.
pub struct Edge {
    listeners: Listeners,
    certificate: CertHandle,
    doors: Doors,
    names: OwnNames,
    counters: Arc<Counters>,
    marks: Marks,
    /// One for each listener.
    pulses: Vec<Arc<Pulse>>,
}

impl Edge {
    #[must_use]
    pub fn new(listeners: Listeners, certificate: CertHandle, doors: Doors, config: &Config) -> Self {
        let https_port = listeners.https_port().unwrap_or(config.web.port);
        let names = OwnNames { hosts: config.hosts.clone(), https_port };
        let pulses = (0..listeners.count()).map(|number| Arc::new(pulse(number))).collect();
        let (counters, marks) = (Arc::default(), Marks::default());
        Self { listeners, certificate, doors, names, counters, marks, pulses }
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

    /// Serves until `closing` is cancelled, then lets connections finish for a moment.
    ///
    /// Upgraded connections live until `closed` is cancelled: their task has said goodbye by then.
    ///
    /// # Errors
    /// If there is no runtime to be had.
    pub fn run(self, closing: CancellationToken, closed: &CancellationToken) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("edge")
            .enable_all()
            .build()
            .map_err(|error| Failure::operator("cannot start a runtime for edge").caused_by(error))?;
        let result = runtime.block_on(self.serve(closing, closed));
        // Whoever has not finished by now is cut off.
        runtime.shutdown_background();
        result
    }

    async fn serve(self, closing: CancellationToken, closed: &CancellationToken) -> Result<()> {
        let caps = Arc::new(Caps::new(open_files_limit()));
        let connections = Arc::new(Connections {
            challenges: self.certificate.challenges().clone(),
            tls: Tls::new(self.certificate)?,
            doors: self.doors,
            names: self.names,
            counters: self.counters,
            marks: self.marks,
            closing: closing.clone(),
        });
        let tracker = TaskTracker::new();
        let mut accepting = Vec::new();
        for ((port, listener), pulse) in self.listeners.into_each().zip(self.pulses) {
            let listener = tokio::net::TcpListener::from_std(listener)
                .map_err(|error| Failure::operator("cannot watch a listener").caused_by(error))?;
            let (connections, caps) = (Arc::clone(&connections), Arc::clone(&caps));
            let task = accept(listener, port, connections, caps, tracker.clone(), pulse);
            accepting.push(tokio::spawn(task));
        }
        closing.cancelled().await;
        for task in accepting {
            // It ends by the same token.
            let _ = task.await;
        }
        tracker.close();
        if tokio::time::timeout(DRAINED_WITHIN, tracker.wait()).await.is_err() {
            debug!(left = tracker.len(), "connections did not finish in time");
        }
        closed.cancelled().await;
        Ok(())
    }
}

fn pulse(number: usize) -> Pulse {
    let pulse = Pulse::new(&format!("edge-{number}"));
    #[cfg(feature = "faults")]
    pulse.set_place(Some(crate::supervisor::faults::Place::Edge));
    pulse
}
