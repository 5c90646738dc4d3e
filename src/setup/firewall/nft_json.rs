//! Reads what `nft -j list ruleset` says.

use std::collections::BTreeMap;

use serde_json::Value;

use super::model::{Chain, ChainName, InterfaceTest, Place, Policy, Rule, Ruleset, Test, Verdict};
use crate::setup::ports::PortSet;
use crate::sys::net::Family;
use crate::sys::ports::Transport;
use crate::text;
use crate::words::Text;

/// Reads the document. Tables for which `is_other` holds belong to somebody else, and are left out.
///
/// # Errors
/// If it is not what nft writes.
pub(super) fn read_ruleset(text: &str, is_other: impl Fn(&str, &str) -> bool) -> Result<Ruleset, Text> {
    let document: Value = serde_json::from_str(text).map_err(|error| text!("nft wrote no JSON: {}", error))?;
    let objects = document["nftables"].as_array().ok_or(text!("nft wrote JSON without `nftables`"))?;
    let sets = named_sets(objects);
    let mut rules = Ruleset::default();
    let mut devices: BTreeMap<ChainName, InterfaceTest> = BTreeMap::new();
    for object in objects {
        if let Some(chain) = object.get("chain").filter(|chain| !is_other(word(chain, "family"), word(chain, "table")))
        {
            let Some(families) = families_of(word(chain, "family")) else { continue };
            let policy = is_on_the_way_in(chain).then_some(match word(chain, "policy") {
                "drop" => Policy::Drop,
                _ => Policy::Accept,
            });
            let name = name_of(chain, word(chain, "name"));
            devices.extend(devices_of(chain).map(|test| (name.clone(), test)));
            rules.chains.insert(name, Chain { policy, families, rules: Vec::new() });
        }
        if let Some(rule) = object.get("rule")
            && let Some(chain) = rules.chains.get_mut(&name_of(rule, word(rule, "chain")))
        {
            let device = devices.get(&name_of(rule, word(rule, "chain")));
            let mut read = read_rule(rule, &sets);
            read.iter_mut().for_each(|rule| rule.test.interface.extend(device.cloned()));
            chain.rules.extend(read);
        }
    }
    Ok(rules)
}

/// Tables whose chains are iptables' own: `ip filter` and the like, by the names that only iptables gives.
#[must_use]
pub(super) fn is_of_iptables(text: &str) -> Vec<(String, String)> {
    let Ok(document) = serde_json::from_str::<Value>(text) else { return Vec::new() };
    let objects = document["nftables"].as_array().cloned().unwrap_or_default();
    let chains = objects.iter().filter_map(|object| object.get("chain"));
    let theirs = chains.filter(|chain| {
        let known = matches!(word(chain, "table"), "filter" | "nat" | "mangle" | "raw" | "security");
        let named = matches!(word(chain, "name"), "INPUT" | "OUTPUT" | "FORWARD" | "PREROUTING" | "POSTROUTING");
        known && named && matches!(word(chain, "family"), "ip" | "ip6") && chain.get("hook").is_some()
    });
    theirs.map(|chain| (word(chain, "family").to_owned(), word(chain, "table").to_owned())).collect()
}

fn word<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_default()
}

fn name_of(object: &Value, chain: &str) -> ChainName {
    ChainName { table: format!("{} {}", word(object, "family"), word(object, "table")), chain: chain.to_owned() }
}

fn families_of(family: &str) -> Option<Vec<Family>> {
    match family {
        "inet" | "netdev" => Some(vec![Family::V4, Family::V6]),
        "ip" => Some(vec![Family::V4]),
        "ip6" => Some(vec![Family::V6]),
        _ => None,
    }
}

/// The interfaces that a chain is for, if it is for some alone.
fn devices_of(chain: &Value) -> Option<InterfaceTest> {
    let names: Vec<String> = match &chain["dev"] {
        Value::String(name) => vec![name.clone()],
        Value::Array(names) => names.iter().filter_map(|name| Some(name.as_str()?.to_owned())).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return None,
    };
    Some(InterfaceTest { names, negated: false })
}

fn is_on_the_way_in(chain: &Value) -> bool {
    word(chain, "type") == "filter" && matches!(word(chain, "hook"), "input" | "prerouting" | "ingress")
}

