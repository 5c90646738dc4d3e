//! `scripts/install` on hosts of other families, on those it refuses, and when something goes wrong in the middle.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]
#![expect(clippy::disallowed_methods, reason = "tests start programs")]

mod common;
#[allow(dead_code, reason = "a part of it is for those who change what they compare")]
#[path = "common/tree.rs"]
mod tree;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use common::{has_program, skip};
use tree::tree;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/install");
const PROGRAM: &str = env!("CARGO_BIN_EXE_rtcctl");
const PATIENCE: Duration = Duration::from_secs(30);

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn make_program(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn digest(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8_lossy(&output.stdout)[..64].to_owned()
}

/// A folder to install below, and two versions of a small file that is rtcctl all the same.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        for name in ["old", "new"] {
            make_program(&place.file(name), &format!("#!/bin/sh\n# {name}\nexec '{PROGRAM}' \"$@\"\n"));
        }
        place
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn prefix(&self) -> PathBuf {
        self.file("prefix")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.arg(SCRIPT).args(args).env("RTCCTL_PREFIX", self.prefix()).env("RTCCTL_ANY_HOST", "1");
        command
    }

    fn installs(&self, file: &str) {
        let output = self.command(&[self.file(file).to_str().unwrap()]).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert!(self.has(file));
    }

    /// Whether this is what is in place, and can be run.
    fn has(&self, file: &str) -> bool {
        let placed = self.prefix().join("bin/rtcctl");
        let runs = Command::new(&placed).arg("version").output().is_ok_and(|output| output.status.success());
        runs && digest(&placed) == digest(&self.file(file))
    }
}

/// How a server gives its one file.
#[derive(Clone, Copy)]
enum Gives {
    Whole,
    /// Half of it, then the connection ends.
    Half,
    /// Half of it, then nothing more.
    HalfForEver,
}

/// Serves a file by HTTP. Gives its port, and connections on which nothing more comes.
fn serve(file: PathBuf, how: Gives) -> (u16, Receiver<TcpStream>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, waiting) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            let bytes = std::fs::read(&file).unwrap();
            let some = if matches!(how, Gives::Whole) { &bytes[..] } else { &bytes[..bytes.len() / 2] };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(some));
            if matches!(how, Gives::HalfForEver) && sender.send(stream).is_err() {
                return;
            }
        }
    });
    (port, waiting)
}

#[test]
fn whatever_happens_in_the_middle_the_program_from_before_stays() {
    if !has_program("curl") {
        return;
    }
    let place = Place::new();
    let new = digest(&place.file("new"));
    let fresh = Place::new();
    fresh.installs("old");
    place.installs("old");
    let before = tree(&place.prefix());
    let fails = |command: &mut Command, wanted: &str, code: i32| {
        let output = command.output().unwrap();
        let told = said(&output);
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(wanted) && told.contains("hint: "), "{told}");
        assert_eq!(tree(&place.prefix()), before, "{told}");
    };

    // It ends at half, or is another file.
    let (port, _) = serve(place.file("new"), Gives::Half);
    let url = format!("http://127.0.0.1:{port}/rtcctl");
    fails(&mut place.command(&[&url, "--sha256", &new]), &format!("cannot fetch {url}"), 1);
    let (port, _) = serve(place.file("old"), Gives::Whole);
    let url = format!("http://127.0.0.1:{port}/rtcctl");
    fails(&mut place.command(&[&url, "--sha256", &new]), &format!("instead of {new}"), 1);

    // Killed while it waits for the rest, with all that it has started.
    let (port, waiting) = serve(place.file("new"), Gives::HalfForEver);
    let url = format!("http://127.0.0.1:{port}/rtcctl");
    let mut killed = place.command(&[&url, "--sha256", &new]);
    let mut killed = killed.process_group(0).stderr(Stdio::null()).spawn().unwrap();
    let held = waiting.recv_timeout(PATIENCE).unwrap();
    // One at a time.
    let mut second = place.command(&[place.file("new").to_str().unwrap()]);
    let output = second.output().unwrap();
    assert_eq!(output.status.code(), Some(14), "{}", said(&output));
    assert!(said(&output).contains(&format!("process {} installs", killed.id())), "{}", said(&output));
    let group = nix::unistd::Pid::from_raw(-i32::try_from(killed.id()).unwrap());
    nix::sys::signal::kill(group, nix::sys::signal::Signal::SIGKILL).unwrap();
    killed.wait().unwrap();
    drop(held);
    assert!(place.has("old"));

    // The next one goes through, and nothing of the killed one is left.
    place.installs("new");
    place.installs("old");
    assert_eq!(tree(&place.prefix()), before);
    assert!(place.command(&["--uninstall"]).output().unwrap().status.success());
    assert!(!place.prefix().exists());
}

