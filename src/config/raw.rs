//! The YAML as written, read key by key: types, unknown and duplicate keys, each complaint with its path and line.
//!
//! A section remembers the keys it was asked for, so what is unknown follows from what is read, and nothing is listed
//! twice.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::lines::{Complaint, Entry, Node, Value};
use crate::text;
use crate::words::Text;

/// Collects complaints, and the lines of the keys that were written.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub complaints: Vec<Complaint>,
    /// Key path to line, for keys that stand in the file with a value.
    pub lines: BTreeMap<String, usize>,
    /// Every key path that was asked for.
    pub keys: Vec<String>,
    /// Values are not to be quoted.
    holds_secrets: bool,
}

/// One mapping of the file.
#[derive(Debug)]
pub(super) struct Section<'a> {
    path: String,
    entries: &'a [Entry],
    asked: Vec<&'static str>,
}

/// One value of the file.
#[derive(Debug, Clone)]
pub(super) struct Field<'a> {
    pub path: String,
    pub line: usize,
    node: &'a Node,
}

impl Reader {
    /// A reader that quotes no value.
    pub(super) fn of_secrets() -> Self {
        Self { holds_secrets: true, ..Self::default() }
    }

    pub(super) fn complain(&mut self, line: usize, path: &str, text: Text) {
        self.complaints.push(Complaint { line, path: path.to_owned(), text });
    }

    /// Of a value that is something else than is wanted.
    fn complain_of(&mut self, line: usize, path: &str, wanted: Text, node: &Node) {
        let text = if self.holds_secrets { wanted } else { text!("{}, not {}", wanted, describe(node)) };
        self.complain(line, path, text);
    }

