//! Looks what starts services on this host, and what there is of ours.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::files::{CRON, OPENRC_LINK, OPENRC_SCRIPT, PACKAGED, SYSTEMD, SYSTEMD_LINK};
use super::owners::{Account, account, strays, wanted};
use super::{BootFacts, Manager, USER};
use crate::home::Home;
use crate::sys::process::own_program;

/// Folders that are empty after a restart of the machine.
const VOLATILE: [&str; 4] = ["/tmp", "/var/tmp", "/dev/shm", "/run"];
const READ: u32 = 0o4;
const ENTER: u32 = 0o1;

/// Everything but what depends on the answers.
#[must_use]
pub fn look(home: &Home) -> BootFacts {
    let is_the_systems_home = home.is_the_systems();
    let program = own_program();
    let program = std::fs::canonicalize(&program).unwrap_or(program);
    let found = account(USER);
    let files = [SYSTEMD, OPENRC_SCRIPT, CRON].into_iter();
    let present: BTreeMap<PathBuf, String> =
        files.filter_map(|path| Some((path.into(), std::fs::read_to_string(path).ok()?))).collect();
    let manager = manager();
    let link = if manager == Some(Manager::OpenRc) { OPENRC_LINK } else { SYSTEMD_LINK };
    BootFacts {
        is_root: nix::unistd::geteuid().is_root(),
        is_the_systems_home,
        manager,
        program_fault: program_fault(&program),
        program,
        packaged_unit: PACKAGED.into_iter().map(PathBuf::from).find(|path| path.exists()),
        present,
        is_linked: Path::new(link).is_symlink(),
        has_user: found.is_some(),
        strays: found.filter(|_| is_the_systems_home).map_or(0, |account| strays(&wanted(home, account)).len()),
        unreadable: Vec::new(),
    }
}

/// Adds which of these files the service's user could not read.
pub fn look_at_files(facts: &mut BootFacts, files: impl IntoIterator<Item = PathBuf>) {
    let service = account(USER);
    let closed = files.into_iter().filter_map(|path| closed_to(&path, service).map(|why| (path, why)));
    facts.unreadable = closed.collect();
}

/// Whether systemd runs this host now.
#[must_use]
pub fn is_systemd_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Whether systemd starts the service of this home with the machine, and is there to be told to.
#[must_use]
pub fn is_a_unit(home: &Home) -> bool {
    home.is_the_systems() && is_systemd_running() && Path::new(SYSTEMD_LINK).is_symlink()
}

/// What starts services here. systemd that does not run counts last: it may be there for its tools alone.
fn manager() -> Option<Manager> {
    let exists = |path: &str| Path::new(path).exists();
    if is_systemd_running() {
        Some(Manager::Systemd)
    } else if (exists("/sbin/openrc-run") || exists("/usr/sbin/openrc-run")) && exists("/etc/runlevels/default") {
        Some(Manager::OpenRc)
    } else if exists("/etc/cron.d") && (exists("/usr/sbin/cron") || exists("/usr/sbin/crond")) {
        Some(Manager::Cron)
    } else {
        exists("/lib/systemd/systemd").then_some(Manager::Systemd)
    }
}

fn program_fault(program: &Path) -> Option<String> {
    if let Some(folder) = VOLATILE.iter().find(|folder| program.starts_with(folder)) {
        return Some(format!("what is in `{folder}` may be gone after a restart of the machine"));
    }
    closed_to(program, None)
}

/// Why the service could not read a file; with no account yet it has the rights of anybody.
fn closed_to(path: &Path, service: Option<Account>) -> Option<String> {
    let path = std::fs::canonicalize(path).ok()?;
    for (depth, part) in path.ancestors().enumerate() {
        let found = part.metadata().ok()?;
        let needed = if depth == 0 && !found.is_dir() { READ } else { ENTER };
        let shift = match service {
            Some(account) if account.user == found.uid() => 6,
            Some(account) if account.group == found.gid() => 3,
            Some(_) | None => 0,
        };
        if found.mode() >> shift & needed != needed {
            return Some(format!("`{}` is closed to it, its mode is {:04o}", part.display(), found.mode() & 0o7777));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::{PermissionsExt as _, chown};

    use super::*;

    #[test]
    fn a_file_is_closed_to_a_service_if_it_or_a_folder_above_it_is() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let (folder, file) = (dir.path().join("a"), dir.path().join("a/key.pem"));
        std::fs::create_dir(&folder).unwrap();
        crate::sys::fs::write_atomic(&file, b"", 0o640).unwrap();
        set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        let service = Some(Account { user: 4711, group: 4712 });
        assert!(closed_to(&file, service).unwrap().contains("key.pem` is closed to it, its mode is 0640"));
        chown(&file, None, Some(4712)).unwrap();
        assert_eq!(closed_to(&file, service), None);
        set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
        assert!(closed_to(&file, service).unwrap().contains("a` is closed to it, its mode is 0700"));
    }

    #[test]
    fn a_program_that_a_restart_removes_is_no_service() {
        assert!(program_fault(Path::new("/tmp/rtcctl")).unwrap().contains("`/tmp`"));
        assert_eq!(program_fault(Path::new("/bin/sh")), None);
    }
}
