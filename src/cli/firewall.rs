//! `rtcctl firewall`: what filters on this host, and how callers get through.

use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Subcommand;
use serde_json::{Value, json};

use super::Frame;
use super::init::count;
use crate::config::load_config;
use crate::control::protocol::SCHEMA_VERSION;
use crate::error::{Failure, Kind, Result};
use crate::home::Home;
use crate::setup::firewall::confirm::{self, Left, Pending};
use crate::setup::firewall::{self, Change, Drift, Needs, Plan, Record, detect, drift, lock, settle};
use crate::setup::ports::{PortUse, port_uses};
use crate::sys::{clock, process};
use crate::words::Lang;
use crate::{text, word};

/// What to do with the firewall.
#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// Show what filters here and the commands that `open` would run; change nothing
    Plan,
    /// Let callers in, and take out rules of ours that are not needed any more; needs root
    #[command(
        after_help = "Only rules that accept are added, in the chain that decides; nothing is flushed, restarted or enabled, \
                            and SSH stays as it is."
    )]
    Open {
        /// Take the change back after SECONDS, unless `rtcctl firewall confirm` is run from another connection
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(5..=3600))]
        confirm: Option<u64>,
    },
    /// Keep a change that waits for it; from another connection, to show that this host can still be reached
    Confirm {
        /// From this connection, too
        #[arg(long)]
        here: bool,
    },
    /// Take out every rule of ours; needs root
    Close,
    /// Show whether callers get through; exit code 10: not all of them do, or a rule of ours is not needed any more
    Status,
    /// Wait for a change to be confirmed
    #[command(hide = true)]
    Keep,
}

/// Runs the command.
pub(super) fn run(frame: &Frame, args: &Args) -> Result<ExitCode> {
    match args {
        Args::Plan => plan(frame),
        Args::Open { confirm } => open(frame, confirm.map(Duration::from_secs)),
        Args::Confirm { here } => confirm_change(frame, *here),
        Args::Close => close(frame),
        Args::Status => status(frame),
        Args::Keep => keep(frame),
    }
}

fn uses(home: &Home) -> Result<Vec<PortUse>> {
    Ok(port_uses(&load_config(home)?.config))
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn plan(frame: &Frame) -> Result<ExitCode> {
    let uses = uses(&frame.home)?;
    let needs = Needs::of(&uses);
    if !is_root() {
        return Ok(guess(frame, &uses, &needs));
    }
    let plan = firewall::plan(&detect(&frame.home)?, &needs, &frame.home.tag());
    if frame.json {
        frame.print_json(&as_json(&plan, &needs, false));
    } else {
        frame.print(describe(&plan, &needs, frame.lang));
    }
    Ok(ExitCode::SUCCESS)
}

/// What can be told without seeing the rules.
fn guess(frame: &Frame, uses: &[PortUse], needs: &Needs) -> ExitCode {
    let tools = firewall::installed();
    if frame.json {
        let commands: serde_json::Map<String, Value> =
            tools.iter().map(|tool| (tool.program().to_owned(), json!(tool.commands(uses)))).collect();
        frame.print_json(&json!({
            "schema_version": SCHEMA_VERSION, "needs": needs, "needs_root": true, "commands_by_tool": commands,
        }));
        return ExitCode::SUCCESS;
    }
    frame.print(text!("callers must reach {}", needs));
    frame.say(text!("what filters here can be seen by root only: run this again as root to have the right commands"));
    for tool in tools {
        frame.print(text!("if {} is what filters:", tool.program()));
        tool.commands(uses).iter().for_each(|command| frame.print(format!("  {command}")));
    }
    ExitCode::SUCCESS
}

fn open(frame: &Frame, patience: Option<Duration>) -> Result<ExitCode> {
    let needs = Needs::of(&uses(&frame.home)?);
    catch_up(frame)?;
    let _lock = lock(&frame.home, "open")?;
    if let Some(pending) = Pending::load(&frame.home) {
        let left = pending.left(clock::now().wall).as_secs();
        return Err(Failure::operator(text!("an earlier change waits to be confirmed for {} s more", left))
            .hinted(text!("run `rtcctl{} firewall confirm`, or take it back by `firewall close`", frame.home.flag())));
    }
    if let Some(patience) = patience {
        arm(frame, patience)?;
    }
    let done = settle(&frame.home, &needs, &mut |change| tell(frame, change));
    let plan = match done {
        Ok(plan) => plan,
        Err(failure) => {
            Pending::forget(&frame.home)?;
            return Err(failure);
        }
    };
    let changes = plan.changes().count();
    if changes == 0 {
        // Nothing came that could return.
        Pending::forget(&frame.home)?;
    }
    if frame.json {
        frame.print_json(&as_json(&plan, &needs, true));
        return Ok(ExitCode::SUCCESS);
    }
    frame.print(count(frame.lang, changes));
    talk(frame, &plan);
    if let Some(patience) = patience.filter(|_| changes > 0) {
        let text = text!("taken back in {} s, unless you run this from another connection:", patience.as_secs());
        frame.print(format!("{}\n  rtcctl{} firewall confirm", text.say(frame.lang), frame.home.flag()));
    }
    Ok(ExitCode::SUCCESS)
}

/// What an earlier run left to do.
fn catch_up(frame: &Frame) -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    match confirm::resume(&frame.home)? {
        Left::Abandoned => start_keeper(&frame.home),
        Left::TakenBack => {
            frame.say(text!("an earlier change of the firewall was not confirmed in time: it was taken back just now"));
            Ok(())
        }
        Left::Nothing | Left::Waits => Ok(()),
    }
}

