//! Carries out what the policies decide: a thread for each instance, panics caught, the board published.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::board::{Board, State, TaskView};
use super::policy::{Command, InstanceId, Policy};
use super::service::{Context, Report, Service, TaskName};
use crate::error::{Failure, Result};
use crate::sys::clock;

/// The longest sleep between two looks at the clock: monotonic clocks stop while a machine is suspended, and whoever
/// waits for the loop's turns should not wait for long.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// What an operator orders for one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Start,
    Stop,
    Restart,
}

/// What reaches the supervisor's thread.
enum Event {
    Report { task: usize, instance: InstanceId, report: Report },
    Ended { task: usize, instance: InstanceId, error: String },
    Order { task: TaskName, order: Order, reply: Sender<Result<()>> },
    Settled { reply: Sender<()> },
    Halt,
}

/// Gives orders to a running supervisor. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    events: Sender<Event>,
}

impl Handle {
    /// Gives an order and waits until it is carried out: until the task serves, or has ended.
    ///
    /// # Errors
    /// If the task failed instead, or `patience` is over.
    pub fn order(&self, task: TaskName, order: Order, patience: Duration) -> Result<()> {
        let (reply, answer) = mpsc::channel();
        let gone = || Failure::operator("the service is stopping");
        self.events.send(Event::Order { task, order, reply }).map_err(|_| gone())?;
        answer.recv_timeout(patience).unwrap_or_else(|waited| match waited {
            RecvTimeoutError::Disconnected => Err(gone()),
            RecvTimeoutError::Timeout => {
                let failure = format!("{task} has not come to it within {} s", patience.as_secs());
                Err(Failure::operator(failure).hinted("look at it by `rtcctl status`"))
            }
        })
    }

    /// Waits until every task has been started and is ready, or has failed once.
    pub fn wait_until_settled(&self, patience: Duration) {
        let (reply, answer) = mpsc::channel();
        if self.events.send(Event::Settled { reply }).is_ok() {
            // Whatever comes of it is on the board.
            let _ = answer.recv_timeout(patience);
        }
    }

    /// Stops all tasks in reverse order; [`Supervisor::run`] returns then.
    pub fn halt(&self) {
        // A supervisor that is gone has halted.
        let _ = self.events.send(Event::Halt);
    }
}

struct Task {
    service: Arc<dyn Service>,
    policy: Policy,
    stopping: Option<CancellationToken>,
    last_error_at: Option<SystemTime>,
    published: State,
}

struct Waiter {
    task: usize,
    order: Order,
    reply: Sender<Result<()>>,
}

/// Starts, watches and stops tasks.
pub struct Supervisor {
    tasks: Vec<Task>,
    board: Board,
    events: Receiver<Event>,
    sender: Sender<Event>,
    /// Tasks that have not been started yet, in order.
    to_start: VecDeque<usize>,
    waiters: Vec<Waiter>,
    settled: Vec<Sender<()>>,
    is_halting: bool,
    /// Called whenever the loop turns.
    on_turn: Box<dyn FnMut(Instant) + Send>,
}

impl Supervisor {
    /// All of `services` start in their order, each once the one before is ready or has failed.
    #[must_use]
    pub fn new(services: Vec<Arc<dyn Service>>, board: Board) -> Self {
        let (sender, events) = mpsc::channel();
        let now = clock::now().mono;
        let tasks: Vec<Task> = services
            .into_iter()
            .map(|service| Task {
                service,
                policy: Policy::new(now),
                stopping: None,
                last_error_at: None,
                published: State::Stopped,
            })
            .collect();
        let to_start = (0..tasks.len()).collect();
        let waiters = Vec::new();
        let on_turn = Box::new(|_| {});
        Self { tasks, board, events, sender, to_start, waiters, settled: Vec::new(), is_halting: false, on_turn }
    }

