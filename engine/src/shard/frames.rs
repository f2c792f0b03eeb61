//! The ring of recent chunks of one room on one shard.
//!
//! A chunk is one batch as bytes, encoded once per wire variant. Members hold cursors into the
//! ring; the ring knows how many members each chunk still has to reach, so it can drop a chunk
//! that reached everybody, and knows exactly what it skipped when a chunk grows too old. Never
//! holds a connection.

use crate::router::{Admitted, Batch, CLASSES, VARIANTS};
use crate::seam::{FrameSlot, Frames, Tick};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use uproar_proto::v1;
use uproar_proto::wire::{Variant, encode_server};

/// One batch in the ring.
struct Chunk {
    batch: Arc<Batch>,
    frames: [Option<FrameSlot>; VARIANTS],
    /// Seqs lost on the way from the home, told in front of this chunk.
    lost: Option<(u64, u64)>,
    /// Members it has yet to reach.
    remaining: u32,
    by_class: [u64; CLASSES],
    /// The room's seq after this chunk.
    seq_after: u64,
    pushed: Tick,
}

/// Several chunks as one frame, for members that are more than one behind.
struct Joined {
    from: u64,
    to: u64,
    variant: usize,
    frame: FrameSlot,
}

/// The ring.
#[derive(Default)]
pub struct Ring {
    chunks: VecDeque<Chunk>,
    base: u64,
    /// The room's seq after the last chunk that left.
    seq_evicted: u64,
    /// The counters told by chunks that left: viewers, likes.
    counters_evicted: (Option<u64>, Option<u64>),
    joined: Vec<Joined>,
    bytes_used: usize,
}

/// What a member at some cursor is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is at the head.
    Nothing,
    /// This frame takes it to cursor `to`, having seen `seq`.
    Send { frame: FrameSlot, to: u64, seq: u64 },
    /// The ring has moved past it: it goes on at `to`, missing everything up to `seq`.
    Overtaken { to: u64, seq: u64 },
}

/// 64 KiB: several chunks travel as one frame up to this size; a send costs the same up to 5 KB
/// and little more here, and a slow viewer holds at most one such frame.
const JOINED_BYTES_MAX: usize = 64 * 1024;

/// Bytes of chunks a ring may hold; beyond, the oldest leaves early and slow members are told.
pub const RING_BYTES_MAX: usize = 4 << 20;

