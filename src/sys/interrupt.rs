//! Ctrl-C and SIGTERM as a question that can be asked, instead of a sudden end.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn remember(_signal: nix::libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From now on Ctrl-C and SIGTERM end no more than a read that waits; [`interrupted`] tells of them.
///
/// For commands in the foreground that must clean up behind themselves; the daemon has its own way.
#[expect(unsafe_code, reason = "installing a signal handler has no safe form in nix")]
pub fn catch() {
    // Without SA_RESTART, so that a prompt that reads the terminal comes back with an error.
    let action = SigAction::new(SigHandler::Handler(remember), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler does nothing but store to an atomic, which is async-signal-safe.
        let installed = unsafe { sigaction(signal, &action) };
        // Where it cannot be installed, the signal ends the process as ever.
        let _ = installed;
    }
}

/// Whether Ctrl-C or SIGTERM came since [`catch`].
#[must_use]
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
