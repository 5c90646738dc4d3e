//! `init --boot service`: a service that starts with the machine, under a real systemd and a real OpenRC.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

#[allow(dead_code, reason = "other tests boot other machines")]
#[path = "common/booted.rs"]
mod booted;
mod common;
#[allow(dead_code, reason = "OpenRC is tried on one release")]
#[path = "common/debian.rs"]
mod debian;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/knocker.rs"]
mod knocker;

use std::collections::BTreeSet;

use booted::{Machine, PATIENCE};
use common::{has_program, skip, until};
use knocker::Knocker;

fn machine() -> Option<Machine> {
    match Machine::boot() {
        Ok(machine) => Some(machine),
        Err(why) => {
            skip(&format!("no machine to start a service on: {why}"));
            None
        }
    }
}

const INIT: [&str; 12] = [
    "rtcctl",
    "init",
    "--yes",
    "--reach",
    "lan",
    "--host",
    "10.98.0.1",
    "--firewall",
    "skip",
    "--offline",
    "--access",
    "open",
];

fn wait_for(what: &str, is_so: impl FnMut() -> bool) {
    until(what, PATIENCE, is_so);
}

impl Machine {
    fn pid(&self) -> u32 {
        let told = self.succeeds(&["systemctl", "show", "rtcctl.service", "--property", "MainPID", "--value"]);
        told.trim().parse().unwrap()
    }

    fn is_ready(&self) -> bool {
        self.run(&["rtcctl", "--json", "status"]).status.code().is_some_and(|code| [0, 10].contains(&code))
    }

    /// A line of what the kernel says of the daemon.
    fn of_the_daemon(&self, name: &str) -> String {
        let status = self.succeeds(&["cat", &format!("/proc/{}/status", self.pid())]);
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
    }

    fn files(&self) -> String {
        let folders =
            "/etc/rtcctl /var/lib/rtcctl /var/log/rtcctl /etc/systemd/system /etc/passwd /etc/group /etc/shadow";
        self.succeeds(&["sh", "-c", &format!("find {folders} -printf '%M %u %g %p %l\\n' 2>/dev/null | sort; sha256sum /etc/passwd /etc/group /etc/shadow")])
    }
}

