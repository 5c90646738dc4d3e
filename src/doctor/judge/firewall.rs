//! Whether packets from elsewhere pass this host's own firewall.

use super::{list, not_looked_at, without_config};
use crate::control::protocol::Severity;
use crate::doctor::check::Check;
use crate::doctor::evidence::{Evidence, Fate, Passage, Purpose, Rules};
use crate::doctor::outcome::{Outcome, Problem};
use crate::setup::firewall::{Drift, Needs};
use crate::text;
use crate::words::Text;

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
        return Outcome::Unknown(text!("a change of it waits to be confirmed: `rtcctl firewall confirm`"));
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
                seen.push(text!("{} drops {}", layer.as_str(), ports));
            }
            Drift::Leftover { layer, ports } => {
                leftover = leftover.or(ports);
                seen.push(text!("{} lets in {}, which is needed no more", layer.as_str(), ports));
            }
            Drift::NotKept { layer, why } => not_kept.push(text!("{}: {}", layer.as_str(), why)),
        }
    }
    if rules.opened.is_empty() && leftover.is_empty() {
        return Outcome::Idle(text!("rtcctl has opened nothing in it"));
    }
    let (severity, title) = if !lost.is_empty() {
        (Severity::Error, text!("what rtcctl opened in the firewall is closed again"))
    } else if !lacking.is_empty() {
        (Severity::Error, text!("the firewall was opened for other ports than are needed now"))
    } else if !leftover.is_empty() {
        (Severity::Warning, text!("the firewall lets in by rules of ours what is needed no more"))
    } else if !not_kept.is_empty() {
        let problem = Problem::of(
            Check::FirewallDrift,
            Severity::Info,
            text!("a restart of this machine closes what rtcctl opened in the firewall"),
        );
        let fix = text!("put the rules into what is loaded at boot, or run `{}` after a restart", opens(evidence));
        return Outcome::Found(problem.seen(Text::list(not_kept)).fix(fix));
    } else {
        return Outcome::Fine(text!("open for {}", rules.opened));
    };
    Outcome::Found(
        Problem::of(Check::FirewallDrift, severity, title)
            .seen(Text::list(seen))
            .fix(Text::verbatim(opens(evidence)))
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
        return Outcome::Idle(text!("nothing filters on this host"));
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
        return Outcome::Fine(text!("all of {}", relay));
    }
    let how_much =
        if closed.len() == range.len() { text!("the relay range") } else { text!("a part of the relay range") };
    Outcome::Found(
        Problem::of(Check::FirewallRange, Severity::Error, text!("the firewall drops {}", how_much))
            .seen(text!(
                "the relay uses {}, of which {}/udp is dropped by {}",
                relay,
                closed.text("-", ","),
                list(&rules.relay_closed_by)
            ))
            .fix(Text::verbatim(opens(evidence))),
    )
}

pub(super) fn passage(check: Check, purpose: Purpose, evidence: &Evidence) -> Outcome {
    let Some(config) = evidence.good_config() else { return without_config() };
    let (what, severity) = match purpose {
        Purpose::Web => (text!("the HTTPS port"), Severity::Error),
        Purpose::Http => (text!("the HTTP port"), Severity::Warning),
        Purpose::TurnUdp => (text!("the UDP port of STUN and TURN"), Severity::Error),
        Purpose::TurnTcp => (text!("a TCP port of TURN"), Severity::Error),
        Purpose::Relay => (text!("the relay range"), Severity::Error),
    };
    if purpose == Purpose::Http && config.web.http_port.is_none() {
        return Outcome::Idle(text!("there is none"));
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
            return Outcome::Fine(text!("a packet to {} arrives", list(passed)));
        }
        let why = tried.iter().find_map(|one| match &one.fate {
            Fate::Untried(why) => Some(why.clone()),
            Fate::Passed | Fate::Lost | Fate::Rejected => None,
        });
        return why.map_or_else(|| Outcome::Idle(text!("it is not served")), Outcome::Unknown);
    };
    let how = if first.fate == Fate::Rejected { text!("is rejected") } else { text!("does not arrive") };
    let seen =
        text!("sent from a network made for this, a packet to {} {}", list(closed.iter().map(|one| one.to)), how);
    if passages.by_interface {
        return Outcome::Unknown(text!("{}; but the rules name interfaces, and callers come by another one", seen));
    }
    Outcome::Found(
        Problem::of(check, severity, text!("a packet to {} does not pass this host's firewall", what))
            .seen(seen)
            .fix(Text::verbatim(opens(evidence))),
    )
}
