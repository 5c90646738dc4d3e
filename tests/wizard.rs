//! Drives `rtcctl init` in a real pseudo-terminal: answers, Ctrl-C at each question, a second run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

#[path = "common/ports.rs"]
mod ports;

use std::path::Path;
use std::time::Duration;

use expectrl::process::unix::WaitStatus;
use expectrl::session::OsSession;
use expectrl::{Eof, Expect as _, Regex, Session};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ports::free_port;

const CTRL_C: &str = "\x03";
const ENTER: &str = "\r";
const CURSOR_SHOWN: &str = "\x1b[?25h";

const REACH: &str = "Where do callers come from";
/// What the host is called depends on where this machine seems to be.
const HOST: &str = "(Address or name|Public address)";
const WEB_PORT: &str = "Web port";
const CONFIRM: &str = "Carry this plan out";

/// One wizard at a terminal of its own.
struct Wizard {
    session: OsSession,
}

impl Wizard {
    fn start(home: &Path, flags: &[&str]) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the pseudo-terminal starts the program itself")]
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rtcctl"));
        command.arg("--home").arg(home).args(["--color", "never", "init"]).args(flags);
        command.env("TERM", "xterm").env_remove("RTCCTL_HOME");
        Self::at_a_terminal(command)
    }

    fn at_a_terminal(command: std::process::Command) -> Self {
        let mut session = Session::spawn(command).unwrap();
        session.set_expect_timeout(Some(Duration::from_secs(20)));
        Self { session }
    }

    fn sees(&mut self, pattern: &str) {
        if let Err(error) = self.session.expect(Regex(pattern)) {
            panic!("`{pattern}` was not shown: {error}");
        }
    }

    fn types(&mut self, keys: &str) {
        self.session.send(keys).unwrap();
    }

    fn interrupt(&self) {
        self.signal(Signal::SIGINT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.session.get_process().pid().as_raw());
        kill(pid, signal).unwrap();
    }

    /// Reads to the end; gives what was shown and the exit code.
    fn ends(mut self) -> (String, i32) {
        let shown = self.session.expect(Eof).unwrap();
        let shown = String::from_utf8_lossy(shown.as_bytes()).into_owned();
        let status = self.session.get_process().wait().unwrap();
        let WaitStatus::Exited(_, code) = status else { panic!("ended by {status:?} after: {shown}") };
        (shown, code)
    }
}

/// A home that does not exist yet, and flags for ports nobody asks about.
fn scene() -> (tempfile::TempDir, std::path::PathBuf, String) {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    (dir, home, free_port().to_string())
}

#[test]
fn answers_at_a_terminal_set_a_home_up_and_a_second_run_changes_nothing() {
    let (_dir, home, turn_port) = scene();
    let flags = ["--http-port", "off", "--turn-port", turn_port.as_str()];
    let web_port = free_port().to_string();
    let mut wizard = Wizard::start(&home, &flags);
    wizard.sees(REACH);
    wizard.types(ENTER);
    wizard.sees(HOST);
    wizard.types(ENTER);
    wizard.sees(WEB_PORT);
    wizard.types(&format!("{web_port}{ENTER}"));
    wizard.sees("config.yaml");
    wizard.sees(CONFIRM);
    wizard.types("y");
    let (shown, code) = wizard.ends();
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("11 changes made"), "{shown}");
    assert!(shown.contains("--yes --reach"), "{shown}");
    assert!(shown.contains(&format!(":{web_port}/")), "{shown}");
    assert!(shown.contains('\u{2580}'), "a QR code: {shown}");
    let before = std::fs::read(home.join("secrets.yaml")).unwrap();

    let mut again = Wizard::start(&home, &[]);
    again.sees(REACH);
    again.types(ENTER);
    again.sees(HOST);
    again.types(ENTER);
    again.sees(WEB_PORT);
    again.types(ENTER);
    let (shown, code) = again.ends();
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("0 changes"), "{shown}");
    assert_eq!(std::fs::read(home.join("secrets.yaml")).unwrap(), before);
}

