//! `secrets.yaml`: read with complaints that never quote a value, and written.

use std::collections::BTreeMap;

use serde::Serialize;

use super::lines::{self, Complaint};
use super::raw::Reader;
use super::{Secret, Secrets};

/// Hexadecimal digits of 128 bits.
const MIN_HEX_DIGITS: usize = 32;
/// Characters of 128 bits in Base64, for secrets that are not hexadecimal.
const MIN_OTHER_CHARACTERS: usize = 22;

/// Resolves the text of `secrets.yaml`. The characters of a secret are its bytes, as coturn has it.
///
/// # Errors
/// Every complaint; none holds a value of the file.
pub(super) fn resolve(text: &str) -> Result<Secrets, Vec<Complaint>> {
    let document = lines::parse(text).map_err(|mut complaint| {
        // What the parser says may quote the text.
        complaint.text = "this is not YAML of the form `turn_secrets: [...]`".to_owned();
        vec![complaint]
    })?;
    let mut reader = Reader::default();
    let mut root = reader.root(&document);
    let mut turn = Vec::new();
    match reader.field(&mut root, "turn_secrets") {
        None => reader.complain(0, "turn_secrets", "is missing"),
        Some(field) => {
            let members = reader.list(&field);
            if members.is_empty() {
                reader.complain(field.line, "turn_secrets", "must have at least one secret");
            }
            for member in members {
                let Some(secret) = reader.text(&member) else { continue };
                if let Some(weakness) = weakness(secret) {
                    reader.complain(member.line, "turn_secrets", weakness);
                }
                turn.push(Secret::new(secret.as_bytes().to_vec()));
            }
        }
    }
    reader.close(root);
    if reader.complaints.is_empty() {
        return Ok(Secrets { turn, turn_users: BTreeMap::new() });
    }
    for complaint in &mut reader.complaints {
        // A value of the wrong type is described by quoting it, which is right anywhere else.
        if let Some((head, _)) = complaint.text.split_once(", not ") {
            complaint.text = head.to_owned();
        }
        // A secret that slipped to the front of a line is a key now.
        if complaint.path != "turn_secrets" {
            complaint.path = String::new();
        }
    }
    Err(reader.complaints)
}

fn weakness(secret: &str) -> Option<String> {
    let is_hex = secret.bytes().all(|byte| byte.is_ascii_hexdigit());
    let wanted = if is_hex { MIN_HEX_DIGITS } else { MIN_OTHER_CHARACTERS };
    if secret.chars().any(|symbol| symbol.is_control() || symbol.is_whitespace()) {
        Some("a secret must not contain spaces or line breaks".to_owned())
    } else if secret.chars().count() < wanted {
        Some(format!(
            "a secret has fewer than 128 bits: write at least {wanted} characters, best `openssl rand -hex 32`"
        ))
    } else {
        None
    }
}

/// The text of a `secrets.yaml` with these secrets.
#[must_use]
pub fn render_secrets(secrets: &Secrets) -> String {
    #[derive(Serialize)]
    struct File {
        turn_secrets: Vec<String>,
    }
    let turn_secrets =
        secrets.turn.iter().map(|secret| String::from_utf8_lossy(secret.expose()).into_owned()).collect();
    let yaml = serde_yaml::to_string(&File { turn_secrets }).expect("a list of strings is valid YAML");
    format!(
        "# Secrets of this rtcctl. Readable by its own user alone; never print, copy or commit it.\n\
         # The first TURN secret issues credentials, all of them verify: to change it, put the new one first.\n{yaml}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn what_is_written_is_read_again() {
        for secret in [GOOD, "0e12345678901234567890123456789012345678901234567890123456789012"] {
            let secrets = Secrets { turn: vec![Secret::new(secret.as_bytes().to_vec())], turn_users: BTreeMap::new() };
            let text = render_secrets(&secrets);
            assert_eq!(resolve(&text).unwrap().turn, secrets.turn);
        }
    }

    #[test]
    fn a_complaint_never_quotes_a_secret() {
        for text in [
            "turn_secrets: [hunter2]\n",
            "turn_secrets: {hunter2: hunter2}\n",
            "turn_secrets: ['hunter2\n",
            "turn_secrets: [[hunter2]]\n",
            "hunter2\n",
            "turn_secrets:\n  - hunter2 hunter2 hunter2 hunter2\n",
            "turn_secrets: []\n",
            "",
        ] {
            let complaints = resolve(text).err().unwrap();
            let told = complaints.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            assert!(!told.contains("hunter2"), "{told}");
            assert!(!complaints.is_empty());
        }
    }
}
