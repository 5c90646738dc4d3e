//! The words an operator types and reads; the only place that prints.

mod cert;
mod config;
mod frame;
mod init;
mod prompt;
mod qr;
mod turn;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Result;
pub use frame::Frame;

/// A WebRTC 1:1 call service in one binary: HTTPS page, Socket.IO signaling, STUN/TURN relay.
#[derive(Debug, Parser)]
#[command(name = "rtcctl", version, propagate_version = true, disable_help_subcommand = true)]
struct Line {
    #[command(flatten)]
    global: frame::Global,
    #[command(subcommand)]
    command: Command,
}

/// What to do. In the order in which a newcomer needs it.
#[derive(Debug, Subcommand)]
enum Command {
    /// Set this host up: ask, show the plan, carry it out
    Init(Box<init::Args>),
    /// Check and show the configuration
    #[command(subcommand)]
    Config(config::Args),
    /// The certificate
    #[command(subcommand)]
    Cert(cert::Args),
    /// The relay
    #[command(subcommand)]
    Turn(turn::Args),
    /// Print the version
    Version,
}

/// Reads the command line, runs the command, prints what failed; the exit codes are those of `error::Kind`.
#[must_use]
pub fn run() -> ExitCode {
    let line = match Line::try_parse() {
        Ok(line) => line,
        Err(error) => {
            // A closed pipe is the only way this can fail, and then nobody reads.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let frame = match Frame::new(&line.global) {
        Ok(frame) => frame,
        Err(failure) => return frame::report(&failure, false),
    };
    line.command.run(&frame).unwrap_or_else(|failure| frame::report(&failure, frame.colour))
}

impl Command {
    fn run(self, frame: &Frame) -> Result<ExitCode> {
        match self {
            Self::Init(args) => init::run(frame, *args),
            Self::Config(args) => config::run(frame, args),
            Self::Cert(args) => cert::run(frame, args),
            Self::Turn(args) => turn::run(frame, args),
            Self::Version => {
                frame.print(&format!("rtcctl {}", env!("CARGO_PKG_VERSION")));
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}
