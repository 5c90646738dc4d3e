//! Decides what is in the body of a request or of an answer: packets of a session that is carried by polling.
//!
//! | version | body |
//! |---|---|
//! | 4 | packets with the separator of ASCII's records between them |
//! | 3 | each packet with its length in UTF-16 units and a colon before it |
//! | 3, binary | each packet with a byte for its kind, the digits of its length in bytes, and 255 before it |

use super::Version;

/// What stands between the packets of version 4.
const SEPARATOR: char = '\u{1e}';
/// The first byte of a binary packet in a binary body.
const BINARY: u8 = 1;
/// What ends the digits of a length in a binary body.
const END_OF_LENGTH: u8 = 255;
/// Digits that a length may have.
const MAX_DIGITS: usize = 10;

/// One packet of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    /// Nobody looks at what it says.
    Binary,
}

/// A body that is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoBody;

/// Adds a packet to a body.
pub(super) fn push(body: &mut String, version: Version, packet: &str) {
    match version {
        Version::V4 if body.is_empty() => {}
        Version::V4 => body.push(SEPARATOR),
        Version::V3 => {
            body.push_str(&packet.encode_utf16().count().to_string());
            body.push(':');
        }
    }
    body.push_str(packet);
}

/// The packets of a body, in order. `is_binary`: what its type says.
pub(super) fn split(body: &[u8], version: Version, is_binary: bool) -> Result<Vec<Part<'_>>, NoBody> {
    match version {
        Version::V3 if is_binary => by_bytes(body),
        Version::V3 => by_units(text(body)?),
        Version::V4 => Ok(text(body)?.split(SEPARATOR).map(Part::Text).collect()),
    }
}

fn text(bytes: &[u8]) -> Result<&str, NoBody> {
    std::str::from_utf8(bytes).map_err(|_| NoBody)
}

fn by_units(mut body: &str) -> Result<Vec<Part<'_>>, NoBody> {
    let mut parts = Vec::new();
    while !body.is_empty() {
        let (digits, rest) = body.split_once(':').ok_or(NoBody)?;
        let end = bytes_of(rest, length(digits.bytes().map(|digit| digit.wrapping_sub(b'0')))?).ok_or(NoBody)?;
        let (packet, rest) = rest.split_at(end);
        parts.push(Part::Text(packet));
        body = rest;
    }
    Ok(parts)
}

/// How many bytes of a text so many UTF-16 units are; `None` if there is no such place in it.
fn bytes_of(text: &str, units: usize) -> Option<usize> {
    let (mut passed, mut at) = (0, 0);
    for character in text.chars() {
        if passed >= units {
            break;
        }
        passed += character.len_utf16();
        at += character.len_utf8();
    }
    (passed == units).then_some(at)
}

fn by_bytes(mut body: &[u8]) -> Result<Vec<Part<'_>>, NoBody> {
    let mut parts = Vec::new();
    while let Some((kind, rest)) = body.split_first() {
        let end = rest.iter().take(MAX_DIGITS + 1).position(|byte| *byte == END_OF_LENGTH).ok_or(NoBody)?;
        let (digits, rest) = (&rest[..end], &rest[end + 1..]);
        let (packet, rest) = rest.split_at_checked(length(digits.iter().copied())?).ok_or(NoBody)?;
        parts.push(if *kind == BINARY { Part::Binary } else { Part::Text(text(packet)?) });
        body = rest;
    }
    Ok(parts)
}

fn length(digits: impl ExactSizeIterator<Item = u8>) -> Result<usize, NoBody> {
    if !(1..=MAX_DIGITS).contains(&digits.len()) {
        return Err(NoBody);
    }
    digits
        .into_iter()
        .try_fold(0, |length, digit| if digit > 9 { Err(NoBody) } else { Ok(length * 10 + usize::from(digit)) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bodies_of_version_4_have_separators() {
        let mut body = String::new();
        for packet in ["4a", "2", "4é"] {
            push(&mut body, Version::V4, packet);
        }
        assert_eq!(body, "4a\u{1e}2\u{1e}4é");
        let parts = split(body.as_bytes(), Version::V4, false).unwrap();
        assert_eq!(parts, [Part::Text("4a"), Part::Text("2"), Part::Text("4é")]);
        assert_eq!(split(b"4\xff", Version::V4, false), Err(NoBody));
    }

    #[test]
    fn lengths_of_version_3_count_as_javascript_does() {
        let mut body = String::new();
        // One unit, one unit of three bytes, two units of four bytes.
        for packet in ["4a", "4你", "4😀x"] {
            push(&mut body, Version::V3, packet);
        }
        assert_eq!(body, "2:4a2:4你4:4😀x");
        let parts = split(body.as_bytes(), Version::V3, false).unwrap();
        assert_eq!(parts, [Part::Text("4a"), Part::Text("4你"), Part::Text("4😀x")]);
        for odd in ["x", ":4", "3:4", "2:😀😀x", "1:😀", "-1:4", "99999999999:4", "1:4x"] {
            assert_eq!(split(odd.as_bytes(), Version::V3, false), Err(NoBody), "{odd}");
        }
    }

    #[test]
    fn binary_bodies_of_version_3_have_lengths_in_bytes() {
        let body = b"\x00\x01\x01\xff42[\"message\x01\x03\xff\x04\x01\x02\x00\x01\xff2";
        let parts = split(body, Version::V3, true).unwrap();
        assert_eq!(parts, [Part::Text("42[\"message"), Part::Binary, Part::Text("2")]);
        for odd in
            [&b"\0"[..], b"\0\xff", b"\0\x0a\xff", b"\0\x02\xff2", b"\0\x01\xff\xff", b"\0\0\0\0\0\0\0\0\0\0\0\0\xff"]
        {
            assert_eq!(split(odd, Version::V3, true), Err(NoBody), "{odd:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_put_together_is_taken_apart(packets in prop::collection::vec("[2-4][^\u{1e}]{0,9}", 1..5)) {
            for version in [Version::V3, Version::V4] {
                let mut body = String::new();
                packets.iter().for_each(|packet| push(&mut body, version, packet));
                let parts = split(body.as_bytes(), version, false).unwrap();
                prop_assert_eq!(parts, packets.iter().map(|packet| Part::Text(packet)).collect::<Vec<_>>());
            }
        }

        #[test]
        fn nothing_panics(body in prop::collection::vec(any::<u8>(), 0..40), is_binary: bool) {
            for version in [Version::V3, Version::V4] {
                let _ = split(&body, version, is_binary);
            }
        }
    }
}
