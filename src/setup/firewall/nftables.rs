//! nftables: a rule before the one that drops, in the chain that decides. To accept in a table of our own would open
//! nothing: every base chain has to let a packet through.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::change::Change;
use super::model::{ChainName, Ruleset};
use super::needs::Needs;
use super::part::{Layer, Part, Wanted, without};
use super::walk::{Passage, walk};
use crate::text;
use crate::words::Text;

/// The file that the service of Debian and others loads at boot.
pub const BOOT_FILE: &str = "/etc/nftables.conf";

/// What filters now, and what would after a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    pub rules: Ruleset,
    pub boot: Boot,
}

/// What the machine would load when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// Nobody here can say, for this reason.
    Unknown(Text),
    /// The rules as a kernel takes them, and the file of ours that is loaded with them, with what is in it now.
    Known { rules: Ruleset, file: PathBuf, text: Option<String> },
}

impl Default for Boot {
    fn default() -> Self {
        Self::Unknown(text!("there is no `{}`", BOOT_FILE))
    }
}

/// The folder whose files `nftables.conf` loads after its own rules, if it says so in a way that is safe to use.
#[must_use]
pub fn included_folder(text: &str) -> Option<PathBuf> {
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty() && !line.starts_with('#'))?;
    let pattern = last.strip_prefix("include")?.trim().trim_end_matches(';').trim().trim_matches('"');
    let folder = ["/*.nft", "/*.conf"].iter().find_map(|ending| pattern.strip_suffix(ending))?;
    (folder.starts_with('/') && !folder.contains('*')).then(|| PathBuf::from(folder))
}

/// The ending that the files of that folder must have.
#[must_use]
pub fn included_ending(text: &str) -> &'static str {
    if text.trim_end().trim_end_matches([';', '"']).ends_with(".conf") { "conf" } else { "nft" }
}

#[must_use]
pub fn plan(facts: &Facts, wanted: &Wanted<'_>) -> Part {
    let mut part = Part::of(Layer::Nftables);
    let passage = passage(&without(&facts.rules, |rule| wanted.is_stale(rule)), wanted);
    part.closed = self::passage(&facts.rules, wanted).closed();
    part.doubt(&passage.doubts);
    part.changes = additions(&passage, wanted.tag);
    for (name, chain) in &facts.rules.chains {
        for rule in chain.rules.iter().filter(|rule| wanted.is_stale(rule)) {
            part.leftover = part.leftover.or(&wanted.left_by(rule));
            let handle = rule.place.0.to_string();
            part.changes.push(Change::command(&format!("nft delete rule {name} handle {handle}")));
        }
    }
    keep(&facts.boot, wanted, &mut part, filters(facts, wanted));
    part
}

/// Whether anything of ours is needed here, or there.
fn filters(facts: &Facts, wanted: &Wanted<'_>) -> bool {
    !passage(&without(&facts.rules, |rule| wanted.is_ours(rule)), wanted).blocked.is_empty()
}

fn passage(rules: &Ruleset, wanted: &Wanted<'_>) -> Passage {
    walk(rules, wanted.needs, wanted.families, wanted.interfaces)
}

fn additions(passage: &Passage, tag: &str) -> Vec<Change> {
    let mut changes = Vec::new();
    for (point, needs) in &passage.blocked {
        for (transport, ports) in needs.each() {
            let (set, comment, transport) = (format!("{{ {ports} }}"), format!("\"{tag}\""), transport.to_string());
            let mut words: Vec<String> = match point.before {
                Some(place) => format!("nft insert rule {} handle {}", point.chain, place.0),
                None => format!("nft add rule {}", point.chain),
            }
            .split(' ')
            .map(str::to_owned)
            .collect();
            words.extend([&transport, "dport", &set, "accept", "comment", &comment].map(str::to_owned));
            changes.push(Change::Run(words));
        }
    }
    changes
}

/// Has the rules loaded at boot, where that is safe, or says why not.
fn keep(boot: &Boot, wanted: &Wanted<'_>, part: &mut Part, filters: bool) {
    match boot {
        Boot::Unknown(why) if filters => part.not_kept = Some(why.clone()),
        Boot::Unknown(_) => {}
        Boot::Known { rules, file, text } => {
            let theirs = without(rules, |rule| wanted.is_ours(rule));
            let needed = boot_text(&passage(&theirs, wanted), wanted.tag);
            if needed == *text {
                return;
            }
            part.changes.push(match needed {
                Some(text) => Change::Write { path: file.clone(), text, mode: 0o644 },
                None => Change::Remove { path: file.clone() },
            });
        }
    }
}

