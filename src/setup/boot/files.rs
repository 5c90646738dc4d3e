//! Decides which files a service manager reads, and what stands in them.

use std::path::{Path, PathBuf};

use super::Manager;
use crate::words::Text;

const UNIT: &str = include_str!("../../../units/rtcctl.service");
const OPENRC: &str = include_str!("../../../units/rtcctl.openrc");
const CRONTAB: &str = include_str!("../../../units/rtcctl.cron");
/// Where the program lies as the files of `units/` have it.
const PROGRAM: &str = "/usr/local/bin/rtcctl";

/// The name of the unit.
pub const UNIT_NAME: &str = "rtcctl.service";
pub const SYSTEMD: &str = "/etc/systemd/system/rtcctl.service";
pub const SYSTEMD_LINK: &str = "/etc/systemd/system/multi-user.target.wants/rtcctl.service";
pub const OPENRC_SCRIPT: &str = "/etc/init.d/rtcctl";
pub const OPENRC_LINK: &str = "/etc/runlevels/default/rtcctl";
pub const CRON: &str = "/etc/cron.d/rtcctl";
/// Where a package has put its unit.
pub const PACKAGED: [&str; 2] = ["/usr/lib/systemd/system/rtcctl.service", "/lib/systemd/system/rtcctl.service"];

/// A file with all that stands in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFile {
    pub path: PathBuf,
    pub mode: u32,
    pub text: String,
    pub note: Text,
}

/// The files that `manager` needs. A unit of a package needs none.
#[must_use]
pub fn boot_files(manager: Manager, program: &Path, packaged_unit: Option<&Path>) -> Vec<BootFile> {
    let file = |path: &str, mode, text: &str, note| BootFile {
        path: path.into(),
        mode,
        text: text.replace(PROGRAM, &program.to_string_lossy()),
        note,
    };
    match manager {
        Manager::Systemd if packaged_unit.is_some() => Vec::new(),
        Manager::Systemd => vec![file(SYSTEMD, 0o644, UNIT, crate::text!("the unit that systemd starts"))],
        Manager::OpenRc => vec![file(OPENRC_SCRIPT, 0o755, OPENRC, crate::text!("the script that OpenRC starts"))],
        Manager::Cron => vec![file(CRON, 0o644, CRONTAB, crate::text!("what cron starts with the machine"))],
    }
}

/// The link by which the manager knows what to start with the machine, and where it leads.
#[must_use]
pub fn link(manager: Manager, packaged_unit: Option<&Path>) -> Option<(PathBuf, PathBuf)> {
    match manager {
        Manager::Systemd => Some((SYSTEMD_LINK.into(), packaged_unit.unwrap_or(Path::new(SYSTEMD)).into())),
        Manager::OpenRc => Some((OPENRC_LINK.into(), OPENRC_SCRIPT.into())),
        Manager::Cron => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_starts_the_program_from_where_it_lies() {
        for manager in [Manager::Systemd, Manager::OpenRc, Manager::Cron] {
            let files = boot_files(manager, Path::new("/opt/r/rtcctl"), None);
            assert_eq!(files.len(), 1);
            assert!(files[0].text.contains("/opt/r/rtcctl") && !files[0].text.contains(PROGRAM), "{}", files[0].text);
        }
        assert!(boot_files(Manager::Systemd, Path::new("/usr/bin/rtcctl"), Some(Path::new(PACKAGED[0]))).is_empty());
    }

    #[test]
    fn a_unit_gives_no_more_than_low_ports() {
        let values = |key: &str| {
            let lines = UNIT.lines().filter_map(|line| line.split_once('='));
            lines.filter(|(name, _)| *name == key).map(|(_, value)| value).collect::<Vec<_>>()
        };
        for key in ["AmbientCapabilities", "CapabilityBoundingSet"] {
            assert_eq!(values(key), ["CAP_NET_BIND_SERVICE"], "{key}");
        }
        assert_eq!((values("Type"), values("User")), (vec!["notify"], vec![super::super::USER]));
    }
}
