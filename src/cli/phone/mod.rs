//! `rtcctl phone`: shows a code, and what a phone finds that opens the page by it, as it finds it.

mod tell;
mod words;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args as ClapArgs;
use serde_json::json;

use self::words::Words;
use super::Frame;
use super::qr::qr_code;
use crate::control::client;
use crate::control::protocol::{Request, Response, SCHEMA_VERSION};
use crate::error::{Failure, Kind, Result};
use crate::phone::desk::Event;
use crate::phone::report::Grade;
use crate::phone::{Answer, Ask, LASTS};
use crate::sys::interrupt;
use crate::text;
use crate::words::Lang;
use crate::words::Text;

/// How often it is asked what is new: ticks should seem to appear at once.
const ASKED_EVERY: Duration = Duration::from_millis(200);
/// What the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Questions without a phone after which it is told what may be the matter: half a minute.
const LONELY_AFTER: u32 = 150;

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// How long to wait for a phone and its verdict
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(LASTS))]
    timeout: u64,
}

/// Exit code 0: calls work from this phone; 1: they do not, or not well, or none came in time.
pub(super) fn run(frame: &Frame, args: &Args) -> Result<ExitCode> {
    let words = Words { language: frame.lang };
    // The code ends with this command, whatever ends it: by this where it can, by its silence where it cannot.
    interrupt::catch();
    let Answer::Begun { id, url, seconds } = ask(frame, Ask::Begin { seconds: args.timeout })? else {
        return Err(Failure::bug(text!("the service began no proof")));
    };
    // Whoever reads Chinese here holds the phone; English may only be what this terminal's locale is.
    let url = match frame.lang {
        Lang::Zh => url.replacen("/phone#", "/phone?lang=zh#", 1),
        Lang::En => url,
    };
    let watch = Watch { frame, words, is_live: !frame.json && !frame.quiet && std::io::stderr().is_terminal() };
    watch.invite(&url, seconds);
    let ended = watch.follow(&id);
    watch.clear();
    // It may be gone already.
    let _ = ask(frame, Ask::End { id });
    ended
}

struct Watch<'a> {
    frame: &'a Frame,
    words: Words,
    /// Whether there is a terminal for a line that is written over.
    is_live: bool,
}

impl Watch<'_> {
    fn invite(&self, url: &str, seconds: u64) {
        if self.frame.json {
            return self.print_json(&json!({ "event": "begun", "url": url, "seconds": seconds }));
        }
        self.frame.say(self.words.invite());
        self.frame.print(url);
        if let Some(code) = qr_code(url) {
            self.frame.say(code);
        }
        if tell::is_only_here(url) {
            self.frame.say(self.words.only_here());
        }
        self.frame.say(self.words.bounds(seconds));
    }

    /// Shows what comes until there is a verdict.
    fn follow(&self, id: &str) -> Result<ExitCode> {
        let (mut known, mut questions, mut is_there) = (0, 0, false);
        let mut now_at = None;
        loop {
            if interrupt::interrupted() {
                return Err(Failure::new(Kind::Interrupted, Text::verbatim(self.words.interrupted())));
            }
            let Answer::View { view } = ask(self.frame, Ask::Read { id: id.to_owned(), from: known })? else {
                return Err(Failure::operator(Text::verbatim(self.words.gone(is_there)))
                    .hinted(Text::verbatim(self.words.again(&self.frame.home.flag()))));
            };
            known += view.events.len();
            for event in view.events {
                self.clear();
                self.show(&event);
                match event {
                    Event::Opened { .. } => is_there = true,
                    Event::Step(report) => now_at = (report.grade == Grade::Running).then_some(report.step),
                    Event::Verdict(verdict) => {
                        let is_good = verdict.grade == Grade::Good;
                        return Ok(if is_good { ExitCode::SUCCESS } else { Kind::Operator.exit_code().into() });
                    }
                    Event::Refused { .. } => {}
                }
            }
            questions += 1;
            if questions == LONELY_AFTER && !is_there && !self.frame.json {
                self.clear();
                self.frame.say(self.words.lonely(&self.frame.home.flag()));
            }
            self.write_over(&self.words.waiting(is_there, now_at, view.seconds_left));
            thread::park_timeout(ASKED_EVERY);
        }
    }

    fn show(&self, event: &Event) {
        if self.frame.json {
            let document = serde_json::to_value(event).expect("an event has string keys only");
            return self.print_json(&document);
        }
        if let Some(text) = tell::event(event, self.words, self.frame.colour) {
            self.frame.print(text);
        }
    }

    /// One document a line, as they come.
    fn print_json(&self, document: &serde_json::Value) {
        let mut whole = json!({ "schema_version": SCHEMA_VERSION });
        if let (Some(whole), Some(own)) = (whole.as_object_mut(), document.as_object()) {
            whole.extend(own.clone());
        }
        self.frame.print(whole.to_string());
    }

    fn write_over(&self, text: &str) {
        if self.is_live {
            let mut output = std::io::stderr().lock();
            // A terminal that is gone has nobody before it.
            let _ = write!(output, "\r\x1b[K{text}").and_then(|()| output.flush());
        }
    }

    fn clear(&self) {
        self.write_over("");
    }
}

fn ask(frame: &Frame, what: Ask) -> Result<Answer> {
    match client::ask(&frame.home, &Request::Phone(what), PATIENCE)? {
        Response::Phone(answer) => Ok(answer),
        Response::Status { .. }
        | Response::Done
        | Response::Measure { .. }
        | Response::Renewed { .. }
        | Response::Refused { .. }
        | Response::Reloaded { .. }
        | Response::Failed { .. } => Err(Failure::bug(text!("the service answered another question"))),
    }
}
