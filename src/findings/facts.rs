//! What findings are judged by: a snapshot of plain data.

use std::time::Duration;

use crate::supervisor::board::State;
use crate::supervisor::service::TaskName;
use crate::words::Text;

/// Everything that is known at a moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    pub tasks: Vec<Task>,
    /// What each probe last found, of those whose task is up.
    pub probes: Vec<Probe>,
    pub certificate: Certificate,
    pub config_not_applied: Option<Edit>,
    /// Why the port of HTTP is not served, and what to do.
    pub http_port_taken: Option<(Text, Text)>,
    /// By how many seconds the clock was set lately; negative: back.
    pub clock_jump: Option<i64>,
    /// The disks that state and logs are on.
    pub disks: Vec<Disk>,
    pub descriptors: Option<Share>,
    pub relay_ports: Option<Share>,
    pub log_error: Option<Text>,
    pub notify_error: Option<Text>,
    /// Datagrams that the kernel dropped within the last minute.
    pub receive_drops: u64,
    /// Connections that found no room within the last five minutes.
    pub turned_away: u64,
    /// What names this home on a command line, with a leading blank, and its log.
    pub home_flag: String,
    pub log_file: String,
}

/// What was done to the files of the configuration and is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Which files, in a word for people.
    pub what: Text,
    /// Why a reload or a start would refuse it.
    pub refused: Option<Text>,
}

/// A task, as the board has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    pub name: TaskName,
    pub state: State,
    pub last_error: Option<Text>,
    /// Restarts within the last five minutes.
    pub restarts_lately: u64,
    /// Its last instance was given up for lack of progress within the last five minutes.
    pub hung_lately: bool,
}

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A certificate is there and valid.
    Certificate,
    /// STUN on one address.
    Stun,
    /// The page.
    Web,
    /// The Socket.IO handshake.
    Signaling,
    /// Which certificate a listener serves.
    Fingerprint,
    /// Two peers in a room, and a third.
    Rooms,
    RelayUdp,
    RelayTcp,
    RelayTls,
    /// Peers that the relay must refuse.
    ForbiddenPeers,
    /// Credentials that the relay must refuse.
    ForbiddenLogins,
}

impl Kind {
    pub const ALL: [Self; 11] = [
        Self::Certificate,
        Self::Stun,
        Self::Web,
        Self::Signaling,
        Self::Fingerprint,
        Self::Rooms,
        Self::RelayUdp,
        Self::RelayTcp,
        Self::RelayTls,
        Self::ForbiddenPeers,
        Self::ForbiddenLogins,
    ];

    /// The word for scripts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Stun => "stun",
            Self::Web => "web",
            Self::Signaling => "signaling",
            Self::Fingerprint => "fingerprint",
            Self::Rooms => "rooms",
            Self::RelayUdp => "relay_udp",
            Self::RelayTcp => "relay_tcp",
            Self::RelayTls => "relay_tls",
            Self::ForbiddenPeers => "forbidden_peers",
            Self::ForbiddenLogins => "forbidden_logins",
        }
    }

    /// The task that answers it.
    #[must_use]
    pub fn task(self) -> TaskName {
        match self {
            Self::Certificate | Self::Fingerprint => TaskName::Certs,
            Self::Web => TaskName::Web,
            Self::Signaling | Self::Rooms => TaskName::Signaling,
            Self::Stun
            | Self::RelayUdp
            | Self::RelayTcp
            | Self::RelayTls
            | Self::ForbiddenPeers
            | Self::ForbiddenLogins => TaskName::Turn,
        }
    }
}

/// How a probe ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Fine,
    /// In words.
    Failed(Text),
    /// Nothing listens there.
    Refused(Text),
    /// What must be refused was granted.
    Granted(Text),
}

impl Verdict {
    #[must_use]
    pub fn is_fine(&self) -> bool {
        *self == Self::Fine
    }

    /// What is wrong.
    #[must_use]
    pub fn error(&self) -> Option<&Text> {
        match self {
            Self::Fine => None,
            Self::Failed(text) | Self::Refused(text) | Self::Granted(text) => Some(text),
        }
    }
}

/// What one probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    pub kind: Kind,
    /// Where it asks, like `0.0.0.0:3478`; empty: nowhere in particular.
    pub place: String,
    pub verdict: Verdict,
}

/// What is served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Certificate {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    Missing,
    /// It ends in so long.
    Valid(Duration),
    /// As `Valid`, of a life of weeks or less: it is renewed when half or a third of that is left.
    ShortLived {
        left: Duration,
        life: Duration,
    },
    /// It ended so long ago.
    Expired(Duration),
}

/// Room on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    pub path: String,
    pub free_bytes: u64,
    pub total_bytes: u64,
}

/// How much is used of something that has an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub used: u64,
    pub limit: u64,
}

impl Share {
    /// Whether nine tenths are used.
    #[must_use]
    pub fn is_almost_used(self) -> bool {
        self.limit > 0 && self.used.saturating_mul(10) >= self.limit.saturating_mul(9)
    }
}
