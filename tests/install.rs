//! `scripts/install`: a bare host, one command, a running service; and nothing left of it afterwards.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start programs")]

mod common;
#[path = "common/debian.rs"]
mod debian;
#[allow(dead_code, reason = "a part of it is for those who change what they compare")]
#[path = "common/tree.rs"]
mod tree;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use common::{has_program, skip};
use tree::tree;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/install");
const PROGRAM: &str = env!("CARGO_BIN_EXE_rtcctl");

/// A small file that is rtcctl all the same: one of tests has a hundred megabytes.
fn small_program(folder: &Path) -> String {
    let path = folder.join("rtcctl-0.0.1");
    std::fs::File::create(&path)
        .unwrap()
        .write_all(format!("#!/bin/sh\nexec '{PROGRAM}' \"$@\"\n").as_bytes())
        .unwrap();
    path.to_str().unwrap().to_owned()
}

struct Place {
    dir: tempfile::TempDir,
    shell: &'static [&'static str],
}

impl Place {
    /// What it says, and its exit code.
    fn install(&self, args: &[&str]) -> (String, i32) {
        let prefix = self.dir.path().join("prefix");
        let mut command = Command::new(self.shell[0]);
        command.args(&self.shell[1..]).arg(SCRIPT).args(args).env("RTCCTL_PREFIX", prefix);
        // Where tests have their folders, and whatever system they run on.
        let output = command.env("RTCCTL_ANY_HOST", "1").output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (told, output.status.code().unwrap())
    }
}

#[test]
fn a_program_is_verified_put_into_its_place_and_taken_away_by_any_shell() {
    for shell in [&["dash"][..], &["busybox", "ash"], &["bash", "--posix"]] {
        if !has_program(shell[0]) {
            continue;
        }
        let place = Place { dir: tempfile::tempdir().unwrap(), shell };
        let program = small_program(place.dir.path());
        // A folder that was there and is empty stays.
        std::fs::create_dir_all(place.dir.path().join("prefix/bin")).unwrap();
        let before = tree(place.dir.path());

        let wrong = "0".repeat(64);
        for (args, wanted, code) in [
            (&[&program, "--sha256", &wrong][..], "instead of 0000", 1),
            (&[&program, "--sha256", "xyz"], "xyz is no SHA-256 digest", 2),
            (&["https://127.0.0.1:1/rtcctl"], "a download needs its digest", 2),
            (&["https://127.0.0.1:1/rtcctl", "--sha256", &wrong], "cannot fetch https://127.0.0.1:1/rtcctl", 1),
            (&[SCRIPT, "--bad"], "unknown argument --bad", 2),
            (&[], "nothing to install was named", 2),
            (&["/nonexistent/rtcctl"], "there is no file /nonexistent/rtcctl", 1),
            (&["/etc/passwd"], "does not run on this host", 1),
            (&["--uninstall"], "nothing was installed", 1),
        ] {
            let (told, ended) = place.install(args);
            assert!(told.contains(wanted) && ended == code, "{shell:?} {args:?}: {ended}\n{told}");
            assert!(told.contains("hint: "), "{told}");
            assert_eq!(tree(place.dir.path()), before, "{shell:?} {args:?}");
        }

        let (told, code) = place.install(&[&program]);
        assert_eq!(code, 0, "{told}");
        let placed = place.dir.path().join("prefix/bin/rtcctl");
        assert!(Command::new(&placed).arg("version").output().unwrap().status.success());
        let installed = tree(place.dir.path());
        let digest = told.split('(').nth(1).unwrap().split(')').next().unwrap().to_owned();
        let (told, code) = place.install(&[&program, "--sha256", &digest]);
        assert!(told.contains("unchanged: ") && code == 0, "{told}");
        assert_eq!(tree(place.dir.path()), installed);

        // What an upgrade has kept goes as well.
        for kept in ["rtcctl.previous", "rtcctl.new"] {
            std::fs::copy(&placed, placed.with_file_name(kept)).unwrap();
        }
        let (told, code) = place.install(&["--uninstall"]);
        assert_eq!(code, 0, "{told}");
        assert_eq!(tree(place.dir.path()), before, "{shell:?}");
    }
}

