//! Debians with their base system and little else, fetched once and kept beside what is built.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The one that is stable now, and the one before.
pub(crate) const RELEASES: [&str; 2] = ["trixie", "bookworm"];

/// The tree of a release with these packages besides, not to be changed: an overlay lies above it.
///
/// # Errors
/// If it cannot be fetched, with the reason.
pub(crate) fn debian(release: &str, packages: &[&str]) -> Result<PathBuf, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("only root can unpack a Debian".to_owned());
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let name = [&["debian", release], packages].concat().join("-");
    let tree = folder.join(&name);
    // Each test may be a process of its own.
    let lock = std::fs::File::create(folder.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    if tree.exists() {
        return Ok(tree);
    }
    let draft = folder.join(format!("{name}.new"));
    let _ = std::fs::remove_dir_all(&draft);
    #[expect(clippy::disallowed_methods, reason = "tests start programs")]
    let mut fetch = Command::new("debootstrap");
    fetch.arg("--variant=minbase");
    if !packages.is_empty() {
        fetch.arg(format!("--include={}", packages.join(",")));
    }
    let output = fetch.arg(release).arg(&draft).output().map_err(|error| format!("debootstrap: {error}"))?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stdout);
        return Err(format!("no Debian can be fetched: {}", told.lines().last().unwrap_or("it says nothing")));
    }
    std::fs::rename(&draft, &tree).unwrap();
    Ok(tree)
}
