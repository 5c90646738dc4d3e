//! The operator's own chain and key: read when they change, checked before they are served.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tracing::warn;

use super::pair::{Labels, assemble, faults, issuer_fault, loose_end, pem_text};
use super::{Served, Source};
use crate::config::{Config, Host};
use crate::error::{Failure, Kind, Result};
use crate::sys::fs::read_at_most;
use crate::text;
use crate::words::Text;

/// Bytes of one file.
const MAX_FILE: u64 = 1 << 20;

/// Where the two files are, and as what they were last seen.
#[derive(Debug)]
pub(super) struct Watched {
    chain: PathBuf,
    key: PathBuf,
    seen: Option<Stamp>,
}

/// What changes when a file does.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp(Vec<Option<(SystemTime, u64, u64)>>);

impl Watched {
    pub(super) fn of(config: &Config) -> Option<Self> {
        let certificate = &config.certificate;
        let (chain, key) = (certificate.cert_file.clone()?, certificate.key_file.clone()?);
        Some(Self { chain, key, seen: None })
    }

    /// The pair is read anew, whether it has changed or not.
    pub(super) fn look_again(&mut self) {
        self.seen = None;
    }

    /// Reads the pair if it has changed since it was last asked for.
    pub(super) fn changed(&mut self, config: &Config, now: SystemTime) -> Option<Result<Served>> {
        let stamp = Stamp(vec![stamp(&self.chain), stamp(&self.key)]);
        if self.seen.as_ref() == Some(&stamp) {
            return None;
        }
        let read = load_files(config, now);
        // Two files are not written at once: a pair that does not fit yet is looked at again.
        self.seen = read.is_ok().then_some(stamp);
        Some(read)
    }
}

/// Follows links, so that a renewal that moves a link is seen.
fn stamp(path: &Path) -> Option<(SystemTime, u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = path.metadata().ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

/// Reads a file of PEM, and says what else it is if it is that: files come from mail, from Windows and from browsers.
///
/// # Errors
/// In words, if it cannot be read or is no text.
pub fn read_pem(path: &Path) -> Result<String, Text> {
    let failed = |error: std::io::Error| text!("cannot read `{}`: {}", path.display(), Text::of_error(&error));
    let bytes = read_at_most(path, MAX_FILE).map_err(failed)?.ok_or_else(|| {
        text!("`{}` is larger than {} bytes; chains and keys are a few thousand", path.display(), MAX_FILE)
    })?;
    pem_text(bytes).map_err(|what| text!("`{}` {}", path.display(), what))
}

/// Reads and checks the pair that the configuration names.
///
/// # Errors
/// `Kind::Config`, with every fault at once: a file that cannot be read, a chain out of order, a key of another
/// certificate, a missing name, a date that is over.
pub fn load_files(config: &Config, now: SystemTime) -> Result<Served> {
    let certificate = &config.certificate;
    let (Some(chain), Some(key)) = (&certificate.cert_file, &certificate.key_file) else {
        return Err(Failure::bug(text!(
            "`certificate.source: files` without files passed the check of the configuration"
        )));
    };
    check_files(chain, key, &config.hosts, now)
}

/// Reads and checks a pair for some hosts.
///
/// # Errors
/// As [`load_files`].
pub fn check_files(chain: &Path, key: &Path, hosts: &[Host], now: SystemTime) -> Result<Served> {
    let bad = |why: Text| {
        Failure::new(Kind::Config, text!("cannot serve the certificate `{}`", chain.display())).because(why).hinted(
            text!("correct the file or `certificate.cert_file` and `certificate.key_file`; a pair that fits is taken by itself"),
        )
    };
    let [chain_pem, key_pem] = [chain, key].map(|path| read_pem(path).map_err(bad));
    let labels = Labels { chain: &format!("`{}`", chain.display()), key: &format!("`{}`", key.display()) };
    let (facts, served) = assemble(&chain_pem?, &key_pem?, Source::Files, labels).map_err(bad)?;
    let mut faults = faults(&facts, hosts, now);
    faults.extend(issuer_fault(&served, now));
    if !faults.is_empty() {
        return Err(bad(Text::clauses(faults)));
    }
    if let Some(what) = loose_end(&served) {
        warn!(chain = %chain.display(), what = what.english(), "some devices may not trust this");
    }
    Ok(served)
}
