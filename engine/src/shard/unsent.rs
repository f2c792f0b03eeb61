//! Messages to other shards that came back because a queue was full.
//!
//! Owns what is still to be told and when it is tried again. What can be refused is refused at
//! once, what can be made up for is made up for by later state, and the rest is kept: a join that
//! is never answered, a room that never ends or a wrong count is not what a full queue may cost.

use super::message::Message;
use super::{Shard, homes};
use crate::metrics::Figure;
use crate::router::ShardId;
use crate::seam::Tick;
use uproar_proto::error::Code;
use uproar_proto::ids::RoomId;

/// A queue that was full needs time to drain.
const RETRY_MS: u64 = 1;
/// Verdicts kept for shards that take none; beyond, senders go untold, and it is counted. Other
/// kinds are bounded by the rooms there are.
const VERDICTS_MAX: usize = 16 * 1024;

/// What is still to be told.
#[derive(Default)]
pub(super) struct Unsent {
    list: Vec<(u16, Message)>,
    verdicts: usize,
    again_at: Tick,
}

impl Unsent {
    /// When it wants to be tried again.
    pub(super) fn next_due(&self) -> Tick {
        if self.list.is_empty() { Tick::NEVER } else { self.again_at }
    }

    /// What is to be tried now.
    pub(super) fn take(&mut self, now: Tick) -> Vec<(u16, Message)> {
        if self.list.is_empty() || now < self.again_at {
            return Vec::new();
        }
        self.verdicts = 0;
        std::mem::take(&mut self.list)
    }
}

impl Shard {
    /// A message could not be handed to shard `to`.
    pub(super) fn came_back(&mut self, to: u16, message: Message) {
        self.metrics.add(Figure::QueueDropped, 1);
        match message {
            Message::Offer { room, offer } => self.refuse_offer(room, offer, Code::QueueFull),
            Message::Attach { room, shard } => {
                self.attached(&room, Err(Code::QueueFull));
                // The home may know us from before: a detach that was given up for this attach.
                self.keep_detach(to, room, shard);
            }
            Message::Command(command) => homes::refuse_command(command, Code::QueueFull),
            Message::List { gather, .. } => gather.add(Vec::new()),
            Message::Flush(batch) => self.home_resync(&batch.room),
            Message::Members { room, .. } => {
                if let Some(number) = self.rooms.by_name.get(&room).copied() {
                    self.rooms.slab.get_mut(number).report_again();
                }
            }
            // A room that was opened again here has attached again, behind this message.
            Message::Detach { room, .. } if self.rooms.by_name.contains_key(&room) => {}
            Message::Verdicts { .. } if self.unsent.verdicts >= VERDICTS_MAX => {}
            Message::Verdicts { .. } => {
                self.unsent.verdicts += 1;
                self.keep(to, message);
            }
            Message::Detach { room, shard } => self.keep_detach(to, room, shard),
            Message::Attached { .. }
            | Message::Updated { .. }
            | Message::Ended { .. }
            | Message::Kick { .. } => self.keep(to, message),
            // Another sweep follows. A drain or a stop comes from outside.
            Message::SweepTook { .. } | Message::Drain | Message::Stop => {}
        }
    }

    fn keep_detach(&mut self, to: u16, room: RoomId, shard: ShardId) {
        let same = |m: &Message| matches!(m, Message::Detach { room: kept, .. } if *kept == room);
        if !self.unsent.list.iter().any(|(target, message)| *target == to && same(message)) {
            self.keep(to, Message::Detach { room, shard });
        }
    }

    fn keep(&mut self, to: u16, message: Message) {
        if self.unsent.list.is_empty() {
            self.unsent.again_at = self.now.tick.after_ms(RETRY_MS);
        }
        self.unsent.list.push((to, message));
    }

    /// Tries again what came back: as it was, or as things are now.
    pub(super) fn send_again(&mut self) {
        for (to, message) in self.unsent.take(self.now.tick) {
            match message {
                Message::Attached { room, answer: Ok(_) } => {
                    self.home_attach(room, ShardId(to));
                }
                Message::Updated { room, .. } => self.home_updated(&room, to),
                Message::Detach { room, .. } if self.rooms.by_name.contains_key(&room) => {}
                other => self.outbox.push((to, other)),
            }
        }
    }
}
