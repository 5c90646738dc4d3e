//! Several shards that share one relay: what goes from an allocation of one to an allocation of another.

use std::time::Duration;

use super::super::sim::{Sim, addr};
use super::super::{Forward, Frame, PERMISSION_LIFETIME, RelayId, Transport};
use crate::turn::counters::Dropped;

/// Two shards; the first one's clients come first.
fn two() -> (Sim, Sim) {
    let one = Sim::new();
    let other = one.another(49180);
    (one, other)
}

#[test]
fn an_allocation_of_another_shard_is_reached_without_the_kernel_and_counted_once() {
    let (mut one, mut other) = two();
    let (alice, bob) = (one.allocate("alice"), other.allocate("bob"));
    one.bind_channel(&alice, 0x4000, bob.relay).unwrap();
    other.bind_channel(&bob, 0x4abc, alice.relay).unwrap();
    let (forward, payload) = one.send_on_channel(&alice, 0x4000, b"hello").unwrap();
    assert_eq!(payload, b"hello");
    assert!(
        matches!(&forward, Forward::ToClient { client, frame: Frame::Channel(0x4abc), .. } if *client == bob.client),
        "{forward:?}"
    );
    let (forward, _) = other.send(&bob, alice.relay, b"yes").unwrap();
    assert!(
        matches!(forward, Forward::ToClient { client, frame: Frame::Channel(0x4000), .. } if client == alice.client)
    );
    let relayed = [&mut one, &mut other].map(|sim| sim.server.take_counts().relayed_packets);
    assert_eq!(relayed, [1, 1]);
}

#[test]
fn without_a_channel_there_it_comes_as_an_indication_from_the_told_address() {
    let one = Sim::with(|settings| settings.relays[0].told = "203.0.113.77".parse().unwrap());
    let (mut one, mut other) = (one.another(49160), one.another(49180));
    let (alice, bob) = (one.allocate("alice"), other.allocate("bob"));
    one.permit(&alice, &[bob.relay]).unwrap();
    other.permit(&bob, &[alice.relay]).unwrap();
    let (forward, _) = one.send(&alice, bob.relay, b"x").unwrap();
    let Forward::ToClient { client, frame: Frame::Indication { peer, .. }, .. } = forward else {
        panic!("{forward:?} goes to a client");
    };
    assert_eq!((client, peer), (bob.client, alice.relay));
}

#[test]
fn the_rules_of_the_other_side_hold_across_shards() {
    let (mut one, mut other) = two();
    let (alice, bob) = (one.allocate("alice"), other.allocate("bob"));
    one.permit(&alice, &[bob.relay]).unwrap();
    // Bob has permitted nobody of ours: the kernel takes it there, where it is dropped.
    let (forward, _) = one.send(&alice, bob.relay, b"x").unwrap();
    assert!(matches!(forward, Forward::ToPeer { peer, .. } if peer == bob.relay));
    assert_eq!(one.server.take_counts().relayed_packets, 0, "it is counted where it arrives");
    let at = other.socket_of(&bob).unwrap();
    assert_eq!(other.server.handle_peer(at, alice.relay, 1, other.now), None);
    assert_eq!(other.server.take_counts().dropped(Dropped::NoPermission), 1);
    other.bind_channel(&bob, 0x4000, alice.relay).unwrap();
    assert!(matches!(one.send(&alice, bob.relay, b"x"), Some((Forward::ToClient { .. }, _))));
    for sim in [&mut one, &mut other] {
        sim.advance(PERMISSION_LIFETIME - Duration::from_secs(1));
    }
    one.permit(&alice, &[bob.relay]).unwrap();
    assert!(one.send(&alice, bob.relay, b"x").is_some());
    one.advance(Duration::from_secs(1));
    assert_eq!(one.send(&alice, bob.relay, b"x"), None, "bob's permission is over");
    one.advance(Duration::from_secs(5));
    other.advance(Duration::from_secs(6));
    other.permit(&bob, &[alice.relay]).unwrap();
    assert!(one.send(&alice, bob.relay, b"x").is_some());
    other.refresh(&bob, 0).unwrap();
    assert_eq!(one.send(&alice, bob.relay, b"x"), None, "bob is gone");
}

#[test]
fn an_allocation_that_is_over_is_not_reached_though_its_shard_is_late() {
    let (mut one, mut other) = two();
    let (alice, bob) = (one.allocate("alice"), other.allocate("bob"));
    one.refresh(&alice, 3600).unwrap();
    for sim in [&mut one, &mut other] {
        sim.advance(Duration::from_secs(500));
    }
    one.permit(&alice, &[bob.relay]).unwrap();
    other.permit(&bob, &[alice.relay]).unwrap();
    assert!(one.send(&alice, bob.relay, b"x").is_some());
    one.advance(Duration::from_secs(100));
    assert_eq!(one.send(&alice, bob.relay, b"x"), None);
}

#[test]
fn clients_on_streams_are_reached_through_the_kernel_in_both_directions() {
    let (mut one, mut streams) = two();
    let alice = one.allocate("alice");
    let mut bob = streams.user_by("bob", addr("203.0.113.99:5000"), Transport::Tcp, 3);
    streams.allocate_by(&mut bob, &[]).unwrap();
    one.permit(&alice, &[bob.relay]).unwrap();
    streams.permit(&bob, &[alice.relay]).unwrap();
    assert!(matches!(one.send(&alice, bob.relay, b"x"), Some((Forward::ToPeer { .. }, _))));
    assert!(matches!(streams.send(&bob, alice.relay, b"x"), Some((Forward::ToPeer { .. }, _))));
    assert_eq!(streams.server.take_counts().relayed_packets, 0);
    let at: RelayId = streams.socket_of(&bob).unwrap();
    let forward = streams.server.handle_peer(at, alice.relay, 1, streams.now);
    assert!(matches!(forward, Some(Forward::ToClient { client, .. }) if client == bob.client));
    assert_eq!(streams.server.take_counts().relayed_packets, 1);
}

#[test]
fn bandwidth_is_that_of_both_sides_across_shards() {
    let one = Sim::with(|settings| settings.allocation_bandwidth = Some(10_000));
    let (mut one, mut other) = (one.another(49160), one.another(49180));
    let callers: Vec<_> = (0..4).map(|number| one.allocate(&format!("user{number}"))).collect();
    let bob = other.allocate("bob");
    other.permit(&bob, &[callers[0].relay]).unwrap();
    let mut passed = 0;
    for caller in &callers {
        one.permit(caller, &[bob.relay]).unwrap();
        passed += (0..6).filter(|_| one.send(caller, bob.relay, &[0; 1000]).is_some()).count();
    }
    assert_eq!(passed, 6, "bob gets no more, from however many");
}

#[test]
fn quotas_are_for_all_shards_together() {
    let one = Sim::with(|settings| settings.user_quota = 1);
    let (mut one, mut other) = (one.another(49160), one.another(49180));
    let alice = one.allocate("alice");
    let mut again = other.user("alice");
    assert_eq!(other.allocate_by(&mut again, &[]), Err(486));
    one.refresh(&alice, 0).unwrap();
    assert!(other.allocate_by(&mut again, &[]).is_ok());
}
