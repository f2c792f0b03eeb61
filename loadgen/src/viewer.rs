//! One virtual viewer: what it has seen of its room's stream, and whether that was right.
//!
//! Sans-I/O, a few words of memory, no allocation while the stream is right. Owns the rules of a
//! stream: within an epoch `seq` rises by one; a jump is announced by a gap frame first; nothing
//! comes twice or late; a resume brings exactly what was missed. Never decodes bytes, never
//! knows a socket.

use crate::tally::Tally;
use std::cell::Cell;
use uproar_engine::seam::Tick;
use uproar_proto::v1;

/// One message of a batch, as far as a viewer needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) seq: u64,
    /// Over seq and content; summed up by viewers, so that equal sums mean equal streams.
    pub(crate) digest: u64,
    /// When it was due, where it is of this run and after the warm-up.
    pub(crate) due: Option<Tick>,
    /// It is of this run.
    pub(crate) ours: bool,
}

/// A batch, decoded once for all viewers of a thread.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) epoch: u64,
    pub(crate) items: Vec<Item>,
    /// Seq rises by one within the batch.
    contiguous: bool,
    /// Of the measured items: how many, and the sum of their digests.
    measured: u32,
    digest: u64,
    /// Deliveries of this turn whose latency is still to be recorded.
    pub(crate) waiting: Cell<u32>,
}

impl Batch {
    pub(crate) fn new(epoch: u64, items: Vec<Item>) -> Batch {
        let contiguous = items.windows(2).all(|w| w[1].seq == w[0].seq + 1) && !items.is_empty();
        let measured = items.iter().filter(|i| i.due.is_some());
        let (count, digest) =
            measured.fold((0, 0u64), |(n, sum), item| (n + 1, sum.wrapping_add(item.digest)));
        Batch { epoch, items, contiguous, measured: count, digest, waiting: Cell::new(0) }
    }
}

/// Where a viewer stands in its room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// Not in the room, and not asked to be.
    #[default]
    Out,
    /// `Join` was sent.
    Joining,
    /// `Joined` came.
    In,
    /// `Leave` was sent; batches may still come.
    Leaving,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Viewer {
    epoch: u64,
    seq: u64,
    /// Sum of the digests of the measured messages it got.
    digest: u64,
    /// How many those were.
    measured: u32,
    pub(crate) place: Place,
    /// It joined with a cursor and waits for the answer.
    resuming: bool,
    /// A gap came since it joined with that cursor.
    gap_told: bool,
    /// The stream was cut without a word: a gap is owed.
    gap_owed: bool,
    /// It was told of a gap at least once, or lost something.
    gapped: bool,
    /// It was in the room before the first measured message.
    counted: bool,
    /// The last jump nobody announced: from, to. Tells a late message from a repeated one.
    hole: Option<Box<(u64, u64)>>,
}

impl Viewer {
    /// Its cursor, to resume from; `None` where it has never been in the room.
    pub(crate) fn cursor(&self) -> Option<v1::Cursor> {
        (self.epoch != 0).then_some(v1::Cursor { epoch: self.epoch, seq: self.seq })
    }

    /// (measured messages, sum of their digests).
    pub(crate) fn sum(&self) -> (u32, u64) {
        (self.measured, self.digest)
    }

    /// Whether its stream had a gap, announced or not.
    pub(crate) fn gapped(&self) -> bool {
        self.gapped
    }

    /// Whether a resume failed and the server never said so.
    pub(crate) fn gap_owed(&self) -> bool {
        self.gap_owed
    }

    /// From now on its measured deliveries count.
    pub(crate) fn count(&mut self) {
        self.counted = true;
    }

    /// Whether its measured deliveries count.
    pub(crate) fn counted(&self) -> bool {
        self.counted
    }

    /// `Join` goes out, with its cursor where `resume`.
    pub(crate) fn join(&mut self, resume: bool) {
        self.place = Place::Joining;
        self.resuming = resume && self.epoch != 0;
        self.gap_told = false;
    }

    /// The connection ended, or the room was left.
    pub(crate) fn out(&mut self) {
        self.place = Place::Out;
    }

