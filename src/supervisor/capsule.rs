//! What is kept of a panic or a hang: enough to find the fault without having seen it.

use serde::{Deserialize, Serialize};

/// Characters that a message or a line may have.
const MAX_LINE: usize = 400;
/// Lines of a backtrace.
const MAX_FRAMES: usize = 80;
/// Threads that are described.
const MAX_THREADS: usize = 16;

/// The circumstances of one fault. Bounded, since it is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capsule {
    pub message: String,
    /// Source file, line and column of a panic.
    #[serde(default)]
    pub place: Option<String>,
    /// The thread that panicked, or the loop that stands still.
    pub thread: String,
    /// The way to a panic, innermost first.
    #[serde(default)]
    pub backtrace: Vec<String>,
    /// What the threads of an instance that hangs were at.
    #[serde(default)]
    pub threads: Vec<String>,
    /// The last lines that the task has logged.
    #[serde(default)]
    pub log: Vec<String>,
}

impl Capsule {
    /// Cuts everything to its bounds.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.message = cut(&self.message);
        self.backtrace.truncate(MAX_FRAMES);
        self.threads.truncate(MAX_THREADS);
        for line in self.backtrace.iter_mut().chain(&mut self.threads).chain(&mut self.log) {
            if line.len() > MAX_LINE {
                *line = cut(line);
            }
        }
        self
    }
}

/// A text of bounded length.
#[must_use]
pub fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_LINE) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// The frames of a printed backtrace that lie between the panic and the thread's beginning, a line each.
#[must_use]
pub fn frames(printed: &str) -> Vec<String> {
    let mut frames: Vec<String> = Vec::new();
    for line in printed.lines().map(str::trim) {
        // A place belongs to the frame before it.
        match (line.strip_prefix("at "), frames.last_mut()) {
            (Some(place), Some(frame)) => *frame = format!("{frame} at {place}"),
            (_, _) => frames.push(line.split_once(": ").map_or(line, |(_, name)| name).to_owned()),
        }
    }
    let is_machinery =
        |frame: &String| ["rust_begin_unwind", "core::panicking"].iter().any(|name| frame.contains(name));
    let begin = frames.iter().rposition(is_machinery).map_or(0, |last| last + 1);
    let frames = &frames[begin..];
    let end = frames.iter().position(|frame| frame.contains("__rust_begin_short_backtrace")).unwrap_or(frames.len());
    frames[..end].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backtrace_is_told_from_the_panic_to_the_beginning_of_the_thread() {
        let printed = "   0: std::backtrace::Backtrace::force_capture\n             at /rustc/lib.rs:1:2
   1: rust_begin_unwind\n   2: core::panicking::panic_fmt\n             at /rustc/core.rs:3:4
   3: rtcctl::web::task::answer\n             at ./src/web/task.rs:12:5\n   4: rtcctl::web::serve
   5: std::sys::backtrace::__rust_begin_short_backtrace\n   6: start_thread\n";
        assert_eq!(frames(printed), ["rtcctl::web::task::answer at ./src/web/task.rs:12:5", "rtcctl::web::serve"]);
        assert_eq!(frames("disabled backtrace"), ["disabled backtrace"]);
        assert_eq!(frames(""), Vec::<String>::new());
    }

    #[test]
    fn a_capsule_is_bounded_whatever_goes_in() {
        let long = "ä".repeat(10_000);
        let capsule = Capsule {
            message: long.clone(),
            backtrace: vec![long.clone(); 1000],
            threads: vec![long.clone(); 100],
            log: vec![long; 50],
            ..Capsule::default()
        };
        let bytes = serde_json::to_vec(&capsule.bounded()).unwrap().len();
        assert!(bytes < 150_000, "{bytes} bytes");
    }
}
