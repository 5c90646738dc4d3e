//! What this host gives the service.

use std::path::Path;

use crate::doctor::evidence::{Conntrack, Host};
use crate::setup::facts::host::host_kind;
use crate::setup::facts::network::routes;
use crate::sys::{process, udp};

pub(super) fn look() -> Host {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let entries = number("/proc/sys/net/netfilter/nf_conntrack_count");
    let limit = number("/proc/sys/net/netfilter/nf_conntrack_max");
    let routes = routes();
    let interface = routes.v4.or(routes.v6).map(|route| route.interface);
    let speed = |interface: &str| {
        // Names of interfaces have no slashes, but whoever could make one could point elsewhere.
        let path = Path::new("/sys/class/net").join(Path::new(interface).file_name()?).join("speed");
        // Minus one where the driver does not know.
        std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok().filter(|speed| *speed > 0 && *speed < 1_000_000)
    };
    Host {
        kind: host_kind(),
        open_files: process::open_files_hard_limit(),
        receive_buffer: number("/proc/sys/net/core/rmem_max"),
        send_buffer: number("/proc/sys/net/core/wmem_max"),
        may_force_buffers: udp::may_force_buffers(),
        conntrack: entries.zip(limit).map(|(entries, limit)| Conntrack { entries, limit }),
        memory_bytes: std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text)),
        link: interface.map(|interface| {
            let speed = speed(&interface);
            (interface, speed)
        }),
    }
}

/// The bytes that could be had without swapping.
fn available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read() {
        assert_eq!(available("MemTotal: 5 kB\nMemAvailable:     1024 kB\n"), Some(1 << 20));
        assert_eq!(available("MemTotal: 5 kB\n"), None);
    }
}
