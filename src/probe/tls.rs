//! TLS to a server whose certificate nobody vouches for: it must be a certain one, or is only looked at.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};

use super::leaf::fingerprint_of;
use super::{Fault, Secured};
use crate::sys::timed::Timed;
use crate::text;

/// A stream over TLS that ends at its deadline.
pub(super) type Stream = StreamOwned<ClientConnection, Timed>;

/// Which certificates are taken, whoever signed them.
#[derive(Debug)]
pub(super) enum Accepted {
    /// The one with this SHA-256: it is known, so nobody has to vouch for it.
    One(String),
    /// Whatever is presented: nothing that is said to such a server, or by it, may be believed.
    AnyDangerous,
}

/// Connects and finishes the handshake with a server that must present one certificate and no other.
pub(super) fn connect(at: Secured<'_>) -> Result<Stream, Fault> {
    let Secured { address, name, fingerprint, marks, until } = at;
    shake_hands(Accepted::One(fingerprint.to_owned()), address, name, until, || marks.connect(address, until))
}

/// Finishes the handshake on what `connect` gives; every handshake is a whole one.
pub(super) fn shake_hands(
    accepted: Accepted,
    address: SocketAddr,
    name: Option<&str>,
    until: Instant,
    connect: impl FnOnce() -> io::Result<TcpStream>,
) -> Result<Stream, Fault> {
    let config = config(accepted).map_err(|error| Fault::new(text!("cannot configure a TLS client: {}", error)))?;
    handshake(config, address, name, until, connect, |error| Fault::of_io(address, "tcp", &error))
}

/// As [`shake_hands`], by any configuration; `explain` says what a handshake that failed means.
pub(super) fn handshake<E: From<Fault>>(
    config: Arc<ClientConfig>,
    address: SocketAddr,
    name: Option<&str>,
    until: Instant,
    connect: impl FnOnce() -> io::Result<TcpStream>,
    explain: impl FnOnce(io::Error) -> E,
) -> Result<Stream, E> {
    let name = match name {
        Some(name) => ServerName::try_from(name.to_owned())
            .map_err(|error| Fault::new(text!("`{}` cannot be said in a handshake: {}", name, error)))?,
        // An address is not said in a handshake.
        None => ServerName::IpAddress(address.ip().into()),
    };
    let mut tls = ClientConnection::new(config, name)
        .map_err(|error| Fault::new(text!("cannot make a TLS client: {}", error)))?;
    let stream = connect().map_err(|error| Fault::of_io(address, "tcp", &error))?;
    let mut tcp = Timed::new(stream, until);
    while tls.is_handshaking() {
        match tls.complete_io(&mut tcp) {
            Ok((0, 0)) => {
                return Err(Fault::new(text!("`{}/tcp` closed the connection in the handshake", address)).into());
            }
            Ok(_) => {}
            Err(error) => return Err(explain(error)),
        }
    }
    Ok(StreamOwned::new(tls, tcp))
}

fn config(accepted: Accepted) -> Result<Arc<ClientConfig>, Error> {
    let crypto = Arc::new(provider::default_provider());
    let verifier = Unvouched { accepted, crypto: Arc::clone(&crypto) };
    let mut config = ClientConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Unvouched {
    accepted: Accepted,
    crypto: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unvouched {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Accepted::One(fingerprint) = &self.accepted else { return Ok(ServerCertVerified::assertion()) };
        let seen = fingerprint_of(leaf);
        if seen == *fingerprint {
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
