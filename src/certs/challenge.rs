//! What the listeners answer while an authority looks whether this host is the one it is asked to certify.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair, SanType};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::Host;
use crate::error::{Failure, Result};
use crate::text;

/// A way to prove that a name or an address is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A file on port 80. RFC 8555, section 8.3.
    Http01,
    /// A certificate on port 443. RFC 8737.
    TlsAlpn01,
    /// A record of the DNS. RFC 8555, section 8.4.
    Dns01,
}

impl Kind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Dns01 => "dns-01",
        }
    }
}

/// The answers to challenges that are pending now, for all listeners.
#[derive(Debug, Clone, Default)]
pub struct Challenges {
    pending: Arc<Mutex<Pending>>,
    lacks_http: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Pending {
    /// Key authorizations by token.
    http: BTreeMap<String, String>,
    /// Certificates by the name that a client indicates.
    tls: BTreeMap<String, Arc<CertifiedKey>>,
}

/// Answers that are given until this is dropped, whatever ends the order.
#[derive(Debug)]
pub struct Answering {
    challenges: Challenges,
    tokens: Vec<String>,
    names: Vec<String>,
}

impl Challenges {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().expect("nothing panics while it holds this lock")
    }

    /// What is answered below `/.well-known/acme-challenge/`.
    #[must_use]
    pub fn http(&self, token: &str) -> Option<String> {
        self.pending().http.get(token).cloned()
    }

    /// Whether the port of HTTP is somebody else's: then nothing that is asked there is answered by this service.
    pub fn lack_http(&self, lacks_it: bool) {
        self.lacks_http.store(lacks_it, Ordering::Relaxed);
    }

    /// What was said by [`Challenges::lack_http`].
    #[must_use]
    pub fn lacks_http(&self) -> bool {
        self.lacks_http.load(Ordering::Relaxed)
    }

    /// Begins to answer. The guard ends it.
    #[must_use]
    pub fn answering(&self) -> Answering {
        Answering { challenges: self.clone(), tokens: Vec::new(), names: Vec::new() }
    }
}

impl Answering {
    pub fn answer_http(&mut self, token: &str, key_authorization: &str) {
        self.challenges.pending().http.insert(token.to_owned(), key_authorization.to_owned());
        self.tokens.push(token.to_owned());
    }

    /// # Errors
    /// If no certificate can be made.
    pub fn answer_tls(&mut self, host: &Host, digest: &[u8; 32]) -> Result<()> {
        let name = indicated_name(host);
        let certificate = Arc::new(answer_certificate(host, digest)?);
        self.challenges.pending().tls.insert(name.clone(), certificate);
        self.names.push(name);
        Ok(())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut pending = self.challenges.pending();
        for token in &self.tokens {
            pending.http.remove(token);
        }
        for name in &self.names {
            pending.tls.remove(name);
        }
    }
}

/// For handshakes that offer `acme-tls/1` and nothing else. Without a pending challenge they fail.
impl ResolvesServerCert for Challenges {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?.trim_end_matches('.').to_ascii_lowercase();
        self.pending().tls.get(&name).cloned()
    }
}

/// The name that an authority indicates: an address as the reverse DNS has it, for SNI knows names only. RFC 8738,
/// section 6.
#[must_use]
pub fn indicated_name(host: &Host) -> String {
    match host {
        Host::Name(name) => name.to_ascii_lowercase(),
        Host::Address(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Host::Address(IpAddr::V6(address)) => {
            let mut name = String::with_capacity(72);
            for byte in address.octets().iter().rev() {
                // Writing to a string cannot fail.
                let _ = write!(name, "{:x}.{:x}.", byte & 15, byte >> 4);
            }
            name.push_str("ip6.arpa");
            name
        }
    }
}

/// RFC 8737, section 3: one subject alternative name, and the digest in a critical extension.
fn answer_certificate(host: &Host, digest: &[u8; 32]) -> Result<CertifiedKey> {
    let failed =
        |error: rcgen::Error| Failure::operator(text!("cannot make a certificate for a challenge")).caused_by(error);
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![match host {
        Host::Address(address) => SanType::IpAddress(*address),
        Host::Name(name) => SanType::DnsName(name.as_str().try_into().map_err(failed)?),
    }];
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key).map_err(failed)?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let key = aws_lc_rs::sign::any_supported_type(&key)
        .map_err(|error| Failure::bug(text!("a key that was just made cannot be used")).caused_by(error))?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_indicated_as_the_reverse_dns_has_it() {
        let name = |text: &str| indicated_name(&text.parse().unwrap());
        assert_eq!(name("203.0.113.10"), "10.113.0.203.in-addr.arpa");
        assert_eq!(name("2001:db8::1"), "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
        assert_eq!(name("Call.Example"), "call.example");
    }

    #[test]
    fn answers_end_with_their_guard() {
        let challenges = Challenges::default();
        let mut answering = challenges.answering();
        answering.answer_http("token", "token.thumb");
        answering.answer_tls(&"192.0.2.1".parse().unwrap(), &[7; 32]).unwrap();
        assert_eq!(challenges.http("token").as_deref(), Some("token.thumb"));
        assert!(challenges.pending().tls.contains_key("1.2.0.192.in-addr.arpa"));
        assert_eq!(challenges.http("other"), None);
        drop(answering);
        assert_eq!(challenges.http("token"), None);
        assert!(challenges.pending().tls.is_empty());
    }
}