/// A file that adds our rules to chains that are there. A chain that is not there any more does no harm: it is made, and
/// nothing leads to it.
fn boot_text(passage: &Passage, tag: &str) -> Option<String> {
    if passage.blocked.is_empty() {
        return None;
    }
    let mut text = format!("# Made by `rtcctl firewall open`, taken out by `rtcctl firewall close`. Name: {tag}\n");
    for (point, needs) in &passage.blocked {
        let ChainName { table, chain } = &point.chain;
        let _ = writeln!(text, "table {table} {{\n\tchain {chain} {{\n\t}}\n}}");
        let verb = if point.before.is_some() { "insert" } else { "add" };
        for line in rule_lines(needs, tag) {
            let _ = writeln!(text, "{verb} rule {table} {chain} {line}");
        }
    }
    Some(text)
}

fn rule_lines(needs: &Needs, tag: &str) -> Vec<String> {
    let each = needs.each().into_iter();
    each.map(|(transport, ports)| format!("{transport} dport {{ {ports} }} accept comment \"{tag}\"")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::firewall::nft_json::read_ruleset;
    use crate::sys::net::Family;

    /// As nft wrote it: a default-drop input chain that sends what comes by eth0 on to a chain of its own.
    const RULES: &str = include_str!("testdata/nft.json");

    fn shown(needs: &[&str], interfaces: &[&str]) -> (Vec<String>, Part) {
        let rules = read_ruleset(RULES, |_, _| false).unwrap();
        let facts = Facts { rules, boot: Boot::default() };
        let needs = Needs::of_words(needs.iter().copied());
        let interfaces: Vec<String> = interfaces.iter().map(|name| (*name).to_owned()).collect();
        let families = [Family::V4, Family::V6];
        let wanted = Wanted { needs: &needs, tag: "rtcctl", families: &families, interfaces: &interfaces };
        let part = plan(&facts, &wanted);
        (part.changes.iter().map(ToString::to_string).collect(), part)
    }

    #[test]
    fn the_rule_goes_before_the_drop_of_the_chain_that_decides() {
        let (changes, part) = shown(&["443/tcp", "22/tcp", "5500/udp"], &["eth0"]);
        // What was let in by the operator's own rules needs none; by eth0 the chain `wan` decides, whatever comes later.
        let wanted = [
            "nft insert rule inet filter wan handle 6 tcp dport '{ 443 }' accept comment '\"rtcctl\"'",
            "nft insert rule inet filter wan handle 6 udp dport '{ 5500 }' accept comment '\"rtcctl\"'",
        ];
        assert_eq!(changes, wanted);
        assert_eq!(part.closed.to_string(), "443/tcp 5500/udp");
        // A list of addresses keeps its say.
        assert_eq!(part.notes, [text!("may drop some callers: {}", "inet filter wan: rule 5")]);
        assert!(part.not_kept.is_some());
    }

    #[test]
    fn by_another_interface_another_rule_decides_and_each_family_has_its_own() {
        let (changes, part) = shown(&["443/tcp", "5500/udp", "8005/tcp", "25/tcp"], &["eth7"]);
        let wanted = [
            // The reject that is for IPv6 alone, and the one for both.
            "nft insert rule inet filter input handle 19 tcp dport '{ 25, 443 }' accept comment '\"rtcctl\"'",
            "nft insert rule inet filter input handle 24 tcp dport '{ 25, 443 }' accept comment '\"rtcctl\"'",
        ];
        assert_eq!(changes, wanted);
        assert_eq!(part.closed.to_string(), "25,443/tcp");
    }

    #[test]
    fn a_folder_is_used_only_if_the_boot_file_loads_it_last() {
        let folder = |text: &str| included_folder(text).map(|folder| folder.display().to_string());
        let conf = "flush ruleset\ntable inet filter {\n}\ninclude \"/etc/nftables.d/*.nft\"\n# the end\n";
        assert_eq!(folder(conf).as_deref(), Some("/etc/nftables.d"));
        assert_eq!(folder("include \"/etc/nftables.d/*.nft\"\ntable inet filter { }\n"), None);
        assert_eq!(folder("include \"/etc/nftables.d/one.nft\"\n"), None);
        assert_eq!(folder("include \"*.nft\"\n"), None);
    }
}
