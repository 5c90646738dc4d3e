//! `rtcctl config`: checks and shows what the configuration means.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::Frame;
use crate::config::{effective, load_config, load_resolved};
use crate::error::Result;

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// Check config.yaml and secrets.yaml, and list every mistake
    Check,
    /// Print the effective values, each with where it comes from
    Show,
}

/// Runs the command.
pub(super) fn run(frame: &Frame, args: Args) -> Result<ExitCode> {
    match args {
        Args::Check => check(frame),
        Args::Show => show(frame),
    }
}

fn check(frame: &Frame) -> Result<ExitCode> {
    let (resolved, _) = load_resolved(&frame.home)?;
    let file = frame.home.config_file();
    if frame.json {
        frame.print_json(&json!({ "schema_version": 1, "ok": true, "file": file, "keys_set": resolved.lines.len() }));
    } else {
        frame.print(&format!("`{}` is fine", file.display()));
    }
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
            frame.print(&format!("{section}:"));
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
