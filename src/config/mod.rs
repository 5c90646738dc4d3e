//! The operator's wishes, typed: YAML as written (`raw`) becomes what is meant ([`Config`]), with every complaint at once.

mod authority;
mod certificate;
mod clashes;
mod edit;
mod forms;
mod lines;
mod load;
mod migrate;
mod notify;
mod raw;
mod resolve;
mod secrets;
mod show;
mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

pub use authority::{Directory, is_public, is_public_host};
pub use certificate::{default_directory, parse_name};
pub use edit::set_value;
pub use forms::{Malformed, parse_port_range};
pub use lines::Complaint;
pub use load::{Texts, host_facts, lacks_access_key, load, load_config, load_resolved, load_secrets, load_texts};
pub use migrate::{Migration, migrate, newest_form};
pub use notify::{NotifyConfig, WebUrl};
pub use resolve::{HostFacts, Resolved, default_access, default_peers, resolve};
pub use secrets::{
    new_access_key, new_turn_secret, old_turn_secrets_until, render_secrets, with_access_key, with_turn_secret,
};
pub use show::effective;
pub use template::render_config;

/// Where callers come from; decides defaults, not access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Lan,
    Ip,
    Domain,
}

/// A name or an address under which callers know this host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    Address(IpAddr),
    Name(String),
}

impl Host {
    /// What the star of a name stands before: `example.org` of `*.example.org`.
    #[must_use]
    pub fn below_star(&self) -> Option<&str> {
        match self {
            Self::Name(name) => name.strip_prefix("*."),
            Self::Address(_) => None,
        }
    }
}

/// As written in a URL: an IPv6 address in brackets.
impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Whoever reaches the page.
    Open,
    /// Who has the key of an invite link.
    Key,
}

/// Where certificates come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertSource {
    /// The local CA of the home.
    SelfSigned,
    /// An authority, by ACME.
    Acme,
    /// The operator's own files.
    Files,
}

/// The certificate and how it is got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateConfig {
    pub source: CertSource,
    pub acme: AcmeConfig,
    /// The operator's chain; there if the source says so.
    pub cert_file: Option<PathBuf>,
    /// The key of that chain.
    pub key_file: Option<PathBuf>,
}

/// How an authority is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeConfig {
    pub directory: Directory,
    /// The root that the authority's own HTTPS is signed by; `None`: those that the system trusts.
    pub ca_root: Option<PathBuf>,
    pub challenge: ChallengeChoice,
    /// A program and its arguments, which adds records to the DNS and removes them; empty: none.
    pub dns_command: Vec<String>,
    /// Who is asked whether a record is there; empty: the zone's own servers.
    pub dns_servers: Vec<SocketAddr>,
    /// Names that the certificate is to have besides `hosts`; the only ones that may begin with a star.
    pub names: Vec<Host>,
    /// Where the authority may write to, without `mailto:`.
    pub contact: Option<String>,
    /// `None`: what fits the names.
    pub profile: Option<String>,
    /// Where orders are rehearsed; `None`: nowhere.
    pub staging: Option<Directory>,
    /// Who is asked when the first authority fails for long.
    pub fallback: Option<Directory>,
}

/// Which challenges are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeChoice {
    Auto,
    Http01,
    TlsAlpn01,
    Dns01,
}

impl AcmeConfig {
    /// Whether records of the DNS may be what proves that the names are ours.
    #[must_use]
    pub fn may_use_dns(&self) -> bool {
        let may = matches!(self.challenge, ChallengeChoice::Auto | ChallengeChoice::Dns01);
        may && !self.dns_command.is_empty()
    }

