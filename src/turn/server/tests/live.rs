//! A relay whose settings change, that drains, that is full, and what it counts.

use std::net::SocketAddr;
use std::time::Duration;

use turn_types::attribute::DontFragment;
use turn_types::message::REFRESH;

use super::super::sim::{Sim, addr, peer};
use super::super::{Client, Forward, Transport};
use crate::config::{Network, PeerMode, Secret};
use crate::turn::counters::{Dropped, Outcome};
use crate::turn::peers::PeerPolicy;

fn custom(listed: &[&str]) -> PeerPolicy {
    let network = |text: &&str| {
        let (address, prefix) = text.split_once('/').unwrap();
        Network { address: address.parse().unwrap(), prefix: prefix.parse().unwrap() }
    };
    PeerPolicy::new(PeerMode::Custom, listed.iter().map(network).collect(), Vec::new(), Vec::new())
}

/// Case 91.
#[test]
fn traffic_with_a_newly_denied_peer_stops_at_once_and_that_with_others_goes_on() {
    let mut sim = Sim::new();
    let (alice, bob) = (sim.allocate("alice"), sim.allocate("bob"));
    let other = addr("8.8.8.8:5000");
    sim.bind_channel(&alice, 0x4000, peer()).unwrap();
    sim.bind_channel(&alice, 0x4001, other).unwrap();
    sim.permit(&alice, &[bob.relay]).unwrap();
    sim.permit(&bob, &[alice.relay]).unwrap();
    sim.change(|settings| settings.policy = custom(&["8.8.8.8/32"]));
    assert_eq!(sim.send_on_channel(&alice, 0x4000, b"x"), None);
    assert_eq!(sim.send(&alice, peer(), b"x"), None);
    assert_eq!(sim.arrive(&alice, peer(), 1), None);
    assert_eq!(sim.permit(&alice, &[peer()]), Err(403));
    assert!(sim.send_on_channel(&alice, 0x4001, b"x").is_some());
    assert!(sim.arrive(&alice, other, 1).is_some());
    assert!(sim.send(&alice, bob.relay, b"x").is_some(), "own clients are not the policy's business");
    sim.change(|settings| settings.policy = custom(&["9.9.9.9/32"]));
    assert_eq!(sim.send(&alice, peer(), b"x"), None, "what has ended does not come back by itself");
    sim.bind_channel(&alice, 0x4002, peer()).unwrap();
    assert!(sim.send_on_channel(&alice, 0x4002, b"x").is_some());
}

#[test]
fn a_listener_that_is_gone_takes_the_allocations_with_it_that_came_by_it_and_no_others() {
    let mut sim = Sim::new();
    let mut old = sim.user_by("alice", addr("203.0.113.1:40000"), Transport::Udp, 3);
    let mut new = sim.user_by("bob", addr("203.0.113.2:40000"), Transport::Udp, 4);
    let mut stream = sim.user_by("carol", addr("203.0.113.3:40000"), Transport::Tcp, 3);
    assert!(!sim.server.is_reached_by(3));
    for caller in [&mut old, &mut new, &mut stream] {
        sim.allocate_by(caller, &[]).unwrap();
    }
    assert!(sim.server.is_reached_by(3) && sim.server.is_reached_by(4));
    sim.server.handle_unbound(3);
    sim.drain();
    assert!(!sim.server.is_reached_by(3), "what comes by a stream has its own numbers");
    assert!(!sim.server.has_allocation(&old.client));
    assert!(sim.server.has_allocation(&new.client) && sim.server.has_allocation(&stream.client));
}

#[test]
fn a_changed_public_address_is_told_from_then_on() {
    let mut sim = Sim::new();
    let (alice, bob) = (sim.allocate("alice"), sim.allocate("bob"));
    sim.change(|settings| settings.relays[0].told = "203.0.113.77".parse().unwrap());
    let carol = sim.allocate("carol");
    assert_eq!(carol.relay.ip().to_string(), "203.0.113.77");
    let told = |local: SocketAddr| SocketAddr::new(carol.relay.ip(), local.port());
    sim.permit(&alice, &[told(bob.relay)]).unwrap();
    sim.permit(&bob, &[alice.relay]).unwrap();
    let (forward, _) = sim.send(&alice, told(bob.relay), b"x").unwrap();
    assert!(matches!(forward, Forward::ToClient { client, .. } if client == bob.client));
}

