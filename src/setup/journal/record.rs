//! The lines of the journal, and what they say when they are read back.
//!
//! A line is on the disk before what it tells of is done. So whatever a killed run may have changed stands here, and a
//! last line that was torn tells of nothing.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::certs::trust::Store;
use crate::setup::boot::Manager;
use crate::setup::boot::owners::Owned;
use crate::setup::firewall::Needs;
use crate::text;
use crate::words::Text;

/// The form of the lines. A journal of another form is left alone.
pub const VERSION: u32 = 1;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// The first line. These folders came to be together with the journal, outermost first.
    Opened { version: u32, folders: Vec<PathBuf> },
    /// A run of `init` begins.
    Began { run: u32, at: String, what: String },
    /// This is about to be done.
    Will { run: u32, step: u32, effect: Effect },
    /// Everything was done and verified.
    Finished { run: u32 },
    /// This is as it was before.
    TakenBack { run: u32, step: u32 },
    /// The run is taken back, but for steps of which it is not said.
    Closed { run: u32 },
}

/// What a step does to the host, with all that is needed to take it back.
///
/// A new kind of step is a variant here, and an arm in `undo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// A folder where none was.
    Folder { path: PathBuf },
    /// A file that is made or replaced.
    File {
        path: PathBuf,
        before: Before,
        after: Print,
        /// The service itself may write it anew, so that another content is no work of the operator.
        is_ours: bool,
    },
    /// Callers are let in by the host's firewall. Ports only: the rules themselves are known by their name.
    Firewall {
        /// What was let in by rules of ours.
        before: Needs,
        after: Needs,
    },
    /// A store of this host trusts the local CA.
    Trust {
        store: Store,
        /// By which it is known there.
        name: String,
        /// What was known there by that name, in PEM.
        before: Option<String>,
        /// Files and folders that came to be with it, innermost last.
        made: Vec<PathBuf>,
    },
    /// The service starts with the machine, as a user of its own.
    Service {
        manager: Manager,
        /// By which the manager knows what to start, if it was not there.
        link: Option<PathBuf>,
        makes_user: bool,
        makes_group: bool,
        /// Whose the files of the home were, of those that the user gets.
        before: Vec<Owned>,
    },
}

/// What a path was before it was touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "was", rename_all = "snake_case")]
pub enum Before {
    Absent,
    /// Its bytes lie beside the journal under the name `kept`.
    File {
        print: Print,
        user: u32,
        group: u32,
        modified_s: i64,
        modified_ns: u32,
        kept: String,
    },
}

/// By what a file is known again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    pub sha256: String,
    pub mode: u32,
}

/// What a path is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Now {
    Absent,
    File(Print),
    /// A folder or a link where a file was.
    Other,
}

/// What is to be done to a file that is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is as it was before.
    Nothing,
    Remove,
    Restore,
    /// It is somebody's work since, and stays.
    Keep(Text),
}

/// Decides what taking a file back means. `is_forced`: what was changed since goes as well.
#[must_use]
pub fn verdict(before: &Before, after: &Print, now: &Now, is_forced: bool) -> Verdict {
    let back = match before {
        Before::Absent => Verdict::Remove,
        Before::File { .. } => Verdict::Restore,
    };
    match (now, before) {
        (Now::Absent, Before::Absent) => Verdict::Nothing,
        (Now::File(now), Before::File { print, .. }) if now == print => Verdict::Nothing,
        // Taken away since, but it was there before.
        (Now::Absent, Before::File { .. }) => back,
        (Now::File(now), _) if now.sha256 == after.sha256 || is_forced => back,
        // Half a change of its mode, as a crash leaves it.
        (Now::File(now), Before::File { print, .. }) if now.sha256 == print.sha256 => back,
        (Now::File(_), _) => Verdict::Keep(text!("it was changed since")),
        (Now::Other, _) => Verdict::Keep(text!("it is no plain file any more")),
    }
}

/// What the journal says, all in all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Folders that came to be together with the journal, outermost first.
    pub folders: Vec<PathBuf>,
    pub runs: Vec<Run>,
}

/// One run of `init`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub number: u32,
    pub at: String,
    pub what: String,
    pub state: RunState,
    pub steps: Vec<Step>,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// It was killed, or is still at work.
    CutOff,
    Finished,
    /// It is taken back.
    Closed,
}

/// One step of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub number: u32,
    pub effect: Effect,
    pub is_taken_back: bool,
}

impl Run {
    /// The steps that are not taken back, newest first.
    pub fn open_steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().rev().filter(|step| !step.is_taken_back)
    }
}

impl Ledger {
    /// Reads the lines of a journal. A last line without an end was torn by a crash and is not counted.
    ///
    /// # Errors
    /// In words, if a whole line makes no sense.
    pub fn read(text: &str) -> Result<Self, Text> {
        let mut ledger = Self::default();
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        for (index, line) in whole.lines().enumerate() {
            let number = index + 1;
            let record: Record = serde_json::from_str(line).map_err(|error| text!("line {}: {}", number, error))?;
            ledger.take(record).map_err(|why| text!("line {}: {}", number, why))?;
        }
        Ok(ledger)
    }

