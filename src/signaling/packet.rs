//! Socket.IO packets inside of Engine.IO messages, protocol 5 (clients 3.x and 4.x) and protocol 4 (clients 2.x).
//!
//! What is relayed is never taken apart: data goes out as the bytes that came in, looked at without recursion.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The deepest brackets that are relayed. Parsers by recursion end of some thousands.
const MAX_DEPTH: usize = 128;
/// Attachments that a packet may announce; none is relayed.
const MAX_ATTACHMENTS: u32 = 16;
/// Digits that the number of an acknowledgement may have.
const MAX_ACK_DIGITS: usize = 16;

/// What a client sends.
#[derive(Debug, PartialEq)]
pub(super) enum Incoming<'a> {
    /// It joins a namespace, with this JSON.
    Connect {
        namespace: &'a str,
        auth: &'a str,
    },
    Disconnect {
        namespace: &'a str,
    },
    Event {
        /// The number by which an answer is asked for.
        ack: Option<&'a str>,
        event: Event<'a>,
    },
    /// One that cannot be read, and why, in words for a page's author.
    Unreadable(&'static str),
    /// One that means nothing here: an acknowledgement, or an event in another namespace.
    Ignored,
}

/// An event: what it is called, and its first two arguments as they came.
#[derive(Debug, PartialEq)]
pub(super) struct Event<'a> {
    pub(super) name: String,
    pub(super) first: Option<&'a str>,
    pub(super) second: Option<&'a str>,
}

/// What is no packet at all.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoPacket;

/// Reads a packet.
pub(super) fn read(text: &str) -> Result<Incoming<'_>, NoPacket> {
    let kind = *text.as_bytes().first().ok_or(NoPacket)?;
    // The first byte is one of ASCII in every arm that goes on.
    let rest = text.get(1..).ok_or(NoPacket)?;
    match kind {
        b'0' => {
            let (namespace, auth) = split_namespace(rest);
            Ok(Incoming::Connect { namespace, auth })
        }
        b'1' => Ok(Incoming::Disconnect { namespace: split_namespace(rest).0 }),
        b'2' => Ok(read_event(rest)),
        b'3' | b'4' => Ok(Incoming::Ignored),
        b'5' | b'6' => {
            let (count, _) = rest.split_once('-').ok_or(NoPacket)?;
            let count: u32 = count.parse().map_err(|_| NoPacket)?;
            if count > MAX_ATTACHMENTS {
                return Err(NoPacket);
            }
            Ok(Incoming::Unreadable("binary is not relayed"))
        }
        _ => Err(NoPacket),
    }
}

/// A namespace is there unless it is the main one, up to a comma or the end. What follows `?` is a query of old clients.
fn split_namespace(text: &str) -> (&str, &str) {
    if !text.starts_with('/') {
        return ("/", text);
    }
    let (namespace, rest) = text.split_once(',').unwrap_or((text, ""));
    (namespace.split_once('?').map_or(namespace, |(name, _)| name), rest)
}

fn read_event(text: &str) -> Incoming<'_> {
    let (namespace, rest) = split_namespace(text);
    if namespace != "/" {
        return Incoming::Ignored;
    }
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    if digits > MAX_ACK_DIGITS {
        return Incoming::Unreadable("the number of the acknowledgement is too long");
    }
    let (ack, json) = rest.split_at(digits);
    if depth(json) > MAX_DEPTH {
        return Incoming::Unreadable("the brackets are deeper than 128 levels");
    }
    // The library skips what it does not look into without recursion.
    let Ok(parts) = serde_json::from_str::<Vec<&RawValue>>(json) else {
        return Incoming::Unreadable("this is no JSON array");
    };
    let Some(name) = parts.first().and_then(|name| serde_json::from_str(name.get()).ok()) else {
        return Incoming::Unreadable("an event has a name first");
    };
    let part = |number: usize| parts.get(number).map(|part| part.get());
    let event = Event { name, first: part(1), second: part(2) };
    Incoming::Event { ack: (!ack.is_empty()).then_some(ack), event }
}

/// The deepest brackets outside of strings; nothing is said about whether they fit.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut is_escaped) = (0_usize, 0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

impl Event<'_> {
    /// An argument as what it should be; `None` if it is missing or something else.
    pub(super) fn read<'b, T: Deserialize<'b>>(argument: Option<&'b str>) -> Option<T> {
        serde_json::from_str(argument?).ok()
    }
}

/// An event with two strings, as the room protocol's are.
pub(super) fn told(event: &str, room: &str, about: &str) -> String {
    format!("2[{},{},{}]", quoted(event), quoted(room), quoted(about))
}

/// An event that says something in words, or nothing.
pub(super) fn event(name: &str, argument: Option<&str>) -> String {
    match argument {
        Some(argument) => format!("2[{},{}]", quoted(name), quoted(argument)),
        None => format!("2[{}]", quoted(name)),
    }
}

/// A message on its way on: the room and the data as they came.
pub(super) fn message(room: &str, data: Option<&str>) -> String {
    // With room for what the engine puts before it.
    let mut packet = String::with_capacity(room.len() + data.map_or(0, str::len) + "42[\"message\",,]".len());
    packet.push_str("2[\"message\",");
    packet.push_str(room);
    if let Some(data) = data {
        packet.push(',');
        packet.push_str(data);
    }
    packet.push(']');
    packet
}

/// The answer to an event that asked for one.
pub(super) fn acknowledgement(ack: &str, answer: &impl serde::Serialize) -> String {
    let answer = serde_json::to_string(answer).expect("answers are made of strings and numbers");
    format!("3{ack}[{answer}]")
}

