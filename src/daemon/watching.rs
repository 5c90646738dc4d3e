//! Gathers what findings are judged by, keeps the ledger, and tells of what changed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::probing::Probes;
use super::reload::InForce;
use crate::certs::CertHandle;
use crate::config::{self, Config};
use crate::control::protocol::{Finding, SCHEMA_VERSION, Severity};
use crate::edge;
use crate::error::Failure;
use crate::findings::facts::{Certificate, Disk, Edit, Share, Task};
use crate::findings::watch::{ClockWatch, Lately};
use crate::findings::{Code, Facts, Ledger, Shown, Transition, judge};
use crate::home::Home;
use crate::hooks::Hooks;
use crate::hooks::queue::Event;
use crate::supervisor::board::{Board, State, TaskView};
use crate::supervisor::events::{self, EventKind, Journal};
use crate::supervisor::service::TaskName;
use crate::sys::clock::{self, Now};
use crate::sys::{process, room, turns};
use crate::text;
use crate::turn;
use crate::words::Text;

/// How often the system is asked, which costs more.
const ASKED_EVERY: Duration = Duration::from_secs(15);
/// Of a certificate with a shorter life than this, the last week is nothing to worry about.
const SHORT_LIFE: Duration = Duration::from_secs(42 * 24 * 3600);
/// What counts as lately for what is counted.
const LATELY: Duration = Duration::from_secs(300);
const DROPS_LATELY: Duration = Duration::from_secs(60);

/// What is looked at.
pub(super) struct Sights {
    pub(super) probes: Probes,
    pub(super) board: Board,
    pub(super) certificate: CertHandle,
    pub(super) relay: Arc<turn::Counters>,
    pub(super) in_force: InForce,
    pub(super) goes_by: ArcSwap<GoesBy>,
    pub(super) connections: Arc<edge::Counters>,
    pub(super) edge: edge::Control,
    pub(super) hooks: Hooks,
    pub(super) journal: Journal,
    pub(super) home: Home,
    /// Whether log lines go to the home's file.
    pub(super) has_log_file: bool,
}

/// What follows from the configuration that is in force.
pub(super) struct GoesBy {
    total_quota: u32,
    turn_ports: Vec<u16>,
    /// What this service is called where several are told of.
    name: String,
}

impl GoesBy {
    /// `udp`: where TURN is listened for.
    pub(super) fn new(config: &Config, udp: &[SocketAddr]) -> Self {
        let turn_ports = udp.iter().map(SocketAddr::port).collect();
        Self { total_quota: config.turn.total_quota, turn_ports, name: config.page_url() }
    }
}

/// The findings of this service. Cheap to clone.
#[derive(Clone)]
pub(super) struct Watch {
    sights: Arc<Sights>,
    memory: Arc<Mutex<Memory>>,
    /// Whether every task has had its turn at the start.
    has_begun: Arc<AtomicBool>,
}

/// What is known from before.
struct Memory {
    ledger: Ledger,
    clock: ClockWatch,
    restarts: BTreeMap<TaskName, Lately>,
    hangs: BTreeMap<TaskName, Lately>,
    turned_away: Lately,
    drops: Lately,
    system: System,
    asked_at: Option<Instant>,
}

/// What the operating system said last.
#[derive(Debug, Clone, Default)]
struct System {
    disks: Vec<Disk>,
    descriptors: Option<Share>,
    log_error: Option<Text>,
    config_not_applied: Option<Edit>,
    dropped: u64,
}

impl Watch {
    pub(super) fn new(sights: Sights) -> Self {
        let memory = Memory {
            ledger: Ledger::default(),
            clock: ClockWatch::default(),
            restarts: TaskName::ALL.map(|name| (name, Lately::within(LATELY))).into(),
            hangs: TaskName::ALL.map(|name| (name, Lately::within(LATELY))).into(),
            turned_away: Lately::within(LATELY),
            drops: Lately::within(DROPS_LATELY),
            system: System::default(),
            asked_at: None,
        };
        Self { sights: Arc::new(sights), memory: Arc::new(Mutex::new(memory)), has_begun: Arc::default() }
    }

