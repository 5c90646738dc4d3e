//! What the threads of a process are at, read from `/proc` before it is killed.

use std::path::Path;

use crate::sys::threads::Activity;

/// Threads that are written down at most.
const MAX_THREADS: usize = 64;

/// One line for each thread of `pid`, as far as this user may see it.
pub(super) fn threads(pid: u32) -> Vec<String> {
    let folder = Path::new("/proc").join(pid.to_string()).join("task");
    let mut numbers: Vec<u32> = std::fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let left_out = numbers.len().saturating_sub(MAX_THREADS);
    let read = |number: &u32| {
        let file = |name: &str| std::fs::read_to_string(folder.join(number.to_string()).join(name)).unwrap_or_default();
        line(*number, &file("comm"), &file("stat"), &file("wchan"), &file("syscall"))
    };
    let mut lines: Vec<String> = numbers.iter().take(MAX_THREADS).map(read).collect();
    lines.extend((left_out > 0).then(|| format!("and {left_out} threads more")));
    lines
}

/// A thread in words, from four files below its folder.
fn line(number: u32, name: &str, stat: &str, wait: &str, call: &str) -> String {
    let Activity { state, ticks, place, call } = Activity::read(stat, wait, call);
    let state = match state.as_str() {
        "R" => "running",
        "S" => "sleeping",
        "D" => "waiting for a device",
        "T" => "stopped by a signal",
        "t" => "stopped by a tracer",
        "Z" => "ended",
        _ => "in an unknown state",
    };
    let mut line = format!("thread {number} `{}` is {state}", name.trim());
    if !place.is_empty() {
        line.push_str(&format!(" in {place}"));
    }
    line.extend(call.map(|call| format!(", system call {call}")));
    line.push_str(&format!(", processor time {} + {} ticks", ticks[0], ticks[1]));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_told_in_words() {
        let stat = "42 (we) b) S 1 42 42 0 -1 4194304 100 0 0 0 17 4 0 0 20 0 9 0 1000 1 1";
        let told = line(42, "we) b\n", stat, "futex_do_wait", "202 0x7f00 0x80 0x0\n");
        assert_eq!(
            told,
            "thread 42 `we) b` is sleeping in futex_do_wait, system call 202, processor time 17 + 4 ticks"
        );
        let told = line(7, "busy\n", "7 (busy) R 1 7 7 0 -1 0 0 0 0 0 900 0", "0", "running\n");
        assert_eq!(told, "thread 7 `busy` is running, processor time 900 + 0 ticks");
        assert!(line(7, "", "", "", "").contains("unknown state"));
    }

    #[test]
    fn the_threads_of_this_process_are_found() {
        let lines = threads(std::process::id());
        assert!(lines.len() > 1 && lines.iter().any(|line| line.contains("is running")), "{lines:?}");
        assert_eq!(threads(u32::MAX), Vec::<String>::new());
    }
}
