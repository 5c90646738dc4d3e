//! Whether a packet from another network passes this host's firewall: it is sent, from a namespace made for this, and
//! goes through the same rules as everybody's.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::config::Config;
use crate::doctor::evidence::{Fate, Passage, Passages, Purpose};
use crate::doctor::rules::{iptables_names_interfaces, nft_names_interfaces};
use crate::probe;
use crate::setup::facts::network::routes;
use crate::sys::netns::as_a_stranger;
use crate::sys::ports::Transport;
use crate::sys::{clock, exec};
use crate::text;
use crate::words::Text;

/// How long a packet may take, with the repetition of one that a busy machine has dropped.
const ARRIVES_WITHIN: Duration = Duration::from_millis(2_200);
/// How often a datagram is sent again.
const SENT_EVERY: Duration = Duration::from_millis(250);
/// How often it is looked whether something has arrived.
const LOOKED_EVERY: Duration = Duration::from_millis(10);
/// Somebody who listens on this host answers it at once.
const ANSWERS_HERE_WITHIN: Duration = Duration::from_secs(1);
/// Ports of the relay range that are tried, besides the first and the last one.
const SAMPLES: u16 = 3;
/// Ports that are tried besides, as the rules seem to drop them.
const DOUBTFUL: usize = 8;
/// Neighbours that are tried where a port of the range is in use.
const NEIGHBOURS: u16 = 16;
const RULES_WITHIN: Duration = Duration::from_secs(3);
const MAX_RULES: usize = 4 << 20;

/// A packet to be sent, and what shows that it has arrived.
struct Want {
    purpose: Purpose,
    transport: Transport,
    to: SocketAddr,
    /// A socket of ours; `None`: the service answers.
    witness: Option<Witness>,
}

enum Witness {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// What the stranger saw of one packet.
enum Sight {
    Answered,
    Nothing,
    Rejected,
    Broken(Text),
}

/// Sends a packet to each port, and to the `doubtful` ones of the relay range. `Err`: it cannot be tried here; why.
pub(super) fn look(config: &Config, is_running: bool, doubtful: &[u16]) -> Result<Passages, Text> {
    if !nix::unistd::geteuid().is_root() {
        return Err(text!("only root can try it: sudo rtcctl doctor"));
    }
    let (wants, mut tried) = plan(config, is_running, doubtful);
    let packets: Vec<(Transport, SocketAddr, bool)> =
        wants.iter().map(|want| (want.transport, want.to, want.witness.is_some())).collect();
    let over = AtomicBool::new(false);
    let by_interface = names_interfaces();
    let watch = |want: &Want| want.witness.as_ref().is_some_and(|witness| arrives(witness, &over));
    let watch = &watch;
    let (sights, arrived) = thread::scope(|scope| {
        let watching: Vec<_> = wants.iter().map(|want| scope.spawn(move || watch(want))).collect();
        let sights = as_a_stranger(move || {
            thread::scope(|scope| {
                let sending: Vec<_> = packets
                    .iter()
                    .map(|(transport, to, has_witness)| scope.spawn(move || send(*transport, *to, *has_witness)))
                    .collect();
                let broken = |_| Sight::Broken(text!("it could not be sent"));
                sending.into_iter().map(|thread| thread.join().unwrap_or_else(broken)).collect::<Vec<Sight>>()
            })
        });
        // Whatever has not come by now does not come.
        over.store(true, Ordering::Release);
        (sights, watching.into_iter().map(|thread| thread.join().unwrap_or(false)).collect::<Vec<bool>>())
    });
    let sights = sights.map_err(|why| text!("a network to send from cannot be made: {}", why))?;
    for ((want, sight), arrived) in wants.iter().zip(sights).zip(arrived) {
        let fate = match sight {
            _ if arrived => Fate::Passed,
            Sight::Answered => Fate::Passed,
            Sight::Nothing => Fate::Lost,
            Sight::Rejected => Fate::Rejected,
            Sight::Broken(why) => Fate::Untried(why),
        };
        tried.push(Passage { purpose: want.purpose, to: want.to, fate });
    }
    Ok(Passages { tried, by_interface })
}

fn plan(config: &Config, is_running: bool, doubtful: &[u16]) -> (Vec<Want>, Vec<Passage>) {
    let mut wants = Vec::new();
    let mut untried = Vec::new();
    let mut want = |purpose, transport, bind: &[IpAddr], port| {
        for to in targets(config, bind, port) {
            match witness(transport, to, is_running) {
                Ok(witness) => wants.push(Want { purpose, transport, to, witness }),
                Err(why) => untried.push(Passage { purpose, to, fate: Fate::Untried(why) }),
            }
        }
    };
    want(Purpose::Web, Transport::Tcp, &config.web.bind, config.web.port);
    if let Some(port) = config.web.http_port {
        want(Purpose::Http, Transport::Tcp, &config.web.bind, port);
    }
    want(Purpose::TurnUdp, Transport::Udp, &config.turn.bind, config.turn.port);
    for (_, port) in super::ports::turn_tcp_ports(config) {
        want(Purpose::TurnTcp, Transport::Tcp, &config.turn.bind, port);
    }
    for address in config.turn.relay_ips.iter().filter(|address| !address.is_loopback()) {
        for port in samples(&config.turn.relay_ports, doubtful) {
            let last = port.saturating_add(NEIGHBOURS).min(*config.turn.relay_ports.end());
            let found = (port..=last).find_map(|port| {
                let to = SocketAddr::new(*address, port);
                udp_witness(to).ok().map(|witness| (witness, to))
            });
            match found {
                Some((witness, to)) => {
                    let witness = Some(witness);
                    wants.push(Want { purpose: Purpose::Relay, transport: Transport::Udp, to, witness });
                }
                None => untried.push(Passage {
                    purpose: Purpose::Relay,
                    to: (*address, port).into(),
                    fate: Fate::Untried(text!("no port near {} is free at {}", port, address)),
                }),
            }
        }
    }
    (wants, untried)
}

/// Where a stranger would send to: addresses of this host that are in its network.
fn targets(config: &Config, bind: &[IpAddr], port: u16) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = Vec::new();
    for address in bind.iter().filter(|address| !address.is_loopback()) {
        let real = if address.is_unspecified() {
            config.turn.relay_ips.iter().find(|relay| relay.is_ipv4() == address.is_ipv4() && !relay.is_loopback())
        } else {
            Some(address)
        };
        let target = real.map(|real| SocketAddr::new(*real, port));
        found.extend(target.filter(|target| !found.contains(target)));
    }
    found
}

