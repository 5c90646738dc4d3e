//! The panic hook: what happened, where, on which way, and what the task had logged before.

use std::backtrace::Backtrace;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::capsule::{Capsule, frames};
use super::events::{Event, EventKind, Journal};
use super::instance::Instance;
use crate::sys::clock;

/// Panics of which more than a log line is kept, within [`WINDOW`]: a request that panics may come very often.
const MAX_CAPSULES: u32 = 30;
const WINDOW: Duration = Duration::from_secs(60);

/// Keeps a capsule of each panic from now on: its task gets it, or the journal if the thread belongs to none.
pub fn watch(journal: Journal) {
    let kept = Mutex::new(Kept::default());
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "panic: {text}");
        let now = clock::now();
        // Nothing here may wait: the thread that panics may be the one that holds the lock.
        if !kept.try_lock().is_ok_and(|mut kept| kept.may_keep(now.mono)) {
            return;
        }
        let owner = Instance::of_this_thread();
        let capsule = capsule(text, place, owner.as_deref());
        match owner {
            Some(instance) => instance.handle_panic(capsule),
            None => {
                let cause = format!("the thread `{}` panicked: {text}", capsule.thread);
                journal.try_record(Event::new(EventKind::Panic, None, &cause, now).with_capsule(capsule));
            }
        }
    }));
}

fn capsule(text: &str, place: Option<String>, owner: Option<&Instance>) -> Capsule {
    Capsule {
        message: text.to_owned(),
        place,
        thread: thread::current().name().unwrap_or("without a name").to_owned(),
        backtrace: frames(&Backtrace::force_capture().to_string()),
        threads: Vec::new(),
        log: owner.map(Instance::log).unwrap_or_default(),
    }
    .bounded()
}

#[derive(Default)]
struct Kept {
    since: Option<Instant>,
    count: u32,
}

impl Kept {
    fn may_keep(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            *self = Self { since: Some(now), count: 0 };
        }
        self.count += 1;
        self.count <= MAX_CAPSULES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flood_of_panics_only_the_first_are_kept_and_a_minute_later_others() {
        let (mut kept, now) = (Kept::default(), clock::now().mono);
        let may = |kept: &mut Kept, at| (0..1000).filter(|_| kept.may_keep(at)).count();
        assert_eq!(may(&mut kept, now), MAX_CAPSULES as usize);
        assert_eq!(may(&mut kept, now + WINDOW), MAX_CAPSULES as usize);
    }
}
