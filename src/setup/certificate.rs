//! Decides where the certificate comes from, from what was given, what is configured, and who is to call.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::answers::{Key, Origin};
use super::wanted::{Wanted, WantedCertificate};
use crate::config::{CertSource, ChallengeChoice, Directory, Host, Reach, is_public_host};

/// What is known of the answers about the certificate before defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateDraft {
    pub source: Option<CertSource>,
    pub directory: Option<Directory>,
    pub ca_root: Option<PathBuf>,
    pub challenge: Option<ChallengeChoice>,
    pub dns_command: Option<Vec<String>>,
    pub names: Option<Vec<Host>>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

/// Where callers come to, as far as an authority has to come there, too.
pub(super) struct Place<'a> {
    pub(super) reach: Reach,
    pub(super) hosts: &'a [Host],
    pub(super) web_port: u16,
    pub(super) http_port: Option<u16>,
}

impl Place<'_> {
    /// Whether Let's Encrypt could find this host: a name or an address of the internet, on a port where it looks.
    fn can_be_certified(&self) -> bool {
        let is_looked_at = self.web_port == 443 || self.http_port == Some(80);
        self.reach != Reach::Lan && is_looked_at && self.hosts.iter().all(is_public_host) && !self.hosts.is_empty()
    }
}

impl CertificateDraft {
    /// Fills what is open, and notes where each value comes from.
    pub(super) fn settle(
        self,
        existing: Option<&Wanted>,
        place: &Place<'_>,
        origins: &mut BTreeMap<Key, Origin>,
    ) -> WantedCertificate {
        let given = [
            (Key::AcmeDirectory, self.directory.is_some()),
            (Key::AcmeCaRoot, self.ca_root.is_some()),
            (Key::AcmeChallenge, self.challenge.is_some()),
            (Key::AcmeDnsCommand, self.dns_command.is_some()),
            (Key::AcmeName, self.names.is_some()),
            (Key::CertFile, self.cert_file.is_some()),
            (Key::KeyFile, self.key_file.is_some()),
        ];
        let default = if existing.is_some() { Origin::Config } else { Origin::Default };
        for (key, is_given) in given {
            if !is_given {
                origins.entry(key).or_insert(default);
            }
        }
        let (source, origin) = self.suggest_source(existing, place);
        let source = self.source.unwrap_or_else(|| {
            origins.insert(Key::Cert, origin);
            source
        });
        let own = existing.map_or_else(WantedCertificate::default, |existing| existing.certificate.clone());
        WantedCertificate {
            source,
            directory: self.directory.unwrap_or(own.directory),
            ca_root: self.ca_root.or(own.ca_root),
            challenge: self.challenge.unwrap_or(own.challenge),
            dns_command: self.dns_command.unwrap_or(own.dns_command),
            names: self.names.unwrap_or(own.names),
            cert_file: self.cert_file.or(own.cert_file),
            key_file: self.key_file.or(own.key_file),
        }
    }

    fn speaks_of_an_authority(&self) -> bool {
        let is_given = self.directory.is_some() || self.ca_root.is_some() || self.challenge.is_some();
        is_given || self.dns_command.is_some() || self.names.is_some()
    }

    /// What was given tells first, then the configuration. A host of the internet gets a certificate that every device
    /// trusts; the plan says whose terms that accepts.
    fn suggest_source(&self, existing: Option<&Wanted>, place: &Place<'_>) -> (CertSource, Origin) {
        if self.cert_file.is_some() || self.key_file.is_some() {
            (CertSource::Files, Origin::Detected)
        } else if self.speaks_of_an_authority() {
            (CertSource::Acme, Origin::Detected)
        } else if let Some(existing) = existing.filter(|existing| existing.reach == place.reach) {
            (existing.certificate.source, Origin::Config)
        } else if place.can_be_certified() {
            (CertSource::Acme, Origin::Detected)
        } else {
            (CertSource::SelfSigned, Origin::Default)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggested(reach: Reach, host: &str, web_port: u16, http_port: Option<u16>) -> CertSource {
        let hosts = [host.parse().unwrap()];
        let place = Place { reach, hosts: &hosts, web_port, http_port };
        CertificateDraft::default().settle(None, &place, &mut BTreeMap::new()).source
    }

    #[test]
    fn a_host_of_the_internet_gets_a_certificate_of_an_authority_where_that_can_look() {
        assert_eq!(suggested(Reach::Domain, "call.rtc.dev", 443, Some(80)), CertSource::Acme);
        assert_eq!(suggested(Reach::Ip, "1.1.1.1", 443, None), CertSource::Acme);
        assert_eq!(suggested(Reach::Domain, "call.rtc.dev", 8443, Some(8080)), CertSource::SelfSigned);
        assert_eq!(suggested(Reach::Domain, "call.example", 443, Some(80)), CertSource::SelfSigned);
        assert_eq!(suggested(Reach::Lan, "call.rtc.dev", 443, Some(80)), CertSource::SelfSigned);
        assert_eq!(suggested(Reach::Ip, "10.0.0.7", 443, Some(80)), CertSource::SelfSigned);
    }

    #[test]
    fn what_was_given_tells_the_source() {
        let hosts = ["call.rtc.dev".parse().unwrap()];
        let place = Place { reach: Reach::Domain, hosts: &hosts, web_port: 443, http_port: Some(80) };
        let files = CertificateDraft { cert_file: Some("/a".into()), ..CertificateDraft::default() };
        let mut origins = BTreeMap::new();
        assert_eq!(files.settle(None, &place, &mut origins).source, CertSource::Files);
        assert_eq!((origins[&Key::Cert], origins.get(&Key::CertFile)), (Origin::Detected, None));
        let told = CertificateDraft { source: Some(CertSource::SelfSigned), ..CertificateDraft::default() };
        assert_eq!(told.settle(None, &place, &mut BTreeMap::new()).source, CertSource::SelfSigned);
    }
}
