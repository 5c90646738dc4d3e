//! `rtcctl init`: gathers answers, shows the plan, asks, carries it out.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args as ClapArgs;
use serde_json::json;

use super::Frame;
use super::asked::Asked;
use super::invite::invite_link;
use super::prompt::Terminal;
use super::qr::qr_code;
use super::wrap;
use crate::config::{self, Access};
use crate::error::{Failure, Kind, Result};
use crate::home::Home;
use crate::setup::answers::{Answers, Draft, Given, Key, Origin};
use crate::setup::apply::apply;
use crate::setup::boot;
use crate::setup::deeds::Verb;
use crate::setup::describe::{as_json, describe, objections_as_json};
use crate::setup::facts;
use crate::setup::journal::Journal;
use crate::setup::opening::FirewallChoice;
use crate::setup::outside::Outside;
use crate::setup::plan::{Facts, Objection, Plan, plan};
use crate::setup::questions::{Prompter as _, ask, open_questions};
use crate::setup::suggest::Surroundings;
use crate::setup::undo::recover;
use crate::sys::interrupt;
use crate::words::Lang;
use crate::words::Text;
use crate::{text, word};

/// Flags of `init`. Their values are read in one place, together with variables and the answers file.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Every setting has a variable and a key of the answers file as well: --web-port is RTCCTL_WEB_PORT and \
                  web_port. Lists take commas there. Flags win over variables, variables over the answers file."
)]
pub(super) struct Args {
    /// Take the defaults for what is not given, and ask nothing
    #[arg(long, short)]
    yes: bool,
    /// Show the plan and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Read answers from a YAML file
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// Keep the answers in a file, for --answers
    #[arg(long, value_name = "FILE")]
    save_answers: Option<PathBuf>,
    /// Where callers come from: lan, ip or domain
    #[arg(long, value_name = "REACH")]
    reach: Option<String>,
    /// A name or address callers use; repeatable, the first one is in printed URLs
    #[arg(long, value_name = "NAME_OR_IP")]
    host: Vec<String>,
    /// The public address in front of this host, behind 1:1 NAT; repeatable
    #[arg(long, value_name = "IP")]
    public_ip: Vec<String>,
    /// Where the certificate comes from: self-signed, acme or files
    #[arg(long, value_name = "SOURCE")]
    cert: Option<String>,
    /// The authority for acme: letsencrypt, zerossl or the address of a directory
    #[arg(long, value_name = "URL")]
    acme_directory: Option<String>,
    /// The root certificate of a private authority's own HTTPS
    #[arg(long, value_name = "FILE")]
    acme_ca_root: Option<String>,
    /// How the authority is shown that the names are ours: auto, http-01, tls-alpn-01 or dns-01
    #[arg(long, value_name = "KIND")]
    acme_challenge: Option<String>,
    /// The program that adds records to the DNS for dns-01; again for each of its arguments
    #[arg(long, value_name = "PROGRAM", allow_hyphen_values = true)]
    acme_dns_command: Vec<String>,
    /// A name for the certificate besides the hosts, like '*.example.org'; repeatable
    #[arg(long, value_name = "NAME")]
    acme_name: Vec<String>,
    /// Your own certificate chain in PEM, for files
    #[arg(long, value_name = "FILE")]
    cert_file: Option<String>,
    /// The key of that chain in PEM
    #[arg(long, value_name = "FILE")]
    key_file: Option<String>,
    /// Who may call: open, or key for who has an invite link (from the internet key, on a LAN open)
    #[arg(long, value_name = "WHO")]
    access: Option<String>,
    /// The port of the HTTPS page (as root 443, otherwise 8443)
    #[arg(long, value_name = "PORT")]
    web_port: Option<String>,
    /// The port that redirects to HTTPS, or off (as root 80, otherwise 8080)
    #[arg(long, value_name = "PORT|off")]
    http_port: Option<String>,
    /// A folder of your own static files in place of the page
    #[arg(long, value_name = "DIR")]
    web_root: Option<String>,
    /// The UDP port of STUN and TURN (3478)
    #[arg(long, value_name = "PORT")]
    turn_port: Option<String>,
    /// The UDP ports of relayed media (49160-51159)
    #[arg(long, value_name = "A-B")]
    relay_ports: Option<String>,
    /// The local address of relayed media, one a family; repeatable
    #[arg(long, value_name = "IP")]
    relay_ip: Vec<String>,
    /// Which peers the relay sends to: self, public, lan or custom
    #[arg(long, value_name = "MODE")]
    peers: Option<String>,
    /// A network that the relay may send to besides; repeatable
    #[arg(long, value_name = "CIDR")]
    allow_peer: Vec<String>,
    /// Have this host's own browsers and programs trust the local CA: yes or no, the default; `undo` takes it back
    #[arg(long, value_name = "yes|no", num_args = 0..=1, default_missing_value = "yes")]
    trust: Option<String>,
    /// Let callers in through this host's firewall as a step that `undo` takes back, show the commands, or skip them
    #[arg(long, value_name = "apply|show|skip")]
    firewall: Option<String>,
    /// Whether the service starts with the machine: service or none (as root where systemd runs: service)
    #[arg(long, value_name = "HOW")]
    boot: Option<String>,
    #[command(flatten)]
    asked: Asked,
}

