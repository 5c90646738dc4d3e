//! Plays years of a home's life in a moment: the real decisions, with a clock, an authority and a disk that are made up.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::super::moment::Moment;
use super::super::trouble::{Class, Trouble};
use super::record::{Attempt, Outcome, Record};
use super::step::{Alarm, Authority, Held, Purpose, State, Step, alarm, next_step};
use crate::text;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long an order takes.
const ORDER_TAKES: Duration = Duration::from_secs(30);
/// The loop of the task turns at least so often; here as seldom as its longest wait.
const LONGEST_SLEEP: Duration = HOUR;
/// Lines of a timeline that are kept; the rest is counted.
const MAX_LINES: usize = 200;

/// What the world does to a home.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub name: &'static str,
    pub what: &'static str,
    /// How long certificates live, by when they are issued: from this day on, so many hours.
    lives: &'static [(u64, u64)],
    outage: Outage,
    /// The authority advises.
    advises: bool,
    /// On this day all certificates are to be replaced at once.
    revoked_on: Option<u64>,
    /// From this day on, for so many days, the disk is full.
    disk_full: Option<(u64, u64)>,
    /// On this day the clock jumps by so many hours, and a day later back to what is right.
    jump: Option<(u64, i64)>,
    has_fallback: bool,
    /// An authority is up often enough for the certificate never to end.
    pub must_hold: bool,
}

/// When the authority does not answer as it should.
#[derive(Debug, Clone, Copy)]
enum Outage {
    Never,
    /// It is up so many hours a day, beginning at this one.
    UpDaily {
        from: u64,
        hours: u64,
    },
    /// It is down from this day on, for so many days.
    Down {
        from: u64,
        days: u64,
    },
    /// Every order of these days is turned away for so many hours.
    Limits {
        from: u64,
        days: u64,
        hours: u64,
    },
    /// Port 80 is shut on our side from this day on, for so many days.
    PortShut {
        from: u64,
        days: u64,
    },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Story {
    pub lines: Vec<String>,
    /// Lines that did not fit.
    pub left_out: usize,
    pub orders: u32,
    pub failures: u32,
    /// The least that was left of a certificate in use, in hours; nothing if one ended.
    pub min_left: Duration,
    /// The least that was left, as a part of the life of that certificate.
    pub min_part: f64,
    /// How long nothing valid was served after the first certificate had come.
    pub expired: Duration,
    /// When each alarm was reached first, as the part of a life that was left.
    pub alarms: Vec<(Alarm, f64)>,
}

/// Every scenario that `cert rehearse` plays.
#[must_use]
pub fn scenarios() -> Vec<Scenario> {
    let calm = Scenario {
        name: "calm",
        what: "nothing happens",
        lives: &[(0, 90 * 24)],
        outage: Outage::Never,
        advises: true,
        revoked_on: None,
        disk_full: None,
        jump: None,
        has_fallback: false,
        must_hold: true,
    };
    let shrinking: &[(u64, u64)] = &[(0, 90 * 24), (75, 64 * 24), (445, 45 * 24), (600, 160)];
    vec![
        calm.clone(),
        Scenario { name: "short-lived", what: "certificates of 160 hours", lives: &[(0, 160)], ..calm.clone() },
        Scenario { name: "no-advice", what: "the authority knows no ARI", advises: false, ..calm.clone() },
        Scenario {
            name: "shrinking-lives",
            what: "lives of 90, 64 and 45 days, then 160 hours",
            lives: shrinking,
            ..calm.clone()
        },
        Scenario {
            name: "six-hours-a-day",
            what: "the authority is up six hours a day, certificates live 90 days",
            outage: Outage::UpDaily { from: 2, hours: 6 },
            ..calm.clone()
        },
        Scenario {
            name: "six-hours-a-day-short-lived",
            what: "the authority is up six hours a day, certificates live 160 hours",
            lives: &[(0, 160)],
            outage: Outage::UpDaily { from: 17, hours: 6 },
            advises: false,
            ..calm.clone()
        },
        Scenario {
            name: "outage-of-three-weeks",
            what: "the authority is down for three weeks",
            outage: Outage::Down { from: 55, days: 21 },
            ..calm.clone()
        },
        Scenario {
            name: "outage-of-two-months",
            what: "the authority is down for two months: the certificate must end",
            outage: Outage::Down { from: 55, days: 60 },
            must_hold: false,
            ..calm.clone()
        },
        Scenario {
            name: "outage-with-a-second-authority",
            what: "the authority is down for two months, and there is a second one",
            outage: Outage::Down { from: 55, days: 60 },
            has_fallback: true,
            ..calm.clone()
        },
        Scenario {
            name: "rate-limits",
            what: "orders are turned away for 34 hours each, for a week",
            outage: Outage::Limits { from: 58, days: 7, hours: 34 },
            ..calm.clone()
        },
        Scenario {
            name: "port-shut",
            what: "port 80 is shut on this host's side for twenty days",
            outage: Outage::PortShut { from: 55, days: 20 },
            ..calm.clone()
        },
        Scenario {
            name: "mass-revocation",
            what: "the authority wants every certificate replaced at once",
            revoked_on: Some(20),
            ..calm.clone()
        },
        Scenario {
            name: "disk-full",
            what: "the disk is full for ten days around a renewal",
            disk_full: Some((57, 10)),
            ..calm.clone()
        },
        Scenario {
            name: "clock-ahead",
            what: "the clock jumps ahead by two years and back a day later",
            jump: Some((30, 2 * 365 * 24)),
            ..calm.clone()
        },
        Scenario {
            name: "clock-behind",
            what: "the clock jumps back by a year and forth a day later",
            jump: Some((30, -365 * 24)),
            ..calm
        },
    ]
}

/// A world that follows a scenario.
struct World<'a> {
    scenario: &'a Scenario,
    begin: Moment,
    /// True time.
    now: Moment,
    serial: u64,
    chance: Chance,
}

