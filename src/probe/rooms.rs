//! Two Socket.IO peers who meet in a room, and a third who is kept out. Engine.IO 4 and Socket.IO 5, over WebSocket.

use serde_json::{Value, json};

use super::websocket::WebSocket;
use super::{Fault, Secured};
use crate::text;
use crate::words::Text;

const PATH: &str = "/socket.io/?EIO=4&transport=websocket";
/// Packets that are read while one is waited for; more is a flood.
const MAX_PACKETS: usize = 32;
/// What each call of the page is answered under.
const ACK: u32 = 1;

/// A connected socket.
struct Peer {
    socket: WebSocket,
    /// Events that came while something else was waited for.
    heard: Vec<Value>,
}

/// What a Socket.IO packet is.
#[derive(Debug, PartialEq)]
enum Packet {
    /// The server's hello, Engine.IO.
    Open,
    Ping,
    /// The namespace was joined.
    Connected,
    Event(Value),
    Ack(Value),
    Other,
}

pub(super) fn meet(at: Secured<'_>) -> Result<(), Fault> {
    let room = format!("probe-{:016x}", rand::random::<u64>());
    let mut one = Peer::connect(at)?;
    let mut two = Peer::connect(at)?;
    let mut three = Peer::connect(at)?;
    one.must_enter(&room)?;
    two.must_enter(&room)?;
    one.must_hear("otherjoin", None)?;
    if three.join(&room)?.get("error") != Some(&json!("full")) {
        return Err(Fault::new(text!("a third was let into a room of two")));
    }
    for (sender, receiver, word) in [(0, 1, "offer"), (1, 0, "answer")] {
        let said = json!({ "type": word, "probe": room });
        let peers = [&mut one, &mut two];
        peers[sender].emit(&json!(["message", room, said]), None)?;
        peers[receiver].must_hear("message", Some(&said))?;
    }
    // Whatever a third was told of the two has come before this is answered.
    three.join(&room)?;
    if three.heard.iter().any(|event| event[0] == "message") {
        return Err(Fault::new(text!("a third hears what two say to each other")));
    }
    one.emit(&json!(["leave", room]), None)?;
    two.must_hear("bye", None)
}

impl Peer {
    fn connect(at: Secured<'_>) -> Result<Self, Fault> {
        let mut peer = Self { socket: WebSocket::open(at, PATH)?, heard: Vec::new() };
        peer.find(&text!("a hello"), |packet| (*packet == Packet::Open).then_some(()))?;
        peer.socket.send("40")?;
        peer.find(&text!("to be connected"), |packet| (*packet == Packet::Connected).then_some(()))?;
        Ok(peer)
    }

    fn must_enter(&mut self, room: &str) -> Result<(), Fault> {
        let answer = self.join(room)?;
        if answer["ok"] == true {
            return Ok(());
        }
        Err(Fault::new(text!("a peer was not let into a room: {}", answer["error"])))
    }

    /// Gives what the server answers.
    fn join(&mut self, room: &str) -> Result<Value, Fault> {
        self.emit(&json!(["join", room]), Some(ACK))?;
        self.find(&text!("an answer to `join`"), |packet| {
            if let Packet::Ack(answer) = packet { Some(answer[0].clone()) } else { None }
        })
    }

    fn emit(&mut self, event: &Value, ack: Option<u32>) -> Result<(), Fault> {
        let ack = ack.map(|number| number.to_string()).unwrap_or_default();
        self.socket.send(&format!("42{ack}{event}"))
    }

    /// Waits for an event, with this argument behind the room if one is given.
    fn must_hear(&mut self, name: &str, argument: Option<&Value>) -> Result<(), Fault> {
        let fits = |event: &Value| event[0] == name && argument.is_none_or(|wanted| event[2] == *wanted);
        if self.heard.iter().any(fits) {
            return Ok(());
        }
        let is_it = |packet: &Packet| matches!(packet, Packet::Event(event) if fits(event)).then_some(());
        self.find(&text!("the event `{}`", name), is_it)
    }

    fn find<T>(&mut self, what: &Text, fits: impl Fn(&Packet) -> Option<T>) -> Result<T, Fault> {
        for _ in 0..MAX_PACKETS {
            let text = self.socket.receive().map_err(|fault| fault.at(text!("a peer waits for {}", what)))?;
            let packet = read(&text);
            if packet == Packet::Ping {
                self.socket.send("3")?;
            }
            if let Some(found) = fits(&packet) {
                return Ok(found);
            }
            if let Packet::Event(event) = packet {
                self.heard.push(event);
            }
        }
        Err(Fault::new(text!("a peer waits for {} and hears everything else", what)))
    }
}

fn read(text: &str) -> Packet {
    let json = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
    let data = |rest: &str| json(rest.trim_start_matches(|symbol: char| symbol.is_ascii_digit()));
    match (text.get(..1), text.get(..2)) {
        (Some("0"), _) => Packet::Open,
        (Some("2"), _) => Packet::Ping,
        (_, Some("40")) => Packet::Connected,
        (_, Some("42")) => Packet::Event(data(&text[2..])),
        (_, Some("43")) => Packet::Ack(data(&text[2..])),
        _ => Packet::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_told_apart() {
        assert_eq!(read("0{\"sid\":\"x\"}"), Packet::Open);
        assert_eq!(read("40{\"sid\":\"x\"}"), Packet::Connected);
        assert_eq!(read("2"), Packet::Ping);
        assert_eq!(read("42[\"bye\",\"r\"]"), Packet::Event(json!(["bye", "r"])));
        assert_eq!(read("431[{\"ok\":true}]"), Packet::Ack(json!([{ "ok": true }])));
        assert_eq!(read("44{\"message\":\"no\"}"), Packet::Other);
        for odd in ["", "é", "4", "42", "42nonsense"] {
            let _ = read(odd);
        }
    }
}
