//! Decides what the guardian does: when the daemon is started, ended or killed, and when the guardian itself ends.
//!
//! Drive it like this: tell what happened (`handle_*`) or what is wanted (`start`, `stop`), drain
//! [`Core::poll_command`], sleep until [`Core::poll_timeout`], call [`Core::handle_turn`]. When to start again is the
//! business of the same policy that tasks live by. There is never more than one process: the next one is started once
//! the one before has ended, even if that one was killed.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use rand::Rng;

use super::notice::Words;
use crate::supervisor::board::State;
use crate::supervisor::policy::{self, Change, InstanceId, Limits, Pace, Policy};
use crate::sys::clock::Now;
use crate::sys::process::End;
use crate::words::Text;

/// How long a daemon may take until all its tasks are up or have failed; it gives up waiting for them before.
const STARTED_WITHIN: Duration = Duration::from_secs(90);
/// How long the daemon may be silent. Its supervisor's loop sends a heartbeat every two seconds.
pub(super) const HEARTBEAT_WITHIN: Duration = Duration::from_secs(10);
/// How long a daemon may take to take an order to stop.
const HEARD_WITHIN: Duration = Duration::from_secs(5);
/// How long a daemon may take to end once it has said that it will: its tasks and connections have deadlines below it.
const ENDED_WITHIN: Duration = Duration::from_secs(35);
/// How often the guardian looks at the clock while a daemon runs.
const TURNED_EVERY: Duration = Duration::from_secs(1);
/// A guardian that has not looked at the clock for so long was stopped or starved itself, and so, most likely, was the
/// daemon: what it did not say in that time means nothing.
const PAUSED_AFTER: Duration = Duration::from_secs(3);
/// Exit codes by which a daemon says that somebody has told it to end: 0, or 130 for one that was told twice.
const ORDERLY: [i32; 2] = [0, 130];

/// What the loop has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Spawn,
    /// Ask the daemon to end.
    Terminate,
    /// End it without a word, after writing down what its threads were at.
    Kill {
        why: String,
    },
    /// Close the held sockets: nobody is to wait for a service that does not come back.
    LetGo,
    /// The guardian was paused itself for so long.
    Paused(Duration),
    /// There is nothing left to do. With why, if the first start has failed.
    End {
        code: u8,
        failure: Option<String>,
    },
}

/// The daemon's process.
#[derive(Debug)]
struct Process {
    instance: InstanceId,
    /// When it was last heard of. It counts once it is ready.
    heard_at: Option<Instant>,
    /// When it was asked to end.
    asked_at: Option<Instant>,
    /// When it said that it ends.
    stopping_at: Option<Instant>,
    /// It said that another one is to follow.
    wants_next: bool,
    status: Option<String>,
    killed_because: Option<String>,
}

impl Process {
    fn new(instance: InstanceId) -> Self {
        Self {
            instance,
            heard_at: None,
            asked_at: None,
            stopping_at: None,
            wants_next: false,
            status: None,
            killed_because: None,
        }
    }

    /// When its patience is over, and what it has failed to do then.
    fn deadline(&self) -> Option<(Instant, String)> {
        let over = |since: Instant, patience: Duration, what: &str| {
            (since + patience, format!("{what} within {} s", patience.as_secs()))
        };
        if self.killed_because.is_some() {
            return None;
        }
        if let Some(since) = self.stopping_at {
            return Some(over(since, ENDED_WITHIN, "it said that it ends and did not"));
        }
        if let Some(since) = self.asked_at {
            return Some(over(since, HEARD_WITHIN, "it did not take the order to stop"));
        }
        Some(over(self.heard_at?, HEARTBEAT_WITHIN, "its supervisor's loop has not turned"))
    }
}

/// The guardian's mind.
#[derive(Debug)]
pub(super) struct Core {
    policy: Policy,
    process: Option<Process>,
    /// To be spawned once the process that was cut off has ended.
    next: Option<InstanceId>,
    /// Whether any process was ever ready. Until then a failure is that of a start, which somebody waits for.
    was_ready: bool,
    is_ending: bool,
    turned_at: Instant,
    deaths: u64,
    last_death: Option<(SystemTime, String)>,
    commands: VecDeque<Command>,
}

