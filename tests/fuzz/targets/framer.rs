//! The stream of a client: however it is cut up on the way, the same messages come out, and little is kept.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rtcctl::turn::framer::{Broken, Framer, MAX_EARLY_MESSAGE};

fuzz_target!(|bytes: &[u8]| {
    let Some((pace, stream)) = bytes.split_first() else { return };
    let whole = messages(&[stream]);
    let pieces: Vec<&[u8]> = stream.chunks(usize::from(*pace) + 1).collect();
    let cut = messages(&pieces);
    assert_eq!(whole, cut, "the same stream in pieces has other messages");
});

/// All messages of a stream that comes in pieces, and whether it broke.
fn messages(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
    let (mut found, mut kept) = (Vec::new(), Vec::new());
    for piece in pieces {
        kept.extend_from_slice(piece);
        let mut framer = Framer::default();
        loop {
            match framer.next(&kept, MAX_EARLY_MESSAGE) {
                Ok(Some(range)) => {
                    assert!(range.len() <= MAX_EARLY_MESSAGE && range.end <= framer.taken());
                    found.push(kept[range].to_vec());
                }
                Ok(None) => break,
                Err(Broken) => return (found, true),
            }
        }
        kept.drain(..framer.taken());
        assert!(kept.len() < MAX_EARLY_MESSAGE, "more is kept than a message may have");
    }
    (found, false)
}
