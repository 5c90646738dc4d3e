//! `rtcctl status` and `rtcctl list`: how things are.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args as ClapArgs;
use serde_json::json;

use super::qr::qr_code;
use super::words::{bytes, columns_of_output, count, fitted, span};
use super::{Frame, findings, guardian, service};
use crate::control::client::ask;
use crate::control::protocol::{
    AccessStatus, Pending, RenewalStatus, Request, Response, SCHEMA_VERSION, SandboxStatus, Status, TaskStatus,
    TurnStatus,
};
use crate::error::{Failure, Kind, Result};
use crate::home::Home;
use crate::supervisor::board::State;
use crate::words::Lang;

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
        frame.print(&fitted_table(&status, frame.colour));
        let is_systemd_s = matches!(guardian, guardian::Known::None) && service::is_a_unit(&frame.home);
        let keeper =
            if is_systemd_s { "service      systemd, rtcctl.service".to_owned() } else { guardian::line(&guardian) };
        frame.print(&summary(&status, &keeper, frame.colour, frame.lang));
        if let Some(code) = qr_code(&status.urls.web).filter(|_| args.qr) {
            frame.print(&code);
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
        frame.print(&fitted_table(&status, frame.colour));
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
        | Response::Failed { .. } => Err(Failure::bug("a status was asked for and not given")),
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

/// A line a task also where an error is long.
fn fitted_table(status: &Status, colour: bool) -> String {
    let columns = columns_of_output();
    let lines: Vec<String> = table(status, colour).lines().map(|line| fitted(line, columns)).collect();
    lines.join("\n")
}

fn table(status: &Status, colour: bool) -> String {
    let mut lines = vec![format!(
        "{:<10}  {:<9}  {:>10}  {:>8}  {:>9}  {:>8}  LAST ERROR",
        "TASK", "STATE", "UPTIME", "RESTARTS", "PROBE", "CPU TIME"
    )];
    lines.extend(status.tasks.iter().map(|task| row(task, colour)));
    lines.extend(status.tasks.iter().filter_map(faults));
    lines.join("\n")
}

/// Why a task was restarted, where it panicked or stood still.
fn faults(task: &TaskStatus) -> Option<String> {
    let mut words = Vec::new();
    if task.hangs > 0 {
        words.push(count(task.hangs, "hang", "hangs"));
    }
    if let Some(panic) = &task.last_panic {
        let place = panic.place.as_ref().map_or_else(String::new, |place| format!(" at {place}"));
        let message = panic.message.lines().next().unwrap_or_default();
        words.push(format!("{}, last {}: {message}{place}", count(task.panics, "panic", "panics"), panic.at));
    }
    (!words.is_empty()).then(|| format!("{:<10}  had {}", task.name.as_str(), words.join(" and ")))
}

fn row(task: &TaskStatus, colour: bool) -> String {
    let uptime =
        if matches!(task.state, State::Ready | State::Degraded) { span(task.uptime_s) } else { "-".to_owned() };
    let error = task.last_error.as_deref().unwrap_or("-");
    let cpu = task.cpu_ms.map_or_else(|| "-".to_owned(), |cpu| format!("{:.1}s", cpu as f64 / 1000.0));
    let line = format!(
        "{:<10}  {}  {uptime:>10}  {:>8}  {:>9}  {cpu:>8}  {error}",
        task.name.as_str(),
        painted(task.state, colour),
        task.restarts,
        probe_word(task),
    );
    line.trim_end().to_owned()
}

pub(super) fn painted(state: State, colour: bool) -> String {
    let (word, code) = match state {
        State::Stopped => ("stopped", "31"),
        State::Starting => ("starting", "33"),
        State::Ready => ("ready", "32"),
        State::Degraded => ("degraded", "33"),
        State::Draining => ("draining", "33"),
        State::Backoff => ("backoff", "31"),
        State::Held => ("held", "1;31"),
    };
    // Padded before it is painted: escape codes have no width.
    let word = format!("{word:<9}");
    if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word }
}

/// What the last probe found, in a word.
pub(super) fn probe_word(task: &TaskStatus) -> String {
    match &task.probe {
        Some(probe) if probe.ok => format!("{:.1} ms", probe.latency_ms),
        Some(_) => "fails".to_owned(),
        None => "-".to_owned(),
    }
}

/// What an operator should know of edited files.
pub(super) fn pending_line(pending: &Pending) -> String {
    match pending.complaints.len() {
        0 => format!("files were edited and not reloaded: {}; `rtcctl reload` takes them up", pending.keys.join(", ")),
        _ => format!("files were edited, and a reload would be refused: {}", pending.complaints.join("; ")),
    }
}

