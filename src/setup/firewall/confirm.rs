//! A change that returns by itself unless somebody says, from another connection, that the host can still be reached.
//!
//! A file says what to return to and when. A process of its own waits for that moment; if it is killed, the next run of
//! rtcctl does what is due.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Needs, act, settle};
use crate::error::{Failure, Result};
use crate::home::Home;
use crate::sys::clock;
use crate::sys::fs::{create_private_dir, write_atomic};
use crate::sys::lock::Lock;
use crate::text;

/// How often the keeper looks whether it is confirmed.
const LOOKED_EVERY: Duration = Duration::from_millis(200);

/// How often it is tried to take a change back that could not be.
const TRIED_AGAIN_EVERY: Duration = Duration::from_secs(2);

/// A change that waits to be confirmed. Numbers only, no commands: who can write here must not be able to run any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// What was open before, and will be again.
    pub before: Needs,
    /// Seconds since 1970 at which the change returns.
    pub until_s: u64,
    /// Where the change was asked for.
    pub connection: String,
}

fn keeper_lock(home: &Home) -> PathBuf {
    home.state_dir().join("firewall-keeper.lock")
}

impl Pending {
    /// Where it is written down.
    #[must_use]
    pub fn file(home: &Home) -> PathBuf {
        home.state_dir().join("firewall-pending.json")
    }

    /// The change that waits, if one does. A file that is damaged is one that is due at once: closing is safe.
    #[must_use]
    pub fn load(home: &Home) -> Option<Self> {
        let text = std::fs::read_to_string(Self::file(home)).ok()?;
        let due = Self { before: Needs::default(), until_s: 0, connection: String::new() };
        Some(serde_json::from_str(&text).unwrap_or(due))
    }

    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, home: &Home) -> Result<()> {
        create_private_dir(home.state_dir())?;
        let text =
            serde_json::to_vec_pretty(self).map_err(|error| Failure::bug(text!("no pending file")).caused_by(error))?;
        write_atomic(&Self::file(home), &text, 0o600)
    }

    /// Nothing waits any more.
    ///
    /// # Errors
    /// If the file stays.
    pub fn forget(home: &Home) -> Result<()> {
        act::remove(&Self::file(home))
    }

    /// How long it still waits; a clock that jumps back does not make that longer than an hour.
    #[must_use]
    pub fn left(&self, now: SystemTime) -> Duration {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        Duration::from_secs(self.until_s.saturating_sub(now)).min(LONGEST)
    }
}

/// How long a change may wait.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// Whether a keeper of this home is alive.
#[must_use]
pub fn is_kept(home: &Home) -> bool {
    Lock::holder(&keeper_lock(home)).is_some()
}

/// Waits until the change is confirmed or due, and takes it back then. `ready` is called once it is this process that
/// waits. `true`: it was taken back.
///
/// # Errors
/// None so far: what cannot be taken back is tried again, as long as it is not confirmed.
pub fn keep(home: &Home, ready: &mut dyn FnMut()) -> Result<bool> {
    let path = keeper_lock(home);
    let Ok(_lock) = Lock::take(&path) else { return Ok(false) };
    ready();
    let start = clock::now().mono;
    let Some(first) = Pending::load(home) else { return Ok(false) };
    let patience = first.left(clock::now().wall);
    loop {
        let Some(pending) = Pending::load(home) else { return Ok(false) };
        // Whichever clock says so first: the one on the wall may be set, the other stands still while a machine sleeps.
        let now = clock::now();
        let is_due = pending.left(now.wall).is_zero() || now.mono.duration_since(start) >= patience;
        let mut pause = LOOKED_EVERY;
        if is_due {
            match give_back(home) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                // A firewall that is just being started anew, say: what nobody has confirmed must not stay for that.
                Err(_) => pause = TRIED_AGAIN_EVERY,
            }
        }
        thread::park_timeout(pause);
    }
}

/// Takes the change back, unless another run changes the firewall just now. `false`: try again.
fn give_back(home: &Home) -> Result<bool> {
    let Ok(_lock) = super::lock(home, "keep") else { return Ok(false) };
    // It may have been confirmed in this moment.
    let Some(pending) = Pending::load(home) else { return Ok(true) };
    settle(home, &pending.before, &mut |_| {})?;
    Pending::forget(home)?;
    Ok(true)
}

/// What is left of an earlier run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    Nothing,
    /// It waits, and somebody watches it.
    Waits,
    /// It waits, and its keeper is gone: start another one.
    Abandoned,
    /// It was due and has been taken back now.
    TakenBack,
}

/// Does what an earlier run could not do any more. For the start of every command that may change something.
///
/// # Errors
/// If the change is due and cannot be taken back.
pub fn resume(home: &Home) -> Result<Left> {
    let Some(pending) = Pending::load(home) else { return Ok(Left::Nothing) };
    if is_kept(home) {
        return Ok(Left::Waits);
    }
    if !pending.left(clock::now().wall).is_zero() {
        return Ok(Left::Abandoned);
    }
    Ok(if give_back(home)? { Left::TakenBack } else { Left::Waits })
}

/// What tells connections apart: the ends of the SSH connection that this process was started by, else its session.
#[must_use]
pub fn connection() -> String {
    let own = std::env::var("SSH_CONNECTION").ok();
    own.or_else(of_ancestors).map_or_else(
        || format!("session {}", nix::unistd::getsid(None).map_or(0, nix::unistd::Pid::as_raw)),
        |ends| format!("ssh {ends}"),
    )
}

/// `sudo` takes the variable away; the shell before it still has it.
fn of_ancestors() -> Option<String> {
    let mut pid = nix::unistd::getppid().as_raw();
    while pid > 1 {
        let folder = Path::new("/proc").join(pid.to_string());
        let variables = std::fs::read(folder.join("environ")).unwrap_or_default();
        let found = variables.split(|byte| *byte == 0).find_map(|one| one.strip_prefix(b"SSH_CONNECTION="));
        if let Some(ends) = found {
            return Some(String::from_utf8_lossy(ends).into_owned());
        }
        let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
        // After the name, which may have anything in it, come the state and the parent.
        pid = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_waits_until_its_moment_and_no_longer_than_an_hour() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let pending = Pending { before: Needs::default(), until_s: 1_000_060, connection: String::new() };
        assert_eq!(pending.left(at(1_000_000)), Duration::from_secs(60));
        assert_eq!(pending.left(at(1_000_061)), Duration::ZERO);
        assert_eq!(pending.left(at(0)), LONGEST);
    }

    #[test]
    fn a_damaged_file_is_due_at_once_and_none_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::under(folder.path());
        assert_eq!(Pending::load(&home), None);
        let pending = Pending { before: Needs::of_words(["443/tcp"]), until_s: 7, connection: "ssh 1".to_owned() };
        pending.save(&home).unwrap();
        assert_eq!(Pending::load(&home), Some(pending));
        write_atomic(&Pending::file(&home), b"{\"before\":", 0o600).unwrap();
        assert_eq!(Pending::load(&home).unwrap().until_s, 0);
        Pending::forget(&home).unwrap();
        assert_eq!((Pending::load(&home), resume(&home).unwrap()), (None, Left::Nothing));
    }
}
