//! A Socket.IO client, as little of one as a test needs: one WebSocket over TLS, text only.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;

use rustls::{ClientConnection, StreamOwned};
use serde_json::Value;

use crate::stream_client::connect_tls;

/// The kinds of frames. See RFC 6455, section 5.2.
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;

/// A client that is connected to the main namespace.
pub(crate) struct Socket {
    stream: StreamOwned<ClientConnection, TcpStream>,
    room: String,
}

impl Socket {
    pub(crate) fn connect(port: u16) -> Self {
        Self::try_connect(port).unwrap()
    }

    pub(crate) fn try_connect(port: u16) -> Result<Self> {
        Self::connect_with(port, "")
    }

    /// With this `auth`; an error, if it is refused.
    pub(crate) fn connect_with(port: u16, auth: &str) -> Result<Self> {
        let mut socket = Self::open(port)?;
        socket.write_text(&format!("40{auth}"))?;
        let answer = socket.read_text()?;
        if answer.starts_with("44") {
            return Err(Error::other(answer));
        }
        assert!(answer.starts_with("40"), "{answer}");
        Ok(socket)
    }

    /// A session without a namespace.
    pub(crate) fn open(port: u16) -> Result<Self> {
        Self::open_by(connect_tls(port, &["http/1.1"]))
    }

    /// As [`Socket::open`], by a connection that is there.
    pub(crate) fn open_by(stream: StreamOwned<ClientConnection, TcpStream>) -> Result<Self> {
        let mut socket = Self::switch(stream, "")?;
        assert!(socket.read_text()?.starts_with('0'));
        Ok(socket)
    }

    /// For a session that is carried by polling. Nothing is said yet.
    pub(crate) fn upgrade(port: u16, sid: &str) -> Result<Self> {
        Self::switch(connect_tls(port, &["http/1.1"]), &format!("&sid={sid}"))
    }

    fn switch(mut stream: StreamOwned<ClientConnection, TcpStream>, query: &str) -> Result<Self> {
        write!(
            stream,
            "GET /socket.io/?EIO=4&transport=websocket{query} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        )?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        if !head.starts_with(b"HTTP/1.1 101 ") {
            return Err(Error::other(String::from_utf8_lossy(&head).into_owned()));
        }
        Ok(Self { stream, room: String::new() })
    }

    /// Joins a room. Gives what it is answered.
    pub(crate) fn join(&mut self, room: &str) -> Value {
        room.clone_into(&mut self.room);
        self.write_text(&format!("420[\"join\",\"{room}\"]")).unwrap();
        loop {
            if let Some(answer) = self.read_text().unwrap().strip_prefix("430") {
                let mut answer: Value = serde_json::from_str(answer).unwrap();
                return answer[0].take();
            }
        }
    }

    /// Sends data to the others in its room.
    pub(crate) fn send(&mut self, data: u64) -> Result<()> {
        self.write_text(&format!("42[\"message\",\"{}\",{data}]", self.room))
    }

    /// The next message of others; an error, if the connection ends before.
    pub(crate) fn receive(&mut self) -> Result<u64> {
        loop {
            let (event, data) = self.event()?;
            if event == "message" {
                return Ok(data.as_u64().unwrap());
            }
        }
    }

    /// The next event and its second argument.
    pub(crate) fn event(&mut self) -> Result<(String, Value)> {
        loop {
            if let Some(event) = self.read_text()?.strip_prefix("42") {
                let mut event: Value = serde_json::from_str(event).unwrap();
                let data = event.get_mut(2).map(Value::take).unwrap_or_default();
                return Ok((event[0].as_str().unwrap().to_owned(), data));
            }
        }
    }

    /// What events come until the connection ends.
    pub(crate) fn rest(mut self) -> Vec<String> {
        std::iter::from_fn(|| self.event().ok()).map(|(event, _)| event).collect()
    }

    /// The next packet; pings are answered in passing.
    pub(crate) fn read_text(&mut self) -> Result<String> {
        loop {
            let mut head = [0; 2];
            self.stream.read_exact(&mut head)?;
            let mut length = usize::from(head[1] & 0x7f);
            if length == 126 {
                let mut long = [0; 2];
                self.stream.read_exact(&mut long)?;
                length = u16::from_be_bytes(long).into();
            }
            assert!(length < 65_536, "it says nothing as long as that");
            let mut payload = vec![0; length];
            self.stream.read_exact(&mut payload)?;
            match head[0] & 0x0f {
                TEXT if payload == b"2" => self.write_text("3")?,
                TEXT => return Ok(String::from_utf8(payload).unwrap()),
                CLOSE => return Err(ErrorKind::ConnectionAborted.into()),
                PING => {}
                kind => panic!("a frame of kind {kind}"),
            }
        }
    }

    pub(crate) fn write_text(&mut self, text: &str) -> Result<()> {
        let length = match text.len() {
            short @ 0..126 => vec![0x80 | u8::try_from(short).unwrap()],
            long @ 126..65_536 => [&[0x80 | 126][..], &u16::try_from(long).unwrap().to_be_bytes()].concat(),
            longest => [&[0x80 | 127][..], &(longest as u64).to_be_bytes()].concat(),
        };
        // A mask of zeros leaves the payload as it is.
        let frame = [&[0x80 | TEXT][..], &length, &[0; 4], text.as_bytes()].concat();
        self.write_bytes(&frame)
    }

    /// Sends bytes that may be no frame.
    pub(crate) fn write_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }
}
