//! Chaos: faults of every kind, one after another, in the middle of live calls, while users of every kind watch.
//!
//! `scripts/chaos` runs the long form. `RTCCTL_CHAOS_SECONDS` and `RTCCTL_CHAOS_SEED` say how long and in which order.
//! The service has a network and a disk of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start programs, spoil files and measure")]
#![expect(clippy::print_stdout, reason = "it reports")]

mod bounds;
mod inject;
mod machine;
mod plan;
mod report;
mod signs;
mod watchers;

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "../common/datagrams.rs"]
mod datagrams;
#[path = "../common/footprint.rs"]
mod footprint;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "../common/service.rs"]
mod service;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "../common/stream_client.rs"]
mod stream_client;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{has_program, npm_ci, skip};
use footprint::Footprint;
use inject::{Victim, pass, until};
use machine::Machine;
use nix::sched::{CloneFlags, unshare};
use plan::{Fault, Step};
use report::{Outcome, totals};
use rtcctl::control::protocol::Finding;
use rtcctl::supervisor::board::State;
use rtcctl::supervisor::service::TaskName;
use service::Service;
use signs::{Channel, Signs};
use watchers::{Target, Watchers};

/// The service's address, on a cable that leads nowhere: browsers do not call by loopback.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// How long nothing is done before and after: what is noticed then is noise.
const QUIET: Duration = Duration::from_secs(3);
/// How much the memory of one that was restarted and hurt may be more than that of one that has just begun.
const MEMORY_KIB: u64 = 16 * 1024;

fn now() -> Instant {
    rtcctl::sys::clock::now().mono
}

/// The time of a fault, until everybody was served again.
struct Span {
    step: Step,
    from: Instant,
    over: Instant,
    ready_after: Duration,
}

/// How much is done, and who watches.
struct Size {
    length: Duration,
    seed: u64,
    relayed_call: bool,
    faults: Vec<Fault>,
}

#[test]
fn a_short_storm_of_faults_is_noticed_no_longer_than_promised() {
    storm(&Size { length: Duration::from_secs(45), seed: 4, relayed_call: false, faults: Fault::all() });
}

#[test]
#[ignore = "it takes as long as RTCCTL_CHAOS_SECONDS says"]
fn a_long_storm_of_faults_is_noticed_no_longer_than_promised() {
    let number = |name, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let length = Duration::from_secs(number("RTCCTL_CHAOS_SECONDS", 600));
    let only = std::env::var("RTCCTL_CHAOS_ONLY").unwrap_or_default();
    let is_wanted = |fault: &Fault| only.is_empty() || fault.to_string() == only;
    let faults: Vec<Fault> = Fault::all().into_iter().filter(is_wanted).collect();
    assert!(!faults.is_empty(), "no fault is called `{only}`");
    storm(&Size { length, seed: number("RTCCTL_CHAOS_SEED", 1), relayed_call: true, faults });
}

