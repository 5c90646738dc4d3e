//! The rules by tables, the ledger by a clock that jumps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::facts::{Certificate, Disk, Edit, Kind, Probe, Share, Task, Verdict};
use super::*;
use crate::supervisor::board::State;
use crate::supervisor::service::TaskName;
use crate::sys::clock::{self, Now};

fn healthy() -> Facts {
    let task = |name| Task { name, state: State::Ready, last_error: None, restarts_lately: 0, hung_lately: false };
    let probe = |kind| Probe { kind, place: String::new(), verdict: Verdict::Fine };
    Facts {
        tasks: TaskName::ALL.map(task).to_vec(),
        probes: Kind::ALL.map(probe).to_vec(),
        certificate: Certificate::Valid(Duration::from_secs(30 * 86_400)),
        disks: vec![Disk { path: "/var".to_owned(), free_bytes: 9 << 30, total_bytes: 10 << 30 }],
        descriptors: Some(Share { used: 10, limit: 1024 }),
        relay_ports: Some(Share { used: 0, limit: 2000 }),
        home_flag: " --home /srv/box".to_owned(),
        log_file: "/srv/box/log/rtcctl.log".to_owned(),
        ..Facts::default()
    }
}

fn codes(facts: &Facts) -> Vec<&'static str> {
    judge(facts).iter().map(|raised| raised.key.code.as_str()).collect()
}

fn with(change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = healthy();
    change(&mut facts);
    facts
}

fn set_task(facts: &mut Facts, name: TaskName, state: State) {
    let task = facts.tasks.iter_mut().find(|task| task.name == name).unwrap();
    task.state = state;
    task.last_error = Some("it broke".into());
}

fn set_probe(facts: &mut Facts, kind: Kind, verdict: Verdict) {
    facts.probes.iter_mut().find(|probe| probe.kind == kind).unwrap().verdict = verdict;
}

#[test]
fn a_healthy_service_has_no_findings() {
    assert_eq!(codes(&healthy()), Vec::<&str>::new());
}

#[test]
fn each_fact_raises_its_code() {
    let failed = || Verdict::Failed("why".into());
    let cases: Vec<(&str, Facts)> = vec![
        ("certificate-ends", with(|facts| facts.certificate = Certificate::Valid(Duration::from_secs(86_400)))),
        ("certificate-expired", with(|facts| facts.certificate = Certificate::Expired(Duration::from_secs(1)))),
        ("certificate-mismatch", with(|facts| set_probe(facts, Kind::Fingerprint, failed()))),
        ("certificate-missing", with(|facts| facts.certificate = Certificate::Missing)),
        ("clock-jumped", with(|facts| facts.clock_jump = Some(-7200))),
        (
            "config-not-applied",
            with(|facts| facts.config_not_applied = Some(Edit { what: "edited".into(), refused: None })),
        ),
        ("connections-turned-away", with(|facts| facts.turned_away = 1)),
        ("descriptors-almost-exhausted", with(|facts| facts.descriptors = Some(Share { used: 922, limit: 1024 }))),
        ("disk-almost-full", with(|facts| facts.disks[0].free_bytes = 100 << 20)),
        ("http-port-taken", with(|facts| facts.http_port_taken = Some(("nginx has it".into(), "stop it".into())))),
        ("log-not-writable", with(|facts| facts.log_error = Some("read-only file system".into()))),
        ("notify-fails", with(|facts| facts.notify_error = Some("no answer".into()))),
        ("port-lost", with(|facts| set_probe(facts, Kind::Stun, Verdict::Refused("refused".into())))),
        ("receive-buffer-drops", with(|facts| facts.receive_drops = 3)),
        (
            "relay-accepts-anyone",
            with(|facts| set_probe(facts, Kind::ForbiddenLogins, Verdict::Granted("a wrong password".into()))),
        ),
        ("relay-ports-almost-exhausted", with(|facts| facts.relay_ports = Some(Share { used: 1800, limit: 2000 }))),
        (
            "relay-reaches-forbidden",
            with(|facts| set_probe(facts, Kind::ForbiddenPeers, Verdict::Granted("127.0.0.1".into()))),
        ),
        ("relay-tcp-fails", with(|facts| set_probe(facts, Kind::RelayTcp, failed()))),
        ("relay-tls-fails", with(|facts| set_probe(facts, Kind::RelayTls, failed()))),
        ("relay-udp-fails", with(|facts| set_probe(facts, Kind::RelayUdp, failed()))),
        ("restarts-storm", with(|facts| facts.tasks[1].restarts_lately = 3)),
        ("rooms-fail", with(|facts| set_probe(facts, Kind::Rooms, failed()))),
        ("signaling-unanswered", with(|facts| set_probe(facts, Kind::Signaling, failed()))),
        ("stun-unanswered", with(|facts| set_probe(facts, Kind::Stun, failed()))),
        ("task-backoff", with(|facts| set_task(facts, TaskName::Web, State::Backoff))),
        ("task-degraded", with(|facts| set_task(facts, TaskName::Web, State::Degraded))),
        ("task-held", with(|facts| set_task(facts, TaskName::Web, State::Held))),
        ("task-hung", with(|facts| facts.tasks[2].hung_lately = true)),
        ("task-stopped", with(|facts| set_task(facts, TaskName::Web, State::Stopped))),
        ("web-unanswered", with(|facts| set_probe(facts, Kind::Web, failed()))),
    ];
    let known: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(cases.iter().map(|(code, _)| *code).collect::<Vec<_>>(), known, "every code has its case");
    for (code, facts) in cases {
        assert_eq!(codes(&facts), [code]);
        for raised in judge(&facts) {
            let texts = [&raised.title, &raised.evidence, &raised.hint];
            assert!(texts.iter().all(|text| !text.is_empty() && !text.ends_with('.')), "{raised:?}");
            for text in [&raised.title, &raised.hint] {
                let chinese = text.say(crate::words::Lang::Zh);
                assert!(chinese.chars().any(|symbol| ('\u{4e00}'..='\u{9fff}').contains(&symbol)), "{chinese}");
            }
        }
    }
}

