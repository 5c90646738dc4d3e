//! The certificate of this moment, shared by every listener; what is known of its renewal, for `status`.

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::Notify;

use super::challenge::Challenges;
use super::renewal::{Alarm, Wish};
use super::trouble::Class;
use crate::error::{Failure, Result};
use crate::text;
use crate::words::Text;

/// The certificate all listeners serve at this moment. Swapping it touches no connection.
#[derive(Debug, Clone, Default)]
pub struct CertHandle {
    current: Arc<ArcSwapOption<Served>>,
    renewal: Arc<ArcSwapOption<RenewalView>>,
    challenges: Challenges,
    wish: Arc<(Mutex<Option<Asked>>, Notify)>,
}

/// What an operator waits for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) wish: Wish,
    pub(super) answer: mpsc::Sender<Result<bool>>,
}

/// Who made a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The local CA of this home.
    SelfSigned,
    /// An authority, by ACME.
    Acme,
    /// The operator's own files.
    Files,
}

impl Source {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SelfSigned => "self-signed",
            Self::Acme => "acme",
            Self::Files => "files",
        }
    }
}

/// A certificate with what `status` tells about it.
#[derive(Debug)]
pub struct Served {
    pub key: Arc<CertifiedKey>,
    pub source: Source,
    /// DNS names and IP addresses, as text.
    pub names: Vec<String>,
    /// Whom it was issued by.
    pub issuer: String,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    /// SHA-256 of the leaf in DER, lower-case hexadecimal.
    pub fingerprint: String,
}

/// What is known of the renewal of a certificate that comes from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalView {
    pub state: RenewalState,
    /// When something is done next, as far as that is known.
    pub next_at: Option<SystemTime>,
    /// Why then: a word of `renewal::Reason`.
    pub reason: &'static str,
    pub last: Option<LastAttempt>,
    /// Failures in a row.
    pub failures: u32,
    /// How loudly a failure must be said; `None`: the last attempt did not fail.
    pub alarm: Option<Alarm>,
}

/// What the renewal is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenewalState {
    /// Nothing is due.
    Idle,
    Rehearsing,
    Ordering,
    /// Something is due and waits for its next attempt.
    Waiting,
}

impl RenewalState {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Rehearsing => "rehearsing",
            Self::Ordering => "ordering",
            Self::Waiting => "waiting",
        }
    }
}

/// The last order or rehearsal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastAttempt {
    pub at: SystemTime,
    pub authority: String,
    pub rehearsal: bool,
    /// What went wrong, whose move it is, and what to do; `None`: it succeeded, or is under way.
    pub failure: Option<(Class, Text, Option<Text>)>,
}

impl CertHandle {
    /// New handshakes get `served` from now on.
    pub fn swap(&self, served: Served) {
        self.current.store(Some(Arc::new(served)));
    }

    /// What is served now.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Served>> {
        self.current.load_full()
    }

    /// What is known of the renewal; `None` where this home renews by itself, without anyone's help.
    #[must_use]
    pub fn renewal(&self) -> Option<Arc<RenewalView>> {
        self.renewal.load_full()
    }

    pub(super) fn publish(&self, view: Option<RenewalView>) {
        self.renewal.store(view.map(Arc::new));
    }

    /// The answers to challenges that are pending.
    #[must_use]
    pub fn challenges(&self) -> &Challenges {
        &self.challenges
    }

    /// Has the task renew, and waits for what came of it: whether another certificate is served than before.
    ///
    /// # Errors
    /// If there is none, or the task does not come to an end with it in time.
    pub fn renew(&self, wish: Wish, patience: Duration) -> Result<bool> {
        let (answer, answered) = mpsc::channel();
        *self.wish.0.lock().expect("nothing panics while it holds this lock") = Some(Asked { wish, answer });
        self.wish.1.notify_one();
        answered.recv_timeout(patience).unwrap_or_else(|error| {
            Err(match error {
                mpsc::RecvTimeoutError::Timeout => Failure::operator(text!("the renewal has not come to an end yet"))
                    .hinted(text!("it goes on by itself; see `rtcctl status`")),
                mpsc::RecvTimeoutError::Disconnected => Failure::operator(text!("the renewal was interrupted"))
                    .hinted(text!("another was asked for, or the task `certs` was restarted; see `rtcctl status`")),
            })
        })
    }

    pub(super) fn take_wish(&self) -> Option<Asked> {
        self.wish.0.lock().expect("nothing panics while it holds this lock").take()
    }

    /// Ends when something was wished for.
    pub(super) async fn wished(&self) {
        self.wish.1.notified().await;
    }
}

/// The same certificate with any SNI and without.
impl ResolvesServerCert for CertHandle {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current().map(|served| Arc::clone(&served.key))
    }
}
