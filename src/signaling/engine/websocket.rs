//! Sessions that are carried by the connection of a WebSocket: one task reads and writes it.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use axum::body::Body;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use super::request::Refusal;
use super::socket::{Probe, Socket};
use super::{Engine, Handler, Settings, Version, hangup};
use crate::signaling::End;
use crate::sys::websocket::accept;

/// What WebSockets run on.
type Stream = TokioIo<Upgraded>;

/// Bytes that are read at a time. Most messages are shorter.
const READ_AT_A_TIME: usize = 1024;
/// Bytes that are written at a time.
const WRITTEN_AT_A_TIME: usize = 16 * 1024;
/// Bytes beyond two of the longest messages that may come before one is whole.
const SPARE: usize = 16 * 1024;
/// How long a client may take to hear that its session has ended, and then to end the connection.
const LEFT_WITHIN: Duration = Duration::from_secs(2);

/// Begins a session.
pub(super) fn open<H: Handler>(
    engine: &Arc<Engine<H>>,
    (version, key): (Version, &str),
    head: Parts,
) -> Result<Response<Body>, Refusal> {
    let engine = Arc::clone(engine);
    switch(key, head, async move |stream, head| {
        let mut line = Line::new(stream, &engine.settings);
        let socket = engine.begin(version, &head);
        socket.carry_by(hangup(&head));
        drop(head);
        // If that fails, the next write does as well.
        let _ = line.write(engine.hello(&socket, &[]));
        engine.handler.arrived(&socket);
        line.carry(&engine, &socket).await;
    })
}

/// Takes a session over that was carried by polling, if the client says so in time; else that goes on.
pub(super) fn take_over<H: Handler>(
    engine: &Arc<Engine<H>>,
    socket: Arc<Socket<H::Caller>>,
    key: &str,
    head: Parts,
) -> Result<Response<Body>, Refusal> {
    let engine = Arc::clone(engine);
    switch(key, head, async move |stream, head| {
        let mut line = Line::new(stream, &engine.settings);
        let hangup = hangup(&head);
        drop(head);
        let agreed = timeout(engine.settings.upgraded_within, line.agree(&socket)).await;
        if let Ok(Some(probe)) = agreed {
            engine.polling().remove(&socket.sid);
            probe.succeed(hangup);
            line.carry(&engine, &socket).await;
        }
    })
}

