//! The certificates of a home on disk: what is there, whether it is whole, and how it is replaced.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tracing::{info, warn};

use super::leaf::{LeafFacts, Pair, Reason, Step, next_step, wanted_names};
use super::local_ca::LocalCa;
use super::pair::{Labels, assemble};
use super::{Served, Source};
use crate::config::{Config, Host};
use crate::error::{Failure, Result};
use crate::home::Home;
use crate::sys::clock::Now;
use crate::sys::fs::{create_private_dir, write_atomic};
use crate::sys::net::local_addresses;
use crate::text;
use crate::words::Text;

/// The files of the local CA and its leaf.
#[derive(Debug, Clone)]
pub struct Files {
    pub ca: PathBuf,
    pub ca_key: PathBuf,
    /// The leaf, then the CA.
    pub leaf: PathBuf,
    pub leaf_key: PathBuf,
}

impl Files {
    #[must_use]
    pub fn of(home: &Home) -> Self {
        let dir = home.certs_dir();
        Self {
            ca: dir.join("ca.pem"),
            ca_key: dir.join("ca.key"),
            leaf: dir.join("leaf.pem"),
            leaf_key: dir.join("leaf.key"),
        }
    }
}

/// What is on disk, before anything is changed.
pub struct Inspection {
    /// The CA; or why there is none that can be used, `None` if there never was one.
    pub ca: Result<LocalCa, Option<Text>>,
    pub step: Step,
    /// The names a new leaf would have.
    pub wanted: BTreeSet<String>,
    /// What can be served if the step is to keep.
    served: Option<Served>,
}

/// Looks at the certificates of a home, and decides what should be done.
///
/// # Errors
/// If a file is there but cannot be read: what this user may not see is not damaged.
pub fn inspect(hosts: &[Host], home: &Home, now: Now) -> Result<Inspection> {
    let files = Files::of(home);
    let wanted = wanted_names(hosts, &local_addresses());
    let ca = match (read(&files.ca)?, read(&files.ca_key)?) {
        (None, None) => Err(None),
        (None, Some(_)) => Err(Some(text!("`ca.pem` is missing"))),
        (Some(_), None) => Err(Some(text!("`ca.key` is missing"))),
        (Some(certificate), Some(key)) => LocalCa::read(&certificate, &key, now.wall).map_err(Some),
    };
    let (pair, served) = match (read(&files.leaf)?, read(&files.leaf_key)?) {
        (None, None) => (Pair::Absent, None),
        (None, Some(_)) => (Pair::Damaged(text!("`leaf.pem` is missing")), None),
        (Some(_), None) => (Pair::Damaged(text!("`leaf.key` is missing")), None),
        (Some(certificate), Some(key)) => match read_pair(&certificate, &key, ca.as_ref().ok()) {
            Ok((facts, served)) => (Pair::Whole(facts), Some(served)),
            Err(why) => (Pair::Damaged(why), None),
        },
    };
    let step = next_step(&pair, &wanted, now.wall);
    Ok(Inspection { ca, step, wanted, served })
}

/// Loads the certificate to serve; makes a new one, and a new CA, where what is there cannot be used.
///
/// # Errors
/// If the folder of certificates cannot be read or written.
pub fn load_or_issue(config: &Config, home: &Home, now: Now) -> Result<Served> {
    let files = Files::of(home);
    tighten(&files);
    recall(&files, now)?;
    let inspection = inspect(&config.hosts, home, now)?;
    match (&inspection.step, inspection.served) {
        (Step::Keep, Some(served)) => Ok(served),
        (Step::Keep, None) => Err(Failure::bug(text!("a leaf that is kept can be served"))),
        (Step::Renew(reason), _) => issue(inspection.ca, &inspection.wanted, reason, home, now),
    }
}

