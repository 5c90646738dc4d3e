//! The lines on the control socket, and the `status --json` document that scripts read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::phone::{Answer, Ask};
use crate::supervisor::board::State;
#[cfg(feature = "faults")]
use crate::supervisor::faults;
use crate::supervisor::service::TaskName;
use crate::words::Text;

/// Raised when a field of a `--json` answer changes its meaning; adding a field does not raise it.
pub const SCHEMA_VERSION: u32 = 1;

/// What a command asks of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub enum Request {
    Status,
    /// Stops everything, or one task.
    Stop {
        task: Option<TaskName>,
    },
    /// Starts one task; clears `held`.
    Start {
        task: TaskName,
    },
    /// Restarts one task.
    Restart {
        task: TaskName,
    },
    /// Renews the certificate if it is due, or in any case.
    Renew {
        force: bool,
    },
    /// Reads the configuration anew and applies what changed.
    Reload,
    /// A name and a password by which the relay is measured without any user noticing, for some minutes.
    Measure,
    /// The proof by a phone.
    Phone(Ask),
    /// Plants a fault: in builds for tests only.
    #[cfg(feature = "faults")]
    Fault {
        place: faults::Place,
        kind: faults::Kind,
    },
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "lowercase")]
pub enum Response {
    Status {
        status: Box<Status>,
    },
    Done,
    /// Whether another certificate is served than before.
    Renewed {
        renewed: bool,
    },
    Refused {
        message: Text,
        hint: Option<Text>,
    },
    Reloaded {
        reload: Box<Reload>,
    },
    Phone(Answer),
    Measure {
        username: String,
        credential: String,
    },
    /// As `Refused`, with everything there is to say and an exit code.
    Failed {
        failure: Failure,
    },
}

/// What a reload has done: everything that changed, each with how it was applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reload {
    pub schema_version: u32,
    /// The worst of all changes; `unchanged` if there are none.
    pub result: Effect,
    pub changes: Vec<ReloadChange>,
    pub tasks: Vec<ReloadTask>,
}

/// A key whose value is another one now. Values of secrets are `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReloadChange {
    pub key: String,
    pub from: serde_json::Value,
    pub to: serde_json::Value,
    pub effect: Effect,
    /// What is noticed of it, where something is.
    pub note: Option<Text>,
}

/// What became of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReloadTask {
    pub name: TaskName,
    pub effect: Effect,
    /// Why it is not ready after its restart.
    pub error: Option<Text>,
}

/// How a change came into force, from what nobody notices to what failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    Unchanged,
    /// While everything went on.
    Applied,
    /// By restarting one task.
    Restarted,
    /// The task that was restarted is not ready.
    Failed,
}

/// Files that were edited and not reloaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// When the newest of them was written.
    pub since: String,
    /// The keys that a reload would change.
    pub keys: Vec<String>,
    /// Why a reload would be refused, all complaints.
    pub complaints: Vec<Text>,
}

/// What a daemon tells the `start` that made it, in one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "start", rename_all = "lowercase")]
pub enum Outcome {
    /// Every task is ready.
    Ready { pid: u32 },
    /// It runs, but these tasks are not ready; each with its last error.
    Partly { pid: u32, tasks: Vec<(TaskName, Text)> },
    /// It does not run.
    Failed { failure: Failure },
}

/// The whole service at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub schema_version: u32,
    pub version: String,
    pub pid: u32,
    pub state: State,
    pub uptime_s: u64,
    /// `null` where the system does not tell.
    pub usage: Option<UsageStatus>,
    /// What the daemon may do on this host; `null` where the system does not tell.
    #[serde(default)]
    pub sandbox: Option<SandboxStatus>,
    pub tasks: Vec<TaskStatus>,
    pub urls: Urls,
    pub calls: Calls,
    /// Who may call, and what became of those who wanted to.
    #[serde(default)]
    pub access: AccessStatus,
    #[serde(default)]
    pub signaling: SignalingStatus,
    pub turn: TurnStatus,
    /// TCP connections since the start, by what was made of them; every class is there.
    #[serde(default)]
    pub connections: BTreeMap<String, u64>,
    pub certificate: Option<CertificateStatus>,
    /// Every probe of a task that is up.
    #[serde(default)]
    pub probes: Vec<ProbeReport>,
    pub findings: Vec<Finding>,
    /// Edited files that were not reloaded; `null`: none.
    #[serde(default)]
    pub pending: Option<Pending>,
}

/// What the daemon may do on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxStatus {
    /// The number of the user it runs as.
    pub user: u32,
    /// Privileges of root's that it has, by the kernel's bits; 400 is ports below 1024, 0 none.
    pub capabilities: String,
    pub no_new_privileges: bool,
    /// Its system calls are filtered.
    pub seccomp: bool,
    /// The system's own files are read-only to it.
    pub read_only_system: bool,
    /// Which version of Landlock keeps it from writing elsewhere; `null`: none does.
    pub landlock: Option<u32>,
}