impl Core {
    pub(super) fn new(pace: Pace, now: Instant) -> Self {
        let limits = Limits { start: STARTED_WITHIN, drain: ENDED_WITHIN + HEARD_WITHIN, pace };
        Self {
            policy: Policy::new(limits, now),
            process: None,
            next: None,
            was_ready: false,
            is_ending: false,
            turned_at: now,
            deaths: 0,
            last_death: None,
            commands: VecDeque::new(),
        }
    }

    pub(super) fn state(&self) -> State {
        self.policy.state()
    }

    pub(super) fn restarts(&self) -> u64 {
        self.policy.restarts()
    }

    /// How often the daemon has ended without being asked to.
    pub(super) fn deaths(&self) -> u64 {
        self.deaths
    }

    pub(super) fn last_death(&self) -> Option<&(SystemTime, String)> {
        self.last_death.as_ref()
    }

    pub(super) fn is_ending(&self) -> bool {
        self.is_ending
    }

    /// When the daemon is started again, if it waits for that.
    pub(super) fn next_start_at(&self) -> Option<Instant> {
        matches!(self.state(), State::Backoff | State::Held).then(|| self.policy.poll_timeout()).flatten()
    }

    /// The daemon is wanted now; earlier faults are forgiven.
    pub(super) fn start(&mut self, now: Instant) {
        if !self.is_ending {
            self.policy.start("ordered", now);
            self.obey(now);
        }
    }

    /// Another daemon is wanted in the place of this one. That is no death, and the sockets stay held.
    pub(super) fn restart(&mut self, now: Instant) {
        if !self.is_ending {
            self.policy.restart("a restart was ordered", now);
            self.obey(now);
        }
    }

    /// A daemon that runs already has lost its guardian to this one.
    pub(super) fn adopt(&mut self, now: Instant) {
        self.policy.start("a daemon that has lost its guardian was taken over", now);
        if let Some(policy::Command::Spawn(instance)) = self.policy.poll_command() {
            self.process = Some(Process::new(instance));
        }
        // Whoever started it has heard of it.
        self.was_ready = true;
    }

    /// Both are to end. A second time, the daemon is told again, which it takes for impatience.
    pub(super) fn stop(&mut self, now: Instant) {
        if self.is_ending {
            self.commands.extend(self.process.as_ref().map(|_| Command::Terminate));
            return;
        }
        self.is_ending = true;
        self.commands.push_back(Command::LetGo);
        self.policy.stop("ordered", now);
        self.obey(now);
        self.end_if_done();
    }

    /// The daemon has said something.
    pub(super) fn handle_words(&mut self, words: &Words, now: Instant) {
        let Some(process) = &mut self.process else { return };
        if words.is_ready {
            self.was_ready = true;
            process.heard_at = Some(now);
            self.policy.handle_ready(process.instance, now);
        }
        if words.is_alive && process.heard_at.is_some() {
            process.heard_at = Some(now);
        }
        if words.is_stopping {
            process.stopping_at = process.stopping_at.or(Some(now));
        }
        process.wants_next |= words.wants_next;
        if words.status.is_some() {
            process.status.clone_from(&words.status);
        }
    }

    /// The daemon could not be heard until now, so that it was silent means nothing.
    pub(super) fn handle_deafness(&mut self, now: Instant) {
        if let Some(process) = &mut self.process {
            process.heard_at = process.heard_at.map(|_| now);
        }
    }

    /// The daemon's process has ended; `memory` says so if that was for lack of memory.
    pub(super) fn handle_ended(&mut self, end: &End, memory: Option<&str>, now: Now, rng: &mut impl Rng) {
        let Some(process) = self.process.take() else { return };
        let was_told = process.stopping_at.is_some() && process.killed_because.is_none() && !process.wants_next;
        let is_orderly = match end {
            End::Exited(code) => ORDERLY.contains(code),
            End::Unknown => true,
            End::Killed(_) => false,
        };
        if self.is_ending {
            self.policy.handle_ended(process.instance, &Text::default(), now.mono, rng);
            return self.end_if_done();
        }
        if self.state() == State::Draining {
            // It was asked to end for the next one, however it did.
            self.policy.handle_ended(process.instance, &Text::default(), now.mono, rng);
            return self.obey(now.mono);
        }
        if was_told && is_orderly {
            // Somebody has ended it by a signal, and means it.
            self.is_ending = true;
            return self.end_if_done();
        }
        let cause = cause(end, memory, &process);
        if !self.was_ready {
            self.is_ending = true;
            let code = match end {
                End::Exited(code) => u8::try_from(*code).ok().filter(|code| *code != 0),
                End::Killed(_) | End::Unknown => None,
            };
            return self.commands.push_back(Command::End { code: code.unwrap_or(1), failure: Some(cause) });
        }
        self.deaths += 1;
        self.last_death = Some((now.wall, cause.clone()));
        // One that was cut off is no news to the policy.
        self.policy.handle_ended(process.instance, &Text::verbatim(cause), now.mono, rng);
        if let Some(instance) = self.next.take() {
            self.spawn(instance);
        }
        self.obey(now.mono);
    }

