//! Rows of RFC 8656 and of its extensions.

use std::collections::BTreeSet;
use std::time::Duration;

use stun_types::AddressFamily;
use stun_types::attribute::RawAttribute;
use turn_types::attribute::{EvenPort, Lifetime, RequestedAddressFamily, RequestedTransport, ReservationToken};
use turn_types::message::{ALLOCATE, CREATE_PERMISSION, REFRESH};

use super::super::super::sim::{Sim, addr, peer};
use super::super::super::{CHANNEL_LIFETIME, DEFAULT_LIFETIME, Forward, Frame, PERMISSION_LIFETIME, Transport};
use super::super::draft::{self, Draft, INTEGRITY, TRANSPORT, UDP, md5_key};
use crate::turn::counters::Dropped;

const SECOND: Duration = Duration::from_secs(1);
const PEER_V6: &str = "[2606:4700::1]:5000";

fn udp() -> RequestedTransport {
    RequestedTransport::new(RequestedTransport::UDP)
}

#[test]
fn t1_nothing_but_binding_is_done_for_who_has_not_signed() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    for method in [draft::ALLOCATE, draft::REFRESH, draft::CREATE_PERMISSION, draft::CHANNEL_BIND] {
        let request = Draft::new(method).with(TRANSPORT, UDP).with(draft::LIFETIME, &[0; 4]).0;
        assert_eq!(sim.deliver(alice.client, &request).unwrap().result(), Err(401), "{method:#x}");
    }
    assert_eq!((sim.sockets.len(), sim.refresh(&alice, 600)), (1, Ok(600)));
}

#[test]
fn t3_every_client_has_a_nonce_of_its_own_and_a_new_one_each_second() {
    let mut sim = Sim::new();
    let mut nonces = BTreeSet::new();
    for _ in 0..50 {
        nonces.insert(sim.user("alice").nonce);
        sim.pass(SECOND);
    }
    assert_eq!(nonces.len(), 50);
}

/// Row T55. Case 57.
#[test]
fn t7_t20_of_a_hundred_allocates_at_once_a_quota_of_one_lets_one_pass() {
    let mut sim = Sim::with(|settings| settings.user_quota = 1);
    let callers: Vec<_> = (0..100).map(|_| sim.user("alice")).collect();
    for caller in &callers {
        let request = caller.sign(ALLOCATE, &[&udp()]);
        assert_eq!(sim.server.handle_client(caller.client, &request, sim.now), None);
    }
    let mut codes: Vec<_> = sim.drain().iter().map(|(_, reply)| reply.result()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [vec![Ok(())], vec![Err(486); 99]].concat());
    assert_eq!((sim.sockets.len(), sim.shared.allocations()), (1, 1));
}

#[test]
fn t8_no_two_allocations_have_the_same_relayed_address() {
    let mut sim = Sim::new();
    let relays: BTreeSet<_> = (0..20).map(|number| sim.allocate(&format!("user{number}")).relay).collect();
    assert_eq!(relays.len(), 20);
}

#[test]
fn t10_neither_data_nor_permissions_nor_channels_extend_an_allocation() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    for _ in 0..59 {
        sim.advance(10 * SECOND);
        sim.bind_channel(&alice, 0x4000, peer()).unwrap();
        sim.permit(&alice, &[peer()]).unwrap();
        assert!(sim.send_on_channel(&alice, 0x4000, b"x").is_some());
        assert!(sim.arrive(&alice, peer(), 1).is_some());
    }
    sim.advance(10 * SECOND);
    assert_eq!((sim.sockets.len(), sim.server.poll_timeout()), (0, None));
}

/// Case 52.
#[test]
fn t18_even_ports_asked_for_over_and_over_lose_no_port() {
    let mut sim = Sim::new();
    let (mut alice, mut bob) = (sim.user("alice"), sim.user("bob"));
    for round in 0..20_000_u32 {
        sim.allocate_by(&mut alice, &[&EvenPort::new(false)]).unwrap();
        assert!(alice.relay.port().is_multiple_of(2));
        sim.refresh(&alice, 0).unwrap();
        if round.is_multiple_of(5000) {
            sim.pass(100 * SECOND);
        }
    }
    let callers: Vec<_> = (0..20).map(|number| sim.allocate(&format!("user{number}"))).collect();
    assert_eq!(callers.len(), 20, "the whole range is there");
    for caller in callers.iter().filter(|caller| caller.relay.port() % 2 == 1) {
        sim.refresh(caller, 0).unwrap();
    }
    for even in [false, true] {
        assert_eq!(sim.allocate_by(&mut bob, &[&EvenPort::new(even)]).map(|_| ()), Err(508), "only odd ones are left");
    }
}

