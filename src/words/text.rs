//! A text with values in it, in whatever language it is said in the end.
//!
//! Whoever has something to say makes a [`Text`] by [`crate::text!`]; only whoever prints asks for a language. Until then
//! it is handed on as a value: within another text, through a failure, over the control socket.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Lang, catalogue, system};

/// What is said, and the values in it. Its English form is what logs and documents have.
#[derive(Clone)]
pub struct Text(Arc<Said>);

struct Said {
    english: String,
    /// The key of the catalogue, with a place for each value.
    form: Cow<'static, str>,
    values: Vec<Value>,
}

/// What stands in the place of a `{}`.
#[derive(Debug, Clone)]
pub enum Value {
    /// The same in every language: a name, a number, a path, what another program said.
    Plain(String),
    Said(Text),
}

/// What can be a value of a text.
pub trait Worth {
    fn worth(&self) -> Value;
}

impl<T: std::fmt::Display + ?Sized> Worth for T {
    fn worth(&self) -> Value {
        Value::Plain(self.to_string())
    }
}

/// Why `Text` is not `Display`: what is printed within another text would be English for good.
impl Worth for Text {
    fn worth(&self) -> Value {
        Value::Said(self.clone())
    }
}

impl Text {
    /// Use [`crate::text!`], which the test of the catalogue finds.
    #[must_use]
    pub fn new(form: &'static str, values: Vec<Value>) -> Self {
        Self::of(Cow::Borrowed(form), values)
    }

    fn of(form: Cow<'static, str>, values: Vec<Value>) -> Self {
        let english = fill(&form, &values, Lang::En);
        Self(Arc::new(Said { english, form, values }))
    }

    /// What another program or the system said, as it is.
    #[must_use]
    pub fn verbatim(said: impl Into<String>) -> Self {
        let english = said.into();
        let values = vec![Value::Plain(english.clone())];
        Self(Arc::new(Said { form: Cow::Borrowed(crate::word!("{}")), values, english }))
    }

    /// Why the system or a library refused: what a system says most often is known in other languages, too.
    #[must_use]
    pub fn of_error(error: &(dyn std::error::Error + 'static)) -> Self {
        let said = error.to_string();
        let number = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        number.and_then(system::said).filter(|text| text.english() == said).unwrap_or_else(|| Self::verbatim(said))
    }

    #[must_use]
    pub fn say(&self, lang: Lang) -> String {
        match lang {
            Lang::En => self.0.english.clone(),
            Lang::Zh => fill(catalogue::in_chinese(&self.0.form).unwrap_or(&self.0.form), &self.0.values, lang),
        }
    }

    /// In English, as logs and documents have it.
    #[must_use]
    pub fn english(&self) -> &str {
        &self.0.english
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.english.is_empty()
    }

    /// Whether it is the same in every language, as a command is.
    #[must_use]
    pub fn is_verbatim(&self) -> bool {
        self.plain().is_some()
    }

    /// One after the other, as the members of a list.
    #[must_use]
    pub fn list(texts: impl IntoIterator<Item = Self>) -> Self {
        Self::joined(texts, |all, one| crate::text!("{}, {}", all, one))
    }

    /// One after the other, of which one holds.
    #[must_use]
    pub fn choice(texts: impl IntoIterator<Item = Self>) -> Self {
        Self::joined(texts, |all, one| crate::text!("{} or {}", all, one))
    }

    /// One after the other, all of which hold.
    #[must_use]
    pub fn both(texts: impl IntoIterator<Item = Self>) -> Self {
        Self::joined(texts, |all, one| crate::text!("{} and {}", all, one))
    }

    /// One after the other, as parts of a sentence.
    #[must_use]
    pub fn clauses(texts: impl IntoIterator<Item = Self>) -> Self {
        Self::joined(texts, |all, one| crate::text!("{}; {}", all, one))
    }

    fn joined(texts: impl IntoIterator<Item = Self>, join: fn(Self, Self) -> Self) -> Self {
        texts.into_iter().reduce(join).unwrap_or_default()
    }

    /// As it travels to another process of this program, which may be of another version.
    #[must_use]
    pub fn carried(&self) -> Carried {
        if let Some(said) = self.plain() {
            return Carried::Plain(said.to_owned());
        }
        let carried = |value: &Value| match value {
            Value::Plain(said) => Carried::Plain(said.clone()),
            Value::Said(text) => text.carried(),
        };
        Carried::Said(self.0.form.clone().into_owned(), self.0.values.iter().map(carried).collect())
    }

    /// What it says, if that is the same in every language.
    fn plain(&self) -> Option<&str> {
        match self.0.values.as_slice() {
            [Value::Plain(said)] if self.0.form == "{}" => Some(said),
            _ => None,
        }
    }
}

/// A text on its way: a form with its values, or what is the same in every language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Carried {
    Plain(String),
    Said(String, Vec<Self>),
}

