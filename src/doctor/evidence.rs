//! What checks are judged by: plain data, gathered before anything is judged.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::certs::preflight::NameFacts;
use crate::config::Config;
use crate::control::protocol::Status;
use crate::doctor::outcome::Remedy;
use crate::setup::facts::host::HostKind;
use crate::setup::facts::network::Routes;
use crate::setup::facts::outside::Outside;
use crate::setup::firewall::{Drift, Needs};
use crate::setup::ports::PortSet;
use crate::sys::ports::Transport;
use crate::words::Text;

/// Everything that was looked at. What was not is `None`.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// What names this home on a command line, with a leading blank.
    pub home_flag: String,
    pub is_root: bool,
    pub config: Option<ConfigFile>,
    pub home: Option<Home>,
    pub host: Option<Host>,
    pub network: Option<Network>,
    pub ports: Vec<Port>,
    pub relay_range: Option<RelayRange>,
    pub certificate: Option<Certificate>,
    pub service: Option<Service>,
    pub answers: Vec<Answer>,
    pub relay: Option<Relay>,
    /// Mbit/s that the relay carries on this host, or why that was not measured.
    pub speed: Option<Result<f64, Text>>,
    pub names: Option<Names>,
    pub passages: Option<Result<Passages, Text>>,
    pub rules: Option<Result<Rules, Text>>,
    /// Whether the page's certificate is trusted by what this host trusts; why not.
    pub trust: Option<Result<Result<(), Text>, Text>>,
    pub hairpin: Option<Vec<Hairpin>>,
    pub clock: Option<Result<Skew, Text>>,
    pub outside_view: Option<OutsideView>,
}

/// `config.yaml`.
#[derive(Debug, Clone)]
pub enum ConfigFile {
    /// This home was never set up.
    Absent(PathBuf),
    /// This user may not read it; why.
    Hidden(Text),
    Bad {
        told: Text,
        hint: Option<Text>,
    },
    Good(Box<Config>),
}

impl Evidence {
    /// The configuration, where it means something.
    #[must_use]
    pub fn good_config(&self) -> Option<&Config> {
        match self.config.as_ref()? {
            ConfigFile::Good(config) => Some(config),
            ConfigFile::Absent(_) | ConfigFile::Hidden(_) | ConfigFile::Bad { .. } => None,
        }
    }

    /// The status, where the service runs.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        match self.service.as_ref()? {
            Service::Answers(status) => Some(status),
            Service::Absent | Service::Hidden(_) | Service::Silent(_) => None,
        }
    }
}

/// The files of the home.
#[derive(Debug, Clone, Default)]
pub struct Home {
    pub secrets: Option<Secrets>,
    pub files: Vec<PrivateFile>,
    /// Folders that cannot be written, with the reason.
    pub unwritable: Vec<(PathBuf, Text)>,
    pub disks: Vec<Disk>,
    /// A control socket that nobody listens on.
    pub stale_socket: Option<PathBuf>,
}

/// `secrets.yaml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secrets {
    Good,
    Absent,
    /// Another user's.
    Hidden(Text),
    Bad {
        told: Text,
        hint: Option<Text>,
    },
}

/// A file that only its owner should read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateFile {
    pub path: PathBuf,
    pub mode: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    pub path: PathBuf,
    pub free_bytes: u64,
    pub total_bytes: u64,
}

