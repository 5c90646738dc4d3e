//! Brings a home back from a file: looked at as a whole before anything is written, and all of it or nothing.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::backup::{FORMAT, Kept, MANIFEST, MAX_BYTES, Manifest, back_up, present, target};
use super::tarball::{Member, unpack};
use crate::config;
use crate::error::{Failure, Kind, Result};
use crate::home::Home;
use crate::sys::clock::rfc3339_seconds;
use crate::sys::fs::{create_private_dir, read_to_string, write_atomic};
use crate::text;
use crate::words::Text;

/// Modes that files of a home may have; no archive makes one that others can write.
const MODES: u32 = 0o644;

/// What was brought back.
#[derive(Debug)]
pub struct Restored {
    /// The version of rtcctl that made the archive, and when.
    pub version: String,
    pub made_at: String,
    pub files: Vec<Kept>,
    /// Where the home that was there before is kept.
    pub before: Option<PathBuf>,
}

/// Restores a home that nothing runs in.
///
/// `force`: a home that is there is put aside into an archive first, and brought back if something fails.
///
/// # Errors
/// `Kind::Operator` if the archive is none, is damaged, or there is a home already; `Kind::Config` if what is in it
/// cannot be used; `Kind::RolledBack` if it could not be written and the home is as it was.
pub fn restore(home: &Home, archive: &[u8], force: bool, now: SystemTime) -> Result<Restored> {
    let (manifest, members) = read(archive)?;
    let files: Vec<(PathBuf, &Member)> = members
        .iter()
        .map(|member| target(home, &member.name).map(|path| (path, member)).ok_or_else(|| stranger(&member.name)))
        .collect::<Result<_>>()?;
    rehearse(home, &members)?;
    let there = present(home)?;
    if !there.is_empty() && !force {
        let shown: Vec<String> = there.iter().take(3).map(|path| format!("`{}`", path.display())).collect();
        return Err(Failure::operator(text!("there is a home already, and nothing of it was changed"))
            .because(text!("it has {} files, such as {}", there.len(), shown.join(", ")))
            .hinted(text!("give another `--home`, or `--force` to put this one aside first")));
    }
    let before = if there.is_empty() { None } else { Some(put_aside(home, now)?) };
    let kept: Vec<(PathBuf, Vec<u8>, u32)> = there.iter().map(|path| remembered(path)).collect::<Result<_>>()?;
    if let Err(failure) = write(home, &files, &there) {
        take_back(&files, &kept);
        let failure = failure.causes().iter().fold(
            Failure::new(Kind::RolledBack, text!("the home is as it was: {}", failure.message())),
            |told, cause| told.because(cause.clone()),
        );
        return Err(failure);
    }
    Ok(Restored { version: manifest.version, made_at: manifest.made_at, files: manifest.files, before })
}

/// Reads an archive and compares everything in it with what it says of itself.
fn read(archive: &[u8]) -> Result<(Manifest, Vec<Member>)> {
    let bad = |why: Text| Failure::operator(text!("this is no backup that can be used")).because(why);
    let mut members = unpack(archive, MAX_BYTES).map_err(bad)?;
    let first = members.first().filter(|member| member.name == MANIFEST);
    let document = first.ok_or_else(|| bad(text!("`{}` is not the first file in it", MANIFEST)))?;
    let format: serde_json::Value = serde_json::from_slice(&document.bytes)
        .map_err(|error| bad(text!("its manifest cannot be read: {}", error)))?;
    match format["rtcctl_backup"].as_u64() {
        Some(format) if format == u64::from(FORMAT) => {}
        Some(format) => {
            return Err(bad(text!("it is of format {}; this version knows {}", format, FORMAT))
                .hinted(text!("use the version of rtcctl that made it, or a later one")));
        }
        None => return Err(bad(text!("it was not made by `rtcctl backup`"))),
    }
    let manifest: Manifest = serde_json::from_slice(&document.bytes)
        .map_err(|error| bad(text!("its manifest cannot be read: {}", error)))?;
    members.remove(0);
    let found: Vec<Kept> = members.iter().map(Kept::of).collect();
    for kept in &manifest.files {
        match found.iter().find(|other| other.name == kept.name) {
            None => return Err(bad(text!("`{}` is missing in it", kept.name))),
            Some(other) if other != kept => {
                return Err(bad(text!("`{}` in it is not what was put there", kept.name)));
            }
            Some(_) => {}
        }
    }
    match found.iter().find(|other| manifest.files.iter().all(|kept| kept.name != other.name)) {
        Some(other) => Err(bad(text!("`{}` is in it, and its manifest does not say so", other.name.escape_debug()))),
        None => Ok((manifest, members)),
    }
}

