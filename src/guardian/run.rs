//! The guardian's loop: one thread that waits for signals, the daemon's messages, its end, and commands.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{dup2_stdout, getppid};

use super::autopsy;
use super::core::{Command, Core, HEARTBEAT_WITHIN};
use super::desk::Desk;
use super::journal::Journal;
use super::memory::Kills;
use super::notice;
use super::protocol::{Answer, Death, Report, Request};
use super::store::{Kept, Store};
use super::{GREETING, Manner, Occasion, daemon_command_line};
use crate::control::protocol::Outcome;
use crate::error::{Failure, Kind, Result};
use crate::home::Home;
use crate::supervisor::board::State;
use crate::sys::clock::{self, Now};
use crate::sys::fdstore::identity;
use crate::sys::fork::{self, Gifts};
use crate::sys::fs::{create_private_dir, restore_private_dirs};
use crate::sys::lock::{Lock, Refused};
use crate::sys::log::record::Level;
use crate::sys::notices::Notices;
use crate::sys::process::{self, End, Watched};
use crate::text;
use crate::words::Text;
use crate::words::carry;

/// The longest sleep between two looks at the clock, which stops while a machine is suspended, and at the files by
/// which the guardian is found, which somebody may delete.
const MAX_SLEEP: Duration = Duration::from_secs(2);
/// Messages that are read at a time; the others wait for the next turn.
const MESSAGES_A_TURN: usize = 64;
/// What a child says that could not become this program.
const NOT_STARTED: i32 = 127;

/// Keeps the daemon of `home` alive until both are told to end. Gives the exit code.
///
/// # Errors
/// `Kind::Locked` if the home has a guardian already; `Kind::Operator` if there is no room for what it needs.
pub fn run(home: &Home, manner: Manner, occasion: Occasion) -> Result<u8> {
    let guardian = Guardian::new(home, manner, occasion);
    let guardian = guardian.inspect_err(|failure| {
        if occasion == Occasion::Start {
            tell(failure.clone());
        }
    });
    Ok(guardian?.run())
}

struct Guardian {
    home: Home,
    manner: Manner,
    /// Held until the end.
    lock: Lock,
    signals: SignalFd,
    notices: Notices,
    desk: Desk,
    journal: Journal,
    core: Core,
    store: Store<OwnedFd>,
    daemon: Option<Daemon>,
    /// Whether somebody waits on standard output.
    is_heard: bool,
    told_deaths: u64,
}

/// The daemon's process.
struct Daemon {
    process: Watched,
    /// How often the kernel had killed for lack of memory when it was started.
    kills: Kills,
}

impl Guardian {
    fn new(home: &Home, manner: Manner, occasion: Occasion) -> Result<Self> {
        process::harden();
        let cannot = |what: Text| move |error: io::Error| Failure::operator(what).caused_by(error);
        let mask = process::daemon_signals();
        mask.thread_block().map_err(io::Error::from).map_err(cannot(text!("cannot take over the signals")))?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        let signals = signals.map_err(io::Error::from).map_err(cannot(text!("cannot take over the signals")))?;
        process::leave_session().map_err(cannot(text!("cannot leave the terminal")))?;
        for folder in [home.state_dir(), home.log_dir(), home.run_dir()] {
            create_private_dir(folder)?;
        }
        let lock = take_lock(home)?;
        let notices =
            Notices::bind(&home.notify_socket()).map_err(cannot(text!("cannot bind the guardian's sockets")))?;
        let desk = Desk::bind(&home.guardian_socket()).map_err(cannot(text!("cannot bind the guardian's sockets")))?;
        let now = clock::now();
        let mut core = Core::new(manner.pace(), now.mono);
        let daemon = match occasion {
            Occasion::Start => {
                core.start(now.mono);
                None
            }
            Occasion::Adoption(pid) => {
                core.adopt(now.mono);
                Some(Daemon { process: parent(pid)?, kills: Kills::read() })
            }
        };
        let journal = Journal::new(home);
        let guardian = Self {
            home: home.clone(),
            manner,
            lock,
            signals,
            notices,
            desk,
            journal,
            core,
            store: Store::new(),
            daemon,
            is_heard: occasion == Occasion::Start,
            told_deaths: 0,
        };
        if let Occasion::Adoption(pid) = occasion {
            guardian.journal.say(Level::Warn, &format!("takes over the daemon (pid {pid})"), now.wall);
            let mut output = io::stdout().lock();
            // A daemon that has died meanwhile does not listen, and is started again.
            let _ = output.write_all(GREETING.as_bytes()).and_then(|()| output.flush());
            drop(output);
            fall_silent();
        }
        Ok(guardian)
    }

