//! `rtcctl backup` and `rtcctl restore`: a home in one file, and back.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args as ClapArgs;
use serde_json::json;

use super::Frame;
use super::start::daemon_pid;
use super::words::count;
use crate::archive;
use crate::config::{self, CertSource};
use crate::control::protocol::SCHEMA_VERSION;
use crate::error::{Failure, Kind, Result};
use crate::guardian;
use crate::sys::clock;
use crate::sys::fs::{read_at_most, write_atomic};
use crate::text;

/// Bytes of the largest file that is read as a backup.
const MAX_FILE: u64 = 64 * 1024 * 1024;

#[derive(Debug, ClapArgs)]
pub(super) struct BackupArgs {
    /// Where to write it; readable by you alone
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct RestoreArgs {
    /// What `rtcctl backup` has written
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Put a home that is there aside, and take its place
    #[arg(long)]
    force: bool,
}

pub(super) fn back_up(frame: &Frame, args: &BackupArgs) -> Result<ExitCode> {
    refuse_present(&args.file, args.force)?;
    let backup = archive::back_up(&frame.home, clock::now().wall)?;
    write_atomic(&args.file, &backup.archive, 0o600)?;
    let outside = outside(frame);
    if frame.json {
        frame.print_json(&json!({
            "schema_version": SCHEMA_VERSION,
            "file": args.file,
            "files": backup.files,
            "not_included": outside,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    let files = count(backup.files.len() as u64, "file", "files");
    frame.say(text!("`{}` has {} of `{}`", args.file.display(), files, frame.home.config_dir().display()));
    frame.say(text!("The keys are in it: keep it as you keep a password."));
    for path in outside {
        frame.say(text!("Not in it, for it lies outside of the home: `{}`", path.display()));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn restore(frame: &Frame, args: &RestoreArgs) -> Result<ExitCode> {
    if let Some(pid) = guardian::holder(&frame.home).or_else(|| daemon_pid(&frame.home)) {
        return Err(Failure::new(Kind::Locked, text!("rtcctl runs for this home (pid {})", pid))
            .hinted(text!("stop it by `rtcctl{} stop`", frame.home.flag())));
    }
    let archive = read(&args.file)?;
    let restored = archive::restore(&frame.home, &archive, args.force, clock::now().wall)?;
    let outside = outside(frame);
    let missing: Vec<&PathBuf> = outside.iter().filter(|path| !path.exists()).collect();
    if frame.json {
        frame.print_json(&json!({
            "schema_version": SCHEMA_VERSION,
            "made_by": restored.version,
            "made_at": restored.made_at,
            "files": restored.files,
            "before": restored.before,
            "missing": missing,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    let files = count(restored.files.len() as u64, "file", "files");
    frame.say(text!("restored {} of {} (rtcctl {})", files, restored.made_at, restored.version));
    if let Some(before) = &restored.before {
        frame.say(text!("The home that was there is in `{}`.", before.display()));
    }
    for path in missing {
        frame.say(text!("The configuration names `{}`, which this host does not have.", path.display()));
    }
    let flag = frame.home.flag();
    frame.say(text!("Next: `rtcctl{0} config show` (addresses may be those of another host), `rtcctl{0} firewall open`, `rtcctl{0} start`", flag));
    Ok(ExitCode::SUCCESS)
}

/// What the configuration names and no archive has.
fn outside(frame: &Frame) -> Vec<PathBuf> {
    let Ok(text) = std::fs::read_to_string(frame.home.config_file()) else { return Vec::new() };
    let Ok(resolved) = config::resolve(&text, &config::host_facts()) else { return Vec::new() };
    let config = resolved.config;
    let own = Some(&config.certificate).filter(|certificate| certificate.source == CertSource::Files);
    let pair = own.into_iter().flat_map(|certificate| [&certificate.cert_file, &certificate.key_file]);
    let named = pair.chain([&config.web.root, &config.certificate.acme.ca_root]).flatten();
    named.filter(|path| !path.starts_with(frame.home.certs_dir())).cloned().collect()
}

/// A file that is there is not replaced by mistake.
pub(super) fn refuse_present(file: &Path, force: bool) -> Result<()> {
    match std::fs::symlink_metadata(file) {
        Ok(data) if force && data.is_file() => Ok(()),
        Ok(data) if data.is_file() => Err(Failure::operator(text!("`{}` is there already", file.display()))
            .hinted(text!("give another name, or `--force` to replace it"))),
        Ok(_) => Err(Failure::operator(text!("`{}` is no file", file.display())).hinted(text!("give another name"))),
        Err(_) => Ok(()),
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let failed = |error| Failure::operator(text!("cannot read `{}`", file.display())).caused_by(error);
    read_at_most(file, MAX_FILE)
        .map_err(failed)?
        .ok_or_else(|| Failure::operator(text!("`{}` is too large to be a backup", file.display())))
}
