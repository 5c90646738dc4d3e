//! `rtcctl init` without a terminal: `--yes`, `--dry-run`, refusals, files and their modes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

#[path = "common/ports.rs"]
mod ports;

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin_cmd;
use ports::free_port;

/// A home that does not exist yet, with ports that are free.
struct Scene {
    dir: tempfile::TempDir,
    home: PathBuf,
    web_port: String,
    turn_port: String,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        Self { home, dir, web_port: free_port().to_string(), turn_port: free_port().to_string() }
    }

    fn rtcctl(&self, args: &[&str]) -> Command {
        let mut command = cargo_bin_cmd!("rtcctl");
        command.arg("--home").arg(&self.home).args(args).env_remove("RTCCTL_HOME");
        command
    }

    /// `init` with free ports and these flags besides.
    fn init(&self, flags: &[&str]) -> Command {
        let mut command = self.rtcctl(&["init", "--http-port", "off"]);
        command.args(["--web-port", &self.web_port, "--turn-port", &self.turn_port]).args(flags);
        command
    }

    fn mode(&self, name: &str) -> u32 {
        self.home.join(name).metadata().unwrap().permissions().mode() & 0o777
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.home.join(name)).unwrap()
    }
}

/// Standard output, standard error and the exit code.
fn told(command: &mut Command) -> (String, String, i32) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap())
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().next().is_none()
}

#[test]
fn yes_sets_a_home_up_with_private_files_and_a_second_run_changes_nothing() {
    let scene = Scene::new();
    let (out, err, code) = told(&mut scene.init(&["--yes", "--reach", "lan", "--host", "call.example"]));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("11 changes made"), "{out}");
    assert!(out.contains(&format!("https://call.example:{}/", scene.web_port)), "{out}");
    for (name, mode) in [
        ("", 0o700),
        ("certs", 0o700),
        ("state", 0o700),
        ("log", 0o700),
        ("config.yaml", 0o644),
        ("secrets.yaml", 0o600),
        ("certs/ca.pem", 0o644),
        ("certs/ca.key", 0o600),
        ("certs/leaf.pem", 0o644),
        ("certs/leaf.key", 0o600),
    ] {
        assert_eq!(scene.mode(name), mode, "{name}");
    }
    let files = ["config.yaml", "secrets.yaml", "certs/ca.key", "certs/leaf.pem"];
    let before = files.map(|name| scene.read(name));
    let secret = before[1].lines().find_map(|line| line.trim().strip_prefix("- ")).unwrap().trim_matches('\'');
    assert_eq!(secret.len(), 64);
    assert!(!out.contains(secret) && !err.contains(secret));

    let (out, err, code) = told(&mut scene.rtcctl(&["init", "--yes"]));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("0 changes"), "{out}");
    assert_eq!(files.map(|name| scene.read(name)), before);
    let (_, err, code) = told(&mut scene.rtcctl(&["config", "check"]));
    assert_eq!(code, 0, "{err}");
}

#[test]
fn a_dry_run_shows_the_same_plan_and_writes_nothing() {
    let scene = Scene::new();
    let flags = ["--yes", "--reach", "lan", "--host", "call.example"];
    let (dry, err, code) = told(&mut scene.init(&[&flags[..], &["--dry-run"]].concat()));
    assert_eq!(code, 0, "{err}");
    assert!(is_empty(scene.dir.path()));
    assert!(dry.contains("peers        lan                      default       callers on a LAN have private"), "{dry}");
    let (wet, _, _) = told(&mut scene.init(&flags));
    assert!(wet.starts_with(dry.trim_end()), "--- dry\n{dry}\n--- applied\n{wet}");
}

#[test]
fn without_a_terminal_the_missing_flags_are_named() {
    let scene = Scene::new();
    let (_, err, code) = told(&mut scene.rtcctl(&["init", "--reach", "lan"]));
    assert_eq!(code, 13);
    assert!(err.contains("answers are missing: `--host`, `--web-port`"), "{err}");
    let (_, err, code) = told(&mut scene.init(&["--reach", "lan", "--host", "a.example"]));
    assert_eq!(code, 13);
    assert!(err.contains("`--yes` is missing"), "{err}");
    let (_, err, code) =
        told(scene.init(&["--yes", "--reach", "domain"]).env("RTCCTL_HOST", "").env("RTCCTL_OFFLINE", "1"));
    // A machine with a full name of its own detects it.
    assert!(code == 13 && err.contains("`--host`") || code == 0, "{code}: {err}");
}

