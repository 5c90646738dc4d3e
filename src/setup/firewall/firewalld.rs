//! firewalld: one service with all ports, in the permanent configuration of each zone that callers come in by. The
//! running one knows no new service before a reload, and a reload loses what the operator has there only, so the ports
//! themselves are added to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::change::Change;
use super::needs::Needs;
use super::part::{Layer, Part, Wanted};
use crate::text;

/// Where the files of the permanent configuration are.
pub const FOLDER: &str = "/etc/firewalld";

/// What firewalld, which runs, says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Zones that callers come in by.
    pub zones: BTreeSet<String>,
    pub running: BTreeMap<String, Zone>,
    pub permanent: BTreeMap<String, Zone>,
    /// What comes before the zones.
    pub policies: BTreeMap<String, Zone>,
    /// The ports of our service, as far as it is there: in the permanent configuration, and in the running one.
    pub service: Option<Needs>,
    pub running_service: Option<Needs>,
    /// What we have added to the running configuration, by zone, as it was written down then.
    pub added: BTreeMap<String, Needs>,
    /// Zones whose file came to be by our change, as it was written down then.
    pub made_files: BTreeSet<String>,
    /// Zones whose file says, but for our service, what the zone is by default.
    pub plain_zones: BTreeSet<String>,
    /// Files of the permanent configuration that are there.
    pub files: BTreeSet<PathBuf>,
}

/// What a zone lets in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zone {
    pub accepts_all: bool,
    /// What nothing in it lets in goes no further. Of policies; with zones that is told by `closed`.
    pub refuses_rest: bool,
    pub services: Vec<String>,
    pub ports: Needs,
    pub interfaces: Vec<String>,
    /// Networks whose packets come in by this zone, whatever the interface.
    pub sources: Vec<String>,
    /// Of policies: where the packets go.
    pub egress: Vec<String>,
    /// Rich rules that drop or reject something.
    pub refusals: Vec<String>,
}

/// Reads what `firewall-cmd --list-all-zones` says.
#[must_use]
pub fn read_zones(text: &str) -> BTreeMap<String, Zone> {
    let mut zones: BTreeMap<String, Zone> = BTreeMap::new();
    let mut current = None;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if !line.starts_with([' ', '\t']) {
            let name = line.split(' ').next().unwrap_or_default();
            current = Some(zones.entry(name.to_owned()).or_default());
            continue;
        }
        let Some(zone) = &mut current else { continue };
        let (key, value) = line.trim().split_once(':').unwrap_or((line.trim(), ""));
        let words = || value.split_whitespace();
        match key {
            "target" => {
                zone.accepts_all = value.trim() == "ACCEPT";
                zone.refuses_rest = matches!(value.trim(), "DROP" | "REJECT");
            }
            "services" => zone.services = words().map(str::to_owned).collect(),
            "ports" => zone.ports = Needs::of_words(words()),
            "interfaces" => zone.interfaces = words().map(str::to_owned).collect(),
            "sources" => zone.sources = words().map(str::to_owned).collect(),
            "egress-zones" => zone.egress = words().map(str::to_owned).collect(),
            _ if key.starts_with("rule ") && (line.ends_with("drop") || line.contains("reject")) => {
                zone.refusals.push(line.trim().to_owned());
            }
            _ => {}
        }
    }
    zones
}

/// The ports in what `firewall-cmd --info-service` says.
#[must_use]
pub fn read_service(text: &str) -> Needs {
    let line = text.lines().find_map(|line| line.trim().strip_prefix("ports:"));
    Needs::of_words(line.unwrap_or_default().split_whitespace())
}

/// A zone's file without our service in it.
#[must_use]
pub fn without_service(zone: &str, tag: &str) -> String {
    let ours = format!("<service name=\"{tag}\"/>");
    zone.split_inclusive('\n').filter(|line| line.trim() != ours).collect()
}

