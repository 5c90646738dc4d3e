//! What a fresh machine is told makes it a node: in namespaces with files, a network and a firewall of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start programs and write files")]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{has_program, skip};
use serde_json::Value;

/// A digest, where it does not matter which.
const Z: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What a machine is made of here: folders of its own, an address, and a firewall that lets SSH alone in.
const MACHINE: &str = r#"
set -eu
mount --make-rprivate /
cp -a /etc "$1/etc"
rm -rf "$1/etc/rtcctl"
mount --bind "$1/etc" /etc
for folder in /run /var/lib /var/log /usr/local/bin; do mount -t tmpfs tmpfs "$folder"; done
ip link set lo up
ip link add wire type veth peer name far
ip link set far up
ip address add 203.0.113.9/24 dev wire
ip link set wire up
ip route add default via 203.0.113.1
nft 'add table inet filter; add chain inet filter input { type filter hook input priority filter; policy drop; }'
nft 'add rule inet filter input iif lo accept; add rule inet filter input tcp dport 22 accept'
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
trap 'rtcctl stop >/dev/null 2>&1 || true' EXIT
sh "$1/node.sh"
echo "== first: $?"
cat /var/lib/rtcctl-bootstrap.json
first=$(rtcctl status --json | sed -n 's/^  "pid": \([0-9]*\).*/\1/p')
sh "$1/node.sh"
echo "== second: $?"
second=$(rtcctl status --json | sed -n 's/^  "pid": \([0-9]*\).*/\1/p')
echo "== pids: $first $second"
echo "== page: $(curl -sk -o /dev/null -w '%{http_code}' https://203.0.113.9/healthz)"
echo "== invite: $(rtcctl invite --quiet)"
echo "== rules: $(nft list ruleset | grep -c rtcctl)"
RTCCTL_PROGRAM=/usr/local/bin/other RTCCTL_PATIENCE=1 sh "$1/wrong.sh" || echo "== wrong: $?"
test ! -e /usr/local/bin/other && test ! -e /usr/local/bin/.rtcctl.bootstrap
echo "== end"
"#;

fn rtcctl(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rtcctl"));
    command.args(args).env("RTCCTL_HOME", "/nonexistent/rtcctl").output().unwrap()
}

/// What is printed for a node that is called by its address.
fn emitted(form: &str, url: &str, more: &[&str]) -> String {
    let init = ["--", "--reach", "ip", "--host", "203.0.113.9", "--cert", "self-signed", "--offline"];
    let output = rtcctl(&[&["bootstrap", "--emit", form, "--url", url][..], more, &init].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn user_data_is_short_and_cloud_init_accepts_it() {
    let digest = ["--sha256", Z];
    let text = emitted("cloud-init", "https://dl.example.org/rtcctl", &digest);
    assert!(text.starts_with("#cloud-config\n") && text.len() < 16 * 1024, "{}", text.len());
    let terraform = emitted("terraform", "https://dl.example.org/rtcctl", &digest);
    for port in ["\"tcp-443\"", "\"tcp-80\"", "\"udp-3478\"", "first = 49160, last = 51159"] {
        assert!(terraform.contains(port), "{port}\n{terraform}");
    }
    for (args, wanted) in [
        (["--url", "http://x/rtcctl", "--sha256", Z, "--"].as_slice(), "no plain `https://` address"),
        (&["--url", "https://x/rtcctl", "--sha256", "abc", "--"], "64 hexadecimal digits"),
        (&["--url", "https://x/rtcctl", "--sha256", Z, "--", "--reach", "moon"], "no arguments for `rtcctl init`"),
        (&["--url", "https://x/rtcctl", "--sha256", Z, "--", "--no-such-flag"], "no arguments for `rtcctl init`"),
        (&["--url", "https://x/rtcctl", "--sha256", Z, "--", "--dry-run"], "are for this machine"),
        (&["--"], "--url"),
    ] {
        let output = rtcctl(&[&["bootstrap", "--emit", "shell"][..], args].concat());
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {told}");
        assert!(told.contains(wanted), "{args:?}: {told}");
    }
    if !has_program("cloud-init") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("user-data.yaml");
    std::fs::write(&file, text).unwrap();
    let output = Command::new("cloud-init").args(["schema", "--config-file"]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_machine_becomes_a_node_and_stays_one() {
    if !nix::unistd::geteuid().is_root() {
        return skip("only root may make a machine of namespaces");
    }
    if !(has_program("nft") && has_program("unshare")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}", env!("CARGO_BIN_EXE_rtcctl"));
    std::fs::write(dir.path().join("node.sh"), emitted("shell", &url, &[])).unwrap();
    std::fs::write(dir.path().join("wrong.sh"), emitted("shell", &url, &["--sha256", Z])).unwrap();
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c", MACHINE, "bash"])
        .arg(dir.path())
        .env_remove("RTCCTL_HOME")
        .output()
        .unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{told}");
    if told.contains("Operation not permitted") && !told.contains("== first") {
        return skip("this user may not make a machine of namespaces");
    }
    let line = |name: &str| {
        let found = told.lines().find_map(|line| line.strip_prefix(&format!("== {name}: ")));
        found.unwrap_or_else(|| panic!("{name} is missing\n{told}")).to_owned()
    };
    assert_eq!((line("first"), line("second")), ("0".to_owned(), "0".to_owned()));
    let result: Value = told
        .lines()
        .find(|line| line.starts_with("{\"schema_version\""))
        .map(|line| serde_json::from_str(line).unwrap())
        .unwrap();
    assert_eq!((result["result"].as_str(), result["exit_code"].as_u64()), (Some("ready"), Some(0)), "{result}");
    assert_eq!(result["page"], "https://203.0.113.9/");
    assert_eq!(told.matches("rtcctl-bootstrap-result {").count(), 3);
    let pids = line("pids");
    let (first, second) = pids.split_once(' ').unwrap();
    assert!(first == second && first.parse::<u32>().is_ok(), "a second time nothing is disturbed: {pids}");
    assert_eq!(line("page"), "200");
    assert!(line("rules").parse::<u32>().unwrap() > 0, "the firewall lets callers in");
    // The link is shown to who asks on the machine, and stands nowhere in what was said.
    let (_, key) = line("invite").split_once("#key=").map(|(link, key)| (link.to_owned(), key.to_owned())).unwrap();
    assert_eq!(told.matches(&key).count(), 1, "{told}");
    assert_eq!(line("wrong"), "1");
    assert!(told.lines().any(|line| line == "== end"), "{told}");
    assert!(!Path::new("/var/lib/rtcctl-bootstrap.json").exists());
}
