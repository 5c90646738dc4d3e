//! `rtcctl status` and `rtcctl list`: how things are.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args as ClapArgs;
use serde_json::json;

use super::qr::qr_code;
use super::words::{bytes, count, span};
use super::{Frame, findings, guardian};
use crate::control::client::ask;
use crate::control::protocol::{RenewalStatus, Request, Response, SCHEMA_VERSION, Status, TaskStatus, TurnStatus};
use crate::error::{Failure, Kind, Result};
use crate::supervisor::board::State;

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
    if let Some(down) = guardian::waits(frame) {
        return Ok(guardian::tell_down(frame, &down));
    }
    let Some(status) = read(frame)? else { return Ok(Kind::NotRunning.exit_code().into()) };
    let guardian = guardian::report(&frame.home);
    if frame.json {
        frame.print_json(&guardian::with_report(&status, guardian.as_ref()));
    } else {
        frame.print(&table(&status, frame.colour));
        frame.print(&summary(&status, &guardian::line(guardian.as_ref()), frame.colour));
        if let Some(code) = qr_code(&status.urls.web).filter(|_| args.qr) {
            frame.print(&code);
        }
    }
    Ok(exit_code(&status))
}

/// The tasks alone.
pub(super) fn list(frame: &Frame) -> Result<ExitCode> {
    if let Some(down) = guardian::waits(frame) {
        return Ok(guardian::tell_down(frame, &down));
    }
    let Some(status) = read(frame)? else { return Ok(Kind::NotRunning.exit_code().into()) };
    if frame.json {
        let document = json!({ "schema_version": SCHEMA_VERSION, "tasks": status.tasks });
        frame.print_json(&document);
    } else {
        frame.print(&table(&status, frame.colour));
    }
    Ok(exit_code(&status))
}

/// `None`: it does not run, which was told.
fn read(frame: &Frame) -> Result<Option<Status>> {
    match ask(&frame.home, &Request::Status, PATIENCE) {
        Ok(Response::Status { status }) => Ok(Some(*status)),
        Ok(Response::Done | Response::Renewed { .. } | Response::Refused { .. }) => {
            Err(Failure::bug("a status was asked for and not given"))
        }
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
        Err(failure) => Err(failure),
    }
}

fn exit_code(status: &Status) -> ExitCode {
    let has = |wanted: &[State]| status.tasks.iter().any(|task| wanted.contains(&task.state));
    if has(&[State::Stopped, State::Backoff, State::Held]) || status.tasks.is_empty() {
        Kind::TaskDown.exit_code().into()
    } else if status.state != State::Ready || findings::are_bad(&status.findings) {
        Kind::Degraded.exit_code().into()
    } else {
        ExitCode::SUCCESS
    }
}

fn table(status: &Status, colour: bool) -> String {
    let mut lines = vec![format!(
        "{:<10}  {:<9}  {:>10}  {:>8}  {:>9}  LAST ERROR",
        "TASK", "STATE", "UPTIME", "RESTARTS", "PROBE"
    )];
    lines.extend(status.tasks.iter().map(|task| row(task, colour)));
    lines.join("\n")
}

fn row(task: &TaskStatus, colour: bool) -> String {
    let uptime =
        if matches!(task.state, State::Ready | State::Degraded) { span(task.uptime_s) } else { "-".to_owned() };
    let error = task.last_error.as_deref().unwrap_or("-");
    let probe = match &task.probe {
        Some(probe) if probe.ok => format!("{:.1} ms", probe.latency_ms),
        Some(_) => "fails".to_owned(),
        None => "-".to_owned(),
    };
    let line = format!(
        "{:<10}  {}  {uptime:>10}  {:>8}  {probe:>9}  {error}",
        task.name.as_str(),
        painted(task.state, colour),
        task.restarts
    );
    line.trim_end().to_owned()
}

fn painted(state: State, colour: bool) -> String {
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

/// How the renewal by an authority stands.
fn renewal(renewal: &RenewalStatus) -> String {
    let next = renewal.next_at.as_deref().unwrap_or("-");
    let why = renewal.last.as_ref().and_then(|last| last.error.as_ref());
    let why = why.map(|why| format!("; last: {why}")).unwrap_or_default();
    format!("renewal      {}, next {next} ({}){why}", renewal.state, renewal.reason)
}

fn summary(status: &Status, guardian: &str, colour: bool) -> String {
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
    lines.extend(relay(&status.turn));
    lines.extend(turned_away(&status.connections));
    if let Some(certificate) = &status.certificate {
        let names = certificate.names.join(", ");
        lines.push(format!("certificate  {}, {} days left, for {names}", certificate.source, certificate.days_left));
        lines.extend(certificate.renewal.as_ref().map(renewal));
    }
    let usage = status.usage.as_ref().map_or_else(String::new, |usage| {
        format!(", {} of memory, {} ms of CPU time", bytes(usage.memory_bytes), usage.cpu_ms)
    });
    let up = span(status.uptime_s);
    lines.push(format!("process      pid {}, version {}, up {up}{usage}", status.pid, status.version));
    lines.push(guardian.to_owned());
    lines.extend(findings::lines(&status.findings, colour));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::{TurnLimits, TurnListening, TurnPath};

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
