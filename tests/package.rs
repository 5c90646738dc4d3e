//! What `scripts/release` makes of a program: checksums, the list of its parts, and a package that Debian takes in, brings
//! up to date under a running service, and takes out again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start programs")]

#[allow(dead_code, reason = "other tests boot other machines")]
#[path = "common/booted.rs"]
mod booted;
mod common;
#[allow(dead_code, reason = "not every test uses every helper")]
#[path = "common/knocker.rs"]
mod knocker;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use booted::{Machine, PATIENCE};
use common::{has_program, skip, until};
use knocker::Knocker;
use serde_json::Value;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/release");
const PROGRAM: &str = env!("CARGO_BIN_EXE_rtcctl");
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What a newer program calls itself: of the same length.
const NEWER: &str = "0.1.7";

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The target that tests are built for, whose crates are all there.
fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

fn has_what_it_takes() -> bool {
    ["dpkg-deb", "jq", "strip", "git"].into_iter().all(has_program)
}

/// Packs a program into a folder, and gives the package.
fn pack(program: &Path, out: &Path, variables: &[(&str, &str)]) -> PathBuf {
    let mut command = Command::new(SCRIPT);
    command.args(["--target", &target(), "--binary"]).arg(program).arg("--out").arg(out);
    succeeds(command.envs(variables.iter().copied()));
    let files = std::fs::read_dir(out).unwrap().map(|entry| entry.unwrap().path());
    files.into_iter().find(|path| path.extension().is_some_and(|end| end == "deb")).unwrap()
}

fn make_program(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Each crate that is linked in or takes part in the build, as cargo tells it for people, with its checksum.
fn parts() -> BTreeMap<String, Option<String>> {
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).unwrap();
    let value = |block: &str, key: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")))?;
        Some(line.trim_end_matches('"').to_owned())
    };
    let locked: BTreeMap<String, Option<String>> = lock
        .split("[[package]]")
        .filter_map(|block| {
            Some((format!("{}@{}", value(block, "name")?, value(block, "version")?), value(block, "checksum")))
        })
        .collect();
    let line = ["tree", "--locked", "--edges", "normal,build", "--prefix", "none", "--format", "{p}", "--target"];
    let tree = succeeds(Command::new(env!("CARGO")).args(line).arg(target()).current_dir(env!("CARGO_MANIFEST_DIR")));
    let names = tree.lines().filter_map(|line| line.split_once(" v"));
    let names = names.map(|(name, rest)| format!("{name}@{}", rest.split(' ').next().unwrap()));
    names.map(|name| (name.clone(), locked[&name].clone())).collect()
}

