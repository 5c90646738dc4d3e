//! Rows of RFC 8489.

use std::time::Duration;

use super::super::super::sim::{Caller, REALM, Reply, Sim, addr, peer};
use super::super::super::{Action, Client, Transport};
use super::super::draft::{
    ALLOCATE, CHANNEL_BIND, CHANNEL_NUMBER, CREATE_PERMISSION, DATA, Draft, INTEGRITY, LIFETIME, NONCE, PEER,
    REALM_KIND, REFRESH, SEND, TRANSPORT, UDP, USERHASH, USERNAME, md5_key,
};

const BINDING: u16 = 0x0001;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const INTEGRITIES: [u16; 2] = [0x0008, 0x001c];
/// 9.9.9.9:50000 as XOR-PEER-ADDRESS has it.
const PEER_VALUE: &[u8] = &[0, 1, 0xe2, 0x42, 9 ^ 0x21, 9 ^ 0x12, 9 ^ 0xa4, 9 ^ 0x42];

fn key(caller: &Caller) -> Vec<u8> {
    md5_key(&caller.username, &caller.password)
}

fn sign(draft: Draft, caller: &Caller) -> Vec<u8> {
    draft.by(caller).signed(INTEGRITY, &key(caller)).0
}

/// The attributes of a message, read off by hand.
fn attributes(message: &[u8]) -> Vec<(u16, &[u8])> {
    let (mut rest, mut found) = (&message[20..], Vec::new());
    while let [a, b, c, d, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*c, *d]));
        found.push((u16::from_be_bytes([*a, *b]), &tail[..length]));
        rest = &tail[length.next_multiple_of(4)..];
    }
    found
}

fn value(reply: &Reply, kind: u16) -> Option<&[u8]> {
    attributes(&reply.0).into_iter().find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A request of every method, each of which is answered somehow, by success or refusal.
fn requests(caller: &Caller) -> Vec<Vec<u8>> {
    let channel = || Draft::new(CHANNEL_BIND).with(CHANNEL_NUMBER, &[0x40, 0, 0, 0]);
    let mut all = vec![Draft::new(BINDING).0, Draft::new(BINDING).with(0x7fff, &[]).0];
    for draft in [
        Draft::new(ALLOCATE).with(TRANSPORT, &[6, 0, 0, 0]),
        Draft::new(ALLOCATE).with(TRANSPORT, UDP),
        Draft::new(ALLOCATE).with(TRANSPORT, UDP),
        Draft::new(REFRESH),
        Draft::new(REFRESH).with(LIFETIME, &[0; 3]),
        Draft::new(CREATE_PERMISSION).with(PEER, PEER_VALUE),
        Draft::new(CREATE_PERMISSION),
        channel().with(PEER, PEER_VALUE),
        channel(),
        Draft::new(REFRESH).with(LIFETIME, &[0; 4]),
        Draft::new(REFRESH),
    ] {
        all.push(draft.0.clone());
        all.push(sign(draft, caller));
    }
    for (number, request) in all.iter_mut().enumerate() {
        // The integrity covers the transaction id, so only unsigned requests can have one of their own.
        if attributes(request).iter().all(|(kind, _)| *kind != INTEGRITY) {
            request[8] = u8::try_from(number).unwrap();
        }
    }
    all
}

/// Row S2. Case 1.
#[test]
fn s1_nothing_shorter_than_a_header_is_a_message() {
    let mut sim = Sim::new();
    let client = sim.user("alice").client;
    for length in 0..20 {
        assert_eq!(sim.deliver(client, &Draft::new(BINDING).0[..length]), None, "{length}");
        assert_eq!(sim.deliver(client, &vec![0; length]), None, "{length}");
    }
    assert!(sim.deliver(client, &Draft::new(BINDING).0).is_some());
}

/// Case 7.
#[test]
fn s7_an_attribute_that_lacks_its_padding_is_dropped() {
    let mut sim = Sim::new();
    let client = sim.user("alice").client;
    let whole = Draft::new(BINDING).with(0x8022, b"abcde").0;
    assert!(sim.deliver(client, &whole).is_some());
    for length in 21..whole.len() {
        let mut cut = whole[..length].to_vec();
        cut[3] = u8::try_from(length - 20).unwrap();
        let is_whole = length == 24 && cut[22..24] == [0, 0];
        assert_eq!(sim.deliver(client, &cut).is_some(), is_whole, "{length}");
    }
}

#[test]
fn s3_s13_s49_an_answer_repeats_method_and_transaction_and_an_error_has_its_code() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    let (mut successes, mut errors) = (0, 0);
    for request in requests(&alice) {
        let reply = sim.deliver(alice.client, &request).unwrap();
        let (asked, answered) = (u16::from_be_bytes([request[0], request[1]]), [reply.0[0], reply.0[1]]);
        assert_eq!(reply.0[4..20], request[4..20], "cookie and transaction");
        match u16::from_be_bytes(answered) - asked {
            0x0100 => successes += 1,
            0x0110 => {
                let code = value(&reply, ERROR_CODE).unwrap();
                assert!(code[..2] == [0, 0] && (3..=6).contains(&code[2]) && code[3] < 100, "{code:?}");
                assert!(code.len() - 4 < 128, "the reason is short");
                assert_eq!(u16::from(code[2]) * 100 + u16::from(code[3]), reply.code());
                errors += 1;
            }
            other => panic!("{other:#x} is neither success nor error"),
        }
    }
    assert_eq!((successes, errors), (7, 17));
}

