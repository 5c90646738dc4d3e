//! `rtcctl undo` and `rtcctl uninstall`: the host as it was before.

use std::env;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use dialoguer::console::measure_text_width;
use serde_json::{Value, json};

use super::Frame;
use super::init::count;
use super::service;
use super::start::daemon_pid;
use super::stop::{Stopped, stop};
use crate::certs::trust::untrust_but;
use crate::control::protocol::SCHEMA_VERSION;
use crate::error::{Failure, Kind, Result};
use crate::guardian;
use crate::setup::closing::{is_firewall_ours, preview_firewall, set_firewall_back};
use crate::setup::deeds::{Deed, Object, Report, Verb};
use crate::setup::firewall::Needs;
use crate::setup::journal::Journal;
use crate::setup::undo::{Extent, clear, preview, preview_clear, take_back, tidy};
use crate::words::Text;
use crate::{text, word};

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Takes back what the last `init` did: what it made goes, what it changed is put back, bytes, mode and owner. A file that \
                        was changed since stays and is named. The service is stopped first. Once more takes back the `init` before. \
                        Exit code 0 also if there is nothing to undo, 14 if another run is at work."
)]
pub(super) struct UndoArgs {
    /// Show what would be taken back and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Takes back every `init` of this home, and what the service itself has written: logs, events, certificates. A file that was \
                        changed since stays and is named. The service is stopped first. Files that are not rtcctl's always stay."
)]
pub(super) struct UninstallArgs {
    /// Stop the service and take back what was changed outside this home; configuration, secrets, certificates and logs stay
    #[arg(long, conflicts_with = "purge")]
    keep_data: bool,
    /// Take back what was changed since as well
    #[arg(long)]
    purge: bool,
    /// Show what would be done and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs `undo`.
pub(super) fn undo(frame: &Frame, args: &UndoArgs) -> Result<ExitCode> {
    let extent = Extent::Last;
    if !args.dry_run {
        // Whoever is at work on this home must be heard of before the service is stopped.
        tidy(&frame.home)?;
    }
    let Some(ledger) = Journal::read(&frame.home)? else {
        return nothing(
            frame,
            &Report::default(),
            false,
            text!("nothing to undo: no `init` of this home is on record"),
        );
    };
    let planned = preview(&frame.home, &ledger, extent)?;
    let run = ledger.last_open().filter(|_| planned.changed());
    if let Some(run) = run.filter(|_| !frame.json) {
        let heading = text!("Taking back what was done at {} by", run.at).say(frame.lang);
        frame.say(format!("{heading}\n  {}\n", run.what));
    }
    if args.dry_run {
        tell(frame, &planned, true);
        return Ok(ExitCode::SUCCESS);
    }
    needs_root(&planned)?;
    let stopped = planned.changed() && stop_service(frame)?;
    forget_trust(frame, &planned);
    let Some(journal) = Journal::open(&frame.home)? else {
        return nothing(frame, &Report::default(), stopped, text!("nothing to undo: another run was faster"));
    };
    let report = take_back(&frame.home, journal, extent)?;
    finish(frame, &report, stopped, text!("nothing to undo"))
}

/// Runs `uninstall`.
pub(super) fn uninstall(frame: &Frame, args: &UninstallArgs) -> Result<ExitCode> {
    let extent = if args.purge { Extent::Purge } else { Extent::All };
    let ledger = Journal::read(&frame.home)?;
    let planned = match &ledger {
        _ if args.keep_data => close_only(frame, args.dry_run)?,
        Some(ledger) => preview(&frame.home, ledger, extent)?,
        None => preview_clear(&frame.home, extent),
    };
    if args.dry_run {
        tell(frame, &planned, true);
        return Ok(ExitCode::SUCCESS);
    }
    tidy(&frame.home)?;
    needs_root(&planned)?;
    let stopped = stop_service(frame)?;
    if args.keep_data {
        forget_trust(frame, &planned);
        return nothing(frame, &planned, stopped, text!("kept: everything in `{}`", frame.home.config_dir().display()));
    }
    if planned.changed() {
        forget_trust(frame, &planned);
    }
    let report = match Journal::open(&frame.home)? {
        Some(journal) => take_back(&frame.home, journal, extent)?,
        None => clear(&frame.home, extent)?,
    };
    finish(frame, &report, stopped, text!("nothing to uninstall"))
}

/// What goes where the home itself stays.
fn close_only(frame: &Frame, is_dry: bool) -> Result<Report> {
    if !is_firewall_ours(&frame.home) {
        return Ok(Report::default());
    }
    let none = Needs::default();
    let deed = if is_dry { preview_firewall(&frame.home, &none) } else { set_firewall_back(&frame.home, &none)? };
    Ok(Report { deeds: deed.into_iter().collect() })
}

/// Nothing is taken back if the firewall cannot be.
fn needs_root(planned: &Report) -> Result<()> {
    let is_about_rules = planned.deeds.iter().any(|deed| deed.object == Object::Firewall);
    if !is_about_rules || nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::new(Kind::NeedsRoot, text!("the firewall was opened, and only root can close it"))
        .hinted(text!("run the same command by `sudo`")))
}

