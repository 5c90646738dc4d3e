//! Every bound of the signaling server: what a client is told that meets it, and what is counted.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/service.rs"]
mod service;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/socket_io.rs"]
mod socket_io;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/stream_client.rs"]
mod stream_client;

use std::net::{Ipv6Addr, SocketAddr};

use serde_json::json;

use service::Service;
use socket_io::Socket;
use stream_client::{connect_to, shake_hands};

#[test]
fn what_one_socket_sends_is_bounded_in_size_depth_rate_and_rooms() {
    let service = Service::start(&[
        ("signaling.max_message", "4096"),
        ("signaling.max_rate", "10"),
        ("signaling.max_rooms", "3"),
        ("signaling.max_rooms_per_socket", "2"),
    ]);
    let mut anna = Socket::connect(service.web_port);
    let mut bo = Socket::connect(service.web_port);
    assert_eq!([anna.join("one"), anna.join("two")].map(|answer| answer["ok"] == true), [true, true]);
    assert_eq!([bo.join("three"), bo.join("one")].map(|answer| answer["ok"] == true), [true, true]);
    assert_eq!(anna.join("three")["error"], "you are in too many rooms");
    assert_eq!(error(&mut anna), "you are in too many rooms");
    let mut third = Socket::connect(service.web_port);
    assert_eq!(third.join("four")["error"], "too many rooms");
    assert_eq!(error(&mut third), "too many rooms");

    let nested = |levels: usize| format!("42[\"message\",\"one\",{}{}]", "[".repeat(levels), "]".repeat(levels));
    anna.write_text(&format!("42[\"message\",\"one\",\"{}\"]", "x".repeat(4096))).unwrap();
    assert_eq!(error(&mut anna), "a message may have at most 4096 bytes");
    // Larger than what is refused in words at 4096 bytes, hence cut off.
    anna.write_text(&nested(1000)).unwrap();
    assert_eq!(error(&mut anna), "the brackets are deeper than 128 levels");
    anna.write_text("42[\"message\",\"one\"").unwrap();
    assert_eq!(error(&mut anna), "this is no JSON array");
    anna.write_text("451-[\"message\",\"one\",{\"_placeholder\":true,\"num\":0}]").unwrap();
    assert_eq!(error(&mut anna), "binary is not relayed");
    // None of it reached the other, and what comes after it does.
    anna.write_text("42[\"message\",\"one\",7]").unwrap();
    assert_eq!(bo.receive().unwrap(), 7);

    for _ in 0..50 {
        bo.write_text("42[\"nothing\"]").unwrap();
    }
    assert_eq!(error(&mut bo), "messages were dropped: at most 10 a second are taken");
    // Until nobody believes any more that it is a mistake.
    while bo.write_text("42[\"nothing\"]").is_ok() {}
    // Nor does a message begin that never ends.
    let mut fourth = Socket::connect(service.web_port);
    fourth.write_bytes(&[0x01, 0x80, 0, 0, 0, 0]).unwrap();
    let nothing = [0x00, 0x80, 0, 0, 0, 0].repeat(1000);
    while fourth.write_bytes(&nothing).is_ok() {}
    assert!(third.write_text("49").is_ok());
    assert_eq!(third.rest(), Vec::<String>::new(), "what is no packet ends its sender");

    let counted = service.signaling_when(|counted| counted["sockets"] == 1);
    let met = |limit: &str| counted["limits"][limit].as_u64().unwrap();
    assert_eq!([met("rooms"), met("rooms_of_socket"), met("message_size"), met("flood")], [1; 4], "{counted}");
    assert_eq!(met("unreadable"), 4, "{counted}");
    assert!(met("message_rate") >= 30, "{counted}");
    assert_eq!(counted["ended"]["packet"], 1, "{counted}");
    assert!(counted["messages"].as_u64() >= Some(1), "{counted}");
    drop(anna);
}

#[test]
fn sockets_are_bounded_for_an_address_and_in_all_and_joins_for_an_address() {
    let service = Service::start(&[
        ("signaling.max_sockets", "3"),
        ("signaling.max_sockets_per_address", "2"),
        ("signaling.max_joins_per_address", "1"),
    ]);
    let here = SocketAddr::from(([127, 0, 0, 1], service.web_port));
    let there = SocketAddr::from((Ipv6Addr::LOCALHOST, service.web_port));
    let open = |server| Socket::open_by(shake_hands(connect_to(server), &["http/1.1"]).unwrap()).unwrap();
    let enter = |server| {
        let mut socket = open(server);
        socket.write_text("40").unwrap();
        assert!(socket.read_text().unwrap().starts_with("40{"));
        socket
    };
    let mut first = enter(here);
    let second = enter(here);
    let refused = |server, why: &str| {
        let mut socket = open(server);
        assert_eq!(socket.read_text().unwrap(), json!({ "message": why }).to_string().replacen('{', "44{", 1));
        // It is closed although it says nothing.
        assert_eq!(socket.rest(), Vec::<String>::new());
    };
    refused(here, "too many connections come from your address, try again later");
    let third = enter(there);
    refused(there, "the server is full, try again later");
    drop((second, third));
    service.signaling_when(|counted| counted["sockets"] == 1);
    let _again = enter(here);

    let refusals = (0..5).filter(|room| first.join(&room.to_string())["ok"] == false).count();
    assert_eq!(refusals, 1, "four at once pass");
    assert_eq!(error(&mut first), "too many joins come from your address, try again in a moment");
    let counted = service.signaling_when(|counted| counted["sockets"] == 2);
    for limit in ["sockets", "sockets_of_address", "joins_of_address"] {
        assert_eq!(counted["limits"][limit], 1, "{limit}: {counted}");
    }
}

#[test]
fn a_receiver_that_does_not_read_is_cut_before_much_waits_for_it() {
    let service = Service::start(&[
        ("signaling.max_queue", "262144"),
        ("signaling.max_message", "16384"),
        ("signaling.max_rate", "10000"),
    ]);
    let mut sender = Socket::connect(service.web_port);
    let mut deaf = Socket::connect(service.web_port);
    sender.join("r");
    deaf.join("r");
    assert_eq!(sender.event().unwrap().0, "otherjoin");
    let message = format!("42[\"message\",\"r\",\"{}\"]", "x".repeat(16_000));
    let mut sent = 0;
    let counted = service.signaling_when(|counted| {
        // Less than may wait: who reads is not cut.
        for _ in 0..10 {
            sender.write_text(&message).unwrap();
            sent += message.len();
        }
        counted["limits"]["queue"] == 1
    });
    assert!(counted["queued_bytes"].as_u64().unwrap() <= 262_144 + 3 * 1024, "{counted}");
    assert_eq!(sender.event().unwrap().0, "bye", "the other is told at once, not when a ping fails");
    // What it had been sent is there; then the connection ends in the midst of what follows.
    let read = deaf.rest().len() * message.len();
    assert!(read < sent, "{read} of {sent}");
    let counted = service.signaling_when(|counted| counted["sockets"] == 1);
    assert_eq!((&counted["queued_bytes"], &counted["ended"]["transport"]), (&json!(0), &json!(1)), "{counted}");
}

/// The words of the next error.
fn error(socket: &mut Socket) -> String {
    loop {
        let text = socket.read_text().unwrap();
        if let Some(words) = text.strip_prefix("42[\"error\",").and_then(|rest| rest.strip_suffix(']')) {
            return serde_json::from_str(words).unwrap();
        }
    }
}
