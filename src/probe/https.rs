//! One request by HTTP/1.1 over TLS, to a server that must present one certificate and no other.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, Stream};

use super::ANSWERED_WITHIN;
use crate::error::{Failure, Result};

/// Bytes of an answer that are read.
const MAX_ANSWER: u64 = 16 * 1024;

/// The status and the body of the answer to a GET.
pub(super) fn get(address: SocketAddr, fingerprint: &str, path: &str) -> Result<(u16, String)> {
    let failed = |error: std::io::Error| {
        let failure = Failure::operator(format!("no answer from `{address}/tcp`"));
        if error.kind() == std::io::ErrorKind::WouldBlock {
            failure.because(format!("nothing came within {} s", ANSWERED_WITHIN.as_secs()))
        } else {
            failure.caused_by(error)
        }
    };
    let no_tls = |error: Error| Failure::bug("cannot configure a TLS client").caused_by(error);
    let crypto = Arc::new(provider::default_provider());
    let verifier = OneLeaf { fingerprint: fingerprint.to_owned(), crypto: Arc::clone(&crypto) };
    let config = ClientConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .map_err(no_tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let name = ServerName::IpAddress(address.ip().into());
    let mut tls = ClientConnection::new(Arc::new(config), name).map_err(no_tls)?;
    let mut tcp = TcpStream::connect_timeout(&address, ANSWERED_WITHIN).map_err(failed)?;
    tcp.set_read_timeout(Some(ANSWERED_WITHIN)).map_err(failed)?;
    tcp.set_write_timeout(Some(ANSWERED_WITHIN)).map_err(failed)?;
    let mut stream = Stream::new(&mut tls, &mut tcp);
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).map_err(failed)?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.ok_or_else(|| Failure::operator(format!("`{address}/tcp` answers, but not as HTTP")))?;
    Ok((status, body.to_owned()))
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
        Err(Error::General("another certificate is served than the current one".to_owned()))
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
