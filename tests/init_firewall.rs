//! `rtcctl init --firewall apply`: the firewall as a step like any other. It is shown, done, proved, and taken back,
//! wherever the run is killed. Each firewall is installed from the distribution and really filters.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

mod common;
#[path = "common/firewalls.rs"]
mod firewalls;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/host.rs"]
mod host;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/tree.rs"]
mod tree;

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;

use firewalls::{FIREWALLD, IPTABLES, NFTABLES, UFW, host};
use host::{Host, assert_same};
use serde_json::Value;
use tree::tree;

/// More than any run has.
const MOMENTS: usize = 400;

/// A home that is not there yet, on ports that the servers of the test do not have.
struct Fresh<'a> {
    host: &'a Host,
    home: PathBuf,
    /// Whether the stores of the host are to trust its local CA, too.
    trusts: bool,
}

const PORTS: [&str; 8] =
    ["--web-port", "8443", "--http-port", "8080", "--turn-port", "3479", "--relay-ports", "50000-50099"];

impl<'a> Fresh<'a> {
    fn new(host: &'a Host) -> Self {
        let home = host.home().parent().unwrap().join("fresh/home");
        Self { host, home, trusts: false }
    }

    /// On a host with a list of trusted authorities of its own: three, since with all of them the tool takes seconds.
    fn with_trust(host: &'a Host) -> Self {
        host.shell(
            "mount -t tmpfs tmpfs /usr/local/share/ca-certificates
             grep -v '^[#!]' /etc/ca-certificates.conf | head -n 3 >/run/three
             cat /run/three >/etc/ca-certificates.conf
             find /etc/ssl/certs -mindepth 1 -delete
             update-ca-certificates --fresh >/dev/null 2>&1",
        );
        Self { trusts: true, ..Self::new(host) }
    }

    /// Rules, files that keep them, and whom the host trusts: names, targets and bytes.
    fn dump(&self) -> String {
        let stores = "cd /etc/ssl/certs && find . /usr/local/share/ca-certificates -printf '%m %p %l\\n' | sort
             find . /usr/local/share/ca-certificates -type f -exec sha256sum {} + | sort -k2";
        self.host.dump() + &self.host.shell(stores)
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let home = self.home.display().to_string();
        let mut command = self.host.command(env!("CARGO_BIN_EXE_rtcctl"), &[&["--home", &home][..], args].concat());
        command.env_remove("RTCCTL_HOME").env("HOME", self.host.home().parent().unwrap());
        command
    }

    fn rtcctl(&self, args: &[&str]) -> (i32, String) {
        host::told(&self.command(args).output().unwrap())
    }

    #[track_caller]
    fn succeeds(&self, args: &[&str]) -> String {
        let (code, told) = self.rtcctl(args);
        assert_eq!(code, 0, "{args:?}: {told}");
        told
    }

    fn init(&self) -> Vec<&'static str> {
        let first = ["init", "--yes", "--reach", "lan", "--host", "10.99.0.1", "--firewall", "apply"];
        let trust = if self.trusts { &["--trust"][..] } else { &[] };
        [&first[..], &PORTS, trust].concat()
    }

    /// Whether there is no trace of it, in the browser's store neither.
    fn is_gone(&self) -> bool {
        let above = self.home.parent().unwrap();
        !above.exists() && !above.with_file_name(".pki").exists()
    }
}

/// Init on a host with a service that is set up already but for the firewall, proved by packets; undo brings both back.
fn opens_and_is_undone(host: &Host) {
    let before = host.dump();
    let files = tree(&host.home());
    assert_eq!(host.reached(), firewalls::ssh(), "before");
    let (code, planned) = host.rtcctl(&["init", "--yes", "--dry-run", "--firewall", "apply"]);
    assert_eq!(code, 0, "{planned}");
    assert_same(&host.dump(), &before);
    let (code, shown) = host.rtcctl(&["firewall", "plan"]);
    assert_eq!(code, 0, "{shown}");
    let is_command = |line: &&str| !line.starts_with("note:");
    let commands: Vec<&str> = shown.lines().filter_map(|line| line.strip_prefix("  ")).filter(is_command).collect();
    assert!(commands.len() > 1 && commands.iter().all(|line| planned.contains(line)), "{shown}\n--\n{planned}");

    let (code, told) = host.rtcctl(&["init", "--yes", "--firewall", "apply"]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("--firewall apply"), "the one-liner has it: {told}");
    assert_eq!(host.reached(), firewalls::everything(), "after\n{told}");
    let (code, again) = host.rtcctl(&["init", "--yes", "--firewall", "apply"]);
    assert!(code == 0 && again.contains("0 changes"), "{again}");

    let (_, dry) = host.rtcctl(&["undo", "--dry-run"]);
    assert!(!dry.contains("firewall.json"), "it goes with what it tells of: {dry}");
    let (code, told) = host.rtcctl(&["undo"]);
    let deed = |text: &str| text.lines().find(|line| line.contains("the firewall")).map(str::to_owned);
    assert!(code == 0 && deed(&told).is_some_and(|line| line.starts_with("  close") && line.contains("443")), "{told}");
    assert_eq!(deed(&dry), deed(&told));
    assert_eq!(host.reached(), firewalls::ssh(), "undone\n{told}");
    assert_same(&host.dump(), &before);
    // The journal tells of one more run; there is nothing else.
    assert_eq!(tree(&host.home()).without("state/setup"), files.without("state/setup"));
}

