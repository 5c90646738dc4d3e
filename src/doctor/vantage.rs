//! A look from another machine: an invitation that is good once and for minutes, and the report that answers it.
//!
//! Both are words to be copied by whoever sits at both machines, so that a report comes back where no port is open: that
//! is when it is needed most. A report is signed with the invitation's key, so that nobody else's is taken for one.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::evidence::OutsideView;
use crate::error::{Failure, Kind, Result};
use crate::home::Home;
use crate::sys::clock::Now;
use crate::sys::fs::write_atomic;
use crate::text;

/// How long an invitation is good for.
pub const GOOD_FOR: Duration = Duration::from_secs(15 * 60);
/// What a step's word begins with that says how fast the way is.
pub const SPEED: &str = "speed";
/// A file or a word of ours is far smaller.
const MAX_LENGTH: usize = 64 * 1024;
const KEY_BYTES: usize = 32;
/// What the words begin with, so that one is not taken for the other.
const INVITATION: &str = "rtcctl-look-";
const REPORT: &str = "rtcctl-seen-";

/// What the other machine has to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    key: String,
    /// Seconds since 1970.
    pub until: u64,
    /// The page.
    pub web: String,
    /// SHA-256 of the certificate that is served there.
    pub fingerprint: String,
    pub ice: Vec<String>,
    pub username: String,
    pub password: String,
    /// The certificate is by an authority that other machines do not know.
    pub is_self_signed: bool,
}

/// What the other machine saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Whom this host would see.
    pub from: String,
    /// Each step by its word: whether it worked, and what was found.
    pub steps: BTreeMap<String, (bool, String)>,
}

/// A report as it lies on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// Seconds since 1970.
    at: u64,
    #[serde(flatten)]
    report: Report,
}

/// The invitation that waits for its report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Waiting {
    key: String,
    until: u64,
}

impl Invitation {
    /// A new one, which replaces the one that was there.
    ///
    /// # Errors
    /// If it cannot be kept.
    pub fn make(home: &Home, seen: Self, now: Now) -> Result<Self> {
        let mut key = [0_u8; KEY_BYTES];
        aws_lc_rs::rand::fill(&mut key)
            .map_err(|_| Failure::operator(text!("the operating system gives no random numbers")))?;
        let key: String = URL_SAFE_NO_PAD.encode(key);
        let until = now.unix_seconds() + GOOD_FOR.as_secs();
        let waiting = serde_json::to_vec(&Waiting { key: key.clone(), until }).expect("it has string keys only");
        write_atomic(&home.invitation_file(), &waiting, 0o600)?;
        Ok(Self { key, until, ..seen })
    }

    /// What is wanted of the other machine; the key comes by [`Invitation::make`].
    #[must_use]
    pub fn to(
        web: String,
        fingerprint: String,
        ice: Vec<String>,
        login: (String, String),
        is_self_signed: bool,
    ) -> Self {
        let (username, password) = login;
        Self { key: String::new(), until: 0, web, fingerprint, ice, username, password, is_self_signed }
    }

    /// The word to be copied. It is good for relaying until it ends, so it is a secret.
    #[must_use]
    pub fn word(&self) -> String {
        word(INVITATION, self)
    }

    /// Reads such a word.
    ///
    /// # Errors
    /// If it is none, or its time is over.
    pub fn read(text: &str, now: Now) -> Result<Self> {
        let invitation: Self = read(INVITATION, text).ok_or_else(|| {
            Failure::new(Kind::Usage, text!("that is no invitation"))
                .hinted(text!("copy all of what `rtcctl probe --invite` printed on the other machine"))
        })?;
        if now.unix_seconds() > invitation.until {
            return Err(Failure::operator(text!("the invitation is over, or this machine's clock is wrong"))
                .hinted(text!("make a new one by `rtcctl probe --invite` on the other machine")));
        }
        Ok(invitation)
    }

    /// The word that answers this invitation.
    #[must_use]
    pub fn answer(&self, report: &Report) -> String {
        let text = serde_json::to_string(report).expect("it has string keys only");
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.key.as_bytes()), text.as_bytes());
        word(REPORT, &(text, URL_SAFE_NO_PAD.encode(tag)))
    }
}

