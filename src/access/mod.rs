//! Who may call: decides whether what a request shows is enough, and under which name its relays are counted.
//!
//! Where `access` is `open`, everybody may. Where it is `key`, one needs the key of an invite link, or the cookie for
//! which the page has exchanged it: a signed word that the server keeps nothing of, worthless once the key is another
//! one. Wrong keys are slowed down by the network they come from. How a refusal looks is left to `web` and `signaling`.

mod limiter;
mod session;
mod shown;

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::constant_time::verify_slices_are_equal;

use self::limiter::{Limiter, Network};
use self::session::{SESSION_FOR, Signer};
pub use self::shown::Shown;
use crate::config::{Access, Config, Secret, Secrets};
use crate::sys::clock::Now;

/// Wrong keys from one network: so many at once, then one in so many seconds. Nobody who has a link needs more, and an
/// office that opens an old one gets through.
const WRONG_AT_ONCE: f64 = 20.0;
const WRONG_EVERY: f64 = 6.0;
/// ICE configurations and sessions for one network: so many at once, then so many a second. A page takes one or two for
/// a call; an office behind one address has many pages.
const ASKED_AT_ONCE: f64 = 120.0;
const ASKED_A_SECOND: f64 = 4.0;

/// What a name in a cookie begins with: such a cookie comes from this host by HTTPS, and goes to it alone.
const COOKIE: &str = "__Host-rtcctl-";

/// Who was let in, as relays are counted: the browser that has a session, or the network that somebody comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User(String);

impl User {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn of_session(id: &str) -> Self {
        Self(format!("session-{id}"))
    }

    fn of_network(client: IpAddr) -> Self {
        // Colons end a user id.
        Self(format!("from-{}", Network::of(client).address()).replace(':', "-"))
    }
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Neither a key nor a session is shown.
    Missing,
    /// The session has ended, by time or because the key is another one now.
    Ended,
    Wrong,
    /// Too many wrong keys, or too many questions, came from this network.
    Limited {
        wait: Duration,
    },
}

impl Refusal {
    /// For programs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "key_missing",
            Self::Ended => "session_ended",
            Self::Wrong => "key_wrong",
            Self::Limited { .. } => "too_many_tries",
        }
    }
}

/// For people; pages know these words.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "a key is needed: open the invite link",
            Self::Ended => "the session has ended: open the invite link again",
            Self::Wrong => "the key is wrong: ask for a new invite link",
            Self::Limited { .. } => "too many tries with a key or a session: wait",
        })
    }
}

/// What was decided so often, for as long as the process lives.
#[derive(Debug, Default)]
pub struct Counters {
    granted: AtomicU64,
    sessions: AtomicU64,
    missing: AtomicU64,
    ended: AtomicU64,
    wrong: AtomicU64,
    limited: AtomicU64,
}

impl Counters {
    /// Each outcome by its word.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = [
            ("ended", &self.ended),
            ("granted", &self.granted),
            ("limited", &self.limited),
            ("missing", &self.missing),
            ("sessions", &self.sessions),
            ("wrong", &self.wrong),
        ];
        counts.into_iter().map(|(word, count)| (word, count.load(Ordering::Relaxed)))
    }
}

/// Lets in, or not. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Gate {
    rules: Arc<ArcSwap<Rules>>,
    limits: Arc<Mutex<Limits>>,
    counters: Arc<Counters>,
}

struct Rules {
    /// `None`: everybody may.
    lock: Option<Lock>,
    /// Cookies know no ports: two services on one host would take each other's.
    cookie: String,
}

struct Lock {
    key: Secret,
    signer: Signer,
}

struct Limits {
    wrong: Limiter,
    asked: Limiter,
}

impl Rules {
    fn new(config: &Config, secrets: &Secrets) -> Self {
        let lock = match config.access {
            Access::Open => None,
            Access::Key => {
                let key = secrets.access_key.clone().expect("a configuration with `access: key` has a key");
                Some(Lock { signer: Signer::new(&key), key })
            }
        };
        Self { lock, cookie: format!("{COOKIE}{}", config.web.port) }
    }
}

impl Gate {
    #[must_use]
    pub fn new(config: &Config, secrets: &Secrets) -> Self {
        let limits = Limits {
            wrong: Limiter::new(1.0 / WRONG_EVERY, WRONG_AT_ONCE),
            asked: Limiter::new(ASKED_A_SECOND, ASKED_AT_ONCE),
        };
        Self {
            rules: Arc::new(ArcSwap::from_pointee(Rules::new(config, secrets))),
            limits: Arc::new(Mutex::new(limits)),
            counters: Arc::default(),
        }
    }

    /// Goes by another configuration from now on. Who is in stays in.
    pub fn apply(&self, config: &Config, secrets: &Secrets) {
        self.rules.store(Arc::new(Rules::new(config, secrets)));
    }