/// What has to be written down before the changes are made, so that they can be taken back exactly.
#[must_use]
pub fn added_after(facts: &Facts, wanted: &Wanted<'_>) -> BTreeMap<String, Needs> {
    // What was ours stays written down until it is gone: a run that is killed may not come that far.
    let mut added = facts.added.clone();
    if wanted.needs.is_empty() {
        return added;
    }
    for name in open_zones(facts) {
        let Some(zone) = facts.running.get(name) else { continue };
        let missing = wanted.needs.without(&zone.ports).without(&by_service(facts, zone, wanted));
        let known = ours(facts, name, zone, wanted.tag);
        let entry = added.entry(name.clone()).or_default();
        *entry = entry.or(&known).or(&missing);
    }
    added
}

/// Zones whose file will come to be, or came to be, by our change.
#[must_use]
pub fn made_files_after(facts: &Facts, wanted: &Wanted<'_>) -> BTreeSet<String> {
    let mut made = facts.made_files.clone();
    let fresh = open_zones(facts).filter(|zone| {
        let has_service = |zone: &Zone| zone.services.iter().any(|service| service == wanted.tag);
        !facts.files.contains(&zone_file(zone)) && !facts.permanent.get(*zone).is_some_and(has_service)
    });
    made.extend(fresh.cloned());
    made
}

fn open_zones(facts: &Facts) -> impl Iterator<Item = &String> {
    facts.zones.iter().filter(|zone| !facts.running.get(*zone).is_some_and(|zone| zone.accepts_all))
}

fn zone_file(zone: &str) -> PathBuf {
    Path::new(FOLDER).join("zones").join(format!("{zone}.xml"))
}

/// Where our service is defined for good.
#[must_use]
pub fn service_file(tag: &str) -> PathBuf {
    Path::new(FOLDER).join("services").join(format!("{tag}.xml"))
}

/// What our service lets into a zone of the running configuration.
fn by_service(facts: &Facts, zone: &Zone, wanted: &Wanted<'_>) -> Needs {
    let is_there = zone.services.iter().any(|service| service == wanted.tag);
    facts.running_service.clone().filter(|_| is_there).unwrap_or_default()
}

/// The ports of a running zone that we have added.
fn ours(facts: &Facts, name: &str, zone: &Zone, tag: &str) -> Needs {
    let common = |needs: &Needs| zone.ports.without(&zone.ports.without(needs));
    match (facts.added.get(name), &facts.service) {
        (Some(added), _) => common(added),
        // The note is lost: what is in the running zone only, and in our service, is ours by all likelihood.
        (None, Some(service))
            if facts.permanent.get(name).is_some_and(|zone| zone.services.iter().any(|one| one == tag)) =>
        {
            let permanent = facts.permanent.get(name).map(|zone| zone.ports.clone()).unwrap_or_default();
            common(service).without(&permanent)
        }
        (None, _) => Needs::default(),
    }
}

#[must_use]
pub fn plan(facts: &Facts, wanted: &Wanted<'_>) -> Part {
    let mut part = Part::of(Layer::Firewalld);
    let (tag, needs) = (wanted.tag, wanted.needs);
    let zones: BTreeSet<&String> = if needs.is_empty() { BTreeSet::new() } else { open_zones(facts).collect() };
    if !zones.is_empty() {
        define_service(facts, wanted, &mut part);
    }
    for name in &zones {
        let permanent = facts.permanent.get(*name).cloned().unwrap_or_default();
        if !permanent.services.iter().any(|service| service == tag) {
            part.changes.push(Change::command(&format!("firewall-cmd --permanent --zone={name} --add-service={tag}")));
        }
        let running = facts.running.get(*name).cloned().unwrap_or_default();
        let missing = needs.without(&running.ports).without(&by_service(facts, &running, wanted));
        part.closed = part.closed.or(&missing);
        part.changes.extend(ports_change(name, "add", &missing));
        let refusals = running.refusals.iter().map(|rule| text!("zone {} may drop some callers: {}", name, rule));
        part.notes.extend(refusals);
    }
    if !needs.is_empty() {
        note_others(facts, wanted, &mut part);
    }
    take_away(facts, wanted, &zones, &mut part);
    part
}

