//! Open segments, and the recordings they belong to: takes lines in, closes segments, recalls.
//!
//! Owns when a segment is opened and closed, and what is lost where there is no room or no disk.
//! Time comes in as a value. Whoever calls holds it alone.

use super::closing::Closing;
use super::config::DanmakuConfig;
use super::figures::{Figures, Lost};
use super::index::{self, Index, read_segment};
use super::place::{Kind, OF_VIDEO, Place, Recording, Source};
use super::segment::{Added, Bounds, Segment, bytes_of};
use super::shelf::Shelf;
use super::spool::{self, Spool};
use super::weigh::weight;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use uproar_proto::control::Lines;
use uproar_proto::ids::RoomId;
use uproar_proto::v1::{Class, DanmakuLine, DanmakuSegment, danmaku_line, message};

/// A room's messages come in the order of their seq, and one may have been received so long before
/// the first: the engine's longest deadline.
const LEAD_MS: u64 = 2_000;
/// A segment stays open so long after its end, for what is on its way.
const GRACE_MS: u64 = 3_000;
/// One that is written again (a late line, a video's) takes in what comes within this time.
const AGAIN_MS: u64 = 5_000;
/// A recording goes on for at most so long; then another one begins. It bounds what an index has.
const RECORDING_MS_MAX: u64 = 24 * 3_600_000;
/// A recording that nothing has come for is looked up again after this long.
const IDLE_MS: u64 = 60_000;
/// Segments that are written at once, at most: their lines are copied for it.
const CLOSING_MAX: usize = 64;
/// The pause after a segment could not be written.
const AGAIN_AFTER_MS: u64 = 1_000;

/// A recording that lines come for.
struct Active {
    index: Index,
    /// The index says more than what stands on the shelf.
    unsaid: bool,
    used_ms: u64,
}

/// A segment that is written.
struct Open {
    segment: Segment,
    spool: Spool,
    close_ms: u64,
    /// How often a line came or went.
    changes: u64,
    /// It is being written; what changes meanwhile is written again.
    is_closing: bool,
    /// Since when it could not be written.
    failing_ms: Option<u64>,
}

/// See the module.
pub(super) struct Desk {
    config: DanmakuConfig,
    shelf: Arc<dyn Shelf>,
    figures: Arc<Figures>,
    active: BTreeMap<(Source, Recording), Active>,
    open: BTreeMap<Place, Open>,
    open_bytes: u64,
}

/// What a segment is now.
pub(crate) struct View {
    pub(crate) segment: DanmakuSegment,
    pub(crate) is_open: bool,
}

/// A recording as it is shown.
pub(crate) struct RecordingView {
    pub(crate) recording: Recording,
    pub(crate) index: Index,
    /// Number, lines and what was left out of those that are open.
    pub(crate) open: Vec<(u32, u32, u32)>,
}

/// Which lines are recalled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Recalled {
    Line(u64),
    Lines(Vec<u64>),
    /// All that a user said up to a seq.
    Of(String, u64),
}

impl Recalled {
    fn is(&self, line: &DanmakuLine) -> bool {
        match self {
            Recalled::Line(seq) => line.seq == *seq,
            Recalled::Lines(seqs) => seqs.contains(&line.seq),
            Recalled::Of(user, up_to) => line.user == *user && line.seq <= *up_to,
        }
    }
}

impl Desk {
    pub(super) fn new(config: DanmakuConfig, shelf: Arc<dyn Shelf>, figures: Arc<Figures>) -> Desk {
        let (active, open) = (BTreeMap::new(), BTreeMap::new());
        Desk { config, shelf, figures, active, open, open_bytes: 0 }
    }

    fn spools(&self) -> PathBuf {
        self.config.folder.join("open")
    }

    fn bounds(&self) -> Bounds {
        let (lines, high) = (self.config.lines_max, self.config.high_lines_max);
        Bounds { lines_max: lines as usize, high_lines_max: high as usize }
    }

