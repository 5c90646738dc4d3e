//! What a task's life may be, by a driver that does at once what it is told.

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
    escalations: u32,
    /// Every change so far.
    changes: Vec<Change>,
}

impl Sim {
    fn new() -> Self {
        Self::at(Pace::Normal)
    }

    fn at(pace: Pace) -> Self {
        let now = clock::now().mono;
        Self {
            policy: Policy::new(Limits::of_tasks(pace), now),
            rng: StdRng::seed_from_u64(7),
            now,
            running: Vec::new(),
            spawned: 0,
            escalations: 0,
            changes: Vec::new(),
        }
    }

    fn started() -> Self {
        let mut sim = Self::new();
        sim.policy.start("test", sim.now);
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
                Command::Escalate => self.escalations += 1,
            }
        }
        while let Some(change) = self.policy.poll_change() {
            assert!(!change.cause.is_empty(), "{change:?}");
            let before = self.changes.last().map_or(State::Stopped, |last| last.to);
            assert_eq!(change.from, before, "a change is missing");
            self.changes.push(change);
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
        self.policy.handle_ended(id, &"it broke".into(), self.now, &mut self.rng);
        self.obey()
    }

    fn advance(&mut self, span: Duration) -> Vec<Command> {
        self.now += span;
        self.policy.handle_timeout(self.now, &mut self.rng);
        self.obey()
    }

    fn hang(&mut self) -> Vec<Command> {
        let id = *self.running.last().unwrap();
        self.policy.handle_hung(id, &"it stands still".into(), self.now, &mut self.rng);
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
    assert_eq!(sim.policy.last_error().map(Text::english), Some("it broke"));
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
    sim.policy.start("test", sim.now);
    assert_eq!(sim.obey().len(), 1);
    assert_eq!(sim.fail().len(), 1, "an operator's start forgives");
}

#[test]
fn a_degraded_task_is_not_restarted() {
    let mut sim = Sim::ready();
    sim.policy.handle_degraded(1, Some("slow".into()), sim.now);
    assert_eq!((sim.policy.state(), sim.policy.last_error().map(Text::english)), (State::Degraded, Some("slow")));
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
    sim.policy.stop("test", sim.now);
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
        sim.policy.restart("test", sim.now);
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
    sim.policy.stop("test", sim.now);
    assert_eq!(sim.advance(Duration::from_secs(3600)), []);
    assert_eq!(sim.policy.state(), State::Stopped);
}

#[test]
fn an_instance_that_hangs_is_cut_off_and_replaced_and_what_it_says_later_is_not_heard() {
    let mut sim = Sim::ready();
    assert_eq!(sim.hang(), [Command::Abandon(1), Command::Spawn(2)]);
    assert_eq!((sim.policy.hangs(), sim.policy.restarts()), (1, 1));
    assert_eq!(sim.policy.last_error().map(Text::english), Some("it stands still"));
    sim.policy.handle_ended(1, &"too late".into(), sim.now, &mut sim.rng);
    sim.policy.handle_degraded(1, Some("too late".into()), sim.now);
    sim.policy.handle_hung(1, &"again".into(), sim.now, &mut sim.rng);
    assert_eq!(sim.obey(), []);
    assert_eq!((sim.policy.state(), sim.policy.hangs()), (State::Starting, 1));
}

#[test]
fn a_second_hang_in_a_row_has_the_process_started_anew_and_one_after_a_good_while_does_not() {
    let mut sim = Sim::ready();
    sim.hang();
    sim.become_ready();
    sim.advance(FORGIVEN_AFTER);
    sim.hang();
    assert_eq!(sim.escalations, 0, "five good minutes lie between them");
    sim.become_ready();
    assert_eq!(sim.hang(), [Command::Abandon(3), Command::Escalate]);
    assert_eq!(sim.policy.state(), State::Backoff);
    assert_eq!(sim.jump(), [Command::Spawn(4)], "nobody may be there to start the process anew");
}

#[test]
fn only_an_instance_that_serves_can_hang() {
    let mut sim = Sim::started();
    assert_eq!(sim.hang(), []);
    sim.become_ready();
    sim.policy.stop("test", sim.now);
    sim.obey();
    assert_eq!(sim.hang(), []);
    assert_eq!(sim.policy.hangs(), 0);
}

