//! What `config.yaml` should say, as far as `init` has a word in it, and how each value is written there.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::answers::Key;
use crate::config::{
    Access, CertSource, ChallengeChoice, Config, Directory, Host, Network, PeerMode, Reach, Resolved, default_directory,
};

/// What `config.yaml` should say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub reach: Reach,
    pub hosts: Vec<Host>,
    pub public_ips: Vec<IpAddr>,
    pub certificate: WantedCertificate,
    pub access: Access,
    pub web_port: u16,
    pub http_port: Option<u16>,
    pub web_root: Option<PathBuf>,
    pub turn_port: u16,
    /// Whether TURN is served by TCP and TLS, too. No question asks for it: the file says so, or the default holds.
    pub turn_tcp: bool,
    /// As for `turn_tcp`.
    pub turn_tls_port: Option<u16>,
    pub relay_ports: RangeInclusive<u16>,
    /// Empty: detected at each start.
    pub relay_ips: Vec<IpAddr>,
    pub peers: PeerMode,
    pub allow_peers: Vec<Network>,
}

/// Where the certificate comes from, as far as `init` has a word in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedCertificate {
    pub source: CertSource,
    pub directory: Directory,
    pub ca_root: Option<PathBuf>,
    pub challenge: ChallengeChoice,
    pub dns_command: Vec<String>,
    pub names: Vec<Host>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

impl Default for WantedCertificate {
    fn default() -> Self {
        Self {
            source: CertSource::SelfSigned,
            directory: default_directory(),
            ca_root: None,
            challenge: ChallengeChoice::Auto,
            dns_command: Vec::new(),
            names: Vec::new(),
            cert_file: None,
            key_file: None,
        }
    }
}

impl WantedCertificate {
    /// Whether a key means something for this source.
    #[must_use]
    pub fn asks_for(&self, key: Key) -> bool {
        match key {
            Key::AcmeDirectory | Key::AcmeCaRoot | Key::AcmeChallenge | Key::AcmeDnsCommand | Key::AcmeName => {
                self.source == CertSource::Acme
            }
            Key::CertFile | Key::KeyFile => self.source == CertSource::Files,
            Key::Reach
            | Key::Host
            | Key::PublicIp
            | Key::Cert
            | Key::Access
            | Key::WebPort
            | Key::HttpPort
            | Key::WebRoot
            | Key::TurnPort
            | Key::RelayPorts
            | Key::RelayIp
            | Key::Peers
            | Key::AllowPeer
            | Key::Trust
            | Key::Firewall
            | Key::Boot => true,
        }
    }
}

impl Wanted {
    /// What an existing configuration says.
    #[must_use]
    pub fn of(resolved: &Resolved) -> Self {
        let Config { reach, hosts, access, web, turn, certificate, .. } = resolved.config.clone();
        Self {
            reach,
            hosts,
            public_ips: turn.public_ips,
            certificate: WantedCertificate {
                source: certificate.source,
                directory: certificate.acme.directory,
                ca_root: certificate.acme.ca_root,
                challenge: certificate.acme.challenge,
                dns_command: certificate.acme.dns_command,
                names: certificate.acme.names,
                cert_file: certificate.cert_file,
                key_file: certificate.key_file,
            },
            access,
            web_port: web.port,
            http_port: web.http_port,
            web_root: web.root,
            turn_port: turn.port,
            turn_tcp: turn.tcp,
            turn_tls_port: turn.tls_port,
            relay_ports: turn.relay_ports,
            relay_ips: if resolved.detects_relay_ips { Vec::new() } else { turn.relay_ips },
            peers: turn.peers,
            allow_peers: turn.allow_peers,
        }
    }

    /// The TCP ports that only TURN is served on.
    #[must_use]
    pub fn turn_tcp_ports(&self) -> Vec<u16> {
        let ports = [Some(self.turn_port), self.turn_tls_port].into_iter().flatten();
        ports.filter(|port| self.turn_tcp && *port != self.web_port).collect()
    }

