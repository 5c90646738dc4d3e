//! The last log lines of a part of the program, kept for the day it fails.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::clock;

/// Lines that are kept.
const KEPT: usize = 50;
/// Bytes of one line.
const MAX_LINE: usize = 400;

thread_local! {
    static FOLLOWED: RefCell<Option<Arc<Tail>>> = const { RefCell::new(None) };
}

/// The last lines that some threads have logged.
#[derive(Debug, Default)]
pub struct Tail {
    lines: Mutex<VecDeque<String>>,
}

impl Tail {
    /// Keeps what this thread logs from now on.
    pub fn follow(self: &Arc<Self>) {
        FOLLOWED.with_borrow_mut(|followed| *followed = Some(Arc::clone(self)));
    }

    /// Oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn push(&self, line: String) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// Hands each line to the tail that its thread follows. Belongs behind the filter that decides what is logged.
#[derive(Debug, Clone, Copy, Default)]
pub struct TailLayer;

impl<S: Subscriber> Layer<S> for TailLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // A thread that is ending has no such variable any more.
        let tail = FOLLOWED.try_with(|followed| followed.try_borrow().ok()?.clone()).ok().flatten();
        let Some(tail) = tail else { return };
        let mut line = Line(clock::rfc3339(clock::now().wall));
        // Writing to a string cannot fail.
        let _ = write!(line.0, " {:>5}", event.metadata().level());
        event.record(&mut line);
        tail.push(line.0);
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if self.0.len() > MAX_LINE {
            return;
        }
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
        if self.0.len() > MAX_LINE {
            let end = (0..=MAX_LINE).rev().find(|end| self.0.is_char_boundary(*end)).unwrap_or(0);
            self.0.truncate(end);
            self.0.push_str("...");
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::{debug, info};
    use tracing_subscriber::filter::LevelFilter;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn a_thread_s_last_lines_are_kept_and_those_of_others_are_not() {
        let tail = Arc::new(Tail::default());
        let subscriber = tracing_subscriber::registry().with(LevelFilter::INFO).with(TailLayer);
        tracing::subscriber::with_default(subscriber, || {
            info!("nobody follows yet");
            tail.follow();
            debug!("filtered out");
            for number in 0..KEPT + 3 {
                info!(number, name = "web", "a line");
            }
            info!(long = "ä".repeat(1000), "ends");
        });
        let lines = tail.lines();
        assert_eq!(lines.len(), KEPT);
        assert!(lines[0].ends_with("Z  INFO a line number=4 name=\"web\""), "{}", lines[0]);
        assert!(lines[KEPT - 1].len() < MAX_LINE + 10 && lines[KEPT - 1].ends_with("..."), "{}", lines[KEPT - 1]);
    }
}
