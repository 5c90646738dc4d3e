//! `rtcctl doctor` on a host behind 1:1 NAT, with one thing wrong at a time: it must name that thing first, and nothing
//! where nothing is wrong. Host, router and what is asked on the internet are network namespaces of this test.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

mod common;
#[path = "common/fake_internet.rs"]
mod fake_internet;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/lab.rs"]
mod lab;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use assert_cmd::cargo::cargo_bin_cmd;
use fake_internet::FakeInternet;
use lab::{in_a_network_of_its_own, ip};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use rtcctl::config::set_value;
use rtcctl::sys::fs::write_atomic;
use serde_json::Value;

const NAME: &str = "call.lab.dev";
const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const STUN: [&str; 3] = ["198.51.100.1:3478", "198.51.100.1:3479", "198.51.100.1:3480"];
const TIME: &str = "198.51.100.1:123";
const DNS: &str = "198.51.100.1:53";
const COMMAND_WITHIN: Duration = Duration::from_secs(60);
/// What the machine that runs this test may have wrong by itself.
const MACHINE: [&str; 6] = ["bandwidth", "conntrack", "container", "disk", "memory", "open-files"];

/// What is done in the network of the router.
type Errand = Box<dyn FnOnce() + Send>;

struct Lab {
    dir: tempfile::TempDir,
    internet: FakeInternet,
    router: mpsc::Sender<Errand>,
}

impl Lab {
    /// Lays the network around this thread, which is in one of its own already, and sets a service up in it.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let internet = FakeInternet::default();
        internet.sees(PUBLIC);
        internet.resolves(NAME, &["203.0.113.7"]);
        // Names are looked up where this test says.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        shell("mount --make-rprivate /");
        for (name, text) in [("resolv.conf", "nameserver 198.51.100.1\n"), ("hosts", "127.0.0.1 localhost\n")] {
            let path = dir.path().join(name);
            write_atomic(&path, text.as_bytes(), 0o644).unwrap();
            shell(&format!("mount --bind {} $(readlink -f /etc/{name})", path.display()));
        }
        let lab = Self { dir, router: router(), internet };
        for line in ["address add 10.0.0.2/24 dev out", "link set out up", "route add default via 10.0.0.1"] {
            ip(line);
        }
        let internet = lab.internet.clone();
        lab.at_router(move || {
            for line in [
                "address add 10.0.0.1/24 dev in",
                "link set in up",
                "route add 203.0.113.7/32 dev in",
                "address add 198.51.100.1/32 dev lo",
            ] {
                ip(line);
            }
            // Packets that go back to where they came from are its business.
            for (key, value) in [("ip_forward", 1), ("conf/all/send_redirects", 0), ("conf/in/send_redirects", 0)] {
                shell(&format!("echo {value} >/proc/sys/net/ipv4/{key}"));
            }
            let at = |text: &str| text.parse::<SocketAddr>().unwrap();
            internet.serve(&STUN.map(at), at(DNS), at(TIME));
        });
        lab.set_hairpin(true);
        let host = PUBLIC.to_string();
        lab.run(&[
            "init",
            "--yes",
            "--reach",
            "domain",
            "--host",
            NAME,
            "--host",
            &host,
            "--public-ip",
            &host,
            "--cert",
            "self-signed",
            "--firewall",
            "skip",
        ]);
        lab
    }

    fn at_router(&self, errand: impl FnOnce() + Send + 'static) {
        let (done, is_done) = mpsc::channel();
        let errand = move || {
            errand();
            done.send(()).unwrap();
        };
        self.router.send(Box::new(errand)).unwrap();
        is_done.recv().unwrap();
    }

    /// Whether the router lets the host reach itself by its public address.
    fn set_hairpin(&self, is_on: bool) {
        self.at_router(move || {
            shell("nft delete table ip nat 2>/dev/null || true");
            if is_on {
                nft(
                    "table ip nat {
                       chain in { type nat hook prerouting priority dstnat; ip daddr 203.0.113.7 dnat to 10.0.0.2; }
                       chain own { type nat hook output priority -100; ip daddr 203.0.113.7 dnat to 10.0.0.2; }
                       chain out { type nat hook postrouting priority srcnat; ip saddr 10.0.0.2 ip daddr 10.0.0.2 snat to 203.0.113.7; }
                     }",
                );
            }
        });
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn output(&self, args: &[&str]) -> std::process::Output {
        let mut command = cargo_bin_cmd!("rtcctl");
        command.arg("--home").arg(self.home()).args(args).env_remove("RTCCTL_HOME");
        command.timeout(COMMAND_WITHIN).output().unwrap()
    }

    fn run(&self, args: &[&str]) {
        let output = self.output(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn set(&self, key: &str, value: &str) {
        let file = self.home().join("config.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        write_atomic(&file, set_value(&text, key, value).unwrap().as_bytes(), 0o644).unwrap();
    }

    /// As `set`, in force.
    fn apply(&self, key: &str, value: &str) {
        self.set(key, value);
        self.run(&["reload"]);
    }

    fn doctor(&self, more: &[&str]) -> Diagnosed {
        let stun = STUN.join(",");
        let mut args = vec!["doctor", "--json", "--no-cloud", "--stun-server", &stun, "--time-server", TIME];
        args.extend(more);
        let output = self.output(&args);
        let document: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(document["exit_code"], output.status.code().unwrap());
        Diagnosed { document }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.output(&["stop"]);
    }
}

struct Diagnosed {
    document: Value,
}

impl Diagnosed {
    fn findings(&self) -> Vec<&Value> {
        let all = self.document["findings"].as_array().unwrap().iter();
        all.filter(|one| !MACHINE.contains(&one["code"].as_str().unwrap())).collect()
    }

    fn codes(&self) -> Vec<String> {
        self.findings().iter().map(|one| one["code"].as_str().unwrap().to_owned()).collect()
    }

    fn list(&self, key: &str) -> Vec<String> {
        self.document[key].as_array().unwrap().iter().map(|one| one["code"].as_str().unwrap().to_owned()).collect()
    }
}

/// A thread in a network of its own, at the other end of the cable `out`.
fn router() -> mpsc::Sender<Errand> {
    let (sender, errands) = mpsc::channel::<Errand>();
    let (told, thread) = mpsc::channel();
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        told.send(gettid()).unwrap();
        for errand in errands {
            errand();
        }
    });
    let thread = thread.recv().unwrap();
    ip(&format!("link add out type veth peer name in netns {thread}"));
    sender
}

