//! `rtcctl ports`: each form is read by the tool it is for, as far as that tool is here.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

mod common;

use std::path::PathBuf;
use std::time::Duration;

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin_cmd;
use common::{has_program, skip};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// A home that is set up, and nothing more.
struct Home(tempfile::TempDir);

impl Home {
    fn new(more: &[&str]) -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        let args =
            ["init", "--yes", "--reach", "lan", "--host", "11.22.33.44", "--web-port", "4443", "--http-port", "8088"];
        let told = home.command(&[&args[..], &["--turn-port", "3479", "--firewall", "skip"], more].concat());
        assert!(told.0, "{}", told.1);
        home
    }

    fn command(&self, args: &[&str]) -> (bool, String) {
        let mut command = cargo_bin_cmd!("rtcctl");
        let output = command.arg("--home").arg(self.path()).args(args).timeout(PATIENCE).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), format!("{told}{}", String::from_utf8_lossy(&output.stderr)))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("home")
    }

    fn ports(&self, format: &str) -> String {
        let (ok, text) = self.command(&["ports", "--format", format]);
        assert!(ok, "{text}");
        text
    }
}

fn run(program: &str, args: &[&str], input: &str) -> String {
    let output = Command::new(program).args(args).write_stdin(input).timeout(PATIENCE).output().unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {args:?}: {told}\n{input}");
    told
}

#[test]
fn the_table_and_the_document_follow_the_configuration() {
    let home = Home::new(&["--relay-ports", "50000-50009"]);
    let document: Value = serde_json::from_str(&home.ports("json")).unwrap();
    let seen: Vec<String> = document["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| format!("{} {}-{}", port["transport"].as_str().unwrap(), port["first"], port["last"]))
        .collect();
    assert_eq!(seen, ["tcp 4443-4443", "tcp 8088-8088", "udp 3479-3479", "tcp 3479-3479", "udp 50000-50009"]);
    assert_eq!(document["public_ips"][0], "11.22.33.44");
    let (ok, by_flag) = home.command(&["ports", "--json"]);
    assert!(ok && serde_json::from_str::<Value>(&by_flag).unwrap() == document);
    let file = home.path().join("config.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = rtcctl::config::set_value(&text, "web.port", "4444").unwrap();
    let text = rtcctl::config::set_value(&text, "turn.tls_port", "5349").unwrap();
    rtcctl::sys::fs::write_atomic(&file, text.as_bytes(), 0o600).unwrap();
    let table = home.ports("table");
    assert!(table.contains("tcp        4444 ") && table.contains("tcp        5349 "), "{table}");
    // What listens on loopback alone is nobody else's.
    let text = rtcctl::config::set_value(&text, "web.bind", "[127.0.0.1]").unwrap();
    rtcctl::sys::fs::write_atomic(&file, text.as_bytes(), 0o600).unwrap();
    assert!(!home.ports("table").contains("4444"), "{}", home.ports("table"));
}

#[test]
fn a_format_that_is_none_and_a_home_that_is_none_are_told() {
    let home = Home::new(&[]);
    let (ok, told) = home.command(&["ports", "--format", "morse"]);
    assert!(!ok && told.contains("hcloud"), "{told}");
    let nowhere = tempfile::tempdir().unwrap();
    let mut command = cargo_bin_cmd!("rtcctl");
    let output = command.arg("--home").arg(nowhere.path().join("x")).arg("ports").output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && told.contains("init"), "{told}");
}

#[test]
fn nft_reads_the_rules() {
    if !["nft", "unshare"].into_iter().all(has_program) {
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        return skip("nft reads rules as root only");
    }
    let rules = Home::new(&[]).ports("nft");
    run("unshare", &["--net", "nft", "--check", "--file", "-"], &rules);
}

#[test]
fn ufw_reads_the_profile_by_its_own_code() {
    if !["ufw", "python3"].into_iter().all(has_program) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let profile = Home::new(&[]).ports("ufw");
    rtcctl::sys::fs::write_atomic(&folder.path().join("rtcctl"), profile.as_bytes(), 0o644).unwrap();
    let code = "\
import builtins, sys
builtins._ = str
import ufw.applications as apps
found = apps.get_profiles(sys.argv[1])
(name, profile), = found.items()
assert apps.verify_profile(name, profile)
print(apps.get_ports(profile))";
    // Debian's Python, for which both tools are there; another one in the path need not have them.
    let told = run("/usr/bin/python3", &["-c", code, &folder.path().display().to_string()], "");
    assert_eq!(told.trim(), "['3479,4443,8088/tcp', '3479,49160:51159/udp']");
}

#[test]
fn firewalld_reads_the_service_by_its_own_code() {
    if !["firewalld", "python3"].into_iter().all(has_program) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let service = Home::new(&[]).ports("firewalld");
    rtcctl::sys::fs::write_atomic(&folder.path().join("rtcctl.xml"), service.as_bytes(), 0o644).unwrap();
    let code = "\
import sys
from firewall.core.io.service import service_reader
print(sorted(service_reader('rtcctl.xml', sys.argv[1]).ports))";
    let told = run("/usr/bin/python3", &["-c", code, &folder.path().display().to_string()], "");
    let wanted = "[('3479', 'tcp'), ('3479', 'udp'), ('4443', 'tcp'), ('49160-51159', 'udp'), ('8088', 'tcp')]";
    assert_eq!(told.trim(), wanted);
}

/// What each command of a script is called with, by a shell in which the provider's tool only says that.
fn calls(tool: &str, script: &str) -> Vec<Vec<String>> {
    let harness = format!("set -eu\n{tool}() {{ printf '%s\\0' \"$@\"; printf '\\n'; }}\n{script}\n");
    let told = run("bash", &["-s"], &harness);
    let split = |line: &str| line.split('\0').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    told.lines().map(split).collect()
}

fn after<'a>(call: &'a [String], flag: &str) -> &'a str {
    let at = call.iter().position(|word| word == flag).unwrap_or_else(|| panic!("{flag} is not in {call:?}"));
    &call[at + 1]
}