    /// Goes on with what a former process left open.
    pub(super) fn recover(&mut self, now_ms: u64) -> io::Result<()> {
        let entries = match std::fs::read_dir(self.spools()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            if !path.to_string_lossy().ends_with(spool::SUFFIX) {
                continue;
            }
            let Some((place, lines)) = spool::read(&path)? else {
                tracing::warn!(path = %path.display(), "danmaku: this is no open segment");
                continue;
            };
            tracing::info!(place = place.file_name(), lines = lines.len(), "danmaku: goes on");
            if self.length_ms(&place.source, place.recording, now_ms).is_err() {
                continue; // the next start may find more
            }
            for line in lines {
                let next = line.seq + 1;
                // Left out for want of memory, it is counted there.
                let _ = self.add(&place, line, now_ms);
                if let Some(active) = self.active_of(&place) {
                    active.index.next_seq = active.index.next_seq.max(next);
                }
            }
        }
        Ok(())
    }

    fn active_of(&mut self, place: &Place) -> Option<&mut Active> {
        self.active.get_mut(&(place.source.clone(), place.recording))
    }

    /// Takes in what a room has admitted.
    pub(super) fn take(&mut self, lines: Lines, now_ms: u64) {
        let Lines { room, epoch, messages, recalled: _, recalled_of: _ } = lines;
        let source = Source::room(&room);
        for message in messages {
            let recording = self.recording_at(&source, epoch.0, message.time_ms, now_ms);
            let Ok(length_ms) = self.length_ms(&source, recording, now_ms) else {
                self.figures.lost(Lost::Store, 1);
                continue;
            };
            let offset_ms = message.time_ms.saturating_sub(recording.start_ms) as u32;
            let number = offset_ms / length_ms;
            let place = Place { source: source.clone(), recording, number, length_ms };
            if !self.is_next(&place, message.seq) {
                continue;
            }
            if message.gone {
                continue; // recalled before it came: its place is all there is
            }
            let class = message.class();
            let text = match &message.content {
                Some(message::Content::Text(text)) => Some(text.as_str()),
                _ => None,
            };
            let weight = weight(class, text);
            let content = message.content.map(|content| match content {
                message::Content::Text(text) => danmaku_line::Content::Text(text),
                message::Content::Data(data) => danmaku_line::Content::Data(data),
            });
            let (seq, class, user) = (message.seq, class.into(), message.user);
            let combo = message.combo;
            let line = DanmakuLine { offset_ms, class, user, content, weight, seq, combo };
            if let Err(lost) = self.add(&place, line, now_ms) {
                self.lose(&place, 1, lost);
            }
        }
    }

    /// Whether a line has not come before. What is missing before it is lost.
    fn is_next(&mut self, place: &Place, seq: u64) -> bool {
        let Some(active) = self.active_of(place) else { return true };
        let next = active.index.next_seq;
        if seq < next {
            return false;
        }
        active.index.next_seq = seq + 1;
        if next > 0 && seq > next {
            self.lose(place, seq - next, Lost::Missing);
        }
        true
    }

    fn lose(&mut self, place: &Place, lines: u64, lost: Lost) {
        self.figures.lost(lost, lines);
        if let Some(active) = self.active_of(place) {
            active.index.lines_lost += lines;
            active.unsaid = true;
        }
    }

    /// A line for a video: its seq.
    pub(super) fn write(
        &mut self,
        video: &RoomId,
        user: &str,
        text: String,
        offset_ms: u32,
        now_ms: u64,
    ) -> Result<u64, Lost> {
        let source = Source::video(video);
        let length_ms = self.length_ms(&source, OF_VIDEO, now_ms);
        let length_ms = length_ms.inspect_err(|lost| self.figures.lost(*lost, 1))?;
        let number = offset_ms / length_ms;
        let place = Place { source, recording: OF_VIDEO, number, length_ms };
        // Rises over restarts too, without a word to the disk; exact in a JavaScript number.
        let seq = self.active_of(&place).map_or(0, |active| active.index.next_seq);
        let seq = seq.max(now_ms * 1_000);
        let line = DanmakuLine {
            offset_ms,
            class: Class::Chat.into(),
            user: user.to_owned(),
            weight: weight(Class::Chat, Some(&text)),
            content: Some(danmaku_line::Content::Text(text)),
            seq,
            combo: None,
        };
        self.add(&place, line, now_ms).inspect_err(|lost| self.figures.lost(*lost, 1))?;
        if let Some(active) = self.active_of(&place) {
            active.index.next_seq = seq + 1;
        }
        Ok(seq)
    }

