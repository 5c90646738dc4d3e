//! The words an operator types and reads; the only place that prints.

mod asked;
mod backup;
mod bootstrap;
mod bundle;
mod cert;
mod config;
mod doctor;
mod events;
mod explain;
#[cfg(feature = "faults")]
mod fault;
mod findings;
mod firewall;
mod follow;
mod frame;
mod guardian;
mod help;
mod init;
mod invite;
mod logs;
mod manual;
mod phone;
mod ports;
mod probe;
mod prompt;
mod qr;
mod reload;
mod rewrite;
mod service;
mod since;
mod start;
mod status;
mod stop;
mod summary;
mod top;
mod turn;
mod turn_test;
mod undo;
mod upgrade;
mod words;
mod wrap;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Result;
use crate::supervisor::service::TaskName;
use crate::sys::{names, process};
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
    /// Start the service in the background, or one task of it
    Start(start::Args),
    /// Run the service in the foreground, until SIGTERM or Ctrl-C
    Run(start::RunArgs),
    #[command(hide = true)]
    Guardian(start::GuardianArgs),
    /// Stop the service and wait for its end, or one task of it
    Stop(stop::Args),
    /// Stop and start the service, or one task of it
    Restart(stop::Args),
    /// Take up the edited configuration while the service runs; exit code 78: it is bad, nothing was changed
    Reload,
    /// Show how everything is; exit code 0 ready, 10 with a finding, 11 a task is down, 3 not running
    Status(status::Args),
    /// Show the tasks, a line each
    List,
    /// Print the link that invites to a call, with its QR code
    ///
    /// Where `access` is key, the link has the key in it, behind the `#`, which browsers send to no server; the page
    /// exchanges it for a cookie that lasts 30 days. Whoever has the link can call, so send it as you would send a
    /// password. Where `access` is open, the link is the address of the page. Nothing needs to run.
    Invite(invite::Args),
    /// Show everything, drawn anew every second
    Top(top::Args),
    /// Show what the service has logged
    Logs(logs::Args),
    /// Show every change of state with its cause
    Events(events::Args),
    /// Look what is wrong with this host, and why; exit code 0 nothing, 10 a finding, 11 something is down, 12 see outside
    Doctor(doctor::Args),
    /// Look at a service from another machine
    Probe(probe::Args),
    /// Check and show the configuration
    #[command(subcommand)]
    Config(config::Args),
    /// The certificate
    #[command(subcommand)]
    Cert(cert::Args),
    /// The host's own firewall: what filters, and letting callers in
    #[command(subcommand)]
    Firewall(firewall::Args),
    /// Show the ports that callers must reach, also as firewall files and as commands of cloud providers
    Ports(ports::Args),
    /// The relay: credentials for it, and a test of this or any other
    #[command(subcommand)]
    Turn(turn::Args),
    /// Take back what the last `init` did
    Undo(undo::UndoArgs),
    /// Take back every `init`, and what the service has written
    Uninstall(undo::UninstallArgs),
    /// Explain a code that `status` or `init` has printed; without one, list all
    Explain(explain::Args),
    /// Pack what somebody who helps needs to see, without secrets
    ///
    /// The configuration without tokens, the status, the findings of `doctor`, events with what is known of panics, the
    /// end of the log, versions, and what the kernel says of this host. Every secret of the home is looked for in all of
    /// it and left out. Names and addresses of this host are in it. Nothing needs to run.
    Bundle(bundle::Args),
    /// Put a home into one file: configuration, secrets, certificates and accounts
    ///
    /// The file has the keys in it: keep it as you keep a password. Logs, events, the journal of `init`, and files
    /// outside of the home (`web.root`, a certificate of your own) are not in it. The service may run meanwhile.
    Backup(backup::BackupArgs),
    /// Bring a home back from such a file; all of it or nothing
    ///
    /// The file is looked at as a whole before anything is written. A home that is there is left alone, unless `--force`
    /// is given: then it is put aside into an archive in its state folder first.
    Restore(backup::RestoreArgs),
    /// Show a code for a phone to scan, and what works from there as it tries
    ///
    /// The phone opens a page that tries everything a call needs: the certificate, the camera, its own and its outer
    /// address, the relay by UDP, TCP and TLS, and a call with itself through the relay. Exit code 0: calls work from it;
    /// 1: they do not, or with limits, or no phone came; 3: the service does not run; 130: Ctrl-C, which ends the code.
    Phone(phone::Args),
    /// Plant a fault in the running service
    #[cfg(feature = "faults")]
    #[command(hide = true)]
    Fault(fault::Args),
    /// Print what a fresh cloud machine is told so that it becomes a node by itself
    ///
    /// User-data without secrets: it fetches the program, compares its digest, sets up, opens the host's firewall, starts,
    /// and reports. Nothing is changed here, and nothing needs to be set up.
    Bootstrap(bootstrap::Args),
    /// Put another rtcctl in the place of this one, and go back by itself if it is worse
    ///
    /// The file is compared with its digest and with what this machine runs. It serves a home of its own on spare ports,
    /// and must take the configuration of this home. Then it takes the place of the program, which is kept beside it as
    /// `.previous`; guardian and daemon are replaced while the listening sockets are held, so who connects waits and is
    /// not refused. If it does not start, or is worse within `--watch`, the one before is brought back. Calls between
    /// two devices go on, pages return to their rooms, relays are made anew. Exit code 16: it was taken back.
    Upgrade(upgrade::Args),
    /// Print what a shell needs to complete these commands
    ///
    /// For bash: `rtcctl completions bash > /usr/share/bash-completion/completions/rtcctl`
    Completions(manual::CompletionsArgs),
    /// Print the manual page, or with --dir write one for each command into a folder
    Man(manual::ManArgs),
    /// The operator's guide by topic: ports, clouds, nat, certificates, troubleshooting; or the help of a command
    Help(help::Args),
    /// Print the version
    Version,
}