#[test]
fn a_program_is_packed_the_same_twice_with_its_sums_and_the_list_of_its_parts() {
    if !has_what_it_takes() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // Small, static, and rtcctl all the same.
    let program = dir.path().join("program");
    make_program(&program, &format!("#!/bin/sh\nexec '{PROGRAM}' \"$@\"\n"));
    let outs = ["first", "second"].map(|name| dir.path().join(name));
    let packages = outs.clone().map(|out| pack(&program, &out, &[]));
    let sums = outs.clone().map(|out| std::fs::read_to_string(out.join("SHA256SUMS")).unwrap());
    assert_eq!(sums[0], sums[1]);
    assert_eq!(sums[0].lines().count(), 3, "{}", sums[0]);
    succeeds(Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(&outs[1]));

    let document = std::fs::read(outs[0].join(format!("rtcctl-{VERSION}.cdx.json"))).unwrap();
    let document: Value = serde_json::from_slice(&document).unwrap();
    assert_eq!((&document["bomFormat"], &document["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let named = |part: &Value| {
        let sum = part["hashes"][0]["content"].as_str().map(str::to_owned);
        assert!(part["licenses"][0]["expression"].is_string(), "{part}");
        (part["bom-ref"].as_str().unwrap().to_owned(), sum)
    };
    let mut listed: BTreeMap<_, _> = document["components"].as_array().unwrap().iter().map(named).collect();
    let (own, digest) = named(&document["metadata"]["component"]);
    assert!(sums[0].contains(&digest.unwrap()));
    listed.insert(own, None);
    let wanted = parts();
    let only_in = |these: &BTreeMap<String, Option<String>>, those: &BTreeMap<String, Option<String>>| {
        these.iter().filter(|(name, sum)| those.get(*name) != Some(sum)).map(|(name, _)| name.clone()).collect()
    };
    let (more, less): (Vec<String>, Vec<String>) = (only_in(&listed, &wanted), only_in(&wanted, &listed));
    assert_eq!((more, less), (Vec::new(), Vec::new()));
    let known: BTreeSet<&str> = listed.keys().map(String::as_str).collect();
    for entry in document["dependencies"].as_array().unwrap() {
        assert!(known.contains(entry["ref"].as_str().unwrap()), "{entry}");
        let needed = entry["dependsOn"].as_array().unwrap();
        assert!(needed.iter().all(|part| known.contains(part.as_str().unwrap())), "{entry}");
    }

    let contents = succeeds(Command::new("dpkg-deb").arg("--contents").arg(&packages[0]));
    for line in contents.lines() {
        assert!(line.contains(" root/root ") && !line.contains("rwxrwx"), "{line}");
    }
    for path in ["/usr/bin/rtcctl", "/etc/default/rtcctl", "/usr/lib/systemd/system/rtcctl.service"] {
        assert!(contents.contains(&format!(" .{path}\n")), "{path}: {contents}");
    }
    let field = |name: &str| succeeds(Command::new("dpkg-deb").arg("--field").arg(&packages[0]).arg(name));
    assert_eq!(field("Version").trim(), format!("{VERSION}-1"));
}

#[test]
fn a_program_that_is_not_fit_to_be_given_to_others_is_not_packed() {
    if !has_what_it_takes() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    let refuses = |program: &Path, wanted: &str| {
        let out = dir.path().join("out");
        let mut command = Command::new(SCRIPT);
        let output = command.args(["--target", &target(), "--binary"]).arg(program).arg("--out").arg(&out).output();
        let output = output.unwrap();
        let told = said(&output);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(wanted) && told.contains("hint: "), "{told}");
        assert!(!out.exists());
    };
    // One of tests is large and not static.
    refuses(Path::new(PROGRAM), " bytes, more than 20000000");
    let small = dir.path().join("small");
    std::fs::copy("/bin/true", &small).unwrap();
    refuses(&small, "and this checkout rtcctl");
    make_program(&program, "#!/bin/sh\necho 'rtcctl 9.9.9'\n");
    refuses(&program, "is `rtcctl 9.9.9`, and this checkout rtcctl");
    make_program(&program, "#!/bin/sh\nexit 1\n");
    refuses(&program, "does not run here");
}

/// A package of this program, and one of a newer version with another default file.
fn packages(folder: &Path) -> [PathBuf; 2] {
    let program = folder.join("program");
    // Without what debuggers want, it is a fifth as long.
    succeeds(Command::new("strip").args(["-g", "-o"]).arg(&program).arg(PROGRAM));
    let old = pack(&program, &folder.join("old"), &[("RTCCTL_ANY_BINARY", "1")]);
    let tree = folder.join("tree");
    succeeds(Command::new("dpkg-deb").arg("-R").args([&old, &tree]));
    let change = |file: &str, script: &str| {
        succeeds(Command::new("sed").args(["-i", script]).arg(tree.join(file)).env("LC_ALL", "C"));
    };
    change("DEBIAN/control", &format!("s/^Version: .*/Version: {NEWER}-1/"));
    change("usr/bin/rtcctl", &format!("s/{}/{NEWER}/g", VERSION.replace('.', "\\.")));
    change("etc/default/rtcctl", "1i # Newer.");
    succeeds(Command::new("rm").arg(tree.join("DEBIAN/md5sums")));
    let new = folder.join("new.deb");
    succeeds(Command::new("dpkg-deb").args(["--root-owner-group", "-Znone", "--build"]).args([&tree, &new]));
    [old, new]
}

#[test]
fn a_package_is_installed_brought_up_to_date_removed_and_purged_under_systemd() {
    if !has_what_it_takes() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let [old, new] = packages(dir.path());
    let machine = match Machine::boot_with(&[(&old, "/var/packages/old.deb"), (&new, "/var/packages/new.deb")]) {
        Ok(machine) => machine,
        Err(why) => return skip(&format!("no machine to install a package on: {why}")),
    };
    let files = || {
        let folders = "/etc /usr/bin /usr/lib/systemd /usr/lib/sysusers.d /usr/lib/tmpfiles.d /usr/share/man/man1 \
                       /usr/share/doc /usr/share/bash-completion /var/lib /var/log";
        // The host's own files show through, and other tests make networks.
        let but = "! -path '/etc/netns*' ! -path '/var/lib/dpkg*' ! -path '/var/log/dpkg.log' ! -path '/var/log/journal*' ! -name '*-'";
        let find = format!("find {folders} -xdev {but} -printf '%M %u %g %p %l\n' 2>/dev/null | sort");
        machine.succeeds(&["sh", "-c", &format!("{find}; cd /etc; sha256sum passwd group shadow gshadow")])
    };
    // What is not ours, like the index of all manuals, would take most of the time.
    let fast = ["dpkg", "--force-unsafe-io", "--no-triggers", "--force-confdef", "--force-confold"];
    let dpkg = |args: &[&str]| machine.succeeds(&[&fast, args].concat());
    let is_ready =
        || machine.run(&["rtcctl", "--json", "status"]).status.code().is_some_and(|code| [0, 10].contains(&code));
    let pid = || {
        let told = machine.succeeds(&["systemctl", "show", "rtcctl.service", "--property", "MainPID", "--value"]);
        told.trim().parse::<u32>().unwrap()
    };
    let before = files();

    dpkg(&["-i", "/var/packages/old.deb"]);
    let init = ["rtcctl", "init", "--yes", "--offline", "--reach", "lan", "--host", "10.98.0.1", "--firewall", "skip"];
    let told = machine.succeeds(&init);
    assert!(told.contains("service"), "{told}");
    machine.succeeds(&["rtcctl", "start"]);
    assert!(is_ready());
    let unit = machine.succeeds(&["systemctl", "show", "rtcctl.service", "--property", "FragmentPath", "--value"]);
    assert_eq!(unit.trim().replace("/usr/lib/", "/lib/"), "/lib/systemd/system/rtcctl.service");

    // The next version takes over while people connect, and leaves alone what was edited.
    machine.succeeds(&["sh", "-c", "echo 'RTCCTL_LOG=debug' >>/etc/default/rtcctl"]);
    let knocker = Knocker::within(machine.process(), &[443, 80, 3478]);
    let pid_before = pid();
    dpkg(&["-i", "/var/packages/new.deb"]);
    until("the new version serves", PATIENCE, is_ready);
    assert_ne!(pid(), pid_before);
    assert!(machine.succeeds(&["rtcctl", "--json", "status"]).contains(&format!("\"version\": \"{NEWER}\"")));
    let kept = machine.succeeds(&["cat", "/etc/default/rtcctl"]);
    assert!(kept.contains("\nRTCCTL_LOG=debug\n") && !kept.contains("Newer"), "{kept}");
    // And back.
    dpkg(&["-i", "/var/packages/old.deb"]);
    until("the old version serves", PATIENCE, is_ready);
    assert!(machine.succeeds(&["rtcctl", "--json", "status"]).contains(&format!("\"version\": \"{VERSION}\"")));
    assert!(knocker.end() > 0);

    // Another program than the package's own, for once, and back.
    machine.succeeds(&["sh", "-c", "LC_ALL=C sed 's/0\\.1\\.0/0.1.7/g' /usr/bin/rtcctl >/root/newer"]);
    let told = machine.succeeds(&["rtcctl", "upgrade", "/root/newer", "--watch", "1s"]);
    assert!(told.contains("It came with the package rtcctl"), "{told}");
    machine.succeeds(&["test", "-e", "/usr/bin/rtcctl.previous"]);

    // Removed, nothing runs and nothing starts with the machine; what is the operator's stays until it is purged.
    dpkg(&["--remove", "rtcctl"]);
    assert_eq!(machine.run(&["systemctl", "cat", "rtcctl.service"]).status.code(), Some(1));
    assert_eq!(machine.run(&["ss", "-Htln", "sport = :443"]).stdout, b"");
    machine.succeeds(&["test", "-e", "/etc/default/rtcctl"]);
    dpkg(&["--purge", "rtcctl"]);
    let after = files();
    let only_in = |these: &str, those: &str| -> Vec<String> {
        let those: BTreeSet<&str> = those.lines().collect();
        these.lines().filter(|line| !those.contains(line)).map(str::to_owned).collect()
    };
    assert_eq!((only_in(&before, &after), only_in(&after, &before)), (Vec::new(), Vec::new()));
}