#[test]
fn flags_win_over_variables_and_these_over_the_answers_file() {
    let scene = Scene::new();
    let answers = scene.dir.path().join("answers.yaml");
    std::fs::copy(
        data(
            "answers.yaml",
            "reach: lan\nhost: [file.example]\nweb_port: 1\nhttp_port: off\nrelay_ports: 50000-50999\n",
        )
        .path(),
        &answers,
    )
    .unwrap();
    let mut command = scene.rtcctl(&["init", "--yes", "--web-port", &scene.web_port, "--turn-port", &scene.turn_port]);
    command.arg("--answers").arg(&answers).env("RTCCTL_HOST", "one.example,two.example").env("RTCCTL_WEB_PORT", "2");
    let (out, err, code) = told(&mut command);
    assert_eq!(code, 0, "{err}");
    for line in [
        "one.example, two.example environment",
        "off                      answers file",
        "50000-50999              answers file",
        &format!("{:<24} flag", scene.web_port),
    ] {
        assert!(out.contains(line), "`{line}` in {out}");
    }
    let bad = data("bad.yaml", "hsot: x\nreach: {a: b}\n");
    let (_, err, code) = told(scene.rtcctl(&["init", "--yes"]).arg("--answers").arg(bad.path()));
    assert_eq!(code, 2);
    assert!(err.contains("hsot: unknown key") && err.contains("reach: must be a value"), "{err}");
}

#[test]
fn words_that_mean_nothing_are_refused_all_at_once() {
    let scene = Scene::new();
    let flags = ["--yes", "--firewall", "melt", "--boot", "sometimes"];
    let (_, err, code) = told(&mut scene.init(&flags));
    assert_eq!(code, 2);
    for refused in ["--firewall melt: must be apply, show or skip", "--boot sometimes: must be service or none"] {
        assert!(err.contains(refused), "{err}");
    }
    assert!(is_empty(scene.dir.path()));
}

#[test]
fn a_home_of_its_own_cannot_be_a_service_that_starts_with_the_machine() {
    let scene = Scene::new();
    let (_, err, code) = told(&mut scene.init(&["--yes", "--boot", "service"]));
    assert_eq!(code, 1);
    assert!(err.contains("has the system's home, not one of its own") && err.contains("--boot none"), "{err}");
    assert!(is_empty(scene.dir.path()));
}

#[test]
fn a_taken_port_is_an_objection_that_names_the_holder_and_the_flag() {
    let scene = Scene::new();
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let flags = ["init", "--yes", "--reach", "lan", "--host", "a.example", "--http-port", "off", "--web-port", &port];
    let (_, err, code) = told(scene.rtcctl(&flags).args(["--turn-port", &scene.turn_port]));
    assert_eq!(code, 1, "{err}");
    assert!(err.contains(&format!("port {port}/tcp")), "{err}");
    assert!(err.contains(&format!("(pid {})", std::process::id())), "{err}");
    assert!(err.contains("--web-port"), "{err}");
    assert!(is_empty(scene.dir.path()));
}

#[test]
fn ports_that_clash_are_told_with_their_flag() {
    let scene = Scene::new();
    let (_, err, code) = told(&mut scene.init(&["--yes", "--host", "a.example", "--relay-ports", "1024-65535"]));
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("turn.relay_ports") && err.contains("--relay-ports"), "{err}");
}

#[test]
fn a_home_that_cannot_be_written_is_told_before_anything_is_done() {
    let scene = Scene::new();
    let file = data("file", "");
    let home = file.path().join("home");
    let mut command = cargo_bin_cmd!("rtcctl");
    command.arg("--home").arg(&home).args(["init", "--yes", "--host", "a.example", "--http-port", "off"]);
    command.args(["--web-port", &scene.web_port, "--turn-port", &scene.turn_port]);
    let (_, err, code) = told(&mut command);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("cannot write to the folder") && err.contains("it is not a folder"), "{err}");
}

#[test]
fn a_folder_of_someone_else_is_told_before_anything_is_done() {
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        println!("skipped: root writes everywhere");
        return;
    }
    let scene = Scene::new();
    std::fs::set_permissions(scene.dir.path(), Permissions::from_mode(0o500)).unwrap();
    let (_, err, code) = told(&mut scene.init(&["--yes", "--host", "a.example"]));
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("cannot write to the folder") && err.contains("permission denied"), "{err}");
}

#[test]
fn a_hand_edited_configuration_is_kept_and_changes_are_shown() {
    let scene = Scene::new();
    let flags = ["--yes", "--reach", "lan", "--host", "a.example"];
    assert_eq!(told(&mut scene.init(&flags)).2, 0);
    let edited = scene
        .read("config.yaml")
        .replace("#user_quota: 32", "user_quota: 3   # few")
        .replace("hosts: [\"a.example\"]", "hosts:\n  - a.example # ours\n");
    let file = data("config.yaml", &edited);
    std::fs::copy(file.path(), scene.home.join("config.yaml")).unwrap();

    let (out, err, code) = told(&mut scene.rtcctl(&["init", "--yes"]));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("0 changes"), "{out}");
    assert_eq!(scene.read("config.yaml"), edited);

    let (out, err, code) = told(&mut scene.rtcctl(&["init", "--yes", "--peers", "public"]));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("-   peers: lan\n  +   peers: public\n"), "{out}");
    assert_eq!(scene.read("config.yaml"), edited.replace("peers: lan\n", "peers: public\n"));
}