#[test]
fn s4_s16_an_answer_goes_to_where_the_request_came_from_by_the_same_connection() {
    let mut sim = Sim::new();
    for (number, transport) in [(0_u32, Transport::Udp), (1, Transport::Tcp), (2, Transport::Tls), (9, Transport::Tls)]
    {
        let remote = addr(&format!("203.0.113.50:{}", 40_000 + number));
        let local = [192, 0, 2, u8::try_from(number).unwrap() + 1].into();
        let client = Client { remote, local, transport, via: number };
        let mut caller = sim.user_by("alice", remote, transport, number);
        caller.client = client;
        for request in requests(&caller) {
            assert_eq!(sim.server.handle_client(client, &request, sim.now), None);
            while let Some(action) = sim.server.poll_action() {
                match action {
                    Action::Reply { client: to, .. } => assert_eq!(to, client),
                    // Relay sockets are for peers; a server has no other way to reach out.
                    Action::Open { relay, .. } => {
                        sim.server.handle_opened(relay, Some(addr("198.51.100.1:49170")), sim.now)
                    }
                    Action::Close { .. } => {}
                }
            }
        }
    }
}

/// Known attributes that a request has no use for are not unknown ones.
#[test]
fn s10_a_known_attribute_out_of_place_is_ignored() {
    let mut sim = Sim::with(|settings| settings.dont_fragment = true);
    let alice = sim.user("alice");
    let known: &[(u16, &[u8])] = &[
        (0x0001, PEER_VALUE),
        (ERROR_CODE, &[0, 0, 4, 0]),
        (UNKNOWN_ATTRIBUTES, &[0x7f, 0xff]),
        (CHANNEL_NUMBER, &[0x40, 1, 0, 0]),
        (LIFETIME, &777_u32.to_be_bytes()),
        (PEER, PEER_VALUE),
        (DATA, b"data"),
        (0x0016, PEER_VALUE),
        (0x0017, &[1, 0, 0, 0]),
        (0x0018, &[0]),
        (TRANSPORT, UDP),
        (0x001a, &[]),
        (0x0020, PEER_VALUE),
        (0x0022, &[7; 8]),
    ];
    let own = |method: u16| -> &[u16] {
        match method {
            BINDING => &[],
            ALLOCATE => &[TRANSPORT, LIFETIME, 0x0017, 0x0018, 0x001a, 0x0022],
            REFRESH => &[LIFETIME, 0x0017],
            CREATE_PERMISSION => &[PEER],
            _ => &[PEER, CHANNEL_NUMBER],
        }
    };
    for (draft, method) in [
        (Draft::new(BINDING), BINDING),
        (Draft::new(ALLOCATE).with(TRANSPORT, UDP), ALLOCATE),
        (Draft::new(REFRESH), REFRESH),
        (Draft::new(CREATE_PERMISSION).with(PEER, PEER_VALUE), CREATE_PERMISSION),
        (Draft::new(CHANNEL_BIND).with(CHANNEL_NUMBER, &[0x40, 0, 0, 0]).with(PEER, PEER_VALUE), CHANNEL_BIND),
    ] {
        let strange = known.iter().filter(|(kind, _)| !own(method).contains(kind));
        let crowded = strange.fold(draft, |draft, (kind, value)| draft.with(*kind, value));
        let bytes = if method == BINDING { crowded.0 } else { sign(crowded, &alice) };
        assert_eq!(sim.deliver(alice.client, &bytes).unwrap().result(), Ok(()), "{method:#x}");
    }
    let send = Draft::new(SEND).with(LIFETIME, &[0; 4]).with(PEER, PEER_VALUE).with(CHANNEL_NUMBER, &[0; 4]);
    assert!(sim.forward(&alice, &send.with(DATA, b"x").0).is_some());
}