/// Writes the CA's certificate again if it is lost and the chain of the leaf has it: a key that is whole must not be given
/// up for it, or every device would have to trust another CA.
fn recall(files: &Files, now: Now) -> Result<()> {
    let (Some(key), Some(chain)) = (read(&files.ca_key)?, read(&files.leaf)?) else { return Ok(()) };
    let is_ca = |text: &str| LocalCa::read(text, &key, now.wall).is_ok();
    if read(&files.ca)?.is_some_and(|text| is_ca(&text)) {
        return Ok(());
    }
    let Some(found) = chain.rfind("-----BEGIN CERTIFICATE-----").map(|at| &chain[at..]) else { return Ok(()) };
    if is_ca(found) {
        warn!(file = %files.ca.display(), "the certificate of the local CA was lost, and is written again");
        write_atomic(&files.ca, found.as_bytes(), 0o644)?;
    }
    Ok(())
}

/// Makes a new leaf, whatever the old one is.
///
/// # Errors
/// If the folder of certificates cannot be read or written.
pub fn reissue(config: &Config, home: &Home, now: Now) -> Result<Served> {
    let inspection = inspect(&config.hosts, home, now)?;
    issue(inspection.ca, &inspection.wanted, &Reason::Wished, home, now)
}

/// A file that is to be written.
pub struct NewFile {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    pub mode: u32,
}

/// What [`load_or_issue`] would write for `hosts`, in the order in which it is best written; nothing is written.
///
/// # Errors
/// If what is there cannot be read, or the host gives no randomness.
pub fn draft(hosts: &[Host], home: &Home, now: Now) -> Result<Vec<NewFile>> {
    let inspection = inspect(hosts, home, now)?;
    match inspection.step {
        Step::Keep => Ok(Vec::new()),
        Step::Renew(_) => make(inspection.ca, &inspection.wanted, home, now).map(|made| made.files),
    }
}

/// A leaf, with a CA if there was none, and the files both are written to.
struct Made {
    files: Vec<NewFile>,
    served: Served,
}

fn make(
    ca: std::result::Result<LocalCa, Option<Text>>,
    wanted: &BTreeSet<String>,
    home: &Home,
    now: Now,
) -> Result<Made> {
    let paths = Files::of(home);
    let mut files = Vec::new();
    let mut add = |path, text: &str, mode| files.push(NewFile { path, bytes: text.as_bytes().to_vec(), mode });
    let ca = match ca {
        Ok(ca) => ca,
        Err(why) => {
            if let Some(why) = why {
                warn!(
                    why = why.english(),
                    "making a new local CA; devices that trusted the old one must trust the new one"
                );
            }
            let (ca, key) = LocalCa::create(now.wall)?;
            // The key first: a CA without its key is noticed, a key without its CA is as well.
            add(paths.ca_key, &key, 0o600);
            add(paths.ca, &ca.certificate_pem, 0o644);
            ca
        }
    };
    let issued = ca.issue(wanted, now.wall)?;
    let chain = format!("{}{}", issued.certificate_pem, ca.certificate_pem);
    add(paths.leaf_key, &issued.key_pem, 0o600);
    add(paths.leaf, &chain, 0o644);
    let (_, served) = read_pair(&chain, &issued.key_pem, Some(&ca)).map_err(Failure::bug)?;
    Ok(Made { files, served })
}

fn issue(
    ca: std::result::Result<LocalCa, Option<Text>>,
    wanted: &BTreeSet<String>,
    reason: &Reason,
    home: &Home,
    now: Now,
) -> Result<Served> {
    create_private_dir(&home.certs_dir())?;
    let made = make(ca, wanted, home, now)?;
    for file in &made.files {
        write_atomic(&file.path, &file.bytes, file.mode)?;
    }
    info!(%reason, "issued a certificate by the local CA");
    Ok(made.served)
}

/// Takes keys back that others may read, as far as this user may.
fn tighten(files: &Files) {
    for key in [&files.ca_key, &files.leaf_key] {
        let Ok(metadata) = key.metadata() else { continue };
        if metadata.permissions().mode() & 0o077 != 0 {
            let done = std::fs::set_permissions(key, Permissions::from_mode(0o600)).is_ok();
            warn!(key = %key.display(), done, "others could read this key; its mode is set to 0600");
        }
    }
}

