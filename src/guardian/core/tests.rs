use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;
use crate::sys::clock;

/// A guardian whose loop does at once what it is told, and a clock that jumps.
struct Sim {
    core: Core,
    rng: StdRng,
    now: Now,
    /// Processes that have not ended.
    processes: usize,
    ended: Option<(u8, Option<String>)>,
}

impl Sim {
    fn new(pace: Pace) -> Self {
        let now = clock::now();
        let core = Core::new(pace, now.mono);
        Self { core, rng: StdRng::seed_from_u64(3), now, processes: 0, ended: None }
    }

    fn started() -> Self {
        let mut sim = Self::new(Pace::Normal);
        sim.core.start(sim.now.mono);
        assert_eq!(sim.obey(), [Command::Spawn]);
        sim
    }

    fn ready() -> Self {
        let mut sim = Self::started();
        sim.says("READY=1");
        assert_eq!(sim.core.state(), State::Ready);
        sim
    }

    fn obey(&mut self) -> Vec<Command> {
        let mut commands = Vec::new();
        while let Some(command) = self.core.poll_command() {
            match &command {
                Command::Spawn => {
                    self.processes += 1;
                    assert_eq!(self.processes, 1, "two daemons");
                }
                Command::End { code, failure } => {
                    assert_eq!(self.processes, 0, "a daemon is left behind");
                    self.ended = Some((*code, failure.clone()));
                }
                Command::Terminate | Command::Kill { .. } | Command::LetGo | Command::Paused(_) => {}
            }
            commands.push(command);
        }
        commands
    }

    fn says(&mut self, text: &str) {
        self.core.handle_words(&crate::guardian::notice::read(text), self.now.mono);
    }

    fn dies(&mut self, end: End) -> Vec<Command> {
        self.processes = 0;
        self.core.handle_ended(&end, None, self.now, &mut self.rng);
        self.obey()
    }

    fn killed(&mut self) -> Vec<Command> {
        self.dies(End::Killed("SIGKILL".to_owned()))
    }

    fn pass(&mut self, span: Duration) {
        self.now.mono += span;
        self.now.wall += span;
    }

    /// Time passes, and the loop turns as often as it should. Gives what it was told on the way.
    fn wait(&mut self, span: Duration, alive: bool) -> Vec<Command> {
        let end = self.now.mono + span;
        let mut commands = Vec::new();
        while self.now.mono < end {
            let due = self.core.poll_timeout().unwrap_or(end).min(end);
            self.pass(due.saturating_duration_since(self.now.mono).max(Duration::from_millis(1)));
            if alive {
                self.says("WATCHDOG=1");
            }
            self.core.handle_turn(self.now.mono, &mut self.rng);
            commands.extend(self.obey());
        }
        commands
    }

    /// Waits for the next start and no longer.
    fn starts_again(&mut self) -> bool {
        let due = self.core.next_start_at().unwrap();
        self.wait(due.saturating_duration_since(self.now.mono), false).contains(&Command::Spawn)
    }
}

fn end(code: u8) -> Command {
    Command::End { code, failure: None }
}

#[test]
fn a_daemon_that_dies_is_started_again_at_once_and_then_with_pauses() {
    let mut sim = Sim::ready();
    assert_eq!(sim.killed(), [Command::Spawn]);
    assert_eq!(sim.core.last_death().unwrap().1, "killed by SIGKILL");
    sim.says("READY=1");
    assert_eq!(sim.dies(End::Exited(78)), []);
    assert_eq!(sim.core.state(), State::Backoff);
    assert!(sim.core.next_start_at().unwrap() <= sim.now.mono + Duration::from_secs(1));
    assert!(sim.starts_again());
    assert_eq!((sim.core.restarts(), sim.core.deaths()), (2, 2));
}

