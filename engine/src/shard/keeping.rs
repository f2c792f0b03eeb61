//! Bans and mutes beyond the life of their room: what homes here have decided is told to whoever
//! keeps it, and a home that begins asks what is kept.
//!
//! Owns the hand-over of a turn, as `questions.rs` does, how many rooms ask at once, and when one
//! asks again. Never waits: until a room is told, it is as if nothing were kept. Which answer
//! counts, and what of it, is `router/former.rs`'s to say.

use super::Shard;
use super::homes::Hosted;
use super::schedule::Schedule;
use crate::hash::hash_bytes;
use crate::metrics::Figure;
use crate::seam::Tick;
use std::collections::{BTreeMap, VecDeque};
use uproar_proto::control::{Kept, KeptQuestion, Penalties, Penalty, PenaltyKind};
use uproar_proto::ids::{Epoch, RoomId};
use uproar_proto::names::is_guest;

/// Rooms of a shard that have asked and were not told. More wait for their turn: a start with
/// 100,000 rooms asks as fast as it is answered.
const ASKED_MAX: usize = 64;
/// A room that was not told asks again after this long; it doubles, up to the longest.
const AGAIN_MS: u64 = 1_000;
const AGAIN_MS_MAX: u64 = 30_000;
/// Decisions that wait to be handed over. More: they end with the room's life, counted.
const DECIDED_MAX: usize = 16_384;

/// A shard's.
#[derive(Default)]
pub(super) struct Keeping {
    /// Whether anybody keeps anything.
    is_kept: bool,
    decided: VecDeque<Penalties>,
    questions: Vec<KeptQuestion>,
    /// Homes that wait for their turn to ask: which life, and how often they have asked.
    waiting: VecDeque<(u32, Epoch, u32)>,
    /// Homes that have asked, how often.
    asked: BTreeMap<u32, u32>,
    /// When those ask again.
    again: Schedule,
}

impl Keeping {
    /// When a room asks again.
    pub(super) fn next_due(&self) -> Tick {
        self.again.next_due()
    }

    /// Whether somebody keeps what a room decides.
    pub(super) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// A home has ended, or knows all.
    pub(super) fn ends(&mut self, home: u32) {
        self.asked.remove(&home);
        self.again.set(home, Tick::NEVER);
    }
}

/// How long a room waits for an answer, by how often it has asked.
fn again_ms(tries: u32) -> u64 {
    (AGAIN_MS << tries.min(16)).min(AGAIN_MS_MAX)
}

impl Shard {
    /// Somebody keeps what [`Shard::take_penalties`] gives, and answers what
    /// [`Shard::take_kept_questions`] does.
    pub fn keep_penalties(&mut self) {
        self.keeping.is_kept = true;
    }

    /// What homes here have decided about users, in order; to be handed on before the questions.
    pub fn take_penalties(&mut self) -> VecDeque<Penalties> {
        std::mem::take(&mut self.keeping.decided)
    }

    /// There was no room for these: they are given again.
    pub fn penalties_back(&mut self, penalties: VecDeque<Penalties>) {
        self.keeping.decided = penalties;
    }

    /// What rooms with their home here ask. One that gets no answer asks again.
    pub fn take_kept_questions(&mut self) -> Vec<KeptQuestion> {
        std::mem::take(&mut self.keeping.questions)
    }

    /// A home has begun, and is to ask.
    pub(super) fn keep_of(&mut self, home: u32, epoch: Epoch) {
        if !self.keeping.is_kept {
            return;
        }
        self.keeping.waiting.push_back((home, epoch, 0));
        // Where nobody answers, homes that have ended would pile up.
        if self.keeping.waiting.len() > 2 * (self.homes.slab.used() + ASKED_MAX) {
            let mut waiting = std::mem::take(&mut self.keeping.waiting);
            waiting.retain(|(home, epoch, _)| self.has_home(*home, *epoch));
            self.keeping.waiting = waiting;
        }
    }

