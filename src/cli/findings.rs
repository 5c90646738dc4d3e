//! Findings as `status` prints them: what is wrong, what was seen, what to do.

use super::words::count;
use crate::control::protocol::{Finding, Severity};

/// The lines for all of them, a blank one before each.
pub(super) fn lines(findings: &[Finding], colour: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for finding in findings {
        lines.push(String::new());
        let Finding { code, title, evidence, hint, since, hides, .. } = finding;
        lines.push(format!("{}: {title} [{code}]", word(finding.severity, colour)));
        lines.push(format!("  {evidence}, since {since}"));
        if !hides.is_empty() {
            let what = count(hides.len() as u64, "more thing is", "more things are");
            lines.push(format!("  {what} wrong because of it: {}", hides.join(", ")));
        }
        lines.push(format!("  hint: {hint}"));
    }
    lines
}

/// Whether one of them makes a service degraded; what is only good to know does not.
pub(super) fn are_bad(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| match finding.severity {
        Severity::Info => false,
        Severity::Warning | Severity::Error | Severity::Critical => true,
    })
}

fn word(severity: Severity, colour: bool) -> String {
    let (word, code) = match severity {
        Severity::Info => ("info", "36"),
        Severity::Warning => ("warning", "33"),
        Severity::Error => ("error", "31"),
        Severity::Critical => ("critical", "1;31"),
    };
    if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity, hides: &[&str]) -> Finding {
        Finding {
            code: "task-held".to_owned(),
            subject: "web".to_owned(),
            severity,
            title: "web is down after failing too often".to_owned(),
            evidence: "it broke".to_owned(),
            hint: "start it by `rtcctl start web`".to_owned(),
            since: "2026-01-02T03:04:05Z".to_owned(),
            hides: hides.iter().map(|code| (*code).to_owned()).collect(),
        }
    }

    #[test]
    fn a_finding_says_what_to_do_and_what_follows_from_it() {
        let found = [finding(Severity::Critical, &["web-unanswered"])];
        let wanted = "
critical: web is down after failing too often [task-held]
  it broke, since 2026-01-02T03:04:05Z
  1 more thing is wrong because of it: web-unanswered
  hint: start it by `rtcctl start web`";
        assert_eq!(lines(&found, false).join("\n"), wanted);
        assert!(lines(&found, true)[1].starts_with("\x1b[1;31mcritical\x1b[0m: "));
        assert_eq!(lines(&[finding(Severity::Info, &[])], false).len(), 4);
    }

    #[test]
    fn what_is_only_good_to_know_is_not_bad() {
        assert!(!are_bad(&[]) && !are_bad(&[finding(Severity::Info, &[])]));
        assert!(are_bad(&[finding(Severity::Info, &[]), finding(Severity::Warning, &[])]));
    }
}
