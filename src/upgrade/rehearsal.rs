//! Runs a new program in a home of its own on spare ports, and on the configuration that it is to serve, before it
//! takes over anything.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::error::{Failure, Result};
use crate::home::Home;
use crate::sys::exec::{Ended, run_with};
use crate::sys::fs::create_private_dir;
use crate::sys::process::own_program;
use crate::text;
use crate::words::Text;

/// How long a program may take to say its version.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// How long each step of its rehearsal may take; a start has a deadline of its own below it.
const STEP_WITHIN: Duration = Duration::from_secs(90);
/// Bytes of what a step says that are kept.
const MAX_OUTPUT: usize = 256 * 1024;
/// Characters of what a failed step has said that are shown.
const SHOWN: usize = 600;
/// Variables by which a home is found.
const HOME_VARIABLES: [&str; 3] = ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"];

/// How often other ports are tried.
const TRIES: usize = 3;
/// What is said of a port that somebody has.
const TAKEN: [&str; 2] = ["Address already in use", "cannot use port"];
/// Below the ports that the kernel gives to whoever connects: those come and go all the time.
const SPARE: std::ops::Range<u16> = 10_000..30_000;
/// How the folders of rehearsals are called, before the process that made them.
const NAME: &str = "rtcctl-rehearsal-";

/// A program of this kind, by its file.
#[derive(Debug, Clone)]
pub struct Program(pub PathBuf);

impl Program {
    /// Runs it on a home until it ends. The answer is what it has said, whatever its exit code.
    ///
    /// # Errors
    /// If it cannot be started or does not end in time.
    pub fn run(&self, home: &Home, arguments: &[&str], within: Duration) -> Result<Ended> {
        let home = home.single_dir().map(|dir| ["--home".to_owned(), dir.display().to_string()]);
        let program = std::iter::once(self.0.display().to_string());
        let line: Vec<String> =
            program.chain(home.into_iter().flatten()).chain(arguments.iter().map(|word| (*word).to_owned())).collect();
        let variables: Vec<(&str, String)> =
            HOME_VARIABLES.into_iter().filter_map(|name| Some((name, std::env::var(name).ok()?))).collect();
        run_with(&line, &variables, b"", within, MAX_OUTPUT).map_err(|error| {
            let told = Failure::operator(text!("`{}` does not run", self.0.display()));
            if error.kind() == std::io::ErrorKind::TimedOut {
                told.because(text!("`{}` has not ended within {} s", arguments.join(" "), within.as_secs()))
            } else {
                told.caused_by(error)
            }
        })
    }

    /// As [`Program::run`], if it ends with one of these exit codes.
    fn step(&self, home: &Home, arguments: &[&str], within: Duration, codes: &[i32]) -> Result<String> {
        let ended = self.run(home, arguments, within)?;
        if ended.status.code().is_some_and(|code| codes.contains(&code)) {
            return Ok(ended.output);
        }
        let said = ended.output.trim();
        let said: String = said.chars().take(SHOWN).collect();
        let failure = Failure::operator(text!("`{} {}` fails", self.0.display(), arguments.join(" ")));
        let failure = failure.because(Text::verbatim(ended.status.to_string()));
        Err(if said.is_empty() { failure } else { failure.because(Text::verbatim(said)) })
    }

    /// The version that it says it is.
    ///
    /// # Errors
    /// If it says none.
    pub fn version(&self) -> Result<String> {
        let nowhere = Home::under(Path::new("/nonexistent"));
        let told = self.step(&nowhere, &["version"], TOLD_WITHIN, &[0])?;
        let version = told.trim().strip_prefix("rtcctl ").filter(|version| !version.is_empty() && version.len() < 80);
        version.map(str::to_owned).ok_or_else(|| {
            let said: String = told.trim().chars().take(80).collect();
            Failure::operator(text!("`{}` is no rtcctl", self.0.display()))
                .because(text!("it says `{}`", said.escape_debug()))
        })
    }
}

