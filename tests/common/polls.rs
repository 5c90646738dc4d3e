//! Somebody who asks for a page again and again, each time by a connection of its own.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What `curl` says when a connection was refused.
const REFUSED: i32 = 7;
/// What it says when nobody answered in time.
const TIMED_OUT: i32 = 28;

/// Asks on a thread of its own.
pub(crate) struct Polls {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<(usize, usize, Duration)>,
}

impl Polls {
    pub(crate) fn of(port: u16) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let url = format!("https://localhost:{port}/healthz");
        let thread = thread::spawn(move || {
            let (mut answered, mut cut_off, mut longest) = (0, 0, Duration::ZERO);
            while !over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                #[expect(clippy::disallowed_methods, reason = "tests start programs")]
                let output = Command::new("curl").args(["-sk4", "--max-time", "30", &url]).output().unwrap();
                match output.status.code() {
                    Some(0) => answered += 1,
                    Some(REFUSED | TIMED_OUT) | None => panic!("nobody was there after {answered} answers: {output:?}"),
                    // It was in flight when its daemon ended.
                    Some(_) => cut_off += 1,
                }
                longest = longest.max(begun.elapsed());
                thread::park_timeout(Duration::from_millis(50));
            }
            (answered, cut_off, longest)
        });
        Self { is_over, thread }
    }

    /// What came of it, in words.
    pub(crate) fn end(self) -> String {
        self.is_over.store(true, Ordering::Relaxed);
        let (answered, cut_off, longest) = self.thread.join().unwrap();
        assert!(answered > 0);
        format!("{answered} pages, none refused, {cut_off} cut off in flight, the longest took {longest:?}")
    }
}
