//! Another program takes over while people use the service, and one that is broken does not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start programs and edit files")]

mod common;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/knocker.rs"]
mod knocker;
#[path = "common/polls.rs"]
mod polls;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/socket_io.rs"]
mod socket_io;
#[path = "common/storm.rs"]
mod storm;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/stream_client.rs"]
mod stream_client;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::ports::free_port;
use knocker::Knocker;
use polls::Polls;
use serde_json::Value;
use socket_io::Socket;
use storm::Storm;
use stream_client::{connect, connect_tls};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How long something may take that happens within seconds.
const SOON: Duration = Duration::from_secs(30);
/// What the programs call themselves, and what a newer one does: of the same length.
const VERSION: &str = env!("CARGO_PKG_VERSION");
const NEWER: &str = "0.1.7";
/// The variable that names a place at which a debug build ends, and another one that only a changed program reads.
const FAULT: &str = "RTCCTL_FAULT";
const OTHER_FAULT: &str = "RTCCTL_FAUL7";

/// A program of its own, and a service that was started from it.
struct Host {
    dir: tempfile::TempDir,
    ports: [u16; 3],
}

impl Host {
    /// Set up, and started with these variables.
    fn start(variables: &[(&str, &str)]) -> Self {
        let host = Self { dir: tempfile::tempdir().unwrap(), ports: [free_port(), free_port(), free_port()] };
        std::fs::create_dir(host.dir.path().join("bin")).unwrap();
        // Without what debuggers want, it is a fifth as long, and everything here takes less time.
        let (built, original) = (env!("CARGO_BIN_EXE_rtcctl"), host.original());
        let stripped = Command::new("strip").args(["-g", "-o"]).arg(&original).arg(built).status();
        if !stripped.is_ok_and(|status| status.success()) {
            std::fs::copy(built, &original).unwrap();
        }
        std::fs::copy(&original, host.program()).unwrap();
        let [web, http, turn] = host.ports.map(|port| port.to_string());
        host.run(&[
            "init",
            "--yes",
            "--offline",
            "--reach",
            "lan",
            "--host",
            "localhost",
            "--host",
            "127.0.0.1",
            "--web-port",
            &web,
            "--http-port",
            &http,
            "--turn-port",
            &turn,
        ]);
        let output = host.command(&["start"]).envs(variables.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        host
    }

    fn program(&self) -> PathBuf {
        self.dir.path().join("bin/rtcctl")
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.program());
        command.arg("--home").arg(self.home()).args(args).env_remove("RTCCTL_HOME");
        command
    }

    fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn run(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn status(&self) -> Value {
        serde_json::from_slice(&self.output(&["status", "--json"]).stdout).unwrap()
    }

    /// A file with the program of this host, with these words in the place of others.
    fn other(&self, name: &str, words: &[(&str, &str)]) -> String {
        let path = self.dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::copy(self.original(), &path).unwrap();
        for (from, to) in words {
            replace(&path, from, to);
            assert!(is_in(&path, to), "{to}");
        }
        path
    }

    /// The program that was there first.
    fn original(&self) -> PathBuf {
        self.dir.path().join("original")
    }

    /// A refused upgrade changes nothing: neither the program, nor who runs.
    fn refuses(&self, file: &str, more: &[&str], code: i32, wanted: &str) {
        let before = (std::fs::read(self.program()).unwrap().len(), self.status()["pid"].clone());
        let output = self.output(&[&["upgrade", file][..], more].concat());
        let told = said(&output);
        assert_eq!(output.status.code(), Some(code), "{file}: {told}");
        assert!(told.contains(wanted), "{file}: {told}");
        assert_eq!((std::fs::read(self.program()).unwrap().len(), self.status()["pid"].clone()), before, "{file}");
        assert!(!self.dir.path().join("bin/rtcctl.new").exists(), "{file}");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.output(&["stop"]);
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Puts `to` in the place of each `from`.
fn replace(file: &str, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let script = format!("s|{}|{to}|g", from.replace('.', "\\."));
    let output = Command::new("sed").args(["-i", &script, file]).env("LC_ALL", "C").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

fn is_in(file: &str, word: &str) -> bool {
    let status = Command::new("grep").args(["-qaF", word, file]).env("LC_ALL", "C").status();
    status.unwrap().success()
}

/// Writes `bytes` into a file, in the place of those at `offset`.
fn patch(file: &str, offset: u64, bytes: &[u8]) {
    let file = std::fs::File::options().write(true).open(file).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

fn page(port: u16) -> Result<(), String> {
    let line =
        ["-skfo", "/dev/null", "--max-time", "20", &format!("https://localhost:{port}/healthz")].map(str::to_owned);
    let output = Command::new("curl").args(line).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(format!("{:?} {}", output.status.code(), said(&output))) }
}

/// `RTCCTL_UPGRADES` says how many.
#[test]
fn upgrades_in_a_row_refuse_nobody() {
    let rounds: usize = std::env::var("RTCCTL_UPGRADES").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let host = Host::start(&[]);
    let newer = host.other("newer", &[(VERSION, NEWER)]);
    let same = host.other("same", &[]);
    // The same program is no reason to disturb anybody.
    let pid = host.status()["pid"].clone();
    let told: Value = serde_json::from_str(&host.run(&["upgrade", &same, "--json"])).unwrap();
    assert_eq!((told["result"].as_str(), &host.status()["pid"]), (Some("unchanged"), &pid));
    let knocker = Knocker::at(&host.ports);
    let storm = Storm::of(12, host.ports[0], Duration::from_millis(5));
    let mut longest = Duration::ZERO;
    for round in 0..rounds {
        let file = if round % 2 == 0 { &newer } else { &same };
        let begun = Instant::now();
        let socket = Socket::connect(host.ports[0]);
        let told = host.run(&["upgrade", file, "--force", "--watch", "1s", "--json"]);
        longest = longest.max(begun.elapsed());
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["result"], "upgraded", "{told}");
        let status = host.status();
        let version = if round % 2 == 0 { NEWER } else { VERSION };
        assert_eq!((status["version"].as_str(), status["state"].as_str()), (Some(version), Some("ready")), "{status}");
        assert_eq!(status["guardian"]["restarts"], 0, "{status}");
        // The one from before has ended, so that a page comes back at once.
        drop(socket.rest());
        page(host.ports[0]).unwrap();
    }
    let (knocks, visits) = (knocker.end(), storm.end());
    println!(
        "{rounds} upgrades, the longest {longest:?}; {knocks} knocks and {visits} visits, none refused or cut off"
    );
    assert!(knocks > 0 && visits > 0);
    assert!(host.program().with_file_name("rtcctl.previous").exists());
    let left = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    let own = format!("rtcctl-rehearsal-{}-", std::process::id());
    assert!(!left.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with(&own)));
}

/// When the daemon last went from one state to the other.
fn went(host: &Host, from: &str, to: &str) -> Option<OffsetDateTime> {
    let events = host.run(&["events", "--json"]);
    let mut events = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let last = events.rfind(|event| event["kind"] == "daemon" && event["from"] == from && event["to"] == to)?;
    Some(OffsetDateTime::parse(last["at"].as_str()?, &Rfc3339).unwrap())
}

#[test]
fn at_the_end_those_who_have_come_are_answered_and_nobody_slow_is_waited_for() {
    let host = Host::start(&[]);
    let port = host.ports[0];
    // One that has connected and said nothing yet, and four who do not come to an end.
    let late = connect(port);
    let mut half_a_hello = connect(port);
    half_a_hello.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
    let silent = connect_tls(port, &["http/1.1"]);
    let mut half_a_head = connect_tls(port, &["http/1.1"]);
    half_a_head.write_all(b"GET / HTTP/1.1\r\nHost: local").unwrap();
    let mut half_a_body = connect_tls(port, &["http/1.1"]);
    half_a_body.write_all(b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{").unwrap();
    let restarting = std::thread::spawn({
        let mut restart = host.command(&["restart"]);
        move || restart.output().unwrap()
    });
    common::until("the end begins", SOON, || went(&host, "running", "stopping").is_some());
    storm::ask(late).unwrap();
    let output = restarting.join().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let took = went(&host, "stopping", "stopped").unwrap() - went(&host, "running", "stopping").unwrap();
    // A handshake alone may take ten seconds otherwise.
    assert!(took < Duration::from_secs(4), "{took}");
    println!("the end took {took}");
    drop((half_a_hello, silent, half_a_head, half_a_body));
}

/// Two browsers in a call, by `watch.mjs`; when both saw new pictures of each other is kept.
struct Call {
    child: std::process::Child,
    seen: std::sync::Arc<std::sync::Mutex<Vec<u64>>>,
}

impl Call {
    fn start(host: &Host) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
        let mut child = Command::new("node")
            .arg(folder.join("watch.mjs"))
            .env("URL", format!("https://localhost:{}", host.ports[0]))
            .env("CA", host.home().join("certs/ca.pem"))
            .env("NETWORKS", ",")
            .env("RTCCTL", "[]")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let (kept, output) = (std::sync::Arc::clone(&seen), BufReader::new(child.stdout.take().unwrap()));
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some(at) = line.strip_prefix("call ").and_then(|at| at.parse().ok()) {
                    kept.lock().unwrap().push(at);
                }
            }
        });
        let call = Self { child, seen };
        let end = Instant::now() + Duration::from_secs(120);
        while call.count() < 20 {
            assert!(Instant::now() < end, "the browsers do not see each other");
            std::thread::park_timeout(Duration::from_millis(100));
        }
        call
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// The times without new pictures of a second or more, longest first, and the whole time, in milliseconds.
    fn pauses(&self) -> (Vec<u64>, u64) {
        let mut seen = self.seen.lock().unwrap().clone();
        seen.sort_unstable();
        let mut pauses: Vec<u64> =
            seen.windows(2).map(|pair| pair[1] - pair[0]).filter(|span| *span >= 1_000).collect();
        pauses.sort_unstable_by(|one, other| other.cmp(one));
        (pauses, seen[seen.len() - 1] - seen[0])
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // The end of its input is what it ends by, with the browsers that it has started.
        drop(self.child.stdin.take());
        let end = Instant::now() + SOON;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::park_timeout(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `RTCCTL_UPGRADES` says how many; 50 if it does not.
#[test]
#[ignore = "takes some minutes and two browsers"]
fn a_call_between_two_browsers_goes_on_through_fifty_upgrades() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    if !(common::has_program("node") && common::has_program("chromium") && common::npm_ci(&folder)) {
        return;
    }
    let rounds: usize = std::env::var("RTCCTL_UPGRADES").ok().and_then(|text| text.parse().ok()).unwrap_or(50);
    let host = Host::start(&[]);
    let newer = host.other("newer", &[(VERSION, NEWER)]);
    let same = host.other("same", &[]);
    let call = Call::start(&host);
    let (knocker, polls) = (Knocker::at(&host.ports), Polls::of(host.ports[0]));
    let begun = Instant::now();
    for round in 0..rounds {
        let file = if round % 2 == 0 { &newer } else { &same };
        let told = host.run(&["upgrade", file, "--force", "--watch", "1s", "--json"]);
        assert!(told.contains("\"upgraded\""), "{told}");
    }
    let took = begun.elapsed();
    let (knocks, polls) = (knocker.end(), polls.end());
    let before = call.count();
    let end = Instant::now() + SOON;
    while call.count() < before + 10 {
        assert!(Instant::now() < end, "the browsers see each other no more");
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let (pauses, whole) = call.pauses();
    println!(
        "{rounds} upgrades in {took:?}; {knocks} knocks, none refused; {polls}; the call was seen for {whole} ms, with \
         pauses of its pictures of {pauses:?} ms"
    );
    // The pictures go from one browser to the other; a machine that is busy paints late.
    assert!(pauses.iter().all(|pause| *pause < 3_000), "{pauses:?} ms without a new picture");
}

#[test]
fn a_broken_program_never_takes_over() {
    let host = Host::start(&[]);
    let file = |name: &str| host.dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(file("script"), "#!/bin/sh\necho rtcctl 9.9.9\n").unwrap();
    host.refuses(&file("script"), &[], 1, "no ELF header");
    let foreign = host.other("foreign", &[]);
    patch(&foreign, 18, &[0xfe, 0xff]);
    host.refuses(&foreign, &[], 1, "does not run on this machine");
    let half = host.other("half", &[]);
    std::fs::File::options().write(true).open(&half).unwrap().set_len(1 << 20).unwrap();
    host.refuses(&half, &[], 1, "everything is as it was");
    host.refuses(&host.other("good", &[(VERSION, NEWER)]), &["--sha256", &"0".repeat(64)], 1, "its SHA-256 is");
    host.refuses(&file("nothing"), &[], 1, "cannot read");
    // Programs that are none of ours: one says nothing, one ends badly, one never ends.
    for (program, wanted) in [("true", "is no rtcctl"), ("false", "fails")] {
        std::fs::copy(Path::new("/usr/bin").join(program), file(program)).unwrap();
        host.refuses(&file(program), &[], 1, wanted);
    }
    // It says who it is, and dies when it starts.
    let crashes = host.other("crashes", &[("control.sock", "control/sock")]);
    host.refuses(&crashes, &[], 1, "everything is as it was");
    page(host.ports[0]).unwrap();
}

#[test]
#[ignore = "waits for one that hangs"]
fn a_program_that_hangs_never_takes_over() {
    if !common::has_program("cc") {
        return;
    }
    let host = Host::start(&[]);
    let file = |name: &str| host.dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(file("hangs.c"), "int pause(void); int main(void) { return pause(); }\n").unwrap();
    let built = Command::new("cc").args(["-o", &file("hangs"), &file("hangs.c")]).output().unwrap();
    assert!(built.status.success(), "{}", said(&built));
    host.refuses(&file("hangs"), &[], 1, "has not ended within 5 s");
    page(host.ports[0]).unwrap();
}

#[test]
fn an_upgrade_that_is_killed_is_ended_by_the_next_one() {
    let host = Host::start(&[]);
    let newer = host.other("newer", &[(VERSION, NEWER)]);
    let knocker = Knocker::at(&host.ports);
    let output = host.command(&["upgrade", &newer]).env(FAULT, "upgrade-swapped").output().unwrap();
    assert_eq!(output.status.code(), None, "{}", said(&output));
    // It is in place, and what runs is the one from before.
    assert_eq!(std::fs::read(host.program()).unwrap(), std::fs::read(&newer).unwrap());
    assert_eq!(host.status()["version"], VERSION);
    let told: Value = serde_json::from_str(&host.run(&["upgrade", &newer, "--watch", "1s", "--json"])).unwrap();
    assert_eq!(told["result"], "upgraded", "{told}");
    assert_eq!(host.status()["version"], NEWER);
    let previous = host.program().with_file_name("rtcctl.previous");
    assert_eq!(std::fs::read(&previous).unwrap(), std::fs::read(host.original()).unwrap(), "it can be gone back to");
    let told: Value = serde_json::from_str(&host.run(&["upgrade", &newer, "--json"])).unwrap();
    assert_eq!(told["result"], "unchanged", "{told}");
    assert!(knocker.end() > 0);
}

#[test]
fn a_file_that_is_no_program_or_does_not_fit_leaves_everything_as_it_was() {
    let host = Host::start(&[]);
    let file = |name: &str| host.dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::create_dir(file("folder")).unwrap();
    host.refuses(&file("folder"), &[], 1, "is no file");
    std::fs::write(file("empty"), "").unwrap();
    host.refuses(&file("empty"), &[], 1, "no ELF header");
    assert!(Command::new("mkfifo").arg(file("pipe")).status().unwrap().success());
    host.refuses(&file("pipe"), &[], 1, "is no file");
    // Nobody has to make it executable before.
    let newer = host.other("newer", &[(VERSION, NEWER)]);
    std::fs::set_permissions(&newer, std::fs::Permissions::from_mode(0o400)).unwrap();
    // Two at once: one goes through, the other is told.
    let both = [(); 2].map(|()| {
        let mut command = host.command(&["upgrade", &newer, "--watch", "1s"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    let mut codes = both.map(|child| {
        let output = child.wait_with_output().unwrap();
        (output.status.code().unwrap(), said(&output))
    });
    codes.sort_unstable();
    assert_eq!((codes[0].0, codes[1].0), (0, 14), "{codes:?}");
    assert!(codes[1].1.contains("another upgrade of"), "{codes:?}");
    assert_eq!(host.status()["version"], NEWER);
    if !nix::unistd::geteuid().is_root() {
        return common::skip("only root can make a disk that is full");
    }
    // A disk on which there is no room for another program.
    let script = "mkdir \"$1/small\" && mount -t tmpfs -o size=$(($(stat -c %s \"$1/original\") * 3 / 2)) tmpfs \"$1/small\"\n\
                  cp \"$1/original\" \"$1/small/rtcctl\"\n\
                  \"$1/small/rtcctl\" --home \"$1/other\" upgrade \"$1/newer\" || echo \"code $?\"\n\
                  cmp \"$1/original\" \"$1/small/rtcctl\" && ls -A \"$1/small\"";
    let mut command = Command::new("unshare");
    let output = command.args(["--mount", "sh", "-ec", script, "sh"]).arg(host.dir.path()).output().unwrap();
    let told = said(&output);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("code 1\nrtcctl\n") && told.contains("o space left on device"), "{told}");
}

#[test]
fn a_program_that_serves_its_rehearsal_and_not_this_home_is_taken_back_by_itself() {
    // Only a changed program reads this variable, and dies of it where it is set: not at its rehearsal.
    let host = Host::start(&[(OTHER_FAULT, "daemon-prepared")]);
    let file = host.other("dies", &[(FAULT, OTHER_FAULT), (VERSION, NEWER)]);
    let knocker = Knocker::at(&host.ports);
    let output = host.output(&["upgrade", &file, "--watch", "1s"]);
    let told = said(&output);
    assert_eq!(output.status.code(), Some(16), "{told}");
    assert!(told.contains("was not taken") && told.contains("serves again"), "{told}");
    assert_eq!(host.status()["version"], VERSION);
    let end = Instant::now() + SOON;
    while host.status()["state"] != "ready" {
        assert!(Instant::now() < end, "{}", host.status());
        std::thread::park_timeout(Duration::from_millis(100));
    }
    page(host.ports[0]).unwrap();
    assert!(knocker.end() > 0);
    let mode = host.program().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111, "it can be run");
    assert_eq!(std::fs::read(host.program()).unwrap(), std::fs::read(host.original()).unwrap());
    // A restart of what a package manager has replaced is of the program in place, and refuses nobody either.
    let knocker = Knocker::at(&host.ports);
    let next = host.other("bin/next", &[(VERSION, NEWER)]);
    std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(next, host.program()).unwrap();
    host.run(&["restart"]);
    assert_eq!(host.status()["version"], NEWER);
    assert!(knocker.end() > 0);
}
