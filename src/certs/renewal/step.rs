//! Decides the next step: wait, ask for advice, rehearse, or order.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::moment::Moment;
use super::super::trouble::Class;
use super::record::{LONGEST_WAIT, Outcome, Record, Standing};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Certificates with a shorter life are renewed at half of it, others with a third of it left.
const SHORT_LIFE: Duration = Duration::from_secs(10 * 24 * 3600);
/// Whatever an authority advises, a certificate is renewed with this much left: a tenth of its life, two days at least.
const DISTRUST_PART: u32 = 10;
const DISTRUST_FROM: Duration = Duration::from_secs(2 * 24 * 3600);
/// Failed orders in an hour, one below what Let's Encrypt allows for a name.
const MAX_FAILURES_AN_HOUR: usize = 4;
/// Certificates for the same names in a week, one below what Let's Encrypt allows; those of a short life need more.
/// The bound matters when something is badly wrong, like a clock that runs years ahead.
const MAX_SAME_A_WEEK: u64 = 4;
/// Failures in a row after which the next authority is tried.
const FAILURES_BEFORE_FALLBACK: u32 = 3;
/// Failures in a row that were ours, after which an order is rehearsed.
const FAILURES_BEFORE_REHEARSAL: u32 = 2;
/// How long a rehearsal vouches for the true order.
const REHEARSAL_HOLDS: Duration = DAY;

/// Everything the decision depends on.
#[derive(Debug, Clone)]
pub struct State {
    /// Who may issue, the preferred one first. Never empty.
    pub authorities: Vec<Authority>,
    /// Names and addresses that must be certified, as text.
    pub wanted: BTreeSet<String>,
    /// The newest certificate of an authority that is at hand.
    pub held: Option<Held>,
    pub record: Record,
    pub wish: Option<Wish>,
}

/// One who issues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    pub directory: String,
    /// It has a twin at which an order can be rehearsed.
    pub has_twin: bool,
}

/// A certificate at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub fingerprint: String,
    pub names: BTreeSet<String>,
    pub not_before: Moment,
    pub not_after: Moment,
    /// The directory it came from, if that is known.
    pub authority: Option<String>,
}

/// What the operator asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Try again now if it is due, whatever the ladder says.
    Renew,
    /// Renew now, due or not.
    Force,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Wait {
        until: Moment,
        reason: Reason,
    },
    /// Ask the authority of the certificate when it wants it renewed.
    AskAdvice {
        authority: usize,
    },
    Order {
        authority: usize,
        purpose: Purpose,
        replaces: bool,
        reason: Reason,
    },
}

/// Whether an order is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Rehearsal,
    Issue,
}

/// Why a certificate is or will be renewed, or why it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There is none yet.
    First,
    NewNames,
    /// Its age says so.
    Aged,
    /// Its authority says so.
    Advised,
    Forced,
    /// The last attempt failed.
    Failed,
    /// An authority's limit, or our own below it.
    Limited,
}

impl Reason {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::NewNames => "new-names",
            Self::Aged => "aged",
            Self::Advised => "advised",
            Self::Forced => "forced",
            Self::Failed => "failed",
            Self::Limited => "limited",
        }
    }
}

impl Held {
    #[must_use]
    pub fn life(&self) -> Duration {
        self.not_after.since(self.not_before)
    }

    #[must_use]
    pub fn left(&self, now: Moment) -> Duration {
        self.not_after.since(now)
    }
}

/// How loudly it must be said that renewal fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// More than a third of the life is left.
    Info,
    /// Less than a third.
    Warning,
    /// Less than a sixth.
    Error,
    /// Less than a twentieth, or nothing.
    Critical,
}

/// How loudly it must be said, by what is left of a life.
#[must_use]
pub fn alarm(life: Duration, left: Duration) -> Alarm {
    if left < life / 20 || left.is_zero() {
        Alarm::Critical
    } else if left < life / 6 {
        Alarm::Error
    } else if left < life / 3 {
        Alarm::Warning
    } else {
        Alarm::Info
    }
}

