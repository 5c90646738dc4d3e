//! The listening TCP sockets: bound before anything starts, kept until everything has ended.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener};

use super::arrival::Port;
use crate::config::{TurnConfig, WebConfig, any_address};
use crate::error::{Failure, Result};
use crate::sys::fdstore::Inherited;
use crate::sys::notify::Manager;
use crate::sys::ports::{Transport, bind_failure};
use crate::sys::tcp::{adopt, open, open_shared, share_port};
use crate::text;

/// The names by which the service manager keeps the sockets, and by which units of systemd may hand them over.
const HTTPS: &str = "https";
const HTTP: &str = "http";
const TURN: &str = "turn";
const TURNS: &str = "turns";
pub(super) const NAMES: [&str; 4] = [HTTPS, HTTP, TURN, TURNS];

/// Sockets for HTTPS, for the redirect beside it, and for TURN.
#[derive(Debug)]
pub struct Listeners {
    https: Vec<TcpListener>,
    http: Vec<TcpListener>,
    /// Each under the name by which the service manager keeps it.
    turn: Vec<(&'static str, TcpListener)>,
    /// Whether TURN is served beside HTTPS, too.
    shares_https: bool,
    /// The port of HTTP that is not served though it is wanted, and why.
    lack: Option<(u16, Failure)>,
}

impl Listeners {
    /// Binds every TCP port that the configuration wants, each on its addresses. The service can do without the one of
    /// HTTP, which only redirects: if that is taken, it is left out for now.
    ///
    /// # Errors
    /// If another port is taken, naming its holder, or may not be had.
    pub fn bind(web: &WebConfig, turn: &TurnConfig) -> Result<Self> {
        Self::take_or_bind(web, turn, &mut Inherited::default())
    }

    /// As [`Listeners::bind`], except for what the service manager has kept from the start before.
    ///
    /// # Errors
    /// As [`Listeners::bind`].
    pub fn take_or_bind(web: &WebConfig, turn: &TurnConfig, inherited: &mut Inherited) -> Result<Self> {
        Self::bind_each(web, turn, &mut Source::Manager(inherited))
    }

    /// As [`Listeners::bind`], but takes those of `held` that are on an address that is wanted. It does without the port
    /// of HTTP only if it `may_lack` that.
    ///
    /// # Errors
    /// As [`Listeners::bind`].
    pub(super) fn bind_beside(
        web: &WebConfig,
        turn: &TurnConfig,
        held: Vec<TcpListener>,
        may_lack: bool,
    ) -> Result<Self> {
        Self::bind_each(web, turn, &mut Source::Held { held, may_lack })
    }

    fn bind_each(web: &WebConfig, turn: &TurnConfig, source: &mut Source<'_>) -> Result<Self> {
        let use_of = |port, name, what, key| Use { port, name, what, key };
        let https = use_of(web.port, HTTPS, "web", "web.port");
        let https = bind_all(&web.bind, is_default(&web.bind), &https, source)?;
        let (mut http, mut lack) = (Vec::new(), None);
        if let Some(port) = web.http_port {
            let wanted = use_of(port, HTTP, "the redirect to HTTPS", "web.http_port");
            match bind_all(&web.bind, is_default(&web.bind), &wanted, source) {
                Ok(bound) => http = bound,
                Err(Refused { why, is_taken: true }) if source.may_lack() => lack = Some((port, why)),
                Err(refused) => return Err(refused.why),
            }
        }
        let mut uses = Vec::new();
        if turn.tcp {
            uses.push(use_of(turn.port, TURN, "turn", "turn.port"));
            uses.extend(turn.tls_port.map(|port| use_of(port, TURNS, "turn over TLS", "turn.tls_port")));
        }
        let mut sockets = Vec::new();
        for one in uses {
            let left = not_served(&turn.bind, one.port, web);
            if left.is_empty() && !turn.bind.is_empty() {
                continue;
            }
            let bound = bind_all(&left, is_default(&turn.bind), &one, source)?;
            sockets.extend(bound.into_iter().map(|listener| (one.name, listener)));
        }
        Ok(Self { https, http, turn: sockets, shares_https: turn.tcp, lack })
    }

    /// Has the service manager keep all of them for the next start.
    ///
    /// # Errors
    /// If there is no descriptor to be had.
    pub fn keep_in(&self, manager: &Manager) -> io::Result<()> {
        manager.keep(HTTPS, &self.https)?;
        manager.keep(HTTP, &self.http)?;
        for name in [TURN, TURNS] {
            manager.keep(name, self.turn.iter().filter(|(other, _)| *other == name).map(|(_, listener)| listener))?;
        }
        Ok(())
    }

