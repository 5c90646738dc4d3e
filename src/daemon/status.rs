//! The status document, put together from what is published: nothing here waits for a task.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;

use super::checks::Targets;
use super::probing::{Probed, Probes};
use super::relay::Relay;
use super::reload::InForce;
use super::watching::{GoesBy, Watch};
use super::{metrics, probe_metrics};
use crate::access::Gate;
use crate::certs::renewal::Alarm;
use crate::certs::{CertHandle, RenewalView, Served};
use crate::config::{Config, Host};
use crate::control::protocol::{
    AccessStatus, AttemptStatus, Calls, CertificateStatus, Finding, PanicStatus, ProbeReport, ProbeStatus,
    RenewalStatus, SCHEMA_VERSION, SandboxStatus, Severity, SignalingStatus, Status, TaskStatus, Urls, UsageStatus,
};
use crate::edge;
use crate::findings::facts::Kind;
use crate::probe::histogram::Histogram;
use crate::signaling;
use crate::supervisor::board::{Board, State, TaskView};
use crate::supervisor::service::TaskName;
use crate::sys::clock::{Now, rfc3339_seconds};
use crate::sys::log::record;
use crate::sys::sandbox::Confinement;
use crate::sys::usage::{self, ThreadUsage};
use crate::sys::{log, process};
use crate::turn::ice::LiveIce;
use crate::turn::{self, Counters};

const SECONDS_A_DAY: f64 = 86_400.0;

/// Where a status comes from. Cheap to clone.
#[derive(Clone)]
pub(super) struct Sources {
    pub(super) probes: Probes,
    pub(super) started_at: Instant,
    pub(super) board: Board,
    pub(super) ice: LiveIce,
    pub(super) gate: Gate,
    pub(super) certificate: CertHandle,
    pub(super) outside: Arc<ArcSwap<Outside>>,
    pub(super) turn_counters: Arc<Counters>,
    pub(super) in_force: InForce,
    pub(super) log: log::Control,
    pub(super) connections: Arc<edge::Counters>,
    pub(super) calls: Arc<signaling::Counters>,
    pub(super) watch: Watch,
}

/// What is known outside of this service, and changes with its configuration.
pub(super) struct Outside {
    relay: Relay,
    pub(super) web_url: String,
}

impl Outside {
    pub(super) fn new(config: &Config, counters: &Arc<Counters>, udp: &[SocketAddr], streams: &[SocketAddr]) -> Self {
        // Each listener of streams takes both kinds, told apart by the first bytes.
        Self {
            relay: Relay::new(&config.turn, Arc::clone(counters), udp, streams, streams),
            web_url: config.page_url(),
        }
    }
}

/// The first name of this host, as handshakes can say it.
pub(super) fn host_name(config: &Config) -> Option<String> {
    config.hosts.iter().find_map(|host| match host {
        Host::Name(name) => Some(name.clone()),
        Host::Address(_) => None,
    })
}

impl Sources {
    /// Another configuration is in force.
    pub(super) fn follow(&self, config: &Config, edge: &edge::Control, turn: &turn::Control) {
        let (udp, streams) = (turn.addresses(), edge.turn_addresses());
        self.probes.follow(&Targets {
            https: edge.https_addresses(),
            streams: streams.clone(),
            udp: udp.clone(),
            name: host_name(config),
        });
        self.watch.follow(config, GoesBy::new(config, &udp));
        self.outside.store(Arc::new(Outside::new(config, &self.turn_counters, &udp, &streams)));
    }
}

