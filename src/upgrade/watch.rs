//! Decides whether a service is worse off after its program was replaced than it was before.

use std::collections::BTreeSet;

use serde_json::Value;

/// What `status --json` tells of a service, as far as it counts here. Whatever version has told it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub pid: Option<u64>,
    pub version: String,
    /// Tasks that do not serve.
    pub down: BTreeSet<String>,
    /// Codes of findings that are errors or worse.
    pub bad: BTreeSet<String>,
    /// How often tasks and the daemon were started anew without being asked to.
    pub restarts: u64,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// It is worse, for this reason.
    Worse(String),
}

impl Seen {
    /// Reads a status document. `None`: it is none of a service that runs.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let status: Value = serde_json::from_str(text.trim()).ok()?;
        let pid = status["pid"].as_u64()?;
        let tasks = status["tasks"].as_array()?;
        let serves = |task: &Value| matches!(task["state"].as_str(), Some("ready" | "degraded"));
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let findings = status["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_bad = |finding: &&Value| matches!(finding["severity"].as_str(), Some("error" | "critical"));
        let count = |value: &Value| value.as_u64().unwrap_or_default();
        Some(Self {
            pid: Some(pid),
            version: word(&status["version"]),
            down: tasks.iter().filter(|task| !serves(task)).map(|task| word(&task["name"])).collect(),
            bad: findings.iter().filter(is_bad).map(|finding| word(&finding["code"])).collect(),
            restarts: tasks.iter().map(|task| count(&task["restarts"])).sum::<u64>()
                + count(&status["guardian"]["restarts"]),
        })
    }
}

/// Compares what was seen before the swap, right after it, and now. `None`: it does not answer.
#[must_use]
pub fn judge(before: &Seen, after: &Seen, now: Option<&Seen>) -> Verdict {
    let Some(now) = now else { return Verdict::Worse("it does not tell its status".to_owned()) };
    let list = |words: Vec<&str>| words.join(", ");
    if now.pid != after.pid {
        return Verdict::Worse("its process has ended and was started again".to_owned());
    }
    if now.restarts > after.restarts {
        return Verdict::Worse("a task of it has failed and was started again".to_owned());
    }
    let down: Vec<&str> = now.down.difference(&before.down).map(String::as_str).collect();
    if !down.is_empty() {
        return Verdict::Worse(format!("{} served before and does not now", list(down)));
    }
    let bad: Vec<&str> = now.bad.difference(&before.bad).map(String::as_str).collect();
    if !bad.is_empty() {
        return Verdict::Worse(format!("it finds what was not there before: {}", list(bad)));
    }
    Verdict::Good
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = r#"{"pid": 7, "version": "0.1.0", "state": "ready", "guardian": {"restarts": 0},
        "tasks": [{"name": "web", "state": "ready", "restarts": 1}, {"name": "turn", "state": "held", "restarts": 2}],
        "findings": [{"code": "clock", "severity": "warning"}, {"code": "relay", "severity": "error"}],
        "news": {"of": "a later version"}}"#;

    #[test]
    fn what_counts_is_read_from_a_status_of_any_version() {
        let seen = Seen::read(STATUS).unwrap();
        assert_eq!((seen.pid, seen.restarts, seen.version.as_str()), (Some(7), 3, "0.1.0"));
        assert_eq!(seen.down, BTreeSet::from(["turn".to_owned()]));
        assert_eq!(seen.bad, BTreeSet::from(["relay".to_owned()]));
        for none in ["", "[]", "{}", r#"{"state": "stopped", "tasks": []}"#] {
            assert_eq!(Seen::read(none), None, "{none}");
        }
    }

    #[test]
    fn only_what_was_not_so_before_counts_against_a_new_program() {
        let before = Seen::read(STATUS).unwrap();
        let after = Seen { pid: Some(8), restarts: 0, ..before.clone() };
        let judged = |change: fn(&mut Seen)| {
            let mut now = after.clone();
            change(&mut now);
            judge(&before, &after, Some(&now))
        };
        assert_eq!(judged(|_| {}), Verdict::Good);
        assert_eq!(judged(|now| now.down.clear()), Verdict::Good);
        let changes: [fn(&mut Seen); 4] = [
            |now| now.pid = Some(9),
            |now| now.restarts = 1,
            |now| now.down = BTreeSet::from(["web".to_owned()]),
            |now| now.bad = BTreeSet::from(["certificate".to_owned()]),
        ];
        for change in changes {
            assert!(matches!(judged(change), Verdict::Worse(_)));
        }
        assert!(matches!(judge(&before, &after, None), Verdict::Worse(_)));
    }
}
