//! Decides whose move it is when a certificate was not issued: ours, the authority's, or that of time alone.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use super::moment::Moment;
use crate::text;
use crate::words::Text;

/// What every error of ACME starts with. RFC 8555, section 6.7.
const PREFIX: &str = "urn:ietf:params:acme:error:";
/// How Let's Encrypt writes the end of a limit into the text of its error.
const LIMIT_ENDS: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
/// A problem's text is shown in one line of `status`.
const MAX_DETAIL: usize = 400;

/// Whose move it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// A port, a record of the DNS, the clock, the disk: something of the operator's.
    Ours,
    /// The authority is down, or cannot be reached.
    Theirs,
    /// A limit of the authority's, which only time lifts.
    Limit,
}

impl Class {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Theirs => "theirs",
            Self::Limit => "limit",
        }
    }
}

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    pub class: Class,
    /// The last part of ACME's error, or a word of ours like `unreachable`.
    pub code: String,
    pub detail: Text,
    /// What the authority said about when to come again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Moment>,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.told().english())
    }
}

impl Trouble {
    #[must_use]
    pub fn new(class: Class, code: &str, detail: impl Into<Text>) -> Self {
        Self { class, code: code.to_owned(), detail: bounded(detail.into()), retry_at: None }
    }

    /// Reads an error of ACME: its type, its text, the status of HTTP and what `Retry-After` said.
    #[must_use]
    pub fn of_problem(kind: &str, detail: &str, status: Option<u16>, retry_at: Option<Moment>) -> Self {
        let code = kind.strip_prefix(PREFIX).unwrap_or(kind);
        let class = match code {
            "rateLimited" => Class::Limit,
            "badNonce" | "orderNotReady" | "serverInternal" => Class::Theirs,
            _ if status == Some(429) => Class::Limit,
            _ if status.is_some_and(|status| status >= 500) => Class::Theirs,
            _ => Class::Ours,
        };
        let code = if code.is_empty() { "unknown" } else { code };
        let retry_at = retry_at.or_else(|| limit_ends(detail));
        Self { retry_at, ..Self::new(class, code, Text::verbatim(detail)) }
    }

    /// What is wrong, with its code.
    #[must_use]
    pub fn told(&self) -> Text {
        text!("{} ({})", self.detail, self.code)
    }

    /// Whether another kind of challenge may do: the authority looked and did not find what it should.
    #[must_use]
    pub fn is_about_a_challenge(&self) -> bool {
        let codes =
            ["connection", "dns-hook", "dns-record", "unauthorized", "incorrectResponse", "tls", "no-challenge"];
        self.class == Class::Ours && codes.contains(&self.code.as_str())
    }

    /// What the operator can do, if anything.
    #[must_use]
    pub fn hint(&self) -> Option<Text> {
        Some(match self.code.as_str() {
            "connection" | "tls" => {
                text!("open TCP ports 80 and 443 towards this host, in the cloud's security group and the router, too")
            }
            "port-taken" => {
                text!(
                    "`rtcctl status` names who has the port; stop it, or allow TLS-ALPN-01 by `certificate.acme_challenge: auto`"
                )
            }
            "dns-hook" => {
                text!(
                    "mend the command of `certificate.acme_dns_command`; `rtcctl cert preflight --try-hook` tries it without an authority"
                )
            }
            "unauthorized" | "incorrectResponse" | "dns" if self.detail.english().contains("TXT") => {
                text!(
                    "the authority did not find the record: look whether every name server of the zone has it, and whether the command leaves records that are there already"
                )
            }
            "dns-record" => {
                text!("look at the zone: the command has ended well, and its record is not there, or in another zone")
            }
            "unauthorized" | "incorrectResponse" => {
                text!("something else answers on this name: check that it leads to this host, and only to it")
            }
            "dns" => text!("make the name lead to this host in the DNS (A and AAAA records), or correct `hosts`"),
            "caa" => text!("add this authority to the name's CAA records in the DNS, or remove them"),
            "rejectedIdentifier" | "unsupportedIdentifier" => {
                text!(
                    "this authority does not certify such a name or address; change `hosts`, or use `certificate.source: self-signed`"
                )
            }
            "externalAccountRequired" => text!("write the authority's key id and key into `acme_eab` of secrets.yaml"),
            "binding" => text!("correct the authority's key id and key in `acme_eab` of secrets.yaml"),
            "invalidContact" | "unsupportedContact" => text!("correct `certificate.acme_contact`, or leave it out"),
            "clock" => text!("set this host's clock, best by NTP"),
            "disk" => text!("free some space on the disk that holds the home"),
            "unreachable" => {
                text!("let this host reach the authority: check its DNS, its route and outgoing TCP port 443")
            }
            "roots" => text!("install the package ca-certificates, or name the root by `certificate.acme_ca_root`"),
            "no-directory" => text!("correct `certificate.acme_directory`: the address of the authority's directory"),
            "userActionRequired" => text!("read what the authority says, and agree to it there"),
            _ => return None,
        })
    }
}

