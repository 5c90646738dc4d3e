//! Who may ask: challenges, nonces, integrity, users.

use std::sync::Arc;
use std::time::Duration;

use stun_types::attribute::{AttributeStaticType as _, Fingerprint, Nonce, RawAttribute, Realm, Username};
use stun_types::message::{
    BINDING, IntegrityAlgorithm, Message, MessageWrite as _, MessageWriteExt as _, MessageWriteVec,
};
use turn_types::attribute::{Lifetime, RequestedTransport};
use turn_types::message::{ALLOCATE, REFRESH};

use super::super::sim::{REALM, Sim, addr, peer};
use super::draft::{self, Draft};
use crate::config::Secret;
use crate::turn::counters::Outcome;
use crate::turn::credentials;

const NONCE_LIFETIME: Duration = Duration::from_secs(super::super::nonce::NONCE_LIFETIME);

/// Rows S14, S37, S38.
#[test]
fn a_binding_needs_no_credentials_and_tells_the_source_address() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    let reply = sim.deliver(alice.client, &Message::builder_request(BINDING, MessageWriteVec::new()).finish()).unwrap();
    assert_eq!(reply.mapped(), alice.client.remote);
    assert_eq!(reply.0.len(), 32);
    let v6 = sim.user_at("alice", addr("[2606:4700::7]:40000"));
    let reply = sim.deliver(v6.client, &Message::builder_request(BINDING, MessageWriteVec::new()).finish()).unwrap();
    assert_eq!(reply.mapped(), v6.client.remote);
    assert_eq!(reply.0.len(), 44);
}

#[test]
fn an_answer_has_a_fingerprint_if_and_only_if_the_request_had_one() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    let mut request = Message::builder_request(BINDING, MessageWriteVec::new());
    request.add_fingerprint().unwrap();
    let reply = sim.deliver(alice.client, &request.finish()).unwrap();
    assert!(reply.message().has_attribute(Fingerprint::TYPE));
    let reply = sim.deliver(alice.client, &Message::builder_request(BINDING, MessageWriteVec::new()).finish()).unwrap();
    assert!(!reply.message().has_attribute(Fingerprint::TYPE));
}

#[test]
fn a_challenge_leaves_nothing_behind() {
    let mut sim = Sim::new();
    for _ in 0..200 {
        sim.user("alice");
    }
    assert!(sim.server.slots.is_empty() && sim.server.by_client.is_empty() && sim.server.deadlines.is_empty());
    assert_eq!(sim.shared.allocations(), 0);
}

/// Rows S28, S29, T1.
/// Case 38.
#[test]
fn a_wrong_password_or_an_unknown_name_is_challenged_again() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    let mut wrong = alice.clone();
    wrong.password = "guess".to_owned();
    let reply = sim.ask(&wrong, ALLOCATE, &[&RequestedTransport::new(17)]);
    assert_eq!(reply.result(), Err(401));
    assert!(reply.nonce().is_some() && !reply.has_integrity());
    for name in ["", ":u", "-1:u", "1e9:u", " 1:u", "+1:u", "%s%n", "a\nb", "\u{202e}"] {
        let mut nobody = alice.clone();
        nobody.username = name.to_owned();
        nobody.password = credentials::password(&Secret::new(b"0123456789abcdef0123456789abcdef".to_vec()), name);
        assert_eq!(sim.allocate_by(&mut nobody, &[]), Err(401), "{name:?}");
    }
    assert_eq!(sim.sockets.len(), 0);
}

/// Row T2.
#[test]
fn a_password_of_the_wrong_realm_is_wrong() {
    let mut sim = Sim::with(|settings| settings.realm = "other.example".to_owned());
    let mut alice = sim.user("alice");
    assert_eq!(sim.allocate_by(&mut alice, &[]), Err(401));
}

/// Case 40.
#[test]
fn every_configured_secret_verifies_and_a_removed_one_does_not() {
    let (old, new) = (Secret::new(b"old-old-old-old-old-old".to_vec()), Secret::new(b"new-new-new-new".to_vec()));
    let mut sim = Sim::with(|settings| settings.secrets = vec![new.clone(), old.clone()]);
    for (secret, is_good) in [(&new, true), (&old, true), (&Secret::new(b"gone".to_vec()), false)] {
        let mut alice = sim.user("alice");
        alice.password = credentials::password(secret, &alice.username);
        assert_eq!(sim.allocate_by(&mut alice, &[]).map(|_| ()), if is_good { Ok(()) } else { Err(401) });
    }
}