/// For the start of the service: a change that nobody confirmed must not outlive a restart of the machine.
pub(super) fn catch_up_quietly(frame: &Frame) {
    if let Err(failure) = catch_up(frame) {
        frame.say(text!("a change of the firewall that was not confirmed could not be taken back: {}", failure));
    }
}

/// Writes down what to return to, and has a process of its own wait for the moment, before anything is changed.
fn arm(frame: &Frame, patience: Duration) -> Result<()> {
    let until = clock::now().wall + patience;
    let until_s = until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let before = Record::load(&frame.home).needs;
    Pending { before, until_s, connection: confirm::connection() }.save(&frame.home)?;
    start_keeper(&frame.home).inspect_err(|_| {
        // Without a keeper nothing is changed, so nothing has to return.
        let _ = Pending::forget(&frame.home);
    })
}

fn start_keeper(home: &Home) -> Result<()> {
    let told = || Failure::operator(text!("cannot start the process that takes the change back"));
    let single = home.single_dir().map(|dir| ["--home".into(), dir.as_os_str().to_owned()]);
    let arguments: Vec<_> = single.into_iter().flatten().chain(["firewall".into(), "keep".into()]).collect();
    let nothing = std::fs::File::options().write(true).open("/dev/null").map_err(|error| told().caused_by(error))?;
    let mut child = process::spawn_self(&arguments, nothing).map_err(|error| told().caused_by(error))?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        wait_for_line(output, &mut line).map_err(|error| told().caused_by(error))?;
    }
    if line.trim() == READY { Ok(()) } else { Err(told().because(text!("it ended at once"))) }
}

const READY: &str = "ready";
/// A process that is there says so within this.
const READY_WITHIN_MS: u16 = 20_000;

fn wait_for_line(output: std::process::ChildStdout, line: &mut String) -> std::io::Result<()> {
    use nix::poll::{PollFd, PollFlags, poll};
    let mut waiting = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
    if poll(&mut waiting, READY_WITHIN_MS)? == 0 {
        return Err(std::io::ErrorKind::TimedOut.into());
    }
    BufReader::new(output).read_line(line).map(drop)
}

fn keep(frame: &Frame) -> Result<ExitCode> {
    // A session of its own: the terminal that it was asked from may be what the change cuts off.
    process::leave_session()
        .map_err(|error| Failure::operator(text!("cannot leave the terminal's session")).caused_by(error))?;
    confirm::keep(&frame.home, &mut || frame.print(READY))?;
    Ok(ExitCode::SUCCESS)
}

