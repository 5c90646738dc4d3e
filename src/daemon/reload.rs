//! Takes up another configuration while the service runs: all of it or nothing.
//!
//! What can fail comes first: reading, checking, binding new ports, issuing a certificate. Only then anything is
//! changed, by steps that cannot fail. Last come the restarts of tasks that cannot take up a change while they run.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use tracing::{error, info, warn};

use super::changes::{Change, How, changes};
use super::status::Sources;
use super::{accepted, edited, logging};
use crate::access::Gate;
use crate::certs::files::load_files;
use crate::config::{self, CertSource, Config, Secrets, Texts};
use crate::control::protocol::{Effect, Pending, Reload, ReloadChange, ReloadTask, SCHEMA_VERSION};
use crate::error::{Failure, Result};
use crate::home::Home;
use crate::supervisor::board::State;
use crate::supervisor::driver::{Handle, Order};
use crate::supervisor::events::{Event, EventKind, Journal};
use crate::supervisor::service::TaskName;
use crate::sys::notify::Manager;
use crate::sys::{clock, log, net};
use crate::text;
use crate::turn::ice::IceIssuer;
use crate::words::Text;
use crate::{certs, edge, signaling, turn, web};

/// The configuration that is in force. Cheap to clone.
#[derive(Clone)]
pub(super) struct InForce {
    home: Home,
    current: Arc<ArcSwap<Loaded>>,
}

struct Loaded {
    config: Config,
    secrets: Secrets,
    texts: Texts,
}

/// Changes everything that can be changed while it runs.
#[derive(Clone)]
pub(super) struct Controls {
    pub(super) access: Gate,
    pub(super) certs: certs::Control,
    pub(super) edge: edge::Control,
    pub(super) log: log::Control,
    pub(super) signaling: signaling::Control,
    pub(super) turn: turn::Control,
    pub(super) web: web::Control,
}

/// Reloads, one at a time.
#[derive(Clone)]
pub(super) struct Reloader {
    in_force: InForce,
    controls: Controls,
    sources: Sources,
    tasks: Handle,
    journal: Journal,
    manager: Arc<Manager>,
    patience: Duration,
    running: Arc<Mutex<()>>,
}

/// What was made ready for a change.
struct Ready {
    certificate: Option<certs::Issued>,
    tcp: Option<edge::Moving>,
    udp: Option<turn::Moving>,
    root: web::Root,
}

impl InForce {
    /// Reads the configuration of `home` for the first time. If it does not pass, what was in force `before` is so
    /// still, as after a reload; why is given, too.
    ///
    /// # Errors
    /// With every complaint about it.
    pub(super) fn load(home: &Home, before: Option<Texts>) -> Result<(Self, Option<Failure>)> {
        let (loaded, refused) = match Loaded::read(home, None).and_then(Loaded::with_its_files) {
            Ok(loaded) => (loaded, None),
            Err(failure) => {
                // Whoever deletes the whole home means all of it.
                let before = before.filter(|_| home.config_dir().is_dir());
                let resolved = before.map(|texts| Loaded::resolve(home, texts).and_then(Loaded::with_its_files));
                match resolved {
                    Some(Ok(loaded)) => (loaded, Some(failure)),
                    Some(Err(_)) | None => return Err(failure),
                }
            }
        };
        Ok((Self { home: home.clone(), current: Arc::new(ArcSwap::from_pointee(loaded)) }, refused))
    }

    /// Which of its files were edited since, in words.
    pub(super) fn edited(&self) -> Option<Text> {
        edited::difference(&self.home, &self.current.load().texts)
    }

    /// Has the service manager keep it for the next daemon.
    pub(super) fn keep_in(&self, manager: &Manager) {
        accepted::keep(manager, &self.current.load().texts);
    }

    pub(super) fn config_and_secrets(&self) -> (Config, Secrets) {
        let loaded = self.current.load();
        (loaded.config.clone(), loaded.secrets.clone())
    }

    /// What a reload would do, if a file was edited since the last one.
    pub(super) fn pending(&self) -> Option<Pending> {
        let current = self.current.load();
        self.edited()?;
        let written_at = |path: PathBuf| std::fs::metadata(path).and_then(|data| data.modified()).ok();
        let files = [self.home.config_file(), self.home.secrets_file()];
        let since = files.into_iter().filter_map(written_at).max().map(clock::rfc3339_seconds).unwrap_or_default();
        match Loaded::read(&self.home, Some(&current)) {
            Ok(new) => {
                let keys: Vec<String> = current.changes(&new).iter().map(|change| change.key.to_owned()).collect();
                (!keys.is_empty()).then(|| Pending { since, keys, complaints: Vec::new() })
            }
            Err(failure) => {
                let causes = failure.causes().iter().cloned();
                let complaints = std::iter::once(failure.message().clone()).chain(causes).collect();
                Some(Pending { since, keys: Vec::new(), complaints })
            }
        }
    }
}

