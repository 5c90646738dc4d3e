//! `rtcctl logs`: what the service has logged, by task, severity and time. It reads files, so it needs no daemon.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, SystemTime};

use clap::Args as ClapArgs;
use serde_json::json;

use super::Frame;
use super::follow::Follow;
use super::since::Since;
use crate::control::protocol::SCHEMA_VERSION;
use crate::error::{Failure, Result};
use crate::sys::clock;
use crate::sys::log::{Format, Level, Record};
use crate::text;

/// Lines that are shown where nobody says how many or since when.
const DEFAULT_LINES: usize = 50;
/// How often it is looked for new lines.
pub(super) const LOOKED_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Go on as lines are written
    #[arg(short, long)]
    follow: bool,
    /// Only lines of this task, or of `daemon`, `edge`, `supervisor` and the like
    #[arg(long, value_name = "TASK")]
    task: Option<String>,
    /// Only lines that are at least so severe: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    level: Option<Level>,
    /// Only lines since then: 90s, 10m, 2h, 3d, or a moment like 2026-11-25T19:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = Since::parse)]
    since: Option<Since>,
    /// The last so many lines; 50 without --since
    #[arg(short = 'n', long, value_name = "LINES")]
    lines: Option<usize>,
}

fn level(word: &str) -> Result<Level, String> {
    Level::parse(word).ok_or_else(|| "levels are error, warn, info, debug and trace".to_owned())
}

pub(super) fn run(frame: &Frame, args: &Args) -> Result<ExitCode> {
    let path = frame.home.log_file();
    let filter = Filter::new(args, clock::now().wall);
    let mut follow = Follow::new(&path, filter.since);
    if !follow.is_there() && !args.follow {
        return Err(Failure::operator(text!("there is no log at `{}`", path.display()))
            .hinted(text!("under systemd, or after `rtcctl run`, lines are in its journal: `journalctl -t rtcctl`")));
    }
    let failed = |error| Failure::operator(text!("cannot read `{}`", path.display())).caused_by(error);
    let mut sieve = Sieve { filter, shows_rest: false };
    let lines = args.lines.unwrap_or(if args.since.is_some() { usize::MAX } else { DEFAULT_LINES });
    let mut last: VecDeque<String> = VecDeque::new();
    let mut keep = |line: &str| {
        if let Some(shown) = sieve.pass(line, frame) {
            last.push_back(shown);
            if last.len() > lines {
                last.pop_front();
            }
        }
        true
    };
    follow.read(&mut keep).map_err(failed)?;
    let mut is_heard = last.iter().all(|line| put(line).is_ok());
    while args.follow && is_heard {
        thread::park_timeout(LOOKED_EVERY);
        let mut show = |line: &str| sieve.pass(line, frame).is_none_or(|shown| put(&shown).is_ok());
        is_heard = follow.read(&mut show).map_err(failed)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a line at once. The error: whoever reads has gone away.
pub(super) fn put(line: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}

struct Filter {
    task: Option<String>,
    level: Option<Level>,
    since: Option<SystemTime>,
}

impl Filter {
    fn new(args: &Args, now: SystemTime) -> Self {
        Self { task: args.task.clone(), level: args.level, since: args.since.map(|since| since.moment(now)) }
    }

    fn lets(&self, record: &Record) -> bool {
        self.task.as_ref().is_none_or(|task| *task == record.task)
            && self.level.is_none_or(|level| record.level <= level)
            && self.since.is_none_or(|since| record.at >= since)
    }
}

/// Decides line by line what is shown, and how.
struct Sieve {
    filter: Filter,
    /// What is no record belongs to the one before it.
    shows_rest: bool,
}

impl Sieve {
    fn pass(&mut self, line: &str, frame: &Frame) -> Option<String> {
        let Some(record) = Record::parse(line) else {
            return (self.shows_rest && !frame.json).then(|| line.escape_debug().to_string());
        };
        self.shows_rest = self.filter.lets(&record);
        self.shows_rest.then(|| shown(&record, frame))
    }
}

fn shown(record: &Record, frame: &Frame) -> String {
    if frame.json {
        let mut document = json!({ "schema_version": SCHEMA_VERSION });
        if let (Some(all), Some(own)) = (document.as_object_mut(), record.json().as_object_mut()) {
            all.append(own);
        }
        return document.to_string();
    }
    let line = record.line(Format::Text);
    let line = line.trim_end();
    match record.level {
        Level::Error if frame.colour => format!("\x1b[31m{line}\x1b[0m"),
        Level::Warn if frame.colour => format!("\x1b[33m{line}\x1b[0m"),
        Level::Debug | Level::Trace if frame.colour => format!("\x1b[2m{line}\x1b[0m"),
        Level::Error | Level::Warn | Level::Info | Level::Debug | Level::Trace => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [&str; 4] = [
        "2026-11-25T19:00:00.000Z  INFO web: listening port=443",
        "2026-11-25T19:00:01.000Z ERROR turn: it broke",
        "  and this is why\x1b[2J",
        "{\"at\":\"2026-11-25T19:00:02Z\",\"level\":\"warn\",\"task\":\"web\",\"message\":\"slow\",\"fields\":{\"ms\":\"9\"}}",
    ];

    fn passed(filter: Filter, json: bool) -> Vec<String> {
        let mut sieve = Sieve { filter, shows_rest: false };
        LINES.iter().filter_map(|line| sieve.pass(line, &Frame::of_test(json))).collect()
    }

    fn all() -> Filter {
        Filter { task: None, level: None, since: None }
    }

    #[test]
    fn lines_are_chosen_by_task_severity_and_time_and_what_belongs_to_one_comes_with_it() {
        let everything = passed(all(), false);
        assert_eq!(everything[1..3], [LINES[1], "  and this is why\\u{1b}[2J"], "nothing moves the cursor");
        assert_eq!(everything[3], "2026-11-25T19:00:02.000Z  WARN web: slow ms=9");
        let web = passed(Filter { task: Some("web".to_owned()), ..all() }, false);
        assert_eq!(web, [LINES[0], everything[3].as_str()]);
        let severe = passed(Filter { level: Some(Level::Warn), ..all() }, false);
        assert_eq!(severe, everything[1..]);
        let late = crate::sys::log::record::moment("2026-11-25T19:00:02Z");
        assert_eq!(passed(Filter { since: late, ..all() }, false), everything[3..]);
    }

    #[test]
    fn json_is_one_document_a_line_whatever_the_file_has() {
        let documents: Vec<serde_json::Value> =
            passed(all(), true).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(documents.len(), 3);
        assert!(documents.iter().all(|document| document["schema_version"] == SCHEMA_VERSION));
        assert_eq!(documents[2]["fields"]["ms"], "9");
    }
}
