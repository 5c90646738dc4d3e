//! Which names the relay knows, and the keys that belong to them.

use std::collections::BTreeMap;
use std::time::SystemTime;

use stun_types::attribute::Userhash;

use super::Settings;
use super::integrity::{Derived, PasswordHash};
use crate::config;
use crate::sys::clock::Now;
use crate::turn::credentials::{Issuer, User};
use crate::turn::insiders::{Insiders, Route, is_reserved};

/// Static users, and the secrets that time-limited names are verified by.
pub(super) struct Keyring {
    realm: String,
    issuers: Vec<Issuer>,
    /// When those behind the first verify nothing any more.
    old_until: Option<SystemTime>,
    users: BTreeMap<String, config::Secret>,
    insiders: Insiders,
    /// The hash of a name can be turned back only for names that are known beforehand, the static ones.
    names_by_hash: BTreeMap<[u8; 32], String>,
}

/// A name that may have a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known<'a> {
    /// What quotas count by: the user without the date, a static user's whole name.
    pub(super) user_id: &'a str,
    /// Whether it is too late for a new allocation.
    pub(super) is_expired: bool,
    /// A probe of this process, and the way its packets go.
    pub(super) probe: Option<Route>,
}

impl Keyring {
    pub(super) fn new(settings: &Settings) -> Self {
        let Settings { realm, secrets, old_secrets_until, users, probe_key, .. } = settings;
        Self {
            realm: realm.clone(),
            issuers: secrets.iter().map(Issuer::new).collect(),
            old_until: *old_secrets_until,
            users: users.clone(),
            insiders: Insiders::new(probe_key),
            names_by_hash: users.keys().map(|name| (Userhash::compute(name, realm), name.clone())).collect(),
        }
    }

    pub(super) fn realm(&self) -> &str {
        &self.realm
    }

    /// Whether some names can be told by their hash.
    pub(super) fn knows_hashes(&self) -> bool {
        !self.names_by_hash.is_empty()
    }

    pub(super) fn name_of(&self, hash: &[u8; 32]) -> Option<&str> {
        self.names_by_hash.get(hash).map(String::as_str)
    }

    /// Whether a name is that of a probe of this process, whatever its password.
    pub(super) fn is_probe(&self, name: &str) -> bool {
        self.insiders.recognise(name).is_some()
    }

    /// Whose name it is. `None` for a name that nobody can have.
    pub(super) fn known<'a>(&self, name: &'a str, now: Now) -> Option<Known<'a>> {
        if self.users.contains_key(name) {
            return Some(Known { user_id: name, is_expired: false, probe: None });
        }
        let user = User::parse(name)?;
        let probe = self.insiders.recognise(name);
        // Whoever knows a configured secret may choose any name but a probe's.
        let is_somebody = probe.is_some() || !is_reserved(name);
        is_somebody.then(|| Known { user_id: user.id, is_expired: user.is_expired(now), probe })
    }

    /// The one of the name's keys that `fits`: a time-limited name has one by each secret that is good now.
    pub(super) fn find(
        &self,
        name: &str,
        hash: PasswordHash,
        now: Now,
        fits: impl Fn(&Derived) -> bool,
    ) -> Option<Derived> {
        if let Some(password) = self.users.get(name) {
            return Some(Derived::derive(hash, name, &self.realm, password.expose())).filter(fits);
        }
        let is_over = self.old_until.is_some_and(|until| until <= now.wall);
        let good = if is_over { self.issuers.get(..1).unwrap_or_default() } else { &self.issuers[..] };
        good.iter().map(|issuer| Derived::derive(hash, name, &self.realm, issuer.password(name).as_bytes())).find(fits)
    }
}
