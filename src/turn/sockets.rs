//! The listening sockets: bound once by the daemon, used by one instance of the task after the other.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::{TurnConfig, any_address};
use crate::error::{Failure, Result};
use crate::sys::fdstore::Inherited;
use crate::sys::notify::Manager;
use crate::sys::ports::{Transport, bind_failure};
use crate::sys::udp::{Purpose, adopt, open};
use crate::text;

/// The name by which the service manager keeps the sockets, and by which units of systemd may hand them over.
const NAME: &str = "turn-udp";

/// A listening socket of one worker. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Listener {
    pub(super) socket: Arc<UdpSocket>,
    pub(super) address: SocketAddr,
    /// It has been moved away from, and goes when nobody uses it any more.
    pub(super) drains: bool,
    /// Said by its worker of a listener that drains: no allocation uses it.
    is_idle: Arc<AtomicBool>,
}

impl Listener {
    pub(super) fn new(socket: UdpSocket, address: SocketAddr) -> Self {
        Self { socket: Arc::new(socket), address, drains: false, is_idle: Arc::default() }
    }

    /// The same listener, moved away from or not.
    pub(super) fn draining(&self, drains: bool) -> Self {
        Self { drains, ..self.clone() }
    }

    pub(super) fn say_idle(&self, is_idle: bool) {
        self.is_idle.store(is_idle, Ordering::Relaxed);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.is_idle.load(Ordering::Relaxed)
    }

    /// Whether both are the same socket.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.socket, &other.socket)
    }
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

    /// Has the service manager keep all of them for the next start.
    ///
    /// # Errors
    /// If there is no descriptor to be had.
    pub fn keep_in(&self, manager: &Manager) -> std::io::Result<()> {
        manager.keep(NAME, self.workers.iter().flatten().map(|listener| &*listener.socket))
    }
}

/// Binds the TURN port on every address, once for each worker.
///
/// # Errors
/// If a port is taken, naming its holder, or may not be had.
pub fn bind(config: &TurnConfig) -> Result<TurnSockets> {
    take_or_bind(config, &mut Inherited::default())
}

/// As [`bind`], except for what the service manager has kept from the start before.
///
/// # Errors
/// As [`bind`].
pub fn take_or_bind(config: &TurnConfig, inherited: &mut Inherited) -> Result<TurnSockets> {
    let count = config.workers.max(1);
    let mut workers: Vec<Vec<Listener>> = (0..count).map(|_| Vec::new()).collect();
    for address in &config.bind {
        let opened = open_each(config, *address, count, Some(inherited))?;
        workers.iter_mut().zip(opened).for_each(|(listeners, listener)| listeners.push(listener));
    }
    if workers.iter().all(Vec::is_empty) {
        return Err(nowhere());
    }
    Ok(TurnSockets { workers })
}

pub(super) fn nowhere() -> Failure {
    Failure::operator(text!("there is no address to listen on for turn")).hinted(text!("list one as `turn.bind`"))
}

/// Has the service manager keep these sockets, and no others.
pub(super) fn keep<'a>(manager: &Manager, listeners: impl Iterator<Item = &'a Listener>) -> std::io::Result<()> {
    manager.release_named(NAME);
    manager.keep(NAME, listeners.map(|listener| &*listener.socket))
}

/// Takes or binds the TURN port of one address, once for each worker. None at all, if the host lacks the family of an
/// address that nobody wrote down. Without `inherited`, another socket of ours has the port already, on an address that
/// overlaps.
pub(super) fn open_each(
    config: &TurnConfig,
    address: IpAddr,
    workers: usize,
    inherited: Option<&mut Inherited>,
) -> Result<Vec<Listener>> {
    let mut wanted = SocketAddr::new(address, config.port);
    let failed = |wanted, error| bind_failure(Transport::Udp, wanted, "turn", "turn.port", error);
    let mut kept = Vec::new();
    if let Some(inherited) = inherited {
        while kept.len() < workers {
            let Some(socket) = inherited.take_udp(NAME, wanted) else { break };
            adopt(&socket).map_err(|error| failed(wanted, error))?;
            wanted = socket.local_addr().map_err(|error| failed(wanted, error))?;
            kept.push(socket);
        }
        // Nobody else can have what was kept for us.
        let found = if kept.is_empty() { probe(wanted) } else { Ok(wanted) };
        match found {
            Ok(found) => wanted = found,
            // A host without IPv6 serves IPv4; an address somebody wrote down is a different matter.
            Err(error) if lacks_family(&error) && address.is_unspecified() && config.bind == any_address() => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(failed(wanted, error)),
        }
    }
    let open_one = |_| {
        let socket = kept.pop().map_or_else(|| open(wanted, Purpose::Listener), Ok);
        socket.map(|socket| Listener::new(socket, wanted)).map_err(|error| failed(wanted, error))
    };
    (0..workers).map(open_one).collect()
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
    fn what_was_kept_is_taken_over_by_as_many_workers_as_there_are_now() {
        let named = |sockets: TurnSockets| {
            let sockets = sockets.workers.into_iter().flatten();
            Inherited::of(
                sockets.map(|listener| (NAME.to_owned(), Arc::into_inner(listener.socket).unwrap().into())).collect(),
            )
        };
        let before = bind(&config(0)).unwrap();
        let port = before.addresses()[0].port();
        let mut inherited = named(before);
        let more = TurnConfig { workers: 3, ..config(port) };
        let after = take_or_bind(&more, &mut inherited).unwrap();
        assert_eq!(after.workers.iter().flatten().count(), 3);
        assert_eq!(inherited.finish(), Vec::<String>::new());
        let mut inherited = named(after);
        let fewer = take_or_bind(&TurnConfig { workers: 1, ..config(port) }, &mut inherited).unwrap();
        assert_eq!(fewer.addresses()[0].port(), port);
        assert_eq!(inherited.finish(), [NAME], "datagrams must not go to a socket that nobody reads");
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
