//! Reads what a metadata service answers, and believes nothing that is not an address. Whoever answers may be a captive
//! portal, a proxy, or somebody who wants callers sent elsewhere.

use std::net::IpAddr;

use serde_json::Value;

use super::provider::Form;
use crate::text;
use crate::words::Text;

/// Characters of a session's token. Those of all services are far shorter.
const MAX_TOKEN: usize = 4096;
/// Addresses that one machine can have, as far as anybody needs to know.
const MAX_ADDRESSES: usize = 8;

/// An answer as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// Never empty.
    Addresses(Vec<IpAddr>),
    /// There is none of this kind.
    Nothing,
    /// The service is busy, and may answer when asked again.
    Later(u16),
    /// Not what was asked for; in words.
    Nonsense(Text),
}

/// A token, if this is one. `Ok(None)`: the service gives none, and may want none.
///
/// # Errors
/// What is odd about it.
pub(super) fn read_token(reply: &Reply) -> Result<Option<String>, Text> {
    match reply.status {
        200 => {
            let text = std::str::from_utf8(&reply.body).map(str::trim).unwrap_or_default();
            let is_token =
                !text.is_empty() && text.len() <= MAX_TOKEN && text.bytes().all(|byte| byte.is_ascii_graphic());
            // A page begins like this, and no token does.
            if is_token && !text.starts_with('<') {
                return Ok(Some(text.to_owned()));
            }
            Err(text!("it answers with something that is no session token"))
        }
        400..=499 => Ok(None),
        status => Err(odd_status(status)),
    }
}

/// The addresses in an answer.
pub(super) fn read_addresses(form: Form, reply: &Reply) -> Heard {
    match reply.status {
        200 => {}
        404 | 204 => return Heard::Nothing,
        status @ (410 | 429 | 500..=599) => return Heard::Later(status),
        status => return Heard::Nonsense(odd_status(status)),
    }
    let Ok(text) = std::str::from_utf8(&reply.body) else {
        return Heard::Nonsense(text!("it answers with something that is no text"));
    };
    let text = text.trim();
    if text.is_empty() {
        return Heard::Nothing;
    }
    match form {
        Form::Text => of_words(&[text]),
        Form::AzureLoadBalancer => of_document(text, azure_words),
        Form::DigitalOcean => of_document(text, digital_ocean_words),
    }
}

fn of_document(text: &str, words: fn(&Value) -> Option<Vec<&str>>) -> Heard {
    let document = serde_json::from_str::<Value>(text).ok();
    match document.as_ref().and_then(words) {
        Some(words) => of_words(&words),
        None => Heard::Nonsense(text!("it answers with something that is not the document that was asked for")),
    }
}

fn azure_words(document: &Value) -> Option<Vec<&str>> {
    let all = document.pointer("/loadbalancer/publicIpAddresses")?.as_array()?;
    let words = all.iter().filter_map(|one| one.get("frontendIpAddress")?.as_str());
    Some(words.filter(|word| !word.is_empty()).collect())
}

fn digital_ocean_words(document: &Value) -> Option<Vec<&str>> {
    document.get("interfaces")?;
    let own = document.pointer("/interfaces/public/0/ipv4/ip_address").and_then(Value::as_str);
    let reserved = ["reserved_ip", "floating_ip"].into_iter().find_map(|key| {
        let one = document.get(key)?.get("ipv4")?;
        let is_active = one.get("active").and_then(Value::as_bool).unwrap_or(false);
        one.get("ip_address")?.as_str().filter(|_| is_active)
    });
    Some(own.into_iter().chain(reserved).collect())
}

fn of_words(words: &[&str]) -> Heard {
    let mut found: Vec<IpAddr> = Vec::new();
    for word in words.iter().take(MAX_ADDRESSES) {
        let Some(address) = read_address(word) else {
            return Heard::Nonsense(text!("it answers with something that is no public address"));
        };
        if !found.contains(&address) {
            found.push(address);
        }
    }
    if found.is_empty() { Heard::Nothing } else { Heard::Addresses(found) }
}

/// An address that a host can be reached by from elsewhere, as far as its form tells.
fn read_address(word: &str) -> Option<IpAddr> {
    let address: IpAddr = word.parse().ok()?;
    let is_usable = match address {
        IpAddr::V4(v4) => {
            !(v4.is_loopback()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_link_local()
                || v4.is_private()
                // Shared by the customers of a provider.
                || (v4.octets()[0] == 100 && (64..128).contains(&v4.octets()[1]))
                || v4.octets()[0] == 0
                || v4.octets()[0] >= 240)
        }
        // What is global unicast, and nothing that has an IPv4 address inside.
        IpAddr::V6(v6) => v6.segments()[0] & 0xe000 == 0x2000 && v6.segments()[0] != 0x2002,
    };
    is_usable.then_some(address)
}