#[test]
fn a_mirror_is_believed_only_if_it_has_what_is_wanted() {
    if !has_program("curl") {
        return;
    }
    let place = Place { dir: tempfile::tempdir().unwrap(), shell: &["sh"] };
    let mirror = place.dir.path().join("mirror");
    std::fs::create_dir(&mirror).unwrap();
    std::fs::copy("/etc/passwd", mirror.join("rtcctl")).unwrap();
    let program = small_program(place.dir.path());
    let digest = Command::new("sha256sum").arg(&program).output().unwrap().stdout;
    let digest = String::from_utf8(digest).unwrap()[..64].to_owned();
    let args = ["https://127.0.0.1:1/rtcctl", "--sha256", &digest];
    let mut command = Command::new("sh");
    command.arg(SCRIPT).args(args).env("RTCCTL_PREFIX", place.dir.path().join("prefix")).env("RTCCTL_ANY_HOST", "1");
    command.env("RTCCTL_MIRROR", format!("file://{}", mirror.display()));
    let told = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert!(told.contains("does not have it") && told.contains("cannot fetch https://127.0.0.1:1/rtcctl"), "{told}");
    std::fs::copy(&program, mirror.join("rtcctl")).unwrap();
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Run in namespaces of its own: `$1` has the folders of an overlay, `$2` is the program, `$3` the script, `$4` the network
/// of another machine, `$5` a Debian with its base system and nothing else.
const BARE_HOST: &str = r#"
set -eu
root=$1/root
tree() {
    cd "$root"
    find . -xdev \( -path ./proc -o -path ./dev -o -path ./run -o -path ./tmp \) -prune -o -printf '%p %M %u %g %l\n' | sort
    find . -xdev -path ./proc -prune -o -type f -print0 | sort -z | xargs -0 sha256sum
    cd /
}
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$5,upperdir=$1/upper,workdir=$1/work" "$root"
mount -t proc proc "$root/proc"
for folder in tmp run dev; do mount -t tmpfs tmpfs "$root/$folder"; done
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
ip link set lo up
ip link add wire type veth peer name outer netns "$4"
ip -n "$4" link set lo up
ip -n "$4" address add 10.97.0.2/24 dev outer
ip -n "$4" link set outer up
ip address add 10.97.0.1/24 dev wire
ip link set wire up
ip route add default via 10.97.0.2
cp "$2" "$root/tmp/rtcctl"
cp "$3" "$root/tmp/install"
before=$(tree)
begin=$(date +%s%N)
chroot "$root" /tmp/install /tmp/rtcctl --start -- --reach lan --host 10.97.0.1
echo "ready after $((($(date +%s%N) - begin) / 1000000)) ms"
ip netns exec "$4" curl --silent --insecure --output /dev/null --write-out 'the page: %{http_code}\n' https://10.97.0.1/
credentials=$(chroot "$root" rtcctl --json turn credentials)
user=$(printf '%s' "$credentials" | jq -r .username)
password=$(printf '%s' "$credentials" | jq -r .credential)
ip netns exec "$4" turnutils_uclient -y -u "$user" -w "$password" -n 5 10.97.0.1 2>&1 | grep 'Total lost packets 0 '
chroot "$root" /tmp/install --uninstall --purge
[ "$(tree)" = "$before" ] || { echo "something is left:"; echo "$before" >/tmp/before; tree | diff /tmp/before - ; exit 1; }
echo "nothing is left"
"#;

/// Some minutes where the base systems have to be fetched.
#[test]
#[ignore = "it fetches Debians: minutes, and a network"]
fn one_command_on_a_bare_debian_is_a_running_service_and_another_leaves_nothing() {
    let programs = ["debootstrap", "unshare", "ip", "curl", "jq", "turnutils_uclient"];
    if !programs.into_iter().all(has_program) {
        return;
    }
    for release in debian::RELEASES {
        match debian::debian(release, &[]) {
            Ok(base) => install_and_remove(&base),
            Err(why) => skip(&format!("{release} was not tried: {why}")),
        }
    }
}

/// Installs, starts, asks and removes on a machine with these files.
fn install_and_remove(base: &Path) {
    let dir = tempfile::tempdir().unwrap();
    for name in ["upper", "work", "root"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    std::fs::set_permissions(dir.path().join("upper"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let outer = format!("rtcctl-bare-{}", std::process::id());
    assert!(Command::new("ip").args(["netns", "add", &outer]).status().unwrap().success());
    let mut command = Command::new("unshare");
    command.args([
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
        "bash",
        "-c",
        BARE_HOST,
        "bash",
    ]);
    let output = command.arg(dir.path()).args([PROGRAM, SCRIPT, &outer]).arg(base).output().unwrap();
    let _ = Command::new("ip").args(["netns", "delete", &outer]).status();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("the page: 200") && told.contains("nothing is left"), "{told}");
    let ready = told.lines().find_map(|line| line.strip_prefix("ready after ")?.strip_suffix(" ms")).unwrap();
    assert!(ready.parse::<u64>().unwrap() <= 10_000, "{told}");
}
