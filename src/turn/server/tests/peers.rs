//! Permissions and channels: to whom an allocation may talk, and for how long.

use std::net::SocketAddr;
use std::time::Duration;

use stun_types::attribute::RawAttribute;
use turn_types::message::{CHANNEL_BIND, CREATE_PERMISSION};

use super::super::sim::{Sim, addr, peer};
use super::super::{CHANNEL_LIFETIME, Forward, MAX_CHANNELS, MAX_PERMISSIONS, PERMISSION_LIFETIME};
use crate::config::PeerMode;
use crate::turn::peers::PeerPolicy;

const SECOND: Duration = Duration::from_secs(1);

/// Rows T27, T33.
/// Case 73.
#[test]
fn a_permission_lasts_five_minutes_and_traffic_does_not_extend_it() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    assert_eq!(sim.arrive(&alice, peer(), 4), None);
    assert_eq!(sim.send(&alice, peer(), b"hi"), None);
    sim.permit(&alice, &[peer()]).unwrap();
    sim.advance(PERMISSION_LIFETIME - SECOND);
    assert!(sim.send(&alice, peer(), b"hi").is_some());
    assert!(sim.arrive(&alice, peer(), 4).is_some());
    sim.advance(SECOND);
    assert_eq!(sim.send(&alice, peer(), b"hi"), None);
    assert_eq!(sim.arrive(&alice, peer(), 4), None);
}

#[test]
fn a_permission_renewed_in_time_goes_on() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    sim.permit(&alice, &[peer()]).unwrap();
    sim.advance(Duration::from_secs(200));
    sim.permit(&alice, &[peer()]).unwrap();
    sim.advance(Duration::from_secs(299));
    assert!(sim.arrive(&alice, peer(), 4).is_some());
    sim.advance(SECOND);
    assert_eq!(sim.arrive(&alice, peer(), 4), None);
}

/// Row T28.
/// Case 77.
#[test]
fn a_permission_is_for_an_address_whatever_its_port() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    sim.permit(&alice, &[addr("9.9.9.9:0")]).unwrap();
    assert!(sim.arrive(&alice, addr("9.9.9.9:1025"), 4).is_some());
    assert!(sim.send(&alice, addr("9.9.9.9:60000"), b"x").is_some());
    assert_eq!(sim.arrive(&alice, addr("9.9.9.10:1025"), 4), None);
}

/// Rows T29, T30, T31.
/// Case 64.
#[test]
fn one_bad_peer_of_three_means_no_permission_at_all() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    let good = [peer(), addr("8.8.8.8:5001")];
    assert_eq!(sim.permit(&alice, &[good[0], good[1], addr("10.0.0.1:5000")]), Err(403));
    assert_eq!(sim.permit(&alice, &[good[0], good[1], addr("[2606:4700::1]:5000")]), Err(443));
    assert_eq!(sim.permit(&alice, &[]), Err(400));
    assert_eq!(sim.send(&alice, good[0], b"x"), None);
    assert_eq!(sim.permit(&alice, &good), Ok(()));
    assert!(good.into_iter().all(|peer| sim.arrive(&alice, peer, 1).is_some()));
}

#[test]
fn a_malformed_peer_address_is_a_bad_request() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    let v4_of_length = |length: usize| [&[0, 1, 2, 3][..], &[9; 16][..length - 4]].concat();
    for value in [vec![], vec![0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6].to_vec(), [0, 2, 2, 3, 4, 5, 6, 7].to_vec()]
        .into_iter()
        .chain([v4_of_length(20), [0, 0, 2, 3, 4, 5, 6, 7].to_vec(), [0, 3, 2, 3, 4, 5, 6, 7].to_vec()])
    {
        let malformed = RawAttribute::new(0x0012.into(), &value);
        assert_eq!(sim.ask(&alice, CREATE_PERMISSION, &[&malformed]).result(), Err(400), "{value:?}");
        let number = RawAttribute::new(0x000c.into(), &[0x40, 0, 0, 0]);
        assert_eq!(sim.ask(&alice, CHANNEL_BIND, &[&number, &malformed]).result(), Err(400), "{value:?}");
    }
}

/// Rows T31, T42, T55.
/// Case 70.
#[test]
fn denied_peers_are_forbidden_to_permissions_and_channels_and_silently_to_send() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    for denied in [
        "127.0.0.1",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "169.254.169.254",
        "192.0.0.192",
        "192.0.2.2",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
    ] {
        let denied = SocketAddr::new(denied.parse().unwrap(), 5000);
        assert_eq!(sim.permit(&alice, &[denied]), Err(403), "{denied}");
        assert_eq!(sim.bind_channel(&alice, 0x4000, denied), Err(403), "{denied}");
        assert_eq!(sim.send(&alice, denied, b"x"), None, "{denied}");
    }
    for port in [53, 1023, 1900, 11211] {
        let service = SocketAddr::new(peer().ip(), port);
        assert_eq!(sim.bind_channel(&alice, 0x4000, service), Err(403), "{port}");
        sim.permit(&alice, &[service]).unwrap();
        assert_eq!(sim.send(&alice, service, b"x"), None, "{port}");
    }
    assert_eq!(sim.bind_channel(&alice, 0x4000, SocketAddr::new(peer().ip(), 0)), Err(400));
}