#[test]
fn s12_a_repeated_request_has_the_outcome_of_the_first() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    let channel = Draft::new(CHANNEL_BIND).with(CHANNEL_NUMBER, &[0x40, 0, 0, 0]).with(PEER, PEER_VALUE);
    for draft in [Draft::new(REFRESH), Draft::new(CREATE_PERMISSION).with(PEER, PEER_VALUE), channel] {
        let request = sign(draft, &alice);
        let first = sim.deliver(alice.client, &request).unwrap();
        assert_eq!(first.result(), Ok(()));
        for _ in 0..5 {
            sim.advance(Duration::from_secs(8));
            assert_eq!(sim.deliver(alice.client, &request), Some(Reply(first.0.clone())));
        }
    }
    assert_eq!((sim.sockets.len(), sim.shared.allocations()), (1, 1));
}

#[test]
fn s22_s32_no_answer_tells_names_and_only_a_challenge_tells_realm_and_nonce() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    let mut challenges = 0;
    for request in requests(&alice) {
        let reply = sim.deliver(alice.client, &request).unwrap();
        let kinds: Vec<u16> = attributes(&reply.0).iter().map(|(kind, _)| *kind).collect();
        assert!(!kinds.contains(&USERNAME) && !kinds.contains(&USERHASH), "{kinds:x?}");
        let is_challenge = reply.result() == Err(401);
        assert_eq!((kinds.contains(&REALM_KIND), kinds.contains(&NONCE)), (is_challenge, is_challenge), "{kinds:x?}");
        let is_signed = INTEGRITIES.iter().any(|kind| kinds.contains(kind));
        assert!(!(is_challenge && is_signed), "{kinds:x?}");
        challenges += usize::from(is_challenge);
    }
    // The other three are so short that a challenge would be a gift to a reflector; no client sends them.
    assert_eq!(challenges, 8);
}

#[test]
fn s36_s37_s38_binding_is_answered_on_every_transport_to_anybody_without_a_fingerprint() {
    let mut sim = Sim::new();
    for transport in [Transport::Udp, Transport::Tcp, Transport::Tls] {
        let remote = addr("9.9.9.9:50000");
        let client = Client { remote, local: [192, 0, 2, 1].into(), transport, via: 3 };
        let reply = sim.deliver(client, &Draft::new(BINDING).0).unwrap();
        // XOR-MAPPED-ADDRESS has the form of XOR-PEER-ADDRESS.
        assert_eq!(attributes(&reply.0), [(0x0020, PEER_VALUE)], "{transport:?}");
    }
}

#[test]
fn s43_the_first_byte_of_an_address_is_ignored_and_ours_is_zero() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    let strange = [&[0xff][..], &PEER_VALUE[1..]].concat();
    let permission = sign(Draft::new(CREATE_PERMISSION).with(PEER, &strange), &alice);
    assert_eq!(sim.deliver(alice.client, &permission).unwrap().result(), Ok(()));
    assert!(sim.forward(&alice, &Draft::new(SEND).with(PEER, &strange).with(DATA, b"x").0).is_some());
    assert!(sim.send(&alice, peer(), b"x").is_some());
    let binding = sim.deliver(alice.client, &Draft::new(BINDING).0).unwrap();
    assert_eq!(value(&binding, 0x0020).unwrap()[..2], [0, 1]);
    let far = Client { remote: addr("[2606:4700::1]:5000"), ..alice.client };
    let binding = sim.deliver(far, &Draft::new(BINDING).0).unwrap();
    let mapped = value(&binding, 0x0020).unwrap();
    assert_eq!((&mapped[..2], mapped.len()), (&[0, 2][..], 20));
}

