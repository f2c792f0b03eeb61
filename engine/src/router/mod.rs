//! The home router of a room: order, admit, shed, batch, remember.
//!
//! Pure: offers and ticks in, flushes and verdicts out. Owns everything that must be decided once
//! for all viewers. Never knows a connection, a socket or a clock; [`Origin`] is an address to
//! answer to, never looked into.

pub mod admit;
pub mod attributes;
pub mod bans;
mod books;
pub mod combos;
pub mod count;
pub mod delay;
pub mod entries;
pub mod former;
pub mod history;
pub mod home;
pub mod judge;
pub mod live;
pub mod polls;
pub mod shed;
pub mod state;
pub mod unique;
pub mod window;

pub use books::Books;
pub use combos::Gift;
pub use judge::Fate;
pub use polls::Ballot;
pub use state::RoomState;

use crate::seam::Tick;
use bytes::Bytes;
use std::sync::{Arc, OnceLock};
use uproar_proto::control::{Content, Question, RoomSettings};
use uproar_proto::error::Code;
use uproar_proto::ids::{Epoch, RoomId, Seq};
use uproar_proto::v1::{self, server_frame::Body};

/// A shard's number on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// Number of classes; tables are indexed by `v1::Class as usize`.
pub const CLASSES: usize = 4;

/// Where a verdict goes back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A connection of a shard; `generation` tells whether the slot is still the same one.
    Connection { shard: ShardId, conn: u32, generation: u8 },
    /// A backend's request, by a number its home gave it, and the message's place in it.
    Backend { request: u64, index: u32 },
}

/// Who offered a message, as far as the home needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Seeded hash of the user (or of the guest's connection): one candidate per sender.
    pub key: u64,
    /// As shown to viewers.
    pub user: Arc<str>,
    /// Exempt from slow mode, per-user limits and mutes: moderators and backends.
    pub exempt: bool,
}

/// A message on its way to the home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub class: v1::Class,
    pub sender: Sender,
    pub origin: Origin,
    /// 1 to 16 bytes.
    pub client_msg_id: Bytes,
    pub content: Content,
    /// When the shard received it, or the platform has decided about it: latency and expiry count
    /// from here, and samples are ordered by it.
    pub received: Tick,
    pub received_unix_ms: u64,
    /// Class GIFT: a gift with a name, and what was folded into it.
    pub gift: Option<Box<Gift>>,
}

impl Candidate {
    /// How many were offered: itself and what was folded into it.
    #[must_use]
    pub fn offered(&self) -> u64 {
        1 + self.gift.as_ref().map_or(0, |gift| gift.folded.len() as u64)
    }

    /// Puts out what became of it, and of each that was folded into it: it shares its fate, but
    /// that it is merged where this one is accepted.
    pub fn decide(
        &self,
        outcome: (v1::Outcome, Seq),
        code: Option<Code>,
        retry_after_ms: u32,
        out: &mut Vec<Output>,
    ) {
        self.decide_saying(outcome, code, retry_after_ms, "", out);
    }

    /// The same, with a text for people.
    pub fn decide_saying(
        &self,
        (outcome, seq): (v1::Outcome, Seq),
        code: Option<Code>,
        retry_after_ms: u32,
        text: &str,
        out: &mut Vec<Output>,
    ) {
        let (origin, client_msg_id) = (self.origin, self.client_msg_id.clone());
        let said = text.to_owned();
        let own = Verdict { origin, client_msg_id, outcome, seq, code, retry_after_ms, text: said };
        let is_accepted = outcome == v1::Outcome::Accepted;
        let outcome = if is_accepted { v1::Outcome::Merged } else { outcome };
        let folded = self.gift.iter().flat_map(|gift| &gift.folded).map(|tap| Verdict {
            origin: tap.origin,
            client_msg_id: tap.client_msg_id.clone(),
            outcome,
            seq: Seq(0),
            code,
            retry_after_ms,
            text: text.to_owned(),
        });
        out.extend([own].into_iter().chain(folded).map(Output::Verdict));
    }
}

