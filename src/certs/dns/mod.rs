//! Asks the DNS: resolvers of this host for what a name is, a zone's own servers for what they say now.

mod message;
mod zone;

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

pub use message::{Answer, Kind};
pub use zone::{Sight, final_name, name_servers, sight};

/// How long a resolver may take, and how many of them are asked.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
const MAX_RESOLVERS: usize = 2;
/// Bytes of the longest answer that is read.
const MAX_ANSWER: usize = 4096;
/// Where name servers listen.
pub const DNS_PORT: u16 = 53;

/// The resolvers of this host.
#[must_use]
pub fn resolvers() -> Vec<SocketAddr> {
    read_resolvers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

/// What the first of these resolvers that answers says; `None`: nobody does. Blocks for some seconds at most.
#[must_use]
pub fn ask(resolvers: &[SocketAddr], name: &str, kind: Kind) -> Option<Answer> {
    resolvers.iter().take(MAX_RESOLVERS).find_map(|resolver| ask_one(*resolver, name, kind))
}

/// What one server says.
#[must_use]
pub fn ask_one(server: SocketAddr, name: &str, kind: Kind) -> Option<Answer> {
    exchange(server, name, kind).ok().flatten()
}

fn exchange(server: SocketAddr, name: &str, kind: Kind) -> io::Result<Option<Answer>> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(ANSWERED_WITHIN))?;
    let id = rand::random();
    let Some(question) = message::question(id, name, kind) else { return Ok(None) };
    socket.send(&question)?;
    let mut buffer = [0; MAX_ANSWER];
    let length = socket.recv(&mut buffer)?;
    if message::is_truncated(id, &buffer[..length]) {
        return Ok(message::answer(id, kind, &exchange_by_tcp(server, &question)?));
    }
    Ok(message::answer(id, kind, &buffer[..length]))
}

/// RFC 1035, section 4.2.2.
fn exchange_by_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, ANSWERED_WITHIN)?;
    stream.set_read_timeout(Some(ANSWERED_WITHIN))?;
    stream.set_write_timeout(Some(ANSWERED_WITHIN))?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// The resolvers that a `resolv.conf` names.
fn read_resolvers(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        address.parse::<IpAddr>().ok()
    });
    addresses.map(|address| (address, DNS_PORT).into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_as_the_system_reads_them() {
        let text = "# x\nsearch a.b\nnameserver 192.0.2.53\nnameserver 2001:db8::53 # y\nnameserver nonsense\n";
        let found: Vec<String> = read_resolvers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.53:53", "[2001:db8::53]:53"]);
    }
}
