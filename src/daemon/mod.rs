//! The composition root: a `Config` becomes services, a supervisor and a control socket.
//!
//! In order: configuration with every complaint at once, the home's lock, every port, the control socket, then the
//! tasks. What fails before the control socket leaves nothing running.

mod accepted;
mod changes;
mod checks;
mod edited;
mod guarded;
mod heartbeat;
mod logging;
mod metrics;
mod phone;
mod probe_metrics;
mod probing;
mod relay;
mod reload;
mod status;
mod watching;

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use nix::sys::signal::Signal;
use rustls::crypto::aws_lc_rs;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use self::checks::{Asker, Lane, Targets};
use self::guarded::Guarded;
use self::heartbeat::Heartbeat;
use self::probing::Probes;
use self::reload::{Controls, InForce, Reloader};
use self::status::{Outside, Sources, host_name};
use self::watching::{GoesBy, Sights, Watch};
use crate::access::Gate;
use crate::certs::renewal;
use crate::certs::{CertHandle, Certs};
use crate::control::protocol::{Outcome, Request, Response};
use crate::control::server;
use crate::control::socket::Socket;
use crate::edge::{self, Doors, Edge, Listeners};
use crate::error::{Failure, Kind, Result};
use crate::guardian::{self, Manner};
use crate::home::Home;
use crate::hooks::Hooks;
use crate::phone::Phones;
use crate::probe::turn::Login;
use crate::signaling::{self, Signaling};
use crate::supervisor::board::{Board, State};
use crate::supervisor::driver::{Escalate, Handle, Order, Supervisor};
use crate::supervisor::events::{Event, EventKind, Journal};
use crate::supervisor::panics;
use crate::supervisor::service::{Service, TaskName};
use crate::supervisor::watchdog::Fixture;
use crate::sys::fdstore::Inherited;
use crate::sys::fs::{create_private_dir, restore_private_dirs};
use crate::sys::lock::{Lock, Refused};
use crate::sys::marks::Marks;
use crate::sys::notify::Manager;
use crate::sys::{clock, fault, log, memory, process, turns};
use crate::text;
use crate::turn::ice::{IceIssuer, LiveIce};
use crate::turn::{self, Turn};
use crate::web::{Metrics, Web};
use crate::words::Text;
use crate::words::carry;

/// How long tasks may take until it is said which of them are not ready.
const SETTLED_WITHIN: Duration = Duration::from_secs(45);
/// How long one task may take to do what it was ordered to.
const ORDER_PATIENCE: Duration = Duration::from_secs(30);
/// What a command waits for an answer: longer than any order takes.
pub const ANSWERED_WITHIN: Duration = Duration::from_secs(35);
/// How long a certificate may take to be renewed while somebody waits: both challenges, looked at from afar, and once
/// more at a rehearsal.
pub const RENEWED_WITHIN: Duration = Duration::from_secs(600);
/// How long the whole service may take to stop: four tasks and the connections.
pub const STOPPED_WITHIN: Duration = Duration::from_secs(30);

/// How long a daemon in which something hangs may take to stop.
const HANGING_STOPS_WITHIN: Duration = Duration::from_secs(10);

/// Who started this daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A person or a service manager, who waits for its end: log lines go to standard error.
    Foreground,
    /// A service manager that starts it with the machine: as before, but for the log, which goes to the home's file.
    Service,
    /// A guardian: log lines go to the home's file, and a `start` may wait on standard output for one line.
    Guarded,
}

