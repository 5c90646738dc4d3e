//! Decides whether a chain and a key can be served: the key is the leaf's, the chain is in order, the dates are read.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};

use super::leaf::LeafFacts;
use super::local_ca::{sha256_hex, system_time};
use super::{Served, Source};
use crate::config::Host;
use crate::text;
use crate::words::Text;

/// What every certificate and key in DER begins with.
const SEQUENCE: u8 = 0x30;
/// The access method by which a certificate names where that of its issuer is. RFC 5280, section 4.2.2.1.
const CA_ISSUERS: &str = "1.3.6.1.5.5.7.48.2";

/// What the two texts are called in complaints.
#[derive(Debug, Clone, Copy)]
pub struct Labels<'a> {
    pub chain: &'a str,
    pub key: &'a str,
}

/// The text of a file of PEM; in words what else it is, if it is that: files come from mail, from Windows and browsers.
///
/// # Errors
/// Completes the sentence "`file` ...".
pub fn pem_text(bytes: Vec<u8>) -> Result<String, Text> {
    let is_der = bytes.first() == Some(&SEQUENCE);
    match String::from_utf8(bytes) {
        // What Windows puts before a text is none of it.
        Ok(text) if !text.contains('\0') => Ok(text.trim_start_matches('\u{feff}').to_owned()),
        Ok(_) | Err(_) if is_der => Err(text!(
            "is DER, not PEM; turn it into PEM by `openssl x509 -inform DER`, a key by \
                                          `openssl pkey -inform DER`, a bundle of both (.pfx, .p12) by `openssl pkcs12 -nodes`"
        )),
        Ok(_) | Err(_) => Err(text!("is no text in UTF-8; save it as PEM")),
    }
}

/// Whether devices may lack a certificate between this chain and what they trust; says in words which. A leaf alone that
/// names where its issuer's certificate is to be had was hardly issued by a root.
#[must_use]
pub fn loose_end(served: &Served) -> Option<Text> {
    let [only] = &served.key.cert[..] else { return None };
    let (_, parsed) = X509Certificate::from_der(only).ok()?;
    let tells = parsed.extensions().iter().any(|extension| {
        let ParsedExtension::AuthorityInfoAccess(access) = extension.parsed_extension() else { return false };
        access.accessdescs.iter().any(|one| one.access_method.to_id_string() == CA_ISSUERS)
    });
    let issuer = &served.issuer;
    tells.then(|| {
        text!("the chain holds the server's certificate alone; devices that lack that of `{}` refuse it", issuer)
    })
}

/// Why nobody trusts what the next certificate of the chain vouches for, in words; those behind it may be for old devices
/// alone.
#[must_use]
pub fn issuer_fault(served: &Served, now: SystemTime) -> Option<Text> {
    let (_, issuer) = X509Certificate::from_der(served.key.cert.get(1)?).ok()?;
    let validity = issuer.validity();
    let subject = issuer.subject();
    if now >= system_time(validity.not_after.timestamp()) {
        Some(text!("the certificate of `{}`, which vouches for it, has expired", subject))
    } else if now < system_time(validity.not_before.timestamp()) {
        Some(text!("the certificate of `{}`, which vouches for it, is not valid yet by this host's clock", subject))
    } else {
        None
    }
}

