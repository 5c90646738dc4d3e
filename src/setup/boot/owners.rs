//! Who owns what in the home of a service that has a user of its own.
//!
//! What root decides stays root's: the configuration, the journal of `init`, the rules of the firewall. The folder of
//! the state has the sticky bit, so that the service cannot put its own in place of them.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::libc;
use serde::{Deserialize, Serialize};

use crate::error::{Failure, Result};
use crate::home::Home;
use crate::text;

/// The permission bits of a mode.
const MODE: u32 = 0o7777;

/// To whom a path belongs, and who may do what with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned {
    pub path: PathBuf,
    pub user: u32,
    pub group: u32,
    pub mode: u32,
}

/// The numbers of a user and its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    pub user: u32,
    pub group: u32,
}

/// The account of this name, as the system's own files have it.
#[must_use]
pub fn account(name: &str) -> Option<Account> {
    find(&std::fs::read_to_string("/etc/passwd").ok()?, name)
}

fn find(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [found, _, user, group, ..] = fields.as_slice() else { return None };
        (*found == name).then(|| Some(Account { user: user.parse().ok()?, group: group.parse().ok()? }))?
    })
}

/// To whom everything in the home belongs, of what there is, if `service` runs it.
#[must_use]
pub fn wanted(home: &Home, service: Account) -> Vec<Owned> {
    let Account { user, group } = service;
    let readable = home.config_file().metadata().map_or(0o640, |found| found.mode() & MODE | 0o040);
    let fixed = [
        (home.config_dir().to_path_buf(), 0, group, Some(0o750)),
        (home.config_file(), 0, group, Some(readable)),
        (home.secrets_file(), user, group, Some(0o600)),
        (home.state_dir().to_path_buf(), 0, group, Some(0o1770)),
        (home.log_dir().to_path_buf(), user, group, Some(0o700)),
        (home.certs_dir(), user, group, Some(0o700)),
    ];
    let mut all: Vec<(PathBuf, u32, u32, Option<u32>)> = fixed.into_iter().filter(|(path, ..)| path.exists()).collect();
    let is_the_services = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.parent() != Some(home.state_dir())
            || name.starts_with("daemon")
            || name.starts_with("events")
            || name.starts_with("guardian")
    };
    for folder in
        [home.state_dir().to_path_buf(), home.log_dir().to_path_buf(), home.certs_dir(), home.certs_dir().join("acme")]
    {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| is_the_services(path)) {
            if !all.iter().any(|(known, ..)| *known == path) {
                all.push((path, user, group, None));
            }
        }
    }
    let settled = all.into_iter().filter_map(|(path, user, group, mode)| {
        let found = plain(&path)?;
        Some(Owned { user, group, mode: mode.unwrap_or(found.mode() & MODE), path })
    });
    settled.collect()
}

/// A file with one name or a folder: of anything else it is unknown whose it is.
fn plain(path: &Path) -> Option<std::fs::Metadata> {
    let found = std::fs::symlink_metadata(path).ok()?;
    (found.is_dir() || found.is_file() && found.nlink() == 1).then_some(found)
}

/// Those that are not as wanted, as they are now.
#[must_use]
pub fn strays(wanted: &[Owned]) -> Vec<Owned> {
    let now = |owned: &Owned| {
        let found = plain(&owned.path)?;
        Some(Owned { path: owned.path.clone(), user: found.uid(), group: found.gid(), mode: found.mode() & MODE })
    };
    wanted.iter().filter_map(|owned| now(owned).filter(|now| now != owned)).collect()
}

/// Makes each of them as it says.
///
/// # Errors
/// If one cannot be changed, or is a link by now.
pub fn set(owned: &[Owned]) -> Result<()> {
    for one in owned {
        let failed = |error: io::Error| {
            Failure::operator(text!("cannot change the owner of `{}`", one.path.display())).caused_by(error)
        };
        match open(&one.path) {
            Ok(file) => fchown(&file, Some(one.user), Some(one.group))
                .and_then(|()| file.set_permissions(Permissions::from_mode(one.mode)))
                .map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

/// Never what a link leads to: some of these folders belong to a service that strangers talk to.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

/// Hands the home over to the service, if it has a user of its own: what root has written since becomes the service's.
///
/// # Errors
/// As [`set`].
pub fn hand_over(home: &Home) -> Result<()> {
    let Some(account) = account(super::USER) else { return Ok(()) };
    let wanted = wanted(home, account);
    let strays: Vec<PathBuf> = strays(&wanted).into_iter().map(|stray| stray.path).collect();
    let due: Vec<Owned> = wanted.into_iter().filter(|one| strays.contains(&one.path)).collect();
    set(&due)
}

/// Gives root back what belongs to a user that is about to go, with `before` for those of which it is known.
///
/// # Errors
/// As [`set`].
pub fn give_back(home: &Home, before: &[Owned], user: Option<Account>) -> Result<()> {
    if let Some(account) = user {
        let left = wanted(home, account).into_iter().filter(|one| !before.iter().any(|old| old.path == one.path));
        let left: Vec<Owned> = left.map(|one| Owned { user: 0, group: 0, mode: one.mode & 0o700, ..one }).collect();
        set(&left)?;
    }
    set(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nrtcctl2:x:5:6::/:/bin/false\nrtcctl:x:998:997::/nonexistent:/x\nbad\n";
        assert_eq!(find(passwd, "rtcctl"), Some(Account { user: 998, group: 997 }));
        assert_eq!(find(passwd, "rtc"), None);
    }

    #[test]
    fn what_root_decides_stays_roots_and_the_rest_becomes_the_services() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let home = Home::under(&dir.path().join("home"));
        for folder in [home.setup_dir(), home.log_dir().to_path_buf(), home.certs_dir()] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let (key, journal) = (home.certs_dir().join("leaf.key"), home.setup_dir().join("journal.jsonl"));
        let firewall = home.state_dir().join("firewall.json");
        for path in [&home.config_file(), &home.secrets_file(), &key, &journal, &firewall, &home.events_file()] {
            crate::sys::fs::write_atomic(path, b"x", 0o600).unwrap();
        }
        // A name for somebody else's file, as a service that was taken over would plant it.
        std::os::unix::fs::symlink("/etc/passwd", home.log_dir().join("rtcctl.log")).unwrap();
        std::fs::hard_link(&journal, home.log_dir().join("rtcctl.log.1")).unwrap();
        let wanted = wanted(&home, Account { user: 4711, group: 4712 });
        let before = strays(&wanted);
        set(&wanted).unwrap();
        assert_eq!(strays(&wanted), []);
        let owner = |path: &Path| path.metadata().map(|data| (data.uid(), data.gid(), data.mode() & MODE)).unwrap();
        assert_eq!(owner(&key), (4711, 4712, 0o600));
        assert_eq!(owner(&home.events_file()), (4711, 4712, 0o600));
        assert_eq!(owner(home.state_dir()), (0, 4712, 0o1770));
        assert_eq!(owner(&home.config_file()), (0, 4712, 0o640));
        for path in [&journal, &firewall] {
            assert_eq!(owner(path), (0, 0, 0o600), "{}", path.display());
        }
        assert_eq!(std::fs::metadata("/etc/passwd").unwrap().uid(), 0);
        give_back(&home, &before, Some(Account { user: 4711, group: 4712 })).unwrap();
        assert_eq!(owner(&key), (0, 0, 0o600));
        assert_eq!(strays(&before), []);
    }
}
