//! `rtcctl invite`: the link by which others come to call, and another key for it.

use std::process::ExitCode;

use clap::Args as ClapArgs;
use serde_json::json;

use super::qr::qr_code;
use super::{Frame, rewrite};
use crate::config::{self, Access, Config, Secret, new_access_key, with_access_key};
use crate::control::protocol::SCHEMA_VERSION;
use crate::error::{Failure, Kind, Result};
use crate::text;

/// Bytes that a room's name may have; see signaling.
const MAX_ROOM: usize = 256;

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// The room that the link leads into; without it, the page suggests one
    #[arg(long, value_name = "ROOM")]
    room: Option<String>,
    /// Make another key first, for when a link went astray: links and sessions of the old key are worthless at once
    ///
    /// A running service takes it up by a reload. Who is in a room stays there; who comes needs the new link. TURN
    /// credentials that were issued before work until they expire, after `turn.credential_ttl`.
    #[arg(long)]
    new_key: bool,
}

pub(super) fn run(frame: &Frame, args: &Args) -> Result<ExitCode> {
    if let Some(room) = args.room.as_ref().filter(|room| !(1..=MAX_ROOM).contains(&room.len())) {
        let failure = Failure::new(Kind::Usage, text!("a room's name has 1 to {} bytes, not {}", MAX_ROOM, room.len()));
        return Err(failure.hinted(text!("give a shorter one by `--room`")));
    }
    let is_applied = if args.new_key {
        let key = new_access_key()?;
        Some(rewrite::secrets(frame, &text!("access key"), |text| with_access_key(text, &key))?)
    } else {
        None
    };
    let (config, secrets) = config::load(&frame.home)?;
    let link = invite_link(&config, secrets.access_key.as_ref(), args.room.as_deref());
    let is_key = config.access == Access::Key;
    if frame.json {
        frame.print_json(&json!({
            "schema_version": SCHEMA_VERSION,
            "access": if is_key { "key" } else { "open" },
            "room": args.room,
            "link": link,
            "new_key": args.new_key,
            "applied": is_applied,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    frame.print(&link);
    if let Some(code) = qr_code(&link) {
        frame.say(code);
    }
    frame.say(match (is_key, is_applied) {
        (true, Some(true)) => text!("The key is another one from now on: older links and sessions are worthless."),
        (true, Some(false)) => text!("The key is another one once the service is started."),
        (true, None) => text!("Whoever has this link can call: its end is the key."),
        (false, None) => text!("Access is open: whoever reaches the page can call, no key is needed."),
        (false, Some(_)) => {
            text!("The key is another one, but access is open: no key is needed until `access` is key.")
        }
    });
    Ok(ExitCode::SUCCESS)
}

/// The address that leads to the page, into the room, and past the gate.
pub(super) fn invite_link(config: &Config, key: Option<&Secret>, room: Option<&str>) -> String {
    let mut link = config.page_url();
    if let Some(room) = room {
        link.push_str(&format!("?room={}", escaped(room)));
    }
    if let Some(key) = key.filter(|_| config.access == Access::Key) {
        // Its characters stand for themselves.
        link.push_str(&format!("#key={}", String::from_utf8_lossy(key.expose())));
    }
    link
}

/// As a value in a query.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HostFacts, resolve};

    #[test]
    fn a_link_has_the_room_in_the_query_and_the_key_where_no_server_sees_it() {
        let facts = HostFacts { relay_ips: vec!["192.0.2.1".parse().unwrap()], cores: 1 };
        let config = |text: &str| resolve(text, &facts).unwrap().config;
        let key = Secret::new(b"abc-123".to_vec());
        let link = |text: &str, room| invite_link(&config(text), Some(&key), room);
        assert_eq!(link("hosts: [a.example]\naccess: key\n", None), "https://a.example/#key=abc-123");
        assert_eq!(
            link("hosts: ['2001:db8::1']\nweb: {port: 8443}\naccess: key\n", Some("会议 1&#")),
            "https://[2001:db8::1]:8443/?room=%E4%BC%9A%E8%AE%AE%201%26%23#key=abc-123"
        );
        assert_eq!(link("hosts: [a.example]\naccess: open\n", Some("a")), "https://a.example/?room=a");
    }
}