/// Takes the answer to the invitation that waits, keeps it, and ends the invitation.
///
/// # Errors
/// If it is none, none is waited for, or it answers another one.
pub fn take(home: &Home, text: &str, now: Now) -> Result<Report> {
    let file = home.invitation_file();
    let waiting = match std::fs::read(&file) {
        Ok(bytes) => serde_json::from_slice::<Waiting>(&bytes).ok(),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(Failure::operator(text!("cannot read `{}`", file.display())).caused_by(error)),
    };
    let waiting = waiting.filter(|waiting| now.unix_seconds() <= waiting.until).ok_or_else(|| {
        Failure::operator(text!("no invitation waits for a report: each is good once, and for a quarter of an hour"))
            .hinted(text!("make one by `rtcctl{} probe --invite`", home.flag()))
    })?;
    let report = verified(text, &waiting.key).ok_or_else(|| {
        Failure::new(Kind::Usage, text!("that is no report on the invitation that waits"))
            .hinted(text!("copy all of the last line that `rtcctl probe` printed on the other machine"))
    })?;
    let kept = Kept { at: now.unix_seconds(), report };
    write_atomic(&home.outside_view_file(), &serde_json::to_vec(&kept).expect("it has string keys only"), 0o600)?;
    // Good once.
    std::fs::remove_file(&file)
        .map_err(|error| Failure::operator(text!("cannot remove `{}`", file.display())).caused_by(error))?;
    Ok(kept.report)
}

fn verified(text: &str, key: &str) -> Option<Report> {
    let (text, tag): (String, String) = read(REPORT, text)?;
    let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), text.as_bytes(), &tag).ok()?;
    serde_json::from_str(&text).ok()
}

/// The last report, if there is one that can be read.
#[must_use]
pub fn last_view(home: &Home, now: SystemTime) -> Option<OutsideView> {
    let bytes = std::fs::read(home.outside_view_file()).ok().filter(|bytes| bytes.len() <= MAX_LENGTH)?;
    let Kept { at, report } = serde_json::from_slice(&bytes).ok()?;
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(at))?;
    // One from the future is from a time when the clock was wrong.
    let age = now.duration_since(at).unwrap_or_default();
    Some(OutsideView { age, from: report.from, steps: report.steps })
}

fn word(prefix: &str, value: &impl Serialize) -> String {
    let text = serde_json::to_vec(value).expect("it has string keys only");
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(text))
}

fn read<T: DeserializeOwned>(prefix: &str, text: &str) -> Option<T> {
    // Whoever copies from a terminal copies its line ends, too.
    let text: String = text.chars().filter(|symbol| !symbol.is_whitespace()).take(MAX_LENGTH).collect();
    let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(prefix)?).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock;

    fn invite(home: &Home, now: Now) -> Invitation {
        let login = ("u".to_owned(), "p".to_owned());
        let wanted = Invitation::to("https://a.example/".to_owned(), "ab".to_owned(), Vec::new(), login, false);
        Invitation::make(home, wanted, now).unwrap()
    }

    fn report() -> Report {
        Report { from: "192.0.2.9".to_owned(), steps: [("web".to_owned(), (false, "silence".to_owned()))].into() }
    }

    #[test]
    fn a_report_is_taken_once_and_shown_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::under(folder.path());
        std::fs::create_dir_all(home.state_dir()).unwrap();
        let now = clock::now();
        let made = invite(&home, now);
        let mut broken = made.word();
        broken.insert_str(20, "\n  ");
        let read = Invitation::read(&broken, now).unwrap();
        assert_eq!(read, made);
        let answer = read.answer(&report());
        assert_eq!(take(&home, &answer, now).unwrap(), report());
        assert_eq!(take(&home, &answer, now).unwrap_err().kind(), Kind::Operator);
        let view = last_view(&home, now.wall + Duration::from_secs(60)).unwrap();
        assert_eq!((view.from.as_str(), view.steps.len()), ("192.0.2.9", 1));
        assert!((59..=61).contains(&view.age.as_secs()));
    }

    #[test]
    fn a_report_that_answers_something_else_or_is_late_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::under(folder.path());
        std::fs::create_dir_all(home.state_dir()).unwrap();
        let now = clock::now();
        assert!(take(&home, "rtcctl-seen-x", now).is_err());
        let old = invite(&home, now);
        let new = invite(&home, now);
        for word in [old.answer(&report()), new.word(), String::new(), "rtcctl-seen-".to_owned(), "ä".repeat(99)] {
            assert!(take(&home, &word, now).is_err(), "{word:.30}");
        }
        let late = Now { wall: now.wall + GOOD_FOR + Duration::from_secs(2), ..now };
        assert!(take(&home, &new.answer(&report()), late).is_err());
        assert!(Invitation::read(&new.word(), late).is_err());
        assert!(Invitation::read(&new.answer(&report()), now).is_err());
        assert_eq!(last_view(&home, now.wall), None);
        // It is still good, whatever was tried.
        take(&home, &new.answer(&report()), now).unwrap();
    }
}