/// Numbers that look random and are the same each time.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> f64 {
        // Knuth's multiplier, as in MMIX.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.0 >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }
}

impl World<'_> {
    fn day(&self) -> u64 {
        self.now.since(self.begin).as_secs() / DAY.as_secs()
    }

    /// What the host takes for now.
    fn clock(&self) -> Moment {
        match self.scenario.jump {
            Some((day, hours)) if self.day() == day => {
                let by = HOUR * u32::try_from(hours.unsigned_abs()).unwrap_or(u32::MAX);
                if hours > 0 { self.now.plus(by) } else { self.now.minus(by) }
            }
            Some(_) | None => self.now,
        }
    }

    fn is_disk_full(&self) -> bool {
        self.scenario.disk_full.is_some_and(|(from, days)| (from..from + days).contains(&self.day()))
    }

    /// What keeps an authority from issuing now.
    fn refuses(&self, authority: usize) -> Option<Trouble> {
        if authority > 0 {
            return None;
        }
        let day = self.day();
        let hour = self.now.0 / HOUR.as_secs() % 24;
        let down = || Trouble::new(Class::Theirs, "unreachable", text!("the authority does not answer"));
        match self.scenario.outage {
            Outage::Never => None,
            Outage::UpDaily { from, hours } => (!(from..from + hours).contains(&hour) && day > 0).then(down),
            Outage::Down { from, days } => (from..from + days).contains(&day).then(down),
            Outage::Limits { from, days, hours } => (from..from + days).contains(&day).then(|| Trouble {
                retry_at: Some(self.clock().plus(HOUR * u32::try_from(hours).unwrap_or(u32::MAX))),
                ..Trouble::new(Class::Limit, "rateLimited", text!("too many certificates already issued"))
            }),
            Outage::PortShut { from, days } => (from..from + days)
                .contains(&day)
                .then(|| Trouble::new(Class::Ours, "connection", text!("port 80 does not answer"))),
        }
    }

    fn issue(&mut self, names: &BTreeSet<String>, authority: &str) -> Held {
        self.serial += 1;
        let day = self.day();
        let hours = self.scenario.lives.iter().rfind(|(from, _)| *from <= day).map_or(90 * 24, |(_, hours)| *hours);
        Held {
            fingerprint: format!("{}", self.serial),
            names: names.clone(),
            not_before: self.now.minus(HOUR),
            not_after: self.now.plus(HOUR * u32::try_from(hours).unwrap_or(u32::MAX)),
            authority: Some(authority.to_owned()),
        }
    }

    /// What the authority advises for a certificate.
    fn window(&self, held: &Held) -> Option<(Moment, Moment)> {
        if !self.scenario.advises {
            return None;
        }
        if self.scenario.revoked_on.is_some_and(|day| {
            self.day() >= day && held.not_before < self.begin.plus(DAY * u32::try_from(day).unwrap_or(u32::MAX))
        }) {
            return Some((self.now.minus(DAY), self.now));
        }
        // As Let's Encrypt does: a two-day window, or a part of a short life, around two thirds of it.
        let centre = held.not_after.minus(held.life() / 3);
        let half = DAY.min(held.life() / 20);
        Some((centre.minus(half), centre.plus(half)))
    }
}

