//! Probes every task now and then, and keeps what was found.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::certs::CertHandle;
use crate::error::{Failure, Result};
use crate::probe;
use crate::supervisor::board::{Board, State};
use crate::supervisor::service::TaskName;
use crate::sys::clock;

/// How often each task is asked.
const PROBED_EVERY: Duration = Duration::from_secs(15);
/// How often it is looked whether the daemon ends.
const LOOKED_EVERY: Duration = Duration::from_millis(100);

/// What the last probe of a task found.
#[derive(Debug, Clone)]
pub(super) struct Probed {
    pub(super) error: Option<String>,
    pub(super) latency: Duration,
    pub(super) at: SystemTime,
}

/// Where web and turn answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct AskedAt {
    pub(super) web: Option<SocketAddr>,
    pub(super) turn: Option<SocketAddr>,
}

/// Where the tasks are asked, and what they answered. Cheap to clone.
#[derive(Clone)]
pub(super) struct Probes {
    asked_at: Arc<ArcSwap<AskedAt>>,
    certificate: CertHandle,
    board: Board,
    found: Arc<ArcSwap<BTreeMap<TaskName, Probed>>>,
}

impl Probes {
    pub(super) fn new(asked_at: AskedAt, certificate: CertHandle, board: Board) -> Self {
        let asked_at = Arc::new(ArcSwap::from_pointee(asked_at));
        Self { asked_at, certificate, board, found: Arc::default() }
    }

    /// They answer elsewhere from now on.
    pub(super) fn follow(&self, asked_at: AskedAt) {
        self.asked_at.store(Arc::new(asked_at));
    }

    pub(super) fn of(&self, task: TaskName) -> Option<Probed> {
        self.found.load().get(&task).cloned()
    }

    /// Asks every task that should answer.
    pub(super) fn run_once(&self) {
        let mut found = BTreeMap::new();
        for task in self.board.tasks().iter() {
            // One that is known to be down is not asked; what it once answered is no news.
            if !matches!(task.state, State::Ready | State::Degraded) {
                continue;
            }
            let before = clock::now();
            let error = self.ask(task.name).err().map(|failure| failure.to_string());
            let latency = clock::now().mono.saturating_duration_since(before.mono);
            let was_fine = self.of(task.name).is_none_or(|probed| probed.error.is_none());
            match &error {
                Some(error) if was_fine => warn!(task = %task.name, error, "a probe fails"),
                None if !was_fine => info!(task = %task.name, "probes succeed again"),
                Some(_) | None => {}
            }
            found.insert(task.name, Probed { error, latency, at: before.wall });
        }
        self.found.store(Arc::new(found));
    }

    /// Asks again and again until `closing` is cancelled.
    pub(super) fn run(&self, closing: &CancellationToken) {
        let mut due = clock::now().mono + PROBED_EVERY;
        while !closing.is_cancelled() {
            thread::park_timeout(LOOKED_EVERY);
            if clock::now().mono >= due {
                self.run_once();
                due = clock::now().mono + PROBED_EVERY;
            }
        }
    }

    fn ask(&self, task: TaskName) -> Result<()> {
        let nowhere = || Failure::operator("there is no address to ask at");
        let AskedAt { web, turn } = **self.asked_at.load();
        let served = self.certificate.current();
        let fingerprint = || served.as_ref().map(|served| served.fingerprint.as_str()).unwrap_or_default();
        match task {
            TaskName::Certs => match &served {
                Some(served) if served.not_after > clock::now().wall => Ok(()),
                Some(_) => Err(Failure::operator("the certificate that is served has expired")),
                None => Err(Failure::operator("no certificate is served")),
            },
            TaskName::Turn => probe::stun(turn.ok_or_else(nowhere)?),
            TaskName::Signaling => probe::signaling(web.ok_or_else(nowhere)?, fingerprint()),
            TaskName::Web => probe::web(web.ok_or_else(nowhere)?, fingerprint()),
        }
    }
}
