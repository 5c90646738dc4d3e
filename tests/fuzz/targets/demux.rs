//! The first bytes of a connection: what was decided stays decided, and enough bytes always decide.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rtcctl::edge::demux::{ENOUGH, offer, speech};

fuzz_target!(|bytes: &[u8]| {
    let mut decided = None;
    for end in 1..=bytes.len() {
        let now = speech(&bytes[..end]);
        assert!(decided.is_none() || now == decided, "{decided:?} became {now:?} at byte {end}");
        assert!(now.is_some() || end < ENOUGH, "{end} bytes do not decide");
        decided = now;
    }
    let _ = offer(bytes.split(|byte| *byte == 0));
});
