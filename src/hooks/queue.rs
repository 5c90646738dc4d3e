//! Decides which event is handed on next, and what becomes of one that could not be. One queue for each who is told.
//!
//! Events go out in order. One that is overtaken before anybody was told cancels out with what overtakes it: who is told
//! late should hear what is, not what was. The queue is bounded, and so are the tries of each event.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::{Rng, RngExt as _};

/// Events that may wait.
const MAX_WAITING: usize = 64;
/// Tries of one event: with these pauses, for about half an hour.
const MAX_TRIES: u32 = 12;
/// The first pause, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(300);

/// Something to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What it is about: the code and the subject of a finding.
    pub key: String,
    /// Whether it is wrong now, or right again.
    pub is_raised: bool,
    /// The JSON document.
    pub body: String,
}

#[derive(Debug)]
struct Waiting {
    event: Event,
    tries: u32,
    due: Instant,
}

/// What waits for one receiver.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: VecDeque<Waiting>,
    /// Why the last try failed, if it did.
    error: Option<String>,
    lost: u64,
}

impl Queue {
    /// Takes one more event.
    pub fn push(&mut self, event: Event, now: Instant) {
        let untold = |waiting: &Waiting| waiting.event.key == event.key && waiting.tries == 0;
        if let Some(place) = self.waiting.iter().rposition(untold) {
            if self.waiting[place].event.is_raised == event.is_raised {
                self.waiting[place].event = event;
            } else {
                self.waiting.remove(place);
            }
            return;
        }
        if self.waiting.len() == MAX_WAITING {
            self.waiting.pop_front();
            self.lost += 1;
        }
        self.waiting.push_back(Waiting { event, tries: 0, due: now });
    }

    /// The event to be told now. It stays the first until [`Queue::handle_told`] or [`Queue::handle_failed`].
    pub fn poll_due(&mut self, now: Instant) -> Option<&Event> {
        let first = self.waiting.front_mut().filter(|first| first.due <= now)?;
        first.tries += 1;
        Some(&first.event)
    }

    /// When [`Queue::poll_due`] has something.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.front().map(|first| first.due)
    }

    /// The first event was told.
    pub fn handle_told(&mut self) {
        self.waiting.pop_front();
        self.error = None;
    }

    /// The first event could not be told; `is_final`: nor will it ever be.
    pub fn handle_failed(&mut self, error: String, is_final: bool, now: Instant, rng: &mut impl Rng) {
        self.error = Some(error);
        let Some(first) = self.waiting.front_mut() else { return };
        if is_final || first.tries >= MAX_TRIES {
            self.waiting.pop_front();
            self.lost += 1;
            return;
        }
        let longest = FIRST_PAUSE.saturating_mul(1 << first.tries.saturating_sub(1).min(16)).min(LAST_PAUSE);
        // At least half of it: a receiver that is down is not asked at once again.
        first.due = now + longest.mul_f64(rng.random_range(0.5..=1.0));
    }

    /// Forgets everything: nobody is to be told any more.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Why the last try failed; `None`: it succeeded.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Events that nobody was told of.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;
    use crate::sys::clock;

    fn event(key: &str, is_raised: bool) -> Event {
        Event { key: key.to_owned(), is_raised, body: format!("{key} {is_raised}") }
    }

    fn told(queue: &mut Queue, now: Instant) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(event) = queue.poll_due(now) {
            told.push(event.body.clone());
            queue.handle_told();
        }
        told
    }

    #[test]
    fn events_go_out_in_order_and_what_nobody_heard_of_cancels_out() {
        let now = clock::now().mono;
        let mut queue = Queue::default();
        for (key, is_raised) in [("a", true), ("b", true), ("c", true), ("b", false), ("a", true)] {
            queue.push(event(key, is_raised), now);
        }
        assert_eq!(told(&mut queue, now), ["a true", "c true"]);
        queue.push(event("a", false), now);
        assert_eq!(told(&mut queue, now), ["a false"], "who heard of the one hears of the other");
    }

    #[test]
    fn an_event_that_may_have_been_heard_is_not_cancelled() {
        let now = clock::now().mono;
        let mut rng = StdRng::seed_from_u64(1);
        let mut queue = Queue::default();
        queue.push(event("a", true), now);
        assert!(queue.poll_due(now).is_some());
        queue.handle_failed("no answer".to_owned(), false, now, &mut rng);
        queue.push(event("a", false), now);
        assert_eq!(queue.poll_due(now), None, "not before the first");
        let later = queue.poll_timeout().unwrap();
        assert_eq!(told(&mut queue, later), ["a true", "a false"]);
        assert_eq!(queue.error(), None);
    }

    #[test]
    fn pauses_grow_and_an_event_is_given_up_after_half_an_hour() {
        let start = clock::now().mono;
        let (mut now, mut rng, mut queue) = (start, StdRng::seed_from_u64(1), Queue::default());
        queue.push(event("a", true), now);
        let mut tries = 0;
        while let Some(due) = queue.poll_timeout() {
            assert!(due - now <= LAST_PAUSE);
            now = due;
            assert!(queue.poll_due(now).is_some());
            queue.handle_failed("refused".to_owned(), false, now, &mut rng);
            tries += 1;
        }
        assert_eq!((tries, queue.lost(), queue.error()), (MAX_TRIES, 1, Some("refused")));
        let minutes = (now - start).as_secs() / 60;
        assert!((8..40).contains(&minutes), "{minutes}");
        queue.push(event("a", true), now);
        queue.poll_due(now).unwrap();
        queue.handle_failed("gone".to_owned(), true, now, &mut rng);
        assert_eq!((queue.poll_timeout(), queue.lost()), (None, 2));
    }

    #[test]
    fn it_is_bounded() {
        let now = clock::now().mono;
        let mut queue = Queue::default();
        for number in 0..200 {
            queue.push(event(&number.to_string(), true), now);
        }
        assert_eq!(queue.lost(), 200 - MAX_WAITING as u64);
        assert_eq!(told(&mut queue, now)[0], "136 true");
    }
}
