//! Why a probe failed, in words, and whether nobody listens at all.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use crate::text;
use crate::words::Text;

/// Why a probe failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    text: Text,
    is_refused: bool,
}

impl Fault {
    #[must_use]
    pub fn new(text: impl Into<Text>) -> Self {
        Self { text: text.into(), is_refused: false }
    }

    /// What the operating system says of `address`.
    #[must_use]
    pub(super) fn of_io(address: SocketAddr, transport: &str, error: &io::Error) -> Self {
        let is_refused = error.kind() == ErrorKind::ConnectionRefused;
        let text = if is_refused {
            text!("nothing listens on `{}/{}`", address, transport)
        } else if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
            text!("no answer from `{}/{}` in time", address, transport)
        } else {
            text!("no answer from `{}/{}`: {}", address, transport, Text::of_error(error))
        };
        Self { text, is_refused }
    }

    /// Says at what it failed.
    #[must_use]
    pub fn at(mut self, what: impl Into<Text>) -> Self {
        self.text = text!("{}: {}", what.into(), self.text);
        self
    }

    /// Why it failed.
    #[must_use]
    pub fn told(&self) -> Text {
        self.text.clone()
    }

    /// Whether the port is closed: nobody listens.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.is_refused
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text.english())
    }
}
