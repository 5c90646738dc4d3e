//! The daemon's end of the control socket.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{Uid, geteuid};
use tracing::{debug, warn};

use super::protocol::{Request, Response};
use super::socket::Socket;
use super::{read_line, write_line};
use crate::error::{Failure, Result};
use crate::sys::{clock, turns};
use crate::text;

/// How long a client may take to say or to hear its line.
const PATIENCE: Duration = Duration::from_secs(2);
/// Clients served at a time; one that comes on top is turned away.
const MAX_CLIENTS: usize = 16;
/// The pause after a failed accept, which is most often a lack of descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// What answers requests. It may take its time: each client has a thread.
pub type Answerer = Arc<dyn Fn(Request) -> Response + Send + Sync>;

/// A control socket that is served.
#[derive(Debug)]
pub struct Served {
    path: PathBuf,
    is_closed: Arc<Mutex<bool>>,
}

impl Served {
    /// Takes the socket from its place; whoever is being answered is answered.
    pub fn close(&self) {
        let mut is_closed = self.is_closed.lock().unwrap_or_else(PoisonError::into_inner);
        *is_closed = true;
        // Somebody may have done it before.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Binds the socket at `path`, see [`Socket::bind`].
///
/// # Errors
/// If the folder is not there or not writable.
pub fn bind(path: &Path) -> Result<Socket> {
    let failed = |error| Failure::operator(text!("cannot bind `{}`", path.display())).caused_by(error);
    Socket::bind(path).map_err(failed)
}

/// Serves for as long as the process lives, on a thread of its own. A socket whose file was deleted is bound anew, and
/// `renewed` is told.
///
/// # Errors
/// If there is no thread to be had.
pub fn serve(mut socket: Socket, answer: Answerer, renewed: impl Fn(&Socket) + Send + 'static) -> Result<Served> {
    let is_closed = Arc::new(Mutex::new(false));
    let served = Served { path: socket.path().to_path_buf(), is_closed: Arc::clone(&is_closed) };
    let clients = Arc::new(AtomicUsize::new(0));
    let accept = move || {
        loop {
            {
                let is_closed = is_closed.lock().unwrap_or_else(PoisonError::into_inner);
                if *is_closed {
                    return;
                }
                // Not while it is being closed: its file would stay behind.
                keep_reachable(&mut socket, &renewed);
            }
            let stream = match socket.accept(turns::until_next(clock::now().mono)) {
                Ok(Some(stream)) => stream,
                Ok(None) => continue,
                Err(error) => {
                    warn!(%error, "cannot accept on the control socket");
                    thread::park_timeout(PAUSE);
                    continue;
                }
            };
            if clients.fetch_add(1, Ordering::AcqRel) >= MAX_CLIENTS {
                clients.fetch_sub(1, Ordering::AcqRel);
                continue;
            }
            let (answer, counted) = (Arc::clone(&answer), Arc::clone(&clients));
            let serve = move || {
                if let Err(error) = exchange(&stream, &answer) {
                    debug!(%error, "a client of the control socket went away");
                }
                counted.fetch_sub(1, Ordering::AcqRel);
            };
            if thread::Builder::new().name("control-client".to_owned()).spawn(serve).is_err() {
                clients.fetch_sub(1, Ordering::AcqRel);
            }
        }
    };
    let spawned = thread::Builder::new().name("control".to_owned()).spawn(accept);
    spawned.map_err(|error| Failure::operator(text!("cannot start a thread for control")).caused_by(error))?;
    Ok(served)
}

fn keep_reachable(socket: &mut Socket, renewed: &impl Fn(&Socket)) {
    if socket.is_reachable() {
        return;
    }
    match socket.renew() {
        Ok(()) => {
            warn!("the file of the control socket was deleted; it is there again");
            renewed(socket);
        }
        Err(error) => debug!(%error, "the control socket cannot be bound anew yet"),
    }
}

fn exchange(stream: &UnixStream, answer: &Answerer) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // The file's mode keeps others out; this holds even where somebody has loosened it.
    let peer = Uid::from_raw(getsockopt(stream, PeerCredentials)?.uid());
    if !peer.is_root() && peer != geteuid() {
        let message = text!("this service belongs to another user");
        return write_line(stream, &Response::Refused { message, hint: None });
    }
    let response = match read_line::<Request>(stream) {
        Ok(request) => answer(request),
        Err(error) if error.kind() == io::ErrorKind::InvalidData || error.kind() == io::ErrorKind::UnexpectedEof => {
            let hint = Some(text!("use the rtcctl that the service was started with"));
            Response::Refused { message: text!("cannot make sense of the request: {}", error), hint }
        }
        Err(error) => return Err(error),
    };
    write_line(stream, &response)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::control::client;
    use crate::home::Home;
    use crate::sys::lock::Lock;

    fn answerer() -> Answerer {
        Arc::new(|_| Response::Done)
    }

    /// What tells commands that there is a daemon.
    fn locked(home: &Home) -> Lock {
        std::fs::create_dir_all(home.state_dir()).unwrap();
        Lock::take(&home.lock_file()).unwrap()
    }

    #[test]
    fn a_socket_below_a_very_long_path_answers_its_owner_and_is_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(120)).join("e".repeat(120));
        std::fs::create_dir_all(&deep).unwrap();
        let home = Home::under(&deep);
        let _lock = locked(&home);
        let path = home.control_socket();
        drop(bind(&path).unwrap());
        let listener = bind(&path).expect("a left-over socket is replaced");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        serve(listener, answerer(), |_| {}).unwrap();
        assert_eq!(client::ask(&home, &Request::Status, PATIENCE).unwrap(), Response::Done);
    }

    #[test]
    fn garbage_is_refused_and_the_next_client_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::under(folder.path());
        let _lock = locked(&home);
        let path = home.control_socket();
        serve(bind(&path).unwrap(), answerer(), |_| {}).unwrap();
        let too_long = vec![b'['; 300 * 1024];
        for line in [&b"hello\n"[..], b"{\"ask\":\"fly\"}\n", b"\n", &too_long] {
            let mut stream = UnixStream::connect(&path).unwrap();
            // The server may have answered and gone before all of it was written.
            let _ = stream.write_all(line);
            let mut answer = String::new();
            if BufReader::new(stream).read_line(&mut answer).is_ok() && !answer.is_empty() {
                assert!(answer.contains("cannot make sense of the request"), "{answer}");
            }
        }
        assert_eq!(client::ask(&home, &Request::Status, PATIENCE).unwrap(), Response::Done);
    }
}
