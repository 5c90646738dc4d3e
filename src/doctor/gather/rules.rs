//! What the rules of this host's firewall say, as `rtcctl firewall` reads them.

use crate::config::Config;
use crate::doctor::evidence::Rules;
use crate::doctor::outcome::Remedy;
use crate::home::Home;
use crate::setup::firewall::confirm::Pending;
use crate::setup::firewall::{Needs, Record, detect, drift, plan};
use crate::setup::ports::{PortSet, port_uses};
use crate::text;
use crate::words::Text;

/// `Err`: it cannot be seen; why.
pub(super) fn look(home: &Home, config: &Config) -> Result<Rules, Text> {
    if !nix::unistd::geteuid().is_root() {
        return Err(text!("only root can see it: sudo rtcctl doctor"));
    }
    let detected = detect(home).map_err(|failure| failure.told())?;
    let tag = home.tag();
    let needs = Needs::of(&port_uses(config));
    let range: PortSet = std::iter::once(config.turn.relay_ports.clone()).collect();
    let relay = plan(&detected, &Needs { udp: range, tcp: PortSet::default() }, &tag);
    let closing = relay.parts.iter().filter(|part| !part.closed.is_empty());
    Ok(Rules {
        opened: Record::load(home).needs,
        drifts: drift(&detected, &needs, &tag),
        relay_closed: relay.closed().udp,
        relay_closed_by: closing.map(|part| part.layer.as_str()).collect(),
        filters: !relay.parts.is_empty(),
        waits: Pending::load(home).is_some(),
        remedy: plan(&detected, &needs, &tag)
            .refusal
            .is_none()
            .then(|| Remedy::SettleFirewall(Box::new(home.clone()), Box::new(needs))),
    })
}
