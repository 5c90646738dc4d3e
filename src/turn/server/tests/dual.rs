//! Allocations of both families.

use std::time::Duration;

use stun_types::AddressFamily;
use turn_types::attribute::{AdditionalAddressFamily, EvenPort, Lifetime, RequestedAddressFamily};
use turn_types::message::{ALLOCATE, REFRESH};

use super::super::sim::{Caller, Reply, Sim, addr, peer};
use super::super::{Action, Forward, PERMISSION_LIFETIME};
use crate::sys::net::Family;

const PEER_V6: &str = "[2606:4700::1]:5000";

fn both() -> AdditionalAddressFamily {
    AdditionalAddressFamily::new(AddressFamily::IPV6)
}

fn family(family: AddressFamily) -> RequestedAddressFamily {
    RequestedAddressFamily::new(family)
}

fn allocate_both(sim: &mut Sim, name: &str) -> (Caller, Reply) {
    let mut caller = sim.user(name);
    let reply = sim.allocate_by(&mut caller, &[&both()]).unwrap();
    (caller, reply)
}

/// Row T24.
#[test]
fn one_allocation_relays_to_peers_of_both_families_by_a_socket_of_each() {
    let mut sim = Sim::new();
    let (alice, reply) = allocate_both(&mut sim, "alice");
    let relays = reply.all_relayed();
    assert!(relays.len() == 2 && relays[0].is_ipv4() && relays[1].is_ipv6(), "{relays:?}");
    assert_eq!(sim.shared.allocations(), 1);
    assert!(!reply.message().has_attribute(0x8001.into()));
    sim.permit(&alice, &[peer(), addr(PEER_V6)]).unwrap();
    sim.bind_channel(&alice, 0x4000, addr(PEER_V6)).unwrap();
    for (relay, peer) in relays.into_iter().zip([peer(), addr(PEER_V6)]) {
        let (forward, _) = sim.send(&alice, peer, b"x").unwrap();
        let Forward::ToPeer { relay: by, .. } = forward else { panic!("{forward:?} goes to a peer") };
        assert_eq!(sim.sockets[&by], relay);
        assert!(sim.server.handle_peer(by, peer, 1, sim.now).is_some());
    }
    assert!(sim.send_on_channel(&alice, 0x4000, b"x").is_some());
    sim.advance(Duration::from_secs(600));
    assert_eq!((sim.sockets.len(), sim.shared.allocations()), (0, 0));
}

#[test]
fn behind_nat_each_family_is_told_its_own_public_address() {
    let mut sim = Sim::with(|settings| {
        settings.relays[0].told = "203.0.113.77".parse().unwrap();
        settings.relays[1].told = "2606:4700::77".parse().unwrap();
    });
    let (_, reply) = allocate_both(&mut sim, "alice");
    let told: Vec<String> = reply.all_relayed().iter().map(|relay| relay.ip().to_string()).collect();
    assert_eq!(told, ["203.0.113.77", "2606:4700::77"]);
}

/// Row T19.
#[test]
fn a_family_that_cannot_be_had_is_told_besides_the_one_that_can() {
    // Family, two bytes on the class and the number. RFC 8656, section 18.12.
    let missing = |reply: &Reply| reply.message().raw_attribute(0x8001.into()).unwrap().value.to_vec();
    let mut sim = Sim::new();
    sim.fails = Some(Family::V6);
    let (alice, reply) = allocate_both(&mut sim, "alice");
    assert!(alice.relay.is_ipv4() && reply.all_relayed().len() == 1);
    assert_eq!(missing(&reply), [2, 0, 5, 8]);
    sim.fails = Some(Family::V4);
    let (bob, reply) = allocate_both(&mut sim, "bob");
    assert!(bob.relay.is_ipv6() && reply.all_relayed().len() == 1);
    assert_eq!(missing(&reply), [1, 0, 5, 8]);
    assert_eq!(sim.permit(&bob, &[peer()]), Err(443));
    let mut sim = Sim::with(|settings| settings.relays.truncate(1));
    assert_eq!(missing(&allocate_both(&mut sim, "alice").1), [2, 0, 4, 40]);
    let mut sim = Sim::with(|settings| settings.relays = settings.relays.split_off(1));
    assert_eq!(missing(&allocate_both(&mut sim, "alice").1), [1, 0, 4, 40]);
    sim.fails = Some(Family::V6);
    let mut carol = sim.user("carol");
    assert_eq!(sim.allocate_by(&mut carol, &[&both()]), Err(508));
    assert_eq!(sim.shared.allocations(), 1);
}

