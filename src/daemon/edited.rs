//! Whether the files that an operator edits are still those that the service goes by.

use crate::config::Texts;
use crate::home::Home;
use crate::text;
use crate::words::Text;

/// Which of the files of `home` are others than they were when `texts` was read from them, in words.
pub(super) fn difference(home: &Home, texts: &Texts) -> Option<Text> {
    let files = [(home.config_file(), &texts.config), (home.secrets_file(), &texts.secrets)];
    let edited = files.iter().filter(|(path, text)| std::fs::read(path).ok().as_deref() != Some(text.as_bytes()));
    let names: Vec<Text> = edited.map(|(path, _)| Text::verbatim(format!("`{}`", path.display()))).collect();
    (!names.is_empty()).then(|| text!("{} is not what it was when it was read", Text::both(names)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::sys::fs::write_atomic;

    #[test]
    fn an_edit_is_seen_and_so_is_its_undoing() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::under(Path::new(folder.path()));
        let write = |text: &str| write_atomic(&home.config_file(), text.as_bytes(), 0o600).unwrap();
        write("a: 1\n");
        write_atomic(&home.secrets_file(), b"s: 1\n", 0o600).unwrap();
        let texts = Texts::read(&home).unwrap();
        assert_eq!(difference(&home, &texts), None);
        write("a: 2\n");
        assert!(difference(&home, &texts).unwrap().contains("config.yaml"));
        write("a: 1\n");
        assert_eq!(difference(&home, &texts), None);
        std::fs::remove_file(home.config_file()).unwrap();
        assert!(difference(&home, &texts).is_some());
    }
}