fn confirm_change(frame: &Frame, here: bool) -> Result<ExitCode> {
    let _lock = lock(&frame.home, "confirm")?;
    let Some(pending) = Pending::load(&frame.home) else {
        return Err(Failure::operator(text!("no change of the firewall waits to be confirmed"))
            .hinted(text!("see `rtcctl{} firewall status`: it may have been taken back", frame.home.flag())));
    };
    if !here && pending.connection == confirm::connection() {
        return Err(Failure::operator(text!("this is the connection that the change was made from"))
            .because(text!("that it still works does not show that a new one would"))
            .hinted(text!("log in anew and confirm from there, or pass `--here`")));
    }
    Pending::forget(&frame.home)?;
    if frame.json {
        frame.print_json(&json!({ "schema_version": SCHEMA_VERSION, "confirmed": true }));
    } else {
        frame.print(text!("confirmed: the change stays"));
    }
    Ok(ExitCode::SUCCESS)
}

fn close(frame: &Frame) -> Result<ExitCode> {
    let _lock = lock(&frame.home, "close")?;
    let plan = settle(&frame.home, &Needs::default(), &mut |change| tell(frame, change))?;
    Pending::forget(&frame.home)?;
    if frame.json {
        frame.print_json(&as_json(&plan, &Needs::default(), true));
    } else {
        frame.print(count(frame.lang, plan.changes().count()));
    }
    Ok(ExitCode::SUCCESS)
}

fn status(frame: &Frame) -> Result<ExitCode> {
    let needs = Needs::of(&uses(&frame.home)?);
    if !is_root() {
        // Only to say that it needs root.
        lock(&frame.home, "status")?;
    }
    catch_up(frame)?;
    let detected = detect(&frame.home)?;
    let tag = frame.home.tag();
    let plan = firewall::plan(&detected, &needs, &tag);
    let drifts = drift(&detected, &needs, &tag);
    let pending = Pending::load(&frame.home);
    let is_ours_to_mend = drifts.iter().any(|drift| !matches!(drift, Drift::NotKept { .. }));
    let is_fine = !is_ours_to_mend && plan.beyond.is_empty();
    let left = pending.as_ref().map(|pending| pending.left(clock::now().wall).as_secs());
    if frame.json {
        let mut document = as_json(&plan, &needs, false);
        document["open"] = json!(plan.closed().is_empty());
        document["left_alone"] = json!(plan.beyond);
        document["drift"] = drifts.iter().map(drift_json).collect();
        document["confirm_within_s"] = json!(left);
        frame.print_json(&document);
    } else {
        frame.print(summary(&plan, &needs, frame.lang));
        drifts.iter().for_each(|drift| frame.print(drift_line(drift, frame.lang)));
        if let Some(left) = left {
            let told = text!("for `rtcctl{} firewall confirm`, {} s more", frame.home.flag(), left);
            frame.print(format!("{}{}", label(frame.lang, word!("waits")), told.say(frame.lang)));
        }
        if is_ours_to_mend {
            frame.say(text!("hint: run `rtcctl{} firewall open`", frame.home.flag()));
        }
        if !plan.beyond.is_empty() {
            let own = &plan.beyond;
            frame.say(text!("hint: take out your own rule that drops {}, which is left alone here", own));
        }
        talk(frame, &plan);
    }
    Ok(if is_fine { ExitCode::SUCCESS } else { Kind::Degraded.exit_code().into() })
}

fn tell(frame: &Frame, change: &Change) {
    if !frame.json {
        frame.print(change.to_string());
    }
}

fn talk(frame: &Frame, plan: &Plan) {
    let notes = plan.parts.iter().flat_map(|part| &part.notes).chain(&plan.notes);
    notes.for_each(|note| frame.say(text!("note: {}", note)));
    for part in &plan.parts {
        if let Some(why) = &part.not_kept {
            let text = text!("note: a restart of this machine loses what {} lets in: {}", part.layer.as_str(), why);
            frame.say(text);
        }
    }
}

