//! The configuration in force, kept for the next daemon: one that comes back after a fault must not stay away because of
//! an edit that does not pass, and that nobody has asked it to take up.
//!
//! It is kept as the listening sockets are, by the service manager, in memory alone. So it ends with the service, and
//! secrets get no second file.

use tracing::warn;

use crate::config::Texts;
use crate::error::Failure;
use crate::supervisor::events::{Event, EventKind, Journal};
use crate::sys::fdstore::Inherited;
use crate::sys::notify::Manager;
use crate::sys::{clock, memfile};

/// The names by which the service manager keeps them.
const CONFIG: &str = "config";
const SECRETS: &str = "secrets";

/// Has the service manager keep `texts`, and no others in their place.
pub(super) fn keep(manager: &Manager, texts: &Texts) {
    if !manager.is_there() {
        return;
    }
    for (name, text) in [(CONFIG, &texts.config), (SECRETS, &texts.secrets)] {
        manager.release_named(name);
        if let Err(error) = memfile::seal(name, text).and_then(|sealed| manager.keep(name, [sealed])) {
            warn!(%error, "the configuration in force is not kept for the next start");
        }
    }
}

/// Tells that a daemon goes by what was in force before.
pub(super) fn tell(refused: &Failure, journal: &Journal) {
    warn!(failure = %refused, "the configuration on the disk is refused; the one before stays in force");
    let event = Event::new(EventKind::Reload, None, &refused.to_string(), clock::now());
    journal.record(event.between("started anew", "refused"));
}

/// What was in force before, if this daemon follows another one.
pub(super) fn take(inherited: &mut Inherited) -> Option<Texts> {
    let (config, secrets) = (inherited.take_text(CONFIG), inherited.take_text(SECRETS));
    Some(Texts { config: config?, secrets: secrets? })
}
