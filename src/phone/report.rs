//! What the page on a phone may say: known words, bounded numbers, and a few words of the browser's own.
//!
//! Nothing of it is believed further than that: it is shown to the person who holds the phone, and decides one exit
//! code.

use serde::{Deserialize, Serialize};

/// What is looked at, in the order in which it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// The page is there, by HTTPS, in a browser that can call.
    Page,
    /// Whether the browser trusts the certificate.
    Trust,
    /// Camera and microphone.
    Camera,
    /// The phone's own addresses.
    Host,
    /// Its outer address, by STUN.
    Srflx,
    /// A relay by each transport.
    Udp,
    Tcp,
    Tls,
    /// A call of the page with itself through the relay.
    Call,
}

impl Step {
    pub const ALL: [Self; 9] =
        [Self::Page, Self::Trust, Self::Camera, Self::Host, Self::Srflx, Self::Udp, Self::Tcp, Self::Tls, Self::Call];
}

/// How a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    Running,
    Good,
    /// It works, but.
    Fair,
    Bad,
}

/// Why a step has its grade, where there is something to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Note {
    // Page.
    Insecure,
    OldBrowser,
    // Trust.
    Trusted,
    Warned,
    Unknowable,
    // Camera.
    Denied,
    DeniedBySystem,
    Busy,
    NoDevice,
    NoAnswer,
    NoMicrophone,
    // Addresses and relays.
    NoAddress,
    SameNetwork,
    NameNotFound,
    Silent,
    NoTls,
    Refused,
    Full,
    NoUrl,
    // Call.
    NoConnection,
    NoPicture,
    Lossy,
}

/// Bytes of what a browser says in its own words.
const MAX_WORDS: usize = 160;
/// The largest of any number: more than any of them can be.
const MAX_NUMBER: f64 = 1e7;

/// How one step stands, as the page tells it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    pub step: Step,
    pub grade: Grade,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Note>,
    /// What the browser says itself: an address, an error.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub words: String,
    #[serde(default, skip_serializing_if = "Figures::is_empty")]
    pub figures: Figures,
}

/// What was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Milliseconds that the step took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<f64>,
    /// Milliseconds of a round trip to the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// Packets lost, in per cent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<f64>,
}

impl Figures {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn bounded(self) -> Self {
        let bounded = |number: Option<f64>| {
            number.filter(|number| number.is_finite()).map(|number| number.clamp(0.0, MAX_NUMBER))
        };
        Self {
            ms: bounded(self.ms),
            rtt_ms: bounded(self.rtt_ms),
            loss: bounded(self.loss),
            frames: bounded(self.frames),
            width: bounded(self.width),
            height: bounded(self.height),
        }
    }
}

impl Report {
    /// The same within bounds, and without anything that would move a terminal's cursor.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self { words: plain(&self.words, MAX_WORDS), figures: self.figures.bounded(), ..self }
    }
}

/// A line of text that does nothing to a terminal, of so many bytes at most. Marks that change the direction of
/// writing are left out as well: they could make a line read as something else.
#[must_use]
pub fn plain(text: &str, max: usize) -> String {
    let is_shown = |symbol: &char| {
        !symbol.is_control()
            && !matches!(symbol, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let mut line = String::new();
    for symbol in text.chars().filter(is_shown) {
        if line.len() + symbol.len_utf8() > max {
            break;
        }
        line.push(symbol);
    }
    line
}

/// Which browser on which system, in a few words: what a `User-Agent` says at length.
#[must_use]
pub fn browser(agent: &str) -> String {
    // In this order: those below name those above them only where they are one of them.
    const BROWSERS: [(&str, &str); 11] = [
        ("MicroMessenger", "WeChat"),
        ("DingTalk", "DingTalk"),
        ("EdgA/", "Edge"),
        ("Edg/", "Edge"),
        ("SamsungBrowser", "Samsung Internet"),
        ("FxiOS", "Firefox"),
        ("Firefox/", "Firefox"),
        ("CriOS", "Chrome"),
        ("HeadlessChrome", "headless Chrome"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
    ];
    const SYSTEMS: [(&str, &str); 7] = [
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("HarmonyOS", "HarmonyOS"),
        ("Android", "Android"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ];
    let find =
        |list: &[(&str, &'static str)]| list.iter().find(|(mark, _)| agent.contains(mark)).map(|(_, name)| *name);
    match (find(&BROWSERS), find(&SYSTEMS)) {
        (Some(browser), Some(system)) => format!("{browser}, {system}"),
        (Some(name), None) | (None, Some(name)) => name.to_owned(),
        (None, None) => Some(plain(agent, 60)).filter(|name| !name.is_empty()).unwrap_or_else(|| "?".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_page_says_is_read_in_known_words_only() {
        let read = |text: &str| serde_json::from_str::<Report>(text).map(Report::bounded);
        let report = read(r#"{"step":"udp","grade":"bad","note":"name-not-found","words":"x","figures":{"ms":12.5}}"#);
        let report = report.unwrap();
        assert_eq!((report.step, report.grade, report.note), (Step::Udp, Grade::Bad, Some(Note::NameNotFound)));
        assert_eq!(report.figures.ms, Some(12.5));
        for bad in [
            "",
            "{}",
            r#"{"step":"fly","grade":"good"}"#,
            r#"{"step":"udp","grade":"excellent"}"#,
            r#"{"step":"udp","grade":"good","note":"hacked"}"#,
            r#"{"step":"udp","grade":"good","more":1}"#,
            r#"{"step":"udp","grade":"good","figures":{"ms":"1"}}"#,
            r#"{"step":"udp","grade":"good","figures":{"ms":1e999}}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let nested = format!(r#"{{"step":"udp","grade":"good","words":{}}}"#, "[".repeat(20_000));
        assert!(read(&nested).is_err());
    }

    #[test]
    fn nothing_reaches_a_terminal_that_moves_its_cursor() {
        let words = "a\x1b[2J\r\nb\u{7}\u{9b}31m\u{202e}c\u{200b}d 中文".to_owned();
        let report = Report {
            step: Step::Host,
            grade: Grade::Good,
            note: None,
            words,
            figures: Figures { ms: Some(-5.0), loss: Some(1e300), frames: Some(f64::NAN), ..Figures::default() },
        };
        let bounded = report.bounded();
        assert_eq!(bounded.words, "a[2Jb31mcd 中文");
        assert_eq!(bounded.figures, Figures { ms: Some(0.0), loss: Some(1e7), ..Figures::default() });
        assert_eq!(plain(&"中".repeat(1000), 160).len(), 159, "cut between symbols");
    }

    #[test]
    fn a_browser_is_called_by_its_name() {
        for (agent, name) in [
            (
                "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 Chrome/126.0 Mobile Safari/537.36",
                "Chrome, Android",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Version/17.5 Mobile Safari/604.1",
                "Safari, iPhone",
            ),
            ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) CriOS/126.0 Safari/604.1", "Chrome, iPhone"),
            ("Mozilla/5.0 (Linux; Android 14) Chrome/116.0 Safari/537.36 MicroMessenger/8.0", "WeChat, Android"),
            ("Mozilla/5.0 (Android 14; Mobile; rv:127.0) Gecko/127.0 Firefox/127.0", "Firefox, Android"),
            ("curl/8.5", "curl/8.5"),
            ("", "?"),
            ("\x1b[31mevil", "[31mevil"),
        ] {
            assert_eq!(browser(agent), name);
        }
    }
}
