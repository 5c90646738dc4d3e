//! The certs task: keeps the served certificate valid, without anyone noticing.

use std::time::Duration;

use tokio::time::timeout;
use tracing::warn;

use super::CertHandle;
use super::store::load_or_issue;
use crate::config::Config;
use crate::error::{Failure, Result};
use crate::home::Home;
use crate::supervisor::service::{Context, Service, TaskName};
use crate::sys::clock;

/// How often the certificate and the host's addresses are looked at.
const CHECKED_EVERY: Duration = Duration::from_secs(3600);
/// How often the loop turns. Short, because monotonic clocks stop while a machine is suspended, and because a loop that
/// turns once an hour cannot be told from one that hangs.
const TURN_EVERY: Duration = Duration::from_secs(5);

/// Loads or makes the certificate, swaps it in, and renews it in time.
#[derive(Debug)]
pub struct Certs {
    config: Config,
    home: Home,
    handle: CertHandle,
}

impl Certs {
    #[must_use]
    pub fn new(config: &Config, home: &Home, handle: CertHandle) -> Self {
        Self { config: config.clone(), home: home.clone(), handle }
    }

    /// Puts what is on disk, or what is made anew, into the handle, if it is not what is served already.
    fn refresh(&self) -> Result<()> {
        let served = load_or_issue(&self.config, &self.home, clock::now())?;
        if self.handle.current().is_none_or(|current| current.fingerprint != served.fingerprint) {
            self.handle.swap(served);
        }
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
