//! Which certificate a server presents, whatever it is worth.

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::tls::Stream;
use super::turn::names_of;
use super::{Fault, https};
use crate::sys::timed::{Timed, left};

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentedLeaf {
    pub names: Vec<String>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    /// SHA-256, in lower-case hexadecimal.
    pub fingerprint: String,
}

/// Shakes hands with a server and believes whatever it presents. Nothing is sent but the handshake.
///
/// # Errors
/// If TLS fails, or the certificate cannot be read.
pub fn presented_leaf(address: SocketAddr, name: Option<&str>, until: Instant) -> Result<PresentedLeaf, Fault> {
    shake_hands(address, name, until).map(|(leaf, _)| leaf)
}

/// As [`presented_leaf`], and asks for a path: the certificate, the status and what was answered.
///
/// # Errors
/// As [`presented_leaf`], or if the answer is not HTTP.
pub fn presented_page(
    address: SocketAddr,
    name: Option<&str>,
    path: &str,
    until: Instant,
) -> Result<(PresentedLeaf, u16, String), Fault> {
    let (leaf, stream) = shake_hands(address, name, until)?;
    let (status, body) = https::exchange(stream, address, path)?;
    Ok((leaf, status, body))
}

fn shake_hands(address: SocketAddr, name: Option<&str>, until: Instant) -> Result<(PresentedLeaf, Stream), Fault> {
    let failed = |error: std::io::Error| Fault::of_io(address, "tcp", &error);
    let crypto = Arc::new(provider::default_provider());
    let look = Arc::new(Look { crypto: Arc::clone(&crypto), seen: Mutex::default() });
    let config = ClientConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::new(format!("cannot configure a TLS client: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&look) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    let name = match name {
        Some(name) => ServerName::try_from(name.to_owned())
            .map_err(|error| Fault::new(format!("`{name}` cannot be said in a handshake: {error}")))?,
        None => ServerName::IpAddress(address.ip().into()),
    };
    let mut tls = ClientConnection::new(Arc::new(config), name)
        .map_err(|error| Fault::new(format!("cannot make a TLS client: {error}")))?;
    let stream = TcpStream::connect_timeout(&address, left(until).map_err(failed)?).map_err(failed)?;
    let mut tcp = Timed::new(stream, until);
    while tls.is_handshaking() {
        match tls.complete_io(&mut tcp) {
            Ok((0, 0)) => return Err(Fault::new(format!("`{address}/tcp` closed the connection in the handshake"))),
            Ok(_) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let seen = look.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    let leaf = seen.and_then(|der| read(&der));
    let leaf = leaf.ok_or_else(|| Fault::new(format!("`{address}/tcp` presents no certificate that can be read")))?;
    Ok((leaf, StreamOwned::new(tls, tcp)))
}

fn read(der: &CertificateDer<'_>) -> Option<PresentedLeaf> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let at = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    Some(PresentedLeaf {
        names: names_of(&certificate),
        not_before: at(certificate.validity().not_before.timestamp()),
        not_after: at(certificate.validity().not_after.timestamp()),
        fingerprint: digest(&SHA256, der).as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

/// Looks, and accepts.
#[derive(Debug)]
struct Look {
    crypto: Arc<CryptoProvider>,
    seen: Mutex<Option<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Look {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(leaf.clone().into_owned());
        Ok(ServerCertVerified::assertion())
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
