//! A machine that systemd or OpenRC boots: files under an overlay, in namespaces of its own, with the real one as process 1.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rtcctl::sys::clock;

/// How long anything here may take; a machine that others use too is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// What boots a machine.
pub(crate) struct Init {
    /// Where it may lie.
    paths: &'static [&'static str],
    arguments: &'static str,
    /// What says how far it is, and what it says once it is up.
    asks: &'static [&'static str],
    ups: &'static [&'static str],
}

const SYSTEMD: Init = Init {
    paths: &["/lib/systemd/systemd", "/usr/lib/systemd/systemd"],
    arguments: " --system --unit=multi-user.target",
    asks: &["systemctl", "is-system-running"],
    ups: &["running", "degraded"],
};

/// The same for who waits by himself for what it starts.
const SYSTEMD_AT_ONCE: Init = Init { ups: &["initializing", "starting", "running", "degraded"], ..SYSTEMD };

pub(crate) const OPENRC: Init = Init {
    paths: &["/sbin/openrc-init", "/usr/sbin/openrc-init"],
    arguments: "",
    // Its second line is empty where no service of the runlevel is still being started.
    asks: &["sh", "-c", "rc-status --runlevel && rc-status --nocolor | grep starting"],
    ups: &["default"],
};

/// A network that ends at the machine's own cable.
const ALONE: &str = "ip link add wire type veth peer name far && ip link set far up";

/// Run in the new namespaces. `$1` holds the overlay's folders, `$2` is the lower folder, `$3` what boots it, `$4` what else
/// is around it.
const SCRIPT: &str = r#"
set -eu
root=$1/root
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sys "$root/sys"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
ip link set lo up
eval "$4"
ip address add 10.98.0.1/24 dev wire
ip link set wire up
ip route add default via 10.98.0.2
mkdir -p "$root/mnt"
cd "$root"
pivot_root . mnt
umount -l /mnt
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin $3
"#;

/// It is off when this is dropped.
pub(crate) struct Machine {
    folder: tempfile::TempDir,
    cgroup: PathBuf,
    holder: Option<Child>,
    init: u32,
    by: &'static Init,
    /// Shell commands that give it its cable, `wire`; `$root` is its root.
    surroundings: String,
    /// What lies under the overlay.
    lower: PathBuf,
}

impl Machine {
    /// A machine with the files of this host, and rtcctl in its place. `None` where none can be booted, with the reason.
    pub(crate) fn boot() -> Result<Self, String> {
        Self::boot_with(&[(Path::new(env!("CARGO_BIN_EXE_rtcctl")), "/usr/local/bin/rtcctl")])
    }

    /// A machine with the files of this host, and copies of these in the places beside them.
    pub(crate) fn boot_with(files: &[(&Path, &str)]) -> Result<Self, String> {
        let machine = Self::prepared(Path::new("/"), &SYSTEMD)?;
        files.iter().for_each(|(file, place)| machine.put(file, place));
        // What this host would start is none of this machine's business.
        for folder in ["etc/systemd/system", "usr/lib/systemd/system"] {
            for entry in std::fs::read_dir(Path::new("/").join(folder)).into_iter().flatten().flatten() {
                let is_wish = entry.file_name().to_string_lossy().ends_with(".wants");
                let is_basic =
                    entry.file_name() == "sysinit.target.wants" || entry.file_name() == "sockets.target.wants";
                if is_wish && !is_basic {
                    machine.hide(&entry.path());
                }
            }
        }
        let own = Path::new("/etc/systemd/system/rtcctl.service");
        assert!(!own.exists(), "this host has a service of its own");
        machine.on()
    }

    /// A machine with these files, and rtcctl in its place.
    pub(crate) fn boot_of(lower: &Path, by: &'static Init) -> Result<Self, String> {
        let machine = Self::prepared(lower, by)?;
        machine.put(Path::new(env!("CARGO_BIN_EXE_rtcctl")), "/usr/local/bin/rtcctl");
        machine.on()
    }

    /// A machine with these files and nothing of ours, between these surroundings; its upper files can be filled before it
    /// is switched on.
    pub(crate) fn bare(lower: &Path, surroundings: String) -> Result<Self, String> {
        let mut machine = Self::prepared(lower, &SYSTEMD_AT_ONCE)?;
        machine.surroundings = surroundings;
        Ok(machine)
    }

    fn prepared(lower: &Path, by: &'static Init) -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("only root can boot a machine in namespaces".to_owned());
        }
        let unified = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(PathBuf::from);
        let unified = unified.into_iter().find(|path| path.join("cgroup.controllers").exists());
        let unified = unified.ok_or("there are no control groups of the second version")?;
        let cgroup = unified.join(format!("rtcctl-test-{}", std::process::id()));
        std::fs::create_dir(&cgroup).map_err(|error| format!("no control group can be made: {error}"))?;
        let folder = tempfile::tempdir().unwrap();
        for name in ["upper", "work", "root"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::fs::set_permissions(folder.path().join("upper"), std::fs::Permissions::from_mode(0o755)).unwrap();
        Ok(Self {
            folder,
            cgroup,
            holder: None,
            init: 0,
            by,
            surroundings: ALONE.to_owned(),
            lower: lower.to_path_buf(),
        })
    }