/// A certificate of 160 hours with so many of them left.
fn short_lived(left: u64) -> Certificate {
    let hours = |hours| Duration::from_secs(hours * 3600);
    Certificate::ShortLived { left: hours(left), life: hours(160) }
}

#[test]
fn a_short_lived_certificate_is_no_finding_before_a_sixth_of_its_life_is_left() {
    assert!(judge(&with(|facts| facts.certificate = short_lived(27))).is_empty());
    let late = judge(&with(|facts| facts.certificate = short_lived(26)));
    assert!(matches!(&late[..], [one] if one.key.code == Code::CertificateEnds), "{late:?}");
}

#[test]
fn nearly_is_not_yet() {
    let facts = with(|facts| {
        facts.certificate = Certificate::Valid(Duration::from_secs(8 * 86_400));
        facts.descriptors = Some(Share { used: 921, limit: 1024 });
        facts.relay_ports = Some(Share { used: 1799, limit: 2000 });
        facts.tasks[0].restarts_lately = 2;
        // A small disk that is mostly empty, and a large one that is mostly full.
        facts.disks = vec![
            Disk { path: "/a".to_owned(), free_bytes: 150 << 20, total_bytes: 400 << 20 },
            Disk { path: "/b".to_owned(), free_bytes: 10 << 30, total_bytes: 900 << 30 },
        ];
    });
    assert_eq!(codes(&facts), Vec::<&str>::new());
    let last =
        with(|facts| facts.disks[0] = Disk { path: "/a".to_owned(), free_bytes: 9 << 20, total_bytes: 40 << 20 });
    assert_eq!(judge(&last)[0].severity, Severity::Critical);
}

/// A ledger on a clock of its own.
struct Sim {
    ledger: Ledger,
    now: Now,
}

impl Sim {
    fn new() -> Self {
        Self { ledger: Ledger::default(), now: clock::now() }
    }