/// It answers as rtcctl does, with two pages of a manual.
const QUICK: &str = r#"#!/bin/sh
case $* in
    version) echo "rtcctl 0.1.0" ;;
    "--quiet man --dir "*) for page in rtcctl rtcctl-init; do echo "$page" >"$4/$page.1"; done ;;
    "completions "*) echo "$2" ;;
    *) exit 3 ;;
esac
"#;

#[test]
fn a_run_that_is_killed_at_any_moment_is_made_good_by_the_next_one() {
    let place = Place::new();
    make_program(&place.file("new"), QUICK);
    // As on a host.
    for folder in ["bin", "share"] {
        std::fs::create_dir_all(place.prefix().join(folder)).unwrap();
    }
    let before = tree(&place.prefix());
    place.installs("new");
    let wanted = tree(&place.prefix());
    let uninstall = || place.command(&["--uninstall"]).output().unwrap();
    assert!(uninstall().status.success());
    // What it changes something with ends it: at its first call, at its second, and so on.
    let stub = |tool: &str| {
        format!(
            "#!/bin/sh\nn=$(($(cat '{0}/count' 2>/dev/null || echo 0) + 1))\necho $n >'{0}/count'\n\
             [ \"$n\" != \"$KILL_AT\" ] || {{ kill -9 0; }}\nexec /bin/{tool} \"$@\"\n",
            place.dir.path().display()
        )
    };
    for tool in ["mkdir", "cp", "mv", "chmod"] {
        make_program(&place.file("stubs").join(tool), &stub(tool));
    }
    let mut kills = 0;
    loop {
        let _ = std::fs::remove_file(place.file("count"));
        let mut command = place.command(&[place.file("new").to_str().unwrap()]);
        command.env("KILL_AT", (kills + 1).to_string()).process_group(0);
        command.env("PATH", format!("{}:/usr/bin:/bin", place.file("stubs").display()));
        if command.output().unwrap().status.success() {
            break;
        }
        kills += 1;
        if kills % 2 == 0 {
            // What is there goes, if it is known yet that it is there.
            let _ = uninstall();
        }
        place.installs("new");
        assert!(tree(&place.prefix()) == wanted, "killed at {kills}");
        assert!(uninstall().status.success());
        let left = Command::new("find").arg(place.prefix()).output().unwrap();
        assert!(tree(&place.prefix()) == before, "killed at {kills}: {}", said(&left));
    }
    assert!(kills > 20, "{kills}");
}

/// Whether namespaces can be made; where they cannot, the test is skipped.
fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        skip("only root can show another system to a script");
    }
    is_root
}

/// What `script` comes to in a mount namespace, with `arguments` as `$1` and so on.
fn in_a_namespace(script: &str, arguments: &[&Path]) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-euc", script, "sh"]).args(arguments);
    command.env_remove("RTCCTL_ANY_HOST").env_remove("RTCCTL_PREFIX").output().unwrap()
}

