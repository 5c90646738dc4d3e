//! What the network says of datagrams that a relay socket sent. RFC 8656, section 11.5.

use stun_types::message::{Message, MessageClass};
use turn_types::attribute::{Data, Icmp, XorPeerAddress};
use turn_types::message::DATA;

use super::super::sim::{Caller, Sim, addr, peer};
use super::super::{IcmpError, PERMISSION_LIFETIME};
use crate::sys::net::Family;

fn error(family: Family, kind: u8, code: u8, data: u32) -> IcmpError {
    IcmpError { family, kind, code, data }
}

/// What the client is told of an error about a datagram to `peer`.
fn told(sim: &mut Sim, caller: &Caller, peer: std::net::SocketAddr, error: IcmpError) -> Option<(u8, u8, u32)> {
    let relay = sim.socket_of(caller).unwrap();
    sim.server.handle_icmp(relay, peer, error, sim.now);
    let (client, reply) = sim.drain().pop()?;
    assert_eq!(client, caller.client);
    let message: Message<'_> = reply.message();
    assert_eq!((message.class(), message.method()), (MessageClass::Indication, DATA));
    assert!(message.attribute::<Data<'_>>().is_err(), "there is no data");
    assert_eq!(message.attribute::<XorPeerAddress>().unwrap().addr(message.transaction_id()), peer);
    let icmp = message.attribute::<Icmp>().unwrap();
    Some((icmp.icmp_type(), icmp.code(), icmp.data()))
}

/// Rows T36, T37, T38.
/// Case 80.
#[test]
fn an_unreachable_peer_is_told_by_an_indication_even_if_there_is_a_channel() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    let unreachable = error(Family::V4, 3, 3, 77);
    assert_eq!(told(&mut sim, &alice, peer(), unreachable), None, "nothing was permitted");
    sim.bind_channel(&alice, 0x4000, peer()).unwrap();
    assert_eq!(told(&mut sim, &alice, peer(), unreachable), Some((3, 3, 0)));
    assert_eq!(told(&mut sim, &alice, peer(), error(Family::V4, 11, 0, 0)), Some((11, 0, 0)));
    assert_eq!(told(&mut sim, &alice, addr("9.9.9.10:50000"), unreachable), None);
    sim.advance(PERMISSION_LIFETIME);
    assert_eq!(told(&mut sim, &alice, peer(), unreachable), None);
}

/// Row T36.
#[test]
fn only_what_is_too_big_has_a_number_which_is_the_mtu() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    sim.permit(&alice, &[peer()]).unwrap();
    assert_eq!(told(&mut sim, &alice, peer(), error(Family::V4, 3, 4, 1400)), Some((3, 4, 1400)));
    let mut bob = sim.user("bob");
    let v6 = turn_types::attribute::RequestedAddressFamily::new(stun_types::AddressFamily::IPV6);
    sim.allocate_by(&mut bob, &[&v6]).unwrap();
    let far = addr("[2606:4700::1]:5000");
    sim.permit(&bob, &[far]).unwrap();
    assert_eq!(told(&mut sim, &bob, far, error(Family::V6, 2, 0, 1280)), Some((2, 0, 1280)));
    assert_eq!(told(&mut sim, &bob, far, error(Family::V6, 1, 4, 9)), Some((1, 4, 0)));
    assert_eq!(told(&mut sim, &bob, far, error(Family::V6, 3, 0, 0)), Some((3, 0, 0)));
}

/// Row T36.
/// Case 80.
#[test]
fn other_types_and_other_families_are_not_told() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    sim.permit(&alice, &[peer()]).unwrap();
    for kind in (0..=255).filter(|kind| ![3, 11].contains(kind)) {
        assert_eq!(told(&mut sim, &alice, peer(), error(Family::V4, kind, 0, 0)), None, "{kind}");
    }
    assert_eq!(told(&mut sim, &alice, peer(), error(Family::V6, 3, 0, 0)), None);
}
