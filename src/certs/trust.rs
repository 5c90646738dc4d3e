//! Has the stores of this host trust the local CA, or no longer: the system's, and those of Chromium and Firefox.
//!
//! Phones and other machines are told how by the page `/trust`.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{AccessFlags, access};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};

use super::local_ca::sha256_hex;
use super::store::Files;
use crate::error::{Failure, Result};
use crate::home::Home;
use crate::sys::exec;
use crate::sys::exec::shell::word;
use crate::sys::fs::{create_private_dir, draft_of, read_to_string, write_atomic_by};
use crate::text;
use crate::words::Text;

/// How long one program may take; `update-ca-certificates` reads some hundred files.
const DONE_WITHIN: Duration = Duration::from_secs(60);
/// What is kept of what it says.
const MAX_OUTPUT: usize = 4096;
/// Folders of system stores, with the suffix and the program that each wants: Debian's, then Red Hat's.
const SYSTEM_STORES: [(&str, &str, &[&str]); 2] = [
    ("/usr/local/share/ca-certificates", "crt", &["update-ca-certificates"]),
    ("/etc/pki/ca-trust/source/anchors", "pem", &["update-ca-trust", "extract"]),
];
/// Where each of these programs writes.
const WRITTEN: [(&str, &str); 2] =
    [("update-ca-certificates", "/etc/ssl/certs"), ("update-ca-trust", "/etc/pki/ca-trust/extracted")];
/// Below a user's home: where Firefox keeps its profiles.
const FIREFOX: [&str; 3] =
    [".mozilla/firefox", "snap/firefox/common/.mozilla/firefox", ".var/app/org.mozilla.firefox/.mozilla/firefox"];
/// Below a user's home: where Chromium and Chrome look.
const CHROMIUM: &str = ".pki/nssdb";
/// What a database of NSS consists of.
const NSS_FILES: [&str; 3] = ["cert9.db", "key4.db", "pkcs11.txt"];

/// A place that says whom this host trusts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// A file in a folder, taken up by a program.
    System { file: PathBuf, refresh: Vec<String> },
    /// A database of NSS.
    Nss(PathBuf),
}

impl Store {
    /// What [`add`] writes and runs, as an operator would.
    #[must_use]
    pub fn commands(&self, name: &str, ca: &Path) -> Vec<String> {
        let ca = word(&ca.to_string_lossy());
        match self {
            Self::System { file, refresh } => {
                vec![format!("install -m 0644 {ca} {}", word(&file.to_string_lossy())), refresh.join(" ")]
            }
            Self::Nss(folder) => {
                let database = word(&database(folder));
                let new = (!has_database(folder)).then(|| format!("certutil -N -d {database} --empty-password"));
                let add = format!("certutil -A -d {database} -t C,, -n {name} -i {ca}");
                new.into_iter().chain([add]).collect()
            }
        }
    }

    /// The authority that it knows by our name, in PEM.
    #[must_use]
    pub fn known(&self, name: &str) -> Option<String> {
        match self {
            Self::System { file, .. } => std::fs::read_to_string(file).ok(),
            Self::Nss(folder) if has_database(folder) => {
                let words = ["certutil", "-L", "-d", &database(folder), "-n", name, "-a"].map(str::to_owned);
                let told = exec::ask(&words, DONE_WITHIN, MAX_OUTPUT).ok()?;
                told.status.success().then_some(told.output)
            }
            Self::Nss(_) => None,
        }
    }

    /// Whether it trusts this very authority, by our name.
    #[must_use]
    pub fn trusts(&self, name: &str, pem: &str) -> bool {
        let der = |text: &str| CertificateDer::from_pem_slice(text.as_bytes()).ok();
        self.known(name).is_some_and(|known| der(&known).is_some() && der(&known) == der(pem))
    }

    /// Files and folders that [`add`] makes and are not there yet, innermost last.
    #[must_use]
    pub fn new_files(&self) -> Vec<PathBuf> {
        let Self::Nss(folder) = self else { return Vec::new() };
        let mut missing: Vec<PathBuf> =
            folder.ancestors().take_while(|path| !path.exists()).map(Path::to_path_buf).collect();
        missing.reverse();
        missing.extend(NSS_FILES.map(|name| folder.join(name)).into_iter().filter(|path| !path.exists()));
        missing
    }

    /// Whether it is a browser's that has been used.
    #[must_use]
    pub fn is_of_a_browser(&self) -> bool {
        matches!(self, Self::Nss(folder) if has_database(folder))
    }

