//! TLS as a browser does it: the chain is verified against the authorities of this host, and what it was is told.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::hints::{TlsProblem, Trouble};
use super::wire::broken;
use crate::probe::PresentedLeaf;
use crate::sys::roots;
use crate::text;
use crate::words::Text;

/// Whom to believe.
#[derive(Debug, Clone)]
pub struct Trust {
    roots: Arc<RootCertStore>,
}

impl Trust {
    /// The authorities of this host, those of `SSL_CERT_FILE` in their place, and the ones in `own`.
    #[must_use]
    pub fn of_this_host(own: &Path) -> Self {
        Self { roots: Arc::new(roots::of_this_host(own)) }
    }

    /// A configuration, and the place where the server's certificate will be seen.
    pub(super) fn config(&self) -> Result<(Arc<ClientConfig>, Arc<Witness>), Trouble> {
        let crypto = Arc::new(provider::default_provider());
        let failed = |text: Text| Trouble::Tls { problem: TlsProblem::Other, text };
        if self.roots.is_empty() {
            return Err(Trouble::Tls {
                problem: TlsProblem::UnknownIssuer,
                text: text!("this host trusts no authority at all: it has no bundle of certificates"),
            });
        }
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::clone(&self.roots), Arc::clone(&crypto))
            .build()
            .map_err(|error| failed(Text::verbatim(error.to_string())))?;
        let witness = Arc::new(Witness { inner, seen: Mutex::default() });
        let config = ClientConfig::builder_with_provider(crypto)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(Text::verbatim(error.to_string())))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&witness) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        Ok((Arc::new(config), witness))
    }
}

/// Starts a connection to `host`.
pub(super) fn connection(config: Arc<ClientConfig>, host: &str) -> Result<ClientConnection, Trouble> {
    let failed = |text: Text| Trouble::Tls { problem: TlsProblem::Other, text };
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(Text::verbatim(error.to_string())))?;
    ClientConnection::new(config, name).map_err(|error| failed(Text::verbatim(error.to_string())))
}

/// Verifies as usual, and remembers what it saw.
#[derive(Debug)]
pub(super) struct Witness {
    inner: Arc<WebPkiServerVerifier>,
    seen: Mutex<Option<PresentedLeaf>>,
}

impl Witness {
    pub(super) fn leaf(&self) -> Option<PresentedLeaf> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = PresentedLeaf::read(leaf);
        self.inner.verify_server_cert(leaf, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// What a failed handshake means.
pub(super) fn trouble(error: std::io::Error) -> Trouble {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return broken(error);
    };
    let problem = if let Error::InvalidCertificate(certificate) = tls {
        certificate_problem(certificate)
    } else if matches!(tls, Error::InvalidMessage(_)) {
        TlsProblem::NoTls
    } else {
        TlsProblem::Other
    };
    let text = match problem {
        TlsProblem::UnknownIssuer => text!("no authority that this host trusts has issued it"),
        TlsProblem::Expired => text!("it is expired, or not valid yet"),
        TlsProblem::WrongName => text!("the host of the URL is not among its names"),
        TlsProblem::NoTls | TlsProblem::Other => Text::verbatim(tls.to_string()),
    };
    Trouble::Tls { problem, text }
}

fn certificate_problem(error: &CertificateError) -> TlsProblem {
    use CertificateError as E;
    let is_untimely =
        matches!(error, E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. });
    if is_untimely {
        return TlsProblem::Expired;
    }
    if matches!(error, E::NotValidForName | E::NotValidForNameContext { .. }) {
        return TlsProblem::WrongName;
    }
    // What webpki calls an authority that is presented as a server, as self-signed certificates often are.
    let is_own_authority = matches!(error, E::Other(other) if other.to_string().contains("CaUsedAsEndEntity"));
    if is_own_authority || matches!(error, E::UnknownIssuer | E::BadSignature) {
        TlsProblem::UnknownIssuer
    } else {
        TlsProblem::Other
    }
}