/// When the certificate is to be renewed, and why then.
#[must_use]
pub fn due(state: &State, now: Moment) -> (Moment, Reason) {
    if state.wish == Some(Wish::Force) {
        return (now, Reason::Forced);
    }
    let Some(held) = &state.held else { return (now, Reason::First) };
    if !state.wanted.is_subset(&held.names) {
        return (now, Reason::NewNames);
    }
    let life = held.life();
    let by_age = held.not_after.minus(if life < SHORT_LIFE { life / 2 } else { life / 3 });
    let distrust = (life / DISTRUST_PART).max(DISTRUST_FROM).min(life / 3);
    let advised = state.record.advice.as_ref().filter(|advice| advice.fingerprint == held.fingerprint);
    match advised.and_then(|advice| advice.renew_at) {
        Some(advised) if advised < held.not_after.minus(distrust) => (advised, Reason::Advised),
        Some(_) => (held.not_after.minus(distrust), Reason::Aged),
        None => (by_age, Reason::Aged),
    }
}

/// Decides the next step.
#[must_use]
pub fn next_step(state: &State, now: Moment) -> Step {
    let (due_at, reason) = due(state, now);
    if let Some(authority) = advisor(state, now) {
        return Step::AskAdvice { authority };
    }
    if due_at > now {
        let asks_at = state.record.advice.as_ref().map_or(due_at, |advice| advice.ask_at.min(due_at));
        return Step::Wait { until: soon(asks_at, now), reason };
    }
    let eligible = (0..state.authorities.len()).filter_map(|index| Some((eligible_at(state, index, now)?, index)));
    // The preferred one of those that are free now, else the one that is free first.
    let best = eligible.min_by_key(|((at, _), index)| (if *at <= now { Moment(0) } else { *at }, *index));
    let Some(((at, why), authority)) = best else {
        return Step::Wait { until: now.plus(HOUR), reason: Reason::Failed };
    };
    if at > now {
        return Step::Wait { until: soon(at, now), reason: why };
    }
    let directory = &state.authorities[authority].directory;
    let replaces = state.held.as_ref().is_some_and(|held| held.authority.as_ref() == Some(directory));
    let purpose = if must_rehearse(state, authority, now) { Purpose::Rehearsal } else { Purpose::Issue };
    Step::Order { authority, purpose, replaces: replaces && purpose == Purpose::Issue, reason }
}

/// A wait that is not longer than the longest: whatever a date says, it is looked at again.
fn soon(at: Moment, now: Moment) -> Moment {
    at.min(now.plus(LONGEST_WAIT))
}

/// Whom to ask for advice now.
fn advisor(state: &State, now: Moment) -> Option<usize> {
    let held = state.held.as_ref()?;
    // What is not worth keeping needs no advice.
    if state.wish.is_some() || !state.wanted.is_subset(&held.names) || held.not_after <= now {
        return None;
    }
    let index = state.authorities.iter().position(|one| held.authority.as_ref() == Some(&one.directory))?;
    match state.record.advice.as_ref().filter(|advice| advice.fingerprint == held.fingerprint) {
        // A date from before the clock was set back is not waited for.
        Some(advice) if advice.ask_at > now && advice.ask_at.since(now) <= DAY => None,
        Some(_) | None => Some(index),
    }
}

