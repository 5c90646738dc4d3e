//! Cuts the byte stream of a TCP or TLS client into STUN messages and ChannelData.
//!
//! A stream has no borders but the lengths inside, so one wrong length and everything after it is read at the wrong
//! place. That is never guessed at: what cannot be a message ends the connection. RFC 8489, section 6.2.2, and RFC 8656,
//! section 12.5.

use std::ops::Range;

/// Bytes of a STUN header. RFC 8489, section 5.
const STUN_HEADER: usize = 20;
/// Bytes of a ChannelData header. RFC 8656, section 12.4.
const CHANNEL_HEADER: usize = 4;
/// At the fifth byte of every STUN message. RFC 8489, section 5.
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// Both kinds of messages are a multiple of this on a stream.
const ALIGNMENT: usize = 4;

/// The longest message of a client without an allocation; requests are a tenth of it.
pub const MAX_EARLY_MESSAGE: usize = 4096;
/// The longest message that a header can announce: a STUN message of 65 532 bytes behind its header.
pub const MAX_MESSAGE: usize = 65_532 + STUN_HEADER;

/// What a stream goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// A message of `length` bytes, which takes up `taken` with its padding.
    Message { length: usize, taken: usize },
    /// The beginning of a message.
    Partial,
    /// Nothing that could be one.
    Broken,
}

/// The stream is not one of STUN messages and ChannelData, or has a longer one than is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

/// Goes through what a stream has brought, message by message.
///
/// What is left at the end is to be handed in again, in front of what comes next.
#[derive(Debug, Default)]
pub struct Framer {
    at: usize,
}

impl Framer {
    /// The next message in `bytes`, which are the same at each call; `None` if the rest is not a whole one. `max` is
    /// how long a message may be by now, so never more than that is left to be kept.
    ///
    /// # Errors
    /// If the stream cannot go on.
    pub fn next(&mut self, bytes: &[u8], max: usize) -> Result<Option<Range<usize>>, Broken> {
        match cut(&bytes[self.at..], max) {
            Cut::Message { length, taken } => {
                let start = self.at;
                self.at += taken;
                Ok(Some(start..start + length))
            }
            Cut::Partial => Ok(None),
            Cut::Broken => Err(Broken),
        }
    }

    /// How many bytes the messages so far took up.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.at
    }
}

