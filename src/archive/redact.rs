//! Decides what of a text is left out before somebody else reads it: secrets that are known, and what looks like one.
//!
//! The known ones are what counts; the patterns are for what a later version, or an operator's own script, may write.

/// What stands in the place of what is left out.
const REDACTED: &str = "[redacted]";
/// Characters of the shortest secret that is looked for: what is shorter would be found by chance.
const MIN_SECRET: usize = 6;
/// Names whose values are left out, wherever they are written as `name=value`, `name: value` or `"name": "value"`.
const NAMES: [&str; 10] = [
    "access_key",
    "authorization",
    "cookie",
    "credential",
    "key",
    "password",
    "secret",
    "session",
    "token",
    "turn_secrets",
];
/// Characters of a TURN password: an HMAC-SHA1 in Base64.
const TURN_PASSWORD: usize = 28;
/// Characters of a session's parts, as a cookie has them: when it ends, at least; its id; its signature.
const SESSION: [usize; 3] = [10, 16, 22];

/// Leaves out what nobody else is to read.
#[derive(Clone, Default)]
pub struct Redactor {
    /// Longest first, so that one that contains another goes as a whole.
    secrets: Vec<String>,
}

impl Redactor {
    /// Knows these secrets.
    #[must_use]
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut secrets: Vec<String> = secrets.into_iter().filter(|secret| secret.len() >= MIN_SECRET).collect();
        // As they stand in JSON and in logs, where a quote or a backslash is written with another one before it.
        let escaped: Vec<String> = secrets.iter().map(|secret| secret.escape_default().to_string()).collect();
        let json = secrets.iter().filter_map(|secret| serde_json::to_string(secret).ok());
        let json: Vec<String> = json.map(|text| text.trim_matches('"').to_owned()).collect();
        secrets.extend(escaped.into_iter().chain(json).filter(|secret| secret.len() >= MIN_SECRET));
        secrets.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        secrets.dedup();
        Self { secrets }
    }

    /// The text without secrets.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), REDACTED);
            }
        }
        without_sessions(&without_keys(&text)).split_inclusive('\n').map(line).collect()
    }

    /// Whether a text has a known secret in it.
    #[must_use]
    pub fn finds_any_in(&self, bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(bytes);
        self.secrets.iter().any(|secret| text.contains(secret.as_str()))
    }
}

/// Leaves out the bodies of private keys in PEM, also where line breaks are written as `\n`.
fn without_keys(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(label) = rest.find("PRIVATE KEY-----") {
        let begin = label + "PRIVATE KEY-----".len();
        out.push_str(&rest[..begin]);
        out.push_str(REDACTED);
        // One that is cut off has no end, and nothing behind it is told from it.
        rest = rest[begin..].find("-----END").map_or("", |end| &rest[begin + end..]);
        if let Some(end) = rest.find("PRIVATE KEY-----") {
            out.push_str(&rest[..end + "PRIVATE KEY-----".len()]);
            rest = &rest[end + "PRIVATE KEY-----".len()..];
        }
    }
    out.push_str(rest);
    out
}

/// Leaves out the sessions of browsers, which no file of the home has.
fn without_sessions(text: &str) -> String {
    let [end, id, tag] = SESSION;
    let is_tag = |symbol: char| symbol.is_ascii_alphanumeric() || matches!(symbol, '-' | '_');
    let mut out = String::new();
    let mut rest = text;
    while let Some(dot) = rest.find('.') {
        let (before, behind) = (&rest[..dot], &rest[dot + 1..]);
        let digits = before.len() - before.trim_end_matches(|symbol: char| symbol.is_ascii_digit()).len();
        let signature = behind.get(id..).and_then(|signature| signature.strip_prefix('.'));
        let is_session = digits >= end
            && behind.get(..id).is_some_and(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit()))
            && signature.and_then(|signature| signature.get(..tag)).is_some_and(|tag| tag.chars().all(is_tag));
        if is_session {
            out.push_str(&before[..before.len() - digits]);
            out.push_str(REDACTED);
            rest = &behind[id + 1 + tag..];
        } else {
            out.push_str(&rest[..=dot]);
            rest = behind;
        }
    }
    out.push_str(rest);
    out
}

fn line(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((end, word_length)) = next_word(rest) {
        let (before, tail) = rest.split_at(end);
        let (word, tail) = tail.split_at(word_length);
        out.push_str(before);
        if is_turn_password(word) || word.starts_with("eyJ") && word.len() > TURN_PASSWORD {
            out.push_str(REDACTED);
            rest = tail;
            continue;
        }
        out.push_str(word);
        rest = tail;
        if NAMES.iter().any(|name| is_name(word, name))
            && let Some((mark, value)) = value_of(rest)
        {
            out.push_str(&rest[..mark]);
            out.push_str(REDACTED);
            rest = &rest[mark + value..];
        }
    }
    out.push_str(rest);
    out
}

/// Where the next run of characters of a word begins, and how long it is.
fn next_word(text: &str) -> Option<(usize, usize)> {
    let is_word = |symbol: char| symbol.is_ascii_alphanumeric() || "_-+/=".contains(symbol);
    let begin = text.find(is_word)?;
    let word = &text[begin..];
    // A sign of equality in the middle ends a name; at the end it belongs to Base64.
    let end = word.find(|symbol: char| !is_word(symbol)).unwrap_or(word.len());
    let word = &word[..end];
    let name = word.find('=').filter(|at| word[*at..].bytes().any(|byte| byte != b'='));
    Some((begin, name.filter(|at| *at > 0).unwrap_or(word.len())))
}