/// The first port, the last one, and some between, as a rule may end in the middle.
fn samples(range: &RangeInclusive<u16>, doubtful: &[u16]) -> Vec<u16> {
    let (start, end) = (*range.start(), *range.end());
    let part = (end - start) / (SAMPLES + 1);
    let mut ports: Vec<u16> = std::iter::once(start)
        .chain((1..=SAMPLES).map(|number| start + part * number))
        // So that neighbours of the last one are within the range, too.
        .chain(std::iter::once(end))
        .chain(doubtful.iter().copied().take(DOUBTFUL))
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn witness(transport: Transport, to: SocketAddr, is_running: bool) -> Result<Option<Witness>, Text> {
    if is_running {
        let until = clock::now().mono + ANSWERS_HERE_WITHIN;
        let here = match transport {
            Transport::Tcp => {
                TcpStream::connect_timeout(&to, ANSWERS_HERE_WITHIN).map(drop).map_err(|error| error.to_string())
            }
            Transport::Udp => probe::mapped(to, until).map(drop).map_err(|fault| fault.to_string()),
        };
        return here.map(|()| None).map_err(|why| text!("nobody answers at {}: {}", to, why));
    }
    let bound = match transport {
        Transport::Tcp => {
            TcpListener::bind(to).and_then(|listener| listener.set_nonblocking(true).map(|()| Witness::Tcp(listener)))
        }
        Transport::Udp => udp_witness(to),
    };
    bound.map(Some).map_err(|error| text!("the service does not run, and {} cannot be listened on: {}", to, error))
}

fn udp_witness(to: SocketAddr) -> std::io::Result<Witness> {
    let socket = UdpSocket::bind(to)?;
    socket.set_nonblocking(true)?;
    Ok(Witness::Udp(socket))
}

/// What the stranger sends: it is recognised by this.
const TOKEN: &[u8] = b"rtcctl doctor";

/// Waits for what the stranger sends, until `over` says that nothing more is sent.
fn arrives(witness: &Witness, over: &AtomicBool) -> bool {
    let mut buffer = [0; 64];
    loop {
        // Asked for before looking: what was sent until then is found.
        let is_over = over.load(Ordering::Acquire);
        let seen = match witness {
            Witness::Tcp(listener) => listener.accept().map(|_| true),
            Witness::Udp(socket) => socket.recv_from(&mut buffer).map(|(length, _)| buffer[..length] == *TOKEN),
        };
        match seen {
            Ok(true) => return true,
            Ok(false) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                if is_over {
                    return false;
                }
                thread::park_timeout(LOOKED_EVERY);
            }
            Err(_) => return false,
        }
    }
}

