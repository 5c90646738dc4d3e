//! `rtcctl status` and `rtcctl list`: how things are.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args as ClapArgs;
use serde_json::json;

use super::qr::qr_code;
use super::summary::{fitted_table, summary};
use super::{Frame, findings, guardian, service};
use crate::control::client::ask;
use crate::control::protocol::{Request, Response, SCHEMA_VERSION, Status};
use crate::error::{Failure, Kind, Result};
use crate::home::Home;
use crate::supervisor::board::State;
use crate::text;
use crate::words::Text;

/// A status is answered from what is published, so this is long.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Show the page's address as a QR code, too
    #[arg(long)]
    qr: bool,
}

/// Everything at a glance. Exit code 0: ready; 10: with a finding; 11: a task is down; 3: not running.
pub(super) fn run(frame: &Frame, args: &Args) -> Result<ExitCode> {
    if let Some(down) = guardian::waits(frame)? {
        return Ok(guardian::tell_down(frame, &down));
    }
    let Some(status) = read(frame)? else { return Ok(Kind::NotRunning.exit_code().into()) };
    let guardian = guardian::Known::of(&frame.home);
    if frame.json {
        frame.print_json(&guardian::with_report(&status, &guardian));
    } else {
        frame.print(fitted_table(&status, frame.colour, frame.lang));
        let is_systemd_s = matches!(guardian, guardian::Known::None) && service::is_a_unit(&frame.home);
        let keeper = if is_systemd_s {
            (text!("service"), Text::verbatim("systemd, rtcctl.service"))
        } else {
            guardian::row(&guardian)
        };
        frame.print(summary(&status, keeper, frame.colour, frame.lang));
        if let Some(code) = qr_code(&status.urls.web).filter(|_| args.qr) {
            frame.print(code);
        }
    }
    Ok(exit_code(&status))
}

/// The tasks alone.
pub(super) fn list(frame: &Frame) -> Result<ExitCode> {
    if let Some(down) = guardian::waits(frame)? {
        return Ok(guardian::tell_down(frame, &down));
    }
    let Some(status) = read(frame)? else { return Ok(Kind::NotRunning.exit_code().into()) };
    if frame.json {
        let document = json!({ "schema_version": SCHEMA_VERSION, "tasks": status.tasks });
        frame.print_json(&document);
    } else {
        frame.print(fitted_table(&status, frame.colour, frame.lang));
    }
    Ok(exit_code(&status))
}

/// Asks the daemon.
pub(super) fn ask_for(home: &Home) -> Result<Status> {
    match ask(home, &Request::Status, PATIENCE)? {
        Response::Status { status } => Ok(*status),
        Response::Done
        | Response::Renewed { .. }
        | Response::Refused { .. }
        | Response::Reloaded { .. }
        | Response::Phone(_)
        | Response::Measure { .. }
        | Response::Failed { .. } => Err(Failure::bug(text!("a status was asked for and not given"))),
    }
}

/// `None`: it does not run, which was told.
pub(super) fn read(frame: &Frame) -> Result<Option<Status>> {
    match ask_for(&frame.home) {
        Ok(status) => Ok(Some(status)),
        Err(failure) if failure.kind() == Kind::NotRunning && frame.json => {
            let document = json!({
                "schema_version": SCHEMA_VERSION,
                "version": env!("CARGO_PKG_VERSION"),
                "state": "stopped",
                "tasks": [],
            });
            frame.print_json(&document);
            Ok(None)
        }
        Err(failure) if failure.kind() == Kind::NotRunning => {
            Err(service::state(&frame.home).into_iter().fold(failure, Failure::because))
        }
        Err(failure) => Err(failure),
    }
}

