//! TLS to a server that must present one certificate and no other.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};

use super::{Fault, Secured};
use crate::sys::timed::Timed;

/// A stream over TLS that ends at its deadline.
pub(super) type Stream = StreamOwned<ClientConnection, Timed>;

/// Connects and finishes the handshake.
pub(super) fn connect(at: Secured<'_>) -> Result<Stream, Fault> {
    let Secured { address, name, fingerprint, marks, until } = at;
    let failed = |error: std::io::Error| Fault::of_io(address, "tcp", &error);
    let config = config(fingerprint).map_err(|error| Fault::new(format!("cannot configure a TLS client: {error}")))?;
    let name = match name {
        Some(name) => ServerName::try_from(name.to_owned())
            .map_err(|error| Fault::new(format!("`{name}` cannot be said in a handshake: {error}")))?,
        // An address is not said in a handshake.
        None => ServerName::IpAddress(address.ip().into()),
    };
    let mut tls = ClientConnection::new(config, name)
        .map_err(|error| Fault::new(format!("cannot make a TLS client: {error}")))?;
    let mut tcp = Timed::new(marks.connect(address, until).map_err(failed)?, until);
    while tls.is_handshaking() {
        match tls.complete_io(&mut tcp) {
            Ok((0, 0)) => return Err(Fault::new(format!("`{address}/tcp` closed the connection in the handshake"))),
            Ok(_) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(StreamOwned::new(tls, tcp))
}

/// Takes one certificate only; every handshake is a whole one.
pub(super) fn config(fingerprint: &str) -> Result<Arc<ClientConfig>, Error> {
    let crypto = Arc::new(provider::default_provider());
    let verifier = OneLeaf { fingerprint: fingerprint.to_owned(), crypto: Arc::clone(&crypto) };
    let mut config = ClientConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// Takes the one certificate with this SHA-256, whoever signed it: it is known, so nobody has to vouch for it.
#[derive(Debug)]
struct OneLeaf {
    fingerprint: String,
    crypto: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OneLeaf {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let seen: String = digest(&SHA256, leaf).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        if seen == self.fingerprint {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::General(format!("another certificate is served than the current one: its SHA-256 is {seen}")))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signature, &self.crypto.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.crypto.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.crypto.signature_verification_algorithms.supported_schemes()
    }
}
