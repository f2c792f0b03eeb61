//! The hot loop: one pass of a room's newest chunk over the members of this shard.
//!
//! Owns the order of a turn's sends: replies first, then connections that fell behind, then
//! sweeps, room by room, until the turn's actions are used up. A sweep keeps its position, so a
//! million-viewer room cannot starve a chat, an accept or a heartbeat. The cost of a member is
//! one look at 12 bytes of the list, one at 8 bytes of the connection, and the send.

use super::connections::{Connections, Membership, State, wrapping_ms};
use super::frames::{Next, Ring};
use super::members::{Member, Members};
use super::message::Message;
use super::rooms::Room;
use super::session::DISCARD_MS;
use super::slab::NONE;
use super::{Shard, SweepSend};
use crate::metrics::{Delivery, Figure, ShardMetrics};
use crate::router::CLASSES;
use crate::seam::{Action, Actions, ConnSlot, Event, Events, FrameSlot, Frames};
use std::sync::Arc;
use uproar_proto::v1::{self, server_frame::Body};
use uproar_proto::wire::encode_server;

/// Replies use at most this part of a turn's actions, so that a connect storm does not stop the
/// room.
const REPLIES_PER_TURN_MAX: usize = 512;
/// Sends of one room in a row before the next room has its turn.
const SLICE: usize = 256;
/// Members looked at in one slice, sent to or not.
const VISITS_PER_SLICE_MAX: usize = 16 * 1024;

/// What the next members of a sweep will most likely get: the same as the last one.
#[derive(Clone, Copy)]
struct Memo {
    cursor: u32,
    frame: FrameSlot,
    from: u64,
    to: u64,
    seq: u64,
    sends: u32,
}

/// What one slice works on, borrowed apart.
struct Slice<'a> {
    number: u32,
    conns: &'a mut Connections,
    frames: &'a mut Frames,
    actions: &'a mut Actions,
    sends: &'a mut Vec<SweepSend>,
    behind: &'a mut Vec<ConnSlot>,
    overtaken: &'a mut Vec<(ConnSlot, u32)>,
    metrics: &'a ShardMetrics,
    turn: u32,
}

impl Shard {
    /// A new chunk stands in a room's ring.
    pub(super) fn begin_sweep(&mut self, number: u32) {
        let room = self.rooms.slab.get_mut(number);
        if room.sweeping {
            room.sweep_again = true;
        } else {
            room.sweeping = true;
            room.members.swept = 0;
            self.sweeps.push_back(number);
        }
    }

    /// Fills the turn's actions with sends.
    pub(super) fn fill(&mut self, actions: &mut Actions) {
        while actions.room() > 0
            && let Some(action) = self.deferred.pop_front()
        {
            actions.push(action);
        }
        self.flush_replies(actions);
        self.serve_behind(actions);
        // Rooms in a row that had nobody to send to in their slice: one round of those is enough.
        let mut idle = 0;
        while actions.room() > 0 && idle < self.sweeps.len() {
            let Some(number) = self.sweeps.pop_front() else { break };
            let before = actions.room();
            if !self.sweep_slice(number, actions) {
                self.sweeps.push_back(number);
            }
            idle = if actions.room() == before { idle + 1 } else { 0 };
        }
    }

    /// Members that the last turn found overtaken. Told between turns, never while a turn's sends
    /// are being filled: a reply may end its connection.
    pub(super) fn tell_gaps(&mut self) {
        for (conn, number) in std::mem::take(&mut self.overtaken) {
            if self.conns.hot(conn).state == State::Live && self.rooms.slab.contains(number) {
                self.tell_gap(conn, number);
            }
        }
    }

    /// One slice of a room's sweep; true when the sweep is over.
    fn sweep_slice(&mut self, number: u32, actions: &mut Actions) -> bool {
        let before = self.sends.len();
        let Room { ring, members, .. } = self.rooms.slab.get_mut(number);
        let mut slice = Slice {
            number,
            conns: &mut self.conns,
            frames: &mut self.frames,
            actions,
            sends: &mut self.sends,
            behind: &mut self.behind,
            overtaken: &mut self.overtaken,
            metrics: &self.metrics,
            turn: self.turn,
        };
        slice.run(ring, members);
        let sends = self.sends.len() - before;
        self.swept.push((number, sends as u32));
        let room = self.rooms.slab.get_mut(number);
        if room.members.swept < room.members.len() {
            return false;
        }
        room.members.swept = 0;
        self.finished.push(number);
        room.sweeping = std::mem::take(&mut room.sweep_again);
        !room.sweeping
    }

