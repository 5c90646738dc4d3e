//! Texts with values in them, and the Chinese for each.

use super::Lang;

/// A text with values in it, in whatever language it is said in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    english: &'static str,
    values: Vec<String>,
}

impl Text {
    /// Use [`crate::text!`], which the test of the catalogue finds.
    #[must_use]
    pub fn new(english: &'static str, values: Vec<String>) -> Self {
        Self { english, values }
    }

    #[must_use]
    pub fn say(&self, lang: Lang) -> String {
        fill(lang.say(self.english), &self.values)
    }
}

/// As [`std::fmt::Display`]: documents are in English.
impl serde::Serialize for Text {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// In English, for logs and documents that scripts read.
impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&fill(self.english, &self.values))
    }
}

impl Lang {
    /// A text without values, as [`crate::word!`] marks them. What the catalogue does not have stays English.
    #[must_use]
    pub fn say(self, english: &'static str) -> &'static str {
        match self {
            Self::En => english,
            Self::Zh => chinese(english).unwrap_or(english),
        }
    }
}

impl Lang {
    /// As [`Self::say`], for a text that came by another way; what the catalogue does not have stays as it is.
    #[must_use]
    pub fn translate(self, text: &str) -> &str {
        match self {
            Self::En => text,
            Self::Zh => chinese(text).unwrap_or(text),
        }
    }
}

/// The Chinese for an English text.
#[must_use]
pub fn chinese(english: &str) -> Option<&'static str> {
    all().find(|(key, _)| *key == english).map(|(_, text)| *text)
}

/// Puts the values where `{}` or `{0}` stands.
fn fill(text: &str, values: &[String]) -> String {
    let mut filled = String::with_capacity(text.len() + 32);
    let mut next = 0;
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let Some((index, tail)) = after.split_once('}') else {
            filled.push('{');
            rest = after;
            continue;
        };
        let at = if index.is_empty() { next } else { index.parse().unwrap_or(usize::MAX) };
        next += 1;
        filled.push_str(values.get(at).map_or("", String::as_str));
        rest = tail;
    }
    filled.push_str(rest);
    filled
}

/// The tables, by subject.
const TABLES: [&[(&str, &str)]; 2] = [super::chinese_setup::TABLE, super::chinese_checks::TABLE];

fn all() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    TABLES.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Every text that is marked in the source.
    fn marked() -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    // The macros themselves are there.
                    if !path.ends_with("src/words") {
                        folders.push(path);
                    }
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    for mark in ["text!(", "word!("] {
                        found.extend(text.split(mark).skip(1).filter_map(literal));
                    }
                }
            }
        }
        found
    }

    /// The string that an argument list begins with, as the compiler reads it.
    fn literal(arguments: &str) -> Option<String> {
        let body = arguments.trim_start().strip_prefix('"')?;
        let mut text = String::new();
        let mut symbols = body.chars();
        while let Some(symbol) = symbols.next() {
            match symbol {
                '"' => return Some(text),
                '\\' => match symbols.next()? {
                    '\n' => {
                        let rest = symbols.as_str().trim_start();
                        symbols = rest.chars();
                    }
                    other => text.push(other),
                },
                other => text.push(other),
            }
        }
        None
    }

    fn places(text: &str) -> usize {
        text.matches('{').count()
    }

    #[test]
    fn the_catalogue_has_every_text_and_no_other() {
        let marked = marked();
        assert!(marked.len() > 80, "{}", marked.len());
        let known: BTreeSet<String> = all().map(|(english, _)| (*english).to_owned()).collect();
        assert_eq!(known.len(), all().count(), "a text stands there twice");
        let lacking: Vec<&String> = marked.difference(&known).collect();
        assert!(lacking.is_empty(), "without Chinese: {lacking:#?}");
        let unused: Vec<&String> = known.difference(&marked).collect();
        assert!(unused.is_empty(), "said nowhere: {unused:#?}");
    }

    #[test]
    fn both_languages_have_the_same_places_for_values() {
        for (english, chinese) in all() {
            assert_eq!(places(english), places(chinese), "{english}");
            let values: Vec<String> = (0..places(english)).map(|index| format!("<{index}>")).collect();
            let filled = fill(chinese, &values);
            assert!(values.iter().all(|value| filled.contains(value)), "{filled}");
            assert!(!chinese.is_empty());
            // What is typed is the same.
            let typed = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
            let (english_typed, chinese_typed) = (typed(english), typed(chinese));
            let plain =
                |set: BTreeSet<String>| set.into_iter().filter(|one| !one.contains('{')).collect::<BTreeSet<_>>();
            assert_eq!(plain(english_typed), plain(chinese_typed), "{english}");
        }
    }

    #[test]
    fn values_come_to_their_places() {
        let text = Text::new("set `{}` to {} in `{}` by hand", vec!["a".into(), "b".into(), "c".into()]);
        assert_eq!(text.to_string(), "set `a` to b in `c` by hand");
        assert_eq!(text.say(Lang::Zh), "请在 `c` 中手工把 `a` 设为 b");
        assert_eq!(fill("a { b", &[]), "a { b");
    }
}
