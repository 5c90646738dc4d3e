//! Decides what the operator wants: what was given by flag, variable or answers file, what the existing configuration
//! says, what was detected, and defaults, in this order. Every value knows where it comes from.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::boot::BootChoice;
use super::certificate::{CertificateDraft, Place};
use super::opening::FirewallChoice;
use super::suggest::{Surroundings, suggest_host, suggest_public_ips, suggest_reach, suggest_web_port};
use super::wanted::Wanted;
use crate::config::{
    Access, CertSource, ChallengeChoice, Host, Malformed, Network, PeerMode, Reach, default_access, default_peers,
    parse_name, parse_port_range,
};
use crate::words::Text;
use crate::{text, word};

/// Something `init` can be told. In the order in which the plan shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Reach,
    Host,
    PublicIp,
    Cert,
    AcmeDirectory,
    AcmeCaRoot,
    AcmeChallenge,
    AcmeDnsCommand,
    AcmeName,
    CertFile,
    KeyFile,
    Access,
    WebPort,
    HttpPort,
    WebRoot,
    TurnPort,
    RelayPorts,
    RelayIp,
    Peers,
    AllowPeer,
    Trust,
    Firewall,
    Boot,
}

impl Key {
    pub const ALL: [Self; 23] = [
        Self::Reach,
        Self::Host,
        Self::PublicIp,
        Self::Cert,
        Self::AcmeDirectory,
        Self::AcmeCaRoot,
        Self::AcmeChallenge,
        Self::AcmeDnsCommand,
        Self::AcmeName,
        Self::CertFile,
        Self::KeyFile,
        Self::Access,
        Self::WebPort,
        Self::HttpPort,
        Self::WebRoot,
        Self::TurnPort,
        Self::RelayPorts,
        Self::RelayIp,
        Self::Peers,
        Self::AllowPeer,
        Self::Trust,
        Self::Firewall,
        Self::Boot,
    ];

    /// The flag.
    #[must_use]
    pub fn flag(self) -> &'static str {
        match self {
            Self::Reach => "--reach",
            Self::Host => "--host",
            Self::PublicIp => "--public-ip",
            Self::Cert => "--cert",
            Self::AcmeDirectory => "--acme-directory",
            Self::AcmeCaRoot => "--acme-ca-root",
            Self::AcmeChallenge => "--acme-challenge",
            Self::AcmeDnsCommand => "--acme-dns-command",
            Self::AcmeName => "--acme-name",
            Self::CertFile => "--cert-file",
            Self::KeyFile => "--key-file",
            Self::Access => "--access",
            Self::WebPort => "--web-port",
            Self::HttpPort => "--http-port",
            Self::WebRoot => "--web-root",
            Self::TurnPort => "--turn-port",
            Self::RelayPorts => "--relay-ports",
            Self::RelayIp => "--relay-ip",
            Self::Peers => "--peers",
            Self::AllowPeer => "--allow-peer",
            Self::Trust => "--trust",
            Self::Firewall => "--firewall",
            Self::Boot => "--boot",
        }
    }

    /// The key in an answers file: the flag with underscores.
    #[must_use]
    pub fn answer(self) -> String {
        self.flag().trim_start_matches('-').replace('-', "_")
    }

    /// The environment variable.
    #[must_use]
    pub fn variable(self) -> String {
        format!("RTCCTL_{}", self.answer().to_uppercase())
    }

    /// The key path in `config.yaml`, for what stands there.
    #[must_use]
    pub fn path(self) -> Option<&'static str> {
        match self {
            Self::Reach => Some("reach"),
            Self::Host => Some("hosts"),
            Self::PublicIp => Some("turn.public_ips"),
            Self::Cert => Some("certificate.source"),
            Self::AcmeDirectory => Some("certificate.acme_directory"),
            Self::AcmeCaRoot => Some("certificate.acme_ca_root"),
            Self::AcmeChallenge => Some("certificate.acme_challenge"),
            Self::AcmeDnsCommand => Some("certificate.acme_dns_command"),
            Self::AcmeName => Some("certificate.acme_names"),
            Self::CertFile => Some("certificate.cert_file"),
            Self::KeyFile => Some("certificate.key_file"),
            Self::Access => Some("access"),
            Self::WebPort => Some("web.port"),
            Self::HttpPort => Some("web.http_port"),
            Self::WebRoot => Some("web.root"),
            Self::TurnPort => Some("turn.port"),
            Self::RelayPorts => Some("turn.relay_ports"),
            Self::RelayIp => Some("turn.relay_ips"),
            Self::Peers => Some("turn.peers"),
            Self::AllowPeer => Some("turn.allow_peers"),
            Self::Trust | Self::Firewall | Self::Boot => None,
        }
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    Flag,
    Variable,
    AnswersFile,
    /// Answered at the question.
    Asked,
    /// The configuration that is there already.
    Config,
    Detected,
    Default,
}