    /// Connections that could not be served when their room's sweep came by.
    fn serve_behind(&mut self, actions: &mut Actions) {
        let list = std::mem::take(&mut self.behind);
        for conn in list {
            let hot = *self.conns.hot(conn);
            if hot.state != State::Live || hot.blocked {
                continue;
            }
            if hot.sent_turn == self.turn || actions.room() == 0 {
                self.behind.push(conn);
                continue;
            }
            let mut more = false;
            for Membership { room: number, index } in self.memberships_of(conn) {
                let room = self.rooms.slab.get_mut(number);
                if room.members.get(index).cursor == room.ring.head() as u32 {
                    continue;
                }
                if self.conns.hot(conn).sent_turn == self.turn {
                    more = true;
                    break;
                }
                let Room { ring, members, .. } = room;
                let mut slice = Slice {
                    number,
                    conns: &mut self.conns,
                    frames: &mut self.frames,
                    actions,
                    sends: &mut self.sends,
                    behind: &mut self.behind,
                    overtaken: &mut self.overtaken,
                    metrics: &self.metrics,
                    turn: self.turn,
                };
                slice.one(ring, members.get_mut(index));
                more |= members.get(index).cursor != ring.head() as u32;
            }
            if more && !self.overtaken.iter().any(|(c, _)| *c == conn) {
                self.behind.push(conn);
            }
        }
    }

    /// Whether anything is left that wants a turn at once.
    pub(super) fn has_sends(&self) -> bool {
        !self.sweeps.is_empty()
            || !self.behind.is_empty()
            || !self.lag.dirty.is_empty()
            || !self.deferred.is_empty()
            || !self.sends.is_empty()
            || !self.own_sends.is_empty()
            || !self.overtaken.is_empty()
    }

    /// The ring has moved past a member: it goes on at the oldest chunk, and is told.
    fn tell_gap(&mut self, conn: ConnSlot, number: u32) {
        let mine = self.memberships_of(conn);
        let Some(Membership { index, .. }) = mine.iter().find(|m| m.room == number).copied() else {
            return;
        };
        let variant = self.conns.hot(conn).variant;
        let room = self.rooms.slab.get_mut(number);
        let member = room.members.get_mut(index);
        let Next::Overtaken { to, seq } = room.ring.next(member.cursor, variant, &mut self.frames)
        else {
            return;
        };
        let missed = u64::from((seq as u32).wrapping_sub(member.seq));
        (member.cursor, member.seq) = (to as u32, seq as u32);
        let mut words = Vec::new();
        if missed > 0 {
            self.metrics.add(Figure::Gaps, 1);
            self.metrics.add(Figure::GapMessages, missed);
            room.encode_gap(seq - missed + 1, seq, v1::GapReason::Slow, variant, &mut words);
        }
        // Counters and notices have no seq: what it missed is made good by how they stand now.
        let (viewers, likes) = room.ring.counters_passed();
        let count = v1::Count { room: room.id.to_string(), viewers, likes };
        encode_server(&Body::Count(count), variant, &mut words);
        for notice in room.state.whole(&room.id, room.epoch) {
            encode_server(&notice, variant, &mut words);
        }
        self.reply_bytes(conn, &words);
    }

    /// Appends a frame to what a connection is to be sent.
    pub(super) fn reply(&mut self, conn: ConnSlot, body: &Body) {
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        encode_server(body, self.conns.hot(conn).variant, &mut bytes);
        self.reply_bytes(conn, &bytes);
        self.scratch = bytes;
    }

    /// Appends whole frames to what a connection is to be sent.
    pub(super) fn reply_bytes(&mut self, conn: ConnSlot, bytes: &[u8]) {
        if self.conns.hot(conn).state >= State::Closing {
            self.metrics.add(Figure::RepliesDropped, 1);
            return;
        }
        let number = self.outgoing(conn);
        let record = self.lag.records.get_mut(number);
        let owed = record.replies.len();
        if owed > 0 && owed + bytes.len() > self.config.reply_bytes_max as usize {
            // It does not take its replies: an error frame would not be taken either.
            self.metrics.closed(uproar_proto::error::Code::TooSlow);
            return self.close_now(conn);
        }
        record.replies.extend_from_slice(bytes);
        if !record.dirty {
            record.dirty = true;
            self.lag.dirty.push(conn);
        }
    }

