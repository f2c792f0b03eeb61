//! What control told this engine last of what it must never be without: the list of the filter and
//! the blocks. Kept in a file, so that an engine that starts while control is away has them.
//!
//! Owns the file and its form, the pace it is written at, and whether both lists are known. Never
//! looks into a list, and never holds up what is told.

use crate::config::Config;
use crate::{v1, words};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::sleep;
use uproar_proto::blocks::BlockList;
use uproar_proto::control::{FilterList, Tell};

/// Between two writings: a filter may be changed by the word, and a list may be large.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// Bytes of the file: both lists at their largest, four times. Larger: it is no file of ours.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// What the file begins with, before the version of the link, whose messages it holds.
const MARK: &str = "uproar-known";

/// Both lists, where they are known.
#[derive(Clone, Default)]
pub struct Lists {
    /// What messages of rooms are held against.
    pub filter: Option<Arc<FilterList>>,
    /// Who may not connect.
    pub blocks: Option<Arc<BlockList>>,
}

/// See the module.
pub(super) struct Known {
    /// `None`: nothing is kept.
    file: Option<PathBuf>,
    /// The lists of another control are not this one's.
    control: String,
    lists: Mutex<Lists>,
    changed: Notify,
    written: AtomicU64,
    failed: AtomicU64,
}