fn relay(turn: &TurnStatus) -> Vec<String> {
    let limits = &turn.limits;
    let mut lines = vec![format!(
        "relay        {} of {} ({} a user), {}, {}",
        count(turn.allocations, "allocation", "allocations"),
        limits.allocations,
        limits.user_allocations,
        count(turn.relayed_packets, "packet", "packets"),
        bytes(turn.relayed_bytes)
    )];
    let rates = [(limits.allocation_bandwidth, "for each allocation"), (limits.bandwidth, "in all")];
    let rates: Vec<String> =
        rates.iter().filter_map(|(rate, of_what)| rate.map(|rate| format!("{}/s {of_what}", bytes(rate)))).collect();
    if !rates.is_empty() {
        lines.push(format!("bandwidth    {}", rates.join(", ")));
    }
    for (label, counts) in [("allocations", &turn.outcomes), ("dropped", &turn.dropped)] {
        let seen = counts.iter().filter(|(_, count)| **count > 0);
        let words: Vec<String> = seen.map(|(word, count)| format!("{} {count}", word.replace('_', " "))).collect();
        if !words.is_empty() {
            lines.push(format!("{label:<11}  {}", words.join(", ")));
        }
    }
    let listening = [("udp", &turn.listening.udp), ("tcp", &turn.listening.tcp), ("tls", &turn.listening.tls)];
    for (carrier, addresses) in listening.iter().filter(|(_, addresses)| !addresses.is_empty()) {
        lines.push(format!("turn by {carrier}  {}", addresses.join(", ")));
    }
    let path = &turn.path;
    let word = |is_on, name| if is_on { format!("{name} on") } else { format!("{name} off") };
    lines.push(format!(
        "path         {}, {}, {}, latency {}",
        count(path.workers, "worker", "workers"),
        word(path.gro, "GRO"),
        word(path.gso, "GSO"),
        path.latency
    ));
    lines
}

/// Clients for whom there was no place: the one thing of connections that an operator should act on.
fn turned_away(connections: &BTreeMap<String, u64>) -> Option<String> {
    let times = connections.get("turned_away").copied().filter(|times| *times > 0)?;
    Some(format!("connections  {times} turned away for lack of room"))
}

/// Who may call, and who was turned away; an older daemon does not say.
fn access(access: &AccessStatus) -> Option<String> {
    let told = [("sessions", "sessions opened"), ("wrong", "wrong keys"), ("limited", "slowed down")];
    let seen = told.iter().filter_map(|(outcome, words)| {
        let times = access.outcomes.get(*outcome).filter(|times| **times > 0)?;
        Some(format!(", {times} {words}"))
    });
    (!access.mode.is_empty()).then(|| format!("access       {}{}", access.mode, seen.collect::<String>()))
}

/// How the renewal by an authority stands.
fn renewal(renewal: &RenewalStatus) -> String {
    let next = renewal.next_at.as_deref().unwrap_or("-");
    let why = renewal.last.as_ref().and_then(|last| last.error.as_ref());
    let why = why.map(|why| format!("; last: {why}")).unwrap_or_default();
    format!("renewal      {}, next {next} ({}){why}", renewal.state, renewal.reason)
}

/// What the service may do on this host.
fn sandbox(sandbox: &SandboxStatus) -> String {
    let user = match sandbox.user {
        0 => "root, with every privilege".to_owned(),
        user => format!("user {user}"),
    };
    let privileges = match (sandbox.user, sandbox.capabilities.as_str()) {
        (0, _) => None,
        (_, "0") => Some("no privileges"),
        (_, "400") => Some("no privilege but ports below 1024"),
        (_, _) => Some("with privileges of root"),
    };
    let parts = [
        privileges,
        sandbox.no_new_privileges.then_some("none to be had"),
        sandbox.seccomp.then_some("system calls filtered"),
        sandbox.read_only_system.then_some("the system is read-only"),
        sandbox.landlock.map(|_| "writes its own folders only (Landlock)"),
    ];
    std::iter::once(format!("sandbox      {user}"))
        .chain(parts.into_iter().flatten().map(str::to_owned))
        .collect::<Vec<_>>()
        .join(", ")
}

