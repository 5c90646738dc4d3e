//! Decides what the operator wants: what was given by flag, variable or answers file, what the existing configuration
//! says, what was detected, and defaults, in this order. Every value knows where it comes from.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::config::{Config, Host, Network, PeerMode, Reach, Resolved, default_peers, parse_port_range};

/// Something `init` can be told. In the order in which the plan shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Reach,
    Host,
    PublicIp,
    Cert,
    Access,
    WebPort,
    HttpPort,
    WebRoot,
    TurnPort,
    RelayPorts,
    RelayIp,
    Peers,
    AllowPeer,
    Firewall,
    Boot,
}

impl Key {
    pub const ALL: [Self; 15] = [
        Self::Reach,
        Self::Host,
        Self::PublicIp,
        Self::Cert,
        Self::Access,
        Self::WebPort,
        Self::HttpPort,
        Self::WebRoot,
        Self::TurnPort,
        Self::RelayPorts,
        Self::RelayIp,
        Self::Peers,
        Self::AllowPeer,
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
            Self::Access => "--access",
            Self::WebPort => "--web-port",
            Self::HttpPort => "--http-port",
            Self::WebRoot => "--web-root",
            Self::TurnPort => "--turn-port",
            Self::RelayPorts => "--relay-ports",
            Self::RelayIp => "--relay-ip",
            Self::Peers => "--peers",
            Self::AllowPeer => "--allow-peer",
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
            Self::Access => Some("access"),
            Self::WebPort => Some("web.port"),
            Self::HttpPort => Some("web.http_port"),
            Self::WebRoot => Some("web.root"),
            Self::TurnPort => Some("turn.port"),
            Self::RelayPorts => Some("turn.relay_ports"),
            Self::RelayIp => Some("turn.relay_ips"),
            Self::Peers => Some("turn.peers"),
            Self::AllowPeer => Some("turn.allow_peers"),
            Self::Firewall | Self::Boot => None,
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

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Flag => "flag",
            Self::Variable => "environment",
            Self::AnswersFile => "answers file",
            Self::Asked => "your answer",
            Self::Config => "config.yaml",
            Self::Detected => "detected",
            Self::Default => "default",
        })
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
    pub web_port: Option<u16>,
    pub http_port: Option<Option<u16>>,
    pub web_root: Option<PathBuf>,
    pub turn_port: Option<u16>,
    pub relay_ports: Option<RangeInclusive<u16>>,
    pub relay_ips: Option<Vec<IpAddr>>,
    pub peers: Option<PeerMode>,
    pub allow_peers: Option<Vec<Network>>,
    pub show_firewall: Option<bool>,
    pub origins: BTreeMap<Key, Origin>,
}

/// What `config.yaml` should say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub reach: Reach,
    pub hosts: Vec<Host>,
    pub public_ips: Vec<IpAddr>,
    pub web_port: u16,
    pub http_port: Option<u16>,
    pub web_root: Option<PathBuf>,
    pub turn_port: u16,
    pub relay_ports: RangeInclusive<u16>,
    /// Empty: detected at each start.
    pub relay_ips: Vec<IpAddr>,
    pub peers: PeerMode,
    pub allow_peers: Vec<Network>,
}

/// Everything that was to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    pub wanted: Wanted,
    pub show_firewall: bool,
    pub origins: BTreeMap<Key, Origin>,
}

/// What this host is, as far as defaults depend on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    pub is_root: bool,
    /// The addresses of the default routes, at most one a family.
    pub sources: Vec<IpAddr>,
    pub local_addresses: Vec<IpAddr>,
    /// What the host calls itself.
    pub host_name: Option<String>,
}