fn shell(script: &str) {
    let output = assert_cmd::Command::new("sh").args(["-c", script]).timeout(COMMAND_WITHIN).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

fn nft(rules: &str) {
    // A chain and its table must not end on one line.
    let rules = rules.replace("} }", "}\n}");
    let mut command = assert_cmd::Command::new("nft");
    let output = command.args(["-f", "-"]).write_stdin(rules).timeout(COMMAND_WITHIN).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A pair for both hosts whose time is over.
fn expired_pair(folder: &Path) -> (PathBuf, PathBuf) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![NAME.to_owned(), PUBLIC.to_string()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    let (chain_file, key_file) = (folder.join("old.pem"), folder.join("old.key"));
    write_atomic(&chain_file, certificate.pem().as_bytes(), 0o644).unwrap();
    write_atomic(&key_file, key.serialize_pem().as_bytes(), 0o600).unwrap();
    (chain_file, key_file)
}

/// One thing that is wrong, what it is to be called, and how it comes and goes.
struct Fault {
    name: &'static str,
    code: &'static str,
    plant: Box<dyn Fn(&Lab)>,
    heal: Box<dyn Fn(&Lab)>,
}

fn fault(
    name: &'static str,
    code: &'static str,
    plant: impl Fn(&Lab) + 'static,
    heal: impl Fn(&Lab) + 'static,
) -> Fault {
    Fault { name, code, plant: Box::new(plant), heal: Box::new(heal) }
}

fn faults() -> Vec<Fault> {
    // What comes from this host itself passes, as with every firewall that people use.
    const OWN: &str = "iif lo accept; ct state established,related accept; meta l4proto icmp accept;";
    let open_again = |_: &Lab| shell("nft delete table inet lab");
    vec![
        fault(
            "UDP is closed",
            "firewall-turn-udp",
            |_| {
                nft(&format!(
                    "table inet lab {{ chain input {{ type filter hook input priority 0; {OWN} udp dport 3478 drop; }} }}"
                ))
            },
            open_again,
        ),
        fault(
            "the relay range is closed",
            "firewall-range",
            |_| {
                nft(&format!(
                    "table inet lab {{ chain input {{ type filter hook input priority 0; policy drop; {OWN}
                       tcp dport {{ 80, 443, 3478 }} accept; udp dport 3478 accept; }} }}"
                ));
            },
            open_again,
        ),
        fault(
            "half of the relay range is closed",
            "firewall-range",
            |_| {
                nft(&format!(
                    "table inet lab {{ chain input {{ type filter hook input priority 0; policy drop; {OWN}
                       tcp dport {{ 80, 443, 3478 }} accept; udp dport {{ 3478, 49160-50000 }} accept; }} }}"
                ));
            },
            open_again,
        ),
        fault(
            "a foreign chain drops the page",
            "firewall-web",
            |_| {
                nft(&format!(
                    "table inet lab {{
                       chain ours {{ type filter hook input priority 0; tcp dport 443 accept; }}
                       chain foreign {{ type filter hook input priority 10; {OWN} tcp dport 443 drop; }} }}"
                ));
            },
            open_again,
        ),
        fault(
            "a rule of ours was taken away",
            "firewall-drift",
            |lab| {
                let dropping = format!(
                    "table inet lab {{ chain input {{ type filter hook input priority 0; policy drop; {OWN} }} }}"
                );
                nft(&dropping);
                lab.run(&["firewall", "open"]);
                shell("nft delete table inet lab");
                nft(&dropping);
            },
            |lab| {
                shell("nft delete table inet lab");
                lab.run(&["firewall", "close"]);
            },
        ),
        fault(
            "the public address is wrong",
            "public-address",
            |lab| lab.apply("turn.public_ips", "[203.0.113.99]"),
            |lab| lab.apply("turn.public_ips", "[203.0.113.7]"),
        ),
        fault(
            "a private address is advertised",
            "relay-address",
            |lab| lab.apply("turn.public_ips", "[]"),
            |lab| lab.apply("turn.public_ips", "[203.0.113.7]"),
        ),
        fault(
            "the DNS leads elsewhere",
            "dns-v4",
            |lab| lab.internet.resolves(NAME, &["198.51.100.99"]),
            |lab| lab.internet.resolves(NAME, &["203.0.113.7"]),
        ),
        fault(
            "there is an AAAA record and no IPv6",
            "dns-v6",
            |lab| lab.internet.resolves(NAME, &["203.0.113.7", "2001:db8::7"]),
            |lab| lab.internet.resolves(NAME, &["203.0.113.7"]),
        ),
        fault("the clock is off", "clock", |lab| lab.internet.is_ahead(3600), |lab| lab.internet.is_ahead(0)),
        fault("there is no hairpin", "hairpin", |lab| lab.set_hairpin(false), |lab| lab.set_hairpin(true)),
        fault(
            "the certificate has expired",
            "certificate-dates",
            |lab| {
                lab.run(&["stop"]);
                let (chain, key) = expired_pair(lab.dir.path());
                lab.set("certificate.cert_file", &chain.display().to_string());
                lab.set("certificate.key_file", &key.display().to_string());
                lab.set("certificate.source", "files");
                assert_eq!(lab.output(&["start"]).status.code(), Some(78));
            },
            |lab| {
                lab.set("certificate.source", "self-signed");
                lab.run(&["start"]);
            },
        ),
    ]
}

