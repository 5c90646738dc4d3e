//! As much of the DNS's messages as is needed to ask for addresses, texts, name servers and CAA records. RFC 1035,
//! RFC 8659.

use std::net::IpAddr;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    A,
    Aaaa,
    Caa,
    /// The name that a name is another word for.
    Cname,
    /// The name servers of a zone.
    Ns,
    Txt,
}

impl Kind {
    fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Aaaa => 28,
            Self::Caa => 257,
            Self::Cname => 5,
            Self::Ns => 2,
            Self::Txt => 16,
        }
    }
}

/// What a resolver says of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    pub addresses: Vec<IpAddr>,
    /// Who may issue, by `issue` records; an empty name is nobody.
    pub issuers: Vec<String>,
    /// Who may issue for a star, by `issuewild` records, which come before the others then.
    pub star_issuers: Vec<String>,
    /// What a CNAME record says.
    pub alias: Option<String>,
    /// The names of name servers.
    pub servers: Vec<String>,
    pub texts: Vec<String>,
    /// The name is not there at all.
    pub is_unknown: bool,
    /// The resolver could not find out (SERVFAIL), as with a broken DNSSEC.
    pub fails: bool,
}

const HEADER: usize = 12;
const INTERNET: u16 = 1;
/// A response to a standard question; recursion is wanted.
const RESPONSE: u8 = 0x80;
const TRUNCATED: u8 = 0x02;
/// Pointers that one name may follow: a message that leads in circles is none.
const MAX_POINTERS: usize = 16;
/// Bytes of the longest name. RFC 1035, section 3.1.
const MAX_NAME: usize = 255;

/// A question; `None` if the name cannot be asked for.
pub(super) fn question(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(HEADER + name.len() + 6);
    message.extend(id.to_be_bytes());
    // Recursion desired; one question.
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        message.push(length);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.number().to_be_bytes());
    message.extend(INTERNET.to_be_bytes());
    Some(message)
}

/// Reads an answer; `None` if it is none, is cut off, or is refused.
pub(super) fn answer(id: u16, kind: Kind, message: &[u8]) -> Option<Answer> {
    let header = message.get(..HEADER)?;
    if header[..2] != id.to_be_bytes() || header[2] & RESPONSE == 0 || header[2] & TRUNCATED != 0 {
        return None;
    }
    let mut found = Answer::default();
    match header[3] & 15 {
        0 => {}
        2 => found.fails = true,
        3 => found.is_unknown = true,
        _ => return None,
    }
    let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let mut at = HEADER;
    for _ in 0..count(4) {
        at = skip_name(message, at)? + 4;
    }
    for _ in 0..count(6) {
        at = skip_name(message, at)?;
        let fixed = message.get(at..at + 10)?;
        let (number, length) =
            (u16::from_be_bytes([fixed[0], fixed[1]]), usize::from(u16::from_be_bytes([fixed[8], fixed[9]])));
        let begin = at + 10;
        let data = message.get(begin..begin + length)?;
        at = begin + length;
        if number == Kind::Cname.number() {
            found.alias = read_name(message, begin);
            continue;
        }
        if number != kind.number() {
            continue;
        }
        match kind {
            Kind::A => found.addresses.extend(<[u8; 4]>::try_from(data).map(IpAddr::from)),
            Kind::Aaaa => found.addresses.extend(<[u8; 16]>::try_from(data).map(IpAddr::from)),
            Kind::Caa => match issuer(data) {
                Some((Issue::Any, name)) => found.issuers.push(name),
                Some((Issue::Star, name)) => found.star_issuers.push(name),
                None => {}
            },
            // Read above, whatever was asked for.
            Kind::Cname => {}
            Kind::Ns => found.servers.extend(read_name(message, begin)),
            Kind::Txt => found.texts.push(text(data)),
        }
    }
    Some(found)
}

/// Whether an answer was too long for a datagram, so that it must be asked for by TCP.
pub(super) fn is_truncated(id: u16, message: &[u8]) -> bool {
    message.get(..HEADER).is_some_and(|header| {
        header[..2] == id.to_be_bytes() && header[2] & RESPONSE != 0 && header[2] & TRUNCATED != 0
    })
}

/// The name at a place, without its last dot.
fn read_name(message: &[u8], mut at: usize) -> Option<String> {
    let mut name = String::new();
    let mut pointers = 0;
    loop {
        let length = *message.get(at)?;
        match length & 0xc0 {
            0 if length == 0 => return Some(name),
            0 => {
                let label = message.get(at + 1..at + 1 + usize::from(length))?;
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(&String::from_utf8_lossy(label).to_ascii_lowercase());
                at += usize::from(length) + 1;
            }
            0xc0 => {
                pointers += 1;
                at = usize::from(u16::from_be_bytes([length & 0x3f, *message.get(at + 1)?]));
            }
            _ => return None,
        }
        if pointers > MAX_POINTERS || name.len() > MAX_NAME {
            return None;
        }
    }
}

