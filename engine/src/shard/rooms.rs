//! Rooms that have members on this shard: joins, leaves, snapshots, resumes.
//!
//! Owns the member lists, the local copy of a room's history and what it was last told by the
//! home. Membership is here and nowhere else: the home only knows that this shard has members.

use super::connections::{Membership, State};
use super::edge::Edge;
use super::entries::Entries;
use super::frames::Ring;
use super::members::{Member, Members};
use super::message::{KickPart, Message};
use super::slab::{NONE, Slab};
use super::votes::Votes;
use super::{REPORT_US, Shard};
use crate::cluster::home::home_of;
use crate::metrics::{Delivery, Figure};
use crate::router::bans::{Changes, Origin};
use crate::router::history::History;
use crate::router::{Admitted, Attached, Batch, Books, RoomState, ShardId, VARIANTS};
use crate::seam::{ConnSlot, Tick};
use crate::{Map, hash};
use std::sync::Arc;
use uproar_proto::control::{BanWith, RoomSettings};
use uproar_proto::error::Code;
use uproar_proto::ids::{Epoch, RoomId};
use uproar_proto::v1::{self, server_frame::Body};
use uproar_proto::wire::{Variant, encode_server, error_body};

/// A room with members here.
pub(super) struct Room {
    pub(super) id: RoomId,
    pub(super) home: ShardId,
    /// The home has answered; before, joins wait.
    pub(super) attached: bool,
    pub(super) epoch: Epoch,
    /// The newest seq here.
    pub(super) seq: u64,
    pub(super) settings: Arc<RoomSettings>,
    /// What its viewers know beside messages.
    pub(super) state: RoomState,
    pub(super) viewers: u64,
    pub(super) likes: u64,
    pub(super) history: History,
    pub(super) ring: Ring,
    pub(super) members: Members,
    pub(super) edge: Edge,
    pub(super) votes: Votes,
    pub(super) entries: Entries,
    /// Banned users, devices and addresses, by key, and until when, wall clock.
    pub(super) bans: Map<u64, u64>,
    /// Joins that wait for the home: connection, generation, cursor.
    waiting: Vec<(ConnSlot, u8, Option<v1::Cursor>)>,
    /// A sweep is under way, and another must follow it.
    pub(super) sweeping: bool,
    pub(super) sweep_again: bool,
    /// CPU time the running sweep has cost.
    pub(super) sweep_cpu_us: u64,
    /// The member count the home knows.
    reported: u32,
    /// Since when nobody is here.
    empty_since: Tick,
    /// `Joined` without a cursor, encoded once per variant until something changes.
    snapshots: [Option<Vec<u8>>; VARIANTS],
    /// `Joined` with a cursor, for reconnect storms.
    resumes: Vec<Resume>,
    /// What of the edge's books the metrics have.
    pub(super) booked: Books,
}

/// What everybody gets who comes back with the same cursor.
struct Resume {
    seq: u64,
    variant: Variant,
    /// Messages told missing in front of it.
    missed: u64,
    bytes: Vec<u8>,
}

/// All of a shard's.
pub(super) struct Rooms {
    pub(super) by_name: Map<RoomId, u32>,
    pub(super) slab: Slab<Room>,
}

impl Rooms {
    pub(super) fn new(seed: u64) -> Rooms {
        Rooms { by_name: Map::with_hasher(hash::Seeded(seed)), slab: Slab::default() }
    }
}

/// A room stays attached this long after its last member left: a viewer who switches back and
/// forth does not make the home work.
const LINGER_US: u64 = 2_000_000;
/// What a resume brings is at most this part of what a connection may owe. The snapshots of all
/// the rooms it may be in, joined in one breath, are half of what it may owe.
const RESUME_SHARE: usize = 8;
/// Different cursors remembered at once in a reconnect storm.
const RESUMES_MAX: usize = 16;