    /// What an order is for: those of `hosts` and of the further names that the authority may certify and that can be
    /// proven as configured. A name that a star stands for is left out, for authorities refuse what is said twice.
    #[must_use]
    pub fn ordered(&self, hosts: &[Host]) -> BTreeSet<Host> {
        let stars: Vec<&str> = self.names.iter().filter_map(Host::below_star).collect();
        let is_covered = |host: &Host| match host {
            Host::Address(_) => false,
            Host::Name(name) => name.split_once('.').is_some_and(|(_, above)| stars.contains(&above)),
        };
        // A record of the DNS says nothing of an address. RFC 8738, section 7.
        let proves_names_alone = self.challenge == ChallengeChoice::Dns01 || !stars.is_empty();
        let is_ordered = |host: &&Host| {
            self.directory.may_certify(host) && !(proves_names_alone && matches!(host, Host::Address(_)))
        };
        let of_hosts = hosts.iter().filter(|host| !is_covered(host));
        let further = self.names.iter().filter(|host| host.below_star().is_some() || !is_covered(host));
        of_hosts.chain(further).filter(is_ordered).cloned().collect()
    }
}

/// Which peers the relay sends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerMode {
    /// Only allocations of this server.
    Itself,
    /// The public internet, and allocations of this server.
    Public,
    /// As `Public`, and private networks.
    Lan,
    /// Allocations of this server and the allowed networks, nothing else.
    Custom,
}

/// A network in CIDR notation. Host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    pub address: IpAddr,
    pub prefix: u8,
}

/// The effective configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub reach: Reach,
    /// Never empty; the first one is used in printed URLs.
    pub hosts: Vec<Host>,
    pub access: Access,
    pub certificate: CertificateConfig,
    pub web: WebConfig,
    pub signaling: SignalingConfig,
    pub turn: TurnConfig,
    pub log: LogConfig,
    pub notify: NotifyConfig,
}

impl Config {
    /// The address of the page, as callers type it.
    #[must_use]
    pub fn page_url(&self) -> String {
        let host = self.hosts.first().map(ToString::to_string).unwrap_or_default();
        match self.web.port {
            443 => format!("https://{host}/"),
            port => format!("https://{host}:{port}/"),
        }
    }
}

/// The HTTPS page and the redirect beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebConfig {
    /// Local addresses to listen on; `[::]` and `0.0.0.0` by default.
    pub bind: Vec<IpAddr>,
    pub port: u16,
    /// The plain HTTP port that redirects to HTTPS; `None` when off.
    pub http_port: Option<u16>,
    /// The operator's own static files, in place of the embedded page.
    pub root: Option<PathBuf>,
}

/// Bounds of the Socket.IO server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalingConfig {
    pub max_rooms: usize,
    pub max_sockets: usize,
    /// Bytes of one message. At most 64 KiB by default.
    pub max_message: usize,
    /// Events a second from one socket, on average; bursts of four times that pass.
    pub max_rate: u32,
    /// Sockets of one address, or of one /64 of IPv6.
    pub max_sockets_per_address: usize,
    pub max_rooms_per_socket: usize,
    /// Joins a second from one address, on average; bursts of four times that pass.
    pub max_joins_per_address: u32,
    /// Bytes that may wait for one socket.
    pub max_queue: usize,
}

/// Sockets that a configuration may listen on. All of them are kept while the service is started anew.
pub(crate) const MAX_LISTENERS: usize = 1024;

/// The STUN/TURN server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnConfig {
    /// Local addresses to listen on; `[::]` and `0.0.0.0` by default.
    pub bind: Vec<IpAddr>,
    pub port: u16,
    pub relay_ports: RangeInclusive<u16>,
    /// Local addresses that relay sockets are bound to, at most one a family; never empty and never a wildcard.
    pub relay_ips: Vec<IpAddr>,
    /// What clients are told in place of the relay address of the same family, on a host behind 1:1 NAT.
    pub public_ips: Vec<IpAddr>,
    pub peers: PeerMode,
    pub allow_peers: Vec<Network>,
    pub realm: String,
    /// Threads of the data plane; one a core when the file says nothing.
    pub workers: usize,
    /// Allocations of one user id at a time.
    pub user_quota: u32,
    /// Allocations in all.
    pub total_quota: u32,
    /// Lifetime of an issued credential in seconds.
    pub credential_ttl: u64,
    /// Whether clients may come by TCP and TLS: on `port` as TCP, and on the HTTPS port.
    pub tcp: bool,
    /// A port of its own for TURN over TLS, besides those; 5349 by custom.
    pub tls_port: Option<u16>,
    pub latency: Latency,
    /// Whether clients are told what the network answers to their peers' datagrams. RFC 8656, section 11.5.
    pub icmp: bool,
    /// Payload bytes a second that one allocation may relay, both directions together; `None`: without limit.
    pub allocation_bandwidth: Option<u64>,
    /// Payload bytes a second of all allocations together; `None`: without limit.
    pub total_bandwidth: Option<u64>,
    /// How long allocations are served on after the order to stop, while no new one is made.
    pub drain: Duration,
}