#[test]
fn an_allocation_outlives_the_secret_that_made_it_but_its_user_gets_no_other() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    let mut again = sim.user("alice");
    sim.change(|settings| settings.secrets = vec![Secret::new(vec![9; 32])]);
    assert_eq!(sim.refresh(&alice, 600), Ok(600));
    assert_eq!(sim.permit(&alice, &[peer()]), Ok(()));
    assert_eq!(sim.allocate_by(&mut again, &[]), Err(401));
    assert_eq!(sim.refresh(&alice, 0), Ok(0));
    assert_eq!(sim.refresh(&alice, 600), Err(401));
}

#[test]
fn a_lowered_quota_is_for_new_allocations() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    sim.change(|settings| settings.user_quota = 1);
    let mut again = sim.user("alice");
    assert_eq!(sim.allocate_by(&mut again, &[]), Err(486));
    assert_eq!(sim.refresh(&alice, 600), Ok(600));
}

/// Case 92.
#[test]
fn a_draining_relay_makes_no_allocation_and_serves_those_it_has() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    sim.server.drain();
    let mut bob = sim.user("bob");
    assert_eq!(sim.allocate_by(&mut bob, &[]), Err(508));
    sim.bind_channel(&alice, 0x4000, peer()).unwrap();
    assert!(sim.send_on_channel(&alice, 0x4000, b"x").is_some());
    assert_eq!(sim.refresh(&alice, 600), Ok(600));
    assert!(!sim.server.is_empty());
    sim.refresh(&alice, 0).unwrap();
    assert!(sim.server.is_empty());
}

#[test]
fn a_closed_connection_takes_its_allocation_along() {
    let mut sim = Sim::new();
    let mut alice = sim.user_by("alice", addr("203.0.113.1:40000"), Transport::Tls, 7);
    sim.allocate_by(&mut alice, &[]).unwrap();
    let mut bob = sim.user_by("bob", alice.client.remote, Transport::Tls, 8);
    assert_eq!(sim.refresh(&bob, 600), Err(437), "another connection is another client");
    sim.allocate_by(&mut bob, &[]).unwrap();
    sim.server.handle_closed(alice.client);
    assert_eq!(sim.drain(), []);
    assert_eq!(sim.sockets.values().copied().collect::<Vec<_>>(), [bob.relay]);
    assert_eq!(sim.server.take_counts().outcome(Outcome::Expired), 1);
    sim.server.handle_closed(alice.client);
    assert_eq!(sim.shared.allocations(), 1);
}

/// Rows T13, T34.
/// Case 54.
#[test]
fn a_promise_not_to_fragment_is_made_where_it_can_be_kept() {
    let mut sim = Sim::with(|settings| settings.dont_fragment = true);
    let mut alice = sim.user("alice");
    let malformed = stun_types::attribute::RawAttribute::new(0x001a.into(), &[1, 2, 3, 4]);
    assert_eq!(sim.allocate_by(&mut alice, &[&malformed]), Err(400));
    sim.allocate_by(&mut alice, &[&DontFragment::new()]).unwrap();
    sim.permit(&alice, &[peer()]).unwrap();
    let promises = |forward| matches!(forward, Some((Forward::ToPeer { dont_fragment: true, .. }, _)));
    assert!(promises(sim.send_whole(&alice, peer(), b"x")));
    assert!(!promises(sim.send(&alice, peer(), b"x")));
    sim.change(|settings| settings.dont_fragment = false);
    assert_eq!(sim.send_whole(&alice, peer(), b"x"), None);
    assert_eq!(sim.ask(&alice, REFRESH, &[&DontFragment::new()]).result(), Err(420));
}

