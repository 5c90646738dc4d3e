//! Text that is in memory alone and can be handed on as a descriptor: no disk has it, and nobody can change it.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fchmod};

const SEALED: SealFlag =
    SealFlag::F_SEAL_SEAL.union(SealFlag::F_SEAL_SHRINK).union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_WRITE);
/// What is read at most.
const MAX_BYTES: u64 = 1024 * 1024;

/// Puts `text` where nobody can change it any more. `name` is what `/proc` shows.
///
/// # Errors
/// Those of the kernel, most of all that there is no descriptor to be had.
pub fn seal(name: &str, text: &str) -> io::Result<OwnedFd> {
    let name = CString::new(name)?;
    let mut file = File::from(memfd_create(name.as_c_str(), MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    fchmod(&file, Mode::S_IRUSR | Mode::S_IWUSR)?;
    file.write_all(text.as_bytes())?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SEALED))?;
    Ok(file.into())
}

/// Whether this is such a text.
#[must_use]
pub fn is_sealed(descriptor: BorrowedFd<'_>) -> bool {
    let seals = fcntl(descriptor, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_truncate);
    seals.is_ok_and(|seals| seals.contains(SEALED))
}

/// The text in `sealed`, read from its start whoever has read it before.
///
/// # Errors
/// If it is longer than any that is sealed here, or not UTF-8.
pub fn read(sealed: OwnedFd) -> io::Result<String> {
    let file = File::from(sealed);
    let length = file.metadata()?.len();
    if length > MAX_BYTES {
        return Err(io::Error::other(format!("{length} bytes; at most {MAX_BYTES} are read")));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_sealed_text_is_read_as_often_as_wanted_and_changed_by_nobody() {
        let sealed = seal("text", "turn: {}\n").unwrap();
        assert!(is_sealed(sealed.as_fd()));
        assert_eq!(read(sealed.try_clone().unwrap()).unwrap(), "turn: {}\n");
        assert_eq!(read(sealed.try_clone().unwrap()).unwrap(), "turn: {}\n");
        let mut file = File::from(sealed);
        assert!(file.write_all(b"x").is_err());
        assert!(file.set_len(0).is_err());
    }

    #[test]
    fn what_could_be_changed_is_not_taken_for_one() {
        let file = tempfile::tempfile().unwrap();
        assert!(!is_sealed(file.as_fd()));
        let open = memfd_create(c"open", MFdFlags::MFD_ALLOW_SEALING).unwrap();
        assert!(!is_sealed(open.as_fd()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!is_sealed(listener.as_fd()));
    }

    #[test]
    fn a_text_of_any_size_is_read_within_bounds() {
        assert_eq!(read(seal("empty", "").unwrap()).unwrap(), "");
        let most = "x".repeat(1024 * 1024);
        assert_eq!(read(seal("most", &most).unwrap()).unwrap(), most);
        assert!(read(seal("more", &(most + "x")).unwrap()).is_err());
    }
}
