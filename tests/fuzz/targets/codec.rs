//! Datagrams of a stranger: nothing may panic, and no answer may be a gift.
#![no_main]

#[path = "relay.rs"]
#[expect(dead_code, reason = "the other target uses it")]
mod relay;

use libfuzzer_sys::fuzz_target;
use relay::{Relay, client};

fuzz_target!(|bytes: &[u8]| {
    let mut relay = Relay::new();
    relay.datagram(client(0), bytes);
    relay.datagram(client(2), bytes);
});
