//! What an authority is asked for, one thing at a time, so that the task's loop goes on turning meanwhile.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use rustls::pki_types::CertificateDer;
use tracing::warn;

use super::acme::{self, Obtained, Session, Window};
use super::challenge::{Challenges, Kind};
use super::dns01::Hook;
use super::preflight;
use super::renewal::Purpose;
use super::trouble::{Class, Trouble};
use crate::config::Host;
use crate::text;

/// How often an order is gone on with that stopped at nothing but a nonce.
const MAX_ROUNDS: usize = 8;

/// Something to be done that takes its time.
pub(super) enum Work {
    Advice { session: Box<SessionOf>, certificate: CertificateDer<'static>, fingerprint: String },
    Order(Box<OrderWork>),
}

/// With whom to speak, and where its account is kept.
pub(super) struct SessionOf {
    pub(super) authority: acme::Authority,
    pub(super) account: PathBuf,
}

pub(super) struct OrderWork {
    pub(super) with: SessionOf,
    pub(super) purpose: Purpose,
    pub(super) hosts: BTreeSet<Host>,
    pub(super) kinds: Vec<Kind>,
    pub(super) replaces: Option<CertificateDer<'static>>,
    pub(super) challenges: Challenges,
    pub(super) dns: Option<Hook>,
    pub(super) pending: Option<PathBuf>,
    pub(super) preflight: Option<Preflight>,
}

/// What is looked at before a public authority is asked.
#[derive(Debug, Clone)]
pub(super) struct Preflight {
    pub(super) own: Vec<IpAddr>,
    pub(super) issuer: Option<&'static str>,
    /// Nobody needs to come to this host: it does not matter where names lead.
    pub(super) is_by_dns: bool,
}

/// What came of it.
pub(super) enum Done {
    Advised { fingerprint: String, window: Result<Window, Trouble> },
    Ordered { purpose: Purpose, result: Result<(Obtained, Kind), Trouble> },
}

impl Work {
    /// Speaks with the authority.
    pub(super) async fn run(self) -> Done {
        match self {
            Self::Advice { session, certificate, fingerprint } => {
                let window = match Session::open(&session.authority, &session.account).await {
                    Ok(session) => session.advice(&certificate).await,
                    Err(trouble) => Err(trouble),
                };
                Done::Advised { fingerprint, window }
            }
            Self::Order(work) => {
                let purpose = work.purpose;
                Done::Ordered { purpose, result: work.run().await }
            }
        }
    }
}

impl OrderWork {
    /// An authority may take a nonce of its own for a bad one, more often than the crate asks again. The order is gone
    /// on with then, where it stopped.
    async fn run(self) -> Result<(Obtained, Kind), Trouble> {
        self.look_first().await?;
        let mut result = self.attempt().await;
        for _ in 1..MAX_ROUNDS {
            match &result {
                Err(trouble) if trouble.code == "badNonce" => result = self.attempt().await,
                Ok(_) | Err(_) => break,
            }
        }
        result
    }

    /// What is known to fail is not tried; what may fail is told.
    async fn look_first(&self) -> Result<(), Trouble> {
        let Some(Preflight { own, issuer, is_by_dns }) = self.preflight.clone() else { return Ok(()) };
        let hosts = self.hosts.clone();
        let looking = tokio::task::spawn_blocking(move || preflight::look(&hosts, &own, issuer, is_by_dns));
        for objection in looking.await.unwrap_or_default() {
            if objection.is_certain {
                let detail = text!("{}: {}", objection.what, objection.hint);
                return Err(Trouble::new(Class::Ours, objection.code, detail));
            }
            warn!(
                what = objection.what.english(),
                hint = objection.hint.english(),
                "this may keep the authority from issuing"
            );
        }
        Ok(())
    }

    async fn attempt(&self) -> Result<(Obtained, Kind), Trouble> {
        let session = Session::open(&self.with.authority, &self.with.account).await?;
        let order = acme::Order {
            directory: &self.with.authority.directory,
            hosts: &self.hosts,
            kinds: &self.kinds,
            replaces: self.replaces.as_ref(),
            challenges: &self.challenges,
            dns: self.dns.as_ref(),
            pending: self.pending.as_deref(),
        };
        session.obtain(&order).await
    }
}