#[test]
fn a_restart_that_was_ordered_is_no_death_and_holds_the_sockets() {
    let mut sim = Sim::ready();
    sim.core.restart(sim.now.mono);
    assert_eq!(sim.obey(), [Command::Terminate], "the sockets are not let go of");
    assert_eq!(sim.core.state(), State::Draining);
    sim.says("STOPPING=1");
    assert_eq!(sim.dies(End::Exited(0)), [Command::Spawn]);
    sim.says("READY=1");
    assert_eq!((sim.core.state(), sim.core.restarts(), sim.core.deaths()), (State::Ready, 0, 0));
    // One that does not take the order is killed, and followed all the same.
    sim.core.restart(sim.now.mono);
    let told = sim.wait(HEARD_WITHIN + Duration::from_secs(1), true);
    assert!(matches!(&told[..], [Command::Terminate, Command::Kill { .. }]), "{told:?}");
    assert_eq!(sim.killed(), [Command::Spawn]);
    // A stop that comes while one ends for the next means both.
    sim.says("READY=1");
    sim.core.restart(sim.now.mono);
    sim.core.stop(sim.now.mono);
    sim.obey();
    assert_eq!(sim.dies(End::Exited(0)), [end(0)]);
}

#[test]
fn a_restart_starts_a_daemon_that_waits_for_its_next_start() {
    let mut sim = Sim::ready();
    sim.killed();
    sim.killed();
    assert_eq!(sim.core.state(), State::Backoff);
    sim.core.restart(sim.now.mono);
    assert_eq!(sim.obey(), [Command::Spawn]);
}

#[test]
fn a_first_start_that_fails_ends_the_guardian_with_the_daemons_code() {
    let mut sim = Sim::started();
    let failed = Command::End { code: 78, failure: Some("ended with exit code 78".to_owned()) };
    assert_eq!(sim.dies(End::Exited(78)), [failed]);
    let mut sim = Sim::started();
    sim.says("STATUS=binding ports");
    let failed = Command::End { code: 1, failure: Some("killed by SIGABRT: binding ports".to_owned()) };
    assert_eq!(sim.dies(End::Killed("SIGABRT".to_owned())), [failed]);
}

#[test]
fn a_first_start_that_never_comes_to_an_end_is_killed() {
    let mut sim = Sim::started();
    let killed = sim.wait(STARTED_WITHIN + Duration::from_secs(1), true);
    assert_eq!(killed, [Command::Kill { why: "did not become ready within 90 s".to_owned() }]);
    assert!(matches!(&sim.killed()[..], [Command::End { code: 1, failure: Some(_) }]));
}

#[test]
fn too_many_deaths_hold_the_daemon_and_a_start_clears_that() {
    let mut sim = Sim::ready();
    while sim.core.state() != State::Held {
        if sim.killed().is_empty() && sim.core.state() == State::Backoff {
            assert!(sim.starts_again());
        }
    }
    assert_eq!(sim.core.deaths(), 9);
    assert_eq!(sim.wait(Duration::from_secs(299), false), []);
    sim.core.start(sim.now.mono);
    assert_eq!(sim.obey(), [Command::Spawn]);
    assert_eq!(sim.killed(), [Command::Spawn], "the first fault again");
}

#[test]
fn without_a_bound_it_is_started_again_at_once_for_ever() {
    let mut sim = Sim::new(Pace::Endurance);
    sim.core.start(sim.now.mono);
    sim.obey();
    for _ in 0..100 {
        sim.says("READY=1");
        assert_eq!(sim.killed(), [Command::Spawn]);
    }
}

#[test]
fn a_daemon_without_a_heartbeat_is_killed_and_the_next_waits_for_its_end() {
    let mut sim = Sim::ready();
    assert_eq!(sim.wait(Duration::from_secs(3600), true), []);
    let why = "its supervisor's loop has not turned within 10 s";
    assert_eq!(sim.wait(HEARTBEAT_WITHIN + TURNED_EVERY, false), [Command::Kill { why: why.to_owned() }]);
    assert_eq!(sim.wait(Duration::from_secs(600), false), [], "it waits inside the kernel");
    assert_eq!(sim.killed(), [Command::Spawn]);
    assert_eq!(sim.core.last_death().unwrap().1, format!("killed by its guardian: {why}"));
    assert_eq!(sim.wait(Duration::from_secs(60), false), [], "one that is not ready yet has no heartbeat");
}

