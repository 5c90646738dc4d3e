//! Words as a shell takes them, for commands that are shown to be typed.

/// One word for a POSIX shell, in quotes where it needs them.
#[must_use]
pub fn word(text: &str) -> String {
    let is_plain = |symbol: char| symbol.is_ascii_alphanumeric() || "-_./:,=+@%".contains(symbol);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::exec;
    use std::time::Duration;

    #[test]
    fn plain_words_stay_as_they_are() {
        for plain in ["/srv/box", "a.example,2001:db8::7", "50000-50099", "x=y+z@h%1"] {
            assert_eq!(word(plain), plain);
        }
    }

    #[test]
    fn a_shell_reads_each_word_as_it_was() {
        for text in ["", "a b", "it's", "$(touch x) `y` \"z\"", "a\nb", "!*?[x]~;|&<>#", "呼叫", "\\"] {
            let script = ["/bin/sh".to_owned(), "-c".to_owned(), format!("printf %s {}", word(text))];
            let ended = exec::run(&script, b"", Duration::from_secs(20), 100).unwrap();
            assert_eq!(ended.output, text);
        }
    }
}