impl Ring {
    /// The number of the next chunk: a member at this cursor has everything.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.base + self.chunks.len() as u64
    }

    /// A cursor's full number from its low bits.
    #[must_use]
    pub fn expand(&self, cursor: u32) -> u64 {
        let head = self.head();
        head.saturating_sub(u64::from((head as u32).wrapping_sub(cursor)))
    }

    /// Appends a batch for `members` members. `seq_before` is the room's seq here so far; where
    /// the batch does not follow it, what is missing is told in front.
    pub fn push(&mut self, batch: Arc<Batch>, members: u32, seq_before: u64, now: Tick) {
        let lost = batch.seq_before() > seq_before;
        let lost = lost.then(|| (seq_before + 1, batch.seq_before()));
        let seq_after = batch.seq.0;
        let by_class = batch.by_class().map(u64::from);
        self.chunks.push_back(Chunk {
            batch,
            frames: [None; VARIANTS],
            lost,
            remaining: members,
            by_class,
            seq_after,
            pushed: now,
        });
    }

    /// What a member at `cursor` is sent next.
    pub fn next(&mut self, cursor: u32, variant: Variant, frames: &mut Frames) -> Next {
        let (from, head) = (self.expand(cursor), self.head());
        if from == head {
            return Next::Nothing;
        }
        if from < self.base {
            return Next::Overtaken { to: self.base, seq: self.seq_evicted }; // S-8, S-14
        }
        if from + 1 == head {
            let frame = self.chunk_frame(from, variant, frames);
            let seq = self.chunk(from).seq_after;
            return Next::Send { frame, to: head, seq };
        }
        self.joined_frame(from, variant, frames)
    }

    fn joined_frame(&mut self, from: u64, variant: Variant, frames: &mut Frames) -> Next {
        let v = variant.index();
        if let Some(known) = self.joined.iter().find(|j| j.from == from && j.variant == v) {
            let (frame, to) = (known.frame, known.to);
            return Next::Send { frame, to, seq: self.chunk(to - 1).seq_after };
        }
        let mut bytes = Vec::new();
        let mut to = from;
        while to < self.head() {
            let slot = self.chunk_frame(to, variant, frames);
            let next = frames.get(slot);
            if to > from && bytes.len() + next.len() > JOINED_BYTES_MAX {
                break;
            }
            bytes.extend_from_slice(next);
            to += 1;
        }
        self.bytes_used += bytes.len();
        let frame = frames.insert(Bytes::from(bytes));
        self.joined.push(Joined { from, to, variant: v, frame });
        Next::Send { frame, to, seq: self.chunk(to - 1).seq_after }
    }

    fn chunk_frame(&mut self, number: u64, variant: Variant, frames: &mut Frames) -> FrameSlot {
        let place = (number - self.base) as usize;
        let chunk = &mut self.chunks[place];
        if let Some(frame) = chunk.frames[variant.index()] {
            return frame;
        }
        let shared = chunk.batch.encoded(variant.index(), |batch| encode_batch(batch, variant));
        let bytes = match chunk.lost {
            None => shared.clone(),
            Some((from_seq, to_seq)) => {
                let reason = v1::GapReason::Lost.into();
                let (room, epoch) = (chunk.batch.room.to_string(), chunk.batch.epoch.0);
                let gap = v1::Gap { room, epoch, from_seq, to_seq, reason };
                let mut bytes = Vec::new();
                encode_server(&v1::server_frame::Body::Gap(gap), variant, &mut bytes);
                bytes.extend_from_slice(shared);
                Bytes::from(bytes)
            }
        };
        self.bytes_used += bytes.len();
        let frame = frames.insert(bytes);
        chunk.frames[variant.index()] = Some(frame);
        frame
    }

    /// `members` members were handed the chunks from..to.
    pub fn served(&mut self, from: u64, to: u64, members: u32) {
        for number in from..to {
            let place = (number - self.base) as usize;
            let chunk = &mut self.chunks[place];
            assert!(chunk.remaining >= members, "a chunk reaches each member once");
            chunk.remaining -= members;
        }
    }

    /// Takes one back: the socket refused it.
    pub fn unserved(&mut self, from: u64, to: u64) {
        for number in from..to {
            let place = (number - self.base) as usize;
            self.chunks[place].remaining += 1;
        }
    }

    /// Messages by class in the chunks from..to that are still here.
    #[must_use]
    pub fn by_class(&self, from: u64, to: u64) -> [u64; CLASSES] {
        let mut sum = [0; CLASSES];
        for number in from.max(self.base)..to.min(self.head()) {
            for (total, n) in sum.iter_mut().zip(self.chunk(number).by_class) {
                *total += n;
            }
        }
        sum
    }

    /// When the oldest chunk grows older than `age_us_max`. The newest does not where it holds
    /// counters alone: late, they are still what a member would be told instead.
    #[must_use]
    pub fn ages_at(&self, age_us_max: u64) -> Tick {
        match self.chunks.front() {
            Some(front) if self.chunks.len() > 1 || front.by_class != [0; CLASSES] => {
                Tick(front.pushed.0 + age_us_max)
            }
            _ => Tick::NEVER,
        }
    }

    /// Messages by class times the members they have yet to reach.
    #[must_use]
    pub fn undelivered(&self) -> [u64; CLASSES] {
        let mut sum = [0; CLASSES];
        for chunk in &self.chunks {
            for (total, n) in sum.iter_mut().zip(chunk.by_class) {
                *total += n * u64::from(chunk.remaining);
            }
        }
        sum
    }

    /// Drops from the front what reached everybody and what is older than `age_us_max` or beyond
    /// the ring's bytes. Call it only when no send of the last turn is unsettled. Returns what
    /// was skipped: messages by class, times the members that did not get them.
    pub fn evict(&mut self, now: Tick, age_us_max: u64, frames: &mut Frames) -> [u64; CLASSES] {
        let mut skipped = [0; CLASSES];
        while let Some(front) = self.chunks.front() {
            let old = self.ages_at(age_us_max) <= now || self.bytes_used > RING_BYTES_MAX;
            if front.remaining > 0 && !old {
                break;
            }
            for (total, n) in skipped.iter_mut().zip(front.by_class) {
                *total += n * u64::from(front.remaining);
            }
            for frame in front.frames.iter().flatten() {
                self.bytes_used -= frames.get(*frame).len();
                frames.release(*frame);
            }
            self.seq_evicted = front.seq_after;
            let (viewers, likes) = self.counters_evicted;
            self.counters_evicted = (front.batch.viewers.or(viewers), front.batch.likes.or(likes));
            self.chunks.pop_front();
            self.base += 1;
            self.forget_joined(frames);
        }
        skipped
    }

    /// Forgets frames made for members that were behind: when chunks come or go.
    pub fn forget_joined(&mut self, frames: &mut Frames) {
        for joined in self.joined.drain(..) {
            self.bytes_used -= frames.get(joined.frame).len();
            frames.release(joined.frame);
        }
    }

    /// Drops everything; the room ends here.
    pub fn clear(&mut self, frames: &mut Frames) {
        self.forget_joined(frames);
        self.base = self.head();
        for chunk in self.chunks.drain(..) {
            for frame in chunk.frames.iter().flatten() {
                self.bytes_used -= frames.get(*frame).len();
                frames.release(*frame);
            }
        }
    }

    /// Viewers and likes as the chunks told them that have left: what an overtaken member may
    /// have missed.
    #[must_use]
    pub fn counters_passed(&self) -> (Option<u64>, Option<u64>) {
        self.counters_evicted
    }

    /// The number of the oldest chunk that is still here.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Bytes of frames held.
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        self.bytes_used
    }

    fn chunk(&self, number: u64) -> &Chunk {
        &self.chunks[(number - self.base) as usize]
    }
}

/// A batch as bytes of one variant: its messages, its counters, its notices, in one piece.
#[must_use]
pub fn encode_batch(batch: &Batch, variant: Variant) -> Bytes {
    let mut out = Vec::new();
    let room = batch.room.to_string();
    if !batch.messages.is_empty() {
        let messages = batch.messages.iter().map(Admitted::wire).collect();
        let body = v1::Batch { room: room.clone(), epoch: batch.epoch.0, messages };
        encode_server(&v1::server_frame::Body::Batch(body), variant, &mut out);
    }
    if batch.viewers.is_some() || batch.likes.is_some() {
        let body = v1::Count { room, viewers: batch.viewers, likes: batch.likes };
        encode_server(&v1::server_frame::Body::Count(body), variant, &mut out);
    }
    for notice in &batch.notices {
        encode_server(notice, variant, &mut out);
    }
    Bytes::from(out)
}