fn odd_status(status: u16) -> Text {
    match status {
        300..=399 => text!("it answers with a redirect (status {}), which is not followed", status),
        401 | 403 => text!("it refuses to tell (status {})", status),
        _ => text!("it answers with status {}", status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply { status, body: body.as_bytes().to_vec() }
    }

    fn addresses(list: &[&str]) -> Heard {
        Heard::Addresses(list.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn an_address_is_read_and_nothing_else() {
        let heard = |status, body: &str| read_addresses(Form::Text, &reply(status, body));
        assert_eq!(heard(200, "203.0.113.7\n"), addresses(&["203.0.113.7"]));
        assert_eq!(heard(200, "2a01:4f8::7"), addresses(&["2a01:4f8::7"]));
        for nothing in [heard(404, "<html>"), heard(200, " \r\n"), heard(204, "")] {
            assert_eq!(nothing, Heard::Nothing);
        }
        assert_eq!([heard(429, ""), heard(500, ""), heard(410, "")], [429, 500, 410].map(Heard::Later));
        for nonsense in [
            "<html>203.0.113.7</html>",
            "203.0.113.7 203.0.113.8",
            "203.0.113.7:80",
            "0203.0.113.7",
            "127.0.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "10.0.0.7",
            "100.64.0.7",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "fe80::1",
            "::ffff:203.0.113.7",
            "2002:cb00:7107::1",
        ] {
            assert!(matches!(heard(200, nonsense), Heard::Nonsense(_)), "{nonsense}");
        }
        assert!(matches!(heard(302, "203.0.113.7"), Heard::Nonsense(told) if told.contains("redirect")));
        assert!(matches!(heard(403, ""), Heard::Nonsense(told) if told.contains("refuses")));
        let bytes = Reply { status: 200, body: vec![0xff, 0xfe] };
        assert!(matches!(read_addresses(Form::Text, &bytes), Heard::Nonsense(_)));
    }

    #[test]
    fn documents_give_every_address_that_is_in_use() {
        let azure = |body: &str| read_addresses(Form::AzureLoadBalancer, &reply(200, body));
        let one = r#"{"loadbalancer":{"publicIpAddresses":[{"frontendIpAddress":"203.0.113.9","privateIpAddress":"10.1.0.4"}]}}"#;
        assert_eq!(azure(one), addresses(&["203.0.113.9"]));
        assert_eq!(azure(r#"{"loadbalancer":{"publicIpAddresses":[]}}"#), Heard::Nothing);
        assert!(matches!(azure("{}"), Heard::Nonsense(_)));
        assert!(matches!(azure("<html>"), Heard::Nonsense(_)));
        let ocean = |body: &str| read_addresses(Form::DigitalOcean, &reply(200, body));
        let both = r#"{"interfaces":{"public":[{"ipv4":{"ip_address":"203.0.113.5"}}]},
                       "reserved_ip":{"ipv4":{"active":true,"ip_address":"203.0.113.6"}}}"#;
        assert_eq!(ocean(both), addresses(&["203.0.113.5", "203.0.113.6"]));
        assert_eq!(ocean(&both.replace("true", "false")), addresses(&["203.0.113.5"]));
        assert_eq!(ocean(r#"{"interfaces":{"private":[]}}"#), Heard::Nothing);
        assert!(matches!(ocean("[]"), Heard::Nonsense(_)));
    }

    #[test]
    fn a_token_is_one_word_and_a_service_without_any_is_asked_without() {
        assert_eq!(read_token(&reply(200, "AQAEAF==\n")), Ok(Some("AQAEAF==".to_owned())));
        assert_eq!(read_token(&reply(404, "")), Ok(None));
        assert_eq!(read_token(&reply(405, "")), Ok(None));
        let long = "x".repeat(MAX_TOKEN + 1);
        for body in ["", "two words", "<html></html>", "a\r\nX-Header: b", &long] {
            assert!(read_token(&reply(200, body)).is_err(), "{body:.20}");
        }
        assert!(read_token(&reply(302, "")).is_err() && read_token(&reply(500, "")).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_it_panic(status in 100_u16..600, body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let reply = Reply { status, body };
            let _ = read_token(&reply);
            for form in [Form::Text, Form::AzureLoadBalancer, Form::DigitalOcean] {
                let _ = read_addresses(form, &reply);
            }
        }
    }
}