/// Reads the status of this moment.
pub(super) fn read(sources: &Sources, now: Now) -> Status {
    let tasks = sources.board.tasks();
    let certificate = sources.certificate.current();
    let probes = probe_reports(&sources.probes);
    let findings = sources.watch.look(now);
    let count = Counters::read;
    let threads = usage::threads();
    let outside = sources.outside.load();
    Status {
        schema_version: SCHEMA_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        state: overall(sources.board.overall(), &findings),
        uptime_s: now.mono.saturating_duration_since(sources.started_at).as_secs(),
        usage: usage_status(&threads, sources),
        sandbox: Confinement::own().map(sandbox_status),
        tasks: tasks.iter().map(|task| task_status(task, &probes, &threads, now)).collect(),
        urls: Urls { web: outside.web_url.clone(), ice: sources.ice.current().urls(None) },
        calls: Calls { rooms: count(&sources.calls.rooms), peers: count(&sources.calls.peers) },
        access: AccessStatus {
            mode: if sources.gate.is_open() { "open" } else { "key" }.to_owned(),
            outcomes: sources.gate.counters().all().map(|(word, count)| (word.to_owned(), count)).collect(),
        },
        signaling: signaling_status(&sources.calls),
        turn: outside.relay.status(),
        connections: edge::Class::ALL
            .iter()
            .map(|class| (class.as_str().to_owned(), sources.connections.of(*class)))
            .collect(),
        certificate: certificate.map(|served| CertificateStatus {
            source: served.source.as_str().to_owned(),
            names: served.names.clone(),
            not_after: rfc3339_seconds(served.not_after),
            days_left: days_left(&served, now),
            fingerprint_sha256: served.fingerprint.clone(),
            issuer: served.issuer.clone(),
            renewal: sources.certificate.renewal().as_deref().map(renewal),
        }),
        probes,
        findings,
        pending: sources.in_force.pending(),
    }
}

/// A service whose tasks are all ready serves badly all the same if something does not work from outside.
fn overall(tasks: State, findings: &[Finding]) -> State {
    let is_grave = |finding: &Finding| matches!(finding.severity, Severity::Error | Severity::Critical);
    if tasks == State::Ready && findings.iter().any(is_grave) { State::Degraded } else { tasks }
}

/// The counters of this moment for Prometheus.
pub(super) fn metrics(sources: &Sources, now: Now) -> String {
    let served = sources.certificate.current();
    let not_after = served.and_then(|served| served.not_after.duration_since(SystemTime::UNIX_EPOCH).ok());
    let status = read(sources, now);
    let page = metrics::render(&status, not_after.map(|since| since.as_secs()));
    page + &probe_metrics::render(&sources.probes.histograms(), &status.findings)
}

fn renewal(view: &RenewalView) -> RenewalStatus {
    let alarm = view.alarm.map(|alarm| match alarm {
        Alarm::Info => "info",
        Alarm::Warning => "warning",
        Alarm::Error => "error",
        Alarm::Critical => "critical",
    });
    RenewalStatus {
        state: view.state.as_str().to_owned(),
        next_at: view.next_at.map(rfc3339_seconds),
        reason: view.reason.to_owned(),
        failures: view.failures,
        alarm: alarm.map(str::to_owned),
        last: view.last.as_ref().map(|last| AttemptStatus {
            at: rfc3339_seconds(last.at),
            authority: last.authority.clone(),
            rehearsal: last.rehearsal,
            class: last.failure.as_ref().map(|(class, _, _)| class.as_str().to_owned()),
            error: last.failure.as_ref().map(|(_, error, _)| error.clone()),
            hint: last.failure.as_ref().and_then(|(_, _, hint)| hint.clone()),
        }),
    }
}

fn signaling_status(counters: &signaling::Counters) -> SignalingStatus {
    let limits = signaling::Limit::ALL.iter().map(|limit| (limit.as_str().to_owned(), counters.met(*limit)));
    let ended = signaling::End::ALL.iter().map(|end| (end.as_str().to_owned(), counters.ended(*end)));
    SignalingStatus {
        sockets: Counters::read(&counters.sockets),
        messages: Counters::read(&counters.messages),
        queued_bytes: Counters::read(&counters.queued_bytes),
        limits: limits.collect(),
        ended: ended.collect(),
    }
}