impl Origin {
    /// As the plan says it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Flag => word!("flag"),
            Self::Variable => word!("environment"),
            Self::AnswersFile => word!("answers file"),
            Self::Asked => word!("your answer"),
            Self::Config => word!("config.yaml"),
            Self::Detected => word!("detected"),
            Self::Default => word!("default"),
        }
    }
}

/// A value as it was given, unread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    pub origin: Origin,
    pub values: Vec<String>,
}

/// What is known of the answers before defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draft {
    pub reach: Option<Reach>,
    pub hosts: Option<Vec<Host>>,
    pub public_ips: Option<Vec<IpAddr>>,
    pub certificate: CertificateDraft,
    pub access: Option<Access>,
    pub web_port: Option<u16>,
    pub http_port: Option<Option<u16>>,
    pub web_root: Option<PathBuf>,
    pub turn_port: Option<u16>,
    pub relay_ports: Option<RangeInclusive<u16>>,
    pub relay_ips: Option<Vec<IpAddr>>,
    pub peers: Option<PeerMode>,
    pub allow_peers: Option<Vec<Network>>,
    /// Programs of this host are to trust the local CA.
    pub trust: Option<bool>,
    pub firewall: Option<FirewallChoice>,
    pub boot: Option<BootChoice>,
    pub origins: BTreeMap<Key, Origin>,
}

/// Everything that was to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    pub wanted: Wanted,
    pub trust: bool,
    pub firewall: FirewallChoice,
    pub boot: BootChoice,
    pub origins: BTreeMap<Key, Origin>,
}

impl Draft {
    /// Reads what was given.
    ///
    /// # Errors
    /// Every value that is malformed or not supported, in words that name its flag.
    pub fn read(given: &BTreeMap<Key, Given>, working_dir: &Path) -> Result<Self, Vec<Text>> {
        let mut draft = Self::default();
        let mut complaints = Vec::new();
        for (key, given) in given {
            match draft.set(*key, &given.values, working_dir) {
                Ok(()) => {
                    draft.origins.insert(*key, given.origin);
                }
                Err(why) => complaints.push(why),
            }
        }
        if complaints.is_empty() { Ok(draft) } else { Err(complaints) }
    }