    /// Where a path of the machine lies in the folder above this host's files.
    pub(crate) fn upper(&self, path: &str) -> PathBuf {
        self.folder.path().join("upper").join(path.trim_start_matches('/'))
    }

    fn put(&self, file: &Path, place: &str) {
        let path = self.upper(place);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(file, &path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// An empty folder in place of this one.
    fn hide(&self, folder: &Path) {
        let path = self.upper(&folder.to_string_lossy());
        std::fs::create_dir_all(&path).unwrap();
        let name = std::ffi::CString::new(path.to_string_lossy().as_bytes()).unwrap();
        #[expect(unsafe_code, reason = "a mark of overlayfs, which the standard library does not know")]
        // SAFETY: both texts end by zero and live until the call returns.
        let done = unsafe {
            nix::libc::setxattr(name.as_ptr(), c"trusted.overlay.opaque".as_ptr(), c"y".as_ptr().cast(), 1, 0)
        };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }

    /// Boots it.
    pub(crate) fn on(mut self) -> Result<Self, String> {
        self.start()?;
        Ok(self)
    }

    fn start(&mut self) -> Result<(), String> {
        let program = self.by.paths.iter().find(|path| self.lower.join(path.trim_start_matches('/')).exists());
        let program = program.ok_or_else(|| format!("{} is not installed", self.by.paths[0]))?;
        let program = format!("{program}{}", self.by.arguments);
        #[expect(clippy::disallowed_methods, reason = "it lives as long as the test")]
        let mut command = Command::new("sh");
        // The new root of control groups is the group that the process is in when it leaves for its namespaces.
        let enter = r#"echo $$ >"$0/cgroup.procs" && exec unshare --fork --pid --mount --net --uts --ipc --cgroup --kill-child sh -c "$1" sh "$2" "$3" "$4" "$5""#;
        command
            .args(["-c", enter])
            .arg(&self.cgroup)
            .arg(SCRIPT)
            .arg(self.folder.path())
            .arg(&self.lower)
            .arg(program)
            .arg(&self.surroundings);
        let holder = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", holder.id());
        self.holder = Some(holder);
        let end = clock::now().mono + PATIENCE;
        while clock::now().mono < end {
            let child = std::fs::read_to_string(&children).unwrap_or_default();
            if let Some(init) = child.split_whitespace().next().and_then(|pid| pid.parse().ok()) {
                self.init = init;
                let state = self.run(self.by.asks);
                if self.by.ups.contains(&String::from_utf8_lossy(&state.stdout).trim()) {
                    return Ok(());
                }
            }
            let holder = self.holder.as_mut().unwrap();
            if holder.try_wait().unwrap().is_some() {
                let mut why = String::new();
                std::io::Read::read_to_string(holder.stderr.as_mut().unwrap(), &mut why).unwrap();
                return Err(format!("it cannot be booted here: {}", why.trim()));
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        Err(format!("{} did not come up", self.by.paths[0]))
    }

    /// The number of its process 1 on this host.
    pub(crate) fn process(&self) -> u32 {
        self.init
    }

    /// Runs a command in it.
    pub(crate) fn run(&self, line: &[&str]) -> Output {
        #[expect(clippy::disallowed_methods, reason = "tests start programs")]
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.init.to_string(), "-a", "env", "-i", "HOME=/root", "LC_ALL=C"]);
        command.arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").args(line);
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a command that succeeds, and gives what it says.
    pub(crate) fn succeeds(&self, line: &[&str]) -> String {
        let output = self.run(line);
        let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert!(output.status.success(), "{line:?}: {}\n{out}{err}", output.status);
        out + &err
    }

    /// As when its power is cut and comes back.
    pub(crate) fn reboot(&mut self) {
        self.off();
        self.start().unwrap();
    }

    fn off(&mut self) {
        if let Some(mut holder) = self.holder.take() {
            let _ = holder.kill();
            let _ = holder.wait();
        }
        // Every process of its namespaces ends with its process 1, in a moment.
        let end = clock::now().mono + PATIENCE;
        let is_populated = || {
            std::fs::read_to_string(self.cgroup.join("cgroup.events")).is_ok_and(|text| text.contains("populated 1"))
        };
        while is_populated() && clock::now().mono < end {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        remove_groups(&self.cgroup, true);
    }
}

/// Removes the groups below, innermost first.
fn remove_groups(group: &Path, stays: bool) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path(), false);
        }
    }
    if !stays {
        let _ = std::fs::remove_dir(group);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.off();
        let _ = std::fs::remove_dir(&self.cgroup);
    }
}
