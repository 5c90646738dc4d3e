//! Looks before an order whether it can succeed, so that a mistake costs nothing of an authority's limits.
//!
//! Questions go to the resolvers of this host. What the answers mean is judged by `judge`; what nobody answers stands in
//! nobody's way. Whether a port can be reached from outside is shown by a rehearsal alone.

mod dns;
mod judge;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::time::Duration;

pub use dns::{Answer, Kind};
pub use judge::{NameFacts, Objection, judge};

use crate::config::Host;
use crate::sys::net::local_addresses;

/// How long a resolver may take, and how many of them are asked.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
const MAX_RESOLVERS: usize = 2;
/// Bytes of the longest answer that is read; longer ones come in parts, and are not asked for.
const MAX_ANSWER: usize = 4096;
const DNS_PORT: u16 = 53;

/// Asks about every name, and judges the answers. `own` are the addresses that this host is reached at from outside;
/// `issuer` is what the authority is called in CAA records. Blocks for some seconds at most.
#[must_use]
pub fn look(hosts: &BTreeSet<Host>, own: &[IpAddr], issuer: Option<&str>) -> Vec<Objection> {
    let resolvers = resolvers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    look_at(hosts, own, issuer, &resolvers)
}

/// As [`look`], by these resolvers.
#[must_use]
pub fn look_at(
    hosts: &BTreeSet<Host>,
    own: &[IpAddr],
    issuer: Option<&str>,
    resolvers: &[SocketAddr],
) -> Vec<Objection> {
    let own: Vec<IpAddr> = own.iter().copied().chain(local_addresses()).collect();
    let names = hosts.iter().filter_map(|host| match host {
        Host::Name(name) => Some(name),
        Host::Address(_) => None,
    });
    let facts: Vec<NameFacts> = names
        .map(|name| NameFacts {
            name: name.clone(),
            v4: ask(resolvers, name, Kind::A),
            v6: ask(resolvers, name, Kind::Aaaa),
            caa: caa(resolvers, name),
            here: (name.as_str(), 443)
                .to_socket_addrs()
                .map(|found| found.map(|address| address.ip()).collect())
                .unwrap_or_default(),
        })
        .collect();
    judge(&facts, &own, issuer)
}

/// The records of the name itself or of the nearest name above that has some. RFC 8659, section 3.
fn caa(resolvers: &[SocketAddr], name: &str) -> Option<Answer> {
    let mut at = name;
    loop {
        let answer = ask(resolvers, at, Kind::Caa)?;
        if !answer.issuers.is_empty() || answer.fails {
            return Some(answer);
        }
        match at.split_once('.') {
            Some((_, above)) if above.contains('.') => at = above,
            Some(_) | None => return Some(answer),
        }
    }
}

fn ask(resolvers: &[SocketAddr], name: &str, kind: Kind) -> Option<Answer> {
    resolvers.iter().take(MAX_RESOLVERS).find_map(|resolver| exchange(*resolver, name, kind).ok().flatten())
}

fn exchange(resolver: SocketAddr, name: &str, kind: Kind) -> io::Result<Option<Answer>> {
    let any: SocketAddr = if resolver.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(resolver)?;
    socket.set_read_timeout(Some(ANSWERED_WITHIN))?;
    let id = rand::random();
    let Some(question) = dns::question(id, name, kind) else { return Ok(None) };
    socket.send(&question)?;
    let mut buffer = [0; MAX_ANSWER];
    let length = socket.recv(&mut buffer)?;
    Ok(dns::answer(id, kind, &buffer[..length]))
}

/// The resolvers that a `resolv.conf` names.
fn resolvers(text: &str) -> Vec<SocketAddr> {
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
        let found: Vec<String> = resolvers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.53:53", "[2001:db8::53]:53"]);
    }

    #[test]
    fn a_resolver_that_does_not_answer_objects_to_nothing() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let hosts = BTreeSet::from(["call.example".parse().unwrap(), "192.0.2.1".parse().unwrap()]);
        let address = silent.local_addr().unwrap();
        drop(silent);
        assert_eq!(look_at(&hosts, &[], Some("letsencrypt.org"), &[address]), []);
    }
}
