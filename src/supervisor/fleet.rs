//! Decides for all tasks together: in which order they start and stop, and what they need of each other.
//!
//! Driven like [`Policy`], of which it holds one a task. Tasks start one after the other, each once the one before is
//! ready or has failed, and stop in reverse. What a task provides stays there when it ends (a certificate is served
//! on), so a task is needed until it has been ready once, and its restarts restart no other.

use std::collections::VecDeque;
use std::time::Instant;

use rand::Rng;

use super::board::State;
use super::policy::{Change, Command, Limits, Pace, Policy};
use super::service::TaskName;
use crate::text;
use crate::words::Text;

/// How much a task needs another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// It is not started before.
    Hard,
    /// It serves without, but not well.
    Soft,
}

/// What a task needs of another: `what` it is, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Dependency {
    on: TaskName,
    need: Need,
    what: &'static str,
}

const CERTIFICATE: Dependency = Dependency { on: TaskName::Certs, need: Need::Hard, what: "a certificate" };

fn dependencies(task: TaskName) -> &'static [Dependency] {
    match task {
        TaskName::Certs => &[],
        // UDP and TCP are served without.
        TaskName::Turn => {
            const { &[Dependency { on: TaskName::Certs, need: Need::Soft, what: "a certificate, for TURN over TLS" }] }
        }
        // Nobody reaches these but by TLS.
        TaskName::Signaling | TaskName::Web => const { &[CERTIFICATE] },
    }
}

/// What an operator orders for one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Start,
    Stop,
    Restart,
}

impl Order {
    /// The word that an operator types.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }
}

#[derive(Debug)]
struct Member {
    name: TaskName,
    policy: Policy,
    has_served: bool,
}

/// The lives of all tasks.
#[derive(Debug)]
pub struct Fleet {
    members: Vec<Member>,
    /// Those that have not been started yet, in order.
    to_start: VecDeque<usize>,
    is_halting: bool,
}

impl Fleet {
    /// These tasks, to be started in this order.
    #[must_use]
    pub fn new(names: &[TaskName], pace: Pace, now: Instant) -> Self {
        let member = |name: &TaskName| Member {
            name: *name,
            policy: Policy::new(Limits::of_tasks(pace), now),
            has_served: false,
        };
        Self { members: names.iter().map(member).collect(), to_start: (0..names.len()).collect(), is_halting: false }
    }

    /// A task's life, to be looked at.
    #[must_use]
    pub fn policy(&self, task: usize) -> &Policy {
        &self.members[task].policy
    }

    /// A task's place among all.
    #[must_use]
    pub fn find(&self, name: TaskName) -> Option<usize> {
        self.members.iter().position(|member| member.name == name)
    }

