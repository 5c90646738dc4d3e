//! A Socket.IO client, as little of one as a load needs: Engine.IO 4 by one WebSocket over TLS, text only.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The kinds of frames. See RFC 6455, section 5.2.
const TEXT: u8 = 1;
const CLOSE: u8 = 8;

const HELLO: &[u8] = b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";

type Stream = TlsStream<TcpStream>;

/// What a client is written by, whoever wants to.
pub(crate) struct Voice(Mutex<WriteHalf<Stream>>);

/// What a client hears.
pub(crate) struct Ear {
    stream: ReadHalf<Stream>,
    voice: Arc<Voice>,
    /// What has come and was not looked at, from `start` on.
    bytes: Vec<u8>,
    start: usize,
    /// How often the server asks whether this client lives, as it says itself.
    pub(crate) pings_every: Duration,
}

impl Voice {
    /// Sends events, each a JSON array, at once.
    pub(crate) async fn emit(&self, events: &[String]) -> io::Result<()> {
        let mut frames = Vec::new();
        events.iter().for_each(|event| frame(&mut frames, &["42", event]));
        self.write(&frames).await
    }

    /// Says goodbye and ends the connection.
    pub(crate) async fn close(&self) -> io::Result<()> {
        let mut frames = Vec::new();
        frame(&mut frames, &["41"]);
        self.write(&frames).await?;
        self.0.lock().await.shutdown().await
    }

    async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stream = self.0.lock().await;
        stream.write_all(bytes).await?;
        stream.flush().await
    }
}

/// Connects to the main namespace, from an address of its own.
pub(crate) async fn connect(
    server: SocketAddrV4,
    from: Ipv4Addr,
    tls: &Arc<ClientConfig>,
) -> io::Result<(Arc<Voice>, Ear)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddrV4::new(from, 0).into())?;
    let stream = socket.connect(server.into()).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let mut stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?;
    stream.write_all(HELLO).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    if !head.starts_with(b"HTTP/1.1 101 ") {
        return Err(io::Error::other(String::from_utf8_lossy(&head).into_owned()));
    }
    let (reader, writer) = split(stream);
    let voice = Arc::new(Voice(Mutex::new(writer)));
    let voice_of_ear = Arc::clone(&voice);
    let mut ear = Ear { stream: reader, voice: voice_of_ear, bytes: Vec::new(), start: 0, pings_every: Duration::ZERO };
    let open: Value = serde_json::from_str(&ear.must_hear("0").await?[1..])?;
    let milliseconds = open["pingInterval"].as_u64();
    ear.pings_every = Duration::from_millis(milliseconds.ok_or_else(|| io::Error::other(open.to_string()))?);
    let mut frames = Vec::new();
    frame(&mut frames, &["40"]);
    voice.write(&frames).await?;
    ear.must_hear("40").await?;
    Ok((voice, ear))
}

impl Ear {
    /// The next event, a JSON array; `None` once the server has closed the connection. Pings are answered in passing.
    pub(crate) async fn event(&mut self) -> io::Result<Option<String>> {
        while let Some(mut packet) = self.packet().await? {
            if packet.starts_with("42") {
                packet.drain(..2);
                return Ok(Some(packet));
            }
        }
        Ok(None)
    }

    async fn must_hear(&mut self, beginning: &str) -> io::Result<String> {
        match self.packet().await? {
            Some(packet) if packet.starts_with(beginning) => Ok(packet),
            other => Err(io::Error::other(format!("instead of a packet `{beginning}` came {other:?}"))),
        }
    }

    async fn packet(&mut self) -> io::Result<Option<String>> {
        loop {
            while let Some((kind, payload)) = self.take_frame() {
                match kind {
                    TEXT if payload == b"2" => {
                        let mut frames = Vec::new();
                        frame(&mut frames, &["3"]);
                        self.voice.write(&frames).await?;
                    }
                    TEXT => return String::from_utf8(payload).map(Some).map_err(io::Error::other),
                    CLOSE => return Ok(None),
                    _ => {}
                }
            }
            if self.stream.read_buf(&mut self.bytes).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The first frame that has come whole.
    fn take_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let frame = take(&self.bytes[self.start..]);
        let Some((length, kind, payload)) = frame else {
            self.bytes.drain(..self.start);
            self.start = 0;
            return None;
        };
        let payload = payload.to_vec();
        self.start += length;
        Some((kind, payload))
    }
}

/// The bytes of the first frame of a server, its kind and its payload.
fn take(bytes: &[u8]) -> Option<(usize, u8, &[u8])> {
    let (head, length) = match *bytes.get(..2)? {
        [kind, 126] => (kind, (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)))),
        [kind, 127] => (kind, (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?)),
        [kind, length] => (kind, (2, usize::from(length))),
        _ => return None,
    };
    let (start, length) = length;
    Some((start + length, head & 0x0f, bytes.get(start..start + length)?))
}

fn frame(out: &mut Vec<u8>, parts: &[&str]) {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    out.push(0x80 | TEXT);
    match u8::try_from(length) {
        Ok(short) if short < 126 => out.push(0x80 | short),
        _ => {
            out.push(0x80 | 126);
            out.extend(u16::try_from(length).expect("no event is as long as that").to_be_bytes());
        }
    }
    // A mask that is no mask at all would be less work for some servers than for others.
    let mask = [0x5a, 0xc3, 0x96, 0x0f];
    out.extend(mask);
    out.extend(parts.concat().bytes().zip(mask.into_iter().cycle()).map(|(byte, mask)| byte ^ mask));
}