#[test]
fn the_planted_cause_is_named_first_and_nothing_where_nothing_is_planted() {
    if !["ip", "nft", "mount"].into_iter().all(common::has_program) {
        return;
    }
    in_a_network_of_its_own(|| {
        let lab = Lab::new();
        lab.run(&["start"]);
        let mut matrix = vec![("nothing", String::new(), lab.doctor(&[]).codes())];
        for Fault { name, code, plant, heal } in faults() {
            plant(&lab);
            matrix.push((name, code.to_owned(), lab.doctor(&[]).codes()));
            heal(&lab);
        }
        // Another program is where the service should be.
        lab.run(&["stop"]);
        let other = TcpListener::bind("0.0.0.0:443").unwrap();
        let diagnosed = lab.doctor(&[]);
        matrix.push(("a port is taken", "port-taken".to_owned(), diagnosed.codes()));
        assert_eq!(diagnosed.document["exit_code"], 11);
        assert!(diagnosed.findings()[0]["evidence"].as_str().unwrap().contains(&std::process::id().to_string()));
        drop(other);
        lab.run(&["start"]);
        matrix.push(("all is healed", String::new(), lab.doctor(&[]).codes()));
        println!("{:<36}  {:<18}  found", "planted", "wanted first");
        for (planted, wanted, found) in &matrix {
            let mark = if found.first().map_or("", String::as_str) == wanted { ' ' } else { '!' };
            println!("{mark} {planted:<34}  {wanted:<18}  {}", found.join(" "));
        }
        for (planted, wanted, found) in &matrix {
            assert_eq!(found.first().map_or("", String::as_str), wanted, "planted: {planted}; found: {found:?}");
        }
        // A cause is enough: what follows from it is no finding of its own.
        let others: usize = matrix.iter().map(|(_, _, found)| found.len().saturating_sub(1)).sum();
        assert!(others <= 1, "more is found than was planted");
    });
}

