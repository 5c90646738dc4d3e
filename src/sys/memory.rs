//! How the allocator deals with the system. Without this, a task that is restarted often seems to grow.

#[cfg(target_env = "gnu")]
use std::os::unix::process::CommandExt as _;

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

/// How glibc is told not to keep small blocks for the thread that has freed them; it reads this once, as it starts.
#[cfg(target_env = "gnu")]
const BY_NO_THREAD: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");

/// Has no thread keep blocks that it has freed: a few of each size, but each holds a page, and together they were more
/// than two megabytes for every thread that had served a crowd. For this the program begins anew, as the same process.
/// To be called while nothing has begun yet. Whoever tunes the allocator is left to it.
#[cfg(target_env = "gnu")]
pub fn share_free_blocks() {
    let (name, value) = BY_NO_THREAD;
    if std::env::var_os(name).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut words = std::env::args_os();
    let Some(own_name) = words.next() else { return };
    #[expect(clippy::disallowed_methods, reason = "it is this program")]
    let mut again = std::process::Command::new(program);
    // Where it cannot, everything stays as it was.
    let _ = again.arg0(own_name).args(words).env(name, value).exec();
}

/// Other allocators are not told this way.
#[cfg(not(target_env = "gnu"))]
pub fn share_free_blocks() {}

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
