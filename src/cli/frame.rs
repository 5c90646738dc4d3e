//! What every command shares: the global flags, the home, and how things are printed.
//!
//! Data goes to standard output, talk to standard error.

use std::env;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{Args, ValueEnum};

use crate::error::{Failure, Kind, Result};
use crate::home::{Home, Surroundings};
use crate::words::Lang;

/// Why some of what was printed could not be written.
static LOST: OnceLock<String> = OnceLock::new();

/// Flags that every command takes.
#[derive(Debug, Args)]
pub struct Global {
    /// Keep everything under one folder
    #[arg(long, global = true, env = "RTCCTL_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
    /// Use root's home, /etc/rtcctl and so on: what a service that starts with the machine is told
    #[arg(long, global = true, hide = true)]
    system: bool,
    /// Print one JSON document
    #[arg(long, global = true)]
    json: bool,
    /// Print data and errors only
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Colour the output
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: Colour,
    /// The language of the wizard, the plan, `explain` and `phone`: en or zh (by the locale)
    #[arg(long, global = true, env = "RTCCTL_LANG", value_name = "LANG")]
    lang: Option<Language>,
    /// Tell more; twice for everything
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Colour {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Language {
    En,
    Zh,
}

/// The home and the manner of printing that the global flags ask for.
#[derive(Debug, Clone)]
pub struct Frame {
    pub home: Home,
    pub json: bool,
    pub quiet: bool,
    pub verbose: u8,
    pub colour: bool,
    pub lang: Lang,
}

impl Frame {
    /// In English and without colours, of a home that is not there.
    #[cfg(test)]
    pub(super) fn of_test(json: bool) -> Self {
        let home = Home::under(Path::new("/srv/box"));
        Self { home, json, quiet: false, verbose: 0, colour: false, lang: Lang::En }
    }

    /// Settles what the flags and the environment ask for.
    ///
    /// # Errors
    /// If no home is given and none can be derived.
    pub fn new(global: &Global) -> Result<Self> {
        let home = match &global.home {
            _ if global.system => Home::of_the_system(),
            // Absolute, because the daemon's working folder is another one.
            Some(dir) => {
                let dir = std::path::absolute(checked(dir)?).map_err(|error| {
                    Failure::new(Kind::Usage, format!("cannot use `{}` as home", dir.display())).caused_by(error)
                })?;
                Home::under(checked(&dir)?)
            }
            None => {
                let home = Home::default_for(&surroundings()).ok_or_else(|| {
                    Failure::new(Kind::Usage, "no home folder is known").hinted("pass `--home DIR` or set `HOME`")
                })?;
                checked(home.config_dir())?;
                checked(home.state_dir())?;
                home
            }
        };
        let colour = match global.color {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => {
                env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && std::io::stderr().is_terminal()
            }
        };
        let lang = match global.lang {
            Some(Language::En) => Lang::En,
            Some(Language::Zh) => Lang::Zh,
            None => {
                let variables = ["LC_ALL", "LC_MESSAGES", "LANG"].map(|name| env::var(name).unwrap_or_default());
                Lang::of_locale(variables.iter().map(String::as_str))
            }
        };
        Ok(Self { lang, home, json: global.json, quiet: global.quiet, verbose: global.verbose, colour })
    }

    /// Prints data, with a newline. A reader that has gone away is no failure; what cannot be written for another reason
    /// is told at the end, by [`what_was_lost`].
    pub fn print(&self, text: &str) {
        if let Err(error) = writeln!(std::io::stdout().lock(), "{text}")
            && error.kind() != ErrorKind::BrokenPipe
        {
            // The first one says why.
            let _ = LOST.set(error.to_string());
        }
    }

    /// Prints a value as JSON.
    pub fn print_json(&self, value: &impl serde::Serialize) {
        let text = serde_json::to_string_pretty(value).expect("documents of ours have string keys only");
        self.print(&text);
    }

    /// Prints talk, unless `--quiet`.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        }
    }
}

/// The failure to print what was to be printed, if there was one: a full disk, say.
pub(super) fn what_was_lost() -> Option<Failure> {
    let why = LOST.get()?;
    let hint = "what the command did is done; make room, or send its output elsewhere, and ask for it again";
    Some(Failure::operator("the output could not be written").because(why).hinted(hint))
}

/// A path that can be shown, written down and typed again.
fn checked(home: &Path) -> Result<&Path> {
    let failed = |why: &str| {
        let shown: String = home.to_string_lossy().escape_debug().collect();
        Failure::new(Kind::Usage, format!("cannot use `{shown}` as home: {why}")).hinted("choose another name")
    };
    match home.to_str() {
        None => Err(failed("its name is no UTF-8")),
        Some(name) if name.contains(char::is_control) => Err(failed("there is a control character in its name")),
        Some(_) => Ok(home),
    }
}

fn surroundings() -> Surroundings {
    let folder = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    Surroundings {
        is_root: nix::unistd::geteuid().is_root(),
        home: folder("HOME"),
        xdg_config_home: folder("XDG_CONFIG_HOME"),
        xdg_state_home: folder("XDG_STATE_HOME"),
        xdg_runtime_dir: folder("XDG_RUNTIME_DIR"),
    }
}

/// Prints a failure, its causes and its hints to standard error, and gives its exit code.
#[must_use]
pub(super) fn report(failure: &Failure, colour: bool) -> ExitCode {
    let paint = |code: &str, word: &str| if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() };
    let mut text = format!("{}: {}\n", paint("1;31", "error"), failure.message());
    for cause in failure.causes() {
        text.push_str(&format!("{}: {cause}\n", paint("1", "cause")));
    }
    for hint in failure.hints() {
        text.push_str(&format!("{}: {hint}\n", paint("1;36", "hint")));
    }
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
    ExitCode::from(failure.kind().exit_code())
}