#[test]
fn a_host_is_known_by_its_family_and_others_are_refused_in_words() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    make_program(&place.file("new"), QUICK);
    let labelled = place.file("labelled");
    let run = |release: &str, stubs: &[(&str, &str)]| {
        std::fs::write(place.file("os-release"), release).unwrap();
        let _ = std::fs::remove_dir_all(place.file("stubs"));
        std::fs::create_dir(place.file("stubs")).unwrap();
        for (name, text) in stubs {
            make_program(&place.file("stubs").join(name), &format!("#!/bin/sh\n{text}\n"));
        }
        let script = "mount -t tmpfs tmpfs /usr/local && mount --bind \"$1/os-release\" /etc/os-release\n\
                      export PATH=\"$1/stubs:/usr/sbin:/usr/bin:/sbin:/bin\"\n\
                      \"$2\" \"$1/new\" && /usr/local/bin/rtcctl version && \"$2\" \"$1/new\" && \"$2\" --uninstall && ls /usr/local";
        let output = in_a_namespace(script, &[place.dir.path(), Path::new(SCRIPT)]);
        (output.status.code().unwrap(), said(&output))
    };
    let labels = format!("echo \"$@\" >>'{}'", labelled.display());
    for (release, stubs) in [
        ("ID=debian\n", &[][..]),
        ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", &[]),
        ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", &[("restorecon", labels.as_str())]),
        ("ID=fedora\n", &[("restorecon", "exit 1")]),
        ("ID=alpine\n", &[("getconf", "exit 127")]),
        ("ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n", &[]),
        ("ID=\"sles\"\nID_LIKE=\"suse\"\n", &[]),
    ] {
        let (code, told) = run(release, stubs);
        assert_eq!(code, 0, "{release}: {told}");
        assert!(
            told.contains("installed rtcctl 0.1.0 as /usr/local/bin/rtcctl") && told.contains("unchanged: "),
            "{told}"
        );
        assert!(told.trim_end().ends_with("removed rtcctl from /usr/local"), "{release}: {told}");
        assert_eq!(told.contains("warning: SELinux may not let"), release.contains("fedora\n"), "{release}: {told}");
    }
    // Both times: a label that was lost is restored by the next run.
    assert_eq!(std::fs::read_to_string(labelled).unwrap(), "/usr/local/bin/rtcctl\n".repeat(2));
    let uname = |system: &str, machine: &str| format!("case $1 in -s) echo {system} ;; *) echo {machine} ;; esac");
    for (release, stub, wanted) in [
        ("ID=freebsd\n", ("uname", uname("FreeBSD", "amd64")), "this is FreeBSD, and rtcctl runs on Linux"),
        ("ID=debian\n", ("uname", uname("Linux", "i686")), "rtcctl is not made for i686"),
        ("ID=debian\n", ("uname", uname("Linux", "riscv64")), "rtcctl is not made for riscv64"),
        (
            "ID=raspbian\nID_LIKE=debian\n",
            ("getconf", "echo 32".to_owned()),
            "the programs of this system have 32 bits",
        ),
        ("ID=nixos\n", ("true", String::new()), "rtcctl was not tried on nixos"),
        ("", ("true", String::new()), "rtcctl was not tried on this system"),
    ] {
        let (code, told) = run(release, &[(stub.0, &stub.1)]);
        assert_eq!(code, 1, "{release}: {told}");
        assert!(told.contains(wanted) && told.contains("hint: "), "{release}: {told}");
    }
}

/// A host like Alpine: `$1` has the program, stripped, and this script; `$2` is a folder to build it in. BusyBox is all that
/// there is, with the libraries that the program of tests was linked to, and the folders of OpenRC.
const BUSYBOX_HOST: &str = r#"
files=$1 root=$2 port=$3
mount -t tmpfs -o mode=755 tmpfs "$root"
for folder in bin sbin lib lib64 usr/bin usr/sbin usr/lib usr/local/bin usr/local/share etc/init.d etc/runlevels/default \
    etc/conf.d proc dev run tmp var root; do mkdir -p "$root/$folder"; done
