//! Findings as `status` prints them: what is wrong, what was seen, what to do.

use crate::control::protocol::{Finding, Severity};
use crate::words::Lang;
use crate::{text, word};

/// The lines for all of them, a blank one before each.
pub(super) fn lines(findings: &[Finding], colour: bool, lang: Lang) -> Vec<String> {
    let mut lines = Vec::new();
    for finding in findings {
        lines.push(String::new());
        let Finding { code, title, evidence, hint, since, hides, .. } = finding;
        let title = text!("{} [{}]", title, code);
        lines.push(text!("{}: {}", grade(finding.severity, colour, lang), title).say(lang));
        lines.push(format!("  {}", text!("{}, since {}", evidence, since).say(lang)));
        let codes = hides.join(", ");
        match hides.len() {
            0 => {}
            1 => lines.push(format!("  {}", text!("1 more thing is wrong because of it: {}", codes).say(lang))),
            more => {
                lines.push(format!("  {}", text!("{} more things are wrong because of it: {}", more, codes).say(lang)));
            }
        }
        lines.push(format!("  {}", text!("hint: {}", hint).say(lang)));
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

fn grade(severity: Severity, colour: bool, lang: Lang) -> String {
    let (word, code) = match severity {
        Severity::Info => (word!("info"), "36"),
        Severity::Warning => (word!("warning"), "33"),
        Severity::Error => (word!("error"), "31"),
        Severity::Critical => (word!("critical"), "1;31"),
    };
    let word = lang.say(word);
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
            title: text!("{} is down after failing too often", "web"),
            evidence: "it broke".into(),
            hint: "start it by `rtcctl start web`".into(),
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
        assert_eq!(lines(&found, false, Lang::En).join("\n"), wanted);
        assert!(lines(&found, true, Lang::En)[1].starts_with("\x1b[1;31mcritical\x1b[0m: "));
        assert_eq!(lines(&[finding(Severity::Info, &[])], false, Lang::En).len(), 4);
        let chinese = lines(&found, false, Lang::Zh).join("\n");
        assert!(chinese.contains("web 多次失败后已停下 [task-held]") && !chinese.contains("is down"), "{chinese}");
    }

    #[test]
    fn what_is_only_good_to_know_is_not_bad() {
        assert!(!are_bad(&[]) && !are_bad(&[finding(Severity::Info, &[])]));
        assert!(are_bad(&[finding(Severity::Info, &[]), finding(Severity::Warning, &[])]));
    }
}
