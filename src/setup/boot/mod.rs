//! Has the service start with the machine, as a user of its own.
//!
//! Decides by which manager, which files that takes and who owns what; `facts` looks, `act` does it and takes it back.

pub mod act;
pub mod facts;
pub mod files;
pub mod owners;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::files::{BootFile, boot_files, link};
use super::plan::Objection;
use crate::{text, word};

/// The user and the group of a service that starts with the machine.
pub const USER: &str = "rtcctl";

/// Whether the service starts with the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BootChoice {
    #[default]
    None,
    Service,
}

impl BootChoice {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Service => "service",
        }
    }
}

/// What starts services on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    Systemd,
    OpenRc,
    /// Only that: the guardian looks after the service from then on.
    Cron,
}

impl Manager {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::OpenRc => "OpenRC",
            Self::Cron => "cron",
        }
    }
}

/// What was found of all this.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootFacts {
    pub is_root: bool,
    /// The home is the one that root has without `--home`.
    pub is_the_systems_home: bool,
    pub manager: Option<Manager>,
    /// This very program.
    pub program: PathBuf,
    /// Why a service cannot be started from where the program lies.
    pub program_fault: Option<String>,
    /// A unit that came with a package.
    pub packaged_unit: Option<PathBuf>,
    /// The files that there are, of those that may be needed.
    pub present: BTreeMap<PathBuf, String>,
    pub is_linked: bool,
    pub has_user: bool,
    /// How many files and folders belong to another than they should.
    pub strays: usize,
    /// Files of the operator's that the service would have to read and its user cannot, with the reason.
    pub unreadable: Vec<(PathBuf, String)>,
}

impl BootFacts {
    /// Whether an `init` before this one has made a service of it.
    #[must_use]
    pub fn is_installed(&self) -> bool {
        self.is_the_systems_home
            && match self.manager {
                Some(Manager::Systemd | Manager::OpenRc) => self.is_linked,
                Some(Manager::Cron) => self.present.contains_key(Path::new(files::CRON)),
                None => false,
            }
    }

    /// What suits this host where nobody says otherwise.
    #[must_use]
    pub fn suggestion(&self) -> BootChoice {
        let is_easy = self.is_root
            && self.is_the_systems_home
            && self.manager == Some(Manager::Systemd)
            && self.program_fault.is_none();
        if is_easy || self.is_installed() { BootChoice::Service } else { BootChoice::None }
    }
}

/// What `init` does so that the service starts with the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub manager: Manager,
    pub program: PathBuf,
    pub files: Vec<BootFile>,
    /// A link and where it leads, by which the manager knows what to start.
    pub link: Option<(PathBuf, PathBuf)>,
    pub has_user: bool,
    /// Nothing of it has to be changed but files.
    pub is_settled: bool,
}

impl Service {
    /// The change besides files, for people.
    #[must_use]
    pub fn told(&self) -> [crate::words::Text; 2] {
        let user = if self.has_user {
            text!("as the user {}, to whom what the service writes belongs", USER)
        } else {
            text!("as the user {}, who is made for it and to whom what the service writes belongs", USER)
        };
        [text!("by {}, from `{}`", self.manager.as_str(), self.program.display()), user]
    }
}