fn storm(size: &Size) {
    if !nix::unistd::geteuid().is_root() {
        return skip("chaos needs root for a network and a disk of its own");
    }
    if !["ip", "mount", "prlimit"].into_iter().all(has_program) {
        return;
    }
    // Packages come from a network that is not there any more in a moment.
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let has_node = has_program("node") && has_program("npm");
    let has_room = has_node && npm_ci(&tests.join("signaling"));
    let has_browsers = has_node && has_program("chromium") && has_program("certutil") && npm_ci(&tests.join("browser"));
    let machine = Machine::watch();
    let disk = tempfile::tempdir().unwrap();
    let _own = OwnDisk::mount(disk.path());
    make_a_cable();
    let address = ADDRESS.to_string();
    let victim = Victim::new(Service::start_in(
        disk.path(),
        &[
            ("hosts", &format!("[{address}, localhost, 127.0.0.1]")),
            ("turn.relay_ips", &format!("[{address}]")),
            ("turn.user_quota", "1000"),
            ("signaling.max_rate", "10000"),
        ],
        // What is killed so often would be held otherwise.
        &["start", "--endurance"],
    ));
    let target = Target {
        address: ADDRESS,
        web_port: victim.service.web_port,
        turn_port: victim.service.turn_port,
        url: format!("https://{address}:{}", victim.service.web_port),
        ca: victim.service.ca_file(),
    };
    let signs = Signs::default();
    let mut watchers = Watchers::start(&target, &signs);
    let mut wanted = vec![Channel::Page, Channel::RelayUdp, Channel::RelayTls];
    if has_room {
        watchers.add_room(&target, &signs);
        wanted.push(Channel::Room);
    }
    if has_browsers {
        watchers.add_browsers(&target, &signs, size.relayed_call);
        wanted.extend([Channel::Call, Channel::CallRoom]);
        wanted.extend(size.relayed_call.then_some(Channel::RelayedCall));
    }
    for channel in &wanted {
        until(&format!("a sign of {channel}"), || signs.channels().contains(channel).then_some(()));
    }
    victim.until_ready("before the storm");
    pass(QUIET);
    let calm = Footprint::of(victim.daemon());
    // The first panic of a process reads the lines of the whole program for its backtrace, and keeps them.
    victim.suffer(&Step { pause: Duration::ZERO, fault: Fault::Panic(TaskName::Certs), escalates: false });
    victim.until_ready("before the storm");
    pass(QUIET);
    let panicked = Footprint::of(victim.daemon());
    let guardian_before = Footprint::of(victim.guardian());

    let steps = plan::plan(size.seed, size.length, &size.faults);
    println!(
        "seed {}, {} faults, watched by {}",
        size.seed,
        steps.len(),
        wanted.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", ")
    );
    let begin = now();
    let mut spans: Vec<Span> = Vec::new();
    let judge = |span: &Span| Outcome {
        step: span.step.clone(),
        at: span.from - begin,
        noticed: wanted.iter().map(|channel| (*channel, signs.noticed(*channel, span.from, span.over))).collect(),
        ready_after: span.ready_after,
        slowness: machine.slowness(span.from, span.over),
    };
    for step in steps {
        pass(step.pause);
        let from = now();
        victim.suffer(&step);
        let over = now();
        victim.until_ready(&step.fault.to_string());
        let ready_after = now() - from;
        let mut served_since = over;
        if step.fault.hung().is_some() {
            // Whom the rest of a hanging instance served has lost it just now, by the new one, and may not show it yet.
            pass(QUIET);
            served_since = now();
        }
        for channel in &wanted {
            let what = format!("{channel} after {}", step.fault);
            until(&what, || signs.is_served_since(*channel, served_since).then_some(()));
        }
        spans.push(Span { step, from, over: now(), ready_after });
        // Who watches may tell a little late.
        if let [.., before, _] = &spans[..] {
            println!("{}", judge(before).line());
        }
    }
    pass(QUIET);
    if let Some(last) = spans.last() {
        println!("{}", judge(last).line());
    }
    let outcomes: Vec<Outcome> = spans.iter().map(judge).collect();
    println!("\n{}", totals(&outcomes, &wanted));
    let complaints: Vec<String> = outcomes.iter().flat_map(Outcome::complaints).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));

    // All is well, and nothing has leaked.
    let status = until("a status", || victim.status());
    let hangs: u64 = status.tasks.iter().map(|task| task.hangs).sum();
    if hangs > 0 {
        // An instance that hangs is cut off and cannot be ended: only another process is rid of its threads.
        victim.service.run(&["restart"]);
        victim.until_ready("after the storm");
    }
    // That the clock jumped is told for ten minutes.
    let is_left = |finding: &&Finding| finding.code != "clock-jumped";
    let status = until("a status", || victim.status());
    let findings: Vec<&Finding> = status.findings.iter().filter(is_left).collect();
    assert!(status.state == State::Ready && findings.is_empty(), "{:?}: {findings:#?}", status.state);
    let is_back = |what: &str, pid: u32, before: Footprint| {
        let after = Footprint::once(pid, Duration::from_secs(60), |found| is_within(found, before));
        println!("{what}: {before:?} became {after:?}");
        assert!(is_within(after, before), "{what}: {before:?} became {after:?}");
    };
    for channel in &wanted {
        until("everybody is served again", || signs.is_served_since(*channel, now() - QUIET).then_some(()));
    }
    let has_panicked = until("a status", || victim.status()).tasks.iter().any(|task| task.panics > 0);
    is_back("daemon", victim.daemon(), if has_panicked { panicked } else { calm });
    is_back("guardian", victim.guardian(), guardian_before);
    drop(watchers);
}

/// This thread and all it starts have a network of their own, and a small disk that nobody else sees.
struct OwnDisk(PathBuf);

impl OwnDisk {
    fn mount(at: &Path) -> Self {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        run("mount --make-rprivate /");
        // As much as keeps its status from telling of a disk that is almost full.
        run(&format!("mount -t tmpfs -o size=96m,mode=0700 chaos {}", at.display()));
        Self(at.to_owned())
    }
}

impl Drop for OwnDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn make_a_cable() {
    run("ip link set lo up");
    run("ip link add eth0 type veth peer name far");
    // An address that comes by itself a second later makes Chromium drop what it loads.
    run("ip link set eth0 addrgenmode none");
    run("ip link set far addrgenmode none");
    run(&format!("ip address add {ADDRESS}/24 dev eth0"));
    run("ip link set eth0 up");
    run("ip link set far up");
    // Chromium gathers no candidate where there is no interface with a default route.
    run("ip route add default via 10.96.0.2");
}

fn run(line: &str) {
    let (program, arguments) = line.split_once(' ').unwrap();
    assert!(Command::new(program).args(arguments.split(' ')).status().unwrap().success(), "{line}");
}

/// Those who watch have a relay more or less from moment to moment, and browsers as many connections as they like.
fn is_within(found: Footprint, before: Footprint) -> bool {
    let own = |one: Footprint| one.descriptors - one.connections.min(one.descriptors);
    own(found) <= own(before) + 4
        && found.threads <= before.threads + 1
        && found.memory_kib <= before.memory_kib + MEMORY_KIB
}
