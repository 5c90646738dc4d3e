//! Carries a plan out: do and verify, and take everything back if a step fails or Ctrl-C comes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::plan::{Action, Plan, Step, Subject};
use crate::certs::leaf;
use crate::certs::store::inspect;
use crate::certs::{Served, load_or_issue};
use crate::config::{Secret, Secrets, load, load_config, new_access_key, render_secrets, with_access_key};
use crate::error::{Failure, Kind, Result};
use crate::home::Home;
use crate::sys::clock;
use crate::sys::fs::{create_private_dir, read_to_string, write_atomic};
use crate::sys::interrupt::interrupted;

/// A TURN secret has this many random bytes.
const SECRET_BYTES: usize = 32;

/// What a path was before it was touched.
#[derive(Debug)]
enum Before {
    Absent,
    File { bytes: Vec<u8>, mode: u32 },
}

/// What was touched, in order.
#[derive(Debug, Default)]
struct Journal {
    entries: Vec<(PathBuf, Before)>,
}

/// Carries the plan out, step by step, and gives the certificate that will be served.
///
/// # Errors
/// The step's own failure if nothing was changed yet; `Kind::RolledBack` if what was changed has been taken back;
/// `Kind::Interrupted` after Ctrl-C, with everything taken back.
pub fn apply(plan: &Plan, home: &Home) -> Result<Served> {
    let mut journal = Journal::default();
    let done = plan
        .steps
        .iter()
        .filter(|step| step.action != Action::Keep)
        .try_for_each(|step| {
            stop_if_interrupted()?;
            journal.remember(&step.path)?;
            carry_out(step, plan, home)
        })
        .and_then(|()| verify(plan, home));
    done.map_err(|failure| journal.take_back(failure))
}

fn stop_if_interrupted() -> Result<()> {
    if interrupted() { Err(Failure::new(Kind::Interrupted, "interrupted")) } else { Ok(()) }
}

fn carry_out(step: &Step, plan: &Plan, home: &Home) -> Result<()> {
    match step.subject {
        Subject::Folder => create_private_dir(&step.path),
        Subject::Config => write_atomic(&step.path, plan.config_text.as_bytes(), step.mode),
        Subject::Secrets => {
            let key = new_access_key()?;
            let text = if step.action == Action::Change {
                let text = read_to_string(&step.path)?;
                with_access_key(&text, &key).ok_or_else(|| {
                    Failure::operator(format!(
                        "no access key can be added to `{}` as it is written",
                        step.path.display()
                    ))
                    .hinted("give each of its keys a line of its own")
                })?
            } else {
                render_secrets(&Secrets { access_key: Some(key), ..Secrets::of_turn(vec![new_secret()?]) })
            };
            write_atomic(&step.path, text.as_bytes(), step.mode)
        }
        // All four are made at once, after the last of them was remembered.
        Subject::Certificates if is_last_certificate(step, plan) => {
            let config = load_config(home)?.config;
            load_or_issue(&config, home, clock::now()).map(drop)
        }
        Subject::Certificates => Ok(()),
    }
}

fn is_last_certificate(step: &Step, plan: &Plan) -> bool {
    let changing = |other: &&Step| other.subject == Subject::Certificates && other.action != Action::Keep;
    plan.steps.iter().rfind(changing).is_some_and(|last| last.path == step.path)
}

/// 256 bits from the operating system, in hexadecimal.
fn new_secret() -> Result<Secret> {
    let mut bytes = [0_u8; SECRET_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Failure::operator("the operating system gives no random numbers"))?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Secret::new(text.into_bytes()))
}

/// Reads everything back as the daemon will.
fn verify(plan: &Plan, home: &Home) -> Result<Served> {
    stop_if_interrupted()?;
    let (config, _) = load(home)?;
    let inspection = inspect(&config.hosts, home, clock::now())?;
    if inspection.step != leaf::Step::Keep {
        return Err(Failure::operator("the certificate that was made is not the one that is wanted"));
    }
    for step in plan.steps.iter().filter(|step| step.action != Action::Keep) {
        let metadata = std::fs::metadata(&step.path)
            .map_err(|error| Failure::operator(format!("cannot find `{}`", step.path.display())).caused_by(error))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode != step.mode {
            let path = step.path.display();
            return Err(Failure::operator(format!("`{path}` has the mode {mode:04o} instead of {:04o}", step.mode))
                .hinted("choose a home on a file system that keeps permissions"));
        }
    }
    load_or_issue(&config, home, clock::now())
}

