//! The status document, put together from what is published: nothing here waits for a task.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::metrics;
use super::probing::Probes;
use super::relay::Relay;
use crate::certs::renewal::Alarm;
use crate::certs::{CertHandle, RenewalView, Served};
use crate::control::protocol::{
    AttemptStatus, Calls, CertificateStatus, Finding, PanicStatus, ProbeStatus, RenewalStatus, SCHEMA_VERSION,
    Severity, Status, TaskStatus, Urls, UsageStatus,
};
use crate::edge;
use crate::home::Home;
use crate::signaling;
use crate::supervisor::board::{Board, State, TaskView};
use crate::sys::clock::Now;
use crate::sys::usage;
use crate::turn::Counters;
use crate::turn::ice::IceIssuer;

/// Days before its end at which a certificate that was not renewed is a finding.
const CERTIFICATE_WARNING_DAYS: f64 = 7.0;
const SECONDS_A_DAY: f64 = 86_400.0;

/// Where a status comes from. Cheap to clone.
#[derive(Clone)]
pub(super) struct Sources {
    pub(super) probes: Probes,
    pub(super) started_at: Instant,
    pub(super) board: Board,
    pub(super) ice: IceIssuer,
    pub(super) certificate: CertHandle,
    pub(super) relay: Relay,
    pub(super) connections: Arc<edge::Counters>,
    pub(super) calls: Arc<signaling::Counters>,
    pub(super) web_url: String,
    pub(super) home: Home,
}

/// Reads the status of this moment.
pub(super) fn read(sources: &Sources, now: Now) -> Status {
    let tasks = sources.board.tasks();
    let certificate = sources.certificate.current();
    let mut findings: Vec<Finding> = tasks.iter().filter_map(|task| task_finding(task, sources, now)).collect();
    findings.extend(tasks.iter().filter_map(|task| probe_finding(task, sources)));
    findings.extend(certificate.as_deref().and_then(|served| certificate_finding(served, sources, now)));
    let count = Counters::read;
    Status {
        schema_version: SCHEMA_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        state: sources.board.overall(),
        uptime_s: now.mono.saturating_duration_since(sources.started_at).as_secs(),
        usage: usage::own().map(|usage| UsageStatus { memory_bytes: usage.memory_bytes, cpu_ms: usage.cpu_ms }),
        tasks: tasks.iter().map(|task| task_status(task, sources, now)).collect(),
        urls: Urls { web: sources.web_url.clone(), ice: sources.ice.urls(None) },
        calls: Calls { rooms: count(&sources.calls.rooms), peers: count(&sources.calls.peers) },
        turn: sources.relay.status(),
        connections: edge::Class::ALL
            .iter()
            .map(|class| (class.as_str().to_owned(), sources.connections.of(*class)))
            .collect(),
        certificate: certificate.map(|served| CertificateStatus {
            source: served.source.as_str().to_owned(),
            names: served.names.clone(),
            not_after: rfc3339(served.not_after),
            days_left: days_left(&served, now),
            fingerprint_sha256: served.fingerprint.clone(),
            issuer: served.issuer.clone(),
            renewal: sources.certificate.renewal().as_deref().map(renewal),
        }),
        findings,
    }
}

/// The counters of this moment for Prometheus.
pub(super) fn metrics(sources: &Sources, now: Now) -> String {
    let served = sources.certificate.current();
    let not_after = served.and_then(|served| served.not_after.duration_since(SystemTime::UNIX_EPOCH).ok());
    metrics::render(&read(sources, now), not_after.map(|since| since.as_secs()))
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
        next_at: view.next_at.map(rfc3339),
        reason: view.reason.to_owned(),
        failures: view.failures,
        alarm: alarm.map(str::to_owned),
        last: view.last.as_ref().map(|last| AttemptStatus {
            at: rfc3339(last.at),
            authority: last.authority.clone(),
            rehearsal: last.rehearsal,
            class: last.failure.as_ref().map(|(class, _, _)| class.as_str().to_owned()),
            error: last.failure.as_ref().map(|(_, error, _)| error.clone()),
            hint: last.failure.as_ref().and_then(|(_, _, hint)| hint.map(str::to_owned)),
        }),
    }
}

fn task_status(task: &TaskView, sources: &Sources, now: Now) -> TaskStatus {
    let up_since = task.ready_since.unwrap_or(now.mono);
    // What a task answered before it went down is no news.
    let probed = task.ready_since.and_then(|_| sources.probes.of(task.name));
    TaskStatus {
        name: task.name,
        state: task.state,
        uptime_s: now.mono.saturating_duration_since(up_since).as_secs(),
        restarts: task.restarts,
        hangs: task.hangs,
        last_error: task.last_error.clone(),
        last_panic: task.last_panic.as_ref().map(|panic| PanicStatus {
            at: rfc3339(panic.at),
            message: panic.message.clone(),
            place: panic.place.clone(),
        }),
        probe: probed.map(|probed| ProbeStatus {
            ok: probed.error.is_none(),
            latency_ms: (probed.latency.as_secs_f64() * 1e6).round() / 1e3,
            at: rfc3339(probed.at),
        }),
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
        code: format!("task-{}", task.state.as_str()),
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

fn rfc3339(at: SystemTime) -> String {
    let seconds = OffsetDateTime::from(at).replace_nanosecond(0);
    seconds.ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}