/// Reads the command line, runs the command, prints what failed; the exit codes are those of `error::Kind`.
#[must_use]
pub fn run() -> ExitCode {
    names::look_up_without_modules();
    process::mend_umask();
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
        Err(failure) => return frame::report(&failure, false, line.global.lang()),
    };
    let code = line.command.run(&frame).unwrap_or_else(|failure| frame::report(&failure, frame.colour, frame.lang));
    match frame::what_was_lost() {
        Some(failure) if code == ExitCode::SUCCESS => frame::report(&failure, frame.colour, frame.lang),
        Some(_) | None => code,
    }
}

impl Command {
    fn run(self, frame: &Frame) -> Result<ExitCode> {
        match self {
            Self::Init(args) => init::run(frame, *args),
            Self::Start(args) => start::run(frame, &args),
            Self::Run(args) => start::run_in_foreground(frame, &args),
            Self::Guardian(args) => start::guard(frame, &args),
            Self::Stop(args) => stop::run(frame, &args),
            Self::Restart(args) => stop::restart(frame, &args),
            Self::Status(args) => status::run(frame, &args),
            Self::Reload => reload::run(frame),
            Self::Invite(args) => invite::run(frame, &args),
            Self::List => status::list(frame),
            Self::Top(args) => top::run(frame, &args),
            Self::Logs(args) => logs::run(frame, &args),
            Self::Events(args) => events::run(frame, &args),
            Self::Doctor(args) => doctor::run(frame, &args),
            Self::Probe(args) => probe::run(frame, &args),
            Self::Config(args) => config::run(frame, args),
            Self::Cert(args) => cert::run(frame, args),
            Self::Firewall(args) => firewall::run(frame, &args),
            Self::Ports(args) => ports::run(frame, &args),
            Self::Turn(args) => turn::run(frame, args),
            Self::Explain(args) => explain::run(frame, &args),
            Self::Undo(args) => undo::undo(frame, &args),
            Self::Uninstall(args) => undo::uninstall(frame, &args),
            Self::Phone(args) => phone::run(frame, &args),
            Self::Bundle(args) => bundle::run(frame, &args),
            Self::Backup(args) => backup::back_up(frame, &args),
            Self::Restore(args) => backup::restore(frame, &args),
            Self::Bootstrap(args) => bootstrap::run(frame, &args),
            Self::Upgrade(args) => upgrade::run(frame, &args),
            Self::Completions(args) => manual::completions(frame, &args),
            Self::Help(args) => help::run(frame, &args),
            Self::Man(args) => manual::man(frame, &args),
            #[cfg(feature = "faults")]
            Self::Fault(args) => fault::run(frame, &args),
            Self::Version => {
                frame.print(format!("rtcctl {}", env!("CARGO_PKG_VERSION")));
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// A task by its name.
fn task(word: &str) -> Result<TaskName, String> {
    let names = TaskName::ALL.map(TaskName::as_str);
    TaskName::ALL
        .into_iter()
        .find(|task| task.as_str() == word)
        .ok_or_else(|| format!("there is no such task; tasks are {}", names.join(", ")))
}