fn is_name(word: &str, name: &str) -> bool {
    let word = word.trim_matches(|symbol: char| !symbol.is_ascii_alphanumeric()).to_ascii_lowercase();
    word == name || word.strip_suffix(name).is_some_and(|head| head.ends_with(['_', '-']))
}

/// Where the value behind a name begins, and how long it is. `None`: none follows.
fn value_of(rest: &str) -> Option<(usize, usize)> {
    let mut at = rest.len() - rest.trim_start_matches(['"', '\'', '\\']).len();
    if !rest[at..].starts_with(['=', ':']) {
        return None;
    }
    at += 1;
    at += rest[at..].len() - rest[at..].trim_start_matches(' ').len();
    let value = &rest[at..];
    for scheme in ["Bearer ", "Basic "] {
        if value.starts_with(scheme) {
            at += scheme.len();
        }
    }
    let value = &rest[at..];
    let quote = value.chars().next().filter(|symbol| matches!(symbol, '"' | '\''));
    let (open, length) = match quote {
        Some(quote) => (1, value[1..].find(quote).unwrap_or(value.trim_end().len().saturating_sub(1))),
        None => {
            let ends = |symbol: char| symbol.is_whitespace() || ",;&}])\"'\\".contains(symbol);
            (0, value.find(ends).unwrap_or(value.len()))
        }
    };
    let value = &value[open..open + length];
    // What says that there is something, or how much, is worth keeping.
    let tells = value.is_empty() || value.len() < MIN_SECRET || value == REDACTED || value.starts_with(['[', '{']);
    (!tells).then_some((at + open, length))
}

fn is_turn_password(word: &str) -> bool {
    let body = word.strip_suffix('=').unwrap_or_default();
    word.len() == TURN_PASSWORD
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
        && body.bytes().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_secret_goes_wherever_it_stands_and_in_whatever_form() {
        let redactor =
            Redactor::new(["hunter2!".to_owned(), "say \"hi\" \\ now".to_owned(), "hunter2!longer".to_owned()]);
        let text = "a hunter2! b/hunter2!longer?x {\"v\":\"say \\\"hi\\\" \\\\ now\"}";
        let redacted = redactor.redact(text);
        assert_eq!(redacted, "a [redacted] b/[redacted]?x {\"v\":\"[redacted]\"}");
        assert!(redactor.finds_any_in(text.as_bytes()) && !redactor.finds_any_in(redacted.as_bytes()));
        let short = Redactor::new(["on".to_owned()]);
        assert_eq!(short.redact("turn is on"), "turn is on");
    }

    #[test]
    fn what_looks_like_a_secret_goes_too() {
        let redactor = Redactor::default();
        for (text, wanted) in [
            ("credential  qZBe8OtBJqQH9xdvsFQCt84doRY=\n", "credential  [redacted]\n"),
            ("Authorization: Bearer abcdefgh", "Authorization: Bearer [redacted]"),
            ("GET /api/ice?key=abcdefgh&x=1 HTTP", "GET /api/ice?key=[redacted]&x=1 HTTP"),
            ("{\"password\": \"some thing\", \"a\": 1}", "{\"password\": \"[redacted]\", \"a\": 1}"),
            ("access_key: k3v5qz6o2mhd4xw7", "access_key: [redacted]"),
            ("set-cookie: rtcctl=abcdefghi; Path=/", "set-cookie: [redacted]; Path=/"),
            (
                "a=b; __Host-rtcctl-443=1798135739.00c0ffee00c0ffee.AbCd-fGh_jKlMnOpQrStUv; x",
                "a=b; __Host-rtcctl-443=[redacted]; x",
            ),
            ("oops 1798135739.00c0ffee00c0ffee.AbCd-fGh_jKlMnOpQrStUv\n", "oops [redacted]\n"),
            ("40{\"session\":\"8a1f-secret-of-a-page\"}", "40{\"session\":\"[redacted]\"}"),
            (
                "-----BEGIN PRIVATE KEY-----\nMIIabc\n-----END PRIVATE KEY-----\nnext\n",
                "-----BEGIN PRIVATE KEY-----[redacted]-----END PRIVATE KEY-----\nnext\n",
            ),
            ("\"-----BEGIN EC PRIVATE KEY-----\\nMIIabc", "\"-----BEGIN EC PRIVATE KEY-----[redacted]"),
        ] {
            assert_eq!(redactor.redact(text), wanted);
        }
    }

    #[test]
    fn what_helps_to_find_a_fault_stays() {
        let redactor = Redactor::default();
        for text in [
            "2026-11-30T13:12:43Z INFO turn: ready relays=2000 workers=2\n",
            "\"fingerprint_sha256\": \"aa:bb:cc\", \"key\": \"\"\n",
            "turn.credential_ttl: 3600  # line 7\n",
            "the key file `/srv/x.key` is missing\n",
            "keys=hosts reloaded turn_secrets applied\n",
            "rtcctl_turn_allocations_total{outcome=\"granted\"} 5\n",
            "1798135739.5 1798135739.00c0ffee00c0ffee.short 10.0.0.1 ende.\n",
        ] {
            assert_eq!(redactor.redact(text), text);
        }
    }
}
