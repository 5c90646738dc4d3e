//! Compares signaling with Node's socket.io: `scripts/bench signaling` builds and runs this.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

#[path = "signaling/client.rs"]
mod client;
#[path = "signaling/crowd.rs"]
mod crowd;
#[expect(dead_code, reason = "another generator uses more of it")]
mod measure;
#[expect(clippy::unwrap_used, reason = "it is shared with tests")]
#[path = "../common/ports.rs"]
mod ports;
#[path = "signaling/servers.rs"]
mod servers;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use rustls::ClientConfig;

use crowd::{Crowd, Faults, block_on};
use measure::{Clock, median, percentile, resident, usage};
use servers::{Kind, Place, prefer};

/// A crowd that has come rests so long before anything is measured.
const CALM: Duration = Duration::from_secs(2);
/// Resident memory that has not fallen for so long stays, and how long it may take to fall.
const FALLEN_FOR: Duration = Duration::from_secs(3);
const FALLEN_WITHIN: Duration = Duration::from_secs(45);
/// Messages that everyone sends at once, and how often, when it is asked how many a server can relay.
const HANDFUL: usize = 4;
const ROUNDS: usize = 5;

#[derive(Parser)]
struct Options {
    /// The rtcctl to be measured.
    #[arg(long)]
    rtcctl: PathBuf,
    /// The server of Node's socket.io; its packages are beside it.
    #[arg(long)]
    node_server: PathBuf,
    /// A folder for a home and certificates.
    #[arg(long)]
    scratch: PathBuf,
    /// How often each server is measured.
    #[arg(long, default_value_t = 3)]
    pairs: usize,
    /// Socket.IO clients, two in a room.
    #[arg(long, default_value_t = 5000)]
    clients: usize,
    /// Messages a second.
    #[arg(long, default_value_t = 2000)]
    rate: u64,
    /// Seconds of talk at that rate.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Pings of each client in silence, as often as the server sends them.
    #[arg(long, default_value_t = 1)]
    idle: u32,
    /// Only one server: socket.io or rtcctl.
    #[arg(long)]
    only: Option<String>,
}

/// What one server has shown once.
struct Run {
    /// Microseconds of CPU a message, at the even rate and flat out.
    cpu: f64,
    cpu_flat_out: f64,
    /// Milliseconds.
    p50: f64,
    p99: f64,
    /// Kibibytes a client.
    memory: f64,
    /// Milliseconds of CPU a second while nobody says anything.
    idle: f64,
    /// Resident memory after all have left, by what it was before.
    left_over: f64,
    resident: [u64; 3],
    faults: Faults,
}

/// What is compared: its name and unit, the value, and the ratio that is wanted.
type Figure = (&'static str, &'static str, fn(&Run) -> f64, Option<f64>);

const FIGURES: [Figure; 6] = [
    ("CPU a message", "us", |run| run.cpu, Some(0.5)),
    ("CPU a message, flat out", "us", |run| run.cpu_flat_out, None),
    ("latency, median", "ms", |run| run.p50, None),
    ("latency, 99th percentile", "ms", |run| run.p99, Some(0.1)),
    ("memory a client", "KiB", |run| run.memory, Some(0.7)),
    ("CPU while idle", "ms/s", |run| run.idle, Some(0.2)),
];

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    prepare(options)?;
    let place = Place::new(&options.rtcctl, &options.node_server, &options.scratch, options.clients)?;
    let clock = Clock::new();
    place.describe().iter().for_each(|(name, value)| println!("{name:<8} {value}"));
    println!(
        "crowd    {} clients in {} rooms, {} messages a second",
        options.clients,
        options.clients / 2,
        options.rate
    );
    let mut kinds = vec![Kind::Node, Kind::Rtcctl];
    kinds.retain(|kind| options.only.as_deref().is_none_or(|only| only == kind.name()));
    let mut runs: [Vec<Run>; 2] = Default::default();
    for pair in 0..options.pairs {
        for kind in kinds.clone() {
            let run = measure(&place, kind, options, clock)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", kind.name())))?;
            print_run(pair, kind, &run);
            runs[kind as usize].push(run);
        }
        kinds.reverse();
    }
    println!();
    report(&runs);
    Ok(())
}

/// Keeps to the last core, and makes room for descriptors; servers inherit that.
fn prepare(options: &Options) -> io::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    // The service lets connections have a quarter of its descriptors.
    if most < options.clients as u64 * 4 + 1000 {
        println!("note: only {most} descriptors may be open here, too few for {} clients", options.clients);
    }
    let cores = std::thread::available_parallelism()?.get();
    if cores < 2 {
        println!("note: server and generator share the one core here: figures are of little use");
    }
    let mut set = CpuSet::new();
    set.set(cores - 1)?;
    sched_setaffinity(Pid::from_raw(0), &set)?;
    prefer(std::process::id());
    Ok(())
}

