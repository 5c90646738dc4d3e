//! What a long-lived process asks of the kernel, and how it watches another one.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, fstat, umask};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::dup2_stderr;

/// A umask that takes rights from ourselves makes files that not even we can read, and one that takes none from others
/// makes files that anybody can change: neither is what whoever runs this means. To be called before anything is made.
pub fn mend_umask() {
    let own = umask(Mode::from_bits_truncate(0o077));
    umask((own | Mode::from_bits_truncate(0o022)) & Mode::from_bits_truncate(0o077));
}

/// Files of this process are its user's alone, it may open as many as the administrator allows, and a crash writes no
/// image of its memory, which holds keys.
pub fn harden() {
    umask(Mode::from_bits_truncate(0o077));
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Where that fails, the limit stays as it was.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
}

/// How many files and sockets this process may have open.
#[must_use]
pub fn open_files_limit() -> u64 {
    // What every system grants, where it does not say.
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft)
}

/// How many files and sockets a process of this user may raise its limit to.
#[must_use]
pub fn open_files_hard_limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(_, hard)| hard)
}

/// Says how late the kernel may wake this thread from a short sleep: 50 microseconds unless it is said.
///
/// # Errors
/// What the kernel says.
pub fn set_timer_slack(slack: Duration) -> io::Result<()> {
    Ok(nix::sys::prctl::set_timerslack(slack.as_nanos().try_into().unwrap_or(libc::c_ulong::MAX))?)
}

/// Leaves the terminal's session, so that closing it ends nothing.
///
/// # Errors
/// If this process leads a group already.
pub fn leave_session() -> io::Result<()> {
    nix::unistd::setsid()?;
    std::env::set_current_dir("/")
}

/// Has standard error lead to the file that has this path now: the one it led to may have been put aside.
///
/// # Errors
/// If the file cannot be opened.
pub fn lead_stderr_to(path: &Path) -> io::Result<()> {
    let held = fstat(io::stderr())?;
    if std::fs::metadata(path).is_ok_and(|named| (named.dev(), named.ino()) == (held.st_dev, held.st_ino)) {
        return Ok(());
    }
    let file = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    Ok(dup2_stderr(file)?)
}

/// The signals by which a daemon is told to end or to look at its files again.
#[must_use]
pub fn daemon_signals() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect()
}

/// Starts this program anew with `arguments`. Its standard output is a pipe to us, what it says besides is `complaints`.
///
/// # Errors
/// If the kernel has no room.
#[expect(clippy::disallowed_methods, reason = "the daemon is this very program, started in one place")]
pub fn spawn_self(arguments: &[std::ffi::OsString], complaints: std::fs::File) -> io::Result<Child> {
    Command::new(own_program()).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(complaints).spawn()
}

/// Where this very program is found.
#[must_use]
pub fn own_program() -> PathBuf {
    // By its path, for its name in `ps`. Of one that was replaced while it runs, the one in its place is meant.
    program_of(std::process::id()).unwrap_or_else(|| "/proc/self/exe".into())
}

/// Where the program of a process lies, or the one that has taken its place since.
#[must_use]
pub fn program_of(pid: u32) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    // What the kernel adds to the name of a file that has none any more.
    let bytes = path.as_os_str().as_bytes();
    let named = bytes.strip_suffix(b" (deleted)").map(|bytes| PathBuf::from(std::ffi::OsStr::from_bytes(bytes)));
    std::iter::once(path.clone()).chain(named).find(|path| path.is_file())
}

/// Whether a process runs the very file that lies at `path` now.
#[must_use]
pub fn runs(pid: u32, path: &Path) -> bool {
    let file = |path: &Path| std::fs::metadata(path).ok().map(|data| (data.dev(), data.ino()));
    let wanted = file(path);
    wanted.is_some() && wanted == file(Path::new(&format!("/proc/{pid}/exe")))
}

/// Whether a process runs the very program that this one is, as it lies on the disk now: not one that was replaced since.
#[must_use]
pub fn is_this_program(pid: u32) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let file = |path: &str| std::fs::metadata(path).ok().map(|data| (data.dev(), data.ino()));
    let own = file("/proc/self/exe");
    own.is_some() && own == file(&format!("/proc/{pid}/exe"))
}

/// How a process has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Exited(i32),
    /// By the signal of this name.
    Killed(String),
    /// It was somebody else's child, and only that it has ended is known.
    Unknown,
}

/// A process that was alive when this was made. Unlike its number, it cannot become another one.
#[derive(Debug)]
pub struct Watched {
    pid: u32,
    descriptor: OwnedFd,
}

impl Watched {
    /// # Errors
    /// `NotFound` if there is no such process.
    pub fn new(pid: u32) -> io::Result<Self> {
        let number = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(Self { pid, descriptor: open_pid(number)? })
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until it has ended. `false`: `patience` is over.
    #[must_use]
    pub fn wait(&self, patience: Duration) -> bool {
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let mut waiting = [PollFd::new(self.descriptor.as_fd(), PollFlags::POLLIN)];
        poll(&mut waiting, timeout).is_ok_and(|ready| ready > 0)
    }

    /// How it has ended, if it has. Takes note of it, so that no tool shows it any more, if it was our child.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn take_end(&self) -> io::Result<Option<End>> {
        match waitid(Id::PIDFd(self.descriptor.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
            Ok(WaitStatus::Exited(_, code)) => Ok(Some(End::Exited(code))),
            Ok(WaitStatus::Signaled(_, signal, _)) => Ok(Some(End::Killed(signal.as_str().to_owned()))),
            Err(Errno::ECHILD) => Ok(self.wait(Duration::ZERO).then_some(End::Unknown)),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(None),
        }
    }

    /// Becomes readable when it has ended.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Gives its parent a moment to take note of its end, so that no tool shows it any more.
    pub fn linger(&self, patience: Duration) {
        let entry = PathBuf::from(format!("/proc/{}", self.pid));
        let end = super::clock::now().mono + patience;
        while entry.exists() && super::clock::now().mono < end {
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Asks it to end.
    ///
    /// # Errors
    /// If it belongs to somebody else.
    pub fn terminate(&self) -> io::Result<()> {
        signal_pid(&self.descriptor, libc::SIGTERM)
    }

    /// Tells it to look at its files again.
    ///
    /// # Errors
    /// If it belongs to somebody else.
    pub fn hang_up(&self) -> io::Result<()> {
        signal_pid(&self.descriptor, libc::SIGHUP)
    }

    /// Ends it without a word.
    ///
    /// # Errors
    /// If it belongs to somebody else.
    pub fn kill(&self) -> io::Result<()> {
        signal_pid(&self.descriptor, libc::SIGKILL)
    }
}

#[expect(unsafe_code, reason = "nix has no pidfd_open")]
fn open_pid(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: the call takes numbers only, and a descriptor that it gives belongs to nobody else.
    unsafe {
        let descriptor = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
        if descriptor < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(descriptor)) }
    }
}

#[expect(unsafe_code, reason = "nix has no pidfd_send_signal")]
fn signal_pid(process: &OwnedFd, signal: libc::c_int) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    // SAFETY: the call takes numbers and a null pointer, which it knows for "as kill does".
    let sent = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