/// What is written down, where the service writes files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    pub level: LogLevel,
    pub format: LogFormat,
    /// Bytes after which a file is put aside.
    pub max_size: u64,
    /// Days for which a line is kept at most; `None`: until `max_size` and `keep` take it.
    pub max_age: Option<u32>,
    /// Files that are kept besides the one that is written.
    pub keep: u32,
}

/// The least severe lines that are written. In order of severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Text, max_size: 10_000_000, max_age: Some(30), keep: 4 }
    }
}

/// What the relay does for its CPU time under load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latency {
    /// Gathers packets for a moment when many come.
    Auto,
    /// Sends each packet on at once.
    Low,
}

impl Default for TurnConfig {
    fn default() -> Self {
        Self {
            bind: any_address(),
            port: 3478,
            relay_ports: 49160..=51159,
            relay_ips: Vec::new(),
            public_ips: Vec::new(),
            peers: PeerMode::Public,
            allow_peers: Vec::new(),
            realm: "rtcctl".to_owned(),
            workers: 1,
            user_quota: 32,
            total_quota: 2000,
            credential_ttl: 3600,
            tcp: true,
            tls_port: None,
            latency: Latency::Auto,
            icmp: true,
            allocation_bandwidth: None,
            total_bandwidth: None,
            drain: Duration::from_secs(2),
        }
    }
}

impl Default for SignalingConfig {
    fn default() -> Self {
        Self {
            max_rooms: 2_000,
            max_sockets: 5_000,
            max_message: 64 * 1024,
            max_rate: 50,
            // An office, or a mobile operator's customers, behind one address; yet there is room for others.
            max_sockets_per_address: 1_000,
            max_rooms_per_socket: 8,
            // All of them come back at once after a restart.
            max_joins_per_address: 250,
            // What one burst of another may bring before there is time to write any of it.
            max_queue: 2 * 1024 * 1024,
        }
    }
}

/// Both families' wildcard addresses.
#[must_use]
pub fn any_address() -> Vec<IpAddr> {
    vec![IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)]
}

/// What nobody but the service's own user may read.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    /// Shared secrets for TURN credentials; the first issues, all verify. Never empty.
    pub turn: Vec<Secret>,
    /// Until when all but the first of them verify; `None`: for as long as they are there.
    pub turn_old_until: Option<SystemTime>,
    /// TURN users with a password of their own, by name.
    pub turn_users: BTreeMap<String, Secret>,
    /// Key ids and keys that bind accounts with authorities to accounts elsewhere, by the authority's word or address.
    pub acme_bindings: BTreeMap<String, (String, Secret)>,
    /// What a collector from elsewhere shows to read the counters; `None`: only this host may.
    pub metrics_token: Option<Secret>,
    /// What invite links have in them; `None` only where nobody needs one.
    pub access_key: Option<Secret>,
}

impl Secrets {
    /// With nothing but these.
    #[must_use]
    pub fn of_turn(turn: Vec<Secret>) -> Self {
        Self {
            turn,
            turn_users: BTreeMap::new(),
            acme_bindings: BTreeMap::new(),
            metrics_token: None,
            access_key: None,
            turn_old_until: None,
        }
    }
}

/// Bytes that never show in `Debug` output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes themselves, for the one computation that needs them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}