/// The members of sets with a name, as far as nft has listed them.
fn named_sets(objects: &[Value]) -> BTreeMap<(String, String), Value> {
    let sets = objects.iter().filter_map(|object| object.get("set").or_else(|| object.get("map")));
    let key = |set: &Value| (format!("{} {}", word(set, "family"), word(set, "table")), word(set, "name").to_owned());
    sets.map(|set| (key(set), set["elem"].clone())).collect()
}

/// One rule, or one for each member of a verdict map.
fn read_rule(rule: &Value, sets: &BTreeMap<(String, String), Value>) -> Vec<Rule> {
    let table = format!("{} {}", word(rule, "family"), word(rule, "table"));
    let members = |name: &str| sets.get(&(table.clone(), name.to_owned())).filter(|value| value.is_array()).cloned();
    let handle = rule["handle"].as_u64().unwrap_or_default();
    let mut test = Test::default();
    let mut verdicts = vec![(Test::default(), Verdict::Continue)];
    for expression in rule["expr"].as_array().into_iter().flatten() {
        let Some((kind, value)) = expression.as_object().and_then(|object| object.iter().next()) else { continue };
        match kind.as_str() {
            "match" => test = test.and(read_match(value, &members)),
            "vmap" => verdicts = read_map(value, &members),
            "counter" | "log" | "mangle" | "notrack" | "ct helper" | "ct timeout" | "set" | "flow" | "last" => {}
            // iptables' own way to reject, where its program is not there to say so.
            "xt" if word(value, "name") == "REJECT" => verdicts = vec![(Test::default(), Verdict::Drop)],
            "reject" => {
                test = test.and(test_of_reject(value));
                verdicts = vec![(Test::default(), Verdict::Drop)];
            }
            "queue" => {
                test.unsure = true;
                verdicts = vec![(Test::default(), Verdict::Drop)];
            }
            _ => match read_verdict(kind, value) {
                Some(verdict) => verdicts = vec![(Test::default(), verdict)],
                // A limit, a quota, something of iptables, or newer than this program.
                None => test.unsure = true,
            },
        }
    }
    let comment = rule["comment"].as_str().map(str::to_owned);
    let text = comment.as_ref().map_or_else(|| format!("rule {handle}"), |told| format!("rule {handle} ({told})"));
    let made = |(more, verdict)| Rule {
        place: Place(handle),
        test: test.clone().and(more),
        verdict,
        comment: comment.clone(),
        text: text.clone(),
    };
    verdicts.into_iter().map(made).collect()
}

fn read_verdict(kind: &str, value: &Value) -> Option<Verdict> {
    Some(match kind {
        "accept" => Verdict::Accept,
        "drop" => Verdict::Drop,
        "return" => Verdict::Return,
        "continue" => Verdict::Continue,
        "jump" => Verdict::Jump(word(value, "target").to_owned()),
        "goto" => Verdict::Goto(word(value, "target").to_owned()),
        _ => return None,
    })
}

/// What nft leaves out when it lists a rule: a reject of one family's kind is for that family alone.
fn test_of_reject(value: &Value) -> Test {
    match word(value, "type") {
        "icmp" => Test { families: Some(vec![Family::V4]), ..Test::default() },
        "icmpv6" => Test { families: Some(vec![Family::V6]), ..Test::default() },
        "tcp reset" => Test { transports: Some(vec![Transport::Tcp]), ..Test::default() },
        _ => Test::default(),
    }
}

type Members<'a> = dyn Fn(&str) -> Option<Value> + 'a;

fn read_map(value: &Value, members: &Members<'_>) -> Vec<(Test, Verdict)> {
    let data = match value["data"].as_str() {
        Some(name) => members(name.trim_start_matches('@')),
        None => Some(value["data"]["set"].clone()),
    };
    let unknown = || (Test { unsure: true, ..Test::default() }, Verdict::Drop);
    let Some(Value::Array(pairs)) = data else { return vec![unknown()] };
    pairs
        .iter()
        .map(|pair| {
            let verdict = pair[1].as_object().and_then(|object| object.iter().next());
            let verdict = verdict.and_then(|(kind, value)| read_verdict(kind, value));
            let test = read_key(&value["key"], &[pair[0].clone()], false);
            verdict.map_or_else(unknown, |verdict| (test, verdict))
        })
        .collect()
}

