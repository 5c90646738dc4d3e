//! Watches the guardian, and starts another one when it is gone.

use std::io::{self, BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::getppid;
use tracing::{debug, error, info, warn};

use crate::guardian::{GREETING, Manner, Occasion, command_line};
use crate::home::Home;
use crate::supervisor::board::State;
use crate::supervisor::policy::{Command, InstanceId, Limits, Pace, Policy};
use crate::sys::clock;
use crate::sys::notify::Manager;
use crate::sys::process::{Watched, lead_stderr_to, spawn_self};
use crate::words::Text;

/// How often it is looked whether the daemon ends.
const LOOKED_EVERY: Duration = Duration::from_secs(1);
/// How long a new guardian may take until it can be told everything.
const GREETED_WITHIN: Duration = Duration::from_secs(5);

/// The daemon's tie to its guardian.
pub(super) struct Guarded {
    is_closing: Arc<Mutex<bool>>,
}

/// A guardian that lives.
struct Guardian {
    process: Watched,
    /// If this process has started it.
    child: Option<Child>,
}

struct Watch {
    home: Home,
    manner: Manner,
    manager: Arc<Manager>,
    is_closing: Arc<Mutex<bool>>,
    policy: Policy,
    guardian: Option<(InstanceId, Guardian)>,
}

impl Guarded {
    /// Watches the parent of this process, and whoever takes its place, on a thread of its own.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub(super) fn watch(home: &Home, manner: Manner, manager: Arc<Manager>) -> io::Result<Self> {
        let is_closing = Arc::new(Mutex::new(false));
        let now = clock::now().mono;
        let mut policy = Policy::new(Limits::of_tasks(Pace::Normal), now);
        policy.start("the daemon wants one", now);
        let mut watch =
            Watch { home: home.clone(), manner, manager, is_closing: Arc::clone(&is_closing), policy, guardian: None };
        watch.begin();
        thread::Builder::new().name("guarded".to_owned()).spawn(move || watch.run())?;
        Ok(Self { is_closing })
    }

    /// The daemon ends: no guardian is started from now on, and one that is just being started has been told so far.
    pub(super) fn close(&self) {
        *self.is_closing.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

impl Watch {
    /// The first guardian is the one that has started this process, if it still lives.
    fn begin(&mut self) {
        let pid = getppid().as_raw().unsigned_abs();
        let Some(Command::Spawn(instance)) = self.policy.poll_command() else { return };
        let process = Watched::new(pid).ok().filter(|_| getppid().as_raw().unsigned_abs() == pid);
        match process {
            Some(process) => self.has_come(instance, Guardian { process, child: None }),
            None => self.has_gone(instance, "it ended before the daemon had started"),
        }
    }

    fn run(mut self) {
        loop {
            // What there is to say of it is in the log.
            while self.policy.poll_change().is_some() {}
            while let Some(command) = self.policy.poll_command() {
                // It is ready or gone as soon as it is spawned, so it is never asked to end.
                if let Command::Spawn(instance) = command
                    && !self.spawn(instance)
                {
                    return;
                }
            }
            // The log is put aside when it is full, and what an abort says belongs into the one that is written.
            if let Err(error) = lead_stderr_to(&self.home.log_file()) {
                debug!(%error, "standard error does not lead to the log");
            }
            let now = clock::now().mono;
            let due = self.policy.poll_timeout().map_or(LOOKED_EVERY, |at| at.saturating_duration_since(now));
            let due = due.min(LOOKED_EVERY);
            match &self.guardian {
                Some((instance, guardian)) => {
                    let instance = *instance;
                    if guardian.process.wait(due) {
                        self.has_gone(instance, "it was killed or has crashed");
                    }
                }
                None => thread::park_timeout(due),
            }
            if *self.is_closing.lock().unwrap_or_else(PoisonError::into_inner) {
                return;
            }
            self.policy.handle_timeout(clock::now().mono, &mut rand::rng());
        }
    }

    /// Starts another guardian and tells it everything. `false`: the daemon ends.
    fn spawn(&mut self, instance: InstanceId) -> bool {
        let closing = Arc::clone(&self.is_closing);
        // Held until the new one knows all: the end of this daemon must reach it.
        let is_closing = closing.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_closing {
            return false;
        }
        match start(&self.home, self.manner) {
            Ok(guardian) => {
                self.manager.introduce();
                info!(pid = guardian.process.pid(), "a new guardian watches and holds the sockets");
                self.has_come(instance, guardian);
            }
            Err(error) => self.has_gone(instance, &format!("it could not be started: {error}")),
        }
        true
    }

    fn has_come(&mut self, instance: InstanceId, guardian: Guardian) {
        self.guardian = Some((instance, guardian));
        self.policy.handle_ready(instance, clock::now().mono);
    }

    fn has_gone(&mut self, instance: InstanceId, why: &str) {
        if let Some((_, mut guardian)) = self.guardian.take()
            && let Some(child) = &mut guardian.child
        {
            // It has ended, so this takes note of it and does not wait.
            let _ = child.wait();
        }
        self.policy.handle_ended(instance, &Text::verbatim(why), clock::now().mono, &mut rand::rng());
        match self.policy.poll_timeout() {
            Some(at) if matches!(self.policy.state(), State::Backoff | State::Held) => {
                let pause = at.saturating_duration_since(clock::now().mono);
                error!(why, ?pause, "no guardian watches this daemon; another one is started later");
            }
            Some(_) | None => warn!(why, "the guardian is gone; another one is started"),
        }
    }
}

/// Starts a guardian that adopts this process, and waits until it can be told everything.
fn start(home: &Home, manner: Manner) -> io::Result<Guardian> {
    let log = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(home.log_file())?;
    let line = command_line(home, manner, Occasion::Adoption(std::process::id()));
    let mut child = spawn_self(&line, log)?;
    match greeted(&mut child).and_then(|()| Watched::new(child.id())) {
        Ok(process) => Ok(Guardian { process, child: Some(child) }),
        Err(error) => {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

fn greeted(child: &mut Child) -> io::Result<()> {
    let output = child.stdout.take().expect("a guardian's output is a pipe");
    let timeout = PollTimeout::try_from(GREETED_WITHIN).unwrap_or(PollTimeout::MAX);
    let mut waiting = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
    if poll(&mut waiting, timeout)? == 0 {
        return Err(io::Error::other(format!("it said nothing for {} s", GREETED_WITHIN.as_secs())));
    }
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    if line == GREETING {
        Ok(())
    } else {
        Err(io::Error::other("it ended before it could be told anything; see the log"))
    }
}
