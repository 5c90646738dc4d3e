//! `rtcctl fault`: plants a fault in the running service. Only in builds for tests.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};

use super::Frame;
use crate::control::client::ask;
use crate::control::protocol::Request;
use crate::error::Result;
use crate::supervisor::faults::{Kind, Place};
use crate::supervisor::service::TaskName;
use crate::text;

const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Where it strikes: a task, edge or supervisor
    #[arg(value_name = "PLACE", value_parser = place)]
    place: Place,
    /// What happens there
    kind: Word,
    /// How long it blocks, or by how much the clock jumps
    #[arg(long, default_value_t = 3, allow_negative_numbers = true)]
    seconds: i64,
    /// Whom the relay lets through
    #[arg(long, default_value = "127.0.0.1")]
    peer: IpAddr,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Word {
    Panic,
    Spin,
    Deadlock,
    Block,
    /// In the relay's peer filter
    Hole,
    /// Of the daemon's wall clock, wherever it is planted
    Jump,
}

pub(super) fn run(frame: &Frame, args: &Args) -> Result<ExitCode> {
    let kind = match args.kind {
        Word::Panic => Kind::Panic,
        Word::Spin => Kind::Spin,
        Word::Deadlock => Kind::Deadlock,
        Word::Block => Kind::Block { seconds: args.seconds.unsigned_abs() },
        Word::Hole => Kind::Hole { peer: args.peer },
        Word::Jump => Kind::Jump { seconds: args.seconds },
    };
    ask(&frame.home, &Request::Fault { place: args.place, kind }, PATIENCE)?;
    frame.say(text!("planted"));
    Ok(ExitCode::SUCCESS)
}

fn place(word: &str) -> Result<Place, String> {
    match word {
        "edge" => Ok(Place::Edge),
        "supervisor" => Ok(Place::Supervisor),
        word => super::task(word).map(|task: TaskName| Place::Task(task)),
    }
}