/// Plans it, or says why it cannot be.
///
/// # Errors
/// Every objection at once.
pub fn plan(choice: BootChoice, facts: &BootFacts) -> Result<Option<Service>, Vec<Objection>> {
    let objection = |what, hint| Objection { code: "boot-service", what, hint };
    if choice == BootChoice::None {
        return if facts.is_installed() {
            Err(vec![objection(
                text!("the service starts with this machine, by an earlier `init`"),
                text!("take that back by `rtcctl undo`, or pass `--boot service`"),
            )])
        } else {
            Ok(None)
        };
    }
    let mut objections = Vec::new();
    if !facts.is_root {
        objections
            .push(objection(text!("only root can have a service start with the machine"), text!("run it by `sudo`")));
    }
    if !facts.is_the_systems_home {
        objections.push(objection(
            text!("a service that starts with the machine has the system's home, not one of its own"),
            text!("leave out `--home`, or pass `--boot none`"),
        ));
    }
    if let Some(fault) = &facts.program_fault {
        objections.push(objection(
            text!("no service can be started from `{}`: {}", facts.program.display(), fault),
            text!("put the program into /usr/local/bin, as `scripts/install` does"),
        ));
    }
    for (path, why) in &facts.unreadable {
        objections.push(objection(
            text!("the user {} of the service cannot read `{}`: {}", USER, path.display(), why),
            text!("let it, by `chgrp {}` and `chmod g+r` of the file and its folders, or pass `--boot none`", USER),
        ));
    }
    let Some(manager) = facts.manager else {
        objections.push(objection(
            text!("nothing starts services on this host: neither systemd, OpenRC nor cron is there"),
            text!("pass `--boot none`, and have whatever starts this host run `rtcctl start`"),
        ));
        return Err(objections);
    };
    if !objections.is_empty() {
        return Err(objections);
    }
    let files = boot_files(manager, &facts.program, facts.packaged_unit.as_deref());
    let is_settled = facts.has_user && facts.strays == 0 && (facts.is_linked || manager == Manager::Cron);
    let link = link(manager, facts.packaged_unit.as_deref());
    Ok(Some(Service { manager, program: facts.program.clone(), files, link, has_user: facts.has_user, is_settled }))
}

/// Why the value is what it is.
#[must_use]
pub fn reason(choice: BootChoice) -> &'static str {
    match choice {
        BootChoice::None => word!("start it by `rtcctl start`"),
        BootChoice::Service => word!("starts with the machine, and as a user without privileges"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> BootFacts {
        BootFacts {
            is_root: true,
            is_the_systems_home: true,
            manager: Some(Manager::Systemd),
            program: "/usr/local/bin/rtcctl".into(),
            ..BootFacts::default()
        }
    }

    #[test]
    fn a_host_with_systemd_and_a_program_in_its_place_is_offered_a_service() {
        assert_eq!(ready().suggestion(), BootChoice::Service);
        for other in [
            BootFacts { is_root: false, ..ready() },
            BootFacts { is_the_systems_home: false, ..ready() },
            BootFacts { manager: Some(Manager::Cron), ..ready() },
            BootFacts { program_fault: Some("private".to_owned()), ..ready() },
        ] {
            assert_eq!(other.suggestion(), BootChoice::None, "{other:?}");
        }
        let installed = BootFacts { manager: Some(Manager::OpenRc), is_linked: true, ..ready() };
        assert_eq!(installed.suggestion(), BootChoice::Service);
    }

    #[test]
    fn what_is_in_the_way_is_told_all_at_once() {
        let facts = BootFacts {
            program: "/root/rtcctl".into(),
            program_fault: Some("`/root` is closed to others".to_owned()),
            unreadable: vec![("/root/key.pem".into(), "`/root` is closed to others".to_owned())],
            ..BootFacts::default()
        };
        let objections = plan(BootChoice::Service, &facts).unwrap_err();
        assert_eq!(objections.len(), 5, "{objections:?}");
        assert_eq!(plan(BootChoice::None, &facts), Ok(None));
        let installed = BootFacts { is_linked: true, ..ready() };
        assert!(
            plan(BootChoice::None, &installed).unwrap_err()[0].what.to_string().contains("starts with this machine")
        );
    }

    #[test]
    fn a_second_run_has_nothing_left_to_do() {
        let first = plan(BootChoice::Service, &ready()).unwrap().unwrap();
        assert!(!first.is_settled && first.told()[1].to_string().contains("who is made for it"));
        let facts = BootFacts { is_linked: true, has_user: true, ..ready() };
        let second = plan(BootChoice::Service, &facts).unwrap().unwrap();
        assert!(second.is_settled);
        assert!(!plan(BootChoice::Service, &BootFacts { strays: 1, ..facts }).unwrap().unwrap().is_settled);
    }
}
