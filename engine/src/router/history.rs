//! The recent batches of a room, bounded by messages and age: what joins and resumes are served
//! from, at the home and on every shard with members.

use super::{Admitted, Batch};
use crate::config::Rooms;
use crate::seam::Tick;
use std::collections::VecDeque;
use std::sync::Arc;

/// The ring. Its batches are contiguous: one that does not follow begins it anew.
#[derive(Debug)]
pub struct History {
    batches: VecDeque<Arc<Batch>>,
    messages: usize,
    messages_max: usize,
    age_us_max: u64,
}

impl History {
    /// An empty ring with the configured bounds.
    #[must_use]
    pub fn new(rules: &Rooms) -> History {
        History {
            batches: VecDeque::new(),
            messages: 0,
            messages_max: rules.history_messages_max as usize,
            age_us_max: u64::from(rules.history_ms_max) * 1000,
        }
    }

    /// Appends a batch and drops what is beyond the bounds. A batch without messages is ignored.
    pub fn push(&mut self, batch: Arc<Batch>, now: Tick) {
        let Some(first) = batch.messages.first() else { return };
        let last = self.batches.back().and_then(|b| b.messages.last());
        if last.is_some_and(|last| last.seq.0 + 1 != first.seq.0) {
            self.clear();
        }
        self.messages += batch.messages.len();
        self.batches.push_back(batch);
        while let Some(front) = self.batches.front() {
            let old = now.since_us(front.flushed) > self.age_us_max;
            // The newest batch stays whatever its size: it is what a join sees first.
            if self.batches.len() == 1 || (!old && self.messages <= self.messages_max) {
                break;
            }
            self.messages -= front.messages.len();
            self.batches.pop_front();
        }
    }

    /// Blanks messages that were recalled: their places are left.
    pub fn recall(&mut self, seqs: &[u64]) {
        for batch in &mut self.batches {
            if let Some(left) = batch.without(seqs) {
                *batch = Arc::new(left);
            }
        }
    }

    /// A message that is here.
    #[must_use]
    pub fn get(&self, seq: u64) -> Option<&Admitted> {
        self.batches.iter().flat_map(|b| &b.messages).find(|m| m.seq.0 == seq)
    }

    /// The messages of a user that are here, by seq.
    #[must_use]
    pub fn of_user(&self, user: &str) -> Vec<u64> {
        let messages = self.batches.iter().flat_map(|b| &b.messages);
        messages.filter(|m| !m.gone && &*m.user == user).map(|m| m.seq.0).collect()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.batches.clear();
        self.messages = 0;
    }

    /// The last `n` messages, oldest first.
    #[must_use]
    pub fn snapshot(&self, n: usize) -> Vec<&Admitted> {
        let skip = self.messages.saturating_sub(n);
        self.batches.iter().flat_map(|b| &b.messages).skip(skip).collect()
    }

    /// Every message here with a larger seq, oldest first. It is all that was missed where the
    /// first one is `seq + 1`.
    #[must_use]
    pub fn after(&self, seq: u64) -> Vec<&Admitted> {
        self.batches.iter().flat_map(|b| &b.messages).filter(|m| m.seq.0 > seq).collect()
    }

    /// The batches, oldest first: what a shard is given when it attaches.
    #[must_use]
    pub fn batches(&self) -> Vec<Arc<Batch>> {
        self.batches.iter().cloned().collect()
    }

    /// Bytes of messages held, roughly: content and 128 bytes each. Shared with other holders.
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        let messages = self.batches.iter().flat_map(|b| &b.messages);
        messages.map(|m| m.content.len() + 128).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::tests::admitted;
    use uproar_proto::ids::{Epoch, RoomId};

    fn batch(seqs: std::ops::Range<u64>, at: u64) -> Arc<Batch> {
        let room = RoomId::new("r").expect("legal");
        let seq = uproar_proto::ids::Seq(seqs.end - 1);
        let messages = seqs.map(admitted).collect();
        Arc::new(Batch::new(room, Epoch(1), messages, seq, None, None, Tick(at)))
    }

    fn seqs(messages: &[&Admitted]) -> Vec<u64> {
        messages.iter().map(|m| m.seq.0).collect()
    }

    #[test]
    fn it_answers_with_what_is_left_inside_its_bounds() {
        let rules = Rooms { history_messages_max: 5, ..Rooms::default() };
        let mut history = History::new(&rules);
        history.push(batch(1..4, 0), Tick(0));
        history.push(batch(4..7, 0), Tick(0));
        assert_eq!(seqs(&history.snapshot(2)), [5, 6]);
        assert_eq!(seqs(&history.after(4)), [5, 6]);
        assert_eq!(seqs(&history.after(0)), [4, 5, 6], "the first batch went beyond the count");
    }

    #[test]
    fn what_is_recalled_leaves_its_place() {
        let mut history = History::new(&Rooms::default());
        history.push(batch(1..4, 0), Tick(0));
        history.push(batch(4..6, 0), Tick(0));
        assert_eq!(history.of_user("u"), [1, 2, 3, 4, 5]);
        history.recall(&[2, 5, 99]);
        assert_eq!(seqs(&history.after(0)), [1, 2, 3, 4, 5], "no hole");
        let gone: Vec<u64> = history.after(0).iter().filter(|m| m.gone).map(|m| m.seq.0).collect();
        assert_eq!(gone, [2, 5]);
        let blank = history.get(2).expect("its place").wire();
        assert_eq!((blank.content, blank.gone), (None, true));
        assert_eq!(history.of_user("u"), [1, 3, 4]);
    }

    #[test]
    fn old_batches_go_and_a_hole_begins_anew() {
        let mut history = History::new(&Rooms { history_ms_max: 1, ..Rooms::default() });
        history.push(batch(1..2, 0), Tick(0));
        history.push(batch(2..3, 5_000), Tick(5_000));
        assert_eq!(seqs(&history.after(0)), [2]);
        history.push(batch(9..10, 5_000), Tick(5_000));
        assert_eq!(seqs(&history.after(0)), [9], "seqs on both sides of a hole are never mixed");
    }
}
