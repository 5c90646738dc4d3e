//! Decides what `top` shows: two samples in, lines out that fit the terminal, whatever the width of their symbols.

use std::time::Duration;

use crate::cli::summary::{painted, pending_line, probe_word};
use crate::cli::words::{bytes, count, fitted, span};
use crate::control::protocol::Status;
use crate::error::Failure;
use crate::supervisor::board::State;
use crate::sys::clock::Now;
use crate::text;
use crate::words::Lang;

/// The status at one moment, or why there is none.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) at: Now,
    pub(super) status: Option<Status>,
    pub(super) refusal: Option<Failure>,
}

/// What there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// The lines of one picture. Never more than `size.rows`, never wider than `size.columns`.
pub(super) fn screen(before: Option<&Sample>, now: &Sample, size: Size, colour: bool, lang: Lang) -> Vec<String> {
    let mut lines = match &now.status {
        Some(status) => {
            let before = before.and_then(|sample| Some((sample.status.as_ref()?, sample.at)));
            // Numbers of another process have nothing to do with these.
            let before = before.filter(|(before, _)| before.pid == status.pid);
            let since =
                before.map(|(before, at)| Since { before, passed: now.at.mono.saturating_duration_since(at.mono) });
            picture(status, since.as_ref(), colour, lang)
        }
        None => nothing(now.refusal.as_ref(), lang),
    };
    if size.rows != usize::MAX {
        lines.truncate(size.rows.saturating_sub(1));
        lines.push("q leaves".to_owned());
    }
    lines.iter().map(|line| fitted(line, size.columns)).collect()
}

fn nothing(refusal: Option<&Failure>, lang: Lang) -> Vec<String> {
    let mut lines = vec!["rtcctl top: waiting for the service".to_owned(), String::new()];
    if let Some(failure) = refusal {
        lines.push(failure.told().say(lang));
        lines.extend(failure.hints().iter().map(|hint| text!("hint: {}", hint).say(lang)));
    }
    lines
}

/// The sample before, and how long ago it was taken.
struct Since<'a> {
    before: &'a Status,
    passed: Duration,
}

impl Since<'_> {
    /// Per second. A counter that was set back says nothing.
    fn rate(&self, before: u64, now: u64) -> f64 {
        let seconds = self.passed.as_secs_f64();
        if seconds > 0.0 { now.saturating_sub(before) as f64 / seconds } else { 0.0 }
    }

    /// Percent of one core.
    fn cpu(&self, before: Option<u64>, now: Option<u64>) -> Option<f64> {
        Some(self.rate(before?, now?) / 10.0)
    }
}

fn picture(status: &Status, since: Option<&Since<'_>>, colour: bool, lang: Lang) -> Vec<String> {
    let state = painted(status.state, colour);
    let mut lines = vec![
        format!("rtcctl {}  {state} up {}  pid {}", status.version, span(status.uptime_s), status.pid),
        process(status, since),
        calls(status, since),
    ];
    if let Some(certificate) = &status.certificate {
        let names = certificate.names.join(", ");
        lines.push(format!("certificate  {} days left, {}, for {names}", certificate.days_left, certificate.source));
    }
    lines.push(String::new());
    lines.push(format!(
        "{:<10}  {:<9}  {:>8}  {:>8}  {:>9}  {:>6}  {:>7}  LAST ERROR",
        "TASK", "STATE", "UPTIME", "RESTARTS", "PROBE", "CPU", "THREADS"
    ));
    for task in &status.tasks {
        let before = since.and_then(|since| since.before.tasks.iter().find(|other| other.name == task.name));
        let cpu = since.and_then(|since| since.cpu(before?.cpu_ms, task.cpu_ms));
        let is_up = matches!(task.state, State::Ready | State::Degraded);
        lines.push(format!(
            "{:<10}  {}  {:>8}  {:>8}  {:>9}  {:>6}  {:>7}  {}",
            task.name.as_str(),
            painted(task.state, colour),
            if is_up { span(task.uptime_s) } else { "-".to_owned() },
            task.restarts,
            probe_word(task).say(lang),
            percent(cpu),
            task.threads,
            task.last_error.as_ref().map_or_else(|| "-".to_owned(), |error| error.say(lang)),
        ));
    }
    lines.extend(findings(status, colour, lang));
    lines
}

fn process(status: &Status, since: Option<&Since<'_>>) -> String {
    let Some(usage) = &status.usage else { return String::new() };
    let before = since.and_then(|since| since.before.usage.as_ref());
    let cpu = since.and_then(|since| since.cpu(Some(before?.cpu_ms), Some(usage.cpu_ms)));
    let limit = usage.descriptors_limit;
    format!(
        "cpu {}  memory {}  descriptors {} of {limit}  threads {}",
        percent(cpu),
        bytes(usage.memory_bytes),
        usage.descriptors,
        usage.threads
    )
}

