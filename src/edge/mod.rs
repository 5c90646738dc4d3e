//! Accepts every TCP connection and terminates TLS; hands requests to web and signaling, streams of TURN to turn.
//!
//! Connections of HTTP belong to no task, so restarting a task closes none of them: its requests wait for the next
//! instance. What a connection speaks is told by its first bytes (`demux`, asked by `arrival`), where plain HTTP is
//! sent by `redirect`. What a request or a message is answered with is left to the tasks.

mod accept;
mod arrival;
mod connection;
mod counters;
pub mod demux;
mod held;
mod listeners;
mod live;
mod redirect;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

use self::accept::{Caps, accept};
use self::connection::Connections;
use self::live::Live;
use self::tls::Tls;
use crate::certs::CertHandle;
use crate::config::Config;
use crate::error::{Failure, Result};
use crate::supervisor::handover::{Door, HttpJob, TurnStream};
use crate::sys::process::open_files_limit;
pub use counters::{Class, Counters};
pub use listeners::Listeners;
pub use live::{Control, Moving};

/// Threads for TLS and HTTP. What they hand on is computed elsewhere.
const THREADS: usize = 2;
/// How long connections may finish what they are at when the service stops.
const DRAINED_WITHIN: Duration = Duration::from_secs(2);

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
}

impl Edge {
    /// # Errors
    /// If there are no descriptors to be had.
    pub fn new(listeners: Listeners, certificate: CertHandle, doors: Doors, config: &Config) -> Result<Self> {
        Ok(Self { live: Arc::new(Live::new(listeners, config)?), certificate, doors, counters: Arc::default() })
    }

    /// Changes what is listened on, and under which names, while it serves.
    #[must_use]
    pub fn control(&self) -> Control {
        Control::new(Arc::clone(&self.live))
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
            tls: Tls::new(self.certificate)?,
            doors: self.doors,
            live: Arc::clone(&self.live),
            counters: self.counters,
            closing: closing.clone(),
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
            for (port, listener) in set {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener)
                    .inspect_err(|error| error!(%error, "cannot watch a listener; nobody is served by it"))
                else {
                    continue;
                };
                let (connections, caps) = (Arc::clone(&connections), Arc::clone(&caps));
                accepting.spawn(accept(listener, port, connections, caps, tracker.clone(), stopping.clone()));
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
        if tokio::time::timeout(DRAINED_WITHIN, tracker.wait()).await.is_err() {
            debug!(left = tracker.len(), "connections did not finish in time");
        }
        closed.cancelled().await;
        Ok(())
    }
}