fn sandbox_status(confinement: Confinement) -> SandboxStatus {
    SandboxStatus {
        user: confinement.user,
        capabilities: format!("{:x}", confinement.capabilities),
        no_new_privileges: confinement.no_new_privileges,
        seccomp: confinement.filters_calls,
        read_only_system: confinement.has_read_only_system,
        landlock: confinement.landlock,
    }
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

fn task_status(task: &TaskView, probes: &[ProbeReport], threads: &[ThreadUsage], now: Now) -> TaskStatus {
    let own: Vec<u64> =
        threads.iter().filter(|thread| part_of(thread) == task.name.as_str()).map(|own| own.cpu_ms).collect();
    let up_since = task.ready_since.unwrap_or(now.mono);
    TaskStatus {
        name: task.name,
        state: task.state,
        uptime_s: now.mono.saturating_duration_since(up_since).as_secs(),
        restarts: task.restarts,
        hangs: task.hangs,
        panics: task.panics,
        last_error: task.last_error.clone(),
        last_panic: task.last_panic.as_ref().map(|panic| PanicStatus {
            at: rfc3339_seconds(panic.at),
            message: panic.message.clone(),
            place: panic.place.clone(),
        }),
        probe: probe_status(task.name, probes),
        cpu_ms: (!threads.is_empty()).then(|| own.iter().sum()),
        threads: own.len() as u64,
    }
}

/// The probe by which a task is judged at a glance.
fn main_probe(task: TaskName) -> Kind {
    match task {
        TaskName::Certs => Kind::Certificate,
        TaskName::Turn => Kind::Stun,
        TaskName::Signaling => Kind::Signaling,
        TaskName::Web => Kind::Web,
    }
}

fn probe_status(task: TaskName, probes: &[ProbeReport]) -> Option<ProbeStatus> {
    let name = main_probe(task).as_str();
    let probe = probes.iter().find(|probe| probe.name == name && probe.task == task)?;
    Some(ProbeStatus {
        ok: probes.iter().filter(|probe| probe.task == task).all(|probe| probe.ok),
        latency_ms: probe.latency_ms,
        at: probe.at.clone(),
        p50_ms: probe.p50_ms,
        p90_ms: probe.p90_ms,
        max_ms: probe.max_ms,
    })
}

fn probe_reports(probes: &Probes) -> Vec<ProbeReport> {
    // In this order: whatever is found is counted by then.
    let found = probes.found();
    let histograms = probes.histograms();
    let report = |probed: Probed| {
        let histogram = histograms.get(&probed.kind);
        let quantiles = histogram.and_then(Histogram::quantiles);
        ProbeReport {
            name: probed.kind.as_str().to_owned(),
            task: probed.kind.task(),
            ok: probed.verdict.is_fine(),
            error: probed.verdict.error().cloned(),
            place: probed.place,
            latency_ms: ms(probed.latency),
            at: rfc3339_seconds(probed.at),
            p50_ms: quantiles.map(|quantiles| ms(quantiles.p50)),
            p90_ms: quantiles.map(|quantiles| ms(quantiles.p90)),
            max_ms: quantiles.map(|quantiles| ms(quantiles.max)),
            failures: histogram.map_or(0, Histogram::failures),
        }
    };
    found.into_iter().map(report).collect()
}

/// In milliseconds, to the microsecond.
fn ms(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_work_from_outside_degrades_a_service_whose_tasks_are_ready() {
        let finding = |severity| Finding {
            code: "port-lost".to_owned(),
            subject: String::new(),
            severity,
            title: Default::default(),
            evidence: Default::default(),
            hint: Default::default(),
            since: String::new(),
            hides: Vec::new(),
        };
        let cases = [
            (State::Ready, None, State::Ready),
            (State::Ready, Some(Severity::Info), State::Ready),
            (State::Ready, Some(Severity::Warning), State::Ready),
            (State::Ready, Some(Severity::Error), State::Degraded),
            (State::Ready, Some(Severity::Critical), State::Degraded),
            (State::Held, Some(Severity::Critical), State::Held),
        ];
        for (tasks, severity, wanted) in cases {
            let findings: Vec<Finding> = severity.map(finding).into_iter().collect();
            assert_eq!(overall(tasks, &findings), wanted, "{tasks:?} {severity:?}");
        }
    }
}