/// From when on an authority may be asked for a certificate, and what stands in the way until then; `None`: not at all
/// as things are.
fn eligible_at(state: &State, index: usize, now: Moment) -> Option<(Moment, Reason)> {
    let authority = &state.authorities[index];
    let standing = state.record.standing(&authority.directory);
    if index > 0 && !needs_fallback(state, now) {
        return None;
    }
    let mut at = (now, Reason::Failed);
    let mut not_before = |moment: Moment, reason| {
        if moment > at.0 {
            at = (moment, reason);
        }
    };
    // Dates that lie further ahead than any wait are from before the clock was set back.
    let retry_at = standing.retry_at.filter(|retry_at| retry_at.since(now) <= LONGEST_WAIT);
    match retry_at {
        Some(retry_at) if standing.limited => not_before(retry_at, Reason::Limited),
        Some(retry_at) if state.wish.is_none() => not_before(retry_at, Reason::Failed),
        Some(_) | None => {}
    }
    let of_this = |attempt: &&super::Attempt| attempt.authority == authority.directory && attempt.at <= now.plus(HOUR);
    let failed: Vec<Moment> = state
        .record
        .attempts
        .iter()
        .filter(of_this)
        .filter(|attempt| !attempt.rehearsal && matches!(attempt.outcome, Outcome::Failed(_) | Outcome::Begun))
        .map(|attempt| attempt.at)
        .filter(|at| now.since(*at) < HOUR)
        .collect();
    if let Some(oldest) = failed.len().checked_sub(MAX_FAILURES_AN_HOUR).and_then(|first| failed.get(first)) {
        not_before(oldest.plus(HOUR), Reason::Limited);
    }
    let same: Vec<Moment> = state
        .record
        .attempts
        .iter()
        .filter(of_this)
        .filter(|attempt| !attempt.rehearsal && attempt.outcome == Outcome::Succeeded)
        .filter(|attempt| attempt.names.iter().eq(state.wanted.iter()))
        .map(|attempt| attempt.at)
        .filter(|at| now.since(*at) < LONGEST_WAIT)
        .collect();
    // The operator knows best, and the authority still has its own limit.
    if state.wish != Some(Wish::Force)
        && let Some(oldest) = same.len().checked_sub(same_a_week(state)).and_then(|first| same.get(first))
    {
        not_before(oldest.plus(LONGEST_WAIT), Reason::Limited);
    }
    Some(at)
}

/// How many certificates for the same names a week may have: twice as many as their life asks for.
fn same_a_week(state: &State) -> usize {
    let Some(held) = &state.held else { return usize::try_from(MAX_SAME_A_WEEK).unwrap_or(usize::MAX) };
    let renewals = 4 * LONGEST_WAIT.as_secs() / held.life().as_secs().max(1);
    usize::try_from(renewals.max(MAX_SAME_A_WEEK)).unwrap_or(usize::MAX)
}

/// The preferred authority has failed often enough, and there is not much time left to wait for it.
fn needs_fallback(state: &State, now: Moment) -> bool {
    let Some(preferred) = state.authorities.first() else { return false };
    let standing = state.record.standing(&preferred.directory);
    let is_urgent = state
        .held
        .as_ref()
        .is_none_or(|held| alarm(held.life(), held.left(now)) >= Alarm::Error || !state.wanted.is_subset(&held.names));
    is_urgent && (standing.failures >= FAILURES_BEFORE_FALLBACK || standing.limited)
}

/// An order is rehearsed where something may be wrong on our side, so that it costs nothing of the limits.
fn must_rehearse(state: &State, index: usize, now: Moment) -> bool {
    let authority = &state.authorities[index];
    let standing: Standing = state.record.standing(&authority.directory);
    if !authority.has_twin || standing.twin_is_down {
        return false;
    }
    if standing.rehearsed_at.is_some_and(|at| at <= now.plus(HOUR) && now.since(at) < REHEARSAL_HOLDS) {
        return false;
    }
    let is_late = state.held.as_ref().is_some_and(|held| alarm(held.life(), held.left(now)) == Alarm::Critical);
    let was_ours = standing.last_class == Some(Class::Ours) && standing.failures >= FAILURES_BEFORE_REHEARSAL;
    !is_late && (!standing.proven || was_ours)
}

#[cfg(test)]
mod tests {
    use super::super::super::trouble::Trouble;
    use super::super::record::{Advice, Attempt};
    use super::*;

    const NOW: Moment = Moment(1_800_000_000);
    const LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

    fn names() -> BTreeSet<String> {
        BTreeSet::from(["call.example".to_owned()])
    }