impl Draft {
    /// Reads what was given.
    ///
    /// # Errors
    /// Every value that is malformed or not supported, in words that name its flag.
    pub fn read(given: &BTreeMap<Key, Given>, working_dir: &Path) -> Result<Self, Vec<String>> {
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
    pub fn set(&mut self, key: Key, values: &[String], working_dir: &Path) -> Result<(), String> {
        let flag = key.flag();
        let one = || match values {
            [value] => Ok(value.as_str()),
            _ => Err(format!("{flag} takes one value, not {}", values.len())),
        };
        let port = |text: &str| {
            let port = text.parse::<u16>().ok().filter(|port| *port > 0);
            port.ok_or_else(|| format!("{flag} {text}: must be a port from 1 to 65535"))
        };
        let later = |what: &str| format!("{flag} {what} is not supported by this version");
        match key {
            Key::Reach => {
                self.reach = Some(match one()? {
                    "lan" => Reach::Lan,
                    "ip" => Reach::Ip,
                    "domain" => Reach::Domain,
                    other => return Err(format!("{flag} {other}: must be lan, ip or domain")),
                });
            }
            Key::Host => {
                let hosts = members::<Host>(flag, values)?;
                if hosts.is_empty() {
                    return Err(format!("{flag}: must be a name or an address"));
                }
                self.hosts = Some(hosts);
            }
            Key::PublicIp => self.public_ips = Some(addresses(flag, values)?),
            Key::Cert => match one()? {
                "self-signed" => {}
                other @ ("acme" | "files") => return Err(later(other)),
                other => return Err(format!("{flag} {other}: must be self-signed")),
            },
            Key::Access => match one()? {
                "open" => {}
                "key" => return Err(later("key")),
                other => return Err(format!("{flag} {other}: must be open")),
            },
            Key::WebPort => self.web_port = Some(port(one()?)?),
            Key::HttpPort => {
                self.http_port = Some(match one()? {
                    "off" | "false" => None,
                    other => Some(port(other).map_err(|why| format!("{why}, or off"))?),
                });
            }
            // Relative to where the operator stands now; the daemon stands elsewhere.
            Key::WebRoot => self.web_root = Some(working_dir.join(one()?)),
            Key::TurnPort => self.turn_port = Some(port(one()?)?),
            Key::RelayPorts => {
                self.relay_ports = Some(parse_port_range(one()?).map_err(|why| format!("{flag}: {why}"))?);
            }
            Key::RelayIp => self.relay_ips = Some(addresses(flag, values)?),
            Key::Peers => {
                self.peers = Some(match one()? {
                    "self" => PeerMode::Itself,
                    "public" => PeerMode::Public,
                    "lan" => PeerMode::Lan,
                    "custom" => PeerMode::Custom,
                    other => return Err(format!("{flag} {other}: must be self, public, lan or custom")),
                });
            }
            Key::AllowPeer => self.allow_peers = Some(members(flag, values)?),
            Key::Firewall => {
                self.show_firewall = Some(match one()? {
                    "show" => true,
                    "skip" => false,
                    "apply" => return Err(format!("{}; use {flag} show", later("apply"))),
                    other => return Err(format!("{flag} {other}: must be show or skip")),
                });
            }
            Key::Boot => match one()? {
                "none" => {}
                "service" => return Err(later("service")),
                other => return Err(format!("{flag} {other}: must be none")),
            },
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
        let or = |own: Option<_>, default| own.map_or((default, Origin::Default), |own| (own, Origin::Config));
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
            note(&mut origins, Key::Peers, or(same.map(|existing| existing.peers), default_peers(reach)))
        });
        let allow_peers = self.allow_peers.unwrap_or_else(|| {
            let own = existing.map(|existing| existing.allow_peers.clone());
            note(&mut origins, Key::AllowPeer, own.map_or((Vec::new(), Origin::Default), |own| (own, Origin::Config)))
        });
        for key in [Key::Cert, Key::Access, Key::Firewall, Key::Boot] {
            origins.entry(key).or_insert(Origin::Default);
        }
        if !missing.is_empty() {
            return Err(missing);
        }
        let wanted = Wanted {
            reach,
            hosts,
            public_ips,
            web_port,
            http_port,
            web_root,
            turn_port,
            relay_ports,
            relay_ips,
            peers,
            allow_peers,
        };
        Ok(Answers { wanted, show_firewall: self.show_firewall.unwrap_or(true), origins })
    }
}

fn note<T>(origins: &mut BTreeMap<Key, Origin>, key: Key, (value, origin): (T, Origin)) -> T {
    origins.insert(key, origin);
    value
}

/// What would be wanted on this host with these two answers and nothing else.
#[must_use]
pub fn defaults(reach: Reach, hosts: &[Host], surroundings: &Surroundings) -> Option<Wanted> {
    let draft = Draft { reach: Some(reach), hosts: Some(hosts.to_vec()), ..Draft::default() };
    draft.settle(None, surroundings).ok().map(|answers| answers.wanted)
}

/// Where callers seem to come from.
#[must_use]
pub fn suggest_reach(existing: Option<&Wanted>, surroundings: &Surroundings) -> (Reach, Origin) {
    if let Some(existing) = existing {
        return (existing.reach, Origin::Config);
    }
    let reach = if surroundings.sources.iter().any(|address| is_public(*address)) { Reach::Ip } else { Reach::Lan };
    (reach, Origin::Detected)
}

/// Under which names and addresses callers may know this host; `None` where nothing tells.
#[must_use]
pub fn suggest_host(
    reach: Reach,
    existing: Option<&Wanted>,
    surroundings: &Surroundings,
) -> Option<(Vec<Host>, Origin)> {
    if let Some(existing) = existing.filter(|existing| existing.reach == reach) {
        return Some((existing.hosts.clone(), Origin::Config));
    }
    let source = |fits: fn(IpAddr) -> bool| {
        let address = surroundings.sources.iter().find(|address| fits(**address))?;
        Some((vec![Host::Address(*address)], Origin::Detected))
    };
    match reach {
        // Without a network there is still this machine.
        Reach::Lan => source(|_| true).or_else(|| Some((vec![Host::Name("localhost".to_owned())], Origin::Detected))),
        Reach::Ip => source(is_public),
        Reach::Domain => {
            let name =
                surroundings.host_name.as_ref().filter(|name| name.contains('.') && !name.ends_with(".local"))?;
            Some((vec![name.parse().ok()?], Origin::Detected))
        }
    }
}

