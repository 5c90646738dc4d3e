//! `rtcctl cert`: the certificate of this home.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Subcommand;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Frame;
use super::summary::labelled;
use crate::certs::files::{check_files, load_files, read_pem};
use crate::certs::keeper::{AcmeFiles, load_bundle};
use crate::certs::local_ca::shown_fingerprint;
use crate::certs::pair::loose_end;
use crate::certs::preflight::{Objection, look, look_here};
use crate::certs::renewal::{Scenario, rehearse, scenarios};
use crate::certs::request::{RequestFiles, import, write_request};
use crate::certs::store::{Files, load};
use crate::certs::trouble::Trouble;
use crate::certs::trust::{Outcome, trust, untrust};
use crate::certs::{Served, Source, acme, dns01};
use crate::config::{AcmeConfig, CertSource, Config, Host, load_config, set_value};
use crate::control::client::ask;
use crate::control::protocol::{Request, Response, SCHEMA_VERSION};
use crate::daemon::{ANSWERED_WITHIN, RENEWED_WITHIN};
use crate::error::{Failure, Kind, Result};
use crate::sys::clock;
use crate::sys::fs::{read_to_string, write_atomic};
use crate::text;
use crate::words::Text;

/// The code of an objection that is about the command, which is this host's.
const HOOK: &str = "dns-hook";
/// The code of an objection that is about the authority and the way to it.
const AUTHORITY: &str = "authority";
/// Codes of what is wrong on this host.
const OURS: [&str; 4] = [HOOK, AUTHORITY, "clock", "disk"];

/// What to do with the certificate.
#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// Print names, end date and fingerprint, and how its renewal stands
    Show,
    /// Renew it now if it is due, and wait for what comes of it
    Renew {
        /// Renew it whether it is due or not
        #[arg(long)]
        force: bool,
    },
    /// Look whether an authority could issue: the names in the DNS, each family, CAA records, the way to the authority,
    /// and this host's ports, clock and disk
    Preflight {
        /// Also have the command of `certificate.acme_dns_command` add a record of no meaning to the DNS, wait until it is
        /// seen, and have it removed
        #[arg(long)]
        try_hook: bool,
    },
    /// Have the stores of this host trust the local CA: the system's, Chromium's and Firefox's
    Trust,
    /// Take the local CA out of these stores
    Untrust,
    /// Print a signing request for all hosts, for an authority that works by hand; its key stays here
    Csr,
    /// Take the answer to the signing request, check it, and serve it
    Import {
        /// The chain in PEM: the server's certificate first
        file: PathBuf,
    },
    /// Play years of renewals in a moment, with outages, limits, wrong clocks and full disks, and show what comes of it
    Rehearse {
        /// Play this one alone and show its timeline
        scenario: Option<String>,
        /// How many years to play, 1 to 20
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=20))]
        years: u64,
        /// What stands for chance; the same number gives the same story
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

/// Runs the command.
pub(super) fn run(frame: &Frame, args: Args) -> Result<ExitCode> {
    match args {
        Args::Show => show(frame),
        Args::Renew { force } => renew(frame, force),
        Args::Preflight { try_hook } => look_first(frame, try_hook),
        Args::Trust => tell_stores(frame, &trust(&frame.home, env::home_dir().as_deref())?, "trusts"),
        Args::Untrust => tell_stores(frame, &untrust(&frame.home, env::home_dir().as_deref())?, "no longer trusts"),
        Args::Csr => csr(frame),
        Args::Import { file } => take(frame, &file),
        Args::Rehearse { scenario, years, seed } => play(frame, scenario.as_deref(), years, seed),
    }
}

