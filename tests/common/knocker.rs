//! Somebody who connects again and again, and counts what is refused.

use std::fs::File;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

/// Connects on a thread of its own, to every port.
pub(crate) struct Knocker {
    is_over: Arc<AtomicBool>,
    knocks: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<String>>,
}

impl Knocker {
    pub(crate) fn at(ports: &[u16]) -> Self {
        Self::start(ports.to_vec(), None)
    }

    /// In the network of another process.
    pub(crate) fn within(pid: u32, ports: &[u16]) -> Self {
        Self::start(ports.to_vec(), Some(File::open(format!("/proc/{pid}/ns/net")).unwrap()))
    }

    fn start(ports: Vec<u16>, network: Option<File>) -> Self {
        let (is_over, knocks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (over, count) = (Arc::clone(&is_over), Arc::clone(&knocks));
        let thread = thread::spawn(move || {
            if let Some(network) = network {
                setns(network, CloneFlags::CLONE_NEWNET).unwrap();
            }
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

    /// How often it was let in so far.
    pub(crate) fn count(&self) -> usize {
        self.knocks.load(Ordering::Relaxed)
    }

    /// How often it was let in.
    pub(crate) fn end(self) -> usize {
        self.is_over.store(true, Ordering::Relaxed);
        assert_eq!(self.thread.join().unwrap(), Vec::<String>::new());
        self.knocks.load(Ordering::Relaxed)
    }
}
