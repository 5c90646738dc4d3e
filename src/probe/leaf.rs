//! Which certificate a server presents, whatever it is worth.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::tls::{self, Accepted, Stream};
use super::{Fault, https};
use crate::sys::timed::left;
use crate::text;

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
    let connect = || TcpStream::connect_timeout(&address, left(until)?);
    let stream = tls::shake_hands(Accepted::AnyDangerous, address, name, until, connect)?;
    let leaf = stream.conn.peer_certificates().and_then(<[_]>::first).and_then(PresentedLeaf::read);
    let leaf = leaf.ok_or_else(|| Fault::new(text!("`{}/tcp` presents no certificate that can be read", address)))?;
    Ok((leaf, stream))
}

impl PresentedLeaf {
    /// `None`: that is no certificate.
    pub(super) fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let at = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        Some(Self {
            names: names_of(&certificate),
            not_before: at(certificate.validity().not_before.timestamp()),
            not_after: at(certificate.validity().not_after.timestamp()),
            fingerprint: fingerprint_of(der),
        })
    }
}

/// Its SHA-256, in lower-case hexadecimal.
pub(super) fn fingerprint_of(der: &CertificateDer<'_>) -> String {
    digest(&SHA256, der).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Names and addresses that a certificate is for, as text.
fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let alternatives = alternatives.iter().flat_map(|extension| &extension.value.general_names);
    let names = alternatives.filter_map(|name| {
        if let GeneralName::DNSName(name) = name {
            return Some((*name).to_owned());
        }
        let GeneralName::IPAddress(bytes) = name else { return None };
        let v4 = <[u8; 4]>::try_from(*bytes).map(|bytes| Ipv4Addr::from(bytes).to_string());
        v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(|bytes| Ipv6Addr::from(bytes).to_string())).ok()
    });
    names.collect()
}
