//! The running service, asked by its control socket and as a caller would.

use super::not_looked_at;
use crate::control::protocol::Severity;
use crate::doctor::check::Check;
use crate::doctor::evidence::{Asked, Evidence, Service};
use crate::doctor::outcome::{Outcome, Problem};
use crate::supervisor::board::State;
use crate::text;
use crate::words::Text;

/// Ends a check of the running service where none runs.
fn not_running() -> Outcome {
    Outcome::Unknown(text!("the service does not run, or does not answer"))
}

pub(super) fn running(evidence: &Evidence) -> Outcome {
    let flag = &evidence.home_flag;
    match &evidence.service {
        None => not_looked_at(),
        Some(Service::Answers(status)) => Outcome::Fine(text!("pid {}, up {} s", status.pid, status.uptime_s)),
        Some(Service::Hidden(why)) => Outcome::Unknown(text!("this user may not ask it: {}", why)),
        Some(Service::Absent) => Outcome::Found(
            Problem::of(Check::Running, Severity::Error, text!("the service does not run"))
                .seen(text!("nothing answers at its control socket, and nothing holds its lock"))
                .fix(Text::verbatim(format!("rtcctl{} start", flag))),
        ),
        Some(Service::Silent(why)) => Outcome::Found(
            Problem::of(Check::Running, Severity::Critical, text!("the service runs and does not answer"))
                .seen(why)
                .fix(Text::verbatim(format!("rtcctl{} restart", flag))),
        ),
    }
}

pub(super) fn version(evidence: &Evidence) -> Outcome {
    let Some(status) = evidence.status() else { return not_running() };
    let own = env!("CARGO_PKG_VERSION");
    if status.version == own {
        return Outcome::Fine(Text::verbatim(own));
    }
    Outcome::Found(
        Problem::of(Check::Version, Severity::Info, text!("the service runs another version than this program"))
            .seen(text!("it is {}, this is {}", status.version, own))
            .fix(Text::verbatim(format!("rtcctl{} restart", evidence.home_flag))),
    )
}

pub(super) fn tasks(evidence: &Evidence) -> Outcome {
    let Some(status) = evidence.status() else { return not_running() };
    let is_up = |state: State| matches!(state, State::Ready | State::Degraded);
    let down: Vec<_> = status.tasks.iter().filter(|task| !is_up(task.state)).collect();
    let Some(first) = down.first() else { return Outcome::Fine(text!("{} tasks", status.tasks.len())) };
    let told = down.iter().map(|task| {
        let why = task.last_error.clone().unwrap_or_else(|| text!("no error is known"));
        text!("{} is {}: {}", task.name.as_str(), task.state.as_str(), why)
    });
    Outcome::Found(
        Problem::of(Check::Tasks, Severity::Critical, text!("{} is down", first.name.as_str()))
            .seen(Text::clauses(told))
            .fix(Text::verbatim(format!("rtcctl{} restart {}", evidence.home_flag, first.name.as_str()))),
    )
}

pub(super) fn answers(check: Check, asked: Asked, evidence: &Evidence) -> Outcome {
    let what = match asked {
        Asked::Web => text!("the page"),
        Asked::Http => text!("the port that redirects to HTTPS"),
        Asked::Signaling => text!("signaling"),
        Asked::Stun => Text::verbatim("STUN"),
        Asked::TurnTcp => text!("TURN by TCP"),
    };
    if evidence.status().is_none() {
        return not_running();
    }
    let asked: Vec<_> = evidence.answers.iter().filter(|answer| answer.what == asked).collect();
    if asked.is_empty() {
        return Outcome::Idle(text!("it is not served"));
    }
    let failing = asked.iter().find_map(|answer| Some((answer.at, answer.outcome.as_ref().err()?)));
    let Some((at, why)) = failing else {
        return Outcome::Fine(Text::verbatim(super::list(asked.iter().map(|answer| answer.at))));
    };
    Outcome::Found(
        Problem::of(check, Severity::Error, text!("{} does not answer on this host", what))
            .seen(text!("{}: {}", at, why))
            .fix(text!("see why: rtcctl{} logs --level warn", evidence.home_flag)),
    )
}

pub(super) fn relay_works(evidence: &Evidence) -> Outcome {
    if evidence.status().is_none() {
        return not_running();
    }
    let Some(relay) = &evidence.relay else { return not_looked_at() };
    if relay.is_hidden {
        return Outcome::Unknown(text!("this user may not read the secrets that credentials are made with"));
    }
    let shown = |address: Option<std::net::SocketAddr>| {
        address.map_or_else(|| text!("none"), |at| Text::verbatim(at.to_string()))
    };
    let candidates = text!("srflx {}, relay {}", shown(relay.mapped), shown(relay.relayed));
    let Some((step, told, why, hint)) = &relay.failing else {
        let (arrived, sent) = relay.packets.unwrap_or_default();
        return Outcome::Fine(text!("{}, {} of {} packets through both relays", candidates, arrived, sent));
    };
    let told = why.as_ref().map_or_else(|| told.clone(), |why| text!("{}: {}", told, why));
    Outcome::Found(
        Problem::of(Check::RelayWorks, Severity::Error, text!("two clients cannot talk through the relay: {}", step))
            .seen(text!("{}; candidates: {}", told, candidates))
            .fix(hint.clone().unwrap_or_else(|| text!("see every step: rtcctl{} turn test", evidence.home_flag))),
    )
}

pub(super) fn relay_refuses(evidence: &Evidence) -> Outcome {
    if evidence.status().is_none() {
        return not_running();
    }
    let Some(relay) = evidence.relay.as_ref().filter(|relay| !relay.is_hidden) else {
        return Outcome::Unknown(text!("the relay could not be asked"));
    };
    match &relay.attack {
        None if relay.failing.is_some() => Outcome::Unknown(text!("the relay could not be asked")),
        None => Outcome::Fine(text!("loopback and cloud metadata")),
        Some(told) => Outcome::Found(
            Problem::of(Check::RelayRefuses, Severity::Critical, text!("the relay reaches what it must not"))
                .seen(told)
                .fix(text!("rtcctl{} stop, and report this", evidence.home_flag)),
        ),
    }
}

/// What the service tells of itself, each by its own code.
pub(super) fn findings(evidence: &Evidence) -> Vec<Outcome> {
    let Some(status) = evidence.status() else { return vec![not_running()] };
    if status.findings.is_empty() {
        return vec![Outcome::Fine(text!("nothing"))];
    }
    let problem = |finding: &crate::control::protocol::Finding| Problem {
        code: finding.code.clone(),
        ..Problem::of(Check::Findings, finding.severity, &finding.title)
            .seen(text!("{}, since {}", finding.evidence, finding.since))
            .fix(&finding.hint)
    };
    status.findings.iter().map(|finding| Outcome::Found(problem(finding))).collect()
}
