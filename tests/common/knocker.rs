//! Somebody who connects again and again, and counts what is refused.

use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Connects on a thread of its own, to every port.
pub(crate) struct Knocker {
    is_over: Arc<AtomicBool>,
    knocks: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<String>>,
}

impl Knocker {
    pub(crate) fn at(ports: &[u16]) -> Self {
        let ports = ports.to_vec();
        let (is_over, knocks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (over, count) = (Arc::clone(&is_over), Arc::clone(&knocks));
        let thread = thread::spawn(move || {
            let mut refused = Vec::new();
            while !over.load(Ordering::Relaxed) {
                for port in &ports {
                    match TcpStream::connect((Ipv4Addr::LOCALHOST, *port)) {
                        Ok(_) => drop(count.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => refused.push(format!("{port}: {error}")),
                    }
                }
                // So many at a time as fit into a listener that nobody reads for a while.
                thread::park_timeout(Duration::from_millis(10));
            }
            refused
        });
        Self { is_over, knocks, thread }
    }

    /// How often it was let in.
    pub(crate) fn end(self) -> usize {
        self.is_over.store(true, Ordering::Relaxed);
        assert_eq!(self.thread.join().unwrap(), Vec::<String>::new());
        self.knocks.load(Ordering::Relaxed)
    }
}