    /// Adds what a line says.
    ///
    /// # Errors
    /// In words, if it cannot come at this place.
    pub fn take(&mut self, record: Record) -> Result<(), Text> {
        match record {
            Record::Opened { version: VERSION, folders } => self.folders = folders,
            Record::Opened { version, .. } => {
                return Err(text!("it has the form {}, and this version knows {}", version, VERSION));
            }
            Record::Began { run, at, what } => {
                self.runs.push(Run { number: run, at, what, state: RunState::CutOff, steps: Vec::new() });
            }
            Record::Will { run, step, effect } => {
                self.run(run)?.steps.push(Step { number: step, effect, is_taken_back: false });
            }
            Record::Finished { run } => self.run(run)?.state = RunState::Finished,
            Record::TakenBack { run, step } => {
                let steps = &mut self.run(run)?.steps;
                let step = steps.iter_mut().find(|known| known.number == step);
                step.ok_or(text!("a step that was never begun is taken back"))?.is_taken_back = true;
            }
            Record::Closed { run } => self.run(run)?.state = RunState::Closed,
        }
        Ok(())
    }

    fn run(&mut self, number: u32) -> Result<&mut Run, Text> {
        self.runs.iter_mut().find(|run| run.number == number).ok_or_else(|| text!("there is no run {}", number))
    }

    /// The number that no run has yet.
    #[must_use]
    pub fn next_run(&self) -> u32 {
        self.runs.iter().map(|run| run.number + 1).max().unwrap_or(1)
    }

    /// The run that was killed, if the last one was.
    #[must_use]
    pub fn cut_off(&self) -> Option<&Run> {
        self.runs.last().filter(|run| run.state == RunState::CutOff)
    }

    /// The run that `undo` takes back: the last one that was not.
    #[must_use]
    pub fn last_open(&self) -> Option<&Run> {
        self.runs.iter().rev().find(|run| run.state != RunState::Closed)
    }

    /// The steps of the runs that `wanted` picks, newest first, but for those that are taken back.
    #[must_use]
    pub fn steps_back(&self, wanted: impl Fn(&Run) -> bool) -> Vec<(u32, Step)> {
        let runs = self.runs.iter().rev().filter(|run| wanted(run));
        runs.flat_map(|run| run.open_steps().map(|step| (run.number, step.clone()))).collect()
    }

    /// Whether nothing is left of any run.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.runs.iter().all(|run| run.state == RunState::Closed && run.open_steps().next().is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(text: &str) -> Print {
        Print { sha256: text.to_owned(), mode: 0o600 }
    }

    fn was(text: &str) -> Before {
        let (user, group, modified_s, modified_ns) = (0, 0, 0, 0);
        Before::File { print: print(text), user, group, modified_s, modified_ns, kept: "1-1".to_owned() }
    }

    #[test]
    fn a_file_is_taken_back_unless_somebody_has_worked_on_it_since() {
        let after = print("after");
        let file = |text: &str| Now::File(print(text));
        for (before, now, is_forced, expected) in [
            (Before::Absent, Now::Absent, false, Verdict::Nothing),
            (Before::Absent, file("after"), false, Verdict::Remove),
            (Before::Absent, file("edited"), false, Verdict::Keep("it was changed since".into())),
            (Before::Absent, file("edited"), true, Verdict::Remove),
            (Before::Absent, Now::Other, true, Verdict::Keep("it is no plain file any more".into())),
            (was("before"), file("before"), false, Verdict::Nothing),
            (was("before"), file("after"), false, Verdict::Restore),
            (was("before"), Now::Absent, false, Verdict::Restore),
            (was("before"), file("edited"), false, Verdict::Keep("it was changed since".into())),
            (was("before"), file("edited"), true, Verdict::Restore),
        ] {
            assert_eq!(verdict(&before, &after, &now, is_forced), expected, "{before:?} {now:?} {is_forced}");
        }
        let loosened = Now::File(Print { mode: 0o644, ..print("before") });
        assert_eq!(verdict(&was("before"), &after, &loosened, false), Verdict::Restore);
    }

    #[test]
    fn lines_are_read_back_and_a_torn_one_is_not_counted() {
        let effect = Effect::Folder { path: "/srv/box/log".into() };
        let records = [
            Record::Opened { version: VERSION, folders: vec!["/srv/box".into()] },
            Record::Began { run: 1, at: "now".to_owned(), what: "init".to_owned() },
            Record::Will { run: 1, step: 1, effect: effect.clone() },
            Record::Will { run: 1, step: 2, effect },
            Record::TakenBack { run: 1, step: 2 },
        ];
        let line = |record: &Record| serde_json::to_string(record).unwrap() + "\n";
        let text: String = records.iter().map(line).collect();
        let ledger = Ledger::read(&text).unwrap();
        assert_eq!(ledger.cut_off().map(|run| run.number), Some(1));
        assert_eq!(ledger.steps_back(|_| true).iter().map(|(_, step)| step.number).collect::<Vec<_>>(), [1]);
        assert_eq!(Ledger::read(&format!("{text}{{\"record\":\"fini")).unwrap(), ledger);
        assert!(Ledger::read(&format!("{text}{{\"record\":\"fini\n")).unwrap_err().starts_with("line 6:"));
        assert!(Ledger::read(&text.replace("\"version\":1", "\"version\":9")).unwrap_err().contains("the form 9"));

        let closed = text + &line(&Record::TakenBack { run: 1, step: 1 }) + &line(&Record::Closed { run: 1 });
        let closed = Ledger::read(&closed).unwrap();
        assert!(closed.is_settled() && closed.last_open().is_none() && !ledger.is_settled());
        assert_eq!(closed.next_run(), 2);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,200}") {
            let _ = Ledger::read(&format!("{text}\n"));
        }
    }
}