/// Case 51.
#[test]
fn t14_a_token_is_good_once_and_a_family_beside_it_is_a_bad_request() {
    let mut sim = Sim::new();
    let mut rtp = sim.user("alice");
    let reply = sim.allocate_by(&mut rtp, &[&EvenPort::new(true)]).unwrap();
    let token = ReservationToken::new(reply.token().unwrap());
    let (mut first, mut second) = (sim.user("alice"), sim.user("alice"));
    sim.allocate_by(&mut first, &[&token]).unwrap();
    assert_eq!(sim.allocate_by(&mut second, &[&token]), Err(508));
    for family in [AddressFamily::IPV4, AddressFamily::IPV6] {
        let family = RequestedAddressFamily::new(family);
        assert_eq!(sim.allocate_by(&mut second, &[&token, &family]), Err(400));
    }
    let short = RawAttribute::new(0x0022.into(), &[7; 7]);
    assert_eq!(sim.allocate_by(&mut second, &[&short]), Err(400));
    assert_eq!(sim.shared.allocations(), 2);
}

#[test]
fn t16_a_family_that_was_switched_off_is_refused() {
    let mut sim = Sim::new();
    let mut alice = sim.user("alice");
    sim.change(|settings| settings.relays.truncate(1));
    let v6 = RequestedAddressFamily::new(AddressFamily::IPV6);
    assert_eq!(sim.allocate_by(&mut alice, &[&v6]), Err(440));
    assert!(sim.allocate_by(&mut alice, &[]).is_ok());
}

/// Case 61, case 85.
#[test]
fn tickets_of_mobility_are_ignored() {
    let mut sim = Sim::new();
    let mut alice = sim.user("alice");
    for value in [&[][..], &[7; 16]] {
        let ticket = RawAttribute::new(0x8030.into(), value);
        let reply = sim.allocate_by(&mut alice, &[&ticket]).unwrap();
        assert!(!reply.message().has_attribute(0x8030.into()));
        let moved = sim.user("alice");
        assert_eq!(sim.ask(&moved, REFRESH, &[&ticket]).result(), Err(437), "a ticket leads nowhere");
        sim.refresh(&alice, 0).unwrap();
    }
}

#[test]
fn t27_t40_t26_what_ends_is_over_at_its_very_instant_though_nobody_woke() {
    let nanosecond = Duration::from_nanos(1);
    let mut sim = Sim::new();
    let mut alice = sim.user("alice");
    sim.allocate_by(&mut alice, &[&Lifetime::new(3600)]).unwrap();
    sim.bind_channel(&alice, 0x4000, peer()).unwrap();
    sim.pass(PERMISSION_LIFETIME - nanosecond);
    assert!(sim.send_on_channel(&alice, 0x4000, b"x").is_some() && sim.arrive(&alice, peer(), 1).is_some());
    sim.pass(nanosecond);
    assert_eq!((sim.send_on_channel(&alice, 0x4000, b"x"), sim.arrive(&alice, peer(), 1)), (None, None));
    sim.permit(&alice, &[peer()]).unwrap();
    sim.pass(CHANNEL_LIFETIME - PERMISSION_LIFETIME - nanosecond);
    assert!(sim.send_on_channel(&alice, 0x4000, b"x").is_some());
    sim.pass(nanosecond);
    assert_eq!(sim.send_on_channel(&alice, 0x4000, b"x"), None);
    alice.nonce = sim.challenge(&alice);
    assert_eq!(sim.refresh(&alice, 600), Ok(600));
    sim.permit(&alice, &[peer()]).unwrap();
    sim.pass(PERMISSION_LIFETIME);
    sim.permit(&alice, &[peer()]).unwrap();
    sim.pass(DEFAULT_LIFETIME - PERMISSION_LIFETIME - nanosecond);
    assert!(sim.send(&alice, peer(), b"x").is_some());
    sim.pass(nanosecond);
    assert_eq!((sim.send(&alice, peer(), b"x"), sim.arrive(&alice, peer(), 1)), (None, None));
}

