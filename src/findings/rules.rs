//! Decides what is wrong, from facts alone.

use std::time::Duration;

use super::facts::{Certificate, Disk, Facts, Kind, Probe, Task, Verdict};
use super::{Cause, Code, Key, Raised};
use crate::control::protocol::Severity;
use crate::supervisor::board::State;
use crate::supervisor::service::TaskName;

/// A certificate that was not renewed by then will not be without help: renewal comes weeks earlier.
const ENDS_SOON: Duration = Duration::from_secs(7 * 24 * 3600);
const SECONDS_A_DAY: u64 = 86_400;
/// Restarts within five minutes that are a storm; eight hold the task.
const STORM: u64 = 3;
/// Room that logs and state need at least, and what is left when nothing can be written soon.
const LOW_BYTES: u64 = 200 << 20;
const LAST_BYTES: u64 = 20 << 20;
/// A disk that is nearly full is one on which little room is left, both in bytes and in parts of a hundred.
const LOW_PERCENT: u64 = 5;

/// Everything that is wrong, whether or not it has been for long.
#[must_use]
pub fn judge(facts: &Facts) -> Vec<Raised> {
    let mut raised = Vec::new();
    for task in &facts.tasks {
        raised.extend(of_task(task, facts));
        raised.extend(of_restarts(task, facts));
    }
    raised.extend(of_certificate(facts));
    for probe in &facts.probes {
        raised.extend(of_probe(probe, facts));
    }
    raised.extend(facts.disks.iter().filter_map(of_disk));
    of_host(facts, &mut raised);
    raised
}

fn finding(code: Code, subject: &str, severity: Severity) -> Raised {
    Raised {
        key: Key { code, subject: subject.to_owned() },
        severity,
        title: String::new(),
        evidence: String::new(),
        hint: String::new(),
        causes: Vec::new(),
    }
}

