//! `rtcctl bootstrap`: what a fresh machine is told so that it becomes a node by itself.

use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args as ClapArgs, Parser as _};
use serde_json::json;

use super::{Command, Frame, Line, init};
use crate::config::{HostFacts, resolve};
use crate::control::protocol::SCHEMA_VERSION;
use crate::error::{Failure, Kind, Result};
use crate::setup::bootstrap::{Emit, Node, render};
use crate::setup::ports::{PortUse, port_uses};
use crate::setup::suggest::Surroundings;
use crate::sys::process::own_program;
use crate::text;
use crate::upgrade::digest_of;
use crate::words::Text;

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "What stands behind `--` is for `rtcctl init` on that machine, such as `-- --reach domain --host \
                  call.example.org`; without it, the machine detects its public address and is called by that. The last line \
                  of the machine's output, and /var/lib/rtcctl-bootstrap.json, say what came of it."
)]
pub(super) struct Args {
    /// In which form: user-data for cloud-init, a script, or values for terraform
    #[arg(long, value_name = "FORM",
        value_parser = PossibleValuesParser::new(Emit::ALL.map(Emit::as_str)).map(|word| form(&word)))]
    emit: Emit,
    /// Where the machine fetches the program, an `https://` address; repeatable, the next one if one fails
    #[arg(long, value_name = "URL", required = true)]
    url: Vec<String>,
    /// The SHA-256 of the program there; that of this very program if nothing is said
    #[arg(long, value_name = "DIGEST", value_parser = super::upgrade::digest)]
    sha256: Option<String>,
    /// Arguments for `rtcctl init`
    #[arg(last = true, value_name = "INIT_ARGUMENTS")]
    init: Vec<String>,
}

fn form(word: &str) -> Emit {
    Emit::ALL.into_iter().find(|form| form.as_str() == word).unwrap_or(Emit::Shell)
}

pub(super) fn run(frame: &Frame, args: &Args) -> Result<ExitCode> {
    let sha256 = match &args.sha256 {
        Some(digest) => digest.clone(),
        None => digest_of(&own_program())?,
    };
    let ports = ports(&args.init)?;
    let mut init = args.init.clone();
    if !init.iter().any(|word| word.starts_with("--firewall")) {
        init.extend(["--firewall", "apply"].map(str::to_owned));
    }
    let node = Node { urls: args.url.clone(), sha256, init, ports };
    let text = render(args.emit, &node).map_err(|unfit| {
        Failure::new(Kind::Usage, text!("no machine can be told this"))
            .because(unfit.0)
            .hinted(text!("see `rtcctl bootstrap --help`"))
    })?;
    if frame.json {
        frame.print_json(&json!({
            "schema_version": SCHEMA_VERSION,
            "form": args.emit.as_str(),
            "sha256": node.sha256,
            "text": text,
        }));
    } else {
        frame.print(text.trim_end());
        frame.say(text!(
            "There is no secret in it. Who may log in on the machine gets the invite link there, by `rtcctl invite`."
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// What callers must reach at a machine that is set up so, by root; and whether `init` takes the arguments at all.
fn ports(arguments: &[String]) -> Result<Vec<PortUse>> {
    let unfit = |why: Text| {
        Failure::new(Kind::Usage, text!("these are no arguments for `rtcctl init` on a fresh machine"))
            .because(why)
            .hinted(text!("see `rtcctl init --help`"))
    };
    let line = ["rtcctl", "init", "--yes"].into_iter().map(str::to_owned).chain(arguments.iter().cloned());
    let line = Line::try_parse_from(line).map_err(|error| {
        let text = error.to_string();
        unfit(Text::verbatim(text.lines().next().unwrap_or_default().trim_start_matches("error: ")))
    })?;
    let Command::Init(init) = line.command else { return Err(unfit(text!("they name another command"))) };
    let draft = init::for_another_machine(&init).map_err(unfit)?;
    let surroundings = Surroundings {
        is_root: true,
        // Addresses for documentation, in the place of those that the machine will find.
        sources: vec![[198, 51, 100, 1].into()],
        seen: vec![[203, 0, 113, 1].into()],
        ..Surroundings::default()
    };
    let wanted = draft.settle(None, &surroundings).map_err(|_| unfit(text!("an answer is missing")))?.wanted;
    let http = wanted.http_port.map_or_else(|| "off".to_owned(), |port| port.to_string());
    let text = format!(
        "hosts: [a.example]\nweb: {{port: {}, http_port: {http}}}\nturn: {{port: {}, relay_ports: {}-{}}}\n",
        wanted.web_port,
        wanted.turn_port,
        wanted.relay_ports.start(),
        wanted.relay_ports.end()
    );
    let facts = HostFacts { relay_ips: vec![[198, 51, 100, 1].into()], cores: 1 };
    let resolved = resolve(&text, &facts);
    let resolved =
        resolved.map_err(|complaints| unfit(Text::clauses(complaints.iter().map(crate::config::Complaint::told))))?;
    Ok(port_uses(&resolved.config))
}
