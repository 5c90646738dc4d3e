//! `rtcctl events`: every change of state with its cause. It reads the journal's file, so it needs no daemon.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use clap::Args as ClapArgs;
use serde_json::json;

use super::Frame;
use super::logs::{LOOKED_EVERY, put};
use super::since::Since;
use crate::control::protocol::SCHEMA_VERSION;
use crate::error::{Failure, Result};
use crate::supervisor::capsule::Capsule;
use crate::supervisor::events::{self, Event};
use crate::supervisor::service::TaskName;
use crate::sys::clock;
use crate::sys::log::record::moment;
use crate::text;

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Go on as things happen
    #[arg(short, long)]
    follow: bool,
    /// Only events of this task: certs, turn, signaling or web
    #[arg(long, value_name = "TASK", value_parser = super::task)]
    task: Option<TaskName>,
    /// Only events since then: 90s, 10m, 2h, 3d, or a moment like 2026-11-25T19:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = Since::parse)]
    since: Option<Since>,
}

pub(super) fn run(frame: &Frame, args: &Args) -> Result<ExitCode> {
    let path = frame.home.events_file();
    let since = args.since.map(|since| since.moment(clock::now().wall));
    let read = || {
        events::read(&path)
            .map_err(|error| Failure::operator(text!("cannot read `{}`", path.display())).caused_by(error))
    };
    let is_wanted = |event: &&Event| {
        args.task.is_none_or(|task| event.task == Some(task))
            && since.is_none_or(|since| moment(&event.at).is_none_or(|at| at >= since))
    };
    let show = |events: &[Event]| events.iter().filter(is_wanted).all(|event| put(&shown(event, frame)).is_ok());
    // Before the file is read: what is written in between is found by the next look.
    let mut stamp = stamp_of(&path);
    let mut known = read()?;
    let mut is_heard = show(&known);
    while args.follow && is_heard {
        thread::park_timeout(LOOKED_EVERY);
        let now = stamp_of(&path);
        if now != stamp {
            stamp = now;
            let events = read()?;
            is_heard = show(fresh(&known, &events));
            known = events;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What tells one version of the file from another.
fn stamp_of(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|data| (data.ino(), data.len()))
}

/// Those of `events` that come after all of `known`, whose oldest ones may be gone.
fn fresh<'a>(known: &[Event], events: &'a [Event]) -> &'a [Event] {
    let Some(last) = known.last() else { return events };
    let begin = events.iter().rposition(|event| event == last).map_or(0, |at| at + 1);
    &events[begin..]
}

fn shown(event: &Event, frame: &Frame) -> String {
    if frame.json {
        let mut document = json!({ "schema_version": SCHEMA_VERSION });
        let own = serde_json::to_value(event).expect("an event has string keys only");
        if let (Some(all), serde_json::Value::Object(mut own)) = (document.as_object_mut(), own) {
            all.append(&mut own);
        }
        return document.to_string();
    }
    let kind = serde_json::to_value(event.kind).ok().and_then(|kind| kind.as_str().map(str::to_owned));
    let task = event.task.map_or("-", TaskName::as_str);
    let mut text = format!("{:<24}  {task:<9}  {:<8}", event.at, kind.unwrap_or_default());
    if let (Some(from), Some(to)) = (&event.from, &event.to) {
        text.push_str(&format!("  {from} -> {to}"));
    }
    if !event.cause.is_empty() {
        text.push_str("  ");
        text.push_str(&plain(&event.cause));
    }
    event.capsule.iter().for_each(|capsule| tell(capsule, &mut text));
    text
}

/// A capsule, indented below its event.
fn tell(capsule: &Capsule, text: &mut String) {
    let mut line = |label: &str, value: &str| text.push_str(&format!("\n    {label:<10}{}", plain(value)));
    line("message", &capsule.message);
    if let Some(place) = &capsule.place {
        line("place", place);
    }
    line("thread", &capsule.thread);
    for (label, lines) in [("way", &capsule.backtrace), ("threads", &capsule.threads), ("log", &capsule.log)] {
        for (number, value) in lines.iter().enumerate() {
            line(if number == 0 { label } else { "" }, value);
        }
    }
}

/// Without anything that would move a terminal's cursor.
fn plain(text: &str) -> String {
    let symbols =
        text.chars().map(|symbol| if symbol.is_control() { symbol.escape_debug().to_string() } else { symbol.into() });
    symbols.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::board::State;
    use crate::supervisor::events::EventKind;

    fn event(cause: &str) -> Event {
        let at = "2026-11-25T19:00:00Z".to_owned();
        Event { at, pid: 7, ..Event::state(TaskName::Web, State::Ready, State::Backoff, cause, clock::now()) }
    }

    #[test]
    fn an_event_is_a_line_and_its_capsule_can_be_read_below_it() {
        assert_eq!(
            shown(&event("it broke"), &Frame::of_test(false)),
            "2026-11-25T19:00:00Z      web        state     ready -> backoff  it broke"
        );
        let capsule = Capsule {
            message: "index out of bounds".to_owned(),
            place: Some("src/web/api.rs:7:5".to_owned()),
            thread: "web".to_owned(),
            backtrace: vec!["rtcctl::web::api::ice".to_owned(), "rtcctl::web::task::answer".to_owned()],
            threads: Vec::new(),
            log: vec!["INFO \x1b[2Jlistening".to_owned()],
        };
        let panic = Event {
            kind: EventKind::Panic,
            from: None,
            to: None,
            ..event("index out of bounds").with_capsule(capsule)
        };
        let wanted = "\
2026-11-25T19:00:00Z      web        panic     index out of bounds
    message   index out of bounds
    place     src/web/api.rs:7:5
    thread    web
    way       rtcctl::web::api::ice
              rtcctl::web::task::answer
    log       INFO \\u{1b}[2Jlistening";
        assert_eq!(shown(&panic, &Frame::of_test(false)), wanted);
        let document: serde_json::Value = serde_json::from_str(&shown(&panic, &Frame::of_test(true))).unwrap();
        assert_eq!((&document["schema_version"], &document["task"]), (&json!(1), &json!("web")));
        assert_eq!(document["capsule"]["place"], "src/web/api.rs:7:5");
    }

    #[test]
    fn only_what_is_new_is_shown_whatever_was_put_aside() {
        let events: Vec<Event> = ["a", "b", "c"].map(event).into();
        assert_eq!(fresh(&[], &events), events);
        assert_eq!(fresh(&events[..2], &events), &events[2..]);
        assert_eq!(fresh(&events[..2], &events[1..]), &events[2..], "the oldest one is gone");
        assert_eq!(fresh(&[event("long gone")], &events), events);
    }
}
