//! Whom the relay must not reach: every denied prefix in every form that addresses have, by every way to ask for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use stun_types::AddressFamily;
use turn_types::attribute::AdditionalAddressFamily;

use super::super::super::sim::{Caller, Sim};
use crate::config::{Network, PeerMode};
use crate::turn::counters::Dropped;
use crate::turn::peers::PeerPolicy;

/// Denied in every mode, whatever the operator lists. Written from the registries anew, not taken from the relay.
const HARD_V4: [&str; 9] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "168.63.129.16/32",
    "192.0.0.0/24",
    "192.88.99.0/24",
    "100.100.100.200/32",
];
/// Denied unless listed, or in a LAN.
const SOFT_V4: [&str; 11] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "192.0.2.0/24",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.175.48.0/24",
    "198.18.0.0/15",
];
const HARD_V6: [&str; 18] = [
    "::/128",
    "::1/128",
    "::/96",
    "::ffff:0:0/96",
    "::ffff:0:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "100:0:0:1::/64",
    "2001::/32",
    "2002::/16",
    "2001::/23",
    "5f00::/16",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
    "fd00:ec2::254/128",
    "fd20:ce::254/128",
];
const SOFT_V6: [&str; 4] = ["fc00::/7", "2001:db8::/32", "3fff::/20", "2620:4f:8000::/48"];

/// The first, the last and one between of a prefix.
fn samples(prefix: &str) -> Vec<IpAddr> {
    let (address, bits) = prefix.split_once('/').unwrap();
    let bits: u32 = bits.parse().unwrap();
    match address.parse().unwrap() {
        IpAddr::V4(v4) => {
            let host = u32::MAX.checked_shr(bits).unwrap_or(0);
            [0, host, host / 3].map(|host| IpAddr::from(Ipv4Addr::from_bits(v4.to_bits() | host))).to_vec()
        }
        IpAddr::V6(v6) => {
            let host = u128::MAX.checked_shr(bits).unwrap_or(0);
            [0, host, host / 3].map(|host| IpAddr::from(Ipv6Addr::from_bits(v6.to_bits() | host))).to_vec()
        }
    }
}

/// An IPv4 address in all the forms that hide it inside of an IPv6 one.
fn forms(v4: Ipv4Addr) -> Vec<IpAddr> {
    let bits = u128::from(v4.to_bits());
    let [a, b, c, d] = v4.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    // RFC 6052, section 2.2: where the address is for a prefix of each length, around byte 8.
    let local_use = |shift: u32| (0x0064_ff9b_0001_u128 << 80) | (bits << shift);
    [
        0xffff_u128 << 32 | bits,
        bits,
        0xffff_u128 << 48 | bits,
        0x0064_ff9b_u128 << 96 | bits,
        local_use(0),
        local_use(24),
        local_use(16),
        (0x0064_ff9b_0001_u128 << 80) | (bits >> 16) << 64 | (bits & 0xffff) << 40,
        0x2002_u128 << 112 | bits << 80 | 1,
        // Teredo: as the server, and as the client, with all its bits turned.
        0x2001_u128 << 112 | bits << 64 | 0xf7f7_f7f7,
        0x2001_u128 << 112 | 0x4136_e378_u128 << 64 | u128::from(!v4.to_bits()),
    ]
    .into_iter()
    .map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits)))
    .chain([0_u16, 0x0200].map(|bit| Ipv6Addr::new(0x2606, 0x4700, 0, 1, bit, 0x5efe, high, low).into()))
    .collect()
}

fn relay(mode: PeerMode, listed: &[&str]) -> (Sim, Caller) {
    let network = |text: &&str| {
        let (address, prefix) = text.split_once('/').unwrap();
        Network { address: address.parse().unwrap(), prefix: prefix.parse().unwrap() }
    };
    let listed = listed.iter().map(network).collect();
    let mut sim = Sim::with(|settings| {
        settings.policy = PeerPolicy::new(mode, listed, Vec::new(), Vec::new());
        // Not the ones of the other tests, which are documentation's and would be asked about here.
        settings.relays[0].local = [5, 5, 5, 5].into();
        settings.relays[1].local = [0x2606, 0x4700, 0, 0, 0, 0, 0, 5].into();
        settings.relays[0].told = settings.relays[0].local;
        settings.relays[1].told = settings.relays[1].local;
    });
    let mut alice = sim.user("alice");
    sim.allocate_by(&mut alice, &[&AdditionalAddressFamily::new(AddressFamily::IPV6)]).unwrap();
    (sim, alice)
}

