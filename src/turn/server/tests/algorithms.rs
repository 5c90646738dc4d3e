//! What RFC 8489 adds for clients that know it: algorithms to choose from, hashed names, and nonces that say so.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use stun_types::attribute::{AttributeStaticType as _, ErrorCode, PasswordAlgorithms};
use turn_types::attribute::RequestedTransport;

use super::super::Transport;
use super::super::sim::{Caller, REALM, Reply, Sim};
use super::draft::{
    ALLOCATE, Draft, INTEGRITY, INTEGRITY_SHA_256, LIFETIME, NONCE, PASSWORD_ALGORITHM, PASSWORD_ALGORITHMS,
    REALM_KIND, REFRESH, SOFTWARE, TRANSPORT, UDP, USERHASH, USERNAME, is_signed_by, md5_key, sha_256_key,
};
use crate::config::Secret;

const OFFERED: &[u8] = &[0, 2, 0, 0, 0, 1, 0, 0];
const MD5: &[u8] = &[0, 1, 0, 0];
const SHA_256: &[u8] = &[0, 2, 0, 0];

/// The challenge to an Allocate of the length that browsers send.
fn challenge(sim: &mut Sim, caller: &Caller) -> Reply {
    let request = Draft::new(ALLOCATE).with(TRANSPORT, UDP).with(SOFTWARE, b"twelve bytes").0;
    assert_eq!(request.len(), 44);
    let reply = sim.deliver(caller.client, &request).unwrap();
    assert_eq!(reply.result(), Err(ErrorCode::UNAUTHORIZED));
    reply
}

/// A user whose nonce comes with algorithms.
fn modern(sim: &mut Sim, name: &str) -> Caller {
    let mut caller = sim.user(name);
    caller.nonce = challenge(sim, &caller).nonce().unwrap();
    caller
}

fn has_offer(reply: &Reply) -> bool {
    reply.message().raw_attribute(PasswordAlgorithms::TYPE).is_some_and(|raw| raw.value[..] == *OFFERED)
}

/// Rows S19, S20, S22, S24, S51.
/// Cases 31, 43.
#[test]
fn a_challenge_offers_what_its_request_leaves_room_for_and_its_nonce_says_so() {
    let short = Draft::new(ALLOCATE).with(TRANSPORT, UDP).0;
    let usual = Draft::new(ALLOCATE).with(TRANSPORT, UDP).with(SOFTWARE, b"twelve bytes").0;
    let marked = Draft::new(ALLOCATE).with(TRANSPORT, UDP).with_fingerprint().0;
    for (realm, transport, request, start, length) in [
        ("r", Transport::Udp, &short, "obMatJos2gAAA", 84),
        (REALM, Transport::Udp, &short, "obMatJos2AAAA", 80),
        (REALM, Transport::Udp, &usual, "obMatJos2gAAA", 92),
        (&*"r".repeat(32), Transport::Udp, &short, "", 84),
        (&*"r".repeat(32), Transport::Udp, &marked, "obMatJos2AAAA", 108),
        (&*"r".repeat(32), Transport::Udp, &usual, "obMatJos2gAAA", 112),
        (&*"r".repeat(32), Transport::Tcp, &short, "obMatJos2gAAA", 112),
    ] {
        let mut sim = Sim::with(|settings| settings.realm = realm.to_owned());
        let mut client = sim.user("alice").client;
        client.transport = transport;
        let reply = sim.deliver(client, request).unwrap();
        let nonce = reply.nonce().unwrap();
        assert_eq!((reply.result(), reply.0.len()), (Err(401), length), "{realm} {transport:?}");
        assert!(if start.is_empty() { nonce.len() == 16 } else { nonce.starts_with(start) }, "{nonce}");
        assert_eq!(has_offer(&reply), start.contains("gAAA"));
        assert!(!reply.has_integrity());
    }
}

