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
