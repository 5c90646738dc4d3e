//! Ctrl-C, SIGTERM and a closed terminal as a question that can be asked, instead of a sudden end.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::alarm;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// A signal that comes just before a read begins would leave that read waiting: the alarm ends it a second later,
/// and the next one, as long as somebody reads.
extern "C" fn remember(_signal: nix::libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
    alarm::set(1);
}

/// From now on Ctrl-C, SIGTERM and SIGHUP end no more than a read that waits; [`interrupted`] tells of them. A
/// SIGHUP that was ignored, as by `nohup`, stays ignored.
///
/// For commands in the foreground that must clean up behind themselves; the daemon has its own way.
#[expect(unsafe_code, reason = "installing a signal handler has no safe form in nix")]
pub fn catch() {
    // Without SA_RESTART, so that a prompt that reads the terminal comes back with an error.
    let action = SigAction::new(SigHandler::Handler(remember), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGALRM, Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler stores to an atomic and sets the alarm; both are async-signal-safe.
        let before = unsafe { sigaction(signal, &action) };
        // Where it cannot be installed, the signal ends the process as ever.
        if let Ok(before) = before
            && signal == Signal::SIGHUP
            && matches!(before.handler(), SigHandler::SigIgn)
        {
            // SAFETY: it was so before.
            let _ = unsafe { sigaction(signal, &before) };
        }
    }
}

/// Whether Ctrl-C, SIGTERM or SIGHUP came since [`catch`].
#[must_use]
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
