//! The status for people: a table of the tasks, then a line for each thing that is worth one.

use std::collections::BTreeMap;

use dialoguer::console::measure_text_width;

use super::findings;
use super::words::{bytes, columns_of_output, fitted, span};
use super::wrap::prose;
use crate::control::protocol::{
    AccessStatus, Calls, CertificateStatus, Pending, RenewalStatus, SandboxStatus, Status, TaskStatus, TurnStatus,
    UsageStatus,
};
use crate::supervisor::board::State;
use crate::text;
use crate::words::{Lang, Text};

/// Columns of what a line is about.
const LABEL: usize = 11;

/// What a line is about, and what it says.
pub(super) type Row = (Text, Text);

/// A line a task also where an error is long.
pub(super) fn fitted_table(status: &Status, colour: bool, lang: Lang) -> String {
    let columns = columns_of_output();
    let lines: Vec<String> = table(status, colour, lang).lines().map(|line| fitted(line, columns)).collect();
    lines.join("\n")
}

fn table(status: &Status, colour: bool, lang: Lang) -> String {
    let right = |word: Text, columns| aligned(&word.say(lang), columns, true);
    let left = |word: Text, columns| aligned(&word.say(lang), columns, false);
    let mut lines = vec![format!(
        "{}  {}  {}  {}  {}  {}  {}",
        left(text!("TASK"), 10),
        left(text!("STATE"), 9),
        right(text!("UPTIME"), 10),
        right(text!("RESTARTS"), 8),
        right(text!("PROBE"), 9),
        right(text!("CPU TIME"), 8),
        text!("LAST ERROR").say(lang)
    )];
    lines.extend(status.tasks.iter().map(|task| row(task, colour, lang)));
    lines.extend(status.tasks.iter().filter_map(|task| faults(task, lang)));
    lines.join("\n")
}

/// Symbols of East Asia take two columns.
fn aligned(word: &str, columns: usize, to_the_right: bool) -> String {
    let padding = " ".repeat(columns.saturating_sub(measure_text_width(word)));
    if to_the_right { padding + word } else { word.to_owned() + &padding }
}

/// Why a task was restarted, where it panicked or stood still.
fn faults(task: &TaskStatus, lang: Lang) -> Option<String> {
    let mut words = Vec::new();
    match task.hangs {
        0 => {}
        1 => words.push(text!("1 hang")),
        hangs => words.push(text!("{} hangs", hangs)),
    }
    if let Some(panic) = &task.last_panic {
        let message = panic.message.lines().next().unwrap_or_default();
        let message = match &panic.place {
            Some(place) => text!("{} at {}", message, place),
            None => Text::verbatim(message),
        };
        words.push(match task.panics {
            1 => text!("1 panic, last {}: {}", panic.at, message),
            panics => text!("{} panics, last {}: {}", panics, panic.at, message),
        });
    }
    let told = text!("had {}", Text::both(words.iter().cloned()));
    (!words.is_empty()).then(|| format!("{:<10}  {}", task.name.as_str(), told.say(lang)))
}

fn row(task: &TaskStatus, colour: bool, lang: Lang) -> String {
    let uptime =
        if matches!(task.state, State::Ready | State::Degraded) { span(task.uptime_s) } else { "-".to_owned() };
    let error = task.last_error.as_ref().map_or_else(|| "-".to_owned(), |error| error.say(lang));
    let cpu = task.cpu_ms.map_or_else(|| "-".to_owned(), |cpu| format!("{:.1}s", cpu as f64 / 1000.0));
    let line = format!(
        "{:<10}  {}  {uptime:>10}  {:>8}  {}  {cpu:>8}  {error}",
        task.name.as_str(),
        painted(task.state, colour),
        task.restarts,
        aligned(&probe_word(task).say(lang), 9, true),
    );
    line.trim_end().to_owned()
}

/// States are called by the same words in every language, as in documents.
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
pub(super) fn probe_word(task: &TaskStatus) -> Text {
    match &task.probe {
        Some(probe) if probe.ok => Text::verbatim(format!("{:.1} ms", probe.latency_ms)),
        Some(_) => text!("fails"),
        None => Text::verbatim("-"),
    }
}

/// What an operator should know of edited files.
pub(super) fn pending_line(pending: &Pending) -> Text {
    if pending.complaints.is_empty() {
        let keys = pending.keys.join(", ");
        return text!("files were edited and not reloaded: {}; `rtcctl reload` takes them up", keys);
    }
    let complaints = Text::clauses(pending.complaints.iter().cloned());
    text!("files were edited, and a reload would be refused: {}", complaints)
}

