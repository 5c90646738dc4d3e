//! Asks the service what a client would ask it, from outside: over its own sockets.
//!
//! What a probe finds is for people and for `status`; restarting is left to the supervisor, which looks at progress.

mod https;
mod stun;
pub mod turn;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::error::{Failure, Result};

/// How long one probe may take: what takes longer does not work for a caller either.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// Asks the STUN server at `address` for the address it sees.
///
/// # Errors
/// If it does not answer in time, or with something else.
pub fn stun(address: SocketAddr) -> Result<()> {
    stun::ask(reachable(address))
}

/// Asks the web task how the service is. `fingerprint` is that of the certificate that must be served.
///
/// # Errors
/// If TLS fails, another certificate is served, or the answer is not that of a web task.
pub fn web(address: SocketAddr, fingerprint: &str) -> Result<()> {
    let (status, body) = https::get(reachable(address), fingerprint, "/healthz")?;
    let is_health = matches!(status, 200 | 503) && body.starts_with("{\"state\":");
    if is_health { Ok(()) } else { Err(Failure::operator(format!("health was answered by status {status}"))) }
}

/// Shakes hands with the signaling task, as a Socket.IO client does.
///
/// # Errors
/// As [`web`].
pub fn signaling(address: SocketAddr, fingerprint: &str) -> Result<()> {
    let (status, body) = https::get(reachable(address), fingerprint, "/socket.io/?EIO=4&transport=polling")?;
    // An Engine.IO packet of type `open`.
    if status == 200 && body.starts_with("0{") {
        return Ok(());
    }
    Err(Failure::operator(format!("the Socket.IO handshake was answered by status {status}")))
}

/// Where a listener on `address` can be reached from this host.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => (Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(v6) if v6.is_unspecified() => (Ipv6Addr::LOCALHOST, address.port()).into(),
        IpAddr::V4(_) | IpAddr::V6(_) => address,
    }
}
