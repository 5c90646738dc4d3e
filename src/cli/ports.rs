//! `rtcctl ports`: what callers must reach, in the words of whatever has to let them in.

use std::process::ExitCode;

use clap::Args as ClapArgs;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};

use super::Frame;
use crate::config::{Config, Host, is_public, load_config};
use crate::error::Result;
use crate::setup::ports::{Format, Sheet, port_uses, render};
use crate::sys::net::local_addresses;

/// Flags of `ports`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "The forms for clouds are commands to be run where the provider's own tool is logged in; what cannot be \
                  known here is marked REPLACE-WITH-..., with the way to find it. They add to a group that is there."
)]
pub(super) struct Args {
    /// How to write them
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "table",
        value_parser = PossibleValuesParser::new(Format::ALL.map(Format::as_str)).map(|word| format(&word))
    )]
    format: Format,
}

/// Runs the command.
pub(super) fn run(frame: &Frame, args: &Args) -> Result<ExitCode> {
    let config = load_config(&frame.home)?.config;
    let sheet = Sheet { name: frame.home.tag(), uses: port_uses(&config), public_ips: public_ips(&config) };
    let format = if frame.json { Format::Json } else { args.format };
    frame.print(render(format, &sheet));
    Ok(ExitCode::SUCCESS)
}

fn format(word: &str) -> Format {
    Format::ALL.into_iter().find(|format| format.as_str() == word).unwrap_or(Format::Table)
}

/// What the configuration names, else what this host has.
fn public_ips(config: &Config) -> Vec<std::net::IpAddr> {
    let hosts = config.hosts.iter().filter_map(|host| match host {
        Host::Address(address) => Some(*address),
        Host::Name(_) => None,
    });
    let known = config.turn.public_ips.iter().copied().chain(hosts).chain(local_addresses());
    let mut found: Vec<std::net::IpAddr> = Vec::new();
    for address in known.filter(|address| is_public(*address)) {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found
}
