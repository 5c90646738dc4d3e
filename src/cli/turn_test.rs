//! `rtcctl turn test`: prints what `probe::turn` finds, as it finds it, and ends with the first failing hop.

use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::Frame;
use crate::config::{self, Config};
use crate::control::client::ask;
use crate::control::protocol::{Request, Response, SCHEMA_VERSION};
use crate::error::{Failure, Kind, Result};
use crate::probe::turn::{Attempt, Event, IceUrl, Login, Report, Service, Status, Step, Trust, test};
use crate::sys::clock;
use crate::text;
use crate::turn::ice::IceIssuer;
use crate::words::{Lang, Text};

/// Where a password is taken from if no file is named: arguments can be read by everybody on the host.
const CREDENTIAL_VARIABLE: &str = "RTCCTL_TURN_CREDENTIAL";
/// Bytes of a password; a file with more is another file.
const MAX_CREDENTIAL: u64 = 4096;
/// Seconds that the answers of a test may take in all before its credentials end.
const TTL: u64 = 600;
/// A status is answered from what is published, so this is long.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// A URL as in `iceServers`; without one, every URL of the running service
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// The user of a server that is not ours; for our own, credentials are issued
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// A file with the password, `-` for standard input; otherwise RTCCTL_TURN_CREDENTIAL has it
    #[arg(long, value_name = "FILE", requires = "username")]
    credential_file: Option<PathBuf>,
    /// Ask for peers that no relay may reach, too; our own server is always asked
    #[arg(long)]
    attack: bool,
    /// How long one answer may take
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
}

/// What this home knows of the server it serves.
struct Own {
    config: Config,
    issuer: IceIssuer,
}

pub(super) fn run(frame: &Frame, args: &Args) -> Result<ExitCode> {
    let own =
        config::load(&frame.home).map(|(config, secrets)| Own { issuer: IceIssuer::new(&config, &secrets), config });
    let given = args.username.as_ref().map(|username| given_login(username, args.credential_file.as_deref()));
    let given = given.transpose()?;
    let (urls, own) = match &args.url {
        // A machine without a home can test servers elsewhere.
        Some(url) => (vec![url.clone()], own.ok()),
        None => (running_urls(frame)?, Some(own?)),
    };
    let urls: Vec<IceUrl> = urls.iter().map(|url| read_url(url)).collect::<Result<_>>()?;
    let trust = Trust::of_this_host(&frame.home.certs_dir().join("ca.pem"));
    let mut reports = Vec::new();
    for url in &urls {
        let is_ours = own.as_ref().is_some_and(|own| own.has(url));
        let issued = own.as_ref().filter(|_| is_ours && given.is_none()).map(Own::login);
        let login = given.as_ref().or(issued.as_ref());
        let patience = Duration::from_secs(args.timeout);
        let attempt = Attempt { url, login, trust: &trust, attack: args.attack || is_ours, patience };
        let mut tell = |event: Event<'_>| {
            if !frame.json {
                frame.print(line(event, frame.colour, frame.lang));
            }
        };
        reports.extend(test(attempt, &mut tell));
    }
    let is_fine = reports.iter().all(|report| report.failing().is_none());
    if frame.json {
        frame.print_json(&document(&reports));
    } else {
        frame.print(verdict(&reports));
    }
    Ok(if is_fine { ExitCode::SUCCESS } else { Kind::Operator.exit_code().into() })
}

impl Own {
    /// Whether a URL means this server: by its host, or by loopback and one of its ports.
    fn has(&self, url: &IceUrl) -> bool {
        let is_loopback = url.host.eq_ignore_ascii_case("localhost")
            || url.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let ports = [Some(self.config.turn.port), self.config.turn.tls_port, Some(self.config.web.port)];
        self.issuer.is_ours(&url.host) || (is_loopback && ports.contains(&Some(url.port)))
    }

    fn login(&self) -> Login {
        let user = format!("turn-test-{:08x}", rand::random::<u32>());
        let issued = self.issuer.credentials(&user, Some(TTL), clock::now());
        Login { username: issued.username, password: issued.credential }
    }
}

