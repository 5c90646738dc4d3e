//! Bad configuration, seen from outside: every complaint at once, with lines, exit code 78, and no secret told.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use assert_cmd::cargo::cargo_bin_cmd;

const SECRET: &str = "5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2";

/// Writes a home with these two files, runs `config check`, gives standard error and the exit code.
fn check(config: &str, secrets: &str, mode: u32) -> (String, i32) {
    check_in("en", config, secrets, mode)
}

fn check_in(lang: &str, config: &str, secrets: &str, mode: u32) -> (String, i32) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text, mode) in [("config.yaml", config, 0o644), ("secrets.yaml", secrets, mode)] {
        let path = dir.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    let output = cargo_bin_cmd!("rtcctl")
        .arg("--home")
        .arg(dir.path())
        .args(["--lang", lang, "config", "check"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).replace(&dir.path().display().to_string(), "HOME");
    (told, output.status.code().unwrap())
}

fn good_secrets() -> String {
    format!("turn_secrets: [{SECRET}]\n")
}

#[test]
fn a_good_pair_of_files_is_fine() {
    assert_eq!(check("hosts: [a.example]\n", &good_secrets(), 0o600), (String::new(), 0));
}

#[test]
fn every_complaint_is_in_chinese_for_who_reads_that_and_tells_no_secret_either() {
    let config = "\
reach: moon
hosts: [1.2.3, 'http://a']
access: key
web: {port: 70000, prot: 1, root: x}
turn: {relay_ports: 9-3, allow_peers: [10.0.0.0/99], realm: '\"', drain: 9, public_ips: [0.0.0.0], workers: x}
log: {max_size: 1}
notify: {webhook: 'ftp://a'}
certificate: {source: files}
";
    let secrets = format!("turn_secrets: {{a: {SECRET}}}\nmetrics_token: [{SECRET}]\nunknown: 1\n");
    let (told, code) = check_in("zh", config, &secrets, 0o644);
    assert_eq!(code, 78, "{told}");
    assert!(told.lines().count() > 14 && !told.contains(SECRET), "{told}");
    for line in told.lines() {
        let prose = line.split('`').step_by(2).collect::<String>();
        let words = prose.split(|symbol: char| !symbol.is_ascii_alphabetic());
        let english = words.filter(|word| ["is", "must", "not", "the", "has", "or", "in", "of"].contains(word)).count();
        assert!(english == 0 && line.contains('：'), "{line}");
    }
}

/// Case 87.
#[test]
fn every_complaint_about_both_files_comes_at_once() {
    let config = "\
hosts: [a.example]
web:
  prot: 8443
  port: 70000
turn:
  relay_ports: 49152-40000
  allow_peers: [10.0.0.0/99]
  port: 3478
  port: 3479
";
    let (told, code) = check(config, "turn_secrets: [hunter2]\n", 0o644);
    assert_eq!(code, 78);
    assert_eq!(
        told,
        "\
error: 7 mistakes in `HOME/config.yaml` and `HOME/secrets.yaml`
cause: line 3: web.prot: unknown key; did you mean `web.port`?
cause: line 4: web.port: must be a whole number from 1 to 65535, not `70000`
cause: line 6: turn.relay_ports: 49152..40000 runs backwards
cause: line 7: turn.allow_peers: `10.0.0.0/99` has a prefix that is no number from 0 to 32
cause: line 9: turn.port: is already set on line 8
cause: secrets.yaml, line 1: turn_secrets: a secret has fewer than 128 bits: write at least 22 characters, best `openssl rand -hex 32`
cause: secrets.yaml, others on this machine can read it: its mode is 0644
hint: run `chmod 600 HOME/secrets.yaml`
hint: correct the file, then run `rtcctl --home HOME config check`
"
    );
}

#[test]
fn what_is_not_yaml_has_line_and_column() {
    let (told, code) = check("hosts: [a.example]\nweb:\n  port: [1\n  http_port: 80\n", &good_secrets(), 0o600);
    assert_eq!(code, 78);
    assert!(told.contains("cause: line "), "{told}");
    assert!(told.contains(": column "), "{told}");
}

#[test]
fn no_complaint_tells_a_secret_or_its_neighbours() {
    for secrets in [
        format!("turn_secrets: [{SECRET}\nother: {SECRET}\n"),
        format!("turn_secrets: [{SECRET}, short]\n"),
        format!("turn_secrets:\n  {SECRET}: {SECRET}\n"),
        format!("turn_secrets: \"{SECRET} {SECRET}\"\n"),
        format!("{SECRET}\n"),
        format!("\t{SECRET}: &{SECRET} *{SECRET}\n"),
        format!("turn_secret: [{SECRET}]\n"),
        format!("turn_secrets: [{SECRET}]\n{SECRET}: 1\n"),
        format!("turn_secrets: [{SECRET}]\nturn_users: [{SECRET}]\n"),
        format!("turn_secrets: [{SECRET}]\nturn_users:\n  {SECRET}: {SECRET}\n  {SECRET}: {SECRET}\n"),
        format!("turn_secrets: [{SECRET}]\nturn_users: {{alice: [{SECRET}]}}\n"),
        format!("turn_secrets: [{SECRET}]\nmetrics_token: [{SECRET}]\n"),
    ] {
        let (told, code) = check("hosts: [a.example]\n", &secrets, 0o600);
        assert_eq!(code, 78, "{told}");
        assert!(!told.contains("5ec2e7"), "{told}");
    }
}

#[test]
fn a_home_without_configuration_says_what_to_run() {
    let dir = tempfile::tempdir().unwrap();
    let output = cargo_bin_cmd!("rtcctl").arg("--home").arg(dir.path()).args(["config", "check"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).replace(&dir.path().display().to_string(), "HOME");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(told, "error: `HOME/config.yaml` does not exist\nhint: run `rtcctl --home HOME init`\n");
}
