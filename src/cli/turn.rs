//! `rtcctl turn`: credentials for the relay; what tests it is in `turn_test`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::json;

use super::{Frame, rewrite, since, turn_test};
use crate::config::{self, new_turn_secret, with_turn_secret};
use crate::control::protocol::SCHEMA_VERSION;
use crate::error::Result;
use crate::sys::clock::{self, rfc3339_seconds};
use crate::text;
use crate::turn::ice::IceIssuer;

/// The longest a credential may last: whoever has it can use the relay until then.
const MAX_TTL: u64 = 30 * 24 * 3600;
/// By how much a credential may be used after it has run out, for clocks that differ.
const TOLERANCE: Duration = Duration::from_secs(60);

/// The relay.
#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// Print a user name and a password that work now; nothing needs to run
    ///
    /// The name is `expiry:user` and the password is computed from it and from the first of `turn_secrets`, so the
    /// relay knows the pair without being told. Whoever has it can use the relay until it expires.
    Credentials {
        /// How long they are good for a new allocation; `turn.credential_ttl` by default
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=MAX_TTL))]
        ttl: Option<u64>,
        /// Whom they are for, since quotas count by it; without it, somebody new each time
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
    /// Do what a browser does with a STUN or TURN server, step by step, and name the first step that fails
    ///
    /// Looks the host up, connects, verifies the certificate, asks for its own address, allocates twice, lets the two
    /// relays reach each other, sends 100 packets each way, and ends the allocations. Exit code 0: everything works;
    /// 1: a step fails; 2: the URL is none; 3: no URL is given and the service does not run; 13: a password is missing.
    Test(turn_test::Args),
    /// Make another secret for credentials, while those of the one before stay good for a time
    ///
    /// The new secret issues from now on. What the ones before have issued verifies until the grace is over, by default
    /// `turn.credential_ttl` and a minute, when the last of it has run out by itself. A running service takes it up by a
    /// reload. Allocations live on in any case, as long as their clients refresh them.
    RotateSecret {
        /// How long the secrets before stay good: 90s, 10m, 2h, 3d; 0s ends them at once, if one went astray
        #[arg(long, value_name = "SPAN", value_parser = grace)]
        grace: Option<Duration>,
    },
}

pub(super) fn run(frame: &Frame, args: Args) -> Result<ExitCode> {
    match args {
        Args::Credentials { ttl, user } => credentials(frame, ttl, user),
        Args::Test(args) => turn_test::run(frame, &args),
        Args::RotateSecret { grace } => rotate(frame, grace),
    }
}

fn grace(text: &str) -> Result<Duration, String> {
    let span = since::span(text).ok_or("write a span like 90s, 10m, 2h or 3d")?;
    let longest = Duration::from_secs(MAX_TTL);
    if span > longest { Err("no credential is good for longer than 30 days".to_owned()) } else { Ok(span) }
}

fn rotate(frame: &Frame, grace: Option<Duration>) -> Result<ExitCode> {
    let (config, _) = config::load(&frame.home)?;
    let grace = grace.unwrap_or(Duration::from_secs(config.turn.credential_ttl) + TOLERANCE);
    let secret = new_turn_secret()?;
    let now = clock::now().wall;
    let until = (!grace.is_zero()).then(|| now + grace);
    let mut promised = None;
    let is_applied = rewrite::secrets(frame, &text!("TURN secret"), |text| {
        let text = with_turn_secret(text, &secret, until, now)?;
        // A longer grace of a rotation before this one holds.
        promised = config::old_turn_secrets_until(&text);
        Some(text)
    })?;
    let promised = promised.map(rfc3339_seconds);
    if frame.json {
        frame.print_json(&json!({
            "schema_version": SCHEMA_VERSION,
            "applied": is_applied,
            "old_until": promised,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    frame.say(if is_applied {
        text!("The new secret issues credentials from now on; allocations live on.")
    } else {
        text!("The new secret issues credentials once the service is started; allocations live on.")
    });
    frame.say(match promised {
        Some(until) => text!("What the secrets before have issued is good until {}.", until),
        None => text!("What the secrets before have issued is worthless for another allocation."),
    });
    Ok(ExitCode::SUCCESS)
}

fn credentials(frame: &Frame, ttl: Option<u64>, user: Option<String>) -> Result<ExitCode> {
    let (config, secrets) = config::load(&frame.home)?;
    let user = user.unwrap_or_else(|| format!("operator-{:08x}", rand::random::<u32>()));
    let issuer = IceIssuer::new(&config, &secrets);
    let issued = issuer.credentials(&user, ttl, clock::now());
    let urls = issuer.urls(None);
    if frame.json {
        frame.print_json(&json!({
            "schema_version": SCHEMA_VERSION,
            "username": issued.username,
            "credential": issued.credential,
            "ttl": issued.ttl,
            "urls": urls,
        }));
    } else {
        frame.print(format!("username    {}", issued.username));
        frame.print(format!("credential  {}", issued.credential));
        frame.print(format!("ttl         {} s", issued.ttl));
        for url in urls {
            frame.print(format!("url         {url}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}
