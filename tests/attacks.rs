//! `rtcctl init` where things are hostile or odd: no room, no path, no home, no readers, names that shells take apart,
//! masks, clocks, signals, four at once, a read-only `/etc`. Each time it does all, or says why not and leaves nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should end where it stands")]

mod common;
#[path = "common/tree.rs"]
#[allow(dead_code, reason = "nothing is put back here")]
mod tree;

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use common::ports::free_port;
use common::{has_program, skip};
use tree::{Tree, tree};

const RTCCTL: &str = env!("CARGO_BIN_EXE_rtcctl");

/// A folder in which a home is set up, on free ports.
struct Scene {
    dir: tempfile::TempDir,
    ports: [String; 2],
}

impl Scene {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), ports: [free_port(), free_port()].map(|port| port.to_string()) }
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// What `init` is told besides.
    fn flags(&self) -> Vec<&str> {
        let [web, turn] = &self.ports;
        let fixed = ["init", "--yes", "--reach", "lan", "--host", "a.example", "--http-port", "off"];
        [&fixed[..], &["--web-port", web, "--turn-port", turn]].concat()
    }

    fn rtcctl_at(&self, home: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(RTCCTL);
        command.arg("--home").arg(home).args(args).env_remove("RTCCTL_HOME").env("HOME", self.dir.path());
        command.env("LC_ALL", "C").current_dir(self.dir.path());
        command
    }

    fn rtcctl(&self, args: &[&str]) -> Command {
        self.rtcctl_at(&self.home(), args)
    }

    /// A script in which `$R` is the program with its home, and `$@` what `init` is told.
    fn shell(&self, script: &str) -> Command {
        self.wrapped(&[], script)
    }

    fn wrapped(&self, wrapper: &[&str], script: &str) -> Command {
        let words = [wrapper, &["bash", "-c", script, "bash"], &self.flags()].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("R", RTCCTL).env("H", self.home()).env("HOME", self.dir.path());
        command.env_remove("RTCCTL_HOME").env("LC_ALL", "C").current_dir(self.dir.path());
        command
    }

    fn tree(&self) -> Tree {
        tree(self.dir.path())
    }

    /// It is whole, a second run has nothing to do, and it goes again.
    #[track_caller]
    fn is_whole_and_goes(&self, home: &Path, case: &str) {
        for (args, words) in
            [(&["config", "check"][..], "is fine"), (&["init", "--yes"], "0 changes"), (&["undo"], "changes made")]
        {
            let (code, told) = told(&mut self.rtcctl_at(home, args));
            assert!(code == 0 && told.contains(words), "{case}: {args:?}: {told}");
        }
        assert!(!home.exists(), "{case}");
    }
}

/// The exit code, and what was said on both outputs.
fn told(command: &mut Command) -> (i32, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap_or(-1), [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat())
}

/// Whether namespaces can be made here; told where they cannot.
fn has_namespaces() -> bool {
    if !nix::unistd::geteuid().is_root() {
        skip("a mount namespace of its own needs root");
        return false;
    }
    has_program("unshare")
}

#[test]
fn a_disk_that_is_too_small_is_told_and_what_is_given_more_room_is_set_up() {
    if !has_namespaces() {
        return;
    }
    // What fits when is the file system's; the last one has room, or it would not be shown that these fail for lack of it.
    for (kilobytes, fits) in [(4, false), (16, false), (32, false), (64, true), (1024, true)] {
        let scene = Scene::new();
        let script = format!(
            "mount --make-rprivate / && mount -t tmpfs -o size={kilobytes}k none \"$HOME\" && cd \"$HOME\"
             \"$R\" --home \"$H\" \"$@\"; code=$?
             if [ $code != 0 ]; then
                 ls -A | sed 's/^/left: /'
                 mount -o remount,size=8m \"$HOME\" && \"$R\" --home \"$H\" \"$@\" >/dev/null 2>&1 || exit 99
             fi
             \"$R\" --home \"$H\" config check && \"$R\" --home \"$H\" undo && ls -A | sed 's/^/left: /' && exit $code"
        );
        let (code, told) = told(&mut scene.wrapped(&["unshare", "--mount"], &script));
        assert!(!told.contains("left: "), "{kilobytes}: {told}");
        let is_told = code == 16 && told.contains("No space left") && told.contains("has been taken back")
            || code == 1 && told.contains("No space left");
        assert!(if fits { code == 0 } else { is_told }, "{kilobytes}: {code} {told}");
    }
}