/// Plays a scenario for so many days. `seed` stands for chance.
#[must_use]
pub fn rehearse(scenario: &Scenario, days: u64, seed: u64) -> Story {
    let begin = Moment(1_800_000_000);
    let mut world = World { scenario, begin, now: begin, serial: 0, chance: Chance(seed) };
    let authority = |directory: &str| Authority { directory: directory.to_owned(), has_twin: false };
    let mut authorities = vec![authority("first")];
    if scenario.has_fallback {
        authorities.push(authority("second"));
    }
    let wanted = BTreeSet::from(["call.example".to_owned()]);
    let mut state = State { authorities, wanted, held: None, record: Record::default(), wish: None };
    let mut story = Story {
        lines: Vec::new(),
        left_out: 0,
        orders: 0,
        failures: 0,
        min_left: Duration::MAX,
        min_part: 1.0,
        expired: Duration::ZERO,
        alarms: Vec::new(),
    };
    let end = begin.plus(DAY * u32::try_from(days).unwrap_or(u32::MAX));
    while world.now < end {
        let before = world.now;
        let step = next_step(&state, world.clock());
        match step {
            Step::Wait { until, .. } => {
                let span = until.since(world.clock()).clamp(MINUTE, LONGEST_SLEEP);
                world.now = world.now.plus(span);
            }
            Step::AskAdvice { authority } => {
                let now = world.clock();
                if let Some(held) = state.held.clone() {
                    let chance = world.chance.next();
                    let window = if world.refuses(authority).is_none() { world.window(&held) } else { None };
                    state.record.advise(&held.fingerprint, window, None, now, chance);
                }
                world.now = world.now.plus(Duration::from_secs(1));
            }
            Step::Order { authority, purpose, reason, .. } => {
                order(&mut world, &mut state, &mut story, authority, purpose, reason.as_str());
            }
        }
        observe(&state, &world, before, &mut story);
    }
    story
}

fn order(
    world: &mut World<'_>,
    state: &mut State,
    story: &mut Story,
    authority: usize,
    purpose: Purpose,
    reason: &'static str,
) {
    if world.is_disk_full() {
        // What cannot be written down is not begun.
        story.failures += 1;
        world.now = world.now.plus(MINUTE * 5);
        return;
    }
    let directory = state.authorities[authority].directory.clone();
    let names = state.wanted.iter().cloned().collect();
    let at = world.clock();
    let rehearsal = purpose == Purpose::Rehearsal;
    state.record.begin(Attempt { at, authority: directory.clone(), rehearsal, names, outcome: Outcome::Begun });
    world.now = world.now.plus(ORDER_TAKES);
    let (now, chance) = (world.clock(), world.chance.next());
    let left = state.held.as_ref().map(|held| held.left(now));
    match world.refuses(authority) {
        Some(trouble) => {
            story.failures += 1;
            let line = format!("{reason}: {directory}: {trouble}");
            story.tell(world, &line);
            state.record.fail(trouble, left, now, chance);
        }
        None => {
            let held = world.issue(&state.wanted, &directory);
            if held.not_after <= now {
                story.failures += 1;
                let trouble =
                    Trouble::new(Class::Ours, "clock", text!("the new certificate is over already by this clock"));
                story.tell(world, &format!("{reason}: {directory}: {trouble}"));
                state.record.fail(trouble, left, now, chance);
                return;
            }
            story.orders += 1;
            let hours = held.life().as_secs() / HOUR.as_secs();
            let rest = state.held.as_ref().map(|old| old.not_after.since(world.now).as_secs() / HOUR.as_secs());
            let rest = rest.map_or_else(|| "none before".to_owned(), |rest| format!("{rest} h were left"));
            story.tell(world, &format!("{reason}: {directory}: issued for {hours} h, {rest}"));
            state.record.succeed(now);
            state.held = Some(held);
        }
    }
}

/// What callers have seen since `before`.
fn observe(state: &State, world: &World<'_>, before: Moment, story: &mut Story) {
    let Some(held) = &state.held else { return };
    let left = held.left(world.now);
    let part = left.as_secs_f64() / held.life().as_secs_f64();
    if part < story.min_part {
        story.min_part = part;
    }
    story.min_left = story.min_left.min(left);
    if left.is_zero() {
        story.expired += world.now.since(before.max(held.not_after));
    }
    let has_failed = state.authorities.iter().any(|one| state.record.standing(&one.directory).failures > 0);
    let loudness = alarm(held.life(), left);
    if has_failed && story.alarms.last().is_none_or(|(last, _)| *last != loudness) {
        story.alarms.push((loudness, part));
    }
}

