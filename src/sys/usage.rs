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

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_takes_some_memory() {
        assert!(super::own().unwrap().memory_bytes > 1_000_000);
    }
}
