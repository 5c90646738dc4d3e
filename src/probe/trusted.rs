//! Whether a server's certificate is believed by who knows the authorities of this host, as other programs on it are.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rustls::crypto::aws_lc_rs as provider;
use rustls::{CertificateError, ClientConfig, Error};

use super::{Fault, tls};
use crate::sys::roots;
use crate::sys::timed::left;
use crate::text;
use crate::words::Text;

/// Shakes hands with `address` as with `name`. `Ok(Err(_))`: the certificate is not believed, in words.
///
/// # Errors
/// If it does not come to a certificate, or this host knows no authority.
pub fn is_trusted(address: SocketAddr, name: &str, until: Instant) -> Result<Result<(), Text>, Fault> {
    let roots = roots::of_this_host(Path::new(""));
    if roots.is_empty() {
        return Err(Fault::new(text!("this host has no bundle of authorities")));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::new(text!("cannot configure a TLS client: {}", error)))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connect = || TcpStream::connect_timeout(&address, left(until)?);
    let explain = |error: io::Error| match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(why)) => Doubt::Disbelieved(in_words(why, name)),
        Some(_) | None => Doubt::Fault(Fault::of_io(address, "tcp", &error)),
    };
    match tls::handshake(Arc::new(config), address, Some(name), until, connect, explain) {
        Ok(_) => Ok(Ok(())),
        Err(Doubt::Disbelieved(why)) => Ok(Err(why)),
        Err(Doubt::Fault(fault)) => Err(fault),
    }
}

/// Why a handshake did not come to its end.
enum Doubt {
    Disbelieved(Text),
    Fault(Fault),
}

impl From<Fault> for Doubt {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what else there may be says so itself")]
fn in_words(why: &CertificateError, name: &str) -> Text {
    match why {
        CertificateError::UnknownIssuer => {
            text!("no authority that this host knows has issued it, or the chain lacks the one in between")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => text!("it has expired"),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => text!("it is not valid yet"),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            text!("it is not for `{}`", name)
        }
        CertificateError::Revoked => text!("it is revoked"),
        other => Text::verbatim(other.to_string()),
    }
}
