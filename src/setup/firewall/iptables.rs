//! iptables, of either kind and family: a rule before the REJECT or DROP, and the same in the file that is loaded at boot.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::change::Change;
use super::model::{Chain, ChainName, InterfaceTest, Place, Policy, Rule, Ruleset, Test, Verdict};
use super::needs::{Needs, range_of};
use super::part::{Layer, Part, Wanted, without};
use super::walk::{Point, walk};
use crate::setup::ports::PortSet;
use crate::setup::ports::set::range_text;
use crate::sys::net::Family;
use crate::sys::ports::Transport;
use crate::text;

/// How many ports one rule can name; a range counts for two.
const MULTIPORT: usize = 15;

/// What one family's iptables holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// `iptables`, `ip6tables-legacy` and so on: the one whose rules these are.
    pub program: String,
    pub family: Family,
    pub rules: Ruleset,
    /// The file that is loaded at boot.
    pub saved: Option<Saved>,
}

/// Rules in a file, as `iptables-save` writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    pub path: PathBuf,
    pub text: String,
    pub mode: u32,
}

impl Facts {
    fn layer(&self) -> Layer {
        match self.family {
            Family::V4 => Layer::Iptables,
            Family::V6 => Layer::Ip6tables,
        }
    }
}

#[must_use]
pub fn plan(facts: &Facts, wanted: &Wanted<'_>) -> Part {
    let mut part = Part::of(facts.layer());
    let walked = |rules: &Ruleset| walk(rules, wanted.needs, &[facts.family], wanted.interfaces);
    let passage = walked(&without(&facts.rules, |rule| wanted.is_stale(rule)));
    part.closed = walked(&facts.rules).closed();
    part.doubt(&passage.doubts);
    let program = &facts.program;
    // From the end of each chain, so that no number moves before it is used.
    for (point, needs) in passage.blocked.iter().rev() {
        // One after the other, as in the saved file: a run that was killed between two of them is gone on with.
        for (rule, behind) in rule_lines(needs, wanted.tag).into_iter().zip(0..) {
            let chain = &point.chain.chain;
            part.changes.push(Change::command(&match point.before {
                Some(Place(place)) => format!("{program} -w 5 -I {chain} {} {rule}", place + behind),
                None => format!("{program} -w 5 -A {chain} {rule}"),
            }));
        }
    }
    for chain in facts.rules.chains.values() {
        for rule in chain.rules.iter().filter(|rule| wanted.is_stale(rule)) {
            part.leftover = part.leftover.or(&wanted.left_by(rule));
            let mut command: Vec<String> = [program, "-w", "5", "-D"].map(str::to_owned).to_vec();
            command.extend(words(&rule.text).into_iter().skip(1));
            part.changes.push(Change::Run(command));
        }
    }
    let theirs = without(&facts.rules, |rule| wanted.is_ours(rule));
    let filters = !walked(&theirs).blocked.is_empty();
    match &facts.saved {
        Some(saved) => {
            let text = saved_text(saved, facts, wanted);
            if text != saved.text {
                let (path, mode) = (saved.path.clone(), saved.mode);
                part.changes.push(Change::Write { path, text, mode });
            }
        }
        None if filters => {
            part.not_kept = Some(text!(
                "no file with its rules is loaded at boot: neither iptables-persistent's nor iptables-services'"
            ));
        }
        None => {}
    }
    part
}

/// `-p tcp -m multiport --dports 80,443 ...`, as many as the ports need.
fn rule_lines(needs: &Needs, tag: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for (transport, ports) in needs.each() {
        let mut rest = ports.ranges();
        while !rest.is_empty() {
            let mut weight = 0;
            let fitting = rest.iter().take_while(|range| {
                weight += if range.start() == range.end() { 1 } else { 2 };
                weight <= MULTIPORT
            });
            let (now, later) = rest.split_at(fitting.count());
            let ports: Vec<String> = now.iter().map(|range| range_text(range, ":")).collect();
            let ports = ports.join(",");
            lines.push(format!("-p {transport} -m multiport --dports {ports} -m comment --comment {tag} -j ACCEPT"));
            rest = later;
        }
    }
    lines
}