#[test]
fn without_a_path_a_home_folder_or_a_known_locale_it_is_all_the_same() {
    for (name, value) in
        [("PATH", ""), ("PATH", "/nonexistent"), ("LANG", "xx"), ("LC_ALL", "zh_TW.GBK"), ("LC_ALL", "../../etc")]
    {
        let scene = Scene::new();
        // A path that no plain locale can write.
        let home = scene.dir.path().join("呼叫");
        let mut init = scene.rtcctl_at(&home, &scene.flags());
        if name == "LANG" {
            init.env_remove("LC_ALL");
        }
        let (code, told) = told(init.env(name, value));
        assert!(code == 0 && told.contains("呼叫"), "{name}={value}: {told}");
        scene.is_whole_and_goes(&home, &format!("{name}={value}"));
    }
    let scene = Scene::new();
    let (code, text) = told(scene.rtcctl(&scene.flags()).env_clear());
    assert_eq!(code, 0, "{text}");
    scene.is_whole_and_goes(&scene.home(), "no variables");
    if nix::unistd::geteuid().is_root() {
        for home in [None, Some(""), Some("relative"), Some("/nonexistent")] {
            let mut init = Command::new("setpriv");
            init.args(["--reuid=65534", "--regid=65534", "--clear-groups", RTCCTL]).args(scene.flags()).env_clear();
            if let Some(home) = home {
                init.env("HOME", home);
            }
            let (code, told) = told(&mut init);
            if told.contains("failed to execute") {
                skip("somebody else may not run this program");
                return;
            }
            let words =
                if home == Some("/nonexistent") { "cannot write to the folder" } else { "no home folder is known" };
            assert!(matches!(code, 1 | 2) && told.contains(words), "{home:?}: {told}");
        }
    }
}

/// `su` and cron leave out the folders in which the tools of firewalls are.
#[test]
fn a_firewall_is_seen_and_opened_whatever_the_path_is() {
    if !has_namespaces() || !["nft", "ip"].into_iter().all(has_program) {
        return;
    }
    let script = "ip link set lo up; mount -t tmpfs tmpfs /run
        printf 'table inet f {\n chain in {\n type filter hook input priority 0; policy drop;\n tcp dport 22 accept\n }\n}\n' |
            nft -f -
        before=$(nft list ruleset)
        PATH=/nonexistent \"$R\" --home \"$H\" \"$@\" --firewall apply && nft list ruleset | grep 'rtcctl' || exit 1
        PATH=/nonexistent \"$R\" --home \"$H\" undo && [ \"$(nft list ruleset)\" = \"$before\" ] && exit 100";
    let scene = Scene::new();
    let (code, told) = told(&mut scene.wrapped(&["unshare", "--net", "--mount"], script));
    assert!(code == 100 && !scene.home().exists(), "{told}");
}

#[test]
fn nobody_who_reads_or_answers_is_no_half_home() {
    // What is done; what is seen of it; whether there is a home afterwards.
    let cases = [
        ("\"$R\" --home \"$H\" \"${@/--yes/-q}\" </dev/null", 13, "`--yes` is missing", false),
        ("\"$R\" --home \"$H\" \"$@\" | head -n 1; exit ${PIPESTATUS[0]}", 0, "Settings", true),
        ("\"$R\" --home \"$H\" \"$@\" 2>&1 | true; exit ${PIPESTATUS[0]}", 0, "", true),
        ("\"$R\" --home \"$H\" \"$@\" >&-", 0, "", true),
        ("\"$R\" --home \"$H\" \"$@\" <&- >&- 2>&-", 0, "", true),
        // What was asked for is done, but who asked has not been told.
        ("\"$R\" --home \"$H\" \"$@\" >/dev/full", 1, "the output could not be written\ncause: No space left", true),
        ("\"$R\" --home \"$H\" \"$@\" --json >/dev/full", 1, "No space left on device", true),
        ("\"$R\" --home \"$H\" \"$@\" >/dev/full 2>&1", 1, "", true),
    ];
    for (script, wanted, words, is_there) in cases {
        let scene = Scene::new();
        let (code, told) = told(&mut scene.shell(script));
        assert!(code == wanted && told.contains(words), "{script}: {code} {told}");
        assert!(!told.contains("panicked"), "{script}: {told}");
        assert_eq!(scene.home().exists(), is_there, "{script}");
        if is_there {
            scene.is_whole_and_goes(&scene.home(), script);
        }
    }
}