    /// Whether this user may change it.
    #[must_use]
    pub fn is_ours_to_change(&self) -> bool {
        match self {
            // The program that takes the file up writes elsewhere; where that cannot be, the file would change nothing.
            Self::System { file, refresh } => [file.parent(), written_by(refresh)]
                .into_iter()
                .all(|folder| folder.is_some_and(|folder| access(folder, AccessFlags::W_OK).is_ok())),
            Self::Nss(folder) => folder
                .ancestors()
                .find(|path| path.exists())
                .is_some_and(|path| access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()),
        }
    }
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
    pub changed: std::result::Result<bool, Text>,
}

/// The local CA as stores know it.
struct Ca {
    file: PathBuf,
    pem: String,
    /// Of this home, so that two homes on one machine do not touch each other's.
    name: String,
    /// What earlier versions called it.
    former: String,
}

/// Has every store of this host trust the local CA.
///
/// # Errors
/// If there is no local CA, or no store.
pub fn trust(home: &Home, user_home: Option<&Path>) -> Result<Vec<Outcome>> {
    let ca = local_ca(home)?;
    let stores = stores(&ca.name, user_home);
    if stores.is_empty() {
        return Err(Failure::operator(text!("this host has no store of trusted authorities that is known"))
            .hinted(text!("let each program trust `{}` by itself", ca.file.display())));
    }
    let add = |store: &Store| {
        if store.trusts(&ca.name, &ca.pem) {
            return Ok(false);
        }
        add(store, &ca.name, &ca.file, &ca.pem).map(|()| true)
    };
    Ok(stores.into_iter().map(|store| Outcome { changed: add(&store), store }).collect())
}

/// Takes the local CA out of every store of this host.
///
/// # Errors
/// If there is no local CA.
pub fn untrust(home: &Home, user_home: Option<&Path>) -> Result<Vec<Outcome>> {
    untrust_but(home, user_home, &[])
}

/// As [`untrust`], but for stores that somebody else sees to.
///
/// # Errors
/// As [`untrust`].
pub fn untrust_but(home: &Home, user_home: Option<&Path>, others: &[&Store]) -> Result<Vec<Outcome>> {
    let ca = local_ca(home)?;
    let mut outcomes: Vec<Outcome> = Vec::new();
    for name in [&ca.name, &ca.former] {
        for store in stores(name, user_home).into_iter().filter(|store| !others.contains(&store)) {
            let is_known = store.known(name).is_some();
            let changed = if is_known { remove(&store, name).map(|()| true) } else { Ok(false) };
            match outcomes.iter_mut().find(|known| known.store.to_string() == store.to_string()) {
                // A database of NSS, which has been there by the other name.
                Some(known) if !matches!(known.changed, Ok(true)) => known.changed = changed,
                Some(_) => {}
                None if *name == ca.former && matches!(changed, Ok(false)) => {}
                None => outcomes.push(Outcome { store, changed }),
            }
        }
    }
    Ok(outcomes)
}

fn local_ca(home: &Home) -> Result<Ca> {
    let file = Files::of(home).ca;
    let failed = |why: Text| {
        Failure::operator(text!("there is no local CA to be trusted"))
            .because(why)
            .hinted(text!("`rtcctl{} init` makes one; a start of the service does so, too", home.flag()))
    };
    let pem = read_to_string(&file).map_err(|failure| failed(failure.told()))?;
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| failed(text!("`{}` holds no certificate", file.display())))?;
    let former = format!("rtcctl-{}", &sha256_hex(&der)[..12]);
    Ok(Ca { file, pem, name: home.tag(), former })
}

/// The stores that are there.
#[must_use]
pub fn stores(name: &str, user_home: Option<&Path>) -> Vec<Store> {
    let system =
        SYSTEM_STORES.iter().filter(|(folder, _, refresh)| Path::new(folder).is_dir() && exec::is_there(refresh[0]));
    let mut found: Vec<Store> = system
        .map(|(folder, suffix, refresh)| Store::System {
            file: Path::new(folder).join(format!("{name}.{suffix}")),
            refresh: refresh.iter().map(|word| (*word).to_owned()).collect(),
        })
        .collect();
    let Some(user_home) = user_home.filter(|_| exec::is_there("certutil")) else { return found };
    found.push(Store::Nss(user_home.join(CHROMIUM)));
    for folder in FIREFOX {
        let Ok(profiles) = std::fs::read_dir(user_home.join(folder)) else { continue };
        let profiles = profiles.filter_map(|entry| Some(entry.ok()?.path()));
        found.extend(profiles.filter(|profile| profile.join("cert9.db").is_file()).map(Store::Nss));
    }
    found
}

