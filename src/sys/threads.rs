//! Threads of this process, as the kernel sees them.

use std::fs;
use std::io;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};

use nix::libc;

/// The number by which the kernel knows this thread.
#[must_use]
pub fn own() -> i32 {
    nix::unistd::gettid().as_raw()
}

/// Wakes this thread, where it has parked itself to wait for a future.
#[must_use]
pub fn unparking() -> Waker {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    Arc::new(Unpark(thread::current())).into()
}

/// How many threads this process has.
#[must_use]
pub fn count() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// What a thread is at, as the files of its folder in `/proc` say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Activity {
    /// As proc_pid_stat(5) has it: `R` runs, `S` and `D` wait.
    pub state: String,
    /// Ticks of processor time in user mode and in the kernel.
    pub ticks: [u64; 2],
    /// Where in the kernel it waits; empty if it does not, or may not be told.
    pub place: String,
    /// The number of its system call.
    pub call: Option<u32>,
}

impl Activity {
    /// Reads what the files `stat`, `wchan` and `syscall` say; what is not there is left out.
    #[must_use]
    pub fn read(stat: &str, wait: &str, call: &str) -> Self {
        // The name is in brackets and may have some itself. Fields are counted from the third one on.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse().ok()).unwrap_or_default();
        Self {
            state: fields.first().copied().unwrap_or_default().to_owned(),
            ticks: [ticks(11), ticks(12)],
            place: wait.trim().trim_start_matches('0').to_owned(),
            // The rest of that line are addresses, which are nobody's business.
            call: call.split_whitespace().next().and_then(|call| call.parse().ok()),
        }
    }
}

/// What a thread of this process is at, in words. `None` if there is no such thread any more.
#[must_use]
pub fn describe(thread: i32) -> Option<String> {
    let read = |name: &str| fs::read_to_string(format!("/proc/self/task/{thread}/{name}")).ok();
    let stat = read("stat")?;
    let name = stat.rsplit_once(')')?.0.split_once('(').map_or("", |(_, name)| name);
    let optional = |name: &str| read(name).unwrap_or_default();
    let Activity { state, ticks, place, call } = Activity::read(&stat, &optional("wchan"), &optional("syscall"));
    let milliseconds = ticks.iter().sum::<u64>() * 10;
    let mut told = format!("{name} (thread {thread}): {state}, {milliseconds} ms of processor time");
    if !place.is_empty() {
        told.push_str(&format!(", waits in {place}"));
    }
    told.extend(call.map(|call| format!(", system call {call}")));
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
        let nice = || {
            let stat = fs::read_to_string(format!("/proc/self/task/{}/stat", own())).unwrap();
            stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().to_owned()
        };
        let before = nice();
        let lowered = thread::Builder::new().name("lowered (a)".to_owned()).spawn(move || {
            lower_priority(own()).unwrap();
            (describe(own()).unwrap(), nice(), count())
        });
        let (told, lowest, threads) = lowered.unwrap().join().unwrap();
        assert!(told.starts_with("lowered (a) (thread ") && told.contains("): R, "), "{told}");
        assert_eq!(lowest, "19");
        assert!(threads >= 2);
        assert_eq!(describe(i32::MAX), None);
        assert!(lower_priority(i32::MAX).is_err());
        assert_eq!(nice(), before);
    }
}