/// Rows S21, S31.
#[test]
fn an_answer_is_signed_as_the_request_chose() {
    let mut sim = Sim::new();
    for (choice, kind, is_sha_256_key, answer) in [
        (None, INTEGRITY, false, INTEGRITY),
        (None, INTEGRITY_SHA_256, false, INTEGRITY),
        (Some(MD5), INTEGRITY, false, INTEGRITY_SHA_256),
        (Some(MD5), INTEGRITY_SHA_256, false, INTEGRITY_SHA_256),
        (Some(SHA_256), INTEGRITY, true, INTEGRITY_SHA_256),
        (Some(SHA_256), INTEGRITY_SHA_256, true, INTEGRITY_SHA_256),
    ] {
        let alice = modern(&mut sim, "alice");
        let key = if is_sha_256_key { sha_256_key } else { md5_key }(&alice.username, &alice.password);
        let finish = |draft: Draft| {
            let draft = match choice {
                Some(choice) => draft.with(PASSWORD_ALGORITHM, choice).with(PASSWORD_ALGORITHMS, OFFERED),
                None => draft,
            };
            draft.by(&alice).signed(kind, &key).0
        };
        let said = format!("{choice:?} {kind:#x}");
        let success = sim.deliver(alice.client, &finish(Draft::new(ALLOCATE).with(TRANSPORT, UDP))).unwrap();
        assert_eq!(success.result(), Ok(()), "{said}");
        assert!(is_signed_by(&success.0, answer, &key), "{said}");
        let mut again = finish(Draft::new(ALLOCATE).with(TRANSPORT, UDP));
        again[8] ^= 1;
        let error = Draft::new(REFRESH).with(LIFETIME, &[0; 3]);
        let error = sim.deliver(alice.client, &finish(error)).unwrap();
        assert_eq!(error.result(), Err(400), "{said}");
        assert!(is_signed_by(&error.0, answer, &key), "{said}");
        let deleted = sim.deliver(alice.client, &finish(Draft::new(REFRESH).with(LIFETIME, &[0; 4]))).unwrap();
        assert!(deleted.result().is_ok() && is_signed_by(&deleted.0, answer, &key), "{said}");
    }
}

/// Rows S27, S51.
/// Case 42.
#[test]
fn a_choice_that_was_not_offered_is_a_bad_request() {
    let long: &[u8] = &[0, 1, 0xff, 0xff];
    for (choice, list) in [
        (Some(SHA_256), None),
        (None, Some(OFFERED)),
        (Some(MD5), Some(MD5)),
        (Some(MD5), Some(&[0, 1, 0, 0, 0, 2, 0, 0][..])),
        (Some(MD5), Some(&[0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0][..])),
        (Some(MD5), Some(&[][..])),
        (Some(&[0, 0, 0, 0][..]), Some(OFFERED)),
        (Some(&[0xff, 0xff, 0, 0][..]), Some(OFFERED)),
        (Some(&[0, 3, 0, 0][..]), Some(OFFERED)),
        (Some(long), Some(OFFERED)),
        (Some(long), Some(long)),
        (Some(MD5), Some(&[0, 2, 0xff, 0xff, 0, 1, 0, 0][..])),
        (Some(&[0, 1][..]), Some(OFFERED)),
        (Some(&[][..]), Some(OFFERED)),
        (Some(&[0, 1, 0, 4, 1, 2, 3, 4][..]), Some(OFFERED)),
    ] {
        let mut sim = Sim::new();
        let alice = modern(&mut sim, "alice");
        let mut draft = Draft::new(ALLOCATE).with(TRANSPORT, UDP);
        if let Some(choice) = choice {
            draft = draft.with(PASSWORD_ALGORITHM, choice);
        }
        if let Some(list) = list {
            draft = draft.with(PASSWORD_ALGORITHMS, list);
        }
        let key = md5_key(&alice.username, &alice.password);
        let reply = sim.deliver(alice.client, &draft.by(&alice).signed(INTEGRITY, &key).0).unwrap();
        assert_eq!((reply.result(), reply.nonce()), (Err(400), None), "{choice:?} {list:?}");
    }
}

