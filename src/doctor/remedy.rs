//! Carries a safe remedy out.

use std::fs::Permissions;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

use super::outcome::Remedy;
use crate::error::{Failure, Result};
use crate::setup::firewall::{lock, settle};
use crate::text;
use crate::words::Text;

impl Remedy {
    /// What is done, in words.
    #[must_use]
    pub fn told(&self) -> Text {
        match self {
            Self::MakePrivate(path) => text!("made `{}` readable by its owner alone", path.display()),
            Self::RemoveSocket(path) => text!("removed `{}`", path.display()),
            Self::SettleFirewall(_, needs) => text!("had the firewall let in {} by rules of ours", needs),
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// If this user may not, or what it is about is something else by now.
    pub fn carry_out(&self) -> Result<()> {
        match self {
            Self::MakePrivate(path) => {
                let failed =
                    |error| Failure::operator(text!("cannot change the mode of `{}`", path.display())).caused_by(error);
                let metadata = std::fs::symlink_metadata(path).map_err(failed)?;
                if !metadata.is_file() {
                    return Err(Failure::operator(text!("`{}` is no file any more", path.display())));
                }
                let mode = metadata.permissions().mode() & 0o700;
                std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(failed)
            }
            Self::RemoveSocket(path) => {
                let failed = |error| Failure::operator(text!("cannot remove `{}`", path.display())).caused_by(error);
                if !std::fs::symlink_metadata(path).map_err(failed)?.file_type().is_socket() {
                    return Err(Failure::operator(text!("`{}` is no socket any more", path.display())));
                }
                std::fs::remove_file(path).map_err(failed)
            }
            Self::SettleFirewall(home, needs) => {
                let _lock = lock(home, "open")?;
                settle(home, needs, &mut |_| {}).map(drop)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs::write_atomic;

    #[test]
    fn others_lose_their_rights_to_a_file_and_its_owner_keeps_his() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write_atomic(&path, b"x", 0o644).unwrap();
        Remedy::MakePrivate(path.clone()).carry_out().unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Remedy::MakePrivate(folder.path().to_path_buf()).carry_out().is_err(), "a folder");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(Remedy::MakePrivate(link).carry_out().is_err(), "a link may lead anywhere");
    }

    #[test]
    fn only_a_socket_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, file) = (folder.path().join("s"), folder.path().join("f"));
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        write_atomic(&file, b"x", 0o600).unwrap();
        Remedy::RemoveSocket(socket.clone()).carry_out().unwrap();
        assert!(!socket.exists());
        assert!(Remedy::RemoveSocket(file.clone()).carry_out().is_err() && file.exists());
        assert!(Remedy::RemoveSocket(socket).carry_out().is_err());
    }
}