#[test]
fn a_lan_relay_reaches_private_peers_but_neither_loopback_nor_metadata() {
    let mut sim =
        Sim::with(|settings| settings.policy = PeerPolicy::new(PeerMode::Lan, Vec::new(), Vec::new(), Vec::new()));
    let alice = sim.allocate("alice");
    assert_eq!(sim.permit(&alice, &[addr("192.168.1.7:5000"), addr("10.0.0.1:5000")]), Ok(()));
    for denied in ["127.0.0.1:5000", "169.254.169.254:5000", "100.100.100.200:5000"] {
        assert_eq!(sim.permit(&alice, &[addr(denied)]), Err(403), "{denied}");
    }
}

#[test]
fn a_relay_for_its_own_clients_alone_reaches_nobody_else() {
    let mut sim =
        Sim::with(|settings| settings.policy = PeerPolicy::new(PeerMode::Itself, Vec::new(), Vec::new(), Vec::new()));
    let (alice, bob) = (sim.allocate("alice"), sim.allocate("bob"));
    assert_eq!(sim.permit(&alice, &[peer()]), Err(403));
    assert_eq!(sim.permit(&alice, &[bob.relay]), Ok(()));
}

/// Rows T31, T42.
/// Case 67.
#[test]
fn permissions_and_channels_of_one_allocation_are_bounded() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    let nth =
        |n: usize| SocketAddr::new([9, 9, u8::try_from(n / 256).unwrap(), u8::try_from(n % 256).unwrap()].into(), 5000);
    for n in 0..MAX_PERMISSIONS {
        sim.permit(&alice, &[nth(n)]).unwrap();
    }
    assert_eq!(sim.permit(&alice, &[nth(MAX_PERMISSIONS)]), Err(508));
    assert_eq!(sim.bind_channel(&alice, 0x4000, nth(MAX_PERMISSIONS)), Err(508));
    assert_eq!(sim.permit(&alice, &[nth(0)]), Ok(()), "one that is there is renewed");
    for n in 0..MAX_CHANNELS {
        let number = 0x4000 + u16::try_from(n).unwrap();
        let peer = SocketAddr::new(nth(0).ip(), 6000 + u16::try_from(n).unwrap());
        sim.bind_channel(&alice, number, peer).unwrap();
    }
    assert_eq!(sim.bind_channel(&alice, 0x4fff, nth(1)), Err(508));
}

/// Row T41.
/// Case 68.
#[test]
fn channel_numbers_outside_their_range_are_bad_requests() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    for number in [0, 0x3fff, 0x8000, 0xffff] {
        assert_eq!(sim.bind_channel(&alice, number, peer()), Err(400), "{number:#x}");
    }
    for (number, port) in [(0x4000, 5000), (0x4fff, 5001)] {
        assert_eq!(sim.bind_channel(&alice, number, SocketAddr::new(peer().ip(), port)), Ok(()));
    }
    let number = RawAttribute::new(0x000c.into(), &[0x40, 0, 0, 0]);
    assert_eq!(sim.ask(&alice, CHANNEL_BIND, &[&number]).result(), Err(400));
}

/// Row T41.
/// Case 69.
#[test]
fn a_channel_has_one_peer_and_a_peer_one_channel() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    let other = addr("9.9.9.9:50001");
    sim.bind_channel(&alice, 0x4000, peer()).unwrap();
    assert_eq!(sim.bind_channel(&alice, 0x4000, other), Err(400));
    assert_eq!(sim.bind_channel(&alice, 0x4001, peer()), Err(400));
    assert_eq!(sim.bind_channel(&alice, 0x4000, peer()), Ok(()));
    assert_eq!(sim.bind_channel(&alice, 0x4001, other), Ok(()));
}

/// Row T40.
#[test]
fn a_channel_lasts_ten_minutes_and_is_free_for_another_peer_then_even_if_the_loop_is_late() {
    let mut sim = Sim::new();
    let mut alice = sim.allocate("alice");
    sim.refresh(&alice, 3600).unwrap();
    sim.bind_channel(&alice, 0x4000, peer()).unwrap();
    sim.advance(Duration::from_secs(300));
    sim.permit(&alice, &[peer()]).unwrap();
    sim.advance(CHANNEL_LIFETIME - Duration::from_secs(301));
    assert!(sim.send_on_channel(&alice, 0x4000, b"x").is_some());
    sim.pass(SECOND);
    assert_eq!(sim.send_on_channel(&alice, 0x4000, b"x"), None);
    alice.nonce = sim.challenge(&alice);
    assert_eq!(sim.bind_channel(&alice, 0x4000, addr("9.9.9.9:50001")), Ok(()));
    assert_eq!(sim.bind_channel(&alice, 0x4001, peer()), Ok(()));
}

/// Rows T43, T47.
#[test]
fn a_channel_whose_permission_expired_relays_nothing() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    sim.bind_channel(&alice, 0x4000, peer()).unwrap();
    assert!(matches!(sim.send_on_channel(&alice, 0x4000, b"x"), Some((Forward::ToPeer { .. }, _))));
    sim.advance(PERMISSION_LIFETIME);
    assert_eq!(sim.send_on_channel(&alice, 0x4000, b"x"), None);
    assert_eq!(sim.arrive(&alice, peer(), 1), None);
    sim.bind_channel(&alice, 0x4000, peer()).unwrap();
    assert!(sim.send_on_channel(&alice, 0x4000, b"x").is_some(), "binding again permits again");
}