/// Where the program that takes a system store's files up writes; `None`: this host has no such folder.
fn written_by(refresh: &[String]) -> Option<&'static Path> {
    let program = refresh.first()?;
    let (_, folder) = WRITTEN.iter().find(|(name, _)| name == program)?;
    Some(Path::new(folder)).filter(|folder| folder.is_dir())
}

/// Has the store trust the authority by this name, in place of any other of that name.
///
/// # Errors
/// In words.
pub fn add(store: &Store, name: &str, ca: &Path, pem: &str) -> std::result::Result<(), Text> {
    if store.known(name).is_some_and(|known| known != pem) {
        // What was made of the one before goes with it.
        remove(store, name)?;
    }
    match store {
        Store::System { file, refresh } => {
            // Everybody may know whom this host trusts.
            write_atomic_by(&draft_of(file), file, pem.as_bytes(), 0o644).map_err(|failure| failure.told())?;
            run(refresh.iter().map(String::as_str))
        }
        Store::Nss(folder) => {
            let database = database(folder);
            if !has_database(folder) {
                create_private_dir(folder).map_err(|failure| failure.told())?;
                run(["certutil", "-N", "-d", &database, "--empty-password"])?;
            }
            run(["certutil", "-A", "-d", &database, "-t", "C,,", "-n", name, "-i", &ca.to_string_lossy()])
        }
    }
}

/// Takes the authority of this name out of the store, if it is in there; also what a run that was killed has made of it.
///
/// # Errors
/// In words.
pub fn remove(store: &Store, name: &str) -> std::result::Result<(), Text> {
    match store {
        Store::System { file, refresh } => {
            for path in [&draft_of(file), file] {
                match std::fs::remove_file(path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        return Err(text!("cannot remove `{}`: {}", path.display(), error));
                    }
                    Ok(()) | Err(_) => {}
                }
            }
            // Debian's leaves links to what is gone, unless it makes all of them anew.
            let is_debian = refresh.first().is_some_and(|program| program == "update-ca-certificates");
            run(refresh.iter().map(String::as_str).chain(is_debian.then_some("--fresh")))
        }
        Store::Nss(_) if store.known(name).is_none() => Ok(()),
        Store::Nss(folder) => run(["certutil", "-D", "-d", &database(folder), "-n", name]),
    }
}

/// Removes the files that [`add`] has made, of which `made` tells, if nobody else has put anything into them.
pub fn remove_made(store: &Store, made: &[PathBuf]) {
    let Store::Nss(folder) = store else { return };
    if made.is_empty() || has_certificates(folder) {
        return;
    }
    for path in made.iter().rev() {
        // What holds something else stays.
        let _ = std::fs::remove_file(path).or_else(|_| std::fs::remove_dir(path));
    }
}

fn has_certificates(folder: &Path) -> bool {
    if !has_database(folder) {
        return false;
    }
    let words = ["certutil", "-L", "-d", &database(folder)].map(str::to_owned);
    // Each ends with three lists of letters; the heading has words there.
    let is_one = |line: &str| {
        line.split_whitespace().last().is_some_and(|trust| trust.matches(',').count() == 2 && !trust.contains('/'))
    };
    exec::ask(&words, DONE_WITHIN, MAX_OUTPUT).is_ok_and(|told| told.output.lines().any(is_one))
}

fn has_database(folder: &Path) -> bool {
    folder.join("cert9.db").is_file()
}

fn database(folder: &Path) -> String {
    format!("sql:{}", folder.display())
}

fn run<'a>(program: impl IntoIterator<Item = &'a str>) -> std::result::Result<(), Text> {
    let program: Vec<String> = program.into_iter().map(str::to_owned).collect();
    let name = program.first().cloned().unwrap_or_default();
    let ended = exec::run(&program, b"", DONE_WITHIN, MAX_OUTPUT).map_err(|error| text!("`{}`: {}", name, error))?;
    if ended.status.success() {
        return Ok(());
    }
    Err(text!("`{}` failed: {}", name, ended.output.lines().next_back().unwrap_or("it does not say why")))
}