#[test]
fn a_task_that_waits_for_another_starts_once_that_is_there() {
    let mut sim = Sim::new();
    sim.policy.set_blocked(Some("waits for certs".into()), sim.now);
    sim.policy.start("test", sim.now);
    assert_eq!(sim.obey(), []);
    assert_eq!(
        (sim.policy.state(), sim.policy.last_error().map(Text::english)),
        (State::Backoff, Some("waits for certs"))
    );
    assert_eq!(sim.policy.poll_timeout(), None);
    sim.policy.stop("test", sim.now);
    sim.policy.set_blocked(None, sim.now);
    assert_eq!(sim.obey(), [], "it is not wanted any more");
    sim.policy.set_blocked(Some("waits for certs".into()), sim.now);
    sim.policy.start("test", sim.now);
    sim.policy.set_blocked(None, sim.now);
    assert_eq!(sim.obey(), [Command::Spawn(1)]);
    assert_eq!(sim.policy.restarts(), 0, "waiting is no fault");
}

#[test]
fn what_a_task_lacks_degrades_it_until_it_is_there() {
    let mut sim = Sim::started();
    sim.policy.set_lacking(Some("no certificate".into()), sim.now);
    sim.policy.handle_ready(1, sim.now);
    sim.obey();
    assert_eq!(
        (sim.policy.state(), sim.policy.last_error().map(Text::english)),
        (State::Degraded, Some("no certificate"))
    );
    sim.policy.handle_degraded(1, Some("slow".into()), sim.now);
    sim.policy.set_lacking(None, sim.now);
    assert_eq!(sim.policy.state(), State::Degraded, "what it says itself still holds");
    sim.policy.handle_degraded(1, None, sim.now);
    assert_eq!(sim.policy.state(), State::Ready);
    assert_eq!(sim.spawned, 1);
}

#[test]
fn for_a_test_of_endurance_a_task_is_restarted_at_once_and_without_bound() {
    let mut sim = Sim::at(Pace::Endurance);
    sim.policy.start("test", sim.now);
    sim.obey();
    for round in 1..=1000 {
        sim.become_ready();
        assert_eq!(sim.fail(), [Command::Spawn(round + 1)]);
    }
    assert_eq!((sim.policy.state(), sim.policy.restarts()), (State::Starting, 1000));
    assert_eq!(sim.fail(), [], "one that was never ready waits a moment");
    assert!(sim.policy.poll_timeout().unwrap() <= sim.now + FIRST_BACKOFF);
    assert_eq!(sim.jump(), [Command::Spawn(1002)]);
}

#[test]
fn every_change_is_told_with_its_cause() {
    let mut sim = Sim::ready();
    sim.fail();
    sim.become_ready();
    sim.policy.stop("ordered", sim.now);
    sim.obey();
    sim.running.pop();
    sim.policy.handle_ended(2, &"".into(), sim.now, &mut sim.rng);
    sim.obey();
    let told: Vec<(State, &str)> = sim.changes.iter().map(|change| (change.to, change.cause.as_str())).collect();
    let serves = (State::Ready, "it says that it serves");
    let wanted = [(State::Starting, "test"), serves, (State::Starting, "it broke"), serves];
    assert_eq!(told[..4], wanted);
    assert_eq!(told[4..], [(State::Draining, "ordered"), (State::Stopped, "it has ended")]);
}

const DAY: Duration = Duration::from_secs(86_400);

/// Restarts within a day of a task that serves for `serving` before it fails; `None`: it never becomes ready.
fn restarts_of_a_day(serving: Option<Duration>, hangs: bool) -> u64 {
    let mut sim = Sim::started();
    let end = sim.now + DAY;
    while sim.now < end {
        if sim.running.is_empty() {
            sim.jump();
            continue;
        }
        match serving {
            None => {
                sim.fail();
            }
            Some(serving) => {
                if sim.policy.state() == State::Starting {
                    sim.become_ready();
                }
                let due = sim.policy.poll_timeout().map_or(serving, |at| at.saturating_duration_since(sim.now));
                sim.advance(serving.min(due));
                sim.advance(serving.saturating_sub(due));
                if hangs {
                    sim.hang()
                } else {
                    sim.fail()
                };
            }
        }
    }
    sim.policy.restarts()
}

#[test]
fn within_a_simulated_day_no_task_is_restarted_more_often_than_the_bound_says() {
    let wreck = restarts_of_a_day(None, false);
    println!("a task that always fails: {wreck} restarts a day of {} at most", most_restarts_of_a_wreck(DAY));
    assert!(wreck <= most_restarts_of_a_wreck(DAY), "{wreck}");
    assert!(wreck > 200, "it is never given up for good: {wreck}");
    let mut worst = 0;
    for serving in [1, 10, 20, 37, 38, 40, 60, 120, 299, 301, 600] {
        for hangs in [false, true] {
            let restarts = restarts_of_a_day(Some(Duration::from_secs(serving)), hangs);
            assert!(restarts <= most_restarts(DAY), "{restarts} if it serves for {serving} s");
            worst = worst.max(restarts);
        }
    }
    println!("a task that serves for a while: {worst} restarts a day of {} at most", most_restarts(DAY));
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Ready,
    Degraded(bool),
    Lacking(bool),
    Blocked(bool),
    Fail,
    Hang,
    Start,
    Stop,
    Restart,
    Jump,
    Advance(u16),
}