/// By CreatePermission, by ChannelBind, by Send, and from there.
fn is_denied(sim: &mut Sim, alice: &Caller, address: IpAddr) -> bool {
    let peer = SocketAddr::new(address, 50_000);
    sim.server.take_counts();
    let answers = [sim.permit(alice, &[peer]), sim.bind_channel(alice, 0x4000, peer)];
    let is_sent = sim.send(alice, peer, b"x").is_some();
    let is_heard = sim
        .sockets
        .keys()
        .copied()
        .collect::<Vec<_>>()
        .into_iter()
        .any(|relay| sim.server.handle_peer(relay, peer, 1, sim.now).is_some());
    let counted = sim.server.take_counts().dropped(Dropped::DeniedPeer);
    match answers {
        [Err(403), Err(403)] if !is_sent && !is_heard && counted == 3 => true,
        [Ok(()), Ok(())] if is_sent => false,
        other => panic!("{address}: {other:?}, sent {is_sent}, heard {is_heard}, counted {counted}"),
    }
}

/// Rows T31, T42, T55, T56. Cases 65, 66.
#[test]
fn every_hard_prefix_in_every_form_is_denied_by_every_way_in_every_mode() {
    for (mode, listed) in [
        (PeerMode::Itself, &[][..]),
        (PeerMode::Public, &["0.0.0.0/0", "::/0"]),
        (PeerMode::Lan, &["0.0.0.0/0", "::/0"]),
        (PeerMode::Custom, &["0.0.0.0/0", "::/0"]),
    ] {
        let (mut sim, alice) = relay(mode, listed);
        for address in HARD_V4.iter().chain(&HARD_V6).flat_map(|prefix| samples(prefix)) {
            assert!(is_denied(&mut sim, &alice, address), "{address} in {mode:?}");
            let IpAddr::V4(v4) = address else { continue };
            for form in forms(v4) {
                assert!(is_denied(&mut sim, &alice, form), "{form} in {mode:?}");
            }
        }
    }
}

/// Cases 65, 66.
#[test]
fn every_soft_prefix_in_every_form_is_denied_by_every_way_unless_it_is_meant() {
    for mode in [PeerMode::Itself, PeerMode::Public, PeerMode::Custom] {
        let (mut sim, alice) = relay(mode, &[]);
        for address in SOFT_V4.iter().chain(&SOFT_V6).flat_map(|prefix| samples(prefix)) {
            assert!(is_denied(&mut sim, &alice, address), "{address} in {mode:?}");
            let IpAddr::V4(v4) = address else { continue };
            for form in forms(v4) {
                assert!(is_denied(&mut sim, &alice, form), "{form} in {mode:?}");
            }
        }
    }
}

/// What shows that the tests above would see a relay that lets something through.
#[test]
fn the_internet_is_reached_and_private_networks_where_they_are_meant() {
    let (mut sim, alice) = relay(PeerMode::Public, &[]);
    for address in ["8.8.8.8", "100.63.255.255", "172.32.0.1", "192.0.1.1", "223.255.255.255", "2606:4700::1111"] {
        assert!(!is_denied(&mut sim, &alice, address.parse().unwrap()), "{address}");
        // A channel has one peer at a time.
        (sim, _) = relay(PeerMode::Public, &[]);
    }
    for address in ["10.0.0.1", "100.64.0.1", "192.168.1.1", "fd00::1"] {
        let (mut sim, alice) = relay(PeerMode::Lan, &[]);
        assert!(!is_denied(&mut sim, &alice, address.parse().unwrap()), "{address}");
    }
}

/// Rows T31, T42.
#[test]
fn t31_t42_ports_of_other_services_are_denied_at_every_address() {
    let (mut sim, alice) = relay(PeerMode::Public, &["0.0.0.0/0"]);
    for port in (1..1024).chain([1900, 3389, 5060, 5353, 11211]) {
        let service = SocketAddr::new([8, 8, 8, 8].into(), port);
        assert_eq!(sim.bind_channel(&alice, 0x4000, service), Err(403), "{port}");
        sim.permit(&alice, &[service]).unwrap();
        assert_eq!(sim.send(&alice, service, b"x"), None, "{port}");
    }
}
