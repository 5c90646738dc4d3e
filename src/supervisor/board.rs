//! The published picture of all tasks. Reading it never waits for a task.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;

use super::service::TaskName;
use crate::words::Text;

/// A task's state, in order of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Stopped,
    Starting,
    Ready,
    Degraded,
    Draining,
    Backoff,
    Held,
}

impl State {
    /// The word of this state, as `status` prints it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Backoff => "backoff",
            Self::Held => "held",
        }
    }
}

/// What is known about one task.
#[derive(Debug, Clone)]
pub struct TaskView {
    pub name: TaskName,
    pub state: State,
    /// When the task entered `state`.
    pub since: Instant,
    /// When the running instance became ready, if it has.
    pub ready_since: Option<Instant>,
    pub restarts: u64,
    /// Instances that were replaced because they stood still.
    pub hangs: u64,
    /// Instances that a panic has ended.
    pub panics: u64,
    /// Instances that were cut off and have not ended since.
    pub abandoned: usize,
    /// The numbers of the running instance's threads.
    pub threads: Vec<i32>,
    pub last_error: Option<Text>,
    /// When the last error happened.
    pub last_error_at: Option<SystemTime>,
    pub last_panic: Option<LastPanic>,
}

/// A panic of a task, in short; the journal has all of it.
#[derive(Debug, Clone)]
pub struct LastPanic {
    pub at: SystemTime,
    pub message: String,
    /// Source file, line and column.
    pub place: Option<String>,
}

/// Shared by the supervisor, which publishes, and everyone who reads.
#[derive(Clone, Default)]
pub struct Board {
    tasks: Arc<ArcSwap<Vec<TaskView>>>,
}

impl Board {
    /// Replaces the picture.
    pub fn publish(&self, tasks: Vec<TaskView>) {
        self.tasks.store(Arc::new(tasks));
    }

    /// The picture as last published.
    #[must_use]
    pub fn tasks(&self) -> Arc<Vec<TaskView>> {
        self.tasks.load_full()
    }

    /// The worst state of all tasks, by what it means to a caller: ready if all are.
    #[must_use]
    pub fn overall(&self) -> State {
        let tasks = self.tasks.load();
        let any = |wanted: State| tasks.iter().any(|task| task.state == wanted);
        if tasks.is_empty() {
            return State::Stopped;
        }
        [State::Held, State::Backoff, State::Stopped, State::Draining, State::Starting, State::Degraded]
            .into_iter()
            .find(|&state| any(state))
            .unwrap_or(State::Ready)
    }
}
