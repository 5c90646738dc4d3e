//! `rtcctl upgrade`: another program in the place of this one, and back by itself if it is worse.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args as ClapArgs;
use serde_json::json;

use super::since::span;
use super::start::daemon_pid;
use super::{Frame, service};
use crate::control::protocol::SCHEMA_VERSION;
use crate::daemon::STOPPED_WITHIN;
use crate::error::{Failure, Kind, Result};
use crate::guardian;
use crate::home::Home;
use crate::supervisor::board::State;
use crate::sys::process::{self, Watched, runs};
use crate::sys::{clock, fault, interrupt};
use crate::text;
use crate::upgrade::{Candidate, Place, Program, Seen, Verdict, digest_of, judge, rehearse};
use crate::words::Text;

/// How long a daemon may take to be ready; what it gives up after is below that.
const READY_WITHIN: Duration = Duration::from_secs(100);
/// How long a daemon whose guardian is gone may take to have another one, if the first of them does not come up.
const GUARDED_WITHIN: Duration = Duration::from_secs(15);
/// How often it is looked how the new one does.
const LOOKED_EVERY: Duration = Duration::from_secs(1);
/// How long a status may take.
const TOLD_WITHIN: Duration = Duration::from_secs(15);

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// The new program
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What the file's SHA-256 must be, in hexadecimal
    #[arg(long, value_name = "DIGEST", value_parser = digest)]
    sha256: Option<String>,
    /// How long the new one is watched before it is trusted
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = watched)]
    watch: Duration,
    /// Go through all of it even if the program is the same
    #[arg(long)]
    force: bool,
}

pub(super) fn digest(text: &str) -> Result<String, String> {
    let is_digest = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_digest.then(|| text.to_ascii_lowercase()).ok_or_else(|| "a SHA-256 has 64 hexadecimal digits".to_owned())
}

fn watched(text: &str) -> Result<Duration, String> {
    let longest = Duration::from_secs(3600);
    span(text)
        .filter(|span| *span <= longest)
        .ok_or_else(|| "write a span of an hour at most, like 30s or 5m".to_owned())
}

/// What is there to be replaced.
enum Running {
    /// A daemon under a guardian: its sockets are held meanwhile.
    Guarded(Seen),
    /// A unit of systemd, which holds its sockets meanwhile.
    Unit(Seen),
    /// The guardian waits before it starts its daemon again.
    Down,
    /// A daemon that somebody else looks after, or nobody.
    Unguarded(u32),
    Nothing,
}

/// Who starts the daemon anew and holds its sockets until it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeper {
    Guardian,
    Systemd,
}

