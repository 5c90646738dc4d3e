//! Streams that hold their place among all connections, and streams whose first bytes were looked at.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::accept::Place;
use super::demux::{ENOUGH, Speech, speech};

/// A stream that holds its place for as long as anyone has it, a WebSocket's new owner included.
pub(super) struct Held {
    pub(super) stream: TcpStream,
    pub(super) place: Place,
}

impl AsyncRead for Held {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Held {
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

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
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
    fn who_leaves_before_saying_enough_is_told_apart() {
        block_on(async {
            let (mut client, server) = tokio::io::duplex(8);
            client.write_all(&[0, 1, 0]).await.unwrap();
            drop(client);
            assert!(Rewound::look(server).await.is_err());
        });
    }
}
