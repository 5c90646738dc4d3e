//! `rtcctl top` in a real pseudo-terminal: it draws, keeps to the width, and gives the terminal back as it was.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start programs")]

mod common;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/service.rs"]
mod service;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use expectrl::process::unix::WaitStatus;
use expectrl::session::OsSession;
use expectrl::{Eof, Expect as _, Regex, Session};
use nix::sys::signal::{Signal, kill};
use service::Service;

const ENTER: &str = "\\x1b\\[\\?1049h";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

fn top(home: &Path, columns: u16) -> OsSession {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rtcctl"));
    command.arg("--home").arg(home).arg("top").env("TERM", "xterm").env("NO_COLOR", "1").env_remove("RTCCTL_HOME");
    let mut session = Session::spawn(command).unwrap();
    session.get_process_mut().set_window_size(columns, 30).unwrap();
    session.set_expect_timeout(Some(Duration::from_secs(20)));
    session
}

fn sees(session: &mut OsSession, pattern: &str) -> String {
    match session.expect(Regex(pattern)) {
        Ok(found) => String::from_utf8_lossy(found.as_bytes()).into_owned(),
        Err(error) => panic!("`{pattern}` was not shown: {error}"),
    }
}

/// What is shown until the end, and the exit code.
fn ends(mut session: OsSession) -> (String, i32) {
    let shown = session.expect(Eof).unwrap();
    let shown = String::from_utf8_lossy(shown.as_bytes()).into_owned();
    let WaitStatus::Exited(_, code) = session.get_process().wait().unwrap() else { panic!("{shown}") };
    (shown, code)
}

#[test]
fn it_is_drawn_again_and_again_and_every_way_out_gives_the_terminal_back() {
    let service = Service::start(&[]);
    for way_out in ["q", "\x03", "SIGTERM"] {
        let mut session = top(&service.home(), 60);
        sees(&mut session, ENTER);
        sees(&mut session, "TASK +STATE");
        // The second picture has rates.
        let shown = sees(&mut session, "packets/s|relays of [0-9]+ at");
        assert!(!shown.contains("\x1b[3"), "NO_COLOR is heard");
        if way_out == "SIGTERM" {
            kill(nix::unistd::Pid::from_raw(session.get_process().pid().as_raw()), Signal::SIGTERM).unwrap();
        } else {
            session.send(way_out).unwrap();
        }
        let (rest, code) = ends(session);
        assert!(rest.ends_with(LEAVE), "{way_out}: {rest:?}");
        assert_eq!(code, 0);
    }
}

#[test]
fn a_service_that_comes_and_goes_is_waited_for() {
    let service = Service::start(&[]);
    service.run(&["stop"]);
    let mut session = top(&service.home(), 80);
    sees(&mut session, "waiting for the service");
    service.run(&["start"]);
    sees(&mut session, "signaling +ready");
    service.run(&["stop"]);
    sees(&mut session, "rtcctl is not running");
    session.send("q").unwrap();
    assert_eq!(ends(session).1, 3);
}

#[test]
fn scripts_take_one_picture_and_no_terminal_is_needed_for_it() {
    let service = Service::start(&[]);
    let shown = service.run(&["top", "--once"]);
    assert!(shown.contains("TASK") && shown.contains("packets/s") && !shown.contains('\x1b'), "{shown}");
    let document: serde_json::Value = serde_json::from_str(&service.run(&["top", "--once", "--json"])).unwrap();
    assert!(document["tasks"][1]["threads"].as_u64().unwrap() >= 2, "turn's workers are its own: {document}");
    assert!(document["usage"]["descriptors"].as_u64().unwrap() > 10);
    let refused = service.command(&["top"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("top --once"));
}
