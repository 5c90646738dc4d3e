//! `rtcctl init --trust`: this host's stores trust the local CA as a step like any other. It is shown, done, proved, and
//! taken back, wherever the run is killed. Everything is in a mount namespace: this machine's own list stays as it is.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start programs")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{has_program, skip};
use serde_json::Value;

/// More than any run has.
const MOMENTS: usize = 200;

/// Folders of its own in the place of those that a store changes, and three authorities: with all of them the tool of the
/// system takes seconds.
const ENTER: &str = "grep -v '^[#!]' /etc/ca-certificates.conf | head -n 3 >\"$1/conf\" && \
                     mount --bind \"$1/conf\" /etc/ca-certificates.conf && mount --bind \"$1/certs\" /etc/ssl/certs && mount --bind \"$1/local\" /usr/local/share/ca-certificates && \
                     shift && exec \"$@\"";

struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    /// A host with a system store and a browser that has been used, if `with_browser`.
    fn new(with_browser: bool) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            skip("a mount namespace of its own needs root");
            return None;
        }
        if !["unshare", "certutil", "update-ca-certificates"].into_iter().all(has_program) {
            return None;
        }
        let scene = Self { dir: tempfile::tempdir().unwrap() };
        for folder in ["certs", "local", "user"] {
            std::fs::create_dir(scene.dir.path().join(folder)).unwrap();
        }
        if with_browser {
            std::fs::create_dir_all(scene.database()).unwrap();
            scene.certutil(&["-N", "--empty-password"]);
        }
        scene.run(&["update-ca-certificates", "--fresh"], &[]);
        Some(scene)
    }

    fn database(&self) -> PathBuf {
        self.dir.path().join("user/.pki/nssdb")
    }

    fn certutil(&self, args: &[&str]) -> String {
        let output =
            Command::new("certutil").args(args).arg("-d").arg(format!("sql:{}", self.database().display())).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("fresh/home")
    }

    fn run(&self, words: &[&str], variables: &[(&str, &str)]) -> Output {
        Command::new("unshare")
            .args(["--mount", "sh", "-ec", ENTER, "sh"])
            .arg(self.dir.path())
            .args(words)
            .env("HOME", self.dir.path().join("user"))
            .envs(variables.iter().copied())
            .env_remove("RTCCTL_HOME")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn rtcctl(&self, args: &[&str], variables: &[(&str, &str)]) -> Output {
        let home = self.home().display().to_string();
        self.run(&[&[env!("CARGO_BIN_EXE_rtcctl"), "--home", &home], args].concat(), variables)
    }

    #[track_caller]
    fn succeeds(&self, args: &[&str]) -> String {
        let output = self.rtcctl(args, &[]);
        let told = told(&output);
        assert!(output.status.success(), "{args:?}: {told}");
        told
    }

    /// Names, targets and bytes of all that a store consists of.
    fn system(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        for folder in ["certs", "local"] {
            for entry in std::fs::read_dir(self.dir.path().join(folder)).unwrap() {
                let path = entry.unwrap().path();
                let bytes = match std::fs::read_link(&path) {
                    Ok(target) => target.into_os_string().into_encoded_bytes(),
                    Err(_) => std::fs::read(&path).unwrap(),
                };
                found.push((path, bytes));
            }
        }
        found.sort();
        found
    }

    #[track_caller]
    fn system_is(&self, before: &[(PathBuf, Vec<u8>)], when: &str) {
        let now = self.system();
        let names = |one: &[(PathBuf, Vec<u8>)], other: &[(PathBuf, Vec<u8>)]| {
            one.iter().filter(|entry| !other.contains(entry)).map(|(path, _)| path.clone()).collect::<Vec<_>>()
        };
        assert!(now == before, "{when}: came {:?}, went {:?}", names(&now, before), names(before, &now));
    }

    /// What the system's programs trust.
    fn bundle(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("certs/ca-certificates.crt")).unwrap()
    }

    fn browser_knows(&self) -> bool {
        self.certutil(&["-L"]).contains("rtcctl-")
    }
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn init() -> Vec<&'static str> {
    let ports = ["--web-port", "18443", "--http-port", "off", "--turn-port", "13478", "--relay-ports", "50000-50099"];
    [&["init", "--yes", "--reach", "lan", "--host", "127.0.0.1", "--boot", "none", "--trust"][..], &ports].concat()
}

fn pem(home: &Path) -> String {
    std::fs::read_to_string(home.join("certs/ca.pem")).unwrap()
}

