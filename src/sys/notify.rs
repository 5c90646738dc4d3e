//! How the daemon speaks to its service manager: sd_notify(3) and sd_listen_fds(3), without their library.
//!
//! The manager is systemd or the guardian; both speak the same. Nothing here ever waits for it: a manager that does
//! not listen must not stop the service. And nothing that is short in this process, like descriptors, may silence it:
//! whoever is silent is taken for one that hangs.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use tracing::{debug, warn};

use super::fdstore::{Inherited, identity};
use super::unix::ShortPath;

/// Sockets that go with one message; the kernel takes 253.
const SOCKETS_A_MESSAGE: usize = 200;
/// Messages that may wait for a manager that does not read. What comes on top is dropped, the oldest first.
const MAX_WAITING: usize = 64;
/// The variable by which a process tells its manager that another one is to follow it.
pub const WANTS_NEXT: &str = "X_RTCCTL_WANTS_NEXT";
/// Paths of sockets that the kernel takes as they are.
const SHORT: usize = 100;

/// What the manager has put into the environment for this process.
#[derive(Debug, Default, PartialEq, Eq)]
struct Given {
    address: Option<OsString>,
    watchdog: Option<Duration>,
    /// How many sockets it keeps at most; not every manager says.
    room: Option<usize>,
    /// The names of the sockets that were handed to us, from descriptor 3 on.
    sockets: Vec<String>,
}

/// The variables of both protocols. They are meant for this process and for none that it starts.
pub(super) const VARIABLES: [&str; 7] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "FDSTORE"];

impl Given {
    /// Reads the variables for the process `pid`. What is meant for another one, or makes no sense, is left out.
    fn read(pid: u32, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let text = |name: &str| variable(name).and_then(|value| value.into_string().ok());
        let is_ours = |name: &str, by_default: bool| text(name).map_or(by_default, |text| text == pid.to_string());
        let watchdog = text("WATCHDOG_USEC").and_then(|text| text.parse().ok()).map(Duration::from_micros);
        let count = text("LISTEN_FDS").and_then(|text| text.parse::<usize>().ok()).unwrap_or_default();
        let mut sockets = Vec::new();
        if is_ours("LISTEN_PID", false) {
            let names = text("LISTEN_FDNAMES").unwrap_or_default();
            let mut names = names.split(':').filter(|name| !name.is_empty());
            let next = || names.next().unwrap_or("unknown").to_owned();
            sockets = std::iter::repeat_with(next).take(count.min(Inherited::MAX)).collect();
        }
        Self {
            address: variable("NOTIFY_SOCKET").filter(|address| !address.is_empty()),
            watchdog: watchdog.filter(|span| !span.is_zero() && is_ours("WATCHDOG_PID", true)),
            room: text("FDSTORE").and_then(|text| text.parse().ok()),
            sockets,
        }
    }
}

/// The service manager of this process, if it has one.
#[derive(Debug, Default)]
pub struct Manager {
    address: Option<OsString>,
    watchdog: Option<Duration>,
    room: Option<usize>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    way: Option<Way>,
    /// What was said and not yet taken.
    waiting: VecDeque<Message>,
    kept: Vec<Kept>,
    is_ready: bool,
    is_stopping: bool,
    wants_next: bool,
}

#[derive(Debug)]
struct Message {
    text: String,
    sockets: Vec<OwnedFd>,
}

/// What messages leave by. It stays open, so that a message needs no descriptor of its own.
#[derive(Debug)]
struct Way {
    socket: UnixDatagram,
    /// For an address that is too long for the kernel.
    short: Option<ShortPath>,
}

/// A socket that the manager has a copy of.
#[derive(Debug)]
struct Kept {
    name: String,
    socket: OwnedFd,
}

impl Manager {
    /// Takes what the manager has put into the environment, and the sockets it handed over.
    ///
    /// To be called before there is a second thread: it removes the variables.
    #[must_use]
    pub fn take_environment() -> (Self, Inherited) {
        let given = Given::read(std::process::id(), |name| std::env::var_os(name));
        forget_variables();
        let inherited = Inherited::from_descriptors(given.sockets);
        (Self { room: given.room, ..Self::new(given.address, given.watchdog) }, inherited)
    }

    /// A manager that listens at `address`.
    #[must_use]
    pub fn at(address: &OsStr, watchdog: Option<Duration>) -> Self {
        Self::new(Some(address.to_owned()), watchdog)
    }

    fn new(address: Option<OsString>, watchdog: Option<Duration>) -> Self {
        // If there is none now, it is made for the first message that there is one for.
        let way = address.as_deref().and_then(|address| Way::to(address).ok());
        Self { address, watchdog, room: None, inner: Mutex::new(Inner { way, ..Inner::default() }) }
    }

