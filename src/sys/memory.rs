//! How the allocator deals with the system. Without this, a task that is restarted often seems to grow.

#[cfg(target_env = "gnu")]
use nix::libc;

/// Bytes from which on a block comes from the system and goes back to it.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 128 * 1024;

/// Has every large block come from the system and go back to it, for as long as the process lives. By default the
/// allocator learns to keep them, and fills with zeros what nobody may ever touch: a relay's buffers would take their
/// full size from its second instance on.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "nix has no mallopt")]
pub fn give_large_blocks_back() {
    // SAFETY: the call takes numbers only. Where it fails, everything stays as it was.
    let _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
}

/// Gives free memory back to the system, which the allocator keeps for a thread's successors.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "nix has no malloc_trim")]
pub fn give_back() {
    // SAFETY: the call takes a number and may be made at any time, from any thread.
    let _ = unsafe { libc::malloc_trim(0) };
}

/// Other allocators do so by themselves.
#[cfg(not(target_env = "gnu"))]
pub fn give_large_blocks_back() {}

/// Other allocators do so by themselves.
#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}