impl Shard {
    /// A client wants to be in a room.
    pub(super) fn join(&mut self, conn: ConnSlot, name: &str, resume: Option<v1::Cursor>) {
        let Some(id) = RoomId::new(name) else {
            return self.room_error(conn, name, Code::BadRoom);
        };
        let session = self.conns.cold(conn).session;
        if session != NONE && !self.sessions.get(session).may_enter(name) {
            return self.room_error(conn, name, Code::Forbidden);
        }
        let known = self.rooms.by_name.get(&id).copied();
        let mine = self.memberships_of(conn);
        if known.is_some_and(|room| mine.iter().any(|m| m.room == room)) {
            return self.room_error(conn, name, Code::AlreadyJoined);
        }
        if mine.len() >= self.config.rooms_per_connection_max as usize {
            return self.room_error(conn, name, Code::TooManyJoins);
        }
        let number = known.unwrap_or_else(|| self.open_room(id));
        if let Some(code) = self.entry_refusal(conn, number, 0) {
            return self.room_error(conn, name, code);
        }
        self.add_member(conn, number);
        let generation = self.conns.hot(conn).generation;
        let room = self.rooms.slab.get_mut(number);
        if room.attached {
            self.reply_joined(conn, number, resume);
        } else {
            room.waiting.push((conn, generation, resume));
        }
    }

    fn add_member(&mut self, conn: ConnSlot, number: u32) {
        let room = self.rooms.slab.get_mut(number);
        let cursor = room.ring.head() as u32;
        let member = Member { conn: conn.0, cursor, seq: room.seq as u32 };
        let index = room.members.push(member);
        self.add_membership(conn, Membership { room: number, index });
        self.metrics.add(Figure::Joins, 1);
    }

    /// Why a connection may not enter a room, as far as this shard knows it now. Viewers of other
    /// shards count as last told. `inside`: 1 where it is among the members already.
    fn entry_refusal(&self, conn: ConnSlot, number: u32, inside: u64) -> Option<Code> {
        if self.is_banned(conn, number) {
            return Some(Code::Banned); // S-62
        }
        let room = self.rooms.slab.get(number);
        let full = u64::from(room.settings.viewers_max);
        let viewers = room.viewers.max(u64::from(room.members.len()) - inside);
        (full > 0 && viewers >= full).then_some(Code::RoomFull)
    }

    fn open_room(&mut self, id: RoomId) -> u32 {
        let home = home_of(&id, self.shards, self.seed);
        let settings = Arc::new(self.config.rooms.defaults.clone());
        let rules = &self.config.rooms;
        let edge_seed = hash::mix(self.seed ^ 0xed6e);
        let room = Room {
            id: id.clone(),
            home,
            attached: false,
            epoch: Epoch(0),
            seq: 0,
            state: RoomState::default(),
            viewers: 0,
            likes: 0,
            history: History::new(rules),
            ring: Ring::default(),
            members: Members::default(),
            edge: Edge::new(&settings, rules, edge_seed),
            votes: Votes::new(rules),
            entries: Entries::new(rules),
            settings,
            bans: Map::with_hasher(hash::Seeded(self.seed)),
            waiting: Vec::new(),
            sweeping: false,
            sweep_again: false,
            sweep_cpu_us: 0,
            reported: 0,
            empty_since: self.now.tick,
            snapshots: Default::default(),
            resumes: Vec::new(),
            booked: Books::default(),
        };
        let number = self.rooms.slab.insert(room);
        self.rooms.by_name.insert(id.clone(), number);
        self.post(home, Message::Attach { room: id, shard: self.id });
        number
    }

    /// The home answered an `Attach`.
    pub(super) fn attached(&mut self, id: &RoomId, answer: Result<Attached, Code>) {
        let Some(number) = self.rooms.by_name.get(id).copied() else {
            return;
        };
        let state = match answer {
            Ok(state) => state,
            Err(code) => return self.end_room(number, code, true),
        };
        let room = self.rooms.slab.get_mut(number);
        room.attached = true;
        room.epoch = state.epoch;
        room.seq = state.seq.0;
        room.viewers = state.viewers;
        room.likes = state.likes;
        room.edge.update(&state.settings);
        room.settings = state.settings;
        room.state = state.state;
        room.bans.extend(state.bans);
        for batch in state.history {
            room.history.push(batch, self.now.tick);
        }
        let head = room.ring.head() as u32;
        for index in 0..room.members.len() {
            let member = room.members.get_mut(index);
            (member.cursor, member.seq) = (head, state.seq.0 as u32);
        }
        // They entered before anything was known of the room. The last goes first, so that a full
        // room keeps those who came first.
        for (conn, generation, resume) in std::mem::take(&mut room.waiting).into_iter().rev() {
            if !self.conns.is_live(conn, generation) {
                continue;
            }
            let mine = self.memberships_of(conn);
            let Some(membership) = mine.iter().find(|m| m.room == number).copied() else {
                continue;
            };
            match self.entry_refusal(conn, number, 1) {
                None => self.reply_joined(conn, number, resume),
                Some(code) => {
                    self.remove_member(conn, membership);
                    self.room_error(conn, id.as_str(), code);
                }
            }
        }
    }

