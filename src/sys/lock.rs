//! A file that one process holds for as long as it lives. The kernel lets go of it, however that process ends.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::clock;
use super::unix::leads_to;

/// How often a lock is tried for that nobody holds, while others look at it.
const TRIES: usize = 50;
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(5);

/// Held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: Flock<File>,
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
        let mut tries = 0;
        let mut file = loop {
            match Self::try_to_take(path) {
                // Somebody just looks who holds it.
                Err(Refused::Held(_)) if tries < TRIES && !is_taken(path) => {
                    tries += 1;
                    std::thread::park_timeout(PAUSE);
                }
                Err(refused) => return Err(refused),
                Ok(file) => break file,
            }
        };
        // The number is for messages only; the lock is what counts.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { path: path.to_path_buf(), file })
    }

    fn try_to_take(path: &Path) -> Result<Flock<File>, Refused> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(Refused::Io)?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(mut file, error)| {
            if error == Errno::EWOULDBLOCK { Refused::Held(holder_of(&mut file)) } else { Refused::Io(error.into()) }
        })
    }

    /// Takes the lock anew if its file was deleted: nobody would find it, and another process could take it. Says
    /// whether it had to.
    ///
    /// # Errors
    /// If that cannot be done now. What was held is held on.
    pub fn keep(&mut self) -> Result<bool, Refused> {
        if leads_to(&self.path, &self.file).map_err(Refused::Io)? {
            return Ok(false);
        }
        *self = Self::take(&self.path)?;
        Ok(true)
    }

    /// The lock as the standard input of a program, which holds it as well then, until it has ended.
    ///
    /// # Errors
    /// If no more descriptors are to be had.
    pub fn hand_on(&self) -> io::Result<Stdio> {
        Ok(self.file.try_clone()?.into())
    }

    /// Waits until nobody holds the lock at `path`, at most for `limit`.
    pub fn wait_until_free(path: &Path, limit: Duration) {
        let until = clock::now().mono + limit;
        while is_taken(path) && clock::now().mono < until {
            std::thread::park_timeout(PAUSE);
        }
    }

    /// Whether this user may look at the lock at `path`, if there is one.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn is_within_reach(path: &Path) -> io::Result<()> {
        match File::open(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// The process that holds the lock at `path`, if any does and this user may look.
    #[must_use]
    pub fn holder(path: &Path) -> Option<u32> {
        let file = File::open(path).ok()?;
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(_) => None,
            Err((mut file, _)) => holder_of(&mut file),
        }
    }
}

/// Whether a process holds the lock, rather than looks at it.
fn is_taken(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| Flock::lock(file, FlockArg::LockSharedNonblock).is_err())
}

/// Who has written its number there. A disk that is full has no room for it; then the kernel is asked.
fn holder_of(file: &mut File) -> Option<u32> {
    read_pid(file).or_else(|| flock_holder(file.metadata().ok()?.ino()))
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
        let is_it = fields.get(1) == Some(&"FLOCK") && fields.get(3) == Some(&"WRITE") && of.parse() == Ok(inode);
        is_it.then(|| fields.get(4)?.parse().ok())?
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
    fn whoever_looks_at_a_lock_keeps_nobody_from_taking_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        drop(Lock::take(&path).unwrap());
        let looking = Flock::lock(File::open(&path).unwrap(), FlockArg::LockSharedNonblock).unwrap();
        let taking = std::thread::Builder::new().spawn({
            let path = path.clone();
            move || Lock::take(&path)
        });
        std::thread::park_timeout(PAUSE * 4);
        drop(looking);
        assert!(taking.unwrap().join().unwrap().is_ok());
    }

    #[test]
    fn a_lock_whose_file_was_deleted_is_taken_anew_unless_another_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let mut lock = Lock::take(&path).unwrap();
        assert!(!lock.keep().unwrap());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(Lock::holder(&path), None);
        assert!(lock.keep().unwrap());
        assert_eq!(Lock::holder(&path), Some(std::process::id()));
        std::fs::remove_file(&path).unwrap();
        let other = Lock::take(&path).unwrap();
        assert!(matches!(lock.keep(), Err(Refused::Held(Some(_)))));
        drop(other);
        assert!(lock.keep().unwrap());
    }

    #[test]
    fn a_holder_that_could_not_write_its_number_is_known_to_the_kernel() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = Lock::take(&path).unwrap();
        lock.file.set_len(0).unwrap();
        assert_eq!(Lock::holder(&path), Some(std::process::id()));
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
