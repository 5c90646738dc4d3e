//! Memory that was given back to the allocator and not to the system.

/// Gives free memory back to the system. The allocator keeps what a thread has freed for its next threads, so that a
/// task that was restarted often would seem to grow.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "nix has no malloc_trim")]
pub fn give_back() {
    // SAFETY: the call takes a number and may be made at any time, from any thread.
    let _ = unsafe { nix::libc::malloc_trim(0) };
}

/// Other allocators give it back by themselves.
#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}
