//! What this process takes from the machine.

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// Memory and processor time of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory.
    pub memory_bytes: u64,
    /// Processor time since the start, of all threads together.
    pub cpu_ms: u64,
}

/// The usage of this process; `None` where the system does not tell.
#[must_use]
pub fn own() -> Option<Usage> {
    let pid = Pid::from_u32(std::process::id());
    let mut system = System::new().ok()?;
    let wanted = ProcessRefreshKind::nothing().with_memory().with_cpu();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, wanted);
    let process = system.process(pid)?;
    Some(Usage { memory_bytes: process.memory(), cpu_ms: process.accumulated_cpu_time() })
}

/// A thread and the processor time it has had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadUsage {
    pub name: String,
    pub cpu_ms: u64,
}

/// The threads of this process.
#[must_use]
pub fn threads() -> Vec<ThreadUsage> {
    let Ok(entries) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let of = |folder: std::path::PathBuf| {
        let name = std::fs::read_to_string(folder.join("comm")).ok()?.trim_end().to_owned();
        let cpu_ms =
            nanoseconds(&folder).map(|spent| spent / 1_000_000).or_else(|| ticks(&folder).map(|ticks| ticks * 10))?;
        Some(ThreadUsage { name, cpu_ms })
    };
    // One that has just ended has no files any more.
    entries.flatten().filter_map(|entry| of(entry.path())).collect()
}

/// Exact, on kernels that keep it.
fn nanoseconds(folder: &std::path::Path) -> Option<u64> {
    std::fs::read_to_string(folder.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
}

/// In hundredths of a second, see proc(5): fields 14 and 15, after a name that may have anything in it.
fn ticks(folder: &std::path::Path) -> Option<u64> {
    let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// How many files and sockets this process has open.
#[must_use]
pub fn descriptors() -> u64 {
    // The one by which they are counted is among them.
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| (entries.count() as u64).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_thread_is_found_by_its_name_with_the_time_it_has_had() {
        let busy = || {
            let folder = std::path::Path::new("/proc/thread-self");
            let mut rounds = 0_u64;
            while super::ticks(folder).unwrap() < 2 {
                rounds += 1;
            }
            assert!(rounds > 0);
            let own = super::threads().into_iter().find(|thread| thread.name == "usage-test").unwrap();
            let exact = super::nanoseconds(folder).map_or(own.cpu_ms, |spent| spent / 1_000_000);
            assert!(own.cpu_ms >= 5 && exact >= own.cpu_ms, "{own:?} {exact}");
        };
        std::thread::Builder::new().name("usage-test".to_owned()).spawn(busy).unwrap().join().unwrap();
    }

    #[test]
    fn open_files_are_counted() {
        assert!(super::descriptors() >= 3);
    }

    #[test]
    fn this_process_takes_some_memory() {
        assert!(super::own().unwrap().memory_bytes > 1_000_000);
    }
}
