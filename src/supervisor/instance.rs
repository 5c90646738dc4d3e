//! One instance of a task as it is seen from outside: its loops, its threads, its last log lines, its panics.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::capsule::Capsule;
#[cfg(feature = "faults")]
use super::faults;
use super::policy::InstanceId;
use super::service::TaskName;
use crate::sys::tail::Tail;
use crate::sys::threads;

thread_local! {
    static OWNER: RefCell<Option<Adopted>> = const { RefCell::new(None) };
}

/// Shows that one loop turns. Beaten by that loop itself, at least once a second, never by a timer beside it.
#[derive(Debug, Default)]
pub struct Pulse {
    name: String,
    count: AtomicU64,
    #[cfg(feature = "faults")]
    place: Mutex<Option<faults::Place>>,
}

impl Pulse {
    /// The pulse of a loop that belongs to no task.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// The loop turns.
    pub fn beat(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        #[cfg(feature = "faults")]
        {
            let place = *locked(&self.place);
            if let Some(place) = place {
                faults::strike(place, &self.name);
            }
        }
    }

    /// How often it has turned.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where faults can be planted that strike in this loop.
    #[cfg(feature = "faults")]
    pub fn set_place(&self, place: Option<faults::Place>) {
        *locked(&self.place) = place;
    }
}

/// What is called with the capsule of each panic.
pub type OnPanic = Box<dyn Fn(Capsule) + Send + Sync>;

/// One instance of a task.
pub struct Instance {
    pub task: TaskName,
    pub id: InstanceId,
    pulses: Mutex<Vec<Arc<Pulse>>>,
    threads: Mutex<BTreeSet<i32>>,
    tail: Arc<Tail>,
    on_panic: OnPanic,
}

impl Instance {
    /// `tail` is the task's, over all of its instances.
    #[must_use]
    pub fn new(task: TaskName, id: InstanceId, tail: Arc<Tail>, on_panic: OnPanic) -> Self {
        let main = Pulse::new(task.as_str());
        #[cfg(feature = "faults")]
        main.set_place(Some(faults::Place::Task(task)));
        Self { task, id, pulses: Mutex::new(vec![Arc::new(main)]), threads: Mutex::default(), tail, on_panic }
    }

    /// The pulse of the loop that every task has.
    #[must_use]
    pub fn main_pulse(&self) -> Arc<Pulse> {
        Arc::clone(&locked(&self.pulses)[0])
    }

    /// The pulse of one more loop.
    #[must_use]
    pub fn add_pulse(&self, name: &str) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse::new(name));
        let mut pulses = locked(&self.pulses);
        #[cfg(feature = "faults")]
        {
            // Those that do the work are to be struck, not the one that looks after them.
            pulses[0].set_place(None);
            pulse.set_place(Some(faults::Place::Task(self.task)));
        }
        pulses.push(Arc::clone(&pulse));
        pulse
    }

    #[must_use]
    pub fn pulses(&self) -> Vec<Arc<Pulse>> {
        locked(&self.pulses).clone()
    }

    /// The numbers of its threads that live.
    #[must_use]
    pub fn threads(&self) -> Vec<i32> {
        locked(&self.threads).iter().copied().collect()
    }

    /// The last lines that the task has logged.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.tail.lines()
    }

    pub(super) fn handle_panic(&self, capsule: Capsule) {
        (self.on_panic)(capsule);
    }

    /// Makes this thread one of the instance's: its log lines and its panics are the task's.
    pub fn adopt_thread(self: &Arc<Self>) {
        self.tail.follow();
        let adopted = Adopted { instance: Arc::clone(self), thread: threads::own() };
        locked(&self.threads).insert(adopted.thread);
        OWNER.with_borrow_mut(|owner| *owner = Some(adopted));
    }

    /// The instance that this thread belongs to.
    #[must_use]
    pub fn of_this_thread() -> Option<Arc<Self>> {
        // A thread that is ending has no such variable any more.
        let owner = OWNER.try_with(|owner| Some(Arc::clone(&owner.try_borrow().ok()?.as_ref()?.instance)));
        owner.ok().flatten()
    }
}

/// A thread that belongs to an instance, until it ends.
struct Adopted {
    instance: Arc<Instance>,
    thread: i32,
}

impl Drop for Adopted {
    fn drop(&mut self) {
        locked(&self.instance.threads).remove(&self.thread);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is kept here can be half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_belongs_to_its_instance_until_it_ends() {
        let instance = Arc::new(Instance::new(TaskName::Turn, 1, Arc::default(), Box::new(drop)));
        assert!(Instance::of_this_thread().is_none());
        let own = Arc::clone(&instance);
        let thread = std::thread::spawn(move || {
            own.adopt_thread();
            assert_eq!(Instance::of_this_thread().unwrap().task, TaskName::Turn);
            own.threads()
        });
        assert_eq!(thread.join().unwrap().len(), 1);
        assert!(instance.threads().is_empty());
    }
}
