//! Whether a server's certificate is believed by who knows the authorities of this host, as other programs on it are.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ClientConnection, Error};

use super::Fault;
use crate::sys::roots;
use crate::sys::timed::{Timed, left};

/// Shakes hands with `address` as with `name`. `Ok(Err(_))`: the certificate is not believed, in words.
///
/// # Errors
/// If it does not come to a certificate, or this host knows no authority.
pub fn is_trusted(address: SocketAddr, name: &str, until: Instant) -> Result<Result<(), String>, Fault> {
    let roots = roots::of_this_host(Path::new(""));
    if roots.is_empty() {
        return Err(Fault::new("this host has no bundle of authorities"));
    }
    let failed = |error: io::Error| Fault::of_io(address, "tcp", &error);
    let config = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::new(format!("cannot configure a TLS client: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = ServerName::try_from(name.to_owned())
        .map_err(|error| Fault::new(format!("`{name}` cannot be said in a handshake: {error}")))?;
    let mut tls = ClientConnection::new(Arc::new(config), server)
        .map_err(|error| Fault::new(format!("cannot make a TLS client: {error}")))?;
    let connect = left(until).and_then(|left| TcpStream::connect_timeout(&address, left));
    let mut tcp = Timed::new(connect.map_err(failed)?, until);
    while tls.is_handshaking() {
        match tls.complete_io(&mut tcp) {
            Ok((0, 0)) => return Err(Fault::new(format!("`{address}/tcp` closed the connection in the handshake"))),
            Ok(_) => {}
            Err(error) => {
                let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
                return match inner {
                    Some(Error::InvalidCertificate(why)) => Ok(Err(in_words(why, name))),
                    Some(_) | None => Err(failed(error)),
                };
            }
        }
    }
    Ok(Ok(()))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what else there may be says so itself")]
fn in_words(why: &CertificateError, name: &str) -> String {
    match why {
        CertificateError::UnknownIssuer => {
            "no authority that this host knows has issued it, or the chain lacks the one in between".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "it is not valid yet".to_owned(),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("it is not for `{name}`")
        }
        CertificateError::Revoked => "it is revoked".to_owned(),
        other => other.to_string(),
    }
}