/// What decides about some callers, and is left alone: it is there to decide otherwise about them.
fn note_others(facts: &Facts, wanted: &Wanted<'_>, part: &mut Part) {
    for (name, zone) in facts.running.iter().filter(|(name, _)| !facts.zones.contains(*name)) {
        let closed = wanted.needs.without(&zone.ports);
        if !zone.sources.is_empty() && !zone.accepts_all && !closed.is_empty() {
            let from = zone.sources.join(", ");
            part.notes.push(text!(
                "callers from {} come in by zone {}, which is left as it is and may drop {}",
                from,
                name,
                closed
            ));
        }
    }
    for (name, policy) in &facts.policies {
        if !policy.egress.iter().any(|zone| zone == "HOST" || zone == "ANY") {
            continue;
        }
        if policy.refuses_rest {
            part.notes.push(text!("policy {} may drop callers before any zone is asked", name));
        }
        let refusals = policy.refusals.iter().map(|rule| text!("policy {} may drop some callers: {}", name, rule));
        part.notes.extend(refusals);
    }
}

fn define_service(facts: &Facts, wanted: &Wanted<'_>, part: &mut Part) {
    let (tag, needs) = (wanted.tag, wanted.needs);
    let defined = facts.service.clone().unwrap_or_default();
    if facts.service.is_none() {
        part.changes.push(Change::command(&format!("firewall-cmd --permanent --new-service={tag}")));
        part.changes.push(Change::words([
            "firewall-cmd",
            "--permanent",
            &format!("--service={tag}"),
            "--set-description=WebRTC calls: page, signaling, STUN and TURN",
        ]));
    }
    for (verb, ports) in [("add", needs.without(&defined)), ("remove", defined.without(needs))] {
        if !ports.is_empty() {
            let flags: Vec<String> = ports.words().iter().map(|port| format!("--{verb}-port={port}")).collect();
            let line = format!("firewall-cmd --permanent --service={tag} {}", flags.join(" "));
            part.changes.push(Change::command(&line));
        }
    }
}

fn ports_change(zone: &str, verb: &str, ports: &Needs) -> Option<Change> {
    let flags: Vec<String> = ports.words().iter().map(|port| format!("--{verb}-port={port}")).collect();
    (!flags.is_empty()).then(|| Change::command(&format!("firewall-cmd --zone={zone} {}", flags.join(" "))))
}

