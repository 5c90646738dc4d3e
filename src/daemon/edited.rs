//! Whether the files that an operator edits are still those that the service goes by.

use std::hash::{DefaultHasher, Hasher as _};
use std::path::PathBuf;

use crate::home::Home;

/// The files as they were when they were read.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    files: Vec<(PathBuf, Option<u64>)>,
}

impl Loaded {
    /// Takes note of them as they are now.
    pub(super) fn now(home: &Home) -> Self {
        let files = [home.config_file(), home.secrets_file()];
        Self { files: files.into_iter().map(|path| (path.clone(), digest(&path))).collect() }
    }

    /// Which of them are others now, in words.
    pub(super) fn difference(&self) -> Option<String> {
        let edited = self.files.iter().filter(|(path, before)| digest(path) != *before);
        let names: Vec<String> = edited.map(|(path, _)| format!("`{}`", path.display())).collect();
        (!names.is_empty()).then(|| format!("{} is not what it was when it was read", names.join(" and ")))
    }
}

/// Secrets are not kept for that.
fn digest(path: &std::path::Path) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    hasher.write(&std::fs::read(path).ok()?);
    Some(hasher.finish())
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
        write_atomic(&home.config_file(), b"a: 1\n", 0o600).unwrap();
        let loaded = Loaded::now(&home);
        assert_eq!(loaded.difference(), None);
        write_atomic(&home.config_file(), b"a: 2\n", 0o600).unwrap();
        assert!(loaded.difference().unwrap().contains("config.yaml"));
        write_atomic(&home.config_file(), b"a: 1\n", 0o600).unwrap();
        assert_eq!(loaded.difference(), None);
        std::fs::remove_file(home.config_file()).unwrap();
        assert!(loaded.difference().is_some());
    }
}
