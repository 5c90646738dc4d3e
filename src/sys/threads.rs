//! Threads of this process, as the kernel sees them.

use std::fs;
use std::io;

use nix::libc;

/// The number by which the kernel knows this thread.
#[must_use]
pub fn own() -> i32 {
    nix::unistd::gettid().as_raw()
}

/// How many threads this process has.
#[must_use]
pub fn count() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// What a thread is at: its name, its state (`R` runs, `S` and `D` wait), the processor time it has had, where in the
/// kernel it waits, and in which system call. `None` if there is no such thread any more.
#[must_use]
pub fn describe(thread: i32) -> Option<String> {
    let read = |name: &str| fs::read_to_string(format!("/proc/self/task/{thread}/{name}")).ok();
    let stat = read("stat")?;
    // The name is in brackets and may have some itself.
    let (head, rest) = stat.rsplit_once(')')?;
    let name = head.split_once('(').map_or("", |(_, name)| name);
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let state = fields.first()?;
    let ticks: u64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
    let mut told = format!("{name} (thread {thread}): {state}, {} ms of processor time", ticks * 10);
    if let Some(place) = read("wchan").filter(|place| !place.is_empty() && place != "0") {
        told.push_str(&format!(", waits in {place}"));
    }
    if let Some(call) = read("syscall").and_then(|call| call.split(' ').next()?.trim().parse::<u32>().ok()) {
        told.push_str(&format!(", system call {call}"));
    }
    Some(told)
}

/// Gives a thread that cannot be ended as little of the processor as there is.
///
/// # Errors
/// If there is no such thread any more.
#[expect(unsafe_code, reason = "nix has no setpriority")]
pub fn lower_priority(thread: i32) -> io::Result<()> {
    const LOWEST: libc::c_int = 19;
    let thread = libc::id_t::try_from(thread).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the call takes numbers only. On Linux, a thread's number stands for that thread alone.
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, thread, LOWEST) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_described_and_given_the_lowest_priority_without_the_others() {
        let lowered = std::thread::Builder::new().name("lowered (a)".to_owned()).spawn(|| {
            lower_priority(own()).unwrap();
            let stat = fs::read_to_string(format!("/proc/self/task/{}/stat", own())).unwrap();
            let nice = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().to_owned();
            (describe(own()).unwrap(), nice, count())
        });
        let (told, nice, threads) = lowered.unwrap().join().unwrap();
        assert!(told.starts_with("lowered (a) (thread ") && told.contains("): R, "), "{told}");
        assert_eq!(nice, "19");
        assert!(threads >= 2);
        assert_eq!(describe(i32::MAX), None);
        assert!(lower_priority(i32::MAX).is_err());
        let own = fs::read_to_string(format!("/proc/self/task/{}/stat", own())).unwrap();
        assert_eq!(own.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap(), "0");
    }
}
