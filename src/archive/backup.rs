//! A home in one file: its configuration, its secrets, its certificates and accounts, each with its digest.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::tarball::{Member, pack};
use crate::certs::sha256_hex;
use crate::error::{Failure, Result};
use crate::home::Home;
use crate::setup::by_product::{ByProduct, by_product};
use crate::sys::clock::rfc3339_seconds;
use crate::text;

/// The name of what says what else is in an archive.
pub(super) const MANIFEST: &str = "manifest.json";
/// How archives are laid out, for whoever reads them later.
pub(super) const FORMAT: u32 = 1;
/// Bytes of all files together. A home has some dozens of kilobytes.
pub(super) const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// What is in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// What kind of file this is.
    pub(super) rtcctl_backup: u32,
    pub(super) version: String,
    pub(super) made_at: String,
    pub(super) files: Vec<Kept>,
}

/// One file of a home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// `config/...` or `certs/...`, whatever the folders of the home are.
    pub name: String,
    pub mode: u32,
    pub size: u64,
    pub sha256: String,
}

/// A home that was read.
#[derive(Debug)]
pub struct Backup {
    pub archive: Vec<u8>,
    pub files: Vec<Kept>,
}

/// Reads a home into an archive.
///
/// # Errors
/// If there is no configuration, or something cannot be read.
pub fn back_up(home: &Home, now: SystemTime) -> Result<Backup> {
    let mut members = Vec::new();
    for (name, path) in targets(home)? {
        let failed = |error| Failure::operator(text!("cannot read `{}`", path.display())).caused_by(error);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            // It was replaced or removed just now.
            Err(error) if error.kind() == ErrorKind::NotFound && name.starts_with("certs/") => continue,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Failure::operator(text!("there is no `{}` to back up", path.display()))
                    .hinted(text!("run `rtcctl{} init`", home.flag())));
            }
            Err(error) => return Err(failed(error)),
        };
        let mode = std::fs::metadata(&path).map_err(failed)?.permissions().mode() & 0o777;
        members.push(Member { name, bytes, mode });
    }
    let size: u64 = members.iter().map(|member| member.bytes.len() as u64).sum();
    if size > MAX_BYTES {
        return Err(Failure::operator(text!("the home is too large to back up")).because(text!(
            "its files have {} bytes together; at most {} are taken",
            size,
            MAX_BYTES
        )));
    }
    let files: Vec<Kept> = members.iter().map(Kept::of).collect();
    let manifest = Manifest {
        rtcctl_backup: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        made_at: rfc3339_seconds(now),
        files: files.clone(),
    };
    let manifest = serde_json::to_vec_pretty(&manifest).expect("a manifest has string keys only");
    members.insert(0, Member::new(MANIFEST, manifest));
    Ok(Backup { archive: pack(&members, now), files })
}

impl Kept {
    pub(super) fn of(member: &Member) -> Self {
        Self {
            name: member.name.clone(),
            mode: member.mode,
            size: member.bytes.len() as u64,
            sha256: sha256_hex(&member.bytes),
        }
    }
}

/// The files of a home that a backup has, by their names in it.
fn targets(home: &Home) -> Result<Vec<(String, PathBuf)>> {
    let mut targets = vec![
        ("config/config.yaml".to_owned(), home.config_file()),
        ("config/secrets.yaml".to_owned(), home.secrets_file()),
    ];
    let certs = home.certs_dir();
    for (prefix, folder) in [("certs", certs.clone()), ("certs/acme", certs.join("acme"))] {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(Failure::operator(text!("cannot read `{}`", folder.display())).caused_by(error));
            }
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths.into_iter().filter(|path| path.is_file() && is_ours(home, path)) {
            if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
                targets.push((format!("{prefix}/{name}"), path.clone()));
            }
        }
    }
    Ok(targets)
}

/// Where a file of an archive belongs in a home; `None`: no file of that name belongs there.
pub(super) fn target(home: &Home, name: &str) -> Option<PathBuf> {
    match name {
        "config/config.yaml" => return Some(home.config_file()),
        "config/secrets.yaml" => return Some(home.secrets_file()),
        _ => {}
    }
    let rest = name.strip_prefix("certs/")?;
    let (folder, file) = match rest.strip_prefix("acme/") {
        Some(file) => (home.certs_dir().join("acme"), file),
        None => (home.certs_dir(), rest),
    };
    let is_plain = !file.is_empty() && !file.contains(['/', '\\', '\0']) && !matches!(file, "." | "..");
    let path = folder.join(file);
    (is_plain && is_ours(home, &path)).then_some(path)
}

/// What the service has written and a crash has not left by halves.
fn is_ours(home: &Home, path: &Path) -> bool {
    let is_draft = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    !is_draft && by_product(home, path) == Some(ByProduct::Data)
}

/// The files that this home has now, of those that a backup would have.
pub(super) fn present(home: &Home) -> Result<Vec<PathBuf>> {
    Ok(targets(home)?.into_iter().map(|(_, path)| path).filter(|path| path.symlink_metadata().is_ok()).collect())
}