pub(super) fn run(frame: &Frame, args: &Args) -> Result<ExitCode> {
    let begun = clock::now().mono;
    // What was begun must be ended or taken back.
    interrupt::catch();
    let candidate = Candidate::read(&args.file, args.sha256.as_deref())?;
    let place = Place::take(program(frame))?;
    let is_in_place = !args.force && digest_of(place.path()).ok().as_ref() == Some(&candidate.sha256);
    if is_in_place && is_what_runs(&frame.home, place.path()) {
        return tell(frame, &place, "unchanged", None, "the program is the same already; nothing was changed");
    }
    // One that an upgrade has put in place that was killed is taken over by now.
    let staged = if is_in_place { place.path().to_path_buf() } else { place.stage(&candidate)? };
    let to = match rehearse(&Program(staged.clone()), &frame.home) {
        Ok(version) => version,
        Err(failure) => {
            place.unstage();
            return Err(failure.hinted(text!("the new program takes over nothing; everything is as it was")));
        }
    };
    if interrupt::interrupted() {
        place.unstage();
        return Err(Failure::new(Kind::Interrupted, text!("interrupted; everything is as it was")));
    }
    frame.say(text!("rtcctl {} has served a home of its own, and takes the configuration of this one", to));
    let running = running(frame, &place);
    if !is_in_place {
        place.swap(&staged).inspect_err(|_| place.unstage())?;
        fault::point("upgrade-swapped");
    }
    let (keeper, before) = match running {
        Running::Guarded(seen) => (Keeper::Guardian, seen),
        Running::Unit(seen) => (Keeper::Systemd, seen),
        Running::Nothing => {
            return tell(
                frame,
                &place,
                "installed",
                Some(&to),
                &format!("rtcctl {to} is in place; nothing runs that it would replace"),
            );
        }
        Running::Down => {
            let told = format!("rtcctl {to} is in place; the daemon is down, and is started as that one");
            return tell(frame, &place, "installed", Some(&to), &told);
        }
        Running::Unguarded(pid) => {
            let told = format!("rtcctl {to} is in place; who started the daemon (pid {pid}) has to start it anew");
            return tell(frame, &place, "installed", Some(&to), &told);
        }
    };
    match take_over(frame, &place, keeper, &before, args.watch) {
        Ok(pid) => {
            let took = clock::now().mono.saturating_duration_since(begun).as_secs();
            let told = format!(
                "rtcctl is {to} now (pid {pid}, it was {}), after {took} s\nthe one before is `{}`; `rtcctl{} upgrade` with it goes back",
                before.version,
                place.previous().display(),
                frame.home.flag()
            );
            tell(frame, &place, "upgraded", Some(&to), &told)?;
            if place.is_packaged() {
                frame.say("It came with the package rtcctl: the next version of that takes its place again.");
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => fall_back(frame, &place, keeper, &to, &why),
    }
}

/// Whether whatever runs of this home is the program that lies at `path` now.
fn is_what_runs(home: &Home, path: &Path) -> bool {
    [guardian::holder(home), daemon_pid(home)].into_iter().flatten().all(|pid| runs(pid, path))
}

/// The program that the service runs, or that would be started.
fn program(frame: &Frame) -> PathBuf {
    let running = guardian::holder(&frame.home).or_else(|| daemon_pid(&frame.home));
    running.and_then(process::program_of).unwrap_or_else(process::own_program)
}

fn running(frame: &Frame, place: &Place) -> Running {
    match guardian::report(&frame.home) {
        Ok(report) if report.daemon.is_some() => status(frame, place.path()).map_or(Running::Down, Running::Guarded),
        Ok(_) => Running::Down,
        Err(_) => match (daemon_pid(&frame.home), status(frame, place.path())) {
            (Some(_), Some(seen)) if service::is_a_unit(&frame.home) => Running::Unit(seen),
            (Some(pid), _) => Running::Unguarded(pid),
            (None, _) => Running::Nothing,
        },
    }
}

/// The status as the program in place tells it, for it may not be of this version.
fn status(frame: &Frame, program: &Path) -> Option<Seen> {
    let ended = Program(program.to_path_buf()).run(&frame.home, &["status", "--json"], TOLD_WITHIN).ok()?;
    Seen::read(&ended.output)
}

/// Replaces the guardian, then the daemon while its sockets are held, and watches. Gives the new daemon.
fn take_over(frame: &Frame, place: &Place, keeper: Keeper, before: &Seen, watch: Duration) -> Result<u64, String> {
    match keeper {
        Keeper::Guardian => {
            renew_guardian(frame, place.path())?;
            restart(frame)?;
        }
        Keeper::Systemd => drop(service::restart(frame).map_err(|failure| failure.to_string())?),
    }
    let after = status(frame, place.path()).ok_or("it does not tell its status")?;
    let pid = after.pid.ok_or("it does not tell its status")?;
    frame.say(text!("rtcctl {} serves (pid {}), and is watched for {} s", after.version, pid, watch.as_secs()));
    let until = clock::now().mono + watch;
    loop {
        if let Verdict::Worse(why) = judge(before, &after, status(frame, place.path()).as_ref()) {
            return Err(why);
        }
        if interrupt::interrupted() {
            return Err("it was interrupted while it was watched".to_owned());
        }
        let left = until.saturating_duration_since(clock::now().mono);
        if left.is_zero() {
            return Ok(pid);
        }
        std::thread::park_timeout(left.min(LOOKED_EVERY));
    }
}

/// Has the daemon take another guardian, which is the program at `path`, and waits until that one holds everything.
pub(super) fn renew_guardian(frame: &Frame, path: &Path) -> Result<(), String> {
    let home = &frame.home;
    let old = guardian::holder(home).ok_or("it has no guardian")?;
    let process = Watched::new(old).map_err(|error| error.to_string())?;
    if guardian::holder(home) != Some(old) {
        return Err("its guardian has changed meanwhile".to_owned());
    }
    // Its daemon notices, starts another one, and hands all sockets over.
    process.kill().map_err(|error| format!("its guardian cannot be ended: {error}"))?;
    let until = clock::now().mono + GUARDED_WITHIN;
    while clock::now().mono < until {
        let is_new = guardian::holder(home).is_some_and(|pid| pid != old && runs(pid, path));
        if is_new && guardian::report(home).is_ok_and(|report| report.daemon.is_some() && report.state == State::Ready)
        {
            return Ok(());
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Err(format!("no guardian of the new program has come up within {} s", GUARDED_WITHIN.as_secs()))
}

fn restart(frame: &Frame) -> Result<u32, String> {
    guardian::restart(&frame.home, STOPPED_WITHIN + READY_WITHIN).map_err(|failure| failure.to_string())
}

/// Brings the program from before back, with the sockets held if there is any way to.
fn fall_back(frame: &Frame, place: &Place, keeper: Keeper, to: &str, why: &str) -> Result<ExitCode> {
    frame.say(text!("rtcctl {} does not do: {}; going back", to, why));
    place.take_back()?;
    let home = &frame.home;
    let back = || -> Result<(), String> {
        if keeper == Keeper::Systemd {
            return service::restart(frame).map(drop).map_err(|failure| failure.to_string());
        }
        match guardian::report(home) {
            // Its daemon died: the sockets are held for the next one, which is the one from before.
            Ok(report) if report.daemon.is_none() => {
                guardian::start(home, READY_WITHIN).map_err(|failure| failure.to_string())?;
            }
            // The one from before may run still.
            Ok(report) if report.daemon.is_some_and(|pid| runs(pid, place.path())) => {}
            Ok(_) => drop(restart(frame)?),
            Err(_) if daemon_pid(home).is_some() => {}
            Err(failure) => return Err(failure.to_string()),
        }
        match guardian::holder(home) {
            Some(pid) if runs(pid, place.path()) => Ok(()),
            Some(_) => renew_guardian(frame, place.path()),
            // The daemon goes on trying, with the program from before now.
            None => Ok(()),
        }
    };
    let outcome = back().or_else(|first| {
        // With the ports closed for a moment, but from scratch.
        let started = super::stop::stop(frame).and_then(|_| {
            let ended = Program(place.path().to_path_buf()).run(home, &["start"], READY_WITHIN)?;
            if ended.status.success() { Ok(()) } else { Err(Failure::operator(Text::verbatim(ended.output.trim()))) }
        });
        started.map_err(|second| format!("{first}; {second}"))
    });
    let failure = Failure::new(Kind::RolledBack, text!("rtcctl {} was not taken: {}", to, why));
    Err(match outcome {
        Ok(()) => {
            failure.hinted(text!("the program from before serves again; the log of the new one is in `rtcctl logs`"))
        }
        Err(trouble) => failure
            .because(text!("the program from before is in place, but does not serve: {}", trouble))
            .hinted(text!("see `rtcctl{0} status` and `rtcctl{0} logs`", home.flag())),
    })
}

fn tell(frame: &Frame, place: &Place, result: &str, to: Option<&str>, told: &str) -> Result<ExitCode> {
    if frame.json {
        let document = json!({
            "schema_version": SCHEMA_VERSION,
            "result": result,
            "program": place.path(),
            "previous": place.previous(),
            "version": to,
        });
        frame.print_json(&document);
    } else {
        frame.say(told);
    }
    Ok(ExitCode::SUCCESS)
}