/// What ends or disturbs the daemon.
enum Wish {
    Stop(&'static str),
    /// Something hangs that only a new process mends.
    StartAnew(String),
    Reload,
}

/// Runs the service until it is told to stop.
///
/// # Errors
/// `Kind::Config` for a bad configuration, `Kind::Locked` if it runs already, `Kind::Operator` if a port is taken.
pub fn run(home: &Home, mode: Mode, manner: Manner) -> Result<()> {
    // First of all: there must be no other thread yet.
    let (manager, inherited) = Manager::take_environment();
    process::harden();
    memory::give_large_blocks_back();
    let signals = process::daemon_signals();
    // Before any thread is made, so that all of them leave the signals to the one that waits for them.
    let blocked = signals.thread_block();
    blocked.map_err(|error| Failure::operator(text!("cannot take over the signals")).caused_by(error))?;
    if mode == Mode::Guarded {
        let left = process::leave_session();
        left.map_err(|error| Failure::operator(text!("cannot leave the terminal")).caused_by(error))?;
    }
    let running = match prepare(home, mode, manner, manager, inherited) {
        Ok(running) => running,
        Err(failure) => {
            if mode == Mode::Guarded {
                tell(&Outcome::Failed { failure: failure.clone() });
            }
            return Err(failure);
        }
    };
    running.serve(mode)
}

/// Everything that is bound and made, nothing of it serving yet.
struct Prepared {
    home: Home,
    manner: Manner,
    manager: Arc<Manager>,
    inherited: Inherited,
    /// Held until the end.
    lock: Lock,
    controls: Controls,
    journal: Journal,
    edge: Edge,
    supervisor: Supervisor,
    sources: Sources,
    phones: Phones,
}

fn prepare(home: &Home, mode: Mode, manner: Manner, manager: Manager, mut inherited: Inherited) -> Result<Prepared> {
    let (in_force, refused) = InForce::load(home, accepted::take(&mut inherited))?;
    let (config, secrets) = in_force.config_and_secrets();
    for folder in [home.state_dir(), home.log_dir(), home.run_dir()] {
        create_private_dir(folder)?;
    }
    let lock = take_lock(home, mode)?;
    let path = home.log_file();
    let target = match mode {
        Mode::Foreground => log::Target::Stderr,
        Mode::Service | Mode::Guarded => log::Target::File(&path),
    };
    let log = log::init(target, &logging::settings(&config.log), manner.verbose)
        .map_err(|error| Failure::operator(text!("cannot write `{}`", path.display())).caused_by(error))?;
    let journal = Journal::open(&home.events_file());
    panics::watch(journal.clone());
    // One stack for every listener. A second call, as in tests, finds it installed.
    let _ = aws_lc_rs::default_provider().install_default();
    info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "starting");
    let version = concat!("version ", env!("CARGO_PKG_VERSION"));
    journal.record(Event::new(EventKind::Daemon, None, version, clock::now()).between("stopped", "starting"));
    if let Some(failure) = refused {
        accepted::tell(&failure, &journal);
    }

    let listeners = Listeners::take_or_bind(&config.web, &config.turn, &mut inherited)?;
    if let Some(failure) = listeners.lack() {
        warn!(%failure, "HTTPS is served all the same; the port is taken once it is free");
    }
    let sockets = turn::take_or_bind(&config.turn, &mut inherited)?;
    let kept = listeners.keep_in(&manager).and_then(|()| sockets.keep_in(&manager));
    kept.map_err(|error| {
        Failure::operator(text!("cannot hand the listening sockets to the service manager")).caused_by(error)
    })?;
    // Each of them takes both, told apart by the first bytes.
    let streams = listeners.turn_addresses();
    let targets = Targets {
        https: listeners.https_addresses(),
        streams: streams.clone(),
        udp: sockets.addresses(),
        name: host_name(&config),
    };

