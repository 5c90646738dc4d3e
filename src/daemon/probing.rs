//! Makes every probe in its time, and keeps what was found.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::checks::{Asker, Check, Lane, Targets, checks};
use crate::findings::facts::{self, Kind, Verdict};
use crate::probe::histogram::Histogram;
use crate::probe::schedule::Schedule;
use crate::probe::turn::Login;
use crate::supervisor::board::{Board, State};
use crate::supervisor::service::TaskName;
use crate::sys::{clock, turns};

/// What failed is asked again so soon: once may be chance.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What a probe last found.
#[derive(Debug, Clone)]
pub(super) struct Probed {
    pub(super) kind: Kind,
    pub(super) place: String,
    pub(super) verdict: Verdict,
    pub(super) latency: Duration,
    pub(super) at: SystemTime,
}

/// The probes of this service. Cheap to clone.
#[derive(Clone)]
pub(super) struct Probes {
    asker: Asker,
    board: Board,
    state: Arc<Mutex<Known>>,
}

struct Known {
    checks: Vec<Check>,
    found: Vec<Option<Probed>>,
    lanes: [Timetable; 2],
    histograms: BTreeMap<Kind, Histogram>,
}

/// When the probes of a lane are due, by their place among all.
struct Timetable {
    numbers: Vec<usize>,
    schedule: Schedule,
}

impl Timetable {
    fn new(checks: &[Check], lane: Lane, now: Instant) -> Self {
        let numbers: Vec<usize> = (0..checks.len()).filter(|number| checks[*number].lane() == lane).collect();
        let periods: Vec<Duration> = numbers.iter().map(|number| checks[*number].period()).collect();
        Self { numbers, schedule: Schedule::new(&periods, now) }
    }
}

impl Known {
    fn new(targets: &Targets, now: Instant) -> Self {
        let checks = checks(targets);
        let lanes = [Lane::Cheap, Lane::Deep].map(|lane| Timetable::new(&checks, lane, now));
        Self { found: vec![None; checks.len()], checks, lanes, histograms: BTreeMap::new() }
    }
}

impl Probes {
    pub(super) fn new(targets: &Targets, asker: Asker, board: Board) -> Self {
        let known = Known::new(targets, clock::now().mono);
        Self { asker, board, state: Arc::new(Mutex::new(known)) }
    }

    /// The tasks answer elsewhere from now on. What was counted stays; what was found out is found out anew.
    pub(super) fn follow(&self, targets: &Targets) {
        let mut known = self.known();
        let histograms = std::mem::take(&mut known.histograms);
        *known = Known { histograms, ..Known::new(targets, clock::now().mono) };
    }

    /// What every probe last found, of tasks that are up: what one answered before it went down is no news.
    pub(super) fn found(&self) -> Vec<Probed> {
        let up = self.up();
        let known = self.known();
        known.found.iter().flatten().filter(|probed| up.contains(&probed.kind.task())).cloned().collect()
    }

    pub(super) fn facts(&self) -> Vec<facts::Probe> {
        let fact = |Probed { kind, place, verdict, .. }| facts::Probe { kind, place, verdict };
        self.found().into_iter().map(fact).collect()
    }

    pub(super) fn histograms(&self) -> BTreeMap<Kind, Histogram> {
        self.known().histograms.clone()
    }

    /// As [`Asker::measuring_login`].
    pub(super) fn measuring_login(&self) -> Login {
        self.asker.measuring_login()
    }

    /// Makes every cheap probe at once.
    pub(super) fn run_once(&self) {
        let checks = self.known().checks.clone();
        for (number, check) in checks.into_iter().enumerate().filter(|(_, check)| check.lane() == Lane::Cheap) {
            self.make(number, &check, clock::now().mono);
        }
    }

    /// Makes the probes of a lane in their time until `closing` is cancelled.
    pub(super) fn run(&self, lane: Lane, closing: &CancellationToken) {
        while !closing.is_cancelled() {
            let now = clock::now().mono;
            thread::park_timeout(self.run_due(lane, now).min(turns::until_next(now)));
        }
    }