    /// Has `call` called whenever the loop turns, which is at least once a second. It must not block.
    #[must_use]
    pub fn on_turn(mut self, call: impl FnMut(Instant) + Send + 'static) -> Self {
        self.on_turn = Box::new(call);
        self
    }

    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { events: self.sender.clone() }
    }

    /// Supervises until [`Handle::halt`], and returns when every task has ended or was cut off.
    pub fn run(mut self) {
        loop {
            self.go_on();
            self.obey();
            self.publish();
            self.answer();
            if self.is_halting && self.tasks.iter().all(|task| task.policy.state() == State::Stopped) {
                return;
            }
            let now = clock::now().mono;
            (self.on_turn)(now);
            let due = self.tasks.iter().filter_map(|task| task.policy.poll_timeout()).min();
            let sleep = due.map_or(MAX_SLEEP, |at| at.saturating_duration_since(now)).min(MAX_SLEEP);
            if let Ok(event) = self.events.recv_timeout(sleep) {
                self.handle_event(event);
            }
            let now = clock::now().mono;
            for task in &mut self.tasks {
                task.policy.handle_timeout(now, &mut rand::rng());
            }
        }
    }

    /// The next step of a start or a stop of everything.
    fn go_on(&mut self) {
        let now = clock::now().mono;
        if self.is_halting {
            // In reverse, one after the other: nobody loses what it still needs.
            let last = self.tasks.iter_mut().rev().find(|task| task.policy.state() != State::Stopped);
            if let Some(task) = last
                && task.policy.state() != State::Draining
            {
                task.policy.stop(now);
                // One that was waiting has stopped with that, and the one before it is next.
                if task.policy.state() == State::Stopped {
                    self.go_on();
                }
            }
            return;
        }
        let is_starting = self.tasks.iter().any(|task| task.policy.state() == State::Starting);
        if !is_starting && let Some(next) = self.to_start.pop_front() {
            self.tasks[next].policy.start(now);
        }
    }

    fn handle_event(&mut self, event: Event) {
        let now = clock::now();
        match event {
            Event::Report { task, instance, report } => {
                let policy = &mut self.tasks[task].policy;
                match report {
                    Report::Ready => policy.handle_ready(instance, now.mono),
                    Report::Degraded(why) => policy.handle_degraded(instance, why, now.mono),
                }
            }
            Event::Ended { task, instance, error } => {
                self.tasks[task].policy.handle_ended(instance, &error, now.mono, &mut rand::rng());
            }
            Event::Order { task, order, reply } => {
                let Some(index) = self.tasks.iter().position(|other| other.service.name() == task) else {
                    let _ = reply.send(Err(Failure::bug(format!("there is no task `{task}`"))));
                    return;
                };
                if self.is_halting {
                    let _ = reply.send(Err(Failure::operator("the service is stopping")));
                    return;
                }
                self.to_start.retain(|waiting| *waiting != index);
                info!(%task, ?order, "ordered by the operator");
                let policy = &mut self.tasks[index].policy;
                match order {
                    Order::Start => policy.start(now.mono),
                    Order::Stop => policy.stop(now.mono),
                    Order::Restart => policy.restart(now.mono),
                }
                self.waiters.push(Waiter { task: index, order, reply });
            }
            Event::Settled { reply } => self.settled.push(reply),
            Event::Halt => {
                self.is_halting = true;
                self.to_start.clear();
            }
        }
    }

    fn obey(&mut self) {
        for index in 0..self.tasks.len() {
            while let Some(command) = self.tasks[index].policy.poll_command() {
                match command {
                    Command::Spawn(instance) => self.spawn(index, instance),
                    Command::Cancel(_) => {
                        if let Some(stopping) = &self.tasks[index].stopping {
                            stopping.cancel();
                        }
                    }
                    Command::Abandon(_) => {
                        let task = &mut self.tasks[index];
                        if let Some(stopping) = task.stopping.take() {
                            stopping.cancel();
                        }
                        warn!(task = %task.service.name(), "an instance hangs and was cut off");
                    }
                }
            }
        }
    }

    fn spawn(&mut self, index: usize, instance: InstanceId) {
        let task = &mut self.tasks[index];
        let stopping = CancellationToken::new();
        task.stopping = Some(stopping.clone());
        let service = Arc::clone(&task.service);
        let name = service.name();
        let (reports, ends) = (self.sender.clone(), self.sender.clone());
        let report = move |report| {
            // Nobody listens any more once the supervisor has returned.
            let _ = reports.send(Event::Report { task: index, instance, report });
        };
        let context = Context::new(Arc::new(report), Arc::new(AtomicU64::new(0)), stopping);
        let run = move || {
            let error = match catch_unwind(AssertUnwindSafe(|| service.run(context))) {
                Ok(Ok(())) => "ended without being asked to".to_owned(),
                Ok(Err(failure)) => failure.to_string(),
                Err(panic) => format!("panicked: {}", panic_text(panic.as_ref())),
            };
            let _ = ends.send(Event::Ended { task: index, instance, error });
        };
        if let Err(error) = thread::Builder::new().name(name.to_string()).spawn(run) {
            let error = format!("cannot start a thread: {error}");
            let _ = self.sender.send(Event::Ended { task: index, instance, error });
        }
    }

    fn publish(&mut self) {
        for task in &mut self.tasks {
            let (name, state) = (task.service.name(), task.policy.state());
            if state == task.published {
                continue;
            }
            let cause = task.policy.last_error().unwrap_or_default();
            match state {
                State::Held => {
                    error!(task = %name, cause, "held after too many faults; tried again every five minutes")
                }
                State::Backoff => warn!(task = %name, cause, "failed; waiting before the next start"),
                State::Degraded => warn!(task = %name, cause, "degraded"),
                State::Starting if task.policy.restarts() > 0 => info!(task = %name, cause, "starting again"),
                State::Stopped | State::Starting | State::Ready | State::Draining => info!(task = %name, ?state),
            }
            if matches!(state, State::Held | State::Backoff | State::Degraded) {
                task.last_error_at = Some(clock::now().wall);
            }
            task.published = state;
        }
        let view = |task: &Task| TaskView {
            name: task.service.name(),
            state: task.policy.state(),
            since: task.policy.since(),
            ready_since: task.policy.ready_since(),
            restarts: task.policy.restarts(),
            last_error: task.policy.last_error().map(str::to_owned),
            last_error_at: task.last_error_at,
        };
        self.board.publish(self.tasks.iter().map(view).collect());
    }

    /// Answers those whose order is carried out.
    fn answer(&mut self) {
        let tasks = &self.tasks;
        self.waiters.retain(|waiter| {
            let task = &tasks[waiter.task];
            let outcome = match (waiter.order, task.policy.state()) {
                (Order::Stop, State::Stopped) => Ok(()),
                (Order::Stop, _) => return true,
                (Order::Start | Order::Restart, State::Ready | State::Degraded) => Ok(()),
                (Order::Start | Order::Restart, State::Backoff | State::Held) => {
                    let failure = Failure::operator(format!("{} does not start", task.service.name()));
                    Err(failure.because(task.policy.last_error().unwrap_or("it says nothing")))
                }
                (Order::Start | Order::Restart, State::Stopped | State::Starting | State::Draining) => return true,
            };
            // One that asked and did not wait has had its way all the same.
            let _ = waiter.reply.send(outcome);
            false
        });
        let is_settled = self.to_start.is_empty() && tasks.iter().all(|task| task.policy.state() != State::Starting);
        if is_settled || self.is_halting {
            for reply in self.settled.drain(..) {
                let _ = reply.send(());
            }
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Does what its script says, one line for each instance; the last line holds for ever.
    struct Scripted {
        name: TaskName,
        script: Mutex<VecDeque<Line>>,
        log: Sender<String>,
    }

    #[derive(Debug, Clone, Copy)]
    enum Line {
        Panic,
        Fail,
        Serve,
    }

    impl Service for Scripted {
        fn name(&self) -> TaskName {
            self.name
        }

        fn run(&self, context: Context) -> Result<()> {
            let line = {
                let mut script = self.script.lock().unwrap();
                if script.len() > 1 { script.pop_front().unwrap() } else { script[0] }
            };
            let _ = self.log.send(format!("{} {line:?}", self.name));
            match line {
                Line::Panic => panic!("a planted panic"),
                Line::Fail => Err(Failure::operator("a planted failure")),
                Line::Serve => {
                    context.ready();
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    runtime.block_on(context.stopping().cancelled());
                    let _ = self.log.send(format!("{} ended", self.name));
                    Ok(())
                }
            }
        }
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    fn run(scripts: &[(TaskName, &[Line])]) -> (Handle, Board, Receiver<String>, thread::JoinHandle<()>) {
        let (log, lines) = mpsc::channel();
        let services = scripts.iter().map(|(name, script)| {
            let script = Mutex::new(script.iter().copied().collect());
            Arc::new(Scripted { name: *name, script, log: log.clone() }) as Arc<dyn Service>
        });
        let board = Board::default();
        let supervisor = Supervisor::new(services.collect(), board.clone());
        let handle = supervisor.handle();
        (handle, board, lines, thread::spawn(move || supervisor.run()))
    }

    #[test]
    fn tasks_start_in_order_and_stop_in_reverse() {
        let (handle, board, lines, thread) = run(&[(TaskName::Certs, &[Line::Serve]), (TaskName::Web, &[Line::Serve])]);
        handle.wait_until_settled(PATIENCE);
        assert_eq!(board.overall(), State::Ready);
        handle.halt();
        thread.join().unwrap();
        let lines: Vec<String> = lines.try_iter().collect();
        assert_eq!(lines, ["certs Serve", "web Serve", "web ended", "certs ended"]);
        assert!(board.tasks().iter().all(|task| task.state == State::Stopped));
    }

    #[test]
    fn a_panic_is_one_restarted_task_with_its_message_kept() {
        let script: &[Line] = &[Line::Panic, Line::Serve];
        let (handle, board, lines, thread) = run(&[(TaskName::Turn, script), (TaskName::Web, &[Line::Serve])]);
        handle.wait_until_settled(PATIENCE);
        assert_eq!(board.overall(), State::Ready);
        let turn = board.tasks()[0].clone();
        assert_eq!((turn.restarts, turn.last_error.as_deref()), (1, Some("panicked: a planted panic")));
        assert_eq!(board.tasks()[1].restarts, 0);
        handle.halt();
        thread.join().unwrap();
        assert_eq!(lines.try_iter().filter(|line| line.starts_with("turn ")).count(), 3);
    }

    #[test]
    fn a_task_that_keeps_failing_waits_while_the_others_serve() {
        let (handle, board, _lines, thread) = run(&[(TaskName::Turn, &[Line::Fail]), (TaskName::Web, &[Line::Serve])]);
        handle.wait_until_settled(PATIENCE);
        let states: Vec<State> = board.tasks().iter().map(|task| task.state).collect();
        assert_eq!(states[1], State::Ready);
        assert_ne!(states[0], State::Ready);
        let failure = handle.order(TaskName::Turn, Order::Restart, PATIENCE).unwrap_err();
        assert_eq!(failure.to_string(), "turn does not start: a planted failure");
        handle.order(TaskName::Turn, Order::Stop, PATIENCE).unwrap();
        handle.order(TaskName::Web, Order::Restart, PATIENCE).unwrap();
        assert_eq!(board.tasks()[1].restarts, 0, "an operator's restart does not count");
        handle.halt();
        thread.join().unwrap();
    }
}
