//! Sockets that outlive a process: handed over by the service manager at a start, by name, and checked before use.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockType, SockaddrLike as _, SockaddrStorage, getsockname, getsockopt, sockopt};
use nix::sys::stat::fstat;

use super::memfile;

/// The first descriptor that is handed over, fixed by sd_listen_fds(3).
pub const FIRST: RawFd = 3;

/// What tells one socket from any other, whichever descriptor it is reached by.
#[must_use]
pub fn identity(socket: BorrowedFd<'_>) -> Option<(u64, u64)> {
    fstat(socket).ok().map(|data| (data.st_dev, data.st_ino))
}

/// The sockets that were handed over at the start. Each is taken once; [`Inherited::finish`] closes what is left.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<Named>,
}

#[derive(Debug)]
struct Named {
    name: String,
    socket: OwnedFd,
}

impl Inherited {
    /// Sockets that are taken at most: as many as a configuration may listen on, four times over, since those that were
    /// moved away from are kept for a while. `FileDescriptorStoreMax` of the unit is the same.
    pub const MAX: usize = 4096;

    /// Takes the descriptors from [`FIRST`] on, which have these names.
    #[must_use]
    pub(super) fn from_descriptors(names: Vec<String>) -> Self {
        let named = (FIRST..).zip(names).filter_map(|(number, name)| Some(Named { name, socket: own(number)? }));
        Self::of(named.map(|named| (named.name, named.socket)).collect())
    }

    /// These sockets, by their names. One that is there twice counts once.
    #[must_use]
    pub fn of(sockets: Vec<(String, OwnedFd)>) -> Self {
        let mut seen = Vec::new();
        let mut is_new = |socket: &OwnedFd| {
            let identity = identity(socket.as_fd());
            let is_new = identity.is_some() && !seen.contains(&identity);
            seen.push(identity);
            is_new
        };
        let sockets = sockets.into_iter().filter(|(_, socket)| is_new(socket));
        Self { sockets: sockets.map(|(name, socket)| Named { name, socket }).collect() }
    }

    /// The TCP listener `name` on `wanted`, whose port may be 0 for any.
    pub fn take_tcp(&mut self, name: &str, wanted: SocketAddr) -> Option<TcpListener> {
        let fits = |socket: BorrowedFd<'_>| {
            is(socket, SockType::Stream)
                && getsockopt(&socket, sockopt::AcceptConn).unwrap_or(false)
                && is_at(socket, wanted)
        };
        self.take(name, fits).map(TcpListener::from)
    }

    /// The UDP socket `name` on `wanted`, whose port may be 0 for any. It shares its address, as all of ours do.
    pub fn take_udp(&mut self, name: &str, wanted: SocketAddr) -> Option<UdpSocket> {
        let fits = |socket: BorrowedFd<'_>| {
            is(socket, SockType::Datagram)
                && getsockopt(&socket, sockopt::ReusePort).unwrap_or(false)
                && is_at(socket, wanted)
        };
        self.take(name, fits).map(UdpSocket::from)
    }

    /// The listening Unix socket `name`. Whether it still has its place in the file system is for the caller to find out.
    pub fn take_unix(&mut self, name: &str) -> Option<UnixListener> {
        let fits = |socket: BorrowedFd<'_>| {
            is(socket, SockType::Stream)
                && getsockopt(&socket, sockopt::AcceptConn).unwrap_or(false)
                && bound(socket).is_some_and(|address| address.family() == Some(AddressFamily::Unix))
        };
        self.take(name, fits).map(UnixListener::from)
    }

    /// The text `name`, which was sealed in memory.
    pub fn take_text(&mut self, name: &str) -> Option<String> {
        self.take(name, memfile::is_sealed).and_then(|text| memfile::read(text).ok())
    }

    /// Closes what nobody took. Gives the names, each once: the manager should let go of these, too.
    #[must_use]
    pub fn finish(self) -> Vec<String> {
        let mut names: Vec<String> = self.sockets.into_iter().map(|named| named.name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn take(&mut self, name: &str, fits: impl Fn(BorrowedFd<'_>) -> bool) -> Option<OwnedFd> {
        let at = self.sockets.iter().position(|named| named.name == name && fits(named.socket.as_fd()))?;
        Some(self.sockets.remove(at).socket)
    }
}

fn bound(socket: BorrowedFd<'_>) -> Option<SockaddrStorage> {
    getsockname(socket.as_raw_fd()).ok()
}

fn is(socket: BorrowedFd<'_>, wanted: SockType) -> bool {
    getsockopt(&socket, sockopt::SockType).is_ok_and(|kind| kind == wanted)
}

fn is_at(socket: BorrowedFd<'_>, wanted: SocketAddr) -> bool {
    let Some(bound) = bound(socket) else { return false };
    let v4 = bound.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
    let v6 = bound.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip(), v6.port())));
    let Some(address) = v4.or(v6) else { return false };
    // One that takes both families would get in the way of the IPv4 listener, or be mistaken for it.
    let is_alone = address.is_ipv4() || getsockopt(&socket, sockopt::Ipv6V6Only).unwrap_or(false);
    is_alone && address.ip() == wanted.ip() && (wanted.port() == 0 || address.port() == wanted.port())
}