#[test]
fn one_of_four_at_once_wins_and_the_others_say_so() {
    for round in 0..5 {
        let scene = Scene::new();
        let ends: Vec<(i32, String)> = std::thread::scope(|scope| {
            let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| told(&mut scene.rtcctl(&scene.flags())))).collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        });
        let (won, lost): (Vec<_>, Vec<_>) = ends.into_iter().partition(|(code, _)| *code == 0);
        // Who comes after the winner has nothing to do.
        let made = won.iter().filter(|(_, told)| told.contains("11 changes made")).count();
        assert!(made == 1 && won.iter().all(|(_, told)| told.contains("changes")), "in round {round}: {won:?}");
        for (code, told) in lost {
            let is_busy = code == 14 && told.contains("is at work on this home");
            let is_late = code == 1 && told.contains("not as it was when this plan was made");
            assert!(is_busy || is_late, "in round {round}: {code} {told}");
        }
        scene.is_whole_and_goes(&scene.home(), &format!("round {round}"));
    }
}

#[test]
fn with_a_read_only_etc_what_would_be_changed_there_is_told_before_anything_is() {
    if !has_namespaces() || !["nft", "ip"].into_iter().all(has_program) {
        return;
    }
    if !Path::new("/etc/nftables.conf").exists() {
        return skip("`/etc/nftables.conf` is missing, in whose place another one is put");
    }
    let enter = "mount --make-rprivate /; ip link set lo up; mount -t tmpfs tmpfs /run
        mkdir -p \"$HOME/local\"; mount --bind \"$HOME/local\" /usr/local/share/ca-certificates
        mkdir /run/rules; mount -t tmpfs -o ro tmpfs /run/rules
        printf 'table inet f {\n chain in {\n type filter hook input priority 0; policy drop;\n tcp dport 22 accept\n }\n}\n%s\n' \
            'include \"/run/rules/*.nft\"' >\"$HOME/conf\"
        mount --bind /etc /etc && mount -o remount,bind,ro /etc && mount --bind \"$HOME/conf\" /etc/nftables.conf || exit 99
        nft -f /etc/nftables.conf || exit 99
        before=$(nft list ruleset)";
    for (flags, wanted, words) in [
        ("--trust", 0, "but not this list, which this user may not change: the system (/usr/local"),
        ("--boot service", 1, "not one of its own"),
        ("--firewall apply", 16, "Read-only file system"),
    ] {
        let scene = Scene::new();
        let script = format!(
            "{enter}
             \"$R\" --home \"$H\" \"$@\" {flags}; code=$?
             if [ $code = 0 ]; then \"$R\" --home \"$H\" undo >/dev/null || exit 98; fi
             [ \"$(nft list ruleset)\" = \"$before\" ] || exit 97
             exit $code"
        );
        let (code, told) = told(&mut scene.wrapped(&["unshare", "--net", "--mount"], &script));
        assert!(code == wanted && told.contains(words), "{flags}: {code} {told}");
        assert!(!scene.home().exists(), "{flags}");
        assert_eq!(std::fs::read_dir(scene.dir.path().join("local")).unwrap().count(), 0, "{flags}");
    }
    // Root's own home is in `/etc`.
    let scene = Scene::new();
    let script =
        format!("{enter}; mount -t tmpfs tmpfs /var; \"$R\" \"$@\" --boot none; code=$?; ls -A /var; exit $code");
    let (code, told) = told(&mut scene.wrapped(&["unshare", "--net", "--mount"], &script));
    assert!(code == 1 && told.contains("cannot write to the folder `/etc`"), "{told}");
}

#[test]
fn what_is_printed_can_be_typed_whatever_the_home_is_called() {
    let long = "x".repeat(200);
    for name in ["a b", "it's", "$(touch pwned)", "a;b", "-x y", "`id`", "\"q\"", "呼 叫", &long, "*", "a&b|c"] {
        let scene = Scene::new();
        let home = scene.dir.path().join(name);
        let (code, text) = told(&mut scene.rtcctl_at(&home, &scene.flags()));
        assert_eq!(code, 0, "{name}: {text}");
        let after = |heading: &str| {
            let line = text.lines().skip_while(|line| *line != heading).nth(1);
            line.unwrap_or_else(|| panic!("{heading} in {text}")).trim().to_owned()
        };
        // As an operator would paste them.
        for (command, words) in [
            (after("The same without questions:"), "0 changes"),
            (after("Next:").replace(" start", " undo"), "changes made"),
        ] {
            let script = format!("rtcctl() {{ \"$R\" \"$@\"; }}\n{command}");
            let (code, told) = told(&mut scene.shell(&script));
            assert!(code == 0 && told.contains(words), "{command}: {told}");
        }
        assert_eq!(std::fs::read_dir(scene.dir.path()).unwrap().count(), 0, "{name}");
    }
}

#[test]
fn a_home_that_cannot_be_shown_or_is_no_folder_is_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let scene = Scene::new();
    let before = scene.tree();
    for (name, words) in [
        (&b"a\nb"[..], "there is a control character"),
        (b"a\x1b[31mred", "there is a control character"),
        (b"a\xff\xfe", "no UTF-8"),
    ] {
        let home = scene.dir.path().join(OsStr::from_bytes(name));
        let (code, told) = told(&mut scene.rtcctl_at(&home, &scene.flags()));
        assert!(code == 2 && told.contains(words) && !told.contains('\x1b'), "{name:?}: {told}");
        assert_eq!(scene.tree(), before);
    }
    symlink("nowhere", scene.dir.path().join("dangling")).unwrap();
    std::fs::create_dir(scene.dir.path().join("real")).unwrap();
    symlink("real", scene.dir.path().join("link")).unwrap();
    let before = scene.tree();
    for home in ["/dev/null", "/proc/self", RTCCTL, "dangling"] {
        let (code, told) = told(&mut scene.rtcctl_at(Path::new(home), &scene.flags()));
        assert!(code == 1 && told.contains("cannot write to the folder"), "{home}: {told}");
        assert_eq!(scene.tree(), before, "{home}");
    }
    // A link to a folder is that folder.
    let (link, real) = (scene.dir.path().join("link"), scene.dir.path().join("real"));
    assert_eq!(told(&mut scene.rtcctl_at(&link, &scene.flags())).0, 0);
    let (code, text) = told(&mut scene.rtcctl_at(&real, &["init", "--yes"]));
    assert!(code == 0 && text.contains("0 changes"), "{text}");
    let (code, text) = told(&mut scene.rtcctl_at(&link, &["undo"]));
    assert_eq!(code, 0, "{text}");
    assert_eq!(scene.tree(), before);
}