/// What is there and not needed any more, in zones that are `zones` and those that are not.
fn take_away(facts: &Facts, wanted: &Wanted<'_>, zones: &BTreeSet<&String>, part: &mut Part) {
    let tag = wanted.tag;
    let is_open = |name: &String| zones.contains(name);
    for (name, zone) in &facts.running {
        let has_service = zone.services.iter().any(|service| service == tag);
        let let_in = by_service(facts, zone, wanted);
        let needs = if is_open(name) { wanted.needs.clone() } else { Needs::default() };
        let extra = let_in.without(&needs);
        if has_service && (!is_open(name) || !extra.is_empty()) {
            // The running service cannot be changed without a reload; what it let in is added by itself before.
            let lost = needs.without(&needs.without(&let_in)).without(&zone.ports);
            part.changes.extend(ports_change(name, "add", &lost));
            part.changes.push(Change::command(&format!("firewall-cmd --zone={name} --remove-service={tag}")));
            part.leftover = part.leftover.or(&extra);
        }
        let extra = ours(facts, name, zone, tag).without(&needs);
        part.leftover = part.leftover.or(&extra);
        part.changes.extend(ports_change(name, "remove", &extra));
    }
    for (name, zone) in &facts.permanent {
        if is_open(name) {
            continue;
        }
        if zone.services.iter().any(|service| service == tag) {
            part.changes
                .push(Change::command(&format!("firewall-cmd --permanent --zone={name} --remove-service={tag}")));
        }
        let (file, old) = (zone_file(name), zone_file(name).with_extension("xml.old"));
        let is_made = facts.made_files.contains(name);
        if is_made && facts.plain_zones.contains(name) {
            part.changes.push(Change::command(&format!("firewall-cmd --permanent --load-zone-defaults={name}")));
            part.changes.push(Change::Remove { path: old });
        } else if is_made && facts.files.contains(&old) && !facts.files.contains(&file) {
            // As a run that was killed leaves it.
            part.changes.push(Change::Remove { path: old });
        }
    }
    if zones.is_empty() {
        let file = service_file(tag);
        let old = file.with_extension("xml.old");
        if facts.service.is_some() {
            part.changes.push(Change::command(&format!("firewall-cmd --permanent --delete-service={tag}")));
            part.changes.push(Change::Remove { path: old });
        } else if facts.files.contains(&old) {
            part.changes.push(Change::Remove { path: old });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::net::Family;

    const ZONES: &str = "\
block
  target: %%REJECT%%
  icmp-block-inversion: no
  interfaces: 
  services: 
  ports: 

public (active)
  target: default
  icmp-block-inversion: no
  interfaces: eth0
  sources: 
  services: dhcpv6-client ssh
  ports: 50000-50010/udp
  protocols: 
  rich rules: 
\trule family=\"ipv4\" source address=\"203.0.113.7\" reject

trusted
  target: ACCEPT
  interfaces: eth1
";

    fn fresh() -> Facts {
        let zones = read_zones(ZONES);
        let mut permanent = zones.clone();
        permanent.get_mut("public").unwrap().ports = Needs::default();
        Facts { zones: ["public".to_owned()].into(), running: zones, permanent, ..Facts::default() }
    }

    fn planned(facts: &Facts, needs: &[&str]) -> (Vec<String>, Part) {
        let needs = Needs::of_words(needs.iter().copied());
        let wanted = Wanted { needs: &needs, tag: "rtcctl", families: &[Family::V4], interfaces: &[] };
        let part = plan(facts, &wanted);
        (part.changes.iter().map(ToString::to_string).collect(), part)
    }

    #[test]
    fn zones_are_read_as_firewalld_tells_them() {
        let zones = read_zones(ZONES);
        assert_eq!(zones.len(), 3);
        assert!(zones["trusted"].accepts_all && !zones["block"].accepts_all);
        assert_eq!(zones["public"].services, ["dhcpv6-client", "ssh"]);
        assert_eq!(zones["public"].ports.to_string(), "50000-50010/udp");
        assert_eq!(zones["public"].refusals.len(), 1);
    }

    #[test]
    fn one_service_for_good_and_the_ports_for_now_around_those_of_the_operator() {
        let (changes, part) = planned(&fresh(), &["443/tcp", "49160-51159/udp"]);
        let wanted = [
            "firewall-cmd --permanent --new-service=rtcctl",
            "firewall-cmd --permanent --service=rtcctl '--set-description=WebRTC calls: page, signaling, STUN and TURN'",
            "firewall-cmd --permanent --service=rtcctl --add-port=443/tcp --add-port=49160-51159/udp",
            "firewall-cmd --permanent --zone=public --add-service=rtcctl",
            "firewall-cmd --zone=public --add-port=443/tcp --add-port=49160-49999/udp --add-port=50011-51159/udp",
        ];
        assert_eq!(changes, wanted);
        assert_eq!(part.closed.to_string(), "443/tcp 49160-49999,50011-51159/udp");
        assert_eq!(part.notes.len(), 1);
    }

    #[test]
    fn after_a_reload_the_service_lets_in_and_is_replaced_when_ports_change() {
        let mut facts = fresh();
        facts.service = Some(Needs::of_words(["443/tcp"]));
        facts.running_service = facts.service.clone();
        for zones in [&mut facts.running, &mut facts.permanent] {
            zones.get_mut("public").unwrap().services.push("rtcctl".to_owned());
        }
        assert_eq!(planned(&facts, &["443/tcp"]).0, Vec::<String>::new());
        let (changes, part) = planned(&facts, &["8443/tcp"]);
        let wanted = [
            "firewall-cmd --permanent --service=rtcctl --add-port=8443/tcp",
            "firewall-cmd --permanent --service=rtcctl --remove-port=443/tcp",
            "firewall-cmd --zone=public --add-port=8443/tcp",
            "firewall-cmd --zone=public --remove-service=rtcctl",
        ];
        assert_eq!(changes, wanted);
        assert_eq!(part.leftover.to_string(), "443/tcp");
        let (changes, _) = planned(&facts, &[]);
        let wanted = [
            "firewall-cmd --zone=public --remove-service=rtcctl",
            "firewall-cmd --permanent --zone=public --remove-service=rtcctl",
            "firewall-cmd --permanent --delete-service=rtcctl",
            "rm -f /etc/firewalld/services/rtcctl.xml.old",
        ];
        assert_eq!(changes, wanted);
    }

    #[test]
    fn what_a_killed_run_left_of_closing_is_completed() {
        let mut facts = fresh();
        facts.made_files.insert("public".to_owned());
        // The service is out of the zone, whose file is what it is by default.
        facts.plain_zones.insert("public".to_owned());
        let old = "rm -f /etc/firewalld/zones/public.xml.old";
        assert_eq!(planned(&facts, &[]).0, ["firewall-cmd --permanent --load-zone-defaults=public", old]);
        // The file is gone, and its predecessor is not.
        facts.plain_zones.clear();
        facts.files.insert("/etc/firewalld/zones/public.xml.old".into());
        assert_eq!(planned(&facts, &[]).0, [old]);
        facts.files.insert("/etc/firewalld/zones/public.xml".into());
        assert_eq!(planned(&facts, &[]).0, Vec::<String>::new(), "somebody else has written the zone since");
    }

    #[test]
    fn what_decides_about_some_callers_is_told_and_left_alone() {
        let mut facts = fresh();
        let zones = "work (active)\n  target: default\n  sources: 198.51.100.0/24 fd99::/64\n  ports: 443/tcp\n";
        facts.running.extend(read_zones(zones));
        let policies = "first (active)\n  priority: -5\n  target: CONTINUE\n  egress-zones: HOST\n  rich rules: \n\t\
                        rule port port=\"3478\" protocol=\"udp\" drop\n\
                        last (active)\n  target: DROP\n  egress-zones: HOST\n\
                        through (active)\n  target: REJECT\n  egress-zones: public\n";
        facts.policies = read_zones(policies);
        let (changes, part) = planned(&facts, &["443/tcp", "3478/udp"]);
        assert!(changes.iter().all(|line| !line.contains("work")), "{changes:?}");
        let notes: Vec<String> = part.notes.iter().skip(1).map(|note| note.english().to_owned()).collect();
        let wanted = [
            "callers from 198.51.100.0/24, fd99::/64 come in by zone work, which is left as it is and may drop 3478/udp",
            "policy first may drop some callers: rule port port=\"3478\" protocol=\"udp\" drop",
            "policy last may drop callers before any zone is asked",
        ];
        assert_eq!(notes, wanted);
        assert!(planned(&facts, &[]).1.notes.is_empty());
    }

    #[test]
    fn a_zone_that_lets_all_in_needs_nothing() {
        let facts = Facts { zones: ["trusted".to_owned()].into(), ..fresh() };
        assert_eq!(planned(&facts, &["443/tcp"]).0, Vec::<String>::new());
    }
}
