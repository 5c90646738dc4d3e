//! `secrets.yaml`: read with complaints that never quote a value, and written.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;

use super::edit::set_value;
use super::lines::{self, Complaint};
use super::raw::{Reader, Section};
use super::{Secret, Secrets};
use crate::error::Failure;
use crate::sys::clock::rfc3339_seconds;
use crate::sys::log::record::moment;
use crate::text;
use crate::words::Text;

/// Hexadecimal digits of 128 bits.
const MIN_HEX_DIGITS: usize = 32;
/// Characters of 128 bits in Base64, for secrets that are not hexadecimal.
const MIN_OTHER_CHARACTERS: usize = 22;
/// Characters of a user's password. Whoever hears one sign-in can try passwords at leisure, so more is better.
const MIN_PASSWORD: usize = 8;
/// Bytes of a user's name and of its password; a STUN name may have 508, see RFC 8489, section 14.3.
const MAX_USER: usize = 128;
/// The keys of the file, which alone are named in complaints.
const KEYS: [&str; 6] =
    ["turn_secrets", "turn_old_secrets_until", "turn_users", "acme_eab", "metrics_token", "access_key"];
/// Five bits of an access key each: what people can read out and type, and no link escapes.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Characters of an access key: 130 bits.
const ACCESS_KEY: usize = 26;
/// Bytes of a secret for TURN.
const TURN_SECRET: usize = 32;
/// What is written above the key in the file.
const ACCESS_KEY_WORDS: &str = "\
# The key in invite links, for callers where `access` is key. `rtcctl invite` shows the link, and with --new-key it
# makes another one, which ends every session of the old one.
";

