//! Where what is written once is kept: whole values by name, in folders.
//!
//! Owns how a value becomes durable as a whole. Knows no segment.

use crate::paths::with_ending;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// A place for values. Names have `/` between folders; none has `..`.
pub(super) trait Shelf: Send + Sync {
    /// Writes a value, in place of the one of that name; afterwards it outlives a loss of power.
    fn put(&self, name: &str, value: &[u8]) -> io::Result<()>;
    /// Reads one.
    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// The names directly below a folder, in their order; none where there is no such folder.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;
    /// Removes a value, or a folder with what is in it; it may be gone already. The folder it was
    /// in goes too, where nothing else is in it.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// On a disk of this machine.
pub(super) struct Disk {
    root: PathBuf,
}

impl Disk {
    /// Below this directory, which is made with the first value.
    pub(super) fn new(root: PathBuf) -> Disk {
        Disk { root }
    }
}

impl Shelf for Disk {
    fn put(&self, name: &str, value: &[u8]) -> io::Result<()> {
        let path = self.root.join(name);
        write_whole(&path, value, true)?;
        // The name is durable with its folder.
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }

    fn get(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.root.join(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.root.join(folder)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            // What is not UTF-8 is not ours.
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.root.join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        match removed {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed?,
        }
        self.prune(name);
        Ok(())
    }
}

impl Disk {
    /// Removes the folders of a name that have become empty. Whoever makes a value there at the
    /// same moment finds its folder gone, and tries again.
    pub(super) fn prune(&self, name: &str) {
        let mut folders = Path::new(name).parent();
        while let Some(folder) = folders.filter(|folder| !folder.as_os_str().is_empty()) {
            if fs::remove_dir(self.root.join(folder)).is_err() {
                return; // something is in it
            }
            folders = folder.parent();
        }
    }
}

/// What a disk gives in one piece, bytes.
const BLOCK_BYTES: u64 = 4_096;

/// What a value of so many bytes takes on a disk: whole blocks, one at least.
pub(super) fn disk_bytes(value_bytes: u64) -> u64 {
    value_bytes.max(1).next_multiple_of(BLOCK_BYTES)
}

/// What folders take: a block each.
pub(super) fn folder_bytes(folders: u64) -> u64 {
    folders * BLOCK_BYTES
}

/// Writes a file as a whole or not at all: beside it first, then in its place. Waits for the disk
/// where `sync` says so.
pub(super) fn write_whole(path: &Path, value: &[u8], sync: bool) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let beside = with_ending(path, ".new");
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(value)?;
        if sync { file.sync_all() } else { Ok(()) }
    });
    let placed = written.and_then(|()| fs::rename(&beside, path));
    if placed.is_err() {
        let _ = fs::remove_file(&beside); // what is left takes room on a disk that has none
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::super::testing::Folder;
    use super::*;

    #[test]
    fn a_value_is_there_as_a_whole_and_is_replaced_as_a_whole() {
        let folder = Folder::new();
        let disk = Disk::new(folder.path().join("deep/er"));
        assert_eq!(disk.get("a/b").unwrap(), None);
        assert!(disk.list("").unwrap().is_empty());
        disk.put("a/b", b"one").unwrap();
        disk.put("a/b", b"two").unwrap();
        disk.put("a/a", b"").unwrap();
        assert_eq!(disk.get("a/b").unwrap().unwrap(), b"two");
        assert_eq!(disk.list("a").unwrap(), ["a", "b"], "nothing is left beside it");
        disk.remove("a/a").unwrap();
        assert_eq!(disk.list("a").unwrap(), ["b"]);
        disk.remove("a").unwrap();
        disk.remove("a").unwrap();
        assert_eq!(disk.get("a/b").unwrap(), None);
        disk.put("a/b/c", b"one").unwrap();
        disk.put("a/d", b"two").unwrap();
        disk.remove("a/b/c").unwrap();
        assert_eq!(disk.list("a").unwrap(), ["d"], "an empty folder takes room too");
        disk.remove("a/d").unwrap();
        assert!(disk.list("").unwrap().is_empty());
    }

    #[test]
    fn a_place_that_is_none_is_an_error() {
        let folder = Folder::new();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let disk = Disk::new(folder.path().join("file"));
        assert!(disk.put("a/b", b"one").is_err());
        assert!(disk.list("a").is_err());
    }
}
