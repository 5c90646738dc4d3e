//! `rtcctl undo` and `uninstall`: the host as it was, to the byte and the mode; whatever is killed, full or read-only.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

#[path = "common/ports.rs"]
mod ports;
#[path = "common/tree.rs"]
mod tree;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin_cmd;
use nix::fcntl::{Flock, FlockArg};
use ports::free_port;
use tree::{Tree, tree};

/// No run of one command passes as many dangerous moments.
const MOMENTS: usize = 400;

/// A folder with a neighbour's file in it, in which a home is set up.
struct Scene {
    dir: tempfile::TempDir,
    home: PathBuf,
    web_port: String,
    turn_port: String,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("neighbour"), "not ours", 0o640);
        // Folders above the home are missing, too.
        let home = dir.path().join("a/home");
        Self { home, dir, web_port: free_port().to_string(), turn_port: free_port().to_string() }
    }

    fn rtcctl(&self, args: &[&str]) -> Command {
        let mut command = cargo_bin_cmd!("rtcctl");
        command.arg("--home").arg(&self.home).args(args).env_remove("RTCCTL_HOME");
        // No store of whoever runs the tests is looked at.
        command.env("HOME", self.dir.path());
        command
    }

    fn init(&self, flags: &[&str]) -> Command {
        let mut command =
            self.rtcctl(&["init", "--yes", "--reach", "lan", "--host", "a.example", "--http-port", "off"]);
        command.args(["--web-port", &self.web_port, "--turn-port", &self.turn_port]).args(flags);
        command
    }

    fn tree(&self) -> Tree {
        tree(self.dir.path())
    }

    /// The folder as it was when `before` was taken.
    fn reset(&self, before: &Tree) {
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        }
        before.put_into(self.dir.path());
        assert_eq!(self.tree(), *before);
    }
}

/// Standard output, standard error and the exit code.
fn told(command: &mut Command) -> (String, String, i32) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap())
}

fn succeeds(command: &mut Command) -> String {
    let (out, err, code) = told(command);
    assert_eq!(code, 0, "{out}\n{err}");
    out + &err
}

/// Runs the command, killed at its `moment`-th dangerous moment. `false`: it has fewer of them, and has succeeded.
fn killed_at(moment: usize, command: &mut Command) -> bool {
    let Output { status, stderr, .. } = command.env("RTCCTL_FAULT", format!("setup:{moment}")).output().unwrap();
    if status.signal() == Some(9) {
        return true;
    }
    assert!(status.success(), "at {moment}: {}", String::from_utf8_lossy(&stderr));
    false
}

/// Has `command` killed at each of its moments, each time from `before`, and looks at what `check` makes of it.
fn at_every_moment(scene: &Scene, before: &Tree, command: impl Fn() -> Command, check: impl Fn(usize)) -> usize {
    for moment in 0..MOMENTS {
        scene.reset(before);
        if !killed_at(moment, &mut command()) {
            return moment;
        }
        check(moment);
    }
    panic!("there is no end of moments");
}

fn write(path: &Path, text: &str, mode: u32) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn undo_leaves_nothing_of_an_init_and_then_says_there_is_nothing_to_undo() {
    let scene = Scene::new();
    let before = scene.tree();
    succeeds(&mut scene.init(&[]));
    let set_up = scene.tree();
    let dry = succeeds(&mut scene.rtcctl(&["undo", "--dry-run"]));
    assert_eq!(scene.tree(), set_up, "a dry run changes nothing");
    let told = succeeds(&mut scene.rtcctl(&["undo"]));
    assert_eq!(scene.tree(), before);
    let deeds = |text: &str| {
        let mut deeds: Vec<String> = text.lines().filter(|line| line.starts_with("  re")).map(str::to_owned).collect();
        deeds.sort();
        deeds
    };
    assert_eq!(deeds(&dry), deeds(&told));
    assert_eq!(deeds(&told).len(), 11, "{told}");
    for _ in 0..2 {
        assert!(succeeds(&mut scene.rtcctl(&["undo"])).contains("nothing to undo"));
        assert_eq!(scene.tree(), before);
    }
}

#[test]
fn an_init_that_is_killed_anywhere_is_taken_back_by_the_next_one_which_then_does_it_all() {
    let scene = Scene::new();
    let before = scene.tree();
    let moments = at_every_moment(
        &scene,
        &before,
        || scene.init(&[]),
        |moment| {
            succeeds(&mut scene.init(&[]));
            succeeds(&mut scene.rtcctl(&["config", "check"]));
            assert!(succeeds(&mut scene.init(&[])).contains("0 changes"), "at {moment}");
            succeeds(&mut scene.rtcctl(&["undo"]));
            assert_eq!(scene.tree(), before, "at {moment}");
        },
    );
    assert!(moments >= 25, "{moments}");
    println!("killed at {moments} moments");
}

