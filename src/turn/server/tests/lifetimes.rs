//! Allocations: how they begin, how long they last, how they end.

use std::time::Duration;

use stun_types::AddressFamily;
use stun_types::attribute::RawAttribute;
use turn_types::attribute::{
    AdditionalAddressFamily, EvenPort, Lifetime, RequestedAddressFamily, RequestedTransport, ReservationToken,
};
use turn_types::message::{ALLOCATE, REFRESH};

use super::super::sim::{RELAY_V6, Sim, addr, peer};
use super::super::{DEFAULT_LIFETIME, Forward};

const SECOND: Duration = Duration::from_secs(1);

/// Rows T10, T24.
#[test]
fn an_allocation_tells_its_relay_and_mapped_address_and_lasts_ten_minutes() {
    let mut sim = Sim::new();
    let mut alice = sim.user("alice");
    let reply = sim.allocate_by(&mut alice, &[]).unwrap();
    assert_eq!(reply.relayed(), addr("198.51.100.1:49160"));
    assert_eq!(reply.mapped(), alice.client.remote);
    assert_eq!(reply.lifetime(), 600);
    assert!(reply.has_integrity());
    assert!(reply.message().validate_integrity_with_key(&alice.key()).is_ok());
    sim.advance(DEFAULT_LIFETIME - SECOND);
    assert_eq!(sim.sockets.len(), 1);
    sim.advance(SECOND);
    assert_eq!(sim.sockets.len(), 0);
    assert_eq!(sim.shared.allocations(), 0);
    assert_eq!(sim.server.poll_timeout(), None);
}

/// Rows T23, T26.
/// Case 55.
#[test]
fn a_lifetime_is_never_less_than_ten_minutes_nor_more_than_an_hour() {
    for (asked, granted) in [(0, 600), (1, 600), (599, 600), (601, 601), (3600, 3600), (u32::MAX, 3600)] {
        let mut sim = Sim::new();
        let mut alice = sim.user("alice");
        let reply = sim.allocate_by(&mut alice, &[&Lifetime::new(asked)]).unwrap();
        assert_eq!(reply.lifetime(), granted, "{asked}");
        if asked > 0 {
            assert_eq!(sim.refresh(&alice, asked), Ok(granted));
        }
    }
}

#[test]
fn only_a_refresh_extends_an_allocation() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    sim.bind_channel(&alice, 0x4000, peer()).unwrap();
    sim.advance(Duration::from_secs(500));
    assert_eq!(sim.refresh(&alice, 600), Ok(600));
    sim.advance(Duration::from_secs(599));
    assert!(sim.socket_of(&alice).is_some());
    sim.advance(SECOND);
    assert!(sim.socket_of(&alice).is_none());
}

/// Row T26.
/// Cases 55, 59.
#[test]
fn a_refresh_of_zero_deletes_at_once_and_the_next_one_finds_nothing() {
    let mut sim = Sim::new();
    let mut alice = sim.allocate("alice");
    sim.bind_channel(&alice, 0x4000, peer()).unwrap();
    assert_eq!(sim.refresh(&alice, 0), Ok(0));
    assert_eq!((sim.sockets.len(), sim.shared.allocations()), (0, 0));
    assert_eq!(sim.server.poll_timeout(), None, "its permissions and channels went with it");
    assert_eq!(sim.refresh(&alice, 0), Err(437));
    assert_eq!(sim.refresh(&alice, 600), Err(437));
    assert!(sim.allocate_by(&mut alice, &[]).is_ok(), "its 5-tuple is free again");
}

/// Rows T5, T55.
/// Case 59.
#[test]
fn requests_without_an_allocation_are_mismatches() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    assert_eq!(sim.refresh(&alice, 600), Err(437));
    assert_eq!(sim.permit(&alice, &[peer()]), Err(437));
    assert_eq!(sim.bind_channel(&alice, 0x4000, peer()), Err(437));
    assert_eq!(sim.send(&alice, peer(), b"x"), None);
    assert_eq!(sim.send_on_channel(&alice, 0x4000, b"x"), None);
}

/// Rows S12, T11, T55.
/// Case 56.
#[test]
fn a_repeated_allocate_gets_the_same_answer_and_another_one_is_a_mismatch() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    let request = alice.sign(ALLOCATE, &[&RequestedTransport::new(RequestedTransport::UDP)]);
    let first = sim.deliver(alice.client, &request).unwrap();
    assert_eq!(sim.deliver(alice.client, &request), Some(first));
    assert_eq!(sim.sockets.len(), 1);
    assert_eq!(sim.allocate_by(&mut alice.clone(), &[]), Err(437));
}

