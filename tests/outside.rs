//! What is left to be done outside of this host: what is proven to be missing is exit code 12, what is merely unknown, as a
//! cloud's security group is, is a note. The DNS and the view from outside are this test's own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

mod common;
#[path = "common/fake_internet.rs"]
#[allow(dead_code, reason = "not every test uses every helper")]
mod fake_internet;
#[path = "common/lab.rs"]
#[allow(dead_code, reason = "not every test uses every helper")]
mod lab;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use assert_cmd::cargo::cargo_bin_cmd;
use common::has_program;
use fake_internet::FakeInternet;
use lab::{in_a_network_of_its_own, ip};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

const NAME: &str = "call.lab.dev";
const PUBLIC: &str = "203.0.113.7";
const DNS: &str = "198.51.100.1";

/// A host behind 1:1 NAT, as clouds have it: private addresses only, and seen from outside by a public one.
fn a_cloud_machine(dir: &Path, internet: &FakeInternet) {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let shell = |script: &str| {
        let output = assert_cmd::Command::new("sh").args(["-euc", script]).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    };
    shell("mount --make-rprivate /");
    for (name, text) in [("resolv.conf", format!("nameserver {DNS}\n")), ("hosts", "127.0.0.1 localhost\n".to_owned())]
    {
        let path = dir.join(name);
        rtcctl::sys::fs::write_atomic(&path, text.as_bytes(), 0o644).unwrap();
        shell(&format!("mount --bind {} $(readlink -f /etc/{name})", path.display()));
    }
    ip("link add wire type veth peer name far");
    ip("link set far up");
    for line in ["address add 10.0.0.2/24 dev wire", "link set wire up", "route add default via 10.0.0.1"] {
        ip(line);
    }
    ip(&format!("address add {DNS}/32 dev lo"));
    internet.sees(PUBLIC.parse::<Ipv4Addr>().unwrap());
    let at = |port: u16| SocketAddr::from((DNS.parse::<Ipv4Addr>().unwrap(), port));
    internet.serve(&[at(13478), at(13479), at(13480)], at(53), at(123));
}

#[test]
fn a_group_that_is_unknown_is_a_note_and_what_is_missing_in_the_dns_is_exit_code_12() {
    if !has_program("ip") {
        return;
    }
    in_a_network_of_its_own(|| {
        let dir = tempfile::tempdir().unwrap();
        let internet = FakeInternet::default();
        a_cloud_machine(dir.path(), &internet);
        let run = |case: &str, args: &[&str]| {
            let mut command = cargo_bin_cmd!("rtcctl");
            command.arg("--home").arg(dir.path().join(case)).args(args).env_remove("RTCCTL_HOME");
            let output = command.output().unwrap();
            let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            (output.status.code().unwrap(), text)
        };
        let stun = format!("{DNS}:13478,{DNS}:13479,{DNS}:13480");
        let fixed =
            ["init", "--yes", "--no-cloud", "--stun-server", &stun, "--public-ip", PUBLIC, "--cert", "self-signed"];
        let by_name = ["--reach", "domain", "--host", NAME];
        let group = "the provider's security group, if there is one, must let the ports above in";
        for (case, known, flags, wanted, words) in [
            ("right", &[PUBLIC][..], &by_name[..], 0, &[group][..]),
            ("missing", &[], &by_name, 12, &["has neither an A nor an AAAA record", group]),
            // What is there may pass callers on.
            ("elsewhere", &["198.51.100.99"], &by_name, 0, &["198.51.100.99", group]),
            ("address", &[], &["--reach", "ip", "--host", PUBLIC], 0, &[group]),
            ("lan", &[], &["--reach", "lan", "--host", "10.0.0.2"], 0, &[]),
        ] {
            internet.resolves(NAME, known);
            let (code, [out, err]) = run(case, &[&fixed[..], flags, &["--json"]].concat());
            assert_eq!(code, wanted, "{case}: {out}{err}");
            let plan: Value = serde_json::from_str(&out).unwrap();
            assert_eq!(plan["applied"], true, "what is missing outside keeps nobody from setting up: {plan:#}");
            let outside = plan["outside"].as_array().unwrap();
            let told = |words: &str| outside.iter().find(|one| one["what"].as_str().unwrap().contains(words));
            for words in words {
                let one = told(words).unwrap_or_else(|| panic!("{case}: `{words}` in {outside:?}"));
                assert_eq!(one["proven"], words.contains("neither"), "{case}: {one}");
                assert!(!one["hint"].as_str().unwrap().is_empty());
            }
            assert_eq!(outside.iter().any(|one| one["proven"] == true), wanted == 12, "{case}: {outside:?}");
            assert!(case != "lan" || outside.is_empty(), "{outside:?}");
            // For people: what must be done, and what to look at; a second run says it again.
            let (code, [out, _]) = run(case, &[&fixed[..], flags].concat());
            assert_eq!(code, wanted, "{case}: {out}");
            assert_eq!(out.contains("  must  "), wanted == 12, "{case}: {out}");
            assert_eq!(out.contains("  check the provider's security group"), !outside.is_empty(), "{case}: {out}");
        }
        // Nobody has looked from outside yet: unknown, and no reason to stop a script.
        let (_, [out, _]) =
            run("right", &["doctor", "--json", "--only", "outside-view", "--no-cloud", "--stun-server", &stun]);
        let report: Value = serde_json::from_str(&out).unwrap();
        assert_ne!(report["exit_code"], 12, "{report:#}");
        assert_eq!(report["findings"], serde_json::json!([]), "{report:#}");
    });
}

#[test]
fn a_dns_that_does_not_answer_is_unknown_and_no_proof() {
    if !has_program("ip") {
        return;
    }
    in_a_network_of_its_own(|| {
        let dir = tempfile::tempdir().unwrap();
        a_cloud_machine(dir.path(), &FakeInternet::default());
        // Whoever is asked is not there any more.
        rtcctl::sys::fs::write_atomic(&dir.path().join("none"), b"nameserver 198.51.100.2\n", 0o644).unwrap();
        let script = format!("mount --bind {}/none $(readlink -f /etc/resolv.conf)", dir.path().display());
        assert!(assert_cmd::Command::new("sh").args(["-euc", &script]).output().unwrap().status.success());
        let mut command = cargo_bin_cmd!("rtcctl");
        command.arg("--home").arg(dir.path().join("home")).env_remove("RTCCTL_HOME");
        command.args(["init", "--yes", "--no-cloud", "--stun-server", "198.51.100.1:13478", "--reach", "domain"]);
        command.args(["--host", NAME, "--public-ip", PUBLIC, "--cert", "self-signed"]);
        let output = command.output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{out}");
        assert!(out.contains("  check ") && !out.contains("  must "), "{out}");
    });
}
