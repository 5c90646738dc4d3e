//! A relay with users: any sequence of messages, packets, errors, changes and time keeps what must hold.
#![no_main]

#[path = "relay.rs"]
mod relay;

use libfuzzer_sys::fuzz_target;
use relay::{Input, Relay};

/// Enough for an allocation with channels, used, changed and ended.
const MAX_STEPS: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    let (mut relay, mut input) = (Relay::new(), Input(bytes));
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            return;
        }
        relay.step(&mut input);
    }
});
