//! Programs that others wrote: started without a shell, with a deadline, and with no more output kept than anybody reads.

pub mod shell;

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::clock;
use super::lock::Lock;

/// How often it is looked whether a program that has closed its output has ended.
const LOOKED_EVERY: Duration = Duration::from_millis(20);
/// Bytes of what a tool complains about that are kept.
const MAX_COMPLAINTS: usize = 4096;
/// Variables that a program gets; the others may be secrets, or speak to a service manager in our name.
const PASSED_ON: [&str; 4] = ["HOME", "LANG", "TZ", "USER"];

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    /// What it said, on standard output and standard error together, as much as was kept.
    pub output: String,
}

/// What a program answered.
#[derive(Debug)]
pub struct Told {
    pub status: ExitStatus,
    pub output: String,
    /// What it said on standard error.
    pub complaints: String,
}

/// Folders in which tools of administrators are, also where the path of whoever runs us leaves them out.
const TOOL_FOLDERS: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// Where programs are looked for: a path without the folders of administrators, as `su` and cron leave it, hides none.
fn tool_path() -> String {
    let own = std::env::var("PATH").unwrap_or_default();
    [own.as_str(), TOOL_FOLDERS].into_iter().filter(|path| !path.is_empty()).collect::<Vec<_>>().join(":")
}

/// Whether a program of this name would be found by [`ask`] and [`run`].
#[must_use]
pub fn is_there(name: &str) -> bool {
    std::env::split_paths(&tool_path()).any(|folder| folder.join(name).is_file())
}

/// Asks a tool of the system, which answers in English, at most for `limit`. As much as `max_output` of its answer is
/// kept.
///
/// # Errors
/// As [`run`].
pub fn ask(program: &[String], limit: Duration, max_output: usize) -> io::Result<Told> {
    ask_under(program, Stdio::null(), limit, max_output)
}

/// As [`ask`], for a tool that must not work beside another: it holds the lock as well, and for as long as it lives,
/// also where this process is killed.
///
/// # Errors
/// As [`run`].
pub fn ask_alone(program: &[String], lock: &Lock, limit: Duration, max_output: usize) -> io::Result<Told> {
    ask_under(program, lock.hand_on()?, limit, max_output)
}

fn ask_under(program: &[String], stdin: Stdio, limit: Duration, max_output: usize) -> io::Result<Told> {
    let (name, arguments) = program.split_first().ok_or(ErrorKind::InvalidInput)?;
    let until = clock::now().mono + limit;
    let (mut reader, writer) = io::pipe()?;
    let (mut complaint_reader, complaint_writer) = io::pipe()?;
    #[expect(clippy::disallowed_methods, reason = "this is the place that starts others' programs")]
    let mut command = Command::new(name);
    command.args(arguments).env_clear().env("PATH", tool_path()).env("LC_ALL", "C").current_dir("/");
    command.process_group(0).stdin(stdin).stdout(writer).stderr(complaint_writer);
    let mut child = command.spawn()?;
    drop(command);
    let complaining = thread::Builder::new()
        .name("complaints".to_owned())
        .spawn(move || listen(&mut complaint_reader, until, MAX_COMPLAINTS).unwrap_or_default());
    let heard = listen(&mut reader, until, max_output).and_then(|output| Ok((wait(&mut child, until)?, output)));
    match heard {
        Ok((status, output)) => {
            let complaints = complaining.ok().and_then(|thread| thread.join().ok()).unwrap_or_default();
            Ok(Told { status, output, complaints })
        }
        Err(error) => {
            end(&mut child);
            Err(error)
        }
    }
}

/// Runs `program` until it has ended, at most `limit`, with `input` on its standard input. `max_output` bytes of what
/// it says are kept; what is more is read and forgotten.
///
/// # Errors
/// If it cannot be started; `TimedOut` if it was ended, with all that it had started, because its time was over.
pub fn run(program: &[String], input: &[u8], limit: Duration, max_output: usize) -> io::Result<Ended> {
    run_with(program, &[], input, limit, max_output)
}