/// Makes an open descriptor ours, and keeps it from programs that we start.
#[expect(unsafe_code, reason = "descriptors that are handed over are known by their numbers alone")]
fn own(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: it is borrowed for one call, which fails where nothing is open under this number.
    let is_open = fcntl(unsafe { BorrowedFd::borrow_raw(number) }, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).is_ok();
    // SAFETY: it is open, and by the protocol it belongs to this process, which asks for it once, at its start.
    is_open.then(|| unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::udp::{self, Purpose};
    use crate::sys::{tcp, unix::ShortPath};

    fn here() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn a_listener_is_taken_by_its_name_kind_and_address_and_by_nothing_less() {
        let listener = tcp::open(here()).unwrap();
        let address = listener.local_addr().unwrap();
        let datagrams = udp::open(address, Purpose::Listener).unwrap();
        let mut inherited =
            Inherited::of(vec![("https".to_owned(), listener.into()), ("turn-udp".to_owned(), datagrams.into())]);
        assert!(inherited.take_tcp("http", address).is_none(), "another name");
        assert!(inherited.take_udp("https", address).is_none(), "another kind");
        assert!(inherited.take_unix("https").is_none(), "another family");
        let elsewhere = SocketAddr::new("127.0.0.2".parse().unwrap(), address.port());
        assert!(inherited.take_tcp("https", elsewhere).is_none(), "another address");
        assert_eq!(inherited.take_tcp("https", address).unwrap().local_addr().unwrap(), address);
        assert!(inherited.take_tcp("https", address).is_none(), "each is taken once");
        assert_eq!(inherited.take_udp("turn-udp", here()).unwrap().local_addr().unwrap(), address);
        assert_eq!(inherited.finish(), Vec::<String>::new());
    }

    #[test]
    fn what_does_not_listen_or_does_not_share_is_left_and_closed() {
        let listener = tcp::open(here()).unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        let own = client.local_addr().unwrap();
        let alone = udp::open(here(), Purpose::Relay).unwrap();
        let mut inherited =
            Inherited::of(vec![("https".to_owned(), client.into()), ("turn-udp".to_owned(), alone.into())]);
        assert!(inherited.take_tcp("https", own).is_none());
        assert!(inherited.take_udp("turn-udp", here()).is_none());
        assert_eq!(inherited.finish(), ["https", "turn-udp"]);
        assert!(listener.accept().is_ok(), "its own end is closed, the listener is not");
    }

    #[test]
    fn one_socket_by_two_descriptors_counts_once() {
        let listener = tcp::open(here()).unwrap();
        let again = listener.try_clone().unwrap();
        let mut inherited =
            Inherited::of(vec![("https".to_owned(), listener.into()), ("https".to_owned(), again.into())]);
        assert!(inherited.take_tcp("https", here()).is_some());
        assert!(inherited.take_tcp("https", here()).is_none());
        assert_eq!(inherited.finish(), Vec::<String>::new());
    }

    #[test]
    fn a_text_is_taken_by_its_name_and_only_if_nobody_can_have_changed_it() {
        let text = memfile::seal("text", "a: 1\n").unwrap();
        let file = tempfile::tempfile().unwrap();
        let mut inherited = Inherited::of(vec![("file".to_owned(), file.into()), ("text".to_owned(), text)]);
        assert_eq!(inherited.take_text("file"), None);
        assert_eq!(inherited.take_text("text").as_deref(), Some("a: 1\n"));
        assert_eq!(inherited.take_text("text"), None);
    }

    #[test]
    fn a_unix_listener_is_taken_below_any_path() {
        let folder = tempfile::tempdir().unwrap();
        let short = ShortPath::to(&folder.path().join("control.sock")).unwrap();
        let listener = UnixListener::bind(&short.path).unwrap();
        let mut inherited = Inherited::of(vec![("control".to_owned(), listener.into())]);
        assert!(inherited.take_tcp("control", here()).is_none());
        assert!(inherited.take_unix("control").is_some());
    }
}
