//! Decides when a task is started, restarted, given a rest, or stopped. One [`Policy`] a task.
//!
//! Drive it like this: tell what happened (`handle_*`) or what is wanted (`start`, `stop`, `restart`), drain
//! [`Policy::poll_command`], sleep until [`Policy::poll_timeout`], call [`Policy::handle_timeout`]. A task that is
//! wanted always has a running instance or a time at which the next one is spawned: it is never dead for good, and
//! never restarted in a storm. Threads and panics are the driver's.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::{Rng, RngExt as _};

use super::board::State;

/// How long an instance may take to become ready.
pub const START_DEADLINE: Duration = Duration::from_secs(20);
/// How long an instance may take to end once it was asked to.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(5);
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

/// What differs between the things that are kept alive by these rules.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long an instance may take to become ready.
    pub start: Duration,
    /// How long an instance may take to end once it was asked to.
    pub drain: Duration,
    /// Without the bound, which endurance tests lift, what was ready once is restarted at once, however often.
    pub is_bounded: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { start: START_DEADLINE, drain: DRAIN_DEADLINE, is_bounded: true }
    }
}

/// Tells one instance of a task from the next.
pub type InstanceId = u64;

/// What the driver has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Spawn(InstanceId),
    /// Ask it to end.
    Cancel(InstanceId),
    /// It does not end: cut it off, and let it be.
    Abandon(InstanceId),
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
    last_error: Option<String>,
    /// When the task failed, within the window.
    faults: VecDeque<Instant>,
    /// Faults in a row, without being ready for long in between.
    in_a_row: u32,
    /// It was held and is tried again: one more fault holds it anew.
    on_probation: bool,
    deadline: Option<Instant>,
    commands: VecDeque<Command>,
}

