//! Decides from what the DNS says whether an order can succeed, and what to change where.

use std::net::IpAddr;

use super::super::dns::Answer;
use crate::text;
use crate::words::Text;

/// What is known of one name. `None`: nobody answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameFacts {
    pub name: String,
    pub v4: Option<Answer>,
    pub v6: Option<Answer>,
    pub caa: Option<Answer>,
    /// What this host itself takes for the name's addresses, by its hosts file, too.
    pub here: Vec<IpAddr>,
}

/// Why an order would fail, or may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objection {
    /// As ACME would call it.
    pub code: &'static str,
    pub what: Text,
    pub hint: Text,
    /// It is known to fail, so that it is better not tried.
    pub is_certain: bool,
}

/// Judges every name.
#[must_use]
pub fn judge(facts: &[NameFacts], own: &[IpAddr], issuer: Option<&str>) -> Vec<Objection> {
    facts.iter().flat_map(|facts| of_name(facts, own, issuer)).collect()
}

fn of_name(facts: &NameFacts, own: &[IpAddr], issuer: Option<&str>) -> Vec<Objection> {
    let name = &facts.name;
    let mut found = Vec::new();
    let mut object = |code, is_certain, what: Text, hint: Text| {
        found.push(Objection { code, what, hint, is_certain });
    };
    let both = [("A", &facts.v4), ("AAAA", &facts.v6)];
    let is_empty = |answer: &Answer| answer.addresses.is_empty() && !answer.fails;
    if let (Some(v4), Some(v6)) = (&facts.v4, &facts.v6)
        && is_empty(v4)
        && is_empty(v6)
    {
        let what = if v4.is_unknown {
            text!("the name `{}` is not in the DNS", name)
        } else {
            text!("the name `{}` has neither an A nor an AAAA record", name)
        };
        let hint = match own.iter().find(|address| !address.is_loopback()) {
            Some(mine) => text!("add a record for {} where `{}` is administered, or correct `hosts`", mine, name),
            None => text!("add a record where `{}` is administered, or correct `hosts`", name),
        };
        object("dns", true, what, hint);
    }
    for (kind, answer) in both {
        let Some(answer) = answer else { continue };
        if answer.fails {
            let what = text!("the {} records of `{}` cannot be resolved (SERVFAIL)", kind, name);
            object("dns", false, what, text!("check the name servers of `{}`, and its DNSSEC", name));
        }
        let family: Vec<&IpAddr> = own.iter().filter(|address| address.is_ipv4() == (kind == "A")).collect();
        let strangers: Vec<String> =
            answer.addresses.iter().filter(|address| !own.contains(address)).map(ToString::to_string).collect();
        if strangers.is_empty() {
            continue;
        }
        // Behind NAT this host does not know its own address, so this alone proves nothing.
        let mine = family.iter().map(|address| address.to_string()).collect::<Vec<_>>().join(", ");
        let mine = if mine.is_empty() { text!("has none of this family") } else { text!("has {}", mine) };
        object(
            "dns",
            false,
            text!("the {} record of `{}` leads to {}, and this host {}", kind, name, strangers.join(", "), mine),
            text!(
                "correct or remove the {} record, or name the address in front of this host by `turn.public_ips`",
                kind
            ),
        );
    }
    let resolved: Vec<&IpAddr> =
        both.iter().filter_map(|(_, answer)| answer.as_ref()).flat_map(|answer| &answer.addresses).collect();
    if !resolved.is_empty() && !facts.here.is_empty() && !facts.here.iter().any(|here| resolved.contains(&here)) {
        let here: Vec<String> = facts.here.iter().map(ToString::to_string).collect();
        object(
            "hosts-file",
            false,
            text!("this host takes `{}` for {}, the DNS for something else", name, here.join(", ")),
            text!("that is fine if /etc/hosts says so on purpose"),
        );
    }
    if let (Some(caa), Some(issuer)) = (&facts.caa, issuer) {
        if caa.fails {
            let what =
                text!("the CAA records of `{}` cannot be resolved (SERVFAIL), which keeps every authority away", name);
            object("caa", false, what, text!("check the name servers of `{}`, and its DNSSEC", name));
        } else if !caa.issuers.is_empty() && !caa.issuers.iter().any(|allowed| allowed == issuer) {
            let allowed = caa
                .issuers
                .iter()
                .map(|one| if one.is_empty() { text!("nobody") } else { Text::verbatim(one.as_str()) });
            let what = text!("the CAA records of `{}` allow {} alone", name, Text::list(allowed));
            object("caa", true, what, text!("add `{}. CAA 0 issue \"{}\"`, or remove the records", name, issuer));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Option<Answer> {
        let addresses = list.iter().map(|text| text.parse().unwrap()).collect();
        Some(Answer { addresses, ..Answer::default() })
    }

    fn facts(v4: &[&str], v6: &[&str]) -> NameFacts {
        NameFacts { name: "call.rtc.dev".to_owned(), v4: addresses(v4), v6: addresses(v6), ..NameFacts::default() }
    }

    fn own() -> Vec<IpAddr> {
        vec!["198.51.100.7".parse().unwrap()]
    }

    fn codes(facts: NameFacts) -> Vec<(&'static str, bool)> {
        judge(&[facts], &own(), Some("letsencrypt.org")).iter().map(|one| (one.code, one.is_certain)).collect()
    }

    #[test]
    fn a_name_that_leads_here_is_fine_and_one_that_leads_nowhere_is_not_ordered() {
        assert_eq!(codes(facts(&["198.51.100.7"], &[])), []);
        assert_eq!(codes(facts(&[], &[])), [("dns", true)]);
        let what = &judge(&[facts(&[], &[])], &own(), None)[0];
        assert_eq!(what.what, "the name `call.rtc.dev` has neither an A nor an AAAA record");
        assert!(what.hint.starts_with("add a record for 198.51.100.7"), "{:?}", what.hint);
    }

    #[test]
    fn each_family_is_judged_by_itself_and_nat_leaves_room_for_doubt() {
        assert_eq!(codes(facts(&["198.51.100.7"], &["2001:db8::9"])), [("dns", false)]);
        assert_eq!(codes(facts(&["203.0.113.9"], &[])), [("dns", false)]);
        assert_eq!(codes(NameFacts { v4: None, v6: None, ..facts(&[], &[]) }), []);
    }

    #[test]
    fn caa_that_forbids_this_authority_is_told_with_the_record_to_add() {
        let caa = |issuers: &[&str]| NameFacts {
            caa: Some(Answer { issuers: issuers.iter().map(|one| (*one).to_owned()).collect(), ..Answer::default() }),
            ..facts(&["198.51.100.7"], &[])
        };
        assert_eq!(codes(caa(&["letsencrypt.org", "other.example"])), []);
        assert_eq!(codes(caa(&["other.example"])), [("caa", true)]);
        let nobody = judge(&[caa(&[""])], &own(), Some("letsencrypt.org"));
        assert_eq!(nobody[0].what, "the CAA records of `call.rtc.dev` allow nobody alone");
        assert_eq!(nobody[0].hint, "add `call.rtc.dev. CAA 0 issue \"letsencrypt.org\"`, or remove the records");
    }

    #[test]
    fn a_hosts_file_that_says_something_else_is_pointed_at() {
        let facts = NameFacts { here: vec!["127.0.1.1".parse().unwrap()], ..facts(&["198.51.100.7"], &[]) };
        assert_eq!(codes(facts), [("hosts-file", false)]);
    }
}