    /// `Joined` came; `items` are its messages.
    pub(crate) fn joined(
        &mut self,
        joined: &v1::Joined,
        items: &[Item],
        now: Tick,
        tally: &mut Tally,
    ) {
        if self.place != Place::Joining {
            tally.unexpected("joined without a join");
        }
        self.place = Place::In;
        self.hole = None;
        let resuming = std::mem::take(&mut self.resuming);
        if !resuming {
            if joined.resumed {
                tally.unexpected("resumed without a cursor");
            }
            self.start(joined, items, tally);
            return;
        }
        if joined.resumed {
            tally.resumed += 1;
            if joined.epoch != self.epoch {
                tally.unannounced(1);
                self.gapped = true;
                self.start(joined, items, tally);
                return;
            }
            for item in items {
                self.item(item, now, tally);
            }
            self.jump(joined.seq, tally); // nothing may be missing up to the promised seq
            return;
        }
        let told = std::mem::take(&mut self.gap_told);
        self.gapped = true;
        self.gap_owed = !told;
        tally.resumed_with_gap += 1;
        if told && joined.epoch == self.epoch {
            // The history began behind the cursor: the gap named what it lacks, the rest is here.
            for item in items {
                self.item(item, now, tally);
            }
            self.jump(joined.seq, tally);
        } else {
            self.start(joined, items, tally);
        }
    }

    /// A fresh start: the snapshot must end where the stream goes on.
    fn start(&mut self, joined: &v1::Joined, items: &[Item], tally: &mut Tally) {
        let contiguous = items.windows(2).all(|w| w[1].seq == w[0].seq + 1);
        let ends_right = items.last().is_none_or(|last| last.seq == joined.seq);
        if !contiguous || !ends_right || joined.epoch == 0 {
            tally.unexpected("a snapshot that does not end at the room's seq");
        }
        self.epoch = joined.epoch;
        self.seq = joined.seq;
    }

    /// A batch came.
    pub(crate) fn batch(&mut self, batch: &Batch, now: Tick, tally: &mut Tally) {
        if !matches!(self.place, Place::In | Place::Leaving) {
            tally.unexpected("a batch outside the room");
            return;
        }
        if batch.epoch != self.epoch {
            self.change_epoch(batch, tally);
        }
        let Some(first) = batch.items.first() else { return };
        if batch.contiguous && first.seq == self.seq + 1 {
            // The way of nearly every batch: a few additions, whatever number of messages.
            self.seq += batch.items.len() as u64;
            if self.counted {
                self.measured += batch.measured;
                self.digest = self.digest.wrapping_add(batch.digest);
                tally.deliveries += u64::from(batch.measured);
                batch.waiting.set(batch.waiting.get() + 1);
            }
            return;
        }
        for item in &batch.items {
            self.item(item, now, tally);
        }
    }

    /// A room that begins a new life says so with a gap, or brings it whole from its first seq.
    fn change_epoch(&mut self, batch: &Batch, tally: &mut Tally) {
        tally.epoch_changes += 1;
        self.epoch = batch.epoch;
        self.hole = None;
        if self.gap_told {
            self.gap_told = false;
            self.seq = batch.items.first().map_or(0, |i| i.seq.saturating_sub(1));
        } else {
            self.gapped = true;
            tally.unannounced(1);
            self.seq = batch.items.first().map_or(0, |i| i.seq.saturating_sub(1));
        }
    }

    fn item(&mut self, item: &Item, now: Tick, tally: &mut Tally) {
        if item.seq <= self.seq {
            let late = self.hole.as_ref().is_some_and(|h| (h.0..=h.1).contains(&item.seq));
            if late {
                tally.out_of_order += 1;
            } else {
                tally.duplicates += 1;
            }
            return;
        }
        self.jump(item.seq - 1, tally);
        self.seq = item.seq;
        if let (true, Some(due)) = (self.counted, item.due) {
            self.measured += 1;
            self.digest = self.digest.wrapping_add(item.digest);
            tally.deliveries += 1;
            tally.latency(now.since_us(due), 1);
        }
    }

    /// Everything up to `seq` must have come; what has not was lost without a word.
    fn jump(&mut self, seq: u64, tally: &mut Tally) {
        if seq > self.seq {
            tally.unannounced(seq - self.seq);
            self.gapped = true;
            self.hole = Some(Box::new((self.seq + 1, seq)));
            self.seq = seq;
        }
    }

