//! What taking a set-up back does, or would do, to each thing.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::certs::trust::Store;
use crate::text;
use crate::words::Text;

/// What is, or would be, done to one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    pub verb: Verb,
    pub object: Object,
    /// For what stays; for the firewall, the ports it is about.
    pub why: Text,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    Path(PathBuf),
    Firewall,
    /// The trust of a store of this host in the local CA.
    Trust(Store),
}

impl Deed {
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.object {
            Object::Path(path) => Some(path),
            Object::Firewall | Object::Trust(_) => None,
        }
    }
}

impl Object {
    /// As people are told of it.
    #[must_use]
    pub fn told(&self) -> Text {
        match self {
            Self::Firewall => text!("the firewall"),
            Self::Path(_) | Self::Trust(_) => Text::verbatim(self.to_string()),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Firewall => f.write_str(self.told().english()),
            Self::Trust(Store::System { file, .. }) => write!(f, "{}", file.display()),
            Self::Trust(Store::Nss(folder)) => write!(f, "{}", folder.display()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Remove,
    Restore,
    /// Nobody is let in any more by rules of ours.
    Close,
    Leave,
    /// It should have gone and could not.
    Fail,
}

/// What came of taking something back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub deeds: Vec<Deed>,
}

impl Report {
    /// Whether something was changed.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.deeds.iter().any(|deed| deed.verb.is_change())
    }

    /// Whether a path is, or would be, removed.
    #[must_use]
    pub fn removes(&self, path: &Path) -> bool {
        self.of(Verb::Remove).any(|deed| deed.path() == Some(path))
    }

    pub fn of(&self, verb: Verb) -> impl Iterator<Item = &Deed> {
        self.deeds.iter().filter(move |deed| deed.verb == verb)
    }

    /// Several runs may have touched the same path: what comes of it in the end is told.
    pub(super) fn add(&mut self, verb: Verb, path: &Path, why: impl Into<Text>) {
        self.deeds.retain(|deed| deed.path() != Some(path));
        self.deeds.push(Deed { verb, object: Object::Path(path.to_path_buf()), why: why.into() });
    }
}

impl Verb {
    #[must_use]
    pub fn is_change(self) -> bool {
        matches!(self, Self::Remove | Self::Restore | Self::Close)
    }
}
