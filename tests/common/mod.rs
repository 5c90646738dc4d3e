//! What integration tests share.

#![allow(dead_code, reason = "each test file uses a part of it")]

#[allow(clippy::duplicate_mod, reason = "tests that use `service` besides have it twice")]
pub(crate) mod ports;

use std::io::Write as _;
use std::time::Duration;

/// Says why a test does not run, and writes it down where `RTCCTL_SKIP_LOG` names a file, so that skips are counted.
#[expect(clippy::print_stdout, reason = "whoever runs the tests should read why one did not run")]
pub(crate) fn skip(why: &str) {
    println!("skipped: {why}");
    let Some(path) = std::env::var_os("RTCCTL_SKIP_LOG").filter(|path| !path.is_empty()) else { return };
    let mut log = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    writeln!(log, "{why}").unwrap();
}

/// Waits until it is so, and fails if that takes longer than `patience`.
pub(crate) fn until(what: &str, patience: Duration, mut is_so: impl FnMut() -> bool) {
    let end = rtcctl::sys::clock::now().mono + patience;
    while !is_so() {
        assert!(rtcctl::sys::clock::now().mono < end, "{what}: not within {patience:?}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// Whether `program` can be found; where it cannot, the test is skipped.
pub(crate) fn has_program(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !is_there {
        skip(&format!("`{program}` is not installed"));
    }
    is_there
}

/// Installs the npm packages that `folder` locks, once for all test processes. `false`: it cannot be, which was told.
pub(crate) fn npm_ci(folder: &std::path::Path) -> bool {
    let lock = std::fs::File::create(std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("npm.lock")).unwrap();
    // Each test may be a process of its own, and two installations would trip over each other.
    lock.lock().unwrap();
    let modified = |path: &str| std::fs::metadata(folder.join(path)).and_then(|data| data.modified()).ok();
    let is_there = modified("node_modules/.package-lock.json") >= modified("package-lock.json");
    if is_there {
        return true;
    }
    #[expect(clippy::disallowed_methods, reason = "tests start programs")]
    let output = std::process::Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
        .current_dir(folder)
        .output()
        .unwrap();
    if !output.status.success() {
        skip(&format!("`npm ci` failed in {}: {}", folder.display(), String::from_utf8_lossy(&output.stderr)));
    }
    output.status.success()
}
