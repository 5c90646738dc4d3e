//! Whether packets from elsewhere pass this host's own firewall.

use super::{list, not_looked_at, without_config};
use crate::control::protocol::Severity;
use crate::doctor::check::Check;
use crate::doctor::evidence::{Evidence, Fate, Passage, Purpose};
use crate::doctor::outcome::{Outcome, Problem};

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
    let opens = if evidence.is_root { "" } else { "sudo " };
    Outcome::Found(
        Problem::of(check, severity, format!("a packet to {what} does not pass this host's firewall"))
            .seen(seen)
            .fix(format!("{opens}rtcctl{} firewall open", evidence.home_flag)),
    )
}
