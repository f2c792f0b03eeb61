//! What a home tells its viewers beside messages and counters: attributes, the pinned message,
//! recalls, polls. Owns when each of it is due, and what viewers have been told. Each rule is in
//! its own file; here they share the way into the batches.

use super::attributes::Attributes;
use super::entries::Entries;
use super::polls::Polls;
use super::state::RoomState;
use crate::seam::Tick;
use std::collections::BTreeMap;
use uproar_proto::ids::{Epoch, RoomId};
use uproar_proto::v1::{self, server_frame::Body};

/// See the module.
#[derive(Debug)]
pub struct Live {
    room: RoomId,
    epoch: Epoch,
    pub attributes: Attributes,
    pub polls: Polls,
    pub entries: Entries,
    /// Recalled, to be told.
    recalled: Vec<u64>,
    /// Users of whom all was recalled up to a seq, to be told.
    recalled_of: Vec<(String, u64)>,
    /// Pinned since (or nothing any more), to be told.
    pinned: Option<Option<Box<v1::Message>>>,
    told: RoomState,
}

impl Live {
    /// A room that begins with these attributes.
    #[must_use]
    pub fn new(
        room: RoomId,
        epoch: Epoch,
        attributes: BTreeMap<String, String>,
        polls: Polls,
    ) -> Live {
        let told = RoomState::new(attributes.clone());
        let attributes = Attributes::new(attributes);
        let (entries, recalled, recalled_of) = (Entries::default(), Vec::new(), Vec::new());
        Live { room, epoch, attributes, polls, entries, recalled, recalled_of, pinned: None, told }
    }

    /// Messages are recalled; one that is pinned is not pinned any more.
    pub fn recall(&mut self, seqs: &[u64]) {
        self.recalled.extend_from_slice(seqs);
        if self.pinned().is_some_and(|message| seqs.contains(&message.seq)) {
            self.pin(None);
        }
    }

    /// What is pinned, told already or not.
    #[must_use]
    pub fn pinned(&self) -> Option<&v1::Message> {
        let pinned = self.pinned.as_ref().map(|pinned| pinned.as_deref());
        pinned.unwrap_or_else(|| self.told.pinned())
    }

    /// All that a user has said is recalled, also where the room has forgotten it: screens and the
    /// archive may not have.
    pub fn recall_of(&mut self, user: String, up_to_seq: u64) {
        self.recalled_of.retain(|(known, _)| *known != user);
        self.recalled_of.push((user, up_to_seq));
    }

    /// Pins a message, or none.
    pub fn pin(&mut self, message: Option<v1::Message>) {
        self.pinned = Some(message.map(Box::new));
    }

    /// Something is to be told that does not wait for a long window.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        !self.recalled.is_empty() || !self.recalled_of.is_empty() || self.pinned.is_some()
    }

    /// When something is to be told; `NEVER` where viewers know all of it.
    #[must_use]
    pub fn due(&self) -> Tick {
        if self.is_urgent() {
            return Tick(0);
        }
        self.attributes.due().min(self.polls.due()).min(self.entries.due())
    }

    /// What so many viewers are told now. `whole`: some have missed what was told before.
    pub fn take(&mut self, now: Tick, viewers: u64, whole: bool) -> Vec<Body> {
        let (room, epoch) = (self.room.to_string(), self.epoch.0);
        let mut notices = Vec::new();
        let mut seqs = std::mem::take(&mut self.recalled);
        for (user, up_to_seq) in std::mem::take(&mut self.recalled_of) {
            let (room, seqs) = (room.clone(), std::mem::take(&mut seqs));
            notices.push(Body::Recalled(v1::Recalled { room, epoch, seqs, user, up_to_seq }));
        }
        if !seqs.is_empty() {
            let (room, user) = (room.clone(), String::new());
            notices.push(Body::Recalled(v1::Recalled { room, epoch, seqs, user, up_to_seq: 0 }));
        }
        if let Some(message) = self.pinned.take() {
            notices.push(Body::Pinned(v1::Pinned { room: room.clone(), epoch, message }));
        }
        notices.extend(self.attributes.take(&self.room, self.epoch, now).map(Body::Attributes));
        notices.extend(self.polls.take(&room, now).into_iter().map(Body::Poll));
        let entered = self.entries.take(&self.room, self.epoch, viewers, now);
        notices.extend(entered.map(Body::Entered));
        notices.iter().for_each(|notice| self.told.apply(notice));
        if whole { self.told.whole(&self.room, self.epoch) } else { notices }
    }

    /// What viewers know.
    #[must_use]
    pub fn told(&self) -> &RoomState {
        &self.told
    }
}
