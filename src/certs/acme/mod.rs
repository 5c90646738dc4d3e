//! Gets certificates from an authority by ACME (RFC 8555): account, order, challenges, chain.
//!
//! When to do so is decided by `renewal`; the challenges are answered by the listeners of `edge`, out of
//! `challenge`. Each step that an authority counts is written down before the next, so that a crash repeats none.

mod account;
mod failure;
mod http;
mod look;
mod order;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use instant_acme::{Account, CertificateIdentifier, ChallengeType};
use rustls::pki_types::CertificateDer;
use tracing::{debug, info, warn};

use self::http::Client;
pub use self::look::look;
pub use self::order::{Obtained, Pending};
use super::challenge::{Challenges, Kind};
use super::dns01::Hook;
use super::moment::Moment;
use super::trouble::{Class, Trouble};
use crate::config::{Host, Secret};
use crate::sys::clock;
use crate::text;

/// The profile for certificates that hold an address, where an authority has it.
const SHORT_LIVED: &str = "shortlived";

/// By how much this host's clock may be ahead of the authority's: a certificate of six days must not be due for the next
/// renewal as it comes.
const MAX_AHEAD: Duration = Duration::from_secs(2 * 24 * 3600);

/// One authority and how it is spoken with.
#[derive(Debug, Clone)]
pub struct Authority {
    pub directory: String,
    /// The file with the root that the authority's own HTTPS is signed by; `None`: those of the system.
    pub root: Option<PathBuf>,
    pub contact: Option<String>,
    /// Key id and key of an account elsewhere that this one is bound to.
    pub binding: Option<(String, Secret)>,
    /// The profile that is asked for; `None`: what fits.
    pub profile: Option<String>,
}

/// What is asked of an authority.
pub struct Order<'a> {
    /// The directory that it is meant for.
    pub directory: &'a str,
    pub hosts: &'a BTreeSet<Host>,
    /// Ways to prove that they are ours, the preferred one first.
    pub kinds: &'a [Kind],
    /// The certificate that the new one replaces. RFC 9773.
    pub replaces: Option<&'a CertificateDer<'static>>,
    pub challenges: &'a Challenges,
    /// How records come into the DNS; there if a kind needs it.
    pub dns: Option<&'a Hook>,
    /// Where the order is remembered until its certificate is safe; `None` for a rehearsal.
    pub pending: Option<&'a Path>,
}

/// An account with an authority, ready for orders.
pub struct Session {
    client: Client,
    file: PathBuf,
    account: Account,
    authority: Authority,
    /// What time it is there, if it tells.
    there: Option<Moment>,
}

/// What an authority advises: its window, and after how many seconds to ask again.
pub type Window = Option<((Moment, Moment), Duration)>;

impl Session {
    /// Signs in, or up. `file` keeps the account's key.
    ///
    /// # Errors
    /// If the authority cannot be reached or wants something.
    pub async fn open(authority: &Authority, file: &Path) -> Result<Self, Trouble> {
        let client = Client::new(authority.root.as_deref())?;
        // The crate takes any answer for a directory, and panics at an address that is none.
        let there = look::check(&client, &authority.directory).await?;
        let account = account::sign_in(&client, authority, file).await?;
        Ok(Self { client, file: file.to_owned(), account, authority: authority.clone(), there })
    }

    /// Orders a certificate, by one kind of challenge after the other. An authority that does not know the account any
    /// more gets a new one for the same key.
    ///
    /// # Errors
    /// The trouble of the last kind that was tried.
    pub async fn obtain(self, order: &Order<'_>) -> Result<(Obtained, Kind), Trouble> {
        if let Some(trouble) = self.there.and_then(|there| ahead(there, Moment::from(clock::now().wall))) {
            return Err(trouble);
        }
        match self.obtain_by_any(order).await {
            Err(trouble) if trouble.code == "accountDoesNotExist" => {
                warn!(
                    directory = self.authority.directory,
                    "the authority has forgotten our account; signing up again"
                );
                account::forget(&self.file, &self.authority.directory)?;
                Self::open(&self.authority, &self.file).await?.obtain_by_any(order).await
            }
            done => done,
        }
    }

