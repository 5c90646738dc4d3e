//! The certs task: keeps the served certificate valid, without anyone noticing.

use std::pin::Pin;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use tracing::{info, warn};

use super::CertHandle;
use super::files::Watched;
use super::handle::Asked;
use super::keeper::{Done, Keeper};
use super::moment::Moment;
use super::renewal::Wish;
use super::store::{load_or_issue, reissue};
use super::{Served, Source};
use crate::config::{CertSource, Config, Secrets};
use crate::error::{Failure, Result};
use crate::home::Home;
use crate::supervisor::service::{Context, Service, TaskName};
use crate::sys::clock;

/// How often the local leaf and the host's addresses are looked at.
const CHECKED_EVERY: Duration = Duration::from_secs(3600);
/// How often the loop turns. Short, because monotonic clocks stop while a machine is suspended, and because a loop that
/// turns once an hour cannot be told from one that hangs.
const TURN_EVERY: Duration = Duration::from_secs(5);

/// Loads or makes the certificate, swaps it in, and renews it in time.
pub struct Certs {
    config: Config,
    secrets: Secrets,
    home: Home,
    handle: CertHandle,
}

/// One instance of the task.
struct Instance<'a> {
    certs: &'a Certs,
    checked_at: SystemTime,
    keeper: Option<Keeper>,
    watched: Option<Watched>,
    work: Option<Pin<Box<dyn Future<Output = Done>>>>,
    /// Who waits for a renewal.
    asked: Option<mpsc::Sender<Result<bool>>>,
    /// What keeps the certificate from being what it should be.
    complaint: Option<String>,
}

impl Certs {
    #[must_use]
    pub fn new(config: &Config, secrets: &Secrets, home: &Home, handle: CertHandle) -> Self {
        Self { config: config.clone(), secrets: secrets.clone(), home: home.clone(), handle }
    }

    /// Serves `served` from now on, if it is not what is served already.
    fn serve(&self, served: Served) {
        if self.handle.current().is_none_or(|current| current.fingerprint != served.fingerprint) {
            info!(source = served.source.as_str(), fingerprint = served.fingerprint, "serving another certificate");
            self.handle.swap(served);
        }
    }

    fn begin(&self) -> Result<Instance<'_>> {
        let now = clock::now();
        let mut instance = Instance {
            certs: self,
            checked_at: now.wall,
            keeper: None,
            watched: None,
            work: None,
            asked: None,
            complaint: None,
        };
        match self.config.certificate.source {
            CertSource::SelfSigned => {
                self.handle.publish(None);
                self.serve(load_or_issue(&self.config, &self.home, now)?);
            }
            CertSource::Acme => {
                let challenges = self.handle.challenges().clone();
                let moment = now.wall.into();
                let mut keeper = Keeper::open(&self.config, &self.secrets, &self.home, challenges, moment);
                match keeper.load(now.wall) {
                    Some(served) => self.serve(served),
                    None => self.serve(load_or_issue(&self.config, &self.home, now)?),
                }
                self.handle.publish(Some(keeper.view(moment)));
                instance.keeper = Some(keeper);
            }
            CertSource::Files => {
                self.handle.publish(None);
                let mut watched = Watched::of(&self.config)
                    .ok_or_else(|| Failure::bug("files that are to be served are named by the configuration"))?;
                match watched.changed(&self.config, now.wall) {
                    Some(Ok(served)) => self.serve(served),
                    // What was served before a restart of the task is better than nothing.
                    Some(Err(failure)) if self.handle.current().is_some() => {
                        instance.complaint = Some(failure.to_string());
                    }
                    Some(Err(failure)) => return Err(failure),
                    None => {}
                }
                instance.watched = Some(watched);
            }
        }
        Ok(instance)
    }
}

