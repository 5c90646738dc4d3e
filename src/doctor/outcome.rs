//! How a check ended, and what all of them come to: causes first, and what follows from them behind them.

use super::check::Check;
use crate::control::protocol::Severity;
use crate::home::Home;
use crate::setup::firewall::Needs;
use crate::words::Text;

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be; what was seen.
    Fine(Text),
    Found(Problem),
    /// It cannot be known here; why, and by what it could be.
    Unknown(Text),
    /// There is nothing to look at; why.
    Idle(Text),
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The check's word, or the code of what the service found.
    pub code: String,
    pub severity: Severity,
    pub title: Text,
    pub evidence: Text,
    /// One command, or one thing to do.
    pub fix: Text,
    /// It is proven that something outside of this host must be done.
    pub is_outside: bool,
    /// What `--fix` does about it.
    pub remedy: Option<Remedy>,
}

/// Something safe that can be done at once: it changes nothing but what it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// Takes everybody but the owner their rights to a file.
    MakePrivate(std::path::PathBuf),
    /// Removes a socket that nobody listens on.
    RemoveSocket(std::path::PathBuf),
    /// Has the firewall let these in again by rules of ours, which it did before, and nothing else by them.
    SettleFirewall(Box<Home>, Box<Needs>),
}

impl Problem {
    #[must_use]
    pub fn of(check: Check, severity: Severity, title: impl Into<Text>) -> Self {
        Self {
            code: check.as_str().to_owned(),
            severity,
            title: title.into(),
            evidence: Text::default(),
            fix: Text::default(),
            is_outside: false,
            remedy: None,
        }
    }

    #[must_use]
    pub fn seen(self, evidence: impl Into<Text>) -> Self {
        Self { evidence: evidence.into(), ..self }
    }

    #[must_use]
    pub fn fix(self, fix: impl Into<Text>) -> Self {
        Self { fix: fix.into(), ..self }
    }

    #[must_use]
    pub fn remedied(self, remedy: Option<Remedy>) -> Self {
        Self { remedy, ..self }
    }

    /// Somebody has to act outside of this host, and that is proven.
    #[must_use]
    pub fn outside(self) -> Self {
        Self { is_outside: true, ..self }
    }
}

/// A problem that is told, with what follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    pub problem: Problem,
    /// The codes of what is wrong, too, and explained by this.
    pub hides: Vec<String>,
}

/// What an examination came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Roots only, the gravest first.
    pub diagnoses: Vec<Diagnosis>,
    pub unknown: Vec<(Check, Text)>,
    pub fine: Vec<(Check, Text)>,
    pub idle: Vec<(Check, Text)>,
}

/// Whether something is wrong enough to explain what follows from it. What is only good to know explains nothing.
fn explains(problem: &Problem) -> bool {
    grade(problem.severity) > 0
}

fn grade(severity: Severity) -> u8 {
    match severity {
        Severity::Info => 0,
        Severity::Warning => 1,
        Severity::Error => 2,
        Severity::Critical => 3,
    }
}

/// What a finding of the running service is the same as.
fn same_as(code: &str) -> &'static [Check] {
    match code {
        "certificate-expired" | "certificate-ends" => &[Check::CertificateDates],
        "certificate-mismatch" => &[Check::CertificateServed],
        "certificate-missing" => &[Check::CertificateFiles],
        "clock-jumped" => &[Check::Clock],
        "disk-almost-full" => &[Check::Disk],
        "log-not-writable" => &[Check::HomeWritable, Check::Disk],
        "descriptors-almost-exhausted" => &[Check::OpenFiles],
        "receive-buffer-drops" => &[Check::UdpBuffers],
        "relay-reaches-forbidden" => &[Check::RelayRefuses],
        "stun-unanswered" => &[Check::StunAnswers],
        "web-unanswered" => &[Check::WebAnswers, Check::CertificateServed],
        "signaling-unanswered" | "rooms-fail" => &[Check::SignalingAnswers],
        "relay-udp-fails" => &[Check::RelayWorks, Check::StunAnswers],
        "relay-tcp-fails" | "relay-tls-fails" => &[Check::TurnAnswers],
        "task-held" | "task-backoff" | "task-degraded" | "task-stopped" | "port-lost" => &[Check::Tasks],
        _ => &[],
    }
}

