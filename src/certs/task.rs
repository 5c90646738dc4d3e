//! The certs task: keeps the served certificate valid, without anyone noticing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::timeout;
use tracing::warn;

use super::store::load_or_issue;
use super::{CertHandle, Served};
use crate::config::Config;
use crate::error::{Failure, Result};
use crate::home::Home;
use crate::supervisor::service::{Context, Service, TaskName};
use crate::sys::clock;

/// How often the certificate and the host's addresses are looked at.
const CHECKED_EVERY: Duration = Duration::from_secs(3600);
/// How often the loop turns. Short, because monotonic clocks stop while a machine is suspended, and because a loop that
/// turns once an hour cannot be told from one that hangs.
const TURN_EVERY: Duration = Duration::from_secs(1);

/// Loads or makes the certificate, swaps it in, and renews it in time.
#[derive(Debug)]
pub struct Certs {
    live: Arc<Live>,
}

/// What the task and its control share.
#[derive(Debug)]
struct Live {
    config: ArcSwap<Config>,
    home: Home,
    handle: CertHandle,
    /// Held by whoever looks at the files and writes them.
    refreshing: Mutex<()>,
}

/// Changes what the certificate is for. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Control {
    live: Arc<Live>,
}

/// A certificate on disk that is not served yet.
#[derive(Debug)]
pub struct Issued(Served);

impl Control {
    /// Loads the certificate for `config`, or makes a new one; connections and handshakes see nothing of it yet.
    ///
    /// # Errors
    /// If the folder of certificates cannot be read or written.
    pub fn issue(&self, config: &Config) -> Result<Issued> {
        let _refreshing = self.live.refreshing.lock().expect("nothing panics while it holds this lock");
        load_or_issue(config, &self.live.home, clock::now()).map(Issued)
    }

    /// Serves it in new handshakes, and keeps it fresh for `config` from now on.
    pub fn apply(&self, config: &Config, issued: Option<Issued>) {
        let _refreshing = self.live.refreshing.lock().expect("nothing panics while it holds this lock");
        self.live.config.store(Arc::new(config.clone()));
        if let Some(Issued(served)) = issued {
            self.live.serve(served);
        }
    }
}

impl Live {
    fn serve(&self, served: Served) {
        if self.handle.current().is_none_or(|current| current.fingerprint != served.fingerprint) {
            self.handle.swap(served);
        }
    }
}

impl Certs {
    #[must_use]
    pub fn new(config: &Config, home: &Home, handle: CertHandle) -> Self {
        let config = ArcSwap::from_pointee(config.clone());
        Self { live: Arc::new(Live { config, home: home.clone(), handle, refreshing: Mutex::default() }) }
    }

    /// Changes what the certificate is for, whether or not an instance runs.
    #[must_use]
    pub fn control(&self) -> Control {
        Control { live: Arc::clone(&self.live) }
    }

    /// Puts what is on disk, or what is made anew, into the handle, if it is not what is served already.
    fn refresh(&self) -> Result<()> {
        let _refreshing = self.live.refreshing.lock().expect("nothing panics while it holds this lock");
        self.live.serve(load_or_issue(&self.live.config.load(), &self.live.home, clock::now())?);
        Ok(())
    }
}

impl Service for Certs {
    fn name(&self) -> TaskName {
        TaskName::Certs
    }

    fn run(&self, context: Context) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .on_thread_start(context.adopter())
            .build()
            .map_err(|error| Failure::operator("cannot start a runtime for certs").caused_by(error))?;
        self.refresh()?;
        context.ready();
        let mut is_degraded = false;
        let mut checked_at = clock::now().wall;
        loop {
            context.progress();
            let stopping =
                runtime.block_on(async { timeout(TURN_EVERY, context.stopping().cancelled()).await.is_ok() });
            if stopping {
                return Ok(());
            }
            let now = clock::now().wall;
            // A clock that was set back counts as an hour, too.
            if now.duration_since(checked_at).is_ok_and(|passed| passed < CHECKED_EVERY) {
                continue;
            }
            checked_at = now;
            match self.refresh() {
                Ok(()) if is_degraded => {
                    is_degraded = false;
                    context.degraded(None);
                }
                Ok(()) => {}
                // What is served may be valid for months; the next hour may be better.
                Err(failure) => {
                    warn!(%failure, "cannot keep the certificate fresh");
                    is_degraded = true;
                    context.degraded(Some(failure.to_string()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::config::{HostFacts, resolve};
    use crate::supervisor::instance::Pulse;
    use crate::supervisor::service::Report;

    /// Runs an instance on a thread; gives what it reports, and how to stop it.
    fn run(home: &Home, handle: &CertHandle) -> (mpsc::Receiver<Report>, CancellationToken, Arc<Pulse>, Joined) {
        let facts = HostFacts { relay_ips: vec!["192.0.2.1".parse().unwrap()], cores: 1 };
        let config = resolve("hosts: [call.example]\n", &facts).unwrap().config;
        let certs = Certs::new(&config, home, handle.clone());
        let (sender, reports) = mpsc::channel();
        let report = Arc::new(move |report| drop(sender.send(report)));
        let (progress, stopping) = (Arc::new(Pulse::default()), CancellationToken::new());
        let context = Context::new(report, Arc::clone(&progress), stopping.clone());
        let joined = std::thread::spawn(move || certs.run(context));
        (reports, stopping, progress, joined)
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
