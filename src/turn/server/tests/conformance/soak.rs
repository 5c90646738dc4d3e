//! A day in a moment: what comes and goes leaves nothing behind.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::super::Client;
use super::super::super::sim::{Caller, REALM, Sim, addr, peer};
use super::super::draft::{ALLOCATE, Draft, INTEGRITY, NONCE, REALM_KIND, TRANSPORT, UDP, USERNAME};

const MINUTES: u32 = 24 * 60;

/// What the relay holds: places, clients, relays, deadlines, and what waits to be done.
fn held(sim: &Sim) -> [usize; 5] {
    let server = &sim.server;
    let (clients, relays) = (server.by_client.len(), server.by_relay.len());
    [server.slots.len() - server.free.len(), clients, relays, server.deadlines.len(), server.actions.len()]
}

/// Strangers: an unsigned Allocate, a forged one, broken bytes and data for no allocation, each from a place of its own.
fn flood(sim: &mut Sim, caller: &Caller, round: u32) {
    let forged = Draft::new(ALLOCATE).with(TRANSPORT, UDP).with(USERNAME, b"9999999999:eve");
    let forged = forged.with(REALM_KIND, REALM.as_bytes()).with(NONCE, b"self-made").with(INTEGRITY, &[7; 20]).0;
    for number in 0..20 {
        let remote = SocketAddr::new((0x5000_0000 + round * 20 + number).to_be_bytes().into(), 5000);
        let client = Client { remote, ..caller.client };
        for bytes in [&Draft::new(ALLOCATE).with(TRANSPORT, UDP).0[..], &forged, &[0, 1, 0], &[0x40, 0, 0, 1, 9]] {
            let _ = sim.deliver(client, bytes);
        }
    }
}

/// Case 93.
#[test]
fn a_day_of_floods_and_churn_leaves_nothing_behind() {
    let mut sim = Sim::new();
    let mut granted = 0;
    let mut places = [0; 2];
    for minute in 0..MINUTES {
        let name = format!("user{}", minute % 7);
        let remote = addr(&format!("203.0.{}.{}:{}", minute / 250, minute % 250 + 1, 1000 + minute));
        let mut caller = sim.user_at(&name, remote);
        if sim.allocate_by(&mut caller, &[]).is_ok() {
            granted += 1;
            sim.bind_channel(&caller, 0x4000, peer()).unwrap();
            assert!(sim.send_on_channel(&caller, 0x4000, b"x").is_some());
            // A third end their calls, the others are never heard of again.
            if minute.is_multiple_of(3) {
                sim.refresh(&caller, 0).unwrap();
            }
        }
        flood(&mut sim, &caller, minute);
        if minute.is_multiple_of(2) {
            sim.advance(Duration::from_secs(60))
        } else {
            sim.pass(Duration::from_secs(60))
        }
        places[usize::from(minute > MINUTES / 2)] = sim.server.slots.len();
    }
    assert_eq!(granted, MINUTES, "nobody was refused");
    assert!(places[0] == places[1] && places[0] <= 10, "{places:?} grow");
    sim.advance(Duration::from_secs(600));
    assert_eq!((held(&sim), sim.sockets.len(), sim.shared.allocations()), ([0; 5], 0, 0));
}
