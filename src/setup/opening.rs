//! Decides what `init` does about the host's own firewall: carries commands out, shows them, or passes over it.

use super::firewall::{self, Change, Detected, Needs, Tool};
use super::plan::Objection;
use super::ports::PortUse;
use crate::text;
use crate::words::Text;

/// What is to be done about the firewall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FirewallChoice {
    /// Let callers in, as a step like any other.
    Apply,
    /// Show how, and change nothing.
    #[default]
    Show,
    Skip,
}

impl FirewallChoice {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Show => "show",
            Self::Skip => "skip",
        }
    }
}

/// What is known of the firewall.
#[derive(Debug, Clone, Default)]
pub struct FirewallFacts {
    /// Tools that are there, whether they filter or not.
    pub tools: Vec<Tool>,
    pub sight: Sight,
}

/// Whether it can be seen what filters.
#[derive(Debug, Clone, Default)]
pub enum Sight {
    /// Nobody has looked.
    #[default]
    Unasked,
    NeedsRoot,
    /// It cannot be seen; why.
    Hidden(Text),
    /// A change waits to be confirmed, for so many seconds more.
    Waits(u64),
    Seen(Box<Detected>),
}

/// What the choice comes to.
#[derive(Debug, Clone, Default)]
pub struct Opening {
    pub choice: FirewallChoice,
    pub needs: Needs,
    /// What would be done, where it can be seen what filters.
    pub planned: Option<firewall::Plan>,
    /// Where not: what each tool that is there would be told.
    pub by_tool: Vec<(Tool, Vec<String>)>,
}

impl Opening {
    /// The commands that are carried out.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        if self.choice == FirewallChoice::Apply { self.possible() } else { Vec::new() }
    }

    /// Whether there is something to decide about.
    #[must_use]
    pub fn is_open_question(&self) -> bool {
        let is_refused = self.planned.as_ref().is_some_and(|plan| plan.refusal.is_some());
        self.choice == FirewallChoice::Show && !is_refused && !self.possible().is_empty()
    }

    fn possible(&self) -> Vec<Change> {
        self.planned.iter().flat_map(|plan| plan.changes().cloned()).collect()
    }
}

/// What has to be done so that callers come to `ports` of the home that is known by `tag`.
pub(super) fn opening(choice: FirewallChoice, ports: &[PortUse], facts: &FirewallFacts, tag: &str) -> Opening {
    let needs = Needs::of(ports);
    let (planned, by_tool) = match (&facts.sight, choice) {
        (_, FirewallChoice::Skip) => (None, Vec::new()),
        (Sight::Seen(detected), _) => (Some(firewall::plan(detected, &needs, tag)), Vec::new()),
        (Sight::Unasked | Sight::NeedsRoot | Sight::Hidden(_) | Sight::Waits(_), _) => {
            (None, facts.tools.iter().map(|tool| (*tool, tool.commands(ports))).collect())
        }
    };
    Opening { choice, needs, planned, by_tool }
}

/// Why the firewall cannot be opened.
pub(super) fn objection(opening: &Opening, facts: &FirewallFacts) -> Option<Objection> {
    if opening.choice != FirewallChoice::Apply {
        return None;
    }
    let by_hand = || text!("leave it as it is by `--firewall show`, and open the ports by hand");
    match &facts.sight {
        Sight::NeedsRoot => Some(Objection {
            code: "firewall-needs-root",
            what: text!("the firewall can be opened by root only"),
            hint: text!("run it by `sudo`, or leave the firewall as it is by `--firewall show`"),
        }),
        Sight::Hidden(why) => Some(Objection {
            code: "firewall-unreadable",
            what: text!("it cannot be seen what filters on this host: {}", why),
            hint: by_hand(),
        }),
        Sight::Waits(seconds) => Some(Objection {
            code: "firewall-waits",
            what: text!("an earlier change of the firewall waits to be confirmed, for {} s more", seconds),
            hint: text!("run `rtcctl firewall confirm`, or take it back by `rtcctl firewall close`"),
        }),
        Sight::Unasked => None,
        Sight::Seen(_) => opening.planned.as_ref()?.refusal.as_ref().map(|why| Objection {
            code: "firewall-refused",
            what: text!("the firewall is not touched: {}", why),
            hint: by_hand(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::firewall::ufw;
    use crate::sys::ports::Transport;

    fn ports() -> [PortUse; 1] {
        [PortUse { transport: Transport::Tcp, ports: 443..=443, why: "" }]
    }

    fn seen() -> FirewallFacts {
        let ufw = Some(ufw::Facts { has_ipv6: true, ..ufw::Facts::default() });
        let detected = Detected { ufw, ..Detected::default() };
        FirewallFacts { tools: vec![Tool::Ufw], sight: Sight::Seen(Box::new(detected)) }
    }

    #[test]
    fn only_what_was_chosen_is_carried_out_and_what_is_shown_can_be_asked_about() {
        for (choice, changes, is_question) in
            [(FirewallChoice::Apply, 2, false), (FirewallChoice::Show, 0, true), (FirewallChoice::Skip, 0, false)]
        {
            let opening = opening(choice, &ports(), &seen(), "rtcctl");
            assert_eq!((opening.changes().len(), opening.is_open_question()), (changes, is_question), "{choice:?}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_shown_by_tool_and_never_opened() {
        for (sight, code) in [
            (Sight::NeedsRoot, "firewall-needs-root"),
            (Sight::Hidden("no".into()), "firewall-unreadable"),
            (Sight::Waits(7), "firewall-waits"),
        ] {
            let facts = FirewallFacts { sight, ..seen() };
            let shown = opening(FirewallChoice::Show, &ports(), &facts, "rtcctl");
            assert_eq!(shown.by_tool[0].1, ["ufw allow 443/tcp"]);
            assert_eq!(objection(&shown, &facts), None);
            let applied = opening(FirewallChoice::Apply, &ports(), &facts, "rtcctl");
            assert_eq!((objection(&applied, &facts).unwrap().code, applied.changes()), (code, Vec::new()));
        }
    }
}
