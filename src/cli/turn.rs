//! `rtcctl turn`: credentials for the relay; what tests it is in `turn_test`.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::{Frame, turn_test};
use crate::config;
use crate::control::protocol::SCHEMA_VERSION;
use crate::error::Result;
use crate::sys::clock;
use crate::turn::ice::IceIssuer;

/// The longest a credential may last: whoever has it can use the relay until then.
const MAX_TTL: u64 = 30 * 24 * 3600;

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
}

pub(super) fn run(frame: &Frame, args: Args) -> Result<ExitCode> {
    match args {
        Args::Credentials { ttl, user } => credentials(frame, ttl, user),
        Args::Test(args) => turn_test::run(frame, &args),
    }
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
        frame.print(&format!("username    {}", issued.username));
        frame.print(&format!("credential  {}", issued.credential));
        frame.print(&format!("ttl         {} s", issued.ttl));
        for url in urls {
            frame.print(&format!("url         {url}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}