    fn outgoing(&mut self, conn: ConnSlot) -> u32 {
        let number = self.conns.cold(conn).outgoing;
        if number != NONE {
            return number;
        }
        let number = self.lag.open();
        self.conns.cold_mut(conn).outgoing = number;
        self.conns.hot_mut(conn).blocked = true;
        number
    }

    fn flush_replies(&mut self, actions: &mut Actions) {
        let mut list = std::mem::take(&mut self.lag.dirty);
        let mut sent = 0;
        list.retain(|conn| {
            let (hot, number) = (*self.conns.hot(*conn), self.conns.cold(*conn).outgoing);
            if hot.state == State::Free || number == NONE {
                return false;
            }
            let record = self.lag.records.get_mut(number);
            if record.armed || !record.dirty {
                record.dirty = false;
                return false;
            }
            if hot.sent_turn == self.turn || actions.room() == 0 || sent == REPLIES_PER_TURN_MAX {
                return true;
            }
            record.dirty = false;
            if record.partial.is_none() {
                let bytes = bytes::Bytes::copy_from_slice(&record.replies);
                record.replies.clear();
                record.partial = Some((self.frames.insert(bytes), 0));
            }
            if let Some((frame, skip_bytes)) = record.partial {
                let bytes = self.frames.get(frame).len() - skip_bytes as usize;
                self.metrics.add(Figure::SocketBytes, bytes as u64);
                actions.push(Action::Send { conn: *conn, frame, skip_bytes });
                self.conns.hot_mut(*conn).sent_turn = self.turn;
                self.own_sends.push(*conn);
                sent += 1;
            }
            false
        });
        self.metrics.add(Figure::SocketWrites, sent as u64);
        self.lag.dirty.append(&mut list);
    }

    /// What became of the last turn's sends: short ones are moved to the lag list, whole ones
    /// are done.
    pub(super) fn settle(&mut self, events: &Events) {
        let mut short_own: Vec<(ConnSlot, u32)> = Vec::new();
        for event in &events.list {
            if let Event::SendShort { conn, action, sent_bytes } = event {
                self.metrics.add(Figure::ShortWrites, 1);
                match self.sends.binary_search_by_key(action, |send| send.action) {
                    Ok(place) => self.settle_short(place, *sent_bytes),
                    Err(_) => short_own.push((*conn, *sent_bytes)),
                }
            }
        }
        self.sends.clear();
        short_own.sort_unstable();
        for conn in std::mem::take(&mut self.own_sends) {
            let number = self.conns.cold(conn).outgoing;
            if number == NONE {
                continue;
            }
            let record = self.lag.records.get_mut(number);
            let Some((frame, skip)) = record.partial else { continue };
            if let Ok(place) = short_own.binary_search_by_key(&conn, |(c, _)| *c) {
                if short_own[place].1 == 0 && self.conns.cold(conn).eof {
                    // Its peer has ended and takes nothing: it would be writable for ever.
                    self.close_now(conn);
                    continue;
                }
                record.partial = Some((frame, skip + short_own[place].1));
                record.armed = true;
                self.act(Action::ArmWritable { conn });
                continue;
            }
            self.frames.release(frame);
            record.partial = None;
            record.partial_messages = [0; CLASSES];
            if !record.replies.is_empty() {
                if !record.dirty {
                    record.dirty = true;
                    self.lag.dirty.push(conn);
                }
            } else {
                self.drained_connection(conn);
            }
        }
    }

    fn settle_short(&mut self, place: usize, sent_bytes: u32) {
        let SweepSend { conn, room: number, cursor, seq, to, frame, .. } = self.sends[place];
        self.metrics.add(Figure::LagEvents, 1);
        let mine = self.memberships_of(conn);
        let index = mine.iter().find(|m| m.room == number).map(|m| m.index);
        let index = index.expect("nothing happens between a send and its result");
        let room = self.rooms.slab.get_mut(number);
        let from = room.ring.expand(cursor);
        let messages = room.ring.by_class(from, to);
        if sent_bytes == 0 {
            room.ring.unserved(from, to);
            let member = room.members.get_mut(index);
            (member.cursor, member.seq) = (cursor, seq);
            self.metrics.unsend(&messages);
        }
        let record = self.outgoing(conn);
        let record = self.lag.records.get_mut(record);
        if sent_bytes > 0 {
            self.frames.hold(frame);
            record.partial = Some((frame, sent_bytes));
            record.partial_messages = messages;
        }
        record.armed = true;
        self.act(Action::ArmWritable { conn });
    }

