//! `rtcctl doctor`: prints what `doctor` concludes, causes first.

use std::process::ExitCode;

use clap::Args as ClapArgs;
use serde_json::{Value, json};

use super::Frame;
use super::asked::{Asked, servers};
use super::words::columns_of_output;
use super::wrap::prose;
use crate::control::protocol::{SCHEMA_VERSION, Severity};
use crate::doctor::check::Check;
use crate::doctor::gather::{Options, TIME_SERVERS, gather};
use crate::doctor::judge::judge;
use crate::doctor::outcome::{Diagnosis, Report, conclude};
use crate::error::{Failure, Kind, Result};
use crate::sys::clock;
use crate::words::Lang;
use crate::words::Text;
use crate::{text, word};

/// How often `--fix` looks again: each look may find the next thing that can be fixed.
const MAX_ROUNDS: usize = 16;

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Exit code: 0 nothing is wrong, 10 a finding, 11 a task or the service is down, 12 something outside of \
                  this host must be done. What is unknown is told, and is no finding."
)]
pub(super) struct Args {
    /// Make these checks, and those whose failure would explain theirs
    #[arg(value_name = "CHECK")]
    checks: Vec<String>,
    /// Print what there is to check, and look at nothing
    #[arg(long)]
    list: bool,
    /// Make this check alone; repeatable
    #[arg(long, value_name = "CHECK", conflicts_with = "checks")]
    only: Vec<String>,
    /// Do what can be done safely about what is found, and say it
    #[arg(long)]
    fix: bool,
    #[command(flatten)]
    asked: Asked,
    /// Ask this time server, in place of the usual ones; repeatable
    #[arg(long, value_name = "HOST:PORT", env = "RTCCTL_TIME_SERVERS", value_delimiter = ',')]
    time_server: Vec<String>,
}

pub(super) fn run(frame: &Frame, args: &Args) -> Result<ExitCode> {
    if args.list {
        list(frame);
        return Ok(ExitCode::SUCCESS);
    }
    let checks = chosen(args)?;
    let options = options(args)?;
    let mut done: Vec<Text> = Vec::new();
    let mut report = look(frame, &checks, &options);
    if args.fix {
        for _ in 0..MAX_ROUNDS {
            let Some(remedy) = report.diagnoses.iter().find_map(|one| one.problem.remedy.clone()) else { break };
            remedy.carry_out()?;
            done.push(remedy.told());
            if !frame.json {
                frame.say(text!("fixed: {}", remedy.told()));
            }
            report = look(frame, &checks, &options);
        }
    }
    let code = exit_code(&report);
    if frame.json {
        frame.print_json(&document(&report, &done, code));
    } else {
        // Who asks for one wants to know what it has found, too.
        let tells_all = frame.verbose > 0 || checks.len() < Check::all().count();
        print(frame, &report, tells_all);
    }
    Ok(ExitCode::from(code))
}

/// Everything that `doctor` finds, as `--json` tells it.
pub(super) fn diagnosis(frame: &Frame, asked: &Asked) -> Result<Value> {
    let checks: Vec<Check> = Check::all().collect();
    let time_servers = servers(&[], &TIME_SERVERS, "--time-server")?;
    let report = look(frame, &checks, &Options { sources: asked.sources()?, time_servers });
    let code = exit_code(&report);
    Ok(document(&report, &[], code))
}

fn look(frame: &Frame, checks: &[Check], options: &Options) -> Report {
    let evidence = gather(&frame.home, checks, options);
    conclude(judge(checks, &evidence, clock::now().wall))
}

/// The checks that are made, in the order in which they are told.
fn chosen(args: &Args) -> Result<Vec<Check>> {
    let named = |words: &[String]| -> Result<Vec<Check>> {
        words
            .iter()
            .map(|word| {
                Check::named(word).ok_or_else(|| {
                    let failure = Failure::new(Kind::Usage, text!("there is no check `{}`", word.escape_debug()));
                    let near = Check::all().map(Check::as_str).max_by(|one, other| {
                        strsim::jaro_winkler(one, word).total_cmp(&strsim::jaro_winkler(other, word))
                    });
                    let near = near.filter(|near| strsim::jaro_winkler(near, word) > 0.8);
                    let failure = match near {
                        Some(near) => failure.hinted(text!("did you mean `{}`?", near)),
                        None => failure,
                    };
                    failure.hinted(text!("`rtcctl doctor --list` shows them all"))
                })
            })
            .collect()
    };
    let mut checks = if args.only.is_empty() && args.checks.is_empty() {
        Check::all().collect()
    } else if args.only.is_empty() {
        named(&args.checks)?.into_iter().flat_map(Check::with_causes).collect()
    } else {
        named(&args.only)?
    };
    checks.sort_unstable();
    checks.dedup();
    Ok(checks)
}

fn options(args: &Args) -> Result<Options> {
    Ok(Options {
        sources: args.asked.sources()?,
        time_servers: servers(&args.time_server, &TIME_SERVERS, "--time-server")?,
    })
}

fn list(frame: &Frame) {
    if frame.json {
        let checks: Vec<Value> = Check::all()
            .map(|check| {
                let after: Vec<&str> = check.after().iter().map(|cause| cause.as_str()).collect();
                json!({ "code": check.as_str(), "looks_at": check.looks_at(), "after": after })
            })
            .collect();
        frame.print_json(&json!({ "schema_version": SCHEMA_VERSION, "checks": checks }));
        return;
    }
    for check in Check::all() {
        frame.print(format!("{:<20}  {}", check.as_str(), frame.lang.say(check.looks_at())));
    }
}