    /// A batch from the home: into the history, into the ring, and a sweep begins.
    pub(super) fn flushed(&mut self, batch: Arc<Batch>) {
        let Some(number) = self.rooms.by_name.get(&batch.room).copied() else {
            return;
        };
        let now = self.now.tick;
        let room = self.rooms.slab.get_mut(number);
        if !room.attached || room.epoch != batch.epoch {
            return;
        }
        room.viewers = batch.viewers.unwrap_or(room.viewers);
        room.likes = batch.likes.unwrap_or(room.likes);
        room.snapshots = Default::default();
        room.resumes.clear();
        if batch.seq_before() > room.seq {
            self.metrics.add(Figure::LostBatches, 1);
            room.history.clear();
        }
        if let Some(first) = batch.messages.first() {
            self.metrics.age.observe_us(now.since_us(first.received));
        }
        let members = room.members.len();
        if !batch.messages.is_empty() {
            room.history.push(batch.clone(), now);
        }
        let recalled: Vec<u64> = batch.recalled().collect();
        if !recalled.is_empty() {
            room.history.recall(&recalled);
        }
        batch.notices.iter().for_each(|notice| room.state.apply(notice));
        let by_class = batch.by_class().map(u64::from);
        self.metrics.deliver(Delivery::Expected, &by_class, u64::from(members));
        self.metrics.add(Figure::Batches, 1);
        room.ring.forget_joined(&mut self.frames);
        let seq = batch.seq.0;
        room.ring.push(batch, members, room.seq, now);
        room.seq = seq;
        self.begin_sweep(number);
        self.schedule_room(number);
    }

    /// Shows moderators what the others will see after the room's delay. It looks at every member:
    /// rooms with a delay alone pay for it.
    pub(super) fn show_held(&mut self, batch: &Batch) {
        let Some(number) = self.rooms.by_name.get(&batch.room).copied() else { return };
        let room = self.rooms.slab.get(number);
        if !room.attached || room.epoch != batch.epoch {
            return;
        }
        let members = room.members.iter().map(|m| ConnSlot(m.conn));
        let moderators: Vec<ConnSlot> = members.filter(|conn| self.may_moderate(*conn)).collect();
        let messages = batch.messages.iter().map(Admitted::wire).collect();
        let (room, epoch) = (batch.room.to_string(), batch.epoch.0);
        let held = Body::Held(v1::Held { room, epoch, messages });
        for conn in moderators {
            self.reply(conn, &held); // S-55
        }
    }

    fn may_moderate(&self, conn: ConnSlot) -> bool {
        let session = self.conns.cold(conn).session;
        session != NONE && self.sessions.get(session).moderates()
    }

