//! The certs task: keeps the served certificate valid, without anyone noticing.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tracing::{info, warn};

use super::files::{Watched, load_files};
use super::handle::Asked;
use super::keeper::Keeper;
use super::moment::Moment;
use super::renewal::Wish;
use super::store::{load_or_issue, reissue};
use super::work::Done;
use super::{CertHandle, Served, Source};
use crate::config::{CertSource, Config, Secrets};
use crate::error::{Failure, Result};
use crate::home::Home;
use crate::supervisor::service::{Context, Service, TaskName};
use crate::sys::{clock, turns};
use crate::text;
use crate::words::Text;

/// How often the local leaf and the host's addresses are looked at.
const CHECKED_EVERY: Duration = Duration::from_secs(3600);

/// Loads or makes the certificate, swaps it in, and renews it in time.
pub struct Certs {
    live: Arc<Live>,
}

/// What the task and its control share.
struct Live {
    config: ArcSwap<Config>,
    /// Counts the configurations, so that an instance notices another one.
    generation: AtomicU64,
    secrets: ArcSwap<Secrets>,
    home: Home,
    handle: CertHandle,
    /// Held by whoever looks at the local CA's files and writes them.
    refreshing: Mutex<()>,
}

/// Changes what the certificate is for. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    live: Arc<Live>,
}

/// A certificate on disk that is not served yet.
#[derive(Debug)]
pub struct Issued(Served);

impl Control {
    /// Loads the certificate for `config`, or makes one by the local CA; connections and handshakes see nothing of it
    /// yet. What an authority is to issue is ordered once the configuration is applied.
    ///
    /// # Errors
    /// If the folder of certificates cannot be read or written, or the operator's files cannot be served.
    pub fn issue(&self, config: &Config) -> Result<Issued> {
        self.live.at_hand(config).map(|(served, _)| Issued(served))
    }

    /// Serves it in new handshakes, and keeps it fresh for `config` from now on.
    pub fn apply(&self, config: &Config, secrets: &Secrets, issued: Option<Issued>) {
        let before = self.live.config.swap(Arc::new(config.clone()));
        let bindings_before = self.live.secrets.swap(Arc::new(secrets.clone()));
        if let Some(Issued(served)) = issued {
            self.live.serve(served);
        }
        let concerns = |config: &Config| {
            let (web, turn) = (&config.web, &config.turn);
            (config.certificate.clone(), config.hosts.clone(), web.port, web.http_port, turn.public_ips.clone())
        };
        if concerns(&before) != concerns(config) || bindings_before.acme_bindings != secrets.acme_bindings {
            // The instance takes it up at its next turn. Any other change leaves alone what it is at.
            self.live.generation.fetch_add(1, Ordering::Release);
        }
    }
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.refreshing.lock().expect("nothing panics while it holds this lock")
    }

    /// Serves `served` from now on, if it is not what is served already.
    fn serve(&self, served: Served) {
        if self.handle.current().is_none_or(|current| current.fingerprint != served.fingerprint) {
            info!(source = served.source.as_str(), fingerprint = served.fingerprint, "serving another certificate");
            self.handle.swap(served);
        }
    }

    /// The leaf of the local CA, as it is or made anew.
    fn local(&self, config: &Config) -> Result<Served> {
        let _refreshing = self.lock();
        load_or_issue(config, &self.home, clock::now())
    }

    /// What can be served now for `config`, without asking anybody.
    fn at_hand(&self, config: &Config) -> Result<(Served, Option<Keeper>)> {
        let now = clock::now().wall;
        match config.certificate.source {
            CertSource::SelfSigned => Ok((self.local(config)?, None)),
            CertSource::Files => Ok((load_files(config, now)?, None)),
            CertSource::Acme => {
                let challenges = self.handle.challenges().clone();
                let mut keeper = Keeper::open(config, &self.secrets.load(), &self.home, challenges, now.into());
                let served = match keeper.load(now) {
                    Some(served) => served,
                    None => self.local(config)?,
                };
                Ok((served, Some(keeper)))
            }
        }
    }
}

