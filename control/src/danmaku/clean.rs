//! What is too old, or too much: closed segments go, the oldest first.
//!
//! Owns the choice. Holds the desk for one removal at a time.

use super::index::{self, Index};
use super::place::{Kind, Place, Source};
use super::shelf::{Shelf, disk_bytes};
use std::io;

const DAY_MS: u64 = 24 * 3_600_000;

/// A closed segment, its age and what it takes on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Old {
    /// When its lines were said; of a video, when the last one was.
    pub(super) at_ms: u64,
    /// The last one of a recording, which goes last, has what that takes beside them.
    pub(super) bytes: u64,
    pub(super) place: Place,
}

/// All there are, the oldest first.
pub(super) fn walk(shelf: &dyn Shelf) -> io::Result<Vec<Old>> {
    let mut all = Vec::new();
    for source in shelf.list("")?.iter().filter_map(|name| Source::of_folder(name)) {
        for recording in index::recordings(shelf, &source)? {
            let Some(index) = Index::read(shelf, &source, recording)? else { continue };
            let (length_ms, mut beside) = (index.length_ms, index.disk_bytes()?);
            let first = all.len();
            for (number, entry) in index.segments.into_iter().rev() {
                let end_ms = recording.start_ms + u64::from(number + 1) * u64::from(length_ms);
                let at_ms = match source.kind {
                    Kind::Room => end_ms,
                    Kind::Video => index.changed_ms,
                };
                let place = Place { source: source.clone(), recording, number, length_ms };
                let bytes = disk_bytes(entry.bytes) + std::mem::take(&mut beside);
                all.push(Old { at_ms, bytes, place });
            }
            all[first..].reverse();
        }
    }
    all.sort_by_key(|old| old.at_ms);
    Ok(all)
}

/// Of all, the oldest first: how many go by age, and how many more for want of room. What goes for
/// room leaves a twentieth free, so that not each new segment asks again.
pub(super) fn choose(all: &[Old], now_ms: u64, days: u32, bytes_max: u64) -> (usize, usize) {
    let kept_ms = u64::from(days) * DAY_MS;
    let is_old = |old: &Old| days > 0 && old.at_ms + kept_ms <= now_ms;
    let by_age = all.partition_point(is_old);
    let mut bytes: u64 = all[by_age..].iter().map(|old| old.bytes).sum();
    if bytes <= bytes_max {
        return (by_age, 0);
    }
    let mut for_room = 0;
    for old in &all[by_age..] {
        if bytes <= bytes_max - bytes_max / 20 {
            break;
        }
        bytes -= old.bytes;
        for_room += 1;
    }
    (by_age, for_room)
}

#[cfg(test)]
mod tests {
    use super::super::testing::place;
    use super::*;

    #[test]
    fn the_oldest_go_by_age_and_for_room() {
        let old = |day: u64| Old { at_ms: day * DAY_MS, bytes: 100, place: place() };
        let all: Vec<Old> = (0..10).map(old).collect();
        let now_ms = 10 * DAY_MS;
        assert_eq!(choose(&all, now_ms, 0, 1_000), (0, 0), "kept for ever");
        assert_eq!(choose(&all, now_ms, 7, 1_000), (4, 0), "seven days old, and older");
        assert_eq!(choose(&all, now_ms, 0, 999), (0, 1));
        assert_eq!(choose(&all, now_ms, 0, 500), (0, 6));
        assert_eq!(choose(&all, now_ms, 8, 500), (3, 3));
        assert_eq!(choose(&[], now_ms, 8, 0), (0, 0));
    }
}
