//! Takes back what was opened in the firewall, with whatever is taken back besides.

use std::path::PathBuf;

use super::deeds::{Deed, Object, Report, Verb};
use super::firewall::confirm::Pending;
use super::firewall::{self, Needs};
use super::journal::record::{Effect, Ledger};
use super::undo::Extent;
use crate::error::Result;
use crate::home::Home;
use crate::words::Text;

/// What the firewall is to let in afterwards by rules of ours; `None`: it stays as it is.
pub(super) fn firewall_after(home: &Home, ledger: &Ledger, extent: Extent, planned: &Report) -> Option<Needs> {
    let steps = ledger.steps_back(|run| extent.takes(ledger, run));
    let earliest = steps.into_iter().rev().find_map(|(_, step)| match step.effect {
        Effect::Firewall { before, .. } => Some(before),
        Effect::Folder { .. } | Effect::File { .. } | Effect::Trust { .. } | Effect::Service { .. } => None,
    });
    // Without a configuration nobody could say any more what is ours, whoever opened it.
    let ends = planned.removes(&home.config_file()) || matches!(extent, Extent::All | Extent::Purge);
    if ends && (earliest.is_some() || is_firewall_ours(home)) { Some(Needs::default()) } else { earliest }
}

/// What is written down about the firewall.
pub(super) fn firewall_files(home: &Home) -> [PathBuf; 2] {
    [firewall::Record::file(home), Pending::file(home)]
}

/// Whether rules of ours are written down.
#[must_use]
pub fn is_firewall_ours(home: &Home) -> bool {
    firewall::Record::load(home) != firewall::Record::default() || Pending::load(home).is_some()
}

fn deed_of_firewall(home: &Home, needs: &Needs) -> Deed {
    let (verb, shown) = if needs.is_empty() {
        (Verb::Close, firewall::Record::load(home).needs)
    } else {
        (Verb::Restore, needs.clone())
    };
    Deed { verb, object: Object::Firewall, why: Text::verbatim(shown.to_string()) }
}

/// What [`set_firewall_back`] would do.
#[must_use]
pub fn preview_firewall(home: &Home, needs: &Needs) -> Option<Deed> {
    // Who cannot see it takes what is written down for what is.
    let is_as_wanted = nix::unistd::geteuid().is_root()
        && firewall::detect(home)
            .is_ok_and(|detected| firewall::plan(&detected, needs, &home.tag()).changes().next().is_none());
    (!is_as_wanted).then(|| deed_of_firewall(home, needs))
}

/// Has the firewall let in by rules of ours what `needs` says, and nothing else. `None`: it did.
///
/// # Errors
/// `Kind::NeedsRoot` if this is not root, `Kind::Locked` if another run is at it; as [`firewall::settle`].
pub fn set_firewall_back(home: &Home, needs: &Needs) -> Result<Option<Deed>> {
    let _lock = firewall::lock(home, "close")?;
    let deed = deed_of_firewall(home, needs);
    let done = firewall::settle(home, needs, &mut |_| {})?;
    Pending::forget(home)?;
    Ok(done.changes().next().is_some().then_some(deed))
}