impl Loaded {
    /// Addresses that were looked up stay those of `before` as long as this host has them.
    fn read(home: &Home, before: Option<&Self>) -> Result<Self> {
        let (texts, resolved, secrets) = config::load_texts(home)?;
        let mut config = resolved.config;
        if let Some(before) = before.filter(|_| resolved.detects_relay_ips) {
            let bound = &before.config.turn.relay_ips;
            let own = net::local_addresses();
            if bound.iter().all(|address| own.contains(address)) {
                config.turn.relay_ips.clone_from(bound);
            }
        }
        Ok(Self { config, secrets, texts })
    }

    fn resolve(home: &Home, texts: Texts) -> Result<Self> {
        let (resolved, secrets) = texts.resolve(home)?;
        Ok(Self { config: resolved.config, secrets, texts })
    }

    /// What the operator must mend is told before any port is bound.
    fn with_its_files(self) -> Result<Self> {
        if self.config.certificate.source == CertSource::Files {
            load_files(&self.config, clock::now().wall)?;
        }
        Ok(self)
    }

    fn changes(&self, new: &Self) -> Vec<Change> {
        changes((&self.config, &self.secrets), (&new.config, &new.secrets))
    }
}

impl Reloader {
    /// Plants a fault, where it is meant to strike or at once.
    #[cfg(feature = "faults")]
    pub(super) fn plant(&self, place: crate::supervisor::faults::Place, kind: crate::supervisor::faults::Kind) {
        use crate::supervisor::faults::{self, Kind};
        match kind {
            Kind::Hole { peer } => self.controls.turn.weaken(peer),
            Kind::Jump { seconds } => clock::jump(seconds),
            Kind::Panic | Kind::Spin | Kind::Deadlock | Kind::Block { .. } => faults::plant(place, kind),
        }
    }

    /// `patience` is how long a task may take to be restarted.
    pub(super) fn new(
        controls: Controls,
        sources: Sources,
        tasks: Handle,
        journal: Journal,
        manager: Arc<Manager>,
        patience: Duration,
    ) -> Self {
        let in_force = sources.in_force.clone();
        Self { in_force, controls, sources, tasks, journal, manager, patience, running: Arc::default() }
    }

    /// Reads the files anew, and brings everything into force that changed, or nothing at all.
    ///
    /// # Errors
    /// `Kind::Config` with every complaint, `Kind::Operator` if a port is taken or something else cannot be had. The
    /// configuration that was in force is so still.
    pub(super) fn reload(&self) -> Result<Reload> {
        let _running = self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let outcome = self.try_reload();
        let (to, cause) = summary(&outcome);
        self.journal.record(Event::new(EventKind::Reload, None, &cause, clock::now()).between("asked", to));
        match &outcome {
            Ok(reload) if reload.changes.is_empty() => info!("reloaded: nothing has changed"),
            Ok(reload) => {
                let keys: Vec<&str> = reload.changes.iter().map(|change| change.key.as_str()).collect();
                info!(keys = keys.join(" "), "reloaded");
                for task in reload.tasks.iter().filter(|task| task.effect == Effect::Failed) {
                    let error = task.error.as_ref().map_or("", Text::english);
                    error!(task = %task.name, error, "not ready after a reload");
                }
            }
            Err(failure) => {
                warn!(%failure, "the new configuration is refused; the one before stays in force");
            }
        }
        outcome
    }

    /// Takes the port of HTTP if somebody else had it and it is free by now.
    pub(super) fn mend(&self) {
        // Whoever reloads binds it, too.
        let Ok(_running) = self.running.try_lock() else { return };
        if self.controls.edge.mend(&self.in_force.current.load().config) {
            self.tell_challenges();
            self.keep_sockets();
            info!("the port of HTTP is free again, and is served");
        }
    }

    /// What an authority asks for by HTTP is answered only where that is served.
    fn tell_challenges(&self) {
        self.sources.certificate.challenges().lack_http(self.controls.edge.lack().is_some());
    }

    fn try_reload(&self) -> Result<Reload> {
        let old = self.in_force.current.load_full();
        let new = Loaded::read(&self.in_force.home, Some(&old))?;
        let changes = old.changes(&new);
        let ready = self.make_ready(&new, &changes)?;
        // From here on nothing fails.
        self.apply(new, &changes, ready);
        let restarts: BTreeSet<TaskName> = changes.iter().filter_map(Change::restart).collect();
        let tasks = TaskName::ALL.into_iter().map(|task| self.finish(task, &changes, &restarts)).collect::<Vec<_>>();
        // After the restarts: an instance with more workers has more sockets.
        if moves(&changes) {
            self.keep_sockets();
        }
        let effect_of = |change: &Change| {
            let task = change.restart().and_then(|name| tasks.iter().find(|task| task.name == name));
            task.map_or(Effect::Applied, |task| task.effect)
        };
        let told = changes.iter().map(|change| ReloadChange {
            key: change.key.to_owned(),
            from: change.from.clone(),
            to: change.to.clone(),
            effect: effect_of(change),
            note: change.note(),
        });
        let told: Vec<ReloadChange> = told.collect();
        let result = told.iter().map(|change| change.effect).max().unwrap_or(Effect::Unchanged);
        Ok(Reload { schema_version: SCHEMA_VERSION, result, changes: told, tasks })
    }

