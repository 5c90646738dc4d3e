//! What a supervised task is, and what it gets from and tells its supervisor.
//!
//! Each instance runs on an OS thread of its own, with a runtime of its own where it needs one, so a panic, a busy
//! loop or a blocked executor in one task leaves the others serving. When and whether to restart is the policy's.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::instance::{Instance, Pulse};
use crate::error::Result;
use crate::words::Text;

/// The supervised tasks, in the order in which they start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskName {
    Certs,
    Turn,
    Signaling,
    Web,
}

impl TaskName {
    /// Every task, in starting order.
    pub const ALL: [Self; 4] = [Self::Certs, Self::Turn, Self::Signaling, Self::Web];

    /// The name an operator types.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certs => "certs",
            Self::Turn => "turn",
            Self::Signaling => "signaling",
            Self::Web => "web",
        }
    }
}

impl std::fmt::Display for TaskName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A task that the supervisor can start any number of times, one instance at a time.
pub trait Service: Send + Sync + 'static {
    /// Which task this is.
    fn name(&self) -> TaskName;

    /// Runs one instance and blocks until it has ended.
    ///
    /// Calls [`Context::ready`] once it serves. From then on each of its loops turns at least every two seconds ([`crate::sys::turns`]) and says so
    /// ([`Context::progress`], [`Context::pulse`]): one that does not for ten seconds has the instance replaced.
    /// Threads that it starts begin with [`Context::adopt_thread`]. It returns `Ok` soon after [`Context::stopping`] is
    /// cancelled. Returning earlier, by `Ok` or `Err`, or panicking counts as a fault.
    ///
    /// # Errors
    /// Whatever ended the instance.
    fn run(&self, context: Context) -> Result<()>;

    /// The running instance hangs and is abandoned: from now on nothing reaches it, and whoever waits for an answer of
    /// it is told. Must not block.
    fn fence(&self) {}
}

/// What an instance says to its supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// It serves.
    Ready,
    /// It serves, but not well. `None`: all is well again.
    Degraded(Option<Text>),
}

/// The handles one instance gets.
#[derive(Clone)]
pub struct Context {
    report: Arc<dyn Fn(Report) + Send + Sync>,
    progress: Arc<Pulse>,
    stopping: CancellationToken,
    /// `None` where nobody supervises it, as in a test.
    instance: Option<Arc<Instance>>,
}

impl Context {
    /// For an instance that nobody supervises; `report` must not block.
    #[must_use]
    pub fn new(report: Arc<dyn Fn(Report) + Send + Sync>, progress: Arc<Pulse>, stopping: CancellationToken) -> Self {
        Self { report, progress, stopping, instance: None }
    }

    /// Made by the driver for each instance; `report` must not block.
    #[must_use]
    pub fn of(instance: Arc<Instance>, report: Arc<dyn Fn(Report) + Send + Sync>, stopping: CancellationToken) -> Self {
        Self { report, progress: instance.main_pulse(), stopping, instance: Some(instance) }
    }

    /// Says that the instance serves. Dropping the context says nothing.
    pub fn ready(&self) {
        (self.report)(Report::Ready);
    }

    /// Says that the instance serves badly, and why; or that it has recovered.
    pub fn degraded(&self, why: Option<Text>) {
        (self.report)(Report::Degraded(why));
    }

    /// To be called by the instance's own loop, never by a timer beside it.
    pub fn progress(&self) {
        self.progress.beat();
    }

    /// The pulse of one more loop of the instance, which is watched like the first.
    #[must_use]
    pub fn pulse(&self, name: &str) -> Arc<Pulse> {
        self.instance.as_ref().map_or_else(|| Arc::new(Pulse::new(name)), |instance| instance.add_pulse(name))
    }

    /// To be called by each thread that the instance starts, before anything else: what it logs and how it panics
    /// belongs to the task.
    pub fn adopt_thread(&self) {
        if let Some(instance) = &self.instance {
            instance.adopt_thread();
        }
    }

    /// [`Context::adopt_thread`] for `Builder::on_thread_start` of a runtime.
    pub fn adopter(&self) -> impl Fn() + Send + Sync + 'static {
        let context = self.clone();
        move || context.adopt_thread()
    }

    /// Cancelled when the instance should drain and return.
    #[must_use]
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }
}