#[test]
fn s44_a_name_of_up_to_763_bytes_may_have_a_password() {
    for (length, code) in [(508, Ok(())), (763, Ok(())), (764, Err(401))] {
        let mut sim = Sim::new();
        let mut alice = sim.user("alice");
        let room = length - alice.username.len();
        alice.username.push_str(&"x".repeat(room));
        let secret = crate::config::Secret::new(b"0123456789abcdef0123456789abcdef".to_vec());
        alice.password = crate::turn::credentials::password(&secret, &alice.username);
        let request = sign(Draft::new(ALLOCATE).with(TRANSPORT, UDP), &alice);
        assert_eq!(sim.deliver(alice.client, &request).unwrap().result(), code, "{length}");
    }
}

#[test]
fn s46_a_message_changed_anywhere_before_its_integrity_is_not_its_users() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    let request = sign(Draft::new(REFRESH).with(LIFETIME, &777_u32.to_be_bytes()), &alice);
    let end = request.len() - 24;
    for at in 8..end + 24 {
        let mut changed = request.clone();
        changed[at] ^= 0x01;
        sim.pass(Duration::from_millis(100));
        let reply = sim.deliver(alice.client, &changed);
        assert!(reply.is_none_or(|reply| reply.result().is_err()), "{at}");
    }
    assert_eq!(sim.deliver(alice.client, &request).unwrap().lifetime(), 777);
}

#[test]
fn s50_realm_and_nonce_are_short() {
    for realm in ["r", REALM, &"r".repeat(32)] {
        let mut sim = Sim::with(|settings| settings.realm = realm.to_owned());
        let alice = sim.user("alice");
        for transport in [Transport::Udp, Transport::Tls] {
            let client = Client { transport, ..alice.client };
            let reply = sim.deliver(client, &Draft::new(ALLOCATE).with(TRANSPORT, UDP).0).unwrap();
            assert_eq!(value(&reply, REALM_KIND).unwrap(), realm.as_bytes());
            assert!((1..128).contains(&value(&reply, NONCE).unwrap().len()));
        }
    }
}

#[test]
fn s52_s11_unknown_attributes_are_listed_by_type_and_padded() {
    let mut sim = Sim::new();
    let client = sim.user("alice").client;
    for (kinds, wanted) in [
        (&[0x7fff_u16][..], &[0x7f, 0xff][..]),
        (&[0x7fff, 0x4001], &[0x7f, 0xff, 0x40, 0x01]),
        (&[0x7fff, 0xffff, 0x4001, 0x7fff, 0x0002], &[0x7f, 0xff, 0x40, 0x01, 0, 2]),
    ] {
        let request = kinds.iter().fold(Draft::new(BINDING), |draft, kind| draft.with(*kind, b"odd"));
        let reply = sim.deliver(client, &request.0).unwrap();
        assert_eq!((reply.result(), value(&reply, UNKNOWN_ATTRIBUTES)), (Err(420), Some(wanted)));
        assert!(reply.0.len().is_multiple_of(4));
    }
}

/// Row C13. Case 86.
#[test]
fn c13_behaviour_discovery_is_not_understood() {
    let mut sim = Sim::new();
    let client = sim.user("alice").client;
    for (kind, value) in [(0x0003, &[0, 0, 0, 6][..]), (0x0026, &[0; 1000]), (0x0027, &[0x13, 0x88, 0, 0])] {
        let reply = sim.deliver(client, &Draft::new(BINDING).with(kind, value).0).unwrap();
        assert!(reply.result() == Err(420) && reply.lists_unknown(kind), "{kind:#x}");
    }
    let both = Draft::new(BINDING).with(0x0026, &[0; 4]).with(0x0027, &[0x13, 0x88, 0, 0]).0;
    assert_eq!(sim.deliver(client, &both).unwrap().result(), Err(420));
    let reply = sim.deliver(client, &Draft::new(BINDING).0).unwrap();
    assert!([0x802b, 0x802c].iter().all(|kind| value(&reply, *kind).is_none()), "there is no other address to tell");
}