/// Row S27.
/// Case 42.
#[test]
fn a_choice_without_an_offer_is_a_bad_request() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    assert!(alice.nonce.starts_with("obMatJos2AAAA"), "{}", alice.nonce);
    let draft = Draft::new(ALLOCATE).with(PASSWORD_ALGORITHM, MD5).with(PASSWORD_ALGORITHMS, OFFERED);
    let key = md5_key(&alice.username, &alice.password);
    let reply = sim.deliver(alice.client, &draft.by(&alice).signed(INTEGRITY, &key).0).unwrap();
    assert_eq!(reply.result(), Err(400));
}

/// Row S20.
/// Case 43.
#[test]
fn a_nonce_whose_offer_was_taken_out_is_stale_and_the_next_offers_again() {
    let mut sim = Sim::new();
    let mut alice = modern(&mut sim, "alice");
    alice.nonce = alice.nonce.replace("gAAA", "AAAA");
    let reply = sim.ask(&alice, turn_types::message::ALLOCATE, &[&RequestedTransport::new(17)]);
    assert_eq!(reply.result(), Err(438));
    assert!(reply.nonce().unwrap().starts_with("obMatJos2gAAA") && has_offer(&reply));
}

/// Rows S18, S29.
/// Case 12.
#[test]
fn of_two_integrities_the_one_by_sha_256_counts() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    let key = md5_key(&alice.username, &alice.password);
    let draft = || Draft::new(ALLOCATE).with(TRANSPORT, UDP).by(&alice);
    let wrong = draft().signed(INTEGRITY, &key).with(INTEGRITY_SHA_256, &[7; 32]).0;
    assert_eq!(sim.deliver(alice.client, &wrong).unwrap().result(), Err(401));
    let right = draft().with(INTEGRITY, &[7; 20]).signed(INTEGRITY_SHA_256, &key).with_fingerprint().0;
    assert_eq!(sim.deliver(alice.client, &right).unwrap().result(), Ok(()));
    let bob = sim.user("bob");
    let key = md5_key(&bob.username, &bob.password);
    let other_order = Draft::new(ALLOCATE).with(TRANSPORT, UDP).by(&bob).signed(INTEGRITY_SHA_256, &key);
    let other_order = other_order.with(INTEGRITY, &[7; 20]).0;
    assert_eq!(sim.deliver(bob.client, &other_order).unwrap().result(), Ok(()));
}

/// Row S47.
/// Case 44.
#[test]
fn an_integrity_by_sha_256_has_all_its_bytes() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    let key = md5_key(&alice.username, &alice.password);
    let draft = Draft::new(ALLOCATE).with(TRANSPORT, UDP).by(&alice);
    for length in [0, 12, 15, 16, 28, 31, 36] {
        let mut signature = draft.signature(INTEGRITY_SHA_256, &key);
        signature.resize(length, 0);
        // Signed for the length that it will have, as a client that truncates does.
        let mut longer = draft.clone().with(INTEGRITY_SHA_256, &signature);
        let end = longer.0.len() - length.next_multiple_of(4);
        let whole = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key);
        let mut signature = aws_lc_rs::hmac::sign(&whole, &longer.0[..end - 4]).as_ref().to_vec();
        signature.resize(length, 0);
        longer.0[end..end + length].copy_from_slice(&signature);
        assert_eq!(sim.deliver(alice.client, &longer.0).unwrap().result(), Err(401), "{length}");
    }
}

/// A relay with a static user besides the time-limited ones.
fn with_static_user() -> (Sim, Caller) {
    let users = BTreeMap::from([("door".to_owned(), Secret::new(b"correct horse".to_vec()))]);
    let mut sim = Sim::with(|settings| settings.users = users);
    let mut door = sim.user("anyone");
    door.username = "door".to_owned();
    door.password = "correct horse".to_owned();
    (sim, door)
}

