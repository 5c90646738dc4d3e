//! What is left of what this host has: room on disks, open files, buffers of sockets.

use std::io;
use std::path::Path;

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};

/// Room on the disk that a path is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// For who is not root.
    pub free_bytes: u64,
    pub total_bytes: u64,
}

/// Asks for the disk of `path`.
///
/// # Errors
/// What the kernel says.
pub fn on_disk(path: &Path) -> io::Result<Room> {
    let found = statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.fragment_size());
    Ok(Room { free_bytes: bytes(found.blocks_available()), total_bytes: bytes(found.blocks()) })
}

/// Whether this user could write to `path`.
///
/// # Errors
/// Why not.
pub fn writable(path: &Path) -> io::Result<()> {
    if statvfs(path)?.flags().contains(FsFlags::ST_RDONLY) {
        return Err(io::ErrorKind::ReadOnlyFilesystem.into());
    }
    Ok(access(path, AccessFlags::W_OK)?)
}

/// How many files and sockets this process has open; `None` where the system does not tell.
#[must_use]
pub fn open_files() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    // Linux 6.2 and later tell the number as the folder's size: proc_pid_fd(5). Thousands of entries take a while.
    match std::fs::metadata(FOLDER).ok()?.len() {
        // The folder that is read is open itself.
        0 => u64::try_from(std::fs::read_dir(FOLDER).ok()?.count()).ok()?.checked_sub(1),
        count => Some(count),
    }
}

/// How many datagrams the kernel has dropped for lack of room, of all UDP sockets that have one of these ports.
#[must_use]
pub fn dropped_datagrams(ports: &[u16]) -> u64 {
    let tables = ["/proc/net/udp", "/proc/net/udp6"].into_iter();
    tables.filter_map(|table| std::fs::read_to_string(table).ok()).map(|table| drops_of(&table, ports)).sum()
}

fn drops_of(table: &str, ports: &[u16]) -> u64 {
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, port) = fields.get(1)?.rsplit_once(':')?;
        let is_ours = ports.contains(&u16::from_str_radix(port, 16).ok()?);
        fields.last().filter(|_| is_ours)?.parse::<u64>().ok()
    };
    table.lines().skip(1).filter_map(of_line).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drops_of_a_port_are_added_up() {
        let table = "\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  100: 00000000:0D96 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 5
  101: 00000000:0D96 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 7
  102: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4713 2 0000000000000000 9
garbage
";
        assert_eq!(drops_of(table, &[3478]), 12);
        assert_eq!(drops_of(table, &[]), 0);
    }

    #[test]
    fn this_host_has_some_room_and_this_process_some_files() {
        let folder = tempfile::tempdir().unwrap();
        let room = on_disk(folder.path()).unwrap();
        assert!(room.total_bytes >= room.free_bytes && room.total_bytes > 0);
        writable(folder.path()).unwrap();
        assert!(writable(&folder.path().join("missing")).is_err());
        let before = open_files().unwrap();
        let _files: Vec<_> = (0..50).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        assert!(open_files().unwrap() >= before.saturating_sub(20) + 50);
    }
}
