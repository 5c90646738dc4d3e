//! The status as Prometheus reads it. Labels are words of ours, never users or addresses: their number is bounded.

use std::fmt::Write as _;
use std::time::Duration;

use crate::control::protocol::{Status, TaskStatus};
use crate::supervisor::board::State;

/// Renders the counters of `status`; `not_after` is the certificate's end in seconds since 1970.
pub(super) fn render(status: &Status, not_after: Option<u64>) -> String {
    let mut page = Page(String::new());
    page.head("rtcctl_build_info", "gauge", "What runs: always 1.");
    page.line(format_args!("rtcctl_build_info{{version=\"{}\"}} 1", status.version));
    page.one("rtcctl_uptime_seconds", "gauge", "How long the daemon runs.", status.uptime_s);
    let is_ready = u64::from(status.state == State::Ready);
    page.one("rtcctl_ready", "gauge", "1 while everything serves and nothing is found that is wrong.", is_ready);
    let help = "1 while the configuration was edited and not taken up.";
    page.one("rtcctl_config_pending", "gauge", help, u64::from(status.pending.is_some()));
    let turn = &status.turn;
    page.one("rtcctl_turn_allocations", "gauge", "Live relay allocations.", turn.allocations);
    let help = "Live allocations at most, in all and of one user.";
    let limits = [("all", turn.limits.allocations), ("user", turn.limits.user_allocations)];
    page.many("rtcctl_turn_allocations_limit", "gauge", help, "scope", limits.into_iter());
    page.one("rtcctl_turn_relayed_bytes_total", "counter", "Payload bytes relayed.", turn.relayed_bytes);
    page.one("rtcctl_turn_relayed_packets_total", "counter", "Datagrams relayed.", turn.relayed_packets);
    let dropped = turn.dropped.iter().map(|(reason, count)| (reason.as_str(), *count));
    page.many(
        "rtcctl_turn_dropped_total",
        "counter",
        "Packets and messages not relayed or answered.",
        "reason",
        dropped,
    );
    let outcomes = turn.outcomes.iter().map(|(outcome, count)| (outcome.as_str(), *count));
    page.many("rtcctl_turn_allocations_total", "counter", "Allocations by what became of them.", "outcome", outcomes);
    let connections = status.connections.iter().map(|(class, count)| (class.as_str(), *count));
    let help = "TCP connections by what was made of them.";
    page.many("rtcctl_connections_total", "counter", help, "class", connections);
    let outcomes = status.access.outcomes.iter().map(|(outcome, count)| (outcome.as_str(), *count));
    let help = "Those who wanted to call or be told ICE servers, by what became of it.";
    page.many("rtcctl_access_total", "counter", help, "outcome", outcomes);
    page.one("rtcctl_signaling_rooms", "gauge", "Rooms with somebody in them.", status.calls.rooms);
    page.one("rtcctl_signaling_peers", "gauge", "People in rooms.", status.calls.peers);
    let signaling = &status.signaling;
    page.one("rtcctl_signaling_sockets", "gauge", "Connected sockets.", signaling.sockets);
    page.one("rtcctl_signaling_messages_total", "counter", "Messages relayed.", signaling.messages);
    let help = "Bytes that wait for slow receivers.";
    page.one("rtcctl_signaling_queued_bytes", "gauge", help, signaling.queued_bytes);
    let limits = signaling.limits.iter().map(|(limit, count)| (limit.as_str(), *count));
    page.many("rtcctl_signaling_limits_total", "counter", "How often a bound was met.", "limit", limits);
    let ended = signaling.ended.iter().map(|(end, count)| (end.as_str(), *count));
    page.many("rtcctl_signaling_ended_total", "counter", "Sockets that have ended, by how.", "end", ended);
    if let Some(not_after) = not_after {
        let help = "When the certificate that is served ends, in seconds since 1970.";
        page.one("rtcctl_certificate_not_after_seconds", "gauge", help, not_after);
    }
    if let Some(renewal) = status.certificate.as_ref().and_then(|certificate| certificate.renewal.as_ref()) {
        let help = "Failures in a row of the renewal of the certificate.";
        page.one("rtcctl_certificate_renewal_failures", "gauge", help, u64::from(renewal.failures));
    }
    let is_up = |state| u64::from(matches!(state, State::Ready | State::Degraded));
    let tasks = status.tasks.iter().map(|task| (task.name.as_str(), is_up(task.state)));
    page.many("rtcctl_task_up", "gauge", "1 while the task serves.", "task", tasks);
    type Count = fn(&TaskStatus) -> u64;
    let faults: [(&str, &str, Count); 3] = [
        ("rtcctl_task_restarts_total", "Restarts that nobody asked for.", |task| task.restarts),
        ("rtcctl_task_panics_total", "Restarts of the task because it panicked.", |task| task.panics),
        ("rtcctl_task_hangs_total", "Restarts of the task because it stood still.", |task| task.hangs),
    ];
    for (name, help, count) in faults {
        page.many(name, "counter", help, "task", status.tasks.iter().map(|task| (task.name.as_str(), count(task))));
    }
    if let Some(usage) = &status.usage {
        let help = "Log lines that could not be written.";
        page.one("rtcctl_log_lines_lost_total", "counter", help, usage.log_lines_lost);
        // By the names that every exporter gives them.
        page.head("process_cpu_seconds_total", "counter", "Processor time of the daemon.");
        page.line(format_args!("process_cpu_seconds_total {}", Duration::from_millis(usage.cpu_ms).as_secs_f64()));
        page.one("process_resident_memory_bytes", "gauge", "Memory of the daemon.", usage.memory_bytes);
        page.one("process_open_fds", "gauge", "Files and sockets of the daemon.", usage.descriptors);
        page.one("process_max_fds", "gauge", "Files and sockets that it may have.", usage.descriptors_limit);
        page.one("process_threads", "gauge", "Threads of the daemon.", usage.threads);
        page.head("rtcctl_part_cpu_seconds_total", "counter", "Processor time by part of the daemon.");
        for (part, spent) in &usage.cpu_ms_by_part {
            let spent = Duration::from_millis(*spent).as_secs_f64();
            page.line(format_args!("rtcctl_part_cpu_seconds_total{{part=\"{part}\"}} {spent}"));
        }
    }
    page.0
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{text}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn many<'a>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        label: &str,
        values: impl Iterator<Item = (&'a str, u64)>,
    ) {
        self.head(name, kind, help);
        for (word, value) in values {
            let _ = writeln!(self.0, "{name}{{{label}=\"{word}\"}} {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::{
        AccessStatus, Calls, SCHEMA_VERSION, SignalingStatus, TurnStatus, Urls, UsageStatus,
    };
    use crate::supervisor::service::TaskName;

    #[test]
    fn every_counter_has_help_and_type_and_a_line_for_each_word() {
        let task = |name, state| TaskStatus {
            name,
            state,
            uptime_s: 1,
            restarts: 3,
            hangs: 1,
            panics: 2,
            last_error: None,
            last_panic: None,
            probe: None,
            cpu_ms: None,
            threads: 0,
        };
        let turn = TurnStatus {
            allocations: 3,
            relayed_bytes: 2000,
            relayed_packets: 10,
            dropped: [("malformed".to_owned(), 1), ("no_permission".to_owned(), 0)].into(),
            outcomes: [("granted".to_owned(), 5)].into(),
            limits: Default::default(),
            listening: Default::default(),
            path: Default::default(),
        };
        let status = Status {
            schema_version: SCHEMA_VERSION,
            version: "0".to_owned(),
            pid: 1,
            state: State::Degraded,
            uptime_s: 1,
            usage: Some(UsageStatus {
                memory_bytes: 1,
                cpu_ms: 1,
                threads: 1,
                descriptors: 1,
                descriptors_limit: 1,
                cpu_ms_by_part: Default::default(),
                log_lines_lost: 4,
            }),
            tasks: vec![task(TaskName::Turn, State::Ready), task(TaskName::Web, State::Held)],
            urls: Urls { web: String::new(), ice: Vec::new() },
            calls: Calls { rooms: 1, peers: 2 },
            access: AccessStatus { mode: "key".to_owned(), outcomes: [("wrong".to_owned(), 4)].into() },
            signaling: SignalingStatus {
                sockets: 4,
                messages: 9,
                queued_bytes: 0,
                limits: [("flood".to_owned(), 1), ("queue".to_owned(), 0)].into(),
                ended: [("closed".to_owned(), 3)].into(),
            },
            turn,
            connections: [("turned_away".to_owned(), 0), ("web".to_owned(), 7)].into(),
            certificate: None,
            probes: Vec::new(),
            findings: Vec::new(),
            pending: None,
            sandbox: None,
        };
        let wanted = "\
# HELP rtcctl_build_info What runs: always 1.
# TYPE rtcctl_build_info gauge
rtcctl_build_info{version=\"0\"} 1
# HELP rtcctl_uptime_seconds How long the daemon runs.
# TYPE rtcctl_uptime_seconds gauge
rtcctl_uptime_seconds 1
# HELP rtcctl_ready 1 while everything serves and nothing is found that is wrong.
# TYPE rtcctl_ready gauge
rtcctl_ready 0
# HELP rtcctl_config_pending 1 while the configuration was edited and not taken up.
# TYPE rtcctl_config_pending gauge
rtcctl_config_pending 0
# HELP rtcctl_turn_allocations Live relay allocations.
# TYPE rtcctl_turn_allocations gauge
rtcctl_turn_allocations 3
# HELP rtcctl_turn_allocations_limit Live allocations at most, in all and of one user.
# TYPE rtcctl_turn_allocations_limit gauge
rtcctl_turn_allocations_limit{scope=\"all\"} 0
rtcctl_turn_allocations_limit{scope=\"user\"} 0
# HELP rtcctl_turn_relayed_bytes_total Payload bytes relayed.
# TYPE rtcctl_turn_relayed_bytes_total counter
rtcctl_turn_relayed_bytes_total 2000
# HELP rtcctl_turn_relayed_packets_total Datagrams relayed.
# TYPE rtcctl_turn_relayed_packets_total counter
rtcctl_turn_relayed_packets_total 10
# HELP rtcctl_turn_dropped_total Packets and messages not relayed or answered.
# TYPE rtcctl_turn_dropped_total counter
rtcctl_turn_dropped_total{reason=\"malformed\"} 1
rtcctl_turn_dropped_total{reason=\"no_permission\"} 0
# HELP rtcctl_turn_allocations_total Allocations by what became of them.
# TYPE rtcctl_turn_allocations_total counter
rtcctl_turn_allocations_total{outcome=\"granted\"} 5
# HELP rtcctl_connections_total TCP connections by what was made of them.
# TYPE rtcctl_connections_total counter
rtcctl_connections_total{class=\"turned_away\"} 0
rtcctl_connections_total{class=\"web\"} 7
# HELP rtcctl_access_total Those who wanted to call or be told ICE servers, by what became of it.
# TYPE rtcctl_access_total counter
rtcctl_access_total{outcome=\"wrong\"} 4
# HELP rtcctl_signaling_rooms Rooms with somebody in them.
# TYPE rtcctl_signaling_rooms gauge
rtcctl_signaling_rooms 1
# HELP rtcctl_signaling_peers People in rooms.
# TYPE rtcctl_signaling_peers gauge
rtcctl_signaling_peers 2
# HELP rtcctl_signaling_sockets Connected sockets.
# TYPE rtcctl_signaling_sockets gauge
rtcctl_signaling_sockets 4
# HELP rtcctl_signaling_messages_total Messages relayed.
# TYPE rtcctl_signaling_messages_total counter
rtcctl_signaling_messages_total 9
# HELP rtcctl_signaling_queued_bytes Bytes that wait for slow receivers.
# TYPE rtcctl_signaling_queued_bytes gauge
rtcctl_signaling_queued_bytes 0
# HELP rtcctl_signaling_limits_total How often a bound was met.
# TYPE rtcctl_signaling_limits_total counter
rtcctl_signaling_limits_total{limit=\"flood\"} 1
rtcctl_signaling_limits_total{limit=\"queue\"} 0
# HELP rtcctl_signaling_ended_total Sockets that have ended, by how.
# TYPE rtcctl_signaling_ended_total counter
rtcctl_signaling_ended_total{end=\"closed\"} 3
# HELP rtcctl_certificate_not_after_seconds When the certificate that is served ends, in seconds since 1970.
# TYPE rtcctl_certificate_not_after_seconds gauge
rtcctl_certificate_not_after_seconds 1800000000
# HELP rtcctl_task_up 1 while the task serves.
# TYPE rtcctl_task_up gauge
rtcctl_task_up{task=\"turn\"} 1
rtcctl_task_up{task=\"web\"} 0
# HELP rtcctl_task_restarts_total Restarts that nobody asked for.
# TYPE rtcctl_task_restarts_total counter
rtcctl_task_restarts_total{task=\"turn\"} 3
rtcctl_task_restarts_total{task=\"web\"} 3
# HELP rtcctl_task_panics_total Restarts of the task because it panicked.
# TYPE rtcctl_task_panics_total counter
rtcctl_task_panics_total{task=\"turn\"} 2
rtcctl_task_panics_total{task=\"web\"} 2
# HELP rtcctl_task_hangs_total Restarts of the task because it stood still.
# TYPE rtcctl_task_hangs_total counter
rtcctl_task_hangs_total{task=\"turn\"} 1
rtcctl_task_hangs_total{task=\"web\"} 1
# HELP rtcctl_log_lines_lost_total Log lines that could not be written.
# TYPE rtcctl_log_lines_lost_total counter
rtcctl_log_lines_lost_total 4
# HELP process_cpu_seconds_total Processor time of the daemon.
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 0.001
# HELP process_resident_memory_bytes Memory of the daemon.
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 1
# HELP process_open_fds Files and sockets of the daemon.
# TYPE process_open_fds gauge
process_open_fds 1
# HELP process_max_fds Files and sockets that it may have.
# TYPE process_max_fds gauge
process_max_fds 1
# HELP process_threads Threads of the daemon.
# TYPE process_threads gauge
process_threads 1
# HELP rtcctl_part_cpu_seconds_total Processor time by part of the daemon.
# TYPE rtcctl_part_cpu_seconds_total counter
";
        assert_eq!(render(&status, Some(1_800_000_000)), wanted);
    }
}
