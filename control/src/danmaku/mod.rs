//! Danmaku for replay: what rooms have admitted, and what is written to recorded videos, in
//! segments of a few minutes that are fetched over HTTP.
//!
//! Owns the queue that lines of rooms wait in, the threads that take them in and close segments,
//! and their pace. A room never waits: where the queue is full, lines are lost and counted.
//! Everything that touches the disk is called off the threads of HTTP.

mod bucket;
mod clean;
mod closing;
mod config;
mod desk;
mod figures;
mod index;
mod place;
mod reads;
mod segment;
mod shelf;
mod spool;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tiers;
mod weigh;

pub use config::{DanmakuConfig, S3Config};
pub(crate) use desk::{Recalled, RecordingView, View};
pub(crate) use figures::Lost;
pub(crate) use place::{Recording, Source};

use crate::guard::caught_now;
use crate::limits::Limits;
use crate::process::unix_ms;
use desk::Desk;
use figures::Figures;
use place::{OF_VIDEO, Place};
use shelf::{Disk, Shelf};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tiers::Tiers;
use uproar_proto::control::{Lines, Sample};
use uproar_proto::ids::RoomId;

/// Batches of lines that wait for the thread. Reached: lost, counted.
const QUEUE_MAX: usize = 8_192;
/// Bytes of those. Reached: lost, counted.
const QUEUE_BYTES_MAX: u64 = 64 << 20;
/// After its burst a user may write to videos this often.
const VIDEO_EVERY_MS: u32 = 3_000;
/// How often what has come is written down: what a crash may take.
const FLUSH_EVERY: Duration = Duration::from_millis(500);
/// Recalls that wait for another try. More: the oldest is given up, counted.
const AGAIN_MAX: usize = 1_000;
/// How often it is looked for segments that are due.
const CLOSE_EVERY: Duration = Duration::from_millis(500);
/// Recalls of users that wait for their thread. More are tried later, with those that failed.
const SEARCHES_MAX: usize = 256;
/// How often it is looked for what is too old.
const CLEAN_EVERY: Duration = Duration::from_secs(3_600);
/// The same while there is too much.
const CLEAN_AGAIN: Duration = Duration::from_secs(10);

/// See the module.
pub struct Danmaku {
    shared: Arc<Shared>,
    queue: SyncSender<(Lines, u64)>,
    /// Lines for videos, by user.
    limits: Limits,
}

struct Shared {
    config: DanmakuConfig,
    shelf: Arc<dyn Shelf>,
    desk: Mutex<Desk>,
    figures: Arc<Figures>,
    queue_bytes: AtomicU64,
    /// Recalls that the shelf could not take; a restart forgets them.
    again: Mutex<Vec<(Source, u64, Recalled)>>,
    /// Recalls that may look into every segment: a thread of their own does, so that lines go on
    /// being taken in.
    searching: SyncSender<(Source, u64, Recalled)>,
}