/// A client is in the main namespace; one of protocol 5 is told its id.
pub(super) fn connected(id: Option<&str>) -> String {
    id.map_or_else(|| "0".to_owned(), |id| format!("0{{\"sid\":{}}}", quoted(id)))
}

/// A client is kept out of a namespace. `is_old`: it speaks protocol 4, which has a bare string.
pub(super) fn connect_error(namespace: &str, why: &str, is_old: bool) -> String {
    let mut packet = "4".to_owned();
    if namespace != "/" {
        // Writing to a string cannot fail.
        let _ = write!(packet, "{namespace},");
    }
    let why = quoted(why);
    let _ = if is_old { write!(packet, "{why}") } else { write!(packet, "{{\"message\":{why}}}") };
    packet
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts<'a>(packet: &Incoming<'a>) -> (Option<&'a str>, String, Option<&'a str>, Option<&'a str>) {
        match packet {
            Incoming::Event { ack, event } => (*ack, event.name.clone(), event.first, event.second),
            Incoming::Connect { .. } | Incoming::Disconnect { .. } | Incoming::Unreadable(_) | Incoming::Ignored => {
                panic!("{packet:?} is no event")
            }
        }
    }

    #[test]
    fn what_clients_send_is_read() {
        assert_eq!(read("0"), Ok(Incoming::Connect { namespace: "/", auth: "" }));
        assert_eq!(read("0{\"a\":1}"), Ok(Incoming::Connect { namespace: "/", auth: "{\"a\":1}" }));
        assert_eq!(read("0/admin,{}"), Ok(Incoming::Connect { namespace: "/admin", auth: "{}" }));
        assert_eq!(read("0/admin?token=1,"), Ok(Incoming::Connect { namespace: "/admin", auth: "" }));
        assert_eq!(read("1"), Ok(Incoming::Disconnect { namespace: "/" }));
        assert_eq!(read("1/admin,"), Ok(Incoming::Disconnect { namespace: "/admin" }));
        let packet = read("212[\"join\", \"a\\u00e9\" ,{ \"b\":1.50 },3]").unwrap();
        assert_eq!(parts(&packet), (Some("12"), "join".to_owned(), Some("\"a\\u00e9\""), Some("{ \"b\":1.50 }")));
        assert_eq!(parts(&read("2[\"join\"]").unwrap()), (None, "join".to_owned(), None, None));
        assert_eq!(read("2/admin,[\"join\"]"), Ok(Incoming::Ignored));
        assert_eq!(read("31[1]"), Ok(Incoming::Ignored));
    }

    #[test]
    fn what_no_page_sends_is_told_apart() {
        for odd in ["", "x", "7[]", "é", "5[]", "5x-[]", "599-[\"message\"]", "9"] {
            assert_eq!(read(odd), Err(NoPacket), "{odd}");
        }
        let odd =
            ["2", "2{}", "2[]", "2[1]", "2[\"a\"", "2[\"a\",]", "2[\"a\",tru]", "2\"a\"", "51-[\"message\",\"r\",{}]"];
        for odd in odd {
            assert!(matches!(read(odd), Ok(Incoming::Unreadable(_))), "{odd}");
        }
        assert!(matches!(read("299999999999999999999[\"a\"]"), Ok(Incoming::Unreadable(_))));
    }

    #[test]
    fn brackets_may_be_deep_to_a_bound_and_no_stack_is_used_for_them() {
        let nested = |levels: usize| format!("2[\"message\",\"r\",{}{}]", "[".repeat(levels), "]".repeat(levels));
        assert!(matches!(read(&nested(MAX_DEPTH - 1)), Ok(Incoming::Event { .. })));
        for levels in [MAX_DEPTH, 20_000, 5_000_000] {
            assert!(matches!(read(&nested(levels)), Ok(Incoming::Unreadable(_))), "{levels}");
        }
        assert_eq!(depth("[\"[[[[\\\"[[\",{}]"), 2, "brackets in strings do not count");
        // As deep, without an end.
        assert!(matches!(read(&format!("2{}", "{\"a\":".repeat(1_000_000))), Ok(Incoming::Unreadable(_))));
    }

    #[test]
    fn what_is_sent_is_what_clients_expect() {
        assert_eq!(told("joined", "a\"b", "id"), "2[\"joined\",\"a\\\"b\",\"id\"]");
        assert_eq!(message("\"r\"", Some("{ \"a\":1 }")), "2[\"message\",\"r\",{ \"a\":1 }]");
        assert_eq!(message("\"r\"", None), "2[\"message\",\"r\"]");
        assert_eq!(acknowledgement("7", &serde_json::json!({ "ok": true })), "37[{\"ok\":true}]");
        assert_eq!((connected(None), connected(Some("x"))), ("0".to_owned(), "0{\"sid\":\"x\"}".to_owned()));
        assert_eq!(connect_error("/", "full", false), "4{\"message\":\"full\"}");
        assert_eq!(connect_error("/a", "full", true), "4/a,\"full\"");
        assert_eq!(event("restarting", None), "2[\"restarting\"]");
        assert_eq!(event("error", Some("why")), "2[\"error\",\"why\"]");
    }

    proptest! {
        #[test]
        fn nothing_that_is_read_panics_and_what_is_relayed_is_json(text in "[0-9]?[0-9]{0,3}[\\[\\]{}\",:a-z0-9\\\\ é]{0,40}") {
            if let Ok(Incoming::Event { event, .. }) = read(&text) {
                let relayed = message("\"r\"", event.second);
                prop_assert!(serde_json::from_str::<serde_json::Value>(&relayed[1..]).is_ok(), "{relayed}");
            }
        }
    }
}