#[test]
fn secrets_behind_the_first_verify_until_their_time_is_over() {
    let (old, new) = (Secret::new(b"old-old-old-old-old-old".to_vec()), Secret::new(b"new-new-new-new".to_vec()));
    let mut sim = Sim::with(|settings| settings.secrets = vec![new.clone(), old.clone()]);
    let until = sim.now.wall + Duration::from_secs(300);
    sim.change(|settings| settings.old_secrets_until = Some(until));
    let allocate = |sim: &mut Sim, secret| {
        let mut alice = sim.user("alice");
        alice.password = credentials::password(secret, &alice.username);
        sim.allocate_by(&mut alice, &[]).map(|_| alice)
    };
    let mut early = allocate(&mut sim, &old).ok().unwrap();
    sim.advance(Duration::from_secs(299));
    assert!(allocate(&mut sim, &old).is_ok());
    sim.advance(Duration::from_secs(1));
    assert_eq!(allocate(&mut sim, &old).map(drop), Err(401));
    assert!(allocate(&mut sim, &new).is_ok());
    early.nonce = sim.challenge(&early);
    assert_eq!(sim.refresh(&early, 600), Ok(600), "an allocation keeps its key");
}

/// Case 39.
#[test]
fn an_expired_credential_makes_nothing_new_but_keeps_what_there_is() {
    let mut sim = Sim::new();
    let mut alice = sim.user("alice");
    sim.allocate_by(&mut alice, &[&Lifetime::new(3600)]).unwrap();
    let mut late = sim.user("alice");
    sim.advance(Duration::from_secs(3599));
    alice.nonce = sim.challenge(&alice);
    sim.refresh(&alice, 3600).unwrap();
    sim.advance(Duration::from_secs(60));
    alice.nonce = sim.challenge(&alice);
    late.nonce = sim.challenge(&late);
    sim.refresh(&alice, 3600).unwrap();
    sim.advance(Duration::from_secs(1));
    assert_eq!(sim.allocate_by(&mut late, &[]), Err(401));
    assert_eq!(sim.refresh(&alice, 600), Ok(600));
    assert_eq!(sim.permit(&alice, &[peer()]), Ok(()));
}

/// Rows S30, T3.
/// Case 34.
#[test]
fn a_nonce_is_stale_after_its_time_and_the_answer_holds_a_new_one() {
    let mut sim = Sim::new();
    let mut alice = sim.allocate("alice");
    sim.refresh(&alice, 3600).unwrap();
    sim.advance(NONCE_LIFETIME - Duration::from_secs(1));
    assert_eq!(sim.refresh(&alice, 3600), Ok(3600));
    sim.advance(Duration::from_secs(1));
    let reply = sim.ask(&alice, REFRESH, &[]);
    assert_eq!(reply.result(), Err(438));
    assert_eq!(reply.message().attribute::<Realm>().unwrap().realm(), REALM);
    alice.nonce = reply.nonce().unwrap();
    assert_eq!(sim.refresh(&alice, 600), Ok(600));
}

/// Row S23.
/// Case 33.
#[test]
fn a_nonce_is_for_one_address_one_port_and_one_listener() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    let mut elsewhere = [alice.clone(), alice.clone(), alice.clone()];
    elsewhere[0].client.remote.set_port(40001);
    elsewhere[1].client.remote = addr("203.0.113.200:40000");
    elsewhere[2].client.via = 1;
    for caller in &mut elsewhere {
        assert_eq!(sim.allocate_by(caller, &[]), Err(438));
    }
    assert!(sim.allocate_by(&mut alice.clone(), &[]).is_ok());
}

/// Case 36.
#[test]
fn a_nonce_that_is_none_of_ours_is_stale() {
    let mut sim = Sim::new();
    let mut alice = sim.user("alice");
    let genuine = alice.nonce.clone();
    let mut changed = genuine.clone().into_bytes();
    changed[15] = if changed[15] == b'A' { b'E' } else { b'A' };
    for nonce in ["", "x", "obMatJos2gAAAx", &"n".repeat(127), &"n".repeat(700), &genuine[..15], "\0"]
        .into_iter()
        .map(str::to_owned)
        .chain([String::from_utf8(changed).unwrap(), format!("{genuine}AAAA")])
    {
        alice.nonce.clone_from(&nonce);
        assert_eq!(sim.allocate_by(&mut alice, &[]), Err(438), "{nonce:?}");
    }
}

