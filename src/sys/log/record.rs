//! What one log line says, how it is written, and how it is read back. One record is one line, whatever is in it.

use std::fmt::Write as _;
use std::time::SystemTime;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::sys::clock::rfc3339;

/// How much a line matters. In order of severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    /// Every level, the most severe first.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// The level of a word, in capitals or not.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str().eq_ignore_ascii_case(word))
    }
}

/// One event, by whoever has logged it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub at: SystemTime,
    pub level: Level,
    /// The task, or the part of the daemon.
    pub task: String,
    pub message: String,
    pub fields: Vec<(String, String)>,
}

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

impl Record {
    /// The line, with its end.
    #[must_use]
    pub fn line(&self, format: Format) -> String {
        let mut line = match format {
            Format::Text => {
                let level = self.level.as_str().to_ascii_uppercase();
                format!("{} {level:>5} {}: {}", rfc3339(self.at), self.task, self.text())
            }
            Format::Json => self.json().to_string(),
        };
        line.push('\n');
        line
    }

    /// Message and fields as people read them, without a line break.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = flat(&self.message);
        for (name, value) in &self.fields {
            // Writing to a string cannot fail.
            let _ = match is_plain(value) {
                true => write!(text, " {name}={value}"),
                false => write!(text, " {name}={value:?}"),
            };
        }
        text
    }

    /// The record as a document.
    #[must_use]
    pub fn json(&self) -> Value {
        let fields: Map<String, Value> =
            self.fields.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
        json!({
            "at": rfc3339(self.at),
            "level": self.level.as_str(),
            "task": self.task,
            "message": self.message,
            "fields": fields,
        })
    }

    /// Reads a line in either format. The fields of text stay part of the message. `None`: it is no line of ours.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        if line.starts_with('{') { Self::parse_json(line) } else { Self::parse_text(line) }
    }

    fn parse_text(line: &str) -> Option<Self> {
        let (at, rest) = line.split_once(' ')?;
        let (level, rest) = rest.trim_start().split_once(' ')?;
        let (task, message) = rest.split_once(": ").or_else(|| Some((rest.strip_suffix(':')?, "")))?;
        let (level, task, message) = (Level::parse(level)?, task.to_owned(), message.trim_end().to_owned());
        Some(Self { at: moment(at)?, level, task, message, fields: Vec::new() })
    }

    fn parse_json(line: &str) -> Option<Self> {
        let document: Value = serde_json::from_str(line).ok()?;
        let text = |key: &str| document[key].as_str();
        let fields = document["fields"].as_object().into_iter().flatten();
        let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some(Self {
            at: moment(text("at")?)?,
            level: Level::parse(text("level")?)?,
            task: text("task")?.to_owned(),
            message: text("message")?.to_owned(),
            fields: fields.map(|(name, value)| (name.clone(), word(value))).collect(),
        })
    }
}

/// A moment as RFC 3339 writes it.
#[must_use]
pub fn moment(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from)
}

/// The part of the daemon that a thread belongs to, by its name: workers have a number at the end.
#[must_use]
pub fn part(thread: Option<&str>) -> &str {
    match thread {
        Some("main") | None => "daemon",
        Some(name) => name.trim_end_matches(|symbol: char| symbol.is_ascii_digit()).trim_end_matches('-'),
    }
}

fn is_plain(value: &str) -> bool {
    !value.is_empty() && value.chars().all(|symbol| !symbol.is_whitespace() && !symbol.is_control() && symbol != '"')
}

/// On one line, and without anything that would move a terminal's cursor.
fn flat(text: &str) -> String {
    let mut flat = String::with_capacity(text.len());
    for symbol in text.chars() {
        if symbol.is_control() { flat.extend(symbol.escape_debug()) } else { flat.push(symbol) }
    }
    flat
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn record() -> Record {
        Record {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            level: Level::Warn,
            task: "web".to_owned(),
            message: "it\nbroke: 你好".to_owned(),
            fields: vec![("cause".to_owned(), "no \"room\"".to_owned()), ("port".to_owned(), "443".to_owned())],
        }
    }

    #[test]
    fn a_record_is_one_line_in_either_format_and_is_read_back() {
        let text = record().line(Format::Text);
        assert_eq!(text, "2023-11-14T22:13:20.123Z  WARN web: it\\nbroke: 你好 cause=\"no \\\"room\\\"\" port=443\n");
        let read = Record::parse(&text).unwrap();
        assert_eq!((read.at, read.level, read.task.as_str()), (record().at, Level::Warn, "web"));
        assert_eq!(read.text(), record().text());
        let json = record().line(Format::Json);
        assert_eq!(json.matches('\n').count(), 1);
        assert_eq!(Record::parse(json.trim_end()), Some(record()));
    }

    #[test]
    fn what_is_no_line_of_ours_is_told_apart() {
        for line in ["", "thread 'main' panicked at", "{\"at\":1}", "2023-11-14T22:13:20Z", "{", "a b c: d"] {
            assert_eq!(Record::parse(line), None, "{line}");
        }
        assert!(Record::parse("2023-11-14T22:13:20Z INFO web:").is_some());
    }

    #[test]
    fn threads_of_a_task_count_as_that_task() {
        let names = [Some("turn-12"), Some("turn"), Some("control-client"), Some("main"), None];
        assert_eq!(names.map(part), ["turn", "turn", "control-client", "daemon", "daemon"]);
    }
}
