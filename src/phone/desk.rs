//! Who may prove something, for how long, and what was said. Decides only.
//!
//! A proof belongs to a terminal, which asks for it again and again; a terminal that is gone is noticed by its silence.
//! The code in the terminal is good for one browser, which gets a key of its own for it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::report::{Report, Step, browser, plain};
use super::verdict::{Verdict, judge};

/// Proofs at a time: a terminal each.
const MAX_PROOFS: usize = 8;
/// What may be said in one proof: nine steps, some of them more than once, and a page that is opened anew.
const MAX_EVENTS: usize = 200;
/// How long a terminal may be silent.
const TERMINAL_WITHIN: Duration = Duration::from_secs(15);
/// Random bytes of codes and keys.
const SECRET: usize = 16;

/// Something that a terminal shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// A browser has opened the page by the code.
    Opened {
        browser: String,
        address: String,
    },
    /// Another one came with the same code and was refused.
    Refused {
        browser: String,
        address: String,
    },
    Step(Report),
    Verdict(Verdict),
}

/// Why a browser is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The code or key is none, or its time is over.
    Unknown,
    /// Another browser has used the code.
    Used,
    /// It has said more than a proof needs.
    TooMuch,
}

/// The proof that a terminal has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// By which the terminal asks for it.
    pub id: String,
    /// What the browser must show.
    pub code: String,
}

/// What a terminal is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// From the number on that was asked for.
    pub events: Vec<Event>,
    pub seconds_left: u64,
}

struct Proof {
    code: String,
    /// The browser's, once there is one.
    key: Option<String>,
    events: Vec<Event>,
    steps: BTreeMap<Step, Report>,
    verdict: Option<Verdict>,
    ends_at: Instant,
    asked_at: Instant,
}

/// All proofs under way.
#[derive(Default)]
pub struct Desk {
    proofs_by_id: BTreeMap<String, Proof>,
}

impl Desk {
    /// Begins a proof for a terminal; `None`: there are too many.
    pub fn begin(&mut self, lasts: Duration, now: Instant, rng: &mut impl Rng) -> Option<Begun> {
        self.forget(now);
        if self.proofs_by_id.len() >= MAX_PROOFS {
            return None;
        }
        let begun = Begun { id: secret(rng), code: secret(rng) };
        let proof = Proof {
            code: begun.code.clone(),
            key: None,
            events: Vec::new(),
            steps: BTreeMap::new(),
            verdict: None,
            ends_at: now + lasts,
            asked_at: now,
        };
        self.proofs_by_id.insert(begun.id.clone(), proof);
        Some(begun)
    }

    /// What has happened since event number `from`; `None`: there is no such proof, or not any more.
    pub fn read(&mut self, id: &str, from: usize, now: Instant) -> Option<View> {
        self.forget(now);
        let proof = self.proofs_by_id.get_mut(id)?;
        proof.asked_at = now;
        let left = proof.ends_at.saturating_duration_since(now);
        let events = proof.events.get(from..).unwrap_or_default().to_vec();
        Some(View { events, seconds_left: left.as_secs_f64().ceil() as u64 })
    }

    /// Ends a proof: its code and its key are good for nothing any more.
    pub fn end(&mut self, id: &str) {
        self.proofs_by_id.remove(id);
    }

    /// Gives a browser that shows the code a key of its own.
    ///
    /// # Errors
    /// If the code is unknown or was used.
    pub fn claim(
        &mut self,
        code: &str,
        agent: &str,
        address: &str,
        now: Instant,
        rng: &mut impl Rng,
    ) -> Result<String, Refusal> {
        self.forget(now);
        let proof = self.proofs_by_id.values_mut().find(|proof| is_same(&proof.code, code)).ok_or(Refusal::Unknown)?;
        let (browser, address) = (browser(agent), plain(address, 60));
        if proof.key.is_some() {
            let event = Event::Refused { browser, address };
            // Whoever tries again and again is told of once.
            if !proof.events.contains(&event) {
                proof.say(event).ok();
            }
            return Err(Refusal::Used);
        }
        proof.say(Event::Opened { browser, address })?;
        let key = secret(rng);
        proof.key = Some(key.clone());
        Ok(key)
    }

    /// Takes what a browser with a key says. Gives the verdict once there is one.
    ///
    /// # Errors
    /// If the key is unknown, or too much was said.
    pub fn report(&mut self, key: &str, report: Report, now: Instant) -> Result<Option<Verdict>, Refusal> {
        self.forget(now);
        let is_key = |proof: &&mut Proof| proof.key.as_ref().is_some_and(|known| is_same(known, key));
        let proof = self.proofs_by_id.values_mut().find(is_key).ok_or(Refusal::Unknown)?;
        if proof.verdict.is_some() {
            // The terminal has gone by it.
            return Ok(proof.verdict.clone());
        }
        let report = report.bounded();
        proof.say(Event::Step(report.clone()))?;
        proof.steps.insert(report.step, report);
        proof.verdict = judge(&proof.steps);
        if let Some(verdict) = &proof.verdict {
            // Above the bound of what the browser may say.
            proof.events.push(Event::Verdict(verdict.clone()));
        }
        Ok(proof.verdict.clone())
    }

    /// Whole seconds that the proof of this key lasts.
    #[must_use]
    pub fn seconds_left(&self, key: &str, now: Instant) -> Option<u64> {
        let is_key = |proof: &&Proof| proof.key.as_ref().is_some_and(|known| is_same(known, key));
        let proof = self.proofs_by_id.values().find(is_key)?;
        Some(proof.ends_at.saturating_duration_since(now).as_secs())
    }

