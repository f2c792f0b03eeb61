//! Messages to other shards that came back because a queue was full.
//!
//! Owns what is still to be told and when it is tried again. What can be refused is refused at
//! once, what can be made up for is made up for by later state, and the rest is kept: a join that
//! is never answered, a room that never ends or a wrong count is not what a full queue may cost.
//!
//! What is kept may be overtaken by what is sent later. So it is either told as things are when it
//! is told, or it names the life of the room that it is about, or its order is nobody's business.

use super::Shard;
use super::mcasts::Delivery;
use super::message::Message;
use crate::metrics::Figure;
use crate::router::ShardId;
use crate::seam::Tick;
use std::collections::BTreeSet;
use std::sync::Arc;
use uproar_proto::error::Code;
use uproar_proto::ids::{McastId, RoomId};

/// A queue that was full needs time to drain.
const RETRY_MS: u64 = 1;
/// Kept messages for which a retry waits a millisecond longer: trying costs a few microseconds
/// for each, and must not cost the shard that tries.
const RETRY_MESSAGES: usize = 64;
/// Verdicts and kicks kept for shards that take none. Beyond: senders go untold, users stay, and
/// it is counted. Other kinds are bounded by the rooms there are.
const KEPT_MAX: usize = 16 * 1024;

/// What is still to be told.
#[derive(Default)]
pub(super) struct Unsent {
    /// To be told as things are then, to which shard, about which room.
    states: BTreeSet<(u16, RoomId, State)>,
    /// Mcasts whose home does not know whether there are members here.
    routes: BTreeSet<McastId>,
    /// Shards that lost a delivery for an mcast, by shard.
    resyncs: BTreeSet<(u16, McastId)>,
    /// To be told as it was.
    list: Vec<(u16, Message)>,
    /// Verdicts and kicks in it.
    used: usize,
    /// When the first of it came back.
    since: Tick,
}

/// What a shard has not learnt of a room.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// Nobody here is in it any more.
    Detached,
    /// The answer to its `Attach`.
    Attached,
    /// The last change of its settings.
    Updated,
    /// Who is banned.
    Bans,
}

impl Unsent {
    /// When it wants to be tried again.
    pub(super) fn next_due(&self) -> Tick {
        match self.kept() {
            0 => Tick::NEVER,
            kept => self.since.after_ms(RETRY_MS + (kept / RETRY_MESSAGES) as u64),
        }
    }

    fn kept(&self) -> usize {
        self.states.len() + self.list.len() + self.routes.len() + self.resyncs.len()
    }

    /// Before something is kept.
    fn begin(&mut self, now: Tick) -> &mut Unsent {
        if self.kept() == 0 {
            self.since = now;
        }
        self
    }

    fn keep_state(&mut self, to: u16, room: RoomId, state: State, now: Tick) {
        self.begin(now).states.insert((to, room, state));
    }

    /// Keeps a message that is worth so many verdicts or kicks.
    fn keep(&mut self, to: u16, message: Message, worth: usize, now: Tick) {
        self.used += worth;
        self.begin(now).list.push((to, message));
    }
}

