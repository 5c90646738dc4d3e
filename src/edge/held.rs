//! Streams that hold their place among all connections, and streams whose first bytes were looked at.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::accept::Place;
use super::cut::Line;
use super::demux::{ENOUGH, Speech, speech};
use super::nomad::Nomad;

/// How long a client that reads nothing may keep what is written to it waiting.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);

/// A stream that holds its place for as long as anyone has it, a WebSocket's new owner included. Writing to it fails
/// if the client takes nothing for too long, so that no answer holds a place forever.
pub(super) struct Held {
    /// Before the stream, to be dropped before it is closed.
    pub(super) line: Line,
    pub(super) stream: Nomad,
    /// `None`: a connection of our own, which takes nobody's place.
    pub(super) place: Option<Place>,
    jam: Jam,
}

impl Held {
    pub(super) fn new(stream: TcpStream, place: Option<Place>) -> Self {
        Self {
            line: Line::to(&stream),
            stream: Nomad::new(stream),
            place,
            jam: Jam { within: TAKEN_WITHIN, ends: None },
        }
    }
}

/// How long a writer has been waiting without a break.
struct Jam {
    within: Duration,
    /// `None`: nothing waits. Boxed, since most connections never do.
    ends: Option<Pin<Box<Sleep>>>,
}

impl Jam {
    /// What a write came to, or `TimedOut`.
    fn bound(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.ends = None;
            return written;
        }
        let within = self.within;
        ready!(self.ends.get_or_insert_with(|| Box::pin(sleep(within))).as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Held {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream.poll(cx, |stream, cx| stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Held {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.stream.poll(cx, |stream, cx| stream.poll_write(cx, bytes));
        self.jam.bound(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream.poll(cx, |stream, cx| stream.poll_write_vectored(cx, parts));
        self.jam.bound(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll(cx, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll(cx, AsyncWrite::poll_shutdown)
    }
}

/// A stream whose first bytes were looked at; reading it gives them once more.
pub(super) struct Rewound<S> {
    first: Vec<u8>,
    /// How many of `first` were given.
    given: usize,
    stream: S,
}

impl<S: AsyncRead + Unpin> Rewound<S> {
    /// Reads until the bytes tell what the client speaks.
    ///
    /// # Errors
    /// What the stream says; `UnexpectedEof` if it ends before.
    pub(super) async fn look(mut stream: S) -> io::Result<(Speech, Self)> {
        let mut first = Vec::with_capacity(ENOUGH);
        loop {
            if let Some(speech) = speech(&first) {
                return Ok((speech, Self { first, given: 0, stream }));
            }
            let mut room = [0; ENOUGH];
            let length = stream.read(&mut room[first.len()..]).await?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let start = first.len();
            first.extend_from_slice(&room[start..start + length]);
        }
    }
}

impl<S> Rewound<S> {
    /// What was not given yet, and the stream.
    pub(super) fn into_parts(self) -> (Vec<u8>, S) {
        (self.first[self.given..].to_vec(), self.stream)
    }

    pub(super) fn stream(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let waiting = &self.first[self.given..];
        if waiting.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let length = waiting.len().min(buffer.remaining());
        buffer.put_slice(&waiting[..length]);
        self.given += length;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::edge::accept::Caps;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn bytes_that_come_one_by_one_are_looked_at_and_given_again() {
        block_on(async {
            let (mut client, server) = tokio::io::duplex(1);
            let said = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
            let sending = said.clone();
            let sends = async move { client.write_all(&sending).await };
            let hears = async {
                let (speech, mut stream) = Rewound::look(server).await?;
                let mut heard = Vec::new();
                stream.read_to_end(&mut heard).await?;
                Ok::<_, io::Error>((speech, heard))
            };
            let (sent, heard) = tokio::join!(sends, hears);
            sent.unwrap();
            assert_eq!(heard.unwrap(), (Speech::Stun, said));
        });
    }

    #[test]
    fn a_client_that_stops_reading_fails_the_write_and_one_that_reads_late_does_not() {
        block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (stream, address) = listener.accept().await.unwrap();
            let place = std::sync::Arc::new(Caps::new(4096)).enter(address.ip()).unwrap();
            let mut held = Held::new(stream, Some(place));
            held.jam.within = Duration::from_millis(200);
            let block = vec![7; 1 << 20];
            let mut written = 0;
            let failure = loop {
                match held.write(&block).await {
                    Ok(length) => written += length,
                    Err(error) => break error,
                }
            };
            assert_eq!(failure.kind(), io::ErrorKind::TimedOut);
            let mut heard = vec![0; written];
            client.read_exact(&mut heard).await.unwrap();
            held.write_all(b"again").await.unwrap();
            assert!(held.jam.ends.is_none());
        });
    }

    #[test]
    fn who_leaves_before_saying_enough_is_told_apart() {
        block_on(async {
            let (mut client, server) = tokio::io::duplex(8);
            client.write_all(&[0, 1, 0]).await.unwrap();
            drop(client);
            assert!(Rewound::look(server).await.is_err());
        });
    }
}
