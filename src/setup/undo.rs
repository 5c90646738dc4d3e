//! Takes steps of the journal back, newest first, and says what it did and what it left.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::boot;
use super::by_product::{ByProduct, by_product};
use super::closing::{firewall_after, firewall_files, is_firewall_ours, preview_firewall, set_firewall_back};
use super::deeds::{Deed, Object, Report, Verb};
use super::firewall::Needs;
use super::journal::Journal;
use super::journal::image::{draft_of, look, restore, sync_parent};
use super::journal::record::{Before, Effect, Ledger, Now, Record, Run, RunState, Step, Verdict, verdict};
use super::trusting;
use crate::error::{Failure, Kind, Result};
use crate::home::Home;
use crate::sys::fault;
use crate::text;
use crate::words::Text;

/// Where users are.
const PASSWD: &str = "/etc/passwd";
/// How many files of a folder that stays are named.
const NAMED: usize = 20;

/// Which steps are taken back, and what of the service goes with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// What a killed run has done.
    CutOff,
    /// The last run, and what earlier `undo` had to leave.
    Last,
    /// Every run, and what the service itself has written.
    All,
    /// As `All`, and what was changed since.
    Purge,
}

impl Extent {
    pub(super) fn takes(self, ledger: &Ledger, run: &Run) -> bool {
        match self {
            Self::CutOff => run.state == RunState::CutOff,
            Self::Last => {
                run.state == RunState::Closed || ledger.last_open().is_some_and(|last| last.number == run.number)
            }
            Self::All | Self::Purge => true,
        }
    }

    fn is_forced(self) -> bool {
        self == Self::Purge
    }

    /// Whether what the service has written goes as well.
    fn goes(self, ledger: &Ledger, what: ByProduct) -> bool {
        let ends_all = ledger.runs.iter().all(|run| self.takes(ledger, run));
        match (self, what) {
            (Self::CutOff, _) => false,
            (Self::Last, ByProduct::Scratch) => ends_all,
            (Self::Last, ByProduct::Data | ByProduct::Settings) => false,
            (Self::All, ByProduct::Settings) => false,
            (Self::All, ByProduct::Scratch | ByProduct::Data) | (Self::Purge, _) => true,
        }
    }
}

/// What would be done, without doing it.
///
/// # Errors
/// If something is there and cannot be read.
pub fn preview(home: &Home, ledger: &Ledger, extent: Extent) -> Result<Report> {
    let mut report = preview_files(home, ledger, extent, &[])?;
    let needs = firewall_after(home, ledger, extent, &report);
    if needs.as_ref().is_some_and(Needs::is_empty) {
        // What is written down about the firewall goes with what it is about.
        report = preview_files(home, ledger, extent, &firewall_files(home))?;
    }
    report.deeds.splice(0..0, needs.and_then(|needs| preview_firewall(home, &needs)));
    Ok(report)
}