fn cut(bytes: &[u8], max: usize) -> Cut {
    let Some(&first) = bytes.first() else { return Cut::Partial };
    // The first two bits tell STUN from ChannelData. RFC 8656, section 12.
    if first > 0x7f {
        return Cut::Broken;
    }
    let is_stun = first < 0x40;
    let Some(&[_, _, high, low]) = bytes.first_chunk() else { return Cut::Partial };
    let announced = usize::from(u16::from_be_bytes([high, low]));
    if is_stun {
        let cookie = &bytes[4..bytes.len().min(8)];
        if !MAGIC_COOKIE.starts_with(cookie) || announced % ALIGNMENT != 0 {
            return Cut::Broken;
        }
    }
    let length = announced + if is_stun { STUN_HEADER } else { CHANNEL_HEADER };
    let taken = length.next_multiple_of(ALIGNMENT);
    if taken > max {
        Cut::Broken
    } else if taken > bytes.len() {
        Cut::Partial
    } else {
        Cut::Message { length, taken }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn stun(attributes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
        [&[0, 1][..], &length, &MAGIC_COOKIE, &[7; 12], attributes].concat()
    }

    fn channel(announced: u16, payload: &[u8]) -> Vec<u8> {
        [&[0x40, 0][..], &announced.to_be_bytes(), payload].concat()
    }

    /// All messages of a stream that comes in these pieces, and whether it ended well.
    fn cut_all(pieces: &[&[u8]], max: usize) -> (Vec<Vec<u8>>, Result<usize, Broken>) {
        let (mut kept, mut messages) = (Vec::new(), Vec::new());
        for piece in pieces {
            kept.extend_from_slice(piece);
            let mut framer = Framer::default();
            loop {
                match framer.next(&kept, max) {
                    Ok(Some(range)) => messages.push(kept[range].to_vec()),
                    Ok(None) => break,
                    Err(broken) => return (messages, Err(broken)),
                }
            }
            kept.drain(..framer.taken());
            assert!(kept.len() < max, "more is kept than a message may have");
        }
        (messages, Ok(kept.len()))
    }

    /// Row T45.
    #[test]
    fn padding_of_channel_data_is_skipped() {
        let stream = [channel(5, b"hello\0\0\0"), stun(&[]), channel(0, b""), channel(4, b"four")].concat();
        let (messages, end) = cut_all(&[&stream], MAX_MESSAGE);
        assert_eq!(messages, [channel(5, b"hello"), stun(&[]), channel(0, b""), channel(4, b"four")]);
        assert_eq!(end, Ok(0));
    }

    /// Case 27.
    #[test]
    fn channel_data_without_padding_ends_the_connection() {
        for (length, payload) in [(5, &b"hello"[..]), (6, b"hello!"), (7, b"hello!!")] {
            let stream = [channel(length, payload), stun(&[]), stun(&[])].concat();
            let (messages, end) = cut_all(&[&stream], MAX_MESSAGE);
            assert_eq!((messages.len(), end), (1, Err(Broken)), "{length}");
        }
    }

    /// Case 24.
    #[test]
    fn a_length_near_the_end_of_its_range_does_not_let_payload_through_as_a_message() {
        for length in [0xfffd, 0xfffe, 0xffff] {
            let stream = [channel(length, &[]), stun(&[]), stun(&[])].concat();
            assert_eq!(cut_all(&[&stream], MAX_MESSAGE), (vec![], Ok(stream.len())));
            assert_eq!(cut_all(&[&stream], MAX_EARLY_MESSAGE), (vec![], Err(Broken)));
            let whole =
                [channel(length, &vec![0xaa; length.into()]), vec![0; usize::from(length).wrapping_neg() % 4]].concat();
            let (messages, end) = cut_all(&[&whole, &stun(&[])], MAX_MESSAGE);
            assert_eq!((messages.len(), messages[0].len(), end), (2, usize::from(length) + 4, Ok(0)));
        }
    }

    /// Case 25.
    #[test]
    fn before_there_is_an_allocation_messages_are_short() {
        let announcing = |length: u16| [&[0, 1][..], &length.to_be_bytes()].concat();
        assert_eq!(cut_all(&[&announcing(65_532)], MAX_EARLY_MESSAGE).1, Err(Broken));
        assert_eq!(cut_all(&[&announcing(65_532)], MAX_MESSAGE).1, Ok(4));
        assert_eq!(cut_all(&[&announcing(4096 - 20)], MAX_EARLY_MESSAGE).1, Ok(4));
        assert_eq!(cut_all(&[&announcing(4100 - 20)], MAX_EARLY_MESSAGE).1, Err(Broken));
    }

    #[test]
    fn what_is_no_message_is_told_at_its_first_wrong_byte() {
        for bytes in [&b"\x80"[..], b"\0\x01\0\x01", b"\0\x01\0\x08\x21\x13"] {
            for max in [MAX_EARLY_MESSAGE, MAX_MESSAGE] {
                assert_eq!(cut_all(&[bytes], max).1, Err(Broken), "{bytes:?}");
                let before = bytes.len() - 1;
                assert_eq!(cut_all(&[&bytes[..before]], max).1, Ok(before), "{bytes:?}");
            }
        }
        // A letter looks like a channel, and what follows like a length that is too long before there is an allocation.
        assert_eq!(cut_all(&[b"GET / HTTP/1.1"], MAX_EARLY_MESSAGE).1, Err(Broken));
    }

    fn message() -> impl Strategy<Value = Vec<u8>> {
        let padded = |bytes: Vec<u8>| bytes.iter().copied().chain(vec![0; bytes.len().wrapping_neg() % 4]).collect();
        let channels = vec(any::<u8>(), 0..300).prop_map(move |payload| {
            let length = u16::try_from(payload.len()).unwrap();
            padded(channel(length, &payload))
        });
        let stuns = vec(any::<u32>(), 0..40)
            .prop_map(|words| stun(&words.into_iter().flat_map(u32::to_be_bytes).collect::<Vec<_>>()));
        prop_oneof![channels, stuns]
    }

    proptest! {
        #[test]
        fn wherever_a_stream_is_split_its_messages_are_the_same(messages in vec(message(), 0..8), splits in vec(any::<prop::sample::Index>(), 0..20)) {
            let stream = messages.concat();
            let mut at: Vec<usize> = splits.iter().map(|split| split.index(stream.len() + 1)).collect();
            at.extend([0, stream.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            let (whole, end) = cut_all(&[&stream], MAX_EARLY_MESSAGE);
            prop_assert_eq!(end, Ok(0));
            prop_assert_eq!(whole.len(), messages.len());
            prop_assert_eq!(cut_all(&pieces, MAX_EARLY_MESSAGE), (whole, Ok(0)));
        }

        #[test]
        fn no_bytes_make_it_panic_or_keep_more_than_a_message(pieces in vec(vec(any::<u8>(), 0..200), 0..60), first in 0_u8..0x80) {
            let mut pieces = pieces;
            pieces.insert(0, vec![first]);
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let _ = cut_all(&pieces, MAX_EARLY_MESSAGE);
            let _ = cut_all(&pieces, MAX_MESSAGE);
        }
    }
}