/// Rows T25, T26.
/// Case 60.
#[test]
fn each_family_may_be_refreshed_and_deleted_for_itself() {
    let mut sim = Sim::new();
    let (mut alice, reply) = allocate_both(&mut sim, "alice");
    let (v4, v6) = (family(AddressFamily::IPV4), family(AddressFamily::IPV6));
    sim.permit(&alice, &[peer(), addr(PEER_V6)]).unwrap();
    sim.bind_channel(&alice, 0x4000, addr(PEER_V6)).unwrap();
    assert_eq!(sim.ask(&alice, REFRESH, &[&Lifetime::new(0), &v4]).result(), Ok(()));
    assert_eq!(sim.sockets.values().copied().collect::<Vec<_>>(), [reply.all_relayed()[1]]);
    assert_eq!(sim.send(&alice, peer(), b"x"), None);
    assert!(sim.send_on_channel(&alice, 0x4000, b"x").is_some());
    assert_eq!(sim.permit(&alice, &[peer()]), Err(443));
    assert_eq!(sim.ask(&alice, REFRESH, &[&v4]).result(), Err(443));
    assert_eq!(sim.ask(&alice, REFRESH, &[&Lifetime::new(0), &v6]).result(), Ok(()));
    assert_eq!((sim.sockets.len(), sim.shared.allocations()), (0, 0));
    assert_eq!(sim.refresh(&alice, 600), Err(437));
    sim.allocate_by(&mut alice, &[&both()]).unwrap();
    sim.advance(Duration::from_secs(300));
    assert_eq!(sim.ask(&alice, REFRESH, &[&v6]).result(), Ok(()));
    sim.advance(Duration::from_secs(300));
    assert!(sim.sockets.len() == 1 && sim.sockets.values().all(std::net::SocketAddr::is_ipv6));
    sim.advance(PERMISSION_LIFETIME);
    assert_eq!((sim.sockets.len(), sim.server.is_empty()), (0, true));
}

#[test]
fn a_refresh_without_a_family_is_for_both() {
    let mut sim = Sim::new();
    let (mut alice, _) = allocate_both(&mut sim, "alice");
    sim.advance(Duration::from_secs(500));
    assert_eq!(sim.refresh(&alice, 600), Ok(600));
    sim.advance(Duration::from_secs(599));
    assert_eq!(sim.sockets.len(), 2);
    alice.nonce = sim.challenge(&alice);
    assert_eq!(sim.refresh(&alice, 0), Ok(0));
    assert_eq!((sim.sockets.len(), sim.server.poll_timeout()), (0, None));
}

#[test]
fn a_repeated_allocate_for_both_gets_the_same_answer() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    let udp = turn_types::attribute::RequestedTransport::new(17);
    let request = alice.sign(ALLOCATE, &[&udp, &both(), &EvenPort::new(false)]);
    let first = sim.deliver(alice.client, &request).unwrap();
    assert!(first.all_relayed().iter().all(|relay| relay.port() % 2 == 0));
    assert_eq!(sim.deliver(alice.client, &request), Some(first));
    assert_eq!(sim.sockets.len(), 2);
}

#[test]
fn a_port_kept_for_ipv6_is_found_though_its_allocate_names_no_family() {
    let mut sim = Sim::new();
    let mut rtp = sim.user("alice");
    let v6 = family(AddressFamily::IPV6);
    let reply = sim.allocate_by(&mut rtp, &[&v6, &EvenPort::new(true)]).unwrap();
    let token = turn_types::attribute::ReservationToken::new(reply.token().unwrap());
    let mut rtcp = sim.user("alice");
    sim.allocate_by(&mut rtcp, &[&token]).unwrap();
    assert_eq!(rtcp.relay, std::net::SocketAddr::new(rtp.relay.ip(), rtp.relay.port() + 1));
}

