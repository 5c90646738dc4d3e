//! Decides which files of a home the service has written by itself.

use std::path::Path;

use crate::home::Home;

/// A file that `init` has not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByProduct {
    /// Of no worth once the service has ended: sockets, locks, drafts.
    Scratch,
    /// Logs, events, certificates and accounts.
    Data,
    /// The configuration and its secrets, where no journal says who made them.
    Settings,
}

/// What the file is to the service; `None`: it is somebody else's.
#[must_use]
pub fn by_product(home: &Home, path: &Path) -> Option<ByProduct> {
    let name = path.file_name()?.to_str()?;
    let parent = path.parent()?;
    let sockets = [home.control_socket(), home.guardian_socket(), home.notify_socket()];
    if sockets.iter().any(|socket| socket == path) {
        return Some(ByProduct::Scratch);
    }
    if path == home.config_file() || path == home.secrets_file() {
        return Some(ByProduct::Settings);
    }
    let certs = home.certs_dir();
    let known: &[&str] = if parent == home.state_dir() {
        &[
            "daemon.lock",
            "guardian.lock",
            "events.jsonl",
            "firewall.json",
            "firewall-pending.json",
            "firewall-keeper.lock",
        ]
    } else if parent == home.log_dir() {
        &["rtcctl.log"]
    } else if parent == certs {
        &["ca.pem", "ca.key", "leaf.pem", "leaf.key", "request.key", "request.csr", "imported.pem"]
    } else if parent == certs.join("acme") {
        return Some(ByProduct::Data);
    } else if parent == home.config_dir() {
        &["config.yaml", "secrets.yaml"]
    } else {
        &[]
    };
    // A draft is `.NAME.PID.new`, what a crash of `write_atomic` leaves; what was put aside is `NAME.1`.
    let of = |known: &str| {
        let rest = name.strip_prefix(known).or_else(|| name.strip_prefix('.')?.strip_prefix(known))?;
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let draft = rest.strip_prefix('.').and_then(|rest| rest.strip_suffix(".new"));
        if name.starts_with('.') {
            return draft.filter(|pid| is_number(pid)).map(|_| ByProduct::Scratch);
        }
        let aside = rest.strip_prefix('.').is_some_and(is_number);
        let is_log = matches!(known, "rtcctl.log" | "events.jsonl");
        let what = if known.ends_with(".lock") { ByProduct::Scratch } else { ByProduct::Data };
        (rest.is_empty() || is_log && aside).then_some(what)
    };
    known.iter().find_map(|known| of(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_service_writes_is_taken_for_its_work() {
        let home = Home::under(Path::new("/srv/box"));
        let what = |path: &str| by_product(&home, &Path::new("/srv/box").join(path));
        for path in ["control.sock", "guardian.sock", "notify.sock", "state/daemon.lock", ".config.yaml.17.new"] {
            assert_eq!(what(path), Some(ByProduct::Scratch), "{path}");
        }
        for path in
            ["log/rtcctl.log", "log/rtcctl.log.3", "state/events.jsonl.1", "certs/acme/bundle.pem", "certs/leaf.pem"]
        {
            assert_eq!(what(path), Some(ByProduct::Data), "{path}");
        }
        assert_eq!(what("config.yaml"), Some(ByProduct::Settings));
        for path in [
            "notes.txt",
            "certs/mine.pem",
            "log/other.log",
            "log/rtcctl.log.bak",
            ".config.yaml.x.new",
            "site/config.yaml",
        ] {
            assert_eq!(what(path), None, "{path}");
        }
    }
}
