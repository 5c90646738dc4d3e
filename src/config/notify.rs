//! Who is told of findings: `notify.command` and `notify.webhook`.

use std::fmt;
use std::str::FromStr;

use super::Host;
use super::certificate::read_command;
use super::forms::Malformed;
use super::raw::{Reader, Section};
use crate::text;

/// Who is told when a finding comes or goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotifyConfig {
    /// A program and its arguments, started without a shell; empty: none.
    pub command: Vec<String>,
    pub webhook: Option<WebUrl>,
}

/// An `http:` or `https:` URL. It may contain a token, so that it is shown as configured and logged without its path.
#[derive(Clone, PartialEq, Eq)]
pub struct WebUrl {
    pub is_https: bool,
    pub host: Host,
    pub port: u16,
    /// With the query, beginning with a slash.
    pub path: String,
}

impl FromStr for WebUrl {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let bad = Malformed;
        if !text.chars().all(|symbol| symbol.is_ascii_graphic()) {
            return Err(bad(text!("has characters that a URL must write as `%20` and the like")));
        }
        let (is_https, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(bad(text!("does not begin with `https://` or `http://`"))),
        };
        let rest = rest.split('#').next().unwrap_or(rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(bad(text!("has a user in it; give the token in the path or the query")));
        }
        let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
            Some((host, port)) => {
                let port = port.parse().ok().filter(|port| *port != 0);
                (host, Some(port.ok_or_else(|| bad(text!("has a port that is none")))?))
            }
            None => (authority, None),
        };
        let host = host.parse().map_err(|why: Malformed| Malformed(text!("has a host that {}", why.0)))?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { is_https, host, port: port.unwrap_or(if is_https { 443 } else { 80 }), path })
    }
}

/// As it is written in the configuration.
impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.path)
    }
}

impl fmt::Debug for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebUrl({}/..)", self.origin())
    }
}

impl WebUrl {
    /// The URL without what may be secret.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", if self.is_https { "https" } else { "http" }, self.authority())
    }

    /// What a request says as its host.
    #[must_use]
    pub fn authority(&self) -> String {
        let is_usual = self.port == if self.is_https { 443 } else { 80 };
        if is_usual { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }
}

pub(super) fn read(reader: &mut Reader, root: &mut Section<'_>) -> NotifyConfig {
    let mut section = reader.section(root, "notify");
    let command = reader.field(&mut section, "command").map(|field| read_command(reader, &field)).unwrap_or_default();
    let webhook = reader.field(&mut section, "webhook").and_then(|field| {
        let text = reader.text(&field)?;
        let parsed = text.parse();
        // The text may contain a token.
        parsed.map_err(|why: Malformed| reader.complain(field.line, &field.path, text!("the URL {}", why.0))).ok()
    });
    reader.close(section);
    NotifyConfig { command, webhook }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let url: WebUrl = "https://hooks.example/T0/secret?x=1#y".parse().unwrap();
        assert_eq!((url.is_https, url.port, url.path.as_str()), (true, 443, "/T0/secret?x=1"));
        assert_eq!(url.to_string(), "https://hooks.example/T0/secret?x=1");
        assert!(!format!("{url:?}").contains("secret"));
        let url: WebUrl = "http://[::1]:8080".parse().unwrap();
        assert_eq!((url.authority().as_str(), url.path.as_str()), ("[::1]:8080", "/"));
        let url: WebUrl = "http://127.0.0.1?a=b".parse().unwrap();
        assert_eq!((url.port, url.path.as_str()), (80, "/?a=b"));
        for odd in
            ["", "ftp://a.b/", "https://", "https://a b/", "https://u:p@a.b/", "https://a.b:0/", "https://a.b:x/"]
        {
            assert!(odd.parse::<WebUrl>().is_err(), "{odd}");
        }
    }

    #[test]
    fn complaints_name_the_key_and_do_not_repeat_the_url() {
        let facts = crate::config::HostFacts { relay_ips: vec!["192.0.2.1".parse().unwrap()], cores: 1 };
        let text = "hosts: [a.b]\nnotify:\n  command: [notify-send, x]\n  webhook: hooks.example/secret\n";
        let complaints: Vec<String> =
            crate::config::resolve(text, &facts).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(
            complaints,
            [
                "line 3: notify.command: `notify-send` must be the absolute path of a program; arguments are members of \
                 the list",
                "line 4: notify.webhook: the URL does not begin with `https://` or `http://`",
            ]
        );
        let text = "hosts: [a.b]\nnotify: {command: [/bin/tell, 'a b', 3], webhook: 'https://h.example/x'}\n";
        let notify = crate::config::resolve(text, &facts).unwrap().config.notify;
        assert_eq!(notify.command, ["/bin/tell", "a b", "3"]);
        assert_eq!(notify.webhook.unwrap().origin(), "https://h.example");
    }
}
