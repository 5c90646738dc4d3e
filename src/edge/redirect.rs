//! Decides where plain HTTP is sent: to HTTPS on a name of ours, never on a name that the client made up.

use std::net::IpAddr;

use http::uri::{Authority, PathAndQuery};

use crate::config::Host;

/// Under which names HTTPS is served, and on which port.
#[derive(Debug, Clone)]
pub(super) struct OwnNames {
    pub(super) hosts: Vec<Host>,
    pub(super) https_port: u16,
}

/// What a plain request leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// It is answered here, too: what a device needs before it trusts HTTPS.
    Web,
    /// What an authority looks for, by its token.
    Challenge(String),
    Https(String),
}

impl OwnNames {
    /// Where a request for `target` goes that came to the address `local` with the Host header `host`.
    pub(super) fn way(&self, target: Option<&PathAndQuery>, host: Option<&str>, local: IpAddr) -> Way {
        let path = target.map_or("/", PathAndQuery::path);
        match path {
            "/ca.crt" | "/healthz" | "/trust" | "/trust/qr.svg" | "/trust/fingerprint.txt" => Way::Web,
            // There may be a version in between.
            _ if path.starts_with("/rtcctl/") && path.ends_with("/trust.css") => Way::Web,
            _ => {
                if let Some(token) = path.strip_prefix("/.well-known/acme-challenge/") {
                    return Way::Challenge(token.to_owned());
                }
                let host = self.host(host, local);
                // `*` of OPTIONS is no path.
                let target = target.map(PathAndQuery::as_str).filter(|target| target.starts_with('/')).unwrap_or("/");
                match self.https_port {
                    443 => Way::Https(format!("https://{host}{target}")),
                    port => Way::Https(format!("https://{host}:{port}{target}")),
                }
            }
        }
    }

    /// The host that the client asked for if it is one of ours, by name or by the address it came to.
    fn host(&self, asked: Option<&str>, local: IpAddr) -> String {
        let known = |asked: &str| {
            let authority: Authority = asked.parse().ok()?;
            let bare = authority.host().trim_start_matches('[').trim_end_matches(']');
            if let Ok(address) = bare.parse::<IpAddr>() {
                let host = Host::Address(address);
                return (address == local || self.hosts.contains(&host)).then_some(host);
            }
            let is_same = |host: &&Host| matches!(host, Host::Name(name) if name.eq_ignore_ascii_case(bare));
            self.hosts.iter().find(is_same).cloned()
        };
        let host = asked.and_then(known).or_else(|| self.hosts.first().cloned());
        host.map(|host| host.to_string()).expect("`Config::hosts` is never empty")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(port: u16, target: &str, host: Option<&str>) -> Way {
        let hosts = vec![Host::Name("call.example".to_owned()), Host::Address("2001:db8::7".parse().unwrap())];
        let target: PathAndQuery = target.parse().unwrap();
        OwnNames { hosts, https_port: port }.way(Some(&target), host, "192.168.1.5".parse().unwrap())
    }

    fn https(text: &str) -> Way {
        Way::Https(text.to_owned())
    }

    #[test]
    fn a_request_goes_to_the_same_page_by_https() {
        assert_eq!(way(443, "/?room=a%20b", Some("call.example")), https("https://call.example/?room=a%20b"));
        assert_eq!(way(8443, "/x", Some("CALL.EXAMPLE:8080")), https("https://call.example:8443/x"));
        assert_eq!(way(8443, "/x", Some("192.168.1.5:8080")), https("https://192.168.1.5:8443/x"));
        assert_eq!(way(443, "/", Some("[2001:db8::7]:80")), https("https://[2001:db8::7]/"));
        assert_eq!(way(443, "*", Some("call.example")), https("https://call.example/"));
    }

    #[test]
    fn a_made_up_host_is_not_repeated() {
        for host in ["evil.example", "call.example@evil.example", "192.0.2.66", "", "a b", "call.example:x"] {
            let Way::Https(target) = way(443, "/", Some(host)) else { panic!("{host} is not redirected") };
            assert_eq!(target, "https://call.example/", "{host}");
        }
        assert_eq!(way(443, "//evil.example/", None), https("https://call.example//evil.example/"));
    }

    #[test]
    fn what_a_device_needs_first_is_answered_without_tls() {
        assert_eq!(way(443, "/ca.crt", None), Way::Web);
        assert_eq!(way(443, "/healthz", None), Way::Web);
        assert_eq!(way(443, "/trust", None), Way::Web);
        assert_eq!(way(443, "/rtcctl/0123/trust.css", None), Way::Web);
        assert_eq!(way(443, "/rtcctl/main.js", None), https("https://call.example/rtcctl/main.js"));
        assert_eq!(way(443, "/.well-known/acme-challenge/x", None), Way::Challenge("x".to_owned()));
    }
}
