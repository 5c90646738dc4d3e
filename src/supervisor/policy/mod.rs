//! Decides when a task is started, restarted, given a rest, or stopped. One [`Policy`] a task.
//!
//! Drive it like this: tell what happened (`handle_*`) or what is wanted (`start`, `stop`, `restart`), drain
//! [`Policy::poll_change`] and [`Policy::poll_command`], sleep until [`Policy::poll_timeout`], call
//! [`Policy::handle_timeout`]. A task that is wanted always has a running instance, a time at which the next one is
//! spawned, or another task that it waits for: it is never dead for good, and never restarted in a storm
//! ([`most_restarts`]). What tasks need of each other is decided in `fleet`. Threads and panics are the driver's.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::{Rng, RngExt as _};

use super::board::State;
use crate::text;
use crate::words::Text;

/// How long an instance may take to become ready.
pub const START_DEADLINE: Duration = Duration::from_secs(20);
/// How long an instance may take to end once it was asked to.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(5);
/// How soon a loop that stands still is noticed and its instance replaced. A loop turns at least once a second.
pub const HANG_LIMIT: Duration = Duration::from_secs(10);
/// Being ready for this long makes up for earlier faults.
const FORGIVEN_AFTER: Duration = Duration::from_secs(300);
/// The window in which faults count.
const INTENSITY_WINDOW: Duration = Duration::from_secs(300);
/// More faults than this in the window, and the task is held.
const MAX_FAULTS: usize = 8;
/// How often a held task is tried again.
const HELD_FOR: Duration = Duration::from_secs(300);
/// The bounds of the exponential backoff.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(60);
/// As many hangs in a row, and it is the process that needs to be started anew: what hangs cannot be ended within it.
const MAX_HANGS: u32 = 2;

/// The restarts that nobody asked for and that one task can have within any `window`, whatever it does.
///
/// Faults that are followed by a restart are at most `MAX_FAULTS` in any `INTENSITY_WINDOW`, and a restart follows
/// its fault by `LAST_BACKOFF` at most. Besides these, a held task is tried again every `HELD_FOR`.
#[must_use]
pub fn most_restarts(window: Duration) -> u64 {
    let windows = (window + LAST_BACKOFF).as_secs().div_ceil(INTENSITY_WINDOW.as_secs());
    MAX_FAULTS as u64 * windows + held_retries(window)
}

/// The same for a task that never becomes ready.
#[must_use]
pub fn most_restarts_of_a_wreck(window: Duration) -> u64 {
    MAX_FAULTS as u64 + held_retries(window)
}

fn held_retries(window: Duration) -> u64 {
    window.as_secs() / HELD_FOR.as_secs() + 1
}

/// Tells one instance of a task from the next.
pub type InstanceId = u64;

/// How fast faults are followed by restarts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pace {
    /// With pauses, and held after too many.
    #[default]
    Normal,
    /// At once and without bound: for tests of endurance.
    Endurance,
}

/// What differs between the things that are kept alive by these rules.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long an instance may take to become ready.
    pub start: Duration,
    /// How long an instance may take to end once it was asked to.
    pub drain: Duration,
    pub pace: Pace,
}

impl Limits {
    /// Those of tasks.
    #[must_use]
    pub fn of_tasks(pace: Pace) -> Self {
        Self { start: START_DEADLINE, drain: DRAIN_DEADLINE, pace }
    }
}

/// What the driver has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Spawn(InstanceId),
    /// Ask it to end.
    Cancel(InstanceId),
    /// It does not end: fence it, cut it off, and let it be.
    Abandon(InstanceId),
    /// Have the whole process started anew. The task goes on all the same, in case nobody is there to do it.
    Escalate,
}

/// A change of state, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub from: State,
    pub to: State,
    pub cause: String,
}

/// One task's life.
#[derive(Debug)]
pub struct Policy {
    limits: Limits,
    state: State,
    since: Instant,
    is_wanted: bool,
    /// The running instance, if there is one.
    instance: Option<InstanceId>,
    instances: InstanceId,
    ready_since: Option<Instant>,
    restarts: u64,
    hangs: u64,
    last_error: Option<Text>,
    /// What must be there before an instance is spawned, and is not.
    blocked: Option<Text>,
    /// What the instance serves without, and not well for that.
    lacking: Option<Text>,
    /// What the instance itself says is not well.
    trouble: Option<Text>,
    /// When the task failed, within the window.
    faults: VecDeque<Instant>,
    /// Faults in a row, without being ready for long in between.
    in_a_row: u32,
    hangs_in_a_row: u32,
    /// It was held and is tried again: one more fault holds it anew.
    on_probation: bool,
    deadline: Option<Instant>,
    commands: VecDeque<Command>,
    changes: VecDeque<Change>,
}