#[test]
fn a_guardian_that_was_paused_itself_gives_a_new_grace_period() {
    let mut sim = Sim::ready();
    for pause in [Duration::from_secs(4), Duration::from_secs(20), Duration::from_secs(86_400)] {
        sim.pass(pause);
        sim.core.handle_turn(sim.now.mono, &mut sim.rng);
        assert_eq!(sim.obey(), [Command::Paused(pause)]);
        assert_eq!(sim.wait(HEARTBEAT_WITHIN - TURNED_EVERY, false), []);
        sim.says("WATCHDOG=1");
    }
    assert_eq!(sim.wait(HEARTBEAT_WITHIN + TURNED_EVERY, false).len(), 1, "the daemon is silent all the same");
}

#[test]
fn a_daemon_that_cannot_be_heard_is_not_taken_for_one_that_hangs() {
    let mut sim = Sim::ready();
    for _ in 0..60 {
        assert_eq!(sim.wait(Duration::from_secs(1), false), []);
        sim.core.handle_deafness(sim.now.mono);
    }
    let commands = sim.wait(HEARTBEAT_WITHIN + TURNED_EVERY, false);
    assert!(matches!(&commands[..], [Command::Kill { .. }]), "{commands:?}");
}

#[test]
fn a_daemon_that_somebody_has_told_to_end_ends_the_guardian() {
    for code in ORDERLY {
        let mut sim = Sim::ready();
        sim.says("STOPPING=1");
        assert_eq!(sim.dies(End::Exited(code)), [end(0)]);
    }
    let mut sim = Sim::ready();
    sim.says("STOPPING=1\nSTATUS=a task hangs again and again");
    assert_eq!(sim.dies(End::Exited(75)), [Command::Spawn], "it asks for a new start");
    assert_eq!(sim.core.last_death().unwrap().1, "ended with exit code 75: a task hangs again and again");
    let mut sim = Sim::ready();
    assert_eq!(sim.dies(End::Exited(0)), [Command::Spawn], "it did not say so");
}

#[test]
fn an_order_to_stop_ends_both_in_every_state() {
    let mut sim = Sim::ready();
    sim.core.stop(sim.now.mono);
    assert_eq!(sim.obey(), [Command::LetGo, Command::Terminate]);
    sim.says("STOPPING=1");
    assert_eq!(sim.wait(Duration::from_secs(20), false), []);
    assert_eq!(sim.dies(End::Exited(0)), [end(0)]);

    let mut sim = Sim::ready();
    sim.killed();
    sim.killed();
    assert_eq!(sim.core.state(), State::Backoff);
    sim.core.stop(sim.now.mono);
    assert_eq!(sim.obey(), [Command::LetGo, end(0)]);

    let mut sim = Sim::started();
    sim.core.stop(sim.now.mono);
    assert_eq!(sim.obey(), [Command::LetGo, Command::Terminate]);
    assert_eq!(sim.killed(), [end(0)]);
}

#[test]
fn a_daemon_that_does_not_take_the_order_or_does_not_end_is_killed() {
    let mut sim = Sim::ready();
    sim.core.stop(sim.now.mono);
    sim.obey();
    let why = "it did not take the order to stop within 5 s".to_owned();
    assert_eq!(sim.wait(HEARD_WITHIN + TURNED_EVERY, true), [Command::Kill { why }]);
    assert_eq!(sim.killed(), [end(0)]);

    let mut sim = Sim::ready();
    sim.says("STOPPING=1");
    let why = "it said that it ends and did not within 35 s".to_owned();
    assert_eq!(sim.wait(ENDED_WITHIN + TURNED_EVERY, false), [Command::Kill { why }]);
    assert_eq!(sim.killed(), [Command::Spawn], "nobody has ordered the guardian to end");
}