impl Certs {
    #[must_use]
    pub fn new(config: &Config, secrets: &Secrets, home: &Home, handle: CertHandle) -> Self {
        let live = Live {
            config: ArcSwap::from_pointee(config.clone()),
            generation: AtomicU64::default(),
            secrets: ArcSwap::from_pointee(secrets.clone()),
            home: home.clone(),
            handle,
            refreshing: Mutex::default(),
        };
        Self { live: Arc::new(live) }
    }

    /// Changes what the certificate is for, whether or not an instance runs.
    #[must_use]
    pub fn control(&self) -> Control {
        Control { live: Arc::clone(&self.live) }
    }
}

/// One instance of the task, for one configuration.
struct Instance<'a> {
    live: &'a Live,
    config: Arc<Config>,
    generation: u64,
    checked_at: SystemTime,
    keeper: Option<Keeper>,
    watched: Option<Watched>,
    /// What an authority is asked at the moment.
    work: Option<Pin<Box<dyn Future<Output = Done>>>>,
    /// Who waits for a renewal.
    asked: Option<mpsc::Sender<Result<bool>>>,
    /// What keeps the certificate from being what it should be.
    complaint: Option<Text>,
}

impl<'a> Instance<'a> {
    fn begin(live: &'a Live) -> Result<Self> {
        let generation = live.generation.load(Ordering::Acquire);
        let config = live.config.load_full();
        let (keeper, complaint) = match live.at_hand(&config) {
            Ok((served, keeper)) => {
                live.serve(served);
                (keeper, None)
            }
            // What was served before a restart of the task is better than nothing.
            Err(failure) if live.handle.current().is_some() => (None, Some(failure.told())),
            Err(failure) => return Err(failure),
        };
        let now = clock::now().wall;
        live.handle.publish(keeper.as_ref().map(|keeper| keeper.view(now.into())));
        let watched = if config.certificate.source == CertSource::Files { Watched::of(&config) } else { None };
        Ok(Self { live, config, generation, checked_at: now, keeper, watched, work: None, asked: None, complaint })
    }

    /// One turn of the loop: whatever is due, without waiting for anything.
    fn turn(&mut self) {
        let now = clock::now();
        let wish = self.live.handle.take_wish().map(|Asked { wish, answer }| {
            self.asked = Some(answer);
            wish
        });
        // A clock that was set back counts as an hour, too.
        let is_hour = now.wall.duration_since(self.checked_at).map_or(true, |passed| passed >= CHECKED_EVERY);
        if self.watched.is_some() {
            self.watch(now.wall);
        } else if self.keeper.is_some() {
            self.keep(wish, now.wall);
        } else if is_hour || wish.is_some() {
            self.checked_at = now.wall;
            let before = self.fingerprint();
            let refreshed = self.refresh(wish);
            self.complaint = refreshed.as_ref().err().map(Failure::told);
            let has_changed = before != self.fingerprint();
            self.answer(refreshed.map(|()| has_changed));
        }
    }

    fn fingerprint(&self) -> Option<String> {
        self.live.handle.current().map(|served| served.fingerprint.clone())
    }

    /// Tells who waits, if anybody does.
    fn answer(&mut self, result: Result<bool>) {
        if let Some(asked) = self.asked.take() {
            // He may have lost patience.
            let _ = asked.send(result);
        }
    }

    /// The local leaf.
    fn refresh(&self, wish: Option<Wish>) -> Result<()> {
        let served = match wish {
            Some(Wish::Force) => {
                let _refreshing = self.live.lock();
                reissue(&self.config, &self.live.home, clock::now())?
            }
            Some(Wish::Renew) | None => self.live.local(&self.config)?,
        };
        self.live.serve(served);
        Ok(())
    }

