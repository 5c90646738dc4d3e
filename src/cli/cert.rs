//! `rtcctl cert`: the certificate of this home.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Frame;
use crate::certs::store::{Files, load};
use crate::error::Result;
use crate::sys::clock;

/// What to do with the certificate.
#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// Print names, end date and fingerprint, and where the local CA is
    Show,
}

/// Runs the command.
pub(super) fn run(frame: &Frame, args: Args) -> Result<ExitCode> {
    match args {
        Args::Show => show(frame),
    }
}

fn show(frame: &Frame) -> Result<ExitCode> {
    let now = clock::now();
    let served = load(&frame.home, now)?;
    // A certificate's dates are whole seconds of this millennium.
    let not_after = OffsetDateTime::from(served.not_after).format(&Rfc3339).unwrap_or_default();
    let left = served.not_after.duration_since(now.wall).unwrap_or_default();
    let days_left = (left.as_secs_f64() / 8640.0).round() / 10.0;
    let ca = Files::of(&frame.home).ca;
    if frame.json {
        frame.print_json(&json!({
            "schema_version": 1,
            "source": "self-signed",
            "names": served.names,
            "not_after": not_after,
            "days_left": days_left,
            "fingerprint_sha256": served.fingerprint,
            "ca_file": ca,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    frame.print("source       self-signed, by the local CA of this home");
    frame.print(&format!("names        {}", served.names.join(", ")));
    frame.print(&format!("valid until  {not_after} ({days_left} days)"));
    frame.print(&format!("sha-256      {}", served.fingerprint));
    frame.print(&format!("local CA     {} (trust it once on each device)", ca.display()));
    Ok(ExitCode::SUCCESS)
}
