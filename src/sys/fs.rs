//! Files that are whole or absent, and folders nobody else can read.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use crate::error::{Failure, Result};
use crate::text;

/// Replaces `path` by `bytes` with the permission bits `mode`, so that a crash leaves the old file or the new one.
///
/// # Errors
/// If the folder is missing or not writable, or the disk is full; the old file is untouched then.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    write_atomic_by(&folder.join(format!(".{name}.{}.new", std::process::id())), path, bytes, mode)
}

/// The name under which `init` writes before it renames; always the same, so that what a killed run leaves is found.
#[must_use]
pub fn draft_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.rtcctl-draft"))
}

/// As [`write_atomic`], by a draft of this name in the same folder, for whoever has to find it after a crash.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_atomic_by(draft: &Path, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let folder = draft.parent().unwrap_or(Path::new("."));
    let written = write_draft(draft, path, bytes, mode).and_then(|()| std::fs::rename(draft, path));
    if let Err(error) = written {
        // The draft may never have come to be; the failure that counts is the one above.
        let _ = std::fs::remove_file(draft);
        return Err(Failure::operator(text!("cannot write `{}`", path.display())).caused_by(error));
    }
    // The rename itself must survive a power cut. A file system that cannot do that has done what it can.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

fn write_draft(draft: &Path, path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    // A draft left by a crash of a process with our number.
    let _ = std::fs::remove_file(draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(draft)?;
    // The umask may have taken bits away.
    file.set_permissions(Permissions::from_mode(mode))?;
    give_to_its_owner(&file, path, draft)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// What root writes for a service that has a user of its own belongs to that user: a file to whom it belonged, a new one
/// to whom the folder belongs.
fn give_to_its_owner(file: &File, path: &Path, draft: &Path) -> std::io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let folder = draft.parent().unwrap_or(Path::new("."));
    let Ok(found) = std::fs::symlink_metadata(path).or_else(|_| std::fs::metadata(folder)) else { return Ok(()) };
    let own = file.metadata()?;
    // A group of root's folder is there to reach into it, and not the group of what lies there.
    let is_new = !path.exists();
    let owner = if is_new && found.uid() == 0 { (0, own.gid()) } else { (found.uid(), found.gid()) };
    if owner == (own.uid(), own.gid()) { Ok(()) } else { fchown(file, Some(owner.0), Some(owner.1)) }
}

/// Makes `path` and its missing parents, readable by this user alone. A folder that exists is left as it is.
///
/// # Errors
/// If a parent is not writable or is not a folder.
pub fn create_private_dir(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Failure::operator(text!("cannot create the folder `{}`", path.display())).caused_by(error))
}

/// Makes those of `folders` anew that were deleted, as far as their parents are still there.
pub fn restore_private_dirs<'a>(folders: impl IntoIterator<Item = &'a Path>) {
    for folder in folders.into_iter().filter(|folder| !folder.exists()) {
        // Whoever needs it says what is wrong with it.
        let _ = DirBuilder::new().mode(0o700).create(folder);
    }
}

/// Reads a file that has at most `most` bytes; `None`: it has more.
///
/// # Errors
/// What the kernel says.
pub fn read_at_most(path: &Path, most: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= most))
}

/// Reads a whole text file.
///
/// # Errors
/// If it is missing, not readable, or not UTF-8.
pub fn read_to_string(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::operator(text!("cannot read `{}`", path.display())).caused_by(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_has_the_new_bytes_and_mode_and_no_draft_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets.yaml");
        write_atomic(&path, b"old", 0o644).unwrap();
        write_atomic(&path, b"new", 0o600).unwrap();
        assert_eq!(read_to_string(&path).unwrap(), "new");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_root_writes_for_another_user_is_that_users() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let owner = |path: &Path| path.metadata().map(|data| (data.uid(), data.gid())).unwrap();
        let (new, known) = (dir.path().join("new"), dir.path().join("known"));
        write_atomic(&known, b"", 0o600).unwrap();
        assert_eq!(owner(&known), (0, 0));
        std::os::unix::fs::chown(dir.path(), Some(4711), Some(4712)).unwrap();
        write_atomic(&new, b"", 0o600).unwrap();
        write_atomic(&known, b"again", 0o600).unwrap();
        assert_eq!((owner(&new), owner(&known)), ((4711, 4712), (0, 0)));
        std::os::unix::fs::chown(dir.path(), Some(0), Some(4712)).unwrap();
        std::fs::remove_file(&new).unwrap();
        write_atomic(&new, b"", 0o600).unwrap();
        assert_eq!(owner(&new), (0, 0));
    }

    #[test]
    fn a_file_in_a_missing_folder_is_an_error_that_names_the_file() {
        let failure = write_atomic(Path::new("/nonexistent/rtcctl/x"), b"", 0o600).unwrap_err();
        assert_eq!(failure.message(), "cannot write `/nonexistent/rtcctl/x`");
    }
}