    fn reply_joined(&mut self, conn: ConnSlot, number: u32, resume: Option<v1::Cursor>) {
        if resume.is_none() {
            self.entered(conn, number);
        }
        let variant = self.conns.hot(conn).variant;
        let snapshot_max = self.config.rooms.snapshot_messages_max as usize;
        let owed_max = self.config.reply_bytes_max as usize;
        let resume_max = owed_max / RESUME_SHARE;
        let each_max = owed_max / (2 * self.config.rooms_per_connection_max as usize);
        let room = self.rooms.slab.get_mut(number);
        let bytes = match resume {
            Some(cursor) if cursor.epoch == room.epoch.0 => {
                let same = |r: &Resume| (r.seq, r.variant) == (cursor.seq, variant);
                let known = room.resumes.iter().position(same);
                if known.is_none() {
                    if room.resumes.len() >= RESUMES_MAX {
                        room.resumes.remove(0);
                    }
                    let resume = room.encode_resume(cursor.seq, variant, resume_max);
                    room.resumes.push(resume);
                }
                let resume = &room.resumes[known.unwrap_or(room.resumes.len() - 1)];
                if resume.missed > 0 {
                    self.metrics.add(Figure::Gaps, 1);
                    self.metrics.add(Figure::GapMessages, resume.missed);
                } else {
                    self.metrics.add(Figure::Resumes, 1);
                }
                &resume.bytes
            }
            Some(_) => {
                let mut bytes = Vec::new();
                room.encode_gap(0, 0, v1::GapReason::Epoch, variant, &mut bytes);
                self.metrics.add(Figure::Gaps, 1);
                bytes.extend_from_slice(room.snapshot(variant, snapshot_max, each_max));
                return self.reply_bytes(conn, &bytes);
            }
            None => room.snapshot(variant, snapshot_max, each_max),
        };
        // The room is borrowed by the cached bytes; a reply is a copy into the connection's own.
        let bytes = bytes.clone();
        self.reply_bytes(conn, &bytes);
    }

    /// A client leaves a room, or is made to (`code`).
    pub(super) fn leave(&mut self, conn: ConnSlot, name: &str, code: Option<Code>) {
        let number = self.rooms.by_name.get(name).copied();
        let mine = self.memberships_of(conn);
        let Some(membership) = mine.iter().find(|m| Some(m.room) == number).copied() else {
            return self.room_error(conn, name, Code::NotMember); // S-13
        };
        self.remove_member(conn, membership);
        let left = v1::Left { room: name.to_owned(), code: code.map_or(0, Code::number) };
        self.reply(conn, &Body::Left(left)); // S-13
    }

    /// Takes a connection out of every room, without a word: it is going.
    pub(super) fn leave_all(&mut self, conn: ConnSlot) {
        self.leave_inbox(conn);
        while self.conns.cold(conn).first != Membership::NONE {
            let first = self.conns.cold(conn).first;
            self.remove_member(conn, first);
        }
    }

    fn remove_member(&mut self, conn: ConnSlot, membership: Membership) {
        let room = self.rooms.slab.get_mut(membership.room);
        let removed = room.members.remove(membership.index);
        assert!(removed.gone.conn == conn.0, "a membership and its member point at each other");
        let (from, head) = (room.ring.expand(removed.gone.cursor), room.ring.head());
        let from = from.max(room.ring.base());
        self.metrics.deliver(Delivery::Left, &room.ring.by_class(from, head), 1);
        room.ring.served(from, head, 1);
        if room.members.is_empty() {
            room.empty_since = self.now.tick;
        }
        self.metrics.add(Figure::Leaves, 1);
        if let Some(moved) = removed.moved {
            let behind = removed.unswept && moved.cursor != head as u32;
            self.move_membership(ConnSlot(moved.conn), membership);
            if behind {
                self.behind.push(ConnSlot(moved.conn));
            }
        }
        self.drop_membership(conn, membership.room);
    }

    /// A life of a room is over. It may be told late, when the room has begun anew.
    pub(super) fn ended(&mut self, id: &RoomId, epoch: Epoch, code: Code) {
        if let Some(number) = self.rooms.by_name.get(id).copied()
            && self.rooms.slab.get(number).epoch == epoch
        {
            self.end_room(number, code, false);
        }
    }

    /// Ends a room here: its members are told why. `refused`: the home did not take us, so there
    /// is nothing to detach and joins are answered with an error.
    pub(super) fn end_room(&mut self, number: u32, code: Code, refused: bool) {
        let name = self.rooms.slab.get(number).id.clone();
        let members: Vec<u32> =
            self.rooms.slab.get(number).members.iter().map(|m| m.conn).collect();
        for conn in members.into_iter().map(ConnSlot) {
            let mine = self.memberships_of(conn);
            let Some(m) = mine.iter().find(|m| m.room == number).copied() else { continue };
            self.remove_member(conn, m);
            if refused {
                self.room_error(conn, name.as_str(), code);
            } else {
                let left = v1::Left { room: name.to_string(), code: code.number() };
                self.reply(conn, &Body::Left(left)); // S-13
            }
        }
        self.forget_room(number);
    }

