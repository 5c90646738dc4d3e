//! What is remembered of attempts, and how an outcome changes it: the ladder of retries and what authorities advise.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::moment::Moment;
use super::super::trouble::{Class, Trouble};
use crate::text;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Waits after the first failures in a row.
const LADDER: [Duration; 3] = [MINUTE, Duration::from_secs(600), Duration::from_secs(6000)];
/// The wait after more failures: short enough to meet an authority that is up six hours a day, long enough to stay
/// far below five failed validations an hour.
const STEADY: Duration = Duration::from_secs(5 * 3600);
/// The wait after more failures that only the operator can end. He has a command to be faster.
const PATIENT: Duration = Duration::from_secs(24 * 3600);
/// With less of its life left, a certificate does not wait that patiently.
const HURRY: Duration = Duration::from_secs(10 * 24 * 3600);
/// The wait after a limit of which the authority did not say when it ends. Five failures an hour are one in 12 minutes.
const LIMIT: Duration = HOUR;
/// No wait is longer, whoever asks for it: dates may be wrong.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often an authority is asked when it wants a certificate renewed: twice a day at least. RFC 9773, section 4.3.
const ADVICE_EVERY: Duration = Duration::from_secs(6 * 3600);
/// An authority that wants to be asked more often than this is not.
const ADVICE_PAUSE: Duration = HOUR;
/// Attempts are remembered for as long as limits of authorities look back, but no more than so many.
const REMEMBERED_FOR: Duration = LONGEST_WAIT;
const MAX_ATTEMPTS: usize = 128;

/// Everything that is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Oldest first.
    pub attempts: Vec<Attempt>,
    /// By the address of the authority's directory.
    pub standings: BTreeMap<String, Standing>,
    /// What the authority of the current certificate advises.
    pub advice: Option<Advice>,
    /// The kind of challenge that succeeded last.
    pub challenge: Option<String>,
}

/// One order, or its rehearsal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub at: Moment,
    /// The directory of the authority that was meant; a rehearsal speaks with its twin.
    pub authority: String,
    pub rehearsal: bool,
    pub names: Vec<String>,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was begun. What is still so after a start of the service was cut off.
    Begun,
    Succeeded,
    Failed(Trouble),
}

/// How things stand with one authority.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// Failures in a row, rehearsals included.
    pub failures: u32,
    pub retry_at: Option<Moment>,
    /// The authority's own word stands behind `retry_at`: nobody's hurry changes it.
    pub limited: bool,
    /// Whose move the last failure was.
    pub last_class: Option<Class>,
    /// It has issued a certificate before.
    pub proven: bool,
    /// The last rehearsal that succeeded since the last failure of a true order.
    pub rehearsed_at: Option<Moment>,
    /// Rehearsals could not be held because its twin was down: they are left out until an order has succeeded.
    pub twin_is_down: bool,
}

/// When the authority of a certificate wants it renewed. RFC 9773.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// SHA-256 of the certificate it is about.
    pub fingerprint: String,
    /// A random moment of the window; `None`: the authority gives no advice, or could not be asked.
    pub renew_at: Option<Moment>,
    /// The window, to notice when it moves.
    pub window: Option<(Moment, Moment)>,
    pub ask_at: Moment,
}

impl Record {
    #[must_use]
    pub fn standing(&self, authority: &str) -> Standing {
        self.standings.get(authority).cloned().unwrap_or_default()
    }

    /// An attempt begins. Written down before anything is asked for, so that no crash hides it.
    pub fn begin(&mut self, attempt: Attempt) {
        let now = attempt.at;
        self.attempts.retain(|old| now.since(old.at) < REMEMBERED_FOR && old.at <= now.plus(HOUR));
        if self.attempts.len() >= MAX_ATTEMPTS {
            self.attempts.remove(0);
        }
        self.attempts.push(attempt);
    }

    /// The attempt that was begun last has succeeded.
    pub fn succeed(&mut self, now: Moment) {
        let Some(attempt) = self.attempts.last_mut() else { return };
        attempt.outcome = Outcome::Succeeded;
        let standing = self.standings.entry(attempt.authority.clone()).or_default();
        if attempt.rehearsal {
            // The failures stand: it is the true order that has to show that they are over.
            standing.rehearsed_at = Some(now);
            standing.twin_is_down = false;
            standing.retry_at = None;
        } else {
            *standing = Standing { proven: true, ..Standing::default() };
        }
    }

