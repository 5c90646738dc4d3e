//! Reads from a host's firewall rules whether it matters by which interface a packet comes.

use std::collections::{BTreeMap, BTreeSet};

/// Whether the rules of nftables that packets to this host meet name an interface other than loopback.
#[must_use]
pub(super) fn nft_names_interfaces(ruleset: &str) -> bool {
    #[derive(Default)]
    struct Chain<'a> {
        is_input: bool,
        lines: Vec<&'a str>,
    }
    let mut chains: BTreeMap<(String, String), Chain<'_>> = BTreeMap::new();
    let (mut table, mut chain) = (String::new(), None);
    for line in ruleset.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("table ") {
            table = rest.trim_end_matches('{').trim().to_owned();
        } else if let Some(rest) = line.strip_prefix("chain ") {
            chain = Some((table.clone(), rest.trim_end_matches('{').trim().to_owned()));
        } else if line == "}" {
            chain = None;
        } else if let Some(key) = &chain {
            let found = chains.entry(key.clone()).or_default();
            found.is_input |=
                line.starts_with("type filter hook input") || line.starts_with("type filter hook prerouting");
            found.lines.push(line);
        }
    }
    let mut waiting: Vec<(String, String)> =
        chains.iter().filter(|(_, chain)| chain.is_input).map(|(key, _)| key.clone()).collect();
    let mut seen = BTreeSet::new();
    while let Some(key) = waiting.pop() {
        if !seen.insert(key.clone()) {
            continue;
        }
        let Some(chain) = chains.get(&key) else { continue };
        for line in &chain.lines {
            let words: Vec<&str> = line.split_whitespace().collect();
            for pair in words.windows(2) {
                let names_one = matches!(pair[0], "iif" | "iifname") && pair[1].trim_matches('"') != "lo";
                if names_one {
                    return true;
                }
                if matches!(pair[0], "jump" | "goto") {
                    waiting.push((key.0.clone(), pair[1].to_owned()));
                }
            }
        }
    }
    false
}

/// The same of what `iptables-save` prints.
#[must_use]
pub(super) fn iptables_names_interfaces(saved: &str) -> bool {
    let mut waiting = vec!["INPUT"];
    let mut seen = BTreeSet::new();
    let rules: Vec<Vec<&str>> = saved.lines().map(|line| line.split_whitespace().collect()).collect();
    while let Some(chain) = waiting.pop() {
        if !seen.insert(chain) {
            continue;
        }
        for words in rules.iter().filter(|words| words.len() > 2 && words[0] == "-A" && words[1] == chain) {
            for pair in words.windows(2) {
                if pair[0] == "-i" && pair[1] != "lo" {
                    return true;
                }
                if matches!(pair[0], "-j" | "-g") {
                    waiting.push(pair[1]);
                }
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rules_that_a_packet_to_this_host_meets_count() {
        let docker = "\
table ip nat {
	chain PREROUTING {
		type nat hook prerouting priority dstnat; policy accept;
		iifname \"docker0\" return
	}
}
table inet filter {
	chain input {
		type filter hook input priority filter; policy drop;
		iif \"lo\" accept
		iifname \"lo\" accept
		ct state established,related accept
		jump more
	}
	chain more {
		tcp dport 22 accept
	}
	chain forward {
		type filter hook forward priority filter; policy drop;
		iifname \"docker0\" accept
	}
}
";
        assert!(!nft_names_interfaces(docker));
        assert!(nft_names_interfaces(&docker.replace("tcp dport 22", "iifname \"eth0\" tcp dport 22")));
        assert!(nft_names_interfaces(&docker.replace("iif \"lo\"", "iifname { \"eth0\", \"eth1\" }")));
        assert!(!nft_names_interfaces("") && !nft_names_interfaces("}}}\nchain x\njump"));
    }

    #[test]
    fn iptables_is_read_through_its_own_chains() {
        let saved = "*filter\n:INPUT DROP [0:0]\n-A INPUT -i lo -j ACCEPT\n-A INPUT -j ufw-user-input\n\
                     -A ufw-user-input -p tcp --dport 22 -j ACCEPT\n-A FORWARD -i docker0 -j ACCEPT\nCOMMIT\n";
        assert!(!iptables_names_interfaces(saved));
        assert!(iptables_names_interfaces(&saved.replace("-A ufw-user-input -p", "-A ufw-user-input -i eth0 -p")));
        assert!(!iptables_names_interfaces("-A INPUT -j INPUT\n-A"));
    }
}