/// The saved rules with ours in them, where they are needed, and without those that are not.
fn saved_text(saved: &Saved, facts: &Facts, wanted: &Wanted<'_>) -> String {
    let rules = read_saved(&saved.text, &facts.program, facts.family);
    let theirs = without(&rules, |rule| wanted.is_ours(rule));
    let passage = walk(&theirs, wanted.needs, &[facts.family], wanted.interfaces);
    let ours = |chain: &str, before: Option<Place>| -> String {
        let name = ChainName { table: facts.program.clone(), chain: chain.to_owned() };
        let needs = passage.blocked.get(&Point { chain: name, before });
        let lines = needs.map(|needs| rule_lines(needs, wanted.tag)).unwrap_or_default();
        lines.into_iter().map(|line| format!("-A {chain} {line}\n")).collect()
    };
    let mut text = String::new();
    let mut in_filter = false;
    let mut numbers: BTreeMap<String, u64> = BTreeMap::new();
    for line in saved.text.split_inclusive('\n') {
        let bare = line.trim_end();
        if let Some(table) = bare.strip_prefix('*') {
            in_filter = table == "filter";
        }
        if in_filter && bare == "COMMIT" {
            for name in theirs.chains.keys() {
                text.push_str(&ours(&name.chain, None));
            }
        }
        if in_filter && let Some(chain) = words(bare).get(1).filter(|_| bare.starts_with("-A ")) {
            let number = numbers.entry(chain.clone()).or_default();
            *number += 1;
            if read_rule(bare, *number).is_some_and(|(_, rule)| wanted.is_ours(&rule)) {
                continue;
            }
            text.push_str(&ours(chain, Some(Place(*number))));
        }
        text.push_str(line);
    }
    text
}

/// Reads the table `filter` of what `iptables-save` writes.
#[must_use]
pub fn read_saved(text: &str, program: &str, family: Family) -> Ruleset {
    let mut rules = Ruleset::default();
    let mut in_filter = false;
    for line in text.lines().map(str::trim_end) {
        if let Some(table) = line.strip_prefix('*') {
            in_filter = table == "filter";
        } else if !in_filter {
            continue;
        } else if let Some(declared) = line.strip_prefix(':') {
            let mut parts = declared.split(' ');
            let (chain, policy) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let policy = (chain == "INPUT").then_some(if policy == "DROP" { Policy::Drop } else { Policy::Accept });
            let name = ChainName { table: program.to_owned(), chain: chain.to_owned() };
            rules.chains.insert(name, Chain { policy, families: vec![family], rules: Vec::new() });
        } else if line.starts_with("-A ") {
            let chain = words(line).get(1).cloned().unwrap_or_default();
            let name = ChainName { table: program.to_owned(), chain };
            let Some(number) = rules.chains.get(&name).map(|chain| chain.rules.len() as u64 + 1) else { continue };
            if let (Some((_, rule)), Some(chain)) = (read_rule(line, number), rules.chains.get_mut(&name)) {
                chain.rules.push(rule);
            }
        }
    }
    // A target that is no chain is a module: it marks, logs or counts.
    let chains: Vec<ChainName> = rules.chains.keys().cloned().collect();
    for rule in rules.chains.values_mut().flat_map(|chain| &mut chain.rules) {
        if let Verdict::Jump(target) | Verdict::Goto(target) = &rule.verdict
            && !chains.iter().any(|name| name.chain == *target)
        {
            rule.verdict = Verdict::Continue;
        }
    }
    rules
}

