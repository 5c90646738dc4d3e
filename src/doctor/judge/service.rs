//! The running service, asked by its control socket and as a caller would.

use super::not_looked_at;
use crate::control::protocol::Severity;
use crate::doctor::check::Check;
use crate::doctor::evidence::{Asked, Evidence, Service};
use crate::doctor::outcome::{Outcome, Problem};
use crate::supervisor::board::State;

/// Ends a check of the running service where none runs.
fn not_running() -> Outcome {
    Outcome::Unknown("the service does not run, or does not answer".to_owned())
}

pub(super) fn running(evidence: &Evidence) -> Outcome {
    let flag = &evidence.home_flag;
    match &evidence.service {
        None => not_looked_at(),
        Some(Service::Answers(status)) => Outcome::Fine(format!("pid {}, up {} s", status.pid, status.uptime_s)),
        Some(Service::Hidden(why)) => Outcome::Unknown(format!("this user may not ask it: {why}")),
        Some(Service::Absent) => Outcome::Found(
            Problem::of(Check::Running, Severity::Error, "the service does not run")
                .seen("nothing answers at its control socket, and nothing holds its lock")
                .fix(format!("rtcctl{flag} start")),
        ),
        Some(Service::Silent(why)) => Outcome::Found(
            Problem::of(Check::Running, Severity::Critical, "the service runs and does not answer")
                .seen(why.as_str())
                .fix(format!("rtcctl{flag} restart")),
        ),
    }
}

pub(super) fn version(evidence: &Evidence) -> Outcome {
    let Some(status) = evidence.status() else { return not_running() };
    let own = env!("CARGO_PKG_VERSION");
    if status.version == own {
        return Outcome::Fine(own.to_owned());
    }
    Outcome::Found(
        Problem::of(Check::Version, Severity::Info, "the service runs another version than this program")
            .seen(format!("it is {}, this is {own}", status.version))
            .fix(format!("rtcctl{} restart", evidence.home_flag)),
    )
}

pub(super) fn tasks(evidence: &Evidence) -> Outcome {
    let Some(status) = evidence.status() else { return not_running() };
    let is_up = |state: State| matches!(state, State::Ready | State::Degraded);
    let down: Vec<_> = status.tasks.iter().filter(|task| !is_up(task.state)).collect();
    let Some(first) = down.first() else { return Outcome::Fine(format!("{} tasks", status.tasks.len())) };
    let told = down.iter().map(|task| {
        let why = task.last_error.as_deref().unwrap_or("no error is known");
        format!("{} is {}: {why}", task.name.as_str(), task.state.as_str())
    });
    Outcome::Found(
        Problem::of(Check::Tasks, Severity::Critical, format!("{} is down", first.name.as_str()))
            .seen(told.collect::<Vec<_>>().join("; "))
            .fix(format!("rtcctl{} restart {}", evidence.home_flag, first.name.as_str())),
    )
}

pub(super) fn answers(check: Check, asked: Asked, evidence: &Evidence) -> Outcome {
    let what = match asked {
        Asked::Web => "the page",
        Asked::Http => "the port that redirects to HTTPS",
        Asked::Signaling => "signaling",
        Asked::Stun => "STUN",
        Asked::TurnTcp => "TURN by TCP",
    };
    if evidence.status().is_none() {
        return not_running();
    }
    let asked: Vec<_> = evidence.answers.iter().filter(|answer| answer.what == asked).collect();
    if asked.is_empty() {
        return Outcome::Idle("it is not served".to_owned());
    }
    let failing = asked.iter().find_map(|answer| Some((answer.at, answer.outcome.as_ref().err()?)));
    let Some((at, why)) = failing else {
        return Outcome::Fine(super::list(asked.iter().map(|answer| answer.at)));
    };
    Outcome::Found(
        Problem::of(check, Severity::Error, format!("{what} does not answer on this host"))
            .seen(format!("{at}: {why}"))
            .fix(format!("see why: rtcctl{} logs --level warn", evidence.home_flag)),
    )
}

pub(super) fn relay_works(evidence: &Evidence) -> Outcome {
    if evidence.status().is_none() {
        return not_running();
    }
    let Some(relay) = &evidence.relay else { return not_looked_at() };
    if relay.is_hidden {
        return Outcome::Unknown("this user may not read the secrets that credentials are made with".to_owned());
    }
    let shown = |address: Option<std::net::SocketAddr>| address.map_or_else(|| "none".to_owned(), |at| at.to_string());
    let candidates = format!("srflx {}, relay {}", shown(relay.mapped), shown(relay.relayed));
    let Some((step, told, why, hint)) = &relay.failing else {
        let (arrived, sent) = relay.packets.unwrap_or_default();
        return Outcome::Fine(format!("{candidates}, {arrived} of {sent} packets through both relays"));
    };
    let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    Outcome::Found(
        Problem::of(Check::RelayWorks, Severity::Error, format!("two clients cannot talk through the relay: {step}"))
            .seen(format!("{told}{why}; candidates: {candidates}"))
            .fix(hint.clone().unwrap_or_else(|| format!("see every step: rtcctl{} turn test", evidence.home_flag))),
    )
}

pub(super) fn relay_refuses(evidence: &Evidence) -> Outcome {
    if evidence.status().is_none() {
        return not_running();
    }
    let Some(relay) = evidence.relay.as_ref().filter(|relay| !relay.is_hidden) else {
        return Outcome::Unknown("the relay could not be asked".to_owned());
    };
    match &relay.attack {
        None if relay.failing.is_some() => Outcome::Unknown("the relay could not be asked".to_owned()),
        None => Outcome::Fine("loopback and cloud metadata".to_owned()),
        Some(told) => Outcome::Found(
            Problem::of(Check::RelayRefuses, Severity::Critical, "the relay reaches what it must not")
                .seen(told.as_str())
                .fix(format!("rtcctl{} stop, and report this", evidence.home_flag)),
        ),
    }
}

/// What the service tells of itself, each by its own code.
pub(super) fn findings(evidence: &Evidence) -> Vec<Outcome> {
    let Some(status) = evidence.status() else { return vec![not_running()] };
    if status.findings.is_empty() {
        return vec![Outcome::Fine("nothing".to_owned())];
    }
    let problem = |finding: &crate::control::protocol::Finding| Problem {
        code: finding.code.clone(),
        ..Problem::of(Check::Findings, finding.severity, finding.title.as_str())
            .seen(format!("{}, since {}", finding.evidence, finding.since))
            .fix(finding.hint.as_str())
    };
    status.findings.iter().map(|finding| Outcome::Found(problem(finding))).collect()
}
