//! ufw: an application profile and one rule for it, added after the operator's own. It is never enabled, and its
//! defaults stay.

use std::path::{Path, PathBuf};

use super::change::Change;
use super::needs::Needs;
use super::part::{Layer, Part, Wanted};
use crate::setup::ports::ufw_profile;
use crate::text;

/// Where profiles are.
pub const PROFILES: &str = "/etc/ufw/applications.d";

/// What ufw says, which is active or has been since something of ours came to be in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Switched off it lets everything through, but keeps what it has been told.
    pub is_active: bool,
    /// Our profile as it is on disk.
    pub profile: Option<String>,
    /// What `ufw show added` lists.
    pub added: String,
    /// Whether it looks after IPv6, too.
    pub has_ipv6: bool,
}

impl Default for Facts {
    fn default() -> Self {
        Self { is_active: true, profile: None, added: String::new(), has_ipv6: false }
    }
}

#[must_use]
pub fn plan(facts: &Facts, wanted: &Wanted<'_>) -> Part {
    let mut part = Part::of(Layer::Ufw);
    let (tag, needs) = (wanted.tag, wanted.needs);
    let file: PathBuf = Path::new(PROFILES).join(tag);
    let rule = format!("ufw allow {tag}");
    let has_rule = facts.added.lines().any(|line| line == rule || line.starts_with(&format!("{rule} comment ")));
    let opened = facts.profile.as_deref().filter(|_| has_rule).map(ports_of_profile).unwrap_or_default();
    let (delete, remove) = (Change::command(&format!("ufw delete allow {tag}")), Change::Remove { path: file.clone() });
    part.leftover = opened.without(needs);
    if needs.is_empty() {
        part.changes.extend(has_rule.then_some(delete));
        part.changes.extend(facts.profile.is_some().then_some(remove));
        return part;
    }
    if facts.is_active {
        part.closed = needs.without(&opened);
    }
    let profile = ufw_profile(tag, &needs.each());
    let is_current = facts.profile.as_ref() == Some(&profile);
    if !is_current {
        // The rule is found by the ports that its profile names, so it goes before they change. `ufw app update` would
        // keep it in place, but flushes and loads all rules.
        part.changes.extend(has_rule.then_some(delete));
        part.changes.push(Change::Write { path: file, text: profile, mode: 0o644 });
    }
    if !(is_current && has_rule) {
        part.changes.push(Change::words(["ufw", "allow", tag, "comment", tag]));
    }
    if facts.is_active && !facts.has_ipv6 {
        part.notes.push(text!(
            "ufw drops all IPv6 on this host (`IPV6=no` in /etc/default/ufw): callers reach it by IPv4 only"
        ));
    }
    part
}

/// What the line `ports=` of a profile opens.
fn ports_of_profile(profile: &str) -> Needs {
    let line = profile.lines().find_map(|line| line.strip_prefix("ports=")).unwrap_or_default();
    let words = line.split('|').flat_map(|group| {
        let (ports, transport) = group.split_once('/').unwrap_or((group, ""));
        ports.split(',').map(move |port| format!("{port}/{transport}"))
    });
    let words: Vec<String> = words.collect();
    Needs::of_words(words.iter().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::net::Family;

    fn planned(facts: &Facts, needs: &[&str]) -> (Vec<String>, Part) {
        let needs = Needs::of_words(needs.iter().copied());
        let wanted = Wanted { needs: &needs, tag: "rtcctl", families: &[Family::V4], interfaces: &[] };
        let part = plan(facts, &wanted);
        (part.changes.iter().map(ToString::to_string).collect(), part)
    }

    fn after(facts: &Facts, part: &Part) -> Facts {
        let mut facts = facts.clone();
        for change in &part.changes {
            match change {
                Change::Write { text, .. } => facts.profile = Some(text.clone()),
                Change::Remove { .. } => facts.profile = None,
                Change::Run(words) if words[1] == "allow" => {
                    facts.added = "ufw allow rtcctl comment 'rtcctl'".to_owned()
                }
                Change::Run(_) => facts.added = String::new(),
            }
        }
        facts
    }

    #[test]
    fn a_profile_and_one_rule_come_change_and_go() {
        let fresh = Facts { has_ipv6: true, added: "ufw allow 22/tcp".to_owned(), ..Facts::default() };
        let (changes, part) = planned(&fresh, &["443/tcp", "49160-51159/udp"]);
        assert_eq!(changes.len(), 2);
        assert!(changes[0].contains("ports=443/tcp|49160:51159/udp"), "{changes:?}");
        assert_eq!(changes[1], "ufw allow rtcctl comment rtcctl");
        let open = after(&fresh, &part);
        let (changes, part) = planned(&open, &["443/tcp", "49160-51159/udp"]);
        assert!(changes.is_empty() && part.closed.is_empty());
        let (changes, part) = planned(&open, &["8443/tcp"]);
        assert_eq!(changes.len(), 3);
        assert_eq!((changes[0].as_str(), part.closed.to_string().as_str()), ("ufw delete allow rtcctl", "8443/tcp"));
        assert_eq!(part.leftover.to_string(), "443/tcp 49160-51159/udp");
        let (changes, _) = planned(&open, &[]);
        assert_eq!(changes, ["ufw delete allow rtcctl", "rm -f /etc/ufw/applications.d/rtcctl"]);
    }

    #[test]
    fn what_a_killed_run_left_is_completed() {
        let (_, part) = planned(&Facts::default(), &["443/tcp"]);
        let Change::Write { text, .. } = &part.changes[0] else { panic!() };
        let half = Facts { profile: Some(text.clone()), ..Facts::default() };
        let off = Facts { is_active: false, ..half.clone() };
        assert_eq!(planned(&off, &[]).0, ["rm -f /etc/ufw/applications.d/rtcctl"]);
        assert!(planned(&off, &["443/tcp"]).1.closed.is_empty(), "what is off drops nothing");
        assert_eq!(planned(&half, &["443/tcp"]).0, ["ufw allow rtcctl comment rtcctl"]);
        assert_eq!(planned(&half, &[]).0, ["rm -f /etc/ufw/applications.d/rtcctl"]);
    }
}