    let board = Board::default();
    let ice = LiveIce::new(IceIssuer::new(&config, &secrets));
    let gate = Gate::new(&config, &secrets);
    let certificate = CertHandle::default();
    certificate.challenges().lack_http(listeners.lack().is_some());
    let doors = Doors::default();
    let turn_counters = Arc::new(turn::Counters::default());
    let call_counters = Arc::new(signaling::Counters::default());
    let marks = Marks::default();
    let edge = Edge::new(listeners, certificate.clone(), doors.clone(), &config)?.with_marks(marks.clone());
    let turn = Turn::new(&config.turn, &secrets, sockets, Arc::clone(&turn_counters)).with_streams(doors.turn);
    let asker = Asker { certificate: certificate.clone(), relay: turn.control(), marks };
    let probes = Probes::new(&targets, asker, board.clone());
    let watch = Watch::new(Sights {
        probes: probes.clone(),
        board: board.clone(),
        certificate: certificate.clone(),
        relay: Arc::clone(&turn_counters),
        in_force: in_force.clone(),
        goes_by: ArcSwap::from_pointee(GoesBy::new(&config, &targets.udp)),
        connections: edge.counters(),
        edge: edge.control(),
        hooks: Hooks::start(config.notify.clone(), &home.certs_dir().join("ca.pem"))?,
        journal: journal.clone(),
        home: home.clone(),
        has_log_file: mode != Mode::Foreground,
    });
    let sources = Sources {
        probes,
        watch,
        started_at: clock::now().mono,
        board: board.clone(),
        ice: ice.clone(),
        gate: gate.clone(),
        certificate: certificate.clone(),
        outside: Arc::new(ArcSwap::from_pointee(Outside::new(&config, &turn_counters, &targets.udp, &streams))),
        turn_counters,
        in_force,
        log: log.clone(),
        connections: edge.counters(),
        calls: Arc::clone(&call_counters),
    };
    let metered = sources.clone();
    let metrics = Metrics::new(move || status::metrics(&metered, clock::now()), secrets.metrics_token.clone());
    let certs = Certs::new(&config, &secrets, home, certificate);
    let signaling = Signaling::new(&config, doors.signaling, (ice.clone(), gate.clone()), call_counters);
    let web = Web::new(&config, home, doors.web, (ice, gate.clone()), board.clone(), metrics);
    let phones = web.phones();
    let controls = Controls {
        access: gate,
        certs: certs.control(),
        edge: edge.control(),
        log,
        signaling: signaling.control(),
        turn: turn.control(),
        web: web.control(),
    };
    let services: Vec<Arc<dyn Service>> = vec![Arc::new(certs), Arc::new(turn), Arc::new(signaling), Arc::new(web)];
    let manager = Arc::new(manager);
    let mut heartbeat = Heartbeat::new(Arc::clone(&manager));
    let supervisor = Supervisor::new(services, board)
        .with_pace(manner.pace())
        .with_journal(journal.clone())
        .with_beat(Box::new(move || heartbeat.turn(clock::now().mono)))
        .watching(Fixture { name: "edge", pulses: edge.pulses() });
    fault::point("daemon-prepared");
    let home = home.clone();
    Ok(Prepared { home, manner, manager, inherited, lock, controls, journal, edge, supervisor, sources, phones })
}

fn take_lock(home: &Home, mode: Mode) -> Result<Lock> {
    let path = home.lock_file();
    let held = |what: Text, pid: Option<u32>| {
        let by = pid.map_or_else(Text::default, |pid| text!(" (pid {})", pid));
        Failure::new(Kind::Locked, text!("{}{}", what, by))
            .hinted(text!("see `rtcctl{0} status`, or end it by `rtcctl{0} stop`", home.flag()))
    };
    let lock = Lock::take(&path).map_err(|refused| match refused {
        Refused::Held(pid) => held(text!("rtcctl runs already for this home"), pid),
        Refused::Io(error) => Failure::operator(text!("cannot lock `{}`", path.display())).caused_by(error),
    })?;
    // Its daemon may be down just now, and is going to be started again.
    match guardian::holder(home).filter(|_| mode != Mode::Guarded) {
        Some(pid) => Err(held(text!("a guardian looks after this home already"), Some(pid))),
        None => Ok(lock),
    }
}

