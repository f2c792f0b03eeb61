//! What there is, for whoever replays it.
//!
//! Holds the desk for moments, never while the shelf is read: readers are many, and lines must go
//! on being taken in.

use super::desk::{Desk, RecordingView, View};
use super::index::{self, Index, read_segment};
use super::place::{Recording, Source};
use super::shelf::Shelf;
use std::io;
use std::ops::Deref;

/// A segment as it is now; `None`: there is none.
pub(super) fn segment<D: Deref<Target = Desk>>(
    shelf: &dyn Shelf,
    desk: impl Fn() -> D,
    (source, recording, number): (&Source, Recording, u32),
) -> io::Result<Option<View>> {
    let open = desk().open_segment(source, recording, number);
    if open.is_some() {
        return Ok(open);
    }
    let read = read_segment(shelf, source, recording, number)?;
    Ok(read.map(|segment| View { segment, is_open: false }))
}

/// Recordings of a source that begin before this one, the latest first; at most so many.
pub(super) fn recordings<D: Deref<Target = Desk>>(
    shelf: &dyn Shelf,
    desk: impl Fn() -> D,
    source: &Source,
    before: Option<Recording>,
    limit: usize,
) -> io::Result<Vec<RecordingView>> {
    let mut all = index::recordings(shelf, source)?;
    all.extend(desk().active_recordings(source));
    all.sort_unstable();
    all.dedup();
    let wanted = all.into_iter().rev().filter(|one| before.is_none_or(|before| *one < before));
    let mut views = Vec::new();
    for one in wanted {
        views.extend(recording(shelf, &desk, source, one)?);
        if views.len() == limit {
            break;
        }
    }
    Ok(views)
}

/// What a recording has; `None`: nothing.
pub(super) fn recording<D: Deref<Target = Desk>>(
    shelf: &dyn Shelf,
    desk: impl Fn() -> D,
    source: &Source,
    recording: Recording,
) -> io::Result<Option<RecordingView>> {
    let active = desk().active_recording(source, recording);
    let view = match active {
        Some(view) => view,
        None => {
            let index = Index::read(shelf, source, recording)?.unwrap_or_default();
            RecordingView { recording, index, open: Vec::new() }
        }
    };
    let RecordingView { index, open, .. } = &view;
    let has = !open.is_empty() || !index.segments.is_empty() || index.lines_lost > 0;
    Ok(has.then_some(view))
}
