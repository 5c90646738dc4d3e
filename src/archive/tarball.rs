//! Archives in memory: regular files with short names, nothing else.

use std::io::{Read as _, Write as _};
use std::time::SystemTime;

use crate::text;
use crate::words::Text;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tar::{Archive, Builder, EntryType, Header};

/// One file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub bytes: Vec<u8>,
    pub mode: u32,
}

impl Member {
    /// A file that its owner alone may read.
    #[must_use]
    pub fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), bytes: bytes.into(), mode: 0o600 }
    }
}

/// Packs the members as a compressed tar file, all of them of the moment `at`.
#[must_use]
pub fn pack(members: &[Member], at: SystemTime) -> Vec<u8> {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let write = || {
        let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        for member in members {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Regular);
            header.set_size(member.bytes.len() as u64);
            header.set_mode(member.mode);
            header.set_mtime(seconds);
            builder.append_data(&mut header, &member.name, &member.bytes[..])?;
        }
        let mut encoder = builder.into_inner()?;
        encoder.flush()?;
        encoder.finish()
    };
    write().expect("names of ours are short and relative, and memory takes all that is written")
}

/// Reads an archive whose files have at most `max_bytes` together.
///
/// # Errors
/// Why it is none of ours: it is cut off or damaged, is too large, or has something in it that is no plain file.
pub(super) fn unpack(bytes: &[u8], max_bytes: u64) -> Result<Vec<Member>, Text> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Err(text!("it is no compressed tar file"));
    }
    let damaged = |error: std::io::Error| text!("it is cut off or damaged: {}", error);
    // A little more than allowed, so that it is noticed when there is more.
    let mut plain = Vec::new();
    let read = GzDecoder::new(bytes).take(2 * max_bytes + 1).read_to_end(&mut plain).map_err(damaged)?;
    if read as u64 > 2 * max_bytes {
        return Err(text!("it has more than {} bytes in it", max_bytes));
    }
    let mut archive = Archive::new(&plain[..]);
    let mut members: Vec<Member> = Vec::new();
    let mut room = max_bytes;
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let name =
            std::str::from_utf8(&entry.path_bytes()).map_err(|_| text!("it has a name that is no text"))?.to_owned();
        if entry.header().entry_type() != EntryType::Regular {
            return Err(text!("`{}` in it is no plain file", name.escape_debug()));
        }
        if members.iter().any(|member| member.name == name) {
            return Err(text!("`{}` is in it twice", name.escape_debug()));
        }
        let mode = entry.header().mode().map_err(damaged)?;
        let size = entry.size();
        room = room.checked_sub(size).ok_or_else(|| text!("it has more than {} bytes in it", max_bytes))?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(damaged)?;
        if bytes.len() as u64 != size {
            return Err(text!("`{}` in it is cut off", name.escape_debug()));
        }
        members.push(Member { name, bytes, mode });
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked_and_the_same_each_time() {
        let members = [Member::new("manifest.json", "{}"), Member { mode: 0o644, ..Member::new("a/b", vec![0; 5000]) }];
        let packed = pack(&members, SystemTime::UNIX_EPOCH);
        assert_eq!(packed, pack(&members, SystemTime::UNIX_EPOCH));
        assert_eq!(unpack(&packed, 10_000).unwrap(), members);
    }

    #[test]
    fn what_is_damaged_too_large_or_no_file_is_refused() {
        let packed = pack(&[Member::new("a", vec![7; 5000])], SystemTime::UNIX_EPOCH);
        assert!(unpack(b"hello", 100).unwrap_err().contains("no compressed tar file"));
        for length in 2..packed.len() {
            assert!(unpack(&packed[..length], 10_000).is_err(), "{length}");
        }
        let mut flipped = packed.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0xff;
        assert!(unpack(&flipped, 10_000).is_err());
        assert!(unpack(&packed, 4_999).unwrap_err().contains("more than 4999 bytes"));
        let twice = pack(&[Member::new("a", "1"), Member::new("a", "2")], SystemTime::UNIX_EPOCH);
        assert!(unpack(&twice, 100_000).unwrap_err().contains("twice"));
        let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "a", "/etc/passwd").unwrap();
        let link = builder.into_inner().unwrap().finish().unwrap();
        assert!(unpack(&link, 100_000).unwrap_err().contains("no plain file"));
    }
}
