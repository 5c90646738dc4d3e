//! Decides what is wrong, from facts alone.

use std::time::Duration;

use super::facts::{Certificate, Disk, Facts, Kind, Probe, Task, Verdict};
use super::{Cause, Code, Key, Raised};
use crate::control::protocol::Severity;
use crate::supervisor::board::State;
use crate::supervisor::service::TaskName;
use crate::text;
use crate::words::Text;

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
        title: Text::default(),
        evidence: Text::default(),
        hint: Text::default(),
        causes: Vec::new(),
    }
}

impl Raised {
    fn titled(mut self, title: impl Into<Text>) -> Self {
        self.title = title.into();
        self
    }

    fn seen(mut self, evidence: impl Into<Text>) -> Self {
        self.evidence = evidence.into();
        self
    }

    fn hinted(mut self, hint: impl Into<Text>) -> Self {
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
        State::Held => (Code::TaskHeld, Severity::Critical, text!("{} is down after failing too often", task.name)),
        State::Backoff => {
            (Code::TaskBackoff, Severity::Error, text!("{} failed and waits for its next start", task.name))
        }
        State::Stopped => (Code::TaskStopped, Severity::Warning, text!("{} is stopped", task.name)),
        State::Degraded => (Code::TaskDegraded, Severity::Warning, text!("{} serves, but not well", task.name)),
        State::Starting | State::Ready | State::Draining => return None,
    };
    let hint = match task.state {
        State::Held | State::Stopped => text!("start it by `rtcctl{} start {}`", facts.home_flag, task.name),
        State::Starting | State::Ready | State::Degraded | State::Draining | State::Backoff => {
            text!("read `{}`", facts.log_file)
        }
    };
    let evidence = task.last_error.clone().unwrap_or_else(|| text!("stopped by the operator"));
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
    let evidence = task.last_error.clone().unwrap_or_else(|| text!("no reason is known"));
    let hint = text!("read `rtcctl{} events` and `{}`", facts.home_flag, facts.log_file);
    if task.hung_lately {
        let raised = finding(Code::TaskHung, name, Severity::Error)
            .titled(text!("{} did not get on and was replaced", name))
            .seen(evidence)
            .hinted(hint);
        return Some(raised.after(Code::TaskHeld, Some(name)));
    }
    (task.restarts_lately >= STORM).then(|| {
        finding(Code::RestartsStorm, name, Severity::Warning)
            .titled(text!("{} was restarted {} times within five minutes", name, task.restarts_lately))
            .seen(evidence)
            .hinted(hint)
            .after(Code::TaskHeld, Some(name))
            .after(Code::TaskBackoff, Some(name))
    })
}