pub(super) fn exit_code(status: &Status) -> ExitCode {
    let has = |wanted: &[State]| status.tasks.iter().any(|task| wanted.contains(&task.state));
    if has(&[State::Stopped, State::Backoff, State::Held]) || status.tasks.is_empty() {
        Kind::TaskDown.exit_code().into()
    } else if status.state != State::Ready || findings::are_bad(&status.findings) {
        Kind::Degraded.exit_code().into()
    } else {
        ExitCode::SUCCESS
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use crate::control::protocol::{
        AccessStatus, Calls, CertificateStatus, Finding, Pending, ProbeStatus, SandboxStatus, Severity, TaskStatus,
        TurnLimits, TurnListening, TurnPath, TurnStatus, Urls, UsageStatus,
    };
    use crate::supervisor::service::TaskName;

    /// A service with something of everything.
    pub(in crate::cli) fn status() -> Status {
        let task = |name, state, restarts, error: Option<&str>, latency: Option<f64>| TaskStatus {
            name,
            state,
            uptime_s: 3660,
            restarts,
            hangs: 0,
            panics: 0,
            last_panic: None,
            last_error: error.map(Text::from),
            probe: latency.map(|latency_ms| ProbeStatus {
                ok: true,
                latency_ms,
                at: String::new(),
                p50_ms: None,
                p90_ms: None,
                max_ms: None,
            }),
            cpu_ms: Some(1500),
            threads: if state == State::Ready { 1 + restarts } else { 0 },
        };
        Status {
            schema_version: SCHEMA_VERSION,
            version: "0.0.1".to_owned(),
            pid: 7,
            state: State::Degraded,
            uptime_s: 3700,
            sandbox: Some(SandboxStatus {
                user: 998,
                capabilities: "400".to_owned(),
                no_new_privileges: true,
                seccomp: false,
                read_only_system: false,
                landlock: Some(6),
            }),
            usage: Some(UsageStatus {
                memory_bytes: 24_000_000,
                cpu_ms: 9000,
                threads: 14,
                descriptors: 61,
                descriptors_limit: 1024,
                cpu_ms_by_part: BTreeMap::new(),
                log_lines_lost: 0,
            }),
            tasks: vec![
                task(TaskName::Certs, State::Ready, 0, None, Some(0.1)),
                task(TaskName::Turn, State::Ready, 2, Some("it broke: 没有内存"), Some(0.2)),
                task(TaskName::Web, State::Backoff, 9, Some("it broke"), None),
            ],
            urls: Urls { web: "https://call.example/".to_owned(), ice: Vec::new() },
            calls: Calls { rooms: 1, peers: 2 },
            access: AccessStatus { mode: "open".to_owned(), outcomes: BTreeMap::new() },
            signaling: Default::default(),
            turn: TurnStatus {
                allocations: 3,
                relayed_bytes: 2_500,
                relayed_packets: 10,
                dropped: BTreeMap::new(),
                outcomes: BTreeMap::new(),
                limits: TurnLimits { user_allocations: 12, allocations: 2000, ..Default::default() },
                listening: TurnListening::default(),
                path: TurnPath::default(),
            },
            connections: BTreeMap::new(),
            certificate: Some(CertificateStatus {
                source: "self-signed".to_owned(),
                names: vec!["call.example".to_owned()],
                not_after: String::new(),
                days_left: 340.5,
                fingerprint_sha256: String::new(),
                issuer: String::new(),
                renewal: None,
            }),
            findings: vec![Finding {
                code: "task-held".to_owned(),
                subject: String::new(),
                hides: Vec::new(),
                severity: Severity::Critical,
                title: "web is down".into(),
                evidence: "it broke".into(),
                hint: "start it".into(),
                since: String::new(),
            }],
            probes: Vec::new(),
            pending: Some(Pending { since: String::new(), keys: vec!["turn.port".to_owned()], complaints: Vec::new() }),
        }
    }

    #[test]
    fn exit_codes_tell_ready_degraded_and_down_apart() {
        let code = |status: &Status| format!("{:?}", exit_code(status));
        let of = |kind: Kind| format!("{:?}", ExitCode::from(kind.exit_code()));
        let mut status = status();
        assert_eq!(code(&status), of(Kind::TaskDown));
        status.tasks[2].state = State::Ready;
        assert_eq!(code(&status), of(Kind::Degraded));
        (status.state, status.findings[0].severity) = (State::Ready, Severity::Info);
        assert_eq!(code(&status), format!("{:?}", ExitCode::SUCCESS));
    }
}