    /// Reads one value, wherever it comes from.
    ///
    /// # Errors
    /// In words, if it is malformed or not supported.
    pub fn set(&mut self, key: Key, values: &[String], working_dir: &Path) -> Result<(), Text> {
        let flag = key.flag();
        let one = || match values {
            [value] => Ok(value.as_str()),
            _ => Err(text!("{} takes one value, not {}", flag, values.len())),
        };
        let port = |text: &str| {
            let port = text.parse::<u16>().ok().filter(|port| *port > 0);
            port.ok_or_else(|| text!("{} {}: must be a port from 1 to 65535", flag, text))
        };
        match key {
            Key::Reach => {
                self.reach = Some(match one()? {
                    "lan" => Reach::Lan,
                    "ip" => Reach::Ip,
                    "domain" => Reach::Domain,
                    other => return Err(text!("{} {}: must be lan, ip or domain", flag, other)),
                });
            }
            Key::Host => {
                let hosts = members::<Host>(flag, values)?;
                if hosts.is_empty() {
                    return Err(text!("{}: must be a name or an address", flag));
                }
                self.hosts = Some(hosts);
            }
            Key::PublicIp => self.public_ips = Some(addresses(flag, values)?),
            Key::Cert => {
                self.certificate.source = Some(match one()? {
                    "self-signed" => CertSource::SelfSigned,
                    "acme" => CertSource::Acme,
                    "files" => CertSource::Files,
                    other => return Err(text!("{} {}: must be self-signed, acme or files", flag, other)),
                });
            }
            Key::AcmeDirectory => {
                let text = one()?;
                self.certificate.directory =
                    Some(text.parse().map_err(|why: Malformed| text!("{} {}: {}", flag, text, why.0))?);
            }
            Key::AcmeCaRoot => self.certificate.ca_root = Some(working_dir.join(one()?)),
            Key::AcmeChallenge => {
                self.certificate.challenge = Some(match one()? {
                    "auto" => ChallengeChoice::Auto,
                    "http-01" => ChallengeChoice::Http01,
                    "tls-alpn-01" => ChallengeChoice::TlsAlpn01,
                    "dns-01" => ChallengeChoice::Dns01,
                    other => return Err(text!("{} {}: must be auto, http-01, tls-alpn-01 or dns-01", flag, other)),
                });
            }
            Key::AcmeDnsCommand => {
                if values.first().is_some_and(|program| !program.starts_with('/')) {
                    return Err(text!(
                        "{} {}: must be the absolute path of a program; give it again for each argument",
                        flag,
                        values[0]
                    ));
                }
                self.certificate.dns_command = Some(values.to_vec());
            }
            Key::AcmeName => {
                let texts = values.iter().flat_map(|value| value.split(',')).map(str::trim);
                let names = texts.map(|text| parse_name(text).map_err(|why| text!("{} {}: {}", flag, text, why)));
                self.certificate.names = Some(names.collect::<Result<_, _>>()?);
            }
            Key::CertFile => self.certificate.cert_file = Some(working_dir.join(one()?)),
            Key::KeyFile => self.certificate.key_file = Some(working_dir.join(one()?)),
            Key::Access => {
                self.access = Some(match one()? {
                    "open" => Access::Open,
                    "key" => Access::Key,
                    other => return Err(text!("{} {}: must be open or key", flag, other)),
                });
            }
            Key::WebPort => self.web_port = Some(port(one()?)?),
            Key::HttpPort => {
                self.http_port = Some(match one()? {
                    "off" | "false" => None,
                    other => Some(port(other).map_err(|why| text!("{}, or off", why))?),
                });
            }
            // Relative to where the operator stands now; the daemon stands elsewhere.
            Key::WebRoot => self.web_root = Some(working_dir.join(one()?)),
            Key::TurnPort => self.turn_port = Some(port(one()?)?),
            Key::RelayPorts => {
                self.relay_ports = Some(parse_port_range(one()?).map_err(|why| text!("{}: {}", flag, why))?);
            }
            Key::RelayIp => self.relay_ips = Some(addresses(flag, values)?),
            Key::Peers => {
                self.peers = Some(match one()? {
                    "self" => PeerMode::Itself,
                    "public" => PeerMode::Public,
                    "lan" => PeerMode::Lan,
                    "custom" => PeerMode::Custom,
                    other => return Err(text!("{} {}: must be self, public, lan or custom", flag, other)),
                });
            }
            Key::AllowPeer => self.allow_peers = Some(members(flag, values)?),
            Key::Trust => {
                self.trust = Some(match one()? {
                    "yes" | "true" => true,
                    "no" | "false" => false,
                    other => return Err(text!("{} {}: must be yes or no", flag, other)),
                });
            }
            Key::Firewall => {
                self.firewall = Some(match one()? {
                    "apply" => FirewallChoice::Apply,
                    "show" => FirewallChoice::Show,
                    "skip" => FirewallChoice::Skip,
                    other => return Err(text!("{} {}: must be apply, show or skip", flag, other)),
                });
            }
            Key::Boot => {
                self.boot = Some(match one()? {
                    "none" => BootChoice::None,
                    "service" => BootChoice::Service,
                    other => return Err(text!("{} {}: must be service or none", flag, other)),
                });
            }
        }
        Ok(())
    }