    fn run(mut self) -> u8 {
        loop {
            let now = clock::now();
            while let Some(command) = self.core.poll_command() {
                if let Command::End { code, failure } = command {
                    return self.end(code, failure);
                }
                self.obey(command, now);
            }
            self.publish(now);
            self.wait(now);
            // What was said before an end or a deadline counts.
            self.hear_messages();
            self.keep_reachable();
            self.look_for_the_end();
            self.hear_signals();
            self.hear_commands();
            self.core.handle_turn(clock::now().mono, &mut rand::rng());
        }
    }

    /// Mends what somebody has deleted: without these files nobody is heard, neither the daemon nor an operator.
    fn keep_reachable(&mut self) {
        let (is_heard, is_asked) = (self.notices.is_reachable(), self.desk.is_reachable());
        if !is_heard {
            self.core.handle_deafness(clock::now().mono);
        }
        restore_private_dirs(self.home.folders_to_keep());
        let mut mended = Vec::new();
        match self.lock.keep() {
            Ok(is_new) => mended.extend(is_new.then_some("it is known who is in charge")),
            // Whoever has it was started in the moment without the file, and is in charge.
            Err(Refused::Held(_)) => return,
            Err(Refused::Io(_)) => {}
        }
        if !is_heard && let Ok(notices) = Notices::bind(&self.home.notify_socket()) {
            self.notices = notices;
            mended.push("the daemon's messages arrive");
        }
        if !is_asked && self.desk.renew().is_ok() {
            mended.push("orders arrive");
        }
        if !mended.is_empty() {
            let text =
                format!("files of this service were deleted and are there again, by which {}", mended.join(" and "));
            self.journal.say(Level::Warn, &text, clock::now().wall);
        }
    }

    /// Sleeps until something happens or is due.
    fn wait(&self, now: Now) {
        let due = self.core.poll_timeout().map_or(MAX_SLEEP, |at| at.saturating_duration_since(now.mono));
        // Rounded up, so that it does not wake up just before.
        let due = due.min(MAX_SLEEP) + Duration::from_millis(1);
        let descriptors = [self.signals.as_fd(), self.notices.as_fd()].into_iter();
        let descriptors = descriptors.chain(self.daemon.iter().map(|daemon| daemon.process.descriptor()));
        let descriptors = descriptors.chain(self.desk.descriptors());
        let mut waiting: Vec<PollFd<'_>> = descriptors.map(|one| PollFd::new(one, PollFlags::POLLIN)).collect();
        // Whatever it is, all of them are looked at.
        let _ = poll(&mut waiting, PollTimeout::try_from(due).unwrap_or(PollTimeout::MAX));
    }

    fn obey(&mut self, command: Command, now: Now) {
        match command {
            Command::Spawn => self.spawn(now),
            Command::Terminate => {
                if let Some(daemon) = &self.daemon {
                    // One that has ended just now is noticed in a moment.
                    let _ = daemon.process.terminate();
                }
            }
            Command::Kill { why } => self.kill(&why, now),
            Command::LetGo => self.store.clear(),
            Command::Paused(span) => {
                let text = format!("was paused itself for {} s, so the daemon gets time to be heard", span.as_secs());
                self.journal.say(Level::Info, &text, now.wall);
            }
            Command::End { .. } => {}
        }
    }

    fn spawn(&mut self, now: Now) {
        match self.start_daemon() {
            Ok(process) => {
                let held = self.store.each().count();
                // Of the first start, the daemon itself tells.
                if self.core.deaths() > 0 {
                    let text = format!("started the daemon again (pid {}) with {held} sockets", process.pid());
                    self.journal.say(Level::Info, &text, now.wall);
                }
                self.daemon = Some(Daemon { process, kills: Kills::read() });
            }
            Err(error) => {
                self.journal.say(Level::Error, &format!("cannot start the daemon: {error}"), now.wall);
                self.core.handle_ended(&End::Exited(NOT_STARTED), None, now, &mut rand::rng());
            }
        }
    }