    #[must_use]
    pub fn is_open(&self) -> bool {
        self.rules.load().lock.is_none()
    }

    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Who asks, if they may come in.
    ///
    /// # Errors
    /// Why they may not.
    pub fn admit(&self, shown: &Shown, client: IpAddr, now: Now) -> Result<User, Refusal> {
        let user = self.judge(shown, client, now);
        self.count(&user);
        user
    }

    /// As [`Gate::admit`], for what is limited besides.
    ///
    /// # Errors
    /// Why they may not.
    pub fn admit_to_ask(&self, shown: &Shown, client: IpAddr, now: Now) -> Result<User, Refusal> {
        let user = self.judge(shown, client, now).and_then(|user| self.ask(client, now).map(|()| user));
        self.count(&user);
        user
    }

    /// Exchanges a key for a session: the value of a `Set-Cookie`, or nothing where none is needed.
    ///
    /// # Errors
    /// Why there is none.
    pub fn open_session(&self, shown: &Shown, client: IpAddr, now: Now) -> Result<Option<String>, Refusal> {
        let rules = self.rules.load();
        let Some(lock) = &rules.lock else { return Ok(None) };
        // Only for a key: a session does not make itself longer.
        let keyed = shown.key().ok_or(Refusal::Missing).and_then(|key| self.check(lock, key, client, now));
        let opened = keyed.and_then(|()| self.ask(client, now)).map(|()| {
            self.counters.sessions.fetch_add(1, Ordering::Relaxed);
            let token = lock.signer.issue(rand::random(), now.unix_seconds());
            let (name, age) = (&rules.cookie, SESSION_FOR.as_secs());
            Some(format!("{name}={token}; Path=/; Max-Age={age}; Secure; HttpOnly; SameSite=Lax"))
        });
        self.count_refusal(opened.as_ref().err());
        opened
    }

    /// Whether a session is shown that is good, or none is needed. Nothing is counted.
    #[must_use]
    pub fn knows(&self, shown: &Shown, now: Now) -> bool {
        let rules = self.rules.load();
        rules.lock.as_ref().is_none_or(|lock| rules.session(lock, shown, now).is_some())
    }

    /// The name of somebody who is let in without showing anything, since a place of theirs is known.
    #[must_use]
    pub fn user_from(&self, client: IpAddr) -> User {
        User::of_network(client)
    }

    fn judge(&self, shown: &Shown, client: IpAddr, now: Now) -> Result<User, Refusal> {
        let rules = self.rules.load();
        let Some(lock) = &rules.lock else { return Ok(User::of_network(client)) };
        if let Some(id) = rules.session(lock, shown, now) {
            return Ok(User::of_session(&id));
        }
        match shown.key() {
            Some(key) => self.check(lock, key, client, now).map(|()| User::of_network(client)),
            None if shown.cookies(&rules.cookie).next().is_some() => Err(Refusal::Ended),
            None => Err(Refusal::Missing),
        }
    }

    /// Whether a key is right. A network that showed too many wrong ones has to wait with right ones, too: otherwise
    /// trying would go on as fast as before.
    fn check(&self, lock: &Lock, key: &[u8], client: IpAddr, now: Now) -> Result<(), Refusal> {
        let mut limits = self.limits();
        let network = Network::of(client);
        limits.wrong.look(network, now.mono).map_err(|wait| Refusal::Limited { wait })?;
        if verify_slices_are_equal(lock.key.expose(), key).is_ok() {
            return Ok(());
        }
        // There is one, since `look` has seen it under the same lock.
        let _ = limits.wrong.take(network, now.mono);
        Err(Refusal::Wrong)
    }

    fn ask(&self, client: IpAddr, now: Now) -> Result<(), Refusal> {
        self.limits().asked.take(Network::of(client), now.mono).map_err(|wait| Refusal::Limited { wait })
    }

    fn count(&self, user: &Result<User, Refusal>) {
        if user.is_ok() {
            self.counters.granted.fetch_add(1, Ordering::Relaxed);
        }
        self.count_refusal(user.as_ref().err());
    }

    fn count_refusal(&self, refusal: Option<&Refusal>) {
        let counter = match refusal {
            None => return,
            Some(Refusal::Missing) => &self.counters.missing,
            Some(Refusal::Ended) => &self.counters.ended,
            Some(Refusal::Wrong) => &self.counters.wrong,
            Some(Refusal::Limited { .. }) => &self.counters.limited,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().expect("nothing panics while it holds this lock")
    }
}

impl Rules {
    /// The session whose cookie is shown.
    fn session(&self, lock: &Lock, shown: &Shown, now: Now) -> Option<String> {
        shown.cookies(&self.cookie).find_map(|token| lock.signer.read(token, now.unix_seconds()))
    }
}

#[cfg(test)]
mod tests;
