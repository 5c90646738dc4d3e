//! Many who come at once, again and again: each connects, shakes hands, asks for a file and hears the answer out.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::stream_client::shake_hands;

/// Who takes longer than this from its connection on is slow, as all are where the machine is: an end waits no longer.
const SLOW: Duration = Duration::from_millis(900);
/// How long one of them waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);
const REFUSED: &str = "refused";
const ASKED: &[u8] = b"GET /ca.crt HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Clients on threads of their own.
pub(crate) struct Storm {
    is_over: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Storm {
    /// `clients` at a time, who pause between two visits for as long as is given.
    pub(crate) fn of(clients: usize, port: u16, pause: Duration) -> Self {
        let (is_over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let threads = (0..clients).map(|_| {
            let (is_over, answered) = (Arc::clone(&is_over), Arc::clone(&answered));
            thread::spawn(move || {
                let mut failures = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    match visit(port) {
                        Ok(()) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                        Err(failure) if begun.elapsed() < SLOW || failure.starts_with(REFUSED) => {
                            failures.push(failure)
                        }
                        Err(_) => {}
                    }
                    thread::park_timeout(pause);
                }
                failures
            })
        });
        let threads = threads.collect();
        Self { is_over, answered, threads }
    }

    /// How many visits were answered: all but those of somebody slow.
    pub(crate) fn end(self) -> usize {
        self.is_over.store(true, Ordering::Relaxed);
        let failures: Vec<String> = self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        let answered = self.answered.load(Ordering::Relaxed);
        assert_eq!(failures, Vec::<String>::new(), "besides {answered} that were answered");
        answered
    }
}

fn visit(port: u16) -> Result<(), String> {
    ask(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(|error| format!("{REFUSED}: {error}"))?)
}

/// Shakes hands over a connection and asks for the file. An error says how far that went.
pub(crate) fn ask(stream: TcpStream) -> Result<(), String> {
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
    let mut stream =
        shake_hands(stream, &["http/1.1"]).map_err(|error| format!("cut off while shaking hands: {error}"))?;
    stream.write_all(ASKED).map_err(|error| format!("cut off while asking: {error}"))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|error| format!("cut off while waiting: {error}"))?;
    if answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(b"-----END CERTIFICATE-----\n") {
        return Ok(());
    }
    Err(format!("answered by {:?}", String::from_utf8_lossy(&answer)))
}
