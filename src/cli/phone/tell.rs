//! What a terminal shows of a proof. Decides only.

use super::words::Words;
use crate::phone::desk::Event;
use crate::phone::report::{Figures, Grade, Report, Step};
use crate::phone::verdict::Verdict;

/// Columns of the names of steps.
const NAMES: usize = 13;

/// An event as lines; `None` where there is nothing to see yet.
pub(super) fn event(event: &Event, words: Words, colour: bool) -> Option<String> {
    match event {
        Event::Opened { browser, address } => Some(words.opened(browser, address)),
        Event::Refused { browser, address } => {
            Some(format!("{} {}", mark(Grade::Fair, colour), words.refused(browser, address)))
        }
        Event::Step(report) if report.grade == Grade::Running => None,
        Event::Step(report) => Some(step(report, words, colour)),
        Event::Verdict(verdict) => Some(ends(verdict, words, colour)),
    }
}

fn step(report: &Report, words: Words, colour: bool) -> String {
    let Report { step, grade, note, words: own, figures } = report;
    let mut parts: Vec<String> = Vec::new();
    parts.extend(note.map(|note| words.note(note).to_owned()));
    parts.extend((!own.is_empty()).then(|| own.clone()));
    parts.extend(measured(figures, *step, words));
    let name = words.step(*step);
    let space = " ".repeat(NAMES.saturating_sub(dialoguer::console::measure_text_width(name)));
    format!("{} {name}{space} {}", mark(*grade, colour), parts.join(", ")).trim_end().to_owned()
}

fn measured(figures: &Figures, step: Step, words: Words) -> Vec<String> {
    let Figures { ms, rtt_ms, loss, frames, width, height } = figures;
    let mut parts = Vec::new();
    if let (Some(width), Some(height)) = (width, height) {
        parts.push(format!("{width:.0}x{height:.0}"));
    }
    if let Some(frames) = frames {
        parts.push(words.frames(*frames));
    }
    if let Some(rtt) = rtt_ms {
        parts.push(format!("RTT {rtt:.1} ms"));
    }
    if let Some(loss) = loss {
        parts.push(words.lost(*loss));
    }
    // How long somebody took to allow a camera is nobody's business.
    if let Some(ms) = ms.filter(|_| matches!(step, Step::Host | Step::Srflx | Step::Udp | Step::Tcp | Step::Tls)) {
        parts.push(format!("{ms:.0} ms"));
    }
    parts
}

fn ends(verdict: &Verdict, words: Words, colour: bool) -> String {
    let mut text = format!("\n{} {}", mark(verdict.grade, colour), words.verdict(verdict.grade));
    for hint in &verdict.hints {
        text.push_str(&format!("\n  {} {}", words.hint_mark(), words.hint(*hint)));
    }
    text
}

fn mark(grade: Grade, colour: bool) -> String {
    let (symbol, code) = match grade {
        Grade::Running => ("…", "2"),
        Grade::Good => ("✓", "32"),
        Grade::Fair => ("!", "33"),
        Grade::Bad => ("✗", "31"),
    };
    if colour { format!("\x1b[{code}m{symbol}\x1b[0m") } else { symbol.to_owned() }
}

/// Whether the address leads back to whatever device opens it.
pub(super) fn is_only_here(url: &str) -> bool {
    let host = url.split("://").nth(1).unwrap_or_default();
    ["localhost", "127.", "[::1]"].iter().any(|own| host.starts_with(own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phone::report::Note;
    use crate::phone::verdict::Hint;
    use crate::words::Lang;

    fn report(step: Step, grade: Grade, note: Option<Note>, words: &str, figures: Figures) -> Event {
        Event::Step(Report { step, grade, note, words: words.to_owned(), figures })
    }

    fn shown(event: &Event, language: Lang) -> String {
        super::event(event, Words { language }, false).unwrap_or_default()
    }

    #[test]
    fn a_step_is_a_line_in_either_language() {
        let figures = Figures {
            width: Some(640.0),
            height: Some(480.0),
            frames: Some(98.0),
            rtt_ms: Some(4.25),
            loss: Some(0.0),
            ms: Some(5000.0),
        };
        let call = report(Step::Call, Grade::Good, None, "udp", figures);
        assert_eq!(shown(&call, Lang::En), "✓ call          udp, 640x480, 98 frames, RTT 4.2 ms, 0.0 % lost");
        assert_eq!(shown(&call, Lang::Zh), "✓ 中继通话      udp, 640x480, 98 帧, RTT 4.2 ms, 丢包 0.0 %");
        let tls = report(Step::Tls, Grade::Bad, Some(Note::NoTls), "", Figures { ms: Some(9.6), ..Figures::default() });
        assert_eq!(
            shown(&tls, Lang::En),
            "✗ relay by TLS  no TLS: the port is blocked, or the certificate is not trusted for this name, 10 ms"
        );
        assert_eq!(shown(&report(Step::Host, Grade::Running, None, "", Figures::default()), Lang::En), "");
    }

    #[test]
    fn a_verdict_says_what_to_do() {
        let verdict = Event::Verdict(Verdict { grade: Grade::Fair, hints: vec![Hint::OpenUdp] });
        assert_eq!(
            shown(&verdict, Lang::En),
            "\n! Calls work from this phone, with limits.\n  hint: open the TURN port for UDP: in the network of the phone \
             or in the firewall here. Without it, pictures stutter when packets get lost"
        );
        assert!(shown(&verdict, Lang::Zh).contains("提示："));
    }

    #[test]
    fn an_address_that_no_phone_reaches_is_known() {
        for (url, wanted) in [
            ("https://127.0.0.1:8443/phone#code=x", true),
            ("https://localhost/phone", true),
            ("https://[::1]:8443/phone", true),
            ("https://192.0.2.1:8443/phone", false),
            ("https://call.example.org/phone", false),
        ] {
            assert_eq!(is_only_here(url), wanted, "{url}");
        }
    }
}