impl Journal {
    fn remember(&mut self, path: &Path) -> Result<()> {
        let cannot = |error| Failure::operator(format!("cannot read `{}`", path.display())).caused_by(error);
        let before = match std::fs::symlink_metadata(path) {
            Err(_) => Before::Absent,
            Ok(metadata) if metadata.is_dir() => return Ok(()),
            Ok(metadata) => {
                let bytes = std::fs::read(path).map_err(cannot)?;
                Before::File { bytes, mode: metadata.permissions().mode() & 0o777 }
            }
        };
        self.entries.push((path.to_path_buf(), before));
        Ok(())
    }

    /// Restores what was touched, newest first, and says so.
    fn take_back(self, failure: Failure) -> Failure {
        let mut touched = false;
        let mut left: Vec<String> = Vec::new();
        for (path, before) in self.entries.iter().rev() {
            let restored = match before {
                Before::Absent => match std::fs::symlink_metadata(path) {
                    Err(_) => continue,
                    Ok(metadata) if metadata.is_dir() => std::fs::remove_dir(path).is_ok(),
                    Ok(_) => std::fs::remove_file(path).is_ok(),
                },
                Before::File { bytes, .. } if std::fs::read(path).is_ok_and(|now| now == *bytes) => continue,
                Before::File { bytes, mode } => write_atomic(path, bytes, *mode).is_ok(),
            };
            touched = true;
            if !restored {
                left.push(format!("`{}`", path.display()));
            }
        }
        if !touched && failure.kind() == Kind::Interrupted {
            return Failure::new(Kind::Interrupted, format!("{}; nothing was changed", failure.message()));
        }
        if !touched {
            return failure;
        }
        let kind = if failure.kind() == Kind::Interrupted { Kind::Interrupted } else { Kind::RolledBack };
        let mut whole = Failure::new(kind, format!("{}; what was changed has been taken back", failure.message()));
        if !left.is_empty() {
            whole = whole.because(format!("this could not be taken back: {}", left.join(", ")));
        }
        for cause in failure.causes() {
            whole = whole.because(cause.as_str());
        }
        for hint in failure.hints() {
            whole = whole.hinted(hint.as_str());
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::answers::{Draft, Given, Key, Origin};
    use crate::setup::facts::gather;
    use crate::setup::plan::plan;
    use crate::setup::suggest::Surroundings;

    #[test]
    fn what_was_touched_is_as_it_was_after_taking_back() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, new, old) = (dir.path().join("d"), dir.path().join("d/new"), dir.path().join("old"));
        write_atomic(&old, b"before", 0o640).unwrap();
        let mut journal = Journal::default();
        for path in [&folder, &new, &old] {
            journal.remember(path).unwrap();
        }
        create_private_dir(&folder).unwrap();
        write_atomic(&new, b"x", 0o600).unwrap();
        write_atomic(&old, b"after", 0o600).unwrap();
        let failure = journal.take_back(Failure::operator("disk full").hinted("free some space"));
        assert_eq!(failure.kind(), Kind::RolledBack);
        assert_eq!(failure.hints(), ["free some space"]);
        assert!(!folder.exists());
        assert_eq!(std::fs::read(&old).unwrap(), b"before");
        assert_eq!(old.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn a_step_that_fails_halfway_leaves_the_home_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::under(&dir.path().join("home"));
        let reach = (Key::Reach, Given { origin: Origin::Flag, values: vec!["lan".to_owned()] });
        let answers =
            Draft::read(&[reach].into(), Path::new("/")).unwrap().settle(None, &Surroundings::default()).unwrap();
        let mut facts = gather(&home, &answers.wanted, None, &Surroundings::default()).unwrap();
        // Whether this machine's ports are free is not the question.
        facts.taken.clear();
        let plan = plan(&answers, &facts).unwrap();
        // The draft of the leaf's key cannot be made, after the configuration, secrets and the CA were written.
        let obstacle = home.certs_dir().join(format!(".leaf.key.{}.new", std::process::id()));
        create_private_dir(&obstacle).unwrap();
        let failure = apply(&plan, &home).unwrap_err();
        assert_eq!(failure.kind(), Kind::RolledBack, "{failure}");
        std::fs::remove_dir(&obstacle).unwrap();
        let left: Vec<_> =
            std::fs::read_dir(home.config_dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["certs"], "what was there before stays, nothing else");
        assert_eq!(std::fs::read_dir(home.certs_dir()).unwrap().count(), 0);
        apply(&plan, &home).unwrap();
    }

    #[test]
    fn a_failure_before_any_change_stays_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::default();
        journal.remember(&dir.path().join("absent")).unwrap();
        let failure = Failure::operator("cannot create");
        assert_eq!(journal.take_back(failure.clone()), failure);
    }

    #[test]
    fn secrets_have_256_bits_and_differ() {
        let (first, second) = (new_secret().unwrap(), new_secret().unwrap());
        assert_eq!(first.expose().len(), 64);
        assert!(first != second);
    }
}
