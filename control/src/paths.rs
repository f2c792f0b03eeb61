//! Names of files that stand beside another one.

use std::path::{Path, PathBuf};

/// The path with an ending behind all of it: `uproar.db` and `-wal` are `uproar.db-wal`.
pub(crate) fn with_ending(file: &Path, ending: &str) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(ending);
    PathBuf::from(path)
}