impl Prepared {
    fn serve(self, mode: Mode) -> Result<()> {
        let Self {
            home,
            manner,
            manager,
            mut inherited,
            mut lock,
            controls,
            journal,
            edge,
            supervisor,
            sources,
            phones,
        } = self;
        let control = control_socket(&home, &mut inherited)?;
        keep_control(&manager, &control);
        sources.in_force.keep_in(&manager);
        for name in inherited.finish() {
            // The configuration has changed since, and what nobody serves must not be held open.
            manager.store_anew(&name);
        }
        let (wishes, wished) = mpsc::channel();
        let handle = supervisor.handle();
        let log = controls.log.clone();
        let (events, keeper) = (journal.clone(), Arc::clone(&manager));
        let reloader = Reloader::new(controls, sources.clone(), handle.clone(), events, keeper, ORDER_PATIENCE);
        let answerer =
            answerer(sources.clone(), handle.clone(), reloader.clone(), wishes.clone(), journal.clone(), phones);
        let renewing = Arc::clone(&manager);
        let control = server::serve(control, answerer, move |socket| keep_control(&renewing, socket))?;
        let supervisor = supervisor.with_escalation(escalation(wishes.clone(), Arc::clone(&manager)));
        watch_signals(wishes)?;

        let guarded = match mode {
            Mode::Foreground | Mode::Service => None,
            Mode::Guarded => {
                let watched = Guarded::watch(&home, manner, Arc::clone(&manager));
                Some(watched.map_err(|error| Failure::operator(text!("cannot watch the guardian")).caused_by(error))?)
            }
        };

        let closing = CancellationToken::new();
        let closed = CancellationToken::new();
        let (edge_closing, edge_closed) = (closing.clone(), closed.clone());
        let (asking, asked) = mpsc::channel();
        let edge = spawn("edge", move || edge.run(edge_closing, asking, &edge_closed))?;
        let tasks = spawn("supervisor", move || supervisor.run())?;
        handle.wait_until_settled(SETTLED_WITHIN);
        // Ready is what was seen to answer, not what says so.
        sources.probes.run_once();
        for (name, lane) in [("probes", Lane::Cheap), ("deep-probes", Lane::Deep)] {
            let (probes, closing) = (sources.probes.clone(), closing.clone());
            spawn(name, move || probes.run(lane, &closing))?;
        }
        let (watch, watch_closing) = (sources.watch.clone(), closing.clone());
        spawn("findings", move || watch.run(&watch_closing))?;
        let outcome = outcome(&sources.board);
        match &outcome {
            Outcome::Ready { .. } => info!(url = sources.outside.load().web_url, "ready"),
            Outcome::Partly { .. } | Outcome::Failed { .. } => warn!("running, but not all of it"),
        }
        let entry = Event::new(EventKind::Daemon, None, "every task was started", clock::now());
        journal.record(entry.between("starting", "running"));
        manager.ready();
        if mode == Mode::Guarded {
            tell(&outcome);
        }

        let reason = loop {
            match wished.recv_timeout(turns::until_next(clock::now().mono)) {
                Ok(Wish::Stop(reason)) => break (reason.to_owned(), false),
                Ok(Wish::StartAnew(cause)) => break (cause, true),
                Ok(Wish::Reload) => reload(&log, &reloader, &manager),
                // Does the log have something to tell or to put aside, and are folders and the lock's file there?
                Err(RecvTimeoutError::Timeout) => {
                    log.tick();
                    restore_private_dirs(home.folders_to_keep());
                    keep_lock(&mut lock);
                    reloader.mend();
                }
                Err(RecvTimeoutError::Disconnected) => break ("nothing is left to wait for".to_owned(), false),
            }
        };
        let (reason, is_hanging) = reason;
        info!(reason, "stopping");
        journal.record(Event::new(EventKind::Daemon, None, &reason, clock::now()).between("running", "stopping"));
        if is_hanging {
            end_within(HANGING_STOPS_WITHIN);
            manager.want_next(&reason);
        }
        if let Some(guarded) = &guarded {
            guarded.close();
        }
        manager.stopping();
        manager.close_copies();
        // The second wish to stop is not argued with.
        let _impatient = spawn("impatient", move || {
            while let Ok(wish) = wished.recv() {
                if matches!(wish, Wish::Stop(_)) {
                    std::process::exit(i32::from(Kind::Interrupted.exit_code()));
                }
            }
        });
        closing.cancel();
        // Whoever was let in already is answered, for which the tasks have to be there.
        let _ = asked.recv_timeout(edge::ASKED_WITHIN);
        handle.halt();
        let tasks = tasks.join();
        closed.cancel();
        let edge = edge.join();
        // The file is gone when the lock is: whoever waits for the one may rely on the other.
        control.close();
        info!("stopped");
        journal.record(Event::new(EventKind::Daemon, None, &reason, clock::now()).between("stopping", "stopped"));
        log.finish();
        match (edge, tasks) {
            (Ok(result), Ok(())) if is_hanging => result.and(Err(Failure::bug(Text::verbatim(reason)))),
            (Ok(result), Ok(())) => result,
            (Err(_), _) | (_, Err(_)) => Err(Failure::bug(text!("a thread of the daemon panicked; see its log"))),
        }
    }
}