impl Danmaku {
    /// Begins to keep lines. A disk that takes nothing is no error: it may come back.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub fn start(config: DanmakuConfig) -> io::Result<Arc<Danmaku>> {
        let (queue, lines) = sync_channel(QUEUE_MAX);
        let figures = Arc::<Figures>::default();
        let shelf: Arc<dyn Shelf> = if config.has_bucket() {
            Arc::new(Tiers::start(&config, Arc::clone(&figures))?)
        } else {
            Arc::new(Disk::new(config.folder.clone()))
        };
        let desk = Desk::new(config.clone(), Arc::clone(&shelf), Arc::clone(&figures));
        let (desk, queue_bytes) = (Mutex::new(desk), AtomicU64::new(0));
        let (again, (searching, searches)) = (Mutex::default(), sync_channel(SEARCHES_MAX));
        let shared = Shared { config, shelf, desk, figures, queue_bytes, again, searching };
        let shared = Arc::new(shared);
        if let Err(error) = shared.desk().recover(now_ms()) {
            tracing::error!(%error, "danmaku: what was left open could not be read");
        }
        let of_thread = Arc::clone(&shared);
        let work = move || work(&of_thread, &lines);
        std::thread::Builder::new().name("danmaku".into()).spawn(work)?;
        let shared_weakly = Arc::downgrade(&shared);
        let close = move || {
            while let Some(shared) = shared_weakly.upgrade() {
                caught_now("danmaku", || shared.close());
                drop(shared);
                std::thread::sleep(CLOSE_EVERY);
            }
        };
        std::thread::Builder::new().name("danmaku-close".into()).spawn(close)?;
        let shared_weakly = Arc::downgrade(&shared);
        // It ends with the sender, which is in what it holds weakly.
        let search = move || {
            while let Ok(first) = searches.recv()
                && let Some(shared) = shared_weakly.upgrade()
            {
                let mut all = vec![first];
                for next in searches.try_iter() {
                    if !all.contains(&next) {
                        all.push(next);
                    }
                }
                caught_now("danmaku", || shared.recall_all(all));
            }
        };
        std::thread::Builder::new().name("danmaku-recall".into()).spawn(search)?;
        let limits = Limits::new(shared.config.video_burst, VIDEO_EVERY_MS);
        Ok(Arc::new(Danmaku { shared, queue, limits }))
    }

    /// Takes in what a room has admitted, without waiting.
    pub fn lines(&self, lines: Lines) {
        let recalled = lines.recalled.len() + lines.recalled_of.len();
        let many = (lines.messages.len() + recalled) as u64;
        let bytes = bytes_of(&lines);
        let shared = &self.shared;
        let waiting = shared.queue_bytes.fetch_add(bytes, Relaxed);
        if waiting + bytes > QUEUE_BYTES_MAX || self.queue.try_send((lines, bytes)).is_err() {
            shared.queue_bytes.fetch_sub(bytes, Relaxed);
            shared.figures.lost(Lost::Queue, many);
        }
    }

    /// Writes down what has come so far.
    pub fn end(&self) {
        self.shared.desk().flush();
    }

    /// Its figures.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        self.shared.figures.samples()
    }

    fn shelf(&self) -> &dyn Shelf {
        &*self.shared.shelf
    }

    pub(crate) fn config(&self) -> &DanmakuConfig {
        &self.shared.config
    }

    /// A segment as it is now; `None`: there is none.
    pub(crate) fn segment(
        &self,
        source: &Source,
        recording: Recording,
        number: u32,
    ) -> io::Result<Option<View>> {
        reads::segment(self.shelf(), || self.shared.desk(), (source, recording, number))
    }

    /// Recordings of a room, the latest first.
    pub(crate) fn recordings(
        &self,
        source: &Source,
        before: Option<Recording>,
        limit: usize,
    ) -> io::Result<Vec<RecordingView>> {
        reads::recordings(self.shelf(), || self.shared.desk(), source, before, limit)
    }

    /// What a video has; `None`: nothing.
    pub(crate) fn video(&self, source: &Source) -> io::Result<Option<RecordingView>> {
        reads::recording(self.shelf(), || self.shared.desk(), source, OF_VIDEO)
    }

    /// Whether a user may write to a video now; else, after how many milliseconds.
    pub(crate) fn may_write(&self, user: i64) -> Result<(), u32> {
        self.limits.take(user, unix_ms())
    }

    /// A line for a video: its seq.
    pub(crate) fn write(
        &self,
        video: &RoomId,
        user: &str,
        text: String,
        offset_ms: u32,
    ) -> Result<u64, Lost> {
        self.shared.desk().write(video, user, text, offset_ms, now_ms())
    }

    /// Recalls lines of a source, of one life of a room where it is named: how many. Each segment
    /// is changed by itself, so that lines go on being taken in.
    pub(crate) fn recall(
        &self,
        source: &Source,
        epoch: Option<u64>,
        which: &Recalled,
    ) -> io::Result<u32> {
        self.shared.recall(source, epoch, which)
    }
}

/// About what lines take in memory.
fn bytes_of(lines: &Lines) -> u64 {
    let of = |message| prost::Message::encoded_len(message) as u64 + 64;
    let users = lines.recalled_of.iter().map(|of| of.user.len() as u64 + 64);
    let messages = lines.messages.iter().map(of);
    messages.chain(users).sum::<u64>() + 8 * lines.recalled.len() as u64
}