/// What a shard sends to a home for one room: at most N candidates a window, and folded likes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    pub candidates: Vec<Candidate>,
    /// Sum of the counts of folded like frames.
    pub likes: u64,
    /// How many like frames (for the books: each was offered, each is merged).
    pub like_frames: u64,
}

/// A message that has its place in the room's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    pub seq: Seq,
    pub class: v1::Class,
    pub user: Arc<str>,
    pub content: Content,
    pub client_msg_id: Bytes,
    pub received: Tick,
    pub received_unix_ms: u64,
    /// It was recalled, and has no content any more.
    pub gone: bool,
    /// Class GIFT, of a gift with a name.
    pub combo: Option<Box<v1::Combo>>,
}

impl Admitted {
    /// As it goes over the wire.
    #[must_use]
    pub fn wire(&self) -> v1::Message {
        let content = match &self.content {
            _ if self.gone => None,
            // A gift with a name needs no content.
            content if content.is_empty() => None,
            // Checked when it came in; a lossy copy could only differ where that check failed.
            Content::Text(text) => {
                Some(v1::message::Content::Text(String::from_utf8_lossy(text).into_owned()))
            }
            Content::Data(data) => Some(v1::message::Content::Data(data.clone())),
        };
        v1::Message {
            seq: self.seq.0,
            class: self.class.into(),
            user: self.user.to_string(),
            time_ms: self.received_unix_ms,
            content,
            client_msg_id: self.client_msg_id.clone(),
            gone: self.gone,
            combo: self.combo.clone(),
        }
    }

    /// What is left of it once it is recalled: its place.
    fn blank(&self) -> Admitted {
        Admitted { content: Content::Data(Bytes::new()), gone: true, combo: None, ..self.clone() }
    }
}

/// Messages flushed together, encoded at most once per wire variant, shared by all shards.
#[derive(Debug)]
pub struct Batch {
    pub room: RoomId,
    pub epoch: Epoch,
    /// Contiguous seq; may be empty where only counters changed.
    pub messages: Vec<Admitted>,
    /// The room's seq after it. Known for an empty batch too, so that any batch reveals what was
    /// lost before it.
    pub seq: Seq,
    /// Pushed with this batch: a counter frame costs no send of its own.
    pub viewers: Option<u64>,
    pub likes: Option<u64>,
    /// Other frames for every member, in order, behind the messages.
    pub notices: Vec<Body>,
    /// When it was flushed.
    pub flushed: Tick,
    encoded: [OnceLock<Bytes>; VARIANTS],
}

/// Wire variants: the length of `Batch::encoded`.
pub const VARIANTS: usize = 5;

impl Batch {
    #[must_use]
    pub fn new(
        room: RoomId,
        epoch: Epoch,
        messages: Vec<Admitted>,
        seq: Seq,
        viewers: Option<u64>,
        likes: Option<u64>,
        flushed: Tick,
    ) -> Batch {
        let (notices, encoded) = (Vec::new(), Default::default());
        Batch { room, epoch, messages, seq, viewers, likes, notices, flushed, encoded }
    }

    /// The same with these frames behind its messages.
    #[must_use]
    pub fn with(self, notices: Vec<Body>) -> Batch {
        Batch { notices, ..self }
    }

    /// The same with some messages blank; `None` where it has none of them.
    #[must_use]
    pub fn without(&self, seqs: &[u64]) -> Option<Batch> {
        let is_meant = |m: &Admitted| !m.gone && seqs.contains(&m.seq.0);
        if !self.messages.iter().any(is_meant) {
            return None;
        }
        let left = |m: &Admitted| if is_meant(m) { m.blank() } else { m.clone() };
        let messages = self.messages.iter().map(left).collect();
        let (room, epoch, seq) = (self.room.clone(), self.epoch, self.seq);
        let batch = Batch::new(room, epoch, messages, seq, self.viewers, self.likes, self.flushed);
        Some(batch.with(self.notices.clone()))
    }

