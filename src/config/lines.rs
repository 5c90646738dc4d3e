//! YAML text to a tree whose every node knows its line, so that a complaint can point at the line it is about.
//!
//! Only what a configuration needs: one document of mappings, lists and scalars. Anchors and aliases are refused, which
//! also keeps a small file from unfolding into a large one. What a scalar means is decided by `raw`.

use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};

use crate::text;
use crate::words::Text;

/// How deep a document may nest. Ours needs three levels.
const MAX_DEPTH: usize = 16;

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    /// Counted from one; zero if the complaint is about something that is not in the file.
    pub line: usize,
    /// The key path, for example `turn.relay_ports`; empty for the document as a whole.
    pub path: String,
    pub text: Text,
}

impl Complaint {
    /// What is wrong, behind where it is.
    #[must_use]
    pub fn told(&self) -> Text {
        let Self { line, path, text } = self;
        match (*line > 0, !path.is_empty()) {
            (true, true) => text!("line {}: {}: {}", line, path, text),
            (true, false) => text!("line {}: {}", line, text),
            (false, true) => text!("{}: {}", path, text),
            (false, false) => text.clone(),
        }
    }
}

/// In English.
impl std::fmt::Display for Complaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.told().english())
    }
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub line: usize,
    /// Where it is written, in characters from the start of the text.
    pub span: Range<usize>,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Scalar {
        text: String,
        /// Written without quotes and tag: may mean a number, a truth value or nothing.
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a mapping. Duplicates are kept, for the reader to complain about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub key: String,
    pub line: usize,
    pub value: Node,
}

/// Parses one document.
///
/// # Errors
/// A complaint with line and column where the text is not YAML, or not the part of YAML that is read here.
pub(super) fn parse(text: &str) -> Result<Node, Complaint> {
    let mut stream = Stream { parser: Parser::new_from_str(text) };
    let mut root = None;
    loop {
        let (event, span) = stream.next()?;
        match event {
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            Event::StreamEnd => break,
            Event::Alias(_)
            | Event::Scalar(..)
            | Event::SequenceStart(..)
            | Event::SequenceEnd
            | Event::MappingStart(..)
            | Event::MappingEnd => {
                if root.is_some() {
                    return Err(at(&span, text!("a second document starts here; the file must be one document")));
                }
                root = Some(stream.node(event, &span, 0)?);
            }
        }
    }
    // A file of comments alone is a document without keys.
    Ok(root.unwrap_or(Node { line: 1, span: 0..0, value: Value::Map(Vec::new()) }))
}

struct Stream<'a> {
    parser: Parser<'a, StrInput<'a>>,
}

impl<'a> Stream<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Complaint> {
        match self.parser.next_event() {
            Some(Ok(pair)) => Ok(pair),
            Some(Err(error)) => Err(Complaint {
                line: error.marker().line(),
                path: String::new(),
                text: text!("column {}: this is not YAML: {}", error.marker().col() + 1, error.info()),
            }),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<Node, Complaint> {
        if depth > MAX_DEPTH {
            return Err(at(span, text!("nested too deeply")));
        }
        let line = span.start.line();
        let start = span.start.index();
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse_anchor(anchor, span)?;
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let value = Value::Scalar { text: text.into_owned(), plain };
                Ok(Node { line, span: start..span.end.index(), value })
            }
            Event::SequenceStart(anchor, _) => {
                refuse_anchor(anchor, span)?;
                let mut items: Vec<Node> = Vec::new();
                loop {
                    let (event, span) = self.next()?;
                    if event == Event::SequenceEnd {
                        let end = end_of(&span, items.last().map(|item| item.span.end), start);
                        return Ok(Node { line, span: start..end, value: Value::List(items) });
                    }
                    items.push(self.node(event, &span, depth + 1)?);
                }
            }
            Event::MappingStart(anchor, _) => {
                refuse_anchor(anchor, span)?;
                let mut entries: Vec<Entry> = Vec::new();
                loop {
                    let (event, span) = self.next()?;
                    if event == Event::MappingEnd {
                        let end = end_of(&span, entries.last().map(|entry| entry.value.span.end), start);
                        return Ok(Node { line, span: start..end, value: Value::Map(entries) });
                    }
                    let Event::Scalar(key, _, anchor, _) = event else {
                        return Err(at(&span, text!("a key must be a plain word")));
                    };
                    refuse_anchor(anchor, &span)?;
                    let key_line = span.start.line();
                    let (event, value_span) = self.next()?;
                    let value = self.node(event, &value_span, depth + 1)?;
                    entries.push(Entry { key: key.into_owned(), line: key_line, value });
                }
            }
            Event::Alias(_) => Err(at(span, text!("anchors and aliases are not supported; write the value out"))),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => Err(at(span, text!("a value is missing here"))),
        }
    }
}

/// Where a collection ends: at its bracket, or, written as a block, with its last member.
fn end_of(span: &Span, last: Option<usize>, start: usize) -> usize {
    // The span of a bracket reaches to the next token, comments included.
    if span.is_empty() { last.unwrap_or(start) } else { span.start.index() + 1 }
}

fn refuse_anchor(anchor: usize, span: &Span) -> Result<(), Complaint> {
    if anchor == 0 {
        Ok(())
    } else {
        Err(at(span, text!("anchors and aliases are not supported; write the value out")))
    }
}

fn at(span: &Span, text: Text) -> Complaint {
    let text = text!("column {}: {}", span.start.col() + 1, text);
    Complaint { line: span.start.line(), path: String::new(), text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_knows_its_line() {
        let root = parse("# comment\na: 1\n\nb:\n  - x\n  - [y,\n     z]\n").unwrap();
        let Value::Map(entries) = root.value else { panic!("a mapping") };
        assert_eq!(
            entries.iter().map(|entry| (entry.key.as_str(), entry.line)).collect::<Vec<_>>(),
            [("a", 2), ("b", 4)]
        );
        let Value::List(items) = &entries[1].value.value else { panic!("a list") };
        assert_eq!(items.iter().map(|item| item.line).collect::<Vec<_>>(), [5, 6]);
    }

    #[test]
    fn what_is_not_yaml_is_located() {
        let complaint = parse("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
        assert!(complaint.line >= 2, "{complaint}");
        assert!(complaint.text.starts_with("column "), "{complaint}");
    }

    #[test]
    fn anchors_second_documents_and_deep_nesting_are_refused() {
        assert_eq!(parse("a: &x 1\nb: *x\n").unwrap_err().line, 1);
        assert_eq!(parse("a: 1\n---\nb: 2\n").unwrap_err().line, 3);
        let deep = "[".repeat(100_000);
        assert!(parse(&deep).is_err());
        let closed = format!("a: {}{}", "[".repeat(40), "]".repeat(40));
        assert!(parse(&closed).unwrap_err().text.contains("nested too deeply"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[-a-z:#&*\\[\\]{}'\"|>!%@ \\t\\n0-9,?~]{0,200}") {
            let _ = parse(&text);
        }
    }
}
