//! Carries a plan out, a step at a time: check, note in the journal, do, verify. A step that fails, or Ctrl-C, takes
//! everything back; what a killed run leaves is taken back by the next one.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::boot;
use super::deeds::Report;
use super::firewall;
use super::journal::Journal;
use super::journal::image::{draft_of, keep, look, print, sync_parent};
use super::journal::record::{Effect, Now, Record};
use super::plan::{Action, Plan, Step, Subject};
use super::trusting;
use super::undo::{Extent, rolled_back, take_back};
use crate::certs::leaf;
use crate::certs::store::{draft, inspect};
use crate::certs::{Served, load_or_issue};
use crate::config::{Secret, Secrets, load, new_access_key, render_secrets, with_access_key};
use crate::error::{Failure, Kind, Result};
use crate::home::Home;
use crate::sys::clock;
use crate::sys::fault;
use crate::sys::fs::{read_to_string, write_atomic_by};
use crate::sys::interrupt::interrupted;
use crate::text;
use crate::words::Text;

/// A TURN secret has this many random bytes.
const SECRET_BYTES: usize = 32;

/// What a file is to hold.
struct Content {
    bytes: Vec<u8>,
    /// What it must hold until then.
    base: Option<String>,
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Self { bytes: text.into_bytes(), base: None }
    }
}

/// Carries the plan out, step by step, and gives the certificate that will be served.
///
/// # Errors
/// The step's own failure if nothing was changed yet; `Kind::RolledBack` if what was changed has been taken back;
/// `Kind::Interrupted` after Ctrl-C, with everything taken back; `Kind::Locked` if another run is at work.
pub fn apply(plan: &Plan, home: &Home) -> Result<Served> {
    if plan.changes() == 0 {
        return verify(plan, home);
    }
    // Everything that is to be written is known before the first change.
    let contents = contents(plan, home)?;
    stop_if_interrupted()?;
    let opens = !plan.opening.changes().is_empty();
    // Held to the end: a failure takes rules back as well.
    let lock = if opens { Some(firewall::lock(home, "open")?) } else { None };
    let mut journal = Journal::create(home)?;
    match carry_out(plan, home, &contents, &mut journal) {
        Ok(served) => Ok(served),
        Err(failure) => {
            // Taking back takes the lock by itself.
            drop(lock);
            let report = take_back(home, journal, Extent::CutOff).unwrap_or_else(|why| {
                // What is left of it is taken back by the next run.
                Report { deeds: vec![super::undo::stuck(home, &why)] }
            });
            Err(rolled_back(failure, &report))
        }
    }
}

fn carry_out(plan: &Plan, home: &Home, contents: &BTreeMap<PathBuf, Content>, journal: &mut Journal) -> Result<Served> {
    if journal.ledger().cut_off().is_some() {
        return Err(changed_meanwhile(text!("another `init` was cut off since this plan was made")));
    }
    let run = journal.ledger().next_run();
    let at = OffsetDateTime::from(clock::now().wall).truncate_to_second().format(&Rfc3339).unwrap_or_default();
    journal.write(Record::Began { run, at, what: plan.one_liner.clone() })?;
    for step in plan.steps.iter().filter(|step| step.action != Action::Keep) {
        stop_if_interrupted()?;
        match step.subject {
            Subject::Folder => make_folder(step, run, journal)?,
            Subject::Config | Subject::Secrets | Subject::Certificates | Subject::Answers | Subject::Boot => {
                let content = contents
                    .get(&step.path)
                    .ok_or_else(|| changed_meanwhile(text!("`{}` needs no change any more", step.path.display())))?;
                write_file(step, content, run, journal)?;
            }
        }
    }
    trusting::trust(&plan.trusting.changes, home, run, journal)?;
    open_firewall(plan, home, run, journal)?;
    let served = verify(plan, home)?;
    if let Some(service) = &plan.service {
        stop_if_interrupted()?;
        boot::act::install(service, home, run, journal)?;
    }
    journal.write(Record::Finished { run })?;
    Ok(served)
}

/// The last step: whatever fails before leaves the firewall alone.
fn open_firewall(plan: &Plan, home: &Home, run: u32, journal: &mut Journal) -> Result<()> {
    let changes = plan.opening.changes();
    if changes.is_empty() {
        return Ok(());
    }
    stop_if_interrupted()?;
    let before = firewall::Record::load(home).needs;
    journal.will(run, Effect::Firewall { before, after: plan.opening.needs.clone() })?;
    firewall::settle_as_shown(home, &plan.opening.needs, &changes)
}

fn make_folder(step: &Step, run: u32, journal: &mut Journal) -> Result<()> {
    if journal.ledger().folders.contains(&step.path) && step.path.is_dir() {
        return Ok(());
    }
    if step.path.symlink_metadata().is_ok() {
        return Err(changed_meanwhile(text!("`{}` is there by now", step.path.display())));
    }
    journal.will(run, Effect::Folder { path: step.path.clone() })?;
    let failed =
        |error| Failure::operator(text!("cannot create the folder `{}`", step.path.display())).caused_by(error);
    DirBuilder::new().mode(step.mode).create(&step.path).map_err(failed)?;
    sync_parent(&step.path);
    fault::moment("setup");
    verify_mode(step)
}

