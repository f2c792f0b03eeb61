//! What danmaku counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use uproar_proto::control::{Sample, SampleKind, SampleValue};

/// Why a line is not kept though there was room for it in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The queue of what rooms have admitted was full.
    Queue,
    /// It was lost before: its seq was passed over. What `Queue` counts is in this too.
    Missing,
    /// Open segments hold as many bytes as they may.
    Memory,
    /// As many segments are open as may be.
    Segments,
    /// The disk took nothing for too long.
    Store,
}

const REASONS: [(Lost, &str); 5] = [
    (Lost::Queue, "queue"),
    (Lost::Missing, "missing"),
    (Lost::Memory, "memory"),
    (Lost::Segments, "segments"),
    (Lost::Store, "store"),
];

#[derive(Default)]
pub(super) struct Figures {
    pub(super) lines: AtomicU64,
    pub(super) left_out: AtomicU64,
    pub(super) recalled: AtomicU64,
    pub(super) closed: AtomicU64,
    pub(super) removed_by_age: AtomicU64,
    pub(super) removed_for_room: AtomicU64,
    /// Writes and reads of the disk.
    pub(super) failures: AtomicU64,
    pub(super) open_segments: AtomicU64,
    pub(super) open_bytes: AtomicU64,
    pub(super) stored_bytes: AtomicU64,
    /// Values that were carried to the bucket, those that wait, and what failed.
    pub(super) uploads: AtomicU64,
    pub(super) upload_waiting: AtomicU64,
    pub(super) upload_failures: AtomicU64,
    /// Values that were read from there.
    pub(super) fetches: AtomicU64,
    lost: [AtomicU64; REASONS.len()],
}

impl Figures {
    pub(super) fn lost(&self, lost: Lost, lines: u64) {
        self.lost[lost as usize].fetch_add(lines, Relaxed);
    }

    /// The shelf has gained so many bytes.
    pub(super) fn stored(&self, gained: i64) {
        let changed = |bytes: u64| Some(bytes.saturating_add_signed(gained));
        let _ = self.stored_bytes.fetch_update(Relaxed, Relaxed, changed);
    }

    pub(super) fn samples(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        let mut one = |name, help, kind, labels: &[(&'static str, &str)], value: &AtomicU64| {
            let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
            let value = SampleValue::Number(value.load(Relaxed) as f64);
            samples.push(Sample { name, help, kind, labels, value });
        };
        let (counter, gauge) = (SampleKind::Counter, SampleKind::Gauge);
        let lines = "lines taken into segments";
        one("uproar_danmaku_lines_total", lines, counter, &[], &self.lines);
        let left_out = "lines left out of full segments";
        one("uproar_danmaku_left_out_total", left_out, counter, &[], &self.left_out);
        for ((_, reason), value) in REASONS.iter().zip(&self.lost) {
            let (name, help) =
                ("uproar_danmaku_lost_total", "lines lost on their way to a segment");
            one(name, help, counter, &[("reason", reason)], value);
        }
        one("uproar_danmaku_recalled_total", "lines recalled", counter, &[], &self.recalled);
        one("uproar_danmaku_closed_total", "segments written", counter, &[], &self.closed);
        for (why, value) in [("age", &self.removed_by_age), ("room", &self.removed_for_room)] {
            let (name, help) = ("uproar_danmaku_removed_total", "segments removed");
            one(name, help, counter, &[("why", why)], value);
        }
        let failures = "reads and writes of the disk that failed";
        one("uproar_danmaku_failures_total", failures, counter, &[], &self.failures);
        let open = "segments that are written";
        one("uproar_danmaku_open_segments", open, gauge, &[], &self.open_segments);
        let bytes = "bytes of the lines of those";
        one("uproar_danmaku_open_bytes", bytes, gauge, &[], &self.open_bytes);
        let stored = "bytes of closed segments";
        one("uproar_danmaku_stored_bytes", stored, gauge, &[], &self.stored_bytes);
        let uploads = "values carried to the bucket";
        one("uproar_danmaku_uploads_total", uploads, counter, &[], &self.uploads);
        let waiting = "values that wait for the bucket";
        one("uproar_danmaku_upload_waiting", waiting, gauge, &[], &self.upload_waiting);
        let failures = "values that could not be carried to the bucket, each try";
        one("uproar_danmaku_upload_failures_total", failures, counter, &[], &self.upload_failures);
        let fetches = "values read from the bucket";
        one("uproar_danmaku_fetches_total", fetches, counter, &[], &self.fetches);
        samples
    }
}