#[test]
fn who_is_not_root_or_asks_nobody_learns_what_can_be_known_and_safe_things_are_fixed() {
    if !["ip", "nft", "setpriv", "mount"].into_iter().all(common::has_program) {
        return;
    }
    in_a_network_of_its_own(|| {
        let lab = Lab::new();
        // Not started: that is what is told, by the exit code, too.
        let diagnosed = lab.doctor(&["--offline"]);
        assert_eq!((diagnosed.codes(), &diagnosed.document["exit_code"]), (vec!["running".to_owned()], &11.into()));
        for unknown in ["clock", "stun-agreement", "tasks"] {
            assert!(diagnosed.list("unknown").contains(&unknown.to_owned()), "{unknown}");
        }
        // A packet arrives at whoever listens, if that is not the service.
        assert!(diagnosed.list("ok").contains(&"firewall-web".to_owned()), "{:?}", diagnosed.list("unknown"));
        let key = lab.home().join("certs/ca.key");
        let mode = |mode: u32| std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o644);
        let only = ["--only", "home-permissions", "--offline"];
        assert_eq!(lab.doctor(&only).codes(), ["home-permissions"]);
        let fixed = lab.doctor(&[&only[..], &["--fix"]].concat());
        assert_eq!((fixed.codes(), fixed.list("ok")), (Vec::new(), vec!["home-permissions".to_owned()]));
        assert_eq!(fixed.document["fixed"].as_array().unwrap().len(), 1);
        assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        // A rule of ours that somebody took out comes back.
        let dropping = "table inet lab { chain input { type filter hook input priority 0; policy drop; } }";
        nft(dropping);
        lab.run(&["firewall", "open"]);
        shell("nft delete table inet lab");
        nft(dropping);
        let only = ["--only", "firewall-drift", "--offline"];
        assert_eq!(lab.doctor(&only).codes(), ["firewall-drift"]);
        let fixed = lab.doctor(&[&only[..], &["--fix"]].concat());
        // That a restart loses it is only good to know.
        let is_open = |diagnosed: &Diagnosed| diagnosed.findings().iter().all(|one| one["severity"] == "info");
        assert!(is_open(&fixed) && fixed.document["fixed"].as_array().unwrap().len() == 1, "{}", fixed.document);
        lab.run(&["firewall", "status"]);
        lab.run(&["firewall", "close"]);
        shell("nft delete table inet lab");
        // Somebody else on this host.
        let mut command = assert_cmd::Command::new("setpriv");
        let program = env!("CARGO_BIN_EXE_rtcctl");
        let home = tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o777)).tempdir().unwrap();
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", program, "--home"]);
        command.arg(home.path().join("none")).args(["doctor", "--offline", "--json"]).timeout(COMMAND_WITHIN);
        let output = command.output().unwrap();
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let diagnosed = Diagnosed { document };
        assert_eq!(diagnosed.codes()[0], "config");
        assert!(diagnosed.list("unknown").contains(&"firewall-web".to_owned()));
        // What is no check is told at once.
        let output = lab.output(&["doctor", "firewall-wep"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("did you mean `firewall-web`?"));
        let list = String::from_utf8(lab.output(&["doctor", "--list"]).stdout).unwrap();
        assert!(list.lines().count() >= 30);
    });
}