#[test]
fn an_allocate_repeated_while_its_socket_is_being_opened_is_answered_once() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    let request = alice.sign(ALLOCATE, &[&RequestedTransport::new(RequestedTransport::UDP)]);
    for _ in 0..2 {
        assert_eq!(sim.server.handle_client(alice.client, &request, sim.now), None);
    }
    let replies = sim.drain();
    assert_eq!(replies.len(), 1, "{replies:?}");
    assert_eq!(replies[0].1.result(), Ok(()));
}

#[test]
fn an_allocation_whose_time_is_over_is_gone_even_if_the_loop_is_late() {
    let mut sim = Sim::new();
    let mut alice = sim.allocate("alice");
    sim.bind_channel(&alice, 0x4000, peer()).unwrap();
    sim.advance(Duration::from_secs(300));
    sim.permit(&alice, &[peer()]).unwrap();
    sim.advance(Duration::from_secs(299));
    assert!(sim.send_on_channel(&alice, 0x4000, b"x").is_some());
    sim.pass(SECOND);
    assert_eq!(sim.send_on_channel(&alice, 0x4000, b"x"), None);
    assert_eq!(sim.send(&alice, peer(), b"x"), None);
    assert_eq!(sim.arrive(&alice, peer(), 1), None);
    alice.nonce = sim.challenge(&alice);
    assert_eq!(sim.refresh(&alice, 600), Err(437));
}

/// Rows T12, C1.
/// Case 48.
#[test]
fn transports_other_than_udp_are_refused() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    for (value, code) in [(&[99, 0, 0, 0][..], 442), (&[6, 0, 0, 0], 442), (&[17], 400)] {
        let transport = RawAttribute::new(0x0019.into(), value);
        assert_eq!(sim.ask(&alice, ALLOCATE, &[&transport]).result(), Err(code), "{value:?}");
    }
    assert_eq!(sim.ask(&alice, ALLOCATE, &[]).result(), Err(400));
    assert_eq!(sim.sockets.len(), 0);
}

/// Case 55.
#[test]
fn a_malformed_lifetime_is_a_bad_request() {
    let mut sim = Sim::new();
    let mut alice = sim.user("alice");
    let lifetime = RawAttribute::new(0x000d.into(), &[0, 0, 0]);
    assert_eq!(sim.allocate_by(&mut alice, &[&lifetime]), Err(400));
    sim.allocate_by(&mut alice, &[]).unwrap();
    assert_eq!(sim.ask(&alice, REFRESH, &[&lifetime]).result(), Err(400));
    assert_eq!(sim.sockets.len(), 1);
}

/// Rows T17, T25, T30, T42, T55.
/// Cases 60, 64.
#[test]
fn the_family_is_ipv4_unless_the_client_wants_ipv6() {
    let mut sim = Sim::new();
    let v6 = RequestedAddressFamily::new(AddressFamily::IPV6);
    assert!(sim.allocate("alice").relay.is_ipv4());
    let mut bob = sim.user("bob");
    let reply = sim.allocate_by(&mut bob, &[&v6]).unwrap();
    assert_eq!(reply.relayed().ip().to_string(), RELAY_V6);
    assert_eq!(sim.permit(&bob, &[peer()]), Err(443));
    assert_eq!(sim.bind_channel(&bob, 0x4000, peer()), Err(443));
    assert_eq!(sim.permit(&bob, &[addr("[2606:4700::1]:5000")]), Ok(()));
    let v4 = RequestedAddressFamily::new(AddressFamily::IPV4);
    assert_eq!(sim.ask(&bob, REFRESH, &[&v4]).result(), Err(443));
    assert_eq!(sim.ask(&bob, REFRESH, &[&v6]).result(), Ok(()));
}

/// Rows T16, T17, T55.
/// Cases 49, 50.
#[test]
fn a_family_that_the_host_lacks_or_nobody_knows_is_refused() {
    let v6 = RequestedAddressFamily::new(AddressFamily::IPV6);
    let unknown = RawAttribute::new(0x0017.into(), &[3, 0, 0, 0]);
    let mut sim = Sim::with(|settings| settings.relays.truncate(1));
    let mut alice = sim.user("alice");
    assert_eq!(sim.allocate_by(&mut alice, &[&v6]), Err(440));
    assert_eq!(sim.allocate_by(&mut alice, &[&unknown]), Err(440));
    let mut sim = Sim::with(|settings| settings.relays = settings.relays.split_off(1));
    let mut alice = sim.user("alice");
    assert_eq!(sim.allocate_by(&mut alice, &[]), Err(440), "absent means IPv4");
    assert_eq!(sim.shared.allocations(), 0);
}

