//! Reads the lines of a log and its files that were put aside, and goes on reading while they are put aside.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::sys::log::numbered;

/// No file is put aside under a larger number: `log.keep` is at most 100.
const MAX_NUMBER: u32 = 100;
/// Bytes that are read at a time.
const BLOCK: usize = 64 * 1024;
/// Bytes of a line; what is longer is no line of ours and is cut.
const MAX_LINE: usize = 256 * 1024;

/// The lines of a log, from the oldest file on.
pub(super) struct Follow {
    path: PathBuf,
    /// Files that are still to be read, before the one that is written.
    waiting: VecDeque<File>,
    current: Option<File>,
    /// What was read of a line that has no end yet.
    partial: Vec<u8>,
}

impl Follow {
    /// Begins with the oldest file that was written to after `since`.
    pub(super) fn new(path: &Path, since: Option<SystemTime>) -> Self {
        let is_wanted = |file: &File| {
            let written_at = file.metadata().and_then(|data| data.modified()).ok();
            since.is_none_or(|since| written_at.is_none_or(|at| at >= since))
        };
        // The newest first: what is put aside in between is opened twice rather than not at all.
        let current = File::open(path).ok();
        let mut waiting = VecDeque::new();
        for number in 1..=MAX_NUMBER {
            let Ok(file) = File::open(numbered(path, number)) else { continue };
            if identity(&file) != current.as_ref().and_then(identity) && is_wanted(&file) {
                waiting.push_front(file);
            }
        }
        Self { path: path.to_path_buf(), waiting, current, partial: Vec::new() }
    }

    /// Whether there is any file.
    pub(super) fn is_there(&self) -> bool {
        self.current.is_some() || !self.waiting.is_empty()
    }

    /// Gives every line that is there now and was not given before, until `give` says that it is enough.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(super) fn read(&mut self, give: &mut dyn FnMut(&str) -> bool) -> io::Result<bool> {
        while let Some(mut file) = self.waiting.pop_front() {
            // Nothing is added to these any more, so a line without an end ends here.
            if !self.drain(&mut file, give)? || !self.end_line(give) {
                return Ok(false);
            }
        }
        loop {
            let Some(mut file) = self.current.take() else {
                self.current = File::open(&self.path).ok();
                if self.current.is_none() {
                    return Ok(true);
                }
                continue;
            };
            // Before it is read: what is written to it afterwards is found by the next call.
            let was_put_aside =
                identity(&file) != std::fs::metadata(&self.path).ok().map(|data| (data.dev(), data.ino()));
            if !self.drain(&mut file, give)? {
                return Ok(false);
            }
            if !was_put_aside {
                self.current = Some(file);
                return Ok(true);
            }
            if !self.end_line(give) {
                return Ok(false);
            }
            self.waiting = self.after(&file);
            while let Some(mut file) = self.waiting.pop_front() {
                if !self.drain(&mut file, give)? || !self.end_line(give) {
                    return Ok(false);
                }
            }
        }
    }

    /// The files between the one that was put aside and the one that is written.
    fn after(&self, file: &File) -> VecDeque<File> {
        let mut between = VecDeque::new();
        for number in 1..=MAX_NUMBER {
            let Ok(newer) = File::open(numbered(&self.path, number)) else { break };
            if identity(&newer) == identity(file) {
                return between;
            }
            between.push_front(newer);
        }
        // It is not among them any more: whatever there is has come after it, or was read long ago.
        VecDeque::new()
    }

    fn drain(&mut self, file: &mut File, give: &mut dyn FnMut(&str) -> bool) -> io::Result<bool> {
        let mut block = vec![0; BLOCK];
        loop {
            let length = file.read(&mut block)?;
            if length == 0 {
                return Ok(true);
            }
            let mut rest = &block[..length];
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                self.partial.extend_from_slice(&rest[..end]);
                rest = &rest[end + 1..];
                if !self.end_line(give) {
                    return Ok(false);
                }
            }
            let room = MAX_LINE.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&rest[..rest.len().min(room)]);
        }
    }

    fn end_line(&mut self, give: &mut dyn FnMut(&str) -> bool) -> bool {
        let line = std::mem::take(&mut self.partial);
        line.is_empty() || give(&String::from_utf8_lossy(&line))
    }
}

fn identity(file: &File) -> Option<(u64, u64)> {
    file.metadata().ok().map(|data| (data.dev(), data.ino()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    struct Scene {
        folder: tempfile::TempDir,
        path: PathBuf,
    }

    impl Scene {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("rtcctl.log");
            Self { folder, path }
        }

        fn write(&self, text: &str) {
            let mut file = File::options().append(true).create(true).open(&self.path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }

        fn put_aside(&self) {
            for number in (1..5).rev() {
                let _ = std::fs::rename(numbered(&self.path, number), numbered(&self.path, number + 1));
            }
            std::fs::rename(&self.path, numbered(&self.path, 1)).unwrap();
        }
    }

    fn lines(follow: &mut Follow) -> Vec<String> {
        let mut lines = Vec::new();
        let mut give = |line: &str| {
            lines.push(line.to_owned());
            true
        };
        assert!(follow.read(&mut give).unwrap());
        lines
    }

    #[test]
    fn lines_come_in_order_across_files_and_while_files_are_put_aside() {
        let scene = Scene::new();
        let mut follow = Follow::new(&scene.path, None);
        assert!(!follow.is_there());
        for line in ["a\n", "b\n", "c\n"] {
            scene.write(line);
            scene.put_aside();
        }
        scene.write("d\nhalf");
        let mut follow_all = Follow::new(&scene.path, None);
        assert_eq!(lines(&mut follow_all), ["a", "b", "c", "d"]);
        assert_eq!(lines(&mut follow), ["d"], "it began when there was nothing");
        scene.write(" a line\n");
        assert_eq!(lines(&mut follow_all), ["half a line"]);
        scene.write("e\n");
        scene.put_aside();
        scene.write("f\n");
        scene.put_aside();
        scene.write("g\n");
        assert_eq!(lines(&mut follow_all), ["e", "f", "g"], "two files at once");
        assert!(lines(&mut follow_all).is_empty());
        drop(scene.folder);
    }

    #[test]
    fn a_reader_that_has_enough_ends_the_reading() {
        let scene = Scene::new();
        scene.write("a\nb\nc\n");
        let mut count = 0;
        let mut give = |_: &str| {
            count += 1;
            count < 2
        };
        assert!(!Follow::new(&scene.path, None).read(&mut give).unwrap());
        assert_eq!(count, 2);
    }
}