/// What this host gives.
#[derive(Debug, Clone)]
pub struct Host {
    pub kind: HostKind,
    /// How many files a process may open, at most.
    pub open_files: u64,
    /// Bytes; `None` where the kernel does not tell.
    pub receive_buffer: Option<u64>,
    pub send_buffer: Option<u64>,
    /// Whether the service may take larger buffers all the same.
    pub may_force_buffers: bool,
    pub conntrack: Option<Conntrack>,
    pub memory_bytes: Option<u64>,
    /// The interface of the default route, with its speed in Mbit/s where the driver tells.
    pub link: Option<(String, Option<u64>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conntrack {
    pub entries: u64,
    pub limit: u64,
}

/// Ways out, and how this host looks from there.
#[derive(Debug, Clone, Default)]
pub struct Network {
    pub routes: Routes,
    pub local_addresses: Vec<IpAddr>,
    pub outside: Outside,
    /// Nobody outside was asked, since nobody wanted that.
    pub is_offline: bool,
}

/// A port that the service wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub key: &'static str,
    pub transport: Transport,
    pub port: u16,
    pub state: PortState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortState {
    Free,
    /// The service of this home has it, or nobody looked since that runs.
    Ours,
    /// By this process, if this user may see it.
    Taken(Option<String>),
    /// It needs root.
    Forbidden,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayRange {
    pub ports: u64,
    /// Bound by programs, ours included.
    pub bound: u64,
    /// Of which these are ours.
    pub ours: u64,
}

/// The certificate on disk.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub source: &'static str,
    /// Why it cannot be used, if it cannot.
    pub leaf: Result<Leaf, Text>,
    /// This user may not look.
    pub is_hidden: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    pub names: Vec<String>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    pub fingerprint: String,
}

/// The running service.
#[derive(Debug, Clone)]
pub enum Service {
    /// None runs.
    Absent,
    /// This user may not ask; why.
    Hidden(Text),
    /// One runs and does not answer; in words.
    Silent(Text),
    Answers(Box<Status>),
}

/// What a listener of ours answered to this host.
#[derive(Debug, Clone)]
pub struct Answer {
    pub what: Asked,
    pub at: SocketAddr,
    pub outcome: Result<(), Text>,
    /// The certificate that was presented, where one is.
    pub leaf: Option<Leaf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    Web,
    Http,
    Signaling,
    Stun,
    TurnTcp,
}

/// A call through the relay.
#[derive(Debug, Clone, Default)]
pub struct Relay {
    pub url: String,
    /// The first step that failed: its word, what was found, why, and what to do.
    pub failing: Option<(String, Text, Option<Text>, Option<Text>)>,
    /// The relay let through what it must not.
    pub attack: Option<Text>,
    /// The server-reflexive candidate.
    pub mapped: Option<SocketAddr>,
    pub relayed: Option<SocketAddr>,
    pub packets: Option<(u32, u32)>,
    /// This user has no credentials.
    pub is_hidden: bool,
}

/// What the DNS says.
#[derive(Debug, Clone, Default)]
pub struct Names {
    pub names: Vec<NameFacts>,
    /// Whether a resolver is configured.
    pub has_resolver: bool,
    /// What the authority is called in CAA records, if one is asked.
    pub issuer: Option<String>,
}

/// How packets from another network fared at this host's firewall.
#[derive(Debug, Clone, Default)]
pub struct Passages {
    pub tried: Vec<Passage>,
    /// The rules name interfaces, so that packets that come by another one may fare otherwise.
    pub by_interface: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    pub purpose: Purpose,
    pub to: SocketAddr,
    pub fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    Web,
    Http,
    TurnUdp,
    TurnTcp,
    Relay,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Passed,
    /// No answer, and no arrival.
    Lost,
    /// The firewall says so.
    Rejected,
    Untried(Text),
}

/// What the rules of this host's firewall say.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// What rules of ours were made for.
    pub opened: Needs,
    pub drifts: Vec<Drift>,
    /// Ports of the relay range that are dropped, with the layers that do it.
    pub relay_closed: PortSet,
    pub relay_closed_by: Vec<&'static str>,
    /// Whether anything filters.
    pub filters: bool,
    /// A change waits to be confirmed.
    pub waits: bool,
    /// What would set it right.
    pub remedy: Option<Remedy>,
}

/// Whether this host reaches itself by an address that is not on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hairpin {
    pub address: IpAddr,
    pub stun: Result<(), Text>,
    pub web: Result<(), Text>,
}

/// How far the clock is off.
#[derive(Debug, Clone, PartialEq)]
pub struct Skew {
    /// Positive: it is ahead.
    pub seconds: f64,
    pub by: Vec<String>,
}

/// What another machine reported.
#[derive(Debug, Clone, PartialEq)]
pub struct OutsideView {
    pub age: Duration,
    pub from: String,
    /// Each step by its word: whether it worked, and what was found.
    pub steps: BTreeMap<String, (bool, String)>,
}
