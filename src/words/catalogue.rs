//! Looks texts up.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::{Lang, chinese};

impl Lang {
    /// A text without values, as [`crate::word!`] marks them. What the catalogue does not have stays English.
    #[must_use]
    pub fn say(self, english: &'static str) -> &'static str {
        match self {
            Self::En => english,
            Self::Zh => in_chinese(english).unwrap_or(english),
        }
    }
}

/// The Chinese for an English text.
#[must_use]
pub(super) fn in_chinese(english: &str) -> Option<&'static str> {
    static BY_ENGLISH: LazyLock<BTreeMap<&str, &str>> = LazyLock::new(|| chinese::all().copied().collect());
    BY_ENGLISH.get(english).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Source without its comments and without the tests at its end, whose texts need no Chinese.
    fn said(text: &str) -> String {
        let lines: Vec<&str> = text.lines().collect();
        let begins_tests = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].ends_with('{');
        let end = lines.windows(2).position(begins_tests).unwrap_or(lines.len());
        let is_code = |line: &&&str| !line.trim_start().starts_with("//");
        lines[..end].iter().filter(is_code).copied().collect::<Vec<_>>().join("\n")
    }

    /// Every text that is marked in the source.
    fn marked() -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let said = said(&text);
                    for mark in ["text!(", "word!("] {
                        found.extend(said.split(mark).skip(1).filter_map(literal));
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
                    'n' => text.push('\n'),
                    other => text.push(other),
                },
                other => text.push(other),
            }
        }
        None
    }

    /// Which values stand in a text.
    fn places(text: &str) -> BTreeSet<usize> {
        let inner = text.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
        inner.enumerate().map(|(at, (index, _))| index.parse().unwrap_or(at)).collect()
    }

    /// What is typed, but for what has a value in it.
    fn typed(text: &str) -> BTreeSet<&str> {
        text.split('`').skip(1).step_by(2).filter(|one| !one.contains('{')).collect()
    }

    fn is_chinese(text: &str) -> bool {
        let ranges = ['\u{3000}'..='\u{303f}', '\u{4e00}'..='\u{9fff}', '\u{ff00}'..='\u{ffef}'];
        text.chars().any(|symbol| ranges.iter().any(|range| range.contains(&symbol)))
    }

    /// Whether there is a word of English in it, besides names and what is typed.
    fn has_words(text: &str) -> bool {
        let prose: String = text.split('`').step_by(2).collect::<Vec<_>>().join(" ");
        let words = prose.split(|symbol: char| !symbol.is_ascii_alphanumeric() && symbol != '.' && symbol != '_');
        words.filter(|word| word.len() > 1).any(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()))
    }

    #[test]
    fn the_catalogue_has_every_text_and_no_other() {
        let marked = marked();
        assert!(marked.len() > 1_000, "{}", marked.len());
        let known: BTreeSet<String> = chinese::all().map(|(english, _)| (*english).to_owned()).collect();
        assert_eq!(known.len(), chinese::all().count(), "a text stands there twice");
        let lacking: Vec<&String> = marked.difference(&known).collect();
        assert!(lacking.is_empty(), "without Chinese: {lacking:#?}");
        let unused: Vec<&String> = known.difference(&marked).collect();
        assert!(unused.is_empty(), "said nowhere: {unused:#?}");
    }

    #[test]
    fn both_languages_have_the_same_values_and_the_same_to_type() {
        for (english, chinese) in chinese::all() {
            assert_eq!(places(english), places(chinese), "{english}");
            assert_eq!(typed(english), typed(chinese), "{english}");
        }
    }

    #[test]
    fn what_has_words_is_chinese_with_chinese_punctuation() {
        for (english, chinese) in chinese::all() {
            assert!(is_chinese(chinese) || !has_words(english), "{english}: {chinese}");
            let prose = chinese.split('`').step_by(2).collect::<Vec<_>>().join("`");
            for sign in [", ", "; ", "? ", "! "] {
                assert!(!is_chinese(chinese) || !prose.contains(sign), "`{sign}` in {chinese}");
            }
        }
    }
}
