//! `rtcctl top`: the status, drawn anew every second.

mod screen;
mod terminal;

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args as ClapArgs;

use self::screen::{Sample, Size, screen};
use self::terminal::{Key, Terminal};
use super::Frame;
use super::status::{exit_code, read};
use super::words::columns_of_output;
use crate::error::{Failure, Kind, Result};
use crate::sys::clock;
use crate::text;

/// How often it is drawn; rates are of this span.
const DRAWN_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Print one picture, measured over a second, and leave
    #[arg(long)]
    once: bool,
}

/// Exit codes are those of `status`.
pub(super) fn run(frame: &Frame, args: &Args) -> Result<ExitCode> {
    if args.once || frame.json {
        return once(frame);
    }
    let Some(mut terminal) = Terminal::open()? else {
        return Err(Failure::new(Kind::Usage, text!("`rtcctl top` needs a terminal"))
            .hinted(text!("take one picture by `rtcctl top --once`, or use `rtcctl status --json`")));
    };
    let mut before: Option<Sample> = None;
    loop {
        let sample = sample(frame);
        let size = terminal.size();
        terminal.draw(&screen(before.as_ref(), &sample, size, frame.colour, frame.lang))?;
        let code = sample.status.as_ref().map_or(Kind::NotRunning.exit_code().into(), exit_code);
        // A daemon that has ended is waited for: what it showed last is no base for rates.
        before = sample.status.is_some().then_some(sample);
        if terminal.wait(DRAWN_EVERY)? == Some(Key::Leave) {
            return Ok(code);
        }
    }
}

fn once(frame: &Frame) -> Result<ExitCode> {
    let Some(status) = read(frame)? else { return Ok(Kind::NotRunning.exit_code().into()) };
    let before = Sample { at: clock::now(), status: Some(status), refusal: None };
    thread::park_timeout(DRAWN_EVERY);
    let after = sample(frame);
    let Some(status) = &after.status else {
        return Err(Failure::new(Kind::NotRunning, text!("rtcctl has stopped in the meantime")));
    };
    if frame.json {
        frame.print_json(status);
    } else {
        let size = Size { rows: usize::MAX, columns: columns_of_output() };
        frame.print(screen(Some(&before), &after, size, frame.colour, frame.lang).join("\n"));
    }
    Ok(exit_code(status))
}

fn sample(frame: &Frame) -> Sample {
    // Before it is asked: an answer that takes its time must not look like a rate.
    let at = clock::now();
    match super::status::ask_for(&frame.home) {
        Ok(status) => Sample { at, status: Some(status), refusal: None },
        Err(failure) => Sample { at, status: None, refusal: Some(failure) },
    }
}