/// What is served from the files as they are, without a look at what is wanted. For `cert show`.
///
/// # Errors
/// If they are missing or damaged.
pub fn load(home: &Home, now: Now) -> Result<Served> {
    let files = Files::of(home);
    let failed = |why: Text| {
        Failure::operator(text!("cannot use the certificate in `{}`", home.certs_dir().display()))
            .because(why)
            .hinted(text!("run `rtcctl{0} init` or `rtcctl{0} start`; either makes it anew", home.flag()))
    };
    let (Some(certificate), Some(key)) = (read(&files.leaf)?, read(&files.leaf_key)?) else {
        return Err(failed(text!("there is none yet")));
    };
    let ca = match (read(&files.ca)?, read(&files.ca_key)?) {
        (Some(certificate), Some(key)) => LocalCa::read(&certificate, &key, now.wall).ok(),
        _ => None,
    };
    read_pair(&certificate, &key, ca.as_ref()).map(|(_, served)| served).map_err(failed)
}

/// The text of a file; `None` if it is not there. What is not text is damaged, so it is given as an empty one.
fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8(bytes).unwrap_or_default())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::operator(text!("cannot read `{}`", path.display())).caused_by(error)),
    }
}

/// Reads a leaf and its key, and verifies them as a client would. The error says in words what is wrong.
fn read_pair(chain_pem: &str, key_pem: &str, ca: Option<&LocalCa>) -> std::result::Result<(LeafFacts, Served), Text> {
    let labels = Labels { chain: "`leaf.pem`", key: "`leaf.key`" };
    let (facts, served) = assemble(chain_pem, key_pem, Source::SelfSigned, labels)?;
    let leaf = served.key.cert.first().ok_or(text!("`leaf.pem` holds no certificate"))?;
    verify(leaf, &facts, ca.ok_or(text!("its local CA is gone"))?)?;
    Ok((facts, served))
}