/// What the daemon takes from the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageStatus {
    pub memory_bytes: u64,
    pub cpu_ms: u64,
    #[serde(default)]
    pub threads: u64,
    /// Files and sockets.
    #[serde(default)]
    pub descriptors: u64,
    #[serde(default)]
    pub descriptors_limit: u64,
    /// Processor time by the part of the daemon whose threads had it, tasks included.
    #[serde(default)]
    pub cpu_ms_by_part: BTreeMap<String, u64>,
    /// Log lines that could not be written since the start.
    #[serde(default)]
    pub log_lines_lost: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskStatus {
    pub name: TaskName,
    pub state: State,
    pub uptime_s: u64,
    pub restarts: u64,
    /// How often it was replaced because it stood still; those count as restarts, too.
    #[serde(default)]
    pub hangs: u64,
    /// How often it was started again because it panicked; those count as restarts, too.
    #[serde(default)]
    pub panics: u64,
    pub last_error: Option<Text>,
    /// The last panic in short; `rtcctl events --json` has all of it.
    #[serde(default)]
    pub last_panic: Option<PanicStatus>,
    /// What the last probe found; `null` for a task that is not up, which is not asked.
    pub probe: Option<ProbeStatus>,
    /// Processor time of its threads that live now; `null` where the system does not tell.
    #[serde(default)]
    pub cpu_ms: Option<u64>,
    #[serde(default)]
    pub threads: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PanicStatus {
    pub at: String,
    pub message: String,
    /// Source file, line and column.
    pub place: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeStatus {
    /// Whether all probes of the task succeed.
    pub ok: bool,
    pub latency_ms: f64,
    pub at: String,
    /// Of the last ones that succeeded.
    #[serde(default)]
    pub p50_ms: Option<f64>,
    #[serde(default)]
    pub p90_ms: Option<f64>,
    #[serde(default)]
    pub max_ms: Option<f64>,
}

/// What one probe last found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// What it is for, like `relay_udp`.
    pub name: String,
    /// Where it asks; empty: nowhere in particular.
    pub place: String,
    pub task: TaskName,
    pub ok: bool,
    pub error: Option<Text>,
    pub latency_ms: f64,
    pub at: String,
    /// Of the last probes of this name that succeeded, at whatever place.
    pub p50_ms: Option<f64>,
    pub p90_ms: Option<f64>,
    pub max_ms: Option<f64>,
    /// Probes of this name that failed since the start.
    pub failures: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Urls {
    pub web: String,
    pub ice: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    pub rooms: u64,
    pub peers: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessStatus {
    /// `open` or `key`.
    pub mode: String,
    pub outcomes: BTreeMap<String, u64>,
}

/// What the signaling server has done and refused since the service began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalingStatus {
    /// Connected now, in a room or not.
    pub sockets: u64,
    /// Messages relayed.
    pub messages: u64,
    /// Bytes that wait for receivers now.
    pub queued_bytes: u64,
    /// How often each bound was met; every bound is there.
    pub limits: BTreeMap<String, u64>,
    /// Sockets that have ended, by how; every way is there.
    pub ended: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnStatus {
    pub allocations: u64,
    pub relayed_bytes: u64,
    pub relayed_packets: u64,
    /// Packets and messages that were not relayed or answered, by reason; every reason is there.
    #[serde(default)]
    pub dropped: BTreeMap<String, u64>,
    /// Allocations by what became of them; every outcome is there.
    #[serde(default)]
    pub outcomes: BTreeMap<String, u64>,
    #[serde(default)]
    pub limits: TurnLimits,
    #[serde(default)]
    pub listening: TurnListening,
    #[serde(default)]
    pub path: TurnPath,
}

/// What the relay gives at most; `null`: without limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnLimits {
    /// Allocations of one user at a time.
    pub user_allocations: u64,
    /// Allocations in all.
    pub allocations: u64,
    /// Bytes a second of one allocation.
    pub allocation_bandwidth: Option<u64>,
    /// Bytes a second in all.
    pub bandwidth: Option<u64>,
}

/// Where clients are listened for, by what carries their messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnListening {
    pub udp: Vec<String>,
    pub tcp: Vec<String>,
    pub tls: Vec<String>,
}

/// By which of the kernel's ways packets go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnPath {
    pub gro: bool,
    pub gso: bool,
    pub workers: u64,
    /// `auto`: gathers packets under load; `low`: never.
    pub latency: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CertificateStatus {
    pub source: String,
    pub names: Vec<String>,
    pub not_after: String,
    pub days_left: f64,
    pub fingerprint_sha256: String,
    /// Whom it was issued by.
    #[serde(default)]
    pub issuer: String,
    /// What is known of its renewal by an authority; `null` where no authority is asked.
    #[serde(default)]
    pub renewal: Option<RenewalStatus>,
}

/// The renewal of a certificate by an authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalStatus {
    /// `idle`, `rehearsing`, `ordering`, or `waiting` for the next attempt at what is due.
    pub state: String,
    /// When something is done next.
    pub next_at: Option<String>,
    /// Why then: `first`, `new-names`, `aged`, `advised`, `forced`, `failed` or `limited`.
    pub reason: String,
    /// Failures in a row.
    pub failures: u32,
    /// How bad it is that the last attempt failed: `info`, `warning`, `error` or `critical`; `null`: it did not.
    pub alarm: Option<String>,
    pub last: Option<AttemptStatus>,
}

/// The last order to an authority, or its rehearsal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptStatus {
    pub at: String,
    pub authority: String,
    pub rehearsal: bool,
    /// Whose move it is: `ours`, `theirs` or `limit`; `null`: it did not fail.
    pub class: Option<String>,
    pub error: Option<Text>,
    pub hint: Option<Text>,
}

/// Something an operator should know, with the next step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub code: String,
    /// What it is about besides: a task, an address; often empty.
    #[serde(default)]
    pub subject: String,
    pub severity: Severity,
    pub title: Text,
    pub evidence: Text,
    pub hint: Text,
    pub since: String,
    /// The codes of findings that follow from this one and are not shown for that.
    #[serde(default)]
    pub hides: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Warning,
    Error,
    Critical,
}
