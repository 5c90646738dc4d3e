//! Somebody who asks for a page again and again, each time by a connection of its own.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Asks on a thread of its own.
pub(crate) struct Polls {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Duration)>,
}

impl Polls {
    pub(crate) fn of(port: u16) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let url = format!("https://localhost:{port}/healthz");
        let thread = thread::spawn(move || {
            let (mut answered, mut longest) = (0, Duration::ZERO);
            while !over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                #[expect(clippy::disallowed_methods, reason = "tests start programs")]
                let output = Command::new("curl").args(["-sk4", "--max-time", "30", &url]).output().unwrap();
                assert!(output.status.success(), "refused or cut off after {answered} answers: {output:?}");
                answered += 1;
                longest = longest.max(begun.elapsed());
                thread::park_timeout(Duration::from_millis(50));
            }
            (answered, longest)
        });
        Self { is_over, thread }
    }

    /// What came of it, in words.
    pub(crate) fn end(self) -> String {
        self.is_over.store(true, Ordering::Relaxed);
        let (answered, longest) = self.thread.join().unwrap();
        assert!(answered > 0);
        format!("{answered} pages, none refused or cut off, the longest took {longest:?}")
    }
}