    /// The first address of HTTPS, whose port the kernel may have chosen.
    #[must_use]
    pub fn https_address(&self) -> Option<SocketAddr> {
        self.https.first()?.local_addr().ok()
    }

    /// All addresses of HTTPS.
    #[must_use]
    pub fn https_addresses(&self) -> Vec<SocketAddr> {
        self.https.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// The port of HTTPS.
    #[must_use]
    pub fn https_port(&self) -> Option<u16> {
        self.https_address().map(|address| address.port())
    }

    /// Where TURN is served by TCP and by TLS.
    #[must_use]
    pub fn turn_addresses(&self) -> Vec<SocketAddr> {
        let shared = self.https.iter().filter(|_| self.shares_https);
        self.turn
            .iter()
            .map(|(_, listener)| listener)
            .chain(shared)
            .filter_map(|listener| listener.local_addr().ok())
            .collect()
    }

    /// Why the port of HTTP is not served, though it is wanted: somebody else has it.
    #[must_use]
    pub fn lack(&self) -> Option<&Failure> {
        self.lack.as_ref().map(|(_, why)| why)
    }

    /// Whether this is the port of HTTP that is not served, though it is wanted.
    pub(super) fn lacks(&self, port: u16) -> bool {
        self.lack.as_ref().is_some_and(|(lacking, _)| *lacking == port)
    }

    pub(super) fn count(&self) -> usize {
        self.https.len() + self.http.len() + self.turn.len()
    }

    /// The same listeners under other descriptors.
    ///
    /// # Errors
    /// If there are none to be had.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        let clone = |listeners: &[TcpListener]| listeners.iter().map(TcpListener::try_clone).collect::<io::Result<_>>();
        let turn = self.turn.iter().map(|(name, listener)| Ok((*name, listener.try_clone()?)));
        let (https, http, turn) = (clone(&self.https)?, clone(&self.http)?, turn.collect::<io::Result<_>>()?);
        Ok(Self { https, http, turn, shares_https: self.shares_https, lack: self.lack.clone() })
    }

    /// Whether TURN is served by TCP at all.
    pub(super) fn takes_turn(&self) -> bool {
        self.shares_https
    }

    /// All of them, with what they are for.
    pub(super) fn into_each(self) -> impl Iterator<Item = (Port, TcpListener)> {
        let each = |port, listeners: Vec<TcpListener>| listeners.into_iter().map(move |listener| (port, listener));
        let turn = self.turn.into_iter().map(|(_, listener)| listener).collect();
        each(Port::Https, self.https).chain(each(Port::Http, self.http)).chain(each(Port::Turn, turn))
    }
}

/// Whether nobody wrote down these addresses.
fn is_default(addresses: &[IpAddr]) -> bool {
    addresses == any_address()
}

/// The `addresses` whose `port` is not one of HTTPS, which serves TURN anyway.
fn not_served(addresses: &[IpAddr], port: u16, web: &WebConfig) -> Vec<IpAddr> {
    let covers = |served: &IpAddr, address: &IpAddr| {
        served == address || (served.is_unspecified() && served.is_ipv4() == address.is_ipv4())
    };
    let is_served =
        |address: &IpAddr| port == web.port && port != 0 && web.bind.iter().any(|served| covers(served, address));
    addresses.iter().copied().filter(|address| !is_served(address)).collect()
}

/// What a port is for.
struct Use {
    port: u16,
    /// The name by which the service manager keeps it.
    name: &'static str,
    what: &'static str,
    /// The key that changes it.
    key: &'static str,
}

/// Listeners that are there already.
enum Source<'a> {
    /// From the start before.
    Manager(&'a mut Inherited),
    /// From this start, and served.
    Held { held: Vec<TcpListener>, may_lack: bool },
}

impl Source<'_> {
    /// Whether the service may do without the port of HTTP. At the start nobody waits for that one alone.
    fn may_lack(&self) -> bool {
        match self {
            Self::Manager(_) => true,
            Self::Held { may_lack, .. } => *may_lack,
        }
    }

    fn take(&mut self, name: &str, wanted: SocketAddr) -> Option<TcpListener> {
        match self {
            Self::Manager(inherited) => inherited.take_tcp(name, wanted),
            Self::Held { held, .. } => {
                let is_wanted = |listener: &TcpListener| listener.local_addr().is_ok_and(|address| address == wanted);
                held.iter().position(is_wanted).map(|found| held.swap_remove(found))
            }
        }
    }