    fn forget(&mut self, now: Instant) {
        self.proofs_by_id.retain(|_, proof| now < proof.ends_at && now < proof.asked_at + TERMINAL_WITHIN);
    }
}

impl Proof {
    fn say(&mut self, event: Event) -> Result<(), Refusal> {
        if self.events.len() >= MAX_EVENTS {
            return Err(Refusal::TooMuch);
        }
        self.events.push(event);
        Ok(())
    }
}

fn secret(rng: &mut impl Rng) -> String {
    let mut bytes = [0; SECRET];
    rng.fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Compares in a time that tells nothing of where the difference is.
fn is_same(one: &str, other: &str) -> bool {
    let differs = one.bytes().zip(other.bytes()).fold(0, |differs, (one, other)| differs | (one ^ other));
    one.len() == other.len() && std::hint::black_box(differs) == 0
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::super::report::{Figures, Grade};
    use super::*;
    use crate::sys::clock;

    const LASTS: Duration = Duration::from_secs(300);

    struct Scene {
        desk: Desk,
        rng: StdRng,
        now: Instant,
    }

    impl Scene {
        fn new() -> Self {
            Self { desk: Desk::default(), rng: StdRng::seed_from_u64(7), now: clock::now().mono }
        }

        fn begin(&mut self) -> Begun {
            self.desk.begin(LASTS, self.now, &mut self.rng).unwrap()
        }

        fn claim(&mut self, code: &str) -> Result<String, Refusal> {
            self.desk.claim(code, "Firefox/1 Android", "192.0.2.7", self.now, &mut self.rng)
        }

        fn says(&mut self, key: &str, step: Step, grade: Grade) -> Result<Option<Verdict>, Refusal> {
            let report = Report { step, grade, note: None, words: String::new(), figures: Figures::default() };
            self.desk.report(key, report, self.now)
        }

        fn events(&mut self, id: &str) -> Vec<Event> {
            self.desk.read(id, 0, self.now).unwrap().events
        }
    }

    #[test]
    fn a_code_is_good_for_one_browser_whose_steps_end_in_a_verdict() {
        let mut scene = Scene::new();
        let begun = scene.begin();
        assert_eq!(scene.claim("wrong"), Err(Refusal::Unknown));
        assert_eq!(scene.claim(""), Err(Refusal::Unknown));
        let key = scene.claim(&begun.code).unwrap();
        assert_ne!(key, begun.code);
        for _ in 0..3 {
            assert_eq!(scene.claim(&begun.code), Err(Refusal::Used));
        }
        assert_eq!(scene.says(&begun.code, Step::Page, Grade::Good), Err(Refusal::Unknown), "the code is no key");
        for step in Step::ALL {
            let verdict = scene.says(&key, step, Grade::Good).unwrap();
            assert_eq!(verdict.is_some(), step == Step::Call, "{step:?}");
        }
        let events = scene.events(&begun.id);
        assert!(
            matches!(&events[0], Event::Opened { browser, address } if browser == "Firefox, Android" && address == "192.0.2.7")
        );
        assert!(matches!(&events[1], Event::Refused { .. }));
        assert!(matches!(events.last(), Some(Event::Verdict(verdict)) if verdict.grade == Grade::Good));
        assert_eq!(events.len(), 2 + Step::ALL.len() + 1);
        assert!(scene.says(&key, Step::Udp, Grade::Bad).unwrap().is_some_and(|verdict| verdict.grade == Grade::Good));
        assert_eq!(scene.events(&begun.id).len(), events.len(), "what comes later changes nothing");
        assert_eq!(scene.desk.read(&begun.id, 5, scene.now).unwrap().events, events[5..]);
        assert!(scene.desk.read(&begun.id, 500, scene.now).unwrap().events.is_empty());
    }

    #[test]
    fn a_proof_ends_with_its_time_with_its_terminal_and_on_demand() {
        let mut scene = Scene::new();
        let begun = scene.begin();
        scene.now += TERMINAL_WITHIN - Duration::from_secs(1);
        assert_eq!(scene.desk.read(&begun.id, 0, scene.now).unwrap().seconds_left, 286);
        scene.now += TERMINAL_WITHIN;
        assert_eq!(scene.claim(&begun.code), Err(Refusal::Unknown), "nobody looks any more");

        let begun = scene.begin();
        for _ in 0..30 {
            scene.now += Duration::from_secs(10);
            scene.desk.read(&begun.id, 0, scene.now);
        }
        assert_eq!(scene.claim(&begun.code), Err(Refusal::Unknown), "its time is over");

        let begun = scene.begin();
        let key = scene.claim(&begun.code).unwrap();
        scene.desk.end(&begun.id);
        assert_eq!(scene.says(&key, Step::Page, Grade::Good), Err(Refusal::Unknown));
        assert_eq!(scene.desk.read(&begun.id, 0, scene.now), None);
        assert_eq!(scene.desk.seconds_left(&key, scene.now), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut scene = Scene::new();
        let begun: Vec<Begun> = (0..MAX_PROOFS).map(|_| scene.begin()).collect();
        assert_eq!(scene.desk.begin(LASTS, scene.now, &mut scene.rng), None);
        let key = scene.claim(&begun[0].code).unwrap();
        for _ in 1..MAX_EVENTS {
            scene.says(&key, Step::Host, Grade::Running).unwrap();
        }
        assert_eq!(scene.says(&key, Step::Host, Grade::Running), Err(Refusal::TooMuch));
        assert_eq!(scene.events(&begun[0].id).len(), MAX_EVENTS);
        assert_eq!(scene.claim(&begun[0].code), Err(Refusal::Used));
        let other = scene.claim(&begun[1].code).unwrap();
        assert!(scene.says(&other, Step::Host, Grade::Good).is_ok(), "others go on");
    }
}