    fn forget_room(&mut self, number: u32) {
        let waiting = self.rooms.slab.get_mut(number).edge.drain();
        self.book_room(number);
        let mut room = self.rooms.slab.remove(number);
        for (poll, ballots) in room.votes.take() {
            self.refuse_votes(&room.id, poll, &ballots, Code::RoomClosed);
        }
        self.refuse_offer(room.id.clone(), waiting, Code::RoomClosed);
        assert!(room.members.is_empty(), "a room is forgotten when nobody is in it");
        room.ring.clear(&mut self.frames);
        self.rooms.by_name.remove(&room.id);
        self.room_schedule.set(number, Tick::NEVER);
        self.sweeps.retain(|n| *n != number);
    }

    /// Twice a second: tells homes how many members there are, and lets empty rooms go.
    pub(super) fn report_rooms(&mut self) {
        let numbers: Vec<u32> = self.rooms.slab.iter().map(|(number, _)| number).collect();
        for number in numbers {
            self.book_room(number);
            let room = self.rooms.slab.get_mut(number);
            let (home, id, count) = (room.home, room.id.clone(), room.members.len());
            let idle = count == 0
                && room.attached
                && room.edge.pending().iter().all(|n| *n == 0)
                && self.now.tick.since_us(room.empty_since) >= LINGER_US;
            if room.attached && room.reported != count {
                room.reported = count;
                let message =
                    Message::Members { room: id, shard: self.id, count: u64::from(count) };
                self.post(home, message);
            } else if idle {
                self.post(home, Message::Detach { room: id, shard: self.id });
                self.forget_room(number);
            }
        }
        self.next_report = Tick(self.now.tick.0 + REPORT_US);
    }

    fn book_room(&mut self, number: u32) {
        let room = self.rooms.slab.get_mut(number);
        let books = *room.edge.books();
        self.metrics.book(&books.since(&room.booked));
        room.booked = books;
    }

    /// The home changed the room's settings.
    pub(super) fn updated(&mut self, id: &RoomId, settings: Arc<RoomSettings>) {
        if let Some(number) = self.rooms.by_name.get(id).copied() {
            let room = self.rooms.slab.get_mut(number);
            room.edge.update(&settings);
            room.settings = settings;
            room.snapshots = Default::default();
            room.resumes.clear();
        }
    }

    /// Removes a user's connections from this life of a room; how many, and where they came from as
    /// far as `with` asks, which the home is told too. A room that the home has not answered yet
    /// learns of bans by that answer.
    pub(super) fn kick(
        &mut self,
        id: &RoomId,
        epoch: Epoch,
        (key, until_unix_ms): (u64, u64),
        with: BanWith,
    ) -> KickPart {
        let known = self.rooms.by_name.get(id).copied();
        let Some(number) = known.filter(|n| self.rooms.slab.get(*n).epoch == epoch) else {
            return KickPart::default();
        };
        let room = self.rooms.slab.get_mut(number);
        let mut code = Code::Kicked;
        if until_unix_ms > 0 {
            code = Code::Banned;
            room.bans.retain(|_, until| *until > self.now.unix_ms);
            room.bans.insert(key, until_unix_ms);
        }
        let room = self.rooms.slab.get(number);
        let (home, members) = (room.home, room.members.iter().map(|m| ConnSlot(m.conn)));
        let targets: Vec<ConnSlot> = members.filter(|c| self.sender_key(*c) == key).collect();
        let mut origins: Vec<Origin> = Vec::new();
        for conn in &targets {
            if until_unix_ms > 0 {
                origins.extend(self.origins_of(*conn, with));
            }
            self.leave(*conn, id.as_str(), Some(code));
        }
        origins.sort_unstable();
        origins.dedup();
        if !origins.is_empty() {
            let (room, origins) = (id.clone(), origins.clone());
            self.post(home, Message::Found { room, epoch, key, until_unix_ms, origins });
        }
        KickPart { connections: targets.len() as u32, origins }
    }

