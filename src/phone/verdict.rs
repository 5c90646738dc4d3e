//! What all steps say together: can this phone call, and what would make it better.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::report::{Grade, Note, Report, Step};

/// The end of a proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Never `running`.
    pub grade: Grade,
    /// What to do, the most important first.
    pub hints: Vec<Hint>,
}

/// Something to do, or to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hint {
    OpenByHttps,
    UpdateBrowser,
    RelayUnreachable,
    RelayCannotReachItself,
    AllowCamera,
    AllowCameraInSystem,
    FreeCamera,
    ConnectCamera,
    OpenUdp,
    OpenTcp,
    TrustForTls,
    OpenTls,
    PoorNetwork,
    TrustCertificate,
}

/// Judges once every step has ended; `None` before.
#[must_use]
pub fn judge(steps: &BTreeMap<Step, Report>) -> Option<Verdict> {
    let report = |step: Step| steps.get(&step).filter(|report| report.grade != Grade::Running);
    let is_over = Step::ALL.into_iter().all(|step| report(step).is_some());
    // A page that cannot do anything ends there.
    let page_fails = report(Step::Page).is_some_and(|page| page.grade == Grade::Bad);
    if !is_over && !page_fails {
        return None;
    }
    let is_bad = |step| report(step).is_some_and(|report| report.grade == Grade::Bad);
    let note = |step| report(step).and_then(|report| report.note);
    let mut hints = Vec::new();
    if page_fails {
        let is_old = note(Step::Page) == Some(Note::OldBrowser);
        hints.push(if is_old { Hint::UpdateBrowser } else { Hint::OpenByHttps });
        return Some(Verdict { grade: Grade::Bad, hints });
    }
    let has_no_relay = [Step::Udp, Step::Tcp, Step::Tls].into_iter().all(is_bad);
    if has_no_relay {
        hints.push(Hint::RelayUnreachable);
    } else if is_bad(Step::Call) {
        hints.push(Hint::RelayCannotReachItself);
    }
    if is_bad(Step::Camera) {
        hints.push(match note(Step::Camera) {
            Some(Note::DeniedBySystem) => Hint::AllowCameraInSystem,
            Some(Note::Busy) => Hint::FreeCamera,
            Some(Note::NoDevice) => Hint::ConnectCamera,
            Some(_) | None => Hint::AllowCamera,
        });
    }
    if !has_no_relay {
        if is_bad(Step::Udp) {
            hints.push(Hint::OpenUdp);
        }
        if is_bad(Step::Tcp) && note(Step::Tcp) != Some(Note::NoUrl) {
            hints.push(Hint::OpenTcp);
        }
        if is_bad(Step::Tls) && note(Step::Tls) != Some(Note::NoUrl) {
            let is_trusted = note(Step::Trust) == Some(Note::Trusted);
            hints.push(if is_trusted { Hint::OpenTls } else { Hint::TrustForTls });
        }
    }
    if note(Step::Call) == Some(Note::Lossy) {
        hints.push(Hint::PoorNetwork);
    }
    if note(Step::Trust) == Some(Note::Warned) && !hints.contains(&Hint::TrustForTls) {
        hints.push(Hint::TrustCertificate);
    }
    let is_fair =
        is_bad(Step::Camera) || is_bad(Step::Udp) || report(Step::Call).is_some_and(|call| call.grade == Grade::Fair);
    let grade = if is_bad(Step::Call) {
        Grade::Bad
    } else if is_fair {
        Grade::Fair
    } else {
        Grade::Good
    };
    Some(Verdict { grade, hints })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All steps good but for these.
    fn judged(others: &[(Step, Grade, Option<Note>)]) -> Option<Verdict> {
        let report = |step, grade, note| Report {
            step,
            grade,
            note,
            words: String::new(),
            figures: super::super::report::Figures::default(),
        };
        let trusted = |step| (step == Step::Trust).then_some(Note::Trusted);
        let mut steps: BTreeMap<Step, Report> =
            Step::ALL.into_iter().map(|step| (step, report(step, Grade::Good, trusted(step)))).collect();
        for &(step, grade, note) in others {
            steps.insert(step, report(step, grade, note));
        }
        judge(&steps)
    }

    fn verdict(others: &[(Step, Grade, Option<Note>)]) -> (Grade, Vec<Hint>) {
        let Verdict { grade, hints } = judged(others).unwrap();
        (grade, hints)
    }

    const BAD: Grade = Grade::Bad;

    #[test]
    fn there_is_none_before_every_step_has_ended() {
        assert_eq!(judge(&BTreeMap::new()), None);
        for step in Step::ALL {
            assert_eq!(judged(&[(step, Grade::Running, None)]), None, "{step:?}");
        }
        assert_eq!(verdict(&[]), (Grade::Good, vec![]));
    }

    #[test]
    fn a_page_that_can_do_nothing_is_the_end() {
        let running = Step::ALL[1..].iter().map(|step| (*step, Grade::Running, None));
        let all: Vec<_> = running.chain([(Step::Page, BAD, Some(Note::Insecure))]).collect();
        assert_eq!(verdict(&all), (BAD, vec![Hint::OpenByHttps]));
    }

    #[test]
    fn a_warning_is_no_obstacle_but_it_is_told_how_to_be_rid_of_it() {
        let warned = (Step::Trust, Grade::Fair, Some(Note::Warned));
        assert_eq!(verdict(&[warned]), (Grade::Good, vec![Hint::TrustCertificate]));
        let no_tls = (Step::Tls, BAD, Some(Note::NoTls));
        assert_eq!(verdict(&[warned, no_tls]), (Grade::Good, vec![Hint::TrustForTls]));
        assert_eq!(verdict(&[no_tls]), (Grade::Good, vec![Hint::OpenTls]), "it trusts the certificate");
        assert_eq!(verdict(&[(Step::Tls, BAD, Some(Note::NoUrl))]), (Grade::Good, vec![]), "nothing is offered");
    }

    #[test]
    fn without_a_camera_or_udp_calls_are_only_fair() {
        let camera = |note| verdict(&[(Step::Camera, BAD, Some(note))]);
        assert_eq!(camera(Note::Denied), (Grade::Fair, vec![Hint::AllowCamera]));
        assert_eq!(camera(Note::NoAnswer), (Grade::Fair, vec![Hint::AllowCamera]));
        assert_eq!(camera(Note::NoDevice), (Grade::Fair, vec![Hint::ConnectCamera]));
        let blocked = [(Step::Udp, BAD, Some(Note::Silent)), (Step::Srflx, BAD, Some(Note::Silent))];
        assert_eq!(verdict(&blocked), (Grade::Fair, vec![Hint::OpenUdp]));
        let lossy = [(Step::Call, Grade::Fair, Some(Note::Lossy))];
        assert_eq!(verdict(&lossy), (Grade::Fair, vec![Hint::PoorNetwork]));
    }

    #[test]
    fn without_a_relay_no_call_is_certain() {
        let none = [Step::Udp, Step::Tcp, Step::Tls, Step::Call].map(|step| (step, BAD, Some(Note::Silent)));
        assert_eq!(verdict(&none), (BAD, vec![Hint::RelayUnreachable]));
        assert_eq!(verdict(&none[3..]), (BAD, vec![Hint::RelayCannotReachItself]));
    }
}