/// Puts a chain and its key together. The error says in words what is wrong.
///
/// # Errors
/// If one of them is damaged, they do not belong together, or the chain is out of order.
pub fn assemble(
    chain_pem: &str,
    key_pem: &str,
    source: Source,
    labels: Labels<'_>,
) -> Result<(LeafFacts, Served), Text> {
    let Labels { chain: chain_label, key: key_label } = labels;
    let damaged = |_| text!("{} is damaged", chain_label);
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect::<Result<_, _>>().map_err(damaged)?;
    let leaf = chain.first().cloned().ok_or_else(|| text!("{} holds no certificate", chain_label))?;
    let parsed: Vec<X509Certificate<'_>> = chain
        .iter()
        .map(|der| X509Certificate::from_der(der).map(|(_, certificate)| certificate))
        .collect::<Result<_, _>>()
        .map_err(|_| text!("{} is damaged", chain_label))?;
    if parsed[0].is_ca() {
        return Err(text!("{} begins with the certificate of an authority; the server's own comes first", chain_label));
    }
    for (at, two) in parsed.windows(2).enumerate() {
        if two[0].issuer() != two[1].subject() {
            return Err(text!(
                "{} is out of order: certificate {} was issued by `{}`, but `{}` follows",
                chain_label,
                at + 1,
                two[0].issuer(),
                two[1].subject()
            ));
        }
    }
    let facts = LeafFacts {
        names: names_of(&parsed[0]),
        not_before: system_time(parsed[0].validity().not_before.timestamp()),
        not_after: system_time(parsed[0].validity().not_after.timestamp()),
    };
    let issuer = parsed[0].issuer().to_string();
    if key_pem.contains("ENCRYPTED") {
        return Err(text!(
            "{} is encrypted, and nobody is there to type its passphrase; write it in the clear by \
             `openssl pkey -in OLD -out NEW`, readable by this service alone",
            key_label
        ));
    }
    if !key_pem.contains("PRIVATE KEY-----") {
        return Err(text!("{} holds no private key", key_label));
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| text!("{} is damaged", key_label))?;
    let key = aws_lc_rs::sign::any_supported_type(&key).map_err(|_| text!("{} is damaged", key_label))?;
    let certified = CertifiedKey::new(chain.clone(), key);
    certified.keys_match().map_err(|_| text!("{} is not the key of {}", key_label, chain_label))?;
    let served = Served {
        key: Arc::new(certified),
        source,
        names: facts.names.iter().cloned().collect(),
        issuer,
        not_before: facts.not_before,
        not_after: facts.not_after,
        fingerprint: sha256_hex(&leaf),
    };
    Ok((facts, served))
}

/// What a certificate is not good for now, in words; empty if nothing is wrong.
#[must_use]
pub fn faults(facts: &LeafFacts, hosts: &[Host], now: SystemTime) -> Vec<Text> {
    let mut faults = Vec::new();
    if now >= facts.not_after {
        faults.push(text!("it has expired"));
    }
    if now < facts.not_before {
        faults.push(text!("it is not valid yet by this host's clock"));
    }
    let missing: Vec<String> =
        hosts.iter().filter(|host| !covers(&facts.names, host)).map(|host| format!("`{host}`")).collect();
    if !missing.is_empty() {
        faults.push(text!("it is not for {}", missing.join(", ")));
    }
    faults
}

/// Whether a certificate with these names is good for a host. A star stands for one label: RFC 6125, section 6.4.3.
#[must_use]
pub fn covers(names: &BTreeSet<String>, host: &Host) -> bool {
    match host {
        Host::Address(address) => names.contains(&address.to_string()),
        Host::Name(name) => {
            let parent = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
            names.iter().any(|known| {
                known.eq_ignore_ascii_case(name)
                    || parent.as_ref().is_some_and(|parent| known.eq_ignore_ascii_case(parent))
            })
        }
    }
}