fn stranger(name: &str) -> Failure {
    Failure::operator(text!("this is no backup that can be used"))
        .because(text!("`{}` belongs nowhere in a home", name.escape_debug()))
}

/// Reads the configuration as the service would, from a folder of its own.
fn rehearse(home: &Home, members: &[Member]) -> Result<()> {
    let dir = std::env::temp_dir().join(format!("rtcctl-restore-{}-{:08x}", std::process::id(), rand::random::<u32>()));
    let scratch = Home::under(&dir);
    let tried = || {
        create_private_dir(&dir)?;
        for name in ["config/config.yaml", "config/secrets.yaml"] {
            let member = members.iter().find(|member| member.name == name);
            let member = member.ok_or_else(|| {
                Failure::operator(text!("this is no backup that can be used"))
                    .because(text!("`{}` is missing in it", name))
            })?;
            let path = target(&scratch, name).ok_or_else(|| stranger(name))?;
            write_atomic(&path, &member.bytes, 0o600)?;
        }
        check(&scratch).map_err(|causes| {
            let told = Failure::new(Kind::Config, text!("the configuration in this backup cannot be used"));
            let told = causes.into_iter().fold(told, Failure::because);
            told.hinted(text!("a later version may have written it; see `rtcctl{} version`", home.flag()))
        })
    };
    let outcome = tried();
    // Secrets must not stay behind, and what is left of a folder of this name harms nobody.
    let _ = std::fs::remove_dir_all(&dir);
    outcome
}

/// What the service would say of it, but for what another host may lack, such as the folder of a page.
fn check(scratch: &Home) -> Result<(), Vec<Text>> {
    let text = read_to_string(&scratch.config_file()).map_err(|failure| vec![failure.told()])?;
    let resolved = config::resolve(&text, &config::host_facts());
    let resolved = resolved.map_err(|complaints| complaints.iter().map(config::Complaint::told).collect::<Vec<_>>())?;
    let secrets = config::load_secrets(scratch).map_err(|failure| failure.causes().to_vec())?;
    match config::lacks_access_key(&resolved.config, &secrets) {
        Some(complaint) => Err(vec![text!("{}, {}", "secrets.yaml", complaint.told())]),
        None => Ok(()),
    }
}

/// The home that is there, as an archive in it.
fn put_aside(home: &Home, now: SystemTime) -> Result<PathBuf> {
    let stamp = rfc3339_seconds(now).replace([':', '-'], "");
    let path = home.state_dir().join(format!("before-restore-{stamp}.tar.gz"));
    create_private_dir(home.state_dir())?;
    // One without a configuration has nothing that a backup could be made of; its certificates are kept in memory.
    match back_up(home, now) {
        Ok(backup) => write_atomic(&path, &backup.archive, 0o600).map(|()| path),
        Err(failure) if home.config_file().exists() && home.secrets_file().exists() => Err(failure),
        Err(_) => Err(Failure::operator(text!("what is there of a home is not whole, so it cannot be put aside"))
            .hinted(text!("move the files in `{}` away first", home.config_dir().display()))),
    }
}

fn remembered(path: &Path) -> Result<(PathBuf, Vec<u8>, u32)> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = |error| Failure::operator(text!("cannot read `{}`", path.display())).caused_by(error);
    let bytes = std::fs::read(path).map_err(failed)?;
    let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
    Ok((path.to_path_buf(), bytes, mode))
}

