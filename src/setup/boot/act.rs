//! Makes the service start with the machine, and takes that back.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::owners::{Account, Owned, account, give_back, hand_over, strays, wanted};
use super::{Manager, Service, USER};
use crate::error::{Failure, Result};
use crate::home::Home;
use crate::setup::journal::Journal;
use crate::setup::journal::image::sync_parent;
use crate::setup::journal::record::Effect;
use crate::sys::exec;
use crate::sys::fault;
use crate::text;
use crate::words::Text;

/// How long a tool of the system may take.
const PATIENCE: Duration = Duration::from_secs(30);
const MAX_OUTPUT: usize = 8 * 1024;
/// No user has it, so everything that is there counts as another's.
const NOBODY: Account = Account { user: u32::MAX, group: u32::MAX };

/// Makes the user, hands the home over to it, and has the manager start the service with the machine.
///
/// # Errors
/// If any of it cannot be done; what was begun is in the journal.
pub fn install(service: &Service, home: &Home, run: u32, journal: &mut Journal) -> Result<()> {
    let makes_user = account(USER).is_none();
    let makes_group = makes_user && !has_group(USER);
    let link = service.link.clone().filter(|(path, _)| path.symlink_metadata().is_err());
    let before = strays(&wanted(home, account(USER).unwrap_or(NOBODY)));
    if makes_user || link.is_some() || !before.is_empty() {
        let path = link.as_ref().map(|(path, _)| path.clone());
        journal.will(run, Effect::Service { manager: service.manager, link: path, makes_user, makes_group, before })?;
        if makes_user {
            make_user(!makes_group)?;
        }
        fault::moment("setup");
        hand_over(home)?;
        fault::moment("setup");
        if let Some((path, target)) = &link {
            make_link(path, target)?;
        }
    }
    reload(service.manager)
}

/// Has the manager read its files again.
///
/// # Errors
/// If it does not.
pub fn reload(manager: Manager) -> Result<()> {
    if manager == Manager::Systemd && super::facts::is_systemd_running() {
        tool(&["systemctl", "daemon-reload"])?;
    }
    Ok(())
}

/// Takes back what [`install`] did, but for the files of the manager.
///
/// # Errors
/// If the user cannot be removed, or a file not be given back.
pub fn remove(home: &Home, link: Option<&PathBuf>, made: (bool, bool), before: &[Owned]) -> Result<()> {
    if let Some(path) = link {
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.is_symlink() => {
                std::fs::remove_file(path).map_err(|error| cannot(text!("remove"), path, error))?;
                sync_parent(path);
            }
            // Somebody has put a file in its place, which is no work of ours.
            Ok(_) | Err(_) => {}
        }
    }
    let (makes_user, makes_group) = made;
    let found = account(USER).filter(|_| makes_user);
    give_back(home, before, found)?;
    if found.is_some() {
        remove_user(makes_group)?;
    }
    Ok(())
}

fn make_link(path: &Path, target: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).map_err(|error| cannot(text!("make"), folder, error))?;
    match std::os::unix::fs::symlink(target, path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(cannot(text!("make"), path, error)),
        Ok(()) | Err(_) => {}
    }
    sync_parent(path);
    Ok(())
}

fn cannot(verb: Text, path: &Path, error: std::io::Error) -> Failure {
    Failure::operator(text!("cannot {} `{}`", verb, path.display())).caused_by(error)
}

fn has_group(name: &str) -> bool {
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    groups.lines().any(|line| line.split(':').next() == Some(name))
}

/// By the tools of most distributions, or by those of BusyBox.
fn make_user(has_group: bool) -> Result<()> {
    const COMMENT: &str = "rtcctl call service";
    let group: &[&str] = if has_group { &["--gid", USER] } else { &["--user-group"] };
    let usual = ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", nologin()];
    let usual: Vec<&str> = usual.iter().chain(&["--comment", COMMENT]).chain(group).chain(&[USER]).copied().collect();
    let busybox = ["adduser", "-S", "-D", "-H", "-h", "/nonexistent", "-s", nologin(), "-G", USER, "-g", COMMENT, USER];
    let is_made = tool(&usual)? || ((has_group || tool(&["addgroup", "-S", USER])?) && tool(&busybox)?);
    if is_made && account(USER).is_some() {
        return Ok(());
    }
    Err(Failure::operator(text!("nothing on this host can make the user {}", USER))
        .hinted(text!("install `useradd`: the package is passwd, shadow or shadow-utils")))
}

fn nologin() -> &'static str {
    let known = ["/usr/sbin/nologin", "/sbin/nologin"];
    known.into_iter().find(|path| Path::new(path).exists()).unwrap_or("/bin/false")
}

fn remove_user(makes_group: bool) -> Result<()> {
    if !tool(&["userdel", USER])? && !tool(&["deluser", USER])? {
        return Err(Failure::operator(text!("nothing on this host can remove the user {}", USER)));
    }
    if makes_group && has_group(USER) && !tool(&["groupdel", USER])? {
        tool(&["delgroup", USER])?;
    }
    Ok(())
}

/// Runs a tool of the system. `false`: it is not there.
fn tool(line: &[&str]) -> Result<bool> {
    let words: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
    let told = match exec::ask(&words, PATIENCE, MAX_OUTPUT) {
        Ok(told) => told,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Failure::operator(text!("`{}` does not work", line.join(" "))).caused_by(error)),
    };
    if told.status.success() {
        return Ok(true);
    }
    let failure = Failure::operator(text!("`{}` has failed: {}", line.join(" "), told.status));
    let why = told.complaints.trim();
    Err(if why.is_empty() { failure } else { failure.because(Text::verbatim(why)) })
}
