//! Cuts the connections that were given to an instance which hangs: their clients come back at once instead of waiting
//! for an answer until their patience is over.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

use nix::libc::linger;
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
use tokio_util::sync::CancellationToken;

use crate::supervisor::handover::Handed;

/// Belongs to an open socket, and is dropped before that is closed.
pub(super) struct Line(Cutter);

/// Reaches the socket for as long as it is open, whoever has it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Cutter {
    /// Its number may be another socket's once it is closed, so it is looked at under the lock only.
    socket: Arc<Mutex<Option<RawFd>>>,
    ended: CancellationToken,
}

impl Line {
    pub(super) fn to(socket: &impl AsRawFd) -> Self {
        let socket = Arc::new(Mutex::new(Some(socket.as_raw_fd())));
        Self(Cutter { socket, ended: CancellationToken::new() })
    }

    pub(super) fn cutter(&self) -> Cutter {
        self.0.clone()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        *self.0.socket.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.0.ended.cancel();
    }
}

impl Cutter {
    /// Ends the connection in both directions. Whoever has the socket still has to close it, and then it is reset: a client
    /// that has filled every buffer would else be stuck in its writing until the kernel forgets the connection, a minute.
    #[expect(unsafe_code, reason = "whoever has the socket may be anybody, so only its number is known here")]
    pub(super) fn cut(&self) {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = *socket {
            // SAFETY: the line is dropped before the socket is closed, and waits for this lock.
            let open = unsafe { BorrowedFd::borrow_raw(number) };
            // The client may have gone already.
            let _ = setsockopt(&open, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 });
            let _ = shutdown(number, Shutdown::Both);
        }
    }

    /// Cuts the connection once nothing more is to be expected of the instance that has it.
    pub(super) async fn cut_when_fenced<T>(self, mut handed: Handed<T>) {
        tokio::select! {
            () = handed.fenced() => self.cut(),
            () = self.ended.cancelled() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;
    use crate::supervisor::handover::Door;

    #[test]
    fn a_connection_that_has_ended_is_left_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let line = Line::to(&server);
        let cutter = line.cutter();
        drop(line);
        cutter.cut();
        server.write_all(b"!").unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 1);
    }

    #[test]
    fn a_client_that_is_cut_hears_what_was_said_and_is_not_stuck_in_what_it_writes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"!").unwrap();
        let line = Line::to(&server);
        line.cutter().cut();
        drop((line, server));
        assert_eq!(client.read(&mut [0]).unwrap(), 1);
        let error = client.write(b"?").expect_err("the connection is reset");
        assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error}");
    }

    #[test]
    fn a_client_of_a_fenced_instance_is_free_although_that_has_its_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (server, _) = listener.accept().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let door = Door::default();
            let mut inbox = door.open();
            let line = Line::to(&server);
            let (handed, _) = tokio::join!(door.hand((), Duration::from_secs(10)), inbox.recv());
            let cutting = line.cutter().cut_when_fenced(handed.unwrap_or_else(|()| panic!("nobody took it")));
            door.fence();
            cutting.await;
        });
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "the server still has the socket, and the client is free");
    }
}