/// Resolves the text of `secrets.yaml`. The characters of a secret are its bytes, as coturn has it.
///
/// # Errors
/// Every complaint; none holds a value of the file.
pub(super) fn resolve(text: &str) -> Result<Secrets, Vec<Complaint>> {
    let document = lines::parse(text).map_err(|mut complaint| {
        // What the parser says may quote the text.
        complaint.text = text!("this is not YAML of the form `turn_secrets: [...]`");
        vec![complaint]
    })?;
    let mut reader = Reader::of_secrets();
    let mut root = reader.root(&document);
    let mut turn = Vec::new();
    match reader.field(&mut root, "turn_secrets") {
        None => reader.complain(0, "turn_secrets", text!("is missing")),
        Some(field) => {
            let members = reader.list(&field);
            if members.is_empty() {
                reader.complain(field.line, "turn_secrets", text!("must have at least one secret"));
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
    let turn_old_until = reader.field(&mut root, "turn_old_secrets_until").and_then(|field| {
        let at = moment(reader.text(&field)?);
        if at.is_none() {
            reader.complain(field.line, "turn_old_secrets_until", text!("must be a moment like 2026-11-25T19:00:00Z"));
        }
        at
    });
    let turn_users = read_users(&mut reader, &mut root);
    let acme_bindings = read_bindings(&mut reader, &mut root);
    let metrics_token = reader.field(&mut root, "metrics_token").and_then(|field| {
        let token = reader.text(&field)?;
        if let Some(weakness) = weakness(token) {
            reader.complain(field.line, "metrics_token", weakness);
        }
        Some(Secret::new(token.as_bytes().to_vec()))
    });
    let access_key = reader.field(&mut root, "access_key").and_then(|field| {
        let key = reader.text(&field)?;
        if let Some(fault) = weakness(key).or_else(|| access_key_fault(key)) {
            reader.complain(field.line, "access_key", fault);
        }
        Some(Secret::new(key.as_bytes().to_vec()))
    });
    reader.close(root);
    if reader.complaints.is_empty() {
        return Ok(Secrets { turn, turn_old_until, turn_users, acme_bindings, metrics_token, access_key });
    }
    for complaint in &mut reader.complaints {
        // A secret that slipped to the front of a line is a key now.
        if !KEYS.contains(&complaint.path.as_str()) {
            // What is set twice below `turn_users` is a name, or a password that slipped.
            complaint.path =
                complaint.path.split('.').next().filter(|head| KEYS.contains(head)).unwrap_or("").to_owned();
        }
    }
    Err(reader.complaints)
}

fn read_users(reader: &mut Reader, root: &mut Section<'_>) -> BTreeMap<String, Secret> {
    let mut users = BTreeMap::new();
    let Some(field) = reader.field(root, "turn_users") else { return users };
    for (name, member) in reader.pairs(&field) {
        if let Some(fault) = name_fault(name) {
            reader.complain(member.line, "turn_users", fault);
        }
        let Some(password) = reader.text(&member) else { continue };
        if let Some(fault) = password_fault(password) {
            reader.complain(member.line, "turn_users", fault);
        }
        users.insert(name.to_owned(), Secret::new(password.as_bytes().to_vec()));
    }
    users
}

/// `acme_eab`: by authority, `key id:key` as the authority gives them.
fn read_bindings(reader: &mut Reader, root: &mut Section<'_>) -> BTreeMap<String, (String, Secret)> {
    let mut bindings = BTreeMap::new();
    let Some(field) = reader.field(root, "acme_eab") else { return bindings };
    for (authority, member) in reader.pairs(&field) {
        let Some(text) = reader.text(&member) else { continue };
        match text.rsplit_once(':') {
            Some((id, key)) if !id.is_empty() && !key.is_empty() => {
                bindings.insert(authority.to_owned(), (id.to_owned(), Secret::new(key.as_bytes().to_vec())));
            }
            Some(_) | None => {
                reader.complain(
                    member.line,
                    "acme_eab",
                    text!("must be the key id, a colon and the key, for each authority"),
                );
            }
        }
    }
    bindings
}

fn name_fault(name: &str) -> Option<Text> {
    let before_colon = name.split(':').next().unwrap_or_default();
    if !(1..=MAX_USER).contains(&name.len()) {
        Some(text!("a user's name must have 1 to {} bytes", MAX_USER))
    } else if has_odd_edges(name) {
        Some(text!("a user's name must have no line breaks, and no spaces at its ends"))
    } else if before_colon.bytes().all(|byte| byte.is_ascii_digit()) && !before_colon.is_empty() {
        Some(text!("a user's name must not start like `1700000000:`, which is how time-limited names look"))
    } else {
        None
    }
}

fn password_fault(password: &str) -> Option<Text> {
    if password.chars().count() < MIN_PASSWORD {
        Some(text!("a user's password must have at least {} characters", MIN_PASSWORD))
    } else if password.len() > MAX_USER {
        Some(text!("a user's password must have at most {} bytes", MAX_USER))
    } else if has_odd_edges(password) {
        Some(text!("a user's password must have no line breaks, and no spaces at its ends"))
    } else {
        None
    }
}

fn has_odd_edges(text: &str) -> bool {
    text.chars().any(char::is_control) || text.trim() != text
}

fn weakness(secret: &str) -> Option<Text> {
    let is_hex = secret.bytes().all(|byte| byte.is_ascii_hexdigit());
    let wanted = if is_hex { MIN_HEX_DIGITS } else { MIN_OTHER_CHARACTERS };
    if secret.chars().any(|symbol| symbol.is_control() || symbol.is_whitespace()) {
        Some(text!("a secret must not contain spaces or line breaks"))
    } else if secret.chars().count() < wanted {
        Some(text!(
            "a secret has fewer than 128 bits: write at least {} characters, best `openssl rand -hex 32`",
            wanted
        ))
    } else {
        None
    }
}

/// It stands in links as it is.
fn access_key_fault(key: &str) -> Option<Text> {
    let fits = |symbol: char| symbol.is_ascii_alphanumeric() || matches!(symbol, '-' | '.' | '_' | '~');
    (key.len() > MAX_USER || !key.chars().all(fits)).then(|| {
        text!(
            "an access key has at most {} characters, of A-Z a-z 0-9 - . _ ~; make one by `rtcctl invite --new-key`",
            MAX_USER
        )
    })
}

/// A key of 130 bits from the operating system.
///
/// # Errors
/// If it gives none.
pub fn new_access_key() -> Result<Secret, Failure> {
    let mut bytes = [0_u8; ACCESS_KEY];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Failure::operator(text!("the operating system gives no random numbers")))?;
    Ok(Secret::new(bytes.iter().map(|byte| ALPHABET[usize::from(byte % 32)]).collect()))
}

/// The text of a `secrets.yaml` with another access key; everything else stays as it is written.
///
/// `None` if the file is written in a form in which that is not possible.
#[must_use]
pub fn with_access_key(text: &str, key: &Secret) -> Option<String> {
    let before = resolve(text).ok()?;
    let word = String::from_utf8_lossy(key.expose());
    let changed = match before.access_key {
        Some(_) => set_value(text, "access_key", &format!("{word:?}"))?,
        None => {
            // What `init` writes where there is none.
            let text = text.replace(&format!("{ACCESS_KEY_WORDS}#access_key:\n"), "");
            format!("{}\n{ACCESS_KEY_WORDS}access_key: {word:?}\n", text.trim_end_matches('\n'))
        }
    };
    let wanted = Secrets { access_key: Some(key.clone()), ..before };
    (resolve(&changed).ok()? == wanted).then_some(changed)
}

/// A secret for TURN of 256 bits from the operating system.
///
/// # Errors
/// If it gives none.
pub fn new_turn_secret() -> Result<Secret, Failure> {
    let mut bytes = [0_u8; TURN_SECRET];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Failure::operator(text!("the operating system gives no random numbers")))?;
    Ok(Secret::new(bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()))
}

/// Until when all but the first secret of a `secrets.yaml` verify, if it says so.
#[must_use]
pub fn old_turn_secrets_until(text: &str) -> Option<SystemTime> {
    resolve(text).ok()?.turn_old_until
}

/// The text of a `secrets.yaml` whose TURN credentials are issued by `secret` from now on, while the secrets that are
/// good now stay so until `old_until`, or longer if that was said before; everything else stays as it is written.
/// Without `old_until`, they are left out.
///
/// `None` if the file is written in a form in which that is not possible.
#[must_use]
pub fn with_turn_secret(text: &str, secret: &Secret, old_until: Option<SystemTime>, now: SystemTime) -> Option<String> {
    let before = resolve(text).ok()?;
    let is_over = before.turn_old_until.is_some_and(|until| until <= now);
    let good = if is_over { &before.turn[..1] } else { &before.turn[..] };
    let old = if old_until.is_some() { good } else { &[] };
    // What was promised to an older one holds.
    let until = old_until.map(|until| before.turn_old_until.map_or(until, |promised| promised.max(until)));
    let turn: Vec<Secret> = std::iter::once(secret).chain(old).cloned().collect();
    let word = |secret: &Secret| format!("{:?}", String::from_utf8_lossy(secret.expose()));
    let list = turn.iter().map(word).collect::<Vec<_>>().join(", ");
    let changed = set_value(text, "turn_secrets", &format!("[{list}]"))?;
    let changed = match (until, before.turn_old_until) {
        (None, None) => changed,
        (until, _) => {
            let word = until.map_or_else(|| "null".to_owned(), rfc3339_seconds);
            set_value(&changed, "turn_old_secrets_until", &word)?
        }
    };
    // The file has whole seconds.
    let turn_old_until = until.and_then(|until| moment(&rfc3339_seconds(until)));
    let wanted = Secrets { turn, turn_old_until, ..before };
    (resolve(&changed).ok()? == wanted).then_some(changed)
}

/// The text of a `secrets.yaml` with these secrets.
#[must_use]
pub fn render_secrets(secrets: &Secrets) -> String {
    #[derive(Serialize)]
    struct Turn {
        turn_secrets: Vec<String>,
    }
    #[derive(Serialize)]
    struct Users {
        turn_users: BTreeMap<String, String>,
    }
    #[derive(Serialize)]
    struct Bindings {
        acme_eab: BTreeMap<String, String>,
    }
    #[derive(Serialize)]
    struct Metrics {
        metrics_token: String,
    }
    #[derive(Serialize)]
    struct Key {
        access_key: String,
    }
    let text = |secret: &Secret| String::from_utf8_lossy(secret.expose()).into_owned();
    let mut turn = yaml(&Turn { turn_secrets: secrets.turn.iter().map(text).collect() });
    if let Some(until) = secrets.turn_old_until {
        turn.push_str(&format!("turn_old_secrets_until: {}\n", rfc3339_seconds(until)));
    }
    let users: BTreeMap<String, String> =
        secrets.turn_users.iter().map(|(name, password)| (name.clone(), text(password))).collect();
    let users = if users.is_empty() {
        "#turn_users:\n#  name: password\n".to_owned()
    } else {
        yaml(&Users { turn_users: users })
    };
    let bindings: BTreeMap<String, String> =
        secrets.acme_bindings.iter().map(|(name, (id, key))| (name.clone(), format!("{id}:{}", text(key)))).collect();
    let bindings = if bindings.is_empty() {
        "#acme_eab:\n#  zerossl: KEY_ID:KEY\n".to_owned()
    } else {
        yaml(&Bindings { acme_eab: bindings })
    };
    let metrics = match &secrets.metrics_token {
        None => "#metrics_token:\n".to_owned(),
        Some(token) => yaml(&Metrics { metrics_token: text(token) }),
    };
    let access = match &secrets.access_key {
        None => "#access_key:\n".to_owned(),
        Some(key) => yaml(&Key { access_key: text(key) }),
    };
    format!(
        "# Secrets of this rtcctl. Readable by its own user alone; never print, copy or commit it.\n\
         \n\
         # The first TURN secret issues credentials, all of them verify, those behind the first until\n\
         # `turn_old_secrets_until` if that is set. `rtcctl turn rotate-secret` changes it without turning anybody away;\n\
         # by hand, put the new one first and `rtcctl reload`. A new secret: `openssl rand -hex 32`\n\
         {turn}\n\
         # TURN users with a password that does not run out, for devices that cannot ask for a credential: a name,\n\
         # then a password of at least {MIN_PASSWORD} characters; best a random one, `openssl rand -base64 18`\n\
         {users}\n\
         # Authorities for certificates that want an account elsewhere: what they call key id and HMAC key (EAB).\n\
         {bindings}\n\
         # A token by which a collector on another host may read /metrics; without one only this host may.\n\
         {metrics}\n\
         {ACCESS_KEY_WORDS}{access}"
    )
}

fn yaml(document: &impl Serialize) -> String {
    serde_yaml::to_string(document).expect("strings below one key are valid YAML")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn complaints(text: &str) -> Vec<String> {
        resolve(text).err().unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_written_is_read_again() {
        for secret in [GOOD, "0e12345678901234567890123456789012345678901234567890123456789012"] {
            let secret = || Secret::new(secret.as_bytes().to_vec());
            let users = ["alice", "0x10", "~", "on", "a: b", "#x", "it's", "müller", "- x", "x:1"];
            let passwords = [
                "12345678",
                "pass word",
                "{not: a map}",
                "'\"\\quoted",
                "nullnull",
                "1e100000",
                "#comment",
                "a: b: cc",
            ];
            let passwords = passwords.iter().cycle();
            let user =
                |(name, password): (&&str, &&str)| ((*name).to_owned(), Secret::new(password.as_bytes().to_vec()));
            let all = Secrets {
                turn: vec![secret(), secret()],
                turn_users: users.iter().zip(passwords).map(user).collect(),
                acme_bindings: BTreeMap::from([(
                    "https://ca.example:14000/dir".to_owned(),
                    ("kid-1".to_owned(), secret()),
                )]),
                metrics_token: Some(secret()),
                turn_old_until: moment("2026-11-25T19:00:00Z"),
                access_key: Some(new_access_key().unwrap()),
            };
            let bare = Secrets::of_turn(vec![secret()]);
            for secrets in [all, bare] {
                let text = render_secrets(&secrets);
                let read = resolve(&text).unwrap_or_else(|complaints| panic!("{complaints:?}\n{text}"));
                assert_eq!(read.turn, secrets.turn);
                assert_eq!(read.turn_old_until, secrets.turn_old_until);
                assert_eq!(read.turn_users, secrets.turn_users);
                assert_eq!(read.acme_bindings, secrets.acme_bindings);
                assert_eq!(read.metrics_token, secrets.metrics_token);
                assert_eq!(read.access_key, secrets.access_key);
            }
        }
    }

    #[test]
    fn users_have_names_and_passwords_that_can_work() {
        let users = |users: &str| complaints(&format!("turn_secrets: [{GOOD}]\nturn_users:\n{users}"));
        let long = "x".repeat(129);
        assert_eq!(
            users(&format!(
                "  alice: short\n  \"\": long enough\n  1700000000:bob: long enough\n  \"42\": long enough\n  {long}: {long}\n"
            )),
            [
                "line 3: turn_users: a user's password must have at least 8 characters",
                "line 4: turn_users: a user's name must have 1 to 128 bytes",
                "line 5: turn_users: a user's name must not start like `1700000000:`, which is how time-limited names look",
                "line 6: turn_users: a user's name must not start like `1700000000:`, which is how time-limited names look",
                "line 7: turn_users: a user's name must have 1 to 128 bytes",
                "line 7: turn_users: a user's password must have at most 128 bytes",
            ]
        );
        assert_eq!(
            users("  alice: long enough\n  alice: long enough\n"),
            ["line 4: turn_users: is already set on line 3"]
        );
        assert_eq!(users("  alice: [long enough]\n"), ["line 3: turn_users: must be text"]);
        assert_eq!(users("  - alice\n"), ["line 2: turn_users: must be keys with values"]);
        assert_eq!(
            complaints(&format!("turn_secrets: [{GOOD}]\nmetrics_token: secret\n")),
            [
                "line 2: metrics_token: a secret has fewer than 128 bits: write at least 22 characters, best `openssl rand -hex 32`"
            ]
        );
    }

    #[test]
    fn an_access_key_is_added_or_replaced_and_nothing_else_changes() {
        let (first, second) = (new_access_key().unwrap(), new_access_key().unwrap());
        assert!(first != second && first.expose().len() == 26);
        let written = render_secrets(&Secrets::of_turn(vec![Secret::new(GOOD.as_bytes().to_vec())]));
        let own = format!("# mine\nturn_secrets:\n  - {GOOD} # first\nturn_users: {{a: long enough}}");
        for text in [written, own] {
            let with = with_access_key(&text, &first).unwrap();
            assert_eq!(resolve(&with).unwrap().access_key.as_ref(), Some(&first));
            assert!(with.matches("access_key").count() == 1, "{with}");
            let replaced = with_access_key(&with, &second).unwrap();
            let word = |key: &Secret| String::from_utf8_lossy(key.expose()).into_owned();
            assert_eq!(replaced, with.replace(&word(&first), &word(&second)));
        }
        assert_eq!(with_access_key("turn_secrets: [short]\n", &first), None);
        assert_eq!(with_access_key(&format!("{{turn_secrets: [{GOOD}]}}\n"), &first), None);
    }

    #[test]
    fn another_turn_secret_issues_and_the_one_before_verifies_for_as_long_as_was_said() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000 + seconds);
        let [first, second, third] = [1, 2, 3].map(|_| new_turn_secret().unwrap());
        assert!(first != second && first.expose().len() == 64);
        let old = Secret::new(GOOD.as_bytes().to_vec());
        let written = render_secrets(&Secrets::of_turn(vec![old.clone()]));
        let own = format!("# mine\nturn_secrets:\n  - {GOOD} # first\nturn_users: {{a: long enough}}\n");
        for text in [written, own] {
            let text = with_turn_secret(&text, &first, Some(at(100)), at(0)).unwrap();
            let read = resolve(&text).unwrap();
            assert_eq!((read.turn, read.turn_old_until), (vec![first.clone(), old.clone()], Some(at(100))));
            // Within the grace of the one before, nobody loses what was promised.
            let again = with_turn_secret(&text, &second, Some(at(60)), at(50)).unwrap();
            let read = resolve(&again).unwrap();
            let all = vec![second.clone(), first.clone(), old.clone()];
            assert_eq!((read.turn, read.turn_old_until), (all, Some(at(100))));
            // After it, what is worthless is left out.
            let later = with_turn_secret(&again, &third, Some(at(300)), at(200)).unwrap();
            let read = resolve(&later).unwrap();
            assert_eq!((read.turn, read.turn_old_until), (vec![third.clone(), second.clone()], Some(at(300))));
            // Without a grace, so is everything.
            let none = with_turn_secret(&again, &third, None, at(50)).unwrap();
            let read = resolve(&none).unwrap();
            assert_eq!((read.turn, read.turn_old_until), (vec![third.clone()], None));
            assert!(!none.contains(GOOD), "{none}");
        }
        assert_eq!(with_turn_secret("turn_secrets: [short]\n", &first, None, at(0)), None);
        assert_eq!(
            complaints(&format!("turn_secrets: [{GOOD}]\nturn_old_secrets_until: hunter2\n")),
            ["line 2: turn_old_secrets_until: must be a moment like 2026-11-25T19:00:00Z"]
        );
    }

    #[test]
    fn an_access_key_fits_into_a_link() {
        let told = |key: &str| complaints(&format!("turn_secrets: [{GOOD}]\naccess_key: {key}\n"));
        assert_eq!(
            told("short"),
            [
                "line 2: access_key: a secret has fewer than 128 bits: write at least 22 characters, best `openssl rand -hex 32`"
            ]
        );
        for odd in ["abcdefghijklmnopqrstuvwxyz&x", "abcdefghijklmnopqrstuvwxyzé", &"x".repeat(129)] {
            assert!(told(odd)[0].contains("an access key has at most 128 characters, of A-Z"), "{odd}");
        }
    }

    #[test]
    fn a_complaint_never_quotes_a_secret() {
        for text in [
            "access_key: hunter2\n",
            "access_key: [hunter2]\n",
            "turn_secrets: [hunter2]\n",
            "turn_secrets: {hunter2: hunter2}\n",
            "turn_secrets: ['hunter2\n",
            "turn_secrets: [[hunter2]]\n",
            "hunter2\n",
            "turn_secrets:\n  - hunter2 hunter2 hunter2 hunter2\n",
            "turn_secrets: []\n",
            "",
            "turn_users: hunter2\n",
            "turn_users: [hunter2]\n",
            "turn_users: {hunter2: hunter2}\n",
            "turn_users:\n  alice: hunter2\n  hunter2: hunter2\n  hunter2: hunter2\n",
            "turn_users: {alice: {hunter2: hunter2}}\n",
            "metrics_token: hunter2\n",
            "metrics_token: [hunter2]\n",
        ] {
            let told = complaints(text).join("\n");
            assert!(!told.contains("hunter2"), "{told}");
            assert!(!told.is_empty());
        }
    }
}