#[test]
fn an_init_that_is_killed_anywhere_is_undone() {
    let scene = Scene::new();
    let before = scene.tree();
    let moments = at_every_moment(
        &scene,
        &before,
        || scene.init(&[]),
        |moment| {
            succeeds(&mut scene.rtcctl(&["undo"]));
            assert_eq!(scene.tree(), before, "at {moment}");
        },
    );
    println!("killed at {moments} moments");
}

/// The operator's own file, his modes, and a leaf that has to be made anew.
#[test]
fn a_change_that_is_killed_anywhere_leaves_the_home_as_it_was() {
    let scene = Scene::new();
    succeeds(&mut scene.init(&[]));
    let config = scene.home.join("config.yaml");
    write(&config, &(std::fs::read_to_string(&config).unwrap() + "# mine\n"), 0o640);
    write(&scene.home.join("certs/leaf.pem"), "junk", 0o604);
    let before = scene.tree();
    let change = || scene.init(&["--relay-ports", "50000-50999"]);
    let moments = at_every_moment(&scene, &before, change, |moment| {
        // The journal itself has grown; what it is about has not changed.
        succeeds(&mut scene.rtcctl(&["undo"]));
        assert_eq!(scene.tree().without("a/home/state/setup"), before.without("a/home/state/setup"), "at {moment}");
    });
    assert!(moments > 8, "{moments}");
    assert!(std::fs::read_to_string(&config).unwrap().contains("50000-50999"));
    succeeds(&mut scene.rtcctl(&["undo"]));
    assert_eq!(scene.tree().without("a/home/state/setup"), before.without("a/home/state/setup"));
}

#[test]
fn an_undo_that_is_killed_anywhere_is_brought_to_its_end_by_the_next_one() {
    let scene = Scene::new();
    let before = scene.tree();
    succeeds(&mut scene.init(&[]));
    let set_up = scene.tree();
    let moments = at_every_moment(
        &scene,
        &set_up,
        || scene.rtcctl(&["undo"]),
        |moment| {
            succeeds(&mut scene.rtcctl(&["undo"]));
            assert_eq!(scene.tree(), before, "at {moment}");
        },
    );
    assert!(moments > 15, "{moments}");
    let moments = at_every_moment(
        &scene,
        &set_up,
        || scene.rtcctl(&["uninstall"]),
        |moment| {
            // Half undone is no home to stay with, but a new init makes one of it.
            if moment % 2 == 0 {
                succeeds(&mut scene.init(&[]));
            }
            succeeds(&mut scene.rtcctl(&["uninstall"]));
            assert_eq!(scene.tree(), before, "at {moment}");
        },
    );
    assert!(moments > 15, "{moments}");
}

#[test]
fn each_undo_takes_one_init_back() {
    let scene = Scene::new();
    let before = scene.tree();
    succeeds(&mut scene.init(&[]));
    let first = scene.tree().without("a/home/state/setup");
    succeeds(&mut scene.init(&["--relay-ports", "50000-50999"]));
    let told = succeeds(&mut scene.rtcctl(&["undo"]));
    assert!(told.contains("restore") && told.contains("--relay-ports 50000-50999"), "{told}");
    assert_eq!(scene.tree().without("a/home/state/setup"), first);
    succeeds(&mut scene.rtcctl(&["undo"]));
    assert_eq!(scene.tree(), before);
}

#[test]
fn what_the_operator_changed_since_stays_and_is_named() {
    let scene = Scene::new();
    let before = scene.tree();
    succeeds(&mut scene.init(&[]));
    let config = scene.home.join("config.yaml");
    let edited = std::fs::read_to_string(&config).unwrap() + "# mine\n";
    write(&config, &edited, 0o644);
    let output = scene.rtcctl(&["undo", "--json"]).output().unwrap();
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    let left: Vec<&str> =
        document["left"].as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect();
    assert!(left.contains(&config.to_str().unwrap()), "{document}");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), edited);
    assert!(!scene.home.join("secrets.yaml").exists() && !scene.home.join("certs").exists());
    let again = succeeds(&mut scene.rtcctl(&["undo"]));
    assert!(again.contains("nothing to undo") && again.contains("config.yaml"), "{again}");
    // What is not rtcctl's stays whatever is asked for.
    write(&scene.home.join("notes.txt"), "mine", 0o644);
    let told = succeeds(&mut scene.rtcctl(&["uninstall", "--purge"]));
    assert!(told.contains("notes.txt  (it is not of rtcctl)"), "{told}");
    assert!(!config.exists() && !scene.home.join("state").exists());
    std::fs::remove_dir_all(scene.dir.path().join("a")).unwrap();
    assert_eq!(scene.tree(), before);
}