/// The chain and the rule of a line `-A CHAIN ...`.
fn read_rule(line: &str, number: u64) -> Option<(String, Rule)> {
    let words = words(line);
    let mut words = words.iter().map(String::as_str).skip(1).peekable();
    let chain = words.next()?.to_owned();
    let mut test = Test::default();
    let mut verdict = Verdict::Continue;
    let mut comment = None;
    let mut negated = false;
    while let Some(word) = words.next() {
        match word {
            "!" => {
                negated = true;
                continue;
            }
            "-p" | "--protocol" => test = test.and(of_protocol(words.next()?, negated)),
            "-i" | "--in-interface" => {
                let names = vec![words.next()?.to_owned()];
                test.interface.push(InterfaceTest { names, negated });
            }
            "--dport" | "--destination-port" | "--dports" | "--destination-ports" => {
                let ports: Option<PortSet> = words.next()?.split(',').map(range_of).collect();
                let ports = ports?;
                let ports = if negated { ports.complement() } else { ports };
                test = test.and(Test { ports: Some(ports), ..Test::default() });
            }
            "--state" | "--ctstate" => {
                let holds = words.next()?.split(',').any(|state| state == "NEW") != negated;
                test.never |= !holds;
            }
            "--dst-type" => {
                // What comes to this host's own address.
                let holds = words.next()?.split(',').any(|kind| kind == "LOCAL") != negated;
                test.never |= !holds;
            }
            "--comment" => comment = words.next().map(str::to_owned),
            "-m" | "--match" => {
                words.next();
            }
            "-j" | "--jump" | "-g" | "--goto" => {
                let target = words.next()?.to_owned();
                verdict = match target.as_str() {
                    "ACCEPT" => Verdict::Accept,
                    "DROP" | "REJECT" => Verdict::Drop,
                    "RETURN" => Verdict::Return,
                    "NFQUEUE" | "QUEUE" | "TARPIT" | "SYNPROXY" => {
                        test.unsure = true;
                        Verdict::Drop
                    }
                    _ if word.starts_with("-g") || word == "--goto" => Verdict::Goto(target),
                    _ => Verdict::Jump(target),
                };
                // What follows is how the target does it.
                break;
            }
            // Anything else is a condition that cannot be told here, or a condition's value.
            _ if word.starts_with('-') => test.unsure = true,
            _ => continue,
        }
        negated = false;
    }
    let rule = Rule { place: Place(number), test, verdict, comment, text: line.to_owned() };
    Some((chain, rule))
}

fn of_protocol(name: &str, negated: bool) -> Test {
    let transports: Vec<Transport> = [(Transport::Tcp, "tcp", "6"), (Transport::Udp, "udp", "17")]
        .into_iter()
        .filter(|(_, word, number)| (name == *word || name == *number || name == "all") != negated)
        .map(|(transport, ..)| transport)
        .collect();
    Test { transports: Some(transports), ..Test::default() }
}