fn relay(turn: &TurnStatus) -> Vec<Row> {
    let limits = &turn.limits;
    let (all, each) = (limits.allocations, limits.user_allocations);
    let allocations = match turn.allocations {
        1 => text!("1 allocation of {} ({} a user)", all, each),
        many => text!("{} allocations of {} ({} a user)", many, all, each),
    };
    let packets = match turn.relayed_packets {
        1 => text!("1 packet"),
        many => text!("{} packets", many),
    };
    let bytes_relayed = Text::verbatim(bytes(turn.relayed_bytes));
    let mut rows = vec![(text!("relay"), Text::list([allocations, packets, bytes_relayed]))];
    let rates = [
        limits.allocation_bandwidth.map(|rate| text!("{}/s for each allocation", bytes(rate))),
        limits.bandwidth.map(|rate| text!("{}/s in all", bytes(rate))),
    ];
    if rates.iter().any(Option::is_some) {
        rows.push((text!("bandwidth"), Text::list(rates.into_iter().flatten())));
    }
    // What is counted is called as in documents.
    for (label, counts) in [(text!("allocations"), &turn.outcomes), (text!("dropped"), &turn.dropped)] {
        let seen = counts.iter().filter(|(_, count)| **count > 0);
        let words: Vec<String> = seen.map(|(word, count)| format!("{} {count}", word.replace('_', " "))).collect();
        if !words.is_empty() {
            rows.push((label, Text::verbatim(words.join(", "))));
        }
    }
    let listening = [
        (text!("turn by udp"), &turn.listening.udp),
        (text!("turn by tcp"), &turn.listening.tcp),
        (text!("turn by tls"), &turn.listening.tls),
    ];
    for (label, addresses) in listening.into_iter().filter(|(_, addresses)| !addresses.is_empty()) {
        rows.push((label, Text::verbatim(addresses.join(", "))));
    }
    let path = &turn.path;
    let workers = match path.workers {
        1 => text!("1 worker"),
        many => text!("{} workers", many),
    };
    let switch = |is_on, name: &str| if is_on { text!("{} on", name) } else { text!("{} off", name) };
    let parts = [workers, switch(path.gro, "GRO"), switch(path.gso, "GSO"), text!("latency {}", path.latency)];
    rows.push((text!("path"), Text::list(parts)));
    rows
}

/// Clients for whom there was no place: the one thing of connections that an operator should act on.
fn turned_away(connections: &BTreeMap<String, u64>) -> Option<Row> {
    let times = connections.get("turned_away").copied().filter(|times| *times > 0)?;
    Some((text!("connections"), text!("{} turned away for lack of room", times)))
}

/// Who may call, and who was turned away; an older daemon does not say.
fn access(access: &AccessStatus) -> Option<Row> {
    let times = |outcome| access.outcomes.get(outcome).copied().filter(|times| *times > 0);
    let told = [
        Some(Text::verbatim(&*access.mode)),
        times("sessions").map(|times| text!("{} sessions opened", times)),
        times("wrong").map(|times| text!("{} wrong keys", times)),
        times("limited").map(|times| text!("{} slowed down", times)),
    ];
    (!access.mode.is_empty()).then(|| (text!("access"), Text::list(told.into_iter().flatten())))
}

fn certificate(certificate: &CertificateStatus) -> Vec<Row> {
    let CertificateStatus { source, days_left, names, renewal, .. } = certificate;
    let told = text!("{}, {} days left, for {}", source, days_left, names.join(", "));
    let mut rows = vec![(text!("certificate"), told)];
    rows.extend(renewal.as_ref().map(renewal_row));
    rows
}

/// How the renewal by an authority stands.
fn renewal_row(renewal: &RenewalStatus) -> Row {
    let next = renewal.next_at.as_deref().unwrap_or("-");
    let told = text!("{}, next {} ({})", renewal.state, next, renewal.reason);
    let why = renewal.last.as_ref().and_then(|last| last.error.as_ref());
    let told = match why {
        Some(why) => text!("{}; last: {}", told, why),
        None => told,
    };
    (text!("renewal"), told)
}

/// What the service may do on this host.
fn sandbox(sandbox: &SandboxStatus) -> Row {
    let user = match sandbox.user {
        0 => text!("root, with every privilege"),
        user => text!("user {}", user),
    };
    let privileges = match (sandbox.user, sandbox.capabilities.as_str()) {
        (0, _) => None,
        (_, "0") => Some(text!("no privileges")),
        (_, "400") => Some(text!("no privilege but ports below 1024")),
        (_, _) => Some(text!("with privileges of root")),
    };
    let parts = [
        Some(user),
        privileges,
        sandbox.no_new_privileges.then(|| text!("none to be had")),
        sandbox.seccomp.then(|| text!("system calls filtered")),
        sandbox.read_only_system.then(|| text!("the system is read-only")),
        sandbox.landlock.map(|_| text!("writes its own folders only (Landlock)")),
    ];
    (text!("sandbox"), Text::list(parts.into_iter().flatten()))
}