fn preview_files(home: &Home, ledger: &Ledger, extent: Extent, more: &[PathBuf]) -> Result<Report> {
    let mut report = Report::default();
    let mut gone: BTreeSet<PathBuf> = [home.setup_dir()].into_iter().chain(more.iter().cloned()).collect();
    for path in products(home, ledger, extent) {
        report.add(Verb::Remove, &path, Text::default());
        gone.insert(path);
    }
    for folder in own_folders(home) {
        if folder.is_dir() && extent != Extent::CutOff && is_covered(&folder, &gone) && !gone.contains(&folder) {
            report.add(Verb::Remove, &folder, Text::default());
            gone.insert(folder);
        }
    }
    // What files would be by then.
    let mut files: BTreeMap<PathBuf, Now> = BTreeMap::new();
    for (_, step) in ledger.steps_back(|run| extent.takes(ledger, run)) {
        match &step.effect {
            Effect::File { path, before, after, is_ours } => {
                let now = match files.get(path) {
                    Some(now) => now.clone(),
                    None => look(path)?,
                };
                match verdict(before, after, &now, *is_ours || extent.is_forced()) {
                    Verdict::Nothing => {}
                    Verdict::Remove => {
                        report.add(Verb::Remove, path, Text::default());
                        gone.insert(path.clone());
                        files.insert(path.clone(), Now::Absent);
                    }
                    Verdict::Restore => {
                        report.add(Verb::Restore, path, Text::default());
                        if let Before::File { print, .. } = before {
                            files.insert(path.clone(), Now::File(print.clone()));
                        }
                    }
                    Verdict::Keep(why) => report.add(Verb::Leave, path, why),
                }
            }
            Effect::Folder { path } if !path.exists() || gone.contains(path) => {}
            Effect::Folder { path } if is_covered(path, &gone) => {
                report.add(Verb::Remove, path, Text::default());
                gone.insert(path.clone());
            }
            Effect::Folder { path } => report.add(Verb::Leave, path, text!("it is not empty")),
            Effect::Firewall { .. } => {}
            Effect::Trust { store, before, .. } => report.deeds.push(trusting::deed(store, before.is_some())),
            Effect::Service { link, makes_user, .. } => no_service(link.as_deref(), *makes_user, &mut report),
        }
    }
    if ends(ledger, extent, &report) {
        for folder in ledger.folders.iter().rev().filter(|folder| **folder != home.setup_dir()) {
            if is_covered(folder, &gone) {
                report.add(Verb::Remove, folder, Text::default());
                gone.insert(folder.clone());
            } else {
                report.add(Verb::Leave, folder, text!("it is not empty"));
            }
        }
    }
    let stay = if ends(ledger, extent, &report) { &[][..] } else { &ledger.folders };
    name_contents(home, stay, &mut report, &gone);
    Ok(report)
}

/// Whether the journal goes with it.
fn ends(ledger: &Ledger, extent: Extent, report: &Report) -> bool {
    match extent {
        Extent::CutOff | Extent::Last => {
            let others = ledger.steps_back(|run| !extent.takes(ledger, run));
            others.is_empty() && report.of(Verb::Leave).next().is_none()
        }
        Extent::All | Extent::Purge => true,
    }
}

/// Takes back what `extent` says. The journal goes with the last step, and always with `All` and `Purge`.
///
/// # Errors
/// If the firewall cannot be set back, with everything else as it was; if the journal itself cannot be removed. What
/// else could not be done is in the report.
pub fn take_back(home: &Home, mut journal: Journal, extent: Extent) -> Result<Report> {
    let mut report = Report::default();
    let ledger = journal.ledger().clone();
    let planned = preview_files(home, &ledger, extent, &[])?;
    // First of all: what is written down about it, and the ports that it is about, go with the files.
    if let Some(needs) = firewall_after(home, &ledger, extent, &planned) {
        report.deeds.extend(set_firewall_back(home, &needs)?);
    }
    remove_products(home, &ledger, extent, &mut report);
    let steps = ledger.steps_back(|run| extent.takes(&ledger, run));
    for (run, step) in &steps {
        if one_back(home, &mut journal, step, extent.is_forced(), &mut report) {
            // Without room for the line this is seen anew the next time.
            let _ = journal.write(Record::TakenBack { run: *run, step: step.number });
        }
    }
    for (_, step) in &steps {
        // Once the files are gone that it would read.
        if let Effect::Service { manager, .. } = &step.effect {
            let _ = boot::act::reload(*manager);
        }
    }
    let failed = report.of(Verb::Fail).next().is_some();
    for run in ledger.runs.iter().filter(|run| extent.takes(&ledger, run) && run.state != RunState::Closed) {
        if !failed {
            let _ = journal.write(Record::Closed { run: run.number });
        }
    }
    let is_last = match extent {
        Extent::CutOff | Extent::Last => ends(&ledger, extent, &report),
        Extent::All | Extent::Purge => true,
    };
    let folders = journal.ledger().folders.clone();
    if is_last && !failed {
        let stay = journal.bury()?;
        for folder in folders.iter().rev().filter(|folder| **folder != home.setup_dir()) {
            if stay.contains(folder) {
                report.add(Verb::Leave, folder, text!("it is not empty"));
            } else {
                report.add(Verb::Remove, folder, Text::default());
            }
        }
        name_contents(home, &[], &mut report, &BTreeSet::new());
    } else {
        name_contents(home, &folders, &mut report, &[home.setup_dir()].into());
    }
    Ok(report)
}