#[test]
fn a_bad_configuration_is_never_replaced() {
    let scene = Scene::new();
    assert_eq!(told(&mut scene.init(&["--yes", "--host", "a.example"])).2, 0);
    let file = data("config.yaml", "hosts: [a.example]\nweb: {port: 0}\n");
    std::fs::copy(file.path(), scene.home.join("config.yaml")).unwrap();
    let (_, err, code) = told(&mut scene.rtcctl(&["init", "--yes"]));
    assert_eq!(code, 78, "{err}");
    assert_eq!(scene.read("config.yaml"), "hosts: [a.example]\nweb: {port: 0}\n");
}

#[test]
fn a_damaged_leaf_is_made_anew_by_a_second_run_and_said() {
    let scene = Scene::new();
    assert_eq!(told(&mut scene.init(&["--yes", "--host", "a.example"])).2, 0);
    let ca = scene.read("certs/ca.pem");
    let junk = data("leaf.pem", "junk");
    std::fs::copy(junk.path(), scene.home.join("certs/leaf.pem")).unwrap();
    let (out, err, code) = told(&mut scene.rtcctl(&["init", "--yes"]));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("2 changes made"), "{out}");
    assert_eq!(scene.read("certs/ca.pem"), ca);
    let (out, err, code) = told(&mut scene.rtcctl(&["cert", "show", "--json"]));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("\"a.example\""), "{out}");
}

#[test]
fn the_plan_as_json_tells_what_was_done() {
    let scene = Scene::new();
    let (out, err, code) = told(&mut scene.init(&["--json", "--yes", "--reach", "lan", "--host", "a.example"]));
    assert_eq!(code, 0, "{err}");
    let plan: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(plan["schema_version"], 1);
    assert_eq!(plan["applied"], true);
    assert_eq!(plan["changes"], 11);
    assert_eq!(plan["settings"]["reach"]["origin"], "flag");
    assert_eq!(plan["url"], format!("https://a.example:{}/", scene.web_port));
    // On a LAN whoever reaches the page may call; from the internet a link is needed, and things are left to do.
    assert!(plan["invite_url"].is_null() && plan["outside"] == serde_json::json!([]), "{plan}");
    let flags = ["--json", "--yes", "--offline", "--reach", "ip", "--host", "198.51.100.7", "--access", "key"];
    let (out, err, code) = told(&mut scene.init(&flags));
    assert_eq!(code, 0, "{err}");
    let plan: serde_json::Value = serde_json::from_str(&out).unwrap();
    let link = plan["invite_url"].as_str().unwrap();
    assert!(link.starts_with(plan["url"].as_str().unwrap()) && link.contains("#key="), "{link}");
    let outside = plan["outside"].as_array().unwrap();
    assert!(!outside.is_empty() && outside.iter().all(|one| one["what"].is_string() && one["hint"].is_string()));
}

#[test]
fn the_plan_and_what_is_in_its_way_are_told_in_chinese() {
    let scene = Scene::new();
    let flags = ["--yes", "--dry-run", "--reach", "lan", "--host", "a.example"];
    for ask in [("LANG", "zh_CN.UTF-8"), ("RTCCTL_LANG", "zh")] {
        let (out, _, code) = told(scene.init(&flags).env_remove("LC_ALL").env_remove("LC_MESSAGES").env(ask.0, ask.1));
        assert_eq!(code, 0);
        for words in ["设置", "自动检测", "新建", "呼叫者必须能访问的端口"] {
            assert!(out.contains(words) || words == "自动检测", "{words} in {out}");
        }
        assert!(!out.contains("Settings") && !out.contains("create"), "{out}");
    }
    let (_, err, code) = told(scene.init(&flags).args(["--lang", "zh", "--relay-ip", "198.51.100.7"]));
    assert_eq!(code, 1);
    assert!(err.contains("本机没有网卡使用中继地址 198.51.100.7"), "{err}");
    assert!(err.contains("`rtcctl explain relay-address-unknown`"), "{err}");
    let (out, _, code) = told(&mut scene.rtcctl(&["--lang", "zh", "explain", "relay-address-unknown"]));
    assert!(code == 0 && out.contains("本机没有网卡使用这个中继地址"), "{out}");
    let (out, _, _) = told(&mut scene.rtcctl(&["explain", "--json"]));
    let pages: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(pages["pages"].as_array().unwrap().len() > 40);
    let (_, err, code) = told(&mut scene.rtcctl(&["explain", "port-takn"]));
    assert!(code == 2 && err.contains("`rtcctl explain port-taken`"), "{err}");
}

/// A file with this text, in a folder of its own.
fn data(name: &str, text: &str) -> tempfile::NamedTempFile {
    use std::io::Write as _;
    let mut file = tempfile::Builder::new().suffix(name).tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}
