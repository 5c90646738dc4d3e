//! Carries texts from one process of this program to another within JSON documents.
//!
//! Documents are in English, also those between daemon and command. So that the command can say in its own language what
//! the daemon has to say, a line has `words` beside: the form and the values of each text in it, by its English. Who does
//! not know of them, a script or another version, reads the document as ever.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Error, Value};

use super::Text;
use super::text::Carried;

/// The field of a line that has the words of the others.
const FIELD: &str = "words";

type Words = BTreeMap<String, Carried>;

thread_local! {
    /// What was written by this thread since it began with a line.
    static WRITTEN: RefCell<Option<Words>> = const { RefCell::new(None) };
    /// What the line says that this thread reads.
    static READ: RefCell<Words> = const { RefCell::new(Words::new()) };
}

/// One line with a document and its words.
///
/// # Errors
/// If the document is none that JSON has a form for.
pub fn to_line(document: &impl Serialize) -> Result<Vec<u8>, Error> {
    WRITTEN.set(Some(Words::new()));
    let document = serde_json::to_value(document);
    let words = WRITTEN.take().unwrap_or_default();
    let mut document = document?;
    if let Value::Object(fields) = &mut document
        && !words.is_empty()
    {
        fields.insert(FIELD.to_owned(), serde_json::to_value(words)?);
    }
    let mut line = serde_json::to_vec(&document)?;
    line.push(b'\n');
    Ok(line)
}

/// Reads such a line, or one without words.
///
/// # Errors
/// If it is not such a document.
pub fn from_line<T: DeserializeOwned>(line: &[u8]) -> Result<T, Error> {
    let mut document: Value = serde_json::from_slice(line)?;
    let words = document.as_object_mut().and_then(|fields| fields.remove(FIELD));
    // Words that are strange leave the document in English.
    READ.set(words.and_then(|words| serde_json::from_value(words).ok()).unwrap_or_default());
    let read = serde_json::from_value(document);
    READ.take();
    read
}

/// Documents are in English.
impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        WRITTEN.with_borrow_mut(|written| {
            if let (Some(written), said @ Carried::Said(..)) = (written.as_mut(), self.carried()) {
                written.insert(self.english().to_owned(), said);
            }
        });
        serializer.serialize_str(self.english())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let english = String::deserialize(deserializer).map_err(D::Error::custom)?;
        let carried = READ.with_borrow(|read| read.get(&english).cloned());
        // What says something else in English than the document is not what it is about.
        let text = carried.map(Self::from).filter(|text| text.english() == english);
        Ok(text.unwrap_or_else(|| Self::verbatim(english)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;
    use crate::words::Lang;

    #[test]
    fn a_text_is_said_in_chinese_at_the_other_end_and_the_document_is_english() {
        let sent = vec![text!("edit `{}` by hand", "a"), Text::verbatim("x")];
        let document = BTreeMap::from([("texts", sent)]);
        let line = to_line(&document).unwrap();
        let plain: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(plain["texts"], serde_json::json!(["edit `a` by hand", "x"]));
        assert_eq!(serde_json::to_value(&document).unwrap()["texts"], plain["texts"], "no words but in a line");
        let read: BTreeMap<String, Vec<Text>> = from_line(&line).unwrap();
        assert_eq!(read["texts"][0].say(Lang::Zh), "请手工编辑 `a`");
        assert_eq!(read["texts"][1].say(Lang::Zh), "x");
    }

    #[test]
    fn lines_without_words_or_with_strange_ones_are_read_in_english() {
        for line in [
            r#"{"a":"edit `a` by hand"}"#,
            r#"{"a":"edit `a` by hand","words":7}"#,
            r#"{"a":"edit `a` by hand","words":{"edit `a` by hand":["edit `{}` by hand",["b"]]}}"#,
        ] {
            let read: BTreeMap<String, Text> = from_line(line.as_bytes()).unwrap();
            assert_eq!(read["a"].say(Lang::Zh), "edit `a` by hand");
        }
    }
}