    /// The operator's files.
    fn watch(&mut self, now: SystemTime) {
        let before = self.fingerprint();
        let Some(watched) = &mut self.watched else { return };
        if self.asked.is_some() {
            watched.look_again();
        }
        match watched.changed(&self.config, now) {
            Some(Ok(served)) => {
                self.complaint = None;
                self.live.serve(served);
            }
            Some(Err(failure)) => self.complaint = Some(failure.told()),
            None => {
                let ends = self.live.handle.current().map(|served| served.not_after);
                if ends.is_some_and(|ends| ends <= now) {
                    self.complaint = Some(text!("the certificate of the files that are served has expired"));
                }
            }
        }
        let has_changed = before != self.fingerprint();
        self.answer(match &self.complaint {
            Some(why) => Err(Failure::operator(text!("the files cannot be served")).because(why.clone())),
            None => Ok(has_changed),
        });
    }

    /// The certificate of an authority.
    fn keep(&mut self, wish: Option<Wish>, now: SystemTime) {
        let is_local = self.live.handle.current().is_none_or(|served| served.source != Source::Acme);
        if is_local && let Some(served) = self.keeper.as_mut().and_then(|keeper| keeper.recall(now)) {
            self.live.serve(served);
        }
        let served = self.live.handle.current();
        let has_expired = served.as_ref().is_none_or(|served| served.source == Source::Acme && served.not_after <= now);
        if has_expired {
            // Whoever trusts the local CA is better off with it than with a date that is over.
            match self.live.local(&self.config) {
                Ok(local) => self.live.serve(local),
                Err(failure) => warn!(%failure, "cannot make a certificate of the local CA"),
            }
        }
        let Some(keeper) = &mut self.keeper else { return };
        if let Some(wish) = wish {
            keeper.wish(wish);
        }
        let (answer, obstacle) = match keeper.next(served.as_deref(), self.work.is_some(), now.into()) {
            Ok(Some(work)) => {
                self.work = Some(Box::pin(work.run()));
                (None, None)
            }
            Ok(None) if self.work.is_some() => (None, None),
            Ok(None) => (Some(keeper.waits(now.into()).map_or(Ok(false), Err)), None),
            Err(failure) => (Some(Err(failure.clone())), Some(failure.told())),
        };
        self.complaint = obstacle.or_else(|| keeper.complaint(now.into()));
        self.live.handle.publish(Some(keeper.view(now.into())));
        if let Some(answer) = answer {
            self.answer(answer);
        }
    }

    fn finish(&mut self, done: Done) {
        self.work = None;
        let Some(keeper) = &mut self.keeper else { return };
        let now = clock::now().wall;
        let finished = keeper.finish(done, now.into(), rand::random());
        self.complaint = keeper.complaint(Moment::from(now));
        self.live.handle.publish(Some(keeper.view(now.into())));
        match finished {
            Ok(Some(served)) => {
                self.live.serve(served);
                self.answer(Ok(true));
            }
            Ok(None) => {}
            Err(trouble) => {
                let failure = Failure::operator(text!("no certificate was issued")).because(trouble.told());
                let hint = trouble.hint();
                self.answer(Err(hint.into_iter().fold(failure, Failure::hinted)));
            }
        }
    }

    /// Waits for something to do, a moment at most. `true`: the task is to stop.
    async fn wait(&mut self, context: &Context) -> bool {
        let handle = self.live.handle.clone();
        let done = async {
            match &mut self.work {
                Some(work) => work.await,
                None => std::future::pending().await,
            }
        };
        let done = tokio::select! {
            () = context.stopping().cancelled() => return true,
            done = done => Some(done),
            () = handle.wished() => None,
            // Not for long, also because monotonic clocks stop while a machine is suspended.
            () = tokio::time::sleep(turns::until_next(clock::now().mono)) => None,
        };
        if let Some(done) = done {
            self.finish(done);
        }
        false
    }
}

