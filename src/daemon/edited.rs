//! Whether the files that an operator edits are still those that the service goes by.

use std::hash::{DefaultHasher, Hasher as _};
use std::path::PathBuf;

use crate::config::Texts;
use crate::home::Home;

/// The files as they were when they were read.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    files: [(PathBuf, u64); 2],
}

impl Loaded {
    pub(super) fn new(home: &Home, texts: &Texts) -> Self {
        let files = [(home.config_file(), &texts.config), (home.secrets_file(), &texts.secrets)];
        Self { files: files.map(|(path, text)| (path, digest(text.as_bytes()))) }
    }

    /// Which of them are others now, in words.
    pub(super) fn difference(&self) -> Option<String> {
        let now = |path: &PathBuf| std::fs::read(path).ok().map(|bytes| digest(&bytes));
        let edited = self.files.iter().filter(|(path, before)| now(path) != Some(*before));
        let names: Vec<String> = edited.map(|(path, _)| format!("`{}`", path.display())).collect();
        (!names.is_empty()).then(|| format!("{} is not what it was when it was read", names.join(" and ")))
    }
}

/// Secrets are not kept for that.
fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
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
        let loaded = Loaded::new(&home, &Texts::read(&home).unwrap());
        assert_eq!(loaded.difference(), None);
        write("a: 2\n");
        assert!(loaded.difference().unwrap().contains("config.yaml"));
        write("a: 1\n");
        assert_eq!(loaded.difference(), None);
        std::fs::remove_file(home.config_file()).unwrap();
        assert!(loaded.difference().is_some());
    }
}
