//! The program's file: what may take its place, and how it does so without a moment in which there is none.

use std::fs::{File, Permissions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::certs::sha256_hex;
use crate::error::{Failure, Kind, Result};
use crate::sys::exec;
use crate::sys::fs::{read_at_most, write_atomic};
use crate::sys::lock::{FolderLock, Refused};
use crate::text;
use crate::words::Text;

/// Bytes of the largest program: a release has some twenty million, one for debugging ten times as many.
const MAX_PROGRAM: u64 = 1024 * 1024 * 1024;
/// Bytes of an ELF header that tell what may run a program: magic, class, byte order, system, and the machine.
const HEADER: usize = 20;
/// How long `restorecon` may take.
const LABELLED_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

/// The files of our package, where it is installed.
const PACKAGED: &str = "/var/lib/dpkg/info/rtcctl.list";

/// A program that may take the place of ours, and has been read as a whole.
pub struct Candidate {
    bytes: Vec<u8>,
    pub sha256: String,
}

/// Where the program lies that the service is started from. Held against other upgrades.
pub struct Place {
    path: PathBuf,
    _lock: FolderLock,
}

impl Candidate {
    /// Reads `file`, and compares it with the digest that was given and with what this machine can run.
    ///
    /// # Errors
    /// `Kind::Operator` with what is wrong with it.
    pub fn read(file: &Path, sha256: Option<&str>) -> Result<Self> {
        let failed = |error| Failure::operator(text!("cannot read `{}`", file.display())).caused_by(error);
        if !std::fs::metadata(file).map_err(failed)?.is_file() {
            return Err(Failure::operator(text!("`{}` is no file", file.display())));
        }
        let bytes = read_at_most(file, MAX_PROGRAM)
            .map_err(failed)?
            .ok_or_else(|| Failure::operator(text!("`{}` is too large to be a program", file.display())))?;
        let found = sha256_hex(&bytes);
        if let Some(wanted) = sha256.filter(|wanted| !wanted.eq_ignore_ascii_case(&found)) {
            return Err(Failure::operator(text!("`{}` is not the file that was meant", file.display()))
                .because(text!("its SHA-256 is {}, not {}", found, wanted))
                .hinted(text!("fetch it again; nothing was changed")));
        }
        if let Some(fault) = fault(&bytes, &own_header()?) {
            return Err(Failure::operator(text!("`{}` does not run on this machine", file.display())).because(fault));
        }
        Ok(Self { bytes, sha256: found })
    }
}

/// What keeps a program from running where one with the header `own` does.
fn fault(bytes: &[u8], own: &[u8; HEADER]) -> Option<Text> {
    let Some(header) = bytes.first_chunk::<HEADER>().filter(|header| header.starts_with(b"\x7fELF")) else {
        return Some(text!("it is no program for Linux (it has no ELF header)"));
    };
    let machine = |header: &[u8; HEADER]| (header[4], header[5], u16::from_le_bytes([header[18], header[19]]));
    if machine(header) != machine(own) {
        let (named, wanted) = (name(header), name(own));
        return Some(text!("it is for {}, and this machine runs {}", named, wanted));
    }
    // A program, or one that may lie anywhere in memory; an object or an image of memory is neither.
    (!matches!(u16::from_le_bytes([header[16], header[17]]), 2 | 3))
        .then(|| text!("it is no program but a part of one"))
}

fn name(header: &[u8; HEADER]) -> String {
    let machine = match u16::from_le_bytes([header[18], header[19]]) {
        0x03 => "x86",
        0x28 => "arm",
        0x3e => "x86-64",
        0xb7 => "aarch64",
        0xf3 => "riscv64",
        other => return format!("machine {other}"),
    };
    format!("{machine}, {} bits", if header[4] == 1 { 32 } else { 64 })
}

fn own_header() -> Result<[u8; HEADER]> {
    let mut header = [0; HEADER];
    let read = File::open("/proc/self/exe").and_then(|mut file| file.read_exact(&mut header));
    read.map_err(|error| Failure::operator(text!("cannot read this program")).caused_by(error))?;
    Ok(header)
}

/// The SHA-256 of a file.
///
/// # Errors
/// If it cannot be read.
pub fn digest_of(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path);
    let bytes = bytes.map_err(|error| Failure::operator(text!("cannot read `{}`", path.display())).caused_by(error))?;
    Ok(sha256_hex(&bytes))
}

