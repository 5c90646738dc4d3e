//! `rtcctl phone` at a terminal of its own, with curl in the place of the phone. What a real browser makes of the page
//! is in `tests/browser.rs`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start programs")]

mod common;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/service.rs"]
mod service;

use std::process::{Command, Output};
use std::time::Duration;

use common::has_program;
use expectrl::process::unix::WaitStatus;
use expectrl::session::OsSession;
use expectrl::{Eof, Expect as _, Regex, Session};
use serde_json::{Value, json};
use service::Service;

const STEPS: [&str; 9] = ["page", "trust", "camera", "host", "srflx", "udp", "tcp", "tls", "call"];
const WITHIN: Duration = Duration::from_secs(30);

fn terminal(service: &Service, words: &[&str]) -> OsSession {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rtcctl"));
    command.arg("--home").arg(service.home()).arg("phone").args(words);
    command.env("TERM", "xterm").env("LANG", "C.UTF-8").env_remove("LC_ALL").env_remove("RTCCTL_HOME");
    let mut session = Session::spawn(command).unwrap();
    session.set_expect_timeout(Some(WITHIN));
    session
}

fn sees(session: &mut OsSession, pattern: &str) -> String {
    match session.expect(Regex(pattern)) {
        Ok(found) => {
            String::from_utf8_lossy(found.before()).into_owned() + &String::from_utf8_lossy(found.get(0).unwrap())
        }
        Err(error) => panic!("`{pattern}` was not shown: {error}"),
    }
}

/// The code in what is shown so far.
fn code(session: &mut OsSession) -> String {
    let shown = sees(session, "code=[A-Za-z0-9_-]{22}");
    shown[shown.len() - 22..].to_owned()
}

/// What is shown until the end, and the exit code.
fn ends(mut session: OsSession) -> (String, i32) {
    let shown = session.expect(Eof).unwrap();
    let shown = String::from_utf8_lossy(shown.as_bytes()).into_owned();
    let WaitStatus::Exited(_, code) = session.get_process().wait().unwrap() else { panic!("{shown}") };
    (shown, code)
}

/// Posts with a secret; gives the status and the body.
fn post(service: &Service, path: &str, secret: &str, body: &str) -> (u16, String) {
    let output: Output = Command::new("curl")
        .args(["--silent", "--max-time", "30", "--noproxy", "*", "--write-out", "\n%{http_code}", "--cacert"])
        .arg(service.ca_file())
        .args(["-H", &format!("authorization: Bearer {secret}"), "-A", "evil \u{202e} browser", "--data-raw", body])
        .arg(format!("{}{path}", service.url()))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

fn says(service: &Service, key: &str, report: &Value) -> Value {
    let (status, body) = post(service, "/api/phone/report", key, &report.to_string());
    assert_eq!(status, 200, "{report}: {body}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn ticks_appear_as_the_phone_says_them_and_nothing_it_says_moves_the_cursor() {
    if !has_program("curl") {
        return;
    }
    let service = Service::start(&[]);
    let mut session = terminal(&service, &[]);
    sees(&mut session, "Scan this with a phone");
    let code = code(&mut session);
    sees(&mut session, "waiting for a phone");
    assert_eq!(post(&service, "/api/phone", "wrong", "").0, 401);
    let (status, body) = post(&service, "/api/phone", &code, "");
    assert_eq!(status, 200, "{body}");
    let told: Value = serde_json::from_str(&body).unwrap();
    assert!(told["iceServers"][1]["credential"].is_string() && told["seconds"].as_u64().unwrap() > 200, "{told}");
    let key = told["key"].as_str().unwrap();
    let opened = sees(&mut session, "Opened by .*, from 127.0.0.1");
    assert!(opened.contains("evil  browser"), "{opened:?}");
    assert_eq!(post(&service, "/api/phone", &code, "").0, 409);
    sees(&mut session, "came with the same code and was refused");

    for (body, wanted) in [
        ("{".to_owned(), 400),
        (json!({ "step": "fly", "grade": "good" }).to_string(), 400),
        ("[".repeat(2000), 400),
        (json!({ "step": "udp", "grade": "good", "words": "x".repeat(3000) }).to_string(), 413),
    ] {
        assert_eq!(post(&service, "/api/phone/report", key, &body).0, wanted, "{}", &body[..20.min(body.len())]);
    }
    assert_eq!(post(&service, "/api/phone/report", &code, "{\"step\":\"page\",\"grade\":\"good\"}").0, 401);
    let evil = json!({ "step": "host", "grade": "good", "words": "\x1b[2J\x1b]0;title\x07 10.0.0.9\r\nfaked" });
    assert_eq!(says(&service, key, &evil), json!({ "verdict": null }));
    let line = sees(&mut session, "own address.*faked");
    assert!(
        line.contains("[2J]0;title 10.0.0.9faked") && !line.contains("\x1b[2J") && !line.contains('\x07'),
        "{line:?}"
    );
    for step in STEPS {
        let verdict = says(&service, key, &json!({ "step": step, "grade": "good" }));
        assert_eq!(verdict["verdict"]["grade"] == "good", step == "call", "{step}: {verdict}");
    }
    let (shown, exit) = ends(session);
    assert!(shown.contains("Calls work from this phone."), "{shown:?}");
    assert_eq!(exit, 0);
    assert_eq!(post(&service, "/api/phone/report", key, "{\"step\":\"page\",\"grade\":\"good\"}").0, 401, "it is over");
}

#[test]
fn a_code_ends_by_ctrl_c_by_its_time_and_with_a_killed_command() {
    if !has_program("curl") {
        return;
    }
    let service = Service::start(&[]);
    let mut session = terminal(&service, &["--lang", "zh"]);
    let interrupted = code(&mut session);
    sees(&mut session, "等待手机");
    session.send("\x03").unwrap();
    let (shown, exit) = ends(session);
    assert!(exit == 130 && shown.contains("此码已作废"), "{exit}: {shown:?}");
    assert_eq!(post(&service, "/api/phone", &interrupted, "").0, 401);

    let mut killed = terminal(&service, &[]);
    let orphan = code(&mut killed);
    sees(&mut killed, "waiting for a phone");
    killed.get_process_mut().kill(expectrl::process::unix::Signal::SIGKILL).unwrap();

    let mut session = terminal(&service, &["--timeout", "10"]);
    let late = code(&mut session);
    let (shown, exit) = ends(session);
    assert!(exit == 1 && shown.contains("no phone came in time"), "{exit}: {shown:?}");
    assert!(shown.contains("--timeout") && shown.contains("no phone can reach this address"), "{shown:?}");
    assert_eq!(post(&service, "/api/phone", &late, "").0, 401);

    // Its terminal has been silent for as long, and some seconds more.
    let mut session = terminal(&service, &["--timeout", "10"]);
    code(&mut session);
    assert_eq!(ends(session).1, 1);
    assert_eq!(post(&service, "/api/phone", &orphan, "").0, 401);
}

#[test]
fn without_a_service_or_its_page_no_code_is_shown() {
    let service = Service::start(&[]);
    service.run(&["stop", "web"]);
    let refused = service.command(&["phone"]).output().unwrap();
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && words.contains("the task web is not ready"), "{words}");
    service.run(&["stop"]);
    let refused = service.command(&["phone"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(3));
    for bad in [["phone", "--timeout", "1"], ["phone", "--lang", "fr"]] {
        assert_eq!(service.command(&bad).output().unwrap().status.code(), Some(2), "{bad:?}");
    }
}