/// The parts of a TXT record, put together.
fn text(mut data: &[u8]) -> String {
    let mut text = Vec::new();
    while let Some((length, rest)) = data.split_first() {
        let (part, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        text.extend_from_slice(part);
        data = rest;
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The end of a name, compressed or not.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length if length & 0xc0 == 0 => at += usize::from(length) + 1,
            _ => return None,
        }
    }
}

/// What a CAA record is about.
enum Issue {
    Any,
    Star,
}

/// The authority of an `issue` or `issuewild` record, without parameters. RFC 8659, sections 4.2 and 4.3.
fn issuer(data: &[u8]) -> Option<(Issue, String)> {
    let tag_length = usize::from(*data.get(1)?);
    let tag = data.get(2..2 + tag_length)?;
    let issue = match tag {
        _ if tag.eq_ignore_ascii_case(b"issue") => Issue::Any,
        _ if tag.eq_ignore_ascii_case(b"issuewild") => Issue::Star,
        _ => return None,
    };
    let value = String::from_utf8_lossy(data.get(2 + tag_length..)?);
    let name = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    Some((issue, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A response with these records, names compressed.
    fn response(code: u8, records: &[(Kind, &[u8])]) -> Vec<u8> {
        let mut message = question(7, "call.example", Kind::A).unwrap();
        message[2] |= RESPONSE;
        message[3] = code;
        message[7] = u8::try_from(records.len()).unwrap();
        for (kind, data) in records {
            message.extend([0xc0, 12]);
            message.extend(kind.number().to_be_bytes());
            message.extend([0, 1, 0, 0, 0, 60]);
            message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            message.extend(*data);
        }
        message
    }

    #[test]
    fn addresses_and_issuers_are_read_and_other_records_left_out() {
        let message = response(0, &[(Kind::A, &[192, 0, 2, 7]), (Kind::Caa, b"\0\x05issueca.example; x=y")]);
        assert_eq!(answer(7, Kind::A, &message).unwrap().addresses, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        assert_eq!(answer(7, Kind::Caa, &message).unwrap().issuers, ["ca.example"]);
        assert_eq!(answer(7, Kind::Aaaa, &message).unwrap(), Answer::default());
        assert!(answer(7, Kind::A, &response(3, &[])).unwrap().is_unknown);
        assert!(answer(7, Kind::A, &response(2, &[])).unwrap().fails);
        assert_eq!(answer(7, Kind::A, &response(5, &[])), None);
        assert_eq!(answer(8, Kind::A, &message), None, "the answer to another question");
        let nobody = response(0, &[(Kind::Caa, b"\0\x05issue;")]);
        assert_eq!(answer(7, Kind::Caa, &nobody).unwrap().issuers, [""]);
        let star = response(0, &[(Kind::Caa, b"\0\x09issuewildca.example")]);
        let star = answer(7, Kind::Caa, &star).unwrap();
        assert_eq!((star.issuers.len(), star.star_issuers), (0, vec!["ca.example".to_owned()]));
    }

    #[test]
    fn texts_are_put_together_and_names_are_read_compressed_or_not() {
        let message = response(0, &[(Kind::Txt, b"\x03abc\x02de"), (Kind::Txt, b"\x09cut"), (Kind::Txt, b"")]);
        assert_eq!(answer(7, Kind::Txt, &message).unwrap().texts, ["abcde", "cut", ""]);
        let message = response(0, &[(Kind::Ns, b"\x03NS1\xc0\x0c"), (Kind::Ns, b"\x02ns\x04else\0")]);
        assert_eq!(answer(7, Kind::Ns, &message).unwrap().servers, ["ns1.call.example", "ns.else"]);
        let alias = response(0, &[(Kind::Cname, b"\x01x\xc0\x0c")]);
        assert_eq!(answer(7, Kind::Txt, &alias).unwrap().alias.as_deref(), Some("x.call.example"));
        // The record begins at byte 42, and leads to itself.
        let circle = response(0, &[(Kind::Ns, b"\xc0\x2a")]);
        assert_eq!(answer(7, Kind::Ns, &circle).unwrap().servers, [""; 0]);
    }

    #[test]
    fn an_answer_that_was_cut_off_is_known_as_that() {
        let mut message = response(0, &[]);
        assert!(!is_truncated(7, &message));
        message[2] |= TRUNCATED;
        assert!(is_truncated(7, &message) && !is_truncated(8, &message));
        assert_eq!(answer(7, Kind::Txt, &message), None);
    }

    proptest::proptest! {
        #[test]
        fn no_message_makes_it_panic(mut message in proptest::collection::vec(proptest::num::u8::ANY, 0..120), name in ".{0,80}") {
            let _ = question(7, &name, Kind::Caa);
            if message.len() > 3 {
                message[..2].copy_from_slice(&7_u16.to_be_bytes());
                message[2] = RESPONSE;
                message[3] &= 0xf0;
            }
            for kind in [Kind::A, Kind::Caa, Kind::Ns, Kind::Txt] {
                let _ = answer(7, kind, &message);
            }
        }
    }
}
