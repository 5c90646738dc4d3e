//! Decides what on this host, rather than in the DNS, would keep an order from succeeding.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::moment::Moment;
use super::Objection;
use crate::text;
use crate::words::Text;

/// Seconds that a clock may be off: certificates are dated an hour back by most authorities.
const OFF_BY: Duration = Duration::from_secs(3600);
/// What an order writes, with room to spare.
const LEAST_ROOM: u64 = 1 << 20;

/// What is known of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HereFacts {
    /// What this host takes for now.
    pub now: Moment,
    /// What the authority takes for now.
    pub there: Option<Moment>,
    pub free_bytes: Option<u64>,
    /// Why the folder of certificates cannot be written.
    pub unwritable: Option<String>,
    /// Ports that an authority comes to, each with the one that the service has instead, if that is another.
    pub ports: Vec<(u16, Option<u16>)>,
    /// Addresses of the names that refuse a connection.
    pub refusing: Vec<SocketAddr>,
}

/// Judges this host.
#[must_use]
pub fn judge_here(facts: &HereFacts) -> Vec<Objection> {
    let mut found = Vec::new();
    let mut object = |code, is_certain, what: Text, hint: Text| {
        found.push(Objection { code, what, hint, is_certain });
    };
    if let Some(there) = facts.there {
        let off = there.since(facts.now).max(facts.now.since(there));
        if off > OFF_BY {
            let minutes = off.as_secs() / 60;
            let what = if there > facts.now {
                text!("this host's clock is {} minutes behind the authority's", minutes)
            } else {
                text!("this host's clock is {} minutes ahead of the authority's", minutes)
            };
            object("clock", true, what, text!("set this host's clock, best by NTP"));
        }
    }
    if let Some(why) = &facts.unwritable {
        object(
            "disk",
            true,
            text!("the folder of certificates cannot be written: {}", why),
            text!("see its owner and mode"),
        );
    }
    if let Some(free) = facts.free_bytes.filter(|free| *free < LEAST_ROOM) {
        let what = text!("{} bytes are free on the disk of the certificates", free);
        object("disk", true, what, text!("free some space there"));
    }
    // One port that is come to is enough.
    if !facts.ports.is_empty() && facts.ports.iter().all(|(_, instead)| instead.is_some()) {
        for (port, instead) in &facts.ports {
            let Some(instead) = instead else { continue };
            object(
                "port",
                false,
                text!("an authority comes to TCP port {}, and the service has {} in its place", port, instead),
                text!(
                    "have the router or the firewall lead the one to the other, or run the service on the usual port"
                ),
            );
        }
    }
    for address in &facts.refusing {
        object(
            "port",
            false,
            text!("{} refuses connections from here", address),
            text!("start the service, and let the router or the load balancer lead this port to it"),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment(1_800_000_000);

    fn codes(facts: HereFacts) -> Vec<(&'static str, bool)> {
        judge_here(&HereFacts { now: NOW, ..facts }).iter().map(|one| (one.code, one.is_certain)).collect()
    }

    #[test]
    fn a_host_that_is_well_is_not_objected_to() {
        let ports = vec![(80, Some(8080)), (443, None)];
        let facts =
            HereFacts { there: Some(NOW.plus(OFF_BY)), free_bytes: Some(LEAST_ROOM), ports, ..HereFacts::default() };
        assert_eq!(codes(facts), []);
        assert_eq!(codes(HereFacts::default()), []);
    }

    #[test]
    fn a_clock_that_is_off_by_a_year_is_told_with_its_direction() {
        let year = Duration::from_secs(365 * 24 * 3600);
        for (there, way) in [(NOW.plus(year), "525600 minutes behind"), (NOW.minus(year), "525600 minutes ahead of")] {
            let found = judge_here(&HereFacts { now: NOW, there: Some(there), ..HereFacts::default() });
            assert!(found[0].what.contains(way) && found[0].is_certain, "{found:?}");
        }
    }

    #[test]
    fn a_full_disk_and_a_folder_of_somebody_else_are_certain_and_ports_may_be_led_on() {
        assert_eq!(codes(HereFacts { free_bytes: Some(4096), ..HereFacts::default() }), [("disk", true)]);
        let unwritable = Some("permission denied".to_owned());
        assert_eq!(codes(HereFacts { unwritable, ..HereFacts::default() }), [("disk", true)]);
        let ports = vec![(80, Some(8080)), (443, Some(8443))];
        let refusing = vec!["192.0.2.1:80".parse().unwrap()];
        assert_eq!(codes(HereFacts { ports, refusing, ..HereFacts::default() }), [("port", false); 3]);
    }
}
