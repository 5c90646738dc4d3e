//! What is written down of our own changes, where the firewall itself cannot say whose they are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::needs::Needs;
use crate::error::{Failure, Result};
use crate::home::Home;
use crate::sys::fs::{create_private_dir, write_atomic};
use crate::text;

/// Kept in the state folder; numbers and names only, no commands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What was opened last, and not closed since.
    pub needs: Needs,
    /// Ports that we have added to zones of the running firewalld.
    #[serde(default)]
    pub firewalld_added: BTreeMap<String, Needs>,
    /// Zones whose file came to be by our change.
    #[serde(default)]
    pub firewalld_made: BTreeSet<String>,
}

impl Record {
    /// Where it is written down.
    #[must_use]
    pub fn file(home: &Home) -> PathBuf {
        home.state_dir().join("firewall.json")
    }

    /// What was written down; nothing if there is no such file, or it is damaged: rules are known by their names, too.
    #[must_use]
    pub fn load(home: &Home) -> Self {
        let text = std::fs::read_to_string(Self::file(home)).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, home: &Home) -> Result<()> {
        create_private_dir(home.state_dir())?;
        let text =
            serde_json::to_vec_pretty(self).map_err(|error| Failure::bug(text!("no record")).caused_by(error))?;
        write_atomic(&Self::file(home), &text, 0o600)
    }

    /// # Errors
    /// If it is there and stays.
    pub fn forget(home: &Home) -> Result<()> {
        super::act::remove(&Self::file(home))
    }
}