chmod 1777 "$root/tmp"
cp "$(command -v busybox)" "$root/bin/busybox"
for applet in $(busybox --list); do [ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"; done
for library in $(ldd "$(command -v busybox)" "$files/rtcctl" | sed -n 's|^[^/]*\(/[^ ]*\) (.*|\1|p' | sort -u); do
    mkdir -p "$root/$(dirname "$library")"
    cp -L "$library" "$root/$library"
done
printf 'ID=alpine\nVERSION_ID=3.22.0\n' >"$root/etc/os-release"
printf 'root:x:0:0::/root:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\n' >"$root/etc/group"
printf 'root:*::0:::::\n' >"$root/etc/shadow"
printf '#!/bin/sh\n' >"$root/sbin/openrc-run"
# Alpine's BusyBox makes users, Debian's does not. As there, the name comes last.
printf '#!/bin/sh\nfor n; do :; done; echo "$n:x:999:" >>/etc/group\n' >"$root/usr/sbin/addgroup"
printf '#!/bin/sh\nfor n; do :; done; echo "$n:x:999:999::/nonexistent:/bin/false" >>/etc/passwd\n' >"$root/usr/sbin/adduser"
printf '#!/bin/sh\nsed -i "/^$1:/d" /etc/passwd\n' >"$root/usr/sbin/deluser"
printf '#!/bin/sh\nsed -i "/^$1:/d" /etc/group\n' >"$root/usr/sbin/delgroup"
chmod 755 "$root"/sbin/openrc-run "$root"/usr/sbin/*
mount -t proc proc "$root/proc"
: >"$root/dev/null"
mount --bind /dev/null "$root/dev/null"
: >"$root/dev/urandom"
mount --bind /dev/urandom "$root/dev/urandom"
cp "$files/install" "$root/root/install"
tree() { (cd "$root" && find . -path ./proc -prune -o -path ./dev -prune -o -path ./tmp -prune -o -print | sort && cat etc/passwd etc/group); }
before=$(tree)
inside() { env -i PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin HOME=/root chroot "$root" "$@"; }
inside /root/install "http://127.0.0.1:$port/rtcctl" --sha256 "$(sha256sum "$files/rtcctl" | cut -d' ' -f1)"
inside /root/install "http://127.0.0.1:$port/rtcctl" --sha256 "$(sha256sum "$files/rtcctl" | cut -d' ' -f1)"
[ -s "$root/usr/local/share/man/man1/rtcctl-init.1" ]
inside rtcctl init --yes --offline --reach lan --host 127.0.0.1 --relay-ip 127.0.0.1 --boot service --firewall skip
cat "$root/etc/init.d/rtcctl" | grep -q /usr/local/bin/rtcctl
ls -l "$root/etc/runlevels/default"
grep rtcctl "$root/etc/passwd"
inside /root/install --uninstall || echo "refused, since a service is set up"
inside /root/install --uninstall --purge
[ "$(tree)" = "$before" ] || { echo "$before" >/tmp/before; tree | diff /tmp/before -; exit 1; }
echo "nothing is left"
"#;

#[test]
fn a_host_with_busybox_and_openrc_is_enough() {
    if !(is_root() && has_program("busybox") && has_program("strip")) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let [files, root] = ["files", "root"].map(|name| dir.path().join(name));
    std::fs::create_dir(&files).unwrap();
    std::fs::create_dir(&root).unwrap();
    let program = files.join("rtcctl");
    assert!(Command::new("strip").args(["-g", "-o"]).arg(&program).arg(PROGRAM).status().unwrap().success());
    make_program(&files.join("install"), &std::fs::read_to_string(SCRIPT).unwrap());
    let (port, _) = serve(program, Gives::Whole);
    let output = in_a_namespace(BUSYBOX_HOST, &[&files, &root, Path::new(&port.to_string())]);
    let told = said(&output);
    assert!(output.status.success(), "{told}");
    for words in ["installed rtcctl", "unchanged: ", "by OpenRC", "refused, since", "nothing is left"] {
        assert!(told.contains(words), "{words}: {told}");
    }
}

#[test]
fn where_nothing_can_be_written_it_says_so_and_leaves_nothing() {
    if !(is_root() && has_program("setpriv")) {
        return;
    }
    let place = Place::new();
    make_program(&place.file("new"), QUICK);
    std::fs::set_permissions(place.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for folder in ["bin", "share"] {
        std::fs::create_dir_all(place.prefix().join(folder)).unwrap();
    }
    let install = "RTCCTL_ANY_HOST=1 RTCCTL_PREFIX=\"$1/prefix\" \"$2\" \"$1/new\"";
    for (script, code, wanted) in [
        (format!("{install} || exit $?"), 0, "installed rtcctl"),
        // Not root; a folder of one's own does without.
        ("export RTCCTL_PREFIX=/root/x; setpriv --reuid 65534 --clear-groups \"$2\" \"$1/new\"".to_owned(), 15, "only root can write to"),
        (
            "mkdir -m 1777 \"$1/open\"; export RTCCTL_ANY_HOST=1 RTCCTL_PREFIX=\"$1/open/deep\"; setpriv --reuid 65534 \
             --regid 65534 --clear-groups \"$2\" \"$1/new\""
                .to_owned(),
            0,
            "installed rtcctl",
        ),
        (format!("mount --bind \"$1/prefix\" \"$1/prefix\"; mount -o remount,bind,ro \"$1/prefix\"; {install} || exit $?"), 1, "cannot "),
        (format!("mount -t tmpfs -o size=8k tmpfs \"$1/prefix\"; mkdir \"$1/prefix/bin\"; {install} || exit $?"), 1, "cannot "),
        ("touch \"$1/file\"; RTCCTL_ANY_HOST=1 RTCCTL_PREFIX=\"$1/file\" \"$2\" \"$1/new\"".to_owned(), 1, "cannot make the folder"),
    ] {
        let output = in_a_namespace(&script, &[place.dir.path(), Path::new(SCRIPT)]);
        let told = said(&output);
        assert_eq!(output.status.code(), Some(code), "{script}: {told}");
        assert!(told.contains(wanted), "{script}: {told}");
        if code != 0 {
            assert!(told.contains("hint: "), "{script}: {told}");
        } else if !script.contains("open/deep") {
            assert!(place.command(&["--uninstall"]).output().unwrap().status.success());
        }
        let left: Vec<PathBuf> = ["bin", "share"]
            .into_iter()
            .flat_map(|folder| std::fs::read_dir(place.prefix().join(folder)).unwrap())
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(left, Vec::<PathBuf>::new(), "{script}");
    }
}

#[test]
fn what_is_built_from_the_checkout_is_installed_and_a_build_that_fails_is_not() {
    let place = Place::new();
    let stub = place.file("stubs/cargo");
    let build = || {
        let mut command = place.command(&["--build"]);
        command.env("PATH", format!("{}:/usr/bin:/bin", place.file("stubs").display()));
        let output = command.env("CARGO_TARGET_DIR", place.file("target")).output().unwrap();
        (output.status.code().unwrap(), said(&output))
    };
    let fails = |wanted: &str| {
        let (code, told) = build();
        assert_eq!(code, 1, "{told}");
        assert!(told.contains(wanted) && told.contains("hint: "), "{told}");
        assert!(!place.prefix().exists());
    };
    std::fs::create_dir(place.file("stubs")).unwrap();
    if !Path::new("/usr/bin/cargo").exists() {
        fails("cargo is missing");
    }
    make_program(&stub, "#!/bin/sh\nexit 101\n");
    fails("the build failed");
    make_program(&stub, "#!/bin/sh\nexit 0\n");
    fails("cannot copy ");
    let text = format!(
        "#!/bin/sh\n[ \"$*\" = 'build --release --locked' ] && [ -f Cargo.lock ] || exit 1\n\
         mkdir -p \"$CARGO_TARGET_DIR/release\" && cp '{}' \"$CARGO_TARGET_DIR/release/rtcctl\"\n",
        place.file("new").display()
    );
    make_program(&stub, &text);
    let (code, told) = build();
    assert_eq!(code, 0, "{told}");
    assert!(place.has("new"));
}