fn hash_of(name: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, format!("{name}:{REALM}").as_bytes()).as_ref().to_vec()
}

#[test]
fn a_static_user_needs_no_date_and_counts_by_its_name() {
    let (mut sim, mut door) = with_static_user();
    assert!(sim.allocate_by(&mut door, &[]).is_ok());
    sim.pass(std::time::Duration::from_secs(599));
    assert_eq!(sim.refresh(&door, 600), Ok(600));
    let mut wrong = door.clone();
    wrong.client.remote.set_port(1);
    wrong.password = "guess".to_owned();
    wrong.nonce = sim.challenge(&wrong);
    assert_eq!(sim.allocate_by(&mut wrong, &[]), Err(401));
    assert!(sim.allocate("alice").username.ends_with(":alice"), "time-limited users go on");
}

/// Row S25.
#[test]
fn names_may_be_hashed_only_where_static_users_are() {
    let (mut sim, door) = with_static_user();
    assert!(challenge(&mut sim, &door).nonce().unwrap().starts_with("obMatJos2wAAA"));
    assert!(sim.challenge(&door).starts_with("obMatJos2QAAA"));
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    assert!(challenge(&mut sim, &alice).nonce().unwrap().starts_with("obMatJos2gAAA"));
}

/// Rows S25, S45.
#[test]
fn a_static_user_may_show_the_hash_of_its_name() {
    let (mut sim, mut door) = with_static_user();
    door.nonce = challenge(&mut sim, &door).nonce().unwrap();
    let key = sha_256_key("door", "correct horse");
    let sign = |draft: Draft| {
        let named = draft.with(USERHASH, &hash_of("door")).with(REALM_KIND, REALM.as_bytes());
        let named = named.with(NONCE, door.nonce.as_bytes()).with(PASSWORD_ALGORITHMS, OFFERED);
        named.with(PASSWORD_ALGORITHM, SHA_256).signed(INTEGRITY_SHA_256, &key).0
    };
    let reply = sim.deliver(door.client, &sign(Draft::new(ALLOCATE).with(TRANSPORT, UDP))).unwrap();
    assert!(reply.result().is_ok() && is_signed_by(&reply.0, INTEGRITY_SHA_256, &key));
    let reply = sim.deliver(door.client, &sign(Draft::new(REFRESH))).unwrap();
    assert_eq!(reply.result(), Ok(()));
    sim.pass(std::time::Duration::from_secs(600));
    let stale = sim.deliver(door.client, &sign(Draft::new(REFRESH))).unwrap();
    assert_eq!(stale.result(), Err(438));
    assert!(stale.nonce().unwrap().starts_with("obMatJos2wAAA"), "its name stays hidden");
}

/// Row S45.
/// Case 45.
#[test]
fn a_hash_of_the_wrong_length_beside_a_name_or_of_nobody_is_refused() {
    let (mut sim, door) = with_static_user();
    let key = md5_key("door", "correct horse");
    for (hash, has_name, code) in [
        (&hash_of("door")[..31], false, 400),
        (&[&hash_of("door")[..], &[0]].concat(), false, 400),
        (&[], false, 400),
        (&hash_of("door"), true, 400),
        (&hash_of("nobody"), false, 401),
    ] {
        let mut draft = Draft::new(ALLOCATE).with(TRANSPORT, UDP).with(USERHASH, hash);
        if has_name {
            draft = draft.with(USERNAME, b"door");
        }
        let draft = draft.with(REALM_KIND, REALM.as_bytes()).with(NONCE, door.nonce.as_bytes());
        let reply = sim.deliver(door.client, &draft.signed(INTEGRITY, &key).0).unwrap();
        assert_eq!(reply.result(), Err(code), "{hash:02x?}");
        if code == 401 {
            assert!(reply.nonce().unwrap().starts_with("obMatJos2gAAA"), "asked for its name");
        }
    }
}