impl Story {
    fn tell(&mut self, world: &World<'_>, what: &str) {
        if self.lines.len() < MAX_LINES {
            let hour = world.now.since(world.begin).as_secs() / HOUR.as_secs() % 24;
            self.lines.push(format!("day {:>4} {hour:02} h  {what}", world.day()));
        } else {
            self.left_out += 1;
        }
    }
}

/// The least that was left, and what it took.
impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.min_left.as_secs_f64() / DAY.as_secs_f64();
        write!(f, "{} certificates, {} failures, at least {days:.1} days left", self.orders, self.failures)?;
        if !self.expired.is_zero() {
            write!(f, "; nothing valid for {:.1} days", self.expired.as_secs_f64() / DAY.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEARS: u64 = 2 * 365;

    #[test]
    fn in_two_years_no_certificate_ends_where_the_authority_is_up_six_hours_a_day() {
        for scenario in scenarios() {
            for seed in 0..3 {
                let story = rehearse(&scenario, YEARS, seed);
                assert_eq!(
                    story.expired.is_zero(),
                    scenario.must_hold,
                    "{} {seed}: {story}\n{}",
                    scenario.name,
                    story.lines.join("\n")
                );
            }
        }
    }

    #[test]
    fn whenever_in_the_day_the_six_hours_are_is_enough() {
        let scenario = scenarios().into_iter().find(|one| one.name == "six-hours-a-day-short-lived").unwrap();
        for from in 0..18 {
            let scenario = Scenario { outage: Outage::UpDaily { from, hours: 6 }, ..scenario.clone() };
            let story = rehearse(&scenario, YEARS, from);
            assert!(story.expired.is_zero() && story.min_part > 0.1, "{from}: {story}");
        }
    }

    #[test]
    fn before_a_certificate_must_end_the_alarms_come_at_a_third_a_sixth_and_a_twentieth() {
        let scenario = scenarios().into_iter().find(|one| one.name == "outage-of-two-months").unwrap();
        let story = rehearse(&scenario, 120, 1);
        let reached = |wanted| story.alarms.iter().find(|(alarm, _)| *alarm == wanted).map(|(_, part)| *part).unwrap();
        for (alarm, below) in [(Alarm::Warning, 1.0 / 3.0), (Alarm::Error, 1.0 / 6.0), (Alarm::Critical, 1.0 / 20.0)] {
            let part = reached(alarm);
            // The loop turns once an hour here, a thousandth of such a life.
            assert!((below - 0.005..=below).contains(&part), "{alarm:?} at {part}");
        }
    }

    #[test]
    fn a_mass_revocation_is_followed_within_half_a_day() {
        let scenario = scenarios().into_iter().find(|one| one.name == "mass-revocation").unwrap();
        let story = rehearse(&scenario, 40, 1);
        let second = story.lines.get(1).unwrap();
        assert!(second.starts_with("day   20"), "{}", story.lines.join("\n"));
        assert!(second.contains("advised"), "{second}");
    }

    #[test]
    fn a_clock_that_is_wrong_spends_no_orders() {
        for name in ["clock-ahead", "clock-behind"] {
            let scenario = scenarios().into_iter().find(|one| one.name == name).unwrap();
            let story = rehearse(&scenario, 60, 1);
            assert!(story.orders <= 3 && story.failures <= 10, "{name}: {story}\n{}", story.lines.join("\n"));
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]
        #[test]
        fn no_week_has_more_failed_orders_than_authorities_allow(seed: u64, from in 0_u64..24, hours in 1_u64..7, life in 24_u64..2000) {
            let lives: &'static [(u64, u64)] = Box::leak(Box::new([(0, life)]));
            let calm = scenarios().swap_remove(0);
            let scenario = Scenario { lives, outage: Outage::UpDaily { from, hours }, ..calm };
            let story = rehearse(&scenario, 100, seed);
            // One each five hours, and three on each climb of the ladder.
            let climbs = u64::from(story.orders) + 1;
            proptest::prop_assert!(u64::from(story.failures) <= 100 * 24 / 4 + 3 * climbs, "{story}");
        }
    }
}
