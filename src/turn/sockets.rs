//! The listening sockets: bound once by the daemon, used by one instance of the task after the other.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use crate::config::{TurnConfig, any_address};
use crate::error::{Failure, Result};
use crate::sys::ports::{Transport, bind_failure};
use crate::sys::udp::{Purpose, open};

/// A listening socket of one worker.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: UdpSocket,
    pub(super) address: SocketAddr,
}

/// All listening sockets, by worker.
#[derive(Debug)]
pub struct TurnSockets {
    pub(super) workers: Vec<Vec<Listener>>,
}

impl TurnSockets {
    /// The addresses that are listened on.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.workers.first().into_iter().flatten().map(|listener| listener.address).collect()
    }
}

/// Binds the TURN port on every address, once for each worker.
///
/// # Errors
/// If a port is taken, naming its holder, or may not be had.
pub fn bind(config: &TurnConfig) -> Result<TurnSockets> {
    let mut workers: Vec<Vec<Listener>> = (0..config.workers.max(1)).map(|_| Vec::new()).collect();
    for address in &config.bind {
        let mut wanted = SocketAddr::new(*address, config.port);
        match probe(wanted) {
            Ok(found) => wanted = found,
            // A host without IPv6 serves IPv4; an address somebody wrote down is a different matter.
            Err(error) if lacks_family(&error) && address.is_unspecified() && config.bind == any_address() => continue,
            Err(error) => return Err(bind_failure(Transport::Udp, wanted, "turn", "turn.port", error)),
        }
        for listeners in &mut workers {
            let socket = open(wanted, Purpose::Listener)
                .map_err(|error| bind_failure(Transport::Udp, wanted, "turn", "turn.port", error))?;
            listeners.push(Listener { socket, address: wanted });
        }
    }
    if workers.iter().all(Vec::is_empty) {
        return Err(Failure::operator("there is no address to listen on for turn").hinted("list one as `turn.bind`"));
    }
    Ok(TurnSockets { workers })
}

/// Binds the address alone for a moment: a shared bind would succeed beside any other program that shares.
fn probe(wanted: SocketAddr) -> std::io::Result<SocketAddr> {
    open(wanted, Purpose::Relay)?.local_addr()
}

fn lacks_family(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::EAFNOSUPPORT | nix::libc::EADDRNOTAVAIL))
}

/// The address of `addresses` that is of the same family as `like`.
pub(super) fn of_family(addresses: &[IpAddr], like: IpAddr) -> Option<IpAddr> {
    addresses.iter().copied().find(|address| address.is_ipv4() == like.is_ipv4())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn config(port: u16) -> TurnConfig {
        TurnConfig {
            bind: vec![Ipv4Addr::LOCALHOST.into()],
            port,
            relay_ips: vec![Ipv4Addr::LOCALHOST.into()],
            workers: 2,
            ..TurnConfig::default()
        }
    }

    #[test]
    fn every_worker_listens_on_the_same_port() {
        let sockets = bind(&config(0)).unwrap();
        assert_eq!(sockets.workers.len(), 2);
        let ports: Vec<u16> =
            sockets.workers.iter().flatten().map(|one| one.socket.local_addr().unwrap().port()).collect();
        assert_eq!(ports, [sockets.addresses()[0].port(); 2]);
    }

    #[test]
    fn a_port_that_another_program_shares_is_still_taken() {
        let other = bind(&config(0)).unwrap();
        let port = other.addresses()[0].port();
        let failure = bind(&config(port)).unwrap_err();
        assert_eq!(failure.message(), format!("cannot bind `127.0.0.1:{port}/udp` for turn"));
        assert!(failure.hints()[0].contains(&format!("(pid {})", std::process::id())), "{:?}", failure.hints());
    }
}
