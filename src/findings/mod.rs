//! What an operator should know: a short list of named, dated, graded problems, each with a next step.
//!
//! `rules` judge [`Facts`], a snapshot that the daemon gathers; the [`ledger`] decides from when on something is shown
//! and until when, and hides what only follows from something else. Nothing is gathered, told or printed here.
//!
//! | code | severity | means |
//! |---|---|---|
//! | `certificate-ends` | error | the certificate ends within a week and was not renewed |
//! | `certificate-expired` | critical | the certificate that is served is over |
//! | `certificate-mismatch` | error | a listener serves another certificate than the current one |
//! | `certificate-missing` | critical | there is no certificate to serve |
//! | `clock-jumped` | warning | the clock was set by more than ten seconds within the last ten minutes |
//! | `config-not-applied` | info | the configuration file was edited and not applied yet |
//! | `connections-turned-away` | warning | there was no room for a connection within the last five minutes |
//! | `descriptors-almost-exhausted` | error | nine tenths of the files that may be open are |
//! | `disk-almost-full` | error | there is little room for state and logs; critical: almost none |
//! | `http-port-taken` | warning | somebody else has the port of HTTP, so nothing redirects and HTTP-01 cannot be answered |
//! | `log-not-writable` | error | the log cannot be written |
//! | `notify-fails` | warning | an event could not be handed to the command or the webhook |
//! | `port-lost` | critical | nothing listens any more on an address that the service has bound |
//! | `receive-buffer-drops` | warning | the kernel drops datagrams that the relay does not fetch in time |
//! | `relay-accepts-anyone` | critical | the relay takes a wrong password or an expired credential |
//! | `relay-ports-almost-exhausted` | warning | nine tenths of the allocations that may be are |
//! | `relay-reaches-forbidden` | critical | the relay lets its users reach loopback or cloud metadata |
//! | `relay-tcp-fails` | error | two clients by TCP cannot talk through the relay |
//! | `relay-tls-fails` | error | two clients by TLS cannot talk through the relay |
//! | `relay-udp-fails` | error | two clients by UDP cannot talk through the relay |
//! | `restarts-storm` | warning | a task was restarted three times or more within five minutes |
//! | `rooms-fail` | error | two Socket.IO peers cannot meet, or a third is let in |
//! | `signaling-unanswered` | error | signaling does not answer |
//! | `stun-unanswered` | error | STUN does not answer |
//! | `task-backoff` | error | a task failed and waits for its next start |
//! | `task-degraded` | warning | a task serves, but not well |
//! | `task-held` | critical | a task is down after failing too often |
//! | `task-hung` | error | a task was replaced because it did not get on |
//! | `task-stopped` | warning | a task is stopped |
//! | `web-unanswered` | error | the page does not answer |

mod code;
pub mod facts;
pub mod ledger;
mod rules;
#[cfg(test)]
mod tests;
pub mod watch;

pub use code::Code;
pub use facts::Facts;
pub use ledger::{Ledger, Shown, Transition};
pub use rules::judge;

use crate::control::protocol::Severity;
use crate::words::Text;

/// What a finding is about, too: a task, an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub code: Code,
    pub subject: String,
}

/// Something from which a finding follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    pub code: Code,
    /// `None`: whatever it is about.
    pub subject: Option<String>,
}

impl Cause {
    fn is(&self, key: &Key) -> bool {
        self.code == key.code && self.subject.as_ref().is_none_or(|subject| *subject == key.subject)
    }
}

/// What is wrong at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raised {
    pub key: Key,
    pub severity: Severity,
    pub title: Text,
    /// What was seen.
    pub evidence: Text,
    /// What to do.
    pub hint: Text,
    /// While one of these is wrong, this is no news.
    pub causes: Vec<Cause>,
}
