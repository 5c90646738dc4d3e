//! One layer that filters, and what has to be done in it.

use serde::Serialize;

use super::change::Change;
use super::model::{Rule, Ruleset};
use super::needs::Needs;
use super::walk::is_needed;
use crate::sys::net::Family;
use crate::text;
use crate::words::Text;

/// What filters. Several can, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    Firewalld,
    Ufw,
    Nftables,
    Iptables,
    Ip6tables,
}

impl Layer {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firewalld => "firewalld",
            Self::Ufw => "ufw",
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
            Self::Ip6tables => "ip6tables",
        }
    }
}

/// What has to be done in one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub layer: Layer,
    /// In order; additions come before removals, so that nothing is closed in between.
    pub changes: Vec<Change>,
    /// What does not get through now.
    pub closed: Needs,
    /// What rules of ours let in though it is not needed any more.
    pub leftover: Needs,
    /// Whether a restart of the machine would lose what is open now; `None`: it would not.
    pub not_kept: Option<Text>,
    /// What people should know besides.
    pub notes: Vec<Text>,
}

impl Part {
    pub(super) fn of(layer: Layer) -> Self {
        let (closed, leftover) = (Needs::default(), Needs::default());
        Self { layer, changes: Vec::new(), closed, leftover, not_kept: None, notes: Vec::new() }
    }

    /// Tells the rules that may drop some callers, the first few of them.
    pub(super) fn doubt(&mut self, doubts: &[String]) {
        const TOLD: usize = 3;
        self.notes.extend(doubts.iter().take(TOLD).map(|doubt| text!("may drop some callers: {}", doubt)));
    }
}

/// What decides besides the rules themselves.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What has to get through; nothing: everything of ours is taken out.
    pub needs: &'a Needs,
    /// What our rules are called.
    pub tag: &'a str,
    /// Those that this host has addresses of.
    pub families: &'a [Family],
    /// Where callers come in; none: unknown.
    pub interfaces: &'a [String],
}

impl Wanted<'_> {
    pub(super) fn is_ours(&self, rule: &Rule) -> bool {
        rule.comment.as_deref() == Some(self.tag)
    }

    /// Whether a rule of ours lets in something that is not needed.
    pub(super) fn is_stale(&self, rule: &Rule) -> bool {
        let test = &rule.test;
        self.is_ours(rule) && !is_needed(self.needs, test.transports.as_ref(), test.ports.as_ref())
    }

    /// What a rule of ours lets in and is not needed.
    pub(super) fn left_by(&self, rule: &Rule) -> Needs {
        let mut needs = Needs::default();
        if let (Some([transport]), Some(ports)) = (rule.test.transports.as_deref(), &rule.test.ports) {
            *needs.ports_mut(*transport) = ports.clone();
        }
        needs.without(self.needs)
    }
}

/// The ruleset without rules for which `is_out` holds.
pub(super) fn without(rules: &Ruleset, is_out: impl Fn(&Rule) -> bool) -> Ruleset {
    let mut rest = rules.clone();
    rest.chains.values_mut().for_each(|chain| chain.rules.retain(|rule| !is_out(rule)));
    rest
}