fn calls(calls: &Calls) -> Row {
    let rooms = match calls.rooms {
        1 => text!("1 room"),
        many => text!("{} rooms", many),
    };
    let people = match calls.peers {
        1 => text!("1 person"),
        many => text!("{} people", many),
    };
    (text!("calls"), Text::list([rooms, people]))
}

fn process(status: &Status) -> Row {
    let up = text!("pid {}, version {}, up {}", status.pid, status.version, span(status.uptime_s));
    let usage = status.usage.as_ref().map(|usage: &UsageStatus| {
        text!(
            "{} of memory, {} ms of CPU time, {} threads, {} descriptors",
            bytes(usage.memory_bytes),
            usage.cpu_ms,
            usage.threads,
            usage.descriptors
        )
    });
    let lost = status.usage.as_ref().map(|usage| usage.log_lines_lost).filter(|lost| *lost > 0);
    let lost = lost.map(|lost| text!("{} log lines could not be written", lost));
    (text!("process"), Text::list([Some(up), usage, lost].into_iter().flatten()))
}

/// A line with what it is about in a column of its own.
pub(super) fn labelled((label, told): &Row, lang: Lang) -> String {
    format!("{}  {}", aligned(&label.say(lang), LABEL, false), told.say(lang))
}

pub(super) fn summary(status: &Status, keeper: Row, colour: bool, lang: Lang) -> String {
    let mut rows = vec![
        (text!("page"), Text::verbatim(&*status.urls.web)),
        (text!("ice"), Text::verbatim(status.urls.ice.join("  "))),
        calls(&status.calls),
    ];
    rows.extend(access(&status.access));
    rows.extend(relay(&status.turn));
    rows.extend(turned_away(&status.connections));
    rows.extend(status.certificate.iter().flat_map(certificate));
    rows.push(process(status));
    rows.extend(status.sandbox.as_ref().map(sandbox));
    rows.push(keeper);
    let mut lines = vec![String::new()];
    let columns = columns_of_output();
    lines.extend(rows.iter().map(|row| prose(&labelled(row, lang), LABEL + 2, columns)));
    if let Some(pending) = &status.pending {
        lines.push(format!("\n{}", pending_line(pending).say(lang)));
    }
    lines.extend(findings::lines(&status.findings, colour, lang).iter().map(|line| prose(line, 4, columns)));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::status::tests::status;
    use crate::control::protocol::{PanicStatus, TurnLimits, TurnListening, TurnPath};

    #[test]
    fn a_task_is_a_line_and_what_is_pending_is_told() {
        let lines = table(&status(), false, Lang::En);
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
        let told = table(&faulty, false, Lang::En);
        let wanted = "\
certs       had 1 hang
turn        had 2 hangs and 1 panic, last 2026-01-01T00:00:00Z: it broke at src/a.rs:1:2";
        assert_eq!(told.lines().skip(4).collect::<Vec<_>>().join("\n"), wanted);
        assert!(
            summary(&status(), (Text::default(), Text::default()), false, Lang::En)
                .contains("edited and not reloaded: turn.port")
        );
        let bad = Pending { complaints: vec!["a mistake".into(), "line 3: x".into()], ..status().pending.unwrap() };
        assert_eq!(pending_line(&bad), "files were edited, and a reload would be refused: a mistake; line 3: x");
    }

    #[test]
    fn who_may_call_is_told_with_what_an_operator_should_know() {
        let outcomes = [("granted", 9), ("limited", 0), ("sessions", 2), ("wrong", 3)];
        let outcomes = outcomes.map(|(word, times)| (word.to_owned(), times)).into();
        let told = access(&AccessStatus { mode: "key".to_owned(), outcomes });
        assert_eq!(labelled(&told.unwrap(), Lang::En), "access       key, 2 sessions opened, 3 wrong keys");
        assert_eq!(access(&AccessStatus::default()), None);
    }

    #[test]
    fn connections_are_told_of_only_when_some_were_turned_away() {
        let counted = |times| BTreeMap::from([("web".to_owned(), 9), ("turned_away".to_owned(), times)]);
        assert_eq!(turned_away(&counted(0)), None);
        assert_eq!(turned_away(&BTreeMap::new()), None);
        assert_eq!(
            labelled(&turned_away(&counted(3)).unwrap(), Lang::En),
            "connections  3 turned away for lack of room"
        );
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
        let told =
            |turn: &TurnStatus| relay(turn).iter().map(|row| labelled(row, Lang::En)).collect::<Vec<_>>().join("\n");
        assert_eq!(told(&turn), wanted);
        turn.dropped.clear();
        turn.limits.allocation_bandwidth = None;
        turn.limits.bandwidth = None;
        let told = told(&turn);
        assert!(!told.contains("dropped") && !told.contains("bandwidth"), "{told}");
    }
}