    /// The document itself.
    pub(super) fn root<'a>(&mut self, node: &'a Node) -> Section<'a> {
        self.open(String::new(), node.line, node)
    }

    fn open<'a>(&mut self, path: String, line: usize, node: &'a Node) -> Section<'a> {
        let entries: &[Entry] = match &node.value {
            Value::Map(entries) => entries,
            Value::Scalar { .. } | Value::List(_) => {
                if !is_nothing(node) {
                    let wanted = match path.is_empty() {
                        true => text!("the file must be keys with values"),
                        false => text!("must be keys with values"),
                    };
                    self.complain_of(line, &path, wanted, node);
                }
                &[]
            }
        };
        let mut first_lines: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in entries {
            if let Some(first) = first_lines.get(entry.key.as_str()) {
                self.complain(entry.line, &join(&path, &entry.key), text!("is already set on line {}", first));
            } else {
                first_lines.insert(&entry.key, entry.line);
            }
        }
        Section { path, entries, asked: Vec::new() }
    }

    /// A mapping below another; empty if absent.
    pub(super) fn section<'a>(&mut self, parent: &mut Section<'a>, key: &'static str) -> Section<'a> {
        parent.asked.push(key);
        let path = join(&parent.path, key);
        match parent.entries.iter().find(|entry| entry.key == key) {
            Some(entry) => self.open(path, entry.line, &entry.value),
            None => Section { path, entries: &[], asked: Vec::new() },
        }
    }

    /// The value of a key; `None` if absent or empty.
    pub(super) fn field<'a>(&mut self, section: &mut Section<'a>, key: &'static str) -> Option<Field<'a>> {
        section.asked.push(key);
        let path = join(&section.path, key);
        self.keys.push(path.clone());
        let entry = section.entries.iter().find(|entry| entry.key == key)?;
        if is_nothing(&entry.value) {
            return None;
        }
        self.lines.insert(path.clone(), entry.line);
        Some(Field { path, line: entry.line, node: &entry.value })
    }

    /// Complains about the keys nobody asked for.
    pub(super) fn close(&mut self, section: Section<'_>) {
        for entry in section.entries.iter().filter(|entry| !section.asked.contains(&entry.key.as_str())) {
            let near = section
                .asked
                .iter()
                .map(|key| (strsim::damerau_levenshtein(key, &entry.key), key))
                .min()
                .filter(|(distance, key)| *distance <= 1 + key.len() / 4);
            let text = match near {
                Some((_, key)) => text!("unknown key; did you mean `{}`?", join(&section.path, key)),
                None => text!("unknown key; known here: {}", section.asked.join(", ")),
            };
            self.complain(entry.line, &join(&section.path, &entry.key), text);
        }
    }

    /// A whole number within `range`.
    pub(super) fn number(&mut self, field: &Field<'_>, range: RangeInclusive<u64>) -> Option<u64> {
        let (low, high) = (*range.start(), *range.end());
        let number = match typed(field.node) {
            Some(serde_yaml::Value::Number(number)) => number.as_u64(),
            _ => None,
        };
        let found = number.filter(|number| range.contains(number));
        if found.is_none() {
            let wanted = text!("must be a whole number from {} to {}", low, high);
            self.complain_of(field.line, &field.path, wanted, field.node);
        }
        found
    }

    /// One word of several.
    pub(super) fn choice<T: Copy>(&mut self, field: &Field<'_>, words: &[(&str, T)]) -> Option<T> {
        let found = scalar(field.node).and_then(|text| words.iter().find(|(word, _)| *word == text));
        if found.is_none() {
            let known = words.iter().map(|(word, _)| Text::verbatim(format!("`{word}`")));
            let wanted = text!("must be {}", Text::choice(known));
            self.complain_of(field.line, &field.path, wanted, field.node);
        }
        found.map(|(_, value)| *value)
    }

    /// Text, quoted or not.
    pub(super) fn text<'a>(&mut self, field: &Field<'a>) -> Option<&'a str> {
        let text = scalar(field.node);
        if text.is_none() {
            self.complain_of(field.line, &field.path, text!("must be text"), field.node);
        }
        text
    }

    /// Something that is written as text and has a form; `form` says which.
    pub(super) fn parsed<T: FromStr>(&mut self, field: &Field<'_>, form: &Text) -> Option<T> {
        let parsed = scalar(field.node).and_then(|text| text.parse().ok());
        if parsed.is_none() {
            self.complain_of(field.line, &field.path, text!("must be {}", form), field.node);
        }
        parsed
    }

    /// The members of a list; a value alone is a list of one.
    pub(super) fn list<'a>(&mut self, field: &Field<'a>) -> Vec<Field<'a>> {
        let member = |node: &'a Node| Field { path: field.path.clone(), line: node.line, node };
        match &field.node.value {
            Value::List(items) => items.iter().map(member).collect(),
            Value::Scalar { .. } => vec![member(field.node)],
            Value::Map(_) => {
                self.complain_of(field.line, &field.path, text!("must be a list"), field.node);
                Vec::new()
            }
        }
    }

    /// The keys of a mapping with their values, for keys that the operator chooses. Repetition is a complaint.
    pub(super) fn pairs<'a>(&mut self, field: &Field<'a>) -> Vec<(&'a str, Field<'a>)> {
        let section = self.open(field.path.clone(), field.line, field.node);
        let pair = |entry: &'a Entry| {
            (entry.key.as_str(), Field { path: field.path.clone(), line: entry.line, node: &entry.value })
        };
        section.entries.iter().map(pair).collect()
    }
}

impl Field<'_> {
    /// Whether the value is this very word.
    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(&self.node.value, Value::Scalar { text, .. } if text == word)
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn scalar(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, .. } if !is_nothing(node) => Some(text),
        Value::Scalar { .. } | Value::List(_) | Value::Map(_) => None,
    }
}

/// What a scalar without quotes means by the rules of YAML.
fn typed(node: &Node) -> Option<serde_yaml::Value> {
    match &node.value {
        Value::Scalar { text, plain: true } => serde_yaml::from_str(text).ok(),
        Value::Scalar { text, plain: false } => Some(serde_yaml::Value::String(text.clone())),
        Value::List(_) | Value::Map(_) => None,
    }
}

fn is_nothing(node: &Node) -> bool {
    matches!(&node.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
}

/// The value as a complaint quotes it: short, and on one line.
fn describe(node: &Node) -> Text {
    match &node.value {
        Value::Scalar { text, plain } => {
            let mut short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
            if text.chars().count() > 60 {
                short.push_str("...");
            }
            if *plain { text!("`{}`", short) } else { text!("the text `{}`", short) }
        }
        Value::List(_) => text!("a list"),
        Value::Map(_) => text!("keys with values"),
    }
}