#[test]
fn modes_are_right_whatever_the_mask_is() {
    let modes = |scene: &Scene| {
        let mut found = Vec::new();
        let mut folders = vec![scene.home()];
        while let Some(folder) = folders.pop() {
            found.push((folder.clone(), folder.metadata().unwrap().permissions().mode() & 0o7777));
            for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
                let metadata = entry.metadata().unwrap();
                if metadata.is_dir() {
                    folders.push(entry.path());
                } else {
                    found.push((entry.path(), metadata.permissions().mode() & 0o7777));
                }
            }
        }
        let home = scene.home();
        let mut found: Vec<(PathBuf, u32)> =
            found.into_iter().map(|(path, mode)| (path.strip_prefix(&home).unwrap().to_path_buf(), mode)).collect();
        found.sort();
        found
    };
    let mut all = Vec::new();
    for mask in ["022", "077", "0777", "000"] {
        let scene = Scene::new();
        let (code, told) = told(&mut scene.shell(&format!("umask {mask}; \"$R\" --home \"$H\" \"$@\"")));
        assert_eq!(code, 0, "{mask}: {told}");
        let found = modes(&scene);
        assert!(found.iter().all(|(_, mode)| mode & 0o022 == 0), "{mask}: {found:?}");
        all.push(found);
        scene.is_whole_and_goes(&scene.home(), mask);
    }
    assert!(all.iter().all(|found| found == &all[0]), "{all:?}");
}

