//! The status document, put together from what is published: nothing here waits for a task.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::metrics;
use super::probing::{AskedAt, Probes};
use super::relay::Relay;
use super::reload::InForce;
use crate::certs::{CertHandle, Served};
use crate::config::Config;
use crate::control::protocol::{
    Calls, CertificateStatus, Finding, ProbeStatus, SCHEMA_VERSION, Severity, Status, TaskStatus, Urls, UsageStatus,
};
use crate::edge;
use crate::home::Home;
use crate::signaling;
use crate::supervisor::board::{Board, State, TaskView};
use crate::sys::clock::Now;
use crate::sys::log::record;
use crate::sys::usage::{self, ThreadUsage};
use crate::sys::{log, process};
use crate::turn::ice::LiveIce;
use crate::turn::{self, Counters};

/// Days before its end at which a certificate that was not renewed is a finding.
const CERTIFICATE_WARNING_DAYS: f64 = 7.0;
const SECONDS_A_DAY: f64 = 86_400.0;

/// Where a status comes from. Cheap to clone.
#[derive(Clone)]
pub(super) struct Sources {
    pub(super) probes: Probes,
    pub(super) started_at: Instant,
    pub(super) board: Board,
    pub(super) ice: LiveIce,
    pub(super) certificate: CertHandle,
    pub(super) outside: Arc<ArcSwap<Outside>>,
    pub(super) turn_counters: Arc<Counters>,
    pub(super) in_force: InForce,
    pub(super) log: log::Control,
    pub(super) connections: Arc<edge::Counters>,
    pub(super) calls: Arc<signaling::Counters>,
    pub(super) home: Home,
}

/// What is known outside of this service, and changes with its configuration.
pub(super) struct Outside {
    relay: Relay,
    pub(super) web_url: String,
}

impl Outside {
    pub(super) fn new(config: &Config, counters: &Arc<Counters>, udp: &[SocketAddr], streams: &[SocketAddr]) -> Self {
        // Each listener of streams takes both kinds, told apart by the first bytes.
        Self { relay: Relay::new(&config.turn, Arc::clone(counters), udp, streams, streams), web_url: web_url(config) }
    }
}

fn web_url(config: &Config) -> String {
    let host = config.hosts.first().map(ToString::to_string).unwrap_or_default();
    match config.web.port {
        443 => format!("https://{host}/"),
        port => format!("https://{host}:{port}/"),
    }
}

impl Sources {
    /// Another configuration is in force.
    pub(super) fn follow(&self, config: &Config, edge: &edge::Control, turn: &turn::Control) {
        let (udp, streams) = (turn.addresses(), edge.turn_addresses());
        self.probes.follow(AskedAt { web: edge.https_address(), turn: udp.first().copied() });
        self.outside.store(Arc::new(Outside::new(config, &self.turn_counters, &udp, &streams)));
    }
}

/// Reads the status of this moment.
pub(super) fn read(sources: &Sources, now: Now) -> Status {
    let tasks = sources.board.tasks();
    let certificate = sources.certificate.current();
    let mut findings: Vec<Finding> = tasks.iter().filter_map(|task| task_finding(task, sources, now)).collect();
    findings.extend(tasks.iter().filter_map(|task| probe_finding(task, sources)));
    findings.extend(certificate.as_deref().and_then(|served| certificate_finding(served, sources, now)));
    let count = Counters::read;
    let threads = usage::threads();
    let outside = sources.outside.load();
    Status {
        schema_version: SCHEMA_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        state: sources.board.overall(),
        uptime_s: now.mono.saturating_duration_since(sources.started_at).as_secs(),
        usage: usage_status(&threads, sources),
        tasks: tasks.iter().map(|task| task_status(task, sources, &threads, now)).collect(),
        urls: Urls { web: outside.web_url.clone(), ice: sources.ice.current().urls(None) },
        calls: Calls { rooms: count(&sources.calls.rooms), peers: count(&sources.calls.peers) },
        turn: outside.relay.status(),
        connections: edge::Class::ALL
            .iter()
            .map(|class| (class.as_str().to_owned(), sources.connections.of(*class)))
            .collect(),
        certificate: certificate.map(|served| CertificateStatus {
            source: "self-signed".to_owned(),
            names: served.names.clone(),
            not_after: rfc3339(served.not_after),
            days_left: days_left(&served, now),
            fingerprint_sha256: served.fingerprint.clone(),
        }),
        findings,
        pending: sources.in_force.pending(),
    }
}

/// The counters of this moment for Prometheus.
pub(super) fn metrics(sources: &Sources, now: Now) -> String {
    let served = sources.certificate.current();
    let not_after = served.and_then(|served| served.not_after.duration_since(SystemTime::UNIX_EPOCH).ok());
    metrics::render(&read(sources, now), not_after.map(|since| since.as_secs()))
}