/// Checks the CA's signature over the leaf, at a time when the leaf is valid: its age is another question.
fn verify(leaf: &CertificateDer<'_>, facts: &LeafFacts, ca: &LocalCa) -> std::result::Result<(), Text> {
    let foreign = |_| text!("`leaf.pem` is damaged or not signed by the local CA");
    let mut roots = RootCertStore::empty();
    roots.add(ca.certificate.clone()).map_err(foreign)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| Text::of_error(&error))?;
    let within = facts.not_before + Duration::from_secs(1);
    let since_epoch = within.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let name = ServerName::try_from("localhost").map_err(|error| Text::of_error(&error))?;
    verifier.verify_server_cert(leaf, &[], &name, &[], UnixTime::since_unix_epoch(since_epoch)).map_err(foreign)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::leaf::LEAF_LIFETIME;
    use crate::config::{HostFacts, resolve};
    use crate::sys::clock::now;

    fn config(host: &str) -> Config {
        let facts = HostFacts { relay_ips: vec!["192.0.2.1".parse().unwrap()], cores: 1 };
        resolve(&format!("hosts: [\"{host}\"]\n"), &facts).unwrap().config
    }

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::under(dir.path());
        (dir, home)
    }

    fn later(now: Now, by: Duration) -> Now {
        Now { mono: now.mono, wall: now.wall + by }
    }

    #[test]
    fn a_first_certificate_has_all_names_and_private_keys() {
        let (_dir, home) = home();
        let served = load_or_issue(&config("call.example"), &home, now()).unwrap();
        for name in ["call.example", "localhost", "127.0.0.1", "::1"] {
            assert!(served.names.iter().any(|found| found == name), "{name} in {:?}", served.names);
        }
        assert!(served.not_after <= now().wall + LEAF_LIFETIME);
        let files = Files::of(&home);
        for (file, mode) in [(&files.ca_key, 0o600), (&files.leaf_key, 0o600), (&files.ca, 0o644), (&files.leaf, 0o644)]
        {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, mode, "{}", file.display());
        }
        assert_eq!(home.certs_dir().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_key_that_others_can_read_is_taken_back() {
        let (_dir, home) = home();
        load_or_issue(&config("call.example"), &home, now()).unwrap();
        let key = Files::of(&home).leaf_key;
        std::fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
        load_or_issue(&config("call.example"), &home, now()).unwrap();
        assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_valid_pair_is_kept_and_an_aged_one_replaced_under_the_same_ca() {
        let (_dir, home) = home();
        let first = load_or_issue(&config("10.9.8.7"), &home, now()).unwrap();
        let ca = std::fs::read(Files::of(&home).ca).unwrap();
        let again = load_or_issue(&config("10.9.8.7"), &home, now()).unwrap();
        assert_eq!(first.fingerprint, again.fingerprint);
        let aged = load_or_issue(&config("10.9.8.7"), &home, later(now(), LEAF_LIFETIME / 3 * 2)).unwrap();
        assert_ne!(first.fingerprint, aged.fingerprint);
        let renamed = load_or_issue(&config("new.example"), &home, later(now(), LEAF_LIFETIME / 3 * 2)).unwrap();
        assert!(renamed.names.iter().any(|name| name == "new.example"));
        assert_eq!(std::fs::read(Files::of(&home).ca).unwrap(), ca);
    }

    /// Case 88.
    #[test]
    fn whatever_is_damaged_is_made_anew_and_the_ca_stays_if_it_is_whole() {
        let wreck = |text: &str| text.replacen("MI", "XX", 1);
        let files: [fn(&Files) -> &PathBuf; 4] =
            [|files| &files.leaf, |files| &files.leaf_key, |files| &files.ca, |files| &files.ca_key];
        for (index, file) in files.iter().enumerate() {
            for damage in 0..4 {
                let (_dir, home) = home();
                let config = config("call.example");
                let first = load_or_issue(&config, &home, now()).unwrap();
                let found = Files::of(&home);
                let ca = std::fs::read(&found.ca).unwrap();
                let path = file(&found);
                let text = std::fs::read_to_string(path).unwrap();
                match damage {
                    0 => std::fs::remove_file(path).unwrap(),
                    1 => write_atomic(path, b"", 0o600).unwrap(),
                    2 => write_atomic(path, wreck(&text).as_bytes(), 0o600).unwrap(),
                    _ => write_atomic(path, b"\xff\xfe", 0o600).unwrap(),
                }
                let second = load_or_issue(&config, &home, now()).unwrap();
                // The chain of the leaf has the certificate of the CA, too.
                assert_eq!(first.fingerprint == second.fingerprint, index == 2, "{} {damage}", path.display());
                assert_eq!(std::fs::read(&found.ca).unwrap() == ca, index < 3, "{} {damage}", path.display());
                let third = load_or_issue(&config, &home, now()).unwrap();
                assert_eq!(second.fingerprint, third.fingerprint);
            }
        }
    }

    #[test]
    fn a_leaf_with_another_homes_key_or_ca_is_replaced() {
        let (_other_dir, other) = home();
        let (_dir, home) = home();
        let config = config("call.example");
        let first = load_or_issue(&config, &home, now()).unwrap();
        load_or_issue(&config, &other, now()).unwrap();
        std::fs::copy(Files::of(&other).leaf_key, Files::of(&home).leaf_key).unwrap();
        let second = load_or_issue(&config, &home, now()).unwrap();
        assert_ne!(first.fingerprint, second.fingerprint);
        std::fs::copy(Files::of(&other).leaf_key, Files::of(&home).leaf_key).unwrap();
        std::fs::copy(Files::of(&other).leaf, Files::of(&home).leaf).unwrap();
        let (_, step) = inspect(&config.hosts, &home, now()).map(|found| (found.wanted, found.step)).unwrap();
        assert!(matches!(step, Step::Renew(Reason::Damaged(_))), "{step:?}");
    }

    #[test]
    fn a_certificate_folder_that_cannot_be_made_is_an_error_that_names_it() {
        let (dir, _) = home();
        let file = dir.path().join("file");
        write_atomic(&file, b"", 0o600).unwrap();
        let failure = load_or_issue(&config("a.example"), &Home::under(&file), now()).unwrap_err();
        assert!(failure.message().contains(file.to_str().unwrap()), "{failure}");
    }
}
