//! Who holds a port, read from `/proc`, so that "address already in use" can name the process.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::Path;

use crate::error::Failure;
use crate::text;

/// What runs over the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    Tcp,
    Udp,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A process that holds a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    pub name: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// Finds the process that listens on `port`, if this user may see it.
#[must_use]
pub fn holder(transport: Transport, port: u16) -> Option<Holder> {
    let inodes = listening_inodes(transport, port);
    if inodes.is_empty() {
        return None;
    }
    let processes = std::fs::read_dir("/proc").ok()?;
    let processes = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = choose(processes.filter(|pid| holds_any(*pid, &inodes)), std::process::id())?;
    Some(Holder { pid, name: process_name(pid) })
}

/// Another process rather than this one, which may have bound the port for the other family just before.
fn choose(holders: impl Iterator<Item = u32>, own: u32) -> Option<u32> {
    let mut has_own = false;
    let other = holders.inspect(|pid| has_own |= *pid == own).find(|pid| *pid != own);
    other.or(has_own.then_some(own))
}

/// Every port that a socket of this host has, whoever it belongs to.
#[must_use]
pub fn bound_ports(transport: Transport) -> BTreeSet<u16> {
    let local_port = |line: &str| {
        let (_, port) = line.split_ascii_whitespace().nth(1)?.rsplit_once(':')?;
        u16::from_str_radix(port, 16).ok()
    };
    tables(transport)
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|table| table.lines().skip(1).filter_map(local_port).collect::<Vec<_>>())
        .collect()
}

fn tables(transport: Transport) -> [&'static str; 2] {
    match transport {
        Transport::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        Transport::Udp => ["/proc/net/udp", "/proc/net/udp6"],
    }
}

fn listening_inodes(transport: Transport, port: u16) -> BTreeSet<u64> {
    tables(transport)
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|table| table.lines().skip(1).filter_map(|line| inode_on(line, transport, port)).collect::<Vec<_>>())
        .collect()
}

/// The socket inode of a line of `/proc/net/{tcp,udp}*`, if its local port is `port` and it waits for callers.
fn inode_on(line: &str, transport: Transport, port: u16) -> Option<u64> {
    const TCP_LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
    let waits = transport == Transport::Udp || *fields.get(3)? == TCP_LISTEN;
    let matches = u16::from_str_radix(local_port, 16).ok()? == port && waits;
    matches.then(|| fields.get(9)?.parse().ok())?
}

fn holds_any(pid: u32, inodes: &BTreeSet<u64>) -> bool {
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok()).any(|target| {
        target
            .to_str()
            .and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
            .is_some_and(|inode| inodes.contains(&inode))
    })
}

fn process_name(pid: u32) -> String {
    let name = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("comm"));
    name.map_or_else(|_| "a process".to_owned(), |name| name.trim_end().to_owned())
}

/// Turns a failed bind into words: who holds the port, or what is missing, and which `key` changes it.
///
/// `what` is who wanted the address, for example `web`.
#[must_use]
pub fn bind_failure(transport: Transport, addr: SocketAddr, what: &str, key: &str, error: io::Error) -> Failure {
    let kind = error.kind();
    let failure = Failure::operator(text!("cannot bind `{}/{}` for {}", addr, transport, what)).caused_by(error);
    let hint = if kind == ErrorKind::AddrInUse {
        match holder(transport, addr.port()) {
            Some(holder) => text!("`{}` already listens there; stop it or change `{}`", holder, key),
            None => text!(
                "another process, hidden from this user, listens there; find it as root by `ss -lpn sport = :{}`, or change `{}`",
                addr.port(),
                key
            ),
        }
    } else if kind == ErrorKind::PermissionDenied {
        text!("ports below 1024 need root or CAP_NET_BIND_SERVICE; run as root, or set `{}` to a port above 1023", key)
    } else if kind == ErrorKind::AddrNotAvailable {
        text!("this host has no such address; compare with `ip address` and change the `bind` list beside it")
    } else {
        text!("change `{}` if the port is reserved on this host", key)
    };
    failure.hinted(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn the_holder_of_a_listening_port_is_this_process() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("[::1]:0").unwrap();
        let me = std::process::id();
        assert_eq!(holder(Transport::Tcp, tcp.local_addr().unwrap().port()).unwrap().pid, me);
        assert_eq!(holder(Transport::Udp, udp.local_addr().unwrap().port()).unwrap().pid, me);
        assert!(bound_ports(Transport::Udp).contains(&udp.local_addr().unwrap().port()));
    }

    #[test]
    fn whoever_else_holds_a_port_is_named_rather_than_this_process() {
        assert_eq!(choose([7, 9].into_iter(), 7), Some(9));
        assert_eq!(choose([9, 7].into_iter(), 7), Some(9));
        assert_eq!(choose([7].into_iter(), 7), Some(7));
        assert_eq!(choose([].into_iter(), 7), None);
    }

    #[test]
    fn a_connected_socket_is_not_a_holder_of_its_port() {
        let line = "   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1";
        assert_eq!(inode_on(line, Transport::Tcp, 8080), None);
        let listening = line.replace(" 01 ", " 0A ");
        assert_eq!(inode_on(&listening, Transport::Tcp, 8080), Some(4711));
        assert_eq!(inode_on("garbage", Transport::Tcp, 8080), None);
    }

    #[test]
    fn a_taken_port_names_its_holder_and_the_key() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = tcp.local_addr().unwrap();
        let error = TcpListener::bind(addr).unwrap_err();
        let failure = bind_failure(Transport::Tcp, addr, "web", "web.port", error);
        assert_eq!(failure.message(), format!("cannot bind `{addr}/tcp` for web"));
        assert!(failure.hints()[0].contains(&format!("(pid {})", std::process::id())), "{:?}", failure.hints());
        assert!(failure.hints()[0].contains("`web.port`"));
    }
}
