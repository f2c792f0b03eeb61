//! The file in which an open segment stands until it is closed, so that a crash takes no more than
//! what was not written yet.
//!
//! Owns its form: a line of JSON that says whose it is, then lines behind their lengths. A torn end
//! is what a crash leaves; it is passed over. Never decides what is kept.

use super::place::Place;
use super::shelf::write_whole;
use prost::Message as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use uproar_proto::v1::DanmakuLine;

/// The end of the files' names.
pub(super) const SUFFIX: &str = ".spool";

/// See the module.
pub(super) struct Spool {
    path: PathBuf,
    header: Vec<u8>,
    file: Option<File>,
    /// Not written yet.
    buffer: Vec<u8>,
    written_bytes: u64,
    /// What it has is no longer what the segment has: it is to be written anew.
    stale: bool,
}

impl Spool {
    /// Of a segment in this folder; nothing is written before the first flush.
    pub(super) fn new(folder: &Path, place: &Place) -> Spool {
        let mut header = serde_json::to_vec(place).unwrap_or_default();
        header.push(b'\n');
        let path = folder.join(format!("{}{SUFFIX}", place.file_name()));
        let (buffer, written_bytes) = (Vec::new(), 0);
        Spool { path, header, file: None, buffer, written_bytes, stale: true }
    }

    /// A line the segment has taken in.
    pub(super) fn push(&mut self, line: &DanmakuLine) {
        // A Vec takes every byte.
        let _ = line.encode_length_delimited(&mut self.buffer);
    }

    /// The segment has lost lines that are here.
    pub(super) fn rewrite(&mut self) {
        self.stale = true;
    }

    /// Whether most of it is lines that the segment left out since.
    fn is_bloated(&self, kept_bytes: usize) -> bool {
        self.written_bytes > 2 * kept_bytes as u64 + (1 << 20)
    }

    /// Writes what is new; all lines of the segment where that is not enough.
    pub(super) fn flush<'a>(
        &mut self,
        lines: impl Iterator<Item = &'a DanmakuLine>,
        kept_bytes: usize,
    ) -> io::Result<()> {
        if self.stale || self.is_bloated(kept_bytes) {
            self.write_anew(lines)
        } else {
            self.append()
        }
    }

    fn append(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let written = file.write_all(&self.buffer);
        // A part of it may be there: nothing can be appended behind that.
        self.stale = written.is_err();
        self.written_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        written
    }

    fn write_anew<'a>(&mut self, lines: impl Iterator<Item = &'a DanmakuLine>) -> io::Result<()> {
        self.stale = true;
        self.file = None;
        let mut bytes = self.header.clone();
        for line in lines {
            let _ = line.encode_length_delimited(&mut bytes);
        }
        // The segment has them, and they are written from there.
        self.buffer.clear();
        // A segment's beginning must not wait for the disk: other rooms would wait behind it.
        write_whole(&self.path, &bytes, false)?;
        self.file = Some(OpenOptions::new().append(true).open(&self.path)?);
        self.written_bytes = bytes.len() as u64;
        self.stale = false;
        Ok(())
    }

    /// The segment is kept elsewhere.
    pub(super) fn remove(self) {
        let _ = std::fs::remove_file(&self.path); // a leftover is read, and closed once more
    }
}

/// What is left of a segment; `None`: it is none.
pub(super) fn read(path: &Path) -> io::Result<Option<(Place, Vec<DanmakuLine>)>> {
    let bytes = std::fs::read(path)?;
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let Ok(place) = serde_json::from_slice::<Place>(&bytes[..end]) else { return Ok(None) };
    let (mut rest, mut lines) = (&bytes[end + 1..], Vec::new());
    while !rest.is_empty()
        && let Ok(line) = DanmakuLine::decode_length_delimited(&mut rest)
    {
        lines.push(line);
    }
    Ok(Some((place, lines)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Folder, line, place};
    use super::*;
    use uproar_proto::v1::Class;

    #[test]
    fn what_was_flushed_is_read_also_behind_a_torn_end() {
        let folder = Folder::new();
        let mut spool = Spool::new(folder.path(), &place());
        let lines: Vec<DanmakuLine> = (1..=4).map(|seq| line(seq, Class::Chat, 5)).collect();
        spool.flush(lines[..1].iter(), 1_000).unwrap();
        lines[1..3].iter().for_each(|line| spool.push(line));
        spool.flush(lines[..3].iter(), 1_000).unwrap();
        spool.push(&lines[3]);
        let path = spool.path.clone();
        assert_eq!(read(&path).unwrap().unwrap(), (place(), lines[..3].to_vec()));
        spool.flush(lines.iter(), 1_000).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in 1..20 {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let (_, read) = read(&path).unwrap().unwrap();
            assert_eq!(read, lines[..read.len()], "{cut} bytes less");
            assert!(read.len() >= 2, "{cut} bytes less");
        }
        std::fs::write(&path, "nothing of ours").unwrap();
        assert_eq!(read(&path).unwrap(), None);
    }

    #[test]
    fn lines_that_were_left_out_do_not_grow_the_file_for_ever() {
        let folder = Folder::new();
        let mut spool = Spool::new(folder.path(), &place());
        let kept = [line(1, Class::Chat, 5)];
        for seq in 1..=200_000 {
            spool.push(&line(seq, Class::Chat, 5));
            if seq % 100 == 0 {
                spool.flush(kept.iter(), 200).unwrap();
            }
        }
        let length = std::fs::metadata(&spool.path).unwrap().len();
        assert!(length < 2 << 20, "{length}");
    }
}