/// Row S26.
/// Case 32.
#[test]
fn integrity_without_its_companions_is_a_bad_request_without_a_challenge() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    for missing in 0..3 {
        let mut request = Message::builder_request(REFRESH, MessageWriteVec::new());
        if missing != 0 {
            request.add_attribute(&Username::new(&alice.username).unwrap()).unwrap();
        }
        if missing != 1 {
            request.add_attribute(&Realm::new(REALM).unwrap()).unwrap();
        }
        if missing != 2 {
            request.add_attribute(&Nonce::new(&alice.nonce).unwrap()).unwrap();
        }
        request.add_message_integrity_with_key(&alice.key(), IntegrityAlgorithm::Sha1).unwrap();
        let reply = sim.deliver(alice.client, &request.finish()).unwrap();
        assert_eq!((reply.result(), reply.nonce()), (Err(400), None), "{missing}");
    }
}

/// Rows T4, T55.
/// Case 41.
#[test]
fn another_user_cannot_touch_an_allocation_from_the_same_address() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    let mallory = sim.user_at("mallory", alice.client.remote);
    assert_eq!(sim.refresh(&mallory, 0), Err(441));
    assert_eq!(sim.permit(&mallory, &[peer()]), Err(441));
    assert_eq!(sim.bind_channel(&mallory, 0x4000, peer()), Err(441));
    assert_eq!(sim.allocate_by(&mut mallory.clone(), &[]), Err(437));
    assert_eq!(sim.refresh(&alice, 600), Ok(600));
}

#[test]
fn the_same_user_from_another_address_has_another_allocation() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    let spoofed = sim.user_at("alice", addr("203.0.113.99:40000"));
    assert_eq!(sim.refresh(&spoofed, 0), Err(437));
    assert_eq!(sim.refresh(&alice, 600), Ok(600));
}

/// Row S18.
/// Case 11.
#[test]
fn what_follows_the_integrity_does_not_count() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    for (kind, value) in [(0x000d_u16, &[0_u8, 0, 0, 0][..]), (0x7000, &[1, 2, 3, 4])] {
        let mut bytes = alice.sign(REFRESH, &[]);
        bytes.extend(kind.to_be_bytes());
        bytes.extend(4_u16.to_be_bytes());
        bytes.extend(value);
        let length = u16::try_from(bytes.len() - 20).unwrap();
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        let reply = sim.deliver(alice.client, &bytes).unwrap();
        assert_eq!(reply.result().map(|()| reply.lifetime()), Ok(600), "{kind:#x}");
    }
    assert_eq!(sim.sockets.len(), 1);
}

/// Rows S8, S9, S11.
/// Cases 8, 9, 10.
#[test]
fn an_unknown_attribute_that_must_be_understood_is_named_after_authentication() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    let unknown = RawAttribute::new(0x7fff.into(), &[1]);
    let udp = RequestedTransport::new(17);
    let mut unsigned = Message::builder_request(ALLOCATE, MessageWriteVec::new());
    unsigned.add_attribute(&udp).unwrap();
    unsigned.add_attribute(&unknown).unwrap();
    assert_eq!(sim.deliver(alice.client, &unsigned.finish()).unwrap().result(), Err(401));
    let reply = sim.ask(&alice, ALLOCATE, &[&udp, &unknown]);
    assert_eq!(reply.result(), Err(420));
    assert!(reply.lists_unknown(0x7fff));
    let optional = RawAttribute::new(0xffff.into(), &[1]);
    assert_eq!(sim.ask(&alice, ALLOCATE, &[&udp, &optional]).result(), Ok(()));
    let mut binding = Message::builder_request(BINDING, MessageWriteVec::new());
    binding.add_attribute(&unknown).unwrap();
    let reply = sim.deliver(alice.client, &binding.finish()).unwrap();
    assert!(reply.result() == Err(420) && reply.lists_unknown(0x7fff));
}

