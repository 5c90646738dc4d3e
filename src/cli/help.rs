//! `rtcctl help`: the operator's guide by topic, and the help of each command.

use std::process::ExitCode;

use clap::{Args as ClapArgs, CommandFactory as _};
use serde_json::json;

use super::words::alike;
use super::{Frame, Line};
use crate::control::protocol::SCHEMA_VERSION;
use crate::error::{Failure, Kind, Result};
use crate::text;
use crate::words::{topic, topics};

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// A topic, or a command; without it, all are listed
    #[arg(value_name = "TOPIC|COMMAND")]
    words: Vec<String>,
}

pub(super) fn run(frame: &Frame, args: &Args) -> Result<ExitCode> {
    let Some((first, below)) = args.words.split_first() else {
        list(frame);
        return Ok(ExitCode::SUCCESS);
    };
    if let Some(page) = topic(frame.lang, first).filter(|_| below.is_empty()) {
        if frame.json {
            frame.print_json(&json!({
                "schema_version": SCHEMA_VERSION, "topic": page.code, "title": page.title, "body": page.body,
            }));
        } else {
            frame.print(format!("{}: {}\n\n{}", page.code, page.title, page.body));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut command = Line::command();
    command.build();
    let mut found = Some(&command);
    for word in &args.words {
        found = found.and_then(|command| command.find_subcommand(word)).filter(|command| !command.is_hide_set());
    }
    match found {
        Some(found) => {
            frame.print(found.clone().render_long_help().to_string().trim_end());
            Ok(ExitCode::SUCCESS)
        }
        None => Err(unknown(frame, &args.words.join(" "), &command)),
    }
}

fn unknown(frame: &Frame, word: &str, command: &clap::Command) -> Failure {
    let topics = topics(frame.lang).into_iter().map(|page| page.code);
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
    let failure = Failure::new(Kind::Usage, text!("there is no topic and no command `{}`", word.escape_debug()));
    match alike(topics.chain(commands.map(clap::Command::get_name)), word) {
        Some(known) => failure.hinted(text!("did you mean `rtcctl help {}`?", known)),
        None => failure.hinted(text!("`rtcctl help` lists all")),
    }
}

fn list(frame: &Frame) {
    let topics = topics(frame.lang);
    if frame.json {
        let topics: Vec<_> = topics.iter().map(|page| json!({ "topic": page.code, "title": page.title })).collect();
        frame.print_json(&json!({ "schema_version": SCHEMA_VERSION, "topics": topics }));
        return;
    }
    frame.print(Line::command().render_help().to_string().trim_end());
    frame.print("\nTopics, by `rtcctl help TOPIC`:");
    let width = topics.iter().map(|page| page.code.len()).max().unwrap_or_default();
    for page in topics {
        frame.print(format!("  {:<width$}  {}", page.code, page.title));
    }
}
