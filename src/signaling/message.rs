//! What a client may send: the room that an event names, the session that a page has.

use serde_json::Value;

use super::packet::Event;

/// Bytes of a room's name.
const MAX_ROOM: usize = 256;
/// Bytes of the session by which a page proves that it is the one that was in a room; too short could be guessed.
const SESSION: std::ops::RangeInclusive<usize> = 16..=128;

/// The room that an event's first argument names.
///
/// # Errors
/// Why it names none, in words for a page's author.
pub(super) fn room(argument: Option<&str>) -> Result<String, &'static str> {
    let Some(json) = argument.filter(|json| *json != "null") else { return Err("the room is missing") };
    if !json.starts_with('"') {
        return Err("the room must be a string");
    }
    let room: String = Event::read(argument).ok_or("the room's name is no text")?;
    match room.len() {
        0 => Err("the room is empty"),
        1..=MAX_ROOM => Ok(room),
        _ => Err("the room's name has more than 256 bytes"),
    }
}

/// What a connecting client says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Auth {
    /// If it is fit.
    pub(super) session: Option<String>,
    /// The key of an invite link.
    pub(super) key: Option<String>,
}

impl Auth {
    /// Reads the JSON that comes with the wish to connect. What cannot be read says nothing.
    pub(super) fn read(json: &str) -> Self {
        let auth: Value = serde_json::from_str(json).unwrap_or_default();
        let text = |name: &str| auth.get(name)?.as_str().map(str::to_owned);
        Self { session: text("session").filter(|session| SESSION.contains(&session.len())), key: text("key") }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn any_string_of_a_bounded_length_names_a_room() {
        for name in ["a", "会议 1", "🙂", "__proto__", "constructor", "a\"\\b"] {
            assert_eq!(room(Some(&json!(name).to_string())).as_deref(), Ok(name));
        }
        assert_eq!(room(Some("\"\\u4f1a\"")).as_deref(), Ok("会"));
        assert_eq!(room(None), Err("the room is missing"));
        let too_long = json!("x".repeat(257)).to_string();
        for odd in ["null", "1", "{}", "[]", "true", "\"\"", "\"\\ud800\"", &too_long] {
            assert!(room(Some(odd)).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_session_must_be_hard_to_guess() {
        let session = |json: &str| Auth::read(json).session;
        assert_eq!(session("{\"session\":\"0123456789abcdef\"}").as_deref(), Some("0123456789abcdef"));
        let deep = format!("{{\"session\":{}", "[".repeat(20_000));
        for odd in ["", "{}", "{\"session\":\"short\"}", "{\"session\":1}", "\"x\"", "null", &deep] {
            assert_eq!(session(odd), None);
        }
    }

    #[test]
    fn a_key_is_read_beside_a_session_and_alone() {
        assert_eq!(Auth::read("{\"key\":\"k\"}"), Auth { session: None, key: Some("k".to_owned()) });
        assert_eq!(Auth::read("{\"key\":{}}"), Auth::default());
    }
}
