//! Compares the relay with coturn and with a bare forwarder: `scripts/bench turn` builds and runs this.
//!
//! It expects a network namespace in which its addresses are local: that is the script's part, as is the building.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

mod dialogue;
mod forwarder;
mod link;
mod measure;
mod report;
mod server;
mod sock;
mod storm;
mod stun;
mod traffic;
mod works;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use serde_json::json;

use report::Seen;
use works::{Stage, WORKS, Work};

/// Before a window opens, queues fill and caches warm.
const WARM_UP: Duration = Duration::from_millis(700);
/// Descriptors that ten thousand allocations need, and some.
const DESCRIPTORS: u64 = 16_384;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compares servers.
    Run(Options),
    /// Is the forwarder.
    Forward { address: SocketAddrV4, means: forwarder::Means },
    /// Names the works.
    List,
}

#[derive(Args)]
struct Options {
    /// The rtcctl to be measured.
    #[arg(long)]
    rtcctl: PathBuf,
    /// A folder for configurations, which is kept for the next run of the same options.
    #[arg(long)]
    scratch: PathBuf,
    /// How often each server does each work.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Seconds of each window.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Works to do, all by default.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where to write everything as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The network namespace of the servers, if it is another one.
    #[arg(long)]
    netns: Option<String>,
    /// Kernel threads whose CPU time is the server's as well.
    #[arg(long)]
    kernel_pid: Vec<u32>,
    #[arg(long, default_value = "10.99.0.1")]
    server: Ipv4Addr,
    /// A network, of prefix 16, of which every address is the generator's.
    #[arg(long, default_value = "10.98.0.0")]
    crowd: Ipv4Addr,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Forward { address, means } => forwarder::run(address, means).map(|()| true),
        Command::Run(options) => run(&options),
        Command::List => {
            WORKS.iter().for_each(|work| println!("{:<13} {}", work.name, work.what));
            Ok(true)
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs every work that is asked for; tells whether every run could be made.
fn run(options: &Options) -> io::Result<bool> {
    let works: Vec<&Work> =
        WORKS.iter().filter(|work| options.only.is_empty() || options.only.iter().any(|it| it == work.name)).collect();
    if let Some(unknown) = options.only.iter().find(|name| WORKS.iter().all(|work| work.name != **name)) {
        return Err(io::Error::other(format!("there is no work `{unknown}`; `list` names them")));
    }
    prepare()?;
    let host = |last: u8| Ipv4Addr::from(u32::from(options.crowd) & 0xffff_0000 | u32::from(last));
    let place = server::Place {
        rtcctl: options.rtcctl.clone(),
        scratch: options.scratch.clone(),
        address: options.server,
        client: host(3),
        peers: format!("{}/16", host(0)),
        netns: options.netns.clone(),
    };
    let stage = Stage {
        place: &place,
        peer: host(2),
        crowd: host(0),
        kernel_pids: &options.kernel_pid,
        window: Duration::try_from_secs_f64(options.seconds).map_err(io::Error::other)?,
        warm_up: WARM_UP,
    };
    let machine = place.describe();
    machine.iter().for_each(|(name, value)| println!("{name:<8} {value}"));
    println!();
    let mut all = Vec::new();
    for work in works {
        let seen = compare(work, &stage, options.pairs);
        println!("{}", seen.text());
        all.push(seen);
    }
    for seen in &all {
        println!("{}", seen.line());
    }
    if let Some(path) = &options.json {
        let works: Vec<_> = all.iter().map(Seen::json).collect();
        let document = json!({
            "machine": machine.into_iter().collect::<BTreeMap<_, _>>(),
            "is_over_veth": options.netns.is_some(),
            "pairs": options.pairs,
            "seconds": options.seconds,
            "works": works,
        });
        let text = format!("{document:#}\n");
        rtcctl::sys::fs::write_atomic(path, text.as_bytes(), 0o644).map_err(io::Error::other)?;
    }
    Ok(all.iter().all(|seen| seen.complaints.is_empty()))
}

/// Lets the servers work in turn, the other way round in every second pair.
fn compare<'a>(work: &'a Work, stage: &Stage<'_>, pairs: usize) -> Seen<'a> {
    let mut seen = Seen { work, runs: BTreeMap::new(), complaints: Vec::new() };
    let mut kinds = work.kinds.to_vec();
    for pair in 0..pairs {
        for kind in kinds.clone() {
            let run = work.run(kind, stage).map_err(|error| where_is(&error, kind.name()));
            if let Err(error) = &run {
                seen.complaints.push(format!("pair {}: {error}", pair + 1));
                // What fails once would fail again, after the same timeouts.
                kinds.retain(|other| *other != kind);
            }
            let runs = seen.runs.entry(kind).or_default();
            // A server that dropped out leaves no gap in the pairs of the others.
            runs.resize(pair, None);
            runs.push(run.ok());
        }
        kinds.reverse();
    }
    seen
}

/// Keeps to the last core, and makes room for descriptors; servers inherit that.
fn prepare() -> io::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    if most < DESCRIPTORS {
        println!("note: only {most} descriptors may be open here: what needs 10,000 allocations will fail");
    }
    let cores = std::thread::available_parallelism()?.get();
    if cores < 2 {
        println!("note: server and generator share the one core here: figures are of little use");
    } else if cores < 4 {
        println!("note: {cores} cores here: two server cores share one with the generator, so `cores` shows no limit");
    }
    let mut set = CpuSet::new();
    set.set(cores - 1)?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    server::prefer(std::process::id());
    Ok(())
}

/// An error with what it is about in front.
pub(crate) fn where_is(error: &io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
