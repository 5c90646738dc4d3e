//! Decides what the configuration says of the certificate and of the authority that issues it.

use std::net::{IpAddr, SocketAddr};

use super::forms::Malformed;
use super::raw::{Field, Reader, Section};
use super::resolve::{is_off, read_absolute};
use super::{AcmeConfig, CertSource, CertificateConfig, ChallengeChoice, Directory, Host};
use crate::text;

pub(super) const CERT_SOURCES: &[(&str, CertSource)] =
    &[("self-signed", CertSource::SelfSigned), ("acme", CertSource::Acme), ("files", CertSource::Files)];
pub(super) const CHALLENGES: &[(&str, ChallengeChoice)] = &[
    ("auto", ChallengeChoice::Auto),
    ("http-01", ChallengeChoice::Http01),
    ("tls-alpn-01", ChallengeChoice::TlsAlpn01),
    ("dns-01", ChallengeChoice::Dns01),
];

/// Where name servers listen if nothing else is said.
const DNS_PORT: u16 = 53;
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
        dns_command: reader
            .field(&mut section, "acme_dns_command")
            .map(|field| read_command(reader, &field))
            .unwrap_or_default(),
        dns_servers: match reader.field(&mut section, "acme_dns_servers") {
            Some(field) if !field.is_word("auto") => read_servers(reader, &field),
            _ => Vec::new(),
        },
        names: reader.field(&mut section, "acme_names").map(|field| read_names(reader, &field)).unwrap_or_default(),
        contact: reader.field(&mut section, "acme_contact").and_then(|field| {
            let contact = reader.text(&field)?.to_owned();
            let is_address = contact.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.'));
            if !is_address || contact.chars().any(|symbol| symbol.is_whitespace() || symbol.is_control()) {
                reader.complain(field.line, &field.path, text!("must be an e-mail address"));
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

/// A program by its absolute path, and its arguments.
pub(super) fn read_command(reader: &mut Reader, field: &Field<'_>) -> Vec<String> {
    let mut command = Vec::new();
    for member in reader.list(field) {
        command.extend(reader.text(&member).map(str::to_owned));
    }
    if command.first().is_some_and(|program| !program.starts_with('/')) {
        let text = text!("`{}` must be the absolute path of a program; arguments are members of the list", command[0]);
        reader.complain(field.line, &field.path, text);
    }
    command
}

/// Addresses with a port or without.
fn read_servers(reader: &mut Reader, field: &Field<'_>) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for member in reader.list(field) {
        let Some(text) = reader.text(&member).map(str::to_owned) else { continue };
        let alone = text.parse::<IpAddr>().map(|address| SocketAddr::from((address, DNS_PORT)));
        match text.parse().or(alone) {
            Ok(server) => servers.push(server),
            Err(_) => reader.complain(
                member.line,
                &member.path,
                text!("`{}` is not an address like `192.0.2.53` or `192.0.2.53:5353`", text.escape_debug()),
            ),
        }
    }
    servers
}

/// Names, which may begin with a star.
fn read_names(reader: &mut Reader, field: &Field<'_>) -> Vec<Host> {
    let mut names = Vec::new();
    for member in reader.list(field) {
        let Some(text) = reader.text(&member).map(str::to_owned) else { continue };
        match parse_name(&text) {
            Ok(name) => names.push(name),
            Err(why) => reader.complain(member.line, &member.path, text!("`{}` {}", text.escape_debug(), why.0)),
        }
    }
    names
}

/// A name that a certificate can have: one of the DNS, or a star before one.
///
/// # Errors
/// If it is an address or no name.
pub fn parse_name(text: &str) -> Result<Host, Malformed> {
    let (star, bare) = text.strip_prefix("*.").map_or(("", text), |bare| ("*.", bare));
    match bare.parse()? {
        Host::Address(_) => Err(Malformed(text!("is an address; addresses belong to `hosts`"))),
        Host::Name(name) if !star.is_empty() && !name.contains('.') => {
            Err(Malformed(text!("stands for a whole top-level domain")))
        }
        Host::Name(name) => Ok(Host::Name(format!("{star}{name}"))),
    }
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
            reader.complain(field.line, &field.path, text!("`{}` {}", text.escape_debug(), malformed.0));
        })
        .ok()
}
