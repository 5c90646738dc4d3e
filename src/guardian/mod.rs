//! The guardian: a small service manager for hosts without one, which keeps the daemon alive.
//!
//! It starts the daemon, holds its listening sockets while there is none, and starts it again when it dies or hangs. It
//! speaks systemd's own protocols (sd_notify, the file descriptor store, the watchdog, sd_listen_fds), so the daemon
//! knows one way only. Decides in `core`, `notice` and `store`; acts in `run`. A guardian that dies itself is replaced
//! by the daemon, and the new one adopts it.

mod autopsy;
mod client;
mod core;
mod desk;
mod journal;
mod memory;
mod notice;
mod protocol;
mod run;
mod store;

use std::ffi::OsString;

use crate::home::Home;
use crate::supervisor::policy::Pace;
pub use client::{holder, report, restart, start, stop};
pub use protocol::{Death, Report};
pub use run::run;

/// How a guardian and its daemon are to work, as the operator has said at the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// How much more is told in the log.
    pub verbose: u8,
    /// Restarts are at once and without a bound, as endurance tests need them.
    pub endurance: bool,
}

impl Manner {
    /// How fast faults are followed by restarts.
    #[must_use]
    pub fn pace(self) -> Pace {
        if self.endurance { Pace::Endurance } else { Pace::Normal }
    }
}

/// Why a guardian was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// To start the daemon. A `start` waits on standard output for one line.
    Start,
    /// The daemon of this process number has lost the guardian before, and waits on standard output for one line.
    Adoption(u32),
}

/// What a guardian that has come up says to the daemon that started it.
pub const GREETING: &str = "ready\n";

/// The command line of a guardian.
#[must_use]
pub fn command_line(home: &Home, manner: Manner, occasion: Occasion) -> Vec<OsString> {
    let own = match occasion {
        Occasion::Start => Vec::new(),
        Occasion::Adoption(pid) => vec!["--adopt".into(), pid.to_string().into()],
    };
    line(home, manner, "guardian", &own)
}

/// The command line of a guardian's daemon.
fn daemon_command_line(home: &Home, manner: Manner) -> Vec<OsString> {
    line(home, manner, "run", &["--guarded".into()])
}

fn line(home: &Home, manner: Manner, command: &str, own: &[OsString]) -> Vec<OsString> {
    let mut line: Vec<OsString> = match home.single_dir() {
        Some(dir) => vec!["--home".into(), dir.as_os_str().to_owned()],
        // Who is not root any more would take it for another one.
        None if home.is_the_systems() => vec!["--system".into()],
        None => Vec::new(),
    };
    line.extend((0..manner.verbose).map(|_| OsString::from("-v")));
    line.push(command.into());
    line.extend_from_slice(own);
    line.extend(manner.endurance.then(|| "--endurance".into()));
    line
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn command_lines_carry_the_manner_on_and_nothing_secret() {
        let home = Home::under(Path::new("/srv/box"));
        let text = |line: Vec<OsString>| line.join(std::ffi::OsStr::new(" ")).into_string().unwrap();
        let manner = Manner { verbose: 2, endurance: true };
        assert_eq!(
            text(command_line(&home, manner, Occasion::Adoption(7))),
            "--home /srv/box -v -v guardian --adopt 7 --endurance"
        );
        assert_eq!(text(daemon_command_line(&home, manner)), "--home /srv/box -v -v run --guarded --endurance");
        assert_eq!(text(command_line(&home, Manner::default(), Occasion::Start)), "--home /srv/box guardian");
        let system = Home::of_the_system();
        assert_eq!(text(daemon_command_line(&system, Manner::default())), "--system run --guarded");
    }
}
