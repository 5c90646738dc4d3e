//! The files of the home.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use crate::config::{load_config, load_secrets};
use crate::doctor::evidence::{ConfigFile, Disk, Home as Seen, PrivateFile, Secrets};
use crate::error::{Failure, Kind};
use crate::home::Home;
use crate::sys::lock::Lock;
use crate::sys::room;
use crate::sys::unix::ShortPath;
use crate::words::Text;

pub(super) fn config_file(home: &Home) -> ConfigFile {
    let file = home.config_file();
    match load_config(home) {
        Ok(resolved) => ConfigFile::Good(Box::new(resolved.config)),
        Err(_) if is_absent(&file) => ConfigFile::Absent(file),
        Err(failure) if is_hidden(&file) => ConfigFile::Hidden(told(&failure)),
        Err(failure) => ConfigFile::Bad { told: told(&failure), hint: hint(&failure) },
    }
}

fn is_absent(path: &std::path::Path) -> bool {
    matches!(std::fs::metadata(path), Err(error) if error.kind() == std::io::ErrorKind::NotFound)
}

fn is_hidden(path: &std::path::Path) -> bool {
    matches!(std::fs::File::open(path), Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied)
}

fn told(failure: &Failure) -> Text {
    Text::clauses(std::iter::once(failure.message()).chain(failure.causes()).cloned())
}

fn hint(failure: &Failure) -> Option<Text> {
    failure.hints().first().cloned()
}

pub(super) fn look(home: &Home) -> Seen {
    let folders = [home.state_dir(), home.log_dir()];
    let mut disks: Vec<Disk> = Vec::new();
    for folder in folders {
        let Some(room) = folder.ancestors().find_map(|path| room::on_disk(path).ok()) else { continue };
        let disk = Disk { path: folder.to_path_buf(), free_bytes: room.free_bytes, total_bytes: room.total_bytes };
        // Most homes are on one disk.
        if !disks.iter().any(|other| (other.free_bytes, other.total_bytes) == (disk.free_bytes, disk.total_bytes)) {
            disks.push(disk);
        }
    }
    let unwritable = folders
        .into_iter()
        .filter(|folder| folder.exists())
        .filter_map(|folder| Some((folder.to_path_buf(), Text::of_error(&room::writable(folder).err()?))))
        .collect();
    Seen {
        secrets: Some(secrets(home)),
        files: private_files(home),
        unwritable,
        disks,
        stale_socket: stale_socket(home),
    }
}

fn secrets(home: &Home) -> Secrets {
    let file = home.secrets_file();
    match load_secrets(home).map(drop) {
        Ok(()) => Secrets::Good,
        Err(_) if is_absent(&file) => Secrets::Absent,
        Err(failure) if failure.kind() == Kind::Operator => Secrets::Hidden(told(&failure)),
        Err(failure) => Secrets::Bad { told: told(&failure), hint: hint(&failure) },
    }
}

/// Secrets and keys; what this user may not see, others may not either.
fn private_files(home: &Home) -> Vec<PrivateFile> {
    let keys = std::fs::read_dir(home.certs_dir()).into_iter().flatten().flatten().map(|entry| entry.path());
    let keys = keys.filter(|path| path.extension().is_some_and(|extension| extension == "key"));
    let mut paths: Vec<PathBuf> = std::iter::once(home.secrets_file()).chain(keys).collect();
    paths.sort();
    let file = |path: PathBuf| {
        let metadata = std::fs::symlink_metadata(&path).ok().filter(std::fs::Metadata::is_file)?;
        Some(PrivateFile { mode: metadata.permissions().mode() & 0o777, path })
    };
    paths.into_iter().filter_map(file).collect()
}

/// The control socket, if it is there, nobody listens, and no daemon or guardian lives that soon would.
fn stale_socket(home: &Home) -> Option<PathBuf> {
    let path = home.control_socket();
    let is_held = [home.lock_file(), home.guardian_lock_file()].iter().any(|lock| Lock::holder(lock).is_some());
    if is_held {
        return None;
    }
    let reached = ShortPath::to(&path).and_then(|short| UnixStream::connect(short.path));
    matches!(reached, Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused).then_some(path)
}
