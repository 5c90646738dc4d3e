//! The `rtcctl` program. The library crate's front page is the map of the code.

fn main() -> std::process::ExitCode {
    rtcctl::run()
}
