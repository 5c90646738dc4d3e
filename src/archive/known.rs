//! Finds the secrets of a home, so that they can be looked for in what leaves it.

use std::path::Path;

use serde_json::Value;

use crate::home::Home;

/// Bytes of the largest file that is looked into: keys and accounts are small.
const MAX_FILE: u64 = 1024 * 1024;
/// Characters of the shortest piece of a key that is looked for by itself.
const MIN_PIECE: usize = 24;
/// Keys of `config.yaml` whose words may have tokens in them.
const TOKENS_IN: [&str; 3] = ["command", "webhook", "acme_dns_command"];
/// Keys of JSON documents that hold keys.
const KEYS_IN: [&str; 3] = ["key", "token", "credential"];

/// Every secret that the files of a home have in them, whether they can be used or not.
#[must_use]
pub fn known_secrets(home: &Home) -> Vec<String> {
    let mut found = Vec::new();
    let secrets = read(&home.secrets_file());
    of_yaml(&secrets, &mut |_, word| found.push(word.to_owned()));
    // A file that is no YAML any more has its secrets in it all the same.
    let lines = secrets.lines().filter(|line| !line.trim_start().starts_with('#'));
    let words = lines.flat_map(|line| line.split(|symbol: char| symbol.is_whitespace() || "\"'[]{},".contains(symbol)));
    found.extend(words.filter(|word| word.len() >= MIN_PIECE).map(str::to_owned));
    // `key id:key` of an authority.
    let keys: Vec<String> = found.iter().filter_map(|word| Some(word.rsplit_once(':')?.1.to_owned())).collect();
    found.extend(keys);
    of_yaml(&read(&home.config_file()), &mut |key, word| {
        if TOKENS_IN.contains(&key) {
            found.extend(tokens(word));
        }
    });
    let certs = home.certs_dir();
    for file in files(&certs).chain(files(&certs.join("acme"))) {
        let text = read(&file);
        found.extend(pem_bodies(&text));
        if let Ok(document) = serde_json::from_str(&text) {
            of_json(&document, &mut found);
        }
    }
    for file in [home.invitation_file()] {
        if let Ok(document) = serde_json::from_str(&read(&file)) {
            of_json(&document, &mut found);
        }
    }
    found.retain(|secret| !secret.is_empty());
    found.sort();
    found.dedup();
    found
}

fn read(path: &Path) -> String {
    let is_small = std::fs::metadata(path).is_ok_and(|data| data.is_file() && data.len() <= MAX_FILE);
    let bytes = if is_small { std::fs::read(path).unwrap_or_default() } else { Vec::new() };
    String::from_utf8_lossy(&bytes).into_owned()
}

fn files(folder: &Path) -> impl Iterator<Item = std::path::PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_file())
}

/// Calls `each` with every scalar and the nearest key above it.
fn of_yaml(text: &str, each: &mut impl FnMut(&str, &str)) {
    fn walk(key: &str, value: &serde_yaml::Value, each: &mut impl FnMut(&str, &str)) {
        match value {
            serde_yaml::Value::String(word) => each(key, word),
            serde_yaml::Value::Number(number) => each(key, &number.to_string()),
            serde_yaml::Value::Sequence(members) => members.iter().for_each(|member| walk(key, member, each)),
            serde_yaml::Value::Mapping(entries) => {
                for (key, value) in entries {
                    walk(key.as_str().unwrap_or_default(), value, each);
                }
            }
            serde_yaml::Value::Tagged(tagged) => walk(key, &tagged.value, each),
            serde_yaml::Value::Null | serde_yaml::Value::Bool(_) => {}
        }
    }
    if let Ok(document) = serde_yaml::from_str::<serde_yaml::Value>(text) {
        walk("", &document, each);
    }
}