fn measure(place: &Place, kind: Kind, options: &Options, clock: Clock) -> io::Result<Run> {
    let server = place.start(kind, clock)?;
    prefer(server.pid);
    let tls: Arc<ClientConfig> = place.tls()?;
    let cpu = || usage(&[server.pid]).cpu as f64;
    let memory = || resident(server.pid).ok_or_else(|| io::Error::other("the server has ended"));
    block_on(async {
        tokio::time::sleep(CALM).await;
        let at_start = memory()?;
        let mut crowd = Crowd::gather(place.address, options.clients, &tls, clock).await?;
        tokio::time::sleep(CALM).await;
        let (full, before, began) = (memory()?, cpu(), clock.now());
        let pings_every = crowd.pings_every();
        tokio::time::sleep(pings_every * options.idle).await;
        let idle = (cpu() - before) / 1e6 / ((clock.now() - began) as f64 / 1e9);
        // What a crowd says for the first time may find things cold.
        crowd.talk_at_once(1, 1).await?;
        let before = cpu();
        let span = Duration::from_secs_f64(options.seconds);
        let (count, mut latencies) = crowd.talk_evenly(options.rate, span).await?;
        let talk = (cpu() - before) / 1e3 / count as f64;
        latencies.sort_unstable();
        let before = cpu();
        let count = crowd.talk_at_once(HANDFUL, ROUNDS).await?;
        let flat_out = (cpu() - before) / 1e3 / count as f64;
        let faults = crowd.leave().await;
        let after = fallen(&memory, pings_every, clock).await?;
        let quantile = |share| percentile(&latencies, share).unwrap_or(f64::NAN) / 1e6;
        Ok(Run {
            cpu: talk,
            cpu_flat_out: flat_out,
            p50: quantile(0.5),
            p99: quantile(0.99),
            memory: full.saturating_sub(at_start) as f64 / 1024.0 / options.clients as f64,
            idle,
            left_over: after as f64 / at_start as f64,
            resident: [at_start, full, after],
            faults,
        })
    })?
}

/// Resident memory once it falls no more.
async fn fallen(memory: &impl Fn() -> io::Result<u64>, pings_every: Duration, clock: Clock) -> io::Result<u64> {
    let began = clock.now();
    let (mut least, mut fell_at) = (memory()?, began);
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let (bytes, now) = (memory()?, clock.now());
        // The last few pages of a percent are noise.
        if bytes < least - least / 200 {
            (least, fell_at) = (bytes, now);
        }
        let past = |since| Duration::from_nanos(now - since);
        if past(fell_at) > FALLEN_FOR && past(began) > pings_every || past(began) > FALLEN_WITHIN {
            return Ok(bytes.min(least));
        }
    }
}

fn print_run(pair: usize, kind: Kind, run: &Run) {
    let mib = run.resident.map(|bytes| bytes as f64 / f64::from(1 << 20));
    println!(
        "{:<9} {pair} {:6.1} us a message ({:5.1} flat out), {:6.2} ms median, {:7.2} ms p99, {:5.1} KiB a client, idle \
         {:5.1} ms/s, {:.0} -> {:.0} -> {:.0} MiB, faults {:?}",
        kind.name(),
        run.cpu,
        run.cpu_flat_out,
        run.p50,
        run.p99,
        run.memory,
        run.idle,
        mib[0],
        mib[1],
        mib[2],
        run.faults
    );
}

fn report([node, own]: &[Vec<Run>; 2]) {
    let medians =
        |runs: &[Run], value: fn(&Run) -> f64| median(&runs.iter().map(value).collect::<Vec<_>>()).unwrap_or(f64::NAN);
    for (name, unit, value, wanted) in FIGURES {
        let pairs: Vec<f64> = own.iter().zip(node).map(|(own, node)| value(own) / value(node)).collect();
        let ratio = median(&pairs).unwrap_or(f64::NAN);
        let verdict = wanted.map_or_else(String::new, |most| {
            format!("  wanted <= {most} x  {}", if ratio <= most { "met" } else { "MISSED" })
        });
        println!(
            "result {name:<25} {:9.2} {unit:<4} socket.io {:9.2} {unit:<4} ratio {ratio:5.2} x{verdict}",
            medians(own, value),
            medians(node, value)
        );
    }
    for (name, runs) in [("rtcctl", own), ("socket.io", node)] {
        let mut faults = Faults::default();
        runs.iter().for_each(|run| faults.add(run.faults));
        let left_over = medians(runs, |run| run.left_over);
        println!(
            "result {name}: {} lost, {} doubled, {} misrouted, {} out of order; memory after all have left {left_over:.2} x \
             of what it was{}",
            faults.lost,
            faults.doubled,
            faults.misrouted,
            faults.disordered,
            match name {
                "rtcctl" if faults.total() == 0 && left_over <= 1.2 => "  wanted 0 and <= 1.2 x  met",
                "rtcctl" => "  wanted 0 and <= 1.2 x  MISSED",
                _ => "",
            }
        );
    }
}