fn read_match(value: &Value, members: &Members<'_>) -> Test {
    let negated = match word(value, "op") {
        "==" | "in" => false,
        "!=" => true,
        operator => return compared(operator, value),
    };
    let right = &value["right"];
    let values = if let Some(name) = right.as_str().and_then(|text| text.strip_prefix('@')) {
        match members(name) {
            Some(Value::Array(members)) => members,
            Some(_) | None => return Test { unsure: true, ..about(&value["left"]) },
        }
    } else {
        as_list(right.get("set").unwrap_or(right))
    };
    read_key(&value["left"], &values, negated)
}

/// One value is a list of one.
fn as_list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_else(|| vec![value.clone()])
}

/// `tcp dport < 1024` and the like.
fn compared(operator: &str, value: &Value) -> Test {
    let test = about(&value["left"]);
    let number = value["right"].as_u64().and_then(|number| u16::try_from(number).ok());
    let (Some(number), "dport") = (number, word(&value["left"]["payload"], "field")) else {
        return Test { unsure: true, ..test };
    };
    let ports: PortSet = match operator {
        "<" => number.checked_sub(1).map(|last| 0..=last).into_iter().collect(),
        "<=" => [0..=number].into_iter().collect(),
        ">" => number.checked_add(1).map(|first| first..=u16::MAX).into_iter().collect(),
        ">=" => [number..=u16::MAX].into_iter().collect(),
        _ => return Test { unsure: true, ..test },
    };
    Test { ports: Some(ports), ..test }
}

/// What a header field says about a packet just by being asked for.
fn about(left: &Value) -> Test {
    match word(&left["payload"], "protocol") {
        "tcp" => Test { transports: Some(vec![Transport::Tcp]), ..Test::default() },
        "udp" => Test { transports: Some(vec![Transport::Udp]), ..Test::default() },
        "ip" => Test { families: Some(vec![Family::V4]), ..Test::default() },
        "ip6" => Test { families: Some(vec![Family::V6]), ..Test::default() },
        // Protocols that no caller comes by.
        "icmp" | "icmpv6" | "sctp" | "dccp" | "udplite" | "esp" | "ah" | "comp" | "arp" => Test::never(),
        _ => Test::default(),
    }
}

/// Whether a key has one of these values.
fn read_key(left: &Value, values: &[Value], negated: bool) -> Test {
    let payload = (word(&left["payload"], "protocol"), word(&left["payload"], "field"));
    let key = word(&left["meta"], "key");
    let base = about(left);
    if let Some(masked) = left["&"].as_array() {
        return of_masked(masked, values, negated);
    }
    match (payload, key) {
        ((_, "dport"), _) => {
            let Some(ports) = values.iter().map(read_ports).collect::<Option<Vec<_>>>() else {
                return Test { unsure: true, ..base };
            };
            let ports: PortSet = ports.into_iter().collect();
            Test { ports: Some(if negated { ports.complement() } else { ports }), ..base }
        }
        (("ip", "protocol") | ("ip6", "nexthdr"), _) | (_, "l4proto") => base.and(of_transports(values, negated)),
        (_, "nfproto" | "protocol") => of_families(values, negated),
        (_, "iif" | "iifname") => {
            let names = values.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            Test { interface: vec![InterfaceTest { names, negated }], ..base }
        }
        (_, "pkttype") => certain(values.iter().any(|value| value == "host" || value == "unicast"), negated),
        _ if word(&left["ct"], "key") == "state" => certain(values.iter().any(|value| value == "new"), negated),
        _ if word(&left["ct"], "key") == "status" => Test { unsure: true, ..base },
        _ if word(&left["fib"], "result") == "type" => certain(values.iter().any(|value| value == "local"), negated),
        _ => Test { unsure: true, ..base },
    }
}

/// `tcp flags & (fin | syn | rst | ack) == syn`: so begins every connection.
fn of_masked(masked: &[Value], values: &[Value], negated: bool) -> Test {
    let left = masked.first().unwrap_or(&Value::Null);
    let is_flags = word(&left["payload"], "protocol") == "tcp" && word(&left["payload"], "field") == "flags";
    if is_flags && values.len() == 1 && values[0] == "syn" {
        return about(left).and(certain(true, negated));
    }
    Test { unsure: true, ..about(left) }
}

fn certain(holds: bool, negated: bool) -> Test {
    if holds == negated { Test::never() } else { Test::default() }
}