#[test]
fn a_service_is_installed_run_mended_and_taken_back_under_systemd() {
    let Some(mut machine) = machine() else { return };
    let before = machine.files();
    let told = machine.succeeds(&INIT);
    assert!(told.contains("boot         service                  detected"), "{told}");
    assert!(told.contains("by systemd, from `/usr/local/bin/rtcctl`"), "{told}");
    assert!(machine.succeeds(&INIT).contains("0 changes"));

    // Ready is what the unit waits for.
    let told = machine.succeeds(&["rtcctl", "start"]);
    assert!(told.contains("rtcctl is ready"), "{told}");
    assert_eq!(machine.succeeds(&["systemctl", "is-active", "rtcctl.service"]).trim(), "active");
    assert_eq!(machine.of_the_daemon("CapEff:"), "0000000000000400", "ports below 1024 and nothing else");
    assert_ne!(machine.of_the_daemon("Uid:").split_whitespace().next(), Some("0"));
    let told = String::from_utf8(machine.run(&["rtcctl", "status"]).stdout).unwrap();
    for line in [
        "page         https://10.98.0.1/\n",
        "service      systemd, rtcctl.service",
        "no privilege but ports below 1024",
        "system calls filtered, the system is read-only",
    ] {
        assert!(told.contains(line), "`{line}` in {told}");
    }
    assert!(machine.succeeds(&["rtcctl", "logs"]).contains("ready"));

    // A reload takes up an edit, or fails and changes nothing.
    let edit =
        |from: &str, to: &str| machine.succeeds(&["sed", "-i", &format!("s/{from}/{to}/"), "/etc/rtcctl/config.yaml"]);
    let pid = machine.pid();
    edit("^  drain: 2", "  drain: 3");
    machine.succeeds(&["systemctl", "reload", "rtcctl.service"]);
    edit("^access: open", "access: ajar");
    assert!(!machine.run(&["systemctl", "reload", "rtcctl.service"]).status.success());
    edit("^access: ajar", "access: open");
    assert!(machine.pid() == pid && machine.is_ready());
    machine.succeeds(&["rtcctl", "invite", "--new-key"]);

    // Killed, it comes back; hanging, it is killed. Who connects meanwhile is not refused.
    let listener = machine.succeeds(&["ss", "-Htln", "sport = :443"]);
    machine.succeeds(&["kill", "-9", &pid.to_string()]);
    assert_eq!(machine.succeeds(&["ss", "-Htln", "sport = :443"]), listener, "systemd holds the sockets");
    wait_for("the daemon is back", || machine.pid() != pid && machine.is_ready());
    // Also with an edit on the disk that does not pass: systemd has kept the configuration that did.
    let pid = machine.pid();
    edit("^access: open", "access: ajar");
    machine.succeeds(&["kill", "-9", &pid.to_string()]);
    wait_for("the daemon is back in spite of an edit", || machine.pid() != pid && machine.is_ready());
    edit("^access: ajar", "access: open");
    // However many sockets there are, nobody who connects meanwhile is refused.
    edit("^turn:$", "turn:\\n  workers: 256");
    machine.succeeds(&["rtcctl", "restart"]);
    let kept =
        machine.succeeds(&["systemctl", "show", "rtcctl.service", "--property", "NFileDescriptorStore", "--value"]);
    assert!(kept.trim().parse::<u32>().unwrap() > 512, "{kept}");
    let knocker = Knocker::within(machine.process(), &[443, 80, 3478]);
    for _ in 0..3 {
        let (pid, knocks) = (machine.pid(), knocker.count());
        machine.succeeds(&["kill", "-9", &pid.to_string()]);
        wait_for("the daemon is back", || machine.pid() != pid && machine.is_ready() && knocker.count() > knocks);
    }
    assert!(knocker.end() > 0);
    assert!(!machine.succeeds(&["rtcctl", "logs"]).contains("FileDescriptorStoreMax"));
    edit("^  workers: 256", "  workers: 2");
    let drop_in = "mkdir -p /run/systemd/system/rtcctl.service.d && printf '[Service]\\nWatchdogSec=2\\nFileDescriptorStoreMax=4\\n' >/run/systemd/system/rtcctl.service.d/test.conf && systemctl daemon-reload";
    machine.succeeds(&["sh", "-c", drop_in]);
    machine.succeeds(&["rtcctl", "restart"]);
    // Before version 254, systemd does not tell the service how many it keeps, but tells itself that it keeps no more.
    let is_told = machine.succeeds(&["rtcctl", "logs"]).contains("raise FileDescriptorStoreMax")
        || machine.succeeds(&["journalctl", "--no-pager"]).contains("more fds than FileDescriptorStoreMax=4");
    assert!(is_told);
    let pid = machine.pid();
    machine.succeeds(&["kill", "-STOP", &pid.to_string()]);
    wait_for("a daemon that hangs is replaced", || machine.pid() != pid && machine.is_ready());
    assert!(machine.succeeds(&["journalctl", "-u", "rtcctl", "--no-pager"]).contains("watchdog"), "systemd says why");

    let told = machine.succeeds(&["rtcctl", "stop"]);
    assert!(told.contains("rtcctl is stopped (it was pid"), "{told}");
    assert_eq!(machine.run(&["rtcctl", "status"]).status.code(), Some(3));

    // It starts with the machine.
    machine.reboot();
    wait_for("the service starts with the machine", || machine.is_ready());
    let told = machine.succeeds(&["rtcctl", "uninstall", "--purge"]);
    assert!(told.contains("/etc/systemd/system/multi-user.target.wants/rtcctl.service"), "{told}");
    assert_eq!(machine.run(&["systemctl", "cat", "rtcctl.service"]).status.code(), Some(1), "systemd has forgotten it");
    assert_eq!(machine.files(), before);
}

