//! Looks at the loops of all running instances from an OS thread of its own, which no blocked runtime holds up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::capsule::Capsule;
use super::instance::{Instance, Pulse};
use super::policy::InstanceId;
use super::silence::{LOOKED_EVERY, Silence};
use crate::sys::{clock, threads, turns};
use crate::text;
use crate::words::Text;

/// Loops that belong to no task, and whose hang only a new process mends.
#[derive(Clone)]
pub struct Fixture {
    pub name: &'static str,
    pub pulses: Vec<Arc<Pulse>>,
}

/// Something that stands still.
#[derive(Debug)]
pub(super) struct Hang {
    pub(super) of: Hung,
    pub(super) cause: Text,
    pub(super) capsule: Capsule,
}

/// What stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hung {
    Instance { task: usize, id: InstanceId },
    Fixture(&'static str),
}

type Instances = BTreeMap<(usize, InstanceId), Arc<Instance>>;

/// The loops of one thing, and the instance whose they are.
type Loops = (Vec<Arc<Pulse>>, Option<Arc<Instance>>);

/// What is looked at. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Watched {
    instances: Arc<Mutex<Instances>>,
    fixtures: Arc<Mutex<Vec<Fixture>>>,
}

impl Watched {
    pub(super) fn add(&self, task: usize, instance: Arc<Instance>) {
        let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        instances.insert((task, instance.id), instance);
    }

    pub(super) fn remove(&self, task: usize, id: InstanceId) {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner).remove(&(task, id));
    }

    pub(super) fn add_fixture(&self, fixture: Fixture) {
        self.fixtures.lock().unwrap_or_else(PoisonError::into_inner).push(fixture);
    }

    fn all(&self) -> BTreeMap<Hung, Loops> {
        let instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        let instances = instances.iter().map(|(&(task, id), instance)| {
            (Hung::Instance { task, id }, (instance.pulses(), Some(Arc::clone(instance))))
        });
        let fixtures = self.fixtures.lock().unwrap_or_else(PoisonError::into_inner);
        let fixtures = fixtures.iter().map(|fixture| (Hung::Fixture(fixture.name), (fixture.pulses.clone(), None)));
        instances.chain(fixtures).collect()
    }
}

/// Looks until `ended`, and tells `tell` of everything that stands still, again and again for as long as it does.
pub(super) fn start(
    watched: Watched,
    ended: CancellationToken,
    tell: impl Fn(Hang) + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let watch = move || {
        let mut rounds = Rounds::default();
        let mut looked_at = clock::now().mono;
        while !ended.is_cancelled() {
            thread::park_timeout(turns::until_next(looked_at).min(LOOKED_EVERY));
            let now = clock::now().mono;
            let since_last = now.saturating_duration_since(looked_at);
            looked_at = now;
            rounds.look(&watched, since_last).into_iter().for_each(&tell);
        }
    };
    thread::Builder::new().name("watchdog".to_owned()).spawn(watch)
}

#[derive(Default)]
struct Rounds {
    silences: BTreeMap<(Hung, usize), Silence>,
}

impl Rounds {
    fn look(&mut self, watched: &Watched, since_last: Duration) -> Vec<Hang> {
        let all = watched.all();
        self.silences.retain(|(of, _), _| all.contains_key(of));
        let mut hangs = Vec::new();
        for (of, (pulses, instance)) in all {
            let mut standing = Vec::new();
            for (number, pulse) in pulses.iter().enumerate() {
                let silence = self.silences.entry((of, number)).or_insert_with(|| Silence::new(pulse.count()));
                if let Some(lasted) = silence.look(pulse.count(), since_last) {
                    standing.push((pulse.name(), lasted));
                }
            }
            // Those that serve say more than the one that looks after them.
            let Some((name, lasted)) = standing.last() else { continue };
            let cause = text!("the loop `{}` has stood still for {} s", name, format!("{:.1}", lasted.as_secs_f64()));
            let threads = instance.as_ref().map_or_else(Vec::new, |instance| instance.threads());
            let capsule = Capsule {
                message: cause.english().to_owned(),
                thread: (*name).to_owned(),
                threads: threads.into_iter().filter_map(threads::describe).collect(),
                log: instance.as_ref().map_or_else(Vec::new, |instance| instance.log()),
                ..Capsule::default()
            };
            hangs.push(Hang { of, cause, capsule: capsule.bounded() });
        }
        hangs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::policy::HANG_LIMIT;
    use crate::supervisor::service::TaskName;

    #[test]
    fn one_loop_of_an_instance_that_stands_still_is_found_however_fast_the_others_turn() {
        let watched = Watched::default();
        let instance = Arc::new(Instance::new(TaskName::Turn, 3, Arc::default(), Box::new(drop)));
        let (first, second) = (instance.add_pulse("turn-0"), instance.add_pulse("turn-1"));
        let edge = Arc::new(Pulse::new("edge"));
        watched.add(1, Arc::clone(&instance));
        watched.add_fixture(Fixture { name: "edge", pulses: vec![Arc::clone(&edge)] });
        let mut rounds = Rounds::default();
        let looks = HANG_LIMIT.as_millis() / LOOKED_EVERY.as_millis();
        let mut round = |also: &[&Arc<Pulse>]| -> Vec<Hang> {
            let look = |_| {
                instance.main_pulse().beat();
                also.iter().for_each(|pulse| pulse.beat());
                rounds.look(&watched, LOOKED_EVERY)
            };
            (0..looks).flat_map(look).collect()
        };
        assert!(round(&[&first, &second, &edge]).is_empty());
        let hangs = round(&[&first, &edge]);
        assert_eq!(hangs.len(), 1);
        assert_eq!(hangs[0].of, Hung::Instance { task: 1, id: 3 });
        assert_eq!(hangs[0].capsule.thread, "turn-1");
        assert_eq!(hangs[0].cause, "the loop `turn-1` has stood still for 8.0 s");
        watched.remove(1, 3);
        let hangs = round(&[]);
        assert_eq!(hangs.iter().map(|hang| hang.of).collect::<Vec<_>>(), [Hung::Fixture("edge")]);
    }
}