/// Kills an init at each of `moments`, and takes it back or has it completed; then the undo likewise.
fn survives_kills(fresh: &Fresh, scope: &str, moments: impl Fn(usize) -> bool) -> usize {
    let before = fresh.dump();
    let killed_at = |moment: usize, args: &[&str]| {
        let output = fresh.command(args).env("RTCCTL_FAULT", format!("{scope}:{moment}")).output().unwrap();
        let (code, told) = host::told(&output);
        let is_killed = output.status.signal() == Some(9);
        assert!(is_killed || code == 0, "at {moment}: {told}");
        is_killed
    };
    let mut killed = 0;
    for moment in (0..MOMENTS).filter(|moment| moments(*moment)) {
        if !killed_at(moment, &fresh.init()) {
            break;
        }
        killed += 1;
        if moment % 2 == 0 {
            // The next one takes it back and does it all.
            fresh.succeeds(&fresh.init());
            assert!(fresh.succeeds(&fresh.init()).contains("0 changes"), "at {moment}");
            let told = fresh.succeeds(&["firewall", "status"]);
            assert!(told.contains("closed       -"), "at {moment}: {told}");
        }
        fresh.succeeds(&["undo"]);
        assert!(fresh.is_gone(), "at {moment}");
        assert_same(&fresh.dump(), &before);
    }
    fresh.succeeds(&["undo"]);
    for moment in (0..MOMENTS).filter(|moment| moments(*moment)) {
        fresh.succeeds(&fresh.init());
        let verb = if moment % 2 == 0 { "undo" } else { "uninstall" };
        if !killed_at(moment, &[verb]) {
            break;
        }
        killed += 1;
        fresh.succeeds(&[verb]);
        assert!(fresh.is_gone(), "at {moment} of {verb}");
        assert_same(&fresh.dump(), &before);
    }
    fresh.succeeds(&["undo"]);
    assert!(fresh.is_gone());
    assert_same(&fresh.dump(), &before);
    killed
}

#[test]
fn nftables_is_opened_by_init_and_closed_by_undo_wherever_either_is_killed() {
    let Some(host) = host(&[], NFTABLES) else { return };
    opens_and_is_undone(&host);
    assert!(survives_kills(&Fresh::new(&host), "firewall", |moment| moment % 2 == 0) >= 4);
}

#[test]
fn iptables_is_opened_by_init_and_closed_by_undo() {
    let Some(host) = host(&["ip6tables-restore"], IPTABLES) else { return };
    opens_and_is_undone(&host);
    assert!(survives_kills(&Fresh::new(&host), "firewall", |moment| moment % 2 == 1) >= 4);
}

#[test]
fn ufw_is_opened_by_init_and_closed_by_undo() {
    let Some(host) = host(&["ufw"], UFW) else { return };
    opens_and_is_undone(&host);
    assert!(survives_kills(&Fresh::new(&host), "firewall", |moment| moment == 1) == 2);

    // Switched off in between, it keeps what it was told, and undo takes that out all the same.
    let before = host.dump();
    let fresh = Fresh::new(&host);
    fresh.succeeds(&fresh.init());
    host.run("ufw", &["disable"]);
    let told = fresh.succeeds(&["undo"]);
    assert!(told.contains("the firewall") && fresh.is_gone(), "{told}");
    host.shell("ufw --force enable");
    assert_same(&host.dump(), &before);
}

