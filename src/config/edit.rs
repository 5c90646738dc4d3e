//! Changes one value of a configuration file and leaves every other character as the operator wrote it.

use super::lines::{self, Entry, Node, Value};

/// Sets the value of `path` (one or two keys) to `yaml`, one line of YAML. An absent key is added to its section.
///
/// `None` if the text is not a configuration, or is written in a form that cannot be changed a value at a time.
#[must_use]
pub fn set_value(text: &str, path: &str, yaml: &str) -> Option<String> {
    let document = lines::parse(text).ok()?;
    let (section, key) = path.split_once('.').map_or((None, path), |(section, key)| (Some(section), key));
    let Some(section) = section else { return set_in(text, &document, key, yaml, "") };
    match find(&document, section) {
        Some(entry) if matches!(entry.value.value, Value::Map(_)) => set_in(text, &entry.value, key, yaml, "  "),
        // `web:` without anything below it.
        Some(entry) => insert_below(text, entry.line, &format!("  {key}: {yaml}\n")),
        None => Some(format!("{}\n{section}:\n  {key}: {yaml}\n", text.trim_end_matches('\n'))),
    }
}

fn set_in(text: &str, map: &Node, key: &str, yaml: &str, indent: &str) -> Option<String> {
    let Value::Map(entries) = &map.value else { return None };
    let Some(entry) = find(map, key) else {
        // `{port: 1}` on one line has no place for another line.
        let opens_flow = text.chars().nth(map.span.start) == Some('{');
        return match entries.first() {
            _ if opens_flow => None,
            Some(first) => {
                insert_below(text, first.line - 1, &format!("{}{key}: {yaml}\n", indent_of(text, first.line)))
            }
            None => Some(format!("{}\n{indent}{key}: {yaml}\n", text.trim_end_matches('\n'))),
        };
    };
    let span = &entry.value.span;
    if span.is_empty() || is_absent(&entry.value) {
        // After the colon of a key without a value.
        let line = text.lines().nth(entry.line - 1)?;
        let colon = line.find(&format!("{key}:"))? + key.len() + 1;
        let start: usize = text.split_inclusive('\n').take(entry.line - 1).map(str::len).sum();
        let (head, tail) = text.split_at(start + colon);
        let tail = tail.strip_prefix(" ~").or_else(|| tail.strip_prefix(" null")).unwrap_or(tail);
        return Some(format!("{head} {yaml}{tail}"));
    }
    let byte_at = |index: usize| text.char_indices().nth(index).map_or(text.len(), |(at, _)| at);
    let start = byte_at(span.start);
    let end = end_of_quoted(text, start).unwrap_or_else(|| byte_at(span.end));
    let head = &text[..start];
    // A list in block form starts on a line of its own; its replacement stands behind the key.
    let head = if entry.value.line > entry.line { head.trim_end() } else { head };
    // The parser's span of one that is not indented begins behind its first dash.
    let is_behind_dash = entry.value.line > entry.line && head.lines().last().is_some_and(|line| line.trim() == "-");
    let head = if is_behind_dash { head.trim_end_matches('-').trim_end() } else { head };
    let gap = if head.ends_with(':') { " " } else { "" };
    Some(format!("{head}{gap}{yaml}{}", &text[end..]))
}

/// Where a value in quotes ends; the parser's span of it reaches over a comment behind it.
fn end_of_quoted(text: &str, start: usize) -> Option<usize> {
    let quote = text[start..].chars().next().filter(|symbol| matches!(symbol, '\'' | '"'))?;
    let mut escaped = false;
    for (at, symbol) in text[start..].char_indices().skip(1) {
        if symbol == quote && !escaped {
            // A doubled quote is read as the end; what is left is no YAML then, and the caller's check refuses it.
            return Some(start + at + 1);
        }
        escaped = quote == '"' && symbol == '\\' && !escaped;
    }
    None
}

fn is_absent(node: &Node) -> bool {
    matches!(&node.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
}

fn find<'a>(map: &'a Node, key: &str) -> Option<&'a Entry> {
    let Value::Map(entries) = &map.value else { return None };
    entries.iter().find(|entry| entry.key == key)
}

fn indent_of(text: &str, line: usize) -> String {
    let line = text.lines().nth(line - 1).unwrap_or_default();
    line.chars().take_while(|symbol| *symbol == ' ').collect()
}

/// Inserts whole lines behind line number `line`, counted from one.
fn insert_below(text: &str, line: usize, added: &str) -> Option<String> {
    let at: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let (head, tail) = text.split_at_checked(at)?;
    let gap = if head.is_empty() || head.ends_with('\n') { "" } else { "\n" };
    Some(format!("{head}{gap}{added}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# mine
hosts: [a.example] # ours
web: # the page
    port: 8443   # not 443
    root:
turn:
  public_ips:
    - 192.0.2.1 # first
    - 2001:db8::1
  # below
  peers: lan
";

    #[test]
    fn only_the_value_changes() {
        let changed = set_value(TEXT, "web.port", "9443").unwrap();
        assert_eq!(changed, TEXT.replace("8443 ", "9443 "));
        let changed = set_value(TEXT, "hosts", "[b.example, c.example]").unwrap();
        assert_eq!(changed, TEXT.replace("[a.example]", "[b.example, c.example]"));
        let quoted = "hosts: 'a.example'  # ours\nreach: \"lan\" # local\n";
        assert_eq!(set_value(quoted, "hosts", "[b]").unwrap(), quoted.replace("'a.example'", "[b]"));
        assert_eq!(set_value(quoted, "reach", "ip").unwrap(), quoted.replace("\"lan\"", "ip"));
        assert_eq!(set_value(TEXT, "turn.peers", "public").unwrap(), TEXT.replace("lan", "public"));
    }

    #[test]
    fn an_empty_value_is_filled_and_an_absent_key_added_to_its_section() {
        assert_eq!(set_value(TEXT, "web.root", "/srv/x").unwrap(), TEXT.replace("root:", "root: /srv/x"));
        let added = set_value(TEXT, "web.http_port", "off").unwrap();
        assert_eq!(added, TEXT.replace("    port:", "    http_port: off\n    port:"));
        assert_eq!(set_value(TEXT, "signaling.max_rate", "9").unwrap(), format!("{TEXT}signaling:\n  max_rate: 9\n"));
        assert_eq!(set_value("web:\nhosts: [a]\n", "web.port", "1").unwrap(), "web:\n  port: 1\nhosts: [a]\n");
    }

    #[test]
    fn a_list_in_block_form_becomes_one_line() {
        let changed = set_value(TEXT, "turn.public_ips", "[]").unwrap();
        assert!(changed.contains("  public_ips: []\n  # below\n  peers: lan\n"), "{changed}");
        let flat = "a:\n- one\n- two\n\n# below\nb: 1\n";
        assert_eq!(set_value(flat, "a", "[three]").unwrap(), "a: [three]\n\n# below\nb: 1\n");
    }

    #[test]
    fn a_section_on_one_line_changes_its_value_but_takes_no_new_key() {
        assert_eq!(
            set_value("web: {port: 1, http_port: 2}\n", "web.port", "3").unwrap(),
            "web: {port: 3, http_port: 2}\n"
        );
        assert_eq!(set_value("web: {port: 1}\n", "web.http_port", "3"), None);
    }
}
