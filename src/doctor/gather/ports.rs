//! Who has the ports that the service wants.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use crate::config::{Config, TurnConfig};
use crate::control::protocol::Status;
use crate::doctor::evidence::{Port, PortState, RelayRange, Service};
use crate::sys::ports::{Transport, bound_ports, holder};

pub(super) fn look(config: &Config, service: Option<&Service>) -> Vec<Port> {
    let is_up = matches!(service, Some(Service::Answers(_) | Service::Hidden(_) | Service::Silent(_)));
    let mut wanted = vec![("web.port", Transport::Tcp, config.web.port, &config.web.bind)];
    wanted.extend(config.web.http_port.map(|port| ("web.http_port", Transport::Tcp, port, &config.web.bind)));
    wanted.push(("turn.port", Transport::Udp, config.turn.port, &config.turn.bind));
    wanted.extend(turn_tcp_ports(config).into_iter().map(|(key, port)| (key, Transport::Tcp, port, &config.turn.bind)));
    wanted
        .into_iter()
        .map(|(key, transport, port, bind)| {
            // Those of a service that runs are its own: otherwise it would say so itself.
            let state = if is_up { PortState::Ours } else { state(transport, port, bind) };
            Port { key, transport, port, state }
        })
        .collect()
}

/// The TCP ports that only TURN is served on, with their keys.
pub(super) fn turn_tcp_ports(config: &Config) -> Vec<(&'static str, u16)> {
    let TurnConfig { tcp, port, tls_port, .. } = &config.turn;
    let ports = std::iter::once(("turn.port", *port)).chain(tls_port.map(|port| ("turn.tls_port", port)));
    ports.filter(|(_, port)| *tcp && *port != config.web.port).collect()
}

fn state(transport: Transport, port: u16, bind: &[IpAddr]) -> PortState {
    for address in bind {
        let address = SocketAddr::new(*address, port);
        let tried = match transport {
            Transport::Tcp => TcpListener::bind(address).map(drop),
            Transport::Udp => UdpSocket::bind(address).map(drop),
        };
        match tried.map_err(|error| error.kind()) {
            Err(ErrorKind::AddrInUse) => {
                return PortState::Taken(holder(transport, port).map(|holder| holder.to_string()));
            }
            Err(ErrorKind::PermissionDenied) => return PortState::Forbidden,
            // Anything else is a family or an address that this host does not have, of which `start` tells.
            Ok(()) | Err(_) => {}
        }
    }
    PortState::Free
}

pub(super) fn relay_range(config: &Config, status: Option<&Status>) -> RelayRange {
    let range = &config.turn.relay_ports;
    let bound = bound_ports(Transport::Udp).into_iter().filter(|port| range.contains(port)).count();
    RelayRange {
        ports: u64::try_from(range.len()).unwrap_or(u64::MAX),
        bound: u64::try_from(bound).unwrap_or(u64::MAX),
        ours: status.map_or(0, |status| status.turn.allocations),
    }
}