    /// Makes the probes of a lane that are due at `now`. Gives the time until the next one.
    pub(super) fn run_due(&self, lane: Lane, now: Instant) -> Duration {
        loop {
            let due = {
                let mut known = self.known();
                let Timetable { numbers, schedule } = &mut known.lanes[lane as usize];
                let number = schedule.poll_due(now, &mut rand::rng()).map(|place| numbers[place]);
                let next = schedule.poll_timeout();
                number.map(|number| (number, known.checks[number].clone())).ok_or(next)
            };
            match due {
                Ok((number, check)) => self.make(number, &check, now),
                Err(next) => return next.map_or(turns::TURN_EVERY, |next| next.saturating_duration_since(now)),
            }
        }
    }

    fn make(&self, number: usize, check: &Check, now: Instant) {
        // One that is known to be down is not asked.
        if !self.up().contains(&check.kind.task()) {
            self.keep(number, check, None, now);
            return;
        }
        let before = clock::now();
        let verdict = self.asker.ask(check);
        let latency = clock::now().mono.saturating_duration_since(before.mono);
        // A task that went down or is going down in the meantime owes no answer.
        let probed = self.up().contains(&check.kind.task()).then(|| Probed {
            kind: check.kind,
            place: check.place(),
            verdict,
            latency,
            at: before.wall,
        });
        self.keep(number, check, probed, now);
    }

    fn keep(&self, number: usize, check: &Check, probed: Option<Probed>, now: Instant) {
        let mut known = self.known();
        if let Some(Probed { kind, place, verdict, latency, .. }) = &probed {
            known.histograms.entry(*kind).or_default().add(*latency, verdict.is_fine());
            let was_fine = known.found[number].as_ref().is_none_or(|before| before.verdict.is_fine());
            match verdict.error() {
                Some(error) if was_fine => {
                    warn!(probe = kind.as_str(), place, error = error.english(), "a probe fails")
                }
                None if !was_fine => info!(probe = kind.as_str(), place, "a probe succeeds again"),
                Some(_) | None => {}
            }
            if !verdict.is_fine() {
                let lane = &mut known.lanes[check.lane() as usize];
                if let Some(place) = lane.numbers.iter().position(|other| *other == number) {
                    lane.schedule.hasten(place, now + AGAIN_AFTER);
                }
            }
        }
        known.found[number] = probed;
    }

