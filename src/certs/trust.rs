//! Has the stores of this host trust the local CA, or no longer: the system's, and those of Chromium and Firefox.
//!
//! Phones and other machines are told how by the page `/trust`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::local_ca::sha256_hex;
use super::store::Files;
use crate::error::{Failure, Result};
use crate::home::Home;
use crate::sys::exec;
use crate::sys::fs::{create_private_dir, read_to_string, write_atomic};

/// How long one program may take; `update-ca-certificates` reads some hundred files.
const DONE_WITHIN: Duration = Duration::from_secs(60);
/// What is kept of what it says.
const MAX_OUTPUT: usize = 4096;
/// Folders of system stores, with the suffix and the program that each wants: Debian's, then Red Hat's.
const SYSTEM_STORES: [(&str, &str, &[&str]); 2] = [
    ("/usr/local/share/ca-certificates", "crt", &["update-ca-certificates"]),
    ("/etc/pki/ca-trust/source/anchors", "pem", &["update-ca-trust", "extract"]),
];
/// Below a user's home: where Firefox keeps its profiles.
const FIREFOX: [&str; 3] =
    [".mozilla/firefox", "snap/firefox/common/.mozilla/firefox", ".var/app/org.mozilla.firefox/.mozilla/firefox"];
/// Below a user's home: where Chromium and Chrome look.
const CHROMIUM: &str = ".pki/nssdb";

/// A place that says whom this host trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// A file in a folder, taken up by a program.
    System { file: PathBuf, refresh: &'static [&'static str] },
    /// A database of NSS.
    Nss(PathBuf),
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System { file, .. } => write!(f, "the system ({})", file.display()),
            Self::Nss(folder) => write!(f, "browsers ({})", folder.display()),
        }
    }
}

/// What was done to one store.
#[derive(Debug)]
pub struct Outcome {
    pub store: Store,
    /// Whether it was changed, or why it could not be.
    pub changed: std::result::Result<bool, String>,
}

/// The local CA as stores know it.
struct Ca {
    file: PathBuf,
    pem: String,
    /// Of this CA alone, so that two homes on one machine do not touch each other's.
    name: String,
}

/// Has every store of this host trust the local CA.
///
/// # Errors
/// If there is no local CA, or no store.
pub fn trust(home: &Home, user_home: Option<&Path>) -> Result<Vec<Outcome>> {
    let ca = local_ca(home)?;
    let stores = stores(&ca.name, user_home);
    if stores.is_empty() {
        return Err(Failure::operator("this host has no store of trusted authorities that is known")
            .hinted(format!("let each program trust `{}` by itself", ca.file.display())));
    }
    Ok(stores.into_iter().map(|store| Outcome { changed: add(&store, &ca), store }).collect())
}

/// Takes the local CA out of every store of this host.
///
/// # Errors
/// If there is no local CA.
pub fn untrust(home: &Home, user_home: Option<&Path>) -> Result<Vec<Outcome>> {
    let ca = local_ca(home)?;
    let stores = stores(&ca.name, user_home);
    Ok(stores.into_iter().map(|store| Outcome { changed: remove(&store, &ca), store }).collect())
}

fn local_ca(home: &Home) -> Result<Ca> {
    let file = Files::of(home).ca;
    let failed = |why: String| {
        Failure::operator("there is no local CA to be trusted")
            .because(why)
            .hinted(format!("`rtcctl{} init` makes one; a start of the service does so, too", home.flag()))
    };
    let pem = read_to_string(&file).map_err(|failure| failed(failure.to_string()))?;
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| failed(format!("`{}` holds no certificate", file.display())))?;
    let name = format!("rtcctl-{}", &sha256_hex(&der)[..12]);
    Ok(Ca { file, pem, name })
}

/// The stores that are there.
fn stores(name: &str, user_home: Option<&Path>) -> Vec<Store> {
    let system =
        SYSTEM_STORES.iter().filter(|(folder, _, refresh)| Path::new(folder).is_dir() && is_program(refresh[0]));
    let mut found: Vec<Store> = system
        .map(|(folder, suffix, refresh)| Store::System {
            file: Path::new(folder).join(format!("{name}.{suffix}")),
            refresh,
        })
        .collect();
    let Some(user_home) = user_home.filter(|_| is_program("certutil")) else { return found };
    found.push(Store::Nss(user_home.join(CHROMIUM)));
    for folder in FIREFOX {
        let Ok(profiles) = std::fs::read_dir(user_home.join(folder)) else { continue };
        let profiles = profiles.filter_map(|entry| Some(entry.ok()?.path()));
        found.extend(profiles.filter(|profile| profile.join("cert9.db").is_file()).map(Store::Nss));
    }
    found
}

fn is_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

fn add(store: &Store, ca: &Ca) -> std::result::Result<bool, String> {
    match store {
        Store::System { file, refresh } => {
            if std::fs::read_to_string(file).is_ok_and(|text| text == ca.pem) {
                return Ok(false);
            }
            // Everybody may know whom this host trusts.
            write_atomic(file, ca.pem.as_bytes(), 0o644).map_err(|failure| failure.to_string())?;
            run(refresh.iter().copied())?;
            Ok(true)
        }
        Store::Nss(folder) => {
            if knows(folder, &ca.name) {
                return Ok(false);
            }
            let database = database(folder);
            if !folder.join("cert9.db").is_file() {
                create_private_dir(folder).map_err(|failure| failure.to_string())?;
                run(["certutil", "-N", "-d", &database, "--empty-password"])?;
            }
            let file = ca.file.to_string_lossy();
            run(["certutil", "-A", "-d", &database, "-t", "C,,", "-n", &ca.name, "-i", &file])?;
            Ok(true)
        }
    }
}

fn remove(store: &Store, ca: &Ca) -> std::result::Result<bool, String> {
    match store {
        Store::System { file, refresh } => {
            if !file.exists() {
                return Ok(false);
            }
            std::fs::remove_file(file).map_err(|error| format!("cannot remove `{}`: {error}", file.display()))?;
            run(refresh.iter().copied())?;
            Ok(true)
        }
        Store::Nss(folder) => {
            if !knows(folder, &ca.name) {
                return Ok(false);
            }
            run(["certutil", "-D", "-d", &database(folder), "-n", &ca.name])?;
            Ok(true)
        }
    }
}

fn database(folder: &Path) -> String {
    format!("sql:{}", folder.display())
}

fn knows(folder: &Path, name: &str) -> bool {
    folder.join("cert9.db").is_file() && run(["certutil", "-L", "-d", &database(folder), "-n", name]).is_ok()
}

fn run<'a>(program: impl IntoIterator<Item = &'a str>) -> std::result::Result<(), String> {
    let program: Vec<String> = program.into_iter().map(str::to_owned).collect();
    let name = program.first().cloned().unwrap_or_default();
    let ended = exec::run(&program, b"", DONE_WITHIN, MAX_OUTPUT).map_err(|error| format!("`{name}`: {error}"))?;
    if ended.status.success() {
        return Ok(());
    }
    Err(format!("`{name}` failed: {}", ended.output.lines().next_back().unwrap_or("it does not say why")))
}