    /// Each value as it stands in YAML, empty for none.
    #[must_use]
    pub fn values(&self) -> Vec<(Key, String)> {
        let mut values = vec![
            (Key::Reach, reach_word(self.reach).to_owned()),
            (Key::Host, yaml_list(self.hosts.iter().map(host_text))),
            (Key::PublicIp, yaml_list(self.public_ips.iter().map(ToString::to_string))),
            (Key::Cert, source_word(self.certificate.source).to_owned()),
            (Key::AcmeDirectory, yaml_word(&self.certificate.directory.text)),
            (Key::AcmeCaRoot, yaml_path(self.certificate.ca_root.as_ref())),
            (Key::AcmeChallenge, challenge_word(self.certificate.challenge).to_owned()),
            (Key::AcmeDnsCommand, yaml_list(self.certificate.dns_command.iter().cloned())),
            (Key::AcmeName, yaml_list(self.certificate.names.iter().map(host_text))),
            (Key::CertFile, yaml_path(self.certificate.cert_file.as_ref())),
            (Key::KeyFile, yaml_path(self.certificate.key_file.as_ref())),
            (Key::Access, access_word(self.access).to_owned()),
            (Key::WebPort, self.web_port.to_string()),
            (Key::HttpPort, self.http_port.map_or_else(|| "off".to_owned(), |port| port.to_string())),
            (Key::WebRoot, yaml_path(self.web_root.as_ref())),
            (Key::TurnPort, self.turn_port.to_string()),
            (Key::RelayPorts, format!("{}-{}", self.relay_ports.start(), self.relay_ports.end())),
            (Key::RelayIp, yaml_list(self.relay_ips.iter().map(ToString::to_string))),
            (Key::Peers, peers_word(self.peers).to_owned()),
            (Key::AllowPeer, yaml_list(self.allow_peers.iter().map(ToString::to_string))),
        ];
        values.sort_by_key(|(key, _)| *key);
        values
    }
}

/// A host as it is typed and stands in a file: an IPv6 address without brackets.
#[must_use]
pub fn host_text(host: &Host) -> String {
    match host {
        Host::Address(address) => address.to_string(),
        Host::Name(name) => name.clone(),
    }
}

#[must_use]
pub fn reach_word(reach: Reach) -> &'static str {
    match reach {
        Reach::Lan => "lan",
        Reach::Ip => "ip",
        Reach::Domain => "domain",
    }
}

#[must_use]
pub fn access_word(access: Access) -> &'static str {
    match access {
        Access::Open => "open",
        Access::Key => "key",
    }
}

#[must_use]
pub fn source_word(source: CertSource) -> &'static str {
    match source {
        CertSource::SelfSigned => "self-signed",
        CertSource::Acme => "acme",
        CertSource::Files => "files",
    }
}

#[must_use]
pub fn challenge_word(challenge: ChallengeChoice) -> &'static str {
    match challenge {
        ChallengeChoice::Auto => "auto",
        ChallengeChoice::Http01 => "http-01",
        ChallengeChoice::TlsAlpn01 => "tls-alpn-01",
        ChallengeChoice::Dns01 => "dns-01",
    }
}

#[must_use]
pub fn peers_word(peers: PeerMode) -> &'static str {
    match peers {
        PeerMode::Itself => "self",
        PeerMode::Public => "public",
        PeerMode::Lan => "lan",
        PeerMode::Custom => "custom",
    }
}

/// A word of letters and hyphens is itself.
fn yaml_word(word: &str) -> String {
    let is_word = word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    if is_word { word.to_owned() } else { yaml_text(word) }
}

fn yaml_path(path: Option<&PathBuf>) -> String {
    path.map_or_else(String::new, |path| yaml_text(&path.to_string_lossy()))
}

/// Text as YAML: plain where that is safe, else in double quotes.
pub(super) fn yaml_text(text: &str) -> String {
    let is_safe = |symbol: char| symbol.is_ascii_alphanumeric() || matches!(symbol, '.' | '-' | '/' | '_');
    // What YAML may take for a number, a truth value or nothing has neither of these.
    let is_plain = text.chars().all(is_safe)
        && (text.starts_with('/') || text.matches('.').count() >= 2 || text.contains('/') && !text.starts_with('-'));
    if is_plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

pub(super) fn yaml_list(members: impl Iterator<Item = String>) -> String {
    let members: Vec<String> = members.map(|member| yaml_text(&member)).collect();
    format!("[{}]", members.join(", "))
}
