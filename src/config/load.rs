//! Reads a home's configuration and secrets from disk, and gathers the facts their meaning depends on.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::lines::Complaint;
use super::resolve::{HostFacts, Resolved, resolve};
use super::{Access, Config, Secrets, secrets};
use crate::error::{Failure, Kind, Result};
use crate::home::Home;
use crate::sys::net::{Family, default_source, local_addresses};
use crate::text;
use crate::words::Text;

/// A configuration is a few kilobytes; what is larger is another file.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// What this host is, as far as a configuration's meaning depends on it.
#[must_use]
pub fn host_facts() -> HostFacts {
    let mut relay_ips: Vec<IpAddr> = [Family::V4, Family::V6].into_iter().filter_map(default_source).collect();
    if relay_ips.is_empty() {
        // A network without a router is a network, too.
        let local = local_addresses();
        let first = |is_wanted: fn(&IpAddr) -> bool| local.iter().copied().find(is_wanted);
        relay_ips.extend([first(IpAddr::is_ipv4), first(IpAddr::is_ipv6)].into_iter().flatten());
    }
    if relay_ips.is_empty() {
        // A host without any network still serves callers on itself.
        relay_ips.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    HostFacts { relay_ips, cores: std::thread::available_parallelism().map_or(1, usize::from) }
}

/// `config.yaml` and `secrets.yaml` as they were written. Not to be printed: there are secrets in it.
#[derive(Clone, PartialEq, Eq)]
#[expect(missing_debug_implementations, reason = "it would show secrets")]
pub struct Texts {
    pub config: String,
    pub secrets: String,
}

impl Texts {
    /// Reads both files.
    ///
    /// # Errors
    /// `Kind::Operator` if one is missing or not readable, `Kind::Config` if it cannot be a configuration.
    pub fn read(home: &Home) -> Result<Self> {
        let (config, secrets) = (home.config_file(), home.secrets_file());
        Ok(Self { config: read_limited(&config, home)?, secrets: read_limited(&secrets, home)? })
    }

    /// What they mean, with the lines on which the values stand.
    ///
    /// # Errors
    /// `Kind::Config` with every complaint about both.
    pub fn resolve(&self, home: &Home) -> Result<(Resolved, Secrets)> {
        self.judge(home, |_| Ok(()))
    }

    /// `look_further` has more to complain about.
    fn judge(
        &self,
        home: &Home,
        look_further: impl FnOnce(&mut Problems) -> Result<()>,
    ) -> Result<(Resolved, Secrets)> {
        let (config_file, secrets_file) = (home.config_file(), home.secrets_file());
        let mut problems = Problems::default();
        let config = resolve(&self.config, &host_facts()).and_then(complain_about_paths);
        let config = config.map_err(|complaints| problems.add(&config_file, &complaints)).ok();
        let secrets = secrets::resolve(&self.secrets);
        let secrets = secrets.map_err(|complaints| problems.add(&secrets_file, &complaints)).ok();
        look_further(&mut problems)?;
        if let (Some(config), Some(secrets)) = (&config, &secrets)
            && let Some(complaint) = lacks_access_key(&config.config, secrets)
        {
            problems.add(&secrets_file, &[complaint]);
            problems.hints.push(text!("run `rtcctl{} invite --new-key`, or set `access` to open", home.flag()));
        }
        match (config, secrets) {
            (Some(config), Some(secrets)) if problems.complaints.is_empty() => Ok((config, secrets)),
            _ => Err(problems.into_failure(home)),
        }
    }
}

/// What there is to say of secrets without the key that callers need by this configuration.
#[must_use]
pub fn lacks_access_key(config: &Config, secrets: &Secrets) -> Option<Complaint> {
    (config.access == Access::Key && secrets.access_key.is_none()).then(|| Complaint {
        line: 0,
        path: "access_key".to_owned(),
        text: text!("is missing; callers need one where `access` is key"),
    })
}

/// Loads `config.yaml` and `secrets.yaml`.
///
/// # Errors
/// `Kind::Config` with every complaint about both files; `Kind::Operator` if one is missing or not readable.
pub fn load(home: &Home) -> Result<(Config, Secrets)> {
    let (resolved, secrets) = load_resolved(home)?;
    Ok((resolved.config, secrets))
}

/// As [`load`], with the lines on which the values stand.
///
/// # Errors
/// As [`load`].
pub fn load_resolved(home: &Home) -> Result<(Resolved, Secrets)> {
    load_texts(home).map(|(_, resolved, secrets)| (resolved, secrets))
}

/// As [`load_resolved`], with what was read.
///
/// # Errors
/// As [`load`].
pub fn load_texts(home: &Home) -> Result<(Texts, Resolved, Secrets)> {
    let texts = Texts::read(home)?;
    let (resolved, secrets) = texts.judge(home, |problems| problems.add_mode(&home.secrets_file()))?;
    Ok((texts, resolved, secrets))
}

/// Loads `config.yaml` alone.
///
/// # Errors
/// As [`load`].
pub fn load_config(home: &Home) -> Result<Resolved> {
    let file = home.config_file();
    let text = read_limited(&file, home)?;
    resolve(&text, &host_facts()).and_then(complain_about_paths).map_err(|complaints| {
        let mut problems = Problems::default();
        problems.add(&file, &complaints);
        problems.into_failure(home)
    })
}

/// Loads `secrets.yaml` alone.
///
/// # Errors
/// As [`load`].
pub fn load_secrets(home: &Home) -> Result<Secrets> {
    let file = home.secrets_file();
    let text = read_limited(&file, home)?;
    let mut problems = Problems::default();
    let secrets = secrets::resolve(&text).map_err(|complaints| problems.add(&file, &complaints)).ok();
    problems.add_mode(&file)?;
    match secrets {
        Some(secrets) if problems.complaints.is_empty() => Ok(secrets),
        _ => Err(problems.into_failure(home)),
    }
}

/// What the file alone cannot tell: whether the folders it names are there.
fn complain_about_paths(resolved: Resolved) -> Result<Resolved, Vec<Complaint>> {
    match &resolved.config.web.root {
        Some(root) if !root.is_dir() => Err(vec![Complaint {
            line: resolved.lines.get("web.root").copied().unwrap_or(0),
            path: "web.root".to_owned(),
            text: text!("`{}` is not a folder this user can see", root.display()),
        }]),
        Some(_) | None => Ok(resolved),
    }
}

fn read_limited(path: &Path, home: &Home) -> Result<String> {
    let told = || Failure::operator(text!("cannot read `{}`", path.display()));
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Failure::operator(text!("`{}` does not exist", path.display()))
                .hinted(text!("run `rtcctl{} init`", home.flag())));
        }
        Err(error) => return Err(told().caused_by(error)),
    };
    if size > MAX_FILE_BYTES {
        return Err(Failure::new(Kind::Config, text!("`{}` is larger than a configuration can be", path.display()))
            .because(text!("{} bytes; at most {} are read", size, MAX_FILE_BYTES)));
    }
    std::fs::read_to_string(path).map_err(|error| {
        if error.kind() == ErrorKind::InvalidData {
            Failure::new(Kind::Config, text!("`{}` is not UTF-8 text", path.display()))
        } else {
            told().caused_by(error)
        }
    })
}

