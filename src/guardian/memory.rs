//! Whether the kernel has killed processes for lack of memory: its counters before and after.

use std::path::{Path, PathBuf};

/// Kills so far, by who counts them. `None`: it does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kills {
    /// In this process's control group: the daemon is in it, and few others are.
    group: Option<u64>,
    /// On the whole host.
    host: Option<u64>,
}

impl Kills {
    /// Reads the counters of this moment.
    pub(super) fn read() -> Self {
        let text = |path: &Path| std::fs::read_to_string(path).ok();
        let group = text(Path::new("/proc/self/cgroup")).and_then(|text| group_folder(&text));
        let events = group.and_then(|folder| text(&folder.join("memory.events")));
        Self {
            group: events.and_then(|text| counter(&text, "oom_kill")),
            host: text(Path::new("/proc/vmstat")).and_then(|text| counter(&text, "oom_kill")),
        }
    }

    /// What can be said of a process that was killed between `before` and these.
    pub(super) fn verdict(self, before: Self) -> Option<&'static str> {
        let has_risen = |now: Option<u64>, then: Option<u64>| now.zip(then).is_some_and(|(now, then)| now > then);
        if has_risen(self.group, before.group) {
            Some("by the kernel, for lack of memory in its control group (see `dmesg`)")
        } else if has_risen(self.host, before.host) {
            Some("most likely by the kernel, which has just killed for lack of memory (see `dmesg`)")
        } else {
            None
        }
    }
}

/// The folder of this process's group, from `/proc/self/cgroup`.
fn group_folder(text: &str) -> Option<PathBuf> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new("/sys/fs/cgroup").join(path))
}

fn counter(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_their_whole_name() {
        let text = "low 0\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(counter(text, "oom_kill"), Some(2));
        assert_eq!(counter(text, "oom"), Some(3));
        assert_eq!(counter(text, "max"), None);
        let folder = group_folder("1:name=x:/y\n0::/system.slice/rtcctl.service\n");
        assert_eq!(folder.unwrap(), Path::new("/sys/fs/cgroup/system.slice/rtcctl.service"));
        assert_eq!(group_folder("4:memory:/x\n"), None);
    }

    #[test]
    fn only_a_counter_that_rose_tells_of_a_lack_of_memory() {
        let kills = |group, host| Kills { group, host };
        assert_eq!(kills(Some(1), Some(5)).verdict(kills(Some(1), Some(5))), None);
        assert!(kills(Some(2), Some(6)).verdict(kills(Some(1), Some(5))).unwrap().starts_with("by the kernel"));
        assert!(kills(Some(1), Some(6)).verdict(kills(Some(1), Some(5))).unwrap().starts_with("most likely"));
        assert_eq!(kills(None, Some(6)).verdict(kills(None, None)), None);
        assert!(Kills::read().host.is_some(), "Linux tells since 4.13");
    }
}
