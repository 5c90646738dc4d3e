//! The listening TCP sockets: bound before anything starts, kept until everything has ended.

use std::net::{IpAddr, SocketAddr, TcpListener};

use crate::config::{WebConfig, any_address};
use crate::error::{Failure, Result};
use crate::sys::ports::{Transport, bind_failure};
use crate::sys::tcp::open;

/// Sockets for HTTPS and for the redirect beside it.
#[derive(Debug)]
pub struct Listeners {
    https: Vec<TcpListener>,
    http: Vec<TcpListener>,
}

impl Listeners {
    /// Binds the ports of the page on every address.
    ///
    /// # Errors
    /// If a port is taken, naming its holder, or may not be had.
    pub fn bind(config: &WebConfig) -> Result<Self> {
        let https = bind_all(&config.bind, config.port, "web", "web.port")?;
        let http = match config.http_port {
            Some(port) => bind_all(&config.bind, port, "the redirect to HTTPS", "web.http_port")?,
            None => Vec::new(),
        };
        Ok(Self { https, http })
    }

    /// The first address of HTTPS, whose port the kernel may have chosen.
    #[must_use]
    pub fn https_address(&self) -> Option<SocketAddr> {
        self.https.first()?.local_addr().ok()
    }

    /// The port of HTTPS.
    #[must_use]
    pub fn https_port(&self) -> Option<u16> {
        self.https_address().map(|address| address.port())
    }

    /// All of them, with whether it is HTTPS.
    pub(super) fn into_each(self) -> impl Iterator<Item = (bool, TcpListener)> {
        let https = self.https.into_iter().map(|listener| (true, listener));
        https.chain(self.http.into_iter().map(|listener| (false, listener)))
    }
}

fn bind_all(addresses: &[IpAddr], port: u16, what: &str, key: &str) -> Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        let wanted = SocketAddr::new(*address, port);
        match open(wanted) {
            Ok(listener) => listeners.push(listener),
            // A host without IPv6 serves IPv4; an address somebody wrote down is a different matter.
            Err(error) if lacks_family(&error) && address.is_unspecified() && addresses == any_address() => {}
            Err(error) => return Err(bind_failure(Transport::Tcp, wanted, what, key, error)),
        }
    }
    if listeners.is_empty() {
        return Err(Failure::operator("there is no address to listen on for web").hinted("list one as `web.bind`"));
    }
    Ok(listeners)
}

fn lacks_family(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::EAFNOSUPPORT | nix::libc::EADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_taken_port_names_its_key_and_its_holder() {
        let config =
            |port, http_port| WebConfig { bind: vec![Ipv4Addr::LOCALHOST.into()], port, http_port, root: None };
        let first = Listeners::bind(&config(0, None)).unwrap();
        let port = first.https_port().unwrap();
        let failure = Listeners::bind(&config(0, Some(port))).unwrap_err();
        assert_eq!(failure.message(), format!("cannot bind `127.0.0.1:{port}/tcp` for the redirect to HTTPS"));
        assert!(failure.hints()[0].contains("`web.http_port`"), "{:?}", failure.hints());
        assert!(failure.hints()[0].contains(&format!("(pid {})", std::process::id())), "{:?}", failure.hints());
    }

    #[test]
    fn both_wildcards_have_the_same_port_side_by_side() {
        let v4 = Listeners::bind(&WebConfig {
            bind: vec![Ipv4Addr::UNSPECIFIED.into()],
            port: 0,
            http_port: None,
            root: None,
        });
        let port = v4.unwrap().https_port().unwrap();
        let both = WebConfig { bind: any_address(), port, http_port: None, root: None };
        // The port was free on IPv4 a moment ago; on IPv6 nobody is known to have it.
        assert_eq!(Listeners::bind(&both).unwrap().https_port(), Some(port));
    }
}