#[test]
fn firewalld_is_opened_by_init_and_closed_by_undo() {
    let Some(host) = host(&["firewalld", "firewall-cmd", "dbus-daemon"], FIREWALLD) else { return };
    opens_and_is_undone(&host);
    assert!(survives_kills(&Fresh::new(&host), "firewall", |moment| moment == 2) == 2);
}

/// What `init --trust` needs besides.
const TRUST: [&str; 2] = ["certutil", "update-ca-certificates"];

/// Every moment of every journal, with trust and firewall in one run: `scripts/test --full`.
fn survives_every_kill(host: &Host) {
    let fresh = Fresh::with_trust(host);
    let journal = survives_kills(&fresh, "setup", |_| true);
    let rules = survives_kills(&fresh, "firewall", |_| true);
    assert!(journal > 50 && rules >= 4, "{journal} {rules}");
}

/// A few moments of the same, which `RTCCTL_SEED` chooses.
#[test]
fn a_run_that_trusts_and_opens_is_taken_back_wherever_it_is_killed() {
    let Some(host) = host(&TRUST, NFTABLES) else { return };
    let fresh = Fresh::with_trust(&host);
    let seed: usize = std::env::var("RTCCTL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    // One of each twenty-three, whatever the seed is; towards the end are the stores and the firewall.
    let chosen = |moment: usize| (moment + seed * 5).is_multiple_of(23);
    let killed = survives_kills(&fresh, "setup", chosen);
    println!("killed at {killed} moments");
    assert!(killed >= 2, "{killed}");
}

#[test]
#[ignore = "it takes minutes"]
fn whatever_is_killed_at_any_moment_with_nftables_the_host_is_as_it_was() {
    let Some(host) = host(&TRUST, NFTABLES) else { return };
    survives_every_kill(&host);
}

#[test]
#[ignore = "it takes minutes"]
fn whatever_is_killed_at_any_moment_with_iptables_the_host_is_as_it_was() {
    let Some(host) = host(&[&TRUST[..], &["ip6tables-restore"]].concat(), IPTABLES) else { return };
    survives_every_kill(&host);
}

#[test]
#[ignore = "it takes a quarter of an hour"]
fn whatever_is_killed_at_any_moment_with_ufw_the_host_is_as_it_was() {
    let Some(host) = host(&[&TRUST[..], &["ufw"]].concat(), UFW) else { return };
    survives_every_kill(&host);
}

#[test]
#[ignore = "it takes a quarter of an hour"]
fn whatever_is_killed_at_any_moment_with_firewalld_the_host_is_as_it_was() {
    let programs = [&TRUST[..], &["firewalld", "firewall-cmd", "dbus-daemon"]].concat();
    let Some(host) = host(&programs, FIREWALLD) else { return };
    survives_every_kill(&host);
}

/// firewalld dies between two commands: nothing is said to be as it was before it is, and the next run sees to it.
#[test]
#[ignore = "it takes half a minute"]
fn a_firewall_that_dies_while_it_is_opened_is_not_forgotten() {
    let Some(host) = host(&["firewalld", "firewall-cmd", "dbus-daemon"], FIREWALLD) else { return };
    let fresh = Fresh::new(&host);
    let before = host.dump();
    host.shell(
        "mkdir /run/shim
         cat >/run/shim/firewall-cmd <<'END'
#!/bin/sh
case \"$*\" in *--permanent*--add-service=*) kill -9 \"$(cat /run/firewalld.number)\" ;; esac
exec /usr/bin/firewall-cmd \"$@\"
END
         chmod +x /run/shim/firewall-cmd",
    );
    let mut init = fresh.command(&fresh.init());
    init.env("PATH", format!("/run/shim:{}", std::env::var("PATH").unwrap()));
    let (code, told) = host::told(&init.output().unwrap());
    assert!(
        code == 1 && told.contains("start firewalld") && told.contains("not all that was changed"),
        "{code} {told}"
    );
    let (code, told) = fresh.rtcctl(&["undo"]);
    assert!(code == 1 && told.contains("start firewalld") && fresh.home.exists(), "{code} {told}");
    host.shell(
        "setsid firewalld --nofork --nopid >/dev/null 2>&1 &
         echo $! >/run/firewalld.number
         tries=0
         until firewall-cmd --state >/dev/null 2>&1; do tries=$((tries + 1)); [ $tries -lt 100 ]; done
         firewall-cmd --zone=public --add-port=50000-50010/udp >/dev/null",
    );
    fresh.succeeds(&["undo"]);
    assert!(fresh.is_gone());
    // One that was started anew after that adds its own rules to those that it had: twice, and in another order.
    let sorted = |dump: &str| {
        let mut lines: Vec<&str> = dump.lines().collect();
        lines.sort_unstable();
        lines.dedup();
        lines.join("\n")
    };
    assert_same(&sorted(&host.dump()), &sorted(&before));
    host.shell("kill \"$(cat /run/firewalld.number)\"");
}

#[test]
fn a_firewall_that_cannot_be_opened_takes_the_whole_init_back() {
    let Some(host) = host(&["ufw"], UFW) else { return };
    let fresh = Fresh::new(&host);
    let before = host.dump();
    // A profile that cannot be written.
    host.shell("mount -t tmpfs -o ro tmpfs /etc/ufw/applications.d");
    let (code, told) = fresh.rtcctl(&fresh.init());
    host.shell("umount /etc/ufw/applications.d");
    assert!(code == 16 && fresh.is_gone(), "{code} {told}");
    assert_same(&host.dump(), &before);

    // While another run is at it, nothing is begun.
    let held = ["/run/rtcctl-firewall.lock", env!("CARGO_BIN_EXE_rtcctl"), "--home"];
    let home = fresh.home.display().to_string();
    let all = [&held[..], &[&home], &fresh.init()[..]].concat();
    let (code, told) = host::told(&host.command("flock", &all).output().unwrap());
    assert!(code == 14 && fresh.is_gone(), "{code} {told}");
    // Both kinds of iptables filter, or a change waits: told before anything is done.
    let (code, told) = host.rtcctl(&["firewall", "open", "--confirm", "600"]);
    assert_eq!(code, 0, "{told}");
    let (code, told) = host.rtcctl(&["init", "--yes", "--firewall", "apply"]);
    assert!(code == 1 && told.contains("waits to be confirmed") && told.contains("explain firewall-waits"), "{told}");
    let (code, told) = host.rtcctl(&["firewall", "close"]);
    assert_eq!(code, 0, "{told}");
    assert_same(&host.dump(), &before);
}

#[test]
fn yes_alone_changes_no_firewall_and_nobody_but_root_opens_one() {
    let Some(host) = host(&[], NFTABLES) else { return };
    let fresh = Fresh::new(&host);
    let before = host.dump();
    let flags = [&["init", "--yes", "--reach", "lan", "--host", "10.99.0.1"][..], &PORTS].concat();
    let told = fresh.succeeds(&flags);
    assert!(told.contains("Firewall: nothing is changed"), "{told}");
    assert_same(&host.dump(), &before);
    // Asked for, the very commands are shown, and none is run.
    let shown = fresh.succeeds(&["init", "--yes", "--firewall", "show", "--dry-run"]);
    assert!(shown.contains("nft insert rule inet filter outside handle"), "{shown}");
    let told = fresh.succeeds(&["init", "--yes", "--firewall", "apply", "--json"]);
    let plan: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(plan["changes"], plan["firewall_changes"]);
    assert!(plan["firewall"]["nftables"].as_array().unwrap().len() >= 2, "{plan}");
    // A later one with other ports opens those; undo brings the earlier ones back.
    let open = host.dump();
    fresh.succeeds(&["init", "--yes", "--firewall", "apply", "--relay-ports", "51000-51099"]);
    assert!(host.dump().contains("51000-51099") && !host.dump().contains("50000-50099"));
    let told = fresh.succeeds(&["undo"]);
    assert!(told.contains("restore the firewall"), "{told}");
    assert_same(&host.dump(), &open);
    fresh.succeeds(&["uninstall"]);
    assert!(fresh.is_gone());
    assert_same(&host.dump(), &before);

    let dir = host.home().parent().unwrap().join("nobody");
    host.shell(&format!("chmod a+rx {}; mkdir -m 777 {}", dir.parent().unwrap().display(), dir.display()));
    let home = dir.join("home").display().to_string();
    let somebody = ["--reuid=65534", "--clear-groups", env!("CARGO_BIN_EXE_rtcctl"), "--home", &home];
    let (code, told) = host::told(&host.command("setpriv", &[&somebody[..], &fresh.init()].concat()).output().unwrap());
    assert!(code == 15 && told.contains("--firewall show") && !dir.join("home").exists(), "{code} {told}");
}