/// Complaints about both files, as they are told.
#[derive(Debug, Default)]
struct Problems {
    complaints: Vec<Text>,
    files: Vec<String>,
    hints: Vec<Text>,
}

impl Problems {
    fn add(&mut self, file: &Path, complaints: &[Complaint]) {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // The first file's complaints stand alone; a second file's say where they belong.
        let told = |complaint: &Complaint| match name.as_str() {
            "config.yaml" => complaint.told(),
            _ => text!("{}, {}", name, complaint.told()),
        };
        self.complaints.extend(complaints.iter().map(told));
        self.name(file);
    }

    fn name(&mut self, file: &Path) {
        let shown = format!("`{}`", file.display());
        if !self.files.contains(&shown) {
            self.files.push(shown);
        }
    }

    fn add_mode(&mut self, secrets_file: &Path) -> Result<()> {
        let metadata = std::fs::metadata(secrets_file)
            .map_err(|error| Failure::operator(text!("cannot read `{}`", secrets_file.display())).caused_by(error))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            self.complaints.push(text!(
                "secrets.yaml, others on this machine can read it: its mode is {}",
                format!("{:04o}", mode)
            ));
            self.hints.push(text!("run `chmod 600 {}`", secrets_file.display()));
            self.name(secrets_file);
        }
        Ok(())
    }

    fn into_failure(self, home: &Home) -> Failure {
        let count = self.complaints.len();
        let files = Text::both(self.files.into_iter().map(Text::verbatim));
        let what = if count == 1 { text!("a mistake in {}", files) } else { text!("{} mistakes in {}", count, files) };
        let mut failure = Failure::new(Kind::Config, what);
        for complaint in self.complaints {
            failure = failure.because(complaint);
        }
        for hint in self.hints {
            failure = failure.hinted(hint);
        }
        failure.hinted(text!("correct the file, then run `rtcctl{} config check`", home.flag()))
    }
}