fn calls(status: &Status, since: Option<&Since<'_>>) -> String {
    let rooms = count(status.calls.rooms, "room", "rooms");
    let people = count(status.calls.peers, "person", "people");
    let turn = &status.turn;
    let relays = count(turn.allocations, "relay", "relays");
    let traffic = since.map_or_else(String::new, |since| {
        let before = &since.before.turn;
        let bits = since.rate(before.relayed_bytes, turn.relayed_bytes) * 8.0;
        let packets = since.rate(before.relayed_packets, turn.relayed_packets);
        format!(" at {} and {packets:.0} packets/s", bit_rate(bits))
    });
    format!("calls {rooms}, {people}  {relays} of {}{traffic}", turn.limits.allocations)
}

fn findings(status: &Status, colour: bool, lang: Lang) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(pending) = &status.pending {
        lines.push(String::new());
        lines.push(pending_line(pending).say(lang));
    }
    for finding in &status.findings {
        let severity = format!("{:?}", finding.severity).to_lowercase();
        let severity = if colour { format!("\x1b[33m{severity}\x1b[0m") } else { severity };
        lines.push(String::new());
        let title = text!("{} [{}]", finding.title, finding.code);
        lines.push(text!("{}: {}", severity, text!("{}: {}", title, finding.evidence)).say(lang));
        lines.push(format!("  {}", text!("hint: {}", finding.hint).say(lang)));
    }
    lines
}

fn percent(cpu: Option<f64>) -> String {
    cpu.map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.1}%"))
}

fn bit_rate(bits: f64) -> String {
    match bits {
        bits if bits >= 1e9 => format!("{:.1} Gbit/s", bits / 1e9),
        bits if bits >= 1e6 => format!("{:.1} Mbit/s", bits / 1e6),
        bits => format!("{:.1} kbit/s", bits / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use dialoguer::console::measure_text_width;

    use super::*;
    use crate::cli::status::tests::status;
    use crate::sys::clock;

    const WIDE: Size = Size { rows: usize::MAX, columns: 110 };

    fn samples() -> (Sample, Sample) {
        let at = clock::now();
        let before = Sample { at, status: Some(status()), refusal: None };
        let mut status = status();
        status.turn.relayed_bytes += 2_500_000;
        status.turn.relayed_packets += 2_400;
        status.usage.as_mut().unwrap().cpu_ms += 70;
        status.tasks[1].cpu_ms = Some(status.tasks[1].cpu_ms.unwrap() + 50);
        let at = Now { mono: at.mono + Duration::from_secs(2), wall: at.wall };
        (before, Sample { at, status: Some(status), refusal: None })
    }

    #[test]
    fn rates_are_of_the_span_between_two_looks() {
        let (before, now) = samples();
        let wanted = "\
rtcctl 0.0.1  degraded  up 1h 1m  pid 7
cpu 3.5%  memory 24.0 MB  descriptors 61 of 1024  threads 14
calls 1 room, 2 people  3 relays of 2000 at 10.0 Mbit/s and 1200 packets/s
certificate  340.5 days left, self-signed, for call.example

TASK        STATE        UPTIME  RESTARTS      PROBE     CPU  THREADS  LAST ERROR
certs       ready         1h 1m         0     0.1 ms    0.0%        1  -
turn        ready         1h 1m         2     0.2 ms    2.5%        3  it broke: 没有内存
web         backoff           -         9          -    0.0%        0  it broke

files were edited and not reloaded: turn.port; `rtcctl reload` takes them up

critical: web is down [task-held]: it broke
  hint: start it";
        assert_eq!(screen(Some(&before), &now, WIDE, false, Lang::En).join("\n"), wanted);
    }

    #[test]
    fn the_first_look_has_no_rates_and_neither_has_another_process() {
        let (mut before, now) = samples();
        let first = screen(None, &now, WIDE, false, Lang::En);
        assert!(first[1].starts_with("cpu -  ") && first[2].ends_with("3 relays of 2000"), "{first:?}");
        before.status.as_mut().unwrap().pid = 8;
        assert_eq!(screen(Some(&before), &now, WIDE, false, Lang::En), first);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_none_is_below_it() {
        let (before, now) = samples();
        for columns in 1..120 {
            for rows in [1, 2, 5, 24] {
                let lines = screen(Some(&before), &now, Size { rows, columns }, true, Lang::En);
                assert!(lines.len() <= rows, "{rows}");
                for line in lines {
                    assert!(measure_text_width(&line) <= columns, "{columns}: {line:?}");
                }
            }
        }
    }

    #[test]
    fn a_service_that_is_not_there_is_waited_for() {
        let refusal = Failure::operator("rtcctl is not running").hinted("start it by `rtcctl start`");
        let sample = Sample { at: clock::now(), status: None, refusal: Some(refusal) };
        let lines = screen(None, &sample, Size { rows: 10, columns: 80 }, false, Lang::En);
        assert_eq!(lines[2..], ["rtcctl is not running", "hint: start it by `rtcctl start`", "q leaves"]);
    }
}