    /// Another configuration is in force.
    pub(super) fn follow(&self, config: &Config, goes_by: GoesBy) {
        self.sights.hooks.set_config(config.notify.clone());
        self.sights.goes_by.store(Arc::new(goes_by));
        // An edit that was taken up is no finding any more, and not only after the next look at the system.
        self.memory.lock().expect("nothing panics while it holds this lock").system.config_not_applied = None;
    }

    /// Judges again and again until `closing` is cancelled.
    pub(super) fn run(&self, closing: &CancellationToken) {
        self.has_begun.store(true, Ordering::Relaxed);
        while !closing.is_cancelled() {
            self.ask_system(clock::now().mono);
            self.look(clock::now());
            self.tell_changes(clock::now());
            thread::park_timeout(turns::until_next(clock::now().mono));
        }
    }

    /// Judges now, and gives what is shown.
    pub(super) fn look(&self, now: Now) -> Vec<Finding> {
        let mut memory = self.memory.lock().expect("nothing panics while it holds this lock");
        let facts = self.gather(&mut memory, now);
        memory.ledger.handle(judge(&facts), now);
        memory.ledger.shown().iter().map(finding).collect()
    }

    /// Tells of what has changed since this was last done. It may wait for a disk, so that nobody else is to wait for it.
    fn tell_changes(&self, now: Now) {
        let next = || self.memory.lock().expect("nothing panics while it holds this lock").ledger.poll_transition();
        while let Some(transition) = next() {
            self.tell(&transition, now);
        }
    }

    /// Asks the operating system, if that is due. A disk that hangs must not hold up who asks for the status.
    fn ask_system(&self, now: Instant) {
        let memory = || self.memory.lock().expect("nothing panics while it holds this lock");
        let is_due = memory().asked_at.is_none_or(|at| now.saturating_duration_since(at) >= ASKED_EVERY);
        if is_due {
            let system = ask_system(&self.sights);
            let mut memory = memory();
            memory.asked_at = Some(now);
            memory.system = system;
        }
    }

    fn gather(&self, memory: &mut Memory, now: Now) -> Facts {
        let sights = &self.sights;
        let tasks = sights.board.tasks();
        // Nobody has stopped a task whose turn at the start has not come yet.
        let has_begun = self.has_begun.load(Ordering::Relaxed);
        let state = |state| if state == State::Stopped && !has_begun { State::Starting } else { state };
        let task = |view: &TaskView| {
            let restarts = memory.restarts.get_mut(&view.name);
            let restarts_lately = restarts.map_or(0, |lately| lately.handle(view.restarts, now.mono));
            let hangs = memory.hangs.get_mut(&view.name);
            Task {
                name: view.name,
                state: state(view.state),
                last_error: view.last_error.clone(),
                restarts_lately,
                hung_lately: hangs.is_some_and(|lately| lately.handle(view.hangs, now.mono) > 0),
            }
        };
        let tasks: Vec<Task> = tasks.iter().map(task).collect();
        let served = sights.certificate.current();
        let certificate = match served {
            None if tasks.is_empty() => Certificate::Unknown,
            None => Certificate::Missing,
            Some(served) => match served.not_after.duration_since(now.wall) {
                Ok(left) => match served.not_after.duration_since(served.not_before) {
                    Ok(life) if life < SHORT_LIFE => Certificate::ShortLived { left, life },
                    Ok(_) | Err(_) => Certificate::Valid(left),
                },
                Err(past) => Certificate::Expired(past.duration()),
            },
        };
        let allocations = turn::Counters::read(&sights.relay.allocations);
        let turned_away = sights.connections.of(edge::Class::TurnedAway);
        Facts {
            tasks,
            probes: sights.probes.facts(),
            certificate,
            config_not_applied: memory.system.config_not_applied.clone(),
            http_port_taken: sights.edge.lack().as_ref().map(http_port_taken),
            clock_jump: memory.clock.handle(now),
            disks: memory.system.disks.clone(),
            descriptors: memory.system.descriptors,
            relay_ports: Some(Share { used: allocations, limit: sights.goes_by.load().total_quota.into() }),
            log_error: memory.system.log_error.clone(),
            notify_error: sights.hooks.error(),
            receive_drops: memory.drops.handle(memory.system.dropped, now.mono),
            turned_away: memory.turned_away.handle(turned_away, now.mono),
            home_flag: sights.home.flag(),
            log_file: sights.home.log_file().display().to_string(),
        }
    }