    fn start_daemon(&self) -> io::Result<Watched> {
        let nothing = File::options().write(true).open("/dev/null")?;
        // What it says beside its log, most of all when it aborts, goes to the same file.
        let log = OpenOptions::new().append(true).create(true).mode(0o600).open(self.home.log_file());
        let output = io::stdout();
        let watchdog = HEARTBEAT_WITHIN.as_micros().to_string();
        let sockets: Vec<(&str, BorrowedFd<'_>)> =
            self.store.each().map(|(name, socket)| (name, socket.as_fd())).collect();
        fork::spawn(&Gifts {
            arguments: &daemon_command_line(&self.home, self.manner),
            variables: &[("NOTIFY_SOCKET", self.home.notify_socket().into()), ("WATCHDOG_USEC", watchdog.into())],
            sockets: &sockets,
            output: if self.is_heard { output.as_fd() } else { nothing.as_fd() },
            complaints: log.as_ref().unwrap_or(&nothing).as_fd(),
        })
    }

    fn kill(&self, why: &str, now: Now) {
        let Some(daemon) = &self.daemon else { return };
        let pid = daemon.process.pid();
        self.journal.say(Level::Error, &format!("kills the daemon (pid {pid}): {why}; its threads are:"), now.wall);
        for thread in autopsy::threads(pid) {
            self.journal.say(Level::Error, &thread, now.wall);
        }
        if let Err(error) = daemon.process.kill() {
            self.journal.say(Level::Error, &format!("cannot kill the daemon (pid {pid}): {error}"), now.wall);
        }
    }

    fn hear_messages(&mut self) {
        for _ in 0..MESSAGES_A_TURN {
            let Ok(Some(heard)) = self.notices.receive() else { return };
            // Whoever else can reach the socket has no say here.
            if self.daemon.as_ref().is_none_or(|daemon| daemon.process.pid() != heard.pid) {
                continue;
            }
            let words = notice::read(&heard.text);
            if let Some(name) = words.remove.as_ref().filter(|_| !self.core.is_ending()) {
                self.store.remove(name);
            }
            for socket in heard.sockets {
                let (Some(name), Some(identity)) = (&words.store, identity(socket.as_fd())) else { continue };
                if !self.core.is_ending() && self.store.keep(name, identity, socket) == Kept::Full {
                    self.journal.say(Level::Warn, "has no room for another socket of the daemon", clock::now().wall);
                }
            }
            self.core.handle_words(&words, clock::now().mono);
            if words.is_ready && std::mem::take(&mut self.is_heard) {
                fall_silent();
            }
        }
    }

    fn hear_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let is_hang_up = i32::try_from(signal.ssi_signo).is_ok_and(|number| number == Signal::SIGHUP as i32);
            match &self.daemon {
                // Whoever means the service may know the guardian's number only.
                Some(daemon) if is_hang_up => drop(daemon.process.hang_up()),
                Some(_) | None if is_hang_up => {}
                Some(_) | None => self.core.stop(clock::now().mono),
            }
        }
    }

    fn hear_commands(&mut self) {
        let now = clock::now();
        let (core, daemon, manner) = (&mut self.core, &self.daemon, self.manner);
        let deaths = core.deaths();
        self.desk.serve(now.mono, deaths, |request| match request {
            Request::Report => Some(Answer::Report(report(core, daemon.as_ref(), manner, now))),
            Request::Stop => {
                core.stop(now.mono);
                Some(Answer::Stopping)
            }
            Request::Start if core.is_ending() => Some(Answer::Stopping),
            Request::Start => {
                core.start(now.mono);
                None
            }
            Request::Restart if core.is_ending() => Some(Answer::Stopping),
            Request::Restart => {
                core.restart(now.mono);
                None
            }
        });
        let pid = daemon.as_ref().map(|daemon| daemon.process.pid());
        self.desk.settle(|deaths| match (core.state(), pid) {
            _ if core.is_ending() => Some(Answer::Stopping),
            (State::Ready, Some(pid)) => Some(Answer::Ready { pid }),
            _ if core.deaths() > deaths => {
                let cause = core.last_death().map(|(_, cause)| cause.clone()).unwrap_or_default();
                Some(Answer::Failed { cause })
            }
            _ => None,
        });
    }

    fn look_for_the_end(&mut self) {
        let Some(daemon) = &self.daemon else { return };
        let Ok(Some(end)) = daemon.process.take_end() else { return };
        let memory = Kills::read().verdict(daemon.kills);
        self.daemon = None;
        self.core.handle_ended(&end, memory, clock::now(), &mut rand::rng());
    }

    /// Writes down what has changed.
    fn publish(&mut self, now: Now) {
        let state = self.core.state();
        let died = (self.core.deaths() > self.told_deaths).then(|| self.core.last_death()).flatten();
        if let Some((_, cause)) = died {
            let next = match self.core.next_start_at() {
                None => "starting it again at once".to_owned(),
                Some(at) => {
                    let seconds = at.saturating_duration_since(now.mono).as_secs_f64();
                    let held = if state == State::Held { "it has died too often; " } else { "" };
                    format!("{held}starting it again in {seconds:.1} s")
                }
            };
            self.journal.say(Level::Warn, &format!("the daemon has died: {cause}; {next}"), now.wall);
        }
        while let Some(change) = self.core.poll_change() {
            self.journal.event(&change, now);
        }
        self.told_deaths = self.core.deaths();
    }

    fn end(self, code: u8, failure: Option<String>) -> u8 {
        if let Some(why) = failure.filter(|_| self.is_heard) {
            // A daemon that could still speak has told more, and is heard first.
            tell(Failure::operator(text!("the daemon ended before it was ready")).because(Text::verbatim(why)));
        }
        for socket in [self.home.notify_socket(), self.home.guardian_socket()] {
            // They are gone when the lock is: whoever waits for the one may rely on the other.
            let _ = std::fs::remove_file(socket);
        }
        code
    }
}