impl Known {
    pub(super) fn new(config: &Config) -> Known {
        let file = &config.known_file;
        Known {
            file: (!file.as_os_str().is_empty()).then(|| file.clone()),
            control: config.control.trim_end_matches('/').to_owned(),
            lists: Mutex::default(),
            changed: Notify::new(),
            written: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// What the file holds, if `fits` finds the filter good; what is no good is told in the log,
    /// and counts as none.
    pub(super) fn read(&self, fits: impl Fn(&Arc<FilterList>) -> Result<(), String>) -> Lists {
        let Some(file) = &self.file else { return Lists::default() };
        let read = read(file, &self.control).and_then(|lists| {
            lists.iter().filter_map(|lists| lists.filter.as_ref()).try_for_each(fits)?;
            Ok(lists)
        });
        match read {
            Ok(Some(lists)) => {
                let file = file.display();
                tracing::info!(%file, "filter and blocks are as they were told last");
                *self.lists() = lists.clone();
                lists
            }
            Ok(None) => Lists::default(),
            Err(error) => {
                tracing::error!(file = %file.display(), "link.known_file counts as none: {error}");
                Lists::default()
            }
        }
    }

    /// Whether there are both: from the file, or from control.
    pub(super) fn is_whole(&self) -> bool {
        let lists = self.lists();
        lists.filter.is_some() && lists.blocks.is_some()
    }

    /// One of the lists is this now.
    pub(super) fn told(&self, list: &Tell) {
        let mut lists = self.lists();
        // Every session begins with both, and most often nothing has changed.
        let is_new = match list {
            Tell::Filter(list) => lists.filter.replace(Arc::clone(list)).as_ref() != Some(list),
            Tell::Blocks(list) => lists.blocks.replace(Arc::clone(list)).as_ref() != Some(list),
            _ => false,
        };
        if is_new {
            self.changed.notify_one();
        }
    }

    /// Figures: times it was written, and could not be.
    pub(super) fn counts(&self) -> [&AtomicU64; 2] {
        [&self.written, &self.failed]
    }

    /// Writes the file whenever a list has changed, for ever.
    pub(super) async fn keep(self: Arc<Known>) {
        let Some(file) = self.file.clone() else { return };
        let mut is_told = false;
        loop {
            self.changed.notified().await;
            let lists = self.lists().clone();
            let (Some(filter), Some(blocks)) = (lists.filter, lists.blocks) else { continue };
            let (file, control) = (file.clone(), self.control.clone());
            let write = move || {
                let bytes = encoded(&control, [Tell::Filter(filter), Tell::Blocks(blocks)]);
                write(&file, &bytes).map_err(|e| format!("{}: {e}", file.display()))
            };
            // A disk may take its time, and this runtime carries the link.
            let done = tokio::task::spawn_blocking(write).await;
            match done.unwrap_or_else(|e| Err(e.to_string())) {
                Ok(()) => {
                    self.written.fetch_add(1, Relaxed);
                    is_told = false;
                }
                Err(error) => {
                    self.failed.fetch_add(1, Relaxed);
                    if !is_told {
                        tracing::error!("link.known_file cannot be written: {error}");
                    }
                    is_told = true;
                    self.changed.notify_one(); // a disk that was full may have room
                }
            }
            sleep(WRITE_EVERY).await;
        }
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the file is to hold: a line that says what it is and what it adds up to, then the lists.
fn encoded(control: &str, told: [Tell; 2]) -> Vec<u8> {
    let told = told.into_iter().filter_map(words::from_tell).collect();
    let lists = v1::Known { control: control.to_owned(), told }.encode_to_vec();
    let mut bytes = line_of(&lists).into_bytes();
    bytes.extend(lists);
    bytes
}

fn line_of(lists: &[u8]) -> String {
    let sum: String = Sha256::digest(lists).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{MARK} {} {sum}\n", crate::VERSION)
}

/// The lists a file holds; `None`: there is no file.
fn read(file: &Path, control: &str) -> Result<Option<Lists>, String> {
    let opened = match std::fs::File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut bytes = Vec::new();
    opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it has more than {FILE_BYTES_MAX} bytes"));
    }
    decoded(&bytes, control).map(Some)
}

fn decoded(bytes: &[u8], control: &str) -> Result<Lists, String> {
    let damaged = |what: &str| format!("it is damaged: {what}");
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (line, lists) = bytes.split_at(end.map_or(0, |end| end + 1));
    let said = std::str::from_utf8(line).map_err(|_| damaged("its first line is no text"))?;
    let version = said.strip_prefix(MARK).and_then(|rest| rest.split_whitespace().next());
    let version = version.ok_or_else(|| damaged("its first line is not one of ours"))?;
    if version != crate::VERSION.to_string() {
        let here = crate::VERSION;
        return Err(format!("it is of another release: version {version}, here it is {here}"));
    }
    if said != line_of(lists) {
        return Err(damaged("its sum is not what its first line says"));
    }
    let known = v1::Known::decode(lists).map_err(|e| damaged(&e.to_string()))?;
    if known.control != control {
        return Err(format!("it is of another control, {}", known.control));
    }
    let mut lists = Lists::default();
    for tell in known.told {
        match words::to_tell(tell).map_err(damaged)? {
            Tell::Filter(list) => lists.filter = Some(list),
            Tell::Blocks(list) => lists.blocks = Some(list),
            _ => return Err(damaged("it holds what is no list")),
        }
    }
    Ok(lists)
}

/// It is there whole or as it was before; nobody else's to read.
fn write(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let mut made =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    let written = made.write_all(bytes).and_then(|()| made.sync_all());
    let renamed = written.and_then(|()| std::fs::rename(&beside, file));
    if renamed.is_err() {
        let _ = std::fs::remove_file(&beside); // what is left of it does no harm
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::*;
    use uproar_proto::blocks::{Block, BlockKind};

    const HERE: &str = "http://127.0.0.1:7470";

    fn told() -> [Tell; 2] {
        let (words, regexes) = ("spam\n".into(), String::new());
        let block = Block { kind: BlockKind::Device, value: "stolen".into(), until_s: 7 };
        [
            Tell::Filter(Arc::new(FilterList { version: 3, words, regexes })),
            Tell::Blocks(Arc::new(BlockList { version: 2, blocks: vec![block] })),
        ]
    }

    #[test]
    fn the_lists_come_back_as_they_were_told() {
        let lists = decoded(&encoded(HERE, told()), HERE).unwrap();
        let [Tell::Filter(filter), Tell::Blocks(blocks)] = told() else { unreachable!() };
        assert_eq!((lists.filter, lists.blocks), (Some(filter), Some(blocks)));
    }

    #[test]
    fn a_file_that_is_damaged_or_of_another_release_or_control_counts_as_none() {
        let good = encoded(HERE, told());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(decoded(&bad, HERE).is_err(), "byte {at}");
            assert!(decoded(&good[..at], HERE).is_err(), "cut at {at}");
        }
        let other =
            String::from_utf8_lossy(&good).replacen(&format!(" {} ", crate::VERSION), " 0 ", 1);
        let error = decoded(other.as_bytes(), HERE).err().unwrap();
        assert!(error.contains("another release: version 0"), "{error}");
        let error = decoded(&good, "http://10.0.0.1:7470").err().unwrap();
        assert!(error.contains("another control"), "{error}");
    }

    #[test]
    fn a_filter_that_does_not_fit_counts_as_none_and_no_file_is_no_error() {
        let name = format!("uproar-known-{}", crate::random_name());
        let config = Config { known_file: std::env::temp_dir().join(name), ..Config::default() };
        let known = Known::new(&config);
        assert!(known.read(|_| Ok(())).filter.is_none());
        write(&config.known_file, &encoded(HERE, told())).unwrap();
        assert!(known.read(|_| Err("too large".into())).filter.is_none());
        assert!(!known.is_whole());
        assert!(known.read(|_| Ok(())).blocks.is_some() && known.is_whole());
        std::fs::remove_file(&config.known_file).unwrap();
    }
}