/// The words of a line, as a shell splits it: quotes and backslashes are undone.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut symbols = line.chars();
    while let Some(symbol) = symbols.next() {
        match symbol {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' => word.get_or_insert_default().extend(symbols.next()),
            ' ' if !quoted => words.extend(word.take()),
            _ => word.get_or_insert_default().push(symbol),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Oracle's images have it: SSH, then a REJECT.
    const ORACLE: &str = "\
# Generated by iptables-save v1.8.9 (nf_tables)
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [463:49013]
-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p icmp -j ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -p udp -m udp --sport 123 -j ACCEPT
-A INPUT -p tcp -m state --state NEW -m tcp --dport 22 -j ACCEPT
-A INPUT -j REJECT --reject-with icmp-host-prohibited
-A FORWARD -j REJECT --reject-with icmp-host-prohibited
COMMIT
";

    fn planned(text: &str, saved: Option<&str>, needs: &[&str]) -> (Vec<String>, Part) {
        let rules = read_saved(text, "iptables", Family::V4);
        let path = PathBuf::from("/etc/iptables/rules.v4");
        let saved = saved.map(|text| Saved { path, text: text.to_owned(), mode: 0o640 });
        let facts = Facts { program: "iptables".to_owned(), family: Family::V4, rules, saved };
        let needs = Needs::of_words(needs.iter().copied());
        let wanted = Wanted { needs: &needs, tag: "rtcctl", families: &[Family::V4], interfaces: &[] };
        let part = plan(&facts, &wanted);
        (part.changes.iter().map(ToString::to_string).collect(), part)
    }

    const OURS: &str = "-p tcp -m multiport --dports 80,443 -m comment --comment rtcctl -j ACCEPT";

    #[test]
    fn a_rule_goes_before_the_reject() {
        let (changes, part) = planned(ORACLE, None, &["443/tcp", "80/tcp", "22/tcp", "49160-51159/udp"]);
        let udp = "-p udp -m multiport --dports 49160:51159 -m comment --comment rtcctl -j ACCEPT";
        assert_eq!(changes, [format!("iptables -w 5 -I INPUT 6 {OURS}"), format!("iptables -w 5 -I INPUT 7 {udp}")]);
        assert_eq!(part.closed.to_string(), "80,443/tcp 49160-51159/udp");
        assert!(part.not_kept.is_some() && part.leftover.is_empty());
    }

    #[test]
    fn the_saved_file_gets_the_same_rule_and_loses_it_again_to_the_byte() {
        let needs = ["443/tcp", "80/tcp"];
        let (changes, part) = planned(ORACLE, Some(ORACLE), &needs);
        assert_eq!((changes.len(), &part.not_kept), (2, &None));
        let Some(Change::Write { text, mode: 0o640, .. }) = part.changes.last() else { panic!("{changes:?}") };
        let place = text.find(OURS).unwrap();
        assert!(place < text.find("-A INPUT -j REJECT").unwrap() && place > text.find("--dport 22").unwrap());
        // With both in place nothing is left to do; without needs all of it goes.
        assert_eq!(planned(text, Some(text), &needs).0, Vec::<String>::new());
        let (closing, part) = planned(text, Some(text), &[]);
        assert_eq!(closing[0], format!("iptables -w 5 -D INPUT {OURS}"));
        assert_eq!(part.leftover.to_string(), "80,443/tcp");
        let Some(Change::Write { text, .. }) = part.changes.last() else { panic!("{closing:?}") };
        assert_eq!(text, ORACLE);
    }

    #[test]
    fn ports_that_are_not_needed_any_more_go_after_the_new_ones_came() {
        let (_, part) = planned(ORACLE, Some(ORACLE), &["443/tcp", "80/tcp"]);
        let Some(Change::Write { text, .. }) = part.changes.last() else { panic!() };
        let (changes, _) = planned(text, None, &["443/tcp"]);
        assert_eq!(changes.len(), 2, "{changes:?}");
        assert!(changes[0].starts_with("iptables -w 5 -I INPUT 7 ") && changes[1].contains("-D INPUT"), "{changes:?}");
    }

    #[test]
    fn a_policy_that_drops_a_chain_of_its_own_and_a_doubt() {
        let text = "\
*filter
:INPUT DROP [0:0]
:f2b - [0:0]
:mine - [0:0]
-A INPUT -p tcp -m multiport --dports 80,443 -j f2b
-A INPUT -p udp -j mine
-A INPUT -p tcp -m tcp --dport 8443 -m limit --limit 3/min -j ACCEPT
-A f2b -s 203.0.113.7/32 -j REJECT --reject-with icmp-port-unreachable
-A f2b -j RETURN
-A mine -p udp -m udp --dport 1000:2000 -j ACCEPT
-A mine -j LOG --log-prefix \"dropped: \"
-A mine -j DROP
COMMIT
";
        let (changes, part) = planned(text, None, &["443/tcp", "8443/tcp", "1500/udp", "3478/udp"]);
        let udp = "-p udp -m multiport --dports 3478 -m comment --comment rtcctl -j ACCEPT";
        let tcp = "-p tcp -m multiport --dports 443,8443 -m comment --comment rtcctl -j ACCEPT";
        assert_eq!(changes, [format!("iptables -w 5 -I mine 3 {udp}"), format!("iptables -w 5 -A INPUT {tcp}")]);
        assert_eq!(part.notes.len(), 1, "{:?}", part.notes);
        assert!(part.notes[0].to_string().contains("203.0.113.7"));
    }

    #[test]
    fn what_ufw_does_with_packets_to_nobody_here_is_no_matter() {
        let text = "\
*filter
:INPUT DROP [0:0]
:ufw-not-local - [0:0]
-A INPUT -j ufw-not-local
-A INPUT -p tcp -m tcp --dport 443 -j ACCEPT
-A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN
-A ufw-not-local -m addrtype --dst-type MULTICAST -j RETURN
-A ufw-not-local -m limit --limit 3/min --limit-burst 10 -j LOG
-A ufw-not-local -j DROP
COMMIT
";
        assert_eq!(planned(text, None, &["443/tcp"]).0, Vec::<String>::new());
    }

    #[test]
    fn many_ports_are_several_rules() {
        let words: Vec<String> = (0..20).map(|number| format!("{}/tcp", 1000 + 2 * number)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (changes, _) = planned(ORACLE, None, &words);
        assert_eq!(changes.len(), 2);
    }

    #[test]
    fn words_are_split_as_a_shell_does() {
        assert_eq!(words(r#"-A X --comment "a \"b\" c" -j Y"#), ["-A", "X", "--comment", "a \"b\" c", "-j", "Y"]);
    }
}