impl Service for Certs {
    fn name(&self) -> TaskName {
        TaskName::Certs
    }

    fn run(&self, context: Context) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_start(context.adopter())
            .build()
            .map_err(|error| Failure::operator(text!("cannot start a runtime for certs")).caused_by(error))?;
        let mut instance = Instance::begin(&self.live)?;
        context.ready();
        let mut told = None;
        loop {
            context.progress();
            // An order that is under way for another configuration is given up, and gone on with if it is for the same.
            if instance.generation != self.live.generation.load(Ordering::Acquire) {
                match runtime.block_on(async { Instance::begin(&self.live) }) {
                    Ok(next) => instance = next,
                    Err(failure) => warn!(%failure, "cannot take up the configuration; trying again"),
                }
            }
            runtime.block_on(async { instance.turn() });
            if instance.complaint != told {
                if let Some(why) = &instance.complaint {
                    warn!(why = why.english(), "the certificate is not what it should be");
                }
                context.degraded(instance.complaint.clone());
                told.clone_from(&instance.complaint);
            }
            if runtime.block_on(instance.wait(&context)) {
                // An order that is under way is gone on with by the next instance.
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::config::{HostFacts, resolve};
    use crate::supervisor::instance::Pulse;
    use crate::supervisor::service::Report;

    /// Runs an instance on a thread; gives what it reports, and how to stop it.
    fn run(home: &Home, handle: &CertHandle) -> (mpsc::Receiver<Report>, CancellationToken, Arc<Pulse>, Joined) {
        let facts = HostFacts { relay_ips: vec!["192.0.2.1".parse().unwrap()], cores: 1 };
        let config = resolve("hosts: [call.example]\n", &facts).unwrap().config;
        let certs = Certs::new(&config, &secrets(), home, handle.clone());
        let (sender, reports) = mpsc::channel();
        let report = Arc::new(move |report| drop(sender.send(report)));
        let (progress, stopping) = (Arc::new(Pulse::default()), CancellationToken::new());
        let context = Context::new(report, Arc::clone(&progress), stopping.clone());
        let joined = std::thread::spawn(move || certs.run(context));
        (reports, stopping, progress, joined)
    }

    fn secrets() -> Secrets {
        Secrets {
            turn: Vec::new(),
            turn_users: BTreeMap::new(),
            acme_bindings: BTreeMap::new(),
            metrics_token: None,
            access_key: None,
            turn_old_until: None,
        }
    }

    type Joined = std::thread::JoinHandle<Result<()>>;

    #[test]
    fn it_serves_a_certificate_before_it_is_ready_and_ends_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let handle = CertHandle::default();
        let (reports, stopping, progress, joined) = run(&Home::under(dir.path()), &handle);
        assert_eq!(reports.recv_timeout(Duration::from_secs(10)), Ok(Report::Ready));
        assert!(handle.current().unwrap().names.iter().any(|name| name == "call.example"));
        stopping.cancel();
        assert_eq!(joined.join().unwrap(), Ok(()));
        assert!(progress.count() > 0);
    }

    #[test]
    fn a_restart_with_the_same_certificate_swaps_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let handle = CertHandle::default();
        let mut served = Vec::new();
        for _ in 0..2 {
            let (reports, stopping, _, joined) = run(&Home::under(dir.path()), &handle);
            assert_eq!(reports.recv_timeout(Duration::from_secs(10)), Ok(Report::Ready));
            served.push(handle.current().unwrap());
            stopping.cancel();
            joined.join().unwrap().unwrap();
        }
        assert!(Arc::ptr_eq(&served[0], &served[1]));
    }

    #[test]
    fn an_instance_without_any_certificate_ends_with_the_reason() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (_, _, _, joined) = run(&Home::under(file.path()), &CertHandle::default());
        let failure = joined.join().unwrap().unwrap_err();
        assert!(failure.message().contains(file.path().to_str().unwrap()), "{failure}");
    }
}