    /// Whether every task has been started and is ready, or has failed.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.to_start.is_empty() && self.members.iter().all(|member| member.policy.state() != State::Starting)
    }

    #[must_use]
    pub fn is_halting(&self) -> bool {
        self.is_halting
    }

    /// Whether all has come to its end after [`Fleet::halt`].
    #[must_use]
    pub fn has_halted(&self) -> bool {
        self.is_halting && self.members.iter().all(|member| member.policy.state() == State::Stopped)
    }

    /// Begins, or goes on after something that [`Fleet::tell`] has told.
    pub fn go_on(&mut self, now: Instant) {
        if self.is_halting {
            self.stop_next(now);
        } else {
            self.look_at_needs(now);
            self.start_next(now);
        }
    }

    /// An operator orders something for one task.
    pub fn order(&mut self, task: usize, order: Order, now: Instant) {
        self.to_start.retain(|waiting| *waiting != task);
        let cause = format!("{} ordered by the operator", order.as_str());
        let policy = &mut self.members[task].policy;
        match order {
            Order::Start => policy.start(&cause, now),
            Order::Stop => policy.stop(&cause, now),
            Order::Restart => policy.restart(&cause, now),
        }
        self.go_on(now);
    }

    /// Something has happened to a task, which `tell` passes on to its policy.
    pub fn tell(&mut self, task: usize, now: Instant, tell: impl FnOnce(&mut Policy)) {
        tell(&mut self.members[task].policy);
        self.go_on(now);
    }

    /// Stops every task, in reverse order.
    pub fn halt(&mut self, now: Instant) {
        self.is_halting = true;
        self.to_start.clear();
        self.go_on(now);
    }

    /// The next change that has come about, and whose.
    pub fn poll_change(&mut self) -> Option<(usize, Change)> {
        self.members.iter_mut().enumerate().find_map(|(task, member)| Some((task, member.policy.poll_change()?)))
    }

    /// The next thing to do, and for which task.
    pub fn poll_command(&mut self) -> Option<(usize, Command)> {
        self.members.iter_mut().enumerate().find_map(|(task, member)| Some((task, member.policy.poll_command()?)))
    }

    /// When [`Fleet::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.members.iter().filter_map(|member| member.policy.poll_timeout()).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, rng: &mut impl Rng) {
        for member in &mut self.members {
            member.policy.handle_timeout(now, rng);
        }
        self.go_on(now);
    }

    /// In reverse, one after the other: nobody loses what it still needs.
    fn stop_next(&mut self, now: Instant) {
        for member in self.members.iter_mut().rev() {
            if member.policy.state() != State::Draining {
                member.policy.stop("the service stops", now);
            }
            // One that was waiting has stopped with that, and the one before it is next.
            if member.policy.state() != State::Stopped {
                return;
            }
        }
    }

    fn start_next(&mut self, now: Instant) {
        while !self.members.iter().any(|member| member.policy.state() == State::Starting)
            && let Some(next) = self.to_start.pop_front()
        {
            self.members[next].policy.start("the service starts", now);
        }
    }

    fn look_at_needs(&mut self, now: Instant) {
        for member in &mut self.members {
            member.has_served |= matches!(member.policy.state(), State::Ready | State::Degraded);
        }
        for task in 0..self.members.len() {
            let (blocked, lacking) = (self.missing(task, Need::Hard), self.missing(task, Need::Soft));
            let policy = &mut self.members[task].policy;
            policy.set_blocked(blocked, now);
            policy.set_lacking(lacking, now);
        }
    }

    fn missing(&self, task: usize, need: Need) -> Option<Text> {
        let mut wanted = dependencies(self.members[task].name).iter().filter(|dependency| dependency.need == need);
        wanted.find_map(|Dependency { on, what, .. }| {
            let provider = self.members.iter().find(|member| member.name == *on && !member.has_served)?;
            let state = provider.policy.state().as_str();
            Some(text!("waits for {}: {} has not been ready yet and is {}", what, on, state))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;
    use crate::supervisor::policy::{DRAIN_DEADLINE, InstanceId};
    use crate::sys::clock;

    struct Sim {
        fleet: Fleet,
        rng: StdRng,
        now: Instant,
        running: Vec<Option<InstanceId>>,
        told: Vec<(TaskName, Command)>,
    }

    impl Sim {
        fn new() -> Self {
            let now = clock::now().mono;
            let fleet = Fleet::new(&TaskName::ALL, Pace::Normal, now);
            let mut sim = Self { fleet, rng: StdRng::seed_from_u64(7), now, running: vec![None; 4], told: Vec::new() };
            sim.fleet.go_on(now);
            sim.obey();
            sim
        }

        fn ready() -> Self {
            let mut sim = Self::new();
            for task in TaskName::ALL {
                sim.become_ready(task);
            }
            sim
        }

        fn obey(&mut self) {
            while let Some((task, command)) = self.fleet.poll_command() {
                self.told.push((TaskName::ALL[task], command));
                match command {
                    Command::Spawn(id) => assert_eq!(self.running[task].replace(id), None, "two instances"),
                    Command::Abandon(_) => self.running[task] = None,
                    Command::Cancel(_) | Command::Escalate => {}
                }
            }
            while self.fleet.poll_change().is_some() {}
        }

        fn of(&self, name: TaskName) -> (usize, Option<InstanceId>) {
            let task = self.fleet.find(name).unwrap();
            (task, self.running[task])
        }

        fn become_ready(&mut self, name: TaskName) {
            let (task, Some(id)) = self.of(name) else { return };
            let now = self.now;
            self.fleet.tell(task, now, |policy| policy.handle_ready(id, now));
            self.obey();
        }

        fn end(&mut self, name: TaskName) {
            let (task, Some(id)) = self.of(name) else { return };
            self.running[task] = None;
            let (now, rng) = (self.now, &mut self.rng);
            self.fleet.tell(task, now, |policy| policy.handle_ended(id, &"it broke".into(), now, rng));
            self.obey();
        }

        fn order(&mut self, name: TaskName, order: Order) {
            let (task, _) = self.of(name);
            self.fleet.order(task, order, self.now);
            self.obey();
        }

        fn advance(&mut self, span: Duration) {
            self.now += span;
            self.fleet.handle_timeout(self.now, &mut self.rng);
            self.obey();
        }

        fn states(&self) -> [State; 4] {
            [0, 1, 2, 3].map(|task| self.fleet.policy(task).state())
        }
    }

    use State::{Backoff, Degraded, Ready, Starting, Stopped};

    #[test]
    fn tasks_start_one_after_the_other_and_stop_in_reverse() {
        let mut sim = Sim::ready();
        assert!(sim.fleet.is_settled());
        let spawned: Vec<TaskName> = sim.told.drain(..).map(|(task, _)| task).collect();
        assert_eq!(spawned, TaskName::ALL);
        sim.fleet.halt(sim.now);
        sim.obey();
        for task in TaskName::ALL.into_iter().rev() {
            assert_eq!(sim.told.last(), Some(&(task, Command::Cancel(1))));
            assert!(!sim.fleet.has_halted());
            sim.end(task);
        }
        assert!(sim.fleet.has_halted());
    }

    #[test]
    fn without_any_certificate_pages_wait_and_the_relay_is_degraded() {
        let mut sim = Sim::new();
        sim.end(TaskName::Certs);
        sim.end(TaskName::Certs);
        sim.become_ready(TaskName::Turn);
        assert_eq!(sim.states(), [Backoff, Degraded, Backoff, Backoff]);
        assert!(sim.fleet.is_settled());
        let why = "waits for a certificate: certs has not been ready yet and is backoff";
        assert_eq!(sim.fleet.policy(3).last_error().map(Text::english), Some(why));
        sim.advance(Duration::from_secs(60));
        sim.become_ready(TaskName::Certs);
        assert_eq!(sim.states(), [Ready, Ready, Starting, Starting]);
        assert_eq!(sim.fleet.policy(3).restarts(), 0);
    }

    #[test]
    fn what_certs_has_provided_stays_and_its_end_touches_nobody() {
        let mut sim = Sim::ready();
        sim.order(TaskName::Certs, Order::Restart);
        sim.end(TaskName::Certs);
        sim.end(TaskName::Certs);
        sim.order(TaskName::Certs, Order::Stop);
        sim.end(TaskName::Certs);
        assert_eq!(sim.states(), [Stopped, Ready, Ready, Ready]);
        sim.order(TaskName::Web, Order::Restart);
        sim.end(TaskName::Web);
        sim.become_ready(TaskName::Web);
        assert_eq!(sim.states(), [Stopped, Ready, Ready, Ready]);
    }

    #[test]
    fn a_task_that_is_stopped_while_all_start_stays_stopped() {
        let mut sim = Sim::new();
        sim.order(TaskName::Web, Order::Stop);
        for task in TaskName::ALL {
            sim.become_ready(task);
        }
        assert_eq!(sim.states(), [Ready, Ready, Ready, Stopped]);
    }

    proptest! {
        #[test]
        fn whatever_happens_a_halt_comes_to_its_end(
            steps in proptest::collection::vec((0..4usize, 0..7u8), 0..100),
            seed in any::<u64>(),
        ) {
            let mut sim = Sim { rng: StdRng::seed_from_u64(seed), ..Sim::new() };
            for (task, step) in steps {
                let task = TaskName::ALL[task];
                match step {
                    0 | 1 => sim.become_ready(task),
                    2 | 3 => sim.end(task),
                    4 => sim.order(task, Order::Start),
                    5 => sim.order(task, Order::Restart),
                    _ => sim.order(task, Order::Stop),
                }
                sim.advance(Duration::from_secs(u64::from(step) * 7));
            }
            sim.fleet.halt(sim.now);
            sim.obey();
            // Nobody ends by itself any more: each is cut off in its turn.
            for _ in 0..TaskName::ALL.len() {
                sim.advance(DRAIN_DEADLINE);
            }
            prop_assert!(sim.fleet.has_halted(), "{:?}", sim.states());
            let told = sim.told.len();
            sim.advance(Duration::from_secs(86_400));
            prop_assert_eq!(sim.told.len(), told, "something came back");
        }
    }
}