/// Switches the connection of a request to what WebSockets speak. RFC 6455, section 4.2.2.
fn switch<F>(
    key: &str,
    mut head: Parts,
    carry: impl FnOnce(Stream, Parts) -> F + Send + 'static,
) -> Result<Response<Body>, Refusal>
where
    F: Future<Output = ()> + Send,
{
    // By HTTP/2 there is none.
    let upgrade = head.extensions.remove::<OnUpgrade>().ok_or(Refusal::BadRequest)?;
    let accept = HeaderValue::try_from(accept(key)).map_err(|_| Refusal::BadRequest)?;
    tokio::spawn(async move {
        // The client may have gone in the meantime.
        if let Ok(stream) = upgrade.await {
            carry(TokioIo::new(stream), head).await;
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

/// One connection.
struct Line {
    socket: WebSocket<Wire>,
    /// Bytes that were written, and wait for more that go with them.
    unflushed: usize,
}

impl Line {
    fn new(stream: Stream, settings: &Settings) -> Self {
        let most = Some(settings.max_message);
        let config =
            WebSocketConfig::default().read_buffer_size(READ_AT_A_TIME).max_message_size(most).max_frame_size(most);
        let wire = Wire { stream, waker: Waker::noop().clone(), read: 0, most: 2 * settings.max_message + SPARE };
        Self { socket: WebSocket::from_raw_socket(wire, Role::Server, Some(config)), unflushed: 0 }
    }

    /// Has the client take this connection for its session: it asks, and then says that it has come over.
    async fn agree<C>(&mut self, socket: &Arc<Socket<C>>) -> Option<Probe<C>> {
        self.expect("2probe").await?;
        let probe = socket.probe().ok()?;
        self.write("3probe".to_owned()).ok()?;
        poll_fn(|cx| self.poll_flush(cx)).await.ok()?;
        self.expect("5").await?;
        Some(probe).filter(|_| !socket.has_ended())
    }

    async fn expect(&mut self, packet: &str) -> Option<()> {
        loop {
            match poll_fn(|cx| self.poll_read(cx)).await.ok()? {
                Message::Text(text) => return (text == packet).then_some(()),
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Binary(_) | Message::Close(_) | Message::Frame(_) => return None,
            }
        }
    }

    /// Carries packets until the session or the connection ends.
    async fn carry<H: Handler>(mut self, engine: &Engine<H>, socket: &Arc<Socket<H::Caller>>) {
        let speaks = engine.speaking.token();
        let end = poll_fn(|cx| self.poll(cx, engine, socket)).await;
        if let Some(end) = end {
            socket.end(end);
        }
        if end != Some(End::Transport) {
            Box::pin(self.leave(socket, speaks)).await;
        }
    }

    /// Gives how the client ended it; `None`: it was not the client.
    fn poll<H: Handler>(
        &mut self,
        cx: &mut Context<'_>,
        engine: &Engine<H>,
        socket: &Arc<Socket<H::Caller>>,
    ) -> Poll<Option<End>> {
        loop {
            if socket.is_over(cx) {
                return Poll::Ready(None);
            }
            if let Poll::Ready(Err(_)) = self.poll_packets(cx, socket) {
                return Poll::Ready(Some(End::Transport));
            }
            let end = match ready!(self.poll_read(cx)) {
                Ok(Message::Text(packet)) => engine.hear(socket, &packet),
                Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {
                    engine.handler.noticed(socket);
                    None
                }
                Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => Some(End::Closed),
                Err(_) => Some(End::Transport),
            };
            if end.is_some() {
                return Poll::Ready(end);
            }
        }
    }

    /// Writes the packets that wait for the client; ready when there are no more.
    fn poll_packets<C>(&mut self, cx: &Context<'_>, socket: &Socket<C>) -> Poll<Result<(), Error>> {
        loop {
            if self.unflushed >= WRITTEN_AT_A_TIME {
                ready!(self.poll_flush(cx))?;
            }
            let Some(packet) = socket.next_packet() else { break };
            self.write(packet)?;
        }
        if self.unflushed > 0 { self.poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }

    /// Says what is left to say, and lets the client be the one that ends the connection: what it has not read yet would
    /// be lost otherwise.
    async fn leave<C>(mut self, socket: &Socket<C>, speaks: TaskTrackerToken) {
        let is_told = timeout(LEFT_WITHIN, self.say_goodbye(socket)).await;
        drop(speaks);
        if matches!(is_told, Ok(Ok(()))) {
            let reading = async { while poll_fn(|cx| self.poll_read(cx)).await.is_ok() {} };
            let _ = timeout(LEFT_WITHIN, reading).await;
        }
    }

    async fn say_goodbye<C>(&mut self, socket: &Socket<C>) -> Result<(), Error> {
        // A client that has closed the WebSocket hears no packets any more, but that it is closed.
        if self.socket.can_write() {
            for packet in socket.last_packets() {
                self.write(packet)?;
                if self.unflushed >= WRITTEN_AT_A_TIME {
                    poll_fn(|cx| self.poll_flush(cx)).await?;
                }
            }
            would_block(self.socket.close(None))?;
        }
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    fn write(&mut self, packet: String) -> Result<(), Error> {
        self.unflushed += packet.len();
        would_block(self.socket.write(Message::text(packet))).map(|_| ())
    }

    fn poll_flush(&mut self, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        self.socket.get_mut().wake_by(cx);
        if would_block(self.socket.flush())? {
            return Poll::Pending;
        }
        self.unflushed = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &Context<'_>) -> Poll<Result<Message, Error>> {
        self.socket.get_mut().wake_by(cx);
        match self.socket.read() {
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            read => {
                self.socket.get_mut().read = 0;
                Poll::Ready(read)
            }
        }
    }
}

/// Whether it has to wait; that is no error here, and nothing is lost by it.
fn would_block(outcome: Result<(), Error>) -> Result<bool, Error> {
    match outcome {
        Ok(()) => Ok(false),
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

/// A stream for a library that asks and does not wait: what would block has the task woken up.
struct Wire {
    stream: Stream,
    waker: Waker,
    /// Bytes since the last message, and how many there may be. Fragments without anything in them make no message, and
    /// no end.
    read: usize,
    most: usize,
}

impl Wire {
    fn wake_by(&mut self, cx: &Context<'_>) {
        self.waker.clone_from(cx.waker());
    }

    fn ask<T>(&mut self, ask: impl FnOnce(Pin<&mut Stream>, &mut Context<'_>) -> Poll<io::Result<T>>) -> io::Result<T> {
        match ask(Pin::new(&mut self.stream), &mut Context::from_waker(&self.waker)) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        if self.read > self.most {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "so much is no message"));
        }
        self.ask(|stream, cx| stream.poll_read(cx, &mut buffer))?;
        self.read += buffer.filled().len();
        Ok(buffer.filled().len())
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.ask(|stream, cx| stream.poll_write(cx, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.ask(|stream, cx| stream.poll_flush(cx))
    }
}
