//! The one truth about ports: what callers must reach, from the configuration. Firewalls, plans and the commands for
//! clouds are all written from it.

mod clouds;
mod format;
pub mod set;

use std::net::IpAddr;
use std::ops::RangeInclusive;

pub use format::{Format, Sheet, render, ufw_profile};
pub use set::PortSet;

use crate::config::{CertSource, Config};
use crate::sys::ports::Transport;
use crate::word;

/// A port or a range that has to be reachable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortUse {
    pub transport: Transport,
    pub ports: RangeInclusive<u16>,
    pub why: &'static str,
}

/// What callers must reach. What listens on loopback alone is not for them.
#[must_use]
pub fn port_uses(config: &Config) -> Vec<PortUse> {
    let tcp = |port, why| PortUse { transport: Transport::Tcp, ports: port..=port, why };
    let (web, turn) = (&config.web, &config.turn);
    let mut uses = Vec::new();
    if is_for_others(&web.bind) {
        let https = if turn.tcp {
            word!("the HTTPS page, signaling, and TURN over TLS")
        } else {
            word!("the HTTPS page and signaling")
        };
        uses.push(tcp(web.port, https));
        let plain = match config.certificate.source {
            CertSource::Acme => word!("redirects plain HTTP to HTTPS, and answers the certificate authority"),
            CertSource::SelfSigned | CertSource::Files => word!("redirects plain HTTP to HTTPS"),
        };
        uses.extend(web.http_port.map(|port| tcp(port, plain)));
    }
    if is_for_others(&turn.bind) {
        uses.push(PortUse { transport: Transport::Udp, ports: turn.port..=turn.port, why: word!("STUN and TURN") });
        let streams = [Some(turn.port), turn.tls_port].into_iter().flatten();
        let streams = streams.filter(|port| turn.tcp && *port != web.port);
        uses.extend(streams.map(|port| tcp(port, word!("TURN where UDP is blocked"))));
    }
    if is_for_others(&turn.relay_ips) {
        let why = word!("relayed media, one port for each relayed caller");
        uses.push(PortUse { transport: Transport::Udp, ports: turn.relay_ports.clone(), why });
    }
    uses
}

fn is_for_others(addresses: &[IpAddr]) -> bool {
    addresses.iter().any(|address| !address.is_loopback())
}

/// The ports of one transport.
#[must_use]
pub fn ports_of(uses: &[PortUse], transport: Transport) -> PortSet {
    uses.iter().filter(|port| port.transport == transport).map(|port| port.ports.clone()).collect()
}