/// What of a command's argument or a URL may be a token: all but the program, the flags, and where it leads.
fn tokens(word: &str) -> Vec<String> {
    if word.starts_with('/') {
        return Vec::new();
    }
    if let Some((_, rest)) = word.split_once("://") {
        let path = rest.find(['/', '?']).map_or("", |at| &rest[at..]);
        let parts = path.split(|symbol: char| "/?&=".contains(symbol)).filter(|part| part.len() >= 6);
        return parts.map(str::to_owned).chain((path.len() > 6).then(|| path.to_owned())).collect();
    }
    let value = word.trim_start_matches('-').split_once('=').map_or(word, |(_, value)| value);
    if value.starts_with('-') { Vec::new() } else { vec![value.to_owned()] }
}

/// The lines of private keys, and each key without line breaks.
fn pem_bodies(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    // JSON documents have line breaks as two characters.
    let text = text.replace("\\n", "\n");
    for part in text.split("-----BEGIN ").skip(1) {
        let Some((label, rest)) = part.split_once("-----") else { continue };
        if !label.ends_with("PRIVATE KEY") {
            continue;
        }
        let body = rest.split("-----END").next().unwrap_or_default();
        let lines: Vec<&str> = body.lines().map(str::trim).filter(|line| line.len() >= MIN_PIECE).collect();
        found.push(lines.concat());
        found.extend(lines.iter().map(|line| (*line).to_owned()));
    }
    found
}

fn of_json(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                if let Value::String(word) = value
                    && KEYS_IN.contains(&key.as_str())
                {
                    found.push(word.clone());
                }
                of_json(value, found);
            }
        }
        Value::Array(members) => members.iter().for_each(|member| of_json(member, found)),
        Value::String(word) => found.extend(pem_bodies(word)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs::write_atomic;

    #[test]
    fn everything_secret_in_a_home_is_found_and_nothing_that_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::under(dir.path());
        std::fs::create_dir_all(home.certs_dir().join("acme")).unwrap();
        let put = |path: &Path, text: &str| write_atomic(path, text.as_bytes(), 0o600).unwrap();
        put(
            &home.secrets_file(),
            "turn_secrets: [turn-secret-of-this-home]\nturn_users: {door: pass word}\nacme_eab: {zerossl: 'kid:eab-key-x'}\n",
        );
        put(
            &home.config_file(),
            "hosts: [a.example]\nnotify:\n  command: [/usr/bin/tell, --token=tell-token, tell-word]\n  \
             webhook: https://hook.example/in/hook-token?k=query-token\n",
        );
        put(
            &home.certs_dir().join("leaf.key"),
            "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqG\n-----END PRIVATE KEY-----\n",
        );
        put(
            &home.certs_dir().join("ca.pem"),
            "-----BEGIN CERTIFICATE-----\nMIIBCertificateCertificateCert\n-----END CERTIFICATE-----\n",
        );
        put(
            &home.certs_dir().join("acme/account-1.json"),
            "{\"directory\":\"https://ca.example\",\"key\":\"account-key-x\"}",
        );
        let found = known_secrets(&home);
        for wanted in [
            "turn-secret-of-this-home",
            "pass word",
            "eab-key-x",
            "tell-token",
            "tell-word",
            "hook-token",
            "query-token",
            "MIGHAgEAMBMGByqGSM49AgEGCCqG",
            "account-key-x",
        ] {
            assert!(found.iter().any(|secret| secret == wanted), "{wanted}: {found:?}");
        }
        for open in ["a.example", "/usr/bin/tell", "https://ca.example", "MIIBCertificateCertificateCert"] {
            assert!(found.iter().all(|secret| secret != open), "{open}");
        }
    }

    #[test]
    fn secrets_of_a_file_that_is_no_yaml_any_more_are_found_too() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::under(dir.path());
        let secret = "0123456789abcdef0123456789abcdef";
        write_atomic(&home.secrets_file(), format!("turn_secrets: [{secret}\n  x: '").as_bytes(), 0o600).unwrap();
        assert!(known_secrets(&home).contains(&secret.to_owned()));
    }
}
