//! Probes of the own process: served as users are, and seen in nothing that counts users.

use super::super::sim::{Caller, RELAY_V4, Sim, addr, peer};
use super::super::{Forward, Frame};
use crate::config::Secret;
use crate::turn::counters::{Counts, Dropped, Outcome};
use crate::turn::credentials;
use crate::turn::insiders::{Insiders, Route};

/// What passwords are derived from in a [`Sim`], and the key of its probes.
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const PROBE_KEY: [u8; 32] = [9; 32];

fn insiders() -> Insiders {
    Insiders::new(&Secret::new(PROBE_KEY.to_vec()))
}

/// A client with a probe's name.
fn probe(sim: &mut Sim, route: Route) -> Caller {
    let mut caller = sim.user("nobody");
    caller.username = insiders().name(route, sim.now.unix_seconds() + 300);
    caller.password = credentials::password(&Secret::new(SECRET.to_vec()), &caller.username);
    caller
}

/// Two of them that may talk to each other by a channel each.
fn pair(sim: &mut Sim, route: Route) -> [Caller; 2] {
    let mut both = [probe(sim, route), probe(sim, route)];
    for caller in &mut both {
        sim.allocate_by(caller, &[]).unwrap();
    }
    let relays = both.each_ref().map(|caller| caller.relay);
    sim.bind_channel(&both[0], 0x4000, relays[1]).unwrap();
    sim.bind_channel(&both[1], 0x4000, relays[0]).unwrap();
    both
}

#[test]
fn a_probe_goes_the_way_it_asks_for() {
    let mut sim = Sim::new();
    let [one, two] = pair(&mut sim, Route::InProcess);
    let (forward, payload) = sim.send_on_channel(&one, 0x4000, b"hello").unwrap();
    assert_eq!(payload, b"hello");
    assert!(
        matches!(forward, Forward::ToClient { client, frame: Frame::Channel(0x4000), .. } if client == two.client),
        "{forward:?}"
    );
    let [one, two] = pair(&mut sim, Route::ByKernel);
    let (forward, _) = sim.send_on_channel(&one, 0x4000, b"hello").unwrap();
    assert!(matches!(forward, Forward::ToPeer { peer, .. } if peer == two.relay), "{forward:?}");
    let arrived = sim.arrive(&two, one.relay, 5).unwrap();
    assert!(matches!(arrived, Forward::ToClient { client, .. } if client == two.client), "{arrived:?}");
}

#[test]
fn a_probe_shows_in_no_counter_and_against_no_limit() {
    let mut sim = Sim::with(|settings| {
        settings.total_quota = 1;
        settings.user_quota = 1;
        settings.allocation_bandwidth = Some(1);
        settings.total_bandwidth = Some(1);
    });
    let alice = sim.allocate("alice");
    sim.server.take_counts();
    for route in Route::ALL {
        let [one, two] = pair(&mut sim, route);
        for _ in 0..20 {
            sim.send_on_channel(&one, 0x4000, &[0; 1000]).unwrap();
            sim.arrive(&two, one.relay, 1000).unwrap();
        }
        // What is dropped on purpose, and what is refused.
        assert_eq!(sim.send(&one, addr("127.0.0.1:8080"), b"x"), None);
        assert_eq!(sim.send(&one, peer(), b"x"), None);
        assert_eq!(sim.send_on_channel(&one, 0x4001, b"x"), None);
        assert_eq!(sim.arrive(&one, peer(), 1), None);
        assert_eq!(sim.permit(&one, &[addr("127.0.0.1:80")]), Err(403));
        let wrong = Caller { password: "wrong".to_owned(), ..probe(&mut sim, route) };
        assert_eq!(sim.allocate_by(&mut wrong.clone(), &[]).map(drop), Err(401));
        assert_eq!(sim.refresh(&one, 0), Ok(0));
        assert_eq!(sim.shared.allocations(), 1, "alice's alone");
    }
    assert_eq!(sim.server.take_counts(), Counts::default());
    // Nor has anything been used up that is a user's.
    sim.refresh(&alice, 0).unwrap();
    sim.allocate("alice");
    let counts = sim.server.take_counts();
    assert_eq!([Outcome::Granted, Outcome::Released].map(|outcome| counts.outcome(outcome)), [1, 1]);
}

#[test]
fn nobody_is_a_probe_by_its_name_alone() {
    let mut sim = Sim::new();
    let genuine = probe(&mut sim, Route::InProcess);
    // Whoever has the configured secret can make any name and its password.
    let digits: String = genuine.username.chars().take_while(char::is_ascii_digit).collect();
    let tag = genuine.username.rsplit('-').next().unwrap();
    for forged in [
        format!("{digits}:~probe-direct-"),
        format!("{digits}:~probe-direct-{}", "0".repeat(tag.len())),
        format!("{digits}:~probe-kernel-{tag}"),
        format!("9{digits}:~probe-direct-{tag}"),
    ] {
        let mut caller = sim.user("nobody");
        caller.password = credentials::password(&Secret::new(SECRET.to_vec()), &forged);
        caller.username = forged;
        assert_eq!(sim.allocate_by(&mut caller, &[]).map(drop), Err(401), "{}", caller.username);
    }
    let counts = sim.server.take_counts();
    assert_eq!(counts.outcome(Outcome::WrongCredentials), 4, "and it is counted");
}

#[test]
fn an_expired_probe_is_refused_and_too_many_are() {
    let mut sim = Sim::new();
    let mut late = probe(&mut sim, Route::InProcess);
    late.username = insiders().name(Route::InProcess, sim.now.unix_seconds() - 3600);
    late.password = credentials::password(&Secret::new(SECRET.to_vec()), &late.username);
    assert_eq!(sim.allocate_by(&mut late, &[]).map(drop), Err(401));
    let mut sim = Sim::new();
    let granted = (0..40).take_while(|_| {
        let mut caller = probe(&mut sim, Route::InProcess);
        sim.allocate_by(&mut caller, &[]).is_ok()
    });
    // Their ports end before their number does, in this small world.
    assert!(granted.count() <= 32);
    assert_eq!(sim.server.take_counts(), Counts::default());
}

#[test]
fn a_user_who_sends_to_a_probe_is_counted_for_what_it_is_refused() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    let mut lone = probe(&mut sim, Route::InProcess);
    sim.allocate_by(&mut lone, &[]).unwrap();
    sim.permit(&alice, &[addr(&format!("{RELAY_V4}:1"))]).unwrap();
    assert_eq!(sim.send(&alice, lone.relay, b"x"), None);
    assert_eq!(sim.server.take_counts().dropped(Dropped::NoPermission), 1);
}
