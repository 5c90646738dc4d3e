//! Data on its way: from clients, from peers, and between two allocations.

use stun_types::attribute::RawAttribute;
use stun_types::message::{Message, MessageClass, MessageWrite as _, MessageWriteExt as _, MessageWriteVec};
use turn_types::attribute::{Data, XorPeerAddress};
use turn_types::message::{DATA, SEND};

use super::super::sim::{Sim, addr, peer};
use super::super::{Forward, Frame, Transport};

/// Rows T32, T48.
/// Cases 71, 74.
#[test]
fn data_of_a_client_leaves_from_its_relay_socket_byte_by_byte() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    sim.bind_channel(&alice, 0x4000, peer()).unwrap();
    let relay = sim.socket_of(&alice).unwrap();
    for data in [&b""[..], b"x", b"four", &[0; 1200]] {
        for (forward, payload) in
            [sim.send(&alice, peer(), data).unwrap(), sim.send_on_channel(&alice, 0x4000, data).unwrap()]
        {
            assert!(matches!(forward, Forward::ToPeer { relay: by, peer: to, .. } if by == relay && to == peer()));
            assert_eq!(payload, data);
        }
    }
}

/// Row T44.
/// Case 77.
#[test]
fn data_of_a_peer_comes_by_channel_if_there_is_one_and_else_by_indication() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    sim.bind_channel(&alice, 0x4123, peer()).unwrap();
    let wanted = Forward::ToClient { client: alice.client, frame: Frame::Channel(0x4123), payload: 0..9 };
    assert_eq!(sim.arrive(&alice, peer(), 9), Some(wanted));
    let other_port = addr("9.9.9.9:50001");
    let Some(Forward::ToClient { frame: Frame::Indication { peer: told, .. }, .. }) = sim.arrive(&alice, other_port, 9)
    else {
        panic!("a peer without a channel comes by indication");
    };
    assert_eq!(told, other_port);
}

/// Row T35.
#[test]
fn a_written_indication_is_one_that_the_codec_reads() {
    for source in [peer(), addr("[2606:4700::1]:5000")] {
        for len in [0_usize, 1, 2, 3, 4, 1199] {
            let payload: Vec<u8> = (0..len).map(|byte| u8::try_from(byte % 251).unwrap()).collect();
            let mut header = [0xaa; Frame::MAX_HEADER];
            let frame = Frame::Indication { peer: source, serial: 0x0102_0304_0506_0708 };
            let (length, padding) = frame.write_header(Transport::Udp, len, &mut header).unwrap();
            let bytes = [&header[..length], &payload, &vec![0; padding]].concat();
            let message = Message::from_bytes(&bytes).unwrap();
            assert_eq!((message.class(), message.method()), (MessageClass::Indication, DATA));
            let told = message.attribute::<XorPeerAddress>().unwrap().addr(message.transaction_id());
            assert_eq!(told, source);
            assert_eq!(message.attribute::<Data<'_>>().unwrap().data(), payload);
        }
    }
}

/// Row T45.
#[test]
fn written_channel_data_has_no_padding() {
    let mut header = [0; Frame::MAX_HEADER];
    assert_eq!(Frame::Channel(0x4001).write_header(Transport::Udp, 5, &mut header), Some((4, 0)));
    assert_eq!(header[..4], [0x40, 0x01, 0, 5]);
}

#[test]
fn data_too_long_for_its_frame_is_not_framed() {
    let mut header = [0; Frame::MAX_HEADER];
    assert_eq!(Frame::Channel(0x4001).write_header(Transport::Udp, 65_536, &mut header), None);
    let frame = Frame::Indication { peer: peer(), serial: 1 };
    assert_eq!(frame.write_header(Transport::Udp, 65_530, &mut header), None);
    assert!(frame.write_header(Transport::Udp, 65_507, &mut header).is_some());
}

/// Rows T5, T45, T46.
/// Case 71.
#[test]
fn channel_data_that_is_not_whole_or_on_no_channel_is_dropped() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    sim.bind_channel(&alice, 0x4000, peer()).unwrap();
    for bytes in
        [&[0x40, 0, 0, 2, b'x'][..], &[0x40, 0, 0], &[0x40, 0], &[0x40], &[0x40, 1, 0, 1, b'x'], &[0x4f, 0xff, 0, 0]]
    {
        assert_eq!(sim.forward(&alice, bytes), None, "{bytes:?}");
    }
    let (_, payload) = sim.forward(&alice, &[0x40, 0, 0, 1, b'x', 0, 0, 0]).unwrap();
    assert_eq!(payload, b"x", "what follows is padding");
    let stranger = sim.user("stranger");
    assert_eq!(sim.send_on_channel(&stranger, 0x4000, b"x"), None);
}