fn nothing(frame: &Frame, report: &Report, stopped: bool, words: Text) -> Result<ExitCode> {
    if frame.json {
        frame.print_json(&document(report, stopped, false));
    } else {
        tell(frame, report, false);
        frame.print(words);
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a service was running.
fn stop_service(frame: &Frame) -> Result<bool> {
    let is_down = daemon_pid(&frame.home).is_none() && guardian::holder(&frame.home).is_none();
    if is_down && !service::is_a_unit(&frame.home) {
        return Ok(false);
    }
    frame.say(text!("stopping the service first"));
    match stop(frame)? {
        Stopped::Daemon(_) | Stopped::GuardianAlone => Ok(true),
        Stopped::Nothing => Ok(false),
    }
}

/// Once the local authority is gone, nobody could take it out of this host's stores any more.
fn forget_trust(frame: &Frame, planned: &Report) {
    let ca = frame.home.certs_dir().join("ca.pem");
    if !planned.removes(&ca) && planned.deeds.iter().any(|deed| deed.path().is_some()) || !ca.exists() {
        return;
    }
    let journalled = planned.deeds.iter().filter_map(|deed| match &deed.object {
        Object::Trust(store) => Some(store),
        Object::Path(_) | Object::Firewall => None,
    });
    let journalled: Vec<_> = journalled.collect();
    let Ok(outcomes) = untrust_but(&frame.home, env::home_dir().as_deref(), &journalled) else { return };
    for outcome in outcomes {
        match outcome.changed {
            Ok(true) => frame.say(text!("{} no longer trusts the local CA", outcome.store)),
            Ok(false) => {}
            Err(why) => frame.say(text!("warning: {} may still trust the local CA: {}", outcome.store, why)),
        }
    }
}

fn finish(frame: &Frame, report: &Report, stopped: bool, otherwise: Text) -> Result<ExitCode> {
    if !report.changed() && report.of(Verb::Fail).next().is_none() {
        return nothing(frame, report, stopped, otherwise);
    }
    if frame.json {
        frame.print_json(&document(report, stopped, false));
    } else {
        tell(frame, report, false);
    }
    let stuck: Vec<_> = report.of(Verb::Fail).collect();
    if !stuck.is_empty() {
        let failure = Failure::operator(text!("not everything could be taken back"));
        let failure = stuck.iter().fold(failure, |failure, deed| {
            let object = deed.object.to_string();
            failure.because(if deed.why.english().contains(&object) {
                deed.why.clone()
            } else {
                text!("`{}`: {}", object, deed.why)
            })
        });
        return Err(failure
            .hinted(text!("remove what is in the way, and run the same command again: it goes on where it stopped")));
    }
    if frame.json {
        return Ok(ExitCode::SUCCESS);
    }
    let done = report.deeds.iter().filter(|deed| deed.verb.is_change()).count();
    frame.print(format!("\n{}", text!("{} made", count(frame.lang, done)).say(frame.lang)));
    let home = &frame.home;
    if stopped && home.config_file().exists() {
        frame.say(text!("the service was stopped; `rtcctl{} start` starts it as it was before", home.flag()));
    }
    let for_good = [text!("it is not empty"), text!("it is not of rtcctl")];
    if report.of(Verb::Leave).any(|deed| !for_good.contains(&deed.why)) {
        frame.say(text!(
            "`rtcctl{} uninstall` also removes what the service wrote, `--purge` also what was changed since",
            home.flag()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// What is, or would be, done.
fn tell(frame: &Frame, report: &Report, is_dry: bool) {
    if frame.json {
        frame.print_json(&document(report, false, is_dry));
        return;
    }
    for deed in &report.deeds {
        let why = if deed.why.is_empty() { String::new() } else { format!("  ({})", deed.why.say(frame.lang)) };
        let verb = frame.lang.say(word(deed.verb));
        let padding = " ".repeat(7_usize.saturating_sub(measure_text_width(verb)));
        frame.print(format!("  {verb}{padding} {}{why}", deed.object.told().say(frame.lang)));
    }
    if is_dry {
        frame.say(format!("\n{}", text!("nothing was changed: this was a dry run").say(frame.lang)));
    }
}

fn word(verb: Verb) -> &'static str {
    match verb {
        Verb::Remove => word!("remove"),
        Verb::Restore => word!("restore"),
        Verb::Close => word!("close"),
        Verb::Leave => word!("leave"),
        Verb::Fail => word!("FAILED"),
    }
}

fn document(report: &Report, stopped: bool, is_dry: bool) -> Value {
    let one = |deed: &Deed| match &deed.object {
        Object::Path(path) => json!({ "action": word(deed.verb).to_lowercase(), "path": path, "why": deed.why }),
        Object::Firewall => {
            json!({ "action": word(deed.verb).to_lowercase(), "object": "firewall", "why": deed.why })
        }
        Object::Trust(_) => json!({
            "action": word(deed.verb).to_lowercase(), "object": "trust", "path": deed.object.to_string(), "why": deed.why,
        }),
    };
    let list = |verbs: &[Verb]| -> Vec<Value> {
        report.deeds.iter().filter(|deed| verbs.contains(&deed.verb)).map(one).collect()
    };
    json!({
        "schema_version": SCHEMA_VERSION,
        "dry_run": is_dry,
        "stopped": stopped,
        "done": list(&[Verb::Remove, Verb::Restore, Verb::Close]),
        "left": list(&[Verb::Leave]),
        "failed": list(&[Verb::Fail]),
    })
}