fn read_url(text: &str) -> Result<IceUrl> {
    text.parse().map_err(|bad: crate::probe::turn::BadUrl| {
        Failure::new(Kind::Usage, text!("`{}` {}", text.escape_debug(), bad.0))
            .hinted(text!("write it as in `iceServers`: `turn:call.example.org:3478?transport=udp`"))
    })
}

fn running_urls(frame: &Frame) -> Result<Vec<String>> {
    match ask(&frame.home, &Request::Status, PATIENCE)? {
        Response::Status { status } => Ok(status.urls.ice),
        Response::Done
        | Response::Renewed { .. }
        | Response::Refused { .. }
        | Response::Reloaded { .. }
        | Response::Phone(_)
        | Response::Measure { .. }
        | Response::Failed { .. } => Err(Failure::bug(text!("a status was asked for and not given"))),
    }
}

/// The password from a file, from standard input or from the environment.
fn given_login(username: &str, file: Option<&Path>) -> Result<Login> {
    let read = |source: &mut dyn std::io::Read| {
        let mut text = String::new();
        source.take(MAX_CREDENTIAL).read_to_string(&mut text).map(|_| text)
    };
    let text = match file {
        Some(file) if file == Path::new("-") => read(&mut std::io::stdin().lock()).map_err(|error| {
            Failure::operator(text!("cannot read the password from standard input")).caused_by(error)
        })?,
        Some(file) => std::fs::File::open(file)
            .and_then(|mut file| read(&mut file))
            .map_err(|error| Failure::operator(text!("cannot read `{}`", file.display())).caused_by(error))?,
        None => std::env::var(CREDENTIAL_VARIABLE).unwrap_or_default(),
    };
    let password = text.trim_end_matches(['\r', '\n']).to_owned();
    if password.is_empty() {
        return Err(Failure::new(Kind::MissingAnswer, text!("the password of `{}` is missing", username))
            .hinted(text!("name a file that has it by `--credential-file`, or set `{}`", CREDENTIAL_VARIABLE)));
    }
    Ok(Login { username: username.to_owned(), password })
}

fn line(event: Event<'_>, colour: bool, lang: Lang) -> String {
    match event {
        Event::Url(url) => url.to_string(),
        Event::Address(address) => format!("  {}", text!("at {}", address).say(lang)),
        Event::Step(step) => {
            let time = format!("{:.1} ms", millis(step.took));
            let time = if step.status == Status::Skipped { "-" } else { &time };
            let name = step.name.as_str();
            let mut text = format!("  {} {name:<10}  {time:>9}  {}", painted(step.status, colour), step.told.say(lang));
            let why = step.why.as_ref().map(|why| text!("why: {}", why));
            let hint = step.hint.as_ref().map(|hint| text!("hint: {}", hint));
            for words in [why, hint].into_iter().flatten() {
                text.push_str(&format!("\n{:>12}{}", "", words.say(lang)));
            }
            text
        }
    }
}

fn painted(status: Status, colour: bool) -> String {
    let code = match status {
        Status::Ok => "32",
        Status::Warning => "33",
        Status::Failed => "31",
        Status::Skipped => "2",
    };
    // Padded before it is painted: escape codes have no width.
    let word = format!("{:<8}", status.as_str());
    if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word }
}

fn millis(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e4).round() / 10.0
}

fn first_failing(reports: &[Report]) -> Option<(&Report, &Step)> {
    reports.iter().find_map(|report| report.failing().map(|step| (report, step)))
}