impl Raised {
    fn titled(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    fn seen(mut self, evidence: impl Into<String>) -> Self {
        self.evidence = evidence.into();
        self
    }

    fn hinted(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    fn after(mut self, code: Code, subject: Option<&str>) -> Self {
        self.causes.push(Cause { code, subject: subject.map(str::to_owned) });
        self
    }

    /// What does not work while the task is down.
    fn after_task(mut self, task: TaskName) -> Self {
        for code in [Code::TaskHeld, Code::TaskBackoff, Code::TaskStopped, Code::TaskHung] {
            self = self.after(code, Some(task.as_str()));
        }
        self
    }
}

fn of_task(task: &Task, facts: &Facts) -> Option<Raised> {
    let (code, severity, title) = match task.state {
        State::Held => (Code::TaskHeld, Severity::Critical, "is down after failing too often"),
        State::Backoff => (Code::TaskBackoff, Severity::Error, "failed and waits for its next start"),
        State::Stopped => (Code::TaskStopped, Severity::Warning, "is stopped"),
        State::Degraded => (Code::TaskDegraded, Severity::Warning, "serves, but not well"),
        State::Starting | State::Ready | State::Draining => return None,
    };
    let hint = match task.state {
        State::Held | State::Stopped => format!("start it by `rtcctl{} start {}`", facts.home_flag, task.name),
        State::Starting | State::Ready | State::Degraded | State::Draining | State::Backoff => {
            format!("read `{}`", facts.log_file)
        }
    };
    let evidence = task.last_error.clone().unwrap_or_else(|| "stopped by the operator".to_owned());
    let title = format!("{} {title}", task.name);
    let raised = finding(code, task.name.as_str(), severity).titled(title).seen(evidence).hinted(hint);
    // What has no certificate cannot serve, and says so.
    let needs_certificate = matches!(task.name, TaskName::Web | TaskName::Signaling);
    Some(if needs_certificate && code == Code::TaskDegraded {
        raised.after_task(TaskName::Certs).after(Code::CertificateMissing, None)
    } else {
        raised
    })
}

fn of_restarts(task: &Task, facts: &Facts) -> Option<Raised> {
    let name = task.name.as_str();
    let evidence = task.last_error.clone().unwrap_or_else(|| "no reason is known".to_owned());
    let hint = format!("read `rtcctl{} events` and `{}`", facts.home_flag, facts.log_file);
    if task.hung_lately {
        let raised = finding(Code::TaskHung, name, Severity::Error)
            .titled(format!("{name} did not get on and was replaced"))
            .seen(evidence)
            .hinted(hint);
        return Some(raised.after(Code::TaskHeld, Some(name)));
    }
    (task.restarts_lately >= STORM).then(|| {
        finding(Code::RestartsStorm, name, Severity::Warning)
            .titled(format!("{name} was restarted {} times within five minutes", task.restarts_lately))
            .seen(evidence)
            .hinted(hint)
            .after(Code::TaskHeld, Some(name))
            .after(Code::TaskBackoff, Some(name))
    })
}

fn of_certificate(facts: &Facts) -> Option<Raised> {
    let hint = format!("restart the task by `rtcctl{} restart certs`, and read `{}`", facts.home_flag, facts.log_file);
    let days = |span: Duration| span.as_secs() / SECONDS_A_DAY;
    let raised = match facts.certificate {
        Certificate::Unknown => return None,
        Certificate::Missing => finding(Code::CertificateMissing, "", Severity::Critical)
            .titled("there is no certificate to serve")
            .seen("TLS handshakes fail")
            .after_task(TaskName::Certs),
        Certificate::Expired(ago) => finding(Code::CertificateExpired, "", Severity::Critical)
            .titled("the certificate has expired")
            .seen(format!("it ended {} days ago", days(ago))),
        Certificate::Valid(left) if left < ENDS_SOON => finding(Code::CertificateEnds, "", Severity::Error)
            .titled("the certificate ends soon and was not renewed")
            .seen(format!("it is valid for {} more days", days(left))),
        Certificate::ShortLived { left, life } if left < life / 6 => {
            finding(Code::CertificateEnds, "", Severity::Error)
                .titled("the certificate ends soon and was not renewed")
                .seen(format!("it is valid for {} more hours", left.as_secs() / 3600))
        }
        Certificate::Valid(_) | Certificate::ShortLived { .. } => return None,
    };
    Some(raised.hinted(hint))
}

fn of_probe(probe: &Probe, facts: &Facts) -> Option<Raised> {
    let Probe { kind, place, verdict } = probe;
    let error = verdict.error()?;
    let task = kind.task();
    let flag = &facts.home_flag;
    if matches!(verdict, Verdict::Refused(_)) {
        let raised = finding(Code::PortLost, place, Severity::Critical)
            .titled(format!("nothing listens on {place} any more"))
            .seen(error)
            .hinted(format!(
                "see who has the port by `ss -lpn`, then run `rtcctl{flag} stop` and `rtcctl{flag} start`"
            ));
        return Some(raised.after_task(task));
    }
    if matches!(verdict, Verdict::Granted(_)) {
        return Some(granted(*kind, error));
    }
    let restart = format!("restart it by `rtcctl{flag} restart {task}`");
    let (code, title) = match kind {
        // Judged by its dates.
        Kind::Certificate => return None,
        Kind::Stun => (Code::StunUnanswered, format!("STUN on {place} does not answer as it should")),
        Kind::Web => (Code::WebUnanswered, "the page does not answer as it should".to_owned()),
        Kind::Signaling => (Code::SignalingUnanswered, "signaling does not answer as it should".to_owned()),
        Kind::Fingerprint => {
            (Code::CertificateMismatch, format!("{place} does not serve the certificate that is current"))
        }
        Kind::Rooms => (Code::RoomsFail, "two callers cannot meet in a room as they should".to_owned()),
        Kind::RelayUdp => (Code::RelayUdpFails, "two callers by UDP cannot talk through the relay".to_owned()),
        Kind::RelayTcp => (Code::RelayTcpFails, "two callers by TCP cannot talk through the relay".to_owned()),
        Kind::RelayTls => (Code::RelayTlsFails, "two callers by TLS cannot talk through the relay".to_owned()),
        // A relay that does not answer is told of by the others; what it would have granted is not known.
        Kind::ForbiddenPeers | Kind::ForbiddenLogins => return None,
    };
    let raised = finding(code, place, Severity::Error).titled(title).seen(error).hinted(restart);
    let raised = raised
        .after_task(task)
        .after(Code::PortLost, Some(place))
        .after(Code::DescriptorsAlmostExhausted, None)
        .after(Code::CertificateMissing, None);
    Some(match kind {
        Kind::Web | Kind::Signaling | Kind::RelayTls => raised.after(Code::CertificateMismatch, Some(place)),
        Kind::Rooms => raised.after(Code::SignalingUnanswered, None).after(Code::CertificateMismatch, Some(place)),
        Kind::RelayUdp => raised.after(Code::StunUnanswered, None).after(Code::RelayPortsAlmostExhausted, None),
        Kind::RelayTcp => raised.after(Code::RelayPortsAlmostExhausted, None),
        Kind::Certificate | Kind::Stun | Kind::Fingerprint | Kind::ForbiddenPeers | Kind::ForbiddenLogins => raised,
    })
}

/// What must be refused and was not. It follows from nothing.
fn granted(kind: Kind, error: &str) -> Raised {
    if kind == Kind::ForbiddenLogins {
        return finding(Code::RelayAcceptsAnyone, "", Severity::Critical)
            .titled("the relay takes credentials that are wrong or expired")
            .seen(error)
            .hinted("stop the relay by `rtcctl stop turn`, and report this: whoever finds it can use the relay");
    }
    finding(Code::RelayReachesForbidden, "", Severity::Critical)
        .titled("the relay lets its users reach what it must not")
        .seen(error)
        .hinted(
            "stop the relay by `rtcctl stop turn`, and report this: whoever has credentials reaches services that only \
             this host should reach",
        )
}

fn of_disk(disk: &Disk) -> Option<Raised> {
    let Disk { path, free_bytes, total_bytes } = disk;
    let is_low = *free_bytes < LOW_BYTES && free_bytes.saturating_mul(100) < total_bytes.saturating_mul(LOW_PERCENT);
    let is_last = *free_bytes < LAST_BYTES;
    let severity = if is_last { Severity::Critical } else { Severity::Error };
    (is_low || is_last).then(|| {
        finding(Code::DiskAlmostFull, path, severity)
            .titled("the disk is almost full")
            .seen(format!("{} MB are free on the disk of `{path}`", free_bytes / 1_000_000))
            .hinted("delete what is not needed; see what takes the room by `du -xh --max-depth=2 / | sort -h | tail`")
    })
}

fn of_host(facts: &Facts, raised: &mut Vec<Raised>) {
    let flag = &facts.home_flag;
    raised.extend(facts.config_not_applied.as_ref().map(|edit| {
        match &edit.refused {
            None => finding(Code::ConfigNotApplied, "", Severity::Info)
                .titled("the configuration was edited and is not in force")
                .seen(edit.what.clone())
                .hinted(format!("run `rtcctl{flag} config check`, then `rtcctl{flag} reload`")),
            // The service goes by what it has in memory, and would not start without that.
            Some(refused) => finding(Code::ConfigNotApplied, "", Severity::Warning)
                .titled("the configuration was edited and would be refused")
                .seen(format!("{}; {refused}", edit.what))
                .hinted(format!("run `rtcctl{flag} config check`, correct what it says, then `rtcctl{flag} reload`")),
        }
    }));
    raised.extend(facts.clock_jump.map(|seconds| {
        let (by, way) = (seconds.unsigned_abs(), if seconds < 0 { "back" } else { "forward" });
        finding(Code::ClockJumped, "", Severity::Warning)
            .titled("the clock of this host jumped")
            .seen(format!("it was set {way} by {by} s"))
            .hinted("keep the clock by chrony or systemd-timesyncd: credentials and certificates are good by date")
    }));
    raised.extend(facts.http_port_taken.as_ref().map(|(why, hint)| {
        finding(Code::HttpPortTaken, "", Severity::Warning)
            .titled("the port of HTTP is somebody else's, so nothing redirects to HTTPS and HTTP-01 cannot be answered")
            .seen(why.clone())
            .hinted(format!("{hint}; a port that is free again is taken by itself"))
    }));
    if let Some(share) = facts.descriptors.filter(|share| share.is_almost_used()) {
        raised.push(
            finding(Code::DescriptorsAlmostExhausted, "", Severity::Error)
                .titled("few more files and sockets can be opened")
                .seen(format!("{} of {} are open", share.used, share.limit))
                .hinted("raise the limit: `LimitNOFILE=` of the unit, or `ulimit -n` before `rtcctl start`"),
        );
    }
    if let Some(share) = facts.relay_ports.filter(|share| share.is_almost_used()) {
        raised.push(
            finding(Code::RelayPortsAlmostExhausted, "", Severity::Warning)
                .titled("few more callers can be relayed")
                .seen(format!("{} of {} allocations are in use", share.used, share.limit))
                .hinted("widen `turn.relay_ports` and open the new ports, or raise `turn.total_quota`"),
        );
    }
    raised.extend(facts.log_error.as_ref().map(|error| {
        finding(Code::LogNotWritable, "", Severity::Error)
            .titled("the log cannot be written")
            .seen(error.clone())
            .hinted(format!("make room, or put right the owner and the mode of `{}`", facts.log_file))
            .after(Code::DiskAlmostFull, None)
    }));
    raised.extend(facts.notify_error.as_ref().map(|error| {
        finding(Code::NotifyFails, "", Severity::Warning)
            .titled("an event could not be handed on")
            .seen(error.clone())
            .hinted("check `notify.command` and `notify.webhook`")
    }));
    if facts.receive_drops > 0 {
        raised.push(
            finding(Code::ReceiveBufferDrops, "", Severity::Warning)
                .titled("the relay does not fetch datagrams in time")
                .seen(format!("the kernel dropped {} within a minute", facts.receive_drops))
                .hinted("give the host more CPU, or raise `net.core.rmem_max`"),
        );
    }
    if facts.turned_away > 0 {
        raised.push(
            finding(Code::ConnectionsTurnedAway, "", Severity::Warning)
                .titled("connections were turned away for lack of room")
                .seen(format!("{} within five minutes", facts.turned_away))
                .hinted("raise the limit of open files, and see who connects by `ss -tn state established`"),
        );
    }
}