/// A word in a column of its own; a Chinese sign takes two.
fn label(lang: Lang, words: &'static str) -> String {
    let said = lang.say(words);
    let width: usize = said.chars().map(|symbol| if symbol.is_ascii() { 1 } else { 2 }).sum();
    format!("{said}{}", " ".repeat(13_usize.saturating_sub(width)))
}

fn summary(plan: &Plan, needs: &Needs, lang: Lang) -> String {
    let mut layers: Vec<&str> = plan.parts.iter().map(|part| part.layer.as_str()).collect();
    // Of iptables there may be two kinds.
    layers.dedup();
    let layers = if layers.is_empty() { lang.say(word!("nothing")).to_owned() } else { layers.join(", ") };
    let closed = plan.closed();
    let open = needs.without(&closed);
    let shown = |needs: &Needs| if needs.is_empty() { "-".to_owned() } else { needs.to_string() };
    let lines = [
        (word!("filters"), layers),
        (word!("needed"), shown(needs)),
        (word!("open"), shown(&open)),
        (word!("closed"), shown(&closed)),
    ];
    lines.map(|(words, value)| format!("{}{value}", label(lang, words))).join("\n")
}

fn describe(plan: &Plan, needs: &Needs, lang: Lang) -> String {
    let mut lines = vec![summary(plan, needs, lang)];
    if let Some(refusal) = &plan.refusal {
        lines.push(format!("\n{}", text!("`open` does nothing: {}", refusal).say(lang)));
    }
    for part in &plan.parts {
        lines.push(format!("\n{}", part.layer.as_str()));
        lines.extend(part.changes.iter().map(|change| format!("  {}", change.to_string().replace('\n', "\n  "))));
        if part.changes.is_empty() {
            lines.push(format!("  {}", lang.say(word!("nothing to do"))));
        }
        lines.extend(part.notes.iter().map(|note| format!("  {}", text!("note: {}", note).say(lang))));
        lines.extend(
            part.not_kept
                .iter()
                .map(|why| format!("  {}", text!("note: a restart of this machine loses it: {}", why).say(lang))),
        );
    }
    lines.extend(plan.notes.iter().map(|note| format!("\n{}", text!("note: {}", note).say(lang))));
    lines.push(format!("\n{}", count(lang, plan.changes().count())));
    lines.join("\n")
}

fn as_json(plan: &Plan, needs: &Needs, applied: bool) -> Value {
    let parts: Vec<Value> = plan
        .parts
        .iter()
        .map(|part| {
            json!({
                "layer": part.layer,
                "closed": part.closed,
                "leftover": part.leftover,
                "changes": part.changes.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "notes": part.notes,
                "not_kept": part.not_kept,
            })
        })
        .collect();
    json!({
        "schema_version": SCHEMA_VERSION,
        "applied": applied,
        "needs": needs,
        "changes": plan.changes().count(),
        "layers": parts,
        "refusal": plan.refusal,
        "notes": plan.notes,
    })
}

fn drift_json(drift: &Drift) -> Value {
    match drift {
        Drift::Closed { layer, ports } => json!({ "kind": "closed", "layer": layer, "ports": ports }),
        Drift::Leftover { layer, ports } => json!({ "kind": "leftover", "layer": layer, "ports": ports }),
        Drift::NotKept { layer, why } => json!({ "kind": "not_kept", "layer": layer, "why": why }),
    }
}

fn drift_line(drift: &Drift, lang: Lang) -> String {
    let (words, said) = match drift {
        Drift::Closed { layer, ports } => (word!("dropped"), text!("{} by {}", ports, layer.as_str())),
        Drift::Leftover { layer, ports } => {
            (word!("leftover"), text!("{} in {}: not needed any more", ports, layer.as_str()))
        }
        Drift::NotKept { layer, .. } => {
            (word!("not kept"), text!("a restart of this machine loses it, in {}", layer.as_str()))
        }
    };
    format!("{}{}", label(lang, words), said.say(lang))
}
