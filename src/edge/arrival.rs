//! An accepted connection until it is known what it wants: first bytes, TLS, then to HTTP here or to the turn task.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::connection::Connections;
use super::counters::Class;
use super::demux::{Offer, Speech, offer};
use super::held::{Held, Rewound};
use crate::supervisor::handover::TurnStream;
use crate::sys::tcp::keep_unsent;

/// How long a client may take to say its first bytes, and again to finish the TLS handshake with what follows it.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// How long a stream waits for a turn task that is being restarted.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);

/// Bytes that wait in the kernel besides those on their way. A slow client makes room every few seconds then, and is
/// told apart from one that reads nothing.
const UNSENT: u32 = 128 * 1024;

/// What a listening port is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    /// HTTPS, and TURN beside it.
    Https,
    /// HTTP without TLS, nothing else.
    Http,
    /// TURN with TLS or without, nothing else.
    Turn,
}

/// A connection of which it is known what it wants.
enum Arrived {
    Web(Box<TlsStream<Rewound<Held>>>),
    /// HTTP in TLS that came without ALPN.
    LateWeb(Box<Rewound<TlsStream<Rewound<Held>>>>),
    PlainWeb(Rewound<Held>),
    Turn(TurnStream),
}

impl Connections {
    /// Serves a connection from its first byte on.
    pub(super) async fn serve(self: Arc<Self>, port: Port, stream: Held, client: SocketAddr) {
        let is_own = stream.place.is_none();
        // A page is many small writes, and so is a call.
        let Ok(socket) = stream.stream.get() else { return };
        let _ = socket.set_nodelay(true);
        if let Err(error) = keep_unsent(socket, UNSENT) {
            debug!(%client, %error, "the kernel keeps as much for a slow client as it likes");
        }
        let cutter = stream.line.cutter();
        let visit = self.ending.visit();
        let arrived = tokio::select! {
            arrived = self.find_out(port, stream, client) => arrived,
            () = visit.over() => return,
        };
        let class = match &arrived {
            Ok(Arrived::Web(_) | Arrived::LateWeb(_)) => Class::Web,
            Ok(Arrived::PlainWeb(_)) => Class::PlainWeb,
            Ok(Arrived::Turn(TurnStream { tls: Some(_), .. })) => Class::TurnTls,
            Ok(Arrived::Turn(TurnStream { tls: None, .. })) => Class::TurnTcp,
            Err(class) => *class,
        };
        if !is_own {
            self.counters.count(class);
        }
        match arrived {
            Ok(Arrived::Web(stream)) => self.serve_https(*stream, client, visit, is_own, cutter).await,
            Ok(Arrived::LateWeb(stream)) => self.serve_https(*stream, client, visit, is_own, cutter).await,
            Ok(Arrived::PlainWeb(stream)) => self.serve_http(stream, client, visit).await,
            Ok(Arrived::Turn(stream)) => match self.doors.turn.hand(stream, TAKEN_WITHIN).await {
                Ok(handed) => drop(tokio::spawn(cutter.cut_when_fenced(handed))),
                Err(_) => debug!(%client, "no turn task took its stream in time"),
            },
            Err(class) => debug!(%client, class = class.as_str(), "nothing to serve"),
        }
    }

    /// Reads what a client wants. Its class, if there is nothing to be had for it.
    async fn find_out(&self, port: Port, stream: Held, client: SocketAddr) -> Result<Arrived, Class> {
        let looked = timeout(HANDSHAKE_WITHIN, Rewound::look(stream)).await;
        let Ok(Ok((speech, stream))) = looked else { return Err(Class::Silent) };
        match (speech, port) {
            (Speech::Http, Port::Http) => Ok(Arrived::PlainWeb(stream)),
            // Somebody typed `http://` and the port of HTTPS.
            (Speech::Http, Port::Https) => Ok(Arrived::PlainWeb(stream)),
            (Speech::Stun, Port::Https | Port::Turn) => {
                let (received, held) = stream.into_parts();
                self.turn_stream(held, None, received, client)
            }
            (Speech::Tls, Port::Https | Port::Turn) => {
                timeout(HANDSHAKE_WITHIN, self.shake_hands(port, stream, client)).await.unwrap_or(Err(Class::Silent))
            }
            (Speech::Unknown, _) | (Speech::Http, Port::Turn) | (Speech::Tls | Speech::Stun, Port::Http) => {
                Err(Class::Unknown)
            }
        }
    }

    async fn shake_hands(&self, port: Port, stream: Rewound<Held>, client: SocketAddr) -> Result<Arrived, Class> {
        let failed = |error: io::Error| {
            debug!(%client, %error, "no TLS");
            Class::NoTls
        };
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await.map_err(failed)?;
        let offered = match hello.client_hello().alpn() {
            Some(protocols) => offer(protocols),
            None => Offer::Nothing,
        };
        // The page is not served here; who offers it together with something else may still want that.
        let offered = if port == Port::Turn && offered == Offer::Web { Offer::Nothing } else { offered };
        let stream = hello.into_stream(self.tls.config(offered)).await.map_err(failed)?;
        match offered {
            Offer::Web => Ok(Arrived::Web(Box::new(stream))),
            // The handshake was the answer.
            Offer::Acme => Err(Class::Acme),
            Offer::Turn => self.secret_turn_stream(stream, Vec::new(), client),
            Offer::Nothing => {
                let looked = Rewound::look(stream).await;
                let (speech, stream) = looked.map_err(|_| Class::Silent)?;
                match (speech, port) {
                    (Speech::Http, Port::Https) => Ok(Arrived::LateWeb(Box::new(stream))),
                    (Speech::Stun, _) => {
                        let (received, stream) = stream.into_parts();
                        self.secret_turn_stream(stream, received, client)
                    }
                    (Speech::Http | Speech::Tls | Speech::Unknown, _) => Err(Class::Unknown),
                }
            }
        }
    }

    fn secret_turn_stream(
        &self,
        stream: TlsStream<Rewound<Held>>,
        received: Vec<u8>,
        client: SocketAddr,
    ) -> Result<Arrived, Class> {
        // What else was decrypted already is still in the session, and is read from there.
        let (stream, session) = stream.into_inner();
        let (unread, held) = stream.into_parts();
        debug_assert!(unread.is_empty(), "a ClientHello is longer than what was looked at");
        self.turn_stream(held, Some(Box::new(session)), received, client)
    }

    fn turn_stream(
        &self,
        held: Held,
        tls: Option<Box<rustls::ServerConnection>>,
        received: Vec<u8>,
        client: SocketAddr,
    ) -> Result<Arrived, Class> {
        if !self.live.takes_turn() {
            return Err(Class::Unknown);
        }
        let Held { line, stream, place, .. } = held;
        let taken = stream.into_std().and_then(|stream| Ok((stream.local_addr()?, stream)));
        let (local, stream) = taken.map_err(|_| Class::Silent)?;
        let hold = Box::new((line, place));
        Ok(Arrived::Turn(TurnStream { stream, tls, received, client, local: local.ip(), hold }))
    }
}