fn take_lock(home: &Home) -> Result<Lock> {
    let path = home.guardian_lock_file();
    Lock::take(&path).map_err(|refused| match refused {
        Refused::Held(pid) => {
            let by = pid.map_or_else(Text::default, |pid| text!(" (pid {})", pid));
            Failure::new(Kind::Locked, text!("this home has a guardian already{}", by))
                .hinted(text!("see `rtcctl{0} status`, or end it by `rtcctl{0} stop`", home.flag()))
        }
        Refused::Io(error) => Failure::operator(text!("cannot lock `{}`", path.display())).caused_by(error),
    })
}

/// The process that has started this one, if it is still the one that it says it is.
fn parent(pid: u32) -> Result<Watched> {
    let is_parent = || getppid().as_raw().unsigned_abs() == pid;
    let gone = || Failure::operator(text!("the daemon (pid {}) that asked for a guardian is not there any more", pid));
    // Looked at on both sides of taking hold of it: a number may have gone to another process meanwhile.
    let process = is_parent().then(|| Watched::new(pid)).ok_or_else(gone)?.map_err(|error| gone().caused_by(error))?;
    is_parent().then_some(process).ok_or_else(gone)
}

fn report(core: &Core, daemon: Option<&Daemon>, manner: Manner, now: Now) -> Report {
    let next = core.next_start_at().map(|at| at.saturating_duration_since(now.mono).as_secs_f64());
    Report {
        pid: std::process::id(),
        daemon: daemon.map(|daemon| daemon.process.pid()),
        state: core.state(),
        restarts: core.restarts(),
        endurance: manner.endurance,
        last_death: core.last_death().map(|(at, cause)| Death { at: clock::rfc3339(*at), cause: cause.clone() }),
        next_start_s: next.map(|seconds| (seconds * 10.0).round() / 10.0),
    }
}

/// Says to the `start` that waits on standard output that nothing came of it.
fn tell(failure: Failure) {
    let line = carry::to_line(&Outcome::Failed { failure }).expect("an outcome has string keys only");
    let mut output = io::stdout().lock();
    // A `start` that was interrupted does not listen any more.
    let _ = output.write_all(&line).and_then(|()| output.flush());
}

/// Lets go of standard output.
fn fall_silent() {
    if let Ok(nowhere) = File::options().write(true).open("/dev/null") {
        let _ = dup2_stdout(nowhere.as_fd());
    }
}