impl Place {
    /// Takes hold of the place of the program at `path`, for one upgrade at a time.
    ///
    /// # Errors
    /// `Kind::Locked` if another one is under way.
    pub fn take(path: PathBuf) -> Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        let lock = FolderLock::take(folder).map_err(|refused| match refused {
            Refused::Held(pid) => {
                let by = pid.map_or_else(Text::default, |pid| text!(" (pid {})", pid));
                Failure::new(Kind::Locked, text!("another upgrade of `{}` is under way{}", path.display(), by))
            }
            Refused::Io(error) => Failure::operator(text!("cannot lock `{}`", folder.display())).caused_by(error),
        })?;
        Ok(Self { path, _lock: lock })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the program is kept that was there before.
    #[must_use]
    pub fn previous(&self) -> PathBuf {
        self.beside("previous")
    }

    /// Whether it came with a package of Debian's, whose next version takes its place again.
    #[must_use]
    pub fn is_packaged(&self) -> bool {
        let files = std::fs::read_to_string(PACKAGED).unwrap_or_default();
        files.lines().any(|line| Path::new(line) == self.path)
    }

    fn beside(&self, what: &str) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{what}"));
        self.path.with_file_name(name)
    }

    /// Puts the candidate beside the program, where it can be run.
    ///
    /// # Errors
    /// `Kind::NeedsRoot` if this user may not, `Kind::Operator` if the disk is full.
    pub fn stage(&self, candidate: &Candidate) -> Result<PathBuf> {
        let staged = self.beside("new");
        // One that an upgrade has left that was killed may run still, and then it cannot be written.
        let _ = std::fs::remove_file(&staged);
        let probe = File::create_new(&staged).map(drop);
        match probe {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::PermissionDenied && !nix::unistd::geteuid().is_root() => {
                return Err(Failure::new(
                    Kind::NeedsRoot,
                    text!("this user may not replace `{}`", self.path.display()),
                )
                .hinted(text!("run it as root")));
            }
            Err(error) => {
                return Err(Failure::operator(text!("cannot write `{}`", staged.display())).caused_by(error));
            }
        }
        let mode = std::fs::metadata(&self.path).map_or(0o755, |data| data.permissions().mode() & 0o755 | 0o500);
        write_atomic(&staged, &candidate.bytes, mode).inspect_err(|_| self.unstage())?;
        Ok(staged)
    }

    /// Removes what was staged.
    pub fn unstage(&self) {
        // It may be in place by now, and then there is none.
        let _ = std::fs::remove_file(self.beside("new"));
    }

    /// Puts what is staged in place of the program, and keeps the one before. There is a whole program at any moment.
    ///
    /// # Errors
    /// If the folder does not take it; the program is the one before then.
    pub fn swap(&self, staged: &Path) -> Result<()> {
        let failed = |error| Failure::operator(text!("cannot replace `{}`", self.path.display())).caused_by(error);
        match std::fs::metadata(&self.path) {
            Ok(data) => {
                // Whose program it was stays the same.
                let _ = std::os::unix::fs::chown(staged, Some(data.uid()), Some(data.gid()));
                self.keep().map_err(failed)?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        self.put(staged).map_err(failed)
    }

    /// Keeps the program of now as the one before. A second name of the same file costs nothing and cannot fail halfway.
    fn keep(&self) -> std::io::Result<()> {
        let draft = self.beside("previous.new");
        let _ = std::fs::remove_file(&draft);
        std::fs::hard_link(&self.path, &draft)?;
        std::fs::rename(&draft, self.previous())
    }

    /// Puts the program from before in place again.
    ///
    /// # Errors
    /// If the folder does not take it.
    pub fn take_back(&self) -> Result<()> {
        let failed = |error| Failure::operator(text!("cannot bring `{}` back", self.path.display())).caused_by(error);
        let draft = self.beside("new");
        let _ = std::fs::remove_file(&draft);
        // By another name of it, so that the one before is there still if this is cut off.
        std::fs::hard_link(self.previous(), &draft).and_then(|()| self.put(&draft)).map_err(failed)
    }

    fn put(&self, draft: &Path) -> std::io::Result<()> {
        std::fs::set_permissions(
            draft,
            Permissions::from_mode(std::fs::metadata(draft)?.permissions().mode() & 0o7777),
        )?;
        std::fs::rename(draft, &self.path)?;
        // What survives a power cut is the one or the other; a file system that cannot promise it has done what it can.
        let _ = self.path.parent().map(|folder| File::open(folder).and_then(|folder| folder.sync_all()));
        // Where SELinux is, a program that came by another folder has that folder's label.
        if Path::new("/sys/fs/selinux/enforce").exists() {
            let line = ["restorecon".to_owned(), self.path.display().to_string()];
            let _ = exec::ask(&line, LABELLED_WITHIN, 1024);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = own_header().unwrap().to_vec();
        bytes.extend([7; 100]);
        change(&mut bytes);
        bytes
    }

    #[test]
    fn what_another_machine_runs_or_none_is_refused_by_its_first_bytes() {
        let own = own_header().unwrap();
        assert_eq!(fault(&program(|_| {}), &own), None);
        for (wanted, bytes) in [
            ("no ELF header", b"#!/bin/sh\necho rtcctl 9.9.9 # and so on\n".to_vec()),
            ("no ELF header", program(|bytes| bytes.truncate(10))),
            ("it is for machine 65534", program(|bytes| bytes[18..20].copy_from_slice(&[0xfe, 0xff]))),
            ("32 bits", program(|bytes| bytes[4] = 1)),
            ("a part of one", program(|bytes| bytes[16..18].copy_from_slice(&[1, 0]))),
        ] {
            let told = fault(&bytes, &own).unwrap();
            assert!(told.contains(wanted), "{wanted}: {told:?}");
        }
    }

    #[test]
    fn another_file_than_the_one_that_was_meant_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rtcctl");
        write_atomic(&file, &program(|_| {}), 0o600).unwrap();
        let good = Candidate::read(&file, None).unwrap();
        assert!(Candidate::read(&file, Some(&good.sha256.to_uppercase())).is_ok());
        let failure = Candidate::read(&file, Some(&"0".repeat(64))).err().unwrap();
        assert!(failure.to_string().contains("its SHA-256 is"), "{failure}");
        assert!(Candidate::read(dir.path(), None).is_err());
        assert!(Candidate::read(&dir.path().join("none"), None).is_err());
    }

    #[test]
    fn a_swap_keeps_the_one_before_and_can_be_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rtcctl");
        write_atomic(&path, b"old", 0o755).unwrap();
        let place = Place::take(path.clone()).unwrap();
        assert_eq!(Place::take(path.clone()).err().unwrap().kind(), Kind::Locked);
        let candidate = Candidate { bytes: b"new".to_vec(), sha256: String::new() };
        let staged = place.stage(&candidate).unwrap();
        place.swap(&staged).unwrap();
        let read = |path: &Path| std::fs::read(path).unwrap();
        assert_eq!((read(&path), read(&place.previous())), (b"new".to_vec(), b"old".to_vec()));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o755);
        place.take_back().unwrap();
        assert_eq!((read(&path), read(&place.previous())), (b"old".to_vec(), b"old".to_vec()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "no draft stays");
    }
}