impl Policy {
    /// A stopped task.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self::with_limits(Limits::default(), now)
    }

    /// As [`Policy::new`], with deadlines of its own.
    #[must_use]
    pub fn with_limits(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            state: State::Stopped,
            since: now,
            is_wanted: false,
            instance: None,
            instances: 0,
            ready_since: None,
            restarts: 0,
            last_error: None,
            faults: VecDeque::new(),
            in_a_row: 0,
            on_probation: false,
            deadline: None,
            commands: VecDeque::new(),
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

    #[must_use]
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// The operator wants it to run; earlier faults are forgiven.
    pub fn start(&mut self, now: Instant) {
        self.is_wanted = true;
        self.forgive();
        match self.state {
            State::Stopped | State::Backoff | State::Held => self.spawn(now),
            // The next instance follows the one that ends.
            State::Draining | State::Starting | State::Ready | State::Degraded => {}
        }
    }

    /// The operator wants it to end.
    pub fn stop(&mut self, now: Instant) {
        self.is_wanted = false;
        match self.state {
            State::Starting | State::Ready | State::Degraded => self.drain(now),
            State::Backoff | State::Held => self.enter(State::Stopped, None, now),
            State::Stopped | State::Draining => {}
        }
    }

    /// The operator wants another instance. This is no fault and does not count as one.
    pub fn restart(&mut self, now: Instant) {
        self.is_wanted = true;
        match self.state {
            State::Starting | State::Ready | State::Degraded => {
                self.forgive();
                self.drain(now);
            }
            State::Stopped | State::Backoff | State::Held | State::Draining => self.start(now),
        }
    }

    /// The instance says that it serves.
    pub fn handle_ready(&mut self, instance: InstanceId, now: Instant) {
        if self.instance == Some(instance) && matches!(self.state, State::Starting | State::Degraded) {
            self.ready_since = self.ready_since.or(Some(now));
            self.enter(State::Ready, Some(now + FORGIVEN_AFTER), now);
        }
    }

    /// The instance says that it serves badly, or well again. It is not restarted for that.
    pub fn handle_degraded(&mut self, instance: InstanceId, why: Option<String>, now: Instant) {
        if self.instance != Some(instance) {
            return;
        }
        match (self.state, why) {
            (State::Ready | State::Degraded, Some(why)) => {
                self.last_error = Some(why);
                if self.state == State::Ready {
                    self.enter(State::Degraded, None, now);
                }
            }
            (State::Degraded, None) => self.handle_ready(instance, now),
            (State::Stopped | State::Starting | State::Ready | State::Draining | State::Backoff | State::Held, _) => {}
        }
    }

    /// The instance has ended; `error` says how, if it was not asked to.
    pub fn handle_ended(&mut self, instance: InstanceId, error: &str, now: Instant, rng: &mut impl Rng) {
        if self.instance != Some(instance) {
            return;
        }
        self.instance = None;
        if self.state == State::Draining {
            self.settle(now);
        } else {
            self.fault(error, now, rng);
        }
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
                self.fault(&format!("did not become ready within {} s", self.limits.start.as_secs()), now, rng);
            }
            State::Ready => self.forgive(),
            State::Draining => {
                self.abandon();
                let span = self.limits.drain.as_secs();
                self.last_error = Some(format!("did not end within {span} s and was cut off"));
                self.settle(now);
            }
            State::Backoff | State::Held => {
                self.on_probation = self.state == State::Held;
                // Without a bound it was counted when it failed.
                self.restarts += u64::from(self.limits.is_bounded);
                self.spawn(now);
            }
            State::Stopped | State::Degraded => {}
        }
    }

    fn enter(&mut self, state: State, deadline: Option<Instant>, now: Instant) {
        if state != State::Ready && state != State::Degraded {
            self.ready_since = None;
        }
        self.state = state;
        self.since = now;
        self.deadline = deadline;
    }

    fn spawn(&mut self, now: Instant) {
        self.instances += 1;
        self.instance = Some(self.instances);
        self.commands.push_back(Command::Spawn(self.instances));
        self.enter(State::Starting, Some(now + self.limits.start), now);
    }

    fn drain(&mut self, now: Instant) {
        if let Some(instance) = self.instance {
            self.commands.push_back(Command::Cancel(instance));
        }
        self.enter(State::Draining, Some(now + self.limits.drain), now);
    }

    fn abandon(&mut self) {
        if let Some(instance) = self.instance.take() {
            self.commands.push_back(Command::Abandon(instance));
        }
    }

    /// What follows the end of an instance that was asked to end.
    fn settle(&mut self, now: Instant) {
        if self.is_wanted {
            self.spawn(now);
        } else {
            self.enter(State::Stopped, None, now);
        }
    }

    fn fault(&mut self, error: &str, now: Instant, rng: &mut impl Rng) {
        self.last_error = Some(error.to_owned());
        if !self.limits.is_bounded {
            self.restarts += 1;
            if self.ready_since.is_some() {
                return self.spawn(now);
            }
            // One that cannot even start would take the whole processor.
            let pause = FIRST_BACKOFF.mul_f64(rng.random_range(0.0..=1.0));
            return self.enter(State::Backoff, Some(now + pause), now);
        }
        self.faults.push_back(now);
        while self.faults.front().is_some_and(|at| now.saturating_duration_since(*at) > INTENSITY_WINDOW) {
            self.faults.pop_front();
        }
        if self.on_probation || self.faults.len() > MAX_FAULTS {
            self.faults.clear();
            return self.enter(State::Held, Some(now + HELD_FOR), now);
        }
        let longest = FIRST_BACKOFF.saturating_mul(1 << self.in_a_row.saturating_sub(1).min(16)).min(LAST_BACKOFF);
        self.in_a_row += 1;
        if self.in_a_row == 1 {
            self.restarts += 1;
            return self.spawn(now);
        }
        // Full jitter: tasks that fail for the same reason do not come back at the same moment.
        let pause = longest.mul_f64(rng.random_range(0.0..=1.0));
        self.enter(State::Backoff, Some(now + pause), now);
    }

    fn forgive(&mut self) {
        self.faults.clear();
        self.in_a_row = 0;
        self.on_probation = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;
    use crate::sys::clock;

    /// A task whose driver does at once what it is told.
    struct Sim {
        policy: Policy,
        rng: StdRng,
        now: Instant,
        /// The instances that run, and those that were asked to end.
        running: Vec<InstanceId>,
        spawned: u64,
    }

    impl Sim {
        fn new() -> Self {
            let now = clock::now().mono;
            Self { policy: Policy::new(now), rng: StdRng::seed_from_u64(7), now, running: Vec::new(), spawned: 0 }
        }

        fn started() -> Self {
            let mut sim = Self::new();
            sim.policy.start(sim.now);
            sim.obey();
            sim
        }

        fn ready() -> Self {
            let mut sim = Self::started();
            sim.become_ready();
            sim
        }

        fn obey(&mut self) -> Vec<Command> {
            let mut commands = Vec::new();
            while let Some(command) = self.policy.poll_command() {
                commands.push(command);
                match command {
                    Command::Spawn(id) => {
                        self.spawned += 1;
                        self.running.push(id);
                    }
                    Command::Cancel(_) => {}
                    Command::Abandon(id) => self.running.retain(|other| *other != id),
                }
            }
            commands
        }

        fn become_ready(&mut self) {
            let id = *self.running.last().unwrap();
            self.policy.handle_ready(id, self.now);
            assert_eq!(self.policy.state(), State::Ready);
        }

        fn fail(&mut self) -> Vec<Command> {
            let id = self.running.pop().unwrap();
            self.policy.handle_ended(id, "it broke", self.now, &mut self.rng);
            self.obey()
        }

        fn advance(&mut self, span: Duration) -> Vec<Command> {
            self.now += span;
            self.policy.handle_timeout(self.now, &mut self.rng);
            self.obey()
        }

        /// Jumps to the next deadline.
        fn jump(&mut self) -> Vec<Command> {
            let due = self.policy.poll_timeout().unwrap();
            self.advance(due.saturating_duration_since(self.now))
        }
    }

    #[test]
    fn the_first_restart_is_at_once_and_the_next_ones_wait() {
        let mut sim = Sim::ready();
        assert_eq!(sim.fail(), [Command::Spawn(2)]);
        assert_eq!(sim.policy.state(), State::Starting);
        assert_eq!(sim.policy.restarts(), 1);
        assert_eq!(sim.policy.last_error(), Some("it broke"));
        sim.become_ready();
        assert_eq!(sim.fail(), []);
        assert_eq!(sim.policy.state(), State::Backoff);
        assert!(sim.policy.poll_timeout().unwrap() <= sim.now + FIRST_BACKOFF);
        assert_eq!(sim.jump(), [Command::Spawn(3)]);
    }

    #[test]
    fn pauses_grow_to_a_minute_and_no_further() {
        let mut longest = Duration::ZERO;
        for seed in 0..50 {
            let mut sim = Sim { rng: StdRng::seed_from_u64(seed), ..Sim::ready() };
            for _ in 0..MAX_FAULTS {
                sim.fail();
                if sim.policy.state() == State::Backoff {
                    longest = longest.max(sim.policy.poll_timeout().unwrap() - sim.now);
                    sim.jump();
                }
            }
        }
        assert!(longest > Duration::from_secs(20) && longest <= LAST_BACKOFF, "{longest:?}");
    }

    #[test]
    fn being_ready_for_five_minutes_forgives_and_being_alive_does_not() {
        let mut sim = Sim::ready();
        sim.fail();
        sim.become_ready();
        sim.advance(FORGIVEN_AFTER);
        assert_eq!(sim.fail(), [Command::Spawn(3)], "the first fault again");
        sim.become_ready();
        sim.advance(FORGIVEN_AFTER - Duration::from_secs(1));
        assert_eq!(sim.fail(), [], "the second in a row");
    }

    #[test]
    fn too_many_faults_hold_the_task_and_it_is_tried_again_every_five_minutes() {
        let mut sim = Sim::ready();
        while sim.policy.state() != State::Held {
            sim.fail();
            if sim.policy.state() == State::Backoff {
                sim.jump();
            }
        }
        assert_eq!(sim.spawned, MAX_FAULTS as u64 + 1);
        assert_eq!(sim.advance(HELD_FOR - Duration::from_secs(1)), []);
        assert_eq!(sim.advance(Duration::from_secs(1)).len(), 1);
        sim.fail();
        assert_eq!(sim.policy.state(), State::Held, "one more fault holds it anew");
        sim.policy.start(sim.now);
        assert_eq!(sim.obey().len(), 1);
        assert_eq!(sim.fail().len(), 1, "an operator's start forgives");
    }

    #[test]
    fn without_the_bound_what_was_ready_is_restarted_at_once_however_often() {
        let mut sim = Sim::new();
        sim.policy = Policy::with_limits(Limits { is_bounded: false, ..Limits::default() }, sim.now);
        sim.policy.start(sim.now);
        sim.obey();
        for round in 1..200 {
            sim.become_ready();
            assert_eq!(sim.fail(), [Command::Spawn(round + 1)]);
            assert_eq!(sim.policy.restarts(), round);
        }
        assert_eq!(sim.fail(), [], "one that was never ready waits a moment");
        assert!(sim.policy.poll_timeout().unwrap() <= sim.now + FIRST_BACKOFF);
        assert_eq!(sim.jump(), [Command::Spawn(201)]);
        assert_eq!(sim.policy.restarts(), 200);
    }

    #[test]
    fn a_degraded_task_is_not_restarted() {
        let mut sim = Sim::ready();
        sim.policy.handle_degraded(1, Some("slow".to_owned()), sim.now);
        assert_eq!((sim.policy.state(), sim.policy.last_error()), (State::Degraded, Some("slow")));
        assert_eq!(sim.advance(Duration::from_secs(3600)), []);
        sim.policy.handle_degraded(1, None, sim.now);
        assert_eq!(sim.policy.state(), State::Ready);
        assert_eq!(sim.spawned, 1);
    }

    #[test]
    fn an_instance_that_never_says_ready_is_cut_off_and_replaced() {
        let mut sim = Sim::started();
        assert_eq!(sim.advance(START_DEADLINE), [Command::Abandon(1), Command::Spawn(2)]);
        sim.policy.handle_ready(1, sim.now);
        assert_eq!(sim.policy.state(), State::Starting, "what was cut off has no say");
    }

    #[test]
    fn a_stop_drains_and_a_hanging_instance_is_cut_off() {
        let mut sim = Sim::ready();
        sim.policy.stop(sim.now);
        assert_eq!(sim.obey(), [Command::Cancel(1)]);
        assert_eq!(sim.policy.state(), State::Draining);
        assert_eq!(sim.advance(DRAIN_DEADLINE), [Command::Abandon(1)]);
        assert_eq!(sim.policy.state(), State::Stopped);
        assert_eq!(sim.policy.poll_timeout(), None);
    }

    #[test]
    fn an_operators_restart_is_no_fault() {
        let mut sim = Sim::ready();
        for round in 1..40 {
            sim.policy.restart(sim.now);
            assert_eq!(sim.obey(), [Command::Cancel(round)]);
            assert_eq!(sim.fail(), [Command::Spawn(round + 1)]);
            sim.become_ready();
        }
        assert_eq!(sim.policy.restarts(), 0);
    }

    #[test]
    fn a_stop_during_a_pause_is_final_until_somebody_starts_it() {
        let mut sim = Sim::ready();
        sim.fail();
        sim.fail();
        assert_eq!(sim.policy.state(), State::Backoff);
        sim.policy.stop(sim.now);
        assert_eq!(sim.advance(Duration::from_secs(3600)), []);
        assert_eq!(sim.policy.state(), State::Stopped);
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Ready,
        Degraded(bool),
        Fail,
        Start,
        Stop,
        Restart,
        Jump,
        Advance(u16),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            1 => Just(Step::Ready),
            1 => any::<bool>().prop_map(Step::Degraded),
            3 => Just(Step::Fail),
            1 => Just(Step::Start),
            1 => Just(Step::Stop),
            1 => Just(Step::Restart),
            3 => Just(Step::Jump),
            1 => any::<u16>().prop_map(Step::Advance),
        ];
        proptest::collection::vec(step, 1..120)
    }

    proptest! {
        #[test]
        fn a_wanted_task_is_never_dead_for_good_and_never_runs_twice(steps in steps(), seed in any::<u64>()) {
            let mut sim = Sim { rng: StdRng::seed_from_u64(seed), ..Sim::new() };
            let mut spawned_at = VecDeque::new();
            for step in steps {
                let (before, operator) = (sim.spawned, matches!(step, Step::Start | Step::Restart));
                match step {
                    Step::Ready => if let Some(id) = sim.running.last() { sim.policy.handle_ready(*id, sim.now) },
                    Step::Degraded(is_bad) => if let Some(id) = sim.running.last() {
                        sim.policy.handle_degraded(*id, is_bad.then(|| "bad".to_owned()), sim.now);
                    },
                    Step::Fail => if !sim.running.is_empty() { sim.fail(); },
                    Step::Start => sim.policy.start(sim.now),
                    Step::Stop => sim.policy.stop(sim.now),
                    Step::Restart => sim.policy.restart(sim.now),
                    Step::Jump => if sim.policy.poll_timeout().is_some() { sim.jump(); },
                    Step::Advance(seconds) => { sim.advance(Duration::from_secs(seconds.into())); },
                }
                sim.obey();
                prop_assert!(sim.running.len() <= 1, "two instances");
                if operator {
                    spawned_at.clear();
                } else if sim.spawned > before {
                    spawned_at.push_back(sim.now);
                    spawned_at.retain(|at| sim.now - *at <= Duration::from_secs(60));
                    prop_assert!(spawned_at.len() <= 2 * MAX_FAULTS + 2, "a storm");
                }
                if sim.policy.is_wanted {
                    let has_a_future = !sim.running.is_empty() || sim.policy.poll_timeout().is_some();
                    prop_assert!(has_a_future, "dead for good in {:?}", sim.policy.state());
                } else {
                    prop_assert!(matches!(sim.policy.state(), State::Stopped | State::Draining));
                }
            }
        }
    }
}