/// Plays the scenarios with the decisions that this binary renews by.
fn play(frame: &Frame, only: Option<&str>, years: u64, seed: u64) -> Result<ExitCode> {
    let known = scenarios();
    let chosen: Vec<&Scenario> = known.iter().filter(|one| only.is_none_or(|only| only == one.name)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = known.iter().map(|one| one.name).collect();
        return Err(Failure::new(Kind::Usage, text!("there is no scenario `{}`", only.unwrap_or_default()))
            .hinted(text!("scenarios are {}", names.join(", "))));
    }
    let mut all_hold = true;
    let mut documents = Vec::new();
    for scenario in chosen {
        let story = rehearse(scenario, years * 365, seed);
        let holds = story.expired.is_zero() || !scenario.must_hold;
        all_hold &= holds;
        if frame.json {
            documents.push(json!({
                "name": scenario.name,
                "what": scenario.what,
                "certificates": story.orders,
                "failures": story.failures,
                "min_days_left": (story.min_left.as_secs_f64() / 8640.0).round() / 10.0,
                "expired_s": story.expired.as_secs(),
                "must_hold": scenario.must_hold,
                "holds": holds,
                "timeline": story.lines,
                "left_out": story.left_out,
            }));
            continue;
        }
        let word = if holds { "ok" } else { "FAILED" };
        frame.print(format!("{word:<6} {:<30} {story}", scenario.name));
        if only.is_some() {
            frame.print(format!("\n{}, for {years} years:", scenario.what));
            for line in &story.lines {
                frame.print(format!("  {line}"));
            }
            if story.left_out > 0 {
                frame.print(format!("  and {} more", story.left_out));
            }
        }
    }
    if frame.json {
        frame.print_json(
            &json!({ "schema_version": SCHEMA_VERSION, "years": years, "seed": seed, "scenarios": documents }),
        );
    }
    if all_hold { Ok(ExitCode::SUCCESS) } else { Err(Failure::bug(text!("a certificate ended that should not have"))) }
}

/// Fails with 12 if something outside this host is proven to be in the way, with 1 if
/// something of this host is.
fn look_first(frame: &Frame, try_hook: bool) -> Result<ExitCode> {
    let config = load_config(&frame.home)?.config;
    let wanted = &config.certificate.acme;
    let directory = &wanted.directory;
    let hosts = wanted.ordered(&config.hosts);
    let mut objections = look(&hosts, &config.turn.public_ips, directory.caa, wanted.may_use_dns());
    let mut there = None;
    match runtime()?.block_on(acme::look(&acme::Authority {
        directory: directory.url.clone(),
        root: wanted.ca_root.clone(),
        contact: None,
        binding: None,
        profile: None,
    })) {
        Ok(date) => there = date,
        Err(trouble) => objections.push(of_trouble(AUTHORITY, &trouble)),
    }
    objections.extend(look_here(&config, &hosts, &frame.home.certs_dir(), there));
    if let Some(fault) = dns01::objection(&wanted.dns_command) {
        let hint = text!("correct the path, or make the file executable");
        objections.push(Objection { code: HOOK, what: fault, hint, is_certain: true });
    } else if try_hook {
        objections.extend(try_dns_hook(frame, wanted, &hosts)?);
    }
    if frame.json {
        let documents: Vec<_> = objections
            .iter()
            .map(|one| json!({ "code": one.code, "what": one.what, "hint": one.hint, "certain": one.is_certain }))
            .collect();
        frame.print_json(&json!({ "schema_version": SCHEMA_VERSION, "objections": documents }));
    } else if objections.is_empty() {
        if try_hook {
            frame
                .say(text!("the command has added a record, every name server had it, and the command has removed it"));
        }
        frame.say(text!("nothing seems to keep {} from issuing", directory.text));
    }
    let is_ours = objections.iter().any(|one| one.is_certain && OURS.contains(&one.code));
    let is_proven = objections.iter().any(|one| one.is_certain);
    if !frame.json {
        for objection in &objections {
            let word = if objection.is_certain { text!("in the way") } else { text!("perhaps") };
            frame.print(text!("{}: {}", word, objection.what));
            frame.print(format!("  {}", text!("hint: {}", objection.hint).say(frame.lang)));
        }
    }
    Ok(match (is_ours, is_proven) {
        (true, _) => ExitCode::from(Kind::Operator.exit_code()),
        (false, true) => ExitCode::from(Kind::OutsideHost.exit_code()),
        (false, false) => ExitCode::SUCCESS,
    })
}

/// Has the command add a record that no authority asks for.
fn try_dns_hook(frame: &Frame, acme: &AcmeConfig, hosts: &BTreeSet<Host>) -> Result<Option<Objection>> {
    if acme.dns_command.is_empty() {
        return Err(Failure::operator(text!("there is no command to try"))
            .hinted(text!("name one by `certificate.acme_dns_command` in config.yaml")));
    }
    let Some(Host::Name(name)) = hosts.iter().find(|host| matches!(host, Host::Name(_))) else {
        return Err(
            Failure::operator(text!("there is no name to try the command with")).hinted(text!("add one to `hosts`"))
        );
    };
    let file = AcmeFiles::of(&frame.home).dns().with_extension("try");
    let hook = dns01::Hook { command: acme.dns_command.clone(), servers: acme.dns_servers.clone(), file };
    frame.say(text!("adding a record for {} by `{}`", name, acme.dns_command[0]));
    let value = format!("rtcctl-preflight-{:08x}", rand::random::<u32>());
    let tried = runtime()?.block_on(dns01::rehearse(&hook, name, value));
    Ok(tried.err().map(|trouble| of_trouble(HOOK, &trouble)))
}