    fn origins_of(&self, conn: ConnSlot, with: BanWith) -> impl Iterator<Item = Origin> + use<> {
        let cold = self.conns.cold(conn);
        let device = cold.device_key().filter(|_| with.devices);
        let address = cold.address_key(self.seed).filter(|_| with.addresses);
        let of = |is_device| move |key| Origin { key, is_device };
        device.map(of(true)).into_iter().chain(address.map(of(false)))
    }

    /// The home says until when some are banned now. Whoever is here and comes from where nobody
    /// may come from any more leaves; of `whole` also who is banned itself: a kick that says so
    /// was lost, or it is a former life that has banned it.
    pub(super) fn bans_changed(
        &mut self,
        id: &RoomId,
        epoch: Epoch,
        whole: bool,
        changes: Changes,
    ) {
        let known = self.rooms.by_name.get(id).copied();
        let Some(number) = known.filter(|n| self.rooms.slab.get(*n).epoch == epoch) else {
            return;
        };
        let unix_ms = self.now.unix_ms;
        let room = self.rooms.slab.get_mut(number);
        room.bans.retain(|_, until| !whole && *until > unix_ms);
        let mut has_new = false;
        for (key, until) in changes {
            if until > unix_ms {
                has_new = true;
                room.bans.insert(key, until);
            } else {
                room.bans.remove(&key);
            }
        }
        if !has_new {
            return;
        }
        let members: Vec<ConnSlot> = room.members.iter().map(|m| ConnSlot(m.conn)).collect();
        for conn in members {
            let is_out = match whole {
                true => self.is_banned(conn, number),
                false => self.is_from_banned(conn, number),
            };
            if is_out {
                self.leave(conn, id.as_str(), Some(Code::Banned)); // S-62
            }
        }
    }

    /// Whether a connection may not be in a room: for its user, or for where it comes from.
    pub(super) fn is_banned(&self, conn: ConnSlot, number: u32) -> bool {
        let room = self.rooms.slab.get(number);
        // A guest's key is made of its name: most rooms have no ban, and need none.
        !room.bans.is_empty()
            && (room.is_kept_out(self.sender_key(conn), self.now.unix_ms)
                || self.is_from_banned(conn, number))
    }

    /// The same for its device and address alone, which do not concern moderators.
    fn is_from_banned(&self, conn: ConnSlot, number: u32) -> bool {
        let (room, cold) = (self.rooms.slab.get(number), self.conns.cold(conn));
        let from = [cold.device_key(), cold.address_key(self.seed)];
        let unix_ms = self.now.unix_ms;
        from.into_iter().flatten().any(|key| room.is_kept_out(key, unix_ms))
            && !self.may_moderate(conn)
    }

    /// The rooms a connection is in.
    pub(super) fn memberships_of(&self, conn: ConnSlot) -> Vec<Membership> {
        let cold = self.conns.cold(conn);
        let first = (cold.first != Membership::NONE).then_some(cold.first);
        let more = (cold.more != NONE).then(|| self.memberships.get(cold.more).iter().copied());
        first.into_iter().chain(more.into_iter().flatten()).collect()
    }

    fn add_membership(&mut self, conn: ConnSlot, membership: Membership) {
        let cold = self.conns.cold_mut(conn);
        if cold.first == Membership::NONE {
            cold.first = membership;
        } else if cold.more == NONE {
            cold.more = self.memberships.insert(vec![membership]);
        } else {
            self.memberships.get_mut(cold.more).push(membership);
        }
    }

    fn move_membership(&mut self, conn: ConnSlot, to: Membership) {
        let cold = self.conns.cold_mut(conn);
        if cold.first.room == to.room {
            cold.first = to;
        } else {
            let more = self.memberships.get_mut(cold.more);
            let place = more.iter().position(|m| m.room == to.room);
            more[place.expect("a member's connection knows its membership")] = to;
        }
    }

    fn drop_membership(&mut self, conn: ConnSlot, room: u32) {
        let cold = self.conns.cold_mut(conn);
        let more = cold.more;
        if cold.first.room == room {
            cold.first = Membership::NONE;
            if more != NONE {
                cold.first = self.memberships.get_mut(more).pop().unwrap_or(Membership::NONE);
            }
        } else if more != NONE {
            self.memberships.get_mut(more).retain(|m| m.room != room);
        }
        if more != NONE && self.memberships.get(more).is_empty() {
            self.memberships.remove(more);
            self.conns.cold_mut(conn).more = NONE;
        }
    }