/// Asks for a new process where there is somebody to start one. Elsewhere a service that hangs in part is better than
/// none.
fn escalation(wishes: mpsc::Sender<Wish>, manager: Arc<Manager>) -> Escalate {
    // Called by the supervisor's thread alone, and its sender cannot be shared otherwise.
    let wishes = std::sync::Mutex::new(wishes);
    Box::new(move |cause| {
        if !manager.is_there() {
            error!(cause, "nobody would start the daemon anew; `rtcctl restart` does");
            return;
        }
        // Nobody listens once it is stopping already.
        let wishes = wishes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = wishes.send(Wish::StartAnew(cause.to_owned()));
    })
}

/// Ends the process even if something in it hangs on its way out.
fn end_within(patience: Duration) {
    let end = move || {
        let end = clock::now().mono + patience;
        while clock::now().mono < end {
            thread::park_timeout(patience);
        }
        std::process::exit(i32::from(Kind::Bug.exit_code()));
    };
    if spawn("deadline", end).is_err() {
        std::process::exit(i32::from(Kind::Bug.exit_code()));
    }
}

/// Without the lock's file nobody finds this daemon, and another one could be started beside it.
fn keep_lock(lock: &mut Lock) {
    match lock.keep() {
        Ok(false) => {}
        Ok(true) => warn!("the file of the daemon's lock was deleted; it is there again"),
        Err(refused) => debug!(?refused, "the file of the daemon's lock is not there"),
    }
}

/// The name by which the service manager keeps the control socket.
const CONTROL: &str = "control";

/// The control socket of the start before, if it can still be reached, or a new one.
fn control_socket(home: &Home, inherited: &mut Inherited) -> Result<Socket> {
    let path = home.control_socket();
    let kept = inherited.take_unix(CONTROL).and_then(|listener| Socket::take_over(&path, listener));
    kept.map_or_else(|| server::bind(&path), Ok)
}

/// Has the service manager keep the control socket, and no other one in its place.
fn keep_control(manager: &Manager, socket: &Socket) {
    manager.release_named(CONTROL);
    if let Err(error) = manager.keep(CONTROL, [socket]) {
        warn!(%error, "the control socket is not kept for the next start");
    }
}

fn spawn<T: Send + 'static>(name: &str, run: impl FnOnce() -> T + Send + 'static) -> Result<thread::JoinHandle<T>> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map_err(|error| Failure::operator(text!("cannot start the thread `{}`", name)).caused_by(error))
}

