//! The proof by a phone, `rtcctl phone`: a terminal shows a code, a phone opens the page by it and tells step by step
//! what works there.
//!
//! What is said is kept by [`desk`], its words are those of [`report`], and what it all means says [`verdict`]. The
//! page brings it by the API of `web`, the terminal fetches it by the control socket.

pub mod desk;
pub mod report;
pub mod verdict;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::desk::{Begun, Desk, Refusal, View};
use self::report::Report;
use self::verdict::Verdict;
use crate::sys::clock;

/// Seconds that a proof may last.
pub const LASTS: std::ops::RangeInclusive<u64> = 10..=3600;

/// What a terminal asks of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phone", rename_all = "lowercase")]
pub enum Ask {
    /// Begin a proof.
    Begin { seconds: u64 },
    /// Tell what has happened since that event.
    Read { id: String, from: usize },
    /// Forget it.
    End { id: String },
}

/// What it is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phone", rename_all = "lowercase")]
pub enum Answer {
    Begun {
        id: String,
        /// What the phone opens; the code is in its fragment, which no server and no log gets to see.
        url: String,
        seconds: u64,
    },
    View {
        view: View,
    },
    /// There is no such proof, or not any more.
    Gone,
}

/// All proofs under way, for the page and the terminals. Cheap to clone.
#[derive(Clone, Default)]
pub struct Phones {
    desk: Arc<Mutex<Desk>>,
}

impl Phones {
    /// Begins a proof; `None`: there are too many.
    #[must_use]
    pub fn begin(&self, seconds: u64) -> Option<Begun> {
        let lasts = Duration::from_secs(seconds.clamp(*LASTS.start(), *LASTS.end()));
        self.desk().begin(lasts, clock::now().mono, &mut rand::rng())
    }

    #[must_use]
    pub fn read(&self, id: &str, from: usize) -> Option<View> {
        self.desk().read(id, from, clock::now().mono)
    }

    pub fn end(&self, id: &str) {
        self.desk().end(id);
    }

    /// The key for a browser that shows this code, and the seconds for which it is good.
    ///
    /// # Errors
    /// If the code is unknown or was used.
    pub fn claim(&self, code: &str, agent: &str, address: &str) -> Result<(String, u64), Refusal> {
        let now = clock::now().mono;
        let mut desk = self.desk();
        let key = desk.claim(code, agent, address, now, &mut rand::rng())?;
        let seconds = desk.seconds_left(&key, now).unwrap_or_default();
        Ok((key, seconds))
    }

    /// Takes what the browser with this key says; see [`Desk::report`].
    ///
    /// # Errors
    /// If the key is unknown, or too much was said.
    pub fn report(&self, key: &str, report: Report) -> Result<Option<Verdict>, Refusal> {
        self.desk().report(key, report, clock::now().mono)
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().expect("nothing panics while it holds this lock")
    }
}
