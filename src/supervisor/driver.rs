//! Carries out what the policies decide: a thread for each instance, panics caught, hangs cut off, the board published.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::board::{Board, LastPanic, State, TaskView};
use super::capsule::Capsule;
use super::events::{Event as Entry, EventKind, Journal};
use super::fleet::Fleet;
pub use super::fleet::Order;
use super::instance::{Instance, Pulse};
use super::policy::{Change, Command, InstanceId, Pace};
use super::service::{Context, Report, Service, TaskName};
use super::watchdog::{self, Fixture, Hang, Hung, Watched};
use crate::error::{Failure, Result};
use crate::sys::tail::Tail;
use crate::sys::{clock, memory, threads, turns};
use crate::text;
use crate::words::Text;

/// What reaches the supervisor's thread.
enum Event {
    Report { task: usize, instance: InstanceId, report: Report },
    Panicked { task: usize, capsule: Box<Capsule> },
    Ended { task: usize, instance: InstanceId, error: Text },
    Stands(Box<Hang>),
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
        let gone = || Failure::operator(text!("the service is stopping"));
        self.events.send(Event::Order { task, order, reply }).map_err(|_| gone())?;
        answer.recv_timeout(patience).unwrap_or_else(|waited| match waited {
            RecvTimeoutError::Disconnected => Err(gone()),
            RecvTimeoutError::Timeout => {
                let failure = text!("{} has not come to it within {} s", task, patience.as_secs());
                Err(Failure::operator(failure).hinted(text!("look at it by `rtcctl status`")))
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
    tail: Arc<Tail>,
    /// The instance that runs, and how it is asked to end.
    running: Option<(Arc<Instance>, CancellationToken)>,
    /// Instances that were cut off and have not ended since.
    abandoned: BTreeMap<InstanceId, Arc<Instance>>,
    last_error_at: Option<SystemTime>,
    panics: u64,
    last_panic: Option<LastPanic>,
}

struct Waiter {
    task: usize,
    order: Order,
    reply: Sender<Result<()>>,
}

/// Called once in each turn of the supervisor's loop, at least once a second: whoever watches the process is told by
/// it that the loop turns.
pub type Beat = Box<dyn FnMut() + Send>;

/// Called when the process has to be started anew, with the reason.
pub type Escalate = Box<dyn Fn(&str) + Send>;

/// Starts, watches and stops tasks.
pub struct Supervisor {
    tasks: Vec<Task>,
    fleet: Fleet,
    board: Board,
    journal: Journal,
    beat: Beat,
    escalate: Escalate,
    pulse: Pulse,
    watched: Watched,
    watchdog: Option<JoinHandle<()>>,
    events: Receiver<Event>,
    sender: Sender<Event>,
    waiters: Vec<Waiter>,
    settled: Vec<Sender<()>>,
}

impl Supervisor {
    /// All of `services` start in their order, each once the one before is ready or has failed.
    #[must_use]
    pub fn new(services: Vec<Arc<dyn Service>>, board: Board) -> Self {
        let (sender, events) = mpsc::channel();
        let pulse = Pulse::new("supervisor");
        #[cfg(feature = "faults")]
        pulse.set_place(Some(super::faults::Place::Supervisor));
        let mut supervisor = Self {
            tasks: Vec::new(),
            fleet: Fleet::new(&[], Pace::Normal, clock::now().mono),
            board,
            journal: Journal::default(),
            beat: Box::new(|| ()),
            escalate: Box::new(|_| ()),
            pulse,
            watched: Watched::default(),
            watchdog: None,
            events,
            sender,
            waiters: Vec::new(),
            settled: Vec::new(),
        };
        supervisor.tasks = services.into_iter().map(Task::new).collect();
        supervisor.with_pace(Pace::Normal)
    }

    /// Restarts what failed at this pace.
    #[must_use]
    pub fn with_pace(mut self, pace: Pace) -> Self {
        let names: Vec<TaskName> = self.tasks.iter().map(|task| task.service.name()).collect();
        self.fleet = Fleet::new(&names, pace, clock::now().mono);
        self
    }

    /// Takes down there what happens.
    #[must_use]
    pub fn with_journal(mut self, journal: Journal) -> Self {
        self.journal = journal;
        self
    }

    /// Calls `beat` once in each turn of the loop.
    #[must_use]
    pub fn with_beat(mut self, beat: Beat) -> Self {
        self.beat = beat;
        self
    }

    /// Calls `escalate` when a hang cannot be mended within the process.
    #[must_use]
    pub fn with_escalation(mut self, escalate: Escalate) -> Self {
        self.escalate = escalate;
        self
    }

    /// Watches the loops of something that is no task, too.
    #[must_use]
    pub fn watching(self, fixture: Fixture) -> Self {
        self.watched.add_fixture(fixture);
        self
    }

    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { events: self.sender.clone() }
    }

    /// Supervises until [`Handle::halt`], and returns when every task has ended or was cut off.
    pub fn run(mut self) {
        let ended = CancellationToken::new();
        let _guard = ended.clone().drop_guard();
        self.fleet.go_on(clock::now().mono);
        loop {
            self.keep_watchdog(&ended);
            self.obey();
            self.publish();
            self.answer();
            if self.fleet.has_halted() {
                return;
            }
            self.pulse.beat();
            (self.beat)();
            let now = clock::now().mono;
            let due = self.fleet.poll_timeout();
            // Not for long even where nothing is due: it is watched, too, and monotonic clocks stop while a machine is
            // suspended.
            let rest = turns::until_next(now);
            let sleep = due.map_or(rest, |at| at.saturating_duration_since(now)).min(rest);
            if let Ok(event) = self.events.recv_timeout(sleep) {
                self.handle_event(event);
            }
            self.fleet.handle_timeout(clock::now().mono, &mut rand::rng());
        }
    }

    /// There is always somebody who watches, even after a bug in the watching.
    fn keep_watchdog(&mut self, ended: &CancellationToken) {
        if self.watchdog.as_ref().is_some_and(|watchdog| !watchdog.is_finished()) {
            return;
        }
        let sender = self.sender.clone();
        let tell = move |hang| drop(sender.send(Event::Stands(Box::new(hang))));
        match watchdog::start(self.watched.clone(), ended.clone(), tell) {
            Ok(watchdog) => self.watchdog = Some(watchdog),
            Err(error) => debug!(%error, "no thread for the watchdog; tried again in the next turn"),
        }
    }

    fn handle_event(&mut self, event: Event) {
        let now = clock::now().mono;
        match event {
            Event::Report { task, instance, report } => self.fleet.tell(task, now, |policy| match report {
                Report::Ready => policy.handle_ready(instance, now),
                Report::Degraded(why) => policy.handle_degraded(instance, why, now),
            }),
            Event::Panicked { task, capsule } => self.handle_panic(task, *capsule),
            Event::Ended { task, instance, error } => self.handle_ended(task, instance, &error),
            Event::Stands(hang) => self.handle_hang(*hang),
            Event::Order { task, order, reply } => self.handle_order(task, order, reply),
            Event::Settled { reply } => self.settled.push(reply),
            Event::Halt => self.fleet.halt(now),
        }
    }

    fn handle_panic(&mut self, task: usize, capsule: Capsule) {
        let (now, name) = (clock::now(), self.tasks[task].service.name());
        let (message, place) = (capsule.message.clone(), capsule.place.clone());
        let cause = format!("the thread `{}` panicked: {message}", capsule.thread);
        self.journal.record(Entry::new(EventKind::Panic, Some(name), &cause, now).with_capsule(capsule));
        self.tasks[task].panics += 1;
        self.tasks[task].last_panic = Some(LastPanic { at: now.wall, message, place });
    }

    fn handle_ended(&mut self, index: usize, instance: InstanceId, error: &Text) {
        let now = clock::now().mono;
        self.watched.remove(index, instance);
        let task = &mut self.tasks[index];
        if task.abandoned.remove(&instance).is_some() {
            info!(task = %task.service.name(), "an instance that was cut off has ended after all");
        }
        if task.running.as_ref().is_some_and(|(running, _)| running.id == instance) {
            task.running = None;
        }
        memory::give_back();
        self.fleet.tell(index, now, |policy| policy.handle_ended(instance, error, now, &mut rand::rng()));
    }

    fn handle_hang(&mut self, hang: Hang) {
        let now = clock::now();
        match hang.of {
            Hung::Instance { task, id } => {
                let (name, before) = (self.tasks[task].service.name(), self.fleet.policy(task).hangs());
                let handle = |policy: &mut super::policy::Policy| {
                    policy.handle_hung(id, &hang.cause, now.mono, &mut rand::rng());
                };
                self.fleet.tell(task, now.mono, handle);
                // One that starts or ends has a deadline for that, and may take its time until then.
                if self.fleet.policy(task).hangs() > before {
                    error!(task = %name, cause = hang.cause.english(), threads = ?hang.capsule.threads, "an instance hangs");
                    let entry = Entry::new(EventKind::Hang, Some(name), hang.cause.english(), now);
                    self.journal.record(entry.with_capsule(hang.capsule));
                }
            }
            Hung::Fixture(name) => {
                error!(cause = hang.cause.english(), "{name} hangs");
                self.journal
                    .record(Entry::new(EventKind::Hang, None, hang.cause.english(), now).with_capsule(hang.capsule));
                self.start_anew(&format!("{name} hangs: {}", hang.cause.english()));
            }
        }
    }

    fn handle_order(&mut self, name: TaskName, order: Order, reply: Sender<Result<()>>) {
        let Some(task) = self.fleet.find(name) else {
            let _ = reply.send(Err(Failure::bug(text!("there is no task `{}`", name))));
            return;
        };
        if self.fleet.is_halting() {
            let _ = reply.send(Err(Failure::operator(text!("the service is stopping"))));
            return;
        }
        let now = clock::now();
        info!(task = %name, ?order, "ordered by the operator");
        let cause = format!("{} ordered by the operator", order.as_str());
        self.journal.record(Entry::new(EventKind::Order, Some(name), &cause, now));
        self.fleet.order(task, order, now.mono);
        self.waiters.push(Waiter { task, order, reply });
    }

    fn obey(&mut self) {
        while let Some((index, command)) = self.fleet.poll_command() {
            match command {
                Command::Spawn(instance) => self.spawn(index, instance),
                Command::Cancel(_) => {
                    if let Some((_, stopping)) = &self.tasks[index].running {
                        stopping.cancel();
                    }
                }
                Command::Abandon(_) => self.abandon(index),
                Command::Escalate => {
                    let name = self.tasks[index].service.name();
                    self.start_anew(&format!("{name} hangs again and again"));
                }
            }
        }
    }

    fn abandon(&mut self, index: usize) {
        let task = &mut self.tasks[index];
        let Some((instance, stopping)) = task.running.take() else { return };
        // First of all nothing more may reach it.
        task.service.fence();
        stopping.cancel();
        self.watched.remove(index, instance.id);
        for thread in instance.threads() {
            // A thread cannot be ended from outside. One that has ended by itself meanwhile is all the better.
            let _ = threads::lower_priority(thread);
        }
        warn!(task = %task.service.name(), "an instance does not end and was cut off");
        task.abandoned.insert(instance.id, instance);
    }

    fn start_anew(&mut self, cause: &str) {
        error!(cause, "the process has to be started anew");
        (self.escalate)(cause);
    }

    fn spawn(&mut self, index: usize, id: InstanceId) {
        let task = &mut self.tasks[index];
        let service = Arc::clone(&task.service);
        let name = service.name();
        let (reports, panics, ends) = (self.sender.clone(), self.sender.clone(), self.sender.clone());
        // Nobody listens any more once the supervisor has returned.
        let on_panic = move |capsule| drop(panics.send(Event::Panicked { task: index, capsule: Box::new(capsule) }));
        let report = move |report| drop(reports.send(Event::Report { task: index, instance: id, report }));
        let instance = Arc::new(Instance::new(name, id, Arc::clone(&task.tail), Box::new(on_panic)));
        let stopping = CancellationToken::new();
        task.running = Some((Arc::clone(&instance), stopping.clone()));
        self.watched.add(index, Arc::clone(&instance));
        let context = Context::of(instance, Arc::new(report), stopping);
        let run = move || {
            context.adopt_thread();
            let error = match catch_unwind(AssertUnwindSafe(|| service.run(context))) {
                Ok(Ok(())) => text!("ended without being asked to"),
                Ok(Err(failure)) => failure.told(),
                Err(panic) => text!("panicked: {}", panic_text(panic.as_ref())),
            };
            let _ = ends.send(Event::Ended { task: index, instance: id, error });
        };
        if let Err(error) = thread::Builder::new().name(name.to_string()).spawn(run) {
            let error = text!("cannot start a thread: {}", Text::of_error(&error));
            let _ = self.sender.send(Event::Ended { task: index, instance: id, error });
        }
    }

    fn publish(&mut self) {
        while let Some((index, change)) = self.fleet.poll_change() {
            let name = self.tasks[index].service.name();
            let now = clock::now();
            log(name, &change);
            if matches!(change.to, State::Held | State::Backoff | State::Degraded) {
                self.tasks[index].last_error_at = Some(now.wall);
            }
            self.journal.record(Entry::state(name, change.from, change.to, &change.cause, now));
        }
        let view = |(index, task): (usize, &Task)| {
            let policy = self.fleet.policy(index);
            TaskView {
                name: task.service.name(),
                state: policy.state(),
                since: policy.since(),
                ready_since: policy.ready_since(),
                restarts: policy.restarts(),
                hangs: policy.hangs(),
                panics: task.panics,
                abandoned: task.abandoned.len(),
                threads: task.running.as_ref().map(|(instance, _)| instance.threads()).unwrap_or_default(),
                last_error: policy.last_error().cloned(),
                last_error_at: task.last_error_at,
                last_panic: task.last_panic.clone(),
            }
        };
        self.board.publish(self.tasks.iter().enumerate().map(view).collect());
    }

    /// Answers those whose order is carried out.
    fn answer(&mut self) {
        let (tasks, fleet) = (&self.tasks, &self.fleet);
        self.waiters.retain(|waiter| {
            let policy = fleet.policy(waiter.task);
            let outcome = match (waiter.order, policy.state()) {
                (Order::Stop, State::Stopped) => Ok(()),
                (Order::Stop, _) => return true,
                (Order::Start | Order::Restart, State::Ready | State::Degraded) => Ok(()),
                (Order::Start | Order::Restart, State::Backoff | State::Held) => {
                    let name = tasks[waiter.task].service.name();
                    let failure = Failure::operator(text!("{} does not start", name));
                    Err(failure.because(policy.last_error().cloned().unwrap_or_else(|| text!("it says nothing"))))
                }
                (Order::Start | Order::Restart, State::Stopped | State::Starting | State::Draining) => return true,
            };
            // One that asked and did not wait has had its way all the same.
            let _ = waiter.reply.send(outcome);
            false
        });
        if fleet.is_settled() || fleet.is_halting() {
            for reply in self.settled.drain(..) {
                let _ = reply.send(());
            }
        }
    }
}

impl Task {
    fn new(service: Arc<dyn Service>) -> Self {
        let (tail, abandoned) = (Arc::default(), BTreeMap::new());
        Self { service, tail, running: None, abandoned, last_error_at: None, panics: 0, last_panic: None }
    }
}

fn log(task: TaskName, change: &Change) {
    let Change { from, to, cause } = change;
    match to {
        State::Held => error!(%task, cause, "held after too many faults; tried again every five minutes"),
        State::Backoff => warn!(%task, cause, "down; waiting before the next start"),
        State::Degraded => warn!(%task, cause, "degraded"),
        State::Starting if matches!(from, State::Starting | State::Ready | State::Degraded) => {
            warn!(%task, cause, "failed; starting again at once");
        }
        State::Stopped | State::Starting | State::Ready | State::Draining => info!(%task, cause, "{}", to.as_str()),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
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

    fn run(scripts: &[(TaskName, &[Line])]) -> (Handle, Board, Receiver<String>, JoinHandle<()>) {
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
    fn the_loop_beats_every_second_and_the_journal_has_each_change_with_its_cause() {
        let (log, _lines) = mpsc::channel();
        let script = Mutex::new(VecDeque::from([Line::Fail, Line::Serve]));
        let service = Arc::new(Scripted { name: TaskName::Certs, script, log });
        let (beats, beaten) = mpsc::channel();
        let journal = Journal::default();
        let supervisor = Supervisor::new(vec![service], Board::default())
            .with_journal(journal.clone())
            .with_beat(Box::new(move || beats.send(()).unwrap_or_default()));
        let handle = supervisor.handle();
        let thread = thread::spawn(move || supervisor.run());
        handle.wait_until_settled(PATIENCE);
        // What has led to it was beaten before.
        while beaten.try_recv().is_ok() {}
        for _ in 0..2 {
            beaten.recv_timeout(Duration::from_secs(2)).expect("nothing happens, and the loop turns all the same");
        }
        handle.order(TaskName::Certs, Order::Stop, PATIENCE).unwrap();
        handle.halt();
        thread.join().unwrap();
        let told = journal.recent().into_iter().map(|event| (event.to.unwrap_or_default(), event.cause));
        let told: Vec<(String, String)> = told.collect();
        let wanted = [
            ("starting", "the service starts"),
            ("starting", "a planted failure"),
            ("ready", "it says that it serves"),
            ("", "stop ordered by the operator"),
            ("draining", "stop ordered by the operator"),
            ("stopped", "it has ended"),
        ];
        assert_eq!(told, wanted.map(|(to, cause)| (to.to_owned(), cause.to_owned())));
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