    /// The socket takes bytes again.
    pub(super) fn writable(&mut self, conn: ConnSlot) {
        let number = self.conns.cold(conn).outgoing;
        if number == NONE {
            return;
        }
        let record = self.lag.records.get_mut(number);
        record.armed = false;
        if record.is_done() {
            self.drained_connection(conn);
        } else if !record.dirty {
            record.dirty = true;
            self.lag.dirty.push(conn);
        }
    }

    /// Nothing of its own is left to send: sweeps may serve it again, or its last words are out.
    fn drained_connection(&mut self, conn: ConnSlot) {
        let number = std::mem::replace(&mut self.conns.cold_mut(conn).outgoing, NONE);
        self.lag.close(number);
        self.conns.hot_mut(conn).blocked = false;
        match self.conns.hot(conn).state {
            State::Closing if self.conns.cold(conn).eof => self.close_now(conn),
            State::Closing => {
                self.act(Action::ShutdownWrite { conn });
                self.conns.hot_mut(conn).state = State::Discarding;
                self.conns.cold_mut(conn).since_ms = wrapping_ms(self.now.tick);
                self.wheel.remove(conn);
                self.wheel.insert(conn, self.now.tick.after_ms(u64::from(DISCARD_MS)));
            }
            State::Live => {
                self.behind_if_needed(conn);
                self.tell_lost(conn);
            }
            _ => {}
        }
    }

    fn behind_if_needed(&mut self, conn: ConnSlot) {
        let cold = self.conns.cold(conn);
        let at_head = |m: &Membership| {
            let room = self.rooms.slab.get(m.room);
            room.members.get(m.index).cursor == room.ring.head() as u32
        };
        let first = cold.first == Membership::NONE || at_head(&cold.first);
        if !first || cold.more != NONE && !self.memberships_of(conn).iter().all(at_head) {
            self.behind.push(conn);
        }
    }

    /// Forgets what a connection that ends was still to be sent; the books say so.
    pub(super) fn drop_outgoing(&mut self, conn: ConnSlot) {
        let number = std::mem::replace(&mut self.conns.cold_mut(conn).outgoing, NONE);
        if number == NONE {
            return;
        }
        self.conns.hot_mut(conn).blocked = false;
        let record = self.lag.close(number);
        if let Some((frame, _)) = record.partial {
            self.frames.release(frame);
            self.metrics.unsend(&record.partial_messages);
            self.metrics.deliver(Delivery::Left, &record.partial_messages, 1);
        }
    }

    /// Drops chunks that reached everybody or are too old, and reports finished sweeps.
    pub(super) fn evict_rings(&mut self) {
        for number in std::mem::take(&mut self.finished) {
            if !self.rooms.slab.contains(number) {
                continue;
            }
            self.evict_ring(number);
            // Told also where the next sweep has begun: a room whose sweeps never rest needs a
            // longer window more than any other.
            let room = self.rooms.slab.get_mut(number);
            let cpu_us = std::mem::take(&mut room.sweep_cpu_us);
            if cpu_us > 0 {
                let (home, id) = (room.home, room.id.clone());
                self.metrics.sweep.observe_us(cpu_us);
                // The other shards of this core sweep the same batch at the same time.
                let cpu_us = cpu_us * self.shards_per_core();
                self.post(home, Message::SweepTook { room: id, shard: self.id, cpu_us });
            }
        }
    }

    pub(super) fn evict_ring(&mut self, number: u32) {
        let age_us_max = u64::from(self.config.rooms.deadline_ms) * 1000;
        let room = self.rooms.slab.get_mut(number);
        let before = room.ring.base();
        let skipped = room.ring.evict(self.now.tick, age_us_max, &mut self.frames);
        self.metrics.deliver(Delivery::Skipped, &skipped, 1);
        if room.ring.base() != before {
            self.schedule_room(number);
        }
    }

    /// Sets when a room wants its next tick: its edge, or its oldest chunk.
    pub(super) fn schedule_room(&mut self, number: u32) {
        let age_us_max = u64::from(self.config.rooms.deadline_ms) * 1000;
        let room = self.rooms.slab.get(number);
        let due = room.edge.next_due().min(room.votes.next_due()).min(room.entries.next_due());
        let due = due.min(room.ring.ages_at(age_us_max));
        self.room_schedule.set(number, due);
    }