/// As [`take_back`], for a home of which no journal tells: what the service has written goes, and with `Purge` what an
/// `init` writes.
///
/// # Errors
/// If the firewall cannot be closed, with everything else as it was.
pub fn clear(home: &Home, extent: Extent) -> Result<Report> {
    let mut report = Report::default();
    if is_firewall_ours(home) {
        report.deeds.extend(set_firewall_back(home, &Needs::default())?);
    }
    remove_products(home, &Ledger::default(), extent, &mut report);
    let folders = [
        home.log_dir().to_path_buf(),
        home.certs_dir(),
        home.state_dir().to_path_buf(),
        home.config_dir().to_path_buf(),
    ];
    for folder in folders {
        match std::fs::remove_dir(&folder) {
            Ok(()) => report.add(Verb::Remove, &folder, Text::default()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(_) => report.add(Verb::Leave, &folder, text!("it is not empty")),
        }
    }
    name_contents(home, &[], &mut report, &BTreeSet::new());
    Ok(report)
}

/// What would be done by [`clear`].
#[must_use]
pub fn preview_clear(home: &Home, extent: Extent) -> Report {
    let mut report = Report::default();
    if is_firewall_ours(home) {
        report.deeds.extend(preview_firewall(home, &Needs::default()));
    }
    let mut gone = BTreeSet::new();
    for path in products(home, &Ledger::default(), extent) {
        report.add(Verb::Remove, &path, Text::default());
        gone.insert(path);
    }
    let folders = own_folders(home).into_iter().chain([
        home.log_dir().to_path_buf(),
        home.certs_dir(),
        home.state_dir().to_path_buf(),
        home.config_dir().to_path_buf(),
    ]);
    for folder in folders.filter(|folder| folder.is_dir()) {
        if is_covered(&folder, &gone) {
            report.add(Verb::Remove, &folder, Text::default());
            gone.insert(folder);
        } else {
            report.add(Verb::Leave, &folder, text!("it is not empty"));
        }
    }
    name_contents(home, &[], &mut report, &gone);
    report
}

/// Removes a journal of which nothing is left to be taken back, as a run that is killed at its very beginning or end
/// leaves it.
///
/// # Errors
/// As [`Journal::open`].
pub fn tidy(home: &Home) -> Result<()> {
    match Journal::open(home)? {
        Some(journal) if journal.ledger().is_settled() => take_back(home, journal, Extent::CutOff).map(drop),
        Some(_) | None => Ok(()),
    }
}

/// Takes a run back that was killed.
///
/// # Errors
/// As [`Journal::open`]; if not all of it could be taken back.
pub fn recover(home: &Home) -> Result<Option<Report>> {
    tidy(home)?;
    let Some(journal) = Journal::open(home)?.filter(|journal| journal.ledger().cut_off().is_some()) else {
        return Ok(None);
    };
    let report = take_back(home, journal, Extent::CutOff)?;
    let stuck: Vec<&Deed> = report.of(Verb::Fail).collect();
    if stuck.is_empty() {
        return Ok(Some(report));
    }
    let failure = Failure::operator(text!("an earlier `init` was cut off, and not all of it can be taken back"));
    Err(stuck.into_iter().fold(failure, |failure, deed| failure.because(text!("`{}`: {}", deed.object, deed.why))))
}

/// Takes a step back. `true`: it is as it was before.
fn one_back(home: &Home, journal: &mut Journal, step: &Step, is_forced: bool, report: &mut Report) -> bool {
    match &step.effect {
        Effect::Folder { path } => match std::fs::remove_dir(path) {
            Ok(()) => {
                sync_parent(path);
                report.add(Verb::Remove, path, Text::default());
                fault::moment("setup");
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => true,
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
                report.add(Verb::Leave, path, text!("it is not empty"));
                false
            }
            Err(error) => {
                report.add(Verb::Fail, path, Text::of_error(&error));
                false
            }
        },
        Effect::File { path, before, after, is_ours } => {
            // A run that was killed while it wrote has left its draft.
            let _ = std::fs::remove_file(draft_of(path));
            let now = match look(path) {
                Ok(now) => now,
                Err(failure) => {
                    report.add(Verb::Fail, path, failure.told());
                    return false;
                }
            };
            let (verb, done) = match verdict(before, after, &now, *is_ours || is_forced) {
                Verdict::Nothing => return true,
                Verdict::Keep(why) => {
                    report.add(Verb::Leave, path, why);
                    return false;
                }
                Verdict::Remove => (Verb::Remove, remove(path)),
                Verdict::Restore => (Verb::Restore, restore(path, before, journal.folder())),
            };
            fault::moment("setup");
            match done {
                Ok(()) => report.add(verb, path, Text::default()),
                Err(failure) => report.add(Verb::Fail, path, failure.told()),
            }
            report.deeds.last().is_some_and(|deed| deed.verb != Verb::Fail)
        }
        // It was set back before anything else.
        Effect::Firewall { .. } => true,
        Effect::Trust { store, name, before, made } => {
            let done = trusting::take_back(store, name, before.as_deref(), made, journal.folder());
            fault::moment("setup");
            let deed = trusting::deed(store, before.is_some());
            report.deeds.push(match done {
                Ok(()) => deed,
                Err(why) => Deed { verb: Verb::Fail, why, ..deed },
            });
            report.deeds.last().is_some_and(|deed| deed.verb != Verb::Fail)
        }
        Effect::Service { link, makes_user, makes_group, before, .. } => {
            let done = boot::act::remove(home, link.as_ref(), (*makes_user, *makes_group), before);
            fault::moment("setup");
            match done {
                Ok(()) => no_service(link.as_deref(), *makes_user, report),
                Err(failure) => report.add(Verb::Fail, Path::new(PASSWD), failure.told()),
            }
            report.deeds.last().is_none_or(|deed| deed.verb != Verb::Fail)
        }
    }
}

/// What is told of a service that does not start with the machine any more.
fn no_service(link: Option<&Path>, makes_user: bool, report: &mut Report) {
    if let Some(link) = link {
        report.add(Verb::Remove, link, Text::default());
    }
    if makes_user {
        // The user is taken out of it.
        report.add(Verb::Restore, Path::new(PASSWD), Text::default());
    }
}

fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path)
        .map_err(|error| Failure::operator(text!("cannot remove `{}`", path.display())).caused_by(error))?;
    sync_parent(path);
    Ok(())
}