    /// A home whose certificate has so many days left of ninety; two authorities, the first with a twin.
    fn home(days_left: Option<u32>) -> State {
        let held = days_left.map(|days| Held {
            fingerprint: "f".to_owned(),
            names: names(),
            not_before: NOW.plus(DAY * days).minus(LIFE),
            not_after: NOW.plus(DAY * days),
            authority: Some("a".to_owned()),
        });
        let authorities = vec![
            Authority { directory: "a".to_owned(), has_twin: true },
            Authority { directory: "b".to_owned(), has_twin: false },
        ];
        let mut record = Record::default();
        record.standings.insert("a".to_owned(), Standing { proven: true, ..Standing::default() });
        if held.is_some() {
            record.advice = Some(advice(None));
        }
        State { authorities, wanted: names(), held, record, wish: None }
    }

    fn advice(renew_at: Option<Moment>) -> Advice {
        Advice { fingerprint: "f".to_owned(), renew_at, window: None, ask_at: NOW.plus(HOUR) }
    }

    fn issue(reason: Reason) -> Step {
        Step::Order { authority: 0, purpose: Purpose::Issue, replaces: true, reason }
    }

    fn fail(state: &mut State, class: Class, at: Moment) {
        state.record.begin(Attempt {
            at,
            authority: "a".to_owned(),
            rehearsal: false,
            names: names().into_iter().collect(),
            outcome: Outcome::Begun,
        });
        state.record.fail(Trouble::new(class, "x", ""), None, at, 0.0);
    }

    #[test]
    fn a_certificate_is_renewed_with_a_third_of_its_life_left_and_a_short_one_at_half() {
        assert!(matches!(next_step(&home(Some(31)), NOW), Step::Wait { .. }));
        assert_eq!(next_step(&home(Some(30)), NOW), issue(Reason::Aged));
        let mut short = home(Some(3));
        short.held.as_mut().unwrap().not_before = NOW.minus(DAY * 3);
        assert_eq!(next_step(&short, NOW), issue(Reason::Aged));
        short.held.as_mut().unwrap().not_before = NOW.minus(DAY * 2);
        assert!(matches!(next_step(&short, NOW), Step::Wait { .. }));
    }

    #[test]
    fn a_first_order_is_rehearsed_where_that_can_be() {
        let mut state = home(None);
        state.record = Record::default();
        let rehearsal =
            Step::Order { authority: 0, purpose: Purpose::Rehearsal, replaces: false, reason: Reason::First };
        assert_eq!(next_step(&state, NOW), rehearsal);
        let standing = state.record.standings.entry("a".to_owned()).or_default();
        standing.rehearsed_at = Some(NOW);
        let order = Step::Order { authority: 0, purpose: Purpose::Issue, replaces: false, reason: Reason::First };
        assert_eq!(next_step(&state, NOW), order);
        state.authorities[0].has_twin = false;
        state.record = Record::default();
        assert_eq!(next_step(&state, NOW), order);
    }

    #[test]
    fn advice_is_asked_for_followed_and_distrusted_near_the_end() {
        let mut state = home(Some(80));
        state.record.advice = None;
        assert_eq!(next_step(&state, NOW), Step::AskAdvice { authority: 0 });
        state.record.advice = Some(advice(Some(NOW)));
        assert_eq!(next_step(&state, NOW), issue(Reason::Advised));
        let mut late = home(Some(9));
        late.record.advice = Some(advice(Some(NOW.plus(DAY * 8))));
        assert_eq!(next_step(&late, NOW), issue(Reason::Aged));
        let mut patient = home(Some(10));
        patient.record.advice = Some(advice(Some(NOW.plus(HOUR))));
        assert!(matches!(next_step(&patient, NOW), Step::Wait { reason: Reason::Aged | Reason::Advised, .. }));
    }

    #[test]
    fn a_new_name_is_ordered_at_once_and_a_certificate_of_elsewhere_is_not_asked_about() {
        let mut state = home(Some(80));
        state.wanted.insert("new.example".to_owned());
        assert_eq!(next_step(&state, NOW), issue(Reason::NewNames));
        let mut foreign = home(Some(80));
        foreign.held.as_mut().unwrap().authority = Some("elsewhere".to_owned());
        foreign.record.advice = None;
        assert!(matches!(next_step(&foreign, NOW), Step::Wait { .. }));
    }