/// Rows T14, T15, T18, T19, T54.
/// Case 49.
#[test]
fn both_families_are_not_wanted_in_ways_that_contradict() {
    let mut sim = Sim::new();
    let v6 = AdditionalAddressFamily::new(AddressFamily::IPV6);
    let v4 = RawAttribute::new(0x8000.into(), &[1, 0, 0, 0]);
    let mut alice = sim.user("alice");
    assert_eq!(sim.allocate_by(&mut alice, &[&v4]), Err(400));
    let requested = RequestedAddressFamily::new(AddressFamily::IPV6);
    assert_eq!(sim.allocate_by(&mut alice, &[&v6, &requested]), Err(400));
    assert_eq!(sim.allocate_by(&mut alice, &[&v6, &EvenPort::new(true)]), Err(400));
    assert_eq!(sim.allocate_by(&mut alice, &[&v6, &ReservationToken::new(1)]), Err(400));
    assert_eq!((sim.sockets.len(), sim.shared.allocations()), (0, 0));
}

/// Rows T14, T24.
/// Case 51.
#[test]
fn an_even_port_can_be_wanted_and_the_next_one_kept() {
    let mut sim = Sim::new();
    let mut odd = sim.user("alice");
    sim.allocate_by(&mut odd, &[]).unwrap();
    let mut rtp = sim.user("alice");
    let reply = sim.allocate_by(&mut rtp, &[&EvenPort::new(true)]).unwrap();
    assert_eq!(rtp.relay.port() % 2, 0);
    let token = ReservationToken::new(reply.token().expect("the next port is kept under a token"));
    let mut rtcp = sim.user("alice");
    let even = EvenPort::new(false);
    assert_eq!(sim.allocate_by(&mut rtcp, &[&token, &even]), Err(400));
    let family = RequestedAddressFamily::new(AddressFamily::IPV4);
    assert_eq!(sim.allocate_by(&mut rtcp, &[&token, &family]), Err(400));
    assert_eq!(sim.allocate_by(&mut rtcp, &[&ReservationToken::new(99)]), Err(508));
    sim.allocate_by(&mut rtcp, &[&token]).unwrap();
    assert_eq!(rtcp.relay.port(), rtp.relay.port() + 1);
    let mut plain = sim.user("alice");
    let reply = sim.allocate_by(&mut plain, &[&even]).unwrap();
    assert_eq!((plain.relay.port() % 2, reply.token()), (0, None));
}

/// Row T13.
/// Case 54.
#[test]
fn dont_fragment_is_not_understood() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    let udp = RequestedTransport::new(RequestedTransport::UDP);
    let reply = sim.ask(&alice, ALLOCATE, &[&udp, &RawAttribute::new(0x001a.into(), &[])]);
    assert_eq!(reply.result(), Err(420));
    assert!(reply.lists_unknown(0x001a));
}

/// Rows T7, T20, T55.
#[test]
fn a_user_has_no_more_allocations_than_its_quota_whatever_its_credentials() {
    let mut sim = Sim::with(|settings| settings.user_quota = 2);
    let first = sim.allocate("alice");
    sim.advance(SECOND);
    sim.allocate("alice");
    let mut third = sim.user("alice");
    assert_ne!(third.username, first.username);
    assert_eq!(sim.allocate_by(&mut third, &[]), Err(486));
    sim.allocate("bob");
    sim.refresh(&first, 0).unwrap();
    assert!(sim.allocate_by(&mut third, &[]).is_ok());
}

#[test]
fn all_users_together_have_a_quota_too() {
    let mut sim = Sim::with(|settings| settings.total_quota = 2);
    sim.allocate("alice");
    sim.allocate("bob");
    let mut carol = sim.user("carol");
    assert_eq!(sim.allocate_by(&mut carol, &[]), Err(486));
    sim.advance(DEFAULT_LIFETIME);
    carol.nonce = sim.challenge(&carol);
    assert!(sim.allocate_by(&mut carol, &[]).is_ok());
}

/// Row T55.
/// Case 58.
#[test]
fn without_a_port_there_is_no_capacity_and_a_freed_one_is_used_again() {
    let mut sim = Sim::new();
    let callers: Vec<_> = (0..20).map(|number| sim.allocate(&format!("user{number}"))).collect();
    let mut late = sim.user("late");
    assert_eq!(sim.allocate_by(&mut late, &[]), Err(508));
    assert_eq!(sim.shared.allocations(), 20);
    sim.refresh(&callers[3], 0).unwrap();
    sim.allocate_by(&mut late, &[]).unwrap();
    assert_eq!(late.relay, callers[3].relay);
}

#[test]
fn a_shut_relay_closes_every_socket_and_relays_nothing() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    sim.bind_channel(&alice, 0x4000, peer()).unwrap();
    let bob = sim.allocate("bob");
    assert!(matches!(sim.send_on_channel(&alice, 0x4000, b"x"), Some((Forward::ToPeer { .. }, _))));
    sim.server.shut();
    assert_eq!(sim.drain(), []);
    assert_eq!((sim.sockets.len(), sim.shared.allocations()), (0, 0));
    assert_eq!(sim.send_on_channel(&alice, 0x4000, b"x"), None);
    assert_eq!(sim.refresh(&bob, 600), Err(437));
    assert_eq!(sim.server.poll_timeout(), None);
}
