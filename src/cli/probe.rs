//! `rtcctl probe`: a look at a service from another machine, and what becomes of it.

use std::io::{IsTerminal as _, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args as ClapArgs;
use serde_json::json;

use super::Frame;
use crate::certs::Source;
use crate::config::load;
use crate::control::client::ask;
use crate::control::protocol::{Request, Response, SCHEMA_VERSION};
use crate::doctor::vantage::{GOOD_FOR, Invitation, Report, SPEED, take};
use crate::error::{Failure, Kind, Result};
use crate::probe;
use crate::probe::turn::{Attempt, Bound, Carrier, IceUrl, Login, Trust, speed, test};
use crate::sys::clock;
use crate::sys::net::resolve;
use crate::text;
use crate::turn::ice::IceIssuer;
use crate::words::Text;

/// Where the invitation is taken from if no file is named: arguments can be read by everybody on the machine.
const TOKEN_VARIABLE: &str = "RTCCTL_PROBE_TOKEN";
const MAX_TOKEN: u64 = 64 * 1024;
const STATUS_WITHIN: Duration = Duration::from_secs(5);
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, ClapArgs)]
#[command(after_help = "1. where the service runs: rtcctl probe --invite\n\
                  2. on a machine elsewhere:  rtcctl probe, and the invitation\n\
                  3. where the service runs: rtcctl probe --report REPORT\n\
                  `rtcctl doctor` shows what it came to. An invitation is good once, and for a quarter of an hour.")]