#[test]
fn the_stores_of_this_host_trust_it_after_init_and_are_as_they_were_after_undo() {
    let Some(scene) = Scene::new(true) else { return };
    let before = scene.system();
    let planned = scene.succeeds(&[&init()[..], &["--dry-run"]].concat());
    scene.system_is(&before, "dry run");
    let commands: Vec<&str> = planned.lines().map(str::trim).filter(|line| line.contains("rtcctl-")).collect();
    assert!(commands.iter().any(|line| line.starts_with("install -m 0644 ")), "{planned}");
    assert!(commands.iter().any(|line| line.starts_with("certutil -A -d sql:")), "{planned}");
    assert!(planned.contains("\n  update-ca-certificates\n"), "{planned}");

    let done = scene.succeeds(&init());
    assert!(commands.iter().all(|line| done.contains(line)) && done.contains("--trust yes"), "{done}");
    assert!(scene.bundle().contains(pem(&scene.home()).trim()) && scene.browser_knows(), "{done}");
    assert!(scene.succeeds(&init()).contains("0 changes"));

    // Another authority in the place of the first one takes its place in the stores, too.
    let first = pem(&scene.home());
    std::fs::remove_dir_all(scene.home().join("certs")).unwrap();
    scene.succeeds(&init());
    let bundle = scene.bundle();
    assert!(bundle.contains(pem(&scene.home()).trim()) && !bundle.contains(first.trim()));
    scene.succeeds(&["undo"]);
    assert!(scene.bundle().contains(first.trim()) && scene.browser_knows(), "the one before is back");

    let dry = scene.succeeds(&["undo", "--dry-run", "--json"]);
    let dry: Value = serde_json::from_str(&dry).unwrap();
    let trusts = dry["done"].as_array().unwrap().iter().filter(|deed| deed["object"] == "trust").count();
    assert_eq!(trusts, 2, "{dry:#}");
    scene.succeeds(&["uninstall"]);
    scene.system_is(&before, "uninstall");
    assert!(!scene.browser_knows() && scene.database().join("cert9.db").exists());
}

/// Kills an init and an uninstall at these moments each, and takes back what they left.
fn survives_kills(scene: &Scene, moments: impl Iterator<Item = usize>, of_uninstall: std::ops::Range<usize>) -> usize {
    let before = scene.system();
    let is_as_before = |at: &str| {
        scene.system_is(&before, at);
        assert!(!scene.dir.path().join("user/.pki").exists(), "{at}: the browser's store");
        assert!(!scene.dir.path().join("fresh").exists(), "{at}: the home");
    };
    let is_killed = |args: &[&str], moment: usize| {
        let output = scene.rtcctl(args, &[("RTCCTL_FAULT", &format!("setup:{moment}"))]);
        let is_killed = std::os::unix::process::ExitStatusExt::signal(&output.status) == Some(9);
        assert!(is_killed || output.status.success(), "at {moment}: {}", told(&output));
        is_killed
    };
    let mut killed = 0;
    for moment in moments {
        let goes_on = is_killed(&init(), moment);
        if goes_on && moment % 8 == 6 {
            scene.succeeds(&init());
            assert!(scene.bundle().contains(pem(&scene.home()).trim()));
        }
        scene.succeeds(&["undo"]);
        is_as_before(&format!("init at {moment}"));
        if !goes_on {
            break;
        }
        killed += 1;
    }
    for moment in of_uninstall {
        scene.succeeds(&init());
        assert!(is_killed(&["uninstall"], moment));
        scene.succeeds(&["uninstall"]);
        is_as_before(&format!("uninstall at {moment}"));
    }
    killed
}

#[test]
fn killed_between_two_stores_none_is_left_with_an_authority_that_is_gone() {
    let Some(scene) = Scene::new(false) else { return };
    // After the system's store was changed, and while the browser's is.
    assert_eq!(survives_kills(&scene, [30].into_iter(), 1..2), 1);
}

#[test]
#[ignore = "it takes a minute"]
fn wherever_it_is_killed_no_store_is_left_with_an_authority_that_is_gone() {
    let Some(scene) = Scene::new(false) else { return };
    assert!(survives_kills(&scene, 0..MOMENTS, 0..8) > 30);
}

#[test]
fn what_cannot_be_trusted_is_said_before_anything_is_changed() {
    let Some(scene) = Scene::new(true) else { return };
    let before = scene.system();
    let output = scene.rtcctl(&[&init()[..], &["--cert", "acme"]].concat(), &[]);
    assert!(!output.status.success() && told(&output).contains("explain trust-impossible"), "{}", told(&output));
    let output = scene.rtcctl(&[&init()[..8], &["--trust", "maybe"]].concat(), &[]);
    assert!(output.status.code() == Some(2) && told(&output).contains("must be yes or no"), "{}", told(&output));
    // A store that fails takes everything back.
    let failing =
        "printf '#!/bin/sh\\nexit 3\\n' >\"$0/update-ca-certificates\" && chmod +x \"$0/update-ca-certificates\"";
    let bin = scene.dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    assert!(Command::new("sh").args(["-c", failing]).arg(&bin).status().unwrap().success());
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let output = scene.rtcctl(&init(), &[("PATH", &path)]);
    assert!(told(&output).contains("`update-ca-certificates` failed"), "{}", told(&output));
    assert_eq!(scene.rtcctl(&["undo"], &[]).status.code(), Some(0));
    scene.system_is(&before, "a failure");
    assert!(!scene.browser_knows() && !scene.home().exists(), "{}", told(&output));
}