fn exit_code(report: &Report) -> u8 {
    let kind = if report.is_down() {
        Kind::TaskDown
    } else if report.is_outside() {
        Kind::OutsideHost
    } else if report.is_bad() {
        Kind::Degraded
    } else {
        return 0;
    };
    kind.exit_code()
}

fn print(frame: &Frame, report: &Report, tells_all: bool) {
    let columns = columns_of_output();
    let told = |word: &'static str, code: &str, check: &Check, text: &Text| {
        let word = paint(frame.lang.say(word), code, frame.colour);
        prose(&text!("{}: {}", format!("{word} {}", check.as_str()), text).say(frame.lang), 2, columns)
    };
    for diagnosis in &report.diagnoses {
        let told = lines(diagnosis, frame.colour, frame.lang);
        let last = told.len() - 1;
        for (at, line) in told.into_iter().enumerate() {
            // A command is copied as a whole.
            let is_command = at == last && diagnosis.problem.fix.is_verbatim();
            frame.print(if is_command { line } else { prose(&line, 4, columns) });
        }
        frame.print("");
    }
    let (explained, open): (Vec<_>, Vec<_>) = report.unknown.iter().partition(|(check, _)| report.explains(*check));
    for (check, why) in open {
        frame.print(told(word!("unknown"), "2", check, why));
    }
    if tells_all {
        for (check, seen) in &report.fine {
            frame.print(told(word!("ok"), "32", check, seen));
        }
        for (check, why) in &report.idle {
            frame.print(told(word!("nothing to do for"), "2", check, why));
        }
    }
    let found = report.diagnoses.len();
    let mut parts = vec![if found == 1 { text!("1 finding") } else { text!("{} findings", found) }];
    parts.push(text!("{} ok", report.fine.len()));
    let unknown = report.unknown.len();
    match explained.len() {
        _ if unknown == 0 => {}
        0 => parts.push(text!("{} unknown", unknown)),
        some => parts.push(text!("{} unknown, {} of them for what was found", unknown, some)),
    }
    frame.print(Text::list(parts));
}

fn lines(diagnosis: &Diagnosis, colour: bool, lang: Lang) -> Vec<String> {
    let problem = &diagnosis.problem;
    let (word, code) = match problem.severity {
        Severity::Info => (word!("note"), "36"),
        Severity::Warning => (word!("warning"), "33"),
        Severity::Error => (word!("error"), "31"),
        Severity::Critical => (word!("critical"), "1;31"),
    };
    let title = text!("{} [{}]", problem.title, problem.code);
    let mut lines = vec![text!("{}: {}", paint(lang.say(word), code, colour), title).say(lang)];
    lines.push(format!("  {}", problem.evidence.say(lang)));
    if !diagnosis.hides.is_empty() {
        let hides = diagnosis.hides.join(", ");
        lines.push(format!("  {}", text!("because of it, or not to be told from it: {}", hides).say(lang)));
    }
    lines.push(format!("  {}", text!("fix: {}", problem.fix).say(lang)));
    lines
}

fn paint(word: &str, code: &str, colour: bool) -> String {
    if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() }
}

fn document(report: &Report, fixed: &[Text], code: u8) -> Value {
    let findings: Vec<Value> = report
        .diagnoses
        .iter()
        .map(|one| {
            let problem = &one.problem;
            json!({ "code": problem.code, "severity": problem.severity, "title": problem.title,
                    "evidence": problem.evidence, "fix": problem.fix, "outside": problem.is_outside,
                    "hides": one.hides })
        })
        .collect();
    let told = |list: &[(Check, Text)], key: &str| -> Vec<Value> {
        list.iter().map(|(check, told)| json!({ "code": check.as_str(), key: told })).collect()
    };
    json!({
        "schema_version": SCHEMA_VERSION,
        "exit_code": code,
        "findings": findings,
        "unknown": told(&report.unknown, "why"),
        "ok": told(&report.fine, "told"),
        "nothing_to_do": told(&report.idle, "why"),
        "fixed": fixed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::outcome::Problem;

    #[test]
    fn a_finding_says_what_was_seen_what_follows_and_what_to_do() {
        let problem = Problem::of(
            Check::PortTaken,
            Severity::Critical,
            text!("another program has {}", text!("port {}/{} (`{}`)", 443, "tcp", "web.port")),
        )
        .seen("`nginx`")
        .fix("stop it");
        let diagnosis = Diagnosis { problem, hides: vec!["running".to_owned()] };
        let wanted = "\
critical: another program has port 443/tcp (`web.port`) [port-taken]
  `nginx`
  because of it, or not to be told from it: running
  fix: stop it";
        assert_eq!(lines(&diagnosis, false, Lang::En).join("\n"), wanted);
        let chinese = lines(&diagnosis, false, Lang::Zh).join("\n");
        assert!(
            chinese.contains("另一个程序占用了端口 443/tcp（`web.port`） [port-taken]")
                && !chinese.contains("another program"),
            "{chinese}"
        );
        assert!(lines(&diagnosis, true, Lang::En)[0].starts_with("\x1b[1;31mcritical\x1b[0m: "));
    }
}
