//! Faults that tests plant, to see what the rest of the service makes of them.
//!
//! Only compiled with the feature `faults`, which refuses to be built for release. A planted fault strikes once, in
//! the loop of the place it is meant for, at that loop's next turn.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::service::TaskName;

/// Where a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In a loop of a task that serves: of turn, whichever worker turns first.
    Task(TaskName),
    /// In a loop of edge that accepts connections.
    Edge,
    /// In the supervisor's own loop, whose hang nobody within the process mends.
    Supervisor,
}

/// What happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The thread panics.
    Panic,
    /// It computes for ever.
    Spin,
    /// It waits for somebody who never comes.
    Deadlock,
    /// It blocks its executor for a while, then goes on.
    Block { seconds: u64 },
    /// The relay's peer filter lets this address through. Made at once, until turn is configured anew.
    Hole { peer: IpAddr },
    /// The daemon's wall clock goes by so much more, or less, than the machine's. Done at once.
    Jump { seconds: i64 },
}

static PLANTED: Mutex<Vec<(Place, Kind)>> = Mutex::new(Vec::new());
static IS_ANY_PLANTED: AtomicBool = AtomicBool::new(false);

/// Plants a fault.
pub fn plant(place: Place, kind: Kind) {
    PLANTED.lock().unwrap_or_else(PoisonError::into_inner).push((place, kind));
    IS_ANY_PLANTED.store(true, Ordering::Release);
}

/// Strikes, if something was planted here.
pub fn strike(place: Place, name: &str) {
    // As good as free where nothing is planted, since it is asked in every turn of every loop.
    if !IS_ANY_PLANTED.load(Ordering::Acquire) {
        return;
    }
    let Some(kind) = take(place) else { return };
    tracing::error!(loop_name = name, ?kind, "a planted fault strikes");
    match kind {
        Kind::Panic => panic!("a planted panic"),
        Kind::Spin => loop {
            std::hint::spin_loop();
        },
        Kind::Deadlock => {
            let (somebody, never) = mpsc::channel::<()>();
            let _ = never.recv();
            drop(somebody);
        }
        Kind::Block { seconds } => std::thread::sleep(Duration::from_secs(seconds)),
        // They do not wait for a loop.
        Kind::Hole { .. } | Kind::Jump { .. } => {}
    }
}

fn take(place: Place) -> Option<Kind> {
    let mut planted = PLANTED.lock().unwrap_or_else(PoisonError::into_inner);
    let at = planted.iter().position(|(other, _)| *other == place)?;
    let (_, kind) = planted.remove(at);
    IS_ANY_PLANTED.store(!planted.is_empty(), Ordering::Release);
    Some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_once_and_only_where_it_was_planted() {
        plant(Place::Supervisor, Kind::Panic);
        strike(Place::Edge, "edge");
        let struck = std::panic::catch_unwind(|| strike(Place::Supervisor, "supervisor"));
        assert!(struck.is_err());
        strike(Place::Supervisor, "supervisor");
    }
}
