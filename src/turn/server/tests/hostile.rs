//! Bytes that nobody sane sends: no panic, no state, no gift to a reflector.

use proptest::prelude::*;
use stun_types::attribute::RawAttribute;
use stun_types::message::{
    BINDING, Message, MessageClass, MessageType, MessageWrite as _, MessageWriteExt as _, MessageWriteVec, Method,
    TransactionId,
};
use turn_types::attribute::{ChannelNumber, Data, EvenPort, Lifetime, RequestedTransport, XorPeerAddress};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, DATA, REFRESH, SEND};

use super::super::Action;
use super::super::sim::{Caller, Sim, addr, peer};

/// What an unauthenticated reply may be of its request. Three is what a reflector gains nothing by.
const BUDGET: usize = 3;

/// Rows S1, S2, S7, S48.
/// Cases 1, 3, 4, 5, 6, 7, 14.
#[test]
fn what_is_no_stun_message_gets_silence() {
    let mut sim = Sim::new();
    let client = sim.user("alice").client;
    let binding = Message::builder_request(BINDING, MessageWriteVec::new()).finish();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = binding.clone();
        change(&mut bytes);
        bytes
    };
    let mut with_attribute = Message::builder_request(BINDING, MessageWriteVec::new());
    with_attribute.add_attribute(&RawAttribute::new(0x8022.into(), b"abcd")).unwrap();
    let with_attribute = with_attribute.finish();
    let mut overrun = with_attribute.clone();
    overrun[23] = 5;
    let mut fingerprint_wrong = Message::builder_request(BINDING, MessageWriteVec::new());
    fingerprint_wrong.add_fingerprint().unwrap();
    let fingerprint_right = fingerprint_wrong.finish();
    let mut fingerprint_wrong = fingerprint_right.clone();
    *fingerprint_wrong.last_mut().unwrap() ^= 1;
    let mut fingerprint_not_last = fingerprint_right;
    fingerprint_not_last.extend([0x80, 0x22, 0, 0]);
    fingerprint_not_last[3] += 4;
    for bytes in [
        Vec::new(),
        binding[..19].to_vec(),
        changed(&|bytes| bytes[4] = 0),
        changed(&|bytes| bytes[3] = 2),
        changed(&|bytes| bytes[3] = 4),
        changed(&|bytes| bytes[2..4].copy_from_slice(&[0xff, 0xfc])),
        changed(&|bytes| bytes.extend([0; 4])),
        changed(&|bytes| bytes[0] = 0x80),
        changed(&|bytes| bytes[0] = 0x80),
        changed(&|bytes| bytes[0] = 0x14),
        overrun,
        fingerprint_wrong,
        fingerprint_not_last,
    ] {
        assert_eq!(sim.deliver(client, &bytes), None, "{bytes:02x?}");
    }
    assert!(sim.deliver(client, &binding).is_some());
}

/// Rows S7, S17.
/// Cases 16, 17, 18, 19.
#[test]
fn responses_indications_and_unknown_methods_get_silence() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    for (class, method) in [
        (MessageClass::Success, BINDING),
        (MessageClass::Error, BINDING),
        (MessageClass::Indication, BINDING),
        (MessageClass::Indication, ALLOCATE),
        (MessageClass::Indication, DATA),
        (MessageClass::Success, ALLOCATE),
        (MessageClass::Request, SEND),
        (MessageClass::Request, DATA),
        (MessageClass::Request, Method::new(0x0ff)),
    ] {
        let kind = MessageType::from_class_method(class, method);
        let bytes = Message::builder(kind, TransactionId::generate(), MessageWriteVec::new()).finish();
        assert_eq!(sim.deliver(alice.client, &bytes), None, "{kind:?}");
    }
}