impl From<Carried> for Text {
    fn from(carried: Carried) -> Self {
        match carried {
            Carried::Plain(said) => Self::verbatim(said),
            Carried::Said(form, values) => {
                let values = values.into_iter().map(|value| match value {
                    Carried::Plain(said) => Value::Plain(said),
                    said @ Carried::Said(..) => Value::Said(said.into()),
                });
                Self::of(Cow::Owned(form), values.collect())
            }
        }
    }
}

/// Texts are the same if they say the same.
impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.0.english == other.0.english
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.english.cmp(&other.0.english)
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::verbatim("")
    }
}

impl From<&Self> for Text {
    fn from(text: &Self) -> Self {
        text.clone()
    }
}

/// In English.
impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.0.english, f)
    }
}

/// Puts the values where `{}` or `{0}` stands.
fn fill(form: &str, values: &[Value], lang: Lang) -> String {
    let mut filled = String::with_capacity(form.len() + 32);
    let mut next = 0;
    let mut rest = form;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let Some((index, tail)) = after.split_once('}') else {
            filled.push('{');
            rest = after;
            continue;
        };
        let at = if index.is_empty() { next } else { index.parse().unwrap_or(usize::MAX) };
        next += 1;
        match values.get(at) {
            Some(Value::Plain(said)) => filled.push_str(said),
            Some(Value::Said(text)) => filled.push_str(&text.say(lang)),
            None => {}
        }
        rest = tail;
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;

    impl PartialEq<str> for Text {
        fn eq(&self, other: &str) -> bool {
            self.0.english == other
        }
    }

    impl PartialEq<String> for &Text {
        fn eq(&self, other: &String) -> bool {
            self.0.english == *other
        }
    }

    impl PartialEq<&str> for Text {
        fn eq(&self, other: &&str) -> bool {
            self.0.english == *other
        }
    }

    impl PartialEq<String> for Text {
        fn eq(&self, other: &String) -> bool {
            self.0.english == *other
        }
    }

    impl std::ops::Deref for Text {
        type Target = str;

        fn deref(&self) -> &str {
            self.english()
        }
    }

    /// Tests say what they please; everything else is marked.
    impl From<String> for Text {
        fn from(said: String) -> Self {
            Self::verbatim(said)
        }
    }

    /// As above.
    impl From<&str> for Text {
        fn from(said: &str) -> Self {
            Self::verbatim(said)
        }
    }

    #[test]
    fn values_come_to_their_places() {
        let text = text!("set `{}` to {} in `{}` by hand", "a", "b", "c");
        assert_eq!(text.english(), "set `a` to b in `c` by hand");
        assert_eq!(text.say(Lang::Zh), "请在 `c` 中手工把 `a` 设为 b");
        assert_eq!(fill("a { b", &[], Lang::En), "a { b");
        assert_eq!(text!("edit `{}` by hand", "{} {0}").say(Lang::Zh), "请手工编辑 `{} {0}`", "no value is a form");
    }

    #[test]
    fn what_is_within_another_text_is_said_in_its_language() {
        let inner = text!("edit `{}` by hand", "a");
        let outer = text!("{}: {}", "x", inner);
        assert_eq!((outer.english(), outer.say(Lang::Zh)), ("x: edit `a` by hand", "x：请手工编辑 `a`".to_owned()));
        let both = Text::clauses([inner.clone(), inner.clone()]);
        assert_eq!(both.say(Lang::Zh), "请手工编辑 `a`；请手工编辑 `a`");
        assert_eq!(Text::list(Vec::new()).english(), "");
    }

    #[test]
    fn a_text_of_another_version_is_said_in_its_own_words() {
        let later = Carried::Said("a later {}".to_owned(), vec![Carried::Plain("word".to_owned())]);
        assert_eq!(Text::from(later).say(Lang::Zh), "a later word");
    }
}