    /// Has the service manager keep what is listened on now.
    fn keep_sockets(&self) {
        let Controls { edge, turn, .. } = &self.controls;
        if let Err(error) = edge.keep_in(&self.manager).and_then(|()| turn.keep_in(&self.manager)) {
            warn!(%error, "the listening sockets are not kept for the next start");
        }
    }

    /// Everything that can fail.
    fn make_ready(&self, new: &Loaded, changes: &[Change]) -> Result<Ready> {
        let is_there = |wanted: &[How]| changes.iter().any(|change| wanted.contains(&change.how));
        let has = |keys: &[&str]| changes.iter().any(|change| keys.contains(&change.key));
        let kept =
            |failure: Failure| failure.hinted(text!("nothing was changed: the configuration before stays in force"));
        let make = || {
            let root = self.controls.web.look_at(&new.config.web)?;
            if has(&["turn.relay_ips"]) {
                self.controls.turn.check_relay_ips(&new.config.turn)?;
            }
            let udp = is_there(&[How::TurnListeners]).then(|| self.controls.turn.bind(&new.config.turn)).transpose()?;
            let moves_tcp = is_there(&[How::Listeners, How::TurnListeners]) || has(&["turn.tcp"]);
            let tcp = moves_tcp.then(|| self.controls.edge.bind(&new.config)).transpose()?;
            // The last one: it writes files.
            let issues = changes.iter().any(|change| change.key == "hosts" || change.key.starts_with("certificate."));
            let certificate = issues.then(|| self.controls.certs.issue(&new.config)).transpose()?;
            Ok(Ready { certificate, tcp, udp, root })
        };
        make().map_err(kept)
    }

    /// Everything that cannot fail.
    fn apply(&self, new: Loaded, changes: &[Change], ready: Ready) {
        if !changes.is_empty() {
            let Loaded { config, secrets, .. } = &new;
            let controls = &self.controls;
            controls.certs.apply(config, secrets, ready.certificate);
            match ready.udp {
                Some(moving) => controls.turn.move_to(&config.turn, secrets, moving),
                None => controls.turn.apply(&config.turn, secrets),
            }
            controls.access.apply(config, secrets);
            controls.edge.apply(config, ready.tcp);
            self.tell_challenges();
            // After the listeners: nobody is sent to a port that is not served yet.
            self.sources.ice.replace(IceIssuer::new(config, secrets));
            controls.web.apply(ready.root, secrets.metrics_token.clone());
            controls.signaling.apply(&config.signaling);
            controls.log.apply(&logging::settings(&config.log));
        }
        let new = Arc::new(new);
        self.in_force.current.store(Arc::clone(&new));
        self.in_force.keep_in(&self.manager);
        self.sources.follow(&new.config, &self.controls.edge, &self.controls.turn);
    }

    /// What became of one task, after its restart if it takes one.
    fn finish(&self, name: TaskName, changes: &[Change], restarts: &BTreeSet<TaskName>) -> ReloadTask {
        let concerns = |change: &Change| change.task() == Some(name);
        let unless_restarted = if changes.iter().any(concerns) { Effect::Applied } else { Effect::Unchanged };
        // One that the operator has stopped takes it up when it is started.
        let is_stopped =
            self.sources.board.tasks().iter().any(|task| task.name == name && task.state == State::Stopped);
        if !restarts.contains(&name) || is_stopped {
            return ReloadTask { name, effect: unless_restarted, error: None };
        }
        match self.tasks.order(name, Order::Restart, self.patience) {
            Ok(()) => ReloadTask { name, effect: Effect::Restarted, error: None },
            Err(failure) => ReloadTask { name, effect: Effect::Failed, error: Some(failure.told()) },
        }
    }
}

/// Whether other sockets are listened on than before.
fn moves(changes: &[Change]) -> bool {
    let is_moved = |change: &Change| {
        matches!(change.how, How::Listeners | How::TurnListeners) || ["turn.tcp", "turn.workers"].contains(&change.key)
    };
    changes.iter().any(is_moved)
}

/// The outcome for the journal: a word, and what there is to say.
fn summary(outcome: &Result<Reload>) -> (&'static str, String) {
    let keys = |reload: &Reload| reload.changes.iter().map(|change| change.key.as_str()).collect::<Vec<_>>().join(" ");
    match outcome {
        Ok(reload) => match reload.result {
            Effect::Unchanged => ("unchanged", String::new()),
            Effect::Applied => ("applied", keys(reload)),
            Effect::Restarted => ("restarted", keys(reload)),
            Effect::Failed => ("failed", keys(reload)),
        },
        Err(failure) => ("refused", failure.to_string()),
    }
}

impl Change {
    fn restart(&self) -> Option<TaskName> {
        match self.how {
            How::Restart(task) => Some(task),
            How::Live | How::Listeners | How::TurnListeners => None,
        }
    }
}
