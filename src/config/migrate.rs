//! Brings the text of an older `config.yaml` into the form that this program writes, a version at a time.
//!
//! What an operator wrote stays as it is written, but for what a step changes.

use super::edit::set_value;
use super::lines::{self, Complaint, Value};
use super::resolve::FORM_VERSION;
use crate::text;
use crate::words::Text;

/// One step from a version to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// The version that it starts from; zero is a file that does not say which it is.
    pub(super) from: u32,
    /// What it does, for whoever is shown the preview.
    pub(super) does: &'static str,
    /// The text after it; `None`: the file is written in a way that is not changed by program.
    pub(super) apply: fn(&str) -> Option<String>,
}

/// Every step there ever was, in order.
const STEPS: [Step; 1] = [Step { from: 0, does: "says which form it has: version 1", apply: say_version }];

/// What a file would become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    pub from: u32,
    pub to: u32,
    /// What is done, in words; empty: nothing.
    pub steps: Vec<&'static str>,
    pub text: String,
}

/// The form that this program writes.
#[must_use]
pub fn newest_form() -> u32 {
    FORM_VERSION
}

/// Brings `text` to the newest form.
///
/// # Errors
/// If it is no configuration, is of a later form, or is written in a way that is not changed by program.
pub fn migrate(text: &str) -> Result<Migration, Complaint> {
    migrate_by(text, &STEPS, FORM_VERSION)
}

fn migrate_by(text: &str, steps: &[Step], newest: u32) -> Result<Migration, Complaint> {
    let (from, line) = version(text)?;
    let complain = |text: Text| Complaint { line, path: "version".to_owned(), text };
    if from > newest {
        return Err(complain(text!(
            "this rtcctl reads version {} at most; the file is of a later one ({})",
            newest,
            from
        )));
    }
    let mut migration = Migration { from, to: from, steps: Vec::new(), text: text.to_owned() };
    while migration.to < newest {
        let step = steps.iter().find(|step| step.from == migration.to);
        let step = step.expect("there is a step from every version before the newest");
        migration.text = (step.apply)(&migration.text)
            .ok_or_else(|| complain(text!("is written in a way that is not changed by program: {}", step.does)))?;
        migration.steps.push(step.does);
        migration.to += 1;
    }
    Ok(migration)
}

/// The version that a file says it has, and where.
fn version(text: &str) -> Result<(u32, usize), Complaint> {
    let document = lines::parse(text)?;
    let Value::Map(entries) = &document.value else { return Ok((0, 0)) };
    let Some(entry) = entries.iter().find(|entry| entry.key == "version") else { return Ok((0, 0)) };
    let number = match &entry.value.value {
        Value::Scalar { text, .. } => text.parse().ok(),
        Value::List(_) | Value::Map(_) => None,
    };
    let complaint =
        || Complaint { line: entry.line, path: "version".to_owned(), text: text!("must be a whole number") };
    number.map(|number| (number, entry.line)).ok_or_else(complaint)
}

fn say_version(text: &str) -> Option<String> {
    set_value(text, "version", "1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HostFacts, resolve};

    #[test]
    fn every_version_before_the_newest_has_its_step() {
        let from: Vec<u32> = STEPS.iter().map(|step| step.from).collect();
        assert_eq!(from, (0..FORM_VERSION).collect::<Vec<_>>());
    }

    #[test]
    fn a_file_keeps_what_is_written_in_it_and_means_the_same() {
        let text = "# mine\nhosts: [a.example] # ours\nweb:\n  port: 8443\n";
        let migration = migrate(text).unwrap();
        assert_eq!((migration.from, migration.to, migration.steps.len()), (0, 1, 1));
        assert_eq!(migration.text, "# mine\nversion: 1\nhosts: [a.example] # ours\nweb:\n  port: 8443\n");
        let facts = HostFacts { relay_ips: vec![[192, 0, 2, 1].into()], cores: 1 };
        assert_eq!(resolve(text, &facts).unwrap().config, resolve(&migration.text, &facts).unwrap().config);
        let again = migrate(&migration.text).unwrap();
        assert!(again.steps.is_empty() && again.text == migration.text);
    }

    #[test]
    fn steps_follow_each_other_and_a_later_form_is_not_guessed_at() {
        fn rename(text: &str) -> Option<String> {
            set_value(&text.replace("old:", "new:"), "version", "2")
        }
        let steps = [STEPS[0], Step { from: 1, does: "renames `old`", apply: rename }];
        let migration = migrate_by("old: 7\n", &steps, 2).unwrap();
        assert_eq!((migration.from, migration.to), (0, 2));
        assert_eq!(migration.text, "version: 2\nnew: 7\n");
        assert_eq!(migration.steps, ["says which form it has: version 1", "renames `old`"]);
        for (text, wanted) in [
            ("version: 2\n", "line 1: version: this rtcctl reads version 1 at most; the file is of a later one (2)"),
            ("version: x\n", "line 1: version: must be a whole number"),
            ("{hosts: [a]}\n", "version: is written in a way that is not changed by program"),
        ] {
            let told = migrate(text).unwrap_err().to_string();
            assert!(told.starts_with(wanted), "{told}");
        }
    }
}
