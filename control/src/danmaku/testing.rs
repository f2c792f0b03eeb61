//! For tests: lines, places, and a folder that is gone with its test.

use super::place::{Place, Recording, Source};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use uproar_proto::ids::RoomId;
use uproar_proto::v1::{Class, DanmakuLine, danmaku_line::Content};

static FOLDERS: AtomicU32 = AtomicU32::new(0);

pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Folder {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let name = format!("uproar-danmaku-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // a leftover does no harm
    }
}

pub(super) fn line(seq: u64, class: Class, weight: u32) -> DanmakuLine {
    let content = Some(Content::Text(format!("line {seq}")));
    let (class, user) = (class.into(), "u".into());
    DanmakuLine { offset_ms: 0, class, user, content, weight, seq, combo: None }
}

pub(super) fn place() -> Place {
    let source = Source::room(&RoomId::new("stage").unwrap());
    Place { source, recording: Recording { start_ms: 5, epoch: 7 }, number: 1, length_ms: 1_000 }
}