    async fn obtain_by_any(&self, order: &Order<'_>) -> Result<(Obtained, Kind), Trouble> {
        let mut last = Trouble::new(Class::Ours, "no-challenge", text!("no kind of challenge can be answered here"));
        for kind in order.kinds {
            if *kind == Kind::Http01 && order.challenges.lacks_http() {
                // Whoever has the port would answer, and a failed validation counts.
                let detail = text!("HTTP-01 cannot be answered: another process has the port of HTTP");
                last = Trouble::new(Class::Ours, "port-taken", detail);
                warn!(trouble = %last, "this kind of challenge is left out");
                continue;
            }
            match self.obtain_by(*kind, order).await {
                Ok(obtained) => return Ok((obtained, *kind)),
                Err(trouble) if trouble.is_about_a_challenge() => {
                    warn!(kind = kind.as_str(), %trouble, "an authority did not find what it looked for");
                    last = trouble;
                }
                Err(trouble) => return Err(trouble),
            }
        }
        Err(last)
    }

    async fn obtain_by(&self, kind: Kind, order: &Order<'_>) -> Result<Obtained, Trouble> {
        debug!(kind = kind.as_str(), directory = self.authority.directory, "ordering a certificate");
        let challenge_type = match kind {
            Kind::Http01 => ChallengeType::Http01,
            Kind::TlsAlpn01 => ChallengeType::TlsAlpn01,
            Kind::Dns01 => ChallengeType::Dns01,
        };
        order::obtain(&self.client, &self.account, self.profile(order.hosts), challenge_type, order).await
    }

    /// The profile to ask for: only one that the authority has.
    fn profile(&self, hosts: &BTreeSet<Host>) -> Option<String> {
        let offered: BTreeMap<&str, &str> =
            self.account.profiles().map(|profile| (profile.name, profile.description)).collect();
        let has_address = hosts.iter().any(|host| matches!(host, Host::Address(_)));
        let wanted = match &self.authority.profile {
            Some(profile) => profile.as_str(),
            None if has_address => SHORT_LIVED,
            None => return None,
        };
        if !offered.contains_key(wanted) {
            debug!(wanted, ?offered, "the authority does not offer this profile, so none is asked for");
            return None;
        }
        Some(wanted.to_owned())
    }

    /// Asks when the authority wants a certificate renewed. `None`: it does not say.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub async fn advice(&self, certificate: &CertificateDer<'_>) -> Result<Window, Trouble> {
        let Ok(id) = CertificateIdentifier::try_from(certificate) else { return Ok(None) };
        match self.account.renewal_info(&id).await {
            Ok((info, ask_after)) => {
                let window = info.suggested_window;
                let moment = |at: time::OffsetDateTime| Moment(u64::try_from(at.unix_timestamp()).unwrap_or(0));
                info!(start = %window.start, end = %window.end, "the authority advised when to renew");
                Ok(Some(((moment(window.start), moment(window.end)), ask_after)))
            }
            Err(instant_acme::Error::Unsupported(_)) => Ok(None),
            Err(error) => Err(failure::trouble(&error, self.client.noted())),
        }
    }
}

/// What a clock that is far ahead is told. Whatever is issued would be over by it, or soon due again, and each one counts
/// towards the authority's limits. One that is behind does no such harm.
fn ahead(there: Moment, now: Moment) -> Option<Trouble> {
    let ahead = now.since(there);
    (ahead > MAX_AHEAD).then(|| {
        let days = ahead.as_secs() / (24 * 3600);
        Trouble::new(Class::Ours, "clock", text!("this host's clock is {} days ahead of the authority's", days))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_that_is_far_ahead_keeps_from_ordering() {
        let there = Moment(1_800_000_000);
        assert_eq!(ahead(there, there.plus(MAX_AHEAD)), None);
        assert_eq!(ahead(there, there.minus(MAX_AHEAD * 300)), None);
        let trouble = ahead(there, there.plus(Duration::from_secs(365 * 24 * 3600))).unwrap();
        assert_eq!(trouble.to_string(), "this host's clock is 365 days ahead of the authority's (clock)");
        assert!(trouble.hint().unwrap().contains("set this host's clock"));
    }
}