    fn has_home(&self, home: u32, epoch: Epoch) -> bool {
        self.homes.slab.contains(home) && self.homes.slab.get(home).home.epoch() == epoch
    }

    /// A home has decided about a user; `until_ms` 0: that it is over.
    pub(super) fn decided(&mut self, home: u32, kind: PenaltyKind, user: &str, until_ms: u64) {
        let hosted = self.homes.slab.get_mut(home);
        hosted.home.former.decided(kind, user);
        // A guest's name is somebody else's after a restart.
        if !self.keeping.is_kept || is_guest(user) {
            return;
        }
        if self.keeping.decided.len() >= DECIDED_MAX {
            return self.metrics.add(Figure::PenaltiesLost, 1);
        }
        self.metrics.add(Figure::PenaltiesTold, 1);
        let list = vec![Penalty { kind, user: user.to_owned(), until_ms }];
        self.keeping.decided.push_back(Penalties { room: hosted.room.clone(), list });
    }

    /// Rooms that were not told go to the end of those that wait; as many ask as may.
    pub(super) fn ask_kept(&mut self) {
        let now = self.now.tick;
        while let Some(home) = self.keeping.again.pop(now) {
            let tries = self.keeping.asked.remove(&home).unwrap_or(0);
            let epoch = self.homes.slab.get(home).home.epoch();
            self.keeping.waiting.push_back((home, epoch, tries));
        }
        while self.keeping.asked.len() < ASKED_MAX
            && let Some((home, epoch, tries)) = self.keeping.waiting.pop_front()
        {
            // Its place may be another one's by now.
            if self.has_home(home, epoch) {
                self.ask_of(home, tries);
            }
        }
    }

    fn ask_of(&mut self, home: u32, tries: u32) {
        let Hosted { home: of, room, .. } = self.homes.slab.get_mut(home);
        let Some((number, after)) = of.former.ask() else { return self.keeping.ends(home) };
        let (node, room, epoch) = (0, room.clone(), of.epoch());
        self.keeping.questions.push(KeptQuestion { node, room, epoch, number, after });
        self.metrics.add(Figure::KeptAsked, 1);
        self.keeping.asked.insert(home, tries + 1);
        self.keeping.again.set(home, self.now.tick.after_ms(again_ms(tries)));
    }

    /// An answer has come, perhaps for an earlier life of the room.
    pub(super) fn home_kept(&mut self, kept: Kept) {
        let Kept { node: _, room, epoch, number, list, is_all } = kept;
        let known = self.homes.by_name.get(&room).copied();
        let known = known.filter(|home| self.homes.slab.get(*home).home.epoch() == epoch);
        let Some(home) = known else { return };
        let former = &mut self.homes.slab.get_mut(home).home.former;
        let Some(list) = former.told(number, list, is_all) else { return };
        let is_awaited = former.is_awaited();
        self.hold_again(home, &room, &list);
        match is_awaited {
            true => self.ask_of(home, 0),
            false => self.keeping.ends(home),
        }
    }

    /// What former lives have decided holds in this one too: as a ban or a mute does.
    fn hold_again(&mut self, home: u32, room: &RoomId, list: &[Penalty]) {
        let now_ms = self.now.unix_ms;
        let hosted = self.homes.slab.get_mut(home);
        let mut has_bans = false;
        for Penalty { kind, user, until_ms } in list.iter().filter(|one| one.until_ms > now_ms) {
            self.metrics.add(Figure::KeptHeld, 1);
            let key = hash_bytes(self.seed, user.as_bytes());
            match kind {
                PenaltyKind::Mute => hosted.home.mute(key, *until_ms, now_ms),
                PenaltyKind::Ban => {
                    has_bans = true;
                    // Shards are told all of them below.
                    hosted.home.bans.ban(user, key, *until_ms, now_ms);
                }
            }
        }
        let dropped = hosted.home.bans.take_dropped();
        self.metrics.add(Figure::BansDropped, dropped);
        if has_bans {
            for shard in self.homes.slab.get(home).home.attached().to_vec() {
                self.home_bans(room, shard.0);
            }
        }
    }
}
