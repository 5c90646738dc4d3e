//! A WebSocket client that sends and receives text. RFC 6455.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Fault, Secured, tls};
use crate::sys::websocket;
use crate::text;

/// Bytes of the longest head of an answer, and of the longest message.
const MAX_PENDING: usize = 16 * 1024;
/// Opcodes. RFC 6455, section 5.2.
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// An open WebSocket.
pub(super) struct WebSocket {
    stream: tls::Stream,
    address: SocketAddr,
    /// Read, but no whole frame yet.
    pending: Vec<u8>,
}

impl WebSocket {
    pub(super) fn open(at: Secured<'_>, path: &str) -> Result<Self, Fault> {
        let address = at.address;
        let mut socket = Self { stream: tls::connect(at)?, address, pending: Vec::new() };
        let key = STANDARD.encode(rand::random::<[u8; 16]>());
        socket.write(
            format!(
                "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
            )
            .as_bytes(),
        )?;
        let end = loop {
            if let Some(at) = socket.pending.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            socket.read_more()?;
        };
        let head: Vec<u8> = socket.pending.drain(..end).collect();
        if is_accepted(&String::from_utf8_lossy(&head), &key) {
            return Ok(socket);
        }
        Err(Fault::new(text!("`{}/tcp` does not switch to WebSocket", address)))
    }

    pub(super) fn send(&mut self, text: &str) -> Result<(), Fault> {
        self.write(&frame(TEXT, text.as_bytes(), rand::random()))
    }

    /// The next text.
    pub(super) fn receive(&mut self) -> Result<String, Fault> {
        loop {
            match cut(&self.pending) {
                Cut::Whole { opcode, payload } => {
                    let text = self.pending[payload.clone()].to_vec();
                    self.pending.drain(..payload.end);
                    match opcode {
                        TEXT => return Ok(String::from_utf8_lossy(&text).into_owned()),
                        PING => self.write(&frame(PONG, &text, rand::random()))?,
                        CLOSE => return Err(self.closed()),
                        _ => {}
                    }
                }
                Cut::More => self.read_more()?,
                Cut::Foreign => {
                    return Err(Fault::new(text!("`{}/tcp` sends what is no frame of ours", self.address)));
                }
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let written = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
        written.map_err(|error| Fault::of_io(self.address, "tcp", &error))
    }

    fn read_more(&mut self) -> Result<(), Fault> {
        let mut buffer = [0; 4096];
        let read = self.stream.read(&mut buffer);
        let length = read.map_err(|error| Fault::of_io(self.address, "tcp", &error))?;
        if length == 0 || self.pending.len() + length > MAX_PENDING {
            return Err(self.closed());
        }
        self.pending.extend_from_slice(&buffer[..length]);
        Ok(())
    }

    fn closed(&self) -> Fault {
        Fault::new(text!("`{}/tcp` closed the connection", self.address))
    }
}

/// Whether the head of an answer says that the protocol is switched, in answer to this key.
fn is_accepted(head: &str, key: &str) -> bool {
    let proof = websocket::accept(key);
    let mut lines = head.split("\r\n");
    let is_switched = lines.next().is_some_and(|status| status.starts_with("HTTP/1.1 101"));
    let says = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-accept").then(|| value.trim() == proof)
    };
    is_switched && lines.find_map(says) == Some(true)
}

/// A whole message in one frame. What a client sends is masked. RFC 6455, section 5.3.
fn frame(opcode: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![0x80 | opcode];
    match u8::try_from(payload.len()).ok().filter(|length| *length < 126) {
        Some(length) => bytes.push(0x80 | length),
        None => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(payload.len()).expect("a message of ours is short").to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

#[derive(Debug, PartialEq, Eq)]
enum Cut {
    /// A message in one frame, and where its payload lies.
    Whole {
        opcode: u8,
        payload: Range<usize>,
    },
    More,
    /// A frame that a server does not send, or in several pieces, which short messages are not.
    Foreign,
}

/// Finds the first frame.
fn cut(bytes: &[u8]) -> Cut {
    let [first, second, rest @ ..] = bytes else { return Cut::More };
    if first & 0xf0 != 0x80 || second & 0x80 != 0 {
        return Cut::Foreign;
    }
    let (start, length) = match second {
        127 => return Cut::Foreign,
        126 => match rest {
            [high, low, ..] => (4, usize::from(u16::from_be_bytes([*high, *low]))),
            _ => return Cut::More,
        },
        length => (2, usize::from(*length)),
    };
    let payload = start..start + length;
    if bytes.len() < payload.end { Cut::More } else { Cut::Whole { opcode: first & 0x0f, payload } }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 6455, sections 1.3 and 5.7.
    #[test]
    fn the_examples_of_the_standard_are_read_and_written() {
        let head = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        assert!(is_accepted(head, "dGhlIHNhbXBsZSBub25jZQ=="));
        assert!(!is_accepted(head, "another key"));
        assert!(!is_accepted(&head.replace("101", "200"), "dGhlIHNhbXBsZSBub25jZQ=="));
        let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(frame(TEXT, b"Hello", [0x37, 0xfa, 0x21, 0x3d]), masked);
        let plain = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        assert_eq!(cut(&plain), Cut::Whole { opcode: TEXT, payload: 2..7 });
        assert_eq!(cut(&masked), Cut::Foreign, "a server does not mask");
        for length in 0..plain.len() {
            assert_eq!(cut(&plain[..length]), Cut::More);
        }
    }

    #[test]
    fn a_longer_message_has_a_longer_head() {
        let sent = frame(TEXT, &[b'x'; 300], [0; 4]);
        assert_eq!(&sent[..4], [0x81, 0xfe, 1, 44]);
        let received = [&[0x81, 126, 1, 44][..], &[b'x'; 300], &[0x81]].concat();
        assert_eq!(cut(&received), Cut::Whole { opcode: TEXT, payload: 4..304 });
        assert_eq!(cut(&[0x81, 127, 0]), Cut::Foreign);
        assert_eq!(cut(&[0x01, 1, 0]), Cut::Foreign, "a piece of a message");
    }
}
