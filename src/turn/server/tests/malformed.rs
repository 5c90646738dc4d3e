//! Requests of somebody who may ask, whose attributes are not as they should be.

use super::super::Forward;
use super::super::sim::{Caller, Sim, addr};
use super::draft::{
    ALLOCATE, CHANNEL_BIND, CHANNEL_NUMBER, CREATE_PERMISSION, DATA, Draft, INTEGRITY, LIFETIME, NONCE, PEER,
    REALM_KIND, REFRESH, SEND, TRANSPORT, UDP, USERNAME, md5_key,
};

/// 9.9.9.9 and the given port, as XOR-PEER-ADDRESS has it.
fn peer_value(port: u16) -> Vec<u8> {
    let port = (port ^ 0x2112).to_be_bytes();
    [&[0, 1][..], &port, &[9 ^ 0x21, 9 ^ 0x12, 9 ^ 0xa4, 9 ^ 0x42]].concat()
}

fn sign(draft: Draft, caller: &Caller) -> Vec<u8> {
    draft.by(caller).signed(INTEGRITY, &md5_key(&caller.username, &caller.password)).0
}

/// Row T39.
/// Cases 2, 29.
#[test]
fn a_first_byte_that_nothing_of_ours_begins_with_gets_silence() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    for first in 0x04..=0xff_u8 {
        let mut bytes = Draft::new(0x0001).0;
        bytes[0] = first;
        assert_eq!(sim.deliver(alice.client, &bytes), None, "{first:#x}");
    }
}

/// Row S18.
/// Case 11.
#[test]
fn what_follows_the_integrity_is_ignored_but_for_the_fingerprint() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    let signed = || Draft(sign(Draft::new(REFRESH), &alice));
    for (kind, value) in
        [(LIFETIME, &[0; 4][..]), (PEER, &peer_value(1)), (0x7000, &[1]), (USERNAME, b"eve"), (NONCE, b"x")]
    {
        let reply = sim.deliver(alice.client, &signed().with(kind, value).with_fingerprint().0).unwrap();
        assert_eq!(reply.result().map(|()| reply.lifetime()), Ok(600), "{kind:#x}");
        assert_eq!(reply.0[reply.0.len() - 8..][..4], [0x80, 0x28, 0, 4], "{kind:#x}");
    }
    let mut wrong = signed().with(0x7000, &[]).with_fingerprint().0;
    *wrong.last_mut().unwrap() ^= 1;
    assert_eq!(sim.deliver(alice.client, &wrong), None, "its fingerprint is wrong");
    let mut cut = signed().with(0x7000, &[1, 2, 3, 4]).0;
    let at = cut.len() - 5;
    cut[at] = 40;
    assert_eq!(sim.deliver(alice.client, &cut), None, "it runs past the end");
    assert_eq!(sim.sockets.len(), 1);
}

/// Row S42.
/// Case 13.
#[test]
fn of_two_attributes_of_a_kind_the_first_counts() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    let twice = Draft::new(ALLOCATE).with(TRANSPORT, UDP).with(TRANSPORT, &[6, 0, 0, 0]).by(&alice);
    let twice = twice.with(USERNAME, b"eve").with(REALM_KIND, b"x").with(NONCE, b"x");
    let key = md5_key(&alice.username, &alice.password);
    let reply = sim.deliver(alice.client, &twice.signed(INTEGRITY, &key).0).unwrap();
    assert_eq!(reply.result(), Ok(()));
    let lifetimes = Draft::new(REFRESH).with(LIFETIME, &777_u32.to_be_bytes()).with(LIFETIME, &[0; 4]);
    let reply = sim.deliver(alice.client, &sign(lifetimes, &alice)).unwrap();
    assert_eq!(reply.lifetime(), 777);
    sim.permit(&alice, &[addr("9.9.9.9:1")]).unwrap();
    let send = Draft::new(SEND).with(PEER, &peer_value(5000)).with(PEER, &peer_value(6000));
    let (forward, data) = sim.forward(&alice, &send.with(DATA, b"one").with(DATA, b"two").0).unwrap();
    let Forward::ToPeer { peer, .. } = forward else { panic!("{forward:?}") };
    assert_eq!((peer, &data[..]), (addr("9.9.9.9:5000"), &b"one"[..]));
}

/// Case 15.
#[test]
fn a_message_may_lie_anywhere_in_memory() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    let bytes = sign(Draft::new(REFRESH).with(0x8022, b"odd"), &alice);
    for offset in 0..4 {
        let moved = [&[0xee; 3][..offset], &bytes].concat();
        assert_eq!(sim.deliver(alice.client, &moved[offset..]).unwrap().result(), Ok(()), "{offset}");
    }
}

/// Rows S3, S14.
/// Case 20.
#[test]
fn a_transaction_id_belongs_to_nobody() {
    let mut sim = Sim::new();
    let callers = [sim.user("alice"), sim.user("bob")];
    for (caller, id) in callers.iter().flat_map(|caller| [[0; 12], [9; 12]].map(|id| (caller, id))) {
        let mut binding = Draft::new(0x0001).0;
        binding[8..].copy_from_slice(&id);
        let reply = sim.deliver(caller.client, &binding).unwrap();
        assert_eq!((reply.mapped(), &reply.0[8..20]), (caller.client.remote, &id[..]));
    }
}

/// Row S41.
/// Case 21.
#[test]
fn padding_is_ignored_and_ours_is_zero() {
    let mut sim = Sim::with(|settings| settings.realm = "odd".to_owned());
    let alice = sim.user("alice");
    let mut request = Draft::new(ALLOCATE).with(TRANSPORT, UDP).with(0x8022, b"a").0;
    let end = request.len();
    request[end - 3..].fill(0xff);
    let reply = sim.deliver(alice.client, &request).unwrap();
    assert_eq!(reply.result(), Err(401));
    let mut offset = 20;
    while offset < reply.0.len() {
        let length = usize::from(u16::from_be_bytes([reply.0[offset + 2], reply.0[offset + 3]]));
        let (end, next) = (offset + 4 + length, offset + 4 + length.next_multiple_of(4));
        assert!(reply.0[end..next].iter().all(|byte| *byte == 0));
        offset = next;
    }
}

/// Row S43.
/// Case 22.
#[test]
fn a_peer_address_of_no_family_or_the_wrong_length_is_a_bad_request() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    let right = peer_value(5000);
    let of_family = |family: u8| [&[0, family][..], &right[2..]].concat();
    for value in [
        of_family(0),
        of_family(3),
        of_family(0xff),
        Vec::new(),
        right[..4].to_vec(),
        right[..7].to_vec(),
        of_family(2),
        [&right[..], &[0; 12]].concat(),
    ] {
        let permission = Draft::new(CREATE_PERMISSION).with(PEER, &value);
        let channel = Draft::new(CHANNEL_BIND).with(CHANNEL_NUMBER, &[0x40, 0, 0, 0]).with(PEER, &value);
        for draft in [permission, channel] {
            let reply = sim.deliver(alice.client, &sign(draft, &alice)).unwrap();
            assert_eq!(reply.result(), Err(400), "{value:02x?}");
        }
    }
    assert_eq!(sim.send(&alice, addr("9.9.9.9:5000"), b"x"), None);
}