fn of_trouble(code: &'static str, trouble: &Trouble) -> Objection {
    let hint = trouble.hint().unwrap_or_else(|| text!("try again later"));
    Objection { code, what: trouble.told(), hint, is_certain: true }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::operator(text!("cannot start a runtime")).caused_by(error))
}

/// Says what became of each store. It has failed if one could not be changed.
fn tell_stores(frame: &Frame, outcomes: &[Outcome], verb: &str) -> Result<ExitCode> {
    let mut failure = None;
    let mut documents = Vec::new();
    for Outcome { store, changed } in outcomes {
        let store = store.to_string();
        documents.push(json!({
            "store": store,
            "changed": changed.as_ref().is_ok_and(|changed| *changed),
            "error": changed.as_ref().err(),
        }));
        match changed {
            Ok(changed) if !frame.json => {
                let already = if *changed { "" } else { " already" };
                frame.print(format!("{store} {verb} the local CA{already}"));
            }
            Ok(_) => {}
            Err(why) => {
                let one =
                    failure.take().unwrap_or_else(|| Failure::operator(text!("not every store could be changed")));
                failure = Some(one.because(text!("{}: {}", store, why)));
            }
        }
    }
    if frame.json {
        frame.print_json(&json!({ "schema_version": SCHEMA_VERSION, "stores": documents }));
    }
    match failure {
        Some(failure) => Err(failure.hinted(text!("the system's store needs root; a browser's belongs to its user"))),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn csr(frame: &Frame) -> Result<ExitCode> {
    let config = load_config(&frame.home)?.config;
    let text = write_request(&config.hosts, &frame.home)?;
    let files = RequestFiles::of(&frame.home);
    if frame.json {
        let (request, key) = (&files.request, &files.key);
        frame.print_json(&json!({ "schema_version": SCHEMA_VERSION, "csr": text, "file": request, "key_file": key }));
        return Ok(ExitCode::SUCCESS);
    }
    frame.print(text.trim_end());
    frame.say(format!(
        "\n{}",
        text!("it is in `{}`, too; its key stays in `{}`", files.request.display(), files.key.display())
            .say(frame.lang)
    ));
    frame.say(text!("when the authority has answered: `rtcctl{} cert import FILE`", frame.home.flag()));
    Ok(ExitCode::SUCCESS)
}

/// Takes an authority's answer and has it served.
fn take(frame: &Frame, file: &Path) -> Result<ExitCode> {
    let resolved = load_config(&frame.home)?;
    let label = format!("`{}`", file.display());
    let text = read_pem(file).map_err(|why| {
        Failure::operator(text!("cannot take the certificate {}", label))
            .because(why)
            .hinted(text!("give the server's certificate and those that vouch for it, in this order, in one PEM file"))
    })?;
    let files = import(&text, &label, &resolved.config.hosts, &frame.home, clock::now().wall)?;
    let taken = check_files(&files.chain, &files.key, &resolved.config.hosts, clock::now().wall)?;
    if let Some(what) = loose_end(&taken) {
        frame.say(text!("warning: {}; append it, and import the file again", what));
    }
    let path = frame.home.config_file();
    let before = read_to_string(&path)?;
    let wanted = [
        ("certificate.cert_file", files.chain.to_string_lossy().into_owned()),
        ("certificate.key_file", files.key.to_string_lossy().into_owned()),
        ("certificate.source", "files".to_owned()),
    ];
    let text = wanted.iter().try_fold(before.clone(), |text, (key, value)| {
        let value = serde_json::Value::from(value.as_str()).to_string();
        set_value(&text, key, &value).ok_or_else(|| {
            Failure::operator(text!("`{}` cannot be changed in config.yaml as it is written", key)).hinted(text!(
                "set `{}` to {} in `{}` by hand",
                key,
                value,
                path.display()
            ))
        })
    })?;
    if text != before {
        write_atomic(&path, text.as_bytes(), 0o644)?;
    }
    let is_live = resolved.config.certificate.source == CertSource::Files && text == before;
    let flag = frame.home.flag();
    if frame.json {
        frame.print_json(&json!({ "schema_version": SCHEMA_VERSION, "cert_file": files.chain, "served": is_live }));
    } else if is_live {
        frame.say(text!("taken; the running service serves it in a moment"));
    } else {
        frame.say(text!("taken, and `certificate.source` is `files` now; `rtcctl{} restart` serves it", flag));
    }
    Ok(ExitCode::SUCCESS)
}

fn renew(frame: &Frame, force: bool) -> Result<ExitCode> {
    // The daemon has its own deadline; this one is beyond it.
    let patience = RENEWED_WITHIN + Duration::from_secs(10);
    let Response::Renewed { renewed } = ask(&frame.home, &Request::Renew { force }, patience)? else {
        return Err(Failure::bug(text!("the service answers something else than it was asked")));
    };
    if frame.json {
        frame.print_json(&json!({ "schema_version": SCHEMA_VERSION, "renewed": renewed }));
    } else if renewed {
        frame.say(text!("renewed; every new connection gets the new certificate"));
    } else {
        frame.say(text!("nothing to do: it is not due yet (`--force` renews it all the same)"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The certificate on disk, whether the service runs or not; the renewal as the service tells it.
fn show(frame: &Frame) -> Result<ExitCode> {
    let now = clock::now();
    let config = load_config(&frame.home)?.config;
    let served = on_disk(frame, &config)?;
    let running = match ask(&frame.home, &Request::Status, ANSWERED_WITHIN) {
        Ok(Response::Status { status }) => status.certificate,
        Ok(_) | Err(_) => None,
    };
    let renewal = running.as_ref().and_then(|certificate| certificate.renewal.clone());
    // A certificate's dates are whole seconds of this millennium.
    let date = |at: SystemTime| OffsetDateTime::from(at).format(&Rfc3339).unwrap_or_default();
    let left = served.not_after.duration_since(now.wall).unwrap_or_default();
    let days_left = (left.as_secs_f64() / 8640.0).round() / 10.0;
    let ca = Files::of(&frame.home).ca;
    let ca_print = std::fs::read(&ca).ok().and_then(|pem| shown_fingerprint(&pem));
    let is_served = running.as_ref().map(|certificate| certificate.fingerprint_sha256 == served.fingerprint);
    if frame.json {
        frame.print_json(&json!({
            "schema_version": SCHEMA_VERSION,
            "source": served.source.as_str(),
            "names": served.names,
            "issuer": served.issuer,
            "not_before": date(served.not_before),
            "not_after": date(served.not_after),
            "days_left": days_left,
            "fingerprint_sha256": served.fingerprint,
            "served": is_served,
            "renewal": renewal,
            "ca_file": ca,
            "ca_fingerprint_sha256": ca_print,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    let row = |label: Text, told: Text| frame.print(labelled(&(label, told), frame.lang));
    row(
        text!("source"),
        match served.source {
            Source::SelfSigned => text!("self-signed, by the local CA of this home"),
            Source::Acme => text!("acme, by an authority that devices trust"),
            Source::Files => text!("files, your own"),
        },
    );
    row(text!("names"), Text::verbatim(served.names.join(", ")));
    row(text!("issuer"), Text::verbatim(&*served.issuer));
    row(text!("valid from"), Text::verbatim(date(served.not_before)));
    row(text!("valid until"), text!("{} ({} days)", date(served.not_after), days_left));
    row(Text::verbatim("sha-256"), Text::verbatim(&*served.fingerprint));
    row(
        text!("served"),
        match is_served {
            Some(true) => text!("yes, by the service that runs"),
            Some(false) => text!("no: the service serves another one; see `rtcctl status`"),
            None => text!("no: the service does not run"),
        },
    );
    if let Some(renewal) = &renewal {
        let next = renewal.next_at.as_deref().unwrap_or("-");
        row(text!("renewal"), text!("{}, next {} ({})", renewal.state, next, renewal.reason));
        if let Some(last) = &renewal.last {
            let what = if last.rehearsal { text!("last rehearsal") } else { text!("last order") };
            let outcome = last.error.clone().unwrap_or_else(|| text!("no failure"));
            row(what, text!("{} at {}: {}", last.at, last.authority, outcome));
            if let Some(hint) = &last.hint {
                row(Text::default(), text!("hint: {}", hint));
            }
        }
    }
    if served.source == Source::SelfSigned {
        frame.print(format!("local CA     {} (trust it once on each device)", ca.display()));
        if let Some(print) = ca_print {
            // What `/trust` and the devices show.
            frame.print(format!("its sha-256  {print}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What the service would serve if it started now.
fn on_disk(frame: &Frame, config: &Config) -> Result<Served> {
    let now = clock::now();
    match config.certificate.source {
        CertSource::SelfSigned => load(&frame.home, now),
        CertSource::Files => load_files(config, now.wall),
        CertSource::Acme => match load_bundle(&AcmeFiles::of(&frame.home).bundle()) {
            Ok(Some(served)) => Ok(served),
            Ok(None) | Err(_) => load(&frame.home, now),
        },
    }
}