#[test]
fn purge_puts_back_what_was_there_before_the_first_init() {
    let scene = Scene::new();
    std::fs::create_dir_all(&scene.home).unwrap();
    let own = format!(
        "hosts: [b.example]\nweb: {{port: {}, http_port: off}}\nturn: {{port: {}}}\n",
        free_port(),
        free_port()
    );
    write(&scene.home.join("config.yaml"), &own, 0o604);
    let before = scene.tree();
    succeeds(&mut scene.init(&[]));
    write(&scene.home.join("config.yaml"), "edited: since\n", 0o644);
    succeeds(&mut scene.rtcctl(&["uninstall", "--purge"]));
    assert_eq!(scene.tree(), before);
    assert!(succeeds(&mut scene.rtcctl(&["uninstall", "--dry-run"])).contains("config.yaml"));
}

#[test]
fn a_running_service_is_stopped_first_and_uninstall_takes_what_it_wrote() {
    let scene = Scene::new();
    let before = scene.tree();
    succeeds(&mut scene.init(&[]));
    succeeds(&mut scene.rtcctl(&["start"]));
    let kept = succeeds(&mut scene.rtcctl(&["uninstall", "--keep-data"]));
    assert!(kept.contains("kept"), "{kept}");
    assert_eq!(told(&mut scene.rtcctl(&["status"])).2, 3);
    succeeds(&mut scene.rtcctl(&["start"]));
    let told_all = succeeds(&mut scene.rtcctl(&["undo"]));
    for left in ["rtcctl.log", "events.jsonl"] {
        assert!(told_all.contains(&format!("{left}  (the service wrote it)")), "{told_all}");
    }
    assert_eq!(told(&mut scene.rtcctl(&["status"])).2, 3);
    assert!(scene.home.join("log/rtcctl.log").exists());
    succeeds(&mut scene.rtcctl(&["uninstall"]));
    assert_eq!(scene.tree(), before);
}

#[test]
fn two_at_once_do_not_meet() {
    let scene = Scene::new();
    succeeds(&mut scene.init(&[]));
    let folder = std::fs::File::open(scene.home.join("state/setup")).unwrap();
    let held = Flock::lock(folder, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error).unwrap();
    for args in [&["init", "--yes", "--peers", "public"][..], &["undo"], &["uninstall"], &["uninstall", "--purge"]] {
        let set_up = scene.tree();
        let (_, err, code) = told(&mut scene.rtcctl(args));
        assert_eq!(code, 14, "{args:?}: {err}");
        assert_eq!(scene.tree(), set_up);
    }
    drop(held);
    succeeds(&mut scene.rtcctl(&["undo"]));
    // From nothing, where there is no folder to hold yet: one of them wins, and all is whole.
    for round in 0..10 {
        let runs: Vec<_> = (0..3)
            .map(|_| {
                std::thread::spawn({
                    let mut init = scene.init(&[]);
                    move || init.output().unwrap().status.code()
                })
            })
            .collect();
        let codes: Vec<_> = runs.into_iter().map(|run| run.join().unwrap()).collect();
        assert!(codes.contains(&Some(0)), "in round {round}: {codes:?}");
        assert!(codes.iter().all(|code| matches!(code, Some(0 | 1 | 14))), "in round {round}: {codes:?}");
        assert!(succeeds(&mut scene.init(&[])).contains("0 changes"));
        succeeds(&mut scene.rtcctl(&["undo"]));
        assert_eq!(std::fs::read_dir(scene.dir.path()).unwrap().count(), 1, "in round {round}");
    }
}

/// On a disk of its own, in a mount namespace of its own.
fn on_a_small_disk(scene: &Scene, kilobytes: usize, script: &str) -> Option<(String, i32)> {
    let at = scene.dir.path().join("a");
    std::fs::create_dir_all(&at).unwrap();
    #[expect(clippy::disallowed_methods, reason = "tests start programs")]
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c"])
        .arg(format!("mount -t tmpfs -o size={kilobytes}k,nr_inodes=64 none \"$AT\" && cd \"$AT\" && {script}"))
        .env("AT", &at)
        .env("RTCCTL", env!("CARGO_BIN_EXE_rtcctl"))
        .env(
            "FLAGS",
            format!(
                "--reach lan --host a.example --http-port off --web-port {} --turn-port {}",
                scene.web_port, scene.turn_port
            ),
        )
        .output();
    let output = match output {
        Ok(output) if !String::from_utf8_lossy(&output.stderr).contains("not permitted") => output,
        Ok(_) | Err(_) => return None,
    };
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Some((text, output.status.code().unwrap()))
}