impl Policy {
    /// Something that is stopped.
    #[must_use]
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            state: State::Stopped,
            since: now,
            is_wanted: false,
            instance: None,
            instances: 0,
            ready_since: None,
            restarts: 0,
            hangs: 0,
            last_error: None,
            blocked: None,
            lacking: None,
            trouble: None,
            faults: VecDeque::new(),
            in_a_row: 0,
            hangs_in_a_row: 0,
            on_probation: false,
            deadline: None,
            commands: VecDeque::new(),
            changes: VecDeque::new(),
        }
    }

    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// When the task entered its state.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    #[must_use]
    pub fn ready_since(&self) -> Option<Instant> {
        self.ready_since
    }

    /// Restarts that nobody asked for.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Instances that were replaced because they stood still.
    #[must_use]
    pub fn hangs(&self) -> u64 {
        self.hangs
    }

    #[must_use]
    pub fn last_error(&self) -> Option<&Text> {
        self.last_error.as_ref()
    }

    /// It is wanted to run, as `cause` says; earlier faults are forgiven.
    pub fn start(&mut self, cause: &str, now: Instant) {
        self.is_wanted = true;
        self.forgive();
        match self.state {
            State::Stopped | State::Backoff | State::Held => self.spawn(cause, now),
            // The next instance follows the one that ends.
            State::Draining | State::Starting | State::Ready | State::Degraded => {}
        }
    }

    /// It is wanted to end.
    pub fn stop(&mut self, cause: &str, now: Instant) {
        self.is_wanted = false;
        match self.state {
            State::Starting | State::Ready | State::Degraded => self.drain(cause, now),
            State::Backoff | State::Held => self.enter(State::Stopped, None, cause, now),
            State::Stopped | State::Draining => {}
        }
    }

    /// Another instance is wanted. This is no fault and does not count as one.
    pub fn restart(&mut self, cause: &str, now: Instant) {
        self.is_wanted = true;
        match self.state {
            State::Starting | State::Ready | State::Degraded => {
                self.forgive();
                self.drain(cause, now);
            }
            State::Stopped | State::Backoff | State::Held | State::Draining => self.start(cause, now),
        }
    }

    /// What must be there before an instance can be spawned, and is not; `None`: everything is there.
    pub fn set_blocked(&mut self, blocked: Option<Text>, now: Instant) {
        let has_waited = self.is_waiting_for_another();
        self.blocked = blocked;
        if has_waited && self.blocked.is_none() {
            self.spawn("what it waited for is there", now);
        }
    }

    /// What the task serves without, and therefore not well; `None`: it lacks nothing.
    pub fn set_lacking(&mut self, lacking: Option<Text>, now: Instant) {
        if self.lacking != lacking {
            self.lacking = lacking;
            self.weigh(now);
        }
    }

    /// The instance says that it serves.
    pub fn handle_ready(&mut self, instance: InstanceId, now: Instant) {
        if self.instance != Some(instance) {
            return;
        }
        self.trouble = None;
        match self.state {
            State::Starting => {
                self.enter(State::Ready, Some(now + FORGIVEN_AFTER), "it says that it serves", now);
                self.ready_since = Some(now);
                self.weigh(now);
            }
            State::Degraded => self.weigh(now),
            State::Stopped | State::Ready | State::Draining | State::Backoff | State::Held => {}
        }
    }

    /// The instance says that it serves badly, or well again. It is not restarted for that.
    pub fn handle_degraded(&mut self, instance: InstanceId, why: Option<Text>, now: Instant) {
        if self.instance == Some(instance) {
            self.trouble = why;
            self.weigh(now);
        }
    }

    /// The instance has ended; `error` says how, if it was not asked to.
    pub fn handle_ended(&mut self, instance: InstanceId, error: &Text, now: Instant, rng: &mut impl Rng) {
        if self.instance != Some(instance) {
            return;
        }
        self.instance = None;
        if self.state == State::Draining {
            self.settle("it has ended", now);
        } else {
            self.fault(error, now, rng);
        }
    }

    /// A loop of the instance stands still, as `error` says. Only one that serves can hang: starting and ending have
    /// deadlines of their own.
    pub fn handle_hung(&mut self, instance: InstanceId, error: &Text, now: Instant, rng: &mut impl Rng) {
        if self.instance != Some(instance) || !matches!(self.state, State::Ready | State::Degraded) {
            return;
        }
        self.abandon();
        self.hangs += 1;
        self.hangs_in_a_row += 1;
        if self.hangs_in_a_row >= MAX_HANGS {
            self.commands.push_back(Command::Escalate);
        }
        self.fault(error, now, rng);
    }

    /// The next change that has come about.
    pub fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// The next thing to do.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When [`Policy::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, rng: &mut impl Rng) {
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        self.deadline = None;
        match self.state {
            State::Starting => {
                self.abandon();
                self.fault(&text!("did not become ready within {} s", self.limits.start.as_secs()), now, rng);
            }
            State::Ready => self.forgive(),
            State::Draining => {
                self.abandon();
                let error = text!("did not end within {} s and was cut off", self.limits.drain.as_secs());
                self.settle(error.english(), now);
                self.last_error = Some(error);
            }
            State::Backoff | State::Held => {
                self.on_probation = self.state == State::Held;
                self.restarts += 1;
                let cause = if self.on_probation { "tried again after being held" } else { "the pause is over" };
                self.spawn(cause, now);
            }
            State::Stopped | State::Degraded => {}
        }
    }

    fn enter(&mut self, state: State, deadline: Option<Instant>, cause: &str, now: Instant) {
        if state != State::Ready && state != State::Degraded {
            self.ready_since = None;
            self.trouble = None;
        }
        self.changes.push_back(Change { from: self.state, to: state, cause: cause.to_owned() });
        self.state = state;
        self.since = now;
        self.deadline = deadline;
    }

    fn spawn(&mut self, cause: &str, now: Instant) {
        if let Some(why) = self.blocked.clone() {
            self.enter(State::Backoff, None, why.english(), now);
            self.last_error = Some(why);
            return;
        }
        self.instances += 1;
        self.instance = Some(self.instances);
        self.commands.push_back(Command::Spawn(self.instances));
        self.enter(State::Starting, Some(now + self.limits.start), cause, now);
    }

    /// It has no pause that would end: it waits until another task is there.
    fn is_waiting_for_another(&self) -> bool {
        self.state == State::Backoff && self.deadline.is_none()
    }

    fn drain(&mut self, cause: &str, now: Instant) {
        if let Some(instance) = self.instance {
            self.commands.push_back(Command::Cancel(instance));
        }
        self.enter(State::Draining, Some(now + self.limits.drain), cause, now);
    }

    fn abandon(&mut self) {
        if let Some(instance) = self.instance.take() {
            self.commands.push_back(Command::Abandon(instance));
        }
    }

    /// Whether an instance that serves does so well.
    fn weigh(&mut self, now: Instant) {
        let why = self.trouble.clone().or_else(|| self.lacking.clone());
        match (self.state, why) {
            (State::Ready, Some(why)) => {
                self.enter(State::Degraded, None, why.english(), now);
                self.last_error = Some(why);
            }
            (State::Degraded, Some(why)) => self.last_error = Some(why),
            (State::Degraded, None) => {
                self.enter(State::Ready, Some(now + FORGIVEN_AFTER), "all is well again", now);
            }
            (State::Stopped | State::Starting | State::Draining | State::Backoff | State::Held, _)
            | (State::Ready, None) => {}
        }
    }

    /// What follows the end of an instance that was asked to end.
    fn settle(&mut self, cause: &str, now: Instant) {
        if self.is_wanted {
            self.spawn(cause, now);
        } else {
            self.enter(State::Stopped, None, cause, now);
        }
    }

    fn fault(&mut self, error: &Text, now: Instant, rng: &mut impl Rng) {
        self.last_error = Some(error.clone());
        if self.limits.pace == Pace::Endurance {
            if self.ready_since.is_some() {
                self.restarts += 1;
                return self.spawn(error.english(), now);
            }
            // One that cannot even start would take the whole processor.
            let pause = FIRST_BACKOFF.mul_f64(rng.random_range(0.0..=1.0));
            return self.enter(State::Backoff, Some(now + pause), error.english(), now);
        }
        self.faults.push_back(now);
        while self.faults.front().is_some_and(|at| now.saturating_duration_since(*at) > INTENSITY_WINDOW) {
            self.faults.pop_front();
        }
        if self.on_probation || self.faults.len() > MAX_FAULTS {
            self.faults.clear();
            return self.enter(State::Held, Some(now + HELD_FOR), error.english(), now);
        }
        let longest = FIRST_BACKOFF.saturating_mul(1 << self.in_a_row.saturating_sub(1).min(16)).min(LAST_BACKOFF);
        self.in_a_row += 1;
        if self.in_a_row == 1 {
            self.restarts += 1;
            return self.spawn(error.english(), now);
        }
        // Full jitter: tasks that fail for the same reason do not come back at the same moment.
        let pause = longest.mul_f64(rng.random_range(0.0..=1.0));
        self.enter(State::Backoff, Some(now + pause), error.english(), now);
    }

    fn forgive(&mut self) {
        self.faults.clear();
        self.in_a_row = 0;
        self.hangs_in_a_row = 0;
        self.on_probation = false;
    }
}