impl Step {
    fn is_an_order(self) -> bool {
        matches!(self, Self::Start | Self::Stop | Self::Restart)
    }
}

/// What may happen to a task, orders included or not.
fn steps(with_orders: bool) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => Just(Step::Ready),
        1 => any::<bool>().prop_map(Step::Degraded),
        1 => any::<bool>().prop_map(Step::Lacking),
        1 => any::<bool>().prop_map(Step::Blocked),
        4 => Just(Step::Fail),
        2 => Just(Step::Hang),
        1 => Just(Step::Start),
        1 => Just(Step::Stop),
        1 => Just(Step::Restart),
        4 => Just(Step::Jump),
        2 => any::<u16>().prop_map(|seconds| Step::Advance(seconds % 900)),
    ];
    let steps = proptest::collection::vec(step, 1..160);
    steps.prop_map(move |mut steps| {
        steps.retain(|step| with_orders || !step.is_an_order());
        steps
    })
}

impl Sim {
    fn take(&mut self, step: Step) {
        let (last, now) = (self.running.last().copied(), self.now);
        match step {
            Step::Ready => last.into_iter().for_each(|id| self.policy.handle_ready(id, now)),
            Step::Degraded(is_bad) => {
                last.into_iter().for_each(|id| self.policy.handle_degraded(id, is_bad.then(|| "bad".into()), now))
            }
            Step::Lacking(is_so) => self.policy.set_lacking(is_so.then(|| "lacks".into()), now),
            Step::Blocked(is_so) => self.policy.set_blocked(is_so.then(|| "waits".into()), now),
            Step::Fail if last.is_some() => drop(self.fail()),
            Step::Hang if last.is_some() => drop(self.hang()),
            Step::Fail | Step::Hang => {}
            Step::Start => self.policy.start("test", now),
            Step::Stop => self.policy.stop("test", now),
            Step::Restart => self.policy.restart("test", now),
            Step::Jump if self.policy.poll_timeout().is_some() => drop(self.jump()),
            Step::Jump => {}
            Step::Advance(seconds) => drop(self.advance(Duration::from_secs(seconds.into()))),
        }
        self.obey();
    }
}

proptest! {
    #[test]
    fn a_wanted_task_is_never_dead_for_good_and_never_runs_twice(steps in steps(true), seed in any::<u64>()) {
        let mut sim = Sim { rng: StdRng::seed_from_u64(seed), ..Sim::new() };
        for step in steps {
            sim.take(step);
            prop_assert!(sim.running.len() <= 1, "two instances");
            if sim.policy.is_wanted {
                let waits = sim.policy.blocked.is_some() || sim.policy.poll_timeout().is_some();
                prop_assert!(!sim.running.is_empty() || waits, "dead for good in {:?}", sim.policy.state());
            } else {
                prop_assert!(matches!(sim.policy.state(), State::Stopped | State::Draining));
            }
        }
    }

    #[test]
    fn a_stop_always_ends_and_nothing_but_an_order_brings_the_task_back(
        before in steps(true),
        after in steps(false),
        seed in any::<u64>(),
    ) {
        let mut sim = Sim { rng: StdRng::seed_from_u64(seed), ..Sim::new() };
        for step in before {
            sim.take(step);
        }
        sim.policy.stop("test", sim.now);
        sim.obey();
        let spawned = sim.spawned;
        for step in after {
            sim.take(step);
        }
        sim.advance(DRAIN_DEADLINE);
        prop_assert_eq!(sim.policy.state(), State::Stopped);
        prop_assert!(sim.running.is_empty());
        sim.advance(DAY);
        prop_assert_eq!(sim.spawned, spawned);
        prop_assert_eq!(sim.policy.poll_timeout(), None);
    }

    #[test]
    fn restarts_are_bounded_in_any_window(steps in steps(false), seed in any::<u64>()) {
        let mut sim = Sim { rng: StdRng::seed_from_u64(seed), ..Sim::started() };
        let mut restarted_at = Vec::new();
        for step in steps {
            let before = sim.policy.restarts();
            sim.take(step);
            restarted_at.extend((before..sim.policy.restarts()).map(|_| sim.now));
        }
        for window in [1, 60, 300, 900, 3600].map(Duration::from_secs) {
            for (first, start) in restarted_at.iter().enumerate() {
                let within = restarted_at[first..].iter().take_while(|at| **at - *start <= window).count();
                prop_assert!(within as u64 <= most_restarts(window), "{within} within {window:?}");
            }
        }
    }
}