    /// A gap was told.
    pub(crate) fn gap(&mut self, gap: &v1::Gap, tally: &mut Tally) {
        tally.gaps += 1;
        self.gapped = true;
        self.gap_told = true;
        self.gap_owed = false;
        if gap.reason == v1::GapReason::Epoch as i32 {
            return; // what was missed is unknown; `Joined` or the next batch tells where to go on
        }
        tally.gap_messages += (gap.to_seq + 1).saturating_sub(gap.from_seq);
        if gap.epoch != self.epoch || gap.from_seq != self.seq + 1 || gap.to_seq < gap.from_seq {
            tally.unexpected("a gap that does not begin where the stream stands");
            return;
        }
        self.seq = gap.to_seq;
        if self.place == Place::In {
            self.gap_told = false; // it is used up: it does not excuse a change of epoch
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Tick = Tick(5_000_000);

    fn items(seqs: impl IntoIterator<Item = u64>) -> Vec<Item> {
        let due = Some(Tick(NOW.0 - 100_000));
        seqs.into_iter()
            .map(|seq| Item { seq, digest: seq.wrapping_mul(0x9e37_79b9), due, ours: true })
            .collect()
    }

    fn batch(epoch: u64, seqs: impl IntoIterator<Item = u64>) -> Batch {
        Batch::new(epoch, items(seqs))
    }

    fn gap(from: u64, to: u64, reason: v1::GapReason) -> v1::Gap {
        let reason = reason as i32;
        v1::Gap { room: "r".into(), epoch: 7, from_seq: from, to_seq: to, reason }
    }

    fn at(seq: u64) -> (Viewer, Tally) {
        let (mut viewer, mut tally) = (Viewer::default(), Tally::default());
        viewer.join(false);
        let joined = v1::Joined { epoch: 7, seq, ..v1::Joined::default() };
        viewer.joined(&joined, &[], NOW, &mut tally);
        viewer.count();
        (viewer, tally)
    }

    /// (deliveries, duplicates, out of order, unannounced, gaps, unexpected frames)
    fn figures(tally: &Tally) -> [u64; 6] {
        [
            tally.deliveries,
            tally.duplicates,
            tally.out_of_order,
            tally.unannounced_messages,
            tally.gaps,
            tally.unexpected.values().sum(),
        ]
    }

    #[test]
    fn a_right_stream_counts_every_delivery_and_nothing_else() {
        let (mut viewer, mut tally) = at(10);
        viewer.batch(&batch(7, 11..=13), NOW, &mut tally);
        viewer.batch(&batch(7, 14..=14), NOW, &mut tally);
        assert_eq!(figures(&tally), [4, 0, 0, 0, 0, 0]);
        assert!(!viewer.gapped());
        assert_eq!(viewer.cursor().map(|c| c.seq), Some(14));
    }

    #[test]
    fn a_repeated_message_is_a_duplicate_and_no_delivery() {
        let (mut viewer, mut tally) = at(10);
        viewer.batch(&batch(7, 11..=13), NOW, &mut tally);
        viewer.batch(&batch(7, 12..=14), NOW, &mut tally);
        assert_eq!(figures(&tally), [4, 2, 0, 0, 0, 0]);
    }

    #[test]
    fn an_unannounced_jump_is_a_failure_and_what_comes_late_is_out_of_order() {
        let (mut viewer, mut tally) = at(10);
        viewer.batch(&batch(7, 13..=14), NOW, &mut tally);
        assert_eq!(figures(&tally), [2, 0, 0, 2, 0, 0]);
        assert_eq!(tally.unannounced_gaps, 1);
        viewer.batch(&batch(7, 11..=12), NOW, &mut tally);
        assert_eq!(figures(&tally), [2, 0, 2, 2, 0, 0], "late is not repeated");
        assert!(viewer.gapped());
    }

    #[test]
    fn a_batch_that_is_not_in_order_is_noticed() {
        let (mut viewer, mut tally) = at(10);
        viewer.batch(&batch(7, [11, 13, 12]), NOW, &mut tally);
        assert_eq!(figures(&tally), [2, 0, 1, 1, 0, 0]);
    }

    #[test]
    fn an_announced_gap_is_counted_and_the_stream_goes_on_behind_it() {
        let (mut viewer, mut tally) = at(10);
        viewer.gap(&gap(11, 20, v1::GapReason::Slow), &mut tally);
        viewer.batch(&batch(7, 21..=22), NOW, &mut tally);
        assert_eq!(figures(&tally), [2, 0, 0, 0, 1, 0]);
        assert_eq!(tally.gap_messages, 10);
        assert!(viewer.gapped(), "it takes no part in the comparison of streams");
    }

    #[test]
    fn a_gap_that_does_not_fit_the_stream_is_unexpected() {
        let (mut viewer, mut tally) = at(10);
        viewer.gap(&gap(12, 20, v1::GapReason::Slow), &mut tally);
        assert_eq!(figures(&tally), [0, 0, 0, 0, 1, 1]);
    }

    #[test]
    fn a_new_epoch_needs_a_gap() {
        let (mut viewer, mut tally) = at(10);
        viewer.gap(&gap(0, 0, v1::GapReason::Epoch), &mut tally);
        viewer.batch(&batch(8, 1..=2), NOW, &mut tally);
        assert_eq!(figures(&tally), [2, 0, 0, 0, 1, 0]);
        viewer.batch(&batch(9, 1..=2), NOW, &mut tally);
        assert_eq!(tally.unannounced_gaps, 1, "the second change was not announced");
        assert_eq!(tally.epoch_changes, 2);
    }

    #[test]
    fn a_gap_within_an_epoch_does_not_excuse_a_later_change_of_epoch() {
        let (mut viewer, mut tally) = at(10);
        viewer.gap(&gap(11, 20, v1::GapReason::Slow), &mut tally);
        viewer.batch(&batch(8, 1..=2), NOW, &mut tally);
        assert_eq!(tally.unannounced_gaps, 1);
    }

    #[test]
    fn a_resume_brings_exactly_what_was_missed() {
        let (mut viewer, mut tally) = at(10);
        viewer.out();
        viewer.join(true);
        let joined = v1::Joined { epoch: 7, seq: 13, resumed: true, ..v1::Joined::default() };
        viewer.joined(&joined, &items(11..=13), NOW, &mut tally);
        viewer.batch(&batch(7, 14..=14), NOW, &mut tally);
        assert_eq!(figures(&tally), [4, 0, 0, 0, 0, 0]);
        assert_eq!((tally.resumed, viewer.gapped()), (1, false));
    }

    #[test]
    fn a_resume_that_misses_a_message_is_an_unannounced_gap() {
        let (mut viewer, mut tally) = at(10);
        viewer.out();
        viewer.join(true);
        let joined = v1::Joined { epoch: 7, seq: 13, resumed: true, ..v1::Joined::default() };
        viewer.joined(&joined, &items(11..=12), NOW, &mut tally);
        assert_eq!(figures(&tally), [2, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_resume_from_before_the_history_is_a_gap_and_then_the_rest() {
        let (mut viewer, mut tally) = at(10);
        viewer.out();
        viewer.join(true);
        viewer.gap(&gap(11, 15, v1::GapReason::History), &mut tally);
        let joined = v1::Joined { epoch: 7, seq: 17, ..v1::Joined::default() };
        viewer.joined(&joined, &items(16..=17), NOW, &mut tally);
        viewer.batch(&batch(7, 18..=18), NOW, &mut tally);
        assert_eq!(figures(&tally), [3, 0, 0, 0, 1, 0]);
        assert!(!viewer.gap_owed());
    }

    #[test]
    fn a_failed_resume_owes_a_gap_until_it_is_told() {
        let (mut viewer, mut tally) = at(10);
        viewer.out();
        viewer.join(true);
        let joined = v1::Joined { epoch: 9, seq: 4, ..v1::Joined::default() };
        viewer.joined(&joined, &[], NOW, &mut tally);
        assert!(viewer.gap_owed());
        viewer.gap(&gap(0, 0, v1::GapReason::Epoch), &mut tally);
        assert!(!viewer.gap_owed());
        viewer.batch(&batch(9, 5..=6), NOW, &mut tally);
        assert_eq!(figures(&tally), [2, 0, 0, 0, 1, 0]);
    }

    #[test]
    fn equal_streams_have_equal_sums_however_they_were_cut() {
        let (mut a, mut tally) = at(10);
        let (mut b, _) = at(10);
        a.batch(&batch(7, 11..=16), NOW, &mut tally);
        b.batch(&batch(7, 11..=12), NOW, &mut tally);
        b.batch(&batch(7, 13..=16), NOW, &mut tally);
        assert_eq!(a.sum(), b.sum());
        let (mut c, _) = at(10);
        c.batch(&batch(7, 11..=15), NOW, &mut tally);
        assert_ne!(a.sum(), c.sum());
    }

    #[test]
    fn a_viewer_is_small() {
        assert!(size_of::<Viewer>() <= 48, "{} bytes, 200,000 of them", size_of::<Viewer>());
    }
}