/// Case 64.
#[test]
fn t29_one_malformed_peer_of_three_spoils_all() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    let good = |last: u8| [0, 1, 0, 0, 9 ^ 0x21, 9 ^ 0x12, 9 ^ 0xa4, last ^ 0x42];
    let malformed = [0, 3, 0, 0, 1, 1, 1, 1];
    for order in [[0, 1, 2], [2, 0, 1], [0, 2, 1]] {
        let values = [good(8), good(9), malformed];
        let peers = order.map(|place: usize| values[place]);
        let request =
            peers.iter().fold(Draft::new(draft::CREATE_PERMISSION), |draft, peer| draft.with(draft::PEER, peer));
        let request = request.by(&alice).signed(INTEGRITY, &md5_key(&alice.username, &alice.password)).0;
        assert_eq!(sim.deliver(alice.client, &request).unwrap().result(), Err(400), "{order:?}");
    }
    for address in ["9.9.9.8:5000", "9.9.9.9:5000"] {
        assert_eq!(sim.send(&alice, addr(address), b"x"), None, "nothing was permitted");
    }
    assert_eq!(sim.ask(&alice, CREATE_PERMISSION, &[]).result(), Err(400));
}

#[test]
fn t33_send_extends_no_permission() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    sim.permit(&alice, &[peer()]).unwrap();
    for _ in 0..299 {
        sim.advance(SECOND);
        assert!(sim.send(&alice, peer(), b"x").is_some());
    }
    sim.advance(SECOND);
    assert_eq!(sim.send(&alice, peer(), b"x"), None);
}

#[test]
fn t45_channel_data_on_a_stream_are_padded_and_on_udp_not() {
    let mut header = [0; Frame::MAX_HEADER];
    for (length, padding) in [(0, 0), (1, 3), (2, 2), (3, 1), (4, 0), (5, 3), (65_535, 1)] {
        for transport in [Transport::Tcp, Transport::Tls] {
            assert_eq!(Frame::Channel(0x4001).write_header(transport, length, &mut header), Some((4, padding)));
        }
        assert_eq!(Frame::Channel(0x4001).write_header(Transport::Udp, length, &mut header), Some((4, 0)));
        assert_eq!(usize::from(u16::from_be_bytes([header[2], header[3]])), length, "padding does not count");
    }
}

/// Case 72.
#[test]
fn t47_channel_data_extend_neither_channel_nor_permission() {
    let mut sim = Sim::new();
    let mut alice = sim.user("alice");
    sim.allocate_by(&mut alice, &[&Lifetime::new(3600)]).unwrap();
    sim.bind_channel(&alice, 0x4000, peer()).unwrap();
    let mut lasted = 0;
    while sim.send_on_channel(&alice, 0x4000, b"x").is_some() && sim.arrive(&alice, peer(), 1).is_some() {
        lasted += 1;
        sim.advance(SECOND);
    }
    assert_eq!(lasted, 300, "its permission");
    while sim.permit(&alice, &[peer()]).is_ok() && sim.send_on_channel(&alice, 0x4000, b"x").is_some() {
        lasted += 1;
        sim.advance(SECOND);
        if lasted == 500 {
            alice.nonce = sim.challenge(&alice);
        }
    }
    assert_eq!(lasted, 600, "the channel");
    assert!(matches!(sim.arrive(&alice, peer(), 1), Some(Forward::ToClient { frame: Frame::Indication { .. }, .. })));
}

/// Case 71.
#[test]
fn t46_channel_data_of_another_client_are_dropped() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    sim.bind_channel(&alice, 0x4000, peer()).unwrap();
    let mut others = [alice.clone(), alice.clone(), alice.clone(), alice.clone(), alice.clone()];
    others[0].client.remote.set_port(1);
    others[1].client.remote = addr("203.0.113.200:40000");
    others[2].client.via = 1;
    others[3].client.local = [192, 0, 2, 2].into();
    others[4].client.transport = Transport::Tcp;
    for other in &others {
        assert_eq!(sim.send_on_channel(other, 0x4000, b"x"), None, "{:?}", other.client);
    }
    assert_eq!(sim.server.take_counts().dropped(Dropped::NoAllocation), 5);
    let (forward, payload) = sim.send_on_channel(&alice, 0x4000, b"").unwrap();
    assert!(matches!(forward, Forward::ToPeer { .. }) && payload.is_empty(), "an empty datagram is one");
}

