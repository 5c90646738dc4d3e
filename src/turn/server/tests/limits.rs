//! How many answers those get who have not shown that they are who they say.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::sim::{Caller, REALM, Sim, addr};
use super::super::{Client, Transport};
use super::draft::{ALLOCATE, Draft, INTEGRITY, NONCE, REALM_KIND, TRANSPORT, UDP, USERNAME};
use crate::turn::counters::Dropped;

const BINDING: u16 = 0x0001;

/// How many of so many requests, at one moment, are answered.
fn answered(sim: &mut Sim, client: Client, request: &[u8], times: usize) -> usize {
    (0..times).filter(|_| sim.deliver(client, request).is_some()).count()
}

fn at(caller: &Caller, remote: SocketAddr) -> Client {
    Client { remote, ..caller.client }
}

fn unsigned() -> Vec<u8> {
    Draft::new(ALLOCATE).with(TRANSPORT, UDP).0
}

fn forged() -> Vec<u8> {
    let named = Draft::new(ALLOCATE).with(TRANSPORT, UDP).with(USERNAME, b"9999999999:eve");
    named.with(REALM_KIND, REALM.as_bytes()).with(NONCE, b"obMatJos2AAAAself-made").with(INTEGRITY, &[7; 20]).0
}

#[test]
fn challenges_and_bindings_to_one_address_are_bounded_and_recover() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    let victim = at(&alice, addr("198.18.0.1:1000"));
    assert_eq!(answered(&mut sim, victim, &unsigned(), 300), 100);
    assert_eq!(answered(&mut sim, victim, &Draft::new(BINDING).0, 600), 500);
    let other_port = at(&alice, addr("198.18.0.1:2000"));
    assert_eq!(answered(&mut sim, other_port, &unsigned(), 5), 0);
    sim.pass(Duration::from_secs(1));
    assert_eq!(answered(&mut sim, victim, &unsigned(), 300), 10);
    assert_eq!(answered(&mut sim, victim, &Draft::new(BINDING).0, 600), 50);
    sim.pass(Duration::from_secs(3600));
    assert_eq!(answered(&mut sim, victim, &unsigned(), 300), 100);
    assert_eq!(sim.server.take_counts().dropped(Dropped::RateLimited), 200 + 100 + 5 + 290 + 550 + 200);
}

#[test]
fn an_ipv6_network_is_one_source_and_its_neighbour_another() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    let client = at(&alice, addr("[2606:4700:1:2::1]:1000"));
    assert_eq!(answered(&mut sim, client, &unsigned(), 101), 100);
    assert_eq!(answered(&mut sim, at(&alice, addr("[2606:4700:1:2:ffff::9]:1000")), &unsigned(), 1), 0);
    assert_eq!(answered(&mut sim, at(&alice, addr("[2606:4700:1:3::1]:1000")), &unsigned(), 1), 1);
}

#[test]
fn an_address_that_has_proven_itself_gets_more_for_ten_minutes() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    assert_eq!(answered(&mut sim, alice.client, &unsigned(), 2500), 2000);
    sim.pass(Duration::from_millis(100));
    assert_eq!(answered(&mut sim, alice.client, &unsigned(), 2500), 200);
    sim.pass(Duration::from_secs(600));
    assert_eq!(answered(&mut sim, alice.client, &unsigned(), 2500), 100);
}

/// Case 47.
#[test]
fn forged_integrities_get_ten_answers_a_second_wherever_they_come_from() {
    for remote in ["203.0.113.250:1000", "127.0.0.1:1000", "10.1.2.3:1000", "[fd00::1]:1000", "[::ffff:192.168.0.1]:9"]
    {
        let mut sim = Sim::new();
        let alice = sim.user("alice");
        let eve = at(&alice, addr(remote));
        let mut total = 0;
        for _ in 0..500 {
            total += answered(&mut sim, eve, &forged(), 1);
            sim.pass(Duration::from_millis(20));
        }
        assert_eq!(total, 109, "{remote}: ten at once and ten a second");
    }
}

#[test]
fn addresses_that_nobody_on_the_internet_has_are_challenged_without_limit() {
    for remote in [
        "127.0.0.1:1",
        "10.0.0.1:1",
        "172.31.0.1:1",
        "192.168.1.1:1",
        "169.254.1.1:1",
        "[::1]:1",
        "[fd00::1]:1",
        "[fe80::1]:1",
    ] {
        let mut sim = Sim::new();
        let alice = sim.user("alice");
        let client = at(&alice, addr(remote));
        assert_eq!(answered(&mut sim, client, &unsigned(), 1000), 1000, "{remote}");
        assert_eq!(answered(&mut sim, client, &Draft::new(BINDING).0, 1000), 1000, "{remote}");
    }
}

#[test]
fn a_stream_is_not_limited() {
    let mut sim = Sim::new();
    let mut client = sim.user("alice").client;
    client.transport = Transport::Tcp;
    assert_eq!(answered(&mut sim, client, &unsigned(), 1000), 1000);
    assert_eq!(answered(&mut sim, client, &forged(), 100), 100);
}

/// Case 46.
#[test]
fn a_hundred_thousand_made_up_sources_leave_nothing_and_hinder_nobody() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    let victim = at(&alice, addr("198.18.0.1:1000"));
    assert_eq!(answered(&mut sim, victim, &unsigned(), 200), 100);
    let before = (sim.server.slots.len(), sim.server.by_client.len(), sim.server.deadlines.len());
    let mut total = 0;
    for source in 0..100_000_u32 {
        let remote = SocketAddr::new((0x5000_0000 + source).to_be_bytes().into(), 1000);
        total += answered(&mut sim, at(&alice, remote), &unsigned(), 1);
    }
    assert!((49_000..=50_000).contains(&total), "{total} in one moment");
    assert_eq!((sim.server.slots.len(), sim.server.by_client.len(), sim.server.deadlines.len()), before);
    assert_eq!(answered(&mut sim, victim, &unsigned(), 100), 0, "who is flooded is not forgotten");
    assert_eq!(sim.refresh(&alice, 600), Ok(600));
    assert_eq!(answered(&mut sim, alice.client, &unsigned(), 1), 1);
    sim.pass(Duration::from_millis(1));
    let newcomer = sim.allocate("bob");
    assert_eq!(sim.refresh(&newcomer, 600), Ok(600));
}