/// Case 35: the nonce is looked at first.
#[test]
fn a_stale_nonce_is_told_even_if_the_integrity_is_wrong() {
    let mut sim = Sim::new();
    let mut alice = sim.user("alice");
    sim.pass(NONCE_LIFETIME);
    alice.password = "guess".to_owned();
    assert_eq!(sim.allocate_by(&mut alice, &[]), Err(438));
}

/// Row S44.
/// Cases 36, 37.
#[test]
fn names_and_nonces_of_any_length_and_bytes_are_refused_in_good_order() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    let nonce = alice.nonce.as_bytes();
    let ask = |sim: &mut Sim, name: &[u8], nonce: &[u8]| {
        sim.pass(Duration::from_millis(100));
        let draft = Draft::new(draft::ALLOCATE).with(draft::TRANSPORT, draft::UDP).with(draft::USERNAME, name);
        let draft = draft.with(draft::REALM_KIND, REALM.as_bytes()).with(draft::NONCE, nonce);
        sim.deliver(alice.client, &draft.with(draft::INTEGRITY, &[7; 20]).0).unwrap().result()
    };
    for length in [0, 508, 509, 763, 764, 10_000] {
        assert_eq!(ask(&mut sim, &vec![b'1'; length], nonce), Err(401), "{length}");
        assert_eq!(ask(&mut sim, b"1", &vec![b'n'; length]), Err(438), "{length}");
    }
    for bytes in [&b"\0"[..], b"\xff\xfe", b"%s%n", b"\"'\n", "\u{202e}".as_bytes()] {
        assert_eq!(ask(&mut sim, bytes, nonce), Err(401), "{bytes:?}");
        assert_eq!(ask(&mut sim, b"1", bytes), Err(438), "{bytes:?}");
    }
}

/// Row T9.
/// Case 40.
#[test]
fn an_allocation_outlives_its_secret_and_a_new_one_is_refused() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    let mut bob = sim.user("bob");
    let mut settings = (*sim.server.settings).clone();
    settings.secrets = vec![Secret::new(b"another-secret-of-128-bits".to_vec())];
    settings.nonce_key = [8; 32];
    sim.server.set_settings(Arc::new(settings), sim.now);
    assert_eq!(sim.refresh(&alice, 600), Ok(600));
    assert_eq!(sim.permit(&alice, &[peer()]), Ok(()));
    assert_eq!(sim.allocate_by(&mut bob, &[]), Err(401));
}

/// Case 89.
#[test]
fn an_allocation_survives_a_clock_that_jumps() {
    let hour = Duration::from_secs(3600);
    let mut sim = Sim::new();
    let mut alice = sim.allocate("alice");
    for is_back in [true, false, false] {
        sim.now.wall = if is_back { sim.now.wall - hour } else { sim.now.wall + hour };
        let reply = sim.ask(&alice, REFRESH, &[]);
        assert_eq!(reply.result(), Err(438));
        alice.nonce = reply.nonce().unwrap();
        assert_eq!(sim.refresh(&alice, 600), Ok(600));
    }
    sim.pass(Duration::from_secs(60));
    assert_eq!(sim.refresh(&alice, 600), Ok(600));
    let mut late = alice.clone();
    late.client.remote.set_port(1);
    late.nonce = sim.challenge(&late);
    assert_eq!(sim.allocate_by(&mut late, &[]), Err(401), "a date is one of the wall clock");
}

#[test]
fn refused_allocates_are_counted_by_what_was_wrong() {
    let mut sim = Sim::with(|settings| settings.user_quota = 1);
    let alice = sim.allocate("alice");
    let mut wrong = sim.user("eve");
    wrong.password = "guess".to_owned();
    assert_eq!(sim.allocate_by(&mut wrong, &[]), Err(401));
    let mut second = sim.user("alice");
    assert_eq!(sim.allocate_by(&mut second, &[]), Err(486));
    let bob = sim.user("bob");
    let other = sim.ask(&bob, ALLOCATE, &[&RequestedTransport::new(6)]);
    assert_eq!(other.result(), Err(442));
    assert_eq!(sim.refresh(&wrong, 0), Err(401));
    let counts = sim.server.take_counts();
    let seen = [Outcome::WrongCredentials, Outcome::OverQuota, Outcome::Refused].map(|outcome| counts.outcome(outcome));
    assert_eq!(seen, [1, 1, 1], "a challenge is no outcome, and a Refresh no Allocate");
    assert_eq!(sim.refresh(&alice, 600), Ok(600));
}
