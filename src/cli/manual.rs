//! `rtcctl completions` and `rtcctl man`: what is known of the command line, for shells and for `man`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args as ClapArgs, CommandFactory as _};
use clap_complete::Shell;

use super::{Frame, Line};
use crate::error::{Failure, Result};
use crate::sys::fs::write_atomic;
use crate::text;

#[derive(Debug, ClapArgs)]
pub(super) struct CompletionsArgs {
    shell: Shell,
}

#[derive(Debug, ClapArgs)]
pub(super) struct ManArgs {
    /// Write `rtcctl.1` and a page for each command into this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn completions(frame: &Frame, args: &CompletionsArgs) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Line::command(), "rtcctl", &mut script);
    frame.print(String::from_utf8_lossy(&script).trim_end());
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man(frame: &Frame, args: &ManArgs) -> Result<ExitCode> {
    // Names of commands below others are known once it is built.
    let mut command = Line::command();
    command.build();
    let Some(dir) = &args.dir else {
        frame.print(page(&command)?.trim_end());
        return Ok(ExitCode::SUCCESS);
    };
    std::fs::create_dir_all(dir)
        .map_err(|error| Failure::operator(text!("cannot create the folder `{}`", dir.display())).caused_by(error))?;
    let mut pages = Vec::new();
    collect(&command, &mut pages)?;
    for (name, text) in &pages {
        write_atomic(&dir.join(format!("{name}.1")), text.as_bytes(), 0o644)?;
    }
    frame.say(text!("wrote {} pages into `{}`", pages.len(), dir.display()));
    Ok(ExitCode::SUCCESS)
}

fn page(command: &clap::Command) -> Result<String> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone())
        .render(&mut text)
        .map_err(|error| Failure::operator(text!("cannot write the manual page")).caused_by(error))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn collect(command: &clap::Command, pages: &mut Vec<(String, String)>) -> Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    pages.push((name, page(command)?));
    command.get_subcommands().filter(|below| !below.is_hide_set()).try_for_each(|below| collect(below, pages))
}