/// Rows T56, T57.
/// Case 62.
#[test]
fn sources_that_cannot_be_clients_get_silence() {
    let mut sim = Sim::new();
    let relay = sim.allocate("alice").relay;
    let client = sim.user("bob").client;
    let binding = Message::builder_request(BINDING, MessageWriteVec::new()).finish();
    for source in [
        "203.0.113.5:0",
        "224.0.0.1:5000",
        "0.0.0.0:5000",
        "255.255.255.255:5000",
        "[2002::1]:5000",
        "[2001:0:1::]:5000",
    ]
    .map(addr)
    .into_iter()
    .chain([relay])
    {
        let mut spoofed = client;
        spoofed.remote = source;
        assert_eq!(sim.deliver(spoofed, &binding), None, "{source}");
    }
}

/// Rows S8, S52.
/// Case 8.
#[test]
fn hundreds_of_unknown_attributes_get_a_short_answer() {
    let mut sim = Sim::new();
    let alice = sim.user("alice");
    let build = |method| {
        let mut request = Message::builder_request(method, MessageWriteVec::new());
        for kind in 0..370_u16 {
            request.add_attribute(&RawAttribute::new((0x4000 + kind).into(), &[])).unwrap();
        }
        request.finish()
    };
    let reply = sim.deliver(alice.client, &build(BINDING)).unwrap();
    assert!(reply.result() == Err(420) && reply.0.len() <= 64, "{reply:?}");
    assert_eq!(sim.deliver(alice.client, &build(REFRESH)).unwrap().result(), Err(401));
}

#[test]
fn a_challenge_is_never_longer_than_three_times_what_asked_for_it() {
    for realm in ["rtcctl", &"r".repeat(32)] {
        let mut sim = Sim::with(|settings| settings.realm = realm.to_owned());
        let client = sim.user("alice").client;
        for method in [ALLOCATE, REFRESH, CREATE_PERMISSION, CHANNEL_BIND] {
            let bare = Message::builder_request(method, MessageWriteVec::new()).finish();
            let mut usual = Message::builder_request(method, MessageWriteVec::new());
            usual.add_attribute(&RequestedTransport::new(17)).unwrap();
            for request in [bare, usual.finish()] {
                let reply = sim.deliver(client, &request).unwrap();
                assert!(reply.0.len() <= BUDGET * request.len(), "{} for {}", reply.0.len(), request.len());
            }
        }
    }
}

#[test]
fn an_allocate_that_no_client_sends_gets_the_shortest_refusal() {
    let mut sim = Sim::new();
    let client = sim.user("alice").client;
    let request = Message::builder_request(ALLOCATE, MessageWriteVec::new()).finish();
    let reply = sim.deliver(client, &request).unwrap();
    assert_eq!((reply.result(), reply.0.len(), reply.nonce()), (Err(400), 28, None));
}

#[test]
fn replies_nobody_drains_are_bounded() {
    let mut sim = Sim::new();
    let mut client = sim.user("alice").client;
    client.transport = super::super::Transport::Tcp;
    let binding = Message::builder_request(BINDING, MessageWriteVec::new()).finish();
    for _ in 0..super::super::MAX_ACTIONS + 10 {
        assert_eq!(sim.server.handle_client(client, &binding, sim.now), None);
    }
    assert_eq!(sim.drain().len(), super::super::MAX_ACTIONS);
}

/// A valid message of each kind, from a caller that has an allocation.
fn templates(caller: &Caller) -> Vec<Vec<u8>> {
    let id = TransactionId::generate();
    let address = XorPeerAddress::new(peer(), id);
    let mut send = Message::builder_indication(SEND, MessageWriteVec::new());
    send.add_attribute(&address).unwrap();
    send.add_attribute(&Data::new(b"some data")).unwrap();
    let mut binding = Message::builder_request(BINDING, MessageWriteVec::new());
    binding.add_fingerprint().unwrap();
    vec![
        binding.finish(),
        send.finish(),
        [&[0x40, 0, 0, 4][..], b"data"].concat(),
        caller.sign(ALLOCATE, &[&RequestedTransport::new(17), &EvenPort::new(true), &Lifetime::new(777)]),
        caller.sign(REFRESH, &[&Lifetime::new(0)]),
        caller.sign(CREATE_PERMISSION, &[&address, &address]),
        caller.sign(CHANNEL_BIND, &[&ChannelNumber::new(0x4000), &address]),
    ]
}