fn usage_status(threads: &[ThreadUsage], sources: &Sources) -> Option<UsageStatus> {
    let usage = usage::own()?;
    let mut cpu_ms_by_part: BTreeMap<String, u64> = BTreeMap::new();
    for thread in threads {
        *cpu_ms_by_part.entry(part_of(thread).to_owned()).or_default() += thread.cpu_ms;
    }
    Some(UsageStatus {
        memory_bytes: usage.memory_bytes,
        cpu_ms: usage.cpu_ms,
        threads: threads.len() as u64,
        descriptors: usage::descriptors(),
        descriptors_limit: process::open_files_limit(),
        cpu_ms_by_part,
        log_lines_lost: sources.log.lost(),
    })
}

/// The kernel calls the first thread by the name of the program.
fn part_of(thread: &ThreadUsage) -> &str {
    record::part(Some(thread.name.as_str()).filter(|name| *name != "rtcctl"))
}

fn task_status(task: &TaskView, sources: &Sources, threads: &[ThreadUsage], now: Now) -> TaskStatus {
    let own: Vec<u64> =
        threads.iter().filter(|thread| part_of(thread) == task.name.as_str()).map(|own| own.cpu_ms).collect();
    let up_since = task.ready_since.unwrap_or(now.mono);
    // What a task answered before it went down is no news.
    let probed = task.ready_since.and_then(|_| sources.probes.of(task.name));
    TaskStatus {
        name: task.name,
        state: task.state,
        uptime_s: now.mono.saturating_duration_since(up_since).as_secs(),
        restarts: task.restarts,
        last_error: task.last_error.clone(),
        probe: probed.map(|probed| ProbeStatus {
            ok: probed.error.is_none(),
            latency_ms: (probed.latency.as_secs_f64() * 1e6).round() / 1e3,
            at: rfc3339(probed.at),
        }),
        cpu_ms: (!threads.is_empty()).then(|| own.iter().sum()),
        threads: own.len() as u64,
    }
}

fn task_finding(task: &TaskView, sources: &Sources, now: Now) -> Option<Finding> {
    let flag = sources.home.flag();
    let (severity, title) = match task.state {
        State::Held => (Severity::Critical, "is down after failing too often"),
        State::Backoff => (Severity::Error, "failed and waits for its next start"),
        State::Stopped => (Severity::Warning, "is stopped"),
        State::Degraded => (Severity::Warning, "serves, but not well"),
        State::Starting | State::Ready | State::Draining => return None,
    };
    let since = now.wall - now.mono.saturating_duration_since(task.since);
    Some(Finding {
        code: format!("task-{}", state_word(task.state)),
        severity,
        title: format!("{} {title}", task.name),
        evidence: task.last_error.clone().unwrap_or_else(|| "stopped by the operator".to_owned()),
        hint: match task.state {
            State::Held | State::Stopped => format!("start it by `rtcctl{flag} start {}`", task.name),
            State::Starting | State::Ready | State::Degraded | State::Draining | State::Backoff => {
                format!("read `{}`", sources.home.log_file().display())
            }
        },
        since: rfc3339(since),
    })
}

fn probe_finding(task: &TaskView, sources: &Sources) -> Option<Finding> {
    task.ready_since?;
    let probed = sources.probes.of(task.name)?;
    Some(Finding {
        code: "probe-failed".to_owned(),
        severity: Severity::Error,
        title: format!("{} does not answer as it should", task.name),
        evidence: probed.error?,
        hint: format!("restart it by `rtcctl{} restart {}`", sources.home.flag(), task.name),
        since: rfc3339(probed.at),
    })
}

fn state_word(state: State) -> &'static str {
    match state {
        State::Stopped => "stopped",
        State::Starting => "starting",
        State::Ready => "ready",
        State::Degraded => "degraded",
        State::Draining => "draining",
        State::Backoff => "backoff",
        State::Held => "held",
    }
}

fn certificate_finding(served: &Served, sources: &Sources, now: Now) -> Option<Finding> {
    let days = days_left(served, now);
    (days < CERTIFICATE_WARNING_DAYS).then(|| Finding {
        code: "certificate-ends".to_owned(),
        severity: if days > 0.0 { Severity::Error } else { Severity::Critical },
        title: "the certificate ends soon and was not renewed".to_owned(),
        evidence: format!("it is valid until {}", rfc3339(served.not_after)),
        hint: format!("restart the task by `rtcctl{} restart certs`", sources.home.flag()),
        since: rfc3339(now.wall),
    })
}

/// Days until the certificate ends, negative after that.
fn days_left(served: &Served, now: Now) -> f64 {
    let seconds = match served.not_after.duration_since(now.wall) {
        Ok(left) => left.as_secs_f64(),
        Err(past) => -past.duration().as_secs_f64(),
    };
    // A tenth of a day is as exact as anybody needs it.
    (seconds / SECONDS_A_DAY * 10.0).floor() / 10.0
}

pub(super) fn rfc3339(at: SystemTime) -> String {
    let seconds = OffsetDateTime::from(at).replace_nanosecond(0);
    seconds.ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}