fn summary(status: &Status, guardian: &str, colour: bool, lang: Lang) -> String {
    let mut lines = vec![
        String::new(),
        format!("page         {}", status.urls.web),
        format!("ice          {}", status.urls.ice.join("  ")),
        format!(
            "calls        {}, {}",
            count(status.calls.rooms, "room", "rooms"),
            count(status.calls.peers, "person", "people")
        ),
    ];
    lines.extend(access(&status.access));
    lines.extend(relay(&status.turn));
    lines.extend(turned_away(&status.connections));
    if let Some(certificate) = &status.certificate {
        let names = certificate.names.join(", ");
        lines.push(format!("certificate  {}, {} days left, for {names}", certificate.source, certificate.days_left));
        lines.extend(certificate.renewal.as_ref().map(renewal));
    }
    let usage = status.usage.as_ref().map_or_else(String::new, |usage| {
        let lost = match usage.log_lines_lost {
            0 => String::new(),
            lost => format!(", {lost} log lines could not be written"),
        };
        format!(
            ", {} of memory, {} ms of CPU time, {} threads, {} descriptors{lost}",
            bytes(usage.memory_bytes),
            usage.cpu_ms,
            usage.threads,
            usage.descriptors
        )
    });
    let up = span(status.uptime_s);
    lines.push(format!("process      pid {}, version {}, up {up}{usage}", status.pid, status.version));
    lines.extend(status.sandbox.as_ref().map(sandbox));
    lines.push(guardian.to_owned());
    if let Some(pending) = &status.pending {
        lines.push(format!("\n{}", pending_line(pending)));
    }
    lines.extend(findings::lines(&status.findings, colour, lang));
    lines.join("\n")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::control::protocol::{
        Calls, CertificateStatus, Finding, PanicStatus, ProbeStatus, Severity, TurnLimits, TurnListening, TurnPath,
        Urls, UsageStatus,
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
            last_error: error.map(str::to_owned),
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
                title: "web is down".to_owned(),
                evidence: "it broke".to_owned(),
                hint: "start it".to_owned(),
                since: String::new(),
            }],
            probes: Vec::new(),
            pending: Some(Pending { since: String::new(), keys: vec!["turn.port".to_owned()], complaints: Vec::new() }),
        }
    }

    #[test]
    fn a_task_is_a_line_and_what_is_pending_is_told() {
        let lines = table(&status(), false);
        let wanted = "\
TASK        STATE          UPTIME  RESTARTS      PROBE  CPU TIME  LAST ERROR
certs       ready           1h 1m         0     0.1 ms      1.5s  -
turn        ready           1h 1m         2     0.2 ms      1.5s  it broke: 没有内存
web         backoff             -         9          -      1.5s  it broke";
        assert_eq!(lines, wanted);
        let mut faulty = status();
        faulty.tasks[0].hangs = 1;
        faulty.tasks[1].hangs = 2;
        faulty.tasks[1].panics = 1;
        faulty.tasks[1].last_panic = Some(PanicStatus {
            at: "2026-01-01T00:00:00Z".to_owned(),
            message: "it broke\nfor good".to_owned(),
            place: Some("src/a.rs:1:2".to_owned()),
        });
        let told = table(&faulty, false);
        let wanted = "\
certs       had 1 hang
turn        had 2 hangs and 1 panic, last 2026-01-01T00:00:00Z: it broke at src/a.rs:1:2";
        assert_eq!(told.lines().skip(4).collect::<Vec<_>>().join("\n"), wanted);
        assert!(summary(&status(), "", false, Lang::En).contains("edited and not reloaded: turn.port"));
        let bad =
            Pending { complaints: vec!["a mistake".to_owned(), "line 3: x".to_owned()], ..status().pending.unwrap() };
        assert_eq!(pending_line(&bad), "files were edited, and a reload would be refused: a mistake; line 3: x");
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

    #[test]
    fn who_may_call_is_told_with_what_an_operator_should_know() {
        let outcomes = [("granted", 9), ("limited", 0), ("sessions", 2), ("wrong", 3)];
        let outcomes = outcomes.map(|(word, times)| (word.to_owned(), times)).into();
        let told = access(&AccessStatus { mode: "key".to_owned(), outcomes });
        assert_eq!(told.unwrap(), "access       key, 2 sessions opened, 3 wrong keys");
        assert_eq!(access(&AccessStatus::default()), None);
    }

    #[test]
    fn connections_are_told_of_only_when_some_were_turned_away() {
        let counted = |times| BTreeMap::from([("web".to_owned(), 9), ("turned_away".to_owned(), times)]);
        assert_eq!(turned_away(&counted(0)), None);
        assert_eq!(turned_away(&BTreeMap::new()), None);
        assert_eq!(turned_away(&counted(3)).unwrap(), "connections  3 turned away for lack of room");
    }

    #[test]
    fn the_relay_tells_what_an_operator_needs_and_no_zeros() {
        let counts = |counts: &[(&str, u64)]| counts.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect();
        let mut turn = TurnStatus {
            allocations: 1,
            relayed_bytes: 2_500,
            relayed_packets: 10,
            dropped: counts(&[("malformed", 0), ("no_permission", 2)]),
            outcomes: counts(&[("granted", 5), ("over_quota", 1), ("released", 4)]),
            limits: TurnLimits {
                user_allocations: 12,
                allocations: 2000,
                allocation_bandwidth: Some(500_000),
                bandwidth: Some(2_000_000),
            },
            listening: TurnListening {
                udp: vec!["[::]:3478".to_owned(), "0.0.0.0:3478".to_owned()],
                ..Default::default()
            },
            path: TurnPath { gro: true, gso: false, workers: 2, latency: "auto".to_owned() },
        };
        let wanted = "\
relay        1 allocation of 2000 (12 a user), 10 packets, 2.5 kB
bandwidth    500.0 kB/s for each allocation, 2.0 MB/s in all
allocations  granted 5, over quota 1, released 4
dropped      no permission 2
turn by udp  [::]:3478, 0.0.0.0:3478
path         2 workers, GRO on, GSO off, latency auto";
        assert_eq!(relay(&turn).join("\n"), wanted);
        turn.dropped.clear();
        turn.limits.allocation_bandwidth = None;
        turn.limits.bandwidth = None;
        let told = relay(&turn).join("\n");
        assert!(!told.contains("dropped") && !told.contains("bandwidth"), "{told}");
    }
}