/// The port of the page: the usual one where this user may have it.
#[must_use]
pub fn suggest_web_port(existing: Option<&Wanted>, surroundings: &Surroundings) -> (u16, Origin) {
    match existing {
        Some(existing) => (existing.web_port, Origin::Config),
        None if surroundings.is_root => (443, Origin::Default),
        None => (8443, Origin::Default),
    }
}

/// The outside addresses of a host that does not have them itself: what callers type is not on any interface.
#[must_use]
pub fn suggest_public_ips(
    reach: Reach,
    hosts: &[Host],
    existing: Option<&Wanted>,
    surroundings: &Surroundings,
) -> (Vec<IpAddr>, Origin) {
    if let Some(existing) = existing {
        return (existing.public_ips.clone(), Origin::Config);
    }
    if reach == Reach::Lan {
        return (Vec::new(), Origin::Default);
    }
    let mut found: Vec<IpAddr> = Vec::new();
    for host in hosts {
        let Host::Address(address) = host else { continue };
        let is_second = found.iter().any(|other| other.is_ipv4() == address.is_ipv4());
        if !address.is_loopback() && !surroundings.local_addresses.contains(address) && !is_second {
            found.push(*address);
        }
    }
    let origin = if found.is_empty() { Origin::Default } else { Origin::Detected };
    (found, origin)
}

/// Whether an address can be reached from the internet, as far as its number tells.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            let is_shared = first == 100 && (64..128).contains(&second);
            let is_special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified();
            !(is_special || is_shared || v4.is_documentation())
        }
        // 2000::/3 without the documentation prefix 2001:db8::/32.
        IpAddr::V6(v6) => v6.segments()[0] & 0xe000 == 0x2000 && v6.segments()[..2] != [0x2001, 0xdb8],
    }
}

fn addresses(flag: &str, values: &[String]) -> Result<Vec<IpAddr>, String> {
    let split = values.iter().flat_map(|value| value.split(',')).map(str::trim).filter(|value| !value.is_empty());
    split.map(|value| value.parse().map_err(|_| format!("{flag} {value}: must be an IP address"))).collect()
}

/// Repeated flags, or one value with commas, as a variable has it.
fn members<T>(flag: &str, values: &[String]) -> Result<Vec<T>, String>
where
    T: std::str::FromStr<Err = crate::config::Malformed>,
{
    let split = values.iter().flat_map(|value| value.split(',')).map(str::trim).filter(|value| !value.is_empty());
    split.map(|value| value.parse().map_err(|why| format!("{flag} {value}: {why}"))).collect()
}

impl Wanted {
    /// What an existing configuration says.
    #[must_use]
    pub fn of(resolved: &Resolved) -> Self {
        let Config { reach, hosts, web, turn, .. } = resolved.config.clone();
        Self {
            reach,
            hosts,
            public_ips: turn.public_ips,
            web_port: web.port,
            http_port: web.http_port,
            web_root: web.root,
            turn_port: turn.port,
            relay_ports: turn.relay_ports,
            relay_ips: if resolved.detects_relay_ips { Vec::new() } else { turn.relay_ips },
            peers: turn.peers,
            allow_peers: turn.allow_peers,
        }
    }

    /// Each value as it stands in YAML, empty for none.
    #[must_use]
    pub fn values(&self) -> Vec<(Key, String)> {
        let mut values = vec![
            (Key::Reach, reach_word(self.reach).to_owned()),
            (Key::Host, yaml_list(self.hosts.iter().map(host_text))),
            (Key::PublicIp, yaml_list(self.public_ips.iter().map(ToString::to_string))),
            (Key::Cert, "self-signed".to_owned()),
            (Key::Access, "open".to_owned()),
            (Key::WebPort, self.web_port.to_string()),
            (Key::HttpPort, self.http_port.map_or_else(|| "off".to_owned(), |port| port.to_string())),
            (Key::WebRoot, self.web_root.as_ref().map_or_else(String::new, |root| yaml_text(&root.to_string_lossy()))),
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
pub fn peers_word(peers: PeerMode) -> &'static str {
    match peers {
        PeerMode::Itself => "self",
        PeerMode::Public => "public",
        PeerMode::Lan => "lan",
        PeerMode::Custom => "custom",
    }
}

/// Text as YAML: plain where that is safe, else in double quotes.
fn yaml_text(text: &str) -> String {
    let is_safe = |symbol: char| symbol.is_ascii_alphanumeric() || matches!(symbol, '.' | '-' | '/' | '_');
    // What YAML may take for a number, a truth value or nothing has neither of these.
    let is_plain = text.chars().all(is_safe)
        && (text.starts_with('/') || text.matches('.').count() >= 2 || text.contains('/') && !text.starts_with('-'));
    if is_plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

fn yaml_list(members: impl Iterator<Item = String>) -> String {
    let members: Vec<String> = members.map(|member| yaml_text(&member)).collect();
    format!("[{}]", members.join(", "))
}
