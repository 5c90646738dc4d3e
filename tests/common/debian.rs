//! Debians with their base system and little else, fetched once and kept beside what is built.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The one that is stable now, and the one before.
pub(crate) const RELEASES: [&str; 2] = ["trixie", "bookworm"];

/// Installs packages into the tree `$1`.
const INSTALL: &str = r#"
root=$1
shift
mount -t proc proc "$root/proc"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
chroot "$root" sh -c 'apt-get update && apt-get install -y --no-install-recommends "$@" && apt-get clean' sh "$@"
"#;

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
    let draft_path = draft.to_str().unwrap();
    if packages.is_empty() {
        run(&["debootstrap", "--variant=minbase", release, draft_path])?;
    } else {
        // Not by debootstrap, which does not know in which order all of them can be configured.
        let base = debian(release, &[])?;
        run(&["cp", "-a", base.to_str().unwrap(), draft_path])?;
        run(&[&["unshare", "--mount", "sh", "-c", INSTALL, "sh", draft_path], packages].concat())?;
    }
    std::fs::rename(&draft, &tree).unwrap();
    Ok(tree)
}

fn run(line: &[&str]) -> Result<(), String> {
    #[expect(clippy::disallowed_methods, reason = "tests start programs")]
    let output = Command::new(line[0]).args(&line[1..]).output().map_err(|error| format!("{}: {error}", line[0]))?;
    if output.status.success() {
        return Ok(());
    }
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    Err(format!("no Debian can be fetched: {}", told.lines().last().unwrap_or("it says nothing")))
}