    /// Binds an address that none of them is on. Where one of them is in the way, by the same port of an address that
    /// overlaps, both share it for the moment in which they are both there.
    fn open(&self, wanted: SocketAddr) -> io::Result<TcpListener> {
        let held = match self {
            Self::Manager(_) => return open(wanted),
            Self::Held { held, .. } => held,
        };
        let is_near = |one: &&TcpListener| one.local_addr().is_ok_and(|address| address.port() == wanted.port());
        open(wanted).or_else(|error| {
            let near: Vec<&TcpListener> = held.iter().filter(is_near).collect();
            if error.kind() != ErrorKind::AddrInUse || near.is_empty() {
                return Err(error);
            }
            near.into_iter().try_for_each(share_port)?;
            open_shared(wanted)
        })
    }
}

/// Why a port is not to be had.
struct Refused {
    why: Failure,
    /// Somebody else has it.
    is_taken: bool,
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        refused.why
    }
}

/// Takes or binds the port of each address. A family that the host lacks `may_lack`.
fn bind_all(
    addresses: &[IpAddr],
    may_lack: bool,
    one: &Use,
    source: &mut Source<'_>,
) -> Result<Vec<TcpListener>, Refused> {
    let mut listeners = Vec::new();
    for address in addresses {
        let wanted = SocketAddr::new(*address, one.port);
        let bound = match source.take(one.name, wanted) {
            Some(listener) => adopt(&listener).map(|()| listener),
            None => source.open(wanted),
        };
        match bound {
            Ok(listener) => listeners.push(listener),
            // A host without IPv6 serves IPv4; an address somebody wrote down is a different matter.
            Err(error) if lacks_family(&error) && address.is_unspecified() && may_lack => {}
            Err(error) => {
                let is_taken = error.kind() == ErrorKind::AddrInUse;
                return Err(Refused { why: bind_failure(Transport::Tcp, wanted, one.what, one.key, error), is_taken });
            }
        }
    }
    if listeners.is_empty() {
        let section = one.key.split('.').next().unwrap_or(one.key);
        let why = Failure::operator(text!("there is no address to listen on for {}", one.what))
            .hinted(text!("list one as `{}.bind`", section));
        return Err(Refused { why, is_taken: false });
    }
    Ok(listeners)
}

