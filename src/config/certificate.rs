//! Decides what the configuration says of the certificate and of the authority that issues it.

use super::raw::{Field, Reader, Section};
use super::resolve::{is_off, read_absolute};
use super::{AcmeConfig, CertSource, CertificateConfig, ChallengeChoice, Directory};

pub(super) const CERT_SOURCES: &[(&str, CertSource)] =
    &[("self-signed", CertSource::SelfSigned), ("acme", CertSource::Acme), ("files", CertSource::Files)];
pub(super) const CHALLENGES: &[(&str, ChallengeChoice)] = &[
    ("auto", ChallengeChoice::Auto),
    ("http-01", ChallengeChoice::Http01),
    ("tls-alpn-01", ChallengeChoice::TlsAlpn01),
];

const DEFAULT_DIRECTORY: &str = "letsencrypt";

pub(super) fn read_certificate(reader: &mut Reader, root: &mut Section<'_>) -> CertificateConfig {
    let mut section = reader.section(root, "certificate");
    let source = reader
        .field(&mut section, "source")
        .and_then(|field| reader.choice(&field, CERT_SOURCES))
        .unwrap_or(CertSource::SelfSigned);
    let directory = read_directory(reader, &mut section, "acme_directory").unwrap_or_else(default_directory);
    let staging = match reader.field(&mut section, "acme_staging") {
        Some(field) if is_off(&field) => None,
        Some(field) if !field.is_word("auto") => parse_directory(reader, &field),
        _ => directory.twin.as_ref().and_then(|twin| twin.parse().ok()),
    };
    let acme = AcmeConfig {
        ca_root: read_absolute(reader, &mut section, "acme_ca_root"),
        challenge: reader
            .field(&mut section, "acme_challenge")
            .and_then(|field| reader.choice(&field, CHALLENGES))
            .unwrap_or(ChallengeChoice::Auto),
        contact: reader.field(&mut section, "acme_contact").and_then(|field| {
            let contact = reader.text(&field)?.to_owned();
            let is_address = contact.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.'));
            if !is_address || contact.chars().any(|symbol| symbol.is_whitespace() || symbol.is_control()) {
                reader.complain(field.line, &field.path, "must be an e-mail address");
            }
            Some(contact)
        }),
        profile: match reader.field(&mut section, "acme_profile") {
            Some(field) if !field.is_word("auto") => reader.text(&field).map(str::to_owned),
            _ => None,
        },
        staging,
        fallback: match reader.field(&mut section, "acme_fallback") {
            Some(field) if !is_off(&field) => parse_directory(reader, &field),
            _ => None,
        },
        directory,
    };
    let cert_file = read_absolute(reader, &mut section, "cert_file");
    let key_file = read_absolute(reader, &mut section, "key_file");
    reader.close(section);
    CertificateConfig { source, acme, cert_file, key_file }
}

/// The authority that is asked where nobody says which.
///
/// # Panics
/// If the default is no known word, which every test of the defaults rules out.
#[must_use]
pub fn default_directory() -> Directory {
    DEFAULT_DIRECTORY.parse().expect("the default is the word of a known authority")
}

fn read_directory(reader: &mut Reader, section: &mut Section<'_>, key: &'static str) -> Option<Directory> {
    let field = reader.field(section, key)?;
    parse_directory(reader, &field)
}

fn parse_directory(reader: &mut Reader, field: &Field<'_>) -> Option<Directory> {
    let text = reader.text(field)?;
    let parsed = text.parse::<Directory>();
    parsed
        .map_err(|malformed| {
            reader.complain(field.line, &field.path, format!("`{}` {malformed}", text.escape_debug()));
        })
        .ok()
}
