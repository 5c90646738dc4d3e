//! Decides which lines are written: one that says the same again is counted, and told of when the count ends.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::record::Record;
use crate::sys::clock::Now;

/// How long a line's repetitions are counted before they are told.
const WINDOW: Duration = Duration::from_secs(10);
/// Lines whose repetitions are counted at a time.
const MAX_LINES: usize = 32;

/// The lines of the last moments.
#[derive(Debug, Default)]
pub(super) struct Collapse {
    /// The oldest first.
    seen: VecDeque<Seen>,
}

#[derive(Debug)]
struct Seen {
    record: Record,
    first_at: Instant,
    repeated: u64,
}

impl Collapse {
    /// What to write when `record` comes: counts that have ended, and the record unless it is a repetition.
    pub(super) fn handle(&mut self, record: Record, now: Now) -> Vec<Record> {
        let mut written = self.handle_timeout(now);
        if let Some(seen) = self.seen.iter_mut().find(|seen| is_same(&seen.record, &record)) {
            seen.repeated += 1;
            seen.record.at = record.at;
            return written;
        }
        if self.seen.len() == MAX_LINES {
            written.extend(self.seen.pop_front().and_then(Seen::told));
        }
        self.seen.push_back(Seen { record: record.clone(), first_at: now.mono, repeated: 0 });
        written.push(record);
        written
    }

    /// What to write of counts that end now.
    pub(super) fn handle_timeout(&mut self, now: Now) -> Vec<Record> {
        let mut written = Vec::new();
        while let Some(seen) = self.seen.front()
            && now.mono.saturating_duration_since(seen.first_at) >= WINDOW
        {
            written.extend(self.seen.pop_front().and_then(Seen::told));
        }
        written
    }

    /// What to write of all counts: nothing comes after this.
    pub(super) fn finish(&mut self) -> Vec<Record> {
        self.seen.drain(..).filter_map(Seen::told).collect()
    }
}

impl Seen {
    fn told(self) -> Option<Record> {
        let times = match self.repeated {
            0 => return None,
            1 => "once".to_owned(),
            many => format!("{many} times"),
        };
        let message = format!("{} (repeated {times})", self.record.message);
        Some(Record { message, ..self.record })
    }
}

fn is_same(one: &Record, other: &Record) -> bool {
    let parts = |record: &Record| (record.level, record.message.len(), record.fields.len());
    parts(one) == parts(other) && one.task == other.task && one.message == other.message && one.fields == other.fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;
    use crate::sys::log::record::Level;

    fn record(message: &str) -> Record {
        let at = clock::now().wall;
        Record { at, level: Level::Info, task: "web".to_owned(), message: message.to_owned(), fields: Vec::new() }
    }

    fn messages(records: Vec<Record>) -> Vec<String> {
        records.into_iter().map(|record| record.message).collect()
    }

    fn later(now: Now, span: Duration) -> Now {
        Now { mono: now.mono + span, wall: now.wall + span }
    }

    #[test]
    fn a_flood_of_one_line_is_two_lines_even_if_others_come_between() {
        let mut collapse = Collapse::default();
        let now = clock::now();
        assert_eq!(messages(collapse.handle(record("a"), now)), ["a"]);
        assert_eq!(messages(collapse.handle(record("b"), now)), ["b"]);
        for _ in 0..41 {
            assert!(collapse.handle(record("a"), now).is_empty());
        }
        assert!(collapse.handle(record("b"), now).is_empty());
        let end = later(now, WINDOW);
        let told = messages(collapse.handle(record("c"), end));
        assert_eq!(told, ["a (repeated 41 times)", "b (repeated once)", "c"]);
        assert_eq!(messages(collapse.handle(record("a"), end)), ["a"], "the next window begins with the line itself");
    }

    #[test]
    fn what_differs_in_anything_is_another_line() {
        let mut collapse = Collapse::default();
        let now = clock::now();
        let other = [
            Record { level: Level::Warn, ..record("a") },
            Record { task: "turn".to_owned(), ..record("a") },
            Record { fields: vec![("port".to_owned(), "1".to_owned())], ..record("a") },
            Record { fields: vec![("port".to_owned(), "2".to_owned())], ..record("a") },
        ];
        collapse.handle(record("a"), now);
        for record in other {
            assert_eq!(collapse.handle(record, now).len(), 1);
        }
    }

    #[test]
    fn counts_are_told_when_time_is_up_when_there_is_no_room_and_at_the_end() {
        let mut collapse = Collapse::default();
        let now = clock::now();
        for _ in 0..3 {
            collapse.handle(record("a"), now);
        }
        assert!(collapse.handle_timeout(later(now, WINDOW - Duration::from_secs(1))).is_empty());
        assert_eq!(messages(collapse.handle_timeout(later(now, WINDOW))), ["a (repeated 2 times)"]);
        for number in 0..MAX_LINES {
            collapse.handle(record(&number.to_string()), now);
            collapse.handle(record(&number.to_string()), now);
        }
        assert_eq!(messages(collapse.handle(record("next"), now)), ["0 (repeated once)", "next"]);
        assert_eq!(collapse.finish().len(), MAX_LINES - 1);
        assert!(collapse.finish().is_empty());
    }
}
