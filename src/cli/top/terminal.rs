//! A terminal that is drawn on and given back as it was, however the program leaves it.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use dialoguer::console::Term;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use nix::unistd::read;

use super::screen::Size;
use crate::error::{Failure, Result};
use crate::sys::{clock, interrupt};
use crate::text;

/// Another screen, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";
/// What a terminal has that does not say.
const USUAL: Size = Size { rows: 24, columns: 80 };

/// A key that means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Leave,
}

/// Takes keys one by one until it is dropped.
pub(super) struct Terminal {
    before: Termios,
    term: Term,
}

impl Terminal {
    /// `None`: there is no terminal.
    pub(super) fn open() -> Result<Option<Self>> {
        if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
            return Ok(None);
        }
        interrupt::catch();
        let failed = |error: Errno| Failure::operator(text!("cannot use this terminal")).caused_by(error);
        let before = tcgetattr(io::stdin()).map_err(failed)?;
        let this = Self { before, term: Term::stdout() };
        let mut raw = this.before.clone();
        // Keys come at once and are not shown. Ctrl-C goes on to be a signal.
        raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        raw.control_chars[SpecialCharacterIndices::VMIN as usize] = 0;
        raw.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw).map_err(failed)?;
        this.put(ENTER)?;
        Ok(Some(this))
    }

    pub(super) fn size(&self) -> Size {
        match self.term.size_checked() {
            Some((rows, columns)) if rows > 0 && columns > 0 => Size { rows: rows.into(), columns: columns.into() },
            Some(_) | None => USUAL,
        }
    }

    /// Draws over what is there, which flickers less than an empty screen in between.
    pub(super) fn draw(&mut self, lines: &[String]) -> Result<()> {
        let lines: Vec<String> = lines.iter().map(|line| format!("{line}{CLEAR_LINE}")).collect();
        self.put(&format!("{HOME}{}{CLEAR_BELOW}", lines.join("\r\n")))
    }

    /// Waits for a key. `None`: `patience` is over, or the terminal has another size.
    pub(super) fn wait(&mut self, patience: Duration) -> Result<Option<Key>> {
        let end = clock::now().mono + patience;
        loop {
            if interrupt::interrupted() {
                return Ok(Some(Key::Leave));
            }
            let left = end.saturating_duration_since(clock::now().mono);
            if left.is_zero() {
                return Ok(None);
            }
            let stdin = io::stdin();
            let mut waiting = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut waiting, timeout) {
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(Failure::operator(text!("cannot wait for a key")).caused_by(error)),
            }
            let mut keys = [0; 32];
            match read(stdin.as_fd(), &mut keys) {
                // The terminal is gone.
                Ok(0) => return Ok(Some(Key::Leave)),
                Ok(length) if keys[..length].iter().any(|key| b"qQ\x03\x04".contains(key)) => {
                    return Ok(Some(Key::Leave));
                }
                Ok(_) | Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(_) => return Ok(Some(Key::Leave)),
            }
        }
    }

    fn put(&self, text: &str) -> Result<()> {
        let mut output = io::stdout().lock();
        let put = output.write_all(text.as_bytes()).and_then(|()| output.flush());
        put.map_err(|error| Failure::operator(text!("cannot draw on this terminal")).caused_by(error))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // One that is gone needs nothing back.
        let _ = self.put(LEAVE);
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.before);
    }
}
