//! A file that one process holds for as long as it lives. The kernel lets go of it, however that process ends.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// Why a lock was not to be had.
#[derive(Debug)]
pub enum Refused {
    /// Another process holds it: this one, if it wrote its number.
    Held(Option<u32>),
    Io(io::Error),
}

impl Lock {
    /// Takes the lock and writes this process's number into the file.
    ///
    /// # Errors
    /// At once if another process holds it.
    pub fn take(path: &Path) -> Result<Self, Refused> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(Refused::Io)?;
        let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(mut file, error)| {
            if error == Errno::EWOULDBLOCK { Refused::Held(read_pid(&mut file)) } else { Refused::Io(error.into()) }
        })?;
        // The number is for messages only; the lock is what counts.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }

    /// The process that holds the lock at `path`, if any does and has said so.
    #[must_use]
    pub fn holder(path: &Path) -> Option<u32> {
        let file = File::open(path).ok()?;
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(_) => None,
            Err((mut file, _)) => read_pid(&mut file),
        }
    }
}

/// A folder that one process holds until this is dropped. Nothing is written into it.
#[derive(Debug)]
pub struct FolderLock {
    _folder: Flock<File>,
}

impl FolderLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// At once if another process holds it; `NotFound` if the folder is not there, or is another one by now.
    pub fn take(path: &Path) -> Result<Self, Refused> {
        let folder = File::open(path).map_err(Refused::Io)?;
        let inode = folder.metadata().map_err(Refused::Io)?.ino();
        let folder = Flock::lock(folder, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
            if error == Errno::EWOULDBLOCK { Refused::Held(flock_holder(inode)) } else { Refused::Io(error.into()) }
        })?;
        // Whoever held it may have moved it away meanwhile.
        if std::fs::metadata(path).map_err(Refused::Io)?.ino() != inode {
            return Err(Refused::Io(io::ErrorKind::NotFound.into()));
        }
        Ok(Self { _folder: folder })
    }
}

/// The process that holds a lock on the inode, as far as the kernel tells. For messages only.
fn flock_holder(inode: u64) -> Option<u32> {
    let table = std::fs::read_to_string("/proc/locks").ok()?;
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, of) = fields.get(5)?.rsplit_once(':')?;
        (fields.get(1) == Some(&"FLOCK") && of.parse() == Ok(inode)).then(|| fields.get(4)?.parse().ok())?
    })
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_by_one_and_names_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        crate::sys::fs::write_atomic(&path, b"99999999\nleft by a process that was killed", 0o600).unwrap();
        assert_eq!(Lock::holder(&path), None);
        let lock = Lock::take(&path).unwrap();
        assert!(matches!(Lock::take(&path), Err(Refused::Held(Some(pid))) if pid == std::process::id()));
        assert_eq!(Lock::holder(&path), Some(std::process::id()));
        drop(lock);
        assert!(Lock::take(&path).is_ok());
    }

    #[test]
    fn a_folder_is_held_by_one_and_one_that_was_moved_is_not_it_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("setup");
        assert!(matches!(FolderLock::take(&path), Err(Refused::Io(error)) if error.kind() == io::ErrorKind::NotFound));
        std::fs::create_dir(&path).unwrap();
        let lock = FolderLock::take(&path).unwrap();
        // The kernel names the holder by its number where it came from, which may be another one here.
        assert!(matches!(FolderLock::take(&path), Err(Refused::Held(_))));
        drop(lock);
        assert!(FolderLock::take(&path).is_ok());
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
    }
}