fn answerer(
    sources: Sources,
    handle: Handle,
    reloader: Reloader,
    wishes: mpsc::Sender<Wish>,
    journal: Journal,
    phones: Phones,
) -> server::Answerer {
    // A client has a thread of its own, and the wishes' sender is shared between them.
    let wishes = std::sync::Mutex::new(wishes);
    Arc::new(move |request| {
        let refused =
            |failure: Failure| Response::Refused { message: failure.told(), hint: failure.hints().first().cloned() };
        let order =
            |task: TaskName, order| handle.order(task, order, ORDER_PATIENCE).map_or_else(refused, |()| Response::Done);
        match request {
            Request::Phone(ask) => phone::answer(&phones, &sources, ask),
            Request::Status => Response::Status { status: Box::new(status::read(&sources, clock::now())) },
            Request::Measure => {
                let Login { username, password } = sources.probes.measuring_login();
                Response::Measure { username, credential: password }
            }
            Request::Stop { task: None } => {
                journal.record(Event::new(EventKind::Order, None, "stop ordered by the operator", clock::now()));
                let wishes = wishes.lock().expect("nothing panics while it holds this lock");
                // Nobody listens once it is stopping already.
                let _ = wishes.send(Wish::Stop("ordered by `rtcctl stop`"));
                Response::Done
            }
            Request::Stop { task: Some(task) } => order(task, Order::Stop),
            Request::Start { task } => order(task, Order::Start),
            Request::Restart { task } => order(task, Order::Restart),
            Request::Renew { force } => {
                let wish = if force { renewal::Wish::Force } else { renewal::Wish::Renew };
                let renewed = sources.certificate.renew(wish, RENEWED_WITHIN);
                renewed.map_or_else(refused, |renewed| Response::Renewed { renewed })
            }
            Request::Reload => match reloader.reload() {
                Ok(reload) => Response::Reloaded { reload: Box::new(reload) },
                Err(failure) => Response::Failed { failure },
            },
            #[cfg(feature = "faults")]
            Request::Fault { place, kind } => {
                let cause = format!("{kind:?} planted at {place:?}");
                journal.record(Event::new(EventKind::Fault, None, &cause, clock::now()));
                reloader.plant(place, kind);
                Response::Done
            }
        }
    })
}

fn watch_signals(wishes: mpsc::Sender<Wish>) -> Result<()> {
    let signals = process::daemon_signals();
    let watch = move || {
        while let Ok(signal) = signals.wait() {
            let wish = if signal == Signal::SIGHUP { Wish::Reload } else { Wish::Stop(signal.as_str()) };
            if wishes.send(wish).is_err() {
                return;
            }
        }
    };
    spawn("signals", watch).map(drop)
}

/// SIGHUP: the log file may have been moved away, and the configuration may be another one.
fn reload(log: &log::Control, reloader: &Reloader, manager: &Arc<Manager>) {
    match log.reopen() {
        Ok(()) => info!("SIGHUP: the log was opened anew, and the configuration is read"),
        Err(error) => warn!(%error, "SIGHUP: cannot open the log file anew"),
    }
    let (reloader, manager) = (reloader.clone(), Arc::clone(manager));
    let run = move || {
        manager.say("RELOADING=1");
        // Whoever has sent the signal reads the log.
        let _ = reloader.reload();
        manager.ready();
    };
    // A task that takes its time to restart must not keep the next wish waiting.
    if let Err(failure) = spawn("reload", run) {
        warn!(%failure, "cannot reload");
    }
}

fn outcome(board: &Board) -> Outcome {
    let pid = std::process::id();
    let is_down = |state| !matches!(state, State::Ready | State::Degraded);
    let tasks: Vec<(TaskName, Text)> = board
        .tasks()
        .iter()
        .filter(|task| is_down(task.state))
        .map(|task| (task.name, task.last_error.clone().unwrap_or_else(|| text!("it is still starting"))))
        .collect();
    if tasks.is_empty() { Outcome::Ready { pid } } else { Outcome::Partly { pid, tasks } }
}

/// Says one line to the `start` that waits on our standard output, then lets go of it.
fn tell(outcome: &Outcome) {
    let line = carry::to_line(outcome).expect("an outcome has string keys only");
    let mut output = std::io::stdout().lock();
    // A `start` that was interrupted does not listen any more, and the service runs all the same.
    let _ = output.write_all(&line).and_then(|()| output.flush());
    if let Ok(nowhere) = File::options().write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(nowhere.as_fd());
    }
}