    /// Looks at the clock.
    pub(super) fn handle_turn(&mut self, now: Instant, rng: &mut impl Rng) {
        let paused = now.saturating_duration_since(self.turned_at);
        self.turned_at = now;
        if let Some(process) = self.process.as_mut().filter(|_| paused > PAUSED_AFTER) {
            for since in [&mut process.heard_at, &mut process.asked_at, &mut process.stopping_at] {
                *since = since.map(|_| now);
            }
            self.commands.push_back(Command::Paused(paused));
        }
        if let Some(process) = &mut self.process
            && let Some((at, why)) = process.deadline()
            && at <= now
        {
            process.killed_because = Some(why.clone());
            self.commands.push_back(Command::Kill { why });
        }
        self.policy.handle_timeout(now, rng);
        self.obey(now);
        if self.is_ending {
            self.end_if_done();
        }
    }

    /// The next change of the daemon's state.
    pub(super) fn poll_change(&mut self) -> Option<Change> {
        self.policy.poll_change()
    }

    /// The next thing to do.
    pub(super) fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When [`Core::handle_turn`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let turn = self.process.as_ref().map(|_| self.turned_at + TURNED_EVERY);
        [turn, self.policy.poll_timeout()].into_iter().flatten().min()
    }

    fn obey(&mut self, now: Instant) {
        while let Some(command) = self.policy.poll_command() {
            match command {
                policy::Command::Spawn(instance) if self.process.is_some() => self.next = Some(instance),
                policy::Command::Spawn(instance) => self.spawn(instance),
                policy::Command::Cancel(_) => {
                    if let Some(process) = &mut self.process {
                        process.asked_at = Some(now);
                    }
                    self.commands.push_back(Command::Terminate);
                }
                // Only threads hang in the policy's sense; a process is killed.
                policy::Command::Escalate => {}
                policy::Command::Abandon(_) => {
                    if let Some(process) = self.process.as_mut().filter(|process| process.killed_because.is_none()) {
                        let why = self.policy.last_error().map_or("it takes too long", Text::english).to_owned();
                        process.killed_because = Some(why.clone());
                        self.commands.push_back(Command::Kill { why });
                    }
                }
            }
        }
    }

    fn spawn(&mut self, instance: InstanceId) {
        self.process = Some(Process::new(instance));
        self.commands.push_back(Command::Spawn);
    }

    fn end_if_done(&mut self) {
        if self.process.is_none() {
            self.next = None;
            self.commands.push_back(Command::End { code: 0, failure: None });
        }
    }
}

/// Why the daemon has ended, in words.
fn cause(end: &End, memory: Option<&str>, process: &Process) -> String {
    if let Some(why) = &process.killed_because {
        return format!("killed by its guardian: {why}");
    }
    let cause = match end {
        End::Exited(0) => "ended without being asked to".to_owned(),
        End::Exited(code) => format!("ended with exit code {code}"),
        End::Killed(signal) => format!("killed by {signal}"),
        End::Unknown => "ended, and its guardian is not its parent and cannot know how".to_owned(),
    };
    let could_be_memory = matches!(end, End::Unknown) || *end == End::Killed("SIGKILL".to_owned());
    let details = memory.filter(|_| could_be_memory).or(process.status.as_deref());
    details.map_or_else(|| cause.clone(), |details| format!("{cause}: {details}"))
}

#[cfg(test)]
mod tests;