/// Runs the command.
pub(super) fn run(frame: &Frame, args: Args) -> Result<ExitCode> {
    let given = given(&args)?;
    let working_dir = env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let mut draft = Draft::read(&given, &working_dir).map_err(|complaints| {
        let failure = Failure::new(Kind::Usage, text!("an answer cannot be used"));
        complaints.into_iter().fold(failure, Failure::because).hinted(text!("see `rtcctl init --help`"))
    })?;
    look_back(frame, args.dry_run)?;
    let existing = facts::existing(&frame.home)?;
    let reach = draft.reach.or_else(|| existing.as_ref().map(|existing| existing.wanted.reach));
    let outside = facts::seen_from_outside(reach, &args.asked.sources()?);
    let surroundings = Surroundings {
        seen: outside.public_addresses(),
        is_offline: args.asked.offline,
        boot: boot::facts::look(&frame.home).suggestion(),
        has_own_browser: !args.yes && draft.trust.is_none() && facts::has_browser_to_tell(&frame.home),
        ..facts::surroundings()
    };
    for note in outside.notes() {
        frame.say(text!("note: {}", note));
    }
    let mut terminal = if args.yes { None } else { Terminal::open(frame.colour, frame.lang) };
    match &mut terminal {
        Some(terminal) => {
            let text = text!(
                "Setting rtcctl up in `{}`. Ctrl-C leaves everything as it is.",
                frame.home.config_dir().display()
            );
            frame.say(format!("{}\n", text.say(frame.lang)));
            ask(&mut draft, terminal, existing.as_ref().map(|existing| &existing.wanted), &surroundings)?;
        }
        None if !args.yes => refuse_to_guess(&draft, args.dry_run)?,
        None => {}
    }
    let is_firewall_given = draft.firewall.is_some();
    let mut answers = draft
        .settle(existing.as_ref().map(|existing| &existing.wanted), &surroundings)
        .map_err(|missing| missing_answer(&missing))?;
    let save_answers = args.save_answers.map(|file| working_dir.join(file));
    let mut facts = facts::gather(&frame.home, &answers.wanted, existing, &surroundings)?;
    if let Some(file) = save_answers {
        facts::look_at_answers_file(&mut facts, file);
    }
    if answers.trust {
        facts::look_at_stores(&mut facts);
    }
    // It takes a moment, so not where nobody asked for it: `--yes` alone changes no firewall.
    if answers.firewall != FirewallChoice::Skip && (is_firewall_given || terminal.is_some()) {
        facts::look_at_firewall(&mut facts);
    }
    let mut plan = make_plan(frame, &answers, &facts)?;
    let changes = plan.changes();
    let asks_about_firewall = !is_firewall_given && plan.opening.is_open_question();
    let shows = !frame.json && (changes > 0 || args.dry_run || terminal.is_some() && asks_about_firewall);
    if shows {
        frame.print(wrap::for_terminal(&describe(&plan, frame.lang)));
    }
    if args.dry_run {
        if frame.json {
            frame.print_json(&as_json(&plan, false));
        } else {
            let text = text!("{}, none made: this was a dry run", count(frame.lang, changes));
            frame.say(format!("\n{}", text.say(frame.lang)));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(terminal) = terminal.as_mut().filter(|_| changes > 0 || asks_about_firewall) {
        frame.say("");
        match consent(terminal, changes, asks_about_firewall)? {
            Consent::No => {
                return Err(Failure::operator(text!("nothing was changed: the plan was declined")));
            }
            Consent::Yes => {}
            Consent::WithFirewall => {
                answers.firewall = FirewallChoice::Apply;
                answers.origins.insert(Key::Firewall, Origin::Asked);
                plan = make_plan(frame, &answers, &facts)?;
            }
        }
    }
    let changes = plan.changes();
    // Also without a question: half a home must not stay behind.
    interrupt::catch();
    apply(&plan, &frame.home)?;
    finish(frame, &plan, changes);
    // What is merely unknown is no reason to stop a script.
    let is_proven = plan.outside.iter().any(|outside| outside.is_proven);
    Ok(if is_proven { ExitCode::from(Kind::OutsideHost.exit_code()) } else { ExitCode::SUCCESS })
}

/// The answers that flags give for a machine that is elsewhere.
///
/// # Errors
/// What cannot be used there.
pub(super) fn for_another_machine(args: &Args) -> Result<Draft, Text> {
    if args.dry_run || args.answers.is_some() || args.save_answers.is_some() {
        return Err(text!("`--dry-run`, `--answers` and `--save-answers` are for this machine"));
    }
    let flags = Key::ALL.into_iter().map(|key| (key, flag_values(args, key))).filter(|(_, values)| !values.is_empty());
    let given = flags.map(|(key, values)| (key, Given { origin: Origin::Flag, values })).collect();
    Draft::read(&given, Path::new("/")).map_err(Text::clauses)
}

/// What a killed run has left is taken back before anything is looked at.
fn look_back(frame: &Frame, is_dry: bool) -> Result<()> {
    if is_dry {
        if Journal::read(&frame.home)?.is_some_and(|ledger| ledger.cut_off().is_some()) {
            frame.say(text!(
                "note: an earlier `init` was cut off; without --dry-run, what it has changed is taken back first"
            ));
        }
        return Ok(());
    }
    let Some(report) = recover(&frame.home)? else { return Ok(()) };
    frame.say(text!("An earlier `init` was cut off; what it had changed has been taken back."));
    for deed in report.of(Verb::Leave) {
        frame.say(format!("  {}  ({})", deed.object, deed.why.say(frame.lang)));
    }
    frame.say("");
    Ok(())
}

/// What a person says to a plan.
enum Consent {
    Yes,
    /// And to the commands that the firewall was shown with.
    WithFirewall,
    No,
}

fn consent(terminal: &mut Terminal, changes: usize, asks_about_firewall: bool) -> Result<Consent> {
    let question = word!("Carry this plan out?");
    if !asks_about_firewall {
        return Ok(if terminal.confirm(question)? { Consent::Yes } else { Consent::No });
    }
    let with = word!("yes, and let callers in through the firewall");
    let without =
        if changes > 0 { word!("yes, but leave the firewall as it is") } else { word!("leave the firewall as it is") };
    let why = word!("the firewall drops callers now; `rtcctl undo` takes its rules back, too");
    let items = [(with, Consent::WithFirewall), (without, Consent::Yes), (word!("no, change nothing"), Consent::No)];
    let chosen = terminal.choose(question, why, &items.each_ref().map(|(item, _)| *item), 0)?;
    Ok(items.into_iter().nth(chosen).map_or(Consent::No, |(_, consent)| consent))
}

fn make_plan(frame: &Frame, answers: &Answers, facts: &Facts) -> Result<Plan> {
    let planned = plan(answers, facts);
    if let (Err(objections), true) = (&planned, frame.json) {
        frame.print_json(&objections_as_json(objections));
    }
    planned.map_err(|objections| match <[Objection; 1]>::try_from(objections) {
        Ok([Objection { code, what, hint }]) => {
            let more = text!("`rtcctl explain {}` says more", code);
            let kind = if code == "firewall-needs-root" { Kind::NeedsRoot } else { Kind::Operator };
            Failure::new(kind, what).hinted(hint).hinted(more)
        }
        Err(several) => {
            let mut failure = Failure::operator(text!("{} things are in the way", several.len()));
            for Objection { code, what, hint } in several {
                failure = failure.because(what);
                for hint in [hint, text!("`rtcctl explain {}` says more", code)] {
                    if !failure.hints().contains(&hint) {
                        failure = failure.hinted(hint);
                    }
                }
            }
            failure
        }
    })
}

fn finish(frame: &Frame, plan: &Plan, changes: usize) {
    let say = |words: &'static str| frame.lang.say(words);
    if frame.json {
        let mut document = as_json(plan, true);
        document["invite_url"] = json!(invitation(&frame.home));
        document["phone"] = json!(format!("rtcctl{} phone", frame.home.flag()));
        frame.print_json(&document);
        return;
    }
    if changes == 0 {
        frame.print(say(word!("0 changes: everything is as wanted already")));
    } else {
        frame.print(format!("\n{}", text!("{} made", count(frame.lang, changes)).say(frame.lang)));
    }
    frame.print(format!("\n{}\n  {}", say(word!("The same without questions:")), plan.one_liner));
    let heading = say(word!("The same as an answers file (`--save-answers FILE` keeps it):"));
    frame.print(format!("\n{heading}"));
    plan.answers.lines().filter(|line| !line.starts_with('#')).for_each(|line| frame.print(format!("  {line}")));
    if !plan.outside.is_empty() {
        frame.print(format!("\n{}", say(word!("Outside this host:"))));
        for Outside { what, hint, is_proven } in &plan.outside {
            let word = say(if *is_proven { word!("must") } else { word!("check") });
            let [what, hint] = [what, hint].map(|text| text.say(frame.lang));
            frame.print(format!("  {word:<5} {what}\n        {hint}"));
        }
    }
    // The key is in the link from the start: it is what the operator sends to others.
    let url = invitation(&frame.home).unwrap_or_else(|| plan.url.clone());
    frame.print(format!("\n{}\n  {url}", say(word!("Once it is started, callers open:"))));
    if let Some(code) = qr_code(&url) {
        frame.say(code);
    }
    frame.print(format!("{}\n  {}", say(word!("Next:")), plan.next));
    let then = say(word!("Then see whether a phone can call:"));
    frame.print(format!("{then}\n  rtcctl{} phone", frame.home.flag()));
}

/// The invite link, where callers need one.
fn invitation(home: &Home) -> Option<String> {
    let (config, secrets) = config::load(home).ok()?;
    (config.access == Access::Key).then(|| invite_link(&config, secrets.access_key.as_ref(), None))
}

/// How many changes, in words.
pub(super) fn count(lang: Lang, changes: usize) -> String {
    if changes == 1 { lang.say(word!("1 change")).to_owned() } else { text!("{} changes", changes).say(lang) }
}

/// Without a terminal nobody can answer, and without `--yes` nobody agreed to defaults.
fn refuse_to_guess(draft: &Draft, dry_run: bool) -> Result<()> {
    let open = open_questions(draft);
    if open.is_empty() && dry_run {
        return Ok(());
    }
    if open.is_empty() {
        return Err(Failure::new(
            Kind::MissingAnswer,
            text!("there is no terminal to confirm the plan at; `--yes` is missing"),
        ));
    }
    Err(missing_answer(&open).hinted(text!("or pass `--yes` to take the detected defaults")))
}

fn missing_answer(missing: &[Key]) -> Failure {
    let flags: Vec<String> = missing.iter().map(|key| format!("`{}`", key.flag())).collect();
    let flags = flags.join(", ");
    let what = if missing.len() == 1 {
        text!("an answer is missing: {}", flags)
    } else {
        text!("answers are missing: {}", flags)
    };
    let failure = Failure::new(Kind::MissingAnswer, what);
    missing.iter().fold(failure, |failure, key| {
        failure.hinted(text!(
            "pass `{}`, set `{}`, or write `{}` in an answers file",
            key.flag(),
            key.variable(),
            key.answer()
        ))
    })
}

/// Flags, then variables, then the answers file.
fn given(args: &Args) -> Result<BTreeMap<Key, Given>> {
    let mut given = BTreeMap::new();
    if let Some(file) = &args.answers {
        for (key, values) in read_answers(file)? {
            given.insert(key, Given { origin: Origin::AnswersFile, values });
        }
    }
    for key in Key::ALL {
        if let Ok(value) = env::var(key.variable())
            && !value.is_empty()
        {
            given.insert(key, Given { origin: Origin::Variable, values: vec![value] });
        }
        let values = flag_values(args, key);
        if !values.is_empty() {
            given.insert(key, Given { origin: Origin::Flag, values });
        }
    }
    Ok(given)
}

fn flag_values(args: &Args, key: Key) -> Vec<String> {
    let one = |value: &Option<String>| value.iter().cloned().collect();
    match key {
        Key::Reach => one(&args.reach),
        Key::Host => args.host.clone(),
        Key::PublicIp => args.public_ip.clone(),
        Key::Cert => one(&args.cert),
        Key::AcmeDirectory => one(&args.acme_directory),
        Key::AcmeCaRoot => one(&args.acme_ca_root),
        Key::AcmeChallenge => one(&args.acme_challenge),
        Key::AcmeDnsCommand => args.acme_dns_command.clone(),
        Key::AcmeName => args.acme_name.clone(),
        Key::CertFile => one(&args.cert_file),
        Key::KeyFile => one(&args.key_file),
        Key::Access => one(&args.access),
        Key::WebPort => one(&args.web_port),
        Key::HttpPort => one(&args.http_port),
        Key::WebRoot => one(&args.web_root),
        Key::TurnPort => one(&args.turn_port),
        Key::RelayPorts => one(&args.relay_ports),
        Key::RelayIp => args.relay_ip.clone(),
        Key::Peers => one(&args.peers),
        Key::AllowPeer => args.allow_peer.clone(),
        Key::Trust => one(&args.trust),
        Key::Firewall => one(&args.firewall),
        Key::Boot => one(&args.boot),
    }
}

fn read_answers(file: &Path) -> Result<Vec<(Key, Vec<String>)>> {
    let bad = || Failure::new(Kind::Usage, text!("cannot use the answers in `{}`", file.display()));
    let text = crate::sys::fs::read_to_string(file)?;
    let document: Option<BTreeMap<String, serde_yaml::Value>> =
        serde_yaml::from_str(&text).map_err(|error| bad().caused_by(error))?;
    let mut found = Vec::new();
    let mut complaints = Vec::new();
    for (name, value) in document.unwrap_or_default() {
        let Some(key) = Key::ALL.into_iter().find(|key| key.answer() == name) else {
            let known: Vec<String> = Key::ALL.into_iter().map(Key::answer).collect();
            complaints.push(text!("{}: unknown key; known are {}", name, known.join(", ")));
            continue;
        };
        if value.is_null() {
            continue;
        }
        let members = if let serde_yaml::Value::Sequence(members) = value { members } else { vec![value] };
        match members.iter().map(scalar_text).collect::<Option<Vec<String>>>() {
            Some(values) => found.push((key, values)),
            None => complaints.push(text!("{}: must be a value or a list of values", name)),
        }
    }
    if complaints.is_empty() { Ok(found) } else { Err(complaints.into_iter().fold(bad(), Failure::because)) }
}

fn scalar_text(value: &serde_yaml::Value) -> Option<String> {
    match value {
        serde_yaml::Value::String(text) => Some(text.clone()),
        serde_yaml::Value::Number(number) => Some(number.to_string()),
        serde_yaml::Value::Bool(truth) => Some(truth.to_string()),
        serde_yaml::Value::Null
        | serde_yaml::Value::Sequence(_)
        | serde_yaml::Value::Mapping(_)
        | serde_yaml::Value::Tagged(_) => None,
    }
}
