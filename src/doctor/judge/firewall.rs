//! Whether packets from elsewhere pass this host's own firewall.

use super::{list, not_looked_at, without_config};
use crate::control::protocol::Severity;
use crate::doctor::check::Check;
use crate::doctor::evidence::{Evidence, Fate, Passage, Purpose, Rules};
use crate::doctor::outcome::{Outcome, Problem};
use crate::setup::firewall::{Drift, Needs};
use crate::word;

fn rules(evidence: &Evidence) -> Result<&Rules, Box<Outcome>> {
    if evidence.good_config().is_none() {
        return Err(Box::new(without_config()));
    }
    match &evidence.rules {
        None => Err(Box::new(not_looked_at())),
        Some(Err(why)) => Err(Box::new(Outcome::Unknown(why.clone()))),
        Some(Ok(rules)) => Ok(rules),
    }
}

fn opens(evidence: &Evidence) -> String {
    let sudo = if evidence.is_root { "" } else { "sudo " };
    format!("{sudo}rtcctl{} firewall open", evidence.home_flag)
}

/// Whether rules of ours are as they were made, and made for what is needed now.
pub(super) fn drift(evidence: &Evidence) -> Outcome {
    let rules = match rules(evidence) {
        Ok(rules) => rules,
        Err(outcome) => return *outcome,
    };
    if rules.waits {
        return Outcome::Unknown("a change of it waits to be confirmed: `rtcctl firewall confirm`".to_owned());
    }
    let (mut lost, mut lacking, mut leftover, mut seen) =
        (Needs::default(), Needs::default(), Needs::default(), Vec::new());
    let mut not_kept = Vec::new();
    for drift in &rules.drifts {
        match drift {
            Drift::Closed { layer, ports } => {
                let new = ports.without(&rules.opened);
                lost = lost.or(&ports.without(&new));
                lacking = lacking.or(&new);
                seen.push(format!("{} drops {ports}", layer.as_str()));
            }
            Drift::Leftover { layer, ports } => {
                leftover = leftover.or(ports);
                seen.push(format!("{} lets in {ports}, which is needed no more", layer.as_str()));
            }
            Drift::NotKept { layer, why } => not_kept.push(format!("{}: {why}", layer.as_str())),
        }
    }
    if rules.opened.is_empty() && leftover.is_empty() {
        return Outcome::Idle("rtcctl has opened nothing in it".to_owned());
    }
    let (severity, title) = if !lost.is_empty() {
        (Severity::Error, "what rtcctl opened in the firewall is closed again")
    } else if !lacking.is_empty() {
        (Severity::Error, "the firewall was opened for other ports than are needed now")
    } else if !leftover.is_empty() {
        (Severity::Warning, "the firewall lets in by rules of ours what is needed no more")
    } else if !not_kept.is_empty() {
        let problem = Problem::of(
            Check::FirewallDrift,
            Severity::Info,
            word!("a restart of this machine closes what rtcctl opened in the firewall"),
        );
        let fix = format!("put the rules into what is loaded at boot, or run `{}` after a restart", opens(evidence));
        return Outcome::Found(problem.seen(list(not_kept)).fix(fix));
    } else {
        return Outcome::Fine(format!("open for {}", rules.opened));
    };
    Outcome::Found(
        Problem::of(Check::FirewallDrift, severity, title)
            .seen(list(seen))
            .fix(opens(evidence))
            .remedied(rules.remedy.clone()),
    )
}

/// Compares the relay's ports with those that the rules let in.
pub(super) fn range(evidence: &Evidence) -> Outcome {
    let rules = match rules(evidence) {
        Ok(rules) => rules,
        Err(outcome) => return *outcome,
    };
    let Some(config) = evidence.good_config() else { return without_config() };
    let range = &config.turn.relay_ports;
    let relay = format!("{}-{}/udp", range.start(), range.end());
    if !rules.filters {
        return Outcome::Idle("nothing filters on this host".to_owned());
    }
    let closed = &rules.relay_closed;
    // What was read may be wrong about what it does not know; a packet is not.
    let passages = evidence.passages.iter().flatten().flat_map(|passages| &passages.tried);
    let tried: Vec<&Passage> = passages
        .filter(|one| one.purpose == Purpose::Relay && closed.contains(one.to.port()))
        .filter(|one| !matches!(one.fate, Fate::Untried(_)))
        .collect();
    let is_refuted = !tried.is_empty() && tried.iter().all(|one| one.fate == Fate::Passed);
    if closed.is_empty() || is_refuted {
        return Outcome::Fine(format!("all of {relay}"));
    }
    let how_much = if closed.len() == range.len() { "the relay range" } else { "a part of the relay range" };
    Outcome::Found(
        Problem::of(Check::FirewallRange, Severity::Error, format!("the firewall drops {how_much}"))
            .seen(format!(
                "the relay uses {relay}, of which {}/udp is dropped by {}",
                closed.text("-", ","),
                list(&rules.relay_closed_by)
            ))
            .fix(opens(evidence)),
    )
}

pub(super) fn passage(check: Check, purpose: Purpose, evidence: &Evidence) -> Outcome {
    let Some(config) = evidence.good_config() else { return without_config() };
    let (what, severity) = match purpose {
        Purpose::Web => ("the HTTPS port", Severity::Error),
        Purpose::Http => ("the HTTP port", Severity::Warning),
        Purpose::TurnUdp => ("the UDP port of STUN and TURN", Severity::Error),
        Purpose::TurnTcp => ("a TCP port of TURN", Severity::Error),
        Purpose::Relay => ("the relay range", Severity::Error),
    };
    if purpose == Purpose::Http && config.web.http_port.is_none() {
        return Outcome::Idle("there is none".to_owned());
    }
    let passages = match &evidence.passages {
        None => return not_looked_at(),
        Some(Err(why)) => return Outcome::Unknown(why.clone()),
        Some(Ok(passages)) => passages,
    };
    let tried: Vec<&Passage> = passages.tried.iter().filter(|one| one.purpose == purpose).collect();
    let is_closed = |one: &&&Passage| matches!(one.fate, Fate::Lost | Fate::Rejected);
    let closed: Vec<&&Passage> = tried.iter().filter(is_closed).collect();
    let Some(first) = closed.first() else {
        let passed: Vec<_> = tried.iter().filter(|one| one.fate == Fate::Passed).map(|one| one.to).collect();
        if !passed.is_empty() {
            return Outcome::Fine(format!("a packet to {} arrives", list(passed)));
        }
        let why = tried.iter().find_map(|one| match &one.fate {
            Fate::Untried(why) => Some(why.clone()),
            Fate::Passed | Fate::Lost | Fate::Rejected => None,
        });
        return why.map_or_else(|| Outcome::Idle("it is not served".to_owned()), Outcome::Unknown);
    };
    let how = if first.fate == Fate::Rejected { "is rejected" } else { "does not arrive" };
    let seen =
        format!("sent from a network made for this, a packet to {} {how}", list(closed.iter().map(|one| one.to)));
    if passages.by_interface {
        return Outcome::Unknown(format!("{seen}; but the rules name interfaces, and callers come by another one"));
    }
    Outcome::Found(
        Problem::of(check, severity, format!("a packet to {what} does not pass this host's firewall"))
            .seen(seen)
            .fix(opens(evidence)),
    )
}
