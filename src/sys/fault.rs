//! Places at which a test may have the process killed, to see what it leaves behind. Release builds have none.

/// Kills this process as SIGKILL does if `RTCCTL_FAULT` names this place; by another signal if `RTCCTL_FAULT_SIGNAL`
/// names one.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    use nix::sys::signal::{Signal, raise};
    if std::env::var_os("RTCCTL_FAULT").is_some_and(|wanted| wanted == name) {
        let signal = std::env::var("RTCCTL_FAULT_SIGNAL").ok().and_then(|name| name.parse().ok());
        // Nothing is flushed, closed or said.
        let _ = raise(signal.unwrap_or(Signal::SIGKILL));
    }
}

/// Does nothing.
#[cfg(not(debug_assertions))]
pub fn point(_name: &str) {}

/// A place that is passed many times: as [`point`], named `SCOPE:NUMBER`, counted from zero through the whole process,
/// each scope by itself.
#[cfg(debug_assertions)]
pub fn moment(scope: &'static str) {
    use std::collections::BTreeMap;
    use std::sync::{Mutex, PoisonError};
    static PASSED: Mutex<BTreeMap<&'static str, usize>> = Mutex::new(BTreeMap::new());
    let number = {
        let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = passed.entry(scope).or_default();
        *passed += 1;
        *passed - 1
    };
    point(&format!("{scope}:{number}"));
}

/// Does nothing.
#[cfg(not(debug_assertions))]
pub fn moment(_scope: &'static str) {}