fn send(transport: Transport, to: SocketAddr, has_witness: bool) -> Sight {
    match transport {
        Transport::Tcp => match TcpStream::connect_timeout(&to, ARRIVES_WITHIN) {
            Ok(_) => Sight::Answered,
            Err(error) => of_error(&error),
        },
        Transport::Udp if has_witness => send_token(to),
        Transport::Udp => {
            let until = clock::now().mono + ARRIVES_WITHIN;
            match probe::mapped(to, until) {
                Ok(_) => Sight::Answered,
                Err(fault) if fault.is_refused() => Sight::Rejected,
                Err(_) => Sight::Nothing,
            }
        }
    }
}

/// Sends a word again and again until somebody says that it is not wanted, or the time is over.
fn send_token(to: SocketAddr) -> Sight {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = match UdpSocket::bind(any).and_then(|socket| socket.connect(to).map(|()| socket)) {
        Ok(socket) => socket,
        Err(error) => return of_error(&error),
    };
    let end = clock::now().mono + ARRIVES_WITHIN / 2;
    while clock::now().mono < end {
        if let Err(error) = socket.send(TOKEN).and_then(|_| socket.set_read_timeout(Some(SENT_EVERY))) {
            return of_error(&error);
        }
        match socket.recv(&mut [0; 16]) {
            // Nobody answers a witness, so this is what the firewall says.
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return of_error(&error);
            }
            Ok(_) | Err(_) => {}
        }
    }
    Sight::Nothing
}

fn of_error(error: &std::io::Error) -> Sight {
    use ErrorKind as K;
    let kind = error.kind();
    if matches!(kind, K::ConnectionRefused | K::HostUnreachable | K::PermissionDenied) {
        Sight::Rejected
    } else if matches!(kind, K::TimedOut | K::WouldBlock) {
        Sight::Nothing
    } else {
        Sight::Broken(Text::of_error(error))
    }
}

/// Whether the rules of this host treat packets by the interface that they come by.
fn names_interfaces() -> bool {
    let ask = |command: &[&str]| {
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let ended = exec::run(&command, b"", RULES_WITHIN, MAX_RULES).ok()?;
        ended.status.success().then_some(ended.output)
    };
    let nft = ask(&["nft", "list", "ruleset"]).unwrap_or_default();
    if nft.contains("table inet firewalld") {
        // It has a zone for each interface; a new one is in the default zone.
        let interface = routes().v4.map(|route| route.interface).unwrap_or_default();
        let zone = ask(&["firewall-cmd", &format!("--get-zone-of-interface={interface}")]);
        let default = ask(&["firewall-cmd", "--get-default-zone"]);
        return zone.is_some() && zone.map(|zone| zone.trim().to_owned()) != default.map(|zone| zone.trim().to_owned());
    }
    nft_names_interfaces(&nft)
        || ["iptables-save", "ip6tables-save"]
            .into_iter()
            .filter_map(|program| ask(&[program, "-t", "filter"]))
            .any(|saved| iptables_names_interfaces(&saved))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_begin_and_end_with_the_range() {
        assert_eq!(samples(&(49160..=51159), &[]), [49160, 49659, 50158, 50657, 51159]);
        assert_eq!(samples(&(5..=6), &[6, 6]), [5, 6]);
        assert_eq!(samples(&(49160..=51159), &[49300])[1], 49300);
        assert_eq!(samples(&(5..=5), &[]), [5]);
        assert_eq!(samples(&(5..=6), &[]), [5, 6]);
    }
}
