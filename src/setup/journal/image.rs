//! What a file is and was: its pre-image is kept beside the journal and put back in one piece.

use std::fs::{File, FileTimes, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::record::{Before, Now, Print};
use crate::certs::sha256_hex;
use crate::error::{Failure, Result};
use crate::sys::fault;
pub use crate::sys::fs::draft_of;
use crate::sys::fs::write_atomic_by;
use crate::text;
use crate::words::Text;

/// The permission bits of a mode.
const MODE: u32 = 0o7777;

/// What the path is now.
///
/// # Errors
/// If it is there and cannot be read.
pub fn look(path: &Path) -> Result<Now> {
    match std::fs::symlink_metadata(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Now::Absent),
        Err(error) => Err(cannot(text!("read"), path, error)),
        Ok(found) if !found.is_file() => Ok(Now::Other),
        Ok(found) => {
            let bytes = std::fs::read(path).map_err(|error| cannot(text!("read"), path, error))?;
            Ok(Now::File(print(&bytes, found.mode())))
        }
    }
}

/// By what a file of these bytes and this mode is known again.
#[must_use]
pub fn print(bytes: &[u8], mode: u32) -> Print {
    Print { sha256: sha256_hex(bytes), mode: mode & MODE }
}

/// Keeps what is at `path` in `folder` under `name`, on the disk when this returns.
///
/// # Errors
/// If it cannot be read, is no file, or there is no room.
pub fn keep(path: &Path, folder: &Path, name: &str) -> Result<Before> {
    let found = match std::fs::symlink_metadata(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Before::Absent);
        }
        Err(error) => return Err(cannot(text!("read"), path, error)),
        Ok(found) => found,
    };
    if !found.is_file() {
        return Err(Failure::operator(text!("`{}` is no plain file", path.display()))
            .hinted(text!("move it away, or choose another home by `--home DIR`")));
    }
    let bytes = std::fs::read(path).map_err(|error| cannot(text!("read"), path, error))?;
    let kept = folder.join(name);
    // It may hold secrets, whatever the mode of the file itself.
    write_atomic_by(&draft_of(&kept), &kept, &bytes, 0o600)?;
    Ok(Before::File {
        print: print(&bytes, found.mode()),
        user: found.uid(),
        group: found.gid(),
        modified_s: found.mtime(),
        modified_ns: u32::try_from(found.mtime_nsec()).unwrap_or_default(),
        kept: name.to_owned(),
    })
}

/// Puts the pre-image back. It needs no room where it lies on the same file system.
///
/// # Errors
/// If the pre-image is gone, or the folder cannot be written.
pub fn restore(path: &Path, before: &Before, folder: &Path) -> Result<()> {
    let Before::File { print, user, group, modified_s, modified_ns, kept } = before else {
        return Err(Failure::bug(text!("only a file that was there can be restored")));
    };
    let kept = folder.join(kept);
    let failed = |error| cannot(text!("restore"), path, error);
    let draft = draft_of(path);
    std::fs::set_permissions(&kept, Permissions::from_mode(print.mode)).map_err(failed)?;
    fault::moment("setup");
    match std::fs::rename(&kept, path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {
            let bytes = std::fs::read(&kept).map_err(failed)?;
            write_atomic_by(&draft, path, &bytes, print.mode)?;
        }
        Err(error) => return Err(failed(error)),
    }
    let file = File::open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if (found.uid(), found.gid()) != (*user, *group) {
        chown(path, Some(*user), Some(*group)).map_err(failed)?;
    }
    // For whoever sorts by it; nothing depends on it.
    let _ = file.set_times(FileTimes::new().set_modified(time(*modified_s, *modified_ns)));
    file.sync_all().map_err(failed)?;
    sync_parent(path);
    Ok(())
}

fn time(seconds: i64, nanoseconds: u32) -> SystemTime {
    let fraction = Duration::from_nanos(nanoseconds.into());
    match u64::try_from(seconds) {
        Ok(seconds) => SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + fraction,
        Err(_) => SystemTime::UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs()) + fraction,
    }
}

/// Has a change of a folder's entries survive a power cut. A file system that cannot do that has done what it can.
pub fn sync_parent(path: &Path) {
    if let Some(parent) = path.parent() {
        let _ = File::open(parent).and_then(|folder| folder.sync_all());
    }
}

pub(super) fn cannot(verb: Text, path: &Path, error: std::io::Error) -> Failure {
    Failure::operator(text!("cannot {} `{}`", verb, path.display())).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs::write_atomic;

    #[test]
    fn a_file_comes_back_with_its_bytes_its_mode_and_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        write_atomic(&path, b"before", 0o640).unwrap();
        let past = SystemTime::UNIX_EPOCH + Duration::new(1_000_000, 123);
        File::open(&path).unwrap().set_times(FileTimes::new().set_modified(past)).unwrap();
        let before = keep(&path, dir.path(), "1-1").unwrap();
        write_atomic(&path, b"after", 0o644).unwrap();
        assert_eq!(look(&path).unwrap(), Now::File(print(b"after", 0o644)));
        restore(&path, &before, dir.path()).unwrap();
        assert_eq!(look(&path).unwrap(), Now::File(print(b"before", 0o640)));
        assert_eq!(path.metadata().unwrap().modified().unwrap(), past);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_file_is_not_taken_for_one() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(keep(&dir.path().join("none"), dir.path(), "1-1").unwrap(), Before::Absent);
        let failure = keep(dir.path(), dir.path(), "1-1").unwrap_err();
        assert!(failure.message().contains("is no plain file"), "{failure}");
        assert_eq!(look(dir.path()).unwrap(), Now::Other);
    }
}
