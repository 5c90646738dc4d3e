//! Gives up what a service does not need: root, privileges but one, and writing outside its own folders.
//!
//! For hosts where no service manager does that. It holds for this process and all that it starts, and cannot be undone.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::libc;
use nix::sys::prctl::{set_keepcaps, set_no_new_privs};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};

/// The privilege that stays: ports below 1024. See capabilities(7).
const NET_BIND_SERVICE: u32 = 10;
/// The highest number that a capability can have in two words.
const LAST_CAPABILITY: u32 = 63;
/// Sockets of two thousand relayed callers and as many connections.
const OPEN_FILES: u64 = 65_536;
/// Says to processes that this one starts that they are confined already, by which version of Landlock.
pub const MARK: &str = "RTCCTL_LANDLOCK";

/// What a process may do, as the kernel says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confinement {
    pub user: u32,
    /// Its privileges, a bit each.
    pub capabilities: u64,
    pub no_new_privileges: bool,
    pub filters_calls: bool,
    /// The system's own files cannot be changed, as a service manager may arrange it.
    pub has_read_only_system: bool,
    /// Which version of Landlock confines its writing; `None`: it is not confined by that.
    pub landlock: Option<u32>,
}

impl Confinement {
    /// What holds for this process.
    #[must_use]
    pub fn own() -> Option<Self> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let landlock = std::env::var(MARK).ok().and_then(|version| version.parse().ok());
        let has_read_only_system = statvfs("/usr").is_ok_and(|system| system.flags().contains(FsFlags::ST_RDONLY));
        Some(Self { has_read_only_system, landlock, ..Self::read(&status) })
    }

    /// From the lines of `/proc/PID/status`.
    fn read(status: &str) -> Self {
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(|value| value.split_whitespace().nth(usize::from(name == "Uid")).unwrap_or_default().to_owned())
        };
        let is_set = |name: &str| value(name).is_some_and(|value| value != "0");
        Self {
            user: value("Uid").and_then(|user| user.parse().ok()).unwrap_or_default(),
            capabilities: value("CapEff").and_then(|bits| u64::from_str_radix(&bits, 16).ok()).unwrap_or_default(),
            no_new_privileges: is_set("NoNewPrivs"),
            filters_calls: is_set("Seccomp"),
            has_read_only_system: false,
            landlock: None,
        }
    }
}

/// Becomes the user and the group, who may use low ports and nothing else that is root's. To be called before there is
/// a second thread.
///
/// # Errors
/// What the kernel says. This process may have given up a part by then, and should end.
pub fn become_user(user: u32, group: u32) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && hard < OPEN_FILES
    {
        // Where that fails, the limit stays as it was.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES);
    }
    for capability in (0..=LAST_CAPABILITY).filter(|number| *number != NET_BIND_SERVICE) {
        // The kernel knows fewer, and says so for the others.
        let _ = control(libc::PR_CAPBSET_DROP, capability.into(), 0);
    }
    set_keepcaps(true)?;
    setgroups(&[group])?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    keep_one_capability()?;
    control(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong, NET_BIND_SERVICE.into())?;
    set_no_new_privs()?;
    if geteuid() == user { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

#[expect(unsafe_code, reason = "nix does not have these")]
fn control(what: libc::c_int, first: libc::c_ulong, second: libc::c_ulong) -> io::Result<()> {
    // SAFETY: these calls take numbers only.
    let done = unsafe { libc::prctl(what, first, second, 0, 0) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The third form of capset(2): a header, and two words for each of the three sets.
#[expect(unsafe_code, reason = "nix has no capset")]
fn keep_one_capability() -> io::Result<()> {
    const VERSION: u32 = 0x2008_0522;
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }
    #[repr(C)]
    struct Sets {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let bit = 1 << NET_BIND_SERVICE;
    let header = Header { version: VERSION, pid: 0 };
    let sets = [
        Sets { effective: bit, permitted: bit, inheritable: bit },
        Sets { effective: 0, permitted: 0, inheritable: 0 },
    ];
    // SAFETY: both have the form that this version of the call asks for, and live until it returns.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Rights to change files, by Landlock's numbers: write, remove, make; since its second version move, since its third
/// truncate. Reading and executing are left as they are. See landlock(7).
const CHANGES: u64 = 0x1ff2;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const WRITE: u64 = 1 << 1;

/// Confines writing to what lies below `folders`, for this thread and all that it starts, and gives the version of
/// Landlock; `None` where the kernel has none.
///
/// # Errors
/// What the kernel says. Nothing is confined then.
pub fn write_only_below(folders: &[&Path]) -> io::Result<Option<u32>> {
    let Some(version) = landlock_version() else { return Ok(None) };
    let rights = CHANGES | if version >= 2 { REFER } else { 0 } | if version >= 3 { TRUNCATE } else { 0 };
    let ruleset = make_ruleset(rights)?;
    for folder in folders {
        // What is not there cannot be written in.
        let Ok(opened) = open_path(folder) else { continue };
        let is_folder = std::fs::metadata(folder).is_ok_and(|found| found.is_dir());
        allow(&ruleset, &opened, if is_folder { rights } else { rights & (WRITE | TRUNCATE) })?;
    }
    set_no_new_privs()?;
    restrict(&ruleset)?;
    mark(version);
    Ok(Some(version))
}

#[expect(unsafe_code, reason = "nix has no Landlock")]
fn landlock_version() -> Option<u32> {
    const ASK_VERSION: u32 = 1;
    // SAFETY: with this flag the call takes no ruleset.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u64>(), 0_usize, ASK_VERSION) };
    u32::try_from(version).ok().filter(|version| *version > 0)
}

#[expect(unsafe_code, reason = "nix has no Landlock")]
fn make_ruleset(rights: u64) -> io::Result<OwnedFd> {
    // The first field alone, as the first version of the structure has it.
    // SAFETY: the value has the size that is told; a descriptor that the call gives belongs to nobody else.
    unsafe {
        let made = libc::syscall(libc::SYS_landlock_create_ruleset, &raw const rights, size_of::<u64>(), 0_u32);
        let made = i32::try_from(made).map_err(io::Error::other)?;
        if made < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(made)) }
    }
}

#[expect(unsafe_code, reason = "a path is opened for its place alone")]
fn open_path(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the text ends by zero; a descriptor that the call gives belongs to nobody else.
    unsafe {
        let opened = libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
        if opened < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(opened)) }
    }
}