pub(super) struct Args {
    /// Print an invitation for another machine; it lets who has it use the relay for a while
    #[arg(long, conflicts_with_all = ["report", "token_file"])]
    invite: bool,
    /// Take what the other machine reported, and keep it for `doctor`
    #[arg(long, value_name = "REPORT", conflicts_with = "token_file")]
    report: Option<String>,
    /// A file with the invitation, `-` for standard input; otherwise RTCCTL_PROBE_TOKEN has it, or it is asked for
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

pub(super) fn run(frame: &Frame, args: &Args) -> Result<ExitCode> {
    if args.invite {
        return invite(frame);
    }
    if let Some(word) = &args.report {
        return report(frame, word);
    }
    look(frame, &token(frame, args.token_file.as_deref())?)
}

fn invite(frame: &Frame) -> Result<ExitCode> {
    let Response::Status { status } = ask(&frame.home, &Request::Status, STATUS_WITHIN)? else {
        return Err(Failure::bug(text!("a status was asked for and not given")));
    };
    let (config, secrets) = load(&frame.home)?;
    let served = status.certificate.as_ref().ok_or_else(|| Failure::operator(text!("no certificate is served")))?;
    let user = format!("probe-{:08x}", rand::random::<u32>());
    let now = clock::now();
    let issued = IceIssuer::new(&config, &secrets).credentials(&user, Some(GOOD_FOR.as_secs()), now);
    let wanted = Invitation::to(
        status.urls.web.clone(),
        served.fingerprint_sha256.clone(),
        status.urls.ice.clone(),
        (issued.username, issued.credential),
        served.source == Source::SelfSigned.as_str(),
    );
    let word = Invitation::make(&frame.home, wanted, now)?.word();
    if frame.json {
        frame.print_json(&json!({ "schema_version": SCHEMA_VERSION, "invitation": word, "ttl": GOOD_FOR.as_secs() }));
        return Ok(ExitCode::SUCCESS);
    }
    frame.print(word);
    frame.say(format!("\n{}", text!("On a machine elsewhere, with the same program: `rtcctl probe`, and paste this line. It is good once, for {} \
         minutes, and a secret until then.",
        GOOD_FOR.as_secs() / 60
    ).say(frame.lang)));
    Ok(ExitCode::SUCCESS)
}

fn report(frame: &Frame, word: &str) -> Result<ExitCode> {
    let report = take(&frame.home, word, clock::now())?;
    let is_fine = report.steps.values().all(|(works, _)| *works);
    if frame.json {
        frame.print_json(&json!({ "schema_version": SCHEMA_VERSION, "ok": is_fine, "report": report }));
    } else {
        frame.say(text!("taken; `rtcctl{} doctor outside-view` shows it", frame.home.flag()));
    }
    // What another machine could not reach must be opened outside of this host, or by its firewall.
    Ok(if is_fine { ExitCode::SUCCESS } else { Kind::OutsideHost.exit_code().into() })
}

fn token(frame: &Frame, file: Option<&Path>) -> Result<String> {
    let mut text = String::new();
    let read = match file {
        Some(file) if file != Path::new("-") => {
            std::fs::File::open(file).and_then(|file| file.take(MAX_TOKEN).read_to_string(&mut text))
        }
        None if std::env::var_os(TOKEN_VARIABLE).is_some() => {
            return Ok(std::env::var(TOKEN_VARIABLE).unwrap_or_default());
        }
        None if std::io::stdin().is_terminal() => {
            frame.say(text!("paste the invitation, then press Enter:"));
            std::io::stdin().read_line(&mut text)
        }
        Some(_) | None => std::io::stdin().lock().take(MAX_TOKEN).read_to_string(&mut text),
    };
    read.map_err(|error| Failure::operator(text!("cannot read the invitation")).caused_by(error))?;
    if text.trim().is_empty() {
        return Err(Failure::new(Kind::MissingAnswer, text!("the invitation is missing")).hinted(text!(
            "make one by `rtcctl probe --invite` where the service runs, and give it by `--token-file`"
        )));
    }
    Ok(text)
}

/// Tries everything that a caller would.
fn look(frame: &Frame, text: &str) -> Result<ExitCode> {
    let invitation = Invitation::read(text, clock::now())?;
    let mut report = Report { from: "an unknown address".to_owned(), steps: [].into() };
    let mut note = |word: String, outcome: Result<Text, Text>| {
        let (works, told) = match outcome {
            Ok(told) => (true, told),
            Err(why) => (false, why),
        };
        if !frame.json {
            frame.print(format!("{:<8}{word:<44}{}", if works { "ok" } else { "failed" }, told.say(frame.lang)));
        }
        report.steps.insert(word, (works, told.english().to_owned()));
    };
    note(format!("page {}", invitation.web), page(&invitation));
    let login = Login { username: invitation.username.clone(), password: invitation.password.clone() };
    let trust = Trust::of_this_host(&frame.home.certs_dir().join("ca.pem"));
    let mut mapped: Option<SocketAddr> = None;
    for text in &invitation.ice {
        let Ok(url) = text.parse::<IceUrl>() else { continue };
        // Nobody elsewhere knows that authority; the page has shown that the port is open, and whose certificate it is.
        if url.carrier == Carrier::Tls && invitation.is_self_signed {
            continue;
        }
        let attempt = Attempt { url: &url, login: Some(&login), trust: &trust, attack: false, patience: PATIENCE };
        for one in test(attempt, &mut |_| {}) {
            mapped = mapped.or(one.mapped);
            let at = one.address.map_or_else(String::new, |address| format!(" at {}", address.ip()));
            let outcome = match one.failing() {
                Some(step) => Err(text!("{}: {}", step.name.as_str(), step.told)),
                None => Ok(one.traffic.map_or_else(
                    || text!("answers"),
                    |traffic| {
                        let ms = traffic.p50.as_secs_f64() * 1e3;
                        text!(
                            "{} of {} packets through both relays, {} ms",
                            traffic.returned,
                            traffic.sent,
                            format!("{ms:.1}")
                        )
                    },
                )),
            };
            let is_by_udp = url.carrier == Carrier::Udp && one.traffic.is_some() && outcome.is_ok();
            note(format!("{text}{at}"), outcome);
            if let Some(address) = one.address.filter(|_| is_by_udp) {
                // What is not known is no failure.
                note(format!("{SPEED}{at}"), Ok(speed_of(address, &login)));
            }
        }
    }
    if let Some(mapped) = mapped {
        report.from = mapped.ip().to_string();
    }
    let is_fine = report.steps.values().all(|(works, _)| *works);
    let word = invitation.answer(&report);
    if frame.json {
        frame.print_json(&json!({ "schema_version": SCHEMA_VERSION, "ok": is_fine, "seen": report, "report": word }));
    } else {
        frame.say(format!("\n{}", text!("Where the service runs:").say(frame.lang)));
        frame.print(format!("rtcctl probe --report {word}"));
    }
    Ok(if is_fine { ExitCode::SUCCESS } else { Kind::Operator.exit_code().into() })
}

/// How much comes through both relays.
fn speed_of(relay: SocketAddr, login: &Login) -> Text {
    let found = match speed(relay, login, Bound::ACROSS) {
        Ok(found) => found,
        Err(fault) => return text!("not known: {}", fault.told()),
    };
    match found.megabits() {
        Some(megabits) => {
            text!("{} Mbit/s or more, {} of {} packets arrived", format!("{:.0}", megabits), found.arrived, found.sent)
        }
        None => text!("not known: {} of {} packets arrived", found.arrived, found.sent),
    }
}

fn page(invitation: &Invitation) -> Result<Text, Text> {
    let rest = invitation.web.strip_prefix("https://").ok_or(text!("it is no address of a page"))?;
    let place = rest.split('/').next().unwrap_or_default();
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            (host, port.parse::<u16>().map_err(|_| text!("its port is no number"))?)
        }
        Some(_) | None => (place, 443),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = host.parse::<std::net::IpAddr>().is_err().then_some(host);
    let at = *resolve(host, port, PATIENCE)?.first().ok_or(text!("the host has no address"))?;
    let until = clock::now().mono + PATIENCE;
    let (leaf, status, body) = probe::presented_page(at, name, "/healthz", until).map_err(|fault| fault.told())?;
    if leaf.fingerprint != invitation.fingerprint {
        return Err(text!("{} presents another certificate: somebody else answers there", at));
    }
    if status == 200 && body.starts_with("{\"state\":") {
        return Ok(text!("{} answers with the right certificate", at));
    }
    Err(text!("{} answers with status {}", at, status))
}
