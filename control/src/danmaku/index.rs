//! What a recording has: its closed segments, and how far it has come.
//!
//! Owns the value that stands beside the segments on the shelf, how both are written, and what they
//! take there.

use super::place::{Recording, Source, folder, index_name, segment_name};
use super::shelf::{Shelf, disk_bytes, folder_bytes};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use uproar_proto::v1::DanmakuSegment;

/// How hard segments are compressed: the default of zstd, 2 ms for a full one.
const LEVEL: i32 = 3;
/// A segment that is larger than this, uncompressed, is none of ours.
const SEGMENT_BYTES_MAX: usize = 1 << 30;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Index {
    /// The length of its segments.
    pub(crate) length_ms: u32,
    /// When it was last written, milliseconds since 1970.
    pub(crate) changed_ms: u64,
    /// The seq of the next line; lower ones have come. 0: any.
    pub(crate) next_seq: u64,
    /// Lines that were lost on the way, or with a segment that could not be written.
    pub(crate) lines_lost: u64,
    /// By number.
    pub(crate) segments: BTreeMap<u32, Entry>,
}

/// A closed segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Rises with each change.
    pub(crate) version: u32,
    pub(crate) lines: u32,
    /// Lines that came and were not kept.
    pub(crate) left_out: u32,
    /// On the shelf.
    pub(crate) bytes: u64,
    /// Of its lines.
    pub(crate) seq_min: u64,
    pub(crate) seq_max: u64,
}

impl Index {
    /// Reads a recording's; `None`: it has nothing closed.
    pub(super) fn read(
        shelf: &dyn Shelf,
        source: &Source,
        recording: Recording,
    ) -> io::Result<Option<Index>> {
        let Some(bytes) = shelf.get(&index_name(source, recording))? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(io::Error::other)
    }

    pub(super) fn write(
        &self,
        shelf: &dyn Shelf,
        source: &Source,
        recording: Recording,
    ) -> io::Result<()> {
        shelf.put(&index_name(source, recording), &serde_json::to_vec(self)?)
    }

    /// What a recording takes beside its segments: this, its folder, and that of its source, which
    /// is counted with each. Bytes of a disk; nothing is there before the first segment.
    pub(super) fn disk_bytes(&self) -> io::Result<u64> {
        if self.segments.is_empty() {
            return Ok(0);
        }
        Ok(disk_bytes(serde_json::to_vec(self)?.len() as u64) + folder_bytes(2))
    }

    /// Writes a segment and what the index says of it: bytes of a disk gained.
    pub(super) fn put(
        &mut self,
        shelf: &dyn Shelf,
        (source, recording): (&Source, Recording),
        segment: &DanmakuSegment,
        now_ms: u64,
    ) -> io::Result<i64> {
        let beside = self.disk_bytes()?;
        let bytes = zstd::encode_all(&segment.encode_to_vec()[..], LEVEL)?;
        shelf.put(&segment_name(source, recording, segment.number), &bytes)?;
        let seqs = || segment.lines.iter().map(|line| line.seq);
        let entry = Entry {
            version: segment.version,
            lines: segment.lines.len() as u32,
            left_out: segment.left_out,
            bytes: bytes.len() as u64,
            seq_min: seqs().min().unwrap_or(0),
            seq_max: seqs().max().unwrap_or(0),
        };
        let former = self.segments.insert(segment.number, entry);
        let former = former.map_or(0, |former| disk_bytes(former.bytes)) + beside;
        self.changed_ms = now_ms;
        self.write(shelf, source, recording)?;
        let bytes = disk_bytes(entry.bytes) + self.disk_bytes()?;
        Ok(bytes.cast_signed() - former.cast_signed())
    }
}

/// Reads a closed segment; `None`: there is none.
pub(super) fn read_segment(
    shelf: &dyn Shelf,
    source: &Source,
    recording: Recording,
    number: u32,
) -> io::Result<Option<DanmakuSegment>> {
    let Some(bytes) = shelf.get(&segment_name(source, recording, number))? else {
        return Ok(None);
    };
    let mut plain = Vec::new();
    let decoder = zstd::Decoder::new(&bytes[..])?;
    io::Read::read_to_end(&mut io::Read::take(decoder, SEGMENT_BYTES_MAX as u64), &mut plain)?;
    DanmakuSegment::decode(&plain[..]).map(Some).map_err(io::Error::other)
}

/// Recordings of a source, the oldest first.
pub(super) fn recordings(shelf: &dyn Shelf, source: &Source) -> io::Result<Vec<Recording>> {
    let names = shelf.list(&source.folder())?;
    Ok(names.iter().filter_map(|name| Recording::of_id(name)).collect())
}

/// Removes a closed segment, and its recording where it was the last one.
pub(super) fn remove_segment(
    shelf: &dyn Shelf,
    (source, recording): (&Source, Recording),
    index: &mut Index,
    number: u32,
) -> io::Result<()> {
    // Where the second step fails, both are tried again: what the index names is looked for.
    shelf.remove(&segment_name(source, recording, number))?;
    index.segments.remove(&number);
    index.write(shelf, source, recording)?;
    if index.segments.is_empty() {
        shelf.remove(&folder(source, recording))?;
    }
    Ok(())
}