#[test]
fn sockets_that_open_for_nobody_are_closed_and_their_place_is_used_again() {
    let mut sim = Sim::new();
    let (alice, bob) = (sim.user("alice"), sim.user("bob"));
    let udp = turn_types::attribute::RequestedTransport::new(17);
    let request = alice.sign(ALLOCATE, &[&udp, &both()]);
    assert_eq!(sim.server.handle_client(alice.client, &request, sim.now), None);
    assert!(!sim.server.is_empty());
    sim.server.handle_closed(alice.client);
    let request = bob.sign(ALLOCATE, &[&udp]);
    assert_eq!(sim.server.handle_client(bob.client, &request, sim.now), None);
    let replies = sim.drain();
    assert_eq!(replies.len(), 1, "{replies:?}");
    assert_eq!(replies[0].1.result(), Ok(()));
    assert_eq!((sim.sockets.len(), sim.shared.allocations()), (1, 1));
    assert!(sim.sockets.values().all(|address| *address == replies[0].1.relayed()));
}

#[test]
fn a_client_that_goes_between_two_sockets_leaves_neither_and_its_quota() {
    for is_shut in [false, true] {
        for (first, second) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut sim = Sim::with(|settings| settings.user_quota = 1);
            let alice = sim.user("alice");
            let request = alice.sign(ALLOCATE, &[&turn_types::attribute::RequestedTransport::new(17), &both()]);
            assert_eq!(sim.server.handle_client(alice.client, &request, sim.now), None);
            let opened = [sim.server.poll_action().unwrap(), sim.server.poll_action().unwrap()];
            let [Action::Open { relay: v4, .. }, Action::Open { relay: v6, .. }] = opened else { panic!("{opened:?}") };
            let at = |is_open: bool, text: &str| is_open.then(|| addr(text));
            sim.server.handle_opened(v4, at(first, "198.51.100.1:49170"), sim.now);
            if is_shut {
                sim.server.shut()
            } else {
                sim.server.handle_closed(alice.client)
            }
            assert_eq!((sim.shared.allocations(), sim.server.is_empty()), (0, true));
            sim.server.handle_closed(alice.client);
            sim.server.handle_opened(v6, at(second, "[2001:db8::1]:49170"), sim.now);
            let mut closed = Vec::new();
            while let Some(action) = sim.server.poll_action() {
                let Action::Close { relay } = action else { panic!("{action:?}: nobody is there to be told") };
                closed.push(relay);
            }
            let wanted =
                [(v4, first), (v6, second)].into_iter().filter(|(_, is_open)| *is_open).map(|(relay, _)| relay);
            assert_eq!(closed, wanted.collect::<Vec<_>>());
            assert!(
                !sim.shared.is_live(addr("198.51.100.1:49170")) && !sim.shared.is_live(addr("[2001:db8::1]:49170"))
            );
            let again = sim.allocate("alice");
            assert_eq!((sim.shared.allocations(), sim.server.slots.len()), (1, 1), "its place is used again");
            sim.refresh(&again, 0).unwrap();
        }
    }
}

#[test]
fn settings_that_change_while_sockets_open_are_for_the_next_allocation() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    let request = alice.sign(ALLOCATE, &[&turn_types::attribute::RequestedTransport::new(17), &both()]);
    assert_eq!(sim.server.handle_client(alice.client, &request, sim.now), None);
    sim.settings.user_quota = 0;
    sim.settings.secrets = vec![crate::config::Secret::new(vec![9; 32])];
    sim.server.set_settings(std::sync::Arc::new(sim.settings.clone()), sim.now);
    sim.server.drain();
    let replies = sim.drain();
    assert!(replies.len() == 1 && replies[0].1.result().is_ok(), "{replies:?}");
    assert!(replies[0].1.message().validate_integrity_with_key(&alice.key()).is_ok());
    assert_eq!((sim.sockets.len(), sim.shared.allocations()), (2, 1));
    assert_eq!(sim.refresh(&alice, 600), Ok(600));
    assert_eq!(sim.refresh(&alice, 0), Ok(0));
    assert_eq!((sim.sockets.len(), sim.shared.allocations(), sim.server.is_empty()), (0, 0, true));
}
