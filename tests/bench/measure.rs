//! What is read from the machine: the clock, and what a process has used.

use std::fs;
use std::time::{Duration, Instant};

/// Nanoseconds since the generator began, as they are written into packets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "a measurement reads the clock for each packet, and one clock only")]
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).expect("a run does not last 584 years")
    }
}

pub(crate) const fn nanos(duration: Duration) -> u64 {
    duration.as_secs() * 1_000_000_000 + duration.subsec_nanos() as u64
}

/// What a process has used since it began.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Nanoseconds of CPU, by the scheduler's account, of all threads.
    pub(crate) cpu: u64,
    /// Times a thread went to sleep.
    pub(crate) sleeps: u64,
}

/// Sums up the threads of `pids`. What has ended counts nothing.
pub(crate) fn usage(pids: &[u32]) -> Usage {
    let mut sum = Usage::default();
    for pid in pids {
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for thread in threads.flatten() {
            let read = |name: &str| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
            // Time on the CPU, time waiting for one, time slices. Documentation/scheduler/sched-stats.rst.
            sum.cpu += read("schedstat").split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0);
            sum.sleeps += field(&read("status"), "voluntary_ctxt_switches:").unwrap_or(0);
        }
    }
    sum
}

/// Bytes of a process that are in memory.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    Some(field(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:")? * 1024)
}

/// The number that follows `name` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The value below which `share` of all are.
pub(crate) fn percentile(sorted: &[u32], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    Some(f64::from(sorted[(last as f64 * share).round() as usize]))
}

pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    Some(f64::midpoint(sorted[last / 2], sorted[last.div_ceil(2)]))
}
