//! A TCP stream that lives with whoever uses it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::net::TcpStream;
use tokio::runtime::{Handle, Id};

/// Moves to another runtime with its user: one that stayed would have each message noticed by one thread and read by
/// another, which costs more than reading it. Whoever waits for it in two tasks does so in one runtime.
pub(super) struct Nomad {
    /// `None`: no runtime could watch it.
    stream: Option<TcpStream>,
    /// Who watches it. `None`: nobody yet.
    home: Option<Id>,
}

impl Nomad {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream: Some(stream), home: here() }
    }

    /// # Errors
    /// If it was lost on a move.
    pub(super) fn get(&self) -> io::Result<&TcpStream> {
        self.stream.as_ref().ok_or_else(lost)
    }

    pub(super) fn into_std(self) -> io::Result<std::net::TcpStream> {
        self.stream.ok_or_else(lost)?.into_std()
    }

    /// What `act` comes to on the stream. Before anybody waits, it is at home here.
    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut act: impl FnMut(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        loop {
            let stream = self.stream.as_mut().ok_or_else(lost)?;
            let came_to = act(Pin::new(stream), cx);
            if came_to.is_ready() || !self.settle()? {
                return came_to;
            }
        }
    }

    /// Whether it had to move. Those who waited for it elsewhere are not told any more.
    fn settle(&mut self) -> io::Result<bool> {
        let here = here();
        if here.is_none() || self.home == here {
            return Ok(false);
        }
        let stream = self.stream.take().ok_or_else(lost)?.into_std()?;
        self.stream = Some(TcpStream::from_std(stream)?);
        self.home = here;
        Ok(true)
    }
}

fn here() -> Option<Id> {
    Handle::try_current().ok().map(|handle| handle.id())
}

fn lost() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::thread;

    use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    async fn read(nomad: &mut Nomad) -> Vec<u8> {
        let mut room = [0; 16];
        let mut buffer = ReadBuf::new(&mut room);
        poll_fn(|cx| nomad.poll(cx, |stream, cx| stream.poll_read(cx, &mut buffer))).await.unwrap();
        buffer.filled().to_vec()
    }

    #[test]
    fn it_is_heard_where_it_is_waited_for_although_its_old_home_is_gone() {
        let old = runtime();
        let (mut client, mut nomad) = old.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (client, Nomad::new(listener.accept().await.unwrap().0))
        });
        let (waits, is_waiting) = std::sync::mpsc::channel();
        let new = thread::spawn(move || {
            runtime().block_on(async {
                let first = tokio::select! {
                    biased;
                    first = read(&mut nomad) => first,
                    () = async { waits.send(()).unwrap() } => Vec::new(),
                };
                assert_eq!(first, b"", "it waits");
                let second = read(&mut nomad).await;
                nomad.stream.as_mut().unwrap().write_all(b"heard").await.unwrap();
                second
            })
        });
        is_waiting.recv().unwrap();
        drop(old);
        io::Write::write_all(&mut client, b"hello").unwrap();
        assert_eq!(new.join().unwrap(), b"hello");
        let mut answer = [0; 5];
        io::Read::read_exact(&mut client, &mut answer).unwrap();
        assert_eq!(&answer, b"heard");
    }
}