/// The configuration comes last: without it there is no home that anybody would start.
fn write(home: &Home, files: &[(PathBuf, &Member)], there: &[PathBuf]) -> Result<()> {
    for folder in [home.config_dir(), home.state_dir(), &home.certs_dir()] {
        create_private_dir(folder)?;
    }
    if files.iter().any(|(_, member)| member.name.starts_with("certs/acme/")) {
        create_private_dir(&home.certs_dir().join("acme"))?;
    }
    for (path, member) in files.iter().rev() {
        write_atomic(path, &member.bytes, member.mode & MODES)?;
    }
    // A key or an account of the home before must not be mixed with those of this one.
    for path in there.iter().filter(|path| files.iter().all(|(other, _)| other != *path)) {
        std::fs::remove_file(path)
            .map_err(|error| Failure::operator(text!("cannot remove `{}`", path.display())).caused_by(error))?;
    }
    Ok(())
}

fn take_back(files: &[(PathBuf, &Member)], kept: &[(PathBuf, Vec<u8>, u32)]) {
    for (path, _) in files.iter().filter(|(path, _)| kept.iter().all(|(other, _, _)| other != path)) {
        // It may never have been written.
        let _ = std::fs::remove_file(path);
    }
    for (path, bytes, mode) in kept {
        // What can be brought back is; the archive of the home before has the rest.
        let _ = write_atomic(path, bytes, *mode);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::archive::pack;
    use crate::config::{Secret, Secrets, render_secrets};

    const AT: SystemTime = SystemTime::UNIX_EPOCH;

    fn home(dir: &Path, port: u16) -> Home {
        let home = Home::under(dir);
        create_private_dir(&home.certs_dir().join("acme")).unwrap();
        let put = |path: &Path, text: &str, mode| write_atomic(path, text.as_bytes(), mode).unwrap();
        put(
            &home.config_file(),
            &format!("hosts: [127.0.0.1]\nturn: {{port: {port}, relay_ips: [127.0.0.1]}}\n"),
            0o644,
        );
        let secrets = Secrets::of_turn(vec![Secret::new(vec![b'f'; 64])]);
        put(&home.secrets_file(), &render_secrets(&secrets), 0o600);
        put(&home.certs_dir().join("ca.pem"), "a certificate", 0o644);
        put(&home.certs_dir().join("ca.key"), &format!("a key {port}"), 0o600);
        put(&home.certs_dir().join("acme/record.json"), "{}", 0o600);
        put(&home.certs_dir().join("mine.txt"), "not of the service", 0o600);
        home
    }

    fn repacked(archive: &[u8], change: impl FnOnce(&mut Vec<Member>)) -> Vec<u8> {
        let mut members = unpack(archive, MAX_BYTES).unwrap();
        change(&mut members);
        pack(&members, AT)
    }

    #[test]
    fn a_home_comes_back_byte_for_byte_with_its_modes_in_other_folders() {
        let dir = tempfile::tempdir().unwrap();
        let old = home(&dir.path().join("old"), 3000);
        let backup = back_up(&old, AT).unwrap();
        let new = Home::under(&dir.path().join("new"));
        let restored = restore(&new, &backup.archive, false, AT).unwrap();
        assert_eq!(restored.files.len(), 5);
        for (path, other) in [
            (old.config_file(), new.config_file()),
            (old.secrets_file(), new.secrets_file()),
            (old.certs_dir().join("ca.key"), new.certs_dir().join("ca.key")),
            (old.certs_dir().join("acme/record.json"), new.certs_dir().join("acme/record.json")),
        ] {
            assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&other).unwrap());
            let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
            assert_eq!(mode(&path), mode(&other));
        }
        assert!(!new.certs_dir().join("mine.txt").exists());
    }

    #[test]
    fn a_home_that_is_there_is_not_touched_without_force_and_put_aside_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let backup = back_up(&home(&dir.path().join("old"), 3000), AT).unwrap();
        let there = home(&dir.path().join("there"), 4000);
        write_atomic(&there.certs_dir().join("leaf.key"), b"a leaf", 0o600).unwrap();
        let before = std::fs::read(there.config_file()).unwrap();
        let failure = restore(&there, &backup.archive, false, AT).unwrap_err();
        assert!(failure.message().contains("there is a home already"), "{failure}");
        assert_eq!(std::fs::read(there.config_file()).unwrap(), before);
        let restored = restore(&there, &backup.archive, true, AT).unwrap();
        assert!(!there.certs_dir().join("leaf.key").exists(), "keys of two homes are not mixed");
        assert!(std::fs::read_to_string(there.config_file()).unwrap().contains("3000"));
        let aside = std::fs::read(restored.before.unwrap()).unwrap();
        restore(&there, &aside, true, AT + std::time::Duration::from_secs(1)).unwrap();
        assert_eq!(std::fs::read(there.config_file()).unwrap(), before);
        assert_eq!(std::fs::read(there.certs_dir().join("leaf.key")).unwrap(), b"a leaf");
    }

    #[test]
    fn what_cannot_be_written_leaves_the_home_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let backup = back_up(&home(&dir.path().join("old"), 3000), AT).unwrap();
        let there = home(&dir.path().join("there"), 4000);
        // A folder stands where a file is to be, and the last one that is written is the configuration.
        std::fs::remove_file(there.certs_dir().join("ca.pem")).unwrap();
        create_private_dir(&there.certs_dir().join("ca.pem")).unwrap();
        let config = std::fs::read(there.config_file()).unwrap();
        let failure = restore(&there, &backup.archive, true, AT).unwrap_err();
        assert_eq!(failure.kind(), Kind::RolledBack, "{failure}");
        assert_eq!(std::fs::read(there.config_file()).unwrap(), config);
        assert_eq!(std::fs::read(there.certs_dir().join("ca.key")).unwrap(), b"a key 4000");
    }

    #[test]
    fn an_archive_that_is_not_what_it_says_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let good = back_up(&home(&dir.path().join("old"), 3000), AT).unwrap().archive;
        let manifest = |members: &mut Vec<Member>, from: &str, to: &str| {
            let text = String::from_utf8(members[0].bytes.clone()).unwrap();
            assert!(text.contains(from), "{text}");
            members[0].bytes = text.replace(from, to).into_bytes();
        };
        let bad: Vec<(&str, Vec<u8>)> = vec![
            ("no compressed tar file", b"hello".to_vec()),
            ("cut off or damaged", good[..good.len() / 2].to_vec()),
            ("is not the first file", repacked(&good, |members| drop(members.remove(0)))),
            ("not what was put there", repacked(&good, |members| members[1].bytes.push(b'x'))),
            ("is missing in it", repacked(&good, |members| drop(members.pop()))),
            ("does not say so", repacked(&good, |members| members.push(Member::new("certs/leaf.key", "x")))),
            (
                "of format 9",
                repacked(&good, |members| manifest(members, "\"rtcctl_backup\": 1", "\"rtcctl_backup\": 9")),
            ),
            (
                "belongs nowhere",
                repacked(&good, |members| {
                    manifest(members, "certs/ca.key", "certs/evil");
                    members.iter_mut().filter(|member| member.name == "certs/ca.key").for_each(|member| {
                        member.name = "certs/evil".to_owned();
                    });
                }),
            ),
        ];
        for (wanted, archive) in bad {
            let new = Home::under(&dir.path().join("new"));
            let failure = restore(&new, &archive, false, AT).unwrap_err();
            assert!(failure.to_string().contains(wanted), "{wanted}: {failure}");
            assert!(!new.config_dir().exists());
        }
    }

    #[test]
    fn no_name_leads_out_of_the_home() {
        let home = Home::under(Path::new("/srv/box"));
        for name in
            ["certs/../secrets.yaml", "certs/acme/../../x", "/etc/passwd", "certs//ca.key", "config/x", "certs/"]
        {
            assert_eq!(target(&home, name), None, "{name}");
        }
        assert_eq!(target(&home, "certs/ca.key"), Some("/srv/box/certs/ca.key".into()));
    }
}