impl Shard {
    /// A message could not be handed to shard `to`.
    pub(super) fn came_back(&mut self, to: u16, message: Message) {
        self.metrics.add(Figure::QueueDropped, 1);
        let now = self.now.tick;
        let full = self.unsent.used >= KEPT_MAX;
        match message {
            Message::Offer { room, offer } => self.refuse_offer(room, offer, Code::QueueFull),
            Message::Attach { room, .. } => self.attached(&room, Err(Code::QueueFull)),
            Message::Command(command) => command.refuse(Code::QueueFull),
            Message::List { gather, .. } => gather.add(Vec::new()),
            Message::Sample { gather, .. } => gather.add(Vec::new()),
            Message::Flush(batch) => self.home_resync(&batch.room),
            Message::Members { room, .. } => {
                if let Some(number) = self.rooms.by_name.get(&room).copied() {
                    self.rooms.slab.get_mut(number).report_again();
                }
            }
            Message::Detach { room, .. } => {
                self.unsent.keep_state(to, room, State::Detached, now);
            }
            Message::Attached { room, .. } => {
                self.unsent.keep_state(to, room, State::Attached, now);
            }
            Message::Updated { room, .. } => {
                self.unsent.keep_state(to, room, State::Updated, now);
            }
            Message::Ended { .. } => self.unsent.keep(to, message, 0, now),
            Message::Kick { room, gather, .. } if full => {
                // Whoever is banned leaves by this.
                self.unsent.keep_state(to, room, State::Bans, now);
                gather.add(Vec::new());
            }
            Message::Found { .. } if full => {}
            Message::Found { .. } => self.unsent.keep(to, message, 1, now),
            Message::Bans { room, .. } => {
                self.unsent.keep_state(to, room, State::Bans, now);
            }
            Message::Kick { .. } => self.unsent.keep(to, message, 1, now),
            Message::Verdicts { .. } if full => {}
            Message::Verdicts { ref verdicts, .. } => {
                let worth = verdicts.len();
                self.unsent.keep(to, message, worth, now);
            }
            Message::Votes { room, poll, ballots, .. } => {
                self.refuse_votes(&room, poll, &ballots, Code::QueueFull);
            }
            // Moderators see it when everybody does; who has come in is no promise.
            Message::Held(_) | Message::Entered { .. } => {}
            // Whoever is not told answers again, and learns that it is counted.
            Message::Voted { .. } if full => {}
            Message::Voted { ref ballots, .. } => {
                let worth = ballots.len();
                self.unsent.keep(to, message, worth, now);
            }
            Message::Route { mcast, .. } => {
                self.unsent.begin(now).routes.insert(mcast);
            }
            // Bounded by the mcasts that have a home here.
            Message::Deliver { mcast, .. } => {
                self.metrics.add(Figure::PushesLost, 1);
                self.unsent.begin(now).resyncs.insert((to, mcast));
            }
            // Bounded by the mcasts of that shard.
            Message::Routed { .. } => self.unsent.keep(to, message, 0, now),
            // Comes from outside, as a drain does.
            Message::Tell(_) | Message::Filter(_) | Message::Blocks(_) => {}
            // Another sweep follows. A drain or a stop comes from outside.
            Message::SweepTook { .. } | Message::Drain | Message::DrainOver | Message::Stop => {}
        }
    }

    /// Tries again what came back: as it was, or as things are now.
    pub(super) fn send_again(&mut self) {
        let now = self.now.tick;
        if now < self.unsent.next_due() {
            return;
        }
        let Unsent { states, list, routes, resyncs, .. } = std::mem::take(&mut self.unsent);
        routes.into_iter().for_each(|mcast| self.route_again(mcast));
        for (to, mcast) in resyncs {
            self.outbox
                .push((to, Message::Deliver { mcast, delivery: Arc::new(Delivery::Resync) }));
        }
        for (to, room, state) in states {
            match state {
                State::Detached => self.detach_again(to, room),
                State::Attached => self.home_attach(room, ShardId(to)),
                State::Updated => self.home_updated(&room, to),
                State::Bans => self.home_bans(&room, to),
            }
        }
        for (to, mut message) in list {
            if let Message::Kick { room, epoch, key, until_unix_ms, .. } = &mut message {
                *until_unix_ms = self.home_ban_until(room, *epoch, *key, *until_unix_ms);
            }
            self.outbox.push((to, message));
        }
    }

    /// The home still has this shard among those with members.
    fn detach_again(&mut self, to: u16, room: RoomId) {
        let opened_again = self.rooms.by_name.get(&room).copied();
        match opened_again.map(|number| self.rooms.slab.get(number).attached) {
            None => self.outbox.push((to, Message::Detach { room, shard: self.id })),
            // The home has it among them by right.
            Some(true) => {}
            // Its `Attach` may come back, and then nobody else would tell the home.
            Some(false) => self.unsent.keep_state(to, room, State::Detached, self.now.tick),
        }
    }
}
