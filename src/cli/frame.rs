//! What every command shares: the global flags, the home, and how things are printed.
//!
//! Data goes to standard output, talk to standard error.

use std::env;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{Args, ValueEnum};

use super::wrap::{columns_of_talk, prose};
use crate::error::{Failure, Kind, Result};
use crate::home::{Home, Surroundings};
use crate::text;
use crate::words::{Lang, Text};

/// Why some of what was printed could not be written.
static LOST: OnceLock<Text> = OnceLock::new();

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
    /// The language of what is said to people: en or zh (by the locale)
    #[arg(long, global = true, env = "RTCCTL_LANG", value_name = "LANG")]
    lang: Option<Language>,
    /// Tell more; twice for everything
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

impl Global {
    /// The language that was asked for, or else that of the locale.
    pub(super) fn lang(&self) -> Lang {
        match self.lang {
            Some(Language::En) => Lang::En,
            Some(Language::Zh) => Lang::Zh,
            None => {
                let variables = ["LC_ALL", "LC_MESSAGES", "LANG"].map(|name| env::var(name).unwrap_or_default());
                Lang::of_locale(variables.iter().map(String::as_str))
            }
        }
    }
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
                    Failure::new(Kind::Usage, text!("cannot use `{}` as home", dir.display())).caused_by(error)
                })?;
                Home::under(checked(&dir)?)
            }
            None => {
                let home = Home::default_for(&surroundings()).ok_or_else(|| {
                    Failure::new(Kind::Usage, text!("no home folder is known"))
                        .hinted(text!("pass `--home DIR` or set `HOME`"))
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
        Ok(Self { lang: global.lang(), home, json: global.json, quiet: global.quiet, verbose: global.verbose, colour })
    }

    /// Prints data, with a newline. A reader that has gone away is no failure; what cannot be written for another reason
    /// is told at the end, by `what_was_lost`.
    pub fn print(&self, words: impl Spoken) {
        if let Err(error) = writeln!(std::io::stdout().lock(), "{}", words.in_lang(self.lang))
            && error.kind() != ErrorKind::BrokenPipe
        {
            // The first one says why.
            let _ = LOST.set(Text::of_error(&error));
        }
    }

    /// Prints a value as JSON.
    pub fn print_json(&self, value: &impl serde::Serialize) {
        let text = serde_json::to_string_pretty(value).expect("documents of ours have string keys only");
        self.print(&text);
    }

    /// Prints talk, unless `--quiet`.
    pub fn say(&self, words: impl Spoken) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr().lock(), "{}", words.in_lang(self.lang));
        }
    }
}

/// What can be printed: a text in the language of who reads it, anything else as it is.
pub trait Spoken {
    fn in_lang(&self, lang: Lang) -> String;
}

impl Spoken for Text {
    fn in_lang(&self, lang: Lang) -> String {
        self.say(lang)
    }
}

impl Spoken for &Text {
    fn in_lang(&self, lang: Lang) -> String {
        self.say(lang)
    }
}

impl Spoken for &str {
    fn in_lang(&self, _lang: Lang) -> String {
        (*self).to_owned()
    }
}

impl Spoken for String {
    fn in_lang(&self, _lang: Lang) -> String {
        self.clone()
    }
}

impl Spoken for &String {
    fn in_lang(&self, _lang: Lang) -> String {
        (*self).clone()
    }
}

/// The failure to print what was to be printed, if there was one: a full disk, say.
pub(super) fn what_was_lost() -> Option<Failure> {
    let why = LOST.get()?;
    let hint = text!("what the command did is done; make room, or send its output elsewhere, and ask for it again");
    Some(Failure::operator(text!("the output could not be written")).because(why).hinted(hint))
}

/// A path that can be shown, written down and typed again.
fn checked(home: &Path) -> Result<&Path> {
    let failed = |why: Text| {
        let shown: String = home.to_string_lossy().escape_debug().collect();
        Failure::new(Kind::Usage, text!("cannot use `{}` as home", shown))
            .because(why)
            .hinted(text!("choose another name"))
    };
    match home.to_str() {
        None => Err(failed(text!("its name is no UTF-8"))),
        Some(name) if name.contains(char::is_control) => Err(failed(text!("there is a control character in its name"))),
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

fn report_lines(failure: &Failure, colour: bool, lang: Lang) -> Vec<String> {
    let line = |code: &str, word: Text, text: &Text| {
        let word = word.say(lang);
        let word = if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word };
        text!("{}: {}", word, text).say(lang)
    };
    let mut lines = vec![line("1;31", text!("error"), failure.message())];
    lines.extend(failure.causes().iter().map(|cause| line("1", text!("cause"), cause)));
    lines.extend(failure.hints().iter().map(|hint| line("1;36", text!("hint"), hint)));
    lines
}

/// Prints a failure, its causes and its hints to standard error, and gives its exit code.
#[must_use]
pub(super) fn report(failure: &Failure, colour: bool, lang: Lang) -> ExitCode {
    let columns = columns_of_talk();
    let lines = report_lines(failure, colour, lang).into_iter().map(|line| prose(&line, 2, columns));
    let text = lines.collect::<Vec<_>>().join("\n") + "\n";
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
    ExitCode::from(failure.kind().exit_code())
}
