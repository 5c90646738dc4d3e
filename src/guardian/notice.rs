//! What a message of the daemon says: the lines of sd_notify(3).

use crate::sys::notify::WANTS_NEXT;

/// One message. Its lines belong together: `FDNAME` names what `FDSTORE` brings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) is_ready: bool,
    pub(super) is_stopping: bool,
    /// It ends because another process is needed, not because anybody wants none.
    pub(super) wants_next: bool,
    pub(super) is_alive: bool,
    pub(super) status: Option<String>,
    pub(super) store: Option<String>,
    pub(super) remove: Option<String>,
}

/// Characters of a status that are kept.
const MAX_STATUS: usize = 500;
/// Bytes of a name, as systemd has it.
const MAX_NAME: usize = 255;
/// What systemd calls a socket without a name.
const UNNAMED: &str = "stored";

/// Reads a message. Lines that are not known are left to later versions.
pub(super) fn read(text: &str) -> Words {
    let mut words = Words::default();
    let (mut stores, mut removes, mut name) = (false, false, None);
    for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
        match (key, value) {
            ("READY", "1") => words.is_ready = true,
            ("STOPPING", "1") => words.is_stopping = true,
            (WANTS_NEXT, "1") => words.wants_next = true,
            ("WATCHDOG", "1") => words.is_alive = true,
            ("FDSTORE", "1") => stores = true,
            ("FDSTOREREMOVE", "1") => removes = true,
            ("FDNAME", value) => name = Some(value).filter(|name| is_name(name)),
            ("STATUS", value) => words.status = Some(value.chars().take(MAX_STATUS).collect()),
            _ => {}
        }
    }
    words.store = stores.then(|| name.unwrap_or(UNNAMED).to_owned());
    words.remove = name.filter(|_| removes).map(str::to_owned);
    words
}

/// A colon would end the name in `LISTEN_FDNAMES`.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_protocol_is_understood() {
        assert_eq!(read("READY=1\nSTATUS=all is well").status.as_deref(), Some("all is well"));
        assert!(read("READY=1").is_ready && read("STOPPING=1").is_stopping && read("WATCHDOG=1").is_alive);
        assert!(read("X_RTCCTL_WANTS_NEXT=1\nSTATUS=it hangs").wants_next && !read("STOPPING=1").wants_next);
        assert_eq!(read("FDSTORE=1\nFDPOLL=0\nFDNAME=https").store.as_deref(), Some("https"));
        assert_eq!(read("FDNAME=https\nFDSTORE=1").store.as_deref(), Some("https"));
        assert_eq!(read("FDSTORE=1").store.as_deref(), Some("stored"));
        assert_eq!(read("FDSTOREREMOVE=1\nFDNAME=https").remove.as_deref(), Some("https"));
    }

    #[test]
    fn what_makes_no_sense_says_nothing() {
        for text in ["", "READY", "READY=0", "ready=1", "=1", "WATCHDOG=trigger", "MAINPID=1", "FDSTOREREMOVE=1"] {
            assert_eq!(read(text), Words::default(), "{text}");
        }
        for name in ["", "a:b", "a b", "a\u{e9}", &"x".repeat(256)] {
            assert_eq!(read(&format!("FDSTOREREMOVE=1\nFDNAME={name}")).remove, None);
            assert_eq!(read(&format!("FDSTORE=1\nFDNAME={name}")).store.as_deref(), Some("stored"));
        }
        assert_eq!(read(&format!("STATUS={}", "x".repeat(9000))).status.unwrap().len(), MAX_STATUS);
    }
}