    /// The attempt that was begun last has failed. `life_left` is that of the certificate in use; `chance` is from 0 to
    /// 1, so that hosts that failed together do not come back together.
    pub fn fail(&mut self, trouble: Trouble, life_left: Option<Duration>, now: Moment, chance: f64) {
        let Some(attempt) = self.attempts.last_mut() else { return };
        let standing = self.standings.entry(attempt.authority.clone()).or_default();
        standing.last_class = Some(trouble.class);
        if attempt.rehearsal && trouble.class != Class::Ours {
            // What is wrong with the twin says nothing of the authority itself.
            standing.twin_is_down = true;
            standing.retry_at = None;
        } else {
            standing.failures = standing.failures.saturating_add(1);
            standing.limited = trouble.class == Class::Limit;
            if !attempt.rehearsal {
                standing.rehearsed_at = None;
            }
            let wait = wait_after(&trouble, standing.failures, life_left);
            let told = trouble.retry_at.map(|told| told.since(now)).filter(|_| trouble.class != Class::Ours);
            // Up to a fifth early, or late where the authority named the moment.
            standing.retry_at = Some(match told {
                Some(told) => now.plus(told.max(MINUTE) + mix(MINUTE * 10, chance)),
                None => now.plus(wait - mix(wait / 5, chance)),
            });
        }
        attempt.outcome = Outcome::Failed(trouble);
    }

    /// What was cut off by the end of the process counts, but stands in nobody's way for long.
    pub fn recover(&mut self, now: Moment) {
        if self.attempts.last().is_some_and(|last| last.outcome == Outcome::Begun) {
            let trouble =
                Trouble::new(Class::Theirs, "interrupted", text!("the service ended while the order was under way"));
            let Some(attempt) = self.attempts.last_mut() else { return };
            let standing = self.standings.entry(attempt.authority.clone()).or_default();
            standing.retry_at = Some(now.plus(cut_off_pause(&self.attempts, now)));
            if let Some(attempt) = self.attempts.last_mut() {
                attempt.outcome = Outcome::Failed(trouble);
            }
        }
    }

    /// The authority was asked for advice; `chance` picks the moment within its window.
    pub fn advise(
        &mut self,
        fingerprint: &str,
        window: Option<(Moment, Moment)>,
        ask_after: Option<Duration>,
        now: Moment,
        chance: f64,
    ) {
        let pause = ask_after.unwrap_or(ADVICE_EVERY).clamp(ADVICE_PAUSE, ADVICE_EVERY * 2);
        let known = self.advice.take().filter(|known| known.fingerprint == fingerprint);
        let same = known.filter(|known| window.is_none() || known.window == window);
        let advice = match (same, window) {
            // The moment once chosen stays, or each question would put it off.
            (Some(known), _) => Advice { ask_at: now.plus(pause), ..known },
            (None, None) => {
                Advice { fingerprint: fingerprint.to_owned(), renew_at: None, window, ask_at: now.plus(pause) }
            }
            (None, Some((start, end))) => {
                let renew_at = start.plus(mix(end.since(start), chance));
                let fingerprint = fingerprint.to_owned();
                Advice { fingerprint, renew_at: Some(renew_at), window, ask_at: now.plus(pause) }
            }
        };
        self.advice = Some(advice);
    }
}

/// After several cut-off attempts in an hour something kills the service, and orders must not be spent on it.
fn cut_off_pause(attempts: &[Attempt], now: Moment) -> Duration {
    let is_cut_off = |attempt: &&Attempt| match &attempt.outcome {
        Outcome::Begun => true,
        Outcome::Failed(trouble) => trouble.code == "interrupted",
        Outcome::Succeeded => false,
    };
    let recent = attempts.iter().filter(|attempt| now.since(attempt.at) < HOUR).filter(is_cut_off).count();
    if recent <= 2 { Duration::ZERO } else { LADDER[1] }
}

fn wait_after(trouble: &Trouble, failures: u32, life_left: Option<Duration>) -> Duration {
    let rung = usize::try_from(failures).unwrap_or(usize::MAX).saturating_sub(1);
    let in_hurry = life_left.is_none_or(|left| left < HURRY);
    match trouble.class {
        Class::Limit => LIMIT.max(LADDER.get(rung).copied().unwrap_or(STEADY)),
        Class::Theirs => LADDER.get(rung).copied().unwrap_or(STEADY),
        Class::Ours if in_hurry => LADDER.get(rung).copied().unwrap_or(STEADY),
        Class::Ours => LADDER.get(rung).copied().unwrap_or(PATIENT),
    }
}