#[test]
fn ctrl_c_at_each_question_gives_the_cursor_back_and_leaves_nothing() {
    let steps = [(REACH, ENTER), (HOST, ENTER), (WEB_PORT, ENTER), (CONFIRM, "")];
    for left_at in 0..steps.len() {
        let (dir, home, turn_port) = scene();
        let web_port = free_port().to_string();
        let mut wizard = Wizard::start(&home, &["--http-port", "off", "--turn-port", turn_port.as_str()]);
        for (index, (question, answer)) in steps.iter().take(left_at + 1).enumerate() {
            wizard.sees(question);
            if index == left_at {
                wizard.types(CTRL_C);
            } else if *question == WEB_PORT {
                wizard.types(&format!("{web_port}{ENTER}"));
            } else {
                wizard.types(answer);
            }
        }
        let question = steps[left_at].0;
        let (shown, code) = wizard.ends();
        assert_eq!(code, 130, "at {question}: {shown}");
        assert!(shown.contains(CURSOR_SHOWN), "at {question}: {shown:?}");
        assert!(shown.contains("nothing was changed"), "at {question}: {shown}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "at {question}");
    }
}

/// The signal comes while the question is being shown, up to when the answer is read.
#[test]
fn an_interrupt_while_a_question_is_shown_waits_for_no_key() {
    for round in 0..60_u32 {
        let (dir, home, turn_port) = scene();
        let mut wizard = Wizard::start(&home, &["--http-port", "off", "--turn-port", turn_port.as_str()]);
        wizard.sees(REACH);
        for _ in 0..round * 4 {
            std::thread::yield_now();
        }
        wizard.interrupt();
        let (shown, code) = wizard.ends();
        assert_eq!(code, 130, "in round {round}: {shown}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "in round {round}");
    }
}

#[test]
fn ctrl_c_at_the_question_for_the_public_address_leaves_nothing() {
    let (dir, home, turn_port) = scene();
    let web_port = free_port().to_string();
    let flags = [
        "--reach",
        "domain",
        "--offline",
        "--http-port",
        "off",
        "--turn-port",
        turn_port.as_str(),
        "--web-port",
        &web_port,
    ];
    let mut wizard = Wizard::start(&home, &flags);
    wizard.sees("Domain name");
    wizard.types(&format!("call.example{ENTER}"));
    // A machine with a public address of its own is not asked.
    wizard.sees(&format!("(Public address of the relay|{CONFIRM})"));
    wizard.types(CTRL_C);
    let (shown, code) = wizard.ends();
    assert_eq!(code, 130, "{shown}");
    assert!(shown.contains(CURSOR_SHOWN), "{shown:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_bad_answer_is_told_and_asked_again() {
    let (_dir, home, turn_port) = scene();
    let flags = ["--reach", "lan", "--http-port", "off", "--turn-port", turn_port.as_str()];
    let mut wizard = Wizard::start(&home, &flags);
    wizard.sees("Address or name");
    wizard.types(&format!("https://x.example/{ENTER}"));
    wizard.sees("is a URL");
    wizard.types(CTRL_C);
    assert_eq!(wizard.ends().1, 130);
}

#[test]
fn a_declined_plan_changes_nothing() {
    let (dir, home, turn_port) = scene();
    let web_port = free_port().to_string();
    let flags = ["--reach", "lan", "--host", "a.example", "--http-port", "off", "--turn-port", turn_port.as_str()];
    let mut wizard = Wizard::start(&home, &[&flags[..], &["--web-port", web_port.as_str()]].concat());
    wizard.sees(CONFIRM);
    wizard.types("n");
    let (shown, code) = wizard.ends();
    assert_eq!(code, 1, "{shown}");
    assert!(shown.contains("declined"), "{shown}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_term_or_a_hangup_at_each_question_leaves_nothing() {
    let steps = [(REACH, ENTER), (HOST, ENTER), (CONFIRM, "")];
    for left_at in 0..steps.len() {
        for signal in [Signal::SIGTERM, Signal::SIGHUP] {
            let (dir, home, turn_port) = scene();
            let web_port = free_port().to_string();
            let flags = ["--http-port", "off", "--turn-port", turn_port.as_str(), "--web-port", &web_port];
            let mut wizard = Wizard::start(&home, &flags);
            for (question, answer) in steps.iter().take(left_at) {
                wizard.sees(question);
                wizard.types(answer);
            }
            wizard.sees(steps[left_at].0);
            wizard.signal(signal);
            let (shown, code) = wizard.ends();
            assert_eq!(code, 130, "{signal} at {}: {shown}", steps[left_at].0);
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{signal} at {}", steps[left_at].0);
        }
    }
}

/// The window is closed, or the line breaks: nobody is there to answer, or to read.
#[test]
fn a_terminal_that_is_closed_leaves_nothing_and_nobody() {
    for question in [REACH, CONFIRM] {
        let (dir, home, turn_port) = scene();
        let web_port = free_port().to_string();
        let mut flags = vec!["--http-port", "off", "--turn-port", turn_port.as_str(), "--web-port", &web_port];
        if question == CONFIRM {
            flags.extend(["--reach", "lan", "--host", "a.example"]);
        }
        let mut wizard = Wizard::start(&home, &flags);
        wizard.sees(question);
        let pid = wizard.session.get_process().pid().as_raw();
        // Its end of the terminal goes with it.
        drop(wizard);
        let end = rtcctl::sys::clock::now().mono + Duration::from_secs(20);
        let is_alive = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        while is_alive() {
            assert!(rtcctl::sys::clock::now().mono < end, "at {question}: it is still there");
            std::thread::yield_now();
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "at {question}");
    }
}

#[test]
fn a_terminal_that_can_do_nothing_asks_all_the_same() {
    let (_dir, home, turn_port) = scene();
    let web_port = free_port().to_string();
    #[expect(clippy::disallowed_methods, reason = "the pseudo-terminal starts the program itself")]
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rtcctl"));
    command.arg("--home").arg(&home).args(["init", "--http-port", "off", "--turn-port", &turn_port]);
    command.args(["--web-port", &web_port]).env("TERM", "dumb").env_remove("RTCCTL_HOME");
    let mut wizard = Wizard::at_a_terminal(command);
    wizard.sees(REACH);
    wizard.types(ENTER);
    wizard.sees(HOST);
    wizard.types(ENTER);
    wizard.sees(CONFIRM);
    wizard.types("y");
    let (shown, code) = wizard.ends();
    assert!(code == 0 && shown.contains("11 changes made"), "{shown}");
}