/// A client of one family may have a relay of the other; a relay has peers of its own family alone.
#[test]
fn t49_families_are_translated_between_client_and_relay_only() {
    let mut sim = Sim::new();
    let mut near = sim.user("alice");
    sim.allocate_by(&mut near, &[&RequestedAddressFamily::new(AddressFamily::IPV6)]).unwrap();
    let mut far = sim.user_at("bob", addr("[2606:4700::7]:40000"));
    sim.allocate_by(&mut far, &[]).unwrap();
    for (caller, own, other) in [(&near, addr(PEER_V6), peer()), (&far, peer(), addr(PEER_V6))] {
        assert_ne!(caller.client.remote.is_ipv4(), caller.relay.is_ipv4());
        assert_eq!(sim.permit(caller, &[other]), Err(443));
        assert_eq!(sim.bind_channel(caller, 0x4000, other), Err(443));
        sim.permit(caller, &[own]).unwrap();
        let (forward, _) = sim.send(caller, own, b"x").unwrap();
        assert!(matches!(forward, Forward::ToPeer { peer, .. } if peer == own));
        assert_eq!(sim.send(caller, other, b"x"), None);
        let Some(Forward::ToClient { client, frame: Frame::Indication { peer, .. }, .. }) = sim.arrive(caller, own, 1)
        else {
            panic!("it goes to the client");
        };
        assert_eq!((client, peer), (caller.client, own));
        assert_eq!(sim.arrive(caller, other, 1), None);
    }
}

#[test]
fn t50_a_promise_not_to_fragment_is_one_from_ipv4_to_ipv4_alone() {
    let mut sim = Sim::with(|settings| settings.dont_fragment = true);
    for (client, peer, is_kept) in [
        ("203.0.113.50:1", peer(), true),
        ("[::ffff:203.0.113.51]:1", peer(), true),
        ("[2606:4700::7]:1", peer(), false),
        ("203.0.113.52:1", addr(PEER_V6), false),
        ("[2606:4700::8]:1", addr(PEER_V6), false),
    ] {
        let mut caller = sim.user_at("alice", addr(client));
        let family =
            RequestedAddressFamily::new(if peer.is_ipv4() { AddressFamily::IPV4 } else { AddressFamily::IPV6 });
        sim.allocate_by(&mut caller, &[&family]).unwrap();
        sim.permit(&caller, &[peer]).unwrap();
        let (forward, payload) = sim.send_whole(&caller, peer, b"x").unwrap();
        assert!(
            matches!(forward, Forward::ToPeer { dont_fragment, .. } if dont_fragment == is_kept),
            "{client} {peer}"
        );
        assert_eq!(payload, b"x");
    }
}

/// Case 70.
#[test]
fn t53_reserved_fields_are_ignored_and_ours_are_zero() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    let key = md5_key(&alice.username, &alice.password);
    let ask =
        |sim: &mut Sim, draft: Draft| sim.deliver(alice.client, &draft.by(&alice).signed(INTEGRITY, &key).0).unwrap();
    let allocate = Draft::new(draft::ALLOCATE).with(TRANSPORT, &[17, 0xff, 0xff, 0xff]);
    let allocate = allocate.with(0x0017, &[1, 0xff, 0xff, 0xff]).with(0x0018, &[0x7f]);
    let reply = ask(&mut sim, allocate);
    assert_eq!((reply.result(), reply.token()), (Ok(()), None), "only the first bit of EVEN-PORT is one");
    assert!(reply.relayed().is_ipv4());
    let peer_value = [0xff, 1, 0x21 ^ 0x13, 0x12 ^ 0x88, 9 ^ 0x21, 9 ^ 0x12, 9 ^ 0xa4, 9 ^ 0x42];
    let channel = Draft::new(draft::CHANNEL_BIND).with(draft::CHANNEL_NUMBER, &[0x40, 0, 0xff, 0xff]);
    assert_eq!(ask(&mut sim, channel.with(draft::PEER, &peer_value)).result(), Ok(()));
    assert!(sim.send_on_channel(&alice, 0x4000, b"x").is_some());
    sim.fails = Some(crate::sys::net::Family::V6);
    let bob = sim.user("bob");
    let both = RawAttribute::new(0x8000.into(), &[2, 0xff, 0xff, 0xff]);
    let reply = sim.ask(&bob, ALLOCATE, &[&udp(), &both]);
    assert_eq!(reply.message().raw_attribute(0x8001.into()).unwrap().value.to_vec(), [2, 0, 5, 8]);
}

/// Row C1. Case 48.
#[test]
fn t12_t55_every_other_transport_is_442_and_a_malformed_one_400() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    for protocol in (0..=255).filter(|protocol| *protocol != 17) {
        let transport = RequestedTransport::new(protocol);
        assert_eq!(sim.ask(&alice, ALLOCATE, &[&transport]).result(), Err(442), "{protocol}");
    }
    for value in [&[][..], &[17], &[17, 0, 0], &[17, 0, 0, 0, 0]] {
        let transport = RawAttribute::new(0x0019.into(), value);
        assert_eq!(sim.ask(&alice, ALLOCATE, &[&transport]).result(), Err(400), "{value:?}");
    }
    assert_eq!(sim.server.slots.len(), 0);
}