/// Puts causes before what follows from them.
#[must_use]
pub fn conclude(outcomes: Vec<(Check, Outcome)>) -> Report {
    let mut report = Report::default();
    let mut problems: Vec<(Check, Problem)> = Vec::new();
    for (check, outcome) in outcomes {
        match outcome {
            Outcome::Fine(told) => report.fine.push((check, told)),
            Outcome::Unknown(why) => report.unknown.push((check, why)),
            Outcome::Idle(why) => report.idle.push((check, why)),
            Outcome::Found(problem) => problems.push((check, problem)),
        }
    }
    let bad: Vec<Check> = problems
        .iter()
        .filter(|(check, problem)| explains(problem) && *check != Check::Findings)
        .map(|(check, _)| *check)
        .collect();
    let root_of = |check: Check, problem: &Problem| -> Option<Check> {
        let causes: Vec<Check> = if check == Check::Findings {
            same_as(&problem.code).iter().flat_map(|same| same.with_causes()).collect()
        } else {
            check.with_causes().split_off(1)
        };
        // The first in the order of telling has no cause itself among them.
        let mut explaining: Vec<Check> = causes.into_iter().filter(|cause| bad.contains(cause)).collect();
        explaining.sort_unstable();
        explaining.into_iter().find(|cause| cause.with_causes()[1..].iter().all(|deeper| !bad.contains(deeper)))
    };
    let mut hidden: Vec<(Check, String)> = Vec::new();
    let mut roots: Vec<(Check, Diagnosis)> = Vec::new();
    for (check, problem) in problems {
        match root_of(check, &problem) {
            Some(root) => hidden.push((root, problem.code)),
            None => roots.push((check, Diagnosis { problem, hides: Vec::new() })),
        }
    }
    for (root, code) in hidden {
        if let Some((_, diagnosis)) = roots.iter_mut().find(|(check, _)| *check == root)
            && !diagnosis.hides.contains(&code)
        {
            diagnosis.hides.push(code);
        }
    }
    // What the service tells of itself comes after what was looked at from outside of it.
    let rank = |check: Check| (check == Check::Findings, check);
    roots.sort_by_key(|(check, diagnosis)| (std::cmp::Reverse(grade(diagnosis.problem.severity)), rank(*check)));
    report.diagnoses = roots.into_iter().map(|(_, diagnosis)| diagnosis).collect();
    report
}

impl Report {
    /// Whether something is wrong that is not only good to know.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.diagnoses.iter().any(|one| explains(&one.problem))
    }

    /// Whether something that was found is why this check could tell nothing.
    #[must_use]
    pub fn explains(&self, check: Check) -> bool {
        let found = self.diagnoses.iter().filter(|one| explains(&one.problem));
        let codes: Vec<&String> = found.flat_map(|one| std::iter::once(&one.problem.code).chain(&one.hides)).collect();
        check.with_causes()[1..].iter().any(|cause| codes.iter().any(|code| *code == cause.as_str()))
    }

    /// Whether a task or the whole service is down.
    #[must_use]
    pub fn is_down(&self) -> bool {
        const DOWN: [&str; 5] = ["running", "tasks", "task-held", "task-backoff", "task-stopped"];
        let is_down = |code: &str| DOWN.contains(&code);
        self.diagnoses.iter().any(|one| is_down(&one.problem.code) || one.hides.iter().any(|code| is_down(code)))
    }

    /// Whether it is proven that somebody must act outside of this host.
    #[must_use]
    pub fn is_outside(&self) -> bool {
        self.diagnoses.iter().any(|one| one.problem.is_outside && explains(&one.problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(check: Check, severity: Severity) -> (Check, Outcome) {
        (check, Outcome::Found(Problem::of(check, severity, "it is wrong")))
    }

    fn service_found(code: &str) -> (Check, Outcome) {
        let problem = Problem { code: code.to_owned(), ..Problem::of(Check::Findings, Severity::Error, "x") };
        (Check::Findings, Outcome::Found(problem))
    }

    fn told(outcomes: Vec<(Check, Outcome)>) -> Vec<(String, Vec<String>)> {
        conclude(outcomes).diagnoses.into_iter().map(|one| (one.problem.code, one.hides)).collect()
    }

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_cause_hides_what_follows_from_it_however_far() {
        let outcomes = vec![
            found(Check::RelayWorks, Severity::Error),
            found(Check::Running, Severity::Error),
            found(Check::PortTaken, Severity::Error),
            service_found("relay-udp-fails"),
            (Check::Disk, Outcome::Fine(Default::default())),
        ];
        let hides = words(&["relay-works", "running", "relay-udp-fails"]);
        assert_eq!(told(outcomes.clone()), [("port-taken".to_owned(), hides)]);
        let report = conclude(outcomes);
        assert!(report.explains(Check::Tasks) && !report.explains(Check::Clock));
        assert!(report.is_bad() && report.is_down() && !report.is_outside());
        assert_eq!(report.fine, [(Check::Disk, Text::default())]);
    }

    #[test]
    fn what_has_nothing_to_do_with_each_other_is_told_the_gravest_first() {
        let outcomes = vec![
            found(Check::UdpBuffers, Severity::Warning),
            found(Check::Container, Severity::Info),
            found(Check::FirewallRelay, Severity::Error),
            found(Check::CertificateDates, Severity::Critical),
            service_found("notify-fails"),
        ];
        let codes: Vec<String> = told(outcomes).into_iter().map(|(code, _)| code).collect();
        assert_eq!(codes, ["certificate-dates", "firewall-relay", "notify-fails", "udp-buffers", "container"]);
    }

    #[test]
    fn what_is_only_good_to_know_explains_nothing_and_is_not_bad() {
        let outcomes = vec![found(Check::Config, Severity::Info), found(Check::Secrets, Severity::Error)];
        assert_eq!(told(outcomes).len(), 2);
        let report = conclude(vec![found(Check::Hairpin, Severity::Info)]);
        assert!(!report.is_bad() && !report.is_down());
        let unknown = conclude(vec![(Check::Clock, Outcome::Unknown("offline".into()))]);
        assert!(!unknown.is_bad() && unknown.unknown.len() == 1);
    }

    #[test]
    fn everything_that_the_service_may_find_and_a_check_looks_at_is_hidden_by_that_check() {
        for code in crate::findings::Code::ALL {
            for same in same_as(code.as_str()) {
                let outcomes = vec![found(*same, Severity::Error), service_found(code.as_str())];
                assert_eq!(told(outcomes).len(), 1, "{}", code.as_str());
            }
        }
    }
}
