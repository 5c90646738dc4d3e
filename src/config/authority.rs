//! Decides whom an ACME directory stands for, and which names and addresses such an authority can certify.

use std::net::IpAddr;
use std::str::FromStr;

use super::Host;
use super::forms::Malformed;
use super::notify::WebUrl;
use crate::text;

/// An authority that is known by a word.
struct Known {
    word: &'static str,
    url: &'static str,
    twin: Option<&'static str>,
    caa: &'static str,
}

const KNOWN: [Known; 4] = [
    Known {
        word: "letsencrypt",
        url: "https://acme-v02.api.letsencrypt.org/directory",
        twin: Some(LETSENCRYPT_STAGING),
        caa: "letsencrypt.org",
    },
    Known { word: "letsencrypt-staging", url: LETSENCRYPT_STAGING, twin: None, caa: "letsencrypt.org" },
    Known { word: "zerossl", url: "https://acme.zerossl.com/v2/DV90", twin: None, caa: "sectigo.com" },
    Known {
        word: "google",
        url: "https://dv.acme-v02.api.pki.goog/directory",
        twin: Some("https://dv.acme-v02.test-api.pki.goog/directory"),
        caa: "pki.goog",
    },
];
const LETSENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

/// Top-level domains that no public authority certifies: RFC 6761, RFC 8375, and what homes use.
const NEVER_PUBLIC: [&str; 11] =
    ["arpa", "corp", "example", "home", "internal", "invalid", "lan", "local", "localdomain", "localhost", "test"];
/// Second-level domains that are reserved for documentation. RFC 2606, section 3.
const DOCUMENTATION: [&str; 3] = ["example.com", "example.net", "example.org"];

/// An ACME directory, by the word for a known authority or by its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// As it is written in the configuration.
    pub text: String,
    pub url: String,
    /// Where an order to this authority is rehearsed.
    pub twin: Option<String>,
    /// It certifies only what is reachable from the internet.
    pub is_public: bool,
    /// What it is called in CAA records.
    pub caa: Option<&'static str>,
}

impl FromStr for Directory {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if let Some(known) = KNOWN.iter().find(|known| known.word == text || known.url == text) {
            let (url, twin) = (known.url.to_owned(), known.twin.map(str::to_owned));
            return Ok(Self { text: text.to_owned(), url, twin, is_public: true, caa: Some(known.caa) });
        }
        if !text.parse::<WebUrl>().is_ok_and(|url| url.is_https) {
            let words: Vec<&str> = KNOWN.iter().map(|known| known.word).collect();
            return Err(Malformed(text!("is neither {} nor an address that begins with https://", words.join(", "))));
        }
        Ok(Self { text: text.to_owned(), url: text.to_owned(), twin: None, is_public: false, caa: None })
    }
}

impl Directory {
    /// Whether this authority may certify a host. A private one knows best itself.
    #[must_use]
    pub fn may_certify(&self, host: &Host) -> bool {
        !self.is_public || is_public_host(host)
    }
}

/// Whether a name or address can be one of the internet, as far as it tells by itself.
#[must_use]
pub fn is_public_host(host: &Host) -> bool {
    match host {
        Host::Address(address) => is_public(*address),
        Host::Name(name) => {
            let Some((_, top)) = name.rsplit_once('.') else { return false };
            let is_below = |domain: &&str| name == *domain || name.ends_with(&format!(".{domain}"));
            !NEVER_PUBLIC.contains(&top) && !DOCUMENTATION.iter().any(is_below)
        }
    }
}

/// Whether an address can be reached from the internet, as far as its number tells.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            let is_shared = first == 100 && (64..128).contains(&second);
            let is_special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified();
            !(is_special || is_shared || v4.is_documentation())
        }
        // 2000::/3 without the documentation prefix 2001:db8::/32.
        IpAddr::V6(v6) => v6.segments()[0] & 0xe000 == 0x2000 && v6.segments()[..2] != [0x2001, 0xdb8],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_and_its_address_mean_the_same_authority() {
        let word: Directory = "letsencrypt".parse().unwrap();
        let url: Directory = word.url.parse().unwrap();
        assert_eq!((&url.url, &url.twin, url.is_public), (&word.url, &word.twin, true));
        assert!(word.twin.unwrap().contains("staging"));
        let own: Directory = "https://ca.lan:14000/dir".parse().unwrap();
        assert_eq!((own.twin, own.is_public), (None, false));
        for wrong in
            ["", "lets", "http://ca.lan/dir", "https://", "https:///x", "https://a b", "https://a:b:c/", "https://[::1"]
        {
            assert!(wrong.parse::<Directory>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_public_authority_certifies_what_the_internet_reaches() {
        let public: Directory = "letsencrypt".parse().unwrap();
        let may = |host: &str| public.may_certify(&host.parse().unwrap());
        assert!(may("call.rtc.dev") && may("1.1.1.1") && may("2606:4700::1111"));
        for host in
            ["10.0.0.7", "192.0.2.1", "localhost", "box", "box.local", "rtc.test", "call.example", "a.example.org"]
        {
            assert!(!may(host), "{host}");
        }
        let own: Directory = "https://ca.lan/dir".parse().unwrap();
        assert!(own.may_certify(&"10.0.0.7".parse().unwrap()));
    }
}
