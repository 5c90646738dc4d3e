//! Changes `secrets.yaml` and has a running service take it up, or leaves everything as it was.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use super::Frame;
use crate::config::{load_config, load_secrets};
use crate::control::client::ask;
use crate::control::protocol::Request;
use crate::daemon::ANSWERED_WITHIN;
use crate::error::{Failure, Kind, Result};
use crate::sys::fs::{read_to_string, write_atomic};
use crate::text;
use crate::words::Text;

/// Rewrites the file; tells whether a running service has taken it up. Nothing stays changed if it refuses.
///
/// `what` is what cannot be put into the file where `change` gives nothing.
pub(super) fn secrets(frame: &Frame, what: &Text, change: impl FnOnce(&str) -> Option<String>) -> Result<bool> {
    // One after the other: taking a change back must not take back that of somebody else.
    let folder = std::fs::File::open(frame.home.config_dir()).and_then(|folder| folder.lock().map(|()| folder));
    let _locked = folder.map_err(|error| {
        Failure::operator(text!("cannot lock `{}`", frame.home.config_dir().display())).caused_by(error)
    })?;
    // What a reload would refuse is told before anything is changed, but for what the change may be about to mend.
    load_config(&frame.home)?;
    load_secrets(&frame.home)?;
    let path = frame.home.secrets_file();
    let before = read_to_string(&path)?;
    let after = change(&before).ok_or_else(|| {
        Failure::operator(text!("no {} can be put into `{}` as it is written", what, path.display()))
            .hinted(text!("give each of its keys a line of its own"))
    })?;
    replace(&path, &after)?;
    match ask(&frame.home, &Request::Reload, ANSWERED_WITHIN) {
        Ok(_) => Ok(true),
        Err(failure) if failure.kind() == Kind::NotRunning => Ok(false),
        Err(failure) => {
            replace(&path, &before)?;
            Err(failure.hinted(text!("the {} is the one from before", what)))
        }
    }
}

/// Replaces a file that is there by this text. It keeps its mode and its owner: root may do this for another user's home.
pub(super) fn replace(path: &Path, text: &str) -> Result<()> {
    let failed = |error| Failure::operator(text!("cannot write `{}`", path.display())).caused_by(error);
    // A link stays one.
    let path = &std::fs::canonicalize(path).map_err(failed)?;
    let before = std::fs::metadata(path).map_err(failed)?;
    write_atomic(path, text.as_bytes(), before.permissions().mode() & 0o777)?;
    let after = std::fs::metadata(path).map_err(failed)?;
    if (before.uid(), before.gid()) == (after.uid(), after.gid()) {
        return Ok(());
    }
    chown(path, Some(before.uid()), Some(before.gid())).map_err(failed)
}