fn names_of(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return BTreeSet::new() };
    let as_text = |name: &GeneralName<'_>| {
        if let GeneralName::DNSName(name) = name {
            return Some((*name).to_owned());
        }
        let GeneralName::IPAddress(bytes) = name else { return None };
        let address = <[u8; 4]>::try_from(*bytes)
            .map(IpAddr::from)
            .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from))
            .ok()?;
        Some(address.to_string())
    };
    extension.value.general_names.iter().filter_map(as_text).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::certs::local_ca::LocalCa;
    use crate::sys::clock::now;

    const LABELS: Labels<'_> = Labels { chain: "`chain.pem`", key: "`key.pem`" };

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_chain_in_order_with_its_key_can_be_served_and_any_other_is_told_why_not() {
        let (ca, _) = LocalCa::create(now().wall).unwrap();
        let (stranger, _) = LocalCa::create(now().wall).unwrap();
        let one = ca.issue(&names(&["call.example"]), now().wall).unwrap();
        let other = ca.issue(&names(&["call.example"]), now().wall).unwrap();
        let chain = |parts: &[&str]| parts.concat();
        let leaf = one.certificate_pem.as_str();
        let good = chain(&[leaf, &ca.certificate_pem]);
        let check = |chain: &str, key: &str| assemble(chain, key, Source::Files, LABELS).map(|(facts, _)| facts);
        assert_eq!(check(&good, &one.key_pem).unwrap().names, names(&["call.example"]));
        let complaint = |chain: &str, key: &str| check(chain, key).unwrap_err();
        assert_eq!(complaint(&good, &other.key_pem), "`key.pem` is not the key of `chain.pem`");
        assert_eq!(complaint("", &one.key_pem), "`chain.pem` holds no certificate");
        assert_eq!(complaint(&good, "x"), "`key.pem` holds no private key");
        let cut = &one.key_pem[..one.key_pem.len() / 2];
        assert_eq!(complaint(&good, cut), "`key.pem` is damaged");
        for head in ["BEGIN ENCRYPTED PRIVATE KEY", "BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED"] {
            assert!(complaint(&good, &format!("-----{head}-----\n")).contains("is encrypted"), "{head}");
        }
        let reversed = chain(&[&ca.certificate_pem, leaf]);
        assert!(complaint(&reversed, &one.key_pem).contains("begins with the certificate of an authority"));
        let foreign = chain(&[leaf, &stranger.certificate_pem]);
        assert!(complaint(&foreign, &one.key_pem).contains("is out of order: certificate 1 was issued by"));
    }

    #[test]
    fn what_windows_makes_of_a_file_is_read_and_what_is_no_pem_is_told() {
        let (ca, _) = LocalCa::create(now().wall).unwrap();
        let one = ca.issue(&names(&["call.example"]), now().wall).unwrap();
        let windows = |text: &str| format!("\u{feff}Subject: x\r\n{}", text.replace('\n', "\r\n")).into_bytes();
        let (chain, key) = (windows(&one.certificate_pem), windows(&one.key_pem));
        let (chain, key) = (pem_text(chain).unwrap(), pem_text(key).unwrap());
        assert!(assemble(&chain, &key, Source::Files, LABELS).is_ok(), "{chain:?}");
        assert!(pem_text(ca.certificate.to_vec()).unwrap_err().contains("is DER, not PEM"));
        let wide: Vec<u8> = one.certificate_pem.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(pem_text(wide).unwrap_err().contains("no text in UTF-8"));
    }

    #[test]
    fn a_star_stands_for_one_label_and_addresses_are_themselves() {
        let known = names(&["*.example.org", "192.0.2.1"]);
        let covered = |host: &str| covers(&known, &host.parse().unwrap());
        assert!(covered("call.example.org") && covered("192.0.2.1"));
        assert!(!covered("example.org") && !covered("a.b.example.org") && !covered("192.0.2.2"));
    }

    #[test]
    fn every_fault_is_told() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let end = start + Duration::from_secs(1000);
        let facts = LeafFacts { names: names(&["a.example"]), not_before: start, not_after: end };
        let hosts: Vec<Host> = vec!["a.example".parse().unwrap(), "b.example".parse().unwrap()];
        assert_eq!(faults(&facts, &hosts[..1], start), Vec::<String>::new());
        assert_eq!(faults(&facts, &hosts, end), ["it has expired", "it is not for `b.example`"]);
        assert_eq!(faults(&facts, &[], start - Duration::from_secs(1)), ["it is not valid yet by this host's clock"]);
    }
}