/// Row T7.
/// Case 81.
#[test]
fn more_than_the_bandwidth_of_an_allocation_is_dropped_and_counted() {
    let mut sim = Sim::with(|settings| settings.allocation_bandwidth = Some(10_000));
    let (alice, bob) = (sim.allocate("alice"), sim.allocate("bob"));
    sim.bind_channel(&alice, 0x4000, peer()).unwrap();
    sim.bind_channel(&bob, 0x4000, peer()).unwrap();
    let flood = |sim: &mut Sim| (0..100).filter(|_| sim.send_on_channel(&alice, 0x4000, &[0; 1000]).is_some()).count();
    assert_eq!(flood(&mut sim), 6, "half a second ahead");
    assert_eq!(sim.arrive(&alice, peer(), 1000), None, "both directions are one");
    assert!(sim.send_on_channel(&bob, 0x4000, &[0; 1000]).is_some(), "others are not concerned");
    let counts = sim.server.take_counts();
    assert_eq!((counts.dropped(Dropped::Bandwidth), counts.relayed_packets), (95, 7));
    sim.advance(Duration::from_secs(1));
    assert_eq!(flood(&mut sim), 6);
    sim.change(|settings| settings.allocation_bandwidth = None);
    assert_eq!(flood(&mut sim), 100);
}

/// Row T57.
/// Case 76.
#[test]
fn more_than_the_bandwidth_of_all_is_dropped_and_two_that_loop_are_stopped() {
    let mut sim = Sim::with(|settings| settings.total_bandwidth = Some(10_000));
    let (alice, bob) = (sim.allocate("alice"), sim.allocate("bob"));
    sim.bind_channel(&alice, 0x4000, bob.relay).unwrap();
    sim.bind_channel(&bob, 0x4000, alice.relay).unwrap();
    let mut rounds = 0;
    while sim.send_on_channel(&alice, 0x4000, &[0; 1000]).is_some()
        && sim.send_on_channel(&bob, 0x4000, &[0; 1000]).is_some()
    {
        rounds += 1;
    }
    assert_eq!(rounds, 3);
}

#[test]
fn what_is_not_relayed_is_counted_with_its_reason() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    let stranger = sim.user("stranger");
    sim.bind_channel(&alice, 0x4000, peer()).unwrap();
    sim.server.take_counts();
    let mut why = |relay: &mut dyn FnMut(&mut Sim), wanted: Dropped| {
        relay(&mut sim);
        let counts = sim.server.take_counts();
        let counted: Vec<Dropped> = Dropped::ALL.into_iter().filter(|why| counts.dropped(*why) > 0).collect();
        assert_eq!((counted, counts.relayed_packets), (vec![wanted], 0));
    };
    why(&mut |sim| assert_eq!(sim.forward(&alice, b""), None), Dropped::Malformed);
    why(&mut |sim| assert_eq!(sim.forward(&alice, &[0xff; 30]), None), Dropped::Malformed);
    why(&mut |sim| assert_eq!(sim.forward(&alice, &[0; 30]), None), Dropped::Malformed);
    why(&mut |sim| assert_eq!(sim.send_on_channel(&stranger, 0x4000, b"x"), None), Dropped::NoAllocation);
    why(&mut |sim| assert_eq!(sim.send(&stranger, peer(), b"x"), None), Dropped::NoAllocation);
    why(&mut |sim| assert_eq!(sim.send_on_channel(&alice, 0x4001, b"x"), None), Dropped::NoChannel);
    why(&mut |sim| assert_eq!(sim.send(&alice, addr("9.9.9.10:5000"), b"x"), None), Dropped::NoPermission);
    why(&mut |sim| assert_eq!(sim.send(&alice, addr("10.0.0.1:5000"), b"x"), None), Dropped::DeniedPeer);
    why(&mut |sim| assert_eq!(sim.send(&alice, addr("9.9.9.9:53"), b"x"), None), Dropped::DeniedPeer);
    why(&mut |sim| assert_eq!(sim.arrive(&alice, addr("9.9.9.10:5000"), 1), None), Dropped::NoPermission);
    why(&mut |sim| assert_eq!(sim.arrive(&alice, addr("9.9.9.9:53"), 1), None), Dropped::DeniedPeer);
}

