//! Questions at a terminal. Ctrl-C at any of them gives the cursor back and is an error, not the end of the process.

use std::io::IsTerminal as _;

use dialoguer::console::Term;
use dialoguer::theme::{ColorfulTheme, SimpleTheme, Theme};
use dialoguer::{Confirm, Input, Select};

use super::wrap;
use crate::error::{Failure, Kind, Result};
use crate::setup::questions::Prompter;
use crate::sys::interrupt;
use crate::text;
use crate::words::{Lang, Text};

/// Someone at a terminal: questions go to standard error, answers come from standard input.
pub(super) struct Terminal {
    term: Term,
    theme: Box<dyn Theme>,
    lang: Lang,
}

impl Terminal {
    /// `None` without a terminal to ask at. From here on Ctrl-C is an error of the prompt.
    pub(super) fn open(colour: bool, lang: Lang) -> Option<Self> {
        if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
            return None;
        }
        interrupt::catch();
        let theme: Box<dyn Theme> = if colour { Box::new(ColorfulTheme::default()) } else { Box::new(SimpleTheme) };
        Some(Self { term: Term::stderr(), theme, lang })
    }

    fn explain(&self, why: &'static str) -> Result<()> {
        self.done(
            self.term
                .write_line(&wrap::fill("  ", self.lang.say(why), 2, self.term.size().1.into()))
                .map_err(dialoguer::Error::IO),
        )
    }

    fn done<T>(&self, answer: dialoguer::Result<T>) -> Result<T> {
        let is_left = interrupt::interrupted();
        answer.map_err(|dialoguer::Error::IO(error)| self.leave(error)).and_then(|answer| {
            // The signal may have come between two reads.
            if is_left { Err(self.leave(std::io::ErrorKind::Interrupted.into())) } else { Ok(answer) }
        })
    }

    fn leave(&self, error: std::io::Error) -> Failure {
        // A terminal that is gone has no cursor to show.
        let _ = self.term.show_cursor();
        let _ = self.term.write_line("");
        if interrupt::interrupted() || error.kind() == std::io::ErrorKind::Interrupted {
            Failure::new(Kind::Interrupted, text!("interrupted; nothing was changed"))
        } else {
            Failure::operator(text!("cannot ask at this terminal"))
                .caused_by(error)
                .hinted(text!("pass `--yes` and the answers as flags; see `rtcctl init --help`"))
        }
    }
}

impl Prompter for Terminal {
    fn choose(
        &mut self,
        question: &'static str,
        why: &'static str,
        items: &[&'static str],
        default: usize,
    ) -> Result<usize> {
        self.explain(why)?;
        let items: Vec<&str> = items.iter().map(|item| self.lang.say(item)).collect();
        let question = self.lang.say(question);
        let prompt = Select::with_theme(&*self.theme).with_prompt(question).items(&items).default(default);
        self.done(prompt.interact_on(&self.term))
    }

    fn line(
        &mut self,
        question: &'static str,
        why: &'static str,
        default: Option<&str>,
        check: &dyn Fn(&str) -> Result<(), Text>,
    ) -> Result<String> {
        self.explain(why)?;
        let mut prompt = Input::<String>::with_theme(&*self.theme)
            .with_prompt(self.lang.say(question))
            .validate_with(|text: &String| check(text).map_err(|why| why.say(self.lang)))
            .allow_empty(default.is_some_and(str::is_empty));
        if let Some(default) = default {
            prompt = prompt.default(default.to_owned()).show_default(!default.is_empty());
        }
        self.done(prompt.interact_text_on(&self.term))
    }

    fn confirm(&mut self, question: &'static str) -> Result<bool> {
        let prompt = Confirm::with_theme(&*self.theme).with_prompt(self.lang.say(question)).default(true);
        self.done(prompt.interact_on(&self.term))
    }
}