#[expect(unsafe_code, reason = "nix has no Landlock")]
fn allow(ruleset: &OwnedFd, below: &OwnedFd, rights: u64) -> io::Result<()> {
    const BENEATH: u32 = 1;
    #[repr(C, packed)]
    struct Rule {
        rights: u64,
        below: i32,
    }
    let rule = Rule { rights, below: below.as_raw_fd() };
    // SAFETY: the rule has the form of this kind and lives until the call returns.
    let done =
        unsafe { libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), BENEATH, &raw const rule, 0_u32) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[expect(unsafe_code, reason = "nix has no Landlock")]
fn restrict(ruleset: &OwnedFd) -> io::Result<()> {
    // SAFETY: the call takes numbers only.
    let done = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0_u32) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[expect(unsafe_code, reason = "the environment may be changed only while nobody else reads it")]
fn mark(version: u32) {
    // SAFETY: the caller has no second thread yet, which is this module's contract.
    unsafe { std::env::set_var(MARK, version.to_string()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_word_on_a_process_is_read() {
        let status = "Name:\trtcctl\nUid:\t998\t997\t998\t998\nCapInh:\t0000000000000400\nCapEff:\t0000000000000400\n\
                      NoNewPrivs:\t1\nSeccomp:\t2\n";
        let confinement = Confinement::read(status);
        let wanted = Confinement {
            user: 997,
            capabilities: 1 << NET_BIND_SERVICE,
            no_new_privileges: true,
            filters_calls: true,
            has_read_only_system: false,
            landlock: None,
        };
        assert_eq!(confinement, wanted);
        assert_eq!(Confinement::own().unwrap().user, geteuid().as_raw());
    }

    fn put(path: &Path) -> io::Result<()> {
        io::Write::write_all(&mut std::fs::File::create(path)?, b"x")
    }

    /// On a thread of its own, which is confined and ends.
    #[test]
    fn nothing_is_written_but_below_the_folders_that_are_named() {
        if landlock_version().is_none() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
        [&inside, &outside].iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
        put(&outside.join("old")).unwrap();
        let confined = std::thread::spawn(move || {
            write_only_below(&[&inside, Path::new("/nonexistent")]).unwrap();
            put(&inside.join("new")).unwrap();
            std::fs::rename(inside.join("new"), inside.join("moved")).unwrap();
            let refused = [
                put(&outside.join("new")),
                put(&outside.join("old")),
                std::fs::remove_file(outside.join("old")),
                std::fs::rename(inside.join("moved"), outside.join("moved")),
            ];
            assert!(refused.iter().all(Result::is_err), "{refused:?}");
            assert_eq!(std::fs::read_to_string(outside.join("old")).unwrap(), "x");
        });
        confined.join().unwrap();
    }
}