    /// The recording that a moment of a room belongs to; a new one where there is none.
    fn recording_at(
        &mut self,
        source: &Source,
        epoch: u64,
        time_ms: u64,
        now_ms: u64,
    ) -> Recording {
        let from = Recording { start_ms: 0, epoch: 0 };
        let to = Recording { start_ms: u64::MAX, epoch: u64::MAX };
        let active = self.active.range((source.clone(), from)..=(source.clone(), to));
        let mut known = active.rev().map(|((_, recording), _)| *recording);
        let known = known.find(|recording| recording.epoch == epoch).or_else(|| {
            // Where the shelf does not say, another recording is better than none.
            let kept = index::recordings(&*self.shelf, source).unwrap_or_default();
            kept.into_iter().rev().find(|recording| recording.epoch == epoch)
        });
        let start_ms = match known {
            Some(known) if time_ms < known.start_ms + RECORDING_MS_MAX => return known,
            Some(_) => time_ms,
            None => time_ms.saturating_sub(LEAD_MS),
        };
        let recording = Recording { start_ms, epoch };
        // Nothing of it is on the shelf, and nobody need look there.
        self.begin(source, recording, None, now_ms);
        recording
    }

    /// Makes a recording active: the length of its segments.
    fn begin(
        &mut self,
        source: &Source,
        recording: Recording,
        index: Option<Index>,
        now_ms: u64,
    ) -> u32 {
        let fresh = || Index { length_ms: self.config.segment_ms(), ..Index::default() };
        let index = index.filter(|index| index.length_ms > 0).unwrap_or_else(fresh);
        let length_ms = index.length_ms;
        let active = Active { index, unsaid: false, used_ms: now_ms };
        self.active.insert((source.clone(), recording), active);
        length_ms
    }

    /// The length of a recording's segments; makes it active.
    fn length_ms(
        &mut self,
        source: &Source,
        recording: Recording,
        now_ms: u64,
    ) -> Result<u32, Lost> {
        if let Some(active) = self.active.get_mut(&(source.clone(), recording)) {
            active.used_ms = now_ms;
            return Ok(active.index.length_ms);
        }
        let read = Index::read(&*self.shelf, source, recording);
        let index = read.map_err(|error| self.failed("read", &error))?;
        Ok(self.begin(source, recording, index, now_ms))
    }

    /// The open segments of a recording.
    fn open_of(
        &self,
        source: &Source,
        recording: Recording,
    ) -> impl Iterator<Item = (&Place, &Open)> {
        let first = Place { source: source.clone(), recording, number: 0, length_ms: 0 };
        let from = self.open.range(first.clone()..);
        from.take_while(move |(place, _)| {
            place.recording == first.recording && place.source == first.source
        })
    }

