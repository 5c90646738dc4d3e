//! The host's own addresses, those of names, and whose a client's is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::text;
use crate::words::Text;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// The addresses of all interfaces that are up, loopback and link-local ones left out, IPv4 first.
///
/// Empty where the host has none or does not tell.
#[must_use]
pub fn local_addresses() -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = getifaddrs()
        .into_iter()
        .flatten()
        .filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP))
        .filter_map(|interface| {
            let address = interface.address?;
            address
                .as_sockaddr_in()
                .map(|v4| IpAddr::V4(v4.ip()))
                .or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .filter(|address| !address.is_loopback() && !is_link_local(*address))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// What counts as one client: an address, or the /64 that an IPv6 subscriber has for himself.
#[must_use]
pub fn site(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

/// The address this host sends from towards the internet, by its routing table. No packet is sent.
///
/// `None` without a route, or when the route leads to loopback.
#[must_use]
pub fn default_source(family: Family) -> Option<IpAddr> {
    // Documentation prefixes may be routed to nowhere on purpose, so addresses of the public internet are asked for.
    let (any, target): (SocketAddr, SocketAddr) = match family {
        Family::V4 => ((Ipv4Addr::UNSPECIFIED, 0).into(), (Ipv4Addr::new(1, 1, 1, 1), 9).into()),
        Family::V6 => {
            let target = Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111);
            ((Ipv6Addr::UNSPECIFIED, 0).into(), (target, 9).into())
        }
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(target).ok()?;
    let source = socket.local_addr().ok()?.ip();
    (!source.is_loopback() && !source.is_unspecified() && !is_link_local(source)).then_some(source)
}

/// The interfaces that lead to the internet, by the kernel's own tables; where none does, all that are up and have an
/// address.
#[must_use]
pub fn outer_interfaces() -> Vec<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let mut found = default_routes(&read("/proc/net/route"), &read("/proc/net/ipv6_route"));
    if found.is_empty() {
        found = getifaddrs()
            .into_iter()
            .flatten()
            .filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP))
            .filter(|interface| !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK))
            .filter(|interface| interface.address.is_some_and(|address| address.as_sockaddr_in().is_some()))
            .map(|interface| interface.interface_name)
            .collect();
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The interfaces of the routes to everywhere, from `/proc/net/route` and `/proc/net/ipv6_route`.
fn default_routes(v4: &str, v6: &str) -> Vec<String> {
    const ANY_V4: &str = "00000000";
    const ANY_V6: &str = "00000000000000000000000000000000";
    let v4 = v4.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        (*fields.get(1)? == ANY_V4 && *fields.get(7)? == ANY_V4).then(|| fields[0].to_owned())
    });
    let v6 = v6.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        (*fields.first()? == ANY_V6 && *fields.get(1)? == "00").then(|| fields.last().map(|name| (*name).to_owned()))?
    });
    // The kernel's own route to nowhere is on loopback.
    v4.chain(v6).filter(|name| name != "lo").collect()
}

/// The broadcast addresses of all networks this host is in.
#[must_use]
pub fn broadcast_addresses() -> Vec<IpAddr> {
    getifaddrs()
        .into_iter()
        .flatten()
        .filter(|interface| interface.flags.contains(InterfaceFlags::IFF_BROADCAST))
        .filter_map(|interface| Some(IpAddr::V4(interface.broadcast?.as_sockaddr_in()?.ip())))
        .collect()
}

/// Asks the system's resolver, which has no deadline of its own, for the addresses of `host`.
///
/// # Errors
/// Why there is none, in words.
pub fn resolve(host: &str, port: u16, patience: Duration) -> Result<Vec<SocketAddr>, Text> {
    let (told, answer) = mpsc::channel();
    let place = (host.to_owned(), port);
    let asking = move || {
        // Nobody may listen any more.
        let _ = told.send(place.to_socket_addrs().map(Iterator::collect::<Vec<_>>));
    };
    thread::Builder::new().name("dns".to_owned()).spawn(asking).map_err(|error| Text::of_error(&error))?;
    match answer.recv_timeout(patience) {
        Ok(Ok(addresses)) if addresses.is_empty() => Err(text!("the resolver knows the name but no address")),
        Ok(Ok(mut addresses)) => {
            addresses.dedup();
            Ok(addresses)
        }
        Ok(Err(error)) => Err(Text::of_error(&error)),
        Err(_) => Err(text!("the resolver did not answer within {} s", patience.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_to_everywhere_name_their_interfaces() {
        let v4 = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                  eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                  eth1\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        let zero = "0".repeat(32);
        let v6 = format!(
            "{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo\n\
                          {zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 1 0 00000003 eth2\n"
        );
        assert_eq!(default_routes(v4, &v6), ["eth0", "eth2"]);
    }
}