/// The last line.
fn verdict(reports: &[Report]) -> Text {
    if let Some((report, step)) = first_failing(reports) {
        let step_name = step.name.as_str();
        return match report.address {
            Some(address) => {
                text!("first failing hop: {} of {} at {}: {}", step_name, report.url, address, step.told)
            }
            None => text!("first failing hop: {} of {}: {}", step_name, report.url, step.told),
        };
    }
    let count = |status: Status| {
        let steps = reports.iter().flat_map(|report| &report.steps);
        steps.filter(|step| step.status == status).count()
    };
    let is_relay_untried = |report: &Report| {
        let is_turn = report.url.parse::<IceUrl>().is_ok_and(|url| url.service == Service::Turn);
        is_turn && report.relayed.is_none()
    };
    match (count(Status::Warning), reports.iter().any(is_relay_untried)) {
        (_, true) => text!("no step failed, but not every relay was tried: see what was skipped"),
        (0, false) => text!("every step succeeds"),
        (1, false) => text!("every step succeeds, one with a warning"),
        (count, false) => text!("every step succeeds, {} with a warning", count),
    }
}

fn document(reports: &[Report]) -> Value {
    let failing = first_failing(reports).map(|(report, step)| {
        json!({ "url": report.url, "address": report.address, "step": step.name.as_str(), "told": step.told,
                "why": step.why, "hint": step.hint })
    });
    let tests: Vec<Value> = reports
        .iter()
        .map(|report| {
            let steps: Vec<Value> = report
                .steps
                .iter()
                .map(|step| {
                    json!({ "step": step.name.as_str(), "status": step.status.as_str(), "ms": millis(step.took),
                            "told": step.told, "why": step.why, "hint": step.hint })
                })
                .collect();
            let traffic = report.traffic.map(|traffic| {
                json!({ "sent": traffic.sent, "arrived": traffic.arrived, "returned": traffic.returned,
                        "round_trip_ms": { "p50": millis(traffic.p50), "p90": millis(traffic.p90) } })
            });
            json!({ "url": report.url, "address": report.address, "ok": report.failing().is_none(),
                    "mapped": report.mapped, "relayed": report.relayed, "traffic": traffic, "steps": steps })
        })
        .collect();
    json!({ "schema_version": SCHEMA_VERSION, "ok": failing.is_none(), "first_failing": failing, "tests": tests })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::turn::StepName;

    fn step(name: StepName, status: Status) -> Step {
        let why = (status == Status::Failed).then(|| "a reason".into());
        let hint = why.as_ref().map(|_| "a way out".into());
        Step { name, status, took: Duration::from_micros(12_340), told: "what was found".into(), why, hint }
    }

    fn report(steps: Vec<Step>) -> Report {
        let address = "192.0.2.1:3478".parse().ok();
        let (relayed, traffic) = ("192.0.2.1:49200".parse().ok(), None);
        Report { url: "turn:a.example".to_owned(), address, steps, mapped: None, relayed, traffic }
    }

    #[test]
    fn the_last_line_names_the_first_failing_hop() {
        let fine = report(vec![step(StepName::Dns, Status::Ok)]);
        let bad = report(vec![step(StepName::Dns, Status::Ok), step(StepName::Peer, Status::Failed)]);
        let odd = report(vec![step(StepName::Tls, Status::Warning)]);
        assert_eq!(
            verdict(&[fine.clone(), bad.clone(), bad.clone()]),
            "first failing hop: peer of turn:a.example at 192.0.2.1:3478: what was found"
        );
        assert_eq!(verdict(&[fine.clone(), odd]), "every step succeeds, one with a warning");
        assert_eq!(verdict(std::slice::from_ref(&fine)), "every step succeeds");
        assert!(verdict(&[Report { relayed: None, ..fine.clone() }]).contains("not every relay was tried"));
        let document = document(&[fine, bad]);
        assert_eq!((&document["ok"], &document["first_failing"]["step"]), (&json!(false), &json!("peer")));
    }

    #[test]
    fn a_step_is_a_line_and_what_failed_says_why_and_what_to_do() {
        let line = |status| line(Event::Step(&step(StepName::Allocate, status)), false, Lang::En);
        assert_eq!(line(Status::Ok), "  ok       allocate      12.3 ms  what was found");
        assert_eq!(line(Status::Skipped), "  skipped  allocate            -  what was found");
        assert_eq!(
            line(Status::Failed),
            "  failed   allocate      12.3 ms  what was found\n            why: a reason\n            hint: a way out"
        );
    }
}
