//! `rtcctl config`: checks and shows what the configuration means.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::Frame;
use crate::config::{self, Complaint, effective, load_config, load_resolved};
use crate::error::{Failure, Kind, Result};
use crate::setup::difference::difference;
use crate::sys::fs::{read_to_string, write_atomic};
use crate::text;

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// Check config.yaml and secrets.yaml, and list every mistake
    Check,
    /// Print the effective values, each with where it comes from
    Show,
    /// Bring config.yaml into the form that this version writes; what it was is kept beside it
    ///
    /// Older forms are read as they are, so this is never urgent. What you wrote stays as you wrote it, but for what is
    /// shown. The file of before is `config.yaml.form-N`, for an older rtcctl.
    Migrate {
        /// Show what would change, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// Runs the command.
pub(super) fn run(frame: &Frame, args: Args) -> Result<ExitCode> {
    match args {
        Args::Check => check(frame),
        Args::Show => show(frame),
        Args::Migrate { dry_run } => migrate(frame, dry_run),
    }
}

fn check(frame: &Frame) -> Result<ExitCode> {
    let (resolved, _) = load_resolved(&frame.home)?;
    let file = frame.home.config_file();
    if frame.json {
        frame.print_json(&json!({ "schema_version": 1, "ok": true, "file": file, "keys_set": resolved.lines.len() }));
    } else {
        frame.print(text!("`{}` is fine", file.display()));
    }
    Ok(ExitCode::SUCCESS)
}

fn migrate(frame: &Frame, is_dry: bool) -> Result<ExitCode> {
    let file = frame.home.config_file();
    let before = read_to_string(&file)?;
    let bad = |complaints: Vec<Complaint>| {
        let failure = Failure::new(Kind::Config, text!("`{}` cannot be brought into another form", file.display()));
        let failure = complaints.iter().fold(failure, |failure, complaint| failure.because(complaint.told()));
        failure.hinted(text!("nothing was changed; see `rtcctl{} config check`", frame.home.flag()))
    };
    let migration = config::migrate(&before).map_err(|complaint| bad(vec![complaint]))?;
    // What the service would refuse is not written.
    config::resolve(&migration.text, &config::host_facts()).map_err(bad)?;
    let lines = difference(&before, &migration.text);
    if !is_dry && !migration.steps.is_empty() {
        let kept = file.with_file_name(format!("config.yaml.form-{}", migration.from));
        write_atomic(&kept, before.as_bytes(), 0o600)?;
        super::rewrite::replace(&file, &migration.text)?;
    }
    if frame.json {
        frame.print_json(&json!({
            "schema_version": 1,
            "from": migration.from,
            "to": migration.to,
            "steps": migration.steps,
            "difference": lines,
            "done": !is_dry && !migration.steps.is_empty(),
        }));
        return Ok(ExitCode::SUCCESS);
    }
    for line in &lines {
        frame.print(line);
    }
    frame.say(match (migration.steps.is_empty(), is_dry) {
        (true, _) => text!("0 changes: `{}` has the form of this version ({})", file.display(), migration.to),
        (false, true) => text!("this is what would change, and nothing was: it {}", migration.steps.join(", then ")),
        (false, false) => {
            text!("`{}` is of form {} now: it {}", file.display(), migration.to, migration.steps.join(", then "))
        }
    });
    Ok(ExitCode::SUCCESS)
}

fn show(frame: &Frame) -> Result<ExitCode> {
    let resolved = load_config(&frame.home)?;
    let origin = |path: &str| match resolved.lines.get(path) {
        _ if path == "turn.relay_ips" && resolved.detects_relay_ips => "detected".to_owned(),
        Some(line) => format!("line {line}"),
        None => "default".to_owned(),
    };
    let effective = effective(&resolved.config);
    if frame.json {
        let mut tree = Map::new();
        let mut origins = Map::new();
        for (path, value) in effective {
            origins.insert(path.to_owned(), Value::from(origin(path)));
            match path.split_once('.') {
                None => drop(tree.insert(path.to_owned(), value)),
                Some((section, key)) => {
                    let section = tree.entry(section).or_insert_with(|| Value::Object(Map::new()));
                    if let Value::Object(section) = section {
                        section.insert(key.to_owned(), value);
                    }
                }
            }
        }
        frame.print_json(&json!({ "schema_version": 1, "config": tree, "origins": origins }));
        return Ok(ExitCode::SUCCESS);
    }
    let mut open = "";
    for (path, value) in &effective {
        let (section, key) = path.split_once('.').unwrap_or(("", path));
        if section != open && !section.is_empty() {
            frame.print(format!("{section}:"));
        }
        open = section;
        let indent = if section.is_empty() { "" } else { "  " };
        let value = match value {
            Value::Null => String::new(),
            // With quotes where YAML needs them.
            Value::String(_) => serde_yaml::to_string(value).unwrap_or_default().trim_end().to_owned(),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
        };
        frame.print(format!("{:<44} # {}", format!("{indent}{key}: {value}"), origin(path)).trim_end());
    }
    Ok(ExitCode::SUCCESS)
}