fn read_ports(value: &Value) -> Option<std::ops::RangeInclusive<u16>> {
    let number = |value: &Value| value.as_u64().and_then(|number| u16::try_from(number).ok());
    // An element with a comment, a time-out or a counter is wrapped.
    let value = value.get("elem").and_then(|elem| elem.get("val")).unwrap_or(value);
    match value["range"].as_array().map(Vec::as_slice) {
        Some([first, last]) => Some(number(first)?..=number(last)?),
        _ => number(value).map(|port| port..=port),
    }
}

fn of_transports(values: &[Value], negated: bool) -> Test {
    let is_named = |transport: Transport| {
        let (name, number) = match transport {
            Transport::Tcp => ("tcp", 6),
            Transport::Udp => ("udp", 17),
        };
        values.iter().any(|value| value == name || *value == number)
    };
    let both = [Transport::Tcp, Transport::Udp];
    Test { transports: Some(both.into_iter().filter(|one| is_named(*one) != negated).collect()), ..Test::default() }
}

fn of_families(values: &[Value], negated: bool) -> Test {
    let is_named = |family: Family| {
        let names = match family {
            Family::V4 => ["ipv4", "ip"],
            Family::V6 => ["ipv6", "ip6"],
        };
        values.iter().any(|value| names.iter().any(|name| value == name))
    };
    let both = [Family::V4, Family::V6];
    Test { families: Some(both.into_iter().filter(|one| is_named(*one) != negated).collect()), ..Test::default() }
}

#[cfg(test)]
mod tests {
    use super::super::needs::Needs;
    use super::super::walk::{Passage, walk};
    use super::*;

    /// As nft wrote it: sets and maps with names, jumps, flags, both families, a hook before the input.
    const RULES: &str = include_str!("testdata/nft_many.json");

    fn walked(interfaces: &[&str]) -> Passage {
        let rules = read_ruleset(RULES, |_, _| false).unwrap();
        let tcp = ["443/tcp", "80/tcp", "81/tcp", "8005/tcp", "53/tcp", "5000/tcp", "7000/tcp", "9999/tcp"];
        let udp = ["53/udp", "6000/udp", "60001/udp", "9/udp", "1500/udp"];
        let needs = Needs::of_words(tcp.into_iter().chain(udp));
        let interfaces: Vec<String> = interfaces.iter().map(|name| (*name).to_owned()).collect();
        walk(&rules, &needs, &[Family::V4, Family::V6], &interfaces)
    }

    #[test]
    fn sets_maps_jumps_and_families_decide_as_the_kernel_does() {
        let passage = walked(&["eth0"]);
        assert_eq!(passage.closed().to_string(), "81,5000,9999/tcp 9,1500,6000/udp");
        let points: Vec<String> = passage.blocked.keys().map(|point| point.chain.to_string()).collect();
        assert_eq!(points, ["inet edge last", "inet edge last", "inet edge raw_in"]);
        // What only begins connections, and what is for this host, is no doubt.
        assert_eq!(passage.doubts, Vec::<String>::new());
    }

    #[test]
    fn an_interface_that_is_let_in_whole_needs_only_what_comes_before() {
        assert_eq!(walked(&["docker0"]).closed().to_string(), "81/tcp 9/udp");
        // Both ways in have to pass; of an unknown one nothing can be said for sure.
        assert_eq!(walked(&["docker0", "eth0"]).closed(), walked(&["eth0"]).closed());
        assert_eq!(walked(&[]).closed(), walked(&["eth0"]).closed());
    }

    #[test]
    fn what_is_no_ruleset_is_told() {
        assert!(read_ruleset("nonsense", |_, _| false).is_err());
        assert!(read_ruleset("{}", |_, _| false).is_err());
        let odd = r#"{"nftables":[{"chain":{"family":"inet","table":"t","name":"c","type":"filter","hook":"input","policy":"drop"}},
            {"rule":{"family":"inet","table":"t","chain":"c","handle":1,"expr":[{"brandnew":{}},{"accept":null}]}}]}"#;
        let rules = read_ruleset(odd, |_, _| false).unwrap();
        let needs = Needs::of_words(["443/tcp"]);
        // What is not understood does not count as letting in.
        assert_eq!(walk(&rules, &needs, &[Family::V4], &[]).closed(), needs);
    }
}
