//! Each firewall, installed from the distribution and really filtering, before and after `rtcctl firewall`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

mod common;
#[path = "common/firewalls.rs"]
mod firewalls;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/host.rs"]
mod host;

use std::process::Stdio;
use std::time::{Duration, Instant};

use common::has_program;
use firewalls::{FIREWALLD, IPTABLES, NFTABLES, UFW, everything, host, ssh};
use host::{Host, PATIENCE, assert_same};
use serde_json::Value;

fn changes(told: &str) -> &str {
    told.lines().find(|line| line.ends_with("change") || line.ends_with("changes")).unwrap_or(told)
}

/// Waits for a condition, which is looked at again and again.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    #[expect(clippy::disallowed_methods, reason = "a deadline of a test")]
    let end = Instant::now() + PATIENCE;
    while !holds() {
        #[expect(clippy::disallowed_methods, reason = "a deadline of a test")]
        let now = Instant::now();
        assert!(now < end, "not within {PATIENCE:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

/// What every firewall must show. `restart` loads what is kept, as the machine would when it starts. Gives the dumps
/// before and while it was open.
fn goes_open_and_back(host: &Host, layers: &[&str], restart: Option<&str>) -> (String, String) {
    let before = host.dump();
    assert_eq!(host.reached(), ssh(), "before");
    let (code, told) = host.rtcctl(&["firewall", "status", "--json"]);
    let status: Value = serde_json::from_str(&told).unwrap();
    let seen: Vec<&str> =
        status["layers"].as_array().unwrap().iter().map(|one| one["layer"].as_str().unwrap()).collect();
    assert_eq!((code, &status["open"], seen.as_slice()), (10, &Value::Bool(false), layers), "{told}");

    let (code, planned) = host.rtcctl(&["firewall", "plan"]);
    assert_eq!(code, 0, "{planned}");
    assert_same(&host.dump(), &before);
    let (code, opened) = host.rtcctl(&["firewall", "open"]);
    assert_eq!(code, 0, "{opened}");
    // What was shown is what was done.
    let done: Vec<&str> = opened.lines().take_while(|line| !line.ends_with("changes")).collect();
    assert!(!done.is_empty() && done.iter().all(|line| planned.contains(line)), "{planned}\n--\n{opened}");
    assert_eq!(host.reached(), everything(), "after\n{opened}");
    let open = host.dump();
    let (code, again) = host.rtcctl(&["firewall", "open"]);
    assert_eq!((code, changes(&again)), (0, "0 changes"), "{again}");
    assert_same(&host.dump(), &open);
    if let Some(restart) = restart {
        host.shell(restart);
        let (code, told) = host.rtcctl(&["firewall", "status"]);
        assert_eq!(code, 0, "{told}");
        assert_eq!(host.reached(), everything(), "after a restart");
        let (code, again) = host.rtcctl(&["firewall", "open"]);
        assert_eq!((code, changes(&again)), (0, "0 changes"), "{again}");
    }
    let (code, closed) = host.rtcctl(&["firewall", "close"]);
    assert_eq!(code, 0, "{closed}");
    assert_eq!(host.reached(), ssh(), "closed\n{closed}");
    assert_same(&host.dump(), &before);
    (before, open)
}

/// Killed at the first change, then again; and killed, then closed.
fn survives_kills(host: &Host, before: &str, open: &str) {
    host.kill_after(1, &["firewall", "open"]);
    let (code, told) = host.rtcctl(&["firewall", "open"]);
    assert_eq!(code, 0, "{told}");
    assert_same(&host.dump(), open);
    host.kill_after(1, &["firewall", "close"]);
    let (code, told) = host.rtcctl(&["firewall", "close"]);
    assert_eq!(code, 0, "{told}");
    assert_same(&host.dump(), before);
    assert_eq!(host.reached(), ssh());
}

/// A program that waits before it inserts rules, until somebody writes into a pipe.
const SLOW_IPTABLES: &str = r#"mount -t tmpfs tmpfs /usr/local/sbin
mkfifo /run/gate
cat >/usr/local/sbin/iptables <<'END'
#!/bin/sh
case "$*" in *" -I "*) : >/run/at-work; read -r _ </run/gate ;; esac
exec /usr/sbin/iptables "$@"
END
chmod +x /usr/local/sbin/iptables"#;

#[test]
fn a_command_that_outlives_its_run_is_waited_for() {
    let Some(host) = host(&["ip6tables-restore"], IPTABLES) else { return };
    let before = host.dump();
    host.rtcctl(&["firewall", "open"]);
    let open = host.dump();
    host.rtcctl(&["firewall", "close"]);
    host.shell(SLOW_IPTABLES);
    let start =
        || host.rtcctl_command(&["firewall", "open"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut killed = start();
    while !host.command("test", &["-e", "/run/at-work"]).status().unwrap().success() {
        assert!(killed.try_wait().unwrap().is_none(), "it ended without a change");
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    host.shell("rm /usr/local/sbin/iptables");
    let mut next = start();
    for _ in 0..50 {
        host.shell("true");
        assert!(next.try_wait().unwrap().is_none(), "it did not wait for the command of the one that was killed");
    }
    host.shell("echo go >/run/gate");
    assert!(next.wait().unwrap().success());
    assert_same(&host.dump(), &open);
    host.rtcctl(&["firewall", "close"]);
    assert_same(&host.dump(), &before);
}

#[test]
fn nftables_lets_callers_in_by_every_chain_that_decides() {
    let Some(host) = host(&[], NFTABLES) else { return };
    let (before, open) = goes_open_and_back(&host, &["nftables"], Some("nft -f /etc/nftables.conf"));
    survives_kills(&host, &before, &open);
    // A rule of ours that somebody took out, and ports that are needed no more.
    host.rtcctl(&["firewall", "open"]);
    host.shell("nft flush chain inet mine second; nft add rule inet mine second udp dport 40000-60000 drop");
    let (code, told) = host.rtcctl(&["firewall", "status"]);
    assert!(code == 10 && told.contains("dropped      49160-51159/udp by nftables"), "{code} {told}");
    let file = host.home().join("config.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = rtcctl::config::set_value(&text, "turn.relay_ports", "50000-50099").unwrap();
    rtcctl::sys::fs::write_atomic(&file, text.as_bytes(), 0o600).unwrap();
    let (_, told) = host.rtcctl(&["firewall", "status"]);
    assert!(told.contains("leftover     49160-49999,50100-51159/udp in nftables"), "{told}");
    let (code, told) = host.rtcctl(&["firewall", "open"]);
    assert_eq!(code, 0, "{told}");
    let rules = host.run("nft", &["list", "ruleset"]);
    assert!(rules.contains("50000-50099") && !rules.contains("49160"), "{rules}");
    // With the home goes what it has opened.
    let (code, told) = host.rtcctl(&["uninstall"]);
    let rules = host.run("nft", &["list", "ruleset"]);
    assert!(code == 0 && !rules.contains("50000-50099"), "{told}\n{rules}");
    // What was edited since stays, and nothing of the firewall's own.
    assert!(host.home().join("config.yaml").exists() && !host.home().join("state").exists(), "{told}");
}

#[test]
fn iptables_lets_callers_in_before_the_reject_of_both_families() {
    let Some(host) = host(&["ip6tables-restore"], IPTABLES) else { return };
    let restart = "iptables-restore </etc/iptables/rules.v4; ip6tables-restore </etc/iptables/rules.v6";
    let (before, open) = goes_open_and_back(&host, &["iptables", "ip6tables"], Some(restart));
    survives_kills(&host, &before, &open);
}

#[test]
fn iptables_of_the_old_kind_is_opened_by_its_own_tool_and_both_kinds_are_left_alone() {
    let script = r"
for tool in iptables-legacy ip6tables-legacy; do
    $tool -A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT
    $tool -A INPUT -p ipv6-icmp -j ACCEPT
    $tool -A INPUT -p tcp --dport 22 -j ACCEPT
    $tool -A INPUT -j DROP
done
";
    if !has_program("iptables-legacy") {
        return;
    }
    let Some(host) = host(&[], script) else { return };
    let before = host.dump();
    assert_eq!(host.reached(), ssh());
    let (code, told) = host.rtcctl(&["firewall", "open"]);
    assert!(code == 0 && told.contains("iptables-legacy -w 5 -I INPUT"), "{told}");
    assert!(told.contains("a restart of this machine loses"), "{told}");
    assert_eq!(host.reached(), everything());
    assert_eq!(host.rtcctl(&["firewall", "close"]).0, 0);
    assert_same(&host.dump(), &before);
    host.shell("iptables-nft -A INPUT -p udp --dport 9 -j DROP");
    let before = host.dump();
    let (code, told) = host.rtcctl(&["firewall", "open"]);
    assert!(code == 1 && told.contains("iptables-nft and iptables-legacy"), "{told}");
    assert_same(&host.dump(), &before);
}

#[test]
fn ufw_gets_a_profile_and_one_rule() {
    let Some(host) = host(&["ufw"], UFW) else { return };
    let (before, open) = goes_open_and_back(&host, &["ufw"], None);
    survives_kills(&host, &before, &open);
    let (code, again) = host.rtcctl(&["firewall", "close"]);
    assert_eq!((code, changes(&again)), (0, "0 changes"), "{again}");
    // One that is not active is left alone, and nothing filters then.
    host.run("ufw", &["disable"]);
    let (code, told) = host.rtcctl(&["firewall", "open"]);
    assert_eq!((code, changes(&told)), (0, "0 changes"), "{told}");
    assert!(host.run("ufw", &["status"]).contains("inactive"));
}

#[test]
fn firewalld_gets_one_service_and_the_running_one_its_ports() {
    let Some(host) = host(&["firewalld", "firewall-cmd", "dbus-daemon"], FIREWALLD) else { return };
    // What the operator has in the running configuration only stays there.
    let (_, open) = goes_open_and_back(&host, &["firewalld"], None);
    host.kill_after(1, &["firewall", "open"]);
    let (code, told) = host.rtcctl(&["firewall", "open"]);
    assert_eq!(code, 0, "{told}");
    // The order of the ports in the service's file is that of two runs; what it lets in is looked at below.
    let rules = |dump: &str| {
        let is_rule = |line: &&str| !line.contains("/etc/firewalld/services/");
        dump.lines().filter(is_rule).collect::<Vec<_>>().join("\n")
    };
    assert_same(&rules(&host.dump()), &rules(&open));
    host.run("firewall-cmd", &["--reload"]);
    assert_eq!(host.reached(), everything(), "the permanent configuration has it as well");
    let (code, again) = host.rtcctl(&["firewall", "open"]);
    assert_eq!((code, changes(&again)), (0, "0 changes"), "{again}");
    let (code, told) = host.rtcctl(&["firewall", "close"]);
    assert_eq!(code, 0, "{told}");
    assert_eq!(host.reached(), ssh());
}

#[test]
fn a_change_that_nobody_confirms_returns_by_itself() {
    let Some(host) = host(&[], NFTABLES) else { return };
    let before = host.dump();
    let pending = host.home().join("state/firewall-pending.json");
    let keeper = || -> Option<i32> {
        let text = std::fs::read_to_string(host.home().join("state/firewall-keeper.lock")).ok()?;
        text.trim().parse().ok()
    };

    // Whoever opened it is killed in the middle; its keeper is not.
    host.kill_after(1, &["firewall", "open", "--confirm", "5"]);
    until("it returns", || !pending.exists());
    assert_same(&host.dump(), &before);

    // The keeper is killed; the next run does what is due.
    let (code, told) = host.rtcctl(&["firewall", "open", "--confirm", "5"]);
    assert!(code == 0 && told.contains("firewall confirm"), "{told}");
    assert_eq!(host.reached(), everything());
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(keeper().unwrap()), nix::sys::signal::Signal::SIGKILL).unwrap();
    until("it is due", || host.rtcctl(&["firewall", "status"]).1.contains("taken back just now") || !pending.exists());
    assert_same(&host.dump(), &before);

    // The connection that asked cannot confirm, another one can.
    assert_eq!(host.rtcctl(&["firewall", "confirm"]).0, 1);
    let (code, told) = host.rtcctl(&["firewall", "open", "--confirm", "600"]);
    assert_eq!(code, 0, "{told}");
    let (code, told) = host.rtcctl(&["firewall", "open"]);
    assert!(code == 1 && told.contains("waits to be confirmed"), "{told}");
    let (code, told) = host.rtcctl(&["firewall", "confirm"]);
    assert!(code == 1 && told.contains("log in anew"), "{told}");
    let mut other = host.rtcctl_command(&["firewall", "confirm"]);
    other.env("SSH_CONNECTION", "198.51.100.1 50001 10.99.0.1 22");
    let (code, told) = host::told(&other.output().unwrap());
    assert!(code == 0 && !pending.exists(), "{told}");
    assert_eq!(host.reached(), everything());
    assert_eq!(host.rtcctl(&["firewall", "close"]).0, 0);
    assert_same(&host.dump(), &before);
}

#[test]
fn what_nobody_but_root_may_do_says_so_and_a_failure_is_taken_back() {
    let Some(host) =
        host(&["ufw"], "ufw --force enable >/dev/null; ufw allow 22/tcp >/dev/null; ufw reload >/dev/null")
    else {
        return;
    };
    let before = host.dump();
    // A profile that cannot be written.
    host.shell("mount -t tmpfs -o ro tmpfs /etc/ufw/applications.d");
    let (code, told) = host.rtcctl(&["firewall", "open"]);
    assert!(code == 16 && told.contains("it is as it was"), "{code} {told}");
    host.shell("umount /etc/ufw/applications.d");
    assert_same(&host.dump(), &before);

    // Its files are for everybody, for this once.
    let home = host.home();
    host.shell(&format!("chmod a+rx {}; chmod -R a+rX {}", home.parent().unwrap().display(), home.display()));
    let as_nobody = |args: &[&str]| {
        let home = host.home().display().to_string();
        let program = env!("CARGO_BIN_EXE_rtcctl");
        let all = [&["--reuid=65534", "--clear-groups", program, "--home", &home, "firewall"][..], args].concat();
        host::told(&host.command("setpriv", &all).output().unwrap())
    };
    for verb in ["open", "close", "status", "confirm"] {
        let (code, text) = as_nobody(&[verb]);
        assert!(code == 15 && text.contains("sudo rtcctl"), "{verb}: {code} {text}");
    }
    let (code, text) = as_nobody(&["plan"]);
    assert!(code == 0 && text.contains("443") && text.contains("as root"), "{code} {text}");
    // While another run is at it.
    let held = ["/run/rtcctl-firewall.lock", env!("CARGO_BIN_EXE_rtcctl"), "--home", &home.display().to_string()];
    let (code, text) =
        host::told(&host.command("flock", &[&held[..], &["firewall", "open"]].concat()).output().unwrap());
    assert_eq!(code, 14, "{text}");
    assert_same(&host.dump(), &before);
}