fn lacks_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::EAFNOSUPPORT | nix::libc::EADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn web(bind: Vec<IpAddr>, port: u16, http_port: Option<u16>) -> WebConfig {
        WebConfig { bind, port, http_port, root: None }
    }

    fn turn(tcp: bool, port: u16, tls_port: Option<u16>) -> TurnConfig {
        TurnConfig { bind: vec![Ipv4Addr::LOCALHOST.into()], port, tcp, tls_port, ..TurnConfig::default() }
    }

    #[test]
    fn a_taken_port_names_its_key_and_its_holder() {
        let here = || vec![Ipv4Addr::LOCALHOST.into()];
        let first = Listeners::bind(&web(here(), 0, None), &turn(false, 0, None)).unwrap();
        let port = first.https_port().unwrap();
        let refused = [
            (web(here(), 0, None), turn(true, port, None), "turn", "`turn.port`"),
            (web(here(), 0, None), turn(true, 0, Some(port)), "turn over TLS", "`turn.tls_port`"),
        ];
        for (web, turn, what, key) in refused {
            let failure = Listeners::bind(&web, &turn).unwrap_err();
            assert_eq!(failure.message(), format!("cannot bind `127.0.0.1:{port}/tcp` for {what}"));
            assert!(failure.hints()[0].contains(key), "{:?}", failure.hints());
            assert!(failure.hints()[0].contains(&format!("(pid {})", std::process::id())), "{:?}", failure.hints());
        }
    }

    #[test]
    fn without_the_port_of_http_it_serves_and_says_who_has_it_unless_that_port_was_asked_for() {
        let here = || vec![Ipv4Addr::LOCALHOST.into()];
        let first = Listeners::bind(&web(here(), 0, None), &turn(false, 0, None)).unwrap();
        assert!(first.lack().is_none());
        let taken = web(here(), 0, first.https_port());
        let second = Listeners::bind(&taken, &turn(false, 0, None)).unwrap();
        let lack = second.lack().unwrap();
        assert!(lack.hints()[0].contains(&format!("(pid {})", std::process::id())), "{lack}");
        assert_eq!((second.https_addresses().len(), second.count()), (1, 1));
        assert!(second.try_clone().unwrap().lack().is_some());
        let beside = |may_lack| Listeners::bind_beside(&taken, &turn(false, 0, None), Vec::new(), may_lack);
        assert!(beside(true).unwrap().lack().is_some());
        assert!(beside(false).unwrap_err().hints()[0].contains("`web.http_port`"));
        drop(first);
        assert!(beside(false).unwrap().lack().is_none());
    }

    #[test]
    fn what_was_kept_is_taken_over_and_what_has_another_address_is_left() {
        let here = || vec![Ipv4Addr::LOCALHOST.into()];
        let port = |listeners: &Listeners| listeners.https_port().unwrap();
        let before = Listeners::bind(&web(here(), 0, None), &turn(true, 0, Some(0))).unwrap();
        let (https, addresses) = (port(&before), before.turn_addresses());
        let [turn_port, turns_port] = [0, 1].map(|at: usize| addresses[at].port());
        let named = |listeners: Listeners| {
            let turn = listeners.turn.into_iter().map(|(name, listener)| (name.to_owned(), listener.into()));
            let https = listeners.https.into_iter().map(|listener| (HTTPS.to_owned(), listener.into()));
            Inherited::of(https.chain(turn).collect())
        };
        let mut inherited = named(before);
        // Its port is still held, so it could not be bound.
        let config = turn(true, turn_port, Some(0));
        let after = Listeners::take_or_bind(&web(here(), https, None), &config, &mut inherited).unwrap();
        assert_eq!(port(&after), https);
        assert_eq!(after.turn_addresses()[0].port(), turn_port);
        assert_eq!(after.turn_addresses()[1].port(), turns_port, "any port is the one of before");
        assert_eq!(inherited.finish(), Vec::<String>::new());
        let mut inherited = named(after);
        let moved = Listeners::take_or_bind(&web(here(), 0, None), &turn(false, 0, None), &mut inherited).unwrap();
        assert_eq!(port(&moved), https);
        assert_eq!(inherited.finish(), ["turn", "turns"]);
    }

    #[test]
    fn both_wildcards_have_the_same_port_side_by_side() {
        let v4 = Listeners::bind(&web(vec![Ipv4Addr::UNSPECIFIED.into()], 0, None), &turn(false, 0, None));
        let port = v4.unwrap().https_port().unwrap();
        // The port was free on IPv4 a moment ago; on IPv6 nobody is known to have it.
        let both = Listeners::bind(&web(any_address(), port, None), &turn(false, 0, None));
        assert_eq!(both.unwrap().https_port(), Some(port));
    }

    #[test]
    fn turn_has_listeners_of_its_own_except_on_the_port_of_https() {
        let here = || vec![Ipv4Addr::LOCALHOST.into()];
        let count = |web_port, turn: &TurnConfig| {
            let listeners = Listeners::bind(&web(here(), web_port, None), turn).unwrap();
            let told = listeners.turn_addresses().len();
            let own = listeners.into_each().filter(|(port, _)| *port == Port::Turn).count();
            (own, told)
        };
        assert_eq!(count(0, &turn(true, 0, Some(0))), (2, 3));
        assert_eq!(count(0, &turn(false, 0, Some(0))), (0, 0));
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert_eq!(count(free, &turn(true, free, None)), (0, 1));
        let elsewhere: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(127, 0, 0, 2).into()];
        let turn_elsewhere = TurnConfig { bind: elsewhere, ..turn(true, free, None) };
        assert_eq!(count(free, &turn_elsewhere), (1, 2));
    }

    #[test]
    fn the_same_port_of_another_address_or_family_is_not_served_by_https() {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let check = |of_web: &[&str], of_turn: &[&str], port: u16, left: &[&str]| {
            let web = web(addresses(of_web), 443, None);
            assert_eq!(not_served(&addresses(of_turn), port, &web), addresses(left), "{of_web:?} {of_turn:?} {port}");
        };
        check(&["192.0.2.1"], &["192.0.2.1"], 443, &[]);
        check(&["192.0.2.1"], &["192.0.2.1", "192.0.2.2"], 443, &["192.0.2.2"]);
        check(&["0.0.0.0"], &["192.0.2.2", "2001:db8::1"], 443, &["2001:db8::1"]);
        check(&["0.0.0.0", "::"], &["192.0.2.2", "2001:db8::1"], 443, &[]);
        check(&["192.0.2.1"], &["192.0.2.1"], 3478, &["192.0.2.1"]);
        check(&["192.0.2.1"], &["0.0.0.0"], 443, &["0.0.0.0"]);
    }
}
