//! Places at which a test may have the process killed, to see what it leaves behind. Release builds have none.

/// Kills this process as SIGKILL does if `RTCCTL_FAULT` names this place.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    if std::env::var_os("RTCCTL_FAULT").is_some_and(|wanted| wanted == name) {
        // Nothing is flushed, closed or said.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
    }
}

/// Does nothing.
#[cfg(not(debug_assertions))]
pub fn point(_name: &str) {}

/// A place that is passed many times: as [`point`], named `SCOPE:NUMBER`, counted from zero through the whole process.
#[cfg(debug_assertions)]
pub fn moment(scope: &str) {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static PASSED: AtomicUsize = AtomicUsize::new(0);
    point(&format!("{scope}:{}", PASSED.fetch_add(1, Ordering::Relaxed)));
}

/// Does nothing.
#[cfg(not(debug_assertions))]
pub fn moment(_scope: &str) {}
