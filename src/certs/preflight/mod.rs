//! Looks before an order whether it can succeed, so that a mistake costs nothing of an authority's limits.
//!
//! Questions go to the resolvers of this host. What the answers mean is judged by `judge`; what nobody answers stands in
//! nobody's way. What is wrong with this host is judged by `here`. Whether a port can be reached from outside is shown
//! by a rehearsal alone.

mod here;
mod judge;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::time::Duration;

pub use here::{HereFacts, judge_here};
pub use judge::{NameFacts, Objection, judge};

use super::dns::{Answer, Kind, ask, resolvers};
use super::moment::Moment;
use crate::config::{ChallengeChoice, Config, Host};
use crate::sys::net::local_addresses;
use crate::sys::{clock, room};

/// Asks about every name, and judges the answers. `own` are the addresses that this host is reached at from outside;
/// `issuer` is what the authority is called in CAA records. Blocks for some seconds at most.
#[must_use]
pub fn look(hosts: &BTreeSet<Host>, own: &[IpAddr], issuer: Option<&str>, is_by_dns: bool) -> Vec<Objection> {
    look_at(hosts, own, issuer, is_by_dns, &resolvers())
}

/// How long an address may take to refuse a connection.
const REFUSED_WITHIN: Duration = Duration::from_secs(2);
/// Addresses that are tried.
const MAX_ADDRESSES: usize = 4;

/// Looks at this host: its clock against `there`, what the authority takes for now, the disk and owner of `folder`, and
/// the ports that an authority comes to.
#[must_use]
pub fn look_here(config: &Config, hosts: &BTreeSet<Host>, folder: &Path, there: Option<Moment>) -> Vec<Objection> {
    // It may not be there yet.
    let folder = folder.ancestors().find(|folder| folder.exists()).unwrap_or(folder);
    let acme = &config.certificate.acme;
    let usual =
        [(80, config.web.http_port, ChallengeChoice::Http01), (443, Some(config.web.port), ChallengeChoice::TlsAlpn01)];
    let comes = usual.into_iter().filter(|(_, own, kind)| {
        own.is_some() && !acme.may_use_dns() && [ChallengeChoice::Auto, *kind].contains(&acme.challenge)
    });
    let ports: Vec<(u16, Option<u16>)> = comes.map(|(port, own, _)| (port, own.filter(|own| *own != port))).collect();
    let addresses = hosts.iter().flat_map(|host| match host {
        Host::Address(address) => vec![*address],
        Host::Name(name) => [Kind::A, Kind::Aaaa]
            .into_iter()
            .filter_map(|kind| ask(&resolvers(), name, kind))
            .flat_map(|answer| answer.addresses)
            .collect(),
    });
    let refusing = addresses
        .take(if ports.is_empty() { 0 } else { MAX_ADDRESSES })
        .flat_map(|address| ports.iter().map(move |(port, _)| SocketAddr::from((address, *port))))
        .filter(|address| {
            let tried = TcpStream::connect_timeout(address, REFUSED_WITHIN);
            tried.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        })
        .collect();
    judge_here(&HereFacts {
        now: Moment::from(clock::now().wall),
        there,
        free_bytes: room::on_disk(folder).ok().map(|room| room.free_bytes),
        unwritable: room::writable(folder).err().map(|error| error.to_string()),
        ports,
        refusing,
    })
}

/// As [`look`], by these resolvers.
#[must_use]
pub fn look_at(
    hosts: &BTreeSet<Host>,
    own: &[IpAddr],
    issuer: Option<&str>,
    is_by_dns: bool,
    resolvers: &[SocketAddr],
) -> Vec<Objection> {
    let own: Vec<IpAddr> = own.iter().copied().chain(local_addresses()).collect();
    let names = hosts.iter().filter_map(|host| match host {
        Host::Name(name) => Some(name),
        Host::Address(_) => None,
    });
    let facts: Vec<NameFacts> = names
        .map(|name| {
            let bare = name.strip_prefix("*.").unwrap_or(name);
            let mut facts =
                NameFacts { name: name.clone(), caa: caa(resolvers, bare, bare != name), ..NameFacts::default() };
            // Where a record of the DNS is the proof, nobody comes to the name's addresses.
            if !is_by_dns {
                facts.v4 = ask(resolvers, name, Kind::A);
                facts.v6 = ask(resolvers, name, Kind::Aaaa);
                facts.here = (name.as_str(), 443)
                    .to_socket_addrs()
                    .map(|found| found.map(|address| address.ip()).collect())
                    .unwrap_or_default();
            }
            facts
        })
        .collect();
    judge(&facts, &own, issuer)
}

/// What these resolvers, and this host itself, say of a name.
#[must_use]
pub fn ask_about(name: &str, resolvers: &[SocketAddr]) -> NameFacts {
    NameFacts {
        name: name.to_owned(),
        v4: ask(resolvers, name, Kind::A),
        v6: ask(resolvers, name, Kind::Aaaa),
        caa: caa(resolvers, name, false),
        here: (name, 443)
            .to_socket_addrs()
            .map(|found| found.map(|address| address.ip()).collect())
            .unwrap_or_default(),
    }
}

/// The records of the name itself or of the nearest name above that has some. RFC 8659, section 3.
fn caa(resolvers: &[SocketAddr], name: &str, is_star: bool) -> Option<Answer> {
    let mut at = name;
    loop {
        let mut answer = ask(resolvers, at, Kind::Caa)?;
        let is_empty = answer.issuers.is_empty() && answer.star_issuers.is_empty();
        if is_star && !answer.star_issuers.is_empty() {
            // Where a star has records of its own, the others say nothing of it. RFC 8659, section 4.3.
            answer.issuers = std::mem::take(&mut answer.star_issuers);
        }
        if !is_empty || answer.fails {
            return Some(answer);
        }
        match at.split_once('.') {
            Some((_, above)) if above.contains('.') => at = above,
            Some(_) | None => return Some(answer),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_resolver_that_does_not_answer_objects_to_nothing() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let hosts = BTreeSet::from(["call.example".parse().unwrap(), "192.0.2.1".parse().unwrap()]);
        let address = silent.local_addr().unwrap();
        drop(silent);
        assert_eq!(look_at(&hosts, &[], Some("letsencrypt.org"), false, &[address]), []);
    }
}
