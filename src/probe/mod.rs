//! Asks the service what a client would ask it, from outside: over its own sockets.
//!
//! What a probe finds is for people and for `status`; restarting is left to the supervisor, which looks at progress. A
//! probe ends by its deadline, leaves nothing behind, and is known to the tasks as a probe, so that it shows in no
//! counter of users and takes nobody's place.

mod fault;
pub mod histogram;
mod https;
mod leaf;
mod rooms;
pub mod schedule;
mod stun;
pub mod time;
mod tls;
mod trusted;
pub mod turn;
mod websocket;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

pub use fault::Fault;
pub use leaf::{PresentedLeaf, presented_leaf, presented_page};
pub use trusted::is_trusted;

use crate::sys::marks::Marks;
use crate::text;

/// Where a TLS listener is asked, and what it must present.
#[derive(Debug, Clone, Copy)]
pub struct Secured<'a> {
    pub address: SocketAddr,
    /// The name to say in the handshake, as browsers do; `None`: none, as who has typed an address.
    pub name: Option<&'a str>,
    /// SHA-256 of the certificate that must be served, in lower-case hexadecimal.
    pub fingerprint: &'a str,
    pub marks: &'a Marks,
    /// The end of the probe.
    pub until: Instant,
}

/// Asks the STUN server at `address` for the address it sees.
///
/// # Errors
/// If it does not answer in time, or with something else.
pub fn stun(address: SocketAddr, until: Instant) -> Result<(), Fault> {
    stun::ask(reachable(address), until)
}

/// Asks a STUN server anywhere for the address that it sees packets of this host come from.
///
/// # Errors
/// As [`stun()`].
pub fn mapped(address: SocketAddr, until: Instant) -> Result<SocketAddr, Fault> {
    stun::mapped(address, until)
}

/// Asks a STUN server by TCP for the address that it sees.
///
/// # Errors
/// As [`stun()`].
pub fn stun_by_tcp(address: SocketAddr, until: Instant) -> Result<(), Fault> {
    stun::ask_by_tcp(address, until)
}

/// Asks a server by HTTP, and takes any answer for one.
///
/// # Errors
/// If it does not answer in time, or with something else.
pub fn plain_http(address: SocketAddr, until: Instant) -> Result<(), Fault> {
    https::ask_plain(address, until)
}

/// Shakes hands, and looks which certificate is served.
///
/// # Errors
/// If TLS fails or another certificate is served.
pub fn handshake(at: Secured<'_>) -> Result<(), Fault> {
    tls::connect(at.reachable()).map(drop)
}

/// Asks the web task how the service is.
///
/// # Errors
/// If TLS fails, another certificate is served, or the answer is not that of a web task.
pub fn web(at: Secured<'_>) -> Result<(), Fault> {
    let (status, body) = https::get(at.reachable(), "/healthz")?;
    let is_health = matches!(status, 200 | 503) && body.starts_with("{\"state\":");
    if is_health { Ok(()) } else { Err(Fault::new(text!("health was answered by status {}", status))) }
}

/// Shakes hands with the signaling task, as a Socket.IO client does.
///
/// # Errors
/// As [`web`].
pub fn signaling(at: Secured<'_>) -> Result<(), Fault> {
    let (status, body) = https::get(at.reachable(), "/socket.io/?EIO=4&transport=polling")?;
    // An Engine.IO packet of type `open`.
    if status == 200 && body.starts_with("0{") {
        return Ok(());
    }
    Err(Fault::new(text!("the Socket.IO handshake was answered by status {}", status)))
}

/// Two peers meet in a room, say something to each other, and a third one is kept out.
///
/// # Errors
/// At the first thing that is not as it should be.
pub fn rooms(at: Secured<'_>) -> Result<(), Fault> {
    rooms::meet(at.reachable())
}

impl Secured<'_> {
    fn reachable(self) -> Self {
        Self { address: reachable(self.address), ..self }
    }
}

/// Where a listener on `address` can be reached from this host.
#[must_use]
pub fn local(address: SocketAddr) -> SocketAddr {
    reachable(address)
}

fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => (Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(v6) if v6.is_unspecified() => (Ipv6Addr::LOCALHOST, address.port()).into(),
        IpAddr::V4(_) | IpAddr::V6(_) => address,
    }
}
