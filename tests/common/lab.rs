//! A network of its own for the thread of a test, which nothing of the host can see.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

/// Runs `act` on a thread whose network has nothing but loopback; what it starts is in the same network. `false`: this
/// user may not make any, and the test is skipped.
pub(crate) fn in_a_network_of_its_own(act: impl FnOnce() + Send + 'static) -> bool {
    let inside = move || {
        if unshare(CloneFlags::CLONE_NEWNET).is_err() {
            return false;
        }
        ip("link set lo up");
        act();
        true
    };
    match std::thread::spawn(inside).join() {
        Ok(true) => true,
        Ok(false) => {
            super::common::skip("network namespaces need root");
            false
        }
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Runs `ip` in the network of this thread.
pub(crate) fn ip(line: &str) {
    let output =
        assert_cmd::Command::new("ip").args(line.split(' ')).timeout(Duration::from_secs(30)).output().unwrap();
    assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A request as it came: its first line, and the rest of its head in lower case.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) head: String,
}

/// A server of HTTP that answers whatever bytes it is told to.
pub(crate) struct FakeHttp {
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl FakeHttp {
    /// Listens in the network of this thread until the process ends.
    pub(crate) fn start(at: SocketAddr, answer: impl Fn(&Asked, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        let fake = Self { asked: Arc::default() };
        let (asked, answer) = (Arc::clone(&fake.asked), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, asked, answer) = (stream.unwrap(), Arc::clone(&asked), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") {
                        // Whoever only looks whether somebody listens asks nothing.
                        if !matches!(stream.read(&mut byte), Ok(1)) {
                            return;
                        }
                        head.push(byte[0]);
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    let (line, rest) = head.split_once("\r\n").unwrap();
                    let one = Asked { line: line.to_owned(), head: rest.to_ascii_lowercase() };
                    asked.lock().unwrap().push(one.clone());
                    answer(&one, &mut stream);
                });
            }
        });
        fake
    }

    /// What was asked, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// Writes an answer; nobody may be there to read it any more.
pub(crate) fn reply(stream: &mut TcpStream, status: u16, body: &str) {
    let text = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let _ = stream.write_all(text.as_bytes());
}