    /// What is shown after facts were so for a while.
    fn hold(&mut self, facts: &Facts, span: Duration) -> Vec<&'static str> {
        let end = self.now.mono + span;
        loop {
            self.ledger.handle(judge(facts), self.now);
            if self.now.mono >= end {
                return self.ledger.shown().iter().map(|one| one.raised.key.code.as_str()).collect();
            }
            let step = Duration::from_secs(1);
            self.now = Now { mono: self.now.mono + step, wall: self.now.wall + step };
        }
    }

    fn transitions(&mut self) -> Vec<(bool, &'static str)> {
        let mut seen = Vec::new();
        while let Some(transition) = self.ledger.poll_transition() {
            seen.push(match transition {
                Transition::Raised(shown) => (true, shown.raised.key.code.as_str()),
                Transition::Cleared(shown) => (false, shown.raised.key.code.as_str()),
            });
        }
        seen
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_probe_that_fails_once_is_no_news() {
    let mut sim = Sim::new();
    let failing = with(|facts| set_probe(facts, Kind::Web, Verdict::Failed("slow".into())));
    assert_eq!(sim.hold(&failing, 3 * SECOND), Vec::<&str>::new());
    assert_eq!(sim.hold(&healthy(), SECOND), Vec::<&str>::new());
    assert_eq!(sim.hold(&failing, 3 * SECOND), Vec::<&str>::new(), "it has to hold without a break");
    assert_eq!(sim.hold(&failing, SECOND), ["web-unanswered"]);
    assert_eq!(sim.transitions(), [(true, "web-unanswered")]);
}

#[test]
fn a_finding_that_comes_and_goes_is_one_finding() {
    let mut sim = Sim::new();
    let full = with(|facts| facts.descriptors = Some(Share { used: 1000, limit: 1024 }));
    sim.hold(&full, 30 * SECOND);
    for _ in 0..5 {
        assert_eq!(sim.hold(&healthy(), 30 * SECOND), ["descriptors-almost-exhausted"]);
        assert_eq!(sim.hold(&full, 5 * SECOND), ["descriptors-almost-exhausted"]);
    }
    assert_eq!(sim.hold(&healthy(), 61 * SECOND), Vec::<&str>::new());
    let code = "descriptors-almost-exhausted";
    assert_eq!(sim.transitions(), [(true, code), (false, code)]);
}

#[test]
fn a_forbidden_peer_is_told_at_once() {
    let mut sim = Sim::new();
    let weak = with(|facts| set_probe(facts, Kind::ForbiddenPeers, Verdict::Granted("127.0.0.1".into())));
    assert_eq!(sim.hold(&weak, Duration::ZERO), ["relay-reaches-forbidden"]);
}

#[test]
fn a_root_cause_hides_what_follows_from_it() {
    let mut sim = Sim::new();
    let down = with(|facts| {
        set_task(facts, TaskName::Web, State::Held);
        set_probe(facts, Kind::Web, Verdict::Failed("no answer".into()));
        set_probe(facts, Kind::Stun, Verdict::Failed("no answer".into()));
        set_probe(facts, Kind::RelayUdp, Verdict::Failed("no answer".into()));
    });
    assert_eq!(sim.hold(&down, 10 * SECOND), ["task-held", "stun-unanswered"]);
    let shown = sim.ledger.shown();
    let hidden: Vec<_> =
        shown.iter().map(|one| one.hides.iter().map(|key| key.code.as_str()).collect::<Vec<_>>()).collect();
    assert_eq!(hidden, [["web-unanswered"], ["relay-udp-fails"]]);
    assert_eq!(
        sim.transitions(),
        [(true, "stun-unanswered"), (true, "task-held")].iter().rev().copied().collect::<Vec<_>>()
    );
    // The cause is gone, and what followed from it is there still: now it is news.
    let left = with(|facts| set_probe(facts, Kind::Web, Verdict::Failed("no answer".into())));
    assert_eq!(sim.hold(&left, 10 * SECOND), ["web-unanswered"]);
}

#[test]
fn a_finding_that_gets_worse_is_news_once() {
    let mut sim = Sim::new();
    let disk = |mb: u64| with(|facts| facts.disks[0].free_bytes = mb << 20);
    sim.hold(&disk(100), 60 * SECOND);
    sim.hold(&disk(90), 60 * SECOND);
    assert_eq!(sim.transitions(), [(true, "disk-almost-full")]);
    sim.hold(&disk(5), 60 * SECOND);
    assert_eq!(sim.transitions(), [(true, "disk-almost-full")]);
    assert_eq!(sim.ledger.shown()[0].raised.severity, Severity::Critical);
}

#[test]
fn nothing_follows_from_itself_by_a_detour() {
    // Everything that can be wrong at once, whichever way each task is down.
    let mut causes: BTreeMap<Code, BTreeSet<Code>> = BTreeMap::new();
    for state in [State::Ready, State::Degraded, State::Backoff, State::Held, State::Stopped] {
        for verdict in [Verdict::Failed("x".into()), Verdict::Refused("x".into()), Verdict::Granted("x".into())] {
            let facts = with(|facts| {
                for name in TaskName::ALL {
                    set_task(facts, name, state);
                }
                for probe in &mut facts.probes {
                    probe.verdict = verdict.clone();
                }
                facts.tasks[0].hung_lately = true;
                facts.tasks[1].restarts_lately = 5;
                facts.certificate = Certificate::Missing;
                facts.log_error = Some("x".into());
            });
            for raised in judge(&facts) {
                causes.entry(raised.key.code).or_default().extend(raised.causes.iter().map(|cause| cause.code));
            }
        }
    }
    for code in causes.keys() {
        let mut seen = BTreeSet::new();
        let mut next = vec![*code];
        while let Some(at) = next.pop() {
            for cause in causes.get(&at).into_iter().flatten() {
                assert_ne!(cause, code, "{} follows from itself", code.as_str());
                if seen.insert(*cause) {
                    next.push(*cause);
                }
            }
        }
    }
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let state = prop::sample::select(vec![
        State::Ready,
        State::Ready,
        State::Ready,
        State::Starting,
        State::Degraded,
        State::Backoff,
        State::Held,
        State::Stopped,
    ]);
    let verdict = prop::sample::select(vec![
        Verdict::Fine,
        Verdict::Fine,
        Verdict::Failed("x".into()),
        Verdict::Refused("x".into()),
        Verdict::Granted("x".into()),
    ]);
    let states = prop::collection::vec(state, TaskName::ALL.len());
    let verdicts = prop::collection::vec(verdict, Kind::ALL.len());
    (states, verdicts, 0..1024_u64, any::<bool>()).prop_map(|(states, verdicts, used, is_logged)| {
        with(|facts| {
            for (task, state) in facts.tasks.iter_mut().zip(states) {
                task.state = state;
            }
            for (probe, verdict) in facts.probes.iter_mut().zip(verdicts) {
                probe.verdict = verdict;
            }
            facts.descriptors = Some(Share { used, limit: 1024 });
            facts.log_error = (!is_logged).then(|| "x".into());
        })
    })
}

proptest! {
    #[test]
    fn what_is_shown_has_held_and_has_no_cause_that_is_wrong(
        steps in prop::collection::vec((any_facts(), 0..40_u64), 1..30),
    ) {
        let mut sim = Sim::new();
        // When each finding began to hold without a break that counts.
        let mut raised_since: BTreeMap<Key, Now> = BTreeMap::new();
        let mut shown_now: BTreeSet<Key> = BTreeSet::new();
        for (facts, seconds) in steps {
            let raised = judge(&facts);
            let keys: BTreeSet<Key> = raised.iter().map(|one| one.key.clone()).collect();
            sim.ledger.handle(raised.clone(), sim.now);
            for key in &keys {
                raised_since.entry(key.clone()).or_insert(sim.now);
            }
            let shown = sim.ledger.shown();
            for one in &shown {
                let key = &one.raised.key;
                let since = raised_since.get(key).expect("what is shown was wrong once");
                prop_assert!(sim.now.mono - since.mono >= key.code.shown_after());
                for cause in &one.raised.causes {
                    prop_assert!(!keys.iter().any(|other| cause.is(other)), "{:?} in spite of {:?}", key, cause);
                }
            }
            // A finding that is due and has no cause is not withheld.
            for one in &raised {
                let is_due = sim.now.mono - raised_since[&one.key].mono >= one.key.code.shown_after();
                let has_cause = sim.ledger_has_cause(&one.key);
                prop_assert_eq!(shown.iter().any(|shown| shown.raised.key == one.key), is_due && !has_cause);
            }
            // Transitions tell exactly what changed.
            while let Some(transition) = sim.ledger.poll_transition() {
                match transition {
                    Transition::Raised(shown) => { shown_now.insert(shown.raised.key); }
                    Transition::Cleared(shown) => prop_assert!(shown_now.remove(&shown.raised.key)),
                }
            }
            let wanted: BTreeSet<Key> = shown.iter().map(|one| one.raised.key.clone()).collect();
            prop_assert_eq!(&shown_now, &wanted);
            raised_since.retain(|key, _| keys.contains(key) || wanted.contains(key) || sim.ledger_keeps(key));
            let step = Duration::from_secs(seconds);
            sim.now = Now { mono: sim.now.mono + step, wall: sim.now.wall + step };
        }
    }
}

impl Sim {
    fn ledger_has_cause(&self, key: &Key) -> bool {
        self.ledger.cause_of(key).is_some()
    }

    fn ledger_keeps(&self, key: &Key) -> bool {
        self.ledger.keeps(key)
    }
}
