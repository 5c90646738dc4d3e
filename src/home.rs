//! Where a home keeps its files. Two homes on one machine never meet.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};

use crate::sys::exec::shell::word;

/// The folders and files of one rtcctl installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    config_dir: PathBuf,
    state_dir: PathBuf,
    log_dir: PathBuf,
    run_dir: PathBuf,
    /// The folder given by `--home`, if this home is one folder.
    single: Option<PathBuf>,
}

/// What the default locations depend on: the user and the XDG variables.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    pub is_root: bool,
    pub home: Option<PathBuf>,
    pub xdg_config_home: Option<PathBuf>,
    pub xdg_state_home: Option<PathBuf>,
    pub xdg_runtime_dir: Option<PathBuf>,
}

impl Home {
    /// Everything under one folder, as `--home DIR` asks.
    #[must_use]
    pub fn under(dir: &Path) -> Self {
        Self {
            config_dir: dir.to_path_buf(),
            state_dir: dir.join("state"),
            log_dir: dir.join("log"),
            run_dir: dir.to_path_buf(),
            single: Some(dir.to_path_buf()),
        }
    }

    /// Root's home, which a service that starts with the machine has as well: `/etc`, `/var/lib`, `/var/log` and `/run`.
    #[must_use]
    pub fn of_the_system() -> Self {
        Self {
            config_dir: "/etc/rtcctl".into(),
            state_dir: "/var/lib/rtcctl".into(),
            log_dir: "/var/log/rtcctl".into(),
            run_dir: "/run/rtcctl".into(),
            single: None,
        }
    }

    /// Whether this is root's home, whoever asks.
    #[must_use]
    pub fn is_the_systems(&self) -> bool {
        *self == Self::of_the_system()
    }

    /// The default locations: those of the system for root, the XDG folders for anyone else.
    ///
    /// `None` if this is not root and no home folder is known.
    #[must_use]
    pub fn default_for(surroundings: &Surroundings) -> Option<Self> {
        if surroundings.is_root {
            return Some(Self::of_the_system());
        }
        let under_home = |own: &Option<PathBuf>, rest: &str| {
            own.clone().or_else(|| surroundings.home.as_ref().map(|home| home.join(rest)))
        };
        let state_dir = under_home(&surroundings.xdg_state_home, ".local/state")?.join("rtcctl");
        Some(Self {
            config_dir: under_home(&surroundings.xdg_config_home, ".config")?.join("rtcctl"),
            log_dir: state_dir.join("log"),
            run_dir: surroundings.xdg_runtime_dir.clone().map_or_else(|| state_dir.clone(), |dir| dir.join("rtcctl")),
            state_dir,
            single: None,
        })
    }

    /// The `--home DIR` that names this home on a command line, with a leading space; empty for the default home.
    #[must_use]
    pub fn flag(&self) -> String {
        self.single.as_ref().map_or_else(String::new, |dir| format!(" --home {}", word(&dir.to_string_lossy())))
    }

    /// What things of this home are called among those of others, so that they are known again: `rtcctl` for the default
    /// home of root, `rtcctl-` and eight digits for any other.
    #[must_use]
    pub fn tag(&self) -> String {
        let path = self.config_dir();
        if path == Path::new("/etc/rtcctl") {
            return "rtcctl".to_owned();
        }
        let hash = digest(&SHA256, path.as_os_str().as_encoded_bytes());
        let digits: String = hash.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        format!("rtcctl-{digits}")
    }

    /// The folder that `--home` named, if it did.
    #[must_use]
    pub fn single_dir(&self) -> Option<&Path> {
        self.single.as_deref()
    }

    #[must_use]
    pub fn config_dir(&self) -> &Path {
        &self.config_dir
    }

    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.config_dir.join("config.yaml")
    }

    #[must_use]
    pub fn secrets_file(&self) -> PathBuf {
        self.config_dir.join("secrets.yaml")
    }

    /// Certificates and their keys; `ca.pem` in it is the local CA's certificate.
    #[must_use]
    pub fn certs_dir(&self) -> PathBuf {
        self.single.as_ref().unwrap_or(&self.state_dir).join("certs")
    }

    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    #[must_use]
    pub fn log_dir(&self) -> &Path {
        &self.log_dir
    }

    /// The folders without which nobody can reach a service that runs. Not the one that `--home` named: whoever
    /// deletes that means all of it.
    pub fn folders_to_keep(&self) -> impl Iterator<Item = &Path> {
        let all = [self.state_dir(), self.log_dir(), self.run_dir()].into_iter();
        all.filter(|folder| self.single.as_deref() != Some(*folder))
    }

    /// The daemon's own log.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.log_dir.join("rtcctl.log")
    }

    #[must_use]
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// Where the daemon listens for commands.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.run_dir.join("control.sock")
    }

    /// Where the guardian listens for commands.
    #[must_use]
    pub fn guardian_socket(&self) -> PathBuf {
        self.run_dir.join("guardian.sock")
    }

    /// Where the guardian hears the daemon.
    #[must_use]
    pub fn notify_socket(&self) -> PathBuf {
        self.run_dir.join("notify.sock")
    }

    /// Held by the guardian for as long as it lives.
    #[must_use]
    pub fn guardian_lock_file(&self) -> PathBuf {
        self.state_dir.join("guardian.lock")
    }

    /// Held by the daemon for as long as it lives.
    #[must_use]
    pub fn lock_file(&self) -> PathBuf {
        self.state_dir.join("daemon.lock")
    }

    /// The journal of what `init` has changed, with what was there before.
    #[must_use]
    pub fn setup_dir(&self) -> PathBuf {
        self.state_dir.join("setup")
    }

    /// What another machine last saw of this host.
    #[must_use]
    pub fn outside_view_file(&self) -> PathBuf {
        self.state_dir.join("outside-view.json")
    }

    /// The invitation to look at this host from another machine that waits for its report.
    #[must_use]
    pub fn invitation_file(&self) -> PathBuf {
        self.state_dir.join("probe-invitation.json")
    }

    /// The journal of what happened; one that was put aside lies beside it.
    #[must_use]
    pub fn events_file(&self) -> PathBuf {
        self.state_dir.join("events.jsonl")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_home_has_a_name_of_its_own_that_stays() {
        let (one, other) = (Home::under(Path::new("/srv/one")), Home::under(Path::new("/srv/other")));
        assert_ne!(one.tag(), other.tag());
        assert_eq!(one.tag(), "rtcctl-875fb59d");
        assert_eq!(Home::under(Path::new("/etc/rtcctl")).tag(), "rtcctl");
    }

    #[test]
    fn a_home_by_flag_keeps_everything_under_one_folder() {
        let home = Home::under(Path::new("/srv/box"));
        for path in [
            home.config_file(),
            home.secrets_file(),
            home.certs_dir(),
            home.log_file(),
            home.control_socket(),
            home.lock_file(),
            home.events_file(),
            home.setup_dir(),
            home.outside_view_file(),
            home.invitation_file(),
            home.guardian_socket(),
            home.notify_socket(),
            home.guardian_lock_file(),
        ] {
            assert!(path.starts_with("/srv/box"), "{}", path.display());
        }
        assert_eq!(home.flag(), " --home /srv/box");
    }

    #[test]
    fn a_user_without_a_home_folder_has_no_default_home() {
        assert_eq!(Home::default_for(&Surroundings::default()), None);
    }
}
