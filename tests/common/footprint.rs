//! What a process has of the kernel.

use std::collections::HashSet;
use std::time::Duration;

use rtcctl::sys::clock;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Footprint {
    pub(crate) descriptors: usize,
    /// Those of them that are TCP connections whose other end is there, too: how many is up to the clients.
    pub(crate) connections: usize,
    pub(crate) threads: usize,
    /// What is mapped of files is not the process's own.
    pub(crate) memory_kib: u64,
}

impl Footprint {
    pub(crate) fn of(pid: u32) -> Self {
        let count = |name: &str| std::fs::read_dir(format!("/proc/{pid}/{name}")).unwrap().count();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let memory = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        let memory_kib = memory.split_whitespace().next().unwrap().parse().unwrap();
        Self { descriptors: count("fd"), connections: connections(pid), threads: count("task"), memory_kib }
    }

    /// The first that is as it should be, or the last one within `patience`.
    pub(crate) fn once(pid: u32, patience: Duration, is_right: impl Fn(Self) -> bool) -> Self {
        let end = clock::now().mono + patience;
        loop {
            let found = Self::of(pid);
            if is_right(found) || clock::now().mono > end {
                return found;
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }
}

fn connections(pid: u32) -> usize {
    let lists =
        ["tcp", "tcp6"].map(|name| std::fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default());
    let rows = lists.iter().flat_map(|list| list.lines().skip(1));
    let established: HashSet<String> = rows
        .map(|row| row.split_whitespace().collect::<Vec<_>>())
        // ESTABLISHED; see proc(5).
        .filter(|fields| fields[3] == "01")
        .map(|fields| format!("socket:[{}]", fields[9]))
        .collect();
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = links.filter_map(|link| std::fs::read_link(link.ok()?.path()).ok());
    links.filter(|link| link.to_str().is_some_and(|link| established.contains(link))).count()
}
