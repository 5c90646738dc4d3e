//! What a client may send: the arguments of its events, read with bounds, and how often.

use std::fmt;
use std::time::Instant;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::Value;

/// Bytes of a room's name.
const MAX_ROOM: usize = 256;
/// Bytes of the session by which a page proves that it is the one that was in a room; too short could be guessed.
const SESSION: std::ops::RangeInclusive<usize> = 16..=128;
/// Arguments that are looked at; more are ignored, as old servers do.
const MAX_ARGUMENTS: usize = 2;

/// The arguments of an event, however many there are.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Arguments(pub(super) Vec<Value>);

impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Arguments;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the arguments of an event")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Arguments, A::Error> {
                let mut arguments = Vec::new();
                while arguments.len() < MAX_ARGUMENTS
                    && let Some(argument) = sequence.next_element()?
                {
                    arguments.push(argument);
                }
                while sequence.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Arguments(arguments))
            }
        }
        // The Socket.IO parser hands all arguments to types that ask for a tuple, and the first one to others.
        deserializer.deserialize_tuple(MAX_ARGUMENTS, Reader)
    }
}

impl Arguments {
    /// The room that the first argument names.
    ///
    /// # Errors
    /// Why it names none, in words for a page's author.
    pub(super) fn room(&self) -> Result<&str, &'static str> {
        match self.0.first() {
            None | Some(Value::Null) => Err("the room is missing"),
            Some(Value::String(room)) if room.is_empty() => Err("the room is empty"),
            Some(Value::String(room)) if room.len() > MAX_ROOM => Err("the room's name has more than 256 bytes"),
            Some(Value::String(room)) => Ok(room),
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                Err("the room must be a string")
            }
        }
    }

    /// What is to be relayed, if there is anything.
    pub(super) fn data(&self) -> Option<&Value> {
        self.0.get(1)
    }
}

/// The session in the `auth` of a connecting client, if it has one that is fit.
pub(super) fn session(auth: Option<&Value>) -> Option<String> {
    let session = auth?.get("session")?.as_str()?;
    SESSION.contains(&session.len()).then(|| session.to_owned())
}

/// The key of an invite link in the `auth` of a connecting client.
pub(super) fn key(auth: Option<&Value>) -> Option<&str> {
    auth?.get("key")?.as_str()
}

/// Lets a socket send so many events a second on average, and four times that at once.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: f64,
    tokens: f64,
    filled_at: Instant,
}

impl Bucket {
    /// Seconds of the rate that may be used at once.
    const BURST: f64 = 4.0;

    pub(super) fn new(rate: u32, now: Instant) -> Self {
        let rate = f64::from(rate);
        Self { rate, tokens: rate * Self::BURST, filled_at: now }
    }

    /// Whether one more event may pass.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.filled_at = now;
        self.tokens = (self.tokens + passed * self.rate).min(self.rate * Self::BURST);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::sys::clock;

    fn arguments(text: &str) -> Arguments {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn any_string_of_a_bounded_length_names_a_room() {
        for name in ["a", "会议 1", "🙂", "__proto__", "constructor"] {
            assert_eq!(arguments(&json!([name, { "type": "offer" }, 3]).to_string()).room(), Ok(name));
        }
        let too_long = json!(["x".repeat(257)]).to_string();
        for odd in ["[]", "[null]", "[1]", "[{}]", "[[]]", "[\"\"]", &too_long] {
            assert!(arguments(odd).room().is_err(), "{odd}");
        }
    }

    #[test]
    fn data_may_be_missing_and_may_be_anything() {
        assert_eq!(arguments("[\"r\"]").data(), None);
        assert_eq!(arguments("[\"r\",null]").data(), Some(&Value::Null));
        assert_eq!(arguments("[\"r\",{\"a\":[1]}]").data(), Some(&json!({ "a": [1] })));
    }

    #[test]
    fn deep_nesting_is_refused_by_the_parser() {
        let deep = format!("[\"r\",{}{}]", "[".repeat(20_000), "]".repeat(20_000));
        assert!(serde_json::from_str::<Arguments>(&deep).is_err());
    }

    #[test]
    fn a_session_must_be_hard_to_guess() {
        assert_eq!(session(Some(&json!({ "session": "0123456789abcdef" }))).as_deref(), Some("0123456789abcdef"));
        for odd in [json!({}), json!({ "session": "short" }), json!({ "session": 1 }), json!("x"), Value::Null] {
            assert_eq!(session(Some(&odd)), None, "{odd}");
        }
    }

    #[test]
    fn a_bucket_lets_bursts_pass_and_the_rate_on_average() {
        let now = clock::now().mono;
        let mut bucket = Bucket::new(10, now);
        let passed = |bucket: &mut Bucket, at| (0..1000).filter(|_| bucket.take(at)).count();
        assert_eq!(passed(&mut bucket, now), 40);
        assert_eq!(passed(&mut bucket, now + Duration::from_secs(1)), 10);
        assert_eq!(passed(&mut bucket, now + Duration::from_secs(3600)), 40);
    }
}