/// What an authority writes is shown in terminals.
fn bounded(detail: Text) -> Text {
    let said = detail.english();
    if said.len() <= MAX_DETAIL && !said.chars().any(char::is_control) {
        return detail;
    }
    let mut said: String = said.chars().filter(|symbol| !symbol.is_control()).collect();
    if said.len() > MAX_DETAIL {
        let end = (0..=MAX_DETAIL).rev().find(|at| said.is_char_boundary(*at)).unwrap_or(0);
        said.truncate(end);
        said.push('…');
    }
    Text::verbatim(said)
}

/// The end of a limit as Let's Encrypt states it: `retry after 2026-11-26 01:02:03 UTC`.
fn limit_ends(detail: &str) -> Option<Moment> {
    let (_, rest) = detail.split_once("retry after ")?;
    let text = rest.get(..19)?;
    let text = text.replace('T', " ");
    let at = PrimitiveDateTime::parse(&text, LIMIT_ENDS).ok()?.assume_utc();
    let seconds = (at - OffsetDateTime::UNIX_EPOCH).whole_seconds();
    // A second that was cut off must not count as over.
    Some(Moment(u64::try_from(seconds).ok()?).plus(Duration::from_secs(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(code: &str, status: u16) -> Class {
        Trouble::of_problem(&format!("{PREFIX}{code}"), "", Some(status), None).class
    }

    #[test]
    fn every_failure_is_somebodys() {
        assert_eq!(class("rateLimited", 429), Class::Limit);
        assert_eq!(class("serverInternal", 500), Class::Theirs);
        assert_eq!(class("unheardOf", 503), Class::Theirs);
        assert_eq!(class("unheardOf", 429), Class::Limit);
        for code in ["connection", "dns", "caa", "unauthorized", "rejectedIdentifier", "externalAccountRequired"] {
            assert_eq!(class(code, 400), Class::Ours, "{code}");
        }
    }

    #[test]
    fn the_end_of_a_limit_is_read_from_the_header_or_from_the_text() {
        let text = "too many certificates (5) already issued, retry after 2026-11-26 01:02:03 UTC: see https://x";
        let told = Trouble::of_problem("urn:ietf:params:acme:error:rateLimited", text, Some(429), None);
        assert_eq!(told.retry_at, Some(Moment(1_795_654_924)));
        let header = Trouble::of_problem("rateLimited", text, Some(429), Some(Moment(7)));
        assert_eq!(header.retry_at, Some(Moment(7)));
        assert_eq!(limit_ends("retry after lunch"), None);
        assert_eq!(limit_ends("retry after ä-äää-ää ää:ää:ää"), None);
    }

    #[test]
    fn another_challenge_helps_only_where_the_authority_looked() {
        assert!(Trouble::of_problem("connection", "", Some(400), None).is_about_a_challenge());
        assert!(!Trouble::of_problem("dns", "", Some(400), None).is_about_a_challenge());
        assert!(!Trouble::of_problem("serverInternal", "", Some(500), None).is_about_a_challenge());
    }

    proptest::proptest! {
        #[test]
        fn no_text_of_an_authority_makes_it_panic(kind in ".{0,40}", detail in "(retry after )?.{0,600}") {
            let trouble = Trouble::of_problem(&kind, &detail, None, None);
            proptest::prop_assert!(trouble.detail.len() <= MAX_DETAIL + '…'.len_utf8());
        }
    }
}
