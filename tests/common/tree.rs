//! A folder with all that is in it: bytes, modes and owners, to be compared and put back.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Folder,
    /// As text where it is text, so that a difference can be read.
    File(Result<String, Vec<u8>>),
    Link(PathBuf),
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
}

/// By path below the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<PathBuf, Entry>);

pub(crate) fn tree(root: &Path) -> Tree {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = std::fs::symlink_metadata(&path).unwrap();
            let kind = if metadata.is_dir() {
                folders.push(path.clone());
                Kind::Folder
            } else if metadata.is_symlink() {
                Kind::Link(std::fs::read_link(&path).unwrap())
            } else if metadata.is_file() {
                Kind::File(String::from_utf8(std::fs::read(&path).unwrap()).map_err(|error| error.into_bytes()))
            } else {
                Kind::Other
            };
            let entry = Entry { kind, mode: metadata.mode() & 0o7777, owner: (metadata.uid(), metadata.gid()) };
            found.insert(path.strip_prefix(root).unwrap().to_path_buf(), entry);
        }
    }
    Tree(found)
}

impl Tree {
    /// Without what is below this path, and the path itself.
    pub(crate) fn without(&self, path: &str) -> Self {
        Self(
            self.0
                .iter()
                .filter(|(at, _)| !at.starts_with(path))
                .map(|(at, entry)| (at.clone(), entry.clone()))
                .collect(),
        )
    }

    /// Makes everything that is in it. Owners are those of whoever runs this.
    pub(crate) fn put_into(&self, root: &Path) {
        for (path, entry) in &self.0 {
            let path = root.join(path);
            match &entry.kind {
                Kind::Folder => std::fs::create_dir(&path).unwrap(),
                Kind::File(Ok(text)) => fill(&path, text.as_bytes()),
                Kind::File(Err(bytes)) => fill(&path, bytes),
                Kind::Link(target) => std::os::unix::fs::symlink(target, &path).unwrap(),
                Kind::Other => panic!("`{}` cannot be put back", path.display()),
            }
            if !matches!(entry.kind, Kind::Link(_)) {
                std::fs::set_permissions(&path, Permissions::from_mode(entry.mode)).unwrap();
            }
        }
    }
}

fn fill(path: &Path, bytes: &[u8]) {
    use std::io::Write as _;
    std::fs::File::create(path).unwrap().write_all(bytes).unwrap();
}
