//! Unix sockets below paths of any length.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc;

/// A path to a socket that is short enough for the kernel (108 bytes), however long the home's own path is.
///
/// It leads through a descriptor of the folder, which must live as long as the path is used.
#[derive(Debug)]
pub struct ShortPath {
    _folder: File,
    pub path: PathBuf,
}

impl ShortPath {
    /// # Errors
    /// If the folder is not there or must not be read.
    pub fn to(socket: &Path) -> io::Result<Self> {
        let folder = socket.parent().unwrap_or(Path::new("/"));
        let folder = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(folder)?;
        let name = socket.file_name().unwrap_or_default();
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(Self { _folder: folder, path })
    }

    /// Makes the socket that was bound there this user's alone.
    ///
    /// # Errors
    /// If it is gone already.
    pub fn close_to_others(&self) -> io::Result<()> {
        std::fs::set_permissions(&self.path, Permissions::from_mode(0o600))
    }

    /// Removes what lies there, if anything does.
    ///
    /// # Errors
    /// If the folder must not be written.
    pub fn clear(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Where a file lies that this process has made, by which others find it.
#[derive(Debug)]
pub struct Spot {
    path: PathBuf,
    file: Option<(u64, u64)>,
}

impl Spot {
    /// Of what lies there now.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        Self { path: path.to_path_buf(), file: file_at(path) }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the same file lies there still.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.file.is_some() && file_at(&self.path) == self.file
    }
}

/// Whether `path` leads to this open file.
///
/// # Errors
/// What the kernel says of the file.
pub fn leads_to(path: &Path, file: &File) -> io::Result<bool> {
    Ok(file_at(path) == Some(identity(&file.metadata()?)))
}

fn file_at(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().as_ref().map(identity)
}

/// What tells a file from any other that was or will be at its path: device and inode.
fn identity(data: &Metadata) -> (u64, u64) {
    (data.dev(), data.ino())
}