/// As [`run`], with these variables besides.
///
/// # Errors
/// As [`run`].
pub fn run_with(
    program: &[String],
    variables: &[(&str, String)],
    input: &[u8],
    limit: Duration,
    max_output: usize,
) -> io::Result<Ended> {
    let (name, arguments) = program.split_first().ok_or(ErrorKind::InvalidInput)?;
    let until = clock::now().mono + limit;
    let (mut reader, writer) = io::pipe()?;
    #[expect(clippy::disallowed_methods, reason = "this is the place that starts others' programs")]
    let mut command = Command::new(name);
    let kept = PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    command
        .args(arguments)
        .env_clear()
        .envs(kept)
        .env("PATH", tool_path())
        .envs(variables.iter().cloned())
        .current_dir("/");
    // A group of its own, so that what it starts ends with it.
    command.process_group(0).stdin(Stdio::piped()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    // Its ends of the pipe must be the only ones, or it would never be seen to close.
    drop(command);
    let feeding = feed(&mut child, input.to_vec());
    let heard = listen(&mut reader, until, max_output).and_then(|output| Ok((wait(&mut child, until)?, output)));
    let ended = match heard {
        Ok((status, output)) => Ok(Ended { status, output }),
        Err(error) => {
            end(&mut child);
            Err(error)
        }
    };
    // It ends when its pipe is closed, which it is by now.
    drop(feeding);
    ended
}

/// Writes from a thread: a program that does not read must not hold us up.
fn feed(child: &mut Child, input: Vec<u8>) -> Option<thread::JoinHandle<()>> {
    let mut pipe = child.stdin.take()?;
    let feeding = move || {
        // A program need not read what it is told.
        let _ = pipe.write_all(&input);
    };
    thread::Builder::new().name("feed".to_owned()).spawn(feeding).ok()
}

fn listen(reader: &mut io::PipeReader, until: Instant, max_output: usize) -> io::Result<String> {
    let mut output = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = until.saturating_duration_since(clock::now().mono);
        let mut waiting = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
        if left.is_zero() || poll(&mut waiting, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX))? == 0 {
            return Err(ErrorKind::TimedOut.into());
        }
        let length = reader.read(&mut buffer)?;
        if length == 0 {
            return Ok(String::from_utf8_lossy(&output).into_owned());
        }
        let room = max_output.saturating_sub(output.len());
        output.extend_from_slice(&buffer[..length.min(room)]);
    }
}

fn wait(child: &mut Child, until: Instant) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if clock::now().mono >= until {
            return Err(ErrorKind::TimedOut.into());
        }
        thread::park_timeout(LOOKED_EVERY);
    }
}

/// Ends the whole group.
fn end(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // It may have ended by itself by now.
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_program_gets_its_input_and_is_heard() {
        let ended = run(&shell("cat; echo oops >&2; exit 3"), b"hello\n", LONG, 100).unwrap();
        assert_eq!((ended.output.as_str(), ended.status.code()), ("hello\noops\n", Some(3)));
    }

    #[test]
    fn what_it_says_is_capped_and_what_it_does_not_read_holds_nobody_up() {
        let much = vec![b'x'; 1 << 20];
        let ended = run(&shell("head -c 1000000 /dev/zero | tr '\\0' a"), &much, LONG, 10).unwrap();
        assert_eq!(ended.output, "aaaaaaaaaa");
        assert!(ended.status.success());
    }

    #[test]
    fn one_that_does_not_end_is_ended_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", path.display());
        let error = run(&shell(&script), b"", Duration::from_millis(500), 10).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let pid: u32 = std::fs::read_to_string(path).unwrap().trim().parse().unwrap();
        let is_alive = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        let end = clock::now().mono + LONG;
        while is_alive() && clock::now().mono < end {
            thread::yield_now();
        }
        assert!(!is_alive());
    }

    #[test]
    fn secrets_in_the_environment_are_not_passed_on() {
        let ended = run(&shell("env"), b"", LONG, 10_000).unwrap();
        let names: Vec<&str> = ended.output.lines().filter_map(|line| line.split('=').next()).collect();
        let is_known =
            |name: &&str| PASSED_ON.contains(name) || matches!(*name, "PATH" | "PWD" | "SHLVL" | "_" | "OLDPWD");
        assert!(names.iter().all(is_known), "{names:?}");
    }

    #[test]
    fn a_tool_that_is_asked_answers_apart_from_its_complaints_and_in_english() {
        let told = ask(&shell("echo $LC_ALL; echo oops >&2; exit 4"), LONG, 100).unwrap();
        assert_eq!((told.output.as_str(), told.complaints.as_str(), told.status.code()), ("C\n", "oops\n", Some(4)));
        let error = ask(&shell("sleep 600"), Duration::from_millis(200), 100).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn a_program_that_is_not_there_is_told_so() {
        let error = run(&["/nowhere/at/all".to_owned()], b"", LONG, 10).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
