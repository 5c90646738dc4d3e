//! A certificate from an authority that works by hand: a signing request goes out, a chain comes back.
//!
//! The key never leaves the home. What comes back is served by `certificate.source: files`.

use std::path::PathBuf;
use std::time::SystemTime;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

use super::Source;
use super::pair::{Labels, assemble, faults, issuer_fault};
use crate::config::Host;
use crate::error::{Failure, Result};
use crate::home::Home;
use crate::sys::fs::{create_private_dir, read_to_string, write_atomic};
use crate::text;
use crate::words::Text;

/// Where a request and its answer are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestFiles {
    pub key: PathBuf,
    pub request: PathBuf,
    pub chain: PathBuf,
}

impl RequestFiles {
    #[must_use]
    pub fn of(home: &Home) -> Self {
        let dir = home.certs_dir();
        Self { key: dir.join("request.key"), request: dir.join("request.csr"), chain: dir.join("imported.pem") }
    }
}

/// Writes a request for all hosts, and gives its text. The key of an earlier request is kept: its answer may be on its
/// way.
///
/// # Errors
/// If the folder cannot be written, or the key that is there is damaged.
pub fn write_request(hosts: &[Host], home: &Home) -> Result<String> {
    let files = RequestFiles::of(home);
    let failed = |error: rcgen::Error| Failure::operator(text!("cannot make a signing request")).caused_by(error);
    create_private_dir(&home.certs_dir())?;
    let key = if files.key.exists() {
        let text = read_to_string(&files.key)?;
        KeyPair::from_pem(&text).map_err(|error| {
            Failure::operator(text!("cannot use the key `{}`", files.key.display()))
                .caused_by(error)
                .hinted(text!("move it away, and a new one is made"))
        })?
    } else {
        let key = KeyPair::generate().map_err(failed)?;
        write_atomic(&files.key, key.serialize_pem().as_bytes(), 0o600)?;
        key
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // Authorities that work by hand often want a common name; addresses are never put there.
    if let Some(name) = hosts.iter().find_map(|host| match host {
        Host::Name(name) => Some(name.clone()),
        Host::Address(_) => None,
    }) {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    let name = |host: &Host| match host {
        Host::Address(address) => Ok(SanType::IpAddress(*address)),
        Host::Name(name) => name.as_str().try_into().map(SanType::DnsName),
    };
    params.subject_alt_names =
        hosts.iter().map(name).collect::<std::result::Result<_, rcgen::Error>>().map_err(failed)?;
    let text = params.serialize_request(&key).and_then(|request| request.pem()).map_err(failed)?;
    write_atomic(&files.request, text.as_bytes(), 0o644)?;
    Ok(text)
}

/// Takes the answer to the request: checks it, and puts it beside its key.
///
/// # Errors
/// If there was no request, or the chain does not fit it, the hosts or the date.
pub fn import(chain_pem: &str, label: &str, hosts: &[Host], home: &Home, now: SystemTime) -> Result<RequestFiles> {
    let files = RequestFiles::of(home);
    if !files.key.exists() {
        return Err(Failure::operator(text!("there is no request that this could be the answer to"))
            .hinted(text!("make one by `rtcctl{} cert csr`", home.flag())));
    }
    let key_pem = read_to_string(&files.key)?;
    let bad = |why: Text| {
        Failure::operator(text!("cannot take the certificate {}", label))
            .because(why)
            .hinted(text!("give the server's certificate and those that vouch for it, in this order, in one PEM file"))
    };
    let key_label = format!("`{}`", files.key.display());
    let labels = Labels { chain: label, key: &key_label };
    let (facts, served) = assemble(chain_pem, &key_pem, Source::Files, labels).map_err(bad)?;
    let mut faults = faults(&facts, hosts, now);
    faults.extend(issuer_fault(&served, now));
    if !faults.is_empty() {
        return Err(bad(Text::clauses(faults)));
    }
    write_atomic(&files.chain, chain_pem.as_bytes(), 0o644)?;
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt as _;

    use rcgen::{CertificateSigningRequestParams, Issuer};

    use super::*;
    use crate::certs::local_ca::LocalCa;
    use crate::sys::clock::now;

    fn hosts() -> Vec<Host> {
        vec!["192.0.2.7".parse().unwrap(), "call.example".parse().unwrap()]
    }

    #[test]
    fn a_request_is_answered_and_taken_and_any_other_answer_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::under(dir.path());
        let none = import("", "`x`", &hosts(), &home, now().wall).unwrap_err();
        assert!(none.message().contains("no request"), "{none}");
        let request = write_request(&hosts(), &home).unwrap();
        let files = RequestFiles::of(&home);
        assert_eq!(files.key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(write_request(&hosts(), &home).unwrap().lines().count(), request.lines().count());
        let (ca, ca_key) = LocalCa::create(now().wall).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&ca.certificate_pem, KeyPair::from_pem(&ca_key).unwrap()).unwrap();
        let signed = CertificateSigningRequestParams::from_pem(&request).unwrap().signed_by(&issuer).unwrap().pem();
        let chain = format!("{signed}{}", ca.certificate_pem);
        assert_eq!(import(&chain, "`x`", &hosts(), &home, now().wall).unwrap(), files);
        assert_eq!(read_to_string(&files.chain).unwrap(), chain);
        let names = BTreeSet::from(["call.example".to_owned()]);
        let other = ca.issue(&names, now().wall).unwrap().certificate_pem;
        let refused = import(&other, "`x`", &hosts(), &home, now().wall).unwrap_err();
        assert!(refused.to_string().contains("is not the key of"), "{refused}");
        let wider: Vec<Host> = [hosts(), vec!["more.example".parse().unwrap()]].concat();
        let refused = import(&chain, "`x`", &wider, &home, now().wall).unwrap_err();
        assert!(refused.to_string().contains("it is not for `more.example`"), "{refused}");
    }
}