    /// Fills what is open by the existing configuration, by what was detected, and by defaults.
    ///
    /// # Errors
    /// The keys that have no default here.
    pub fn settle(self, existing: Option<&Wanted>, surroundings: &Surroundings) -> Result<Answers, Vec<Key>> {
        let mut origins = self.origins;
        let mut missing = Vec::new();
        let reach = self.reach.unwrap_or_else(|| note(&mut origins, Key::Reach, suggest_reach(existing, surroundings)));
        let hosts = self.hosts.unwrap_or_else(|| match suggest_host(reach, existing, surroundings) {
            Some(suggestion) => note(&mut origins, Key::Host, suggestion),
            None => {
                missing.push(Key::Host);
                Vec::new()
            }
        });
        // A configuration for another reach tells nothing about this one.
        let same = existing.filter(|existing| existing.reach == reach);
        let public_ips = self.public_ips.unwrap_or_else(|| {
            let suggestion = suggest_public_ips(reach, &hosts, same, surroundings);
            note(&mut origins, Key::PublicIp, suggestion)
        });
        let web_port =
            self.web_port.unwrap_or_else(|| note(&mut origins, Key::WebPort, suggest_web_port(existing, surroundings)));
        let http_port = self.http_port.unwrap_or_else(|| {
            let default = if surroundings.is_root { 80 } else { 8080 };
            let suggestion =
                existing.map_or((Some(default), Origin::Default), |existing| (existing.http_port, Origin::Config));
            note(&mut origins, Key::HttpPort, suggestion)
        });
        let place = Place { reach, hosts: &hosts, web_port, http_port };
        let certificate = self.certificate.settle(existing, &place, &mut origins);
        let access = self.access.unwrap_or_else(|| {
            note(&mut origins, Key::Access, own_or(same.map(|existing| existing.access), default_access(reach)))
        });
        let web_root = self.web_root.map(Some).unwrap_or_else(|| {
            let own = existing.and_then(|existing| existing.web_root.clone());
            let origin = if own.is_some() { Origin::Config } else { Origin::Default };
            note(&mut origins, Key::WebRoot, (own, origin))
        });
        let turn_port = self.turn_port.unwrap_or_else(|| {
            let own = existing.map(|existing| existing.turn_port);
            note(&mut origins, Key::TurnPort, own.map_or((3478, Origin::Default), |own| (own, Origin::Config)))
        });
        let relay_ports = self.relay_ports.unwrap_or_else(|| {
            let own = existing.map(|existing| existing.relay_ports.clone());
            note(
                &mut origins,
                Key::RelayPorts,
                own.map_or((49160..=51159, Origin::Default), |own| (own, Origin::Config)),
            )
        });
        let relay_ips = self.relay_ips.unwrap_or_else(|| {
            let own = existing.map(|existing| existing.relay_ips.clone());
            note(&mut origins, Key::RelayIp, own.map_or((Vec::new(), Origin::Default), |own| (own, Origin::Config)))
        });
        let peers = self.peers.unwrap_or_else(|| {
            note(&mut origins, Key::Peers, own_or(same.map(|existing| existing.peers), default_peers(reach)))
        });
        let allow_peers = self.allow_peers.unwrap_or_else(|| {
            let own = existing.map(|existing| existing.allow_peers.clone());
            note(&mut origins, Key::AllowPeer, own.map_or((Vec::new(), Origin::Default), |own| (own, Origin::Config)))
        });
        let boot = self.boot.unwrap_or_else(|| {
            let is_usual = surroundings.boot == BootChoice::default();
            let origin = if is_usual { Origin::Default } else { Origin::Detected };
            note(&mut origins, Key::Boot, (surroundings.boot, origin))
        });
        origins.entry(Key::Trust).or_insert(Origin::Default);
        origins.entry(Key::Firewall).or_insert(Origin::Default);
        if !missing.is_empty() {
            return Err(missing);
        }
        let wanted = Wanted {
            reach,
            hosts,
            public_ips,
            certificate,
            access,
            web_port,
            http_port,
            web_root,
            turn_port,
            turn_tcp: existing.is_none_or(|existing| existing.turn_tcp),
            turn_tls_port: existing.and_then(|existing| existing.turn_tls_port),
            relay_ports,
            relay_ips,
            peers,
            allow_peers,
        };
        let trust = self.trust.unwrap_or_default();
        Ok(Answers { wanted, trust, firewall: self.firewall.unwrap_or_default(), boot, origins })
    }
}

