//! The TLS configurations: one certificate and one set of tickets, but another ALPN for whom something else is meant.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;

use super::demux::{ACME_PROTOCOL, Offer, TURN_PROTOCOLS, WEB_PROTOCOLS};
use crate::certs::CertHandle;
use crate::error::{Failure, Result};
use crate::text;

/// What a handshake goes on with once its ClientHello was read.
pub(super) struct Tls {
    web: Arc<ServerConfig>,
    turn: Arc<ServerConfig>,
    /// Answers no ALPN at all: a client whose offer has nothing in common with ours must not fail.
    any: Arc<ServerConfig>,
    /// Proves to an authority that this host is the one it looks for; fails while none is asked.
    acme: Arc<ServerConfig>,
}

impl Tls {
    /// # Errors
    /// If the cryptography library refuses what it is built with.
    pub(super) fn new(certificate: CertHandle) -> Result<Self> {
        let failed = |error: rustls::Error| Failure::bug(text!("cannot configure TLS")).caused_by(error);
        // No early data: it can be replayed, and an Allocate must not be.
        let challenges = certificate.challenges().clone();
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(certificate));
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(failed)?;
        let with = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            Arc::new(config)
        };
        let mut acme = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(failed)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(challenges));
        acme.alpn_protocols = vec![ACME_PROTOCOL.to_vec()];
        let acme = Arc::new(acme);
        Ok(Self { acme, web: with(&WEB_PROTOCOLS), turn: with(&TURN_PROTOCOLS), any: with(&[]) })
    }

    pub(super) fn config(&self, offer: Offer) -> Arc<ServerConfig> {
        Arc::clone(match offer {
            Offer::Turn => &self.turn,
            Offer::Web => &self.web,
            Offer::Acme => &self.acme,
            Offer::Nothing => &self.any,
        })
    }
}