fn of_certificate(facts: &Facts) -> Option<Raised> {
    let hint = text!("restart the task by `rtcctl{} restart certs`, and read `{}`", facts.home_flag, facts.log_file);
    let days = |span: Duration| span.as_secs() / SECONDS_A_DAY;
    let raised = match facts.certificate {
        Certificate::Unknown => return None,
        Certificate::Missing => finding(Code::CertificateMissing, "", Severity::Critical)
            .titled(text!("there is no certificate to serve"))
            .seen(text!("TLS handshakes fail"))
            .after_task(TaskName::Certs),
        Certificate::Expired(ago) => finding(Code::CertificateExpired, "", Severity::Critical)
            .titled(text!("the certificate has expired"))
            .seen(text!("it ended {} days ago", days(ago))),
        Certificate::Valid(left) if left < ENDS_SOON => finding(Code::CertificateEnds, "", Severity::Error)
            .titled(text!("the certificate ends soon and was not renewed"))
            .seen(text!("it is valid for {} more days", days(left))),
        Certificate::ShortLived { left, life } if left < life / 6 => {
            finding(Code::CertificateEnds, "", Severity::Error)
                .titled(text!("the certificate ends soon and was not renewed"))
                .seen(text!("it is valid for {} more hours", left.as_secs() / 3600))
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
            .titled(text!("nothing listens on {} any more", place))
            .seen(error)
            .hinted(text!("see who has the port by `ss -lpn`, then run `rtcctl{0} stop` and `rtcctl{0} start`", flag));
        return Some(raised.after_task(task));
    }
    if matches!(verdict, Verdict::Granted(_)) {
        return Some(granted(*kind, error));
    }
    let restart = text!("restart it by `rtcctl{} restart {}`", flag, task);
    let (code, title) = match kind {
        // Judged by its dates.
        Kind::Certificate => return None,
        Kind::Stun => (Code::StunUnanswered, text!("STUN on {} does not answer as it should", place)),
        Kind::Web => (Code::WebUnanswered, text!("the page does not answer as it should")),
        Kind::Signaling => (Code::SignalingUnanswered, text!("signaling does not answer as it should")),
        Kind::Fingerprint => {
            (Code::CertificateMismatch, text!("{} does not serve the certificate that is current", place))
        }
        Kind::Rooms => (Code::RoomsFail, text!("two callers cannot meet in a room as they should")),
        Kind::RelayUdp => (Code::RelayUdpFails, text!("two callers by UDP cannot talk through the relay")),
        Kind::RelayTcp => (Code::RelayTcpFails, text!("two callers by TCP cannot talk through the relay")),
        Kind::RelayTls => (Code::RelayTlsFails, text!("two callers by TLS cannot talk through the relay")),
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
fn granted(kind: Kind, error: &Text) -> Raised {
    if kind == Kind::ForbiddenLogins {
        return finding(Code::RelayAcceptsAnyone, "", Severity::Critical)
            .titled(text!("the relay takes credentials that are wrong or expired"))
            .seen(error)
            .hinted(text!(
                "stop the relay by `rtcctl stop turn`, and report this: whoever finds it can use the relay"
            ));
    }
    finding(Code::RelayReachesForbidden, "", Severity::Critical)
        .titled(text!("the relay lets its users reach what it must not"))
        .seen(error)
        .hinted(text!(
            "stop the relay by `rtcctl stop turn`, and report this: whoever has credentials reaches services that only \
             this host should reach"
        ))
}

fn of_disk(disk: &Disk) -> Option<Raised> {
    let Disk { path, free_bytes, total_bytes } = disk;
    let is_low = *free_bytes < LOW_BYTES && free_bytes.saturating_mul(100) < total_bytes.saturating_mul(LOW_PERCENT);
    let is_last = *free_bytes < LAST_BYTES;
    let severity = if is_last { Severity::Critical } else { Severity::Error };
    (is_low || is_last).then(|| {
        finding(Code::DiskAlmostFull, path, severity)
            .titled(text!("the disk is almost full"))
            .seen(text!("{} MB are free on the disk of `{}`", free_bytes / 1_000_000, path))
            .hinted(text!(
                "delete what is not needed; see what takes the room by `du -xh --max-depth=2 / | sort -h | tail`"
            ))
    })
}

fn of_host(facts: &Facts, raised: &mut Vec<Raised>) {
    let flag = &facts.home_flag;
    raised.extend(facts.config_not_applied.as_ref().map(|edit| {
        match &edit.refused {
            None => finding(Code::ConfigNotApplied, "", Severity::Info)
                .titled(text!("the configuration was edited and is not in force"))
                .seen(edit.what.clone())
                .hinted(text!("run `rtcctl{0} config check`, then `rtcctl{0} reload`", flag)),
            // The service goes by what it has in memory, and would not start without that.
            Some(refused) => finding(Code::ConfigNotApplied, "", Severity::Warning)
                .titled(text!("the configuration was edited and would be refused"))
                .seen(text!("{}; {}", edit.what, refused))
                .hinted(text!("run `rtcctl{0} config check`, correct what it says, then `rtcctl{0} reload`", flag)),
        }
    }));
    raised.extend(facts.clock_jump.map(|seconds| {
        let (by, way) = (seconds.unsigned_abs(), if seconds < 0 { text!("back") } else { text!("forward") });
        finding(Code::ClockJumped, "", Severity::Warning)
            .titled(text!("the clock of this host jumped"))
            .seen(text!("it was set {} by {} s", way, by))
            .hinted(text!(
                "keep the clock by chrony or systemd-timesyncd: credentials and certificates are good by date"
            ))
    }));
    raised.extend(facts.http_port_taken.as_ref().map(|(why, hint)| {
        finding(Code::HttpPortTaken, "", Severity::Warning)
            .titled(text!(
                "the port of HTTP is somebody else's, so nothing redirects to HTTPS and HTTP-01 cannot be answered"
            ))
            .seen(why.clone())
            .hinted(text!("{}; a port that is free again is taken by itself", hint))
    }));
    if let Some(share) = facts.descriptors.filter(|share| share.is_almost_used()) {
        raised.push(
            finding(Code::DescriptorsAlmostExhausted, "", Severity::Error)
                .titled(text!("few more files and sockets can be opened"))
                .seen(text!("{} of {} are open", share.used, share.limit))
                .hinted(text!("raise the limit: `LimitNOFILE=` of the unit, or `ulimit -n` before `rtcctl start`")),
        );
    }
    if let Some(share) = facts.relay_ports.filter(|share| share.is_almost_used()) {
        raised.push(
            finding(Code::RelayPortsAlmostExhausted, "", Severity::Warning)
                .titled(text!("few more callers can be relayed"))
                .seen(text!("{} of {} allocations are in use", share.used, share.limit))
                .hinted(text!("widen `turn.relay_ports` and open the new ports, or raise `turn.total_quota`")),
        );
    }
    raised.extend(facts.log_error.as_ref().map(|error| {
        finding(Code::LogNotWritable, "", Severity::Error)
            .titled(text!("the log cannot be written"))
            .seen(error.clone())
            .hinted(text!("make room, or put right the owner and the mode of `{}`", facts.log_file))
            .after(Code::DiskAlmostFull, None)
    }));
    raised.extend(facts.notify_error.as_ref().map(|error| {
        finding(Code::NotifyFails, "", Severity::Warning)
            .titled(text!("an event could not be handed on"))
            .seen(error.clone())
            .hinted(text!("check `notify.command` and `notify.webhook`"))
    }));
    if facts.receive_drops > 0 {
        raised.push(
            finding(Code::ReceiveBufferDrops, "", Severity::Warning)
                .titled(text!("the relay does not fetch datagrams in time"))
                .seen(text!("the kernel dropped {} within a minute", facts.receive_drops))
                .hinted(text!("give the host more CPU, or raise `net.core.rmem_max`")),
        );
    }
    if facts.turned_away > 0 {
        raised.push(
            finding(Code::ConnectionsTurnedAway, "", Severity::Warning)
                .titled(text!("connections were turned away for lack of room"))
                .seen(text!("{} within five minutes", facts.turned_away))
                .hinted(text!("raise the limit of open files, and see who connects by `ss -tn state established`")),
        );
    }
}