#[test]
fn what_the_relay_carries_is_measured_while_nobody_uses_it_and_no_user_shows() {
    if !["ip", "nft", "mount", "turnutils_uclient"].into_iter().all(common::has_program) {
        return;
    }
    in_a_network_of_its_own(|| {
        let lab = Lab::new();
        lab.run(&["start"]);
        let turn = || {
            let status: Value = serde_json::from_slice(&lab.output(&["status", "--json"]).stdout).unwrap();
            status["turn"].clone()
        };
        let before = turn();
        let shown = String::from_utf8(lab.output(&["doctor", "bandwidth"]).stdout).unwrap();
        assert!(shown.contains("Mbit/s through the relay on this host = about "), "{shown}");
        let after = turn();
        for key in ["allocations", "relayed_bytes", "relayed_packets"] {
            assert_eq!(after[key], before[key], "{key}");
        }
        // A caller is not to be slowed down.
        let login: Value = serde_json::from_slice(&lab.output(&["turn", "credentials", "--json"]).stdout).unwrap();
        let word = |key: &str| login[key].as_str().unwrap().to_owned();
        #[expect(clippy::disallowed_methods, reason = "tests start programs")]
        let mut caller = std::process::Command::new("turnutils_uclient");
        caller.args(["-y", "-n", "1000000", "-u", &word("username"), "-w", &word("credential"), "10.0.0.2"]);
        let mut caller =
            caller.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        common::until("a caller has a relay", COMMAND_WITHIN, || turn()["allocations"].as_u64() > Some(0));
        let shown = String::from_utf8(lab.output(&["doctor", "bandwidth"]).stdout).unwrap();
        caller.kill().unwrap();
        caller.wait().unwrap();
        assert!(shown.contains("not measured") && shown.contains("relays are in use"), "{shown}");
    });
}

#[test]
fn another_machine_tells_what_it_could_reach_once_and_the_doctor_shows_it() {
    if !["ip", "nft", "mount"].into_iter().all(common::has_program) {
        return;
    }
    in_a_network_of_its_own(|| {
        let lab = Lab::new();
        lab.run(&["start"]);
        // By whoever has the invitation, beyond the router.
        let look = || -> (i32, Value) {
            let invitation = lab.output(&["probe", "--invite"]);
            assert!(invitation.status.success());
            let (told, answer) = mpsc::channel();
            let elsewhere = lab.dir.path().join("elsewhere");
            lab.at_router(move || {
                let mut command = cargo_bin_cmd!("rtcctl");
                command.arg("--home").arg(elsewhere).args(["probe", "--json", "--token-file", "-"]);
                let output = command.write_stdin(invitation.stdout).timeout(COMMAND_WITHIN).output().unwrap();
                told.send((output.status.code().unwrap(), output.stdout)).unwrap();
            });
            let (code, document) = answer.recv().unwrap();
            (code, serde_json::from_slice(&document).unwrap())
        };
        let (code, seen) = look();
        assert_eq!((code, &seen["ok"]), (0, &true.into()), "{seen:#}");
        let word = seen["report"].as_str().unwrap();
        lab.run(&["probe", "--report", word]);
        assert_eq!(lab.doctor(&["--only", "outside-view"]).list("ok"), ["outside-view"]);
        // How much came over the way, through both relays.
        let shown = String::from_utf8(lab.output(&["doctor", "outside-view"]).stdout).unwrap();
        assert!(shown.contains("through the relay") && shown.contains("Mbit/s"), "{shown}\n{seen:#}");
        // Good once.
        assert_eq!(lab.output(&["probe", "--report", word]).status.code(), Some(1));
        nft(
            "table inet lab { chain input { type filter hook input priority 0; iif lo accept; udp dport 3478 drop; } }",
        );
        let (code, seen) = look();
        assert_eq!((code, &seen["ok"]), (1, &false.into()), "{seen:#}");
        let output = lab.output(&["probe", "--report", seen["report"].as_str().unwrap()]);
        assert_eq!(output.status.code(), Some(12));
        let diagnosed = lab.doctor(&["--only", "outside-view"]);
        assert_eq!(
            (diagnosed.codes(), &diagnosed.document["exit_code"]),
            (vec!["outside-view".to_owned()], &12.into())
        );
        let evidence = diagnosed.findings()[0]["evidence"].as_str().unwrap().to_owned();
        assert!(evidence.contains("turn:call.lab.dev:3478?transport=udp"), "{evidence}");
        assert!(!evidence.contains("transport=tcp"), "{evidence}");
    });
}