/// What the service has written and `extent` takes with it, innermost last.
fn products(home: &Home, ledger: &Ledger, extent: Extent) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in folders(home) {
        files_below(&folder, &mut found);
    }
    found.sort();
    found.dedup();
    // What a step has made is taken back by that step.
    let made: BTreeSet<PathBuf> = ledger
        .steps_back(|_| true)
        .into_iter()
        .filter_map(|(_, step)| match step.effect {
            Effect::File { path, .. } => Some(path),
            Effect::Folder { .. } | Effect::Firewall { .. } | Effect::Trust { .. } | Effect::Service { .. } => None,
        })
        .collect();
    found.retain(|path| {
        !made.contains(path)
            && !path.starts_with(home.setup_dir())
            && by_product(home, path).is_some_and(|what| extent.goes(ledger, what))
    });
    found
}

fn remove_products(home: &Home, ledger: &Ledger, extent: Extent, report: &mut Report) {
    for path in products(home, ledger, extent) {
        match remove(&path) {
            Ok(()) => report.add(Verb::Remove, &path, Text::default()),
            Err(failure) => report.add(Verb::Fail, &path, failure.told()),
        }
    }
    if extent == Extent::CutOff {
        return;
    }
    for folder in own_folders(home) {
        if std::fs::remove_dir(&folder).is_ok() {
            report.add(Verb::Remove, &folder, Text::default());
        }
    }
}