fn write_file(step: &Step, content: &Content, run: u32, journal: &mut Journal) -> Result<()> {
    let path = behind_links(&step.path)?;
    let now = look(&path)?;
    match (step.action, &now) {
        (Action::Create, Now::Absent) | (Action::Change, Now::File(_)) => {}
        (_, Now::Absent) => return Err(changed_meanwhile(text!("`{}` is gone by now", path.display()))),
        (_, Now::File(_)) => return Err(changed_meanwhile(text!("`{}` is there by now", path.display()))),
        (_, Now::Other) => {
            return Err(Failure::operator(text!("`{}` is no plain file", path.display()))
                .hinted(text!("move it away, or choose another home by `--home DIR`")));
        }
    }
    if let (Some(text), Now::File(now)) = (&content.base, &now)
        && *now.sha256 != print(text.as_bytes(), 0).sha256
    {
        return Err(changed_meanwhile(text!("`{}` was edited meanwhile", path.display())));
    }
    let name = format!("before-{run}-{}", journal.next_step(run));
    let before = keep(&path, journal.folder(), &name)?;
    fault::moment("setup");
    let owner = path.metadata().ok().map(|found| (found.uid(), found.gid()));
    let after = print(&content.bytes, step.mode);
    let is_ours = step.subject == Subject::Certificates;
    journal.will(run, Effect::File { path: path.clone(), before, after: after.clone(), is_ours })?;
    write_atomic_by(&draft_of(&path), &path, &content.bytes, step.mode)?;
    fault::moment("setup");
    if let Some((user, group)) = owner {
        // It stays whose it was, as far as this user may say so.
        let _ = chown(&path, Some(user), Some(group));
    }
    match look(&path)? {
        Now::File(found) if found == after => Ok(()),
        Now::File(found) if found.sha256 == after.sha256 => verify_mode(step),
        Now::Absent | Now::File(_) | Now::Other => {
            Err(Failure::operator(text!("`{}` is not what was written", path.display()))
                .hinted(text!("look for another program that writes it, and for the health of the disk")))
        }
    }
}

/// Where a link leads: it stays, and what it leads to is changed.
fn behind_links(path: &Path) -> Result<PathBuf> {
    if !path.is_symlink() {
        return Ok(path.to_path_buf());
    }
    std::fs::canonicalize(path).map_err(|error| {
        let what = text!("`{}` is a link that leads nowhere", path.display());
        let failure = Failure::operator(what).hinted(text!("remove it, or make what it should lead to"));
        if error.kind() == ErrorKind::NotFound { failure } else { failure.caused_by(error) }
    })
}

fn changed_meanwhile(what: Text) -> Failure {
    Failure::operator(text!("the host is not as it was when this plan was made"))
        .because(what)
        .hinted(text!("run `rtcctl init` again"))
}

pub(super) fn stop_if_interrupted() -> Result<()> {
    if interrupted() { Err(Failure::new(Kind::Interrupted, text!("interrupted"))) } else { Ok(()) }
}

/// The bytes of every file that changes.
fn contents(plan: &Plan, home: &Home) -> Result<BTreeMap<PathBuf, Content>> {
    let mut contents = BTreeMap::new();
    let changing =
        |subject| plan.steps.iter().filter(move |step| step.subject == subject && step.action != Action::Keep);
    for step in changing(Subject::Config) {
        let base = plan.config_before.clone();
        contents.insert(step.path.clone(), Content { bytes: plan.config_text.clone().into_bytes(), base });
    }
    for step in changing(Subject::Answers) {
        contents.insert(step.path.clone(), plan.answers.clone().into());
    }
    for file in plan.service.iter().flat_map(|service| &service.files) {
        contents.insert(file.path.clone(), file.text.clone().into());
    }
    for step in changing(Subject::Secrets) {
        let key = new_access_key()?;
        let content = if step.action == Action::Change {
            let text = read_to_string(&step.path)?;
            let bytes = with_access_key(&text, &key).ok_or_else(|| {
                let path = step.path.display();
                Failure::operator(text!("no access key can be added to `{}` as it is written", path))
                    .hinted(text!("give each of its keys a line of its own"))
            })?;
            Content { bytes: bytes.into_bytes(), base: Some(text) }
        } else {
            let secrets = Secrets { access_key: Some(key), ..Secrets::of_turn(vec![new_secret()?]) };
            render_secrets(&secrets).into()
        };
        contents.insert(step.path.clone(), content);
    }
    if changing(Subject::Certificates).next().is_some() {
        let files = draft(&plan.hosts, home, clock::now())?.into_iter();
        contents.extend(files.map(|file| (file.path, Content { bytes: file.bytes, base: None })));
    }
    Ok(contents)
}

/// 256 bits from the operating system, in hexadecimal.
fn new_secret() -> Result<Secret> {
    let mut bytes = [0_u8; SECRET_BYTES];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Failure::operator(text!("the operating system gives no random numbers")))?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Secret::new(text.into_bytes()))
}