#[test]
fn what_became_of_allocations_is_counted() {
    let mut sim = Sim::with(|settings| {
        settings.user_quota = 2;
        settings.relays.truncate(1);
    });
    let first = sim.allocate("alice");
    sim.allocate("alice");
    let mut third = sim.user("alice");
    sim.allocate_by(&mut third, &[]).unwrap_err();
    sim.refresh(&first, 0).unwrap();
    sim.fails = Some(crate::sys::net::Family::V4);
    sim.allocate_by(&mut third, &[]).unwrap_err();
    let v6 = turn_types::attribute::RequestedAddressFamily::new(stun_types::AddressFamily::IPV6);
    sim.allocate_by(&mut third, &[&v6]).unwrap_err();
    third.password.push('x');
    sim.allocate_by(&mut third, &[]).unwrap_err();
    sim.advance(Duration::from_secs(600));
    let counts = sim.server.take_counts();
    let counted = Outcome::ALL.map(|outcome| (outcome, counts.outcome(outcome)));
    let wanted = [
        (Outcome::Granted, 2),
        (Outcome::Released, 1),
        (Outcome::Expired, 1),
        (Outcome::WrongCredentials, 1),
        (Outcome::OverQuota, 1),
        (Outcome::NoCapacity, 1),
        (Outcome::Refused, 1),
    ];
    assert_eq!(counted, wanted);
}

/// Row T57.
/// Case 62.
#[test]
fn a_loop_out_of_our_own_listener_is_not_answered() {
    let mut sim = Sim::new();
    let mut alice = sim.user("alice");
    alice.client.remote = addr("192.0.2.1:3478");
    assert_eq!(sim.deliver(alice.client, &alice.sign(REFRESH, &[])), None);
    let mut sim = Sim::with(|settings| settings.listeners = vec![addr("0.0.0.0:3478")]);
    assert_eq!(sim.deliver(alice.client, &alice.sign(REFRESH, &[])), None);
    alice.client.remote = addr("192.0.2.9:3478");
    assert!(sim.deliver(alice.client, &alice.sign(REFRESH, &[])).is_some());
}

/// A port of TCP has nothing to do with the same number in UDP, which may be a relay's.
#[test]
fn a_stream_from_the_servers_own_host_is_served_whatever_its_port_is() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    let bob = sim.user("bob");
    let from_relay = |transport| Client { remote: alice.relay, transport, ..bob.client };
    assert_eq!(sim.deliver(from_relay(Transport::Udp), &bob.sign(REFRESH, &[])), None);
    for transport in [Transport::Tcp, Transport::Tls] {
        assert!(sim.deliver(from_relay(transport), &bob.sign(REFRESH, &[])).is_some());
    }
}

/// Row T57.
/// Case 75.
#[test]
fn nothing_is_reached_at_an_address_where_only_clients_come() {
    let mut sim = Sim::with(|settings| settings.listeners.push(addr("192.0.2.7:3478")));
    let alice = sim.allocate("alice");
    let bob = sim.allocate("bob");
    sim.permit(&bob, &[alice.relay]).unwrap();
    let listener = SocketAddr::new("192.0.2.7".parse().unwrap(), bob.relay.port());
    assert_eq!(sim.permit(&alice, &[listener]), Ok(()));
    assert_eq!(sim.send(&alice, listener, b"x"), None);
    assert_eq!(sim.arrive(&alice, listener, 1), None);
}

#[test]
fn relays_on_loopback_reach_each_other_and_nothing_else_there() {
    let mut sim = Sim::with(|settings| {
        settings.relays.truncate(1);
        settings.relays[0] = super::super::RelayAddress {
            local: super::super::sim::RELAY_V4.parse().unwrap(),
            told: "127.0.0.1".parse().unwrap(),
        };
    });
    let (alice, bob) = (sim.allocate("alice"), sim.allocate("bob"));
    assert!(bob.relay.ip().is_loopback());
    sim.permit(&alice, &[bob.relay]).unwrap();
    sim.permit(&bob, &[alice.relay]).unwrap();
    assert!(sim.send(&alice, bob.relay, b"x").is_some());
    assert_eq!(sim.send(&alice, addr("127.0.0.1:22"), b"x"), None);
    assert_eq!(sim.permit(&alice, &[addr("127.0.0.2:5000")]), Err(403));
}