/// Rows S17, T32.
/// Case 74.
#[test]
fn a_send_indication_that_lacks_something_or_has_something_strange_is_dropped() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    sim.permit(&alice, &[peer()]).unwrap();
    let build = |has_peer: bool, has_data: bool, more: Option<u16>| {
        let mut indication = Message::builder_indication(SEND, MessageWriteVec::new());
        let address = XorPeerAddress::new(peer(), indication.transaction_id());
        if has_peer {
            indication.add_attribute(&address).unwrap();
        }
        if has_data {
            indication.add_attribute(&Data::new(b"first")).unwrap();
            indication.add_attribute(&Data::new(b"second")).unwrap();
        }
        if let Some(kind) = more {
            indication.add_attribute(&RawAttribute::new(kind.into(), &[])).unwrap();
        }
        indication.finish()
    };
    assert_eq!(sim.forward(&alice, &build(false, true, None)), None);
    assert_eq!(sim.forward(&alice, &build(true, false, None)), None);
    assert_eq!(sim.forward(&alice, &build(true, true, Some(0x7000))), None);
    assert_eq!(sim.forward(&alice, &build(true, true, Some(0x001a))), None, "no promise not to fragment is made");
    let (_, payload) = sim.forward(&alice, &build(true, true, Some(0x8022))).unwrap();
    assert_eq!(payload, b"first", "of two attributes of a kind the first one counts");
}

#[test]
fn two_allocations_talk_to_each_other_without_a_socket() {
    let mut sim = Sim::new();
    let (alice, bob) = (sim.allocate("alice"), sim.allocate("bob"));
    sim.bind_channel(&alice, 0x4000, bob.relay).unwrap();
    assert_eq!(sim.send_on_channel(&alice, 0x4000, b"hello"), None, "bob has not permitted alice");
    sim.bind_channel(&bob, 0x4abc, alice.relay).unwrap();
    let (forward, payload) = sim.send_on_channel(&alice, 0x4000, b"hello").unwrap();
    assert_eq!(payload, b"hello");
    assert!(
        matches!(&forward, Forward::ToClient { client, frame: Frame::Channel(0x4abc), .. } if *client == bob.client),
        "{forward:?}"
    );
    let (forward, _) = sim.send(&bob, alice.relay, b"yes").unwrap();
    assert!(
        matches!(forward, Forward::ToClient { client, frame: Frame::Channel(0x4000), .. } if client == alice.client)
    );
}

/// Row T57.
/// Case 75.
#[test]
fn nothing_of_this_host_but_live_allocations_is_reached() {
    let mut sim = Sim::new();
    let (alice, bob) = (sim.allocate("alice"), sim.allocate("bob"));
    sim.permit(&alice, &[bob.relay]).unwrap();
    sim.permit(&bob, &[alice.relay]).unwrap();
    assert!(sim.send(&alice, bob.relay, b"x").is_some());
    for port in [22, 443, 3478, 49170] {
        let service = std::net::SocketAddr::new(bob.relay.ip(), port);
        assert_eq!(sim.send(&alice, service, b"x"), None, "{port}");
    }
    sim.refresh(&bob, 0).unwrap();
    assert_eq!(sim.send(&alice, bob.relay, b"x"), None);
}

#[test]
fn an_allocation_of_another_shard_is_reached_through_the_kernel() {
    let mut sim = Sim::new();
    let alice = sim.allocate("alice");
    let elsewhere = addr("198.51.100.1:49199");
    sim.bind_channel(&alice, 0x4000, elsewhere).unwrap();
    assert_eq!(sim.send_on_channel(&alice, 0x4000, b"x"), None);
    sim.shared.set_live(elsewhere, true);
    let (forward, _) = sim.send_on_channel(&alice, 0x4000, b"x").unwrap();
    assert!(matches!(forward, Forward::ToPeer { peer, .. } if peer == elsewhere));
}

#[test]
fn behind_one_to_one_nat_clients_know_public_addresses_and_sockets_local_ones() {
    let public = "203.0.113.77";
    let mut sim = Sim::with(|settings| settings.relays[0].told = public.parse().unwrap());
    let mut alice = sim.user("alice");
    let mut bob = sim.user("bob");
    for caller in [&mut alice, &mut bob] {
        let told = sim.allocate_by(caller, &[]).unwrap().relayed();
        assert_eq!(told.ip().to_string(), public);
    }
    let local = |told: std::net::SocketAddr| std::net::SocketAddr::new("198.51.100.1".parse().unwrap(), told.port());
    assert!(sim.sockets.values().any(|address| *address == local(alice.relay)));
    sim.permit(&alice, &[bob.relay]).unwrap();
    sim.permit(&bob, &[alice.relay]).unwrap();
    let (forward, _) = sim.send(&alice, bob.relay, b"x").unwrap();
    let Forward::ToClient { client, frame: Frame::Indication { peer, .. }, .. } = forward else {
        panic!("it is delivered without a socket, not as {forward:?}");
    };
    assert_eq!((client, peer), (bob.client, alice.relay));
    sim.bind_channel(&bob, 0x4001, alice.relay).unwrap();
    let (forward, _) = sim.send(&alice, bob.relay, b"x").unwrap();
    assert!(matches!(forward, Forward::ToClient { frame: Frame::Channel(0x4001), .. }));
    assert_eq!(sim.send(&alice, addr("203.0.113.77:22"), b"x"), None);
}
