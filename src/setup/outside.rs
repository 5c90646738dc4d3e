//! Decides what is left to be done where this host has no say: in the DNS, in a router, in a provider's console.

use super::plan::{Facts, NameFault};
use super::wanted::Wanted;
use crate::config::{Host, Reach, is_public};
use crate::text;
use crate::words::Text;

/// Something that only the operator can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outside {
    pub what: Text,
    pub hint: Text,
    /// It is known to be missing, not merely unknown.
    pub is_proven: bool,
}

pub(super) fn outside(wanted: &Wanted, facts: &Facts) -> Vec<Outside> {
    let fault =
        |fault: &NameFault| Outside { what: fault.what.clone(), hint: fault.hint.clone(), is_proven: fault.is_proven };
    let mut found: Vec<Outside> = facts.names.iter().map(fault).collect();
    let note = |what: Text, hint: Text| Outside { what, hint, is_proven: false };
    let names: Vec<String> =
        wanted.hosts.iter().filter(|host| matches!(host, Host::Name(_))).map(|host| format!("`{host}`")).collect();
    if wanted.reach == Reach::Domain && found.is_empty() && !names.is_empty() {
        let what = text!("the DNS must lead {} to this host", names.join(", "));
        found.push(note(
            what,
            text!("add an A record (and AAAA, if callers have IPv6) where the domain is administered"),
        ));
    }
    if wanted.reach == Reach::Lan {
        return found;
    }
    let is_behind_nat = !facts.surroundings.local_addresses.iter().any(|address| is_public(*address));
    if is_behind_nat {
        let what = text!("this host has private addresses only: what is in front of it must pass the ports above on");
        found.push(note(
            what,
            text!("on a cloud that is its 1:1 NAT, which passes everything; on a router it is port forwarding"),
        ));
    }
    let what = text!("the provider's security group, if there is one, must let the ports above in");
    found.push(note(
        what,
        text!("it cannot be seen from here; open each of them for 0.0.0.0/0 and ::/0, UDP as well as TCP"),
    ));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::answers::Key;
    use crate::setup::plan::tests::{answers, fresh};

    #[test]
    fn what_is_unknown_is_a_note_and_what_the_dns_says_is_proof() {
        let told = |pairs: &[(Key, &str)], facts: &Facts| outside(&answers(pairs, None).wanted, facts);
        assert_eq!(told(&[(Key::Host, "a.example")], &fresh()), []);
        let domain = [(Key::Reach, "domain"), (Key::Host, "call.example.org")];
        let notes = told(&domain, &fresh());
        assert_eq!(notes.len(), 3);
        assert!(notes.iter().all(|note| !note.is_proven));
        assert_eq!(notes[0].what.to_string(), "the DNS must lead `call.example.org` to this host");
        let (what, hint) = ("the name `call.example.org` is not in the DNS".into(), "add a record".into());
        let facts = Facts { names: vec![NameFault { what, hint, is_proven: true }], ..fresh() };
        let told = told(&domain, &facts);
        assert!(told.len() == 3 && told[0].is_proven, "{told:?}");
    }
}