/// Boards without a battery start in 1970.
#[cfg(feature = "faults")]
#[test]
fn a_clock_that_is_decades_off_makes_a_home_that_is_good_when_the_clock_is() {
    let now = i64::try_from(rtcctl::sys::clock::now().unix_seconds()).unwrap();
    // The first day of 1970 and the one before, of 2100 and of 9999.
    for at in [3600, -86_400, 4_102_444_800, 253_370_764_800_i64] {
        let scene = Scene::new();
        let shift = (at - now).to_string();
        let (code, text) = told(scene.rtcctl(&scene.flags()).env("RTCCTL_CLOCK_SHIFT", &shift));
        assert!(code == 0 && text.contains("11 changes made"), "{at}: {text}");
        let ca = std::fs::read(scene.home().join("certs/ca.pem")).unwrap();
        let (code, text) = told(scene.rtcctl(&["cert", "show"]).env("RTCCTL_CLOCK_SHIFT", &shift));
        assert!(code == 0 && text.contains("(397 days)"), "{at}: {text}");
        // By the right clock another leaf is needed, and devices that trust the CA need not hear of it.
        let (code, text) = told(&mut scene.rtcctl(&["init", "--yes"]));
        assert!(code == 0 && text.contains("2 changes made"), "{at}: {text}");
        let file = scene.home().join("certs/ca.pem");
        assert_eq!(std::fs::read(&file).unwrap(), ca, "{at}");
        let year = i64::from(time::OffsetDateTime::now_utc().year());
        let (_, shown) = told(Command::new("openssl").args(["x509", "-noout", "-dates", "-in"]).arg(&file));
        let years: Vec<i64> =
            shown.split_whitespace().filter_map(|word| word.parse().ok()).filter(|n| *n > 31).collect();
        assert!(years.len() == 2 && years[0] <= year && years[1] > year + 5, "{at}: {shown}");
        assert_eq!(told(&mut scene.rtcctl(&["undo"])).0, 0, "{at}");
        assert_eq!(told(&mut scene.rtcctl(&["undo"])).0, 0, "{at}");
        assert!(!scene.home().exists(), "{at}");
    }
}

/// In the middle of it, at places that are told by number, as those of a kill are.
#[test]
fn an_interrupt_a_term_or_a_hangup_while_it_is_carried_out_takes_all_of_it_back() {
    let mut taken_back = 0;
    for (signal, moments) in
        [("SIGINT", [0, 5, 11, 17, 23]), ("SIGTERM", [1, 7, 13, 19, 25]), ("SIGHUP", [3, 9, 15, 21, 27])]
    {
        for moment in moments {
            let scene = Scene::new();
            let before = scene.tree();
            let mut init = scene.rtcctl(&scene.flags());
            init.env("RTCCTL_FAULT", format!("setup:{moment}")).env("RTCCTL_FAULT_SIGNAL", signal);
            let (code, told) = told(&mut init);
            if code == 0 {
                // It came when all was done.
                scene.is_whole_and_goes(&scene.home(), signal);
                continue;
            }
            assert!(code == 130 && told.contains("interrupted"), "{signal} at {moment}: {code} {told}");
            assert_eq!(scene.tree(), before, "{signal} at {moment}: {told}");
            taken_back += 1;
        }
    }
    assert!(taken_back > 10, "{taken_back}");
    // Whom `nohup` has started does not hear of the terminal's end.
    let scene = Scene::new();
    let script = "trap '' HUP; RTCCTL_FAULT=setup:9 RTCCTL_FAULT_SIGNAL=SIGHUP \"$R\" --home \"$H\" \"$@\"";
    let (code, told) = told(&mut scene.shell(script));
    assert!(code == 0 && told.contains("11 changes made"), "{code} {told}");
}

#[test]
fn an_init_beside_the_running_service_changes_the_file_and_not_the_calls() {
    let scene = Scene::new();
    assert_eq!(told(&mut scene.rtcctl(&scene.flags())).0, 0);
    let (code, text) = told(&mut scene.rtcctl(&["start"]));
    assert_eq!(code, 0, "{text}");
    let pid = || {
        let (_, text) = told(&mut scene.rtcctl(&["status", "--json"]));
        let status: serde_json::Value = serde_json::from_str(&text).unwrap();
        status["pid"].as_u64().unwrap_or_else(|| panic!("{status:#}"))
    };
    let before = pid();
    let (code, text) = told(&mut scene.rtcctl(&["init", "--yes", "--relay-ports", "50000-50100"]));
    assert!(code == 0 && text.contains("1 change made") && text.contains(" restart"), "{text}");
    let (code, text) = told(&mut scene.rtcctl(&["init", "--yes"]));
    assert!(code == 0 && text.contains("0 changes"), "its own ports are in nobody's way: {text}");
    assert_eq!(pid(), before);
    let (code, text) = told(&mut scene.rtcctl(&["reload"]));
    assert_eq!(code, 0, "{text}");
    assert_eq!(pid(), before);
    let (code, text) = told(&mut scene.rtcctl(&["uninstall"]));
    assert!(code == 0 && !scene.home().exists(), "{text}");
}