    /// What this batch tells of recalls.
    pub fn recalls(&self) -> impl Iterator<Item = &v1::Recalled> {
        self.notices.iter().filter_map(|notice| match notice {
            Body::Recalled(recalled) => Some(recalled),
            _ => None,
        })
    }

    /// Messages that this batch recalls, by seq.
    pub fn recalled(&self) -> impl Iterator<Item = u64> {
        self.recalls().flat_map(|recalled| recalled.seqs.iter().copied())
    }

    /// The bytes of a variant, made by `encode` the first time any shard asks.
    pub fn encoded(&self, variant: usize, encode: impl FnOnce(&Batch) -> Bytes) -> &Bytes {
        self.encoded[variant].get_or_init(|| encode(self))
    }

    /// The room's seq before it.
    #[must_use]
    pub fn seq_before(&self) -> u64 {
        self.seq.0 - self.messages.len() as u64
    }

    /// Messages by class.
    #[must_use]
    pub fn by_class(&self) -> [u32; CLASSES] {
        let mut counts = [0; CLASSES];
        for message in &self.messages {
            counts[message.class as usize] += 1;
        }
        counts
    }
}

/// What became of one offered message (likes get none).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub origin: Origin,
    pub client_msg_id: Bytes,
    pub outcome: v1::Outcome,
    pub seq: Seq,
    pub code: Option<Code>,
    pub retry_after_ms: u32,
    /// What the platform says of its refusal, for people; else empty.
    pub text: String,
}

/// What a shard is told when it attaches to a room: the room's present state, from which the
/// shard serves joins and resumes by itself.
#[derive(Clone, Debug)]
pub struct Attached {
    pub epoch: Epoch,
    pub seq: Seq,
    /// Recent batches, oldest first; each batch's messages are contiguous, and so are the batches.
    pub history: Vec<Arc<Batch>>,
    pub settings: Arc<RoomSettings>,
    pub state: RoomState,
    pub viewers: u64,
    pub likes: u64,
    /// Banned users, devices and addresses, by key, and until when (wall clock, milliseconds).
    pub bans: bans::Changes,
}

/// What a home puts out; the shard that hosts the home carries it to where it belongs.
#[derive(Clone, Debug)]
pub enum Output {
    /// To every attached shard.
    Flush(Arc<Batch>),
    /// To every attached shard, for moderators alone: what viewers will see later.
    Held(Arc<Batch>),
    /// To where the verdict's origin says.
    Verdict(Verdict),
    /// To the platform, by way of control: its answer comes by [`home::Home::judged`].
    Question(Question),
    /// To be counted: what became of a message that was asked about, and how long it waited, in
    /// microseconds.
    Judged(Fate, u64),
}

impl Output {
    /// The verdict, where it is one.
    #[must_use]
    pub fn verdict(self) -> Option<Verdict> {
        match self {
            Output::Verdict(verdict) => Some(verdict),
            _ => None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A message with this seq.
    pub(crate) fn admitted(seq: u64) -> Admitted {
        Admitted {
            seq: Seq(seq),
            class: v1::Class::Chat,
            user: Arc::from("u"),
            content: Content::Text(Bytes::from_static(b"hi")),
            client_msg_id: Bytes::from_static(b"1"),
            received: Tick(0),
            received_unix_ms: 0,
            gone: false,
            combo: None,
        }
    }

    /// A message of sender number `sender`, received at `at`.
    pub(crate) fn candidate(sender: u64, class: v1::Class, at: u64) -> Candidate {
        let user = Arc::from(sender.to_string());
        Candidate {
            class,
            sender: Sender { key: crate::hash::mix(sender), user, exempt: false },
            origin: Origin::Connection { shard: ShardId(0), conn: sender as u32, generation: 0 },
            client_msg_id: Bytes::from_static(b"1"),
            content: Content::Text(Bytes::from_static(b"hi")),
            received: Tick(at),
            received_unix_ms: at / 1000,
            gift: None,
        }
    }
}