    /// What a turn's CPU time has cost which sweep: by its share of the turn's work.
    pub(super) fn charge_sweeps(&mut self, cpu_us: u64, work: u64) {
        for (number, sends) in std::mem::take(&mut self.swept) {
            if sends > 0 && self.rooms.slab.contains(number) {
                let share = cpu_us * u64::from(sends) / work.max(1);
                self.rooms.slab.get_mut(number).sweep_cpu_us += share;
            }
        }
    }
}

impl Slice<'_> {
    /// Walks the list from where the sweep stands.
    fn run(&mut self, ring: &mut Ring, members: &mut Members) {
        let head = ring.head() as u32;
        let first_send = self.sends.len();
        let mut visits = 0;
        let mut memos: [Option<Memo>; crate::router::VARIANTS] = [None; _];
        'slice: while members.swept < members.len() {
            let mut visited = 0;
            for member in members.run_mut(members.swept) {
                if self.actions.room() == 0
                    || self.sends.len() - first_send >= SLICE
                    || visits >= VISITS_PER_SLICE_MAX
                {
                    members.swept += visited;
                    break 'slice;
                }
                visits += 1;
                visited += 1;
                if member.cursor != head {
                    self.visit(ring, member, &mut memos);
                }
            }
            members.swept += visited;
        }
        for memo in memos.into_iter().flatten() {
            self.count(ring, &memo);
        }
    }

    /// Serves one member outside a sweep.
    fn one(&mut self, ring: &mut Ring, member: &mut Member) {
        let mut memos = [None; crate::router::VARIANTS];
        self.visit(ring, member, &mut memos);
        for memo in memos.into_iter().flatten() {
            self.count(ring, &memo);
        }
    }

    fn visit(
        &mut self,
        ring: &mut Ring,
        member: &mut Member,
        memos: &mut [Option<Memo>; crate::router::VARIANTS],
    ) {
        let conn = ConnSlot(member.conn);
        let hot = self.conns.hot_mut(conn);
        if hot.blocked {
            // It catches up by itself once its own bytes are out.
            return;
        }
        if hot.sent_turn == self.turn {
            self.behind.push(conn);
            return;
        }
        let memo = &mut memos[hot.variant.index()];
        if memo.is_none_or(|m| m.cursor != member.cursor) {
            let next = match ring.next(member.cursor, hot.variant, self.frames) {
                Next::Nothing => return,
                Next::Overtaken { .. } => {
                    self.overtaken.push((conn, self.number));
                    return;
                }
                Next::Send { frame, to, seq } => {
                    let (cursor, from) = (member.cursor, ring.expand(member.cursor));
                    Memo { cursor, frame, from, to, seq, sends: 0 }
                }
            };
            if let Some(old) = memo.replace(next) {
                let metrics = self.metrics;
                count(metrics, ring, self.frames, &old);
            }
        }
        let Some(memo) = memo else { return };
        hot.sent_turn = self.turn;
        let action = self.actions.push(Action::Send { conn, frame: memo.frame, skip_bytes: 0 });
        let (cursor, seq) = (member.cursor, member.seq);
        let (room, to, frame) = (self.number, memo.to, memo.frame);
        self.sends.push(SweepSend { action, conn, room, cursor, seq, to, frame });
        (member.cursor, member.seq) = (memo.to as u32, memo.seq as u32);
        memo.sends += 1;
        if memo.to != ring.head() {
            // More is in the ring than fits one frame: the rest in a later turn.
            self.behind.push(conn);
        }
    }

    fn count(&mut self, ring: &mut Ring, memo: &Memo) {
        count(self.metrics, ring, self.frames, memo);
    }
}

/// Enters `memo.sends` equal sends into the ring and the books.
fn count(metrics: &ShardMetrics, ring: &mut Ring, frames: &Frames, memo: &Memo) {
    let sends = u64::from(memo.sends);
    ring.served(memo.from, memo.to, memo.sends);
    metrics.deliver(Delivery::Sent, &ring.by_class(memo.from, memo.to), sends);
    metrics.add(Figure::SocketWrites, sends);
    metrics.add(Figure::SweepWrites, sends);
    metrics.add(Figure::SocketBytes, sends * frames.get(memo.frame).len() as u64);
}

/// The metrics of a shard are shared with whoever scrapes them.
pub(super) type SharedMetrics = Arc<ShardMetrics>;