/// Hands bytes in and checks what must hold of every answer to a client that has shown no credentials.
fn check(sim: &mut Sim, client: super::super::Client, bytes: &[u8]) -> Result<(), TestCaseError> {
    let forward = sim.server.handle_client(client, bytes, sim.now);
    prop_assert!(forward.is_none());
    while let Some(action) = sim.server.poll_action() {
        let Action::Reply { client: to, message } = action else {
            return Err(TestCaseError::fail(format!("{action:?} before authentication")));
        };
        prop_assert_eq!(to, client);
        prop_assert!(message.len() <= BUDGET * bytes.len(), "{} for {}", message.len(), bytes.len());
    }
    prop_assert!(sim.server.by_client.is_empty() && sim.server.deadlines.is_empty());
    Ok(())
}

fn mutate(bytes: &mut Vec<u8>, edits: &[(usize, u8)], cut: usize, fixes_length: bool) {
    for (at, value) in edits {
        let at = at % bytes.len();
        bytes[at] = *value;
    }
    if cut > 0 {
        bytes.truncate(bytes.len().saturating_sub(cut).max(1));
    }
    if fixes_length && bytes.len() >= 20 {
        bytes.truncate(bytes.len() / 4 * 4);
        let length = u16::try_from(bytes.len() - 20).unwrap();
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_make_no_state_and_no_long_answer(mut bytes in prop::collection::vec(any::<u8>(), 0..300), looks_like_stun: bool) {
        if looks_like_stun && bytes.len() >= 20 {
            bytes[0] &= 3;
            bytes[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
            mutate(&mut bytes, &[], 0, true);
        }
        let mut sim = Sim::new();
        let client = sim.user("alice").client;
        check(&mut sim, client, &bytes)?;
    }

    #[test]
    fn attributes_of_any_kind_and_length_make_no_state(
        method in prop::sample::select(vec![1_u16, 3, 4, 8, 9, 0x16, 0x11]),
        attributes in prop::collection::vec((prop::sample::select(vec![
            0x0006_u16, 0x0008, 0x0009, 0x000a, 0x000c, 0x000d, 0x0012, 0x0013, 0x0014, 0x0015, 0x0016, 0x0017, 0x0018,
            0x0019, 0x001a, 0x001c, 0x001d, 0x001e, 0x0020, 0x0022, 0x8000, 0x8002, 0x8003, 0x8028,
        ]), prop::collection::vec(any::<u8>(), 0..40)), 0..12),
    ) {
        let mut bytes = [&method.to_be_bytes()[..], &[0, 0, 0x21, 0x12, 0xa4, 0x42], &[9; 12]].concat();
        for (kind, value) in attributes {
            bytes.extend(kind.to_be_bytes());
            bytes.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
            bytes.extend(&value);
            bytes.resize(bytes.len().next_multiple_of(4), 0xff);
        }
        mutate(&mut bytes, &[], 0, true);
        let mut sim = Sim::new();
        let client = sim.user("alice").client;
        check(&mut sim, client, &bytes)?;
    }

    #[test]
    fn changed_messages_of_a_client_never_panic_nor_leak_sockets(
        which in 0_usize..7,
        edits in prop::collection::vec((any::<usize>(), any::<u8>()), 0..6),
        cut in 0_usize..30,
        fixes_length: bool,
    ) {
        let mut sim = Sim::new();
        let alice = sim.allocate("alice");
        let mut bytes = templates(&alice)[which].clone();
        mutate(&mut bytes, &edits, cut, fixes_length);
        sim.server.handle_client(alice.client, &bytes, sim.now);
        sim.drain();
        sim.advance(std::time::Duration::from_secs(3600));
        prop_assert_eq!((sim.sockets.len(), sim.shared.allocations()), (0, 0));
        prop_assert_eq!(sim.server.poll_timeout(), None);
    }
}
