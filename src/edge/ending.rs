//! The orderly end, for those who are connected: whoever came a moment ago is answered first.

use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::sys::clock;

/// How long the end waits for what was begun, however slow somebody is.
pub(super) const FINISHED_WITHIN: Duration = Duration::from_secs(1);
/// The age at which a connection is not waited for any more. One that has said nothing for so long, as those which
/// browsers make in advance, will not ask just now.
const ASKS_WITHIN: Duration = Duration::from_secs(2);
/// What is not answered after so long is a long poll, or slow.
const ANSWERED_SOON: Duration = Duration::from_millis(250);

/// Knows whether the end has come, and what is to be finished before. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Ending {
    closing: CancellationToken,
    begun: TaskTracker,
}

/// Something that was begun: for as long as somebody holds it, within bounds, the tasks are there to finish it.
pub(super) struct Begun {
    _counts: TaskTrackerToken,
}

/// A connection, which is waited for until it has asked for something.
pub(super) struct Visit {
    ending: Ending,
    came_at: Instant,
    asked: CancellationToken,
    arriving: Mutex<Option<Begun>>,
}

impl Ending {
    /// It has come once `closing` is cancelled.
    pub(super) fn at(closing: CancellationToken) -> Self {
        Self { closing, begun: TaskTracker::new() }
    }

    pub(super) fn has_come(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Somebody comes.
    pub(super) fn visit(&self) -> Visit {
        Visit {
            ending: self.clone(),
            came_at: clock::now().mono,
            asked: CancellationToken::new(),
            arriving: Mutex::new(Some(self.begin())),
        }
    }

    /// Waits until all that was begun is finished, if that is soon. To be called when nobody is let in any more.
    pub(super) async fn finished(&self) {
        self.begun.close();
        // Who has not come to it by then is slow.
        let _ = timeout(FINISHED_WITHIN, self.begun.wait()).await;
    }

    fn begin(&self) -> Begun {
        Begun { _counts: self.begun.token() }
    }
}

impl Visit {
    /// A request has come.
    pub(super) fn asks(&self) -> Begun {
        let request = self.ending.begin();
        self.asked.cancel();
        self.has_arrived();
        request
    }

    /// Waits for the first request.
    pub(super) async fn asked(&self) {
        self.asked.cancelled().await;
    }

    /// Waits until the end has come and a first request is not waited for any more.
    pub(super) async fn over(&self) {
        self.ending.closing.cancelled().await;
        let age = clock::now().mono.saturating_duration_since(self.came_at);
        let _ = timeout(patience(age), self.asked()).await;
        self.has_arrived();
    }

    /// Waits until the end has come and the visitor, told to leave, may be gone: what it has asked meanwhile is answered.
    pub(super) async fn leaves<T>(&self, leaving: impl Future<Output = T>) -> T {
        self.ending.begin().soon(leaving).await
    }

    fn has_arrived(&self) {
        drop(self.arriving.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Begun {
    /// What `answer` comes to, which is waited for at the end if it comes soon.
    pub(super) async fn soon<T>(self, answer: impl Future<Output = T>) -> T {
        let mut answer = pin!(answer);
        let late = tokio::select! {
            answer = answer.as_mut() => return answer,
            () = sleep(ANSWERED_SOON) => answer,
        };
        drop(self);
        late.await
    }
}

/// How long a connection of that age is waited for at the end.
fn patience(age: Duration) -> Duration {
    ASKS_WITHIN.saturating_sub(age).min(FINISHED_WITHIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    /// Whether the end waits, as far as can be seen at once.
    async fn waits(ending: &Ending) -> bool {
        timeout(Duration::from_millis(10), ending.finished()).await.is_err()
    }

    #[test]
    fn who_came_just_now_is_waited_for_and_who_has_been_silent_is_not() {
        assert_eq!(patience(Duration::ZERO), FINISHED_WITHIN);
        assert_eq!(patience(ASKS_WITHIN - FINISHED_WITHIN / 2), FINISHED_WITHIN / 2);
        assert_eq!(patience(ASKS_WITHIN), Duration::ZERO);
        assert_eq!(patience(Duration::from_secs(3600)), Duration::ZERO);
    }

    #[test]
    fn a_visitor_is_waited_for_until_it_has_asked_and_its_request_until_it_is_answered() {
        block_on(async {
            let ending = Ending::default();
            assert!(!waits(&ending).await, "nobody is there");
            let visit = ending.visit();
            assert!(waits(&ending).await, "somebody may ask");
            let request = visit.asks();
            assert!(waits(&ending).await, "somebody has asked");
            request.soon(async {}).await;
            assert!(!waits(&ending).await, "it was answered, and the connection is idle");
        });
    }

    #[test]
    fn a_long_poll_and_whoever_is_slow_are_not_waited_for() {
        block_on(async {
            let ending = Ending::default();
            let visit = ending.visit();
            let poll = tokio::spawn(visit.asks().soon(std::future::pending::<()>()));
            let begun = clock::now().mono;
            ending.finished().await;
            assert!(begun.elapsed() < FINISHED_WITHIN);
            let slow = ending.visit();
            ending.closing.cancel();
            ending.finished().await;
            assert!(timeout(FINISHED_WITHIN, slow.over()).await.is_ok());
            assert!(!waits(&ending).await);
            poll.abort();
        });
    }
}