#[test]
fn the_unit_is_accepted_and_lets_little_through() {
    if !has_program("systemd-analyze") {
        return;
    }
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/units/rtcctl.service");
    let analyze = |args: &[&str]| {
        #[expect(clippy::disallowed_methods, reason = "tests start programs")]
        let output = std::process::Command::new("systemd-analyze").args(args).arg(unit).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let complaints = analyze(&["verify", "--man=no"]);
    // That the program is not there is no fault of the unit.
    let faults: Vec<&str> = complaints.lines().filter(|line| !line.contains("is not executable")).collect();
    assert!(faults.iter().all(|line| !line.contains("rtcctl")), "{faults:?}");
    let told = analyze(&["security", "--offline=yes", "--no-pager"]);
    let exposure = told.lines().find_map(|line| line.split("exposure level for rtcctl.service: ").nth(1)).unwrap();
    let exposure: f32 = exposure.split_whitespace().next().unwrap().parse().unwrap();
    assert!(exposure <= 2.0, "{told}");
}

#[test]
#[ignore = "boots another machine"]
fn another_program_takes_over_under_systemd_or_is_taken_back() {
    let Some(machine) = machine() else { return };
    machine.succeeds(&[&INIT[..], &["--boot", "service"]].concat());
    machine.succeeds(&["rtcctl", "start"]);
    wait_for("a service that is ready", || machine.is_ready());
    let version = || machine.succeeds(&["sh", "-c", "rtcctl --json status | grep -m 1 '\"version\"'"]);
    let other = |name: &str, script: &str| {
        machine.succeeds(&["sh", "-c", &format!("LC_ALL=C sed '{script}' $(command -v rtcctl) >/var/lib/{name}")]);
        format!("/var/lib/{name}")
    };
    let newer = other("newer", "s|0\\.1\\.0|0.1.7|g");
    let before = machine.pid();
    machine.succeeds(&["rtcctl", "upgrade", &newer, "--watch", "1s"]);
    assert_ne!(machine.pid(), before);
    assert!(version().contains("0.1.7"), "{}", version());

    // It serves its rehearsal, and dies where this variable is set.
    let dies = other("dies", "s|0\\.1\\.7|0.1.9|g;s|RTCCTL_FAULT|RTCCTL_FAUL7|g");
    let drop_in = "mkdir -p /run/systemd/system/rtcctl.service.d && printf '[Service]\\nEnvironment=RTCCTL_FAUL7=daemon-prepared\\n' >/run/systemd/system/rtcctl.service.d/test.conf && systemctl daemon-reload";
    machine.succeeds(&["sh", "-c", drop_in]);
    let output = machine.run(&["rtcctl", "upgrade", &dies, "--watch", "1s"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(16), "{told}");
    wait_for("the program from before", || machine.is_ready());
    assert!(version().contains("0.1.7"), "{}\n{told}", version());
}

/// Nothing brings this machine's network up as a service: it is there when OpenRC begins, as in a container.
#[test]
#[ignore = "it fetches a Debian: minutes, and a network"]
fn a_service_is_installed_run_mended_and_taken_back_under_openrc() {
    let machine =
        debian::debian("trixie", &["openrc", "procps"]).and_then(|base| Machine::boot_of(&base, &booted::OPENRC));
    let mut machine = match machine {
        Ok(machine) => machine,
        Err(why) => return skip(&format!("no OpenRC to start a service on: {why}")),
    };
    let files = |machine: &Machine| {
        // But for the copies that the tools of users keep of their files from before.
        machine.succeeds(&["sh", "-c", "find /etc /var/lib /var/log /usr -xdev ! -name '*-' -printf '%M %u %g %p %l\\n' | sort; find /etc -type f ! -name '*-' -print0 | sort -z | xargs -0 sha256sum"])
    };
    let before = files(&machine);
    let init = [&INIT[..], &["--boot", "service"]].concat();
    let told = machine.succeeds(&init);
    assert!(told.contains("by OpenRC, from `/usr/local/bin/rtcctl`"), "{told}");
    assert!(machine.succeeds(&init).contains("0 changes"));

    machine.succeeds(&["rc-service", "rtcctl", "start"]);
    wait_for("a service that is ready", || machine.is_ready());
    let daemon = |machine: &Machine| {
        let told =
            machine.succeeds(&["sh", "-c", "rtcctl --json status | sed -n 's/^  \"pid\": \\([0-9]*\\).*/\\1/p'"]);
        told.trim().parse::<u32>().ok()
    };
    let told = machine.succeeds(&["rc-service", "rtcctl", "status"]);
    for line in ["page         https://10.98.0.1/\n", "guardian     pid "] {
        assert!(told.contains(line), "`{line}` in {told}");
    }
    let pid = daemon(&machine).unwrap();
    let owner = machine.succeeds(&["stat", "-c", "%U", &format!("/proc/{pid}")]);
    assert_eq!(owner.trim(), "rtcctl", "it has dropped what it does not need");

    // A reload takes up an edit, or fails and changes nothing.
    machine.succeeds(&["sed", "-i", "s/^  drain: 2/  drain: 3/", "/etc/rtcctl/config.yaml"]);
    machine.succeeds(&["rc-service", "rtcctl", "reload"]);
    machine.succeeds(&["sed", "-i", "s/^access: open/access: ajar/", "/etc/rtcctl/config.yaml"]);
    assert!(!machine.run(&["rc-service", "rtcctl", "reload"]).status.success());
    machine.succeeds(&["sed", "-i", "s/^access: ajar/access: open/", "/etc/rtcctl/config.yaml"]);
    assert_eq!(daemon(&machine), Some(pid));

    machine.succeeds(&["kill", "-9", &pid.to_string()]);
    wait_for("the daemon is back", || daemon(&machine).is_some_and(|now| now != pid) && machine.is_ready());
    machine.succeeds(&["rc-service", "rtcctl", "stop"]);
    assert_eq!(machine.run(&["rtcctl", "status"]).status.code(), Some(3));

    machine.reboot();
    wait_for("the service starts with the machine", || machine.is_ready());
    assert!(machine.succeeds(&["rc-status", "--nocolor", "default"]).contains("rtcctl"));
    machine.succeeds(&["rtcctl", "uninstall", "--purge"]);
    assert!(!machine.succeeds(&["rc-status", "--nocolor", "default"]).contains("rtcctl"), "OpenRC has forgotten it");
    let after = files(&machine);
    let only_in = |these: &str, those: &str| -> Vec<String> {
        let those: BTreeSet<&str> = those.lines().collect();
        these.lines().filter(|line| !those.contains(line)).map(str::to_owned).collect()
    };
    assert_eq!((only_in(&before, &after), only_in(&after, &before)), (Vec::new(), Vec::new()));
}