    fn tell(&self, transition: &Transition, now: Now) {
        let (shown, is_raised) = match transition {
            Transition::Raised(shown) => (shown, true),
            Transition::Cleared(shown) => (shown, false),
        };
        let Shown { raised, .. } = shown;
        let code = raised.key.code.as_str();
        if is_raised {
            warn!(code, evidence = raised.evidence.english(), "{}", raised.title.english());
        } else {
            info!(code, "no more: {}", raised.title.english());
        }
        let task = TaskName::ALL.into_iter().find(|task| task.as_str() == raised.key.subject);
        let severity = severity_word(raised.severity);
        let (from, to) = if is_raised { ("clear", severity) } else { (severity, "clear") };
        let cause = format!("{code}: {}", raised.title.english());
        let event = events::Event::new(EventKind::Finding, task, &cause, now).between(from, to);
        self.sights.journal.record(event);
        // Who cannot be told of anything cannot be told of that either.
        if raised.key.code == Code::NotifyFails {
            return;
        }
        let body = json!({
            "schema_version": SCHEMA_VERSION,
            "event": if is_raised { "raised" } else { "cleared" },
            "at": clock::rfc3339_seconds(now.wall),
            "service": self.sights.goes_by.load().name,
            "finding": finding(shown),
        });
        let key = format!("{code} {}", raised.key.subject);
        self.sights.hooks.tell(Event { key, is_raised, body: body.to_string() });
    }
}

/// What is in the way, and what to do.
fn http_port_taken(failure: &Failure) -> (Text, Text) {
    (failure.told(), Text::clauses(failure.hints().iter().cloned()))
}

fn severity_word(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
        Severity::Critical => "critical",
    }
}

fn finding(shown: &Shown) -> Finding {
    let Shown { raised, since, hides } = shown;
    Finding {
        code: raised.key.code.as_str().to_owned(),
        subject: raised.key.subject.clone(),
        severity: raised.severity,
        title: raised.title.clone(),
        evidence: raised.evidence.clone(),
        hint: raised.hint.clone(),
        since: clock::rfc3339_seconds(*since),
        hides: hides.iter().map(|key| key.code.as_str().to_owned()).collect(),
    }
}

/// `what` was edited. Whether it would pass is said at once, not when somebody needs it to.
fn edit(what: Text, home: &Home) -> Edit {
    let refused = config::load(home).err().map(|failure| {
        let first = failure.causes().first();
        first.map_or_else(|| failure.message().clone(), |cause| text!("{}: {}", failure.message(), cause))
    });
    Edit { what, refused }
}

fn ask_system(sights: &Sights) -> System {
    let home = &sights.home;
    let disk = |path: &Path| {
        let room = room::on_disk(path).ok()?;
        let path = path.display().to_string();
        Some(Disk { path, free_bytes: room.free_bytes, total_bytes: room.total_bytes })
    };
    let mut disks: Vec<Disk> = Vec::new();
    for found in [home.state_dir(), home.log_dir()].into_iter().filter_map(disk) {
        // Most homes are on one disk.
        let is_same = |other: &Disk| (other.free_bytes, other.total_bytes) == (found.free_bytes, found.total_bytes);
        if !disks.iter().any(is_same) {
            disks.push(found);
        }
    }
    let log_error = sights.has_log_file.then(|| room::writable(home.log_dir()).err()).flatten();
    System {
        disks,
        descriptors: room::open_files().map(|used| Share { used, limit: process::open_files_limit() }),
        log_error: log_error.map(|error| text!("`{}`: {}", home.log_dir().display(), Text::of_error(&error))),
        config_not_applied: sights.in_force.edited().map(|what| edit(what, home)),
        dropped: room::dropped_datagrams(&sights.goes_by.load().turn_ports),
    }
}