/// Folders that the service makes for itself.
fn own_folders(home: &Home) -> Vec<PathBuf> {
    let mut own = vec![home.certs_dir().join("acme")];
    if home.single_dir().is_none() && home.run_dir() != home.state_dir() {
        own.push(home.run_dir().to_path_buf());
    }
    own
}

fn folders(home: &Home) -> Vec<PathBuf> {
    let mut all = super::plan::folders(home);
    all.push(home.run_dir().to_path_buf());
    all
}

/// Files of the folder and of the folders of rtcctl's below it; nothing is looked for in folders of other names.
fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if !kind.is_dir() => found.push(entry.path()),
            Ok(_) if entry.file_name() == "acme" => files_below(&entry.path(), found),
            Ok(_) | Err(_) => {}
        }
    }
}

/// Whether all that is in the folder goes.
fn is_covered(folder: &Path, gone: &BTreeSet<PathBuf>) -> bool {
    std::fs::read_dir(folder)
        .is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|entry| gone.contains(&entry.path()))))
}

/// Names what is in the folders that stay, those of the journal among them if it stays.
fn name_contents(home: &Home, journals: &[PathBuf], report: &mut Report, gone: &BTreeSet<PathBuf>) {
    if !report.changed() && report.of(Verb::Leave).next().is_none() {
        return;
    }
    let mut stay: Vec<PathBuf> = report.of(Verb::Leave).filter_map(|deed| deed.path().map(Path::to_path_buf)).collect();
    stay.extend(
        journals.iter().filter(|folder| **folder != home.setup_dir() && folder.starts_with(home.state_dir())).cloned(),
    );
    let mut named = 0;
    for folder in &stay {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            if gone.contains(&path) || stay.contains(&path) || path == home.setup_dir() || named >= NAMED {
                continue;
            }
            let why = match by_product(home, &path) {
                Some(ByProduct::Scratch | ByProduct::Data) => text!("the service wrote it"),
                Some(ByProduct::Settings) => text!("it was there, or was made, without `init`"),
                None => text!("it is not of rtcctl"),
            };
            named += 1;
            report.add(Verb::Leave, &path, why);
        }
    }
}

/// The failure that stands for a run that was taken back because of `failure`.
pub(super) fn rolled_back(failure: Failure, report: &Report) -> Failure {
    let stuck: Vec<String> = report
        .deeds
        .iter()
        .filter(|deed| matches!(deed.verb, Verb::Fail | Verb::Leave))
        .map(|deed| format!("`{}`", deed.object))
        .collect();
    if !report.changed() && stuck.is_empty() {
        if failure.kind() != Kind::Interrupted {
            return failure;
        }
        return Failure::new(Kind::Interrupted, text!("{}; nothing was changed", failure.message()));
    }
    let has_failed = report.of(Verb::Fail).next().is_some();
    let kind = if failure.kind() == Kind::Interrupted {
        Kind::Interrupted
    } else if has_failed {
        Kind::Operator
    } else {
        Kind::RolledBack
    };
    let how = if has_failed {
        "not all that was changed could be taken back"
    } else {
        "what was changed has been taken back"
    };
    let mut whole = Failure::new(kind, text!("{}; {}", failure.message(), how));
    if !stuck.is_empty() {
        whole = whole.because(text!("this could not be taken back: {}", stuck.join(", ")));
    }
    let whole = failure.causes().iter().fold(whole, Failure::because);
    failure.hints().iter().fold(whole, Failure::hinted)
}

/// What is said when the journal itself could not be removed.
pub(super) fn stuck(home: &Home, why: &Failure) -> Deed {
    Deed { verb: Verb::Fail, object: Object::Path(home.setup_dir()), why: why.told() }
}
