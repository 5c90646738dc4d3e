//! What the guardian adds to the status, and what it tells while the daemon is down.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use super::Frame;
use super::summary::{Row, labelled};
use super::words::span;
use crate::control::protocol::{SCHEMA_VERSION, Status};
use crate::error::{Kind, Result};
use crate::guardian::{self, Report};
use crate::home::Home;
use crate::supervisor::board::State;
use crate::sys::clock;
use crate::sys::lock::Lock;
use crate::text;
use crate::words::{Lang, Text};

/// How long a daemon that is just being started again is waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it is looked whether it is there.
const LOOKED_EVERY: Duration = Duration::from_millis(30);

/// What is known of the guardian.
pub(super) enum Known {
    /// There is none.
    None,
    /// It does not say anything.
    Silent(u32),
    Told(Report),
}

impl Known {
    pub(super) fn of(home: &Home) -> Self {
        match guardian::holder(home) {
            None => Self::None,
            Some(pid) => guardian::report(home).map_or(Self::Silent(pid), Self::Told),
        }
    }

    fn report(&self) -> Option<&Report> {
        match self {
            Self::Told(report) => Some(report),
            Self::None | Self::Silent(_) => None,
        }
    }
}

/// What the guardian knows, if its daemon is down and does not come back in a moment.
///
/// # Errors
/// If it is down and its guardian says nothing.
pub(super) fn waits(frame: &Frame) -> Result<Option<Report>> {
    let end = clock::now().mono + PATIENCE;
    loop {
        let is_up = || Lock::holder(&frame.home.lock_file()).is_some();
        if is_up() || guardian::holder(&frame.home).is_none() {
            return Ok(None);
        }
        let report = match guardian::report(&frame.home) {
            Ok(report) => report,
            Err(_) if is_up() || guardian::holder(&frame.home).is_none() => return Ok(None),
            Err(failure) => return Err(failure.because(text!("the daemon is down, so nothing starts it again"))),
        };
        if matches!(report.state, State::Backoff | State::Held) || clock::now().mono >= end {
            return Ok(Some(report));
        }
        std::thread::park_timeout(LOOKED_EVERY);
    }
}

/// Says what is known of a daemon that is down. It counts as a task that is down.
pub(super) fn tell_down(frame: &Frame, report: &Report) -> ExitCode {
    if frame.json {
        frame.print_json(&json!({
            "schema_version": SCHEMA_VERSION,
            "version": env!("CARGO_PKG_VERSION"),
            "state": report.state,
            "tasks": [],
            "guardian": report,
        }));
    } else {
        frame.print(down(report, &frame.home.flag(), frame.lang));
    }
    Kind::TaskDown.exit_code().into()
}

fn down(report: &Report, flag: &str, lang: Lang) -> String {
    let told = match (report.state, report.next_start_s) {
        (State::Held, Some(seconds)) => {
            text!("the daemon is down: it died too often; tried again in {}", in_words(seconds))
        }
        (_, Some(seconds)) => text!("the daemon is down, and is started again in {}", in_words(seconds)),
        (_, None) => text!("the daemon is down, and is just being started again"),
    };
    let mut lines = vec![told.say(lang)];
    if let Some(death) = &report.last_death {
        lines.push(labelled(&(text!("last death"), text!("{}, {}", death.at, death.cause)), lang));
    }
    let so_far = match report.restarts {
        1 => text!("pid {}, 1 restart of the daemon so far", report.pid),
        many => text!("pid {}, {} restarts of the daemon so far", report.pid, many),
    };
    lines.push(labelled(&(text!("guardian"), so_far), lang));
    lines.push(text!("hint: {}", text!("start it now by `rtcctl{} start`; its log says more", flag)).say(lang));
    lines.join("\n")
}

fn in_words(seconds: f64) -> String {
    span(seconds.round() as u64)
}

/// One line for the summary.
pub(super) fn row(known: &Known) -> Row {
    let told = match known {
        Known::None => text!("none"),
        Known::Silent(pid) => text!("pid {}, which does not answer: is it stopped?", pid),
        Known::Told(report) => {
            let deaths = report.last_death.as_ref().map(|death| {
                let restarts = match report.restarts {
                    1 => text!("1 restart of the daemon"),
                    many => text!("{} restarts of the daemon", many),
                };
                text!("{}, last death {}: {}", restarts, death.at, death.cause)
            });
            let endurance = report.endurance.then(|| text!("endurance mode: restarts have no bound"));
            Text::list([Some(text!("pid {}", report.pid)), deaths, endurance].into_iter().flatten())
        }
    };
    (text!("guardian"), told)
}

/// The status document with what the guardian knows; `null` if there is none that answers.
pub(super) fn with_report(status: &Status, known: &Known) -> Value {
    let mut document = serde_json::to_value(status).expect("a status has string keys only");
    document["guardian"] = json!(known.report());
    document
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guardian::Death;

    fn line(known: &Known) -> String {
        labelled(&row(known), Lang::En)
    }

    fn a_report() -> Report {
        Report {
            pid: 7,
            daemon: None,
            state: State::Backoff,
            restarts: 3,
            endurance: false,
            last_death: Some(Death { at: "2026-01-01T00:00:00Z".to_owned(), cause: "killed by SIGKILL".to_owned() }),
            next_start_s: Some(12.4),
        }
    }

    #[test]
    fn a_daemon_that_is_down_is_told_with_cause_and_next_start() {
        let wanted = "\
the daemon is down, and is started again in 12s
last death   2026-01-01T00:00:00Z, killed by SIGKILL
guardian     pid 7, 3 restarts of the daemon so far
hint: start it now by `rtcctl --home /h start`; its log says more";
        assert_eq!(down(&a_report(), " --home /h", Lang::En), wanted);
        let held = Report { state: State::Held, next_start_s: Some(299.0), ..a_report() };
        assert!(
            down(&held, "", Lang::En).starts_with("the daemon is down: it died too often; tried again in 4"),
            "{held:?}"
        );
    }

    #[test]
    fn a_summary_tells_of_deaths_only_when_there_were_some() {
        let calm = Report { last_death: None, restarts: 0, ..a_report() };
        assert_eq!(line(&Known::Told(calm)), "guardian     pid 7");
        let told = line(&Known::Told(a_report()));
        assert_eq!(
            told,
            "guardian     pid 7, 3 restarts of the daemon, last death 2026-01-01T00:00:00Z: killed by SIGKILL"
        );
        let once = line(&Known::Told(Report { restarts: 1, ..a_report() }));
        assert!(once.starts_with("guardian     pid 7, 1 restart of the daemon, last"), "{once}");
        assert_eq!(line(&Known::None), "guardian     none");
        assert_eq!(line(&Known::Silent(7)), "guardian     pid 7, which does not answer: is it stopped?");
    }
}