    #[test]
    fn the_second_authority_is_asked_only_when_the_first_fails_and_time_runs_short() {
        let mut state = home(Some(29));
        for minute in 0..3 {
            fail(&mut state, Class::Theirs, NOW.minus(HOUR * 10).plus(Duration::from_secs(60 * minute)));
        }
        state.record.standings.get_mut("a").unwrap().retry_at = Some(NOW.plus(HOUR));
        assert!(matches!(next_step(&state, NOW), Step::Wait { reason: Reason::Failed, .. }));
        state.held.as_mut().unwrap().not_after = NOW.plus(DAY * 10);
        let second = Step::Order { authority: 1, purpose: Purpose::Issue, replaces: false, reason: Reason::Aged };
        state.held.as_mut().unwrap().not_before = NOW.plus(DAY * 10).minus(LIFE);
        assert_eq!(next_step(&state, NOW), second);
    }

    #[test]
    fn a_wish_breaks_the_ladder_but_no_limit() {
        let mut state = home(Some(20));
        fail(&mut state, Class::Ours, NOW);
        assert!(matches!(next_step(&state, NOW), Step::Wait { .. }));
        state.wish = Some(Wish::Renew);
        assert_eq!(next_step(&state, NOW), issue(Reason::Aged));
        state.record.standings.get_mut("a").unwrap().limited = true;
        assert!(matches!(next_step(&state, NOW), Step::Wait { reason: Reason::Limited, .. }));
        let mut young = home(Some(80));
        young.wish = Some(Wish::Renew);
        assert!(matches!(next_step(&young, NOW), Step::Wait { .. }));
        young.wish = Some(Wish::Force);
        assert_eq!(next_step(&young, NOW), issue(Reason::Forced));
    }

    #[test]
    fn four_failed_orders_an_hour_are_the_most() {
        let mut state = home(Some(20));
        for minute in 0..4 {
            fail(&mut state, Class::Ours, NOW.plus(Duration::from_secs(60 * minute)));
        }
        state.wish = Some(Wish::Force);
        let later = NOW.plus(Duration::from_secs(300));
        assert_eq!(next_step(&state, later), Step::Wait { until: NOW.plus(HOUR), reason: Reason::Limited });
    }

    proptest::proptest! {
        #[test]
        fn no_state_makes_it_panic_or_wait_for_ever(
            held in proptest::option::of((0_u64..4_000_000_000, 0_u64..4_000_000_000)),
            retry_at in proptest::option::of(proptest::num::u64::ANY),
            renew_at in proptest::option::of(proptest::num::u64::ANY),
            ask_at: u64,
            failures: u32,
            limited: bool,
            now in 0_u64..4_000_000_000,
        ) {
            let mut state = home(None);
            state.held = held.map(|(from, to)| Held {
                fingerprint: "f".to_owned(),
                names: names(),
                not_before: Moment(from),
                not_after: Moment(to),
                authority: Some("a".to_owned()),
            });
            state.record.advice = Some(Advice { ask_at: Moment(ask_at), ..advice(renew_at.map(Moment)) });
            let retry_at = retry_at.map(Moment);
            state.record.standings.insert("a".to_owned(), Standing { failures, retry_at, limited, ..Standing::default() });
            let now = Moment(now);
            if let Step::Wait { until, .. } = next_step(&state, now) {
                proptest::prop_assert!(until > now && until <= now.plus(LONGEST_WAIT));
            }
        }

        /// Whatever was remembered, a valid certificate is never given up for an order that is not due.
        #[test]
        fn what_is_young_and_complete_is_left_alone(days in 31_u32..90, age in 0_u64..1_000_000) {
            let mut state = home(Some(days));
            fail(&mut state, Class::Theirs, NOW.minus(Duration::from_secs(age)));
            proptest::prop_assert!(
                matches!(next_step(&state, NOW), Step::Wait { .. }),
                "it is not left alone"
            );
        }
    }
}