/// Has a program take the configuration of `home` and serve a home of its own, with all that a start looks at. Gives
/// its version.
///
/// # Errors
/// With the first step that failed, and what was said to it.
pub fn rehearse(program: &Program, home: &Home) -> Result<String> {
    let version = program.version()?;
    if home.config_file().exists() {
        program.step(home, &["config", "check"], STEP_WITHIN, &[0])?;
    }
    sweep();
    let dir = std::env::temp_dir().join(format!("{NAME}{}-{:08x}", std::process::id(), rand::random::<u32>()));
    create_private_dir(&dir)?;
    let scratch = Home::under(&dir.join("home"));
    let mut outcome = serve(program, &scratch);
    for _ in 1..TRIES {
        // Somebody took a port between when it was found free and when it was bound, which says nothing of the program.
        let told = outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
        if !TAKEN.iter().any(|taken| told.contains(taken)) {
            break;
        }
        let _ = std::fs::remove_dir_all(scratch.config_dir());
        outcome = serve(program, &scratch);
    }
    if outcome.is_err() {
        // One that hangs is ended by this program, which knows how; there may be none.
        let _ = Program(own_program()).run(&scratch, &["stop"], STEP_WITHIN);
    }
    // Its keys are nobody's; what stays of it harms nobody.
    let _ = std::fs::remove_dir_all(&dir);
    outcome.map(|()| version)
}

/// Ends what an upgrade has left that was killed in the middle of its rehearsal.
fn sweep() {
    use std::os::unix::fs::MetadataExt as _;
    let own = nix::unistd::geteuid().as_raw();
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(NAME).and_then(|rest| rest.split('-').next()).map(str::to_owned);
        let is_ours = entry.metadata().is_ok_and(|data| data.is_dir() && data.uid() == own);
        let Some(pid) = pid.filter(|_| is_ours) else { continue };
        if !Path::new("/proc").join(pid).exists() {
            let scratch = Home::under(&entry.path().join("home"));
            let _ = Program(own_program()).run(&scratch, &["stop"], STEP_WITHIN);
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn serve(program: &Program, scratch: &Home) -> Result<()> {
    let [web, turn] = spare_ports()?.map(|port| port.to_string());
    let init = [
        "init",
        "--yes",
        "--offline",
        "--reach",
        "lan",
        "--host",
        "127.0.0.1",
        "--cert",
        "self-signed",
        "--firewall",
        "skip",
        "--web-port",
        &web,
        "--http-port",
        "off",
        "--turn-port",
        &turn,
    ];
    program.step(scratch, &init, STEP_WITHIN, &[0])?;
    program.step(scratch, &["start"], STEP_WITHIN, &[0])?;
    // A finding, such as a clock that is wrong, is none of the program's.
    let told = program.step(scratch, &["status", "--json"], STEP_WITHIN, &[0, 10])?;
    let status: Value = serde_json::from_str(told.trim()).map_err(|error| {
        Failure::operator(text!("`{}` tells a status that cannot be read", program.0.display())).caused_by(error)
    })?;
    let ready = status["tasks"].as_array().into_iter().flatten().filter(|task| task["state"] == "ready").count();
    if ready < 4 {
        let told = status["tasks"].to_string().chars().take(SHOWN).collect::<String>();
        return Err(Failure::operator(text!("`{}` does not serve", program.0.display())).because(Text::verbatim(told)));
    }
    program.step(scratch, &["stop"], STEP_WITHIN, &[0]).map(drop)
}

/// Ports that nobody has now. Somebody may take one meanwhile, and then others are tried.
fn spare_ports() -> Result<[u16; 2]> {
    let spare = || {
        let port = rand::random_range(SPARE);
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).ok()?;
        // The relay wants the same number by UDP.
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).ok().map(|_| (listener, port))
    };
    let find = || (0..64).find_map(|_| spare());
    let (Some((_first, web)), Some((_second, turn))) = (find(), find()) else {
        return Err(Failure::operator(text!("there are no two ports to rehearse on")));
    };
    Ok([web, turn])
}