impl Instance<'_> {
    /// One turn of the loop: whatever is due, without waiting for anything.
    fn turn(&mut self) {
        let now = clock::now();
        let wish = self.certs.handle.take_wish().map(|Asked { wish, answer }| {
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
            self.complaint = refreshed.as_ref().err().map(ToString::to_string);
            let has_changed = before != self.fingerprint();
            self.answer(refreshed.map(|()| has_changed));
        }
    }

    fn fingerprint(&self) -> Option<String> {
        self.certs.handle.current().map(|served| served.fingerprint.clone())
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
        let Certs { config, home, .. } = self.certs;
        let served = match wish {
            Some(Wish::Force) => reissue(config, home, clock::now())?,
            Some(Wish::Renew) | None => load_or_issue(config, home, clock::now())?,
        };
        self.certs.serve(served);
        Ok(())
    }

    /// The operator's files.
    fn watch(&mut self, now: SystemTime) {
        let Some(watched) = &mut self.watched else { return };
        if self.asked.is_some() {
            watched.look_again();
        }
        let before = self.certs.handle.current().map(|served| served.fingerprint.clone());
        match watched.changed(&self.certs.config, now) {
            Some(Ok(served)) => {
                self.complaint = None;
                self.certs.serve(served);
            }
            Some(Err(failure)) => self.complaint = Some(failure.to_string()),
            None => {
                let ends = self.certs.handle.current().map(|served| served.not_after);
                if ends.is_some_and(|ends| ends <= now) {
                    self.complaint = Some("the certificate of the files that are served has expired".to_owned());
                }
            }
        }
        let has_changed = before != self.fingerprint();
        self.answer(match &self.complaint {
            Some(why) => Err(Failure::operator("the files cannot be served").because(why.clone())),
            None => Ok(has_changed),
        });
    }

    /// The certificate of an authority.
    fn keep(&mut self, wish: Option<Wish>, now: SystemTime) {
        let Some(keeper) = &mut self.keeper else { return };
        let handle = &self.certs.handle;
        if let Some(wish) = wish {
            keeper.wish(wish);
        }
        let served = handle.current();
        let has_expired = served.as_ref().is_none_or(|served| served.source == Source::Acme && served.not_after <= now);
        if has_expired {
            // Whoever trusts the local CA is better off with it than with a date that is over.
            match load_or_issue(&self.certs.config, &self.certs.home, clock::now()) {
                Ok(local) => self.certs.serve(local),
                Err(failure) => warn!(%failure, "cannot make a certificate of the local CA"),
            }
        }
        if self.work.is_none() {
            match keeper.next(served.as_deref(), now.into()) {
                Ok(Some(work)) => self.work = Some(Box::pin(work.run())),
                Ok(None) => {
                    let waits = keeper.waits(now.into());
                    self.answer(waits.map_or(Ok(false), Err));
                }
                Err(failure) => {
                    self.complaint = Some(failure.to_string());
                    handle.publish(Some(keeper.view(now.into())));
                    self.answer(Err(failure));
                    return;
                }
            }
        }
        let Some(keeper) = &self.keeper else { return };
        self.complaint = keeper.complaint(now.into());
        handle.publish(Some(keeper.view(now.into())));
    }

    fn finish(&mut self, done: Done) {
        self.work = None;
        let Some(keeper) = &mut self.keeper else { return };
        let now = clock::now().wall;
        let finished = keeper.finish(done, now.into(), rand::random());
        self.complaint = keeper.complaint(Moment::from(now));
        self.certs.handle.publish(Some(keeper.view(now.into())));
        match finished {
            Ok(Some(served)) => {
                self.certs.serve(served);
                self.answer(Ok(true));
            }
            Ok(None) => {}
            Err(trouble) => {
                let failure = Failure::operator("no certificate was issued").because(trouble.to_string());
                let hint = trouble.hint().map(str::to_owned);
                self.answer(Err(hint.into_iter().fold(failure, Failure::hinted)));
            }
        }
    }

    /// Waits for something to do, a few seconds at most. `true`: the task is to stop.
    async fn wait(&mut self, context: &Context) -> bool {
        let handle = self.certs.handle.clone();
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
            () = tokio::time::sleep(TURN_EVERY) => None,
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
            .build()
            .map_err(|error| Failure::operator("cannot start a runtime for certs").caused_by(error))?;
        let mut instance = self.begin()?;
        context.ready();
        let mut told = None;
        loop {
            context.progress();
            runtime.block_on(async {
                // Inside, because work may be begun.
                instance.turn();
            });
            if instance.complaint != told {
                if let Some(why) = &instance.complaint {
                    warn!(why, "the certificate is not what it should be");
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
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, mpsc};

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::config::{HostFacts, resolve};
    use crate::supervisor::service::Report;

    /// Runs an instance on a thread; gives what it reports, and how to stop it.
    fn run(home: &Home, handle: &CertHandle) -> (mpsc::Receiver<Report>, CancellationToken, Arc<AtomicU64>, Joined) {
        let facts = HostFacts { relay_ips: vec!["192.0.2.1".parse().unwrap()], cores: 1 };
        let config = resolve("hosts: [call.example]\n", &facts).unwrap().config;
        let certs = Certs::new(&config, &secrets(), home, handle.clone());
        let (sender, reports) = mpsc::channel();
        let report = Arc::new(move |report| drop(sender.send(report)));
        let (progress, stopping) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
        let context = Context::new(report, Arc::clone(&progress), stopping.clone());
        let joined = std::thread::spawn(move || certs.run(context));
        (reports, stopping, progress, joined)
    }

    fn secrets() -> Secrets {
        Secrets { turn: Vec::new(), turn_users: BTreeMap::new(), acme_bindings: BTreeMap::new(), metrics_token: None }
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
        assert!(progress.load(Ordering::Relaxed) > 0);
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