/// Reads everything back as the daemon will.
fn verify(plan: &Plan, home: &Home) -> Result<Served> {
    stop_if_interrupted()?;
    let (config, _) = load(home)?;
    let inspection = inspect(&config.hosts, home, clock::now())?;
    if inspection.step != leaf::Step::Keep {
        return Err(Failure::operator(text!("the certificate that was made is not the one that is wanted")));
    }
    plan.steps.iter().filter(|step| step.action != Action::Keep).try_for_each(verify_mode)?;
    load_or_issue(&config, home, clock::now())
}

fn verify_mode(step: &Step) -> Result<()> {
    let path = step.path.display();
    let metadata = std::fs::metadata(&step.path)
        .map_err(|error| Failure::operator(text!("cannot find `{}`", path)).caused_by(error))?;
    let mode = metadata.mode() & 0o777;
    if mode == step.mode {
        return Ok(());
    }
    Err(Failure::operator(text!(
        "`{}` has the mode {} instead of {}",
        path,
        format!("{:04o}", mode),
        format!("{:04o}", step.mode)
    ))
    .hinted(text!("choose a home on a file system that keeps permissions")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::answers::{Draft, Given, Key, Origin};
    use crate::setup::facts::gather;
    use crate::setup::plan::plan;
    use crate::setup::suggest::Surroundings;
    use crate::sys::fs::{create_private_dir, write_atomic};

    fn planned(home: &Home, pairs: &[(Key, &str)]) -> Plan {
        let given = |value: &str| Given { origin: Origin::Flag, values: vec![value.to_owned()] };
        let given = pairs.iter().map(|(key, value)| (*key, given(value))).collect();
        let existing = super::super::facts::existing(home).unwrap();
        let wanted = existing.as_ref().map(|existing| &existing.wanted);
        let answers = Draft::read(&given, Path::new("/")).unwrap().settle(wanted, &Surroundings::default()).unwrap();
        let mut facts = gather(home, &answers.wanted, existing, &Surroundings::default()).unwrap();
        // Whether this machine's ports are free is not the question.
        facts.taken.clear();
        plan(&answers, &facts).unwrap()
    }

    #[test]
    fn a_step_that_fails_halfway_leaves_the_home_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::under(&dir.path().join("home"));
        let plan = planned(&home, &[(Key::Reach, "lan")]);
        // The draft of the leaf's key cannot be made, after the configuration, secrets and the CA were written.
        let obstacle = draft_of(&home.certs_dir().join("leaf.key"));
        create_private_dir(&home.certs_dir()).unwrap();
        let failure = apply(&plan, &home).unwrap_err();
        assert!(failure.to_string().contains("is there by now"), "{failure}");
        create_private_dir(&obstacle.join("full")).unwrap();
        let plan = planned(&home, &[(Key::Reach, "lan")]);
        let failure = apply(&plan, &home).unwrap_err();
        assert_eq!(failure.kind(), Kind::RolledBack, "{failure}");
        let left: Vec<_> =
            std::fs::read_dir(home.config_dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["certs"], "what was there before stays, nothing else");
        std::fs::remove_dir_all(&obstacle).unwrap();
        assert_eq!(std::fs::read_dir(home.certs_dir()).unwrap().count(), 0);
        apply(&plan, &home).unwrap();
    }

    #[test]
    fn a_plan_that_has_been_overtaken_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::under(&dir.path().join("home"));
        apply(&planned(&home, &[(Key::Reach, "lan")]), &home).unwrap();
        let change = planned(&home, &[(Key::WebPort, "9443")]);
        let edited = change.config_before.clone().unwrap() + "# mine\n";
        write_atomic(&home.config_file(), edited.as_bytes(), 0o644).unwrap();
        let failure = apply(&change, &home).unwrap_err();
        assert!(failure.to_string().contains("was edited meanwhile"), "{failure}");
        assert_eq!(std::fs::read_to_string(home.config_file()).unwrap(), edited);
    }

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_changed_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::under(&dir.path().join("home"));
        apply(&planned(&home, &[(Key::Reach, "lan")]), &home).unwrap();
        let real = dir.path().join("real.yaml");
        std::fs::rename(home.config_file(), &real).unwrap();
        std::os::unix::fs::symlink(&real, home.config_file()).unwrap();
        let before = std::fs::read(&real).unwrap();
        apply(&planned(&home, &[(Key::WebPort, "9443")]), &home).unwrap();
        assert!(home.config_file().is_symlink() && std::fs::read(&real).unwrap() != before);
        let journal = Journal::open(&home).unwrap().unwrap();
        let report = take_back(&home, journal, Extent::Last).unwrap();
        assert_eq!(report.deeds.len(), 1, "{report:?}");
        assert_eq!(std::fs::read(&real).unwrap(), before);
    }

    #[test]
    fn secrets_have_256_bits_and_differ() {
        let (first, second) = (new_secret().unwrap(), new_secret().unwrap());
        assert_eq!(first.expose().len(), 64);
        assert!(first != second);
    }
}
