//! The ports that the service wants.

use super::without_config;
use crate::control::protocol::Severity;
use crate::doctor::check::Check;
use crate::doctor::evidence::{Evidence, Port, PortState};
use crate::doctor::outcome::{Outcome, Problem};
use crate::text;
use crate::words::Text;

/// Programs that often have such a port already, and how each is had to give it up.
const KNOWN: [(&str, &str); 8] = [
    ("nginx", "sudo systemctl disable --now nginx"),
    ("apache2", "sudo systemctl disable --now apache2"),
    ("httpd", "sudo systemctl disable --now httpd"),
    ("caddy", "sudo systemctl disable --now caddy"),
    ("lighttpd", "sudo systemctl disable --now lighttpd"),
    ("haproxy", "sudo systemctl disable --now haproxy"),
    ("traefik", "sudo systemctl disable --now traefik"),
    ("turnserver", "sudo systemctl disable --now coturn"),
];

pub(super) fn privilege(evidence: &Evidence) -> Outcome {
    if evidence.good_config().is_none() {
        return without_config();
    }
    let denied: Vec<&Port> = evidence.ports.iter().filter(|port| port.state == PortState::Forbidden).collect();
    let Some(first) = denied.first() else { return Outcome::Fine(text!("all of them")) };
    Outcome::Found(
        Problem::of(Check::PortPrivilege, Severity::Error, text!("this user may not have ports below 1024"))
            .seen(text!("wanted: {}", Text::list(denied.iter().map(|port| told(port)))))
            .fix(text!("sudo rtcctl{} start, or set `{}` to a port above 1023", evidence.home_flag, first.key)),
    )
}

pub(super) fn taken(evidence: &Evidence) -> Outcome {
    if evidence.good_config().is_none() {
        return without_config();
    }
    let taken: Vec<(&Port, Option<&String>)> = evidence
        .ports
        .iter()
        .filter_map(|port| match &port.state {
            PortState::Taken(by) => Some((port, by.as_ref())),
            PortState::Free | PortState::Ours | PortState::Forbidden => None,
        })
        .collect();
    let Some((first, holder)) = taken.first() else {
        let ports = evidence.ports.len();
        return Outcome::Fine(text!("{} ports are free or ours", ports));
    };
    let seen = Text::list(taken.iter().map(|(port, by)| match by {
        Some(by) => text!("`{}` has {}", by, told(port)),
        None => text!("another user's process has {}", told(port)),
    }));
    let known = holder.and_then(|holder| {
        let name = holder.split_whitespace().next().unwrap_or_default();
        KNOWN.iter().find(|(program, _)| *program == name).map(|(_, fix)| Text::verbatim(*fix))
    });
    let fix = known.unwrap_or_else(|| match holder {
        Some(holder) => text!("stop `{}`, or set `{}` to another port", holder, first.key),
        None => text!(
            "see as root who has it (`sudo ss -lpn sport = :{}`), or set `{}` to another port",
            first.port,
            first.key
        ),
    });
    Outcome::Found(
        Problem::of(Check::PortTaken, Severity::Critical, text!("another program has {}", told(first)))
            .seen(seen)
            .fix(fix),
    )
}

pub(super) fn relay_range(evidence: &Evidence) -> Outcome {
    let (Some(config), Some(range)) = (evidence.good_config(), evidence.relay_range) else { return without_config() };
    let foreign = range.bound.saturating_sub(range.ours);
    let quota = u64::from(config.turn.total_quota);
    let left = range.ports.saturating_sub(foreign);
    let seen = text!("of {} ports {} are in use by others, and {} callers may be relayed", range.ports, foreign, quota);
    // A port may lie in the range from which the kernel serves everybody, so that a few are always in use.
    if foreign * 10 <= range.ports {
        return Outcome::Fine(seen);
    }
    let severity = if left < quota.min(range.ports) / 2 { Severity::Error } else { Severity::Warning };
    Outcome::Found(
        Problem::of(Check::RelayRange, severity, text!("many of the relay's ports are in use by others"))
            .seen(seen)
            .fix(text!("set `turn.relay_ports` to another range, and open that in the firewall")),
    )
}

fn told(port: &Port) -> Text {
    text!("port {}/{} (`{}`)", port.port, port.transport, port.key)
}