    /// Takes a line into its segment, which is opened where it is not.
    fn add(&mut self, place: &Place, line: DanmakuLine, now_ms: u64) -> Result<(), Lost> {
        let bytes = bytes_of(&line) as u64;
        if self.open_bytes + bytes > self.config.open_bytes_max {
            return Err(Lost::Memory);
        }
        self.open(place, now_ms)?;
        let bounds = self.bounds();
        let Some(open) = self.open.get_mut(place) else { return Ok(()) };
        if open.segment.has(line.seq) {
            return Ok(()); // it was written, and its spool was left
        }
        open.changes += 1;
        let before = open.segment.bytes();
        match open.segment.add(line.clone(), bounds) {
            Added::Kept => open.spool.push(&line),
            Added::LeftOut { kept } => {
                self.figures.left_out.fetch_add(1, Relaxed);
                if kept {
                    open.spool.push(&line);
                }
            }
        }
        self.open_bytes = self.open_bytes + open.segment.bytes() as u64 - before as u64;
        self.figures.lines.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Opens a segment; one that was closed goes on with what it has.
    fn open(&mut self, place: &Place, now_ms: u64) -> Result<(), Lost> {
        if self.open.contains_key(place) {
            return Ok(());
        }
        if self.open.len() >= self.config.open_segments_max as usize {
            return Err(Lost::Segments);
        }
        let (source, recording) = (&place.source, place.recording);
        self.length_ms(source, recording, now_ms)?;
        let is_closed = self.active.get(&(source.clone(), recording));
        let is_closed = is_closed.is_some_and(|a| a.index.segments.contains_key(&place.number));
        let mut segment = Segment::default();
        if is_closed {
            let read = read_segment(&*self.shelf, source, recording, place.number);
            let read = read.map_err(|error| self.failed("read", &error));
            segment = read?.map(Segment::of).unwrap_or_default();
        }
        let end_ms = u64::from(place.number + 1) * u64::from(place.length_ms);
        let end_ms = match source.kind {
            Kind::Room => recording.start_ms + end_ms + GRACE_MS,
            Kind::Video => 0,
        };
        let close_ms = end_ms.max(now_ms + AGAIN_MS);
        self.open_bytes += segment.bytes() as u64;
        let spool = Spool::new(&self.spools(), place);
        let (changes, is_closing, failing_ms) = (0, false, None);
        let open = Open { segment, spool, close_ms, changes, is_closing, failing_ms };
        self.open.insert(place.clone(), open);
        Ok(())
    }

    fn failed(&self, what: &'static str, error: &io::Error) -> Lost {
        let failures = self.figures.failures.fetch_add(1, Relaxed);
        if failures.is_multiple_of(100) {
            tracing::error!(%error, failures = failures + 1, "danmaku: a segment: {what} failed");
        }
        Lost::Store
    }

    /// Writes down what has come since, so that a crash does not take it.
    pub(super) fn flush(&mut self) {
        let mut failed = Vec::new();
        for open in self.open.values_mut() {
            let bytes = open.segment.bytes();
            failed.extend(open.spool.flush(open.segment.lines(), bytes).err());
        }
        for error in failed {
            self.failed("flush", &error);
        }
    }

    /// What is due and can be written now, some of it; the rest comes when this has come back to
    /// [`Desk::closed`]. Of a recording one at a time, since they share an index.
    pub(super) fn due(&mut self, now_ms: u64) -> Vec<Closing> {
        let mut under_way: BTreeSet<(Source, Recording)> = BTreeSet::new();
        let key = |place: &Place| (place.source.clone(), place.recording);
        under_way.extend(self.open.iter().filter(|(_, o)| o.is_closing).map(|(p, _)| key(p)));
        let is_due = |open: &Open| open.close_ms <= now_ms && !open.is_closing;
        let due = self.open.iter().filter(|(_, open)| is_due(open));
        let due = due.filter(|(place, _)| under_way.insert(key(place)));
        let due: Vec<Place> = due.take(CLOSING_MAX).map(|(place, _)| place.clone()).collect();
        due.iter().filter_map(|place| self.closing(place, now_ms)).collect()
    }

    /// One that is due, to be written; `None`: there is nothing to write, or no room for it.
    fn closing(&mut self, place: &Place, now_ms: u64) -> Option<Closing> {
        let active = self.active.get(&(place.source.clone(), place.recording))?;
        let index = active.index.clone();
        let open = self.open.get_mut(place)?;
        let former = index.segments.get(&place.number);
        if open.segment.lines().len() == 0 && former.is_none() {
            self.forget(place);
            return None;
        }
        if self.figures.stored_bytes.load(Relaxed) > self.config.stored_bytes_max() {
            let error =
                io::Error::other("segments, their indexes and folders take danmaku.disk_bytes_max");
            self.failed("write", &error);
            self.try_later(place, now_ms);
            return None;
        }
        let version = former.map_or(0, |entry| entry.version) + 1;
        let message = message_of(place, &open.segment, version);
        open.is_closing = true;
        Some(Closing { place: place.clone(), message, index, changes: open.changes, now_ms })
    }

    /// A segment was written, or not.
    pub(super) fn closed(&mut self, closing: Closing, written: io::Result<i64>, now_ms: u64) {
        let Closing { place, index, changes, .. } = closing;
        let Some(open) = self.open.get_mut(&place) else { return };
        open.is_closing = false;
        let gained = match written {
            Ok(gained) => gained,
            Err(error) => {
                self.failed("write", &error);
                return self.try_later(&place, now_ms);
            }
        };
        let has_changed = open.changes != changes;
        open.close_ms = now_ms + AGAIN_MS;
        open.failing_ms = None;
        if let Some(active) = self.active_of(&place) {
            let entry = index.segments.get(&place.number).copied().unwrap_or_default();
            active.index.segments.insert(place.number, entry);
            active.index.changed_ms = active.index.changed_ms.max(index.changed_ms);
            // Another segment may have been changed or removed meanwhile: then the index that was
            // written does not know it.
            active.unsaid = active.index.segments != index.segments
                || active.index.lines_lost != index.lines_lost;
        }
        self.figures.stored(gained);
        self.figures.closed.fetch_add(1, Relaxed);
        if !has_changed {
            self.forget(&place);
        }
    }

    /// An open segment is open no more.
    fn forget(&mut self, place: &Place) {
        if let Some(open) = self.open.remove(place) {
            self.open_bytes -= open.segment.bytes() as u64;
            open.spool.remove();
        }
    }

    /// Writes indexes that say too little, and lets go of recordings that nothing comes for.
    pub(super) fn settle(&mut self, now_ms: u64) {
        let shelf = Arc::clone(&self.shelf);
        for ((source, recording), active) in &mut self.active {
            // A recording that has nothing on the shelf has nothing to say there.
            if active.unsaid && !active.index.segments.is_empty() {
                active.unsaid = active.index.write(&*shelf, source, *recording).is_err();
            }
        }
        let is_idle = |active: &Active| now_ms >= active.used_ms + IDLE_MS;
        let mut idle: Vec<(Source, Recording)> =
            self.active.iter().filter(|(_, a)| is_idle(a)).map(|(key, _)| key.clone()).collect();
        idle.retain(|(source, recording)| self.open_of(source, *recording).next().is_none());
        for key in &idle {
            self.active.remove(key);
        }
        self.figures.open_segments.store(self.open.len() as u64, Relaxed);
        self.figures.open_bytes.store(self.open_bytes, Relaxed);
    }

    /// A segment could not be written: it is tried again for some time, then lost.
    fn try_later(&mut self, place: &Place, now_ms: u64) {
        let retry_ms = u64::from(self.config.retry_s) * 1_000;
        let Some(open) = self.open.get_mut(place) else { return };
        let since_ms = *open.failing_ms.get_or_insert(now_ms);
        open.close_ms = now_ms + AGAIN_AFTER_MS;
        if now_ms < since_ms + retry_ms {
            return;
        }
        if let Some(open) = self.open.remove(place) {
            self.open_bytes -= open.segment.bytes() as u64;
            let lines = open.segment.lines().len() as u64;
            tracing::error!(place = place.file_name(), lines, "danmaku: a segment is lost");
            open.spool.remove();
            self.lose(place, lines, Lost::Store);
        }
    }

    /// Where a source is written to now, in one life of a room where it is named.
    pub(super) fn open_places(&self, source: &Source, epoch: Option<u64>) -> Vec<Place> {
        let is_it = |place: &&Place| {
            place.source == *source && epoch.is_none_or(|epoch| place.recording.epoch == epoch)
        };
        self.open.keys().filter(is_it).cloned().collect()
    }

    /// Recalls lines of one segment: how many.
    pub(super) fn recall(
        &mut self,
        place: &Place,
        which: &Recalled,
        now_ms: u64,
    ) -> io::Result<u32> {
        if let Some(open) = self.open.get_mut(place) {
            let before = open.segment.bytes() as u64;
            let recalled = open.segment.recall(|line| which.is(line));
            open.changes += 1;
            self.open_bytes -= before - open.segment.bytes() as u64;
            if recalled > 0 {
                open.spool.rewrite();
                let bytes = open.segment.bytes();
                // Else it would come back after a crash.
                open.spool.flush(open.segment.lines(), bytes)?;
            }
            return Ok(recalled);
        }
        let (source, recording) = (&place.source, place.recording);
        let unread = |_| io::Error::other("its index cannot be read");
        self.length_ms(source, recording, now_ms).map_err(unread)?;
        let Some(active) = self.active.get_mut(&(source.clone(), recording)) else { return Ok(0) };
        let Some(entry) = active.index.segments.get(&place.number).copied() else { return Ok(0) };
        let range = entry.seq_min..=entry.seq_max;
        let may_have = match which {
            Recalled::Line(seq) => range.contains(seq),
            Recalled::Lines(seqs) => seqs.iter().any(|seq| range.contains(seq)),
            Recalled::Of(_, up_to) => range.start() <= up_to,
        };
        if !may_have {
            return Ok(0);
        }
        let read = read_segment(&*self.shelf, source, recording, place.number)?;
        let mut segment = read.map(Segment::of).unwrap_or_default();
        let recalled = segment.recall(|line| which.is(line));
        if recalled > 0 {
            let message = message_of(place, &segment, entry.version + 1);
            let of = (source, recording);
            let gained = active.index.put(&*self.shelf, of, &message, now_ms)?;
            self.figures.stored(gained);
        }
        Ok(recalled)
    }

    /// An open segment as it is now.
    pub(super) fn open_segment(
        &self,
        source: &Source,
        recording: Recording,
        number: u32,
    ) -> Option<View> {
        let mut open = self.open_of(source, recording);
        let (place, open) = open.find(|(place, _)| place.number == number)?;
        let active = self.active.get(&(source.clone(), recording));
        let entry = active.and_then(|active| active.index.segments.get(&number));
        let version = entry.map_or(0, |entry| entry.version);
        Some(View { segment: message_of(place, &open.segment, version), is_open: true })
    }

    /// Recordings of a source that lines come for.
    pub(super) fn active_recordings(&self, source: &Source) -> Vec<Recording> {
        let from = (source.clone(), Recording { start_ms: 0, epoch: 0 });
        let of = self.active.range(from..).map(|(key, _)| key);
        of.take_while(|(of, _)| of == source).map(|(_, recording)| *recording).collect()
    }

    /// What one of those has.
    pub(super) fn active_recording(
        &self,
        source: &Source,
        recording: Recording,
    ) -> Option<RecordingView> {
        let active = self.active.get(&(source.clone(), recording))?;
        let of = |(place, open): (&Place, &Open)| {
            (place.number, open.segment.lines().len() as u32, open.segment.left_out())
        };
        let open = self.open_of(source, recording).map(of).collect();
        Some(RecordingView { recording, index: active.index.clone(), open })
    }

    /// Removes a closed segment for good: whether it did.
    pub(super) fn remove(&mut self, place: &Place) -> io::Result<bool> {
        if self.open.contains_key(place) {
            return Ok(false);
        }
        let (source, recording) = (&place.source, place.recording);
        let of = (source, recording);
        match self.active.get_mut(&(source.clone(), recording)) {
            Some(active) => {
                index::remove_segment(&*self.shelf, of, &mut active.index, place.number)?;
            }
            None => {
                let index = Index::read(&*self.shelf, source, recording)?;
                let mut index = index.unwrap_or_default();
                index::remove_segment(&*self.shelf, of, &mut index, place.number)?;
            }
        }
        Ok(true)
    }
}

fn message_of(place: &Place, segment: &Segment, version: u32) -> DanmakuSegment {
    let mut lines: Vec<DanmakuLine> = segment.lines().cloned().collect();
    if place.source.kind == Kind::Video {
        lines.sort_by_key(|line| line.offset_ms);
    }
    DanmakuSegment {
        version,
        number: place.number,
        length_ms: place.length_ms,
        start_ms: place.recording.start_ms,
        lines,
        left_out: segment.left_out(),
    }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod desk_tests;
