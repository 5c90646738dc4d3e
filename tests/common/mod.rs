//! What integration tests share.

use std::io::Write as _;

/// Says why a test does not run, and writes it down where `RTCCTL_SKIP_LOG` names a file, so that skips are counted.
#[expect(clippy::print_stdout, reason = "whoever runs the tests should read why one did not run")]
pub(crate) fn skip(why: &str) {
    println!("skipped: {why}");
    let Some(path) = std::env::var_os("RTCCTL_SKIP_LOG").filter(|path| !path.is_empty()) else { return };
    let mut log = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    writeln!(log, "{why}").unwrap();
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