#[test]
fn a_shell_calls_each_clouds_tool_with_every_port() {
    let home = Home::new(&[]);
    let aws = calls("aws", &home.ports("aws"));
    let permissions: Value = serde_json::from_str(after(&aws[0], "--ip-permissions")).unwrap();
    assert_eq!(permissions.as_array().unwrap().len(), 5);
    assert_eq!((&permissions[4]["FromPort"], &permissions[4]["ToPort"]), (&Value::from(49160), &Value::from(51159)));
    assert_eq!(after(&aws[0], "--group-id"), "REPLACE-WITH-SECURITY-GROUP-ID");

    let gcloud = calls("gcloud", &home.ports("gcloud"));
    let rules = gcloud[0].iter().find_map(|word| word.strip_prefix("--rules=")).unwrap();
    assert_eq!(rules, "tcp:3479,tcp:4443,tcp:8088,udp:3479,udp:49160-51159");
    assert_eq!(gcloud.len(), 3, "{gcloud:?}");

    let az = calls("az", &home.ports("az"));
    let at = az[1].iter().position(|word| word == "--destination-port-ranges").unwrap();
    assert_eq!(az[1][at + 1..], ["3479", "49160-51159"]);
    assert_ne!(after(&az[0], "--priority"), after(&az[1], "--priority"));

    let aliyun = calls("aliyun", &home.ports("aliyun"));
    assert_eq!(after(&aliyun[0], "--Permissions.10.PortRange"), "49160/51159");
    assert_eq!(after(&aliyun[0], "--Permissions.10.Ipv6SourceCidrIp"), "::/0");

    let tccli = calls("tccli", &home.ports("tccli"));
    let policies: Value = serde_json::from_str(after(&tccli[0], "--SecurityGroupPolicySet")).unwrap();
    assert_eq!(policies["Ingress"][8]["Port"], "49160-51159");

    let doctl = calls("doctl", &home.ports("doctl"));
    assert_eq!(after(&doctl[0], "--inbound-rules").split(' ').count(), 5);

    let hcloud = calls("hcloud", &home.ports("hcloud"));
    assert_eq!(hcloud.len(), 5);
    assert_eq!(after(&hcloud[4], "--port"), "49160-51159");
}