/// A part of `span`. What is no number counts as nothing.
fn mix(span: Duration, chance: f64) -> Duration {
    if chance.is_finite() { span.mul_f64(chance.clamp(0.0, 1.0)) } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment(1_800_000_000);

    fn begun(rehearsal: bool, at: Moment) -> Attempt {
        Attempt {
            at,
            authority: "a".to_owned(),
            rehearsal,
            names: vec!["x.example".to_owned()],
            outcome: Outcome::Begun,
        }
    }

    fn waits(class: Class, life_left: Option<Duration>) -> Vec<u64> {
        let mut record = Record::default();
        let wait = |_| {
            record.begin(begun(false, NOW));
            record.fail(Trouble::new(class, "x", ""), life_left, NOW, 0.0);
            record.standing("a").retry_at.unwrap().since(NOW).as_secs()
        };
        (0..5).map(wait).collect()
    }

    #[test]
    fn retries_climb_a_ladder_and_become_patient_only_with_time_left() {
        assert_eq!(waits(Class::Theirs, None), [60, 600, 6000, 18_000, 18_000]);
        assert_eq!(waits(Class::Ours, Some(HURRY)), [60, 600, 6000, 86_400, 86_400]);
        assert_eq!(waits(Class::Ours, Some(HURRY / 2)), [60, 600, 6000, 18_000, 18_000]);
        assert_eq!(waits(Class::Limit, None), [3600, 3600, 6000, 18_000, 18_000]);
    }

    #[test]
    fn the_moment_that_the_authority_named_is_waited_for_and_a_chance_adds_to_it() {
        let mut record = Record::default();
        record.begin(begun(false, NOW));
        let trouble = Trouble { retry_at: Some(NOW.plus(HOUR * 34)), ..Trouble::new(Class::Limit, "rateLimited", "") };
        record.fail(trouble, None, NOW, 1.0);
        let standing = record.standing("a");
        assert!(standing.limited);
        assert_eq!(standing.retry_at, Some(NOW.plus(HOUR * 34 + MINUTE * 10)));
    }

    #[test]
    fn a_twin_that_is_down_keeps_nobody_from_the_authority() {
        let mut record = Record::default();
        record.begin(begun(true, NOW));
        record.fail(Trouble::new(Class::Theirs, "unreachable", ""), None, NOW, 0.5);
        let standing = record.standing("a");
        assert_eq!((standing.failures, standing.retry_at, standing.twin_is_down), (0, None, true));
    }

    #[test]
    fn success_forgets_failures_and_a_rehearsal_does_not() {
        let mut record = Record::default();
        record.begin(begun(false, NOW));
        record.fail(Trouble::new(Class::Ours, "connection", ""), None, NOW, 0.5);
        record.begin(begun(true, NOW));
        record.succeed(NOW);
        assert_eq!((record.standing("a").failures, record.standing("a").rehearsed_at), (1, Some(NOW)));
        record.begin(begun(false, NOW));
        record.succeed(NOW);
        assert_eq!(record.standing("a"), Standing { proven: true, ..Standing::default() });
    }

    #[test]
    fn an_attempt_that_was_cut_off_is_counted_and_the_fourth_of_an_hour_waits() {
        let mut record = Record::default();
        for round in 0..4 {
            record.begin(begun(false, NOW));
            record.recover(NOW);
            let wait = record.standing("a").retry_at.unwrap().since(NOW);
            assert_eq!(wait, if round < 2 { Duration::ZERO } else { LADDER[1] }, "{round}");
        }
        assert_eq!(record.attempts.len(), 4);
        record.recover(NOW);
        assert_eq!(record.attempts.len(), 4);
    }

    #[test]
    fn the_chosen_moment_stays_until_the_window_moves() {
        let mut record = Record::default();
        let window = (NOW.plus(HOUR * 100), NOW.plus(HOUR * 200));
        record.advise("f", Some(window), None, NOW, 0.5);
        assert_eq!(record.advice.as_ref().unwrap().renew_at, Some(NOW.plus(HOUR * 150)));
        record.advise("f", Some(window), Some(MINUTE), NOW.plus(HOUR * 6), 0.9);
        let advice = record.advice.clone().unwrap();
        assert_eq!((advice.renew_at, advice.ask_at), (Some(NOW.plus(HOUR * 150)), NOW.plus(HOUR * 7)));
        record.advise("f", None, None, NOW.plus(HOUR * 12), 0.9);
        assert_eq!(record.advice.as_ref().unwrap().renew_at, Some(NOW.plus(HOUR * 150)), "silence changes nothing");
        record.advise("f", Some((NOW, NOW)), None, NOW.plus(HOUR * 18), 0.9);
        assert_eq!(record.advice.as_ref().unwrap().renew_at, Some(NOW));
    }

    #[test]
    fn memory_is_bounded_in_number_and_time() {
        let mut record = Record::default();
        for second in 0..500 {
            record.begin(begun(false, Moment(NOW.0 + second)));
        }
        assert_eq!(record.attempts.len(), MAX_ATTEMPTS);
        record.begin(begun(false, NOW.plus(REMEMBERED_FOR * 2)));
        assert_eq!(record.attempts.len(), 1);
    }
}