#[test]
fn a_second_order_to_stop_reaches_the_daemon() {
    let mut sim = Sim::ready();
    sim.core.stop(sim.now.mono);
    sim.obey();
    sim.core.stop(sim.now.mono);
    assert_eq!(sim.obey(), [Command::Terminate]);
    sim.core.start(sim.now.mono);
    assert_eq!(sim.obey(), [], "what ends is not started");
}

#[test]
fn an_adopted_daemon_is_watched_like_any_other() {
    let mut sim = Sim::new(Pace::Normal);
    sim.core.adopt(sim.now.mono);
    sim.processes = 1;
    assert_eq!(sim.obey(), []);
    sim.says("READY=1");
    assert_eq!(sim.wait(Duration::from_secs(60), true), []);
    assert_eq!(sim.dies(End::Unknown), [Command::Spawn]);
    let mut sim = Sim::new(Pace::Normal);
    sim.core.adopt(sim.now.mono);
    sim.says("READY=1\nSTOPPING=1");
    assert_eq!(sim.dies(End::Unknown), [end(0)]);
    let mut sim = Sim::new(Pace::Normal);
    sim.core.adopt(sim.now.mono);
    sim.says("READY=1");
    sim.says("X_RTCCTL_WANTS_NEXT=1\nSTATUS=it hangs");
    sim.says("STOPPING=1");
    assert_eq!(sim.dies(End::Unknown), [Command::Spawn], "it hung, and ended for another one to follow");
    let mut sim = Sim::new(Pace::Normal);
    sim.core.adopt(sim.now.mono);
    assert_eq!(sim.dies(End::Unknown), [Command::Spawn], "it died before it could introduce itself");
}

#[test]
fn lack_of_memory_is_named_only_where_it_can_be_the_cause() {
    let oom = Some("for lack of memory");
    let told = |end: End| cause(&end, oom, &Process::new(1));
    assert_eq!(told(End::Killed("SIGKILL".to_owned())), "killed by SIGKILL: for lack of memory");
    assert_eq!(told(End::Killed("SIGSEGV".to_owned())), "killed by SIGSEGV");
    assert_eq!(told(End::Exited(0)), "ended without being asked to");
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Says(&'static str),
    Dies(i32),
    Killed,
    Start,
    Stop,
    Wait(u16),
    Paused(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let says = prop_oneof![Just("READY=1"), Just("WATCHDOG=1"), Just("STOPPING=1"), Just("STATUS=x")];
    let step = prop_oneof![
        4 => says.prop_map(Step::Says),
        2 => (0..80).prop_map(Step::Dies),
        3 => Just(Step::Killed),
        1 => Just(Step::Start),
        1 => Just(Step::Stop),
        3 => (0..400u16).prop_map(Step::Wait),
        1 => any::<u16>().prop_map(Step::Paused),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #[test]
    fn a_guardian_has_one_daemon_or_a_time_for_the_next_until_it_ends(steps in steps(), seed in any::<u64>()) {
        let mut sim = Sim { rng: StdRng::seed_from_u64(seed), ..Sim::new(Pace::Normal) };
        sim.core.start(sim.now.mono);
        sim.obey();
        for step in steps {
            match step {
                Step::Says(text) => sim.says(text),
                Step::Dies(code) => if sim.processes > 0 { sim.dies(End::Exited(code)); },
                Step::Killed => if sim.processes > 0 { sim.killed(); },
                Step::Start => sim.core.start(sim.now.mono),
                Step::Stop => sim.core.stop(sim.now.mono),
                Step::Wait(seconds) => { sim.wait(Duration::from_secs(seconds.into()), seconds % 2 == 0); }
                Step::Paused(seconds) => {
                    sim.pass(Duration::from_secs(seconds.into()));
                    sim.core.handle_turn(sim.now.mono, &mut sim.rng);
                }
            }
            sim.obey();
            if sim.ended.is_some() {
                return Ok(());
            }
            let has_a_future = sim.processes > 0 || sim.core.poll_timeout().is_some();
            prop_assert!(has_a_future, "dead for good in {:?}", sim.core.state());
        }
    }
}