    /// Whether somebody looks after this process, and starts it anew when it ends badly.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.address.is_some()
    }

    /// Says that everything is up.
    pub fn ready(&self) {
        self.change(|inner| inner.is_ready = true);
        self.say("READY=1");
    }

    /// Says that this process is about to end for another one to follow, and why. A manager that is not its parent
    /// cannot tell from its end.
    pub fn want_next(&self, why: &str) {
        self.change(|inner| inner.wants_next = true);
        self.say(&format!("{WANTS_NEXT}=1"));
        self.status(why);
    }

    /// Says that this process is about to end by itself.
    pub fn stopping(&self) {
        self.change(|inner| inner.is_stopping = true);
        self.say("STOPPING=1");
    }

    /// Says how things are, in one line for people.
    pub fn status(&self, text: &str) {
        // Another line would be another message.
        self.say(&format!("STATUS={}", text.replace(['\n', '\r'], " ")));
    }

    /// Says anything else, like `RELOADING=1`.
    pub fn say(&self, text: &str) {
        self.send(Message { text: text.to_owned(), sockets: Vec::new() });
    }

    /// To be called when the service's own loop turns. Sends what could not be sent before, and says that the service is
    /// alive, if the manager wants to hear that.
    pub fn beat(&self) {
        self.change(|inner| {
            self.flush(inner);
            if self.watchdog.is_some() && inner.waiting.is_empty() {
                // The next one comes soon.
                let _ = self.post(&mut inner.way, "WATCHDOG=1", &[]);
            }
        });
    }

    /// Gives the manager copies of `sockets`, all under one name, to be handed to the next start of this service.
    ///
    /// # Errors
    /// If there is no descriptor to be had for the copies that this process keeps, for a manager that comes later.
    pub fn keep<S: AsFd>(&self, name: &str, sockets: impl IntoIterator<Item = S>) -> io::Result<()> {
        if self.address.is_none() {
            return Ok(());
        }
        let sockets: Vec<OwnedFd> =
            sockets.into_iter().map(|socket| socket.as_fd().try_clone_to_owned()).collect::<io::Result<_>>()?;
        let mut count = 0;
        self.change(|inner| {
            inner.kept.extend(sockets.into_iter().map(|socket| Kept { name: name.to_owned(), socket }));
            count = inner.kept.len();
        });
        if let Some(room) = self.room.filter(|room| *room < count) {
            warn!(
                room,
                sockets = count,
                "the service manager does not keep all sockets, and who connects during a restart may be refused; raise \
                 FileDescriptorStoreMax of the unit"
            );
        }
        self.store(name);
        Ok(())
    }

    /// Has the manager close its copies of `socket`, which was kept under `name`.
    pub fn release(&self, name: &str, socket: &impl AsFd) {
        let released = identity(socket.as_fd());
        self.change(|inner| {
            inner.kept.retain(|kept| kept.name != name || identity(kept.socket.as_fd()) != released);
        });
        self.store_anew(name);
    }

    /// Lets go of all sockets under one name, here and there.
    pub fn release_named(&self, name: &str) {
        self.change(|inner| inner.kept.retain(|kept| kept.name != name));
        self.store_anew(name);
    }

    /// Has the manager close what it keeps under `name`, except what this process has kept itself.
    pub fn store_anew(&self, name: &str) {
        // What waits to be stored is out of date, and would stay open for as long as it waits.
        let outdated = storing(name);
        self.change(|inner| inner.waiting.retain(|message| message.text != outdated));
        self.say(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
        self.store(name);
    }

    /// Closes the copies that this process keeps, but not those of the manager: it may want them for another start.
    pub fn close_copies(&self) {
        self.change(|inner| inner.kept.clear());
    }

    /// Tells another manager, which listens where the one before did, all that it has to know.
    pub fn introduce(&self) {
        let (mut names, mut state) = (Vec::new(), Vec::new());
        self.change(|inner| {
            inner.waiting.clear();
            names = inner.kept.iter().map(|kept| kept.name.clone()).collect();
            state.extend(inner.is_ready.then(|| "READY=1".to_owned()));
            state.extend(inner.wants_next.then(|| format!("{WANTS_NEXT}=1")));
            state.extend(inner.is_stopping.then(|| "STOPPING=1".to_owned()));
        });
        names.sort_unstable();
        names.dedup();
        for name in names {
            self.store(&name);
        }
        for text in state {
            self.say(&text);
        }
    }

    /// Sends what this process has kept under `name`. The manager knows what it has already.
    fn store(&self, name: &str) {
        self.change(|inner| {
            let kept = inner.kept.iter().filter(|kept| kept.name == name);
            let sockets: Vec<OwnedFd> = kept.filter_map(|kept| kept.socket.try_clone().ok()).collect();
            let mut sockets = sockets.into_iter();
            loop {
                let some: Vec<OwnedFd> = sockets.by_ref().take(SOCKETS_A_MESSAGE).collect();
                if some.is_empty() {
                    break;
                }
                inner.waiting.push_back(Message { text: storing(name), sockets: some });
            }
            self.flush(inner);
        });
    }

    fn send(&self, message: Message) {
        self.change(|inner| {
            inner.waiting.push_back(message);
            self.flush(inner);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    /// Sends what waits, as far as the manager takes it now.
    fn flush(&self, inner: &mut Inner) {
        let Inner { way, waiting, .. } = inner;
        while let Some(message) = waiting.front() {
            let sockets: Vec<BorrowedFd<'_>> = message.sockets.iter().map(AsFd::as_fd).collect();
            match self.post(way, &message.text, &sockets) {
                Err(error) if is_for_now(error) => break,
                Ok(()) => {}
                Err(error) => debug!(%error, "the service manager does not take a message"),
            }
            waiting.pop_front();
        }
        while waiting.len() > MAX_WAITING {
            waiting.pop_front();
        }
    }

    fn post(&self, way: &mut Option<Way>, text: &str, sockets: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let Some(address) = &self.address else { return Ok(()) };
        let way = match way {
            Some(way) => way,
            None => way.insert(Way::to(address).map_err(errno)?),
        };
        way.post(address, text, sockets)
    }
}

impl Way {
    fn to(address: &OsStr) -> io::Result<Self> {
        let is_long = !address.as_bytes().starts_with(b"@") && address.len() > SHORT;
        let short = is_long.then(|| ShortPath::to(Path::new(address))).transpose()?;
        Ok(Self { socket: UnixDatagram::unbound()?, short })
    }

    /// Sends one message, now or not at all.
    fn post(&mut self, address: &OsStr, text: &str, sockets: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let raw: Vec<RawFd> = sockets.iter().map(|socket| socket.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let rights = if raw.is_empty() { &[][..] } else { &rights };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let to = match (address.as_bytes().split_first(), &self.short) {
            (_, Some(short)) => UnixAddr::new(&short.path)?,
            // A leading `@` stands for the zero byte of an abstract address.
            (Some((b'@', name)), None) => UnixAddr::new_abstract(name)?,
            (_, None) => UnixAddr::new(Path::new(address))?,
        };
        let sent =
            sendmsg(self.socket.as_raw_fd(), &[IoSlice::new(text.as_bytes())], rights, flags, Some(&to)).map(drop);
        if sent == Err(Errno::ENOENT) && self.short.is_some() {
            // The folder itself may be another one by now: for the next time.
            self.short = ShortPath::to(Path::new(address)).ok().or(self.short.take());
        }
        sent
    }
}

/// A listener that has something to tell must not be taken for one that has ended, hence `FDPOLL`.
fn storing(name: &str) -> String {
    format!("FDSTORE=1\nFDPOLL=0\nFDNAME={name}")
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw)
}

/// Whether a message may arrive later: the manager does not read or is just not there, its socket was deleted and will
/// be bound anew, or something is short.
fn is_for_now(error: Errno) -> bool {
    use Errno::{EAGAIN, ECONNREFUSED, EMFILE, ENFILE, ENOBUFS, ENOENT, ENOMEM, ETOOMANYREFS};
    [EAGAIN, ECONNREFUSED, EMFILE, ENFILE, ENOBUFS, ENOENT, ENOMEM, ETOOMANYREFS].contains(&error)
}

#[expect(unsafe_code, reason = "the environment may be changed only while nobody else reads it")]
fn forget_variables() {
    for name in VARIABLES {
        // SAFETY: the caller has no second thread yet, which is this function's contract.
        unsafe { std::env::remove_var(name) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt as _;

    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    use super::*;

    fn given(variables: &[(&str, &str)]) -> Given {
        Given::read(7, |name| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).into()))
    }

    #[test]
    fn a_state_arrives_at_a_path_of_any_length_and_at_an_abstract_address() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(150));
        std::fs::create_dir(&deep).unwrap();
        let short = ShortPath::to(&deep.join("notify")).unwrap();
        let name = format!("rtcctl-test-{}", std::process::id());
        let abstract_address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let places = [
            (UnixDatagram::bind(folder.path().join("notify")), folder.path().join("notify").into_os_string()),
            (UnixDatagram::bind(&short.path), deep.join("notify").into_os_string()),
            (UnixDatagram::bind_addr(&abstract_address), format!("@{name}").into()),
        ];
        for (listener, address) in places {
            let manager = Manager::at(&address, None);
            manager.ready();
            let mut buffer = [0; 32];
            let length = listener.unwrap().recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1");
        }
    }

    #[test]
    fn a_manager_that_does_not_read_holds_nothing_up_and_hears_everything_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let manager = Manager::at(path.as_os_str(), Some(Duration::from_secs(1)));
        for number in 0..40 {
            manager.say(&format!("STATUS={number}"));
            manager.beat();
        }
        let mut heard = Vec::new();
        let mut buffer = [0; 32];
        while heard.last().is_none_or(|last| last != "STATUS=39") {
            while let Ok(length) = listener.recv(&mut buffer) {
                heard.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
            }
            manager.change(|inner| manager.flush(inner));
        }
        let told = heard.iter().filter(|text| text.starts_with("STATUS=")).count();
        assert_eq!(told, 40);
        manager.beat();
        let length = listener.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"WATCHDOG=1");
    }

    #[test]
    fn what_is_said_while_the_managers_socket_is_deleted_is_heard_once_it_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        for below in ["short".to_owned(), "d".repeat(150)] {
            let deep = folder.path().join(below);
            std::fs::create_dir(&deep).unwrap();
            let bind = || {
                let listener = UnixDatagram::bind(ShortPath::to(&deep.join("notify")).unwrap().path).unwrap();
                listener.set_nonblocking(true).unwrap();
                listener
            };
            drop(bind());
            let manager = Manager::at(deep.join("notify").as_os_str(), Some(Duration::from_secs(1)));
            let moved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            manager.keep("https", [&moved]).unwrap();
            let address = moved.local_addr().unwrap();
            // Nobody reads there; then there is no file, then not even a folder.
            manager.ready();
            std::fs::remove_dir_all(&deep).unwrap();
            manager.beat();
            manager.release("https", &moved);
            drop(moved);
            assert!(std::net::TcpStream::connect(address).is_err(), "what is not served any more is not held open");
            std::fs::create_dir(&deep).unwrap();
            let listener = bind();
            manager.beat();
            manager.beat();
            let mut buffer = [0; 64];
            let heard = std::iter::from_fn(|| {
                let length = listener.recv(&mut buffer).ok()?;
                Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
            });
            let mut heard: Vec<String> = heard.collect();
            heard.dedup();
            assert_eq!(heard, ["READY=1", "FDSTOREREMOVE=1\nFDNAME=https", "WATCHDOG=1"]);
        }
    }

    #[test]
    fn a_process_without_a_descriptor_to_spare_says_that_it_is_alive() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["notify".to_owned(), "n".repeat(90)] {
            let path = folder.path().join(name);
            let listener = UnixDatagram::bind(ShortPath::to(&path).unwrap().path).unwrap();
            let manager = Manager::at(path.as_os_str(), Some(Duration::from_secs(1)));
            let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
            let is_short = std::fs::File::open("/dev/null").is_err();
            manager.beat();
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
            assert!(is_short);
            listener.set_nonblocking(true).unwrap();
            let mut buffer = [0; 32];
            let length = listener.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"WATCHDOG=1");
        }
    }

    #[test]
    fn only_what_is_meant_for_this_process_is_taken_from_the_environment() {
        assert_eq!(given(&[]), Given::default());
        let all = [
            ("NOTIFY_SOCKET", "/run/notify"),
            ("WATCHDOG_USEC", "10000000"),
            ("WATCHDOG_PID", "7"),
            ("LISTEN_PID", "7"),
            ("LISTEN_FDS", "3"),
            ("LISTEN_FDNAMES", "https:https"),
            ("FDSTORE", "512"),
        ];
        let taken = given(&all);
        assert_eq!(taken.address.as_deref(), Some(OsStr::new("/run/notify")));
        assert_eq!((taken.watchdog, taken.room), (Some(Duration::from_secs(10)), Some(512)));
        assert_eq!(taken.sockets, ["https", "https", "unknown"]);
        let others = all.map(|(name, value)| (name, if value == "7" { "8" } else { value }));
        let taken = given(&others);
        assert_eq!((taken.watchdog, taken.sockets), (None, Vec::new()));
        assert_eq!(given(&[("LISTEN_FDS", "3")]).sockets, Vec::<String>::new(), "without a process it is nobody's");
        let nonsense = [("LISTEN_PID", "7"), ("LISTEN_FDS", "-1"), ("WATCHDOG_USEC", "soon"), ("NOTIFY_SOCKET", "")];
        assert_eq!(given(&nonsense), Given::default());
    }
}