/// What the configuration says, or else what is usual.
fn own_or<T>(own: Option<T>, usual: T) -> (T, Origin) {
    own.map_or((usual, Origin::Default), |own| (own, Origin::Config))
}

fn note<T>(origins: &mut BTreeMap<Key, Origin>, key: Key, (value, origin): (T, Origin)) -> T {
    origins.insert(key, origin);
    value
}

fn addresses(flag: &str, values: &[String]) -> Result<Vec<IpAddr>, Text> {
    let split = values.iter().flat_map(|value| value.split(',')).map(str::trim).filter(|value| !value.is_empty());
    split.map(|value| value.parse().map_err(|_| text!("{} {}: must be an IP address", flag, value))).collect()
}

/// Repeated flags, or one value with commas, as a variable has it.
fn members<T>(flag: &str, values: &[String]) -> Result<Vec<T>, Text>
where
    T: std::str::FromStr<Err = Malformed>,
{
    let split = values.iter().flat_map(|value| value.split(',')).map(str::trim).filter(|value| !value.is_empty());
    split.map(|value| value.parse().map_err(|why: Malformed| text!("{} {}: {}", flag, value, why.0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nat() -> Surroundings {
        let address = "10.0.0.7".parse().unwrap();
        Surroundings { sources: vec![address], local_addresses: vec![address], ..Surroundings::default() }
    }

    fn given(pairs: &[(Key, &str)]) -> BTreeMap<Key, Given> {
        let given = |value: &str| Given { origin: Origin::Flag, values: vec![value.to_owned()] };
        pairs.iter().map(|(key, value)| (*key, given(value))).collect()
    }

    fn settle(pairs: &[(Key, &str)], existing: Option<&Wanted>) -> Answers {
        Draft::read(&given(pairs), Path::new("/srv")).unwrap().settle(existing, &nat()).unwrap()
    }

    #[test]
    fn a_host_with_private_addresses_serves_its_lan() {
        let answers = settle(&[], None);
        assert_eq!(answers.wanted.reach, Reach::Lan);
        assert_eq!((answers.wanted.peers, answers.wanted.access), (PeerMode::Lan, Access::Open));
        assert_eq!(answers.origins[&Key::Reach], Origin::Detected);
        assert_eq!((answers.wanted.web_port, answers.wanted.http_port), (8443, Some(8080)));
        let root = Surroundings { is_root: true, ..nat() };
        let answers = Draft::default().settle(None, &root).unwrap();
        assert_eq!((answers.wanted.web_port, answers.wanted.http_port), (443, Some(80)));
    }

    #[test]
    fn an_address_on_no_interface_is_taken_for_the_public_one() {
        let answers = settle(&[(Key::Reach, "ip"), (Key::Host, "198.51.100.7")], None);
        assert_eq!(answers.wanted.public_ips, ["198.51.100.7".parse::<IpAddr>().unwrap()]);
        assert_eq!((answers.wanted.peers, answers.wanted.access), (PeerMode::Public, Access::Key));
        let answers = settle(&[(Key::Reach, "ip"), (Key::Host, "10.0.0.7")], None);
        assert_eq!(answers.wanted.public_ips, Vec::<IpAddr>::new());
    }

    #[test]
    fn a_domain_is_not_guessed() {
        let draft = Draft::read(&given(&[(Key::Reach, "domain")]), Path::new("/")).unwrap();
        assert_eq!(draft.clone().settle(None, &nat()), Err(vec![Key::Host]));
        let named = Surroundings { host_name: Some("call.example.org".to_owned()), ..nat() };
        assert_eq!(draft.settle(None, &named).unwrap().wanted.hosts, [Host::Name("call.example.org".to_owned())]);
    }

    #[test]
    fn an_existing_configuration_gives_the_defaults_and_flags_change_single_values() {
        let first = settle(&[(Key::Host, "a.example"), (Key::WebPort, "9443"), (Key::HttpPort, "off")], None).wanted;
        let again = settle(&[], Some(&first));
        assert_eq!(again.wanted, first);
        assert_eq!(again.origins[&Key::WebPort], Origin::Config);
        let changed = settle(&[(Key::TurnPort, "3479")], Some(&first)).wanted;
        assert_eq!(changed, Wanted { turn_port: 3479, ..first.clone() });
        let opened = settle(&[(Key::Access, "key")], Some(&first)).wanted;
        assert_eq!(settle(&[], Some(&opened)).wanted.access, Access::Key);
        // Another reach has other hosts, other peers and other callers.
        let moved = settle(&[(Key::Reach, "ip"), (Key::Host, "198.51.100.7")], Some(&first)).wanted;
        assert_eq!((moved.peers, moved.access), (PeerMode::Public, Access::Key));
    }

    #[test]
    fn relative_folders_are_seen_from_where_the_operator_stands() {
        assert_eq!(settle(&[(Key::WebRoot, "site")], None).wanted.web_root, Some("/srv/site".into()));
    }

    #[test]
    fn every_bad_value_is_told_at_once() {
        let pairs =
            [(Key::Reach, "moon"), (Key::WebPort, "0"), (Key::Cert, "bought"), (Key::AllowPeer, "10.0.0.0/8,x")];
        let complaints = Draft::read(&given(&pairs), Path::new("/")).unwrap_err();
        assert_eq!(
            complaints,
            [
                "--reach moon: must be lan, ip or domain",
                "--cert bought: must be self-signed, acme or files",
                "--web-port 0: must be a port from 1 to 65535",
                "--allow-peer x: is not a network like `10.0.0.0/8` or `fd00::/8`",
            ]
        );
    }

    #[test]
    fn each_key_has_a_flag_a_variable_and_an_answer_of_its_own() {
        assert_eq!(
            (Key::WebPort.variable(), Key::WebPort.answer()),
            ("RTCCTL_WEB_PORT".to_owned(), "web_port".to_owned())
        );
        let flags: std::collections::BTreeSet<&str> = Key::ALL.into_iter().map(Key::flag).collect();
        assert_eq!(flags.len(), Key::ALL.len());
    }

    proptest::proptest! {
        #[test]
        fn no_value_of_any_flag_makes_it_panic(index in 0..Key::ALL.len(), value in ".{0,40}") {
            let _ = Draft::default().set(Key::ALL[index], &[value], Path::new("/"));
        }
    }
}