    /// An error about a room, which does not end the connection (S-21).
    pub(super) fn room_error(&mut self, conn: ConnSlot, room: &str, code: Code) {
        if self.conns.hot(conn).state == State::Live {
            // A name too long to be legal is not worth sending back whole.
            let room = room.chars().take(uproar_proto::ids::ROOM_ID_BYTES_MAX).collect();
            if let Body::Error(error) = error_body(code) {
                self.reply(conn, &Body::Error(v1::Error { room, ..error }));
            }
        }
    }
}

impl Room {
    /// Whether a user, a device or an address is banned now.
    fn is_kept_out(&self, key: u64, unix_ms: u64) -> bool {
        self.bans.get(&key).is_some_and(|until| *until > unix_ms)
    }

    /// The home was not told how many members there are.
    pub(super) fn report_again(&mut self) {
        self.reported = u32::MAX;
    }

    fn snapshot(&mut self, variant: Variant, messages_max: usize, bytes_max: usize) -> &Vec<u8> {
        let place = variant.index();
        if self.snapshots[place].is_none() {
            let messages = newest_within(self.history.snapshot(messages_max), bytes_max);
            let joined = self.joined(&messages, None, false);
            let mut bytes = Vec::new();
            encode_server(&Body::Joined(joined), variant, &mut bytes); // S-11
            self.snapshots[place] = Some(bytes);
        }
        self.snapshots[place].get_or_insert_default()
    }

    fn encode_resume(&self, seq: u64, variant: Variant, bytes_max: usize) -> Resume {
        let kept = newest_within(self.history.after(seq), bytes_max);
        let first = kept.first().map_or(self.seq + 1, |m| m.seq.0);
        let mut bytes = Vec::new();
        let missed = first.saturating_sub(seq.saturating_add(1));
        if missed > 0 {
            self.encode_gap(seq + 1, first - 1, v1::GapReason::History, variant, &mut bytes);
        }
        let joined = self.joined(&kept, Some(seq), missed == 0);
        encode_server(&Body::Joined(joined), variant, &mut bytes); // S-10
        Resume { seq, variant, missed, bytes }
    }

    /// Appends a gap frame.
    pub(super) fn encode_gap(
        &self,
        from_seq: u64,
        to_seq: u64,
        reason: v1::GapReason,
        variant: Variant,
        out: &mut Vec<u8>,
    ) {
        let (room, epoch, reason) = (self.id.to_string(), self.epoch.0, reason.into());
        let gap = v1::Gap { room, epoch, from_seq, to_seq, reason };
        encode_server(&Body::Gap(gap), variant, out);
    }

    fn joined(&self, messages: &[&Admitted], cursor_seq: Option<u64>, resumed: bool) -> v1::Joined {
        let mut joined = v1::Joined {
            room: self.id.to_string(),
            epoch: self.epoch.0,
            seq: self.seq,
            messages: messages.iter().map(|message| message.wire()).collect(),
            // What the room was last told, and at least the one who asks: a fresher number from
            // this shard alone might never be corrected.
            viewers: self.viewers.max(1),
            likes: self.likes,
            resumed,
            slow_mode_s: self.settings.slow_mode_s,
            followers_only_s: self.settings.followers_only_s, // S-64
            ..v1::Joined::default()
        };
        self.state.show(&mut joined, cursor_seq);
        joined
    }
}

/// The newest of some messages whose content fits a reply; bytes of names and framing included
/// roughly (64 bytes each), JSON's escapes not: the bound is an eighth of what may be owed.
fn newest_within(messages: Vec<&Admitted>, bytes_max: usize) -> Vec<&Admitted> {
    let mut bytes = 0;
    let mut from = messages.len();
    while from > 0 {
        bytes += messages[from - 1].content.len() + 64;
        if bytes > bytes_max {
            break;
        }
        from -= 1;
    }
    messages[from..].to_vec()
}