    /// The tasks that should answer.
    fn up(&self) -> Vec<TaskName> {
        let tasks = self.board.tasks();
        let is_up = |state| matches!(state, State::Ready | State::Degraded);
        tasks.iter().filter(|task| is_up(task.state)).map(|task| task.name).collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::mpsc;

    use super::*;
    use crate::certs::CertHandle;
    use crate::config::{Secret, Secrets, TurnConfig};
    use crate::findings::{Facts, Ledger, judge};
    use crate::supervisor::board::TaskView;
    use crate::supervisor::service::{Context, Service as _};
    use crate::sys::clock::Now;
    use crate::sys::marks::Marks;
    use crate::turn::{self, Control, Counters, Outcome, Turn};

    /// A relay on loopback with sockets and threads, and what probes it.
    struct Relay {
        probes: Probes,
        control: Control,
        counters: Arc<Counters>,
        stopping: CancellationToken,
        running: Option<thread::JoinHandle<()>>,
    }

    impl Relay {
        fn start() -> Self {
            let config = TurnConfig {
                bind: vec![Ipv4Addr::new(127, 0, 0, 3).into()],
                port: 0,
                // Not the address that no relay may reach.
                relay_ips: vec![Ipv4Addr::new(127, 0, 0, 2).into()],
                tcp: false,
                workers: 2,
                ..TurnConfig::default()
            };
            let secrets = Secrets::of_turn(vec![Secret::new(vec![7; 32])]);
            let sockets = turn::bind(&config).unwrap();
            let targets = Targets { udp: sockets.addresses(), ..Targets::default() };
            let counters = Arc::new(Counters::default());
            let turn = Turn::new(&config, &secrets, sockets, Arc::clone(&counters));
            let control = turn.control();
            let (ready, is_ready) = mpsc::channel();
            let stopping = CancellationToken::new();
            let report = move |_| {
                // It is listened to once.
                let _ = ready.send(());
            };
            let context = Context::new(Arc::new(report), Arc::default(), stopping.clone());
            let running = thread::Builder::new().spawn(move || turn.run(context).unwrap()).unwrap();
            is_ready.recv().unwrap();
            let board = Board::default();
            let now = clock::now().mono;
            board.publish(vec![TaskView {
                name: TaskName::Turn,
                state: State::Ready,
                since: now,
                ready_since: Some(now),
                restarts: 0,
                hangs: 0,
                panics: 0,
                abandoned: 0,
                threads: Vec::new(),
                last_error: None,
                last_error_at: None,
                last_panic: None,
            }]);
            let certificate = CertHandle::default();
            let asker = Asker { certificate, relay: control.clone(), marks: Marks::default() };
            let probes = Probes::new(&targets, asker, board);
            Self { probes, control, counters, stopping, running: Some(running) }
        }
    }

    impl Drop for Relay {
        fn drop(&mut self) {
            self.stopping.cancel();
            let ended = self.running.take().map(thread::JoinHandle::join);
            assert!(thread::panicking() || ended.is_some_and(|ended| ended.is_ok()));
        }
    }

    #[test]
    fn a_weakened_peer_filter_is_found_out_within_one_period() {
        let relay = Relay::start();
        let start = clock::now();
        let later = |seconds| {
            let span = Duration::from_secs(seconds);
            Now { mono: start.mono + span, wall: start.wall + span }
        };
        let mut ledger = Ledger::default();
        let mut shown = |now: Now| -> Vec<(&'static str, crate::words::Text)> {
            relay.probes.run_due(Lane::Cheap, now.mono);
            relay.probes.run_due(Lane::Deep, now.mono);
            let facts = Facts { probes: relay.probes.facts(), ..Facts::default() };
            ledger.handle(judge(&facts), now);
            let told = ledger.shown().into_iter().map(|one| (one.raised.key.code.as_str(), one.raised.evidence));
            told.collect()
        };
        assert_eq!(shown(later(60)), [], "a relay that refuses what it must");
        let kinds: Vec<Kind> = relay.probes.found().iter().map(|probed| probed.kind).collect();
        assert_eq!(kinds, [Kind::Stun, Kind::RelayUdp, Kind::ForbiddenPeers, Kind::ForbiddenLogins]);
        relay.control.weaken(Ipv4Addr::LOCALHOST.into());
        // A period and what it may be longer.
        let told = shown(later(60 + 66));
        let wanted = "CreatePermission for 127.0.0.1 is granted".into();
        assert_eq!(told, [("relay-reaches-forbidden", wanted)]);
        relay.control.weaken(Ipv4Addr::new(169, 254, 169, 254).into());
        let told = shown(later(60 + 66 + 66));
        assert_eq!(told[0].1, "CreatePermission for 169.254.169.254 is granted");
        // No probe was taken for a user.
        let counters = &relay.counters;
        assert_eq!(Outcome::ALL.map(|outcome| counters.outcome(outcome)), [0; 7]);
        assert_eq!(turn::Dropped::ALL.map(|why| counters.dropped(why)), [0; 10]);
        assert_eq!(Counters::read(&counters.relayed_packets), 0);
    }

    #[test]
    fn a_task_that_is_down_is_not_asked_and_what_it_once_answered_is_no_news() {
        let relay = Relay::start();
        relay.probes.run_once();
        assert_eq!(relay.probes.found().len(), 1);
        relay.probes.board.publish(Vec::new());
        assert_eq!(relay.probes.facts(), []);
        relay.probes.run_once();
        assert_eq!(relay.probes.histograms()[&Kind::Stun].count(), 1);
    }
}
