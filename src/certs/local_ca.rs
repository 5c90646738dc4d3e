//! The local certificate authority: makes itself, signs leaves. Its key never leaves the home.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::leaf::LEAF_LIFETIME;
use crate::error::{Failure, Result};
use crate::text;
use crate::words::Text;

/// Ten years: trusting a CA on a phone is a chore that should not come back.
const CA_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 3600);
/// A CA that is nearer to its end than this is replaced, with time for devices to trust the new one.
const CA_MARGIN: Duration = Duration::from_secs(30 * 24 * 3600);
/// Clocks of callers' devices may be late.
const BACKDATED: Duration = Duration::from_secs(3600);
/// 2026, in seconds since 1970. Any clock that says less is wrong: that of a board without a battery, say.
const RELEASED: Duration = Duration::from_secs(1_767_225_600);

/// A CA that can sign.
pub struct LocalCa {
    pub certificate: CertificateDer<'static>,
    pub certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
    not_after: SystemTime,
}

/// A certificate and its key as they are written.
pub struct Issued {
    pub certificate_pem: String,
    pub key_pem: String,
}

impl LocalCa {
    /// Makes a new CA, and gives its key for the one who writes it down.
    ///
    /// # Errors
    /// If the host gives no randomness.
    pub fn create(now: SystemTime) -> Result<(Self, String)> {
        let key = KeyPair::generate().map_err(cannot_make)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("rtcctl local CA {}", &sha256_hex(key.public_key_raw())[..8]));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // A CA that is made by a wrong clock is good by the right one as well: devices must not have to trust another one.
        let released = SystemTime::UNIX_EPOCH + RELEASED;
        params.not_before = backdated(now).min(released).into();
        params.not_after = (now.max(released) + CA_LIFETIME).into();
        let certificate = params.self_signed(&key).map_err(cannot_make)?;
        let key_pem = key.serialize_pem();
        let ca = Self::read(&certificate.pem(), &key_pem, now).map_err(Failure::bug)?;
        Ok((ca, key_pem))
    }

    /// Reads a CA back.
    ///
    /// # Errors
    /// In words, if it is not a CA, the key is not its key, or it ends soon.
    pub fn read(certificate_pem: &str, key_pem: &str, now: SystemTime) -> std::result::Result<Self, Text> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|_| text!("`ca.pem` holds no certificate"))?;
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| text!("`ca.pem` is damaged"))?;
        let key = KeyPair::from_pem(key_pem).map_err(|_| text!("`ca.key` is damaged"))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(text!("`ca.key` is not the key of `ca.pem`"));
        }
        if !parsed.is_ca() {
            return Err(text!("`ca.pem` is not the certificate of an authority"));
        }
        let not_after = system_time(parsed.validity().not_after.timestamp());
        if not_after < now + CA_MARGIN {
            return Err(text!("the local CA's time is over"));
        }
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|_| text!("`ca.pem` cannot be used to sign"))?;
        Ok(Self { certificate, certificate_pem: certificate_pem.to_owned(), issuer, not_after })
    }

    /// Signs a leaf for `names`, with a key of its own.
    ///
    /// # Errors
    /// If a name is none, or the host gives no randomness.
    pub fn issue(&self, names: &BTreeSet<String>, now: SystemTime) -> Result<Issued> {
        let key = KeyPair::generate().map_err(cannot_make)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "rtcctl");
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.parse() {
                Ok(address) => Ok(SanType::IpAddress(address)),
                Err(_) => name.as_str().try_into().map(SanType::DnsName),
            })
            .collect::<std::result::Result<_, rcgen::Error>>()
            .map_err(cannot_make)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let not_before = backdated(now);
        params.not_before = not_before.into();
        params.not_after = (not_before + LEAF_LIFETIME).min(self.not_after).into();
        let leaf = params.signed_by(&key, &self.issuer).map_err(cannot_make)?;
        Ok(Issued { certificate_pem: leaf.pem(), key_pem: key.serialize_pem() })
    }
}

/// From when on a certificate is good; before 1970 there is nothing that could be written or verified.
fn backdated(now: SystemTime) -> SystemTime {
    now.checked_sub(BACKDATED).unwrap_or(now).max(SystemTime::UNIX_EPOCH)
}

fn cannot_make(error: rcgen::Error) -> Failure {
    Failure::operator(text!("cannot make a certificate")).caused_by(error)
}

pub(super) fn system_time(unix_seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(unix_seconds).unwrap_or(0))
}

/// The SHA-256 of `bytes` in lower-case hexadecimal.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The SHA-256 of the certificate in `pem` as devices show it, in pairs: for people who compare. `None`: there is none.
#[must_use]
pub fn shown_fingerprint(pem: &[u8]) -> Option<String> {
    let der = CertificateDer::from_pem_slice(pem).ok()?;
    let hex = sha256_hex(&der).to_uppercase();
    let pairs: Vec<&str> = (0..hex.len()).step_by(2).map(|at| &hex[at..at + 2]).collect();
    Some(pairs.join(":"))
}