fn now_ms() -> u64 {
    unix_ms().cast_unsigned()
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        // Whole at every moment but for counts: a panic is a defect, and lines go on.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`Danmaku::recall`].
    fn recall(&self, source: &Source, epoch: Option<u64>, which: &Recalled) -> io::Result<u32> {
        let mut recalled = self.recall_open(source, epoch, which)?;
        let all = reads::recordings(&*self.shelf, || self.desk(), source, None, usize::MAX)?;
        let of_life =
            |view: &RecordingView| epoch.is_none_or(|epoch| view.recording.epoch == epoch);
        for RecordingView { recording, index, open } in all.into_iter().filter(of_life) {
            let closed = index.segments.keys().copied();
            let mut numbers: Vec<u32> = closed.chain(open.iter().map(|(n, ..)| *n)).collect();
            numbers.sort_unstable();
            numbers.dedup();
            for number in numbers {
                let (source, length_ms) = (source.clone(), index.length_ms);
                let place = Place { source, recording, number, length_ms };
                let of_segment = self.desk().recall(&place, which, now_ms())?;
                self.figures.recalled.fetch_add(u64::from(of_segment), Relaxed);
                recalled += of_segment;
            }
        }
        Ok(recalled)
    }

    /// The same in what is in memory, which needs no shelf: that may be away.
    fn recall_open(
        &self,
        source: &Source,
        epoch: Option<u64>,
        which: &Recalled,
    ) -> io::Result<u32> {
        let mut recalled = 0;
        let open = self.desk().open_places(source, epoch);
        for place in open {
            recalled += self.desk().recall(&place, which, now_ms())?;
        }
        self.figures.recalled.fetch_add(recalled.into(), Relaxed);
        Ok(recalled)
    }

    /// Takes in what a room has admitted, and what it has recalled.
    fn take(&self, mut lines: Lines) {
        let seqs = std::mem::take(&mut lines.recalled);
        let users = std::mem::take(&mut lines.recalled_of);
        let (source, epoch) = (Source::room(&lines.room), lines.epoch.0);
        self.desk().take(lines, now_ms());
        if !seqs.is_empty() {
            self.recall_all(vec![(source.clone(), epoch, Recalled::Lines(seqs))]);
        }
        for of in users {
            let which = Recalled::Of(of.user, of.up_to_seq);
            if let Err(error) = self.recall_open(&source, Some(epoch), &which) {
                tracing::error!(%error, "danmaku: open lines could not be recalled; tried again");
            }
            if let Err(TrySendError::Full(late) | TrySendError::Disconnected(late)) =
                self.searching.try_send((source.clone(), epoch, which))
            {
                self.recall_again(vec![late]);
            }
        }
    }

    /// Recalls all of these; what fails is tried again later.
    fn recall_all(&self, recalls: Vec<(Source, u64, Recalled)>) {
        for (source, epoch, which) in recalls {
            if let Err(error) = self.recall(&source, Some(epoch), &which) {
                tracing::error!(%error, "danmaku: lines could not be recalled; tried again");
                self.recall_again(vec![(source, epoch, which)]);
            }
        }
    }

    /// Keeps recalls that the shelf could not take, for another try.
    fn recall_again(&self, recalls: Vec<(Source, u64, Recalled)>) {
        let mut again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
        again.extend(recalls);
        let over = again.len().saturating_sub(AGAIN_MAX);
        for (source, ..) in again.drain(..over) {
            self.figures.lost(Lost::Store, 1);
            tracing::error!(room = source.name, "danmaku: a recall is given up");
        }
    }

    /// Tries recalls again that the shelf could not take.
    fn recall_what_failed(&self) {
        let again = std::mem::take(&mut *self.again.lock().unwrap_or_else(PoisonError::into_inner));
        let failed = |(source, epoch, which): &(Source, u64, Recalled)| {
            self.recall(source, Some(*epoch), which).is_err()
        };
        self.recall_again(again.into_iter().filter(failed).collect());
    }

    /// Removes what is too old or too much.
    fn clean(&self) -> io::Result<()> {
        let all = clean::walk(&*self.shelf)?;
        let (days, bytes_max) = (self.config.retention_days, self.config.stored_bytes_max());
        let (by_age, for_room) = clean::choose(&all, now_ms(), days, bytes_max);
        let mut bytes: u64 = all.iter().map(|old| old.bytes).sum();
        for (at, old) in all[..by_age + for_room].iter().enumerate() {
            if self.desk().remove(&old.place)? {
                bytes -= old.bytes;
                let removed = &self.figures;
                let why =
                    if at < by_age { &removed.removed_by_age } else { &removed.removed_for_room };
                why.fetch_add(1, Relaxed);
            }
        }
        self.figures.stored_bytes.store(bytes, Relaxed);
        Ok(())
    }

    /// Writes what is due. The desk is held for moments alone.
    fn close(&self) {
        loop {
            let due = self.desk().due(now_ms());
            if due.is_empty() {
                self.desk().settle(now_ms());
                return self.recall_what_failed();
            }
            closing::write_all(due, &*self.shelf, &|closing, written| {
                self.desk().closed(closing, written, now_ms());
            });
        }
    }

    fn is_over(&self) -> bool {
        self.figures.stored_bytes.load(Relaxed) > self.config.stored_bytes_max()
    }
}

/// Takes lines in and writes them down, until nobody has anything to hand over any more.
fn work(shared: &Shared, lines: &Receiver<(Lines, u64)>) {
    let (mut flush_at, mut clean_at) = (Instant::now(), Instant::now());
    loop {
        let now = Instant::now();
        if now >= flush_at {
            flush_at = now + FLUSH_EVERY;
            caught_now("danmaku", || shared.desk().flush());
        }
        if now >= clean_at {
            clean_at = now + CLEAN_EVERY;
            if let Some(Err(error)) = caught_now("danmaku", || shared.clean()) {
                tracing::error!(%error, "danmaku: what is too old could not be looked for");
            }
        }
        if shared.is_over() {
            clean_at = clean_at.min(now + CLEAN_AGAIN);
        }
        match lines.recv_timeout(flush_at.saturating_duration_since(Instant::now())) {
            Ok((lines, bytes)) => {
                shared.queue_bytes.fetch_sub(bytes, Relaxed);
                caught_now("danmaku", || shared.take(lines));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    shared.desk().flush();
}