#[test]
fn a_disk_that_fills_up_at_any_step_is_left_as_it_was() {
    let scene = Scene::new();
    let script = "\"$RTCCTL\" --home home init --yes $FLAGS; code=$?; \
                  if [ $code != 0 ]; then ls -A; exit $code; fi; \
                  \"$RTCCTL\" --home home undo --json && ls -A && exit 100";
    let mut codes = Vec::new();
    for pages in 1..40 {
        let Some((text, code)) = on_a_small_disk(&scene, pages * 4, script) else {
            println!("skipped: this user may mount nothing");
            return;
        };
        codes.push(code);
        if code == 100 {
            break;
        }
        assert_eq!(code, 16, "with {pages} pages: {text}");
        let after = text.lines().next_back().unwrap_or_default();
        assert!(
            !text.lines().any(|line| matches!(line, "home" | ".home.rtcctl-draft")),
            "with {pages} pages: {after}: {text}"
        );
        assert!(text.contains("No space left"), "with {pages} pages: {text}");
    }
    assert!(codes.contains(&16) && codes.last() == Some(&100), "{codes:?}");
}

#[test]
fn a_disk_that_became_read_only_keeps_all_and_undo_goes_on_when_it_can_be_written() {
    let scene = Scene::new();
    let script = "\"$RTCCTL\" --home ro init --yes $FLAGS >/dev/null 2>&1 && mount -o remount,ro \"$AT\" && \
                  \"$RTCCTL\" --home ro undo; echo undo=$?; \
                  \"$RTCCTL\" --home other init --yes $FLAGS; echo init=$?; ls -A; \
                  mount -o remount,rw \"$AT\" && \"$RTCCTL\" --home ro undo && ls -A && echo end";
    let Some((text, code)) = on_a_small_disk(&scene, 512, script) else {
        println!("skipped: this user may mount nothing");
        return;
    };
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("undo=1\n") && text.contains("init=1\n"), "{text}");
    assert!(text.contains("Read-only file system") && text.contains("cannot write to the folder"), "{text}");
    assert!(text.contains("changes made\nend\n"), "{text}");
}

#[test]
fn who_may_not_write_is_told_and_nothing_changes() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root can be somebody else");
        return;
    }
    let scene = Scene::new();
    std::fs::set_permissions(scene.dir.path(), Permissions::from_mode(0o755)).unwrap();
    succeeds(&mut scene.init(&[]));
    for (path, mode) in [("a", 0o755), ("a/home", 0o755), ("a/home/state", 0o755), ("a/home/state/setup", 0o755)] {
        std::fs::set_permissions(scene.dir.path().join(path), Permissions::from_mode(mode)).unwrap();
    }
    let before = scene.tree();
    for (args, words) in [
        ("--home a/home init --yes --peers public", "denied"),
        ("--home a/home undo", "denied"),
        ("--home a/home uninstall --purge", "denied"),
        ("--home b init --yes --reach lan", "cannot write to the folder"),
    ] {
        let (_, err, code) = told(
            Command::new("setpriv")
                .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", env!("CARGO_BIN_EXE_rtcctl")])
                .args(args.split(' '))
                .env("HOME", "/nonexistent")
                .current_dir(scene.dir.path()),
        );
        if err.contains("failed to execute") {
            println!("skipped: somebody else may not run this program");
            return;
        }
        assert_eq!(code, 1, "{args}: {err}");
        assert!(err.to_lowercase().contains(words), "{args}: {err}");
        assert_eq!(scene.tree(), before, "{args}");
    }
}

#[test]
fn answers_that_cannot_be_kept_are_told_before_anything_is_done() {
    let scene = Scene::new();
    let before = scene.tree();
    let file = scene.dir.path().join("nowhere/answers.yaml");
    let (_, err, code) = told(&mut scene.init(&["--save-answers", file.to_str().unwrap()]));
    assert_eq!(code, 1);
    assert!(err.contains("--save-answers"), "{err}");
    assert_eq!(scene.tree(), before);
}

#[test]
fn saved_answers_lead_to_the_same_home() {
    let scene = Scene::new();
    let file = scene.dir.path().join("answers.yaml");
    let saved = succeeds(&mut scene.init(&["--save-answers", file.to_str().unwrap(), "--relay-ports", "50000-50999"]));
    assert!(saved.contains("answers.yaml  (these answers, for `--answers`)"), "{saved}");
    let config = std::fs::read_to_string(scene.home.join("config.yaml")).unwrap();
    assert!(succeeds(&mut scene.init(&["--save-answers", file.to_str().unwrap()])).contains("0 changes"));
    succeeds(&mut scene.rtcctl(&["uninstall"]));
    assert!(!file.exists(), "it was a step like any other");
    let answers = saved.split("(`--save-answers FILE` keeps it):\n").nth(1).unwrap().split("\n\n").next().unwrap();
    write(&file, answers, 0o644);
    succeeds(scene.rtcctl(&["init", "--yes", "--answers"]).arg(&file));
    assert_eq!(std::fs::read_to_string(scene.home.join("config.yaml")).unwrap(), config);
}
